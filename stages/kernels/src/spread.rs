//! The pass behind a convolution and its input gradient: every output pixel gathers its neighbourhood.
//!
//! Work is split into bands of image rows and, where those are few, into groups of panels. A task copies its band
//! with borders into scratch memory, which also joins two inputs, and runs its tiles over the copy. The split
//! depends on the shapes alone.

use std::ops::Range;

use crate::{
    Element,
    element::Numbers,
    pack::PanelPlace,
    parallel::{for_each_task, part},
    tile::{Finish, SKIP, Segment, Tile},
    volume::{Halo, RowMap, Source, Volume},
};

/// Floats of a band's copy that a task aims at: 192 KiB, a part of any second-level cache.
const BAND_FLOATS: usize = 48 * 1024;
/// Tasks that a large pass is split into at least, for machines of up to this many cores.
pub(crate) const MIN_TASKS: usize = 16;
/// Multiplications worth a task of their own.
pub(crate) const TASK_PRODUCTS: usize = 1 << 20;

/// Where the channels of a panel are written.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Output buffer, `[pixel, channel]`.
    pub(crate) numbers: Numbers,
    /// Channels of the buffer.
    pub(crate) n_channels: usize,
    /// Channel of the buffer that is the panel's first.
    pub(crate) first_channel: usize,
    /// Added to or replaced.
    pub(crate) finish: Finish,
}

// SAFETY: `Finish` holds a pointer to bias values that are only read and that outlive the pass.
unsafe impl Sync for Target {}

/// Operands of one pass.
pub(crate) struct Spread<'a, E> {
    pub(crate) halo: Halo,
    pub(crate) inputs: [Source<'a, E>; 2],
    /// Rows of the targets.
    pub(crate) rows: RowMap,
    /// Packed weights; see [`crate::pack`].
    pub(crate) packed: &'a [f32],
    pub(crate) panels: &'a [PanelPlace],
    /// One for each panel.
    pub(crate) targets: &'a [Target],
}

/// Bands of image rows, and groups of panels.
pub(crate) fn plan(
    volume: Volume,
    line_floats: usize,
    n_panels: usize,
    products: usize,
) -> [usize; 2] {
    /// Rows below which copying borders costs too much.
    const FEW_ROWS: usize = 8;
    let n_rows = volume.image_rows();
    let for_cache = n_rows.div_ceil((BAND_FLOATS / line_floats.max(1)).max(1));
    let wanted = (products / TASK_PRODUCTS).clamp(1, MIN_TASKS);
    let n_bands = for_cache.max(wanted.min(n_rows.div_ceil(FEW_ROWS)));
    let n_groups = if n_bands < wanted { wanted.div_ceil(n_bands).min(n_panels) } else { 1 };
    [n_bands, n_groups]
}

impl<E: Element> Spread<'_, E> {
    /// Floats of the sum for one kernel row.
    fn depth(&self) -> usize {
        self.halo.kernel[2] * self.halo.n_channels()
    }

    /// Runs all tasks.
    pub(crate) fn run(&self) {
        let Halo { volume, kernel, .. } = self.halo;
        let n_outputs: usize = self.panels.iter().map(|panel| panel.channels.len()).sum();
        let tap_rows = kernel[0] * kernel[1];
        let products = volume.n_pixels() * n_outputs * tap_rows * self.depth();
        if products == 0 {
            return;
        }
        let line_floats = self.halo.line() * kernel[0];
        let [n_bands, n_groups] = plan(volume, line_floats, self.panels.len(), products);
        for_each_task(n_bands * n_groups, |task| {
            let band = part(volume.image_rows(), n_bands, task / n_groups);
            self.run_band(&band, part(self.panels.len(), n_groups, task % n_groups));
        });
    }

    fn run_band(&self, band: &Range<usize>, panels: Range<usize>) {
        let places = self.halo.places(self.rows, band);
        let left = self.halo.view(self.inputs, band);
        let copy_len = self.halo.copy_len(band);
        let mut segments = Vec::with_capacity(self.halo.kernel[0] * self.halo.kernel[1]);
        for index in panels {
            self.run_panel(index, &left, copy_len, &places, &mut segments);
        }
    }

    fn run_panel(
        &self,
        index: usize,
        left: &[f32],
        copy_len: usize,
        places: &[usize],
        segments: &mut Vec<Segment>,
    ) {
        let (panel, target) = (&self.panels[index], self.targets[index]);
        let (tiles, n_channels) = (panel.tiles, self.halo.n_channels());
        let n_steps = self.depth().div_ceil(tiles.group);
        let panel_row = n_steps * tiles.panel_floats();
        let [tap_slices, tap_rows, _] = self.halo.kernel;
        let packed = &self.packed[panel.start..panel.start + tap_slices * tap_rows * panel_row];
        let mut position = 0;
        while position < places.len() {
            if places[position] == SKIP {
                position += 1;
                continue;
            }
            let len = tiles.balanced(places.len() - position).min(places.len() - position);
            let mut tile_places = &places[position..position + len];
            while let [rest @ .., SKIP] = tile_places {
                tile_places = rest;
            }
            segments.clear();
            for tap in 0..tap_slices * tap_rows {
                let line = tap / tap_rows * copy_len + tap % tap_rows * self.halo.line();
                segments.push(Segment {
                    left: left[line + position * n_channels..].as_ptr(),
                    panel: packed[tap * panel_row..].as_ptr(),
                });
            }
            let tile = Tile {
                segments,
                n_steps,
                left_step: 1,
                left_row: n_channels,
                panel_step: tiles.panel_floats(),
                places: tile_places,
                output_row: target.n_channels,
                // SAFETY: the first channel lies in the target's first pixel.
                output: unsafe { target.numbers.add(target.first_channel) },
                n_lanes: panel.channels.len(),
                finish: target.finish,
            };
            // SAFETY: a copy holds all lines of the band and slack for `MAX_ROWS` more pixels, and a direct band
            // ends that far before its input does; a packed panel holds `n_steps` for each kernel row. Places are
            // pixels of this task's band and lanes are channels of its panel, so no other task writes them.
            unsafe { tiles.run(&tile) };
            position += tile_places.len();
        }
    }
}
