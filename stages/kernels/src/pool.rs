//! Max pooling whose window equals its stride.
//!
//! The gradient goes to the first maximum of each window in the order slice, row, column, as in PyTorch. Which one
//! it was is found again by comparing the inputs with the output, so no index is kept.

use crate::{
    Isa, Volume, Write,
    parallel::{SharedMut, for_each_task, part},
    simd::{LaneTask, Lanes},
};

/// A max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Window and stride as `[slice, row, column]`; 1 in the slice axis in 2-D.
    pub window: [usize; 3],
}

impl MaxPool {
    /// Halves rows and columns.
    pub fn flat() -> Self {
        Self { window: [1, 2, 2] }
    }

    /// Axes of the output; what does not fill a window at the end of an axis is left out.
    pub fn output_volume(&self, volume: Volume) -> Volume {
        let [slices, rows, columns] = self.window;
        Volume {
            batch: volume.batch,
            slices: volume.slices / slices,
            rows: volume.rows / rows,
            columns: volume.columns / columns,
        }
    }

    /// Computes `output`, `[pixel, channel]`, from `input` of axes `volume`; NaN in a window may be lost.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and `n_channels` ask for.
    pub fn forward(&self, volume: Volume, n_channels: usize, input: &[f32], output: &mut [f32]) {
        let rows = self.rows(volume, n_channels, input.len(), output.len());
        let (isa, shared) = (Isa::current(), SharedMut::new(output));
        rows.for_each(|row| {
            // SAFETY: output rows are of one task each, and `output` outlives them.
            let output = unsafe { shared.slice(row * rows.output_len(), rows.output_len()) };
            isa.run(Forward { rows: &rows, input, row, output });
        });
    }

    /// Computes the gradient of the input, given that of the output and what the forward pass saw and gave.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and `n_channels` ask for.
    pub fn input_gradient(
        &self,
        volume: Volume,
        n_channels: usize,
        passed: Pooled<'_>,
        input_gradient: &mut [f32],
        write: Write,
    ) {
        let Pooled { input, output, output_gradient } = passed;
        let rows = self.rows(volume, n_channels, input.len(), output.len());
        assert_eq!(output_gradient.len(), output.len(), "floats of the output gradient");
        assert_eq!(input_gradient.len(), input.len(), "floats of the input gradient");
        if write == Write::Replace {
            input_gradient.fill(0.0);
        }
        let (isa, shared) = (Isa::current(), SharedMut::new(input_gradient));
        rows.for_each(|row| {
            let range = row * rows.output_len()..(row + 1) * rows.output_len();
            let (output, gradient) = (&output[range.clone()], &output_gradient[range]);
            isa.run(Backward { rows: &rows, input, row, output, gradient, to: shared });
        });
    }

    fn rows(&self, volume: Volume, n_channels: usize, input: usize, output: usize) -> Rows {
        let small = self.output_volume(volume);
        assert_eq!(input, volume.n_pixels() * n_channels, "floats of the input");
        assert_eq!(output, small.n_pixels() * n_channels, "floats of the output");
        Rows { window: self.window, volume, small, n_channels }
    }
}

/// What a forward pass saw and gave, and the gradient of the latter.
#[derive(Clone, Copy, Debug)]
pub struct Pooled<'a> {
    /// Input of the forward pass.
    pub input: &'a [f32],
    /// Its output.
    pub output: &'a [f32],
    /// Gradient of the output.
    pub output_gradient: &'a [f32],
}

/// Output rows and the inputs of their windows.
struct Rows {
    window: [usize; 3],
    volume: Volume,
    small: Volume,
    n_channels: usize,
}

impl Rows {
    /// Floats of an output row.
    fn output_len(&self) -> usize {
        self.small.columns * self.n_channels
    }

    /// Calls `task` with all output rows.
    fn for_each(&self, task: impl Fn(usize) + Sync) {
        const TASK_FLOATS: usize = 8 * 1024;
        if self.output_len() == 0 {
            return;
        }
        let n_rows = self.small.image_rows();
        let n_tasks = (n_rows * self.output_len()).div_ceil(TASK_FLOATS).min(n_rows);
        for_each_task(n_tasks, |index| part(n_rows, n_tasks, index).for_each(&task));
    }

    /// First floats of the window at output row `row` and column `column`, in order.
    #[inline(always)]
    fn taps(&self, row: usize, column: usize) -> impl Iterator<Item = usize> {
        let [slices, rows, columns] = self.window;
        let (image, y) = (row / self.small.rows, row % self.small.rows);
        let (batch, z) = (image / self.small.slices, image % self.small.slices);
        let volume = self.volume;
        let n_channels = self.n_channels;
        (0..slices * rows * columns).map(move |tap| {
            let slice = batch * volume.slices + z * slices + tap / columns / rows;
            let row = slice * volume.rows + y * rows + tap / columns % rows;
            (row * volume.columns + column * columns + tap % columns) * n_channels
        })
    }
}

/// One output row.
struct Forward<'a> {
    rows: &'a Rows,
    input: &'a [f32],
    row: usize,
    output: &'a mut [f32],
}

impl LaneTask for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n_channels = self.rows.n_channels;
        for (column, output) in self.output.chunks_exact_mut(n_channels).enumerate() {
            for channel in (0..n_channels).step_by(L::WIDTH) {
                let count = (n_channels - channel).min(L::WIDTH);
                let mut best: Option<L> = None;
                // SAFETY: windows lie inside the input, and `count` channels from `channel` inside a pixel.
                unsafe {
                    for tap in self.rows.taps(self.row, column) {
                        let from = self.input.as_ptr().add(tap + channel);
                        let value = if count == L::WIDTH {
                            L::load(from)
                        } else {
                            L::load_first(from, count)
                        };
                        best = Some(best.map_or(value, |best| best.max(value)));
                    }
                    if let Some(best) = best {
                        best.store_first(output.as_mut_ptr().add(channel), count);
                    }
                }
            }
        }
    }
}

/// The windows of one output row.
struct Backward<'a> {
    rows: &'a Rows,
    input: &'a [f32],
    row: usize,
    output: &'a [f32],
    gradient: &'a [f32],
    to: SharedMut,
}

impl LaneTask for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n_channels = self.rows.n_channels;
        for column in 0..self.rows.small.columns {
            for channel in (0..n_channels).step_by(L::WIDTH) {
                let (at, count) =
                    (column * n_channels + channel, (n_channels - channel).min(L::WIDTH));
                // SAFETY: windows lie inside the input and its gradient and do not overlap, and every output row
                // is of one task; `count` channels from `channel` lie inside a pixel.
                unsafe {
                    let load = |from: *const f32| {
                        if count == L::WIDTH { L::load(from) } else { L::load_first(from, count) }
                    };
                    let best = load(self.output.as_ptr().add(at));
                    // What is left of the gradient; the first maximum takes all of it.
                    let mut left = load(self.gradient.as_ptr().add(at));
                    for tap in self.rows.taps(self.row, column) {
                        let to = self.to.pointer().add(tap + channel);
                        let value = load(self.input.as_ptr().add(tap + channel));
                        let taken = left.where_equal(value, best);
                        load(to).add(taken).store_first(to, count);
                        left = left.sub(taken);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, on_all_sets};

    #[test]
    fn first_maximum_takes_the_gradient() {
        let volume = Volume::flat(1, 2, 5);
        // The second window is all equal; the last column fills no window.
        let input = [1., 5., 7., 7., 9., 2., 5., 7., 7., 9.];
        let (mut output, mut to_input) = ([0.0; 2], [1.0; 10]);
        MaxPool::flat().forward(volume, 1, &input, &mut output);
        assert_eq!(output, [5., 7.]);
        let passed = Pooled { input: &input, output: &output, output_gradient: &[3., 4.] };
        MaxPool::flat().input_gradient(volume, 1, passed, &mut to_input, Write::Replace);
        assert_eq!(to_input, [0., 3., 4., 0., 0., 0., 0., 0., 0., 0.]);
        MaxPool::flat().input_gradient(volume, 1, passed, &mut to_input, Write::Add);
        assert_eq!(to_input, [0., 6., 8., 0., 0., 0., 0., 0., 0., 0.]);
    }

    #[test]
    fn all_sets_agree_with_plain_loops() {
        for (window, n_channels, [batch, slices, rows, columns]) in [
            ([1, 2, 2], 16, [2, 1, 9, 8]),
            ([1, 2, 2], 5, [3, 1, 4, 6]),
            ([2, 2, 2], 20, [2, 4, 5, 6]),
            ([1, 2, 1], 33, [1, 2, 6, 3]),
            ([1, 2, 2], 64, [2, 1, 40, 30]),
        ] {
            let (pool, volume) = (MaxPool { window }, Volume { batch, slices, rows, columns });
            // Few different values, so that ties are common.
            let input: Vec<f32> = numbers(volume.n_pixels() * n_channels, 1)
                .iter()
                .map(|v| (v * 5.0).round())
                .collect();
            let all = Rows { window, volume, small: pool.output_volume(volume), n_channels };
            let len = all.small.n_pixels() * n_channels;
            let gradient = numbers(len, 2);
            let (mut expected, mut to_input) = (vec![0.0; len], vec![0.0; input.len()]);
            for at in 0..len {
                let (pixel, channel) = (at / n_channels, at % n_channels);
                let taps = all.taps(pixel / all.small.columns, pixel % all.small.columns);
                let mut best = (f32::NEG_INFINITY, 0);
                for tap in taps {
                    if input[tap + channel] > best.0 {
                        best = (input[tap + channel], tap + channel);
                    }
                }
                expected[at] = best.0;
                to_input[best.1] += gradient[at];
            }
            let run = || {
                let (mut output, mut found) = (vec![f32::NAN; len], vec![f32::NAN; input.len()]);
                pool.forward(volume, n_channels, &input, &mut output);
                let passed = Pooled { input: &input, output: &output, output_gradient: &gradient };
                pool.input_gradient(volume, n_channels, passed, &mut found, Write::Replace);
                (output, found)
            };
            for found in on_all_sets(run) {
                assert_eq!(found, (expected.clone(), to_input.clone()), "{window:?}");
            }
        }
    }
}
