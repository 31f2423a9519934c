//! Batch normalization fused with the ReLU after it, as PyTorch's `BatchNorm` in training and evaluation.
//!
//! Statistics are per channel over batch and space; sums are taken in f32 over a few thousand values, relative to
//! a value of the channel, and then in f64 in a fixed order, so a large mean costs no accuracy.

use crate::{
    Isa,
    elementwise::Period,
    parallel::{Scratch, SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// Added to the variance; PyTorch's default.
pub const NORM_EPSILON: f64 = 1e-5;
/// Weight of the new batch in the running statistics; PyTorch's default.
pub const NORM_MOMENTUM: f64 = 0.1;

/// Learned scale and shift, one a channel (gamma and beta).
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factor of the normalized value.
    pub scale: &'a [f32],
    /// Added to it.
    pub shift: &'a [f32],
}

/// Statistics of the batch that a training pass saw; the backward pass needs them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchStatistics {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// One over the root of the biased variance plus [`NORM_EPSILON`].
    pub inv_std: Vec<f32>,
}

/// Running statistics, one number a channel.
#[derive(Debug)]
pub struct RunningStatistics<'a> {
    /// Running mean.
    pub mean: &'a mut [f32],
    /// Running unbiased variance.
    pub variance: &'a mut [f32],
}

/// Normalizes `values`, `[pixel, channel]`, by their own statistics and writes the ReLU of the result to `output`.
///
/// Updates `running` and keeps the batch's statistics for [`norm_relu_gradient`]. A channel of one value has no
/// unbiased variance; its running variance then takes the biased one (PyTorch refuses such a batch).
///
/// # Panics
/// When buffers do not fit each other.
pub fn norm_relu_training(
    values: &[f32],
    affine: Affine<'_>,
    running: RunningStatistics<'_>,
    output: &mut [f32],
) -> BatchStatistics {
    let n_channels = affine.scale.len();
    check(
        values.len(),
        n_channels,
        &[affine.shift.len(), running.mean.len(), running.variance.len()],
    );
    assert_eq!(values.len(), output.len(), "floats of the output");
    let n_pixels = (values.len() / n_channels) as f64;
    let (mean, variance) = statistics(values, n_channels);
    for channel in 0..n_channels {
        let unbiased = variance[channel] * n_pixels / (n_pixels - 1.0).max(1.0);
        let (old_mean, old_variance) = (&mut running.mean[channel], &mut running.variance[channel]);
        *old_mean = blend(*old_mean, mean[channel]);
        *old_variance = blend(*old_variance, unbiased);
    }
    let batch = BatchStatistics {
        mean: mean.iter().map(|&mean| mean as f32).collect(),
        inv_std: variance.iter().map(|&variance| inv_std(variance)).collect(),
    };
    let line = Line::new(affine, &batch.mean, &batch.inv_std);
    let (isa, period) = (Isa::current(), Period::new(n_channels));
    let shared = SharedMut::new(output);
    period.for_each(values.len(), |range| {
        // SAFETY: tasks have ranges of their own, and `output` outlives them.
        let output = unsafe { shared.slice(range.start, range.len()) };
        output.copy_from_slice(&values[range]);
        isa.run(LineRelu { values: output, line: &line });
    });
    batch
}

/// Normalizes `values`, `[pixel, channel]`, by running statistics and replaces them by the ReLU of the result.
///
/// # Panics
/// When buffers do not fit each other.
pub fn norm_relu_inference(values: &mut [f32], affine: Affine<'_>, mean: &[f32], variance: &[f32]) {
    let n_channels = affine.scale.len();
    check(values.len(), n_channels, &[affine.shift.len(), mean.len(), variance.len()]);
    let inv_std: Vec<f32> = variance.iter().map(|&variance| inv_std(f64::from(variance))).collect();
    let line = Line::new(affine, mean, &inv_std);
    let (isa, len, period) = (Isa::current(), values.len(), Period::new(n_channels));
    let shared = SharedMut::new(values);
    period.for_each(len, |range| {
        // SAFETY: tasks have ranges of their own, and `values` outlives them.
        let values = unsafe { shared.slice(range.start, range.len()) };
        isa.run(LineRelu { values, line: &line });
    });
}

/// Replaces `values`, the input of a training pass, by the gradient of the loss with respect to them.
///
/// `gradient` is that of the pass's output; the gradients of scale and shift are added to `to_scale` and `to_shift`.
/// Where the ReLU cut, also at exactly zero, the gradient is zero, as in PyTorch.
///
/// # Panics
/// When buffers do not fit each other.
pub fn norm_relu_gradient(
    gradient: &[f32],
    values: &mut [f32],
    affine: Affine<'_>,
    batch: &BatchStatistics,
    to_scale: &mut [f32],
    to_shift: &mut [f32],
) {
    let n_channels = affine.scale.len();
    let lens =
        [affine.shift.len(), batch.mean.len(), batch.inv_std.len(), to_scale.len(), to_shift.len()];
    check(values.len(), n_channels, &lens);
    assert_eq!(gradient.len(), values.len(), "floats of the gradient");
    let period = Period::new(n_channels);
    let line = Line::new(affine, &batch.mean, &batch.inv_std);
    let sums = gradient_sums(gradient, values, n_channels, &line);

    let n_pixels = (values.len() / n_channels) as f64;
    let [mut to_value, mut offset] = [vec![0.0; n_channels], vec![0.0; n_channels]];
    for channel in 0..n_channels {
        let inv_std = f64::from(batch.inv_std[channel]);
        let factor = f64::from(affine.scale[channel]) * inv_std / n_pixels;
        let [plain, weighted] = [sums[0][channel], sums[1][channel]];
        to_value[channel] = (-factor * weighted * inv_std * inv_std) as f32;
        offset[channel] = (-factor * plain) as f32;
        to_scale[channel] += (weighted * inv_std) as f32;
        to_shift[channel] += plain as f32;
    }
    let [to_value, offset] = [to_value, offset].map(|numbers| period.repeat(&numbers));
    let (isa, len) = (Isa::current(), values.len());
    let shared = SharedMut::new(values);
    period.for_each(len, |range| {
        // SAFETY: tasks have ranges of their own, and `values` outlives them.
        let values = unsafe { shared.slice(range.start, range.len()) };
        let gradient = &gradient[range];
        isa.run(Gradient { gradient, values, line: &line, to_value: &to_value, offset: &offset });
    });
}

fn check(n_values: usize, n_channels: usize, others: &[usize]) {
    assert!(
        n_channels > 0 && n_values.is_multiple_of(n_channels),
        "whole pixels of {n_channels} channels"
    );
    assert!(others.iter().all(|&len| len == n_channels), "one number a channel: {others:?}");
}

fn inv_std(variance: f64) -> f32 {
    (1.0 / (variance + NORM_EPSILON).sqrt()) as f32
}

fn blend(old: f32, new: f64) -> f32 {
    ((1.0 - NORM_MOMENTUM) * f64::from(old) + NORM_MOMENTUM * new) as f32
}

/// Mean and biased variance of each channel.
fn statistics(values: &[f32], n_channels: usize) -> (Vec<f64>, Vec<f64>) {
    let (isa, period) = (Isa::current(), Period::new(n_channels));
    let base = &values[..n_channels.min(values.len())];
    let bases = period.repeat(base);
    let sums = period_sums(values.len(), period, n_channels, |range, sums| {
        isa.run(Moments { values: &values[range], base: &bases, sums });
    });
    let n_pixels = (values.len() / n_channels) as f64;
    let channel = |channel: usize| {
        let shift = sums[0][channel] / n_pixels;
        let variance = (sums[1][channel] / n_pixels - shift * shift).max(0.0);
        (f64::from(base[channel]) + shift, variance)
    };
    (0..n_channels).map(channel).unzip()
}

/// Sums over all pixels of the gradient that passes the ReLU, and of that times (value - mean).
fn gradient_sums(
    gradient: &[f32],
    values: &[f32],
    n_channels: usize,
    line: &Line,
) -> [Vec<f64>; 2] {
    let (isa, period) = (Isa::current(), Period::new(n_channels));
    period_sums(values.len(), period, n_channels, |range, sums| {
        isa.run(GradientSums {
            gradient: &gradient[range.clone()],
            values: &values[range],
            line,
            sums,
        });
    })
}

/// Two sums a channel over all tasks, in their order; `task` writes both sums of a period one after the other.
fn period_sums(
    len: usize,
    period: Period,
    n_channels: usize,
    task: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> [Vec<f64>; 2] {
    let mut partial = Scratch::zeroed(2 * period.floats * period.n_tasks(len));
    let shared = SharedMut::new(&mut partial);
    for_each_task(period.n_tasks(len), |index| {
        // SAFETY: tasks have sums of their own, and `partial` outlives them.
        let sums = unsafe { shared.slice(2 * period.floats * index, 2 * period.floats) };
        task(period.task(len, index), sums);
    });
    let mut sums = [vec![0.0; n_channels], vec![0.0; n_channels]];
    for (place, part) in partial.chunks_exact(period.floats).enumerate() {
        period.fold(part, &mut sums[place % 2]);
    }
    sums
}

/// Numbers of each channel, repeated to the period: the pre-activation is `(value - mean) * scale + shift`.
struct Line {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Line {
    fn new(affine: Affine<'_>, mean: &[f32], inv_std: &[f32]) -> Self {
        let period = Period::new(mean.len());
        let scale: Vec<f32> = affine.scale.iter().zip(inv_std).map(|(a, b)| a * b).collect();
        let [mean, scale, shift] =
            [mean, &scale, affine.shift].map(|numbers| period.repeat(numbers));
        Self { mean, scale, shift }
    }

    /// Mean, scale and shift of the vector at `in_period`.
    ///
    /// # Safety
    /// `in_period` is a multiple of the lanes below the period, and the set is there.
    #[inline(always)]
    unsafe fn load<L: Lanes>(&self, in_period: usize) -> [L; 3] {
        // SAFETY: a period holds whole vectors.
        [&self.mean, &self.scale, &self.shift]
            .map(|numbers| unsafe { L::load(numbers.as_ptr().add(in_period)) })
    }
}

/// Calls `$body` with (place in the buffer, place in the period, floats) for whole and partial vectors.
macro_rules! for_each_vector {
    ($lanes:ty, $len:expr, $period:expr, |$at:ident, $in_period:ident, $count:ident| $body:expr) => {
        for start in (0..$len).step_by($period) {
            let end = $len.min(start + $period);
            for $at in (start..end).step_by(<$lanes>::WIDTH) {
                let ($in_period, $count) = ($at - start, (end - $at).min(<$lanes>::WIDTH));
                $body
            }
        }
    };
}

/// Replaces values by the ReLU of their line.
struct LineRelu<'a> {
    values: &'a mut [f32],
    line: &'a Line,
}

impl LaneTask for LineRelu<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let values = self.values.as_mut_ptr();
        for_each_vector!(L, self.values.len(), self.line.mean.len(), |at, in_period, count| {
            // SAFETY: `count` floats from `at` lie in the buffer, and a period holds whole vectors.
            unsafe {
                let [mean, scale, shift] = self.line.load::<L>(in_period);
                let line = |value: L| value.sub(mean).mul_add(scale, shift).relu();
                let to = values.add(at);
                if count == L::WIDTH {
                    line(L::load(to)).store(to);
                } else {
                    line(L::load_first(to, count)).store_first(to, count);
                }
            }
        });
    }
}

/// Sums of `values - base` and of its square; `sums` holds zeros.
struct Moments<'a> {
    values: &'a [f32],
    base: &'a [f32],
    sums: &'a mut [f32],
}

impl LaneTask for Moments<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let period = self.base.len();
        for in_period in (0..period).step_by(L::WIDTH) {
            // SAFETY: a period holds whole vectors; `count` floats from `at` lie in the buffer; `sums` holds two
            // periods. Lanes past the end take the base itself, so they add nothing.
            unsafe {
                let base = L::load(self.base.as_ptr().add(in_period));
                let (mut plain, mut squares) = (L::zero(), L::zero());
                for at in (in_period..self.values.len()).step_by(period) {
                    let from = self.values.as_ptr().add(at);
                    let count = (self.values.len() - at).min(L::WIDTH);
                    let distance = if count == L::WIDTH {
                        L::load(from).sub(base)
                    } else {
                        let base = L::load_first(self.base.as_ptr().add(in_period), count);
                        L::load_first(from, count).sub(base)
                    };
                    plain = plain.add(distance);
                    squares = distance.mul_add(distance, squares);
                }
                plain.store(self.sums.as_mut_ptr().add(in_period));
                squares.store(self.sums.as_mut_ptr().add(period + in_period));
            }
        }
    }
}

/// Sums of the gradient that passes the ReLU, and of that times (value - mean); `sums` holds zeros.
struct GradientSums<'a> {
    gradient: &'a [f32],
    values: &'a [f32],
    line: &'a Line,
    sums: &'a mut [f32],
}

impl LaneTask for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let period = self.line.mean.len();
        for in_period in (0..period).step_by(L::WIDTH) {
            // SAFETY: as in `Moments`; the gradient has the values' length. Lanes past the end have gradient zero.
            unsafe {
                let [mean, scale, shift] = self.line.load::<L>(in_period);
                let (mut plain, mut weighted) = (L::zero(), L::zero());
                for at in (in_period..self.values.len()).step_by(period) {
                    let (value, gradient) =
                        (self.values.as_ptr().add(at), self.gradient.as_ptr().add(at));
                    let count = (self.values.len() - at).min(L::WIDTH);
                    let (value, gradient) = if count == L::WIDTH {
                        (L::load(value), L::load(gradient))
                    } else {
                        (L::load_first(value, count), L::load_first(gradient, count))
                    };
                    let distance = value.sub(mean);
                    let passed = gradient.where_positive(distance.mul_add(scale, shift));
                    plain = plain.add(passed);
                    weighted = passed.mul_add(distance, weighted);
                }
                plain.store(self.sums.as_mut_ptr().add(in_period));
                weighted.store(self.sums.as_mut_ptr().add(period + in_period));
            }
        }
    }
}

/// `values = scale * passed gradient + to_value * (values - mean) + offset`.
struct Gradient<'a> {
    gradient: &'a [f32],
    values: &'a mut [f32],
    line: &'a Line,
    to_value: &'a [f32],
    offset: &'a [f32],
}

impl LaneTask for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (values, gradient) = (self.values.as_mut_ptr(), self.gradient.as_ptr());
        for_each_vector!(L, self.values.len(), self.offset.len(), |at, in_period, count| {
            // SAFETY: as in `LineRelu`; the gradient has the values' length.
            unsafe {
                let [mean, scale, shift] = self.line.load::<L>(in_period);
                let [to_value, offset] = [self.to_value, self.offset]
                    .map(|numbers| L::load(numbers.as_ptr().add(in_period)));
                let backward = |value: L, gradient: L| {
                    let distance = value.sub(mean);
                    let passed = gradient.where_positive(distance.mul_add(scale, shift));
                    passed.mul_add(scale, distance.mul_add(to_value, offset))
                };
                let (to, from) = (values.add(at), gradient.add(at));
                if count == L::WIDTH {
                    backward(L::load(to), L::load(from)).store(to);
                } else {
                    backward(L::load_first(to, count), L::load_first(from, count))
                        .store_first(to, count);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{assert_close, numbers, on_all_sets};

    /// Channels and pixels: fewer and more than lanes, periods cut short, several tasks.
    const CASES: [[usize; 2]; 7] =
        [[1, 1], [1, 37], [3, 50], [16, 4000], [24, 333], [40, 9], [6, 7001]];

    struct Setup {
        values: Vec<f32>,
        gradient: Vec<f32>,
        scale: Vec<f32>,
        shift: Vec<f32>,
    }

    fn setup([n_channels, n_pixels]: [usize; 2]) -> Setup {
        let len = n_channels * n_pixels;
        Setup {
            // A mean far from zero, as after layers of positive inputs.
            values: numbers(len, 1).iter().map(|value| value + 3.0).collect(),
            gradient: numbers(len, 2),
            scale: numbers(n_channels, 3).iter().map(|value| value + 1.0).collect(),
            shift: numbers(n_channels, 4),
        }
    }

    /// Normalized value, pre-activation and inverse deviation of everything, in f64.
    struct Expected {
        normal: Vec<f64>,
        line: Vec<f64>,
        mean: Vec<f64>,
        variance: Vec<f64>,
    }

    fn expected(setup: &Setup) -> Expected {
        let n_channels = setup.scale.len();
        let n_pixels = (setup.values.len() / n_channels) as f64;
        let of = |channel: usize| {
            setup.values.iter().skip(channel).step_by(n_channels).map(|&v| f64::from(v))
        };
        let mean: Vec<f64> = (0..n_channels).map(|c| of(c).sum::<f64>() / n_pixels).collect();
        let variance: Vec<f64> = (0..n_channels)
            .map(|c| of(c).map(|value| (value - mean[c]).powi(2)).sum::<f64>() / n_pixels)
            .collect();
        let normal: Vec<f64> = (setup.values.iter().enumerate())
            .map(|(at, &value)| (at % n_channels, f64::from(value)))
            .map(|(c, value)| (value - mean[c]) / (variance[c] + NORM_EPSILON).sqrt())
            .collect();
        let line = (normal.iter().enumerate())
            .map(|(at, normal)| (at % n_channels, normal))
            .map(|(c, normal)| normal * f64::from(setup.scale[c]) + f64::from(setup.shift[c]))
            .collect();
        Expected { normal, line, mean, variance }
    }

    impl Setup {
        fn affine(&self) -> Affine<'_> {
            Affine { scale: &self.scale, shift: &self.shift }
        }

        fn train(&self) -> (Vec<f32>, BatchStatistics, [Vec<f32>; 2]) {
            let mut output = vec![f32::NAN; self.values.len()];
            let mut running = [vec![1.0; self.scale.len()], vec![2.0; self.scale.len()]];
            let [mean, variance] = &mut running;
            let running_statistics = RunningStatistics { mean, variance };
            let batch =
                norm_relu_training(&self.values, self.affine(), running_statistics, &mut output);
            (output, batch, running)
        }

        fn gradients(&self) -> [Vec<f32>; 3] {
            let (_, batch, _) = self.train();
            let mut values = self.values.clone();
            let [mut to_scale, mut to_shift] =
                [vec![1.0; self.scale.len()], vec![1.0; self.scale.len()]];
            let (affine, gradient) = (self.affine(), &self.gradient);
            norm_relu_gradient(gradient, &mut values, affine, &batch, &mut to_scale, &mut to_shift);
            [values, to_scale, to_shift]
        }
    }

    #[test]
    fn training_normalizes_by_the_batch() {
        for case in CASES {
            let setup = setup(case);
            let expected = expected(&setup);
            let n = case[1] as f64;
            let output: Vec<f64> = expected.line.iter().map(|value| value.max(0.0)).collect();
            let mean: Vec<f64> = expected.mean.iter().map(|mean| 0.9 + 0.1 * mean).collect();
            let unbiased =
                expected.variance.iter().map(|variance| variance * n / (n - 1.0).max(1.0));
            let variance: Vec<f64> = unbiased.map(|variance| 1.8 + 0.1 * variance).collect();
            for (found, _, running) in on_all_sets(|| setup.train()) {
                assert_close(&found, &output, &format!("{case:?}"));
                assert_close(&running[0], &mean, &format!("{case:?} running mean"));
                assert_close(&running[1], &variance, &format!("{case:?} running variance"));
            }
        }
    }

    #[test]
    fn inference_normalizes_by_running_statistics() {
        for case in CASES {
            let setup = setup(case);
            let expected = expected(&setup);
            let output: Vec<f64> = expected.line.iter().map(|value| value.max(0.0)).collect();
            let [mean, variance] = [&expected.mean, &expected.variance]
                .map(|v| v.iter().map(|&v| v as f32).collect::<Vec<_>>());
            let run = || {
                let mut values = setup.values.clone();
                norm_relu_inference(&mut values, setup.affine(), &mean, &variance);
                values
            };
            for found in on_all_sets(run) {
                // A single pixel is (value - mean) / sqrt(epsilon): rounding of the mean is seen.
                let tolerance = if case[1] == 1 { 1e-3 } else { 1e-5 };
                let error = crate::reference::relative_error(&found, &output);
                assert!(error < tolerance, "{case:?}: {error:.1e}");
            }
        }
    }

    #[test]
    fn gradient_is_that_of_the_definition() {
        for case in CASES.into_iter().filter(|case| case[1] > 1) {
            let setup = setup(case);
            let expected = expected(&setup);
            let (n_channels, n_pixels) = (case[0], case[1] as f64);
            let passed: Vec<f64> = (setup.gradient.iter().zip(&expected.line))
                .map(|(&gradient, &line)| if line > 0.0 { f64::from(gradient) } else { 0.0 })
                .collect();
            let [mut plain, mut weighted] = [vec![0.0; n_channels], vec![0.0; n_channels]];
            for (at, passed) in passed.iter().enumerate() {
                plain[at % n_channels] += passed;
                weighted[at % n_channels] += passed * expected.normal[at];
            }
            let values: Vec<f64> = (passed.iter().enumerate())
                .map(|(at, passed)| (at % n_channels, passed, expected.normal[at]))
                .map(|(c, passed, normal)| {
                    let inv_std = 1.0 / (expected.variance[c] + NORM_EPSILON).sqrt();
                    let centred = passed - plain[c] / n_pixels - normal * weighted[c] / n_pixels;
                    f64::from(setup.scale[c]) * inv_std * centred
                })
                .collect();
            let add_one = |sums: &[f64]| sums.iter().map(|sum| sum + 1.0).collect::<Vec<f64>>();
            for [found, to_scale, to_shift] in on_all_sets(|| setup.gradients()) {
                assert_close(&found, &values, &format!("{case:?}"));
                assert_close(&to_scale, &add_one(&weighted), &format!("{case:?} scale"));
                assert_close(&to_shift, &add_one(&plain), &format!("{case:?} shift"));
            }
        }
    }

    #[test]
    fn constant_channel_gives_its_shift() {
        let (values, scale, shift) = (vec![1000.0; 30], [2.0], [0.25]);
        let (mut output, mut mean, mut variance) = (vec![0.0; 30], [0.0], [1.0]);
        let affine = Affine { scale: &scale, shift: &shift };
        let running = RunningStatistics { mean: &mut mean, variance: &mut variance };
        norm_relu_training(&values, affine, running, &mut output);
        assert_eq!(output, vec![0.25; 30]);
    }
}
