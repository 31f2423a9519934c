//! The operations of a network, one at a time.

use kernels::{
    Affine, Conv, MaxPool, Pooled, RunningStatistics, UpConv, Volume, Write, norm_relu_gradient,
    norm_relu_inference, norm_relu_training,
};

use super::Bench;
use crate::{
    Address, ConvPass, ConvShape, CudaError, Number, Product, buffers,
    launches::{Cases, NormAt, Plane, Windows},
};

pub(super) fn compare(bench: &mut Bench<'_>) -> Result<(), CudaError> {
    compare_convs(bench)?;
    for [n_pixels, n_channels] in [[333, 16], [50, 6], [1, 3], [40, 264], [7000, 8], [2, 2080]] {
        compare_norm(bench, Plane { n_pixels, n_channels })?;
    }
    for (window, volume, n_channels) in [
        ([1, 2, 2], [2, 1, 6, 8], 16),
        ([1, 2, 2], [1, 1, 7, 5], 3),
        ([2, 2, 2], [2, 4, 4, 6], 24),
        ([2, 1, 2], [1, 2, 3, 4], 6),
    ] {
        compare_pool(bench, window, to_volume(volume), n_channels)?;
    }
    for (stride, volume, channels) in [
        ([1, 2, 2], [2, 1, 4, 5], [16, 8, 8]),
        ([1, 2, 2], [1, 1, 3, 3], [6, 3, 5]),
        ([2, 2, 2], [2, 2, 3, 2], [8, 24, 16]),
        ([1, 1, 2], [1, 3, 2, 4], [4, 2, 6]),
    ] {
        compare_up(
            bench,
            UpConv { stride, in_channels: channels[0], out_channels: channels[1] },
            to_volume(volume),
            channels[2],
        )?;
    }
    for (volume, channels) in
        [([2, 1, 9, 7], [16, 1]), ([1, 2, 30, 40], [32, 3]), ([1, 1, 4, 4], [6, 2])]
    {
        compare_head(bench, to_volume(volume), channels)?;
    }
    compare_prepare(bench)?;
    compare_formats(bench)
}

fn to_volume([batch, slices, rows, columns]: [usize; 4]) -> Volume {
    Volume { batch, slices, rows, columns }
}

/// The axes as they are told.
fn sides(volume: Volume) -> String {
    let Volume { batch, slices, rows, columns } = volume;
    format!("{batch}x{slices}x{rows}x{columns}")
}

/// Weights `[tap, in, out]` in cuDNN's order.
fn for_device(shape: &ConvShape, weights: &[f32]) -> Vec<f32> {
    let taps: usize = shape.kernel.iter().product();
    let (n_in, n_out) = (shape.n_inputs, shape.n_outputs);
    let place = |at: usize| (at / n_in % taps * n_in + at % n_in) * n_out + at / n_in / taps;
    (0..weights.len()).map(|at| weights[place(at)]).collect()
}

fn compare_convs(bench: &mut Bench<'_>) -> Result<(), CudaError> {
    let cases = [
        ([1, 3, 3], [2, 1, 12, 10], [8, 16]),
        ([1, 3, 3], [2, 1, 16, 16], [32, 32]),
        ([1, 3, 3], [1, 1, 8, 24], [48, 16]),
        ([1, 3, 3], [4, 1, 4, 4], [64, 128]),
        ([3, 3, 3], [1, 4, 6, 8], [8, 16]),
        ([3, 3, 3], [2, 3, 5, 7], [16, 16]),
    ];
    for (kernel, volume, [n_inputs, n_outputs]) in cases {
        let shape = ConvShape {
            volume: to_volume(volume),
            kernel,
            n_inputs,
            n_outputs,
            number: bench.number,
        };
        compare_conv(bench, &shape)?;
    }
    // Channels that no tensor core takes: only f32 may be asked for them.
    if bench.number == Number::F32 {
        let volume = to_volume([2, 1, 9, 9]);
        compare_conv(
            bench,
            &ConvShape {
                volume,
                kernel: [1, 3, 3],
                n_inputs: 1,
                n_outputs: 6,
                number: Number::F32,
            },
        )?;
    }
    Ok(())
}

fn compare_conv(bench: &mut Bench<'_>, shape: &ConvShape) -> Result<(), CudaError> {
    match bench.device.prepare_conv(shape) {
        Ok(workspace) => bench.need_workspace(workspace)?,
        // Told as a row, so that the other rows are told too.
        Err(fault) => {
            bench.tell_error(("conv", &format!("{shape}: {fault}")), f64::NAN, 0.0);
            return Ok(());
        }
    }
    let ConvShape { volume, kernel, n_inputs, n_outputs, .. } = *shape;
    let (conv, name) =
        (Conv { kernel, in_channels: [n_inputs, 0], out_channels: n_outputs }, shape.to_string());
    let n_pixels = volume.n_pixels();
    let input = bench.numbers(n_pixels * n_inputs, 1);
    let gradient = bench.numbers(n_pixels * n_outputs, 2);
    let weights = bench.numbers(shape.n_weights(), 3);
    let (at_input, at_gradient) = (bench.put(&input)?, bench.put(&gradient)?);
    let at_weights = bench.put(&for_device(shape, &weights))?;
    let none: &[f32] = &[];

    let mut expected = vec![0.0_f32; gradient.len()];
    conv.forward(volume, [&input, none], &weights, None, &mut expected);
    let to = bench.room(expected.len())?;
    bench.device.conv(ConvPass::Forward, shape, [at_input, at_weights], to)?;
    bench.same(("conv forward", &name), to, &expected)?;

    let mut expected = vec![0.0_f32; input.len()];
    let targets = [Some((expected.as_mut_slice(), Write::Replace)), None];
    conv.input_gradient(volume, &gradient, &weights, targets);
    let to = bench.room(expected.len())?;
    bench.device.conv(ConvPass::Input, shape, [at_gradient, at_weights], to)?;
    bench.same(("conv input gradient", &name), to, &expected)?;

    let mut expected = vec![0.0_f32; weights.len()];
    conv.weight_gradient(volume, [&input, none], &gradient, &mut expected, None);
    let to = bench.room(expected.len())?;
    bench.device.conv(ConvPass::Weights, shape, [at_input, at_gradient], to)?;
    bench.same(("conv weight gradient", &name), to, &for_device(shape, &expected))
}

fn compare_norm(bench: &mut Bench<'_>, plane: Plane) -> Result<(), CudaError> {
    let Plane { n_pixels, n_channels } = plane;
    let (len, name) = (n_pixels * n_channels, format!("{n_pixels} pixels, {n_channels} channels"));
    // A mean far from zero, as after layers of positive inputs.
    let mut values: Vec<f32> = bench.numbers(len, 4).iter().map(|value| value + 2.0).collect();
    if bench.number == Number::Bf16 {
        values.iter_mut().for_each(|value| *value = super::round(*value));
    }
    let gradient = bench.numbers(len, 5);
    let scale: Vec<f32> = super::numbers(n_channels, 6).iter().map(|value| value + 1.0).collect();
    let shift = super::numbers(n_channels, 7);
    let affine = Affine { scale: &scale, shift: &shift };
    let [mut mean, mut variance] = [vec![0.5; n_channels], vec![1.5; n_channels]];
    let mut output = vec![0.0; len];
    let running = RunningStatistics { mean: &mut mean, variance: &mut variance };
    let batch = norm_relu_training(&values, affine, running, &mut output);

    let norm = NormAt {
        scale: bench.put_floats(&scale)?,
        shift: bench.put_floats(&shift)?,
        mean: bench.put_floats(&vec![0.5; n_channels])?,
        variance: bench.put_floats(&vec![1.5; n_channels])?,
    };
    let at_values = bench.put(&values)?;
    let (stats, to) = (bench.floats(4 * n_channels)?, bench.room(len)?);
    bench.kernels().norm_training(plane, at_values, norm, [stats, to])?;
    bench.same(("norm forward", &name), to, &output)?;
    bench.same_floats(("norm running mean", &name), norm.mean, &mean)?;
    bench.same_floats(("norm running variance", &name), norm.variance, &variance)?;

    let at_gradient = bench.put(&gradient)?;
    let [slopes, to_scale, to_shift] =
        [bench.floats(2 * n_channels)?, bench.floats(n_channels)?, bench.floats(n_channels)?];
    let [mut scales, mut shifts] = [vec![0.0; n_channels], vec![0.0; n_channels]];
    let mut input = values.clone();
    norm_relu_gradient(&gradient, &mut input, affine, &batch, &mut scales, &mut shifts);
    let places = [at_gradient, at_values, stats, slopes];
    bench.kernels().norm_gradient(plane, places, norm.scale, [to_scale, to_shift])?;
    // The gradient of one pixel is zero but for rounding: nothing to divide by.
    if n_pixels > 2 {
        bench.same(("norm backward", &name), at_values, &input)?;
        bench.same_floats(("norm scale gradient", &name), to_scale, &scales)?;
    }
    bench.same_floats(("norm shift gradient", &name), to_shift, &shifts)?;

    let mut expected = values.clone();
    norm_relu_inference(&mut expected, affine, &mean, &variance);
    let at_values = bench.put(&values)?;
    bench.kernels().norm_inference(plane, at_values, norm, [stats, to])?;
    bench.same(("norm inference", &name), to, &expected)
}

fn compare_pool(
    bench: &mut Bench<'_>,
    window: [usize; 3],
    volume: Volume,
    n_channels: usize,
) -> Result<(), CudaError> {
    let layer = MaxPool { window };
    let small = layer.output_volume(volume);
    let name = format!("{} by {window:?}, {n_channels} channels", sides(volume));
    let windows = Windows { small, window, large: volume };
    // Few different values, so that windows have several maxima.
    let input: Vec<f32> = bench
        .numbers(volume.n_pixels() * n_channels, 8)
        .iter()
        .map(|value| (8.0 * value).round())
        .collect();
    let gradient = bench.numbers(small.n_pixels() * n_channels, 9);
    let before = bench.numbers(input.len(), 10);
    let mut output = vec![0.0; gradient.len()];
    layer.forward(volume, n_channels, &input, &mut output);
    let (at_input, at_output) = (bench.put(&input)?, bench.room(output.len())?);
    bench.kernels().pool_forward(&windows, n_channels, [at_input, at_output])?;
    bench.same(("pool forward", &name), at_output, &output)?;

    let mut expected = before.clone();
    let passed = Pooled { input: &input, output: &output, output_gradient: &gradient };
    layer.input_gradient(volume, n_channels, passed, &mut expected, Write::Add);
    let (at_gradient, to) = (bench.put(&gradient)?, bench.put(&before)?);
    bench.kernels().pool_backward(&windows, n_channels, [at_input, at_output, at_gradient, to])?;
    bench.same(("pool backward", &name), to, &expected)
}

/// An up-convolution as a net runs it: product and join forward; split, sums and two products backward.
struct Up {
    layer: UpConv,
    volume: Volume,
    n_skip: usize,
    name: String,
    windows: Windows,
    input: Vec<f32>,
    /// `[tap, in, out]`.
    weights: Vec<f32>,
    /// The product forward, with all its operands on the device.
    forward: Product,
}

fn compare_up(
    bench: &mut Bench<'_>,
    layer: UpConv,
    volume: Volume,
    n_skip: usize,
) -> Result<(), CudaError> {
    let UpConv { stride, in_channels, out_channels } = layer;
    let large = layer.output_volume(volume);
    let input = bench.numbers(volume.n_pixels() * in_channels, 11);
    let weights = bench.numbers(layer.n_weights(), 12);
    let number = bench.number;
    let mut up = Up {
        layer,
        volume,
        n_skip,
        name: format!("{} by {stride:?}, {in_channels}->{out_channels}", sides(volume)),
        windows: Windows { small: volume, window: stride, large },
        forward: Product {
            rows: volume.n_pixels(),
            columns: stride.iter().product::<usize>() * out_channels,
            depth: in_channels,
            a: (bench.put(&input)?, false),
            b: (Address::NULL, false),
            c: bench.room(large.n_pixels() * out_channels)?,
            number,
            c_number: number,
            add: false,
        },
        input,
        weights,
    };
    up.forward.b.0 = bench.put(&up.ordered(&up.weights))?;
    up.compare_forward(bench)?;
    up.compare_split(bench)
}

impl Up {
    /// Weights `[tap, in, out]` as the device's `[in, tap, out]`.
    fn ordered(&self, weights: &[f32]) -> Vec<f32> {
        let UpConv { stride, in_channels, out_channels } = self.layer;
        let taps: usize = stride.iter().product();
        let place = |at: usize| {
            let (output, tap) = (at % out_channels, at / out_channels % taps);
            (tap * in_channels + at / out_channels / taps) * out_channels + output
        };
        (0..weights.len()).map(|at| weights[place(at)]).collect()
    }

    fn compare_forward(&self, bench: &mut Bench<'_>) -> Result<(), CudaError> {
        let (n_skip, n_up) = (self.n_skip, self.layer.out_channels);
        let n_large = self.windows.large.n_pixels();
        let bias = super::numbers(n_up, 13);
        let skip = bench.numbers(n_large * n_skip, 14);
        let (at_bias, at_skip) = (bench.put_floats(&bias)?, bench.put(&skip)?);
        let joined = bench.room(n_large * (n_skip + n_up))?;
        bench.device.multiply(&self.forward)?;
        let places = [at_skip, self.forward.c, at_bias, joined];
        bench.kernels().join(&self.windows, [n_skip, n_up], places)?;
        let mut up = vec![0.0_f32; n_large * n_up];
        self.layer.forward(self.volume, &self.input, &self.weights, Some(&bias), &mut up);
        let pixels = skip.chunks(n_skip).zip(up.chunks(n_up));
        let expected: Vec<f32> = pixels.flat_map(|(skip, up)| [skip, up].concat()).collect();
        bench.same(("up-conv and join", &self.name), joined, &expected)
    }

    fn compare_split(&self, bench: &mut Bench<'_>) -> Result<(), CudaError> {
        let (n_skip, n_up) = (self.n_skip, self.layer.out_channels);
        let n_large = self.windows.large.n_pixels();
        let gradient = bench.numbers(n_large * (n_skip + n_up), 15);
        let at_gradient = bench.put(&gradient)?;
        let before = bench.numbers(n_large * n_skip, 16);
        let pixels = || gradient.chunks(n_skip + n_up);
        let to_skip: Vec<f32> = pixels().flat_map(|pixel| pixel[..n_skip].to_vec()).collect();
        let to_up: Vec<f32> = pixels().flat_map(|pixel| pixel[n_skip..].to_vec()).collect();
        for add in [false, true] {
            let target = bench.put(&before)?;
            let places = [at_gradient, target, self.forward.c];
            bench.kernels().split(&self.windows, [n_skip, n_up], places, add)?;
            let sums = to_skip.iter().zip(&before);
            let sums: Vec<f32> =
                sums.map(|(new, old)| if add { new + old } else { *new }).collect();
            bench.same(("split skip gradient", &self.name), target, &sums)?;
        }
        self.compare_gradients(bench, &to_up)
    }

    /// Gradients of bias, weights and input, given that of the output, which the device has as the product.
    fn compare_gradients(&self, bench: &mut Bench<'_>, to_up: &[f32]) -> Result<(), CudaError> {
        let UpConv { in_channels, out_channels, .. } = self.layer;
        let Product { rows, columns, a, b, c: product, .. } = self.forward;
        let [mut weight_sums, mut bias_sums] =
            [vec![0.0; self.weights.len()], vec![0.0; out_channels]];
        let (sums, bias) = (&mut weight_sums, Some(bias_sums.as_mut_slice()));
        self.layer.weight_gradient(self.volume, &self.input, to_up, sums, bias);
        let target = bench.floats(out_channels)?;
        let plane = Plane { n_pixels: self.windows.large.n_pixels(), n_channels: out_channels };
        bench.kernels().channel_sums(plane, product, target)?;
        bench.same_floats(("up-conv bias gradient", &self.name), target, &bias_sums)?;
        let target = bench.floats(self.weights.len())?;
        bench.device.multiply(&Product {
            rows: in_channels,
            depth: rows,
            a: (a.0, true),
            b: (product, false),
            c: target,
            c_number: Number::F32,
            ..self.forward
        })?;
        let expected = self.ordered(&weight_sums);
        bench.same_floats(("up-conv weight gradient", &self.name), target, &expected)?;
        let before = bench.numbers(self.input.len(), 17);
        for add in [false, true] {
            let mut expected = before.clone();
            let write = if add { Write::Add } else { Write::Replace };
            self.layer.input_gradient(self.volume, to_up, &self.weights, &mut expected, write);
            let target = bench.put(&before)?;
            bench.device.multiply(&Product {
                columns: in_channels,
                depth: columns,
                a: (product, false),
                b: (b.0, true),
                c: target,
                add,
                ..self.forward
            })?;
            bench.same(("up-conv input gradient", &self.name), target, &expected)?;
        }
        Ok(())
    }
}

fn compare_head(
    bench: &mut Bench<'_>,
    volume: Volume,
    [n_inputs, n_outputs]: [usize; 2],
) -> Result<(), CudaError> {
    let conv = Conv { kernel: [1, 1, 1], in_channels: [n_inputs, 0], out_channels: n_outputs };
    let plane = Plane { n_pixels: volume.n_pixels(), n_channels: n_inputs };
    let name = format!("{} pixels, {n_inputs}->{n_outputs}", plane.n_pixels);
    let input = bench.numbers(plane.n_pixels * n_inputs, 18);
    let weights = super::numbers(n_inputs * n_outputs, 19);
    let bias = super::numbers(n_outputs, 20);
    let gradient = super::numbers(plane.n_pixels * n_outputs, 21);
    let none: &[f32] = &[];
    let mut logits = vec![0.0_f32; gradient.len()];
    conv.forward(volume, [&input, none], &weights, Some(&bias), &mut logits);
    let at_input = bench.put(&input)?;
    let (at_weights, at_bias) = (bench.put_floats(&weights)?, bench.put_floats(&bias)?);
    let to = bench.floats(logits.len())?;
    bench.kernels().head_forward(plane, n_outputs, [at_input, at_weights, at_bias, to])?;
    bench.same_floats(("head forward", &name), to, &logits)?;

    let at_gradient = bench.put_floats(&gradient)?;
    let before = bench.numbers(input.len(), 22);
    for add in [false, true] {
        let mut expected = before.clone();
        let write = if add { Write::Add } else { Write::Replace };
        let targets = [Some((expected.as_mut_slice(), write)), None];
        conv.input_gradient(volume, &gradient, &weights, targets);
        let target = bench.put(&before)?;
        bench.kernels().head_backward(plane, n_outputs, [at_gradient, at_weights, target], add)?;
        bench.same(("head input gradient", &name), target, &expected)?;
    }
    let [mut weight_sums, mut bias_sums] = [vec![0.0; weights.len()], vec![0.0; n_outputs]];
    conv.weight_gradient(volume, [&input, none], &gradient, &mut weight_sums, Some(&mut bias_sums));
    let (to_weights, to_bias) = (bench.floats(weights.len())?, bench.floats(n_outputs)?);
    bench.kernels().head_weights(
        plane,
        n_outputs,
        [at_input, at_gradient],
        [to_weights, to_bias],
    )?;
    bench.same_floats(("head weight gradient", &name), to_weights, &weight_sums)?;
    bench.same_floats(("head bias gradient", &name), to_bias, &bias_sums)
}

fn compare_prepare(bench: &mut Bench<'_>) -> Result<(), CudaError> {
    let (n_pixels, n_channels, width) = (35, 2, 16);
    let images = super::numbers(n_pixels * n_channels, 23);
    let labels = super::numbers(3 * n_pixels * 2, 24);
    let (at_images, at_labels) = (bench.put_floats(&images)?, bench.put_floats(&labels)?);
    for n_sources in [0, 3] {
        let expected: Vec<f32> = (0..n_pixels * width)
            .map(|at| (at / width, at % width))
            .map(|(pixel, channel)| match channel.checked_sub(n_channels) {
                None => images[pixel * n_channels + channel],
                Some(label) if label < 2 * n_sources => {
                    labels[(label / 2 * n_pixels + pixel) * 2 + label % 2]
                }
                Some(_) => 0.0,
            })
            .collect();
        let cases = Cases { n_cases: 1, n_pixels, n_structures: 2, n_sources };
        let to = bench.room(expected.len())?;
        bench.kernels().prepare(&cases, n_channels, [at_images, at_labels, to], width)?;
        bench.same(("input", &format!("{n_pixels} pixels, {n_sources} sources")), to, &expected)?;
    }
    Ok(())
}

/// There and back: what is rounded on the device is what is rounded here, also halves and very small and large numbers.
fn compare_formats(bench: &mut Bench<'_>) -> Result<(), CudaError> {
    let (small, large) = (1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0);
    let mut values: Vec<f32> = super::numbers(1000, 25);
    values.extend([small, large, -small, -large, 1e-40, 0.0, -0.0, 3.0e38]);
    let name = format!("{} values", values.len());
    let at = bench.put_floats(&values)?;
    let (bits, to) = (bench.floats(values.len())?, bench.floats(values.len())?);
    bench.kernels().narrow(at, bits, values.len())?;
    bench.kernels().widen(bits, to, values.len())?;
    let found: Vec<f32> = buffers::get(bench.device, to, values.len())?;
    let same = |(found, value): &(&f32, &f32)| found.to_bits() == super::round(**value).to_bits();
    let n_wrong = values.len() - found.iter().zip(&values).filter(same).count();
    bench.tell_error(("bf16 and back, wrong", &name), n_wrong as f64, 0.0);
    Ok(())
}
