//! Convolution with strides, as a sum of stride-one convolutions over the phases of the input.
//!
//! Output o reads inputs `s·o + t − k/2` for taps t of a kernel of side k, as PyTorch with padding k/2 does, and there
//! are `⌈n/s⌉` outputs along an axis of n. The inputs `s·i + φ` of a phase φ form a volume of the output's size, on
//! which the taps with `(t − k/2) mod s = φ` act as a stride-one kernel with shifts `⌊(t − k/2)/s⌋`; it is embedded in
//! the smallest odd kernel that holds them. Phases without taps are left out: a 1×1×1 kernel reads one phase only.
//!
//! Cost: with k = 3 and s = 2 the two phases of an axis have one and two taps, in kernels of side one and three, so
//! arithmetic is (4/3)ⁿ of the necessary for n strided axes (1.8 in 2-D, 2.4 in 3-D); a full-resolution convolution
//! that drops outputs would do 4 and 8 times as much. Phases are copied out once and their results summed in f32; in
//! bf16 the result of each phase is rounded once before that.

use crate::{
    Conv, Element, Volume, Write,
    parallel::{Scratch, SharedMut, for_each_task},
};

/// Numbers of one task.
const TASK: usize = 16 * 1024;

/// A convolution with strides of one input: kernel size and channels.
///
/// Weights are `[kernel slice, kernel row, kernel column, in channel, out channel]`, as those of [`Conv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StridedConv {
    /// Odd sizes as `[slice, row, column]`; 1 in the slice axis in 2-D.
    pub kernel: [usize; 3],
    /// Steps between outputs, at least 1.
    pub stride: [usize; 3],
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
}

/// The part of the kernel that reads the inputs `stride · i + offset`.
struct Phase {
    offset: [usize; 3],
    conv: Conv,
    /// Taps of the whole kernel with their places in that of `conv`.
    taps: Vec<[usize; 2]>,
}

/// Side of the embedded kernel along an axis, and taps with their places in it; none where no tap has this phase.
fn axis_taps(kernel: usize, stride: usize, offset: usize) -> Option<(usize, Vec<[usize; 2]>)> {
    let shifts: Vec<(usize, isize)> = (0..kernel)
        .map(|tap| (tap, tap.cast_signed() - (kernel / 2).cast_signed()))
        .filter(|(_, at)| at.rem_euclid(stride.cast_signed()) == offset.cast_signed())
        .map(|(tap, at)| (tap, at.div_euclid(stride.cast_signed())))
        .collect();
    let reach = shifts.iter().map(|(_, shift)| shift.unsigned_abs()).max()?;
    let place = |shift: isize| reach.wrapping_add_signed(shift);
    Some((2 * reach + 1, shifts.into_iter().map(|(tap, shift)| [tap, place(shift)]).collect()))
}

impl StridedConv {
    /// Number of weights.
    pub fn n_weights(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.in_channels * self.out_channels
    }

    /// Axes of the output.
    pub fn output_volume(&self, volume: Volume) -> Volume {
        let [slices, rows, columns] = self.stride;
        Volume {
            batch: volume.batch,
            slices: volume.slices.div_ceil(slices),
            rows: volume.rows.div_ceil(rows),
            columns: volume.columns.div_ceil(columns),
        }
    }

    fn phases(&self) -> Vec<Phase> {
        let [_, rows, columns] = self.stride;
        let all = 0..self.stride.iter().product();
        let phase = |index: usize| {
            let offset = [index / columns / rows, index / columns % rows, index % columns];
            let axis = |at: usize| axis_taps(self.kernel[at], self.stride[at], offset[at]);
            let [(depth, z), (height, y), (width, x)] = [axis(0)?, axis(1)?, axis(2)?];
            let mut taps = Vec::new();
            for ([tz, ez], [ty, ey]) in z.iter().flat_map(|z| y.iter().map(move |y| (z, y))) {
                for [tx, ex] in &x {
                    let tap = (tz * self.kernel[1] + ty) * self.kernel[2] + tx;
                    taps.push([tap, (ez * height + ey) * width + ex]);
                }
            }
            let conv = Conv {
                kernel: [depth, height, width],
                in_channels: [self.in_channels, 0],
                out_channels: self.out_channels,
            };
            Some(Phase { offset, conv, taps })
        };
        all.filter_map(phase).collect()
    }

    /// The weights of a phase, embedded among zeros.
    fn embedded(&self, phase: &Phase, weights: &[f32]) -> Vec<f32> {
        let len = self.in_channels * self.out_channels;
        let mut embedded = vec![0.0; phase.conv.n_weights()];
        for [tap, place] in &phase.taps {
            embedded[place * len..][..len].copy_from_slice(&weights[tap * len..][..len]);
        }
        embedded
    }

    /// Computes `output`, `[pixel, out channel]` of [`StridedConv::output_volume`].
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for, a kernel side is even or a
    /// stride is zero.
    pub fn forward<E: Element>(
        &self,
        volume: Volume,
        input: &[E],
        weights: &[f32],
        bias: Option<&[f32]>,
        output: &mut [E],
    ) {
        self.check(volume, input.len(), weights.len(), output.len());
        let small = self.output_volume(volume);
        let mut sums = Scratch::<f32>::zeroed(output.len());
        if let Some(bias) = bias {
            let pixels = sums.chunks_exact_mut(self.out_channels);
            pixels.for_each(|pixel| pixel.copy_from_slice(bias));
        }
        let mut part = Scratch::<E>::take(small.n_pixels() * self.in_channels);
        for phase in self.phases() {
            self.gather(volume, &phase, input, &mut part);
            let weights = self.embedded(&phase, weights);
            phase.conv.forward(small, [&part, &[]], &weights, None, output);
            each_chunk(&mut sums, |start, sums| {
                let part = &output[start..start + sums.len()];
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value.widen());
            });
        }
        each_chunk(output, |start, output| {
            let sums = &sums[start..start + output.len()];
            output.iter_mut().zip(sums).for_each(|(value, &sum)| *value = E::narrow(sum));
        });
    }

    /// Computes the gradient of the input, given that of the output.
    ///
    /// # Panics
    /// As [`StridedConv::forward`].
    pub fn input_gradient<E: Element>(
        &self,
        volume: Volume,
        output_gradient: &[E],
        weights: &[f32],
        input_gradient: &mut [E],
        write: Write,
    ) {
        self.check(volume, input_gradient.len(), weights.len(), output_gradient.len());
        let small = self.output_volume(volume);
        if write == Write::Replace {
            each_chunk(input_gradient, |_, gradient| gradient.fill(E::default()));
        }
        let mut part = Scratch::<E>::take(small.n_pixels() * self.in_channels);
        for phase in self.phases() {
            let weights = self.embedded(&phase, weights);
            let targets = [Some((&mut part[..], Write::Replace)), None];
            phase.conv.input_gradient(small, output_gradient, &weights, targets);
            self.scatter(volume, &phase, &part, input_gradient);
        }
    }

    /// Adds the gradient of the weights, and that of the bias if asked for, given that of the output.
    ///
    /// # Panics
    /// As [`StridedConv::forward`].
    pub fn weight_gradient<E: Element>(
        &self,
        volume: Volume,
        input: &[E],
        output_gradient: &[E],
        weight_gradient: &mut [f32],
        mut bias_gradient: Option<&mut [f32]>,
    ) {
        self.check(volume, input.len(), weight_gradient.len(), output_gradient.len());
        let small = self.output_volume(volume);
        let len = self.in_channels * self.out_channels;
        let mut part = Scratch::<E>::take(small.n_pixels() * self.in_channels);
        for phase in self.phases() {
            self.gather(volume, &phase, input, &mut part);
            let mut found = vec![0.0; phase.conv.n_weights()];
            let bias = bias_gradient.take();
            phase.conv.weight_gradient(small, [&part, &[]], output_gradient, &mut found, bias);
            for [tap, place] in &phase.taps {
                let (from, to) = (&found[place * len..], &mut weight_gradient[tap * len..][..len]);
                to.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
            }
        }
    }

    /// Copies the pixels of a phase to `part`, with zeros past the end of an axis.
    fn gather<E: Element>(&self, volume: Volume, phase: &Phase, input: &[E], part: &mut [E]) {
        let small = self.output_volume(volume);
        let line = small.columns * self.in_channels;
        let shared = SharedMut::new(part);
        for_each_task(small.image_rows(), |row| {
            // SAFETY: tasks write rows of their own, and the part outlives them.
            let pixels = unsafe { shared.slice(row * line, line) };
            let Some(from) = self.source_row(volume, phase, row) else {
                pixels.fill(E::default());
                return;
            };
            for (column, pixel) in pixels.chunks_exact_mut(self.in_channels).enumerate() {
                let column = column * self.stride[2] + phase.offset[2];
                if column < volume.columns {
                    let place = (from * volume.columns + column) * self.in_channels;
                    pixel.copy_from_slice(&input[place..place + self.in_channels]);
                } else {
                    pixel.fill(E::default());
                }
            }
        });
    }

    /// Adds `part` to the pixels of its phase; what lies past the end of an axis is dropped.
    fn scatter<E: Element>(&self, volume: Volume, phase: &Phase, part: &[E], input: &mut [E]) {
        let small = self.output_volume(volume);
        let line = small.columns * self.in_channels;
        let (shared, wide) = (SharedMut::new(input), volume.columns * self.in_channels);
        for_each_task(small.image_rows(), |row| {
            let Some(to) = self.source_row(volume, phase, row) else { return };
            // SAFETY: rows of a phase are rows of their own in the input, which outlives the tasks.
            let target = unsafe { shared.slice(to * wide, wide) };
            let pixels = part[row * line..][..line].chunks_exact(self.in_channels);
            let targets = target
                .chunks_exact_mut(self.in_channels)
                .skip(phase.offset[2])
                .step_by(self.stride[2]);
            for (target, pixel) in targets.zip(pixels) {
                for (sum, value) in target.iter_mut().zip(pixel) {
                    *sum = E::narrow(sum.widen() + value.widen());
                }
            }
        });
    }

    /// Row of the input, counted through volumes and slices, for a row of the output and a phase.
    fn source_row(&self, volume: Volume, phase: &Phase, row: usize) -> Option<usize> {
        let small = self.output_volume(volume);
        let (y, slice) = (row % small.rows, row / small.rows);
        let z = slice % small.slices * self.stride[0] + phase.offset[0];
        let y = y * self.stride[1] + phase.offset[1];
        let inside = z < volume.slices && y < volume.rows;
        inside.then(|| (slice / small.slices * volume.slices + z) * volume.rows + y)
    }

    /// The bounds that the unsafe code relies on.
    fn check(&self, volume: Volume, input: usize, weights: usize, output: usize) {
        assert!(self.kernel.iter().all(|side| side % 2 == 1), "kernel sides are odd");
        assert!(!self.stride.contains(&0), "strides are positive");
        assert_eq!(input, volume.n_pixels() * self.in_channels, "numbers of the input");
        assert_eq!(weights, self.n_weights(), "number of weights");
        let expected = self.output_volume(volume).n_pixels() * self.out_channels;
        assert_eq!(output, expected, "numbers of the output");
    }
}

/// Calls `body` with the place and numbers of each chunk.
fn each_chunk<T: Send>(numbers: &mut [T], body: impl Fn(usize, &mut [T]) + Sync) {
    let (len, shared) = (numbers.len(), SharedMut::new(numbers));
    for_each_task(len.div_ceil(TASK), |task| {
        let start = task * TASK;
        // SAFETY: chunks do not overlap, and the numbers outlive the tasks.
        body(start, unsafe { shared.slice(start, TASK.min(len - start)) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bf16,
        reference::{assert_close, dot, numbers, on_all_sets},
    };

    /// Calls `visit` with (output pixel, input pixel, tap) for all taps inside the volume.
    fn visit(conv: &StridedConv, volume: Volume, mut visit: impl FnMut(usize, usize, usize)) {
        let small = conv.output_volume(volume);
        let [kd, kh, kw] = conv.kernel;
        let size = [volume.slices, volume.rows, volume.columns];
        for pixel in 0..small.n_pixels() {
            let (x, row) = (pixel % small.columns, pixel / small.columns);
            let (y, slice) = (row % small.rows, row / small.rows);
            let (z, case) = (slice % small.slices, slice / small.slices);
            for tap in 0..kd * kh * kw {
                let taps = [tap / kw / kh, tap / kw % kh, tap % kw];
                let place = |axis: usize| {
                    let at = [z, y, x][axis] * conv.stride[axis] + taps[axis];
                    at.checked_sub(conv.kernel[axis] / 2).filter(|&at| at < size[axis])
                };
                if let (Some(z), Some(y), Some(x)) = (place(0), place(1), place(2)) {
                    let row = (case * volume.slices + z) * volume.rows + y;
                    visit(pixel, row * volume.columns + x, tap);
                }
            }
        }
    }

    fn check(conv: &StridedConv, volume: Volume) {
        let what = format!("{conv:?} of {volume:?}");
        let (n_in, n_out) = (conv.in_channels, conv.out_channels);
        let small = conv.output_volume(volume).n_pixels();
        let input = numbers(volume.n_pixels() * n_in, 1);
        let (weights, bias) = (numbers(conv.n_weights(), 2), numbers(n_out, 3));
        let gradient = numbers(small * n_out, 4);
        let mut output: Vec<f64> =
            (0..small * n_out).map(|at| f64::from(bias[at % n_out])).collect();
        let mut to_input = vec![0.0; input.len()];
        let mut to_weights = vec![1.0; weights.len()];
        visit(conv, volume, |to, from, tap| {
            for (a, b) in (0..n_in).flat_map(|a| (0..n_out).map(move |b| (a, b))) {
                let (weight, to, from) =
                    ((tap * n_in + a) * n_out + b, to * n_out + b, from * n_in + a);
                let [x, w, g] = [input[from], weights[weight], gradient[to]].map(f64::from);
                output[to] += x * w;
                to_input[from] += g * w;
                to_weights[weight] += g * x;
            }
        });
        let run = || {
            let mut found = vec![f32::NAN; small * n_out];
            conv.forward(volume, &input, &weights, Some(&bias), &mut found);
            let mut by_input = vec![f32::NAN; input.len()];
            conv.input_gradient(volume, &gradient, &weights, &mut by_input, Write::Replace);
            let [mut by_weights, mut by_bias] = [vec![1.0; weights.len()], vec![0.0; n_out]];
            let bias = Some(&mut by_bias[..]);
            conv.weight_gradient(volume, &input, &gradient, &mut by_weights, bias);
            [found, by_input, by_weights, by_bias]
        };
        let mut to_bias = vec![0.0; n_out];
        gradient.iter().enumerate().for_each(|(at, &g)| to_bias[at % n_out] += f64::from(g));
        for [found, by_input, by_weights, by_bias] in on_all_sets(run) {
            assert_close(&found, &output, &what);
            assert_close(&by_input, &to_input, &format!("{what}: input"));
            assert_close(&by_weights, &to_weights, &format!("{what}: weights"));
            assert_close(&by_bias, &to_bias, &format!("{what}: bias"));
            let plain: Vec<f32> =
                found.iter().enumerate().map(|(at, value)| value - bias[at % n_out]).collect();
            let difference = dot(&plain, &gradient) - dot(&input, &by_input);
            assert!(difference.abs() < 1e-4 * (found.len() as f64).sqrt(), "{what}: adjoint");
        }
    }

    #[test]
    fn phases_of_a_common_kernel_are_small() {
        let conv =
            StridedConv { kernel: [1, 3, 3], stride: [1, 2, 2], in_channels: 1, out_channels: 1 };
        let kernels: Vec<[usize; 3]> =
            conv.phases().iter().map(|phase| phase.conv.kernel).collect();
        assert_eq!(kernels, [[1, 1, 1], [1, 1, 3], [1, 3, 1], [1, 3, 3]]);
        let one = StridedConv { kernel: [1, 1, 1], stride: [2, 2, 2], ..conv };
        assert_eq!(one.phases().len(), 1);
    }

    #[test]
    fn bf16_stays_within_its_rounding() {
        let conv =
            StridedConv { kernel: [3, 3, 3], stride: [2, 2, 2], in_channels: 5, out_channels: 7 };
        let volume = Volume { batch: 1, slices: 5, rows: 6, columns: 7 };
        let wide = numbers(volume.n_pixels() * 5, 1);
        let narrow: Vec<bf16> = wide.iter().map(|&value| bf16::narrow(value)).collect();
        let weights = numbers(conv.n_weights(), 2);
        let small = conv.output_volume(volume).n_pixels() * 7;
        let (mut expected, mut found) = (vec![0.0; small], vec![bf16::ZERO; small]);
        conv.forward(volume, &wide, &weights, None, &mut expected);
        conv.forward(volume, &narrow, &weights, None, &mut found);
        let error: f32 = expected.iter().zip(&found).map(|(a, b)| (a - b.widen()).powi(2)).sum();
        let norm: f32 = expected.iter().map(|a| a * a).sum();
        // Inputs, weights, eight phases and the sum are each rounded to 8 bits.
        assert!((error / norm).sqrt() < 1.0 / 128.0, "{}", (error / norm).sqrt());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 40,
            rng_seed: proptest::test_runner::RngSeed::Fixed(1),
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn any_shape_agrees_with_the_definition(
            taps in [0..2_usize, 0..3_usize, 0..3_usize],
            stride in [1..4_usize, 1..4_usize, 1..4_usize],
            channels in [1..20_usize, 1..20_usize],
            axes in [1..3_usize, 1..4_usize, 1..7_usize, 1..8_usize],
        ) {
            let [batch, slices, rows, columns] = axes;
            let [in_channels, out_channels] = channels;
            let kernel = taps.map(|taps| 2 * taps + 1);
            let conv = StridedConv { kernel, stride, in_channels, out_channels };
            check(&conv, Volume { batch, slices, rows, columns });
        }
    }
}
