//! Batch, instance and group normalization fused with the activation after it, as in PyTorch.
//!
//! A training pass reads the values once for their statistics ([`Norm::statistics`]) and once to write the activation
//! ([`Norm::apply`]). The backward pass reads gradient and values for two sums a channel, and again to write the
//! gradient of the values. Sums are taken in f32 over a few thousand values, relative to a value of the channel, and
//! then in f64 in a fixed order, so a large mean costs no accuracy.

mod activation;
mod groups;
mod lanes;
mod pooled;
#[cfg(test)]
mod tests;

use crate::{Element, parallel::SharedMut};
pub use activation::Activation;
use activation::with_act;
use groups::{Parts, Spread, Table};
pub use pooled::{PooledGradient, Pooling};

/// Added to the variance; PyTorch's default.
pub const NORM_EPSILON: f64 = 1e-5;
/// Weight of the new batch in the running statistics; PyTorch's default.
pub const NORM_MOMENTUM: f64 = 0.1;

/// A normalization and the activation after it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norm {
    /// Which values share statistics.
    pub kind: NormKind,
    /// What follows.
    pub activation: Activation,
}

/// Which values share mean and variance; always all pixels, the variance is the biased one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormKind {
    /// A channel of all cases.
    #[default]
    Batch,
    /// A channel of a case.
    Instance,
    /// Neighbouring channels of a case.
    Group {
        /// Number of groups; it divides the number of channels.
        groups: usize,
    },
}

impl NormKind {
    /// Number of neighbouring channels that share statistics.
    fn channels_per_group(self, n_channels: usize) -> usize {
        match self {
            NormKind::Batch | NormKind::Instance => 1,
            NormKind::Group { groups } => {
                let fits = groups > 0 && n_channels.is_multiple_of(groups);
                assert!(fits, "{groups} groups of {n_channels} channels");
                n_channels / groups
            }
        }
    }
}

/// Learned scale and shift, one a channel (gamma and beta).
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factor of the normalized value.
    pub scale: &'a [f32],
    /// Added to it.
    pub shift: &'a [f32],
}

/// Gradients of an [`Affine`]; a backward pass adds to them.
#[derive(Debug)]
pub struct AffineGradient<'a> {
    /// Of the scale.
    pub scale: &'a mut [f32],
    /// Of the shift.
    pub shift: &'a mut [f32],
}

/// Statistics that a pass normalizes by: one number a channel for batch normalization, else `[case, channel]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormStatistics {
    /// Mean of each channel, or of its group.
    pub mean: Vec<f32>,
    /// One over the root of the biased variance plus [`NORM_EPSILON`].
    pub inv_std: Vec<f32>,
}

impl NormStatistics {
    /// Statistics for inference with batch normalization: running mean and variance.
    pub fn of_running(mean: &[f32], variance: &[f32]) -> Self {
        let inv_std = variance.iter().map(|&variance| groups::inv_std(f64::from(variance)));
        Self { mean: mean.to_vec(), inv_std: inv_std.collect() }
    }
}

/// Running statistics of batch normalization, one number a channel.
#[derive(Debug)]
pub struct RunningStatistics<'a> {
    /// Running mean.
    pub mean: &'a mut [f32],
    /// Running unbiased variance.
    pub variance: &'a mut [f32],
}

impl RunningStatistics<'_> {
    fn update(self, spread: &Spread, n_values: usize) {
        let n_values = n_values as f64;
        let lens = (self.mean.len(), self.variance.len());
        assert_eq!(lens, (spread.mean.len(), spread.mean.len()), "one running number a channel");
        let blend = |old: &mut f32, new: f64| {
            *old = ((1.0 - NORM_MOMENTUM) * f64::from(*old) + NORM_MOMENTUM * new) as f32;
        };
        for (channel, mean) in self.mean.iter_mut().enumerate() {
            blend(mean, spread.mean[channel]);
        }
        for (channel, variance) in self.variance.iter_mut().enumerate() {
            blend(variance, spread.variance[channel] * n_values / (n_values - 1.0).max(1.0));
        }
    }
}

impl Norm {
    /// Statistics of `values`, `[case, pixel, channel]`, in one reading pass.
    ///
    /// Batch normalization also moves the statistics in `running`, if there are any. A channel of one value has no
    /// unbiased variance; its running variance then takes the biased one (PyTorch refuses such a batch).
    ///
    /// # Panics
    /// When `values` is not whole pixels of all cases, the groups do not divide the channels, or `running` is given
    /// to another kind than batch normalization.
    pub fn statistics<E: Element>(
        &self,
        values: &[E],
        n_cases: usize,
        n_channels: usize,
        running: Option<RunningStatistics<'_>>,
    ) -> NormStatistics {
        let n_parts = if self.kind == NormKind::Batch { 1 } else { n_cases };
        let parts = Parts::new(values.len(), n_parts, n_channels);
        let base = first_pixels(values, parts);
        let table = Table::new(parts, [&base]);
        let sums = parts.sum(lanes::Moments, &table, [values]);
        let spread = Spread::from_sums(&sums, &base, parts.n_pixels());
        let per_group = self.kind.channels_per_group(parts.n_channels);
        if let Some(running) = running {
            assert!(self.kind == NormKind::Batch, "{:?} has running statistics", self.kind);
            running.update(&spread, parts.n_pixels());
        }
        if per_group > 1 { spread.over_groups(per_group).statistics() } else { spread.statistics() }
    }

    /// Writes the activation of the normalized `values`, `[case, pixel, channel]`, to `output`.
    ///
    /// # Panics
    /// When buffers do not fit each other.
    pub fn apply<E: Element>(
        &self,
        values: &[E],
        affine: Affine<'_>,
        statistics: &NormStatistics,
        output: &mut [E],
    ) {
        assert_eq!(values.len(), output.len(), "values of the output");
        let parts = parts_of(values.len(), affine, statistics);
        // SAFETY: both buffers have the parts' length, and `output` is borrowed by itself.
        unsafe {
            self.run(parts, affine, statistics, values.into(), SharedMut::new(output));
        }
    }

    /// Replaces `values` by the activation of the normalized ones; see [`Norm::apply`].
    ///
    /// # Panics
    /// When buffers do not fit each other.
    pub fn apply_in_place<E: Element>(
        &self,
        values: &mut [E],
        affine: Affine<'_>,
        statistics: &NormStatistics,
    ) {
        let parts = parts_of(values.len(), affine, statistics);
        let values = SharedMut::new(values);
        // SAFETY: the buffer has the parts' length and is borrowed mutably.
        unsafe { self.run(parts, affine, statistics, values.into(), values) }
    }

    /// # Safety
    /// As [`Parts::map`].
    unsafe fn run<E: Element>(
        &self,
        parts: Parts,
        affine: Affine<'_>,
        statistics: &NormStatistics,
        values: lanes::Source<E>,
        output: SharedMut<E>,
    ) {
        let numbers = groups::line(parts, affine, statistics);
        let table = Table::new(parts, numbers.each_ref().map(Vec::as_slice));
        // SAFETY: the caller's promise.
        with_act!(self.activation, |act| unsafe {
            parts.map(lanes::Forward(act), &table, [values], output);
        });
    }

    /// Replaces `values`, the input of a training pass, by the gradient of the loss with respect to them.
    ///
    /// `gradient` is that of the pass's output; the gradients of scale and shift are added to `to_affine`.
    ///
    /// # Panics
    /// When buffers do not fit each other.
    pub fn gradient<E: Element>(
        &self,
        gradient: &[E],
        values: &mut [E],
        (affine, statistics): (Affine<'_>, &NormStatistics),
        to_affine: AffineGradient<'_>,
    ) {
        assert_eq!(gradient.len(), values.len(), "values of the gradient");
        let parts = parts_of(values.len(), affine, statistics);
        let line = groups::line(parts, affine, statistics);
        let [mean, scale, shift] = line.each_ref().map(Vec::as_slice);
        let table = Table::new(parts, [mean, scale, shift]);
        let sums = with_act!(self.activation, |act| {
            parts.sum(lanes::BackwardSums(act), &table, [gradient, values])
        });
        let pair = (affine, statistics);
        let [to_value, offset] = self.backward_numbers(parts, pair, &sums, to_affine);
        let table = Table::new(parts, [mean, scale, shift, &to_value, &offset]);
        let values = SharedMut::new(values);
        let inputs = [gradient.into(), values.into()];
        // SAFETY: both buffers have the parts' length; `values` is borrowed mutably.
        with_act!(self.activation, |act| unsafe {
            parts.map(lanes::Backward(act), &table, inputs, values);
        });
    }

    fn backward_numbers(
        &self,
        parts: Parts,
        pair: (Affine<'_>, &NormStatistics),
        sums: &groups::PartSums,
        to_affine: AffineGradient<'_>,
    ) -> [Vec<f32>; 2] {
        let to_affine = [to_affine.scale, to_affine.shift];
        let n_channels = parts.n_channels;
        assert!(to_affine.iter().all(|to| to.len() == n_channels), "{n_channels} gradients");
        groups::backward_numbers(self.kind, parts, pair, sums, to_affine)
    }
}

/// Parts of `n_values` that `statistics` are of.
fn parts_of(n_values: usize, affine: Affine<'_>, statistics: &NormStatistics) -> Parts {
    let (n_channels, n_means) = (affine.scale.len(), statistics.mean.len());
    assert_eq!(affine.shift.len(), n_channels, "shifts");
    assert_eq!(statistics.inv_std.len(), n_means, "inverse deviations");
    assert!(n_channels > 0 && n_means.is_multiple_of(n_channels), "{n_means} means");
    Parts::new(n_values, n_means / n_channels, n_channels)
}

/// First value of each channel of each part; zeros for no pixels at all.
fn first_pixels<E: Element>(values: &[E], parts: Parts) -> Vec<f32> {
    let first = |at: usize| {
        let (part, channel) = (at / parts.n_channels, at % parts.n_channels);
        values.get(part * parts.len + channel).map_or(0.0, |value| value.widen())
    };
    (0..parts.n_parts * parts.n_channels).map(first).collect()
}

/// Sum of each channel over all pixels.
pub(crate) fn channel_sums<E: Element>(values: &[E], n_channels: usize) -> Vec<f64> {
    let parts = Parts::new(values.len(), 1, n_channels);
    let table = Table::new(parts, [&vec![0.0; n_channels]]);
    let [plain, _] = parts.sum(lanes::Moments, &table, [values]);
    plain
}

/// Statistics of a batch; the name of [`NormStatistics`] where there is no other kind.
pub type BatchStatistics = NormStatistics;

const NORM_RELU: Norm = Norm { kind: NormKind::Batch, activation: Activation::Relu };

/// Batch normalization and ReLU in training: [`Norm::statistics`] and [`Norm::apply`] in one call.
///
/// # Panics
/// When buffers do not fit each other.
pub fn norm_relu_training<E: Element>(
    values: &[E],
    affine: Affine<'_>,
    running: RunningStatistics<'_>,
    output: &mut [E],
) -> BatchStatistics {
    let statistics = NORM_RELU.statistics(values, 1, affine.scale.len(), Some(running));
    NORM_RELU.apply(values, affine, &statistics, output);
    statistics
}

/// Batch normalization and ReLU in inference, in place: [`Norm::apply_in_place`] with running statistics.
///
/// # Panics
/// When buffers do not fit each other.
pub fn norm_relu_inference<E: Element>(
    values: &mut [E],
    affine: Affine<'_>,
    mean: &[f32],
    variance: &[f32],
) {
    NORM_RELU.apply_in_place(values, affine, &NormStatistics::of_running(mean, variance));
}

/// Gradient of batch normalization and ReLU: [`Norm::gradient`].
///
/// # Panics
/// When buffers do not fit each other.
pub fn norm_relu_gradient<E: Element>(
    gradient: &[E],
    values: &mut [E],
    affine: Affine<'_>,
    batch: &BatchStatistics,
    to_scale: &mut [f32],
    to_shift: &mut [f32],
) {
    let to_affine = AffineGradient { scale: to_scale, shift: to_shift };
    NORM_RELU.gradient(gradient, values, (affine, batch), to_affine);
}
