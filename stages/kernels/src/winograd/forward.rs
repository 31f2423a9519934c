//! Forward pass and input gradient: patches are transformed, multiplied position by position, transformed back.

use std::ops::Range;

use super::{
    N_POSITIONS, Patches, pitch, stride,
    transforms::{DataTransform, OutputTransform},
    weights::TransformedWeights,
};
use crate::{
    Isa,
    element::Numbers,
    parallel::{Scratch, SharedMut, for_each_task, part},
    spread::MIN_TASKS,
    tile::{Finish, MAX_ROWS, Segment, Tile},
};

/// Floats of the transformed patches of a task, at most: 1 MiB, half of a second-level cache.
const TASK_FLOATS: usize = 256 * 1024;
/// Patches of a task, at most.
const MAX_PATCHES: usize = 112;
/// Patches of a task, at least: two tiles of the widest set.
const MIN_PATCHES: usize = 28;

/// Where the channels of a panel go: a buffer `[pixel, channel]` and its first channel.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) floats: SharedMut,
    pub(crate) n_channels: usize,
    pub(crate) first_channel: usize,
    pub(crate) finish: Finish,
}

// SAFETY: `Finish` holds a pointer to bias values that are only read and that outlive the pass.
unsafe impl Sync for Place {}

/// Operands of one pass.
pub(super) struct Pass<'a> {
    pub(super) isa: Isa,
    pub(super) patches: Patches,
    pub(super) inputs: [&'a [f32]; 2],
    pub(super) channels: [usize; 2],
    pub(super) weights: &'a TransformedWeights,
    /// One for each panel of the weights.
    pub(super) places: &'a [Place],
}

/// Rows of a tile that lie one after the other.
pub(super) const FIRST_PLACES: [usize; MAX_ROWS] = {
    let mut places = [0; MAX_ROWS];
    let mut place = 0;
    while place < places.len() {
        places[place] = place;
        place += 1;
    }
    places
};

impl Pass<'_> {
    fn n_inputs(&self) -> usize {
        self.channels[0] + self.channels[1]
    }

    /// Runs all tasks.
    pub(super) fn run(&self) {
        let (len, n_panels) = (self.patches.len(), self.weights.panels.len());
        let of_patch = self.weights.n_taps * N_POSITIONS * pitch(self.n_inputs());
        let n_patches = (TASK_FLOATS / of_patch).clamp(MIN_PATCHES, MAX_PATCHES);
        let n_blocks = len.div_ceil(n_patches);
        let n_groups = MIN_TASKS.div_ceil(n_blocks).min(n_panels);
        let zeros = Scratch::<f32>::zeroed(self.n_inputs());
        let zeros: &[f32] = &zeros;
        for_each_task(n_blocks * n_groups, |task| {
            let block = part(len, n_blocks, task / n_groups);
            let panels = part(n_panels, n_groups, task % n_groups);
            self.run_block(&block, panels, zeros);
        });
    }

    fn run_block(&self, block: &Range<usize>, panels: Range<usize>, zeros: &[f32]) {
        let seen = self.transform(block, zeros);
        let lanes = self.weights.panels.iter().map(|panel| panel.tiles.lanes).max().unwrap_or(1);
        let mut products = Scratch::take(block.len() * stride(lanes));
        for panel in panels {
            self.multiply(panel, block.len(), &seen, &mut products);
            self.write(panel, block, &products);
        }
    }

    /// Transformed patches of the block, `[kernel slice, patch, position, channel]`.
    fn transform(&self, block: &Range<usize>, zeros: &[f32]) -> Scratch {
        let (isa, pitch) = (self.isa, pitch(self.n_inputs()));
        let stride = stride(pitch);
        // Tiles read past their last row.
        let mut seen = Scratch::take((self.weights.n_taps * block.len() + MAX_ROWS) * stride);
        for tap in 0..self.weights.n_taps {
            for (row, patch) in block.clone().enumerate() {
                let pixels = self.patches.inputs(patch, (tap, self.weights.n_taps));
                let mut first = 0;
                for (input, n_channels) in self.inputs.into_iter().zip(self.channels) {
                    let pixels = pixels.map(|pixel| match pixel {
                        Some(pixel) => input[pixel * n_channels..].as_ptr(),
                        None => zeros.as_ptr(),
                    });
                    let to = seen[(tap * block.len() + row) * stride + first..].as_mut_ptr();
                    isa.run(DataTransform { pixels: &pixels, n_channels, to, plane: pitch });
                    first += n_channels;
                }
            }
        }
        seen
    }

    /// Products of one panel, `[patch, position, lane]`.
    fn multiply(&self, panel: usize, n_patches: usize, seen: &[f32], products: &mut [f32]) {
        let panel = &self.weights.panels[panel];
        let (tiles, n_inputs) = (panel.tiles, self.n_inputs());
        let (pitch, n_taps) = (pitch(n_inputs), self.weights.n_taps);
        let [from_stride, to_stride] = [pitch, tiles.lanes].map(stride);
        let mut segments = Vec::with_capacity(n_taps);
        for position in 0..N_POSITIONS {
            let mut row = 0;
            while row < n_patches {
                let len = tiles.balanced(n_patches - row).min(n_patches - row);
                segments.clear();
                segments.extend((0..n_taps).map(|tap| {
                    let patch = tap * n_patches + row;
                    Segment {
                        left: seen[patch * from_stride + position * pitch..].as_ptr(),
                        panel: self.weights.matrix(panel, tap * N_POSITIONS + position).as_ptr(),
                    }
                }));
                let tile = Tile {
                    segments: &segments,
                    n_steps: n_inputs,
                    left_step: 1,
                    left_row: from_stride,
                    panel_step: tiles.lanes,
                    places: &FIRST_PLACES[..len],
                    output_row: to_stride,
                    output: Numbers::F32(
                        products[row * to_stride + position * tiles.lanes..].as_mut_ptr(),
                    ),
                    n_lanes: tiles.lanes,
                    finish: Finish::Replace,
                };
                // SAFETY: `seen` has room for `MAX_ROWS` patches past its end, a matrix holds all steps, and the
                // products hold `len` more patches.
                unsafe { tiles.run(&tile) };
                row += len;
            }
        }
    }

    /// Transforms the products back and writes the pixels of the block.
    fn write(&self, panel: usize, block: &Range<usize>, products: &[f32]) {
        let (isa, place) = (self.isa, self.places[panel]);
        let panel = &self.weights.panels[panel];
        let lanes = panel.tiles.lanes;
        let stride = stride(lanes);
        for (row, patch) in block.clone().enumerate() {
            let pixels = self.patches.outputs(patch).map(|pixel| match pixel {
                // SAFETY: the pixel lies in the buffer and the channel in the pixel.
                Some(pixel) => unsafe {
                    let start = pixel * place.n_channels + place.first_channel;
                    place.floats.pointer().add(start)
                },
                None => std::ptr::null_mut(),
            });
            // Pixels of this block and lanes of this panel are written by this task alone.
            isa.run(OutputTransform {
                from: products[row * stride..].as_ptr(),
                plane: lanes,
                n_lanes: panel.channels.len(),
                pixels: &pixels,
                finish: place.finish,
            });
        }
    }
}
