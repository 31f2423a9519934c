//! Passes over channels-last buffers with numbers of each channel, in lanes whatever the number of channels.
//!
//! Pixels are taken together until their channels fill whole blocks of vectors: the period is the least common
//! multiple of channels and block. Numbers of channels are repeated to the period, and sums over a period folded
//! back.

use std::ops::Range;

/// Values of a block: four vectors of the widest instruction set.
const BLOCK: usize = 64;
/// Values of one task, about; that many f32 numbers are 256 KiB.
const TASK_VALUES: usize = 64 * 1024;
/// Values whose f32 sums are folded into f64, about.
const FOLD_VALUES: usize = 16 * 1024;

/// Repetition of channels that fills whole blocks of vectors of every instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Period {
    n_channels: usize,
    /// Values of a period; a multiple of the block.
    pub(crate) values: usize,
}

impl Period {
    /// The period of `n_channels > 0`.
    pub(crate) fn new(n_channels: usize) -> Self {
        let shared = 1 << n_channels.trailing_zeros().min(BLOCK.trailing_zeros());
        Self { n_channels, values: n_channels * (BLOCK / shared) }
    }

    /// Writes one number a channel, again and again, to `to`, a period.
    pub(crate) fn repeat(self, numbers: &[f32], to: &mut [f32]) {
        debug_assert_eq!((numbers.len(), to.len()), (self.n_channels, self.values));
        to.chunks_exact_mut(self.n_channels).for_each(|pixel| pixel.copy_from_slice(numbers));
    }

    /// Adds a period's numbers to the sums of their channels, in order.
    pub(crate) fn fold(self, period: &[f32], sums: &mut [f64]) {
        for pixel in period.chunks_exact(self.n_channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }

    /// Number of tasks for `len` values.
    pub(crate) fn n_tasks(self, len: usize) -> usize {
        len.div_ceil(self.whole(TASK_VALUES))
    }

    /// Values of task `index`: whole periods, but for the last task.
    pub(crate) fn task(self, len: usize, index: usize) -> Range<usize> {
        let start = index * self.whole(TASK_VALUES);
        start..(start + self.whole(TASK_VALUES)).min(len)
    }

    /// Parts of `range` whose sums stay in f32: whole periods, but for the last part.
    pub(crate) fn parts(self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (len, end) = (self.whole(FOLD_VALUES), range.end);
        range.step_by(len).map(move |start| start..(start + len).min(end))
    }

    /// About `values` in whole periods, at least one.
    fn whole(self, values: usize) -> usize {
        (values / self.values).max(1) * self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_fills_blocks() {
        let values = [1, 2, 3, 6, 8, 16, 24, 40, 512].map(|channels| Period::new(channels).values);
        assert_eq!(values, [64, 64, 192, 192, 64, 64, 192, 320, 512]);
    }

    #[test]
    fn fold_undoes_repeat() {
        let period = Period::new(3);
        let (mut sums, mut repeated) = (vec![0.0; 3], vec![0.0; period.values]);
        period.repeat(&[1.0, 2.0, 3.0], &mut repeated);
        period.fold(&repeated, &mut sums);
        assert_eq!(sums, [64.0, 128.0, 192.0]);
    }

    #[test]
    fn tasks_and_their_parts_cover_the_buffer() {
        let period = Period::new(24);
        let len = 3 * TASK_VALUES + 7;
        let tasks: Vec<_> = (0..period.n_tasks(len)).map(|index| period.task(len, index)).collect();
        let parts: Vec<_> = tasks.iter().flat_map(|task| period.parts(task.clone())).collect();
        for ranges in [tasks, parts] {
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, len));
            assert!(ranges.iter().all(|range| range.start % period.values == 0));
        }
    }
}
