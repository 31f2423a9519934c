//! Layers of the UNet: indices into [`Parameters`] and explicit passes over buffers that the caller keeps.
//!
//! A training pass saves what the backward pass reads; the backward pass overwrites the saved pre-activation, so it
//! can run once for each forward pass. Buffers only grow, so after the first step nothing is allocated.

use kernels::{
    Activation, Affine, AffineGradient, BatchStatistics, Conv, Element, MaxPool, Norm, NormKind,
    PooledGradient, Pooling, RunningStatistics, UpConv, Volume, Write, norm_relu_inference,
};

use crate::{Axes, Layout, Parameters, parameters::Part};

/// Makes `buffer` hold `len` numbers of any value.
pub(crate) fn fit<E: Element>(buffer: &mut Vec<E>, len: usize) -> &mut [E] {
    if buffer.len() < len {
        buffer.resize(len, E::default());
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

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Training: statistics of the batch, which also update the running ones; a backward pass may follow.
    Training,
    /// A training pass done again to have its buffers back, by the statistics that it found.
    Again,
    /// Prediction: running statistics; nothing is kept for a backward pass.
    Inference,
}

/// Gradient of an input: where it goes, if it is wanted.
pub(crate) type GradientTarget<'a, E> = Option<(&'a mut [E], Write)>;

/// Where an output goes: itself, and the max pooling of it, if one follows. Only for training passes.
pub(crate) type Output<'a, E> = (&'a mut Vec<E>, Option<(MaxPool, &'a mut Vec<E>)>);

/// Gradient of an output, and that of the max pooling of it, if one followed.
pub(crate) type OutputGradient<'a, E> = (&'a [E], Option<(MaxPool, &'a [E])>);

/// What follows each convolution of a block.
const NORM: Norm = Norm { kind: NormKind::Batch, activation: Activation::Relu };

/// Convolution without bias, batch normalization, ReLU.
#[derive(Clone, Debug)]
struct Unit {
    conv: Conv,
    weight: usize,
    scale: usize,
    shift: usize,
    running_mean: usize,
    running_variance: usize,
}

/// What a unit's training pass saves, besides its output.
#[derive(Clone, Debug, Default)]
struct UnitBuffers<E> {
    /// Output of the convolution; after the backward pass its gradient.
    convolved: Vec<E>,
    batch: BatchStatistics,
}

impl Unit {
    /// Adds the parameters of `{prefix}.{position}` (convolution) and the position after it (normalization).
    fn new(
        parameters: &mut Parameters,
        prefix: &str,
        position: usize,
        (axes, conv): (Axes, Conv),
        uniform: Uniform<'_>,
    ) -> Self {
        let (n_in, n_out) = (conv.in_channels[0] + conv.in_channels[1], conv.out_channels);
        let [conv_name, norm] = [position, position + 1].map(|at| format!("{prefix}.{at}"));
        let shape = axes.weight_shape([n_out, n_in], conv.kernel);
        let fan_in = n_in * conv.kernel.iter().product::<usize>();
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

    fn forward<E: Element>(
        &self,
        part: &mut Part<'_>,
        (volume, pass): (Volume, Pass),
        inputs: [&[E]; 2],
        saved: &mut UnitBuffers<E>,
        (output, pooled): Output<'_, E>,
    ) {
        let (len, n_channels) = (self.output_len(volume), self.conv.out_channels);
        let output = fit(output, len);
        let weights = part.entry(self.weight);
        let affine = Affine { scale: part.entry(self.scale), shift: part.entry(self.shift) };
        let [mean, variance] = part.buffers([self.running_mean, self.running_variance]);
        if pass == Pass::Inference {
            self.conv.forward(volume, inputs, weights, None, output);
            norm_relu_inference(output, affine, mean, variance);
            return;
        }
        let convolved = fit(&mut saved.convolved, len);
        self.conv.forward(volume, inputs, weights, None, convolved);
        if pass == Pass::Training {
            let running = Some(RunningStatistics { mean, variance });
            saved.batch = NORM.statistics(convolved, volume.batch, n_channels, running);
        }
        match pooled {
            None => NORM.apply(convolved, affine, &saved.batch, output),
            Some((pool, pooled)) => {
                let pooled = fit(pooled, pool.output_volume(volume).n_pixels() * n_channels);
                let (pooling, pair) = (Pooling { volume, pool }, (affine, &saved.batch));
                NORM.apply_pooled(pooling, convolved, pair, output, pooled);
            }
        }
    }

    /// Adds the gradients of the parameters and computes those of the inputs that are wanted.
    fn backward<E: Element>(
        &self,
        part: &mut Part<'_>,
        volume: Volume,
        inputs: [&[E]; 2],
        (saved, (full, pooled)): (&mut UnitBuffers<E>, OutputGradient<'_, E>),
        input_gradients: [GradientTarget<'_, E>; 2],
    ) {
        let convolved = &mut saved.convolved[..self.output_len(volume)];
        let weights = part.entry(self.weight);
        let affine = Affine { scale: part.entry(self.scale), shift: part.entry(self.shift) };
        let [to_weights, to_scale, to_shift] =
            part.gradients([self.weight, self.scale, self.shift]);
        let (pair, to_affine) =
            ((affine, &saved.batch), AffineGradient { scale: to_scale, shift: to_shift });
        match pooled {
            None => NORM.gradient(full, convolved, pair, to_affine),
            Some((pool, pooled)) => {
                let (pooling, gradient) =
                    (Pooling { volume, pool }, PooledGradient { full, pooled });
                NORM.gradient_pooled(pooling, gradient, convolved, pair, to_affine);
            }
        }
        self.conv.weight_gradient(volume, inputs, convolved, to_weights, None);
        if input_gradients.iter().any(Option::is_some) {
            self.conv.input_gradient(volume, convolved, weights, input_gradients);
        }
    }
}

/// Two units, the block of every level.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    units: [Unit; 2],
}

/// What a block's training pass saves, besides its inputs and its output.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockBuffers<E> {
    units: [UnitBuffers<E>; 2],
    /// Output of the first unit.
    between: Vec<E>,
}

impl<E> BlockBuffers<E> {
    /// Takes over the statistics of a training pass, all that [`Pass::Again`] needs of it.
    pub(crate) fn take_statistics(&mut self, from: &Self) {
        for (unit, from) in self.units.iter_mut().zip(&from.units) {
            unit.batch.clone_from(&from.batch);
        }
    }
}

impl Block {
    /// Adds the parameters of `{prefix}.double_conv`.
    pub(crate) fn new(
        parameters: &mut Parameters,
        prefix: &str,
        (axes, level): (Axes, usize),
        (in_channels, out_channels): ([usize; 2], usize),
        uniform: Uniform<'_>,
    ) -> Self {
        let (prefix, kernel) = (format!("{prefix}.double_conv"), axes.kernel(level));
        let first = Conv { kernel, in_channels, out_channels };
        let second = Conv { kernel, in_channels: [out_channels, 0], out_channels };
        let units = [(0, first), (3, second)].map(|(position, conv)| {
            Unit::new(parameters, &prefix, position, (axes, conv), uniform)
        });
        Self { units }
    }

    /// Channels of the output.
    pub(crate) fn out_channels(&self) -> usize {
        self.units[1].conv.out_channels
    }

    /// Numbers of the output.
    pub(crate) fn output_len(&self, volume: Volume) -> usize {
        self.units[1].output_len(volume)
    }

    /// Writes the output to `output`, pooled too where a pooling follows, and what a backward pass needs to `saved`.
    pub(crate) fn forward<E: Element>(
        &self,
        part: &mut Part<'_>,
        (volume, pass): (Volume, Pass),
        inputs: [&[E]; 2],
        saved: &mut BlockBuffers<E>,
        output: Output<'_, E>,
    ) {
        let BlockBuffers { units: [of_first, of_second], between } = saved;
        let [first, second] = &self.units;
        first.forward(part, (volume, pass), inputs, of_first, (between, None));
        let between = &between[..first.output_len(volume)];
        second.forward(part, (volume, pass), [between, &[]], of_second, output);
    }

    /// Adds the gradients of the parameters and computes those of the inputs; `to_between` is overwritten.
    pub(crate) fn backward<E: Element>(
        &self,
        part: &mut Part<'_>,
        volume: Volume,
        inputs: [&[E]; 2],
        backward: BlockGradient<'_, E>,
        input_gradients: [GradientTarget<'_, E>; 2],
    ) {
        let [first, second] = &self.units;
        let BlockGradient { saved, gradient, to_between } = backward;
        let BlockBuffers { units: [of_first, of_second], between } = saved;
        let len = first.output_len(volume);
        let to_between = fit(to_between, len);
        let target = [Some((&mut *to_between, Write::Replace)), None];
        let seen = [&between[..len], &[]];
        second.backward(part, volume, seen, (of_second, gradient), target);
        first.backward(part, volume, inputs, (of_first, (to_between, None)), input_gradients);
    }
}

/// Operands of a block's backward pass.
pub(crate) struct BlockGradient<'a, E> {
    pub(crate) saved: &'a mut BlockBuffers<E>,
    /// Gradient of the block's output.
    pub(crate) gradient: OutputGradient<'a, E>,
    /// Room for the gradient between both units.
    pub(crate) to_between: &'a mut Vec<E>,
}

/// Transposed convolution with bias whose kernel is its stride: the way back up from a pooling.
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
        (axes, level): (Axes, usize),
        (in_channels, out_channels): (usize, usize),
        uniform: Uniform<'_>,
    ) -> Self {
        let stride = axes.pooling(level);
        // PyTorch takes the fan-in of a transposed weight `[in, out, kernel]` from its second axis.
        let fan_in = out_channels * stride.iter().product::<usize>();
        let shape = axes.weight_shape([in_channels, out_channels], stride);
        let weight_name = format!("{prefix}.weight");
        let weight = add_drawn(parameters, weight_name, &shape, (Layout::UpConv, fan_in), uniform);
        let (bias_name, kind) = (format!("{prefix}.bias"), (Layout::Plain, fan_in));
        let bias = add_drawn(parameters, bias_name, &[out_channels], kind, uniform);
        Self { conv: UpConv { stride, in_channels, out_channels }, weight, bias }
    }

    /// Writes the output for an input of axes `volume`.
    pub(crate) fn forward<E: Element>(
        &self,
        part: &Part<'_>,
        volume: Volume,
        input: &[E],
        output: &mut Vec<E>,
    ) {
        let len = self.conv.output_volume(volume).n_pixels() * self.conv.out_channels;
        let (weights, bias) = (part.entry(self.weight), part.entry(self.bias));
        self.conv.forward(volume, input, weights, Some(bias), fit(output, len));
    }

    /// Adds the gradients of the parameters and computes that of the input.
    pub(crate) fn backward<E: Element>(
        &self,
        part: &mut Part<'_>,
        volume: Volume,
        input: &[E],
        gradient: &[E],
        (input_gradient, write): (&mut [E], Write),
    ) {
        let weights = part.entry(self.weight);
        let [to_weight, to_bias] = part.gradients([self.weight, self.bias]);
        self.conv.weight_gradient(volume, input, gradient, to_weight, Some(to_bias));
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
        axes: Axes,
        (in_channels, out_channels): (usize, usize),
        uniform: Uniform<'_>,
    ) -> Self {
        let conv = Conv { kernel: [1, 1, 1], in_channels: [in_channels, 0], out_channels };
        let shape = axes.weight_shape([out_channels, in_channels], conv.kernel);
        let (weight_name, kind) = (format!("{prefix}.weight"), (Layout::Conv, in_channels));
        let weight = add_drawn(parameters, weight_name, &shape, kind, uniform);
        let (bias_name, kind) = (format!("{prefix}.bias"), (Layout::Plain, in_channels));
        let bias = add_drawn(parameters, bias_name, &[out_channels], kind, uniform);
        Self { conv, weight, bias }
    }

    /// Sets the bias of all channels.
    pub(crate) fn set_bias(&self, parameters: &mut Parameters, value: f32) {
        parameters.entry_mut(self.bias).fill(value);
    }

    /// Writes the logits; their buffer has exactly their length. `narrow` is overwritten.
    pub(crate) fn forward<E: Element>(
        &self,
        part: &Part<'_>,
        volume: Volume,
        input: &[E],
        narrow: &mut Vec<E>,
        logits: &mut Vec<f32>,
    ) {
        let narrow = fit(narrow, volume.n_pixels() * self.conv.out_channels);
        let (weights, bias) = (part.entry(self.weight), part.entry(self.bias));
        self.conv.forward(volume, [input, &[]], weights, Some(bias), narrow);
        logits.clear();
        logits.extend(narrow.iter().map(|value| value.widen()));
    }

    /// Adds the gradients of the parameters and computes that of the input. `narrow` is overwritten.
    pub(crate) fn backward<E: Element>(
        &self,
        part: &mut Part<'_>,
        volume: Volume,
        input: &[E],
        (gradient, narrow): (&[f32], &mut Vec<E>),
        target: (&mut [E], Write),
    ) {
        narrow.clear();
        narrow.extend(gradient.iter().map(|&value| E::narrow(value)));
        let weights = part.entry(self.weight);
        let [to_weight, to_bias] = part.gradients([self.weight, self.bias]);
        self.conv.weight_gradient(volume, [input, &[]], narrow, to_weight, Some(to_bias));
        self.conv.input_gradient(volume, narrow, weights, [Some(target), None]);
    }
}
