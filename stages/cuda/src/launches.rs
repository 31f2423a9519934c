//! The kernels as functions: grids, blocks and arguments for each.
//!
//! Activations are `[pixel, channel]` in the format of [`Kernels::number`], all else is f32 unless it says otherwise.

mod losses;

use kernels::{NORM_EPSILON, NORM_MOMENTUM, Volume};

use crate::{
    Address, Argument,
    Argument::{Address as At, Double, Int, Long},
    CudaError, Device, Launch, Number,
};

pub(crate) use losses::{AdamAt, Cases, LossPlaces, Maps};
pub use losses::{LossNumbers, QualityNumbers};

/// Threads of a block, as in `common.cuh`.
const THREADS: usize = 256;
/// Sources that loss and quality are written for, as in `common.cuh`.
pub(crate) const MAX_SOURCES: usize = 16;
/// Bytes for sums of blocks on their way.
pub(crate) const PARTIAL_BYTES: usize = 32 << 20;
/// Blocks along the pixels, at most: about four for each multiprocessor.
const MAX_GROUPS: usize = 512;
/// Channels of a block that finishes sums, and blocks that it adds up at once.
const FINISH: [usize; 2] = [32, 8];

/// Launches kernels; `partial` are [`PARTIAL_BYTES`] that all of them share, one after the other.
pub(crate) struct Kernels<'a> {
    pub(crate) device: &'a mut dyn Device,
    pub(crate) number: Number,
    pub(crate) partial: Address,
}

/// Activations `[pixel, channel]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane {
    pub(crate) n_pixels: usize,
    pub(crate) n_channels: usize,
}

/// What normalization reads of the parameters, and its running statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormAt {
    pub(crate) scale: Address,
    pub(crate) shift: Address,
    pub(crate) mean: Address,
    pub(crate) variance: Address,
}

/// Axes of the smaller of two volumes, the window that leads to it, and the larger one's axes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) small: Volume,
    pub(crate) window: [usize; 3],
    pub(crate) large: Volume,
}

fn int(value: usize) -> Argument {
    // Axes and counts of blocks; checked when a step is planned.
    Int(i32::try_from(value).unwrap_or(i32::MAX))
}

fn long(value: usize) -> Argument {
    Long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn flag(value: bool) -> Argument {
    Int(i32::from(value))
}

fn axis(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Windows {
    fn small_and_window(&self) -> [Argument; 6] {
        let Volume { slices, rows, columns, .. } = self.small;
        let [depth, height, width] = self.window;
        [slices, rows, columns, depth, height, width].map(int)
    }

    fn large(&self) -> [Argument; 3] {
        [self.large.slices, self.large.rows, self.large.columns].map(int)
    }
}

impl Plane {
    /// Channels that a thread takes at once.
    fn lanes(&self, number: Number) -> usize {
        if self.n_channels.is_multiple_of(number.lanes()) { number.lanes() } else { 1 }
    }

    /// Grid and block of a kernel whose threads keep their channels, for `n_sums` sums of each.
    fn shape(&self, number: Number, n_sums: usize) -> ([u32; 3], [u32; 3]) {
        let lanes = self.n_channels / self.lanes(number);
        let width = lanes.min(THREADS);
        let height = THREADS / width;
        let room = PARTIAL_BYTES / (4 * n_sums.max(1) * self.n_channels);
        let groups = self.n_pixels.div_ceil(8 * height).clamp(1, MAX_GROUPS.min(room.max(1)));
        ([axis(groups), axis(lanes.div_ceil(width)), 1], [axis(width), axis(height), 1])
    }
}

impl Kernels<'_> {
    fn launch(
        &mut self,
        kernel: &str,
        (grid, block): ([u32; 3], [u32; 3]),
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        self.device.launch(&Launch { kernel, grid, block, arguments })
    }

    /// A kernel with one thread for each of `count` things, or fewer in a loop.
    fn flat(
        &mut self,
        kernel: &str,
        count: usize,
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        let blocks = count.div_ceil(THREADS).clamp(1, 16 * MAX_GROUPS);
        self.launch(kernel, ([axis(blocks), 1, 1], [axis(THREADS), 1, 1]), arguments)
    }

    /// A kernel with a row of threads for each channel, which adds up sums of blocks.
    fn finish(
        &mut self,
        kernel: &str,
        n_columns: usize,
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        let [width, height] = FINISH.map(axis);
        let blocks = n_columns.div_ceil(FINISH[0]);
        self.launch(kernel, ([axis(blocks), 1, 1], [width, height, 1]), arguments)
    }

    fn of_number(&self, kernel: &str) -> String {
        format!("{kernel}_{}", self.number)
    }

    fn of_lanes(&self, kernel: &str, lanes: usize) -> String {
        format!("{kernel}_{}_{lanes}", self.number)
    }

    /// Normalization and ReLU in training; leaves the batch's statistics, `[4, channel]`, in `stats`.
    pub(crate) fn norm_training(
        &mut self,
        plane: Plane,
        values: Address,
        norm: NormAt,
        [stats, output]: [Address; 2],
    ) -> Result<(), CudaError> {
        let (pixels, channels) = (long(plane.n_pixels), int(plane.n_channels));
        let shape = plane.shape(self.number, 2);
        let name = self.of_lanes("norm_moments", plane.lanes(self.number));
        self.launch(&name, shape, &[At(values), pixels, channels, At(self.partial)])?;
        let name = self.of_number("norm_finish_training");
        let arguments = [
            At(self.partial),
            Int(shape.0[0].cast_signed()),
            At(values),
            pixels,
            channels,
            At(norm.scale),
            At(norm.shift),
            Double(NORM_EPSILON),
            Double(NORM_MOMENTUM),
            At(norm.mean),
            At(norm.variance),
            At(stats),
        ];
        self.finish(&name, plane.n_channels, &arguments)?;
        self.norm_apply(plane, values, [stats, output])
    }

    /// Normalization and ReLU by running statistics.
    pub(crate) fn norm_inference(
        &mut self,
        plane: Plane,
        values: Address,
        norm: NormAt,
        [stats, output]: [Address; 2],
    ) -> Result<(), CudaError> {
        let arguments = [
            At(norm.mean),
            At(norm.variance),
            At(norm.scale),
            At(norm.shift),
            Double(NORM_EPSILON),
            int(plane.n_channels),
            At(stats),
        ];
        self.flat("norm_finish_inference", plane.n_channels, &arguments)?;
        self.norm_apply(plane, values, [stats, output])
    }

    fn norm_apply(
        &mut self,
        plane: Plane,
        values: Address,
        [stats, output]: [Address; 2],
    ) -> Result<(), CudaError> {
        let name = self.of_lanes("norm_forward", plane.lanes(self.number));
        let (pixels, channels) = (long(plane.n_pixels), int(plane.n_channels));
        let shape = plane.shape(self.number, 1);
        self.launch(&name, shape, &[At(values), At(stats), pixels, channels, At(output)])
    }

    /// Replaces `values` by their gradient and writes those of scale and shift; `slopes` is room for `[2, channel]`.
    pub(crate) fn norm_gradient(
        &mut self,
        plane: Plane,
        [gradient, values, stats, slopes]: [Address; 4],
        scale: Address,
        [to_scale, to_shift]: [Address; 2],
    ) -> Result<(), CudaError> {
        let (pixels, channels) = (long(plane.n_pixels), int(plane.n_channels));
        let shape = plane.shape(self.number, 2);
        let lanes = plane.lanes(self.number);
        let name = self.of_lanes("norm_gradient_sums", lanes);
        let arguments = [At(gradient), At(values), At(stats), pixels, channels, At(self.partial)];
        self.launch(&name, shape, &arguments)?;
        let arguments = [
            At(self.partial),
            Int(shape.0[0].cast_signed()),
            At(stats),
            At(scale),
            pixels,
            channels,
            At(to_scale),
            At(to_shift),
            At(slopes),
        ];
        self.finish("norm_finish_gradient", plane.n_channels, &arguments)?;
        let name = self.of_lanes("norm_backward", lanes);
        let arguments = [At(gradient), At(values), At(stats), At(slopes), pixels, channels];
        self.launch(&name, shape, &arguments)
    }

    /// Max pooling.
    pub(crate) fn pool_forward(
        &mut self,
        windows: &Windows,
        n_channels: usize,
        [input, output]: [Address; 2],
    ) -> Result<(), CudaError> {
        let plane = Plane { n_pixels: windows.small.n_pixels(), n_channels };
        let lanes = plane.lanes(self.number);
        let mut arguments = vec![At(input)];
        arguments.extend(windows.small_and_window());
        arguments.extend(windows.large());
        arguments.extend([long(plane.n_pixels), int(n_channels), At(output)]);
        let name = self.of_lanes("pool_forward", lanes);
        self.flat(&name, plane.n_pixels * n_channels / lanes, &arguments)
    }

    /// Adds the gradient of a pooling's input.
    pub(crate) fn pool_backward(
        &mut self,
        windows: &Windows,
        n_channels: usize,
        [input, output, output_gradient, input_gradient]: [Address; 4],
    ) -> Result<(), CudaError> {
        let plane = Plane { n_pixels: windows.small.n_pixels(), n_channels };
        let lanes = plane.lanes(self.number);
        let mut arguments = vec![At(input), At(output), At(output_gradient)];
        arguments.extend(windows.small_and_window());
        arguments.extend(windows.large());
        arguments.extend([long(plane.n_pixels), int(n_channels), At(input_gradient)]);
        let name = self.of_lanes("pool_backward", lanes);
        self.flat(&name, plane.n_pixels * n_channels / lanes, &arguments)
    }

    /// Joins a skip and an up-convolution's product (without its bias) along the channels.
    pub(crate) fn join(
        &mut self,
        windows: &Windows,
        [n_skip, n_up]: [usize; 2],
        [skip, product, bias, joined]: [Address; 4],
    ) -> Result<(), CudaError> {
        let (name, count) = self.joint("join", windows, [n_skip, n_up]);
        let mut arguments = vec![At(skip), At(product), At(bias)];
        arguments.extend(windows.small_and_window());
        arguments.extend([long(windows.small.n_pixels()), int(n_skip), int(n_up), At(joined)]);
        self.flat(&name, count, &arguments)
    }

    /// The way back: the skip's part replaces or is added to `skip`, the rest becomes the product's gradient.
    pub(crate) fn split(
        &mut self,
        windows: &Windows,
        [n_skip, n_up]: [usize; 2],
        [joined, skip, product]: [Address; 3],
        add: bool,
    ) -> Result<(), CudaError> {
        let (name, count) = self.joint("split", windows, [n_skip, n_up]);
        let mut arguments = vec![At(joined)];
        arguments.extend(windows.small_and_window());
        arguments.extend([long(windows.small.n_pixels()), int(n_skip), int(n_up)]);
        arguments.extend([flag(add), At(skip), At(product)]);
        self.flat(&name, count, &arguments)
    }

    /// Kernel name and threads for both parts of a joined buffer.
    fn joint(&self, kernel: &str, windows: &Windows, parts: [usize; 2]) -> (String, usize) {
        let fits = parts.iter().all(|part| part.is_multiple_of(self.number.lanes()));
        let lanes = if fits { self.number.lanes() } else { 1 };
        let count = windows.large.n_pixels() * (parts[0] + parts[1]) / lanes;
        (self.of_lanes(kernel, lanes), count)
    }

    /// Sums of each channel.
    pub(crate) fn channel_sums(
        &mut self,
        plane: Plane,
        values: Address,
        output: Address,
    ) -> Result<(), CudaError> {
        let shape = plane.shape(self.number, 1);
        let name = self.of_lanes("channel_sums", plane.lanes(self.number));
        let arguments = [At(values), long(plane.n_pixels), int(plane.n_channels), At(self.partial)];
        self.launch(&name, shape, &arguments)?;
        self.finish_sums(shape.0[0], [1, plane.n_channels], output)
    }

    /// Adds up `[block, outer, inner]` over the blocks to `[inner, outer]`.
    fn finish_sums(
        &mut self,
        n_blocks: u32,
        [outer, inner]: [usize; 2],
        output: Address,
    ) -> Result<(), CudaError> {
        let arguments =
            [At(self.partial), Int(n_blocks.cast_signed()), int(outer), int(inner), At(output)];
        self.finish("finish_sums", outer * inner, &arguments)
    }

    /// Logits of a head, f32 `[pixel, output]`.
    pub(crate) fn head_forward(
        &mut self,
        plane: Plane,
        n_outputs: usize,
        [input, weights, bias, logits]: [Address; 4],
    ) -> Result<(), CudaError> {
        let name = self.of_lanes("head_forward", plane.lanes(self.number));
        let arguments = [
            At(input),
            At(weights),
            At(bias),
            long(plane.n_pixels),
            int(plane.n_channels),
            int(n_outputs),
            At(logits),
        ];
        self.flat(&name, plane.n_pixels, &arguments)
    }

    /// Gradient of a head's input: replaced, or added to what is there.
    pub(crate) fn head_backward(
        &mut self,
        plane: Plane,
        n_outputs: usize,
        [gradient, weights, input_gradient]: [Address; 3],
        add: bool,
    ) -> Result<(), CudaError> {
        let lanes = plane.lanes(self.number);
        let name = self.of_lanes("head_backward", lanes);
        let arguments = [
            At(gradient),
            At(weights),
            long(plane.n_pixels),
            int(plane.n_channels),
            int(n_outputs),
            flag(add),
            At(input_gradient),
        ];
        self.flat(&name, plane.n_pixels * plane.n_channels / lanes, &arguments)
    }

    /// Gradients of a head's weights and bias.
    pub(crate) fn head_weights(
        &mut self,
        plane: Plane,
        n_outputs: usize,
        [input, gradient]: [Address; 2],
        [to_weights, to_bias]: [Address; 2],
    ) -> Result<(), CudaError> {
        let (mut grid, block) = plane.shape(self.number, n_outputs);
        grid[2] = axis(n_outputs);
        let name = self.of_lanes("head_weights", plane.lanes(self.number));
        let arguments = [
            At(input),
            At(gradient),
            long(plane.n_pixels),
            int(plane.n_channels),
            int(n_outputs),
            At(self.partial),
        ];
        self.launch(&name, (grid, block), &arguments)?;
        self.finish_sums(grid[0], [n_outputs, plane.n_channels], to_weights)?;
        let number = std::mem::replace(&mut self.number, Number::F32);
        let sums = self.channel_sums(Plane { n_channels: n_outputs, ..plane }, gradient, to_bias);
        self.number = number;
        sums
    }

    /// A net's input of `width` channels from f32 images and, if there are sources, f32 labels.
    pub(crate) fn prepare(
        &mut self,
        cases: &Cases,
        n_channels: usize,
        [images, labels, output]: [Address; 3],
        width: usize,
    ) -> Result<(), CudaError> {
        let n_pixels = cases.n_cases * cases.n_pixels;
        let name = self.of_number("prepare");
        let arguments = [
            At(images),
            At(labels),
            long(n_pixels),
            int(n_channels),
            int(cases.n_sources),
            int(cases.n_structures),
            int(width),
            At(output),
        ];
        self.flat(&name, n_pixels * width, &arguments)
    }

    /// Converts bf16 to f32.
    pub(crate) fn widen(
        &mut self,
        from: Address,
        to: Address,
        count: usize,
    ) -> Result<(), CudaError> {
        self.flat("widen_bf16", count, &[At(from), long(count), At(to)])
    }

    /// Converts f32 to bf16.
    pub(crate) fn narrow(
        &mut self,
        from: Address,
        to: Address,
        count: usize,
    ) -> Result<(), CudaError> {
        self.flat("narrow_bf16", count, &[At(from), long(count), At(to)])
    }

    /// Probabilities of logits.
    pub(crate) fn sigmoid(
        &mut self,
        logits: Address,
        to: Address,
        count: usize,
    ) -> Result<(), CudaError> {
        self.flat("sigmoid_map", count, &[At(logits), long(count), At(to)])
    }
}
