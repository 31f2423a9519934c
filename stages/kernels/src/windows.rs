//! Pooling windows of two by two pixels and two by two by two, row by row and a vector of channels at a time.

use std::ops::Range;

use crate::{
    MaxPool, Volume,
    parallel::{for_each_task, part},
    simd::Lanes,
};

/// Values of one task, about.
const TASK_VALUES: usize = 64 * 1024;
/// Lines of pixels that a window has at most.
const MAX_LINES: usize = 4;

/// Windows of a pooling with four or eight pixels, of sides 1 and 2.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) volume: Volume,
    small: Volume,
    window: [usize; 3],
    pub(crate) n_channels: usize,
}

/// Some rows of windows of one case.
pub(crate) struct Place {
    /// Which task this is.
    pub(crate) index: usize,
    pub(crate) case: usize,
    pub(crate) rows: Range<usize>,
}

/// First values of the lines of pixels that a row of windows covers.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    starts: [usize; MAX_LINES],
    n_lines: usize,
    /// First value of the pooled row, unless the volume ends inside the windows.
    pooled: Option<usize>,
}

impl Windows {
    /// `None` for windows of other than four or eight pixels, and where there are no channels.
    pub(crate) fn new(volume: Volume, pool: MaxPool, n_channels: usize) -> Option<Self> {
        let MaxPool { window } = pool;
        let small = window.iter().all(|&side| side <= 2) && window.iter().product::<usize>() >= 4;
        let small_volume = || pool.output_volume(volume);
        (small && n_channels > 0).then(|| Self {
            volume,
            small: small_volume(),
            window,
            n_channels,
        })
    }

    /// Panics unless buffers have the lengths that the volumes ask for.
    pub(crate) fn check(&self, full: [usize; 2], pooled: usize) {
        let [volume, small] = [self.volume, self.small].map(|v| v.n_pixels() * self.n_channels);
        assert_eq!(full, [volume; 2], "values of full size");
        assert_eq!(pooled, small, "pooled values");
    }

    fn n_taps(&self) -> usize {
        self.window.iter().product()
    }

    /// Rows of windows along both axes of a case, cut ones included.
    fn rows(&self) -> [usize; 2] {
        let [slices, rows, _] = self.window;
        [self.volume.slices.div_ceil(slices), self.volume.rows.div_ceil(rows)]
    }

    /// Values of a line of pixels.
    fn line(&self) -> usize {
        self.volume.columns * self.n_channels
    }

    /// Row `row` of the windows of `case`.
    pub(crate) fn row(&self, case: usize, row: usize) -> Row {
        let [slices, rows, _] = self.window;
        let [z, y] = [row / self.rows()[1], row % self.rows()[1]];
        let (mut starts, mut n_lines) = ([0; MAX_LINES], 0);
        for tap in 0..slices * rows {
            let [slice, line] = [z * slices + tap / rows, y * rows + tap % rows];
            if slice < self.volume.slices && line < self.volume.rows {
                let image = case * self.volume.slices + slice;
                starts[n_lines] = (image * self.volume.rows + line) * self.line();
                n_lines += 1;
            }
        }
        let small = ((case * self.small.slices + z) * self.small.rows + y) * self.small.columns;
        let pooled = (n_lines == slices * rows).then_some(small * self.n_channels);
        Row { starts, n_lines, pooled }
    }

    /// Number of tasks that [`Windows::for_each`] makes of a case.
    pub(crate) fn tasks_per_case(&self) -> usize {
        let n_rows = self.rows().iter().product::<usize>();
        let values = self.volume.slices * self.volume.rows * self.line();
        values.div_ceil(TASK_VALUES).min(n_rows)
    }

    /// Calls `task` with all rows of windows.
    pub(crate) fn for_each(&self, task: impl Fn(Place) + Sync) {
        let (per_case, n_rows) = (self.tasks_per_case(), self.rows().iter().product());
        for_each_task(self.volume.batch * per_case, |index| {
            let case = index / per_case;
            let rows = part(n_rows, per_case, index % per_case);
            task(Place { index, case, rows });
        });
    }
}

/// What a pass does with whole windows and with single pixels, a vector of channels at a time.
pub(crate) trait RowPass {
    /// # Safety
    /// `taps` and `pooled` are places of `count` values in the buffers of full size and of the pooled one,
    /// `channel` is the first of their channels, and the machine has the instructions of `L`.
    unsafe fn window<L: Lanes, const TAPS: usize>(
        &mut self,
        taps: [usize; TAPS],
        pooled: usize,
        channel: usize,
        count: usize,
    );

    /// # Safety
    /// As for [`RowPass::window`]; the pixel at `at` is in no whole window.
    unsafe fn pixel<L: Lanes>(&mut self, at: usize, channel: usize, count: usize);
}

/// Runs `pass` over all windows of `row` and over its pixels in none.
///
/// # Safety
/// The buffers have the length that the windows ask for, and the machine has the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn run_row<L: Lanes, P: RowPass>(windows: Windows, row: Row, pass: &mut P) {
    // SAFETY: the caller's promise; the number of taps is that of the window.
    unsafe {
        match windows.n_taps() {
            4 => run_taps::<L, P, 4>(windows, row, pass),
            _ => run_taps::<L, P, 8>(windows, row, pass),
        }
    }
}

/// # Safety
/// As for [`run_row`], and `TAPS` is the number of pixels of a window.
#[inline(always)]
unsafe fn run_taps<L: Lanes, P: RowPass, const TAPS: usize>(
    windows: Windows,
    row: Row,
    pass: &mut P,
) {
    let (n, side) = (windows.n_channels, windows.window[2]);
    let n_whole = if row.pooled.is_some() { windows.small.columns } else { 0 };
    let small = row.pooled.unwrap_or(0);
    for column in 0..n_whole {
        let mut taps = [0; TAPS];
        for (tap, at) in taps.iter_mut().enumerate() {
            *at = row.starts[tap / side] + (column * side + tap % side) * n;
        }
        // Whole vectors of channels have a call of their own, where the count is known to be the width.
        let (to, rest) = (small + column * n, n % L::WIDTH);
        for channel in (0..n - rest).step_by(L::WIDTH) {
            let mut here = taps;
            here.iter_mut().for_each(|at| *at += channel);
            // SAFETY: windows lie inside the volume, and as many channels from `channel` inside a pixel.
            unsafe { pass.window::<L, TAPS>(here, to + channel, channel, L::WIDTH) };
        }
        if rest > 0 {
            let mut here = taps;
            here.iter_mut().for_each(|at| *at += n - rest);
            // SAFETY: as above.
            unsafe { pass.window::<L, TAPS>(here, to + n - rest, n - rest, rest) };
        }
    }
    for start in &row.starts[..row.n_lines] {
        for pixel in n_whole * side..windows.volume.columns {
            for channel in (0..n).step_by(L::WIDTH) {
                let count = (n - channel).min(L::WIDTH);
                // SAFETY: as above.
                unsafe { pass.pixel::<L>(start + pixel * n + channel, channel, count) };
            }
        }
    }
}
