//! Which values share statistics: one mechanism for batch, instance and group normalization.
//!
//! A part is a run of pixels whose channels have the same numbers: the whole batch, or one case. Passes over the
//! values see parts and channels only; what a group of channels shares is settled in between, on one number a
//! channel.

use std::ops::Range;

use super::{
    Affine, NORM_EPSILON, NormKind, NormStatistics,
    lanes::{Map, MapTask, Source, Sum, SumTask},
};
use crate::{
    Element, Isa,
    elementwise::Period,
    parallel::{Scratch, SharedMut, for_each_task},
};

/// Parts of a channels-last buffer.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) n_parts: usize,
    /// Values of each part.
    pub(super) len: usize,
    pub(super) n_channels: usize,
}

/// `COUNT` rows of numbers, repeated to the period, of each part.
pub(super) struct Table<const COUNT: usize>(Vec<f32>);

impl<const COUNT: usize> Table<COUNT> {
    /// Repeats rows of `[part, channel]`.
    pub(super) fn new(parts: Parts, rows: [&[f32]; COUNT]) -> Self {
        let (period, n_channels) = (parts.period(), parts.n_channels);
        let mut table = vec![0.0; parts.n_parts * COUNT * period.values];
        for (at, to) in table.chunks_exact_mut(period.values).enumerate() {
            let (part, row) = (at / COUNT, rows[at % COUNT]);
            period.repeat(&row[part * n_channels..][..n_channels], to);
        }
        Self(table)
    }

    /// The rows of `part`.
    pub(super) fn part(&self, part: usize, parts: Parts) -> &[f32] {
        let len = COUNT * parts.period().values;
        &self.0[part * len..][..len]
    }
}

/// Two sums over the pixels of each part, `[part, channel]`.
pub(super) type PartSums = [Vec<f64>; 2];

impl Parts {
    /// Parts of `n_values` in `n_parts`.
    ///
    /// # Panics
    /// When these are not whole pixels of `n_channels`.
    pub(super) fn new(n_values: usize, n_parts: usize, n_channels: usize) -> Self {
        assert!(n_channels > 0 && n_parts > 0, "{n_parts} parts of {n_channels} channels");
        assert!(
            n_values.is_multiple_of(n_parts * n_channels),
            "whole pixels of {n_channels} channels in each of {n_parts} parts: {n_values} values"
        );
        Self { n_parts, len: n_values / n_parts, n_channels }
    }

    pub(super) fn n_pixels(&self) -> usize {
        self.len / self.n_channels
    }

    pub(super) fn period(&self) -> Period {
        Period::new(self.n_channels)
    }

    /// Calls `task` with every task's part and its values there, in the buffer of all parts.
    fn for_each(&self, task: impl Fn(usize, Range<usize>) + Sync) {
        let period = self.period();
        let n_tasks = period.n_tasks(self.len);
        for_each_task(self.n_parts * n_tasks, |index| {
            let part = index / n_tasks;
            let range = period.task(self.len, index % n_tasks);
            task(part, part * self.len + range.start..part * self.len + range.end);
        });
    }

    /// Runs `map` over all values.
    ///
    /// # Safety
    /// The inputs have the length of `output`, `n_parts` times `len`; only those that are `output` are written
    /// meanwhile.
    pub(super) unsafe fn map<E, M, const INPUTS: usize, const COUNT: usize>(
        self,
        map: M,
        table: &Table<COUNT>,
        inputs: [Source<E>; INPUTS],
        output: SharedMut<E>,
    ) where
        E: Element,
        M: Map<INPUTS, COUNT>,
    {
        let isa = Isa::current();
        self.for_each(|part, range| {
            isa.run(MapTask { map, inputs, output, range, rows: table.part(part, self) });
        });
    }

    /// Sums of all values, in a fixed order.
    pub(super) fn sum<E, S, const INPUTS: usize, const COUNT: usize>(
        self,
        sum: S,
        table: &Table<COUNT>,
        inputs: [&[E]; INPUTS],
    ) -> PartSums
    where
        E: Element,
        S: Sum<INPUTS, COUNT>,
    {
        let (isa, period) = (Isa::current(), self.period());
        let inputs = inputs.map(Source::from);
        let n_tasks = period.n_tasks(self.len);
        let mut partial = vec![0.0; self.n_parts * n_tasks * 2 * self.n_channels];
        let shared = SharedMut::new(&mut partial);
        for_each_task(self.n_parts * n_tasks, |index| {
            let (part, task) = (index / n_tasks, period.task(self.len, index % n_tasks));
            let n_sums = 2 * self.n_channels;
            // SAFETY: tasks have sums of their own, and `partial` outlives them.
            let (plain, other) =
                unsafe { shared.slice(index * n_sums, n_sums) }.split_at_mut(self.n_channels);
            let rows = table.part(part, self);
            let mut sums = Scratch::<f32>::take(2 * period.values);
            for range in period.parts(task) {
                let range = part * self.len + range.start..part * self.len + range.end;
                isa.run(SumTask { sum, inputs, range, rows, sums: &mut sums });
                period.fold(&sums[..period.values], plain);
                period.fold(&sums[period.values..], other);
            }
        });
        self.gathered(&partial)
    }

    /// Sums of all tasks, `[task, 2, channel]`, in their order; every part has the same number of tasks.
    pub(super) fn gathered(&self, partial: &[f64]) -> PartSums {
        let n = self.n_channels;
        let n_tasks = partial.len() / (2 * n * self.n_parts);
        let mut sums = [vec![0.0; self.n_parts * n], vec![0.0; self.n_parts * n]];
        for (place, part) in partial.chunks_exact(n).enumerate() {
            let to = &mut sums[place % 2][place / 2 / n_tasks * n..][..n];
            to.iter_mut().zip(part).for_each(|(sum, &value)| *sum += value);
        }
        sums
    }
}

/// Mean and biased variance of each channel of each part, or of what shares them.
pub(super) struct Spread {
    pub(super) mean: Vec<f64>,
    pub(super) variance: Vec<f64>,
}

impl Spread {
    /// From sums of (value - base) and its square over `n_pixels`.
    pub(super) fn from_sums(sums: &PartSums, base: &[f32], n_pixels: usize) -> Self {
        let n_pixels = n_pixels as f64;
        let one = |at: usize| {
            let distance = sums[0][at] / n_pixels;
            let variance = (sums[1][at] / n_pixels - distance * distance).max(0.0);
            (f64::from(base[at]) + distance, variance)
        };
        let (mean, variance) = (0..base.len()).map(one).unzip();
        Self { mean, variance }
    }

    /// Gives all channels of each group the spread of the group.
    pub(super) fn over_groups(&self, per_group: usize) -> Self {
        let members = |at: usize| at / per_group * per_group..(at / per_group + 1) * per_group;
        let (mean, variance) = (0..self.mean.len()).map(|at| self.together(members(at))).unzip();
        Self { mean, variance }
    }

    /// Mean and variance of equally many values of each member.
    fn together(&self, members: impl ExactSizeIterator<Item = usize> + Clone) -> (f64, f64) {
        let n_members = members.len() as f64;
        let mean = members.clone().map(|at| self.mean[at]).sum::<f64>() / n_members;
        let within = |at: usize| self.variance[at] + (self.mean[at] - mean).powi(2);
        (mean, members.map(within).sum::<f64>() / n_members)
    }

    pub(super) fn statistics(&self) -> NormStatistics {
        NormStatistics {
            mean: self.mean.iter().map(|&mean| mean as f32).collect(),
            inv_std: self.variance.iter().map(|&variance| inv_std(variance)).collect(),
        }
    }
}

/// One over the deviation.
pub(super) fn inv_std(variance: f64) -> f32 {
    (1.0 / (variance + NORM_EPSILON).sqrt()) as f32
}

/// Numbers of the forward pass: mean, scale and shift of `scale * (value - mean) + shift`.
pub(super) fn line(parts: Parts, affine: Affine<'_>, statistics: &NormStatistics) -> [Vec<f32>; 3] {
    let scale = (statistics.inv_std.iter().zip(affine.scale.iter().cycle()))
        .map(|(inv_std, scale)| scale * inv_std)
        .collect();
    [statistics.mean.clone(), scale, affine.shift.repeat(parts.n_parts)]
}

/// Numbers of the backward pass, `to_value` and offset, from the sums; parameter gradients are added to `to_affine`.
pub(super) fn backward_numbers(
    kind: NormKind,
    parts: Parts,
    (affine, statistics): (Affine<'_>, &NormStatistics),
    sums: &PartSums,
    to_affine: [&mut [f32]; 2],
) -> [Vec<f32>; 2] {
    let n_channels = parts.n_channels;
    let per_group = kind.channels_per_group(n_channels);
    let n_values = (parts.n_pixels() * per_group) as f64;
    let [to_scale, to_shift] = to_affine;
    let [mut to_value, mut offset] =
        [vec![0.0; parts.n_parts * n_channels], vec![0.0; parts.n_parts * n_channels]];
    for channel in 0..n_channels {
        let of_all = || (0..parts.n_parts).map(|part| part * n_channels + channel);
        let plain = of_all().map(|at| sums[0][at]).sum::<f64>();
        let weighted = of_all().map(|at| sums[1][at] * f64::from(statistics.inv_std[at]));
        to_scale[channel] += weighted.sum::<f64>() as f32;
        to_shift[channel] += plain as f32;
    }
    for first in (0..parts.n_parts * n_channels).step_by(per_group) {
        // The deviation is the same in the whole group.
        let inv_std = f64::from(statistics.inv_std[first]);
        let group = first..first + per_group;
        let mut totals = [0.0, 0.0];
        let pairs = sums[0][group.clone()].iter().zip(&sums[1][group.clone()]);
        for (at, (plain, weighted)) in group.clone().zip(pairs) {
            let factor = f64::from(affine.scale[at % n_channels]) * inv_std / n_values;
            totals[0] -= factor * plain;
            totals[1] -= factor * weighted * inv_std * inv_std;
        }
        offset[group.clone()].fill(totals[0] as f32);
        to_value[group].fill(totals[1] as f32);
    }
    [to_value, offset]
}
