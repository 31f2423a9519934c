//! The operations on candle tensors, with gradients for candle's tape.
//!
//! Tensors are channels-last f32 on the CPU, `[batch, slice, row, column, channel]`; [`channels_last`] and
//! [`channels_first`] translate from and to candle's `[batch, channel, row, column]`. The training path does not go
//! through these functions: a tape costs more than the operations, which work on buffers that stay.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Error, Layout, Result, Shape, Tensor, bail,
};

use crate::{
    Affine, BatchStatistics, Conv, MaxPool, Pooled, RunningStatistics, UpConv, Volume, Write,
    norm_relu_gradient, norm_relu_training,
};

/// Turns `[batch, channel, row, column]` or `[batch, channel, slice, row, column]` into channels-last.
///
/// # Errors
/// Candle's, when the tensor has another rank.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    let tensor = if tensor.rank() == 4 { tensor.unsqueeze(2)? } else { tensor.clone() };
    tensor.permute((0, 2, 3, 4, 1))?.contiguous()
}

/// Turns channels-last into `[batch, channel, slice, row, column]`, without the slice axis if there is one slice.
///
/// # Errors
/// Candle's, when the tensor has another rank.
pub fn channels_first(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.permute((0, 4, 1, 2, 3))?;
    if tensor.dim(2)? == 1 { tensor.squeeze(2)?.contiguous() } else { tensor.contiguous() }
}

/// Convolution of one or two inputs to the same size; see [`Conv`] for the order of `weights`, a tensor of rank 5.
///
/// # Errors
/// Candle's, when shapes do not fit or tensors are not f32 on the CPU.
pub fn conv(inputs: &[&Tensor], weights: &Tensor) -> Result<Tensor> {
    let (kd, kh, kw, n_in, out_channels) = weights.dims5()?;
    let mut in_channels = [0, 0];
    if inputs.is_empty() || inputs.len() > 2 {
        bail!("a convolution has one or two inputs: got {}", inputs.len());
    }
    for (n_channels, input) in in_channels.iter_mut().zip(inputs) {
        *n_channels = volume(input.dims())?.1;
    }
    if in_channels[0] + in_channels[1] != n_in {
        bail!("weights ask for {n_in} input channels: got {in_channels:?}");
    }
    if [kd, kh, kw].iter().any(|side| side % 2 == 0) {
        bail!("kernel sides must be odd: got {:?}", [kd, kh, kw]);
    }
    let op = ConvOp(Conv { kernel: [kd, kh, kw], in_channels, out_channels });
    let weights = weights.contiguous()?;
    match inputs {
        [input] => input.contiguous()?.apply_op2(&weights, op),
        [first, second, ..] => {
            if first.dims()[..4] != second.dims()[..4] {
                bail!("inputs differ in shape: {:?} and {:?}", first.dims(), second.dims());
            }
            first.contiguous()?.apply_op3(&second.contiguous()?, &weights, op)
        }
        [] => bail!("a convolution has one or two inputs: got 0"),
    }
}

/// Transposed convolution; see [`UpConv`] for the order of `weights`, a tensor of rank 5. Doubled axes are those of
/// kernel size 2; `bias` has one number a channel.
///
/// # Errors
/// Candle's, when shapes do not fit or tensors are not f32 on the CPU.
pub fn up_conv(input: &Tensor, weights: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (sd, sh, sw, in_channels, out_channels) = weights.dims5()?;
    let found = (volume(input.dims())?.1, bias.dims1()?);
    if found != (in_channels, out_channels) {
        bail!("weights ask for {in_channels} channels and {out_channels} biases: got {found:?}");
    }
    let op = UpConvOp(UpConv { stride: [sd, sh, sw], in_channels, out_channels });
    input.contiguous()?.apply_op3(&weights.contiguous()?, &bias.contiguous()?, op)
}

/// Batch normalization by the batch's own statistics, and ReLU; `scale` and `shift` have one number a channel.
///
/// # Errors
/// Candle's, when shapes do not fit or tensors are not f32 on the CPU.
pub fn norm_relu(input: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let n_channels = volume(input.dims())?.1;
    if [scale.dims1()?, shift.dims1()?] != [n_channels; 2] {
        bail!(
            "{n_channels} channels need as many scales and shifts: got {:?}",
            [scale.dims(), shift.dims()]
        );
    }
    input.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, NormReluOp)
}

/// Max pooling with `window` as `[slice, row, column]`.
///
/// # Errors
/// Candle's, when a side of the window is zero or the tensor is not f32 on the CPU.
pub fn max_pool(input: &Tensor, window: [usize; 3]) -> Result<Tensor> {
    if window.contains(&0) {
        bail!("window sides must be positive: got {window:?}");
    }
    input.contiguous()?.apply_op1(MaxPoolOp(MaxPool { window }))
}

/// Axes and number of channels of a channels-last shape.
fn volume(dims: &[usize]) -> Result<(Volume, usize)> {
    match *dims {
        [batch, slices, rows, columns, n_channels] if n_channels > 0 => {
            Ok((Volume { batch, slices, rows, columns }, n_channels))
        }
        _ => bail!("expected [batch, slice, row, column, channel]: got {dims:?}"),
    }
}

/// Shape of `volume` with `n_channels`.
fn shape(volume: Volume, n_channels: usize) -> Shape {
    Shape::from((volume.batch, volume.slices, volume.rows, volume.columns, n_channels))
}

/// The floats of a contiguous tensor.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("expected a contiguous tensor".to_owned()))?;
    match storage {
        CpuStorage::F32(values) => Ok(&values[start..end]),
        other => {
            bail!("expected f32: got {:?}", candle_core::backend::BackendStorage::dtype(other))
        }
    }
}

/// A copy of a tensor's floats.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// A tensor like `like` of other floats.
fn like(values: Vec<f32>, like: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, like.shape(), like.device()).map(Some)
}

struct ConvOp(Conv);

impl ConvOp {
    fn forward(&self, volume: Volume, inputs: [&[f32]; 2], weights: &[f32]) -> (CpuStorage, Shape) {
        let mut output = vec![0.0; volume.n_pixels() * self.0.out_channels];
        self.0.forward(volume, inputs, weights, None, &mut output);
        (CpuStorage::F32(output), shape(volume, self.0.out_channels))
    }

    /// Gradients of both inputs and the weights.
    fn backward(
        &self,
        inputs: [&Tensor; 2],
        weights: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Vec<f32>; 3]> {
        let (volume, _) = volume(inputs[0].dims())?;
        let second = if self.0.in_channels[1] == 0 { Vec::new() } else { values(inputs[1])? };
        let (first, gradient) = (values(inputs[0])?, values(gradient)?);
        let mut to_weights = vec![0.0; self.0.n_weights()];
        self.0.weight_gradient(volume, [&first, &second], &gradient, &mut to_weights, None);
        let mut to_inputs = [vec![0.0; first.len()], vec![0.0; second.len()]];
        let [to_first, to_second] = &mut to_inputs;
        let targets = [
            Some((to_first.as_mut_slice(), Write::Replace)),
            (!to_second.is_empty()).then_some((to_second.as_mut_slice(), Write::Replace)),
        ];
        self.0.input_gradient(volume, &gradient, &values(weights)?, targets);
        let [to_first, to_second] = to_inputs;
        Ok([to_first, to_second, to_weights])
    }
}

impl CustomOp2 for ConvOp {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (volume, _) = volume(l1.dims())?;
        Ok(self.forward(volume, [floats(s1, l1)?, &[]], floats(s2, l2)?))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weights: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [to_input, _, to_weights] = self.backward([input, input], weights, gradient)?;
        Ok((like(to_input, input)?, like(to_weights, weights)?))
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "conv of two inputs"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (volume, _) = volume(l1.dims())?;
        Ok(self.forward(volume, [floats(s1, l1)?, floats(s2, l2)?], floats(s3, l3)?))
    }

    fn bwd(
        &self,
        first: &Tensor,
        second: &Tensor,
        weights: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [to_first, to_second, to_weights] =
            self.backward([first, second], weights, gradient)?;
        Ok((like(to_first, first)?, like(to_second, second)?, like(to_weights, weights)?))
    }
}

struct UpConvOp(UpConv);

impl CustomOp3 for UpConvOp {
    fn name(&self) -> &'static str {
        "up-conv"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (volume, _) = volume(l1.dims())?;
        let large = self.0.output_volume(volume);
        let mut output = vec![0.0; large.n_pixels() * self.0.out_channels];
        let (input, weights, bias) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        self.0.forward(volume, input, weights, Some(bias), &mut output);
        Ok((CpuStorage::F32(output), shape(large, self.0.out_channels)))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (volume, _) = volume(input.dims())?;
        let (seen, gradient, kernel) = (values(input)?, values(gradient)?, values(weights)?);
        let [mut to_weights, mut to_bias] =
            [vec![0.0; kernel.len()], vec![0.0; self.0.out_channels]];
        self.0.weight_gradient(volume, &seen, &gradient, &mut to_weights, Some(&mut to_bias));
        let mut to_input = seen;
        self.0.input_gradient(volume, &gradient, &kernel, &mut to_input, Write::Replace);
        Ok((like(to_input, input)?, like(to_weights, weights)?, like(to_bias, bias)?))
    }
}

struct NormReluOp;

impl NormReluOp {
    fn forward(input: &[f32], affine: Affine<'_>) -> (Vec<f32>, BatchStatistics) {
        let mut output = vec![0.0; input.len()];
        let [mut mean, mut variance] =
            [vec![0.0; affine.scale.len()], vec![0.0; affine.scale.len()]];
        let running = RunningStatistics { mean: &mut mean, variance: &mut variance };
        let batch = norm_relu_training(input, affine, running, &mut output);
        (output, batch)
    }
}

impl CustomOp3 for NormReluOp {
    fn name(&self) -> &'static str {
        "norm-relu"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let affine = Affine { scale: floats(s2, l2)?, shift: floats(s3, l3)? };
        let (output, _) = Self::forward(floats(s1, l1)?, affine);
        Ok((CpuStorage::F32(output), l1.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (mut seen, scales, shifts) = (values(input)?, values(scale)?, values(shift)?);
        let affine = Affine { scale: &scales, shift: &shifts };
        let (_, batch) = Self::forward(&seen, affine);
        let [mut to_scale, mut to_shift] = [vec![0.0; scales.len()], vec![0.0; scales.len()]];
        let gradient = values(gradient)?;
        norm_relu_gradient(&gradient, &mut seen, affine, &batch, &mut to_scale, &mut to_shift);
        Ok((like(seen, input)?, like(to_scale, scale)?, like(to_shift, shift)?))
    }
}

struct MaxPoolOp(MaxPool);

impl CustomOp1 for MaxPoolOp {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (volume, n_channels) = volume(layout.dims())?;
        let small = self.0.output_volume(volume);
        let mut output = vec![0.0; small.n_pixels() * n_channels];
        self.0.forward(volume, n_channels, floats(storage, layout)?, &mut output);
        Ok((CpuStorage::F32(output), shape(small, n_channels)))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (volume, n_channels) = volume(input.dims())?;
        let (seen, given, gradient) = (values(input)?, values(output)?, values(gradient)?);
        let passed = Pooled { input: &seen, output: &given, output_gradient: &gradient };
        let mut to_input = vec![0.0; seen.len()];
        self.0.input_gradient(volume, n_channels, passed, &mut to_input, Write::Replace);
        like(to_input, input)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use candle_core::{Device, Var};

    use super::*;
    use crate::reference::{assert_close, numbers};

    fn variable(dims: &[usize], seed: u64) -> Var {
        let values = numbers(dims.iter().product(), seed);
        Var::from_vec(values, dims, &Device::Cpu).unwrap()
    }

    /// Fails when tensors differ by more than f32 sums do.
    fn check(found: &Tensor, expected: &Tensor, what: &str) {
        assert_eq!(found.dims(), expected.dims(), "{what}");
        let expected: Vec<f64> = values(expected).unwrap().into_iter().map(f64::from).collect();
        assert_close(&values(found).unwrap(), &expected, what);
    }

    /// Compares two functions of the same variables: results, and gradients of a weighted sum of the results.
    fn compare(variables: &[&Var], ours: &Tensor, stock: &Tensor, what: &str) {
        check(ours, stock, what);
        let weights = variable(stock.dims(), 99);
        let gradients =
            |output: &Tensor| (output * weights.as_tensor()).unwrap().sum_all().unwrap().backward();
        let (ours, stock) = (gradients(ours).unwrap(), gradients(stock).unwrap());
        for (index, variable) in variables.iter().enumerate() {
            let [found, expected] =
                [&ours, &stock].map(|all| all.get(variable.as_tensor()).unwrap());
            check(found, expected, &format!("{what}, gradient of variable {index}"));
        }
    }

    /// `[out, in, row, column]` as our weights.
    fn conv_weights(stock: &Tensor) -> Tensor {
        stock.permute((2, 3, 1, 0)).unwrap().unsqueeze(0).unwrap()
    }

    #[test]
    fn conv_is_that_of_candle() {
        for (n_in, n_out, kernel, rows, columns) in
            [(3, 8, 3, 7, 9), (16, 20, 3, 8, 4), (5, 2, 1, 3, 3)]
        {
            let input = variable(&[2, n_in, rows, columns], 1);
            let weights = variable(&[n_out, n_in, kernel, kernel], 2);
            let ours = conv(&[&channels_last(&input).unwrap()], &conv_weights(&weights)).unwrap();
            let stock = input.conv2d(&weights, kernel / 2, 1, 1, 1).unwrap();
            compare(&[&input, &weights], &channels_first(&ours).unwrap(), &stock, "conv");
        }
    }

    #[test]
    fn two_inputs_are_a_concatenation() {
        let (first, second) = (variable(&[2, 3, 5, 6], 1), variable(&[2, 4, 5, 6], 2));
        let weights = variable(&[9, 7, 3, 3], 3);
        let [a, b] = [&first, &second].map(|input| channels_last(input).unwrap());
        let ours = channels_first(&conv(&[&a, &b], &conv_weights(&weights)).unwrap()).unwrap();
        let joined = Tensor::cat(&[first.as_tensor(), second.as_tensor()], 1).unwrap();
        let stock = joined.conv2d(&weights, 1, 1, 1, 1).unwrap();
        compare(&[&first, &second, &weights], &ours, &stock, "two inputs");
    }

    #[test]
    fn up_conv_is_that_of_candle() {
        let (input, weights, bias) =
            (variable(&[2, 6, 3, 5], 1), variable(&[6, 4, 2, 2], 2), variable(&[4], 3));
        let kernel = weights.permute((2, 3, 0, 1)).unwrap().unsqueeze(0).unwrap();
        let ours = up_conv(&channels_last(&input).unwrap(), &kernel, &bias).unwrap();
        let stock = input.conv_transpose2d(&weights, 0, 0, 2, 1).unwrap();
        let stock = stock.broadcast_add(&bias.reshape((1, 4, 1, 1)).unwrap()).unwrap();
        compare(&[&input, &weights, &bias], &channels_first(&ours).unwrap(), &stock, "up-conv");
    }

    #[test]
    fn norm_relu_is_that_of_the_formula() {
        let (input, scale, shift) =
            (variable(&[3, 5, 4, 6], 1), variable(&[5], 2), variable(&[5], 3));
        let ours = norm_relu(&channels_last(&input).unwrap(), &scale, &shift).unwrap();
        let [scales, shifts] =
            [&scale, &shift].map(|numbers| numbers.reshape((1, 5, 1, 1)).unwrap());
        let centred = input.broadcast_sub(&input.mean_keepdim((0, 2, 3)).unwrap()).unwrap();
        let variance = centred.sqr().unwrap().mean_keepdim((0, 2, 3)).unwrap();
        let deviation = (variance + crate::NORM_EPSILON).unwrap().sqrt().unwrap();
        let stock = centred.broadcast_div(&deviation).unwrap().broadcast_mul(&scales).unwrap();
        let stock = stock.broadcast_add(&shifts).unwrap().relu().unwrap();
        compare(&[&input, &scale, &shift], &channels_first(&ours).unwrap(), &stock, "norm-relu");
    }

    #[test]
    fn max_pool_is_that_of_a_maximum() {
        let input = variable(&[2, 3, 4, 6], 1);
        let ours =
            channels_first(&max_pool(&channels_last(&input).unwrap(), [1, 2, 2]).unwrap()).unwrap();
        check(&ours, &input.max_pool2d(2).unwrap(), "max-pool");
        // Candle's gradient of `max_pool2d` is a quarter of the true one; that of its reductions is right.
        let blocks = input.reshape(&[2, 3, 2, 2, 3, 2]).unwrap();
        let stock = blocks.max(5).unwrap().max(3).unwrap();
        compare(&[&input], &ours, &stock, "max-pool");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (input, weights) = (variable(&[1, 1, 4, 4, 3], 1), variable(&[1, 3, 3, 2, 5], 2));
        assert!(conv(&[&input], &weights).is_err());
        assert!(conv(&[], &weights).is_err());
        assert!(conv(&[&variable(&[1, 4, 4, 2], 1)], &weights).is_err());
        assert!(conv(&[&variable(&[1, 1, 4, 4, 2], 1)], &variable(&[1, 2, 2, 2, 5], 2)).is_err());
        assert!(norm_relu(&input, &variable(&[2], 1), &variable(&[3], 1)).is_err());
        assert!(up_conv(&input, &variable(&[1, 2, 2, 3, 4], 1), &variable(&[3], 1)).is_err());
        assert!(max_pool(&input, [1, 0, 2]).is_err());
    }
}
