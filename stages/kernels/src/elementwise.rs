//! Passes over channels-last buffers with numbers of each channel, in lanes whatever the number of channels.
//!
//! Pixels are taken together until their channels fill whole vectors: the period is the least common multiple of
//! channels and lanes. Numbers of channels are repeated to the period, and sums over a period folded back.

use std::ops::Range;

use crate::parallel::for_each_task;

/// Greatest number of lanes of any instruction set.
const MAX_LANES: usize = 16;
/// Floats of one task, about.
const TASK_FLOATS: usize = 16 * 1024;

/// Repetition of channels that fills whole vectors of every instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Period {
    n_channels: usize,
    /// Floats of a period; a multiple of all numbers of lanes.
    pub(crate) floats: usize,
}

impl Period {
    /// The period of `n_channels > 0`.
    pub(crate) fn new(n_channels: usize) -> Self {
        let shared = 1 << n_channels.trailing_zeros().min(MAX_LANES.trailing_zeros());
        Self { n_channels, floats: n_channels * (MAX_LANES / shared) }
    }

    /// One number a channel, repeated to the period.
    pub(crate) fn repeat(self, numbers: &[f32]) -> Vec<f32> {
        debug_assert_eq!(numbers.len(), self.n_channels);
        numbers.repeat(self.floats / self.n_channels)
    }

    /// Sums a period's numbers of the same channel, in order.
    pub(crate) fn fold(self, period: &[f32], sums: &mut [f64]) {
        for (place, &value) in period.iter().enumerate() {
            sums[place % self.n_channels] += f64::from(value);
        }
    }

    /// Number of tasks for `len` floats.
    pub(crate) fn n_tasks(self, len: usize) -> usize {
        len.div_ceil(self.task_floats())
    }

    /// Floats of task `index`: whole periods, but for the last task.
    pub(crate) fn task(self, len: usize, index: usize) -> Range<usize> {
        let start = index * self.task_floats();
        start..(start + self.task_floats()).min(len)
    }

    /// Calls `task` with the ranges of all tasks.
    pub(crate) fn for_each(self, len: usize, task: impl Fn(Range<usize>) + Sync) {
        for_each_task(self.n_tasks(len), |index| task(self.task(len, index)));
    }

    fn task_floats(self) -> usize {
        (TASK_FLOATS / self.floats).max(1) * self.floats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_fills_vectors() {
        let floats = [1, 2, 3, 6, 8, 16, 24, 40, 512].map(|channels| Period::new(channels).floats);
        assert_eq!(floats, [16, 16, 48, 48, 16, 16, 48, 80, 512]);
    }

    #[test]
    fn fold_undoes_repeat() {
        let period = Period::new(3);
        let mut sums = vec![0.0; 3];
        period.fold(&period.repeat(&[1.0, 2.0, 3.0]), &mut sums);
        assert_eq!(sums, [16.0, 32.0, 48.0]);
    }

    #[test]
    fn tasks_cover_the_buffer() {
        let period = Period::new(24);
        let len = 3 * TASK_FLOATS + 7;
        let tasks: Vec<_> = (0..period.n_tasks(len)).map(|index| period.task(len, index)).collect();
        assert!(tasks.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((tasks[0].start, tasks[tasks.len() - 1].end), (0, len));
        assert!(tasks.iter().all(|task| task.start % period.floats == 0));
    }
}
