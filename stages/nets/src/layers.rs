//! Layers of the UNet: indices into [`Parameters`] and explicit passes over buffers that the caller keeps.
//!
//! A training pass saves what the backward pass reads; the backward pass overwrites the saved pre-activation, so it
//! can run once for each forward pass. Buffers only grow, so after the first step nothing is allocated.

use kernels::{
    Affine, BatchStatistics, Conv, RunningStatistics, UpConv, Volume, Write, norm_relu_gradient,
    norm_relu_inference, norm_relu_training,
};

use crate::{Layout, Parameters};

/// Makes `buffer` hold `len` floats of any value.
pub(crate) fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Source of numbers in `[0, 1)` for initial weights.
pub(crate) type Uniform<'a> = &'a mut dyn FnMut() -> f64;

/// Adds a tensor drawn from `[-1/sqrt(fan_in), 1/sqrt(fan_in))`: PyTorch's default, Kaiming uniform with `a = sqrt(5)`.
fn add_drawn(
    parameters: &mut Parameters,
    name: String,
    shape: &[usize],
    (layout, fan_in): (Layout, usize),
    uniform: Uniform<'_>,
) -> usize {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let index = parameters.add(name, shape, layout, 0.0);
    for value in parameters.entry_mut(index) {
        *value = (bound * (2.0 * uniform() - 1.0)) as f32;
    }
    index
}

/// Convolution 3 × 3 without bias, batch normalization, ReLU.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    conv: Conv,
    weight: usize,
    scale: usize,
    shift: usize,
    running_mean: usize,
    running_variance: usize,
}

/// What a unit's training pass saves.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitBuffers {
    /// Output of the convolution; after the backward pass its gradient.
    convolved: Vec<f32>,
    pub(crate) output: Vec<f32>,
    batch: BatchStatistics,
}

/// Gradient of an input: where it goes, if it is wanted.
pub(crate) type GradientTarget<'a> = Option<(&'a mut [f32], Write)>;

impl Unit {
    /// Adds the parameters of `{prefix}.{position}` (convolution) and the position after it (normalization).
    fn new(
        parameters: &mut Parameters,
        prefix: &str,
        position: usize,
        conv: Conv,
        uniform: Uniform<'_>,
    ) -> Self {
        let (n_in, n_out) = (conv.in_channels[0] + conv.in_channels[1], conv.out_channels);
        let [conv_name, norm] = [position, position + 1].map(|at| format!("{prefix}.{at}"));
        let shape = [n_out, n_in, conv.kernel[1], conv.kernel[2]];
        let fan_in = n_in * conv.kernel[1] * conv.kernel[2];
        let weight_name = format!("{conv_name}.weight");
        let weight = add_drawn(parameters, weight_name, &shape, (Layout::Conv, fan_in), uniform);
        Self {
            conv,
            weight,
            scale: parameters.add(format!("{norm}.weight"), &[n_out], Layout::Plain, 1.0),
            shift: parameters.add(format!("{norm}.bias"), &[n_out], Layout::Plain, 0.0),
            running_mean: parameters.add_buffer(format!("{norm}.running_mean"), n_out, 0.0),
            running_variance: parameters.add_buffer(format!("{norm}.running_var"), n_out, 1.0),
        }
    }

    fn output_len(&self, volume: Volume) -> usize {
        volume.n_pixels() * self.conv.out_channels
    }

    fn forward_training(
        &self,
        parameters: &mut Parameters,
        volume: Volume,
        inputs: [&[f32]; 2],
        saved: &mut UnitBuffers,
    ) {
        let len = self.output_len(volume);
        let convolved = fit(&mut saved.convolved, len);
        self.conv.forward(volume, inputs, parameters.entry(self.weight), None, convolved);
        let Parameters { values, entries, buffers, .. } = parameters;
        let [scale, shift] =
            [self.scale, self.shift].map(|index| &values[entries[index].range.clone()]);
        let [mean, variance] = buffers
            .get_disjoint_mut([self.running_mean, self.running_variance])
            .expect("a unit has two buffers");
        let running = RunningStatistics { mean: &mut mean.values, variance: &mut variance.values };
        let output = fit(&mut saved.output, len);
        saved.batch = norm_relu_training(convolved, Affine { scale, shift }, running, output);
    }

    fn forward_inference(
        &self,
        parameters: &Parameters,
        volume: Volume,
        inputs: [&[f32]; 2],
        output: &mut Vec<f32>,
    ) {
        let output = fit(output, self.output_len(volume));
        self.conv.forward(volume, inputs, parameters.entry(self.weight), None, output);
        let [mean, variance] = [self.running_mean, self.running_variance]
            .map(|index| parameters.buffers[index].values.as_slice());
        norm_relu_inference(output, self.affine(parameters), mean, variance);
    }

    /// Adds the gradients of the parameters and computes those of the inputs that are wanted.
    fn backward(
        &self,
        parameters: &mut Parameters,
        volume: Volume,
        inputs: [&[f32]; 2],
        (saved, gradient): (&mut UnitBuffers, &[f32]),
        input_gradients: [GradientTarget<'_>; 2],
    ) {
        let convolved = &mut saved.convolved[..self.output_len(volume)];
        let Parameters { values, entries, gradients, .. } = &mut *parameters;
        let [scale, shift] = [self.scale, self.shift].map(|index| entries[index].range.clone());
        let affine = Affine { scale: &values[scale.clone()], shift: &values[shift.clone()] };
        let [to_scale, to_shift] =
            gradients.get_disjoint_mut([scale, shift]).expect("entries do not overlap");
        norm_relu_gradient(gradient, convolved, affine, &saved.batch, to_scale, to_shift);
        let (weights, to_weights) = parameters.entry_and_gradient(self.weight);
        self.conv.weight_gradient(volume, inputs, convolved, to_weights, None);
        if input_gradients.iter().any(Option::is_some) {
            self.conv.input_gradient(volume, convolved, weights, input_gradients);
        }
    }

    fn affine<'a>(&self, parameters: &'a Parameters) -> Affine<'a> {
        Affine { scale: parameters.entry(self.scale), shift: parameters.entry(self.shift) }
    }
}

/// Two units, the block of every level.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    units: [Unit; 2],
}

/// What a block's training pass saves.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockBuffers {
    first: UnitBuffers,
    pub(crate) second: UnitBuffers,
}

impl Block {
    /// Adds the parameters of `{prefix}.double_conv`.
    pub(crate) fn new(
        parameters: &mut Parameters,
        prefix: &str,
        in_channels: [usize; 2],
        out_channels: usize,
        uniform: Uniform<'_>,
    ) -> Self {
        let prefix = format!("{prefix}.double_conv");
        let first = Conv { kernel: [1, 3, 3], in_channels, out_channels };
        let second = Conv::flat(3, out_channels, out_channels);
        let units = [(0, first), (3, second)]
            .map(|(position, conv)| Unit::new(parameters, &prefix, position, conv, uniform));
        Self { units }
    }

    /// Channels of the output.
    pub(crate) fn out_channels(&self) -> usize {
        self.units[1].conv.out_channels
    }

    /// Floats of the output.
    pub(crate) fn output_len(&self, volume: Volume) -> usize {
        self.units[1].output_len(volume)
    }

    /// Output of the last training pass.
    pub(crate) fn output<'a>(&self, volume: Volume, saved: &'a BlockBuffers) -> &'a [f32] {
        &saved.second.output[..self.output_len(volume)]
    }

    pub(crate) fn forward_training(
        &self,
        parameters: &mut Parameters,
        volume: Volume,
        inputs: [&[f32]; 2],
        saved: &mut BlockBuffers,
    ) {
        let [first, second] = &self.units;
        first.forward_training(parameters, volume, inputs, &mut saved.first);
        let between = &saved.first.output[..first.output_len(volume)];
        second.forward_training(parameters, volume, [between, &[]], &mut saved.second);
    }

    /// Writes the output to `output`; `between` is overwritten.
    pub(crate) fn forward_inference(
        &self,
        parameters: &Parameters,
        volume: Volume,
        inputs: [&[f32]; 2],
        [between, output]: [&mut Vec<f32>; 2],
    ) {
        let [first, second] = &self.units;
        first.forward_inference(parameters, volume, inputs, between);
        let between = &between[..first.output_len(volume)];
        second.forward_inference(parameters, volume, [between, &[]], output);
    }

    /// Adds the gradients of the parameters and computes those of the inputs; `between` is overwritten.
    pub(crate) fn backward(
        &self,
        parameters: &mut Parameters,
        volume: Volume,
        inputs: [&[f32]; 2],
        pass: BlockGradient<'_>,
        input_gradients: [GradientTarget<'_>; 2],
    ) {
        let [first, second] = &self.units;
        let BlockGradient { saved, gradient, between } = pass;
        let len = first.output_len(volume);
        let to_between = fit(between, len);
        let target = [Some((&mut *to_between, Write::Replace)), None];
        let seen = [&saved.first.output[..len], &[]];
        second.backward(parameters, volume, seen, (&mut saved.second, gradient), target);
        first.backward(parameters, volume, inputs, (&mut saved.first, to_between), input_gradients);
    }
}

/// Operands of a block's backward pass.
pub(crate) struct BlockGradient<'a> {
    pub(crate) saved: &'a mut BlockBuffers,
    /// Gradient of the block's output.
    pub(crate) gradient: &'a [f32],
    /// Room for the gradient between both units.
    pub(crate) between: &'a mut Vec<f32>,
}

/// Transposed convolution 2 × 2 with bias, which doubles rows and columns.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    conv: UpConv,
    weight: usize,
    bias: usize,
}

impl Up {
    /// Adds the parameters `{prefix}.weight` and `{prefix}.bias`.
    pub(crate) fn new(
        parameters: &mut Parameters,
        prefix: &str,
        in_channels: usize,
        out_channels: usize,
        uniform: Uniform<'_>,
    ) -> Self {
        // PyTorch takes the fan-in of a transposed weight `[in, out, kernel]` from its second axis.
        let fan_in = out_channels * 4;
        let shape = [in_channels, out_channels, 2, 2];
        let weight_name = format!("{prefix}.weight");
        let weight = add_drawn(parameters, weight_name, &shape, (Layout::UpConv, fan_in), uniform);
        let (bias_name, kind) = (format!("{prefix}.bias"), (Layout::Plain, fan_in));
        let bias = add_drawn(parameters, bias_name, &[out_channels], kind, uniform);
        Self { conv: UpConv::flat(in_channels, out_channels), weight, bias }
    }

    /// Writes the output for an input of axes `volume`.
    pub(crate) fn forward(
        &self,
        parameters: &Parameters,
        volume: Volume,
        input: &[f32],
        output: &mut Vec<f32>,
    ) {
        let len = volume.n_pixels() * 4 * self.conv.out_channels;
        let (weights, bias) = (parameters.entry(self.weight), parameters.entry(self.bias));
        self.conv.forward(volume, input, weights, Some(bias), fit(output, len));
    }

    /// Adds the gradients of the parameters and computes that of the input.
    pub(crate) fn backward(
        &self,
        parameters: &mut Parameters,
        volume: Volume,
        input: &[f32],
        gradient: &[f32],
        (input_gradient, write): (&mut [f32], Write),
    ) {
        let [to_weight, to_bias] = parameters.gradient_pair([self.weight, self.bias]);
        self.conv.weight_gradient(volume, input, gradient, to_weight, Some(to_bias));
        let weights = parameters.entry(self.weight);
        self.conv.input_gradient(volume, gradient, weights, input_gradient, write);
    }
}

/// Convolution 1 × 1 with bias, which gives logits.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    conv: Conv,
    weight: usize,
    bias: usize,
}

impl Head {
    /// Adds the parameters `{prefix}.weight` and `{prefix}.bias`.
    pub(crate) fn new(
        parameters: &mut Parameters,
        prefix: &str,
        in_channels: usize,
        out_channels: usize,
        uniform: Uniform<'_>,
    ) -> Self {
        let shape = [out_channels, in_channels, 1, 1];
        let (weight_name, kind) = (format!("{prefix}.weight"), (Layout::Conv, in_channels));
        let weight = add_drawn(parameters, weight_name, &shape, kind, uniform);
        let (bias_name, kind) = (format!("{prefix}.bias"), (Layout::Plain, in_channels));
        let bias = add_drawn(parameters, bias_name, &[out_channels], kind, uniform);
        Self { conv: Conv::flat(1, in_channels, out_channels), weight, bias }
    }

    /// Sets the bias of all channels.
    pub(crate) fn set_bias(&self, parameters: &mut Parameters, value: f32) {
        parameters.entry_mut(self.bias).fill(value);
    }

    /// Writes the logits; the buffer has exactly their length.
    pub(crate) fn forward(
        &self,
        parameters: &Parameters,
        volume: Volume,
        input: &[f32],
        logits: &mut Vec<f32>,
    ) {
        logits.resize(volume.n_pixels() * self.conv.out_channels, 0.0);
        let (weights, bias) = (parameters.entry(self.weight), parameters.entry(self.bias));
        self.conv.forward(volume, [input, &[]], weights, Some(bias), logits);
    }

    /// Adds the gradients of the parameters and computes that of the input.
    pub(crate) fn backward(
        &self,
        parameters: &mut Parameters,
        volume: Volume,
        input: &[f32],
        gradient: &[f32],
        target: (&mut [f32], Write),
    ) {
        let [to_weight, to_bias] = parameters.gradient_pair([self.weight, self.bias]);
        self.conv.weight_gradient(volume, [input, &[]], gradient, to_weight, Some(to_bias));
        let weights = parameters.entry(self.weight);
        self.conv.input_gradient(volume, gradient, weights, [Some(target), None]);
    }
}
