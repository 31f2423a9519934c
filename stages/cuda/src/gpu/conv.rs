//! cuDNN's convolutions of channels-last tensors; descriptors and algorithms are chosen once for each shape.

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
};

use cudarc::{
    cudnn::{result as cudnn, sys},
    driver::sys as driver_sys,
};

use super::{for_cudnn, of_cudnn, side};
use crate::{Address, ConvPass, ConvShape, CudaError, Number};

/// Workspace that an algorithm may ask for.
const MOST_WORKSPACE: usize = 2 << 30;
/// Algorithms that are asked for: more than there are of any pass.
const N_ALGORITHMS: usize = 16;

/// A cuDNN handle and the convolutions that were prepared.
pub(super) struct Convs {
    handle: sys::cudnnHandle_t,
    shapes: BTreeMap<[usize; 10], Prepared>,
    /// Memory that all convolutions share, one after the other.
    pub(super) workspace: (Address, usize),
}

/// Descriptors of one shape and its algorithms.
struct Prepared {
    descriptors: Descriptors,
    forward: (sys::cudnnConvolutionFwdAlgo_t, usize),
    input: (sys::cudnnConvolutionBwdDataAlgo_t, usize),
    weights: (sys::cudnnConvolutionBwdFilterAlgo_t, usize),
}

/// Input, output, filter and convolution.
pub(super) struct Descriptors {
    input: sys::cudnnTensorDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    filter: sys::cudnnFilterDescriptor_t,
    conv: sys::cudnnConvolutionDescriptor_t,
}

fn data_type(number: Number) -> sys::cudnnDataType_t {
    match number {
        Number::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Number::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

/// Axes `[batch, channel, (slice,) row, column]`, as cuDNN orders them whatever the strides; 2-D without slices.
pub(super) fn axes(shape: &ConvShape, n_channels: usize) -> Vec<c_int> {
    let volume = shape.volume;
    let space = [volume.slices, volume.rows, volume.columns];
    let space = if is_flat(shape) { &space[1..] } else { &space[..] };
    [volume.batch, n_channels].iter().chain(space).map(|&axis| side(axis)).collect()
}

/// Strides of channels-last values with these axes.
pub(super) fn strides(axes: &[c_int]) -> Vec<c_int> {
    let mut strides = vec![1; axes.len()];
    let mut next = axes[1];
    for axis in (2..axes.len()).rev() {
        strides[axis] = next;
        next *= axes[axis];
    }
    strides[0] = next;
    strides
}

fn is_flat(shape: &ConvShape) -> bool {
    shape.kernel[0] == 1 && shape.volume.slices == 1
}

impl Descriptors {
    /// Describes `shape`; needs no GPU.
    pub(super) fn new(shape: &ConvShape) -> Result<Self, CudaError> {
        let data = data_type(shape.number);
        let input = tensor(data, &axes(shape, shape.n_inputs))?;
        let output = tensor(data, &axes(shape, shape.n_outputs))?;
        let kernel = if is_flat(shape) { &shape.kernel[1..] } else { &shape.kernel[..] };
        let sides: Vec<c_int> = kernel.iter().map(|&length| side(length)).collect();
        let filter_axes: Vec<c_int> = [side(shape.n_outputs), side(shape.n_inputs)]
            .into_iter()
            .chain(sides.iter().copied())
            .collect();
        let filter =
            cudnn::create_filter_descriptor().map_err(of_cudnn("cudnnCreateFilterDescriptor"))?;
        let conv = cudnn::create_convolution_descriptor()
            .map_err(of_cudnn("cudnnCreateConvolutionDescriptor"))?;
        let padding: Vec<c_int> = sides.iter().map(|length| length / 2).collect();
        let ones = vec![1; sides.len()];
        // Products of bf16 use tensor cores; f32 stays f32, without TF32.
        let math = match shape.number {
            Number::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            Number::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        // SAFETY: the descriptors were created just now, and the slices have the length that is said.
        unsafe {
            let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
            let n_axes = side(filter_axes.len());
            cudnn::set_filternd_descriptor(filter, data, format, n_axes, filter_axes.as_ptr())
                .map_err(of_cudnn("cudnnSetFilterNdDescriptor"))?;
            cudnn::set_convolutionnd_descriptor(
                conv,
                side(sides.len()),
                padding.as_ptr(),
                ones.as_ptr(),
                ones.as_ptr(),
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )
            .map_err(of_cudnn("cudnnSetConvolutionNdDescriptor"))?;
            cudnn::set_convolution_math_type(conv, math)
                .map_err(of_cudnn("cudnnSetConvolutionMathType"))?;
        }
        Ok(Self { input, output, filter, conv })
    }

    /// Axes of the output that cuDNN works out from the others.
    #[cfg(test)]
    fn output_axes(&self, n_axes: usize) -> Result<Vec<c_int>, CudaError> {
        let mut axes = vec![0; n_axes];
        // SAFETY: the descriptors live, and there is room for all axes.
        unsafe {
            let (count, to) = (side(n_axes), axes.as_mut_ptr());
            sys::cudnnGetConvolutionNdForwardOutputDim(
                self.conv,
                self.input,
                self.filter,
                count,
                to,
            )
        }
        .result()
        .map_err(of_cudnn("cudnnGetConvolutionNdForwardOutputDim"))?;
        Ok(axes)
    }

    /// Gives the descriptors back; they must not be used after.
    fn destroy(&self) {
        // SAFETY: they were created by `new`; a fault here has no effect on anything.
        unsafe {
            let _ = cudnn::destroy_tensor_descriptor(self.input);
            let _ = cudnn::destroy_tensor_descriptor(self.output);
            let _ = cudnn::destroy_filter_descriptor(self.filter);
            let _ = cudnn::destroy_convolution_descriptor(self.conv);
        }
    }
}

fn tensor(
    data: sys::cudnnDataType_t,
    axes: &[c_int],
) -> Result<sys::cudnnTensorDescriptor_t, CudaError> {
    let strides = strides(axes);
    let tensor =
        cudnn::create_tensor_descriptor().map_err(of_cudnn("cudnnCreateTensorDescriptor"))?;
    // SAFETY: the descriptor was created just now; both slices have the length that is said.
    unsafe {
        cudnn::set_tensornd_descriptor(
            tensor,
            data,
            side(axes.len()),
            axes.as_ptr(),
            strides.as_ptr(),
        )
    }
    .map_err(of_cudnn("cudnnSetTensorNdDescriptor"))?;
    Ok(tensor)
}

/// Chooses among what cuDNN's heuristics returned, best first: the first that works, fits and repeats its bytes, or
/// else the first that works and fits.
macro_rules! choose {
    ($get:path, $perf:ty, $handle:expr, [$($descriptor:expr),*], $pass:expr, $shape:expr) => {{
        let mut count = 0;
        // SAFETY: a result is plain numbers, for which zeros are allowed: every first variant is 0.
        let mut results: [$perf; N_ALGORITHMS] = unsafe { std::mem::zeroed() };
        // SAFETY: handle and descriptors live, and there is room for as many results as are asked for.
        unsafe { $get($handle, $($descriptor,)* side(N_ALGORITHMS), &mut count, results.as_mut_ptr()) }
            .map_err(of_cudnn("cudnnGetConvolution*Algorithm_v7"))?;
        let count = usize::try_from(count).unwrap_or(0).min(N_ALGORITHMS);
        let fits = |result: &&$perf| {
            result.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS && result.memory <= MOST_WORKSPACE
        };
        let repeats = |result: &&$perf| result.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC;
        let good: Vec<&$perf> = results[..count].iter().filter(fits).collect();
        let best = good.iter().copied().find(repeats).or(good.first().copied());
        let best = best.ok_or_else(|| no_algorithm($pass, $shape))?;
        (best.algo, best.memory)
    }};
}

fn no_algorithm(pass: ConvPass, shape: &ConvShape) -> CudaError {
    let pass = match pass {
        ConvPass::Forward => "forward pass",
        ConvPass::Input => "input gradient",
        ConvPass::Weights => "weight gradient",
    };
    CudaError::NoAlgorithm { pass: pass.to_owned(), shape: shape.to_string() }
}

impl Convs {
    /// A handle on `stream`.
    pub(super) fn new(stream: driver_sys::CUstream) -> Result<Self, CudaError> {
        let handle = cudnn::create_handle().map_err(of_cudnn("cudnnCreate"))?;
        // SAFETY: handle and stream live as long as the GPU's owner.
        unsafe { cudnn::set_stream(handle, for_cudnn(stream)) }
            .map_err(of_cudnn("cudnnSetStream"))?;
        Ok(Self { handle, shapes: BTreeMap::new(), workspace: (Address::NULL, 0) })
    }

    /// Describes `shape` and chooses its algorithms, once; returns the largest workspace of them.
    pub(super) fn prepare(&mut self, shape: &ConvShape) -> Result<usize, CudaError> {
        if !self.shapes.contains_key(&shape.key()) {
            let prepared = self.choose(shape)?;
            self.shapes.insert(shape.key(), prepared);
        }
        let Prepared { forward, input, weights, .. } = &self.shapes[&shape.key()];
        Ok(forward.1.max(input.1).max(weights.1))
    }

    fn choose(&self, shape: &ConvShape) -> Result<Prepared, CudaError> {
        let descriptors = Descriptors::new(shape)?;
        let Descriptors { input: x, output: y, filter: w, conv } = descriptors;
        let handle = self.handle;
        let forward = choose!(
            cudnn::get_convolution_forward_algorithm,
            sys::cudnnConvolutionFwdAlgoPerf_t,
            handle,
            [x, w, conv, y],
            ConvPass::Forward,
            shape
        );
        let input = choose!(
            cudnn::get_convolution_backward_data_algorithm,
            sys::cudnnConvolutionBwdDataAlgoPerf_t,
            handle,
            [w, y, conv, x],
            ConvPass::Input,
            shape
        );
        let weights = choose!(
            cudnn::get_convolution_backward_filter_algorithm,
            sys::cudnnConvolutionBwdFilterAlgoPerf_t,
            handle,
            [x, y, conv, w],
            ConvPass::Weights,
            shape
        );
        Ok(Prepared { descriptors, forward, input, weights })
    }

    /// Runs one pass; see [`crate::Device::conv`].
    pub(super) fn run(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        from: [Address; 2],
        to: Address,
    ) -> Result<(), CudaError> {
        if !self.shapes.contains_key(&shape.key()) {
            self.prepare(shape)?;
        }
        let Prepared { descriptors, forward, input, weights } = &self.shapes[&shape.key()];
        let Descriptors { input: x, output: y, filter: w, conv } = *descriptors;
        let (alpha, beta) = (1.0_f32, 0.0_f32);
        let (one, zero): (*const c_void, *const c_void) =
            (std::ptr::from_ref(&alpha).cast(), std::ptr::from_ref(&beta).cast());
        let [a, b] = from.map(|address| address.0 as *const c_void);
        let (to, room) = (to.0 as *mut c_void, self.workspace.0.0 as *mut c_void);
        let len = self.workspace.1;
        let handle = self.handle;
        // SAFETY: the operands are buffers of this device as described, the workspace holds what the algorithm asked
        // for when it was prepared (cuDNN refuses a smaller one), and scalars are read by the call.
        unsafe {
            match pass {
                ConvPass::Forward => cudnn::convolution_forward(
                    handle, one, x, a, w, b, conv, forward.0, room, len, zero, y, to,
                )
                .map_err(of_cudnn("cudnnConvolutionForward")),
                // cuDNN takes the filter before the gradient.
                ConvPass::Input => cudnn::convolution_backward_data(
                    handle, one, w, b, y, a, conv, input.0, room, len, zero, x, to,
                )
                .map_err(of_cudnn("cudnnConvolutionBackwardData")),
                ConvPass::Weights => cudnn::convolution_backward_filter(
                    handle, one, x, a, y, b, conv, weights.0, room, len, zero, w, to,
                )
                .map_err(of_cudnn("cudnnConvolutionBackwardFilter")),
            }
        }
    }

    /// Gives everything back; nothing may be run after.
    pub(super) fn destroy(&mut self) {
        for prepared in self.shapes.values() {
            prepared.descriptors.destroy();
        }
        self.shapes.clear();
        // SAFETY: the handle was created by `new` and is used by nothing after this.
        let _ = unsafe { cudnn::destroy_handle(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use kernels::Volume;

    use super::*;

    fn shape(kernel: [usize; 3], slices: usize, number: Number) -> ConvShape {
        let volume = Volume { batch: 2, slices, rows: 8, columns: 6 };
        ConvShape { volume, kernel, n_inputs: 16, n_outputs: 32, number }
    }

    #[test]
    fn axes_and_strides_are_channels_last() {
        let flat = axes(&shape([1, 3, 3], 1, Number::F32), 16);
        assert_eq!((strides(&flat), flat), (vec![768, 1, 96, 16], vec![2, 16, 8, 6]));
        let deep = axes(&shape([3, 3, 3], 4, Number::F32), 16);
        assert_eq!((strides(&deep), deep), (vec![3072, 1, 768, 96, 16], vec![2, 16, 4, 8, 6]));
    }

    /// Descriptors need no GPU: where cuDNN is, it takes them and works out the output's axes.
    #[test]
    fn cudnn_takes_the_descriptors() {
        if crate::gpu::find().iter().any(|found| found.library == "cuDNN 9" && found.place.is_err())
        {
            return;
        }
        for number in [Number::F32, Number::Bf16] {
            for (kernel, slices) in [([1, 3, 3], 1), ([3, 3, 3], 4), ([1, 1, 1], 1)] {
                let shape = shape(kernel, slices, number);
                let expected = axes(&shape, shape.n_outputs);
                let descriptors = Descriptors::new(&shape).unwrap();
                assert_eq!(descriptors.output_axes(expected.len()).unwrap(), expected, "{shape}");
                descriptors.destroy();
            }
        }
    }
}
