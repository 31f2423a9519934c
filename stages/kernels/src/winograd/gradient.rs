//! Weight gradient: products of transformed patches are summed over all patches and transformed back once.

use std::ops::Range;

use super::{
    N_POSITIONS, Patches,
    forward::FIRST_PLACES,
    pitch,
    transforms::{DataRow, GradientRow, WeightGradientTransform},
    weights::N_TAPS,
};
use crate::{
    Conv, Isa,
    element::Numbers,
    parallel::{Scratch, SharedMut, for_each_task, part},
    tile::{Finish, Segment, Tile, Tiles, channel_tiles, panels},
};

/// Floats of the transformed patches of a block, about: 768 KiB, a part of a second-level cache.
const BLOCK_FLOATS: usize = 192 * 1024;
/// Patches of a block at least, and of a chunk.
const MIN_PATCHES: usize = 32;
/// Patches of a block, at most.
const MAX_PATCHES: usize = 256;
/// Floats of all partial sums together, at most (unless one copy is larger).
const PARTIAL_FLOATS: usize = 4 * 1024 * 1024;
/// Chunks, at most; each is four tasks.
const MAX_CHUNKS: usize = 4;
/// Rows of a transformed patch, each with four positions: tasks of their own.
const N_ROWS: usize = 4;
/// Positions of a row.
const PER_ROW: usize = N_POSITIONS / N_ROWS;
/// Floats past the end of a buffer that a tile may read: lanes of a panel or rows of a tile.
const OVERRUN: usize = 32;

/// Operands of one pass.
pub(super) struct GradientPass<'a> {
    pub(super) isa: Isa,
    pub(super) patches: Patches,
    pub(super) inputs: [&'a [f32]; 2],
    pub(super) conv: &'a Conv,
    pub(super) gradient: &'a [f32],
}

/// Transformed patches of a block.
struct Block {
    n_patches: usize,
    /// `[kernel slice, position of the row, patch, in channel]`.
    seen: Scratch,
    /// `[position of the row, patch, out channel]`.
    gradient: Scratch,
}

impl GradientPass<'_> {
    fn n_taps(&self) -> usize {
        self.conv.kernel[0]
    }

    /// Sums of one position.
    fn n_sums(&self) -> usize {
        self.n_taps() * self.conv.n_inputs() * self.conv.out_channels
    }

    /// Adds the gradient to `weight_gradient`.
    pub(super) fn run(&self, weight_gradient: &mut [f32]) {
        let (len, n_all) = (self.patches.len(), N_POSITIONS * self.n_sums());
        let room = (PARTIAL_FLOATS / n_all).max(1);
        let n_chunks = (len / MIN_PATCHES).clamp(1, MAX_CHUNKS).min(room);
        let widest = self.conv.n_inputs().max(self.conv.out_channels);
        let zeros = Scratch::<f32>::zeroed(widest);
        let zeros: &[f32] = &zeros;
        let mut partial = Scratch::take(n_chunks * n_all);
        let shared = SharedMut::new(&mut partial);
        for_each_task(n_chunks * N_ROWS, |task| {
            let (chunk, row) = (task / N_ROWS, task % N_ROWS);
            let n_sums = PER_ROW * self.n_sums();
            // SAFETY: each task has the sums of one chunk and row; `partial` outlives them.
            let sums = unsafe { shared.slice(chunk * n_all + row * n_sums, n_sums) };
            self.sum_chunk(part(len, n_chunks, chunk), row, zeros, sums);
        });
        self.add(&partial, n_chunks, weight_gradient);
    }

    fn sum_chunk(&self, chunk: Range<usize>, row: usize, zeros: &[f32], sums: &mut [f32]) {
        let of_patch =
            PER_ROW * (self.n_taps() * pitch(self.conv.n_inputs()) + pitch(self.conv.out_channels));
        let n_patches = (BLOCK_FLOATS / of_patch).clamp(MIN_PATCHES, MAX_PATCHES);
        let n_blocks = chunk.len().div_ceil(n_patches);
        for index in 0..n_blocks {
            let block = part(chunk.len(), n_blocks, index);
            let block = chunk.start + block.start..chunk.start + block.end;
            let finish = if index == 0 { Finish::Replace } else { Finish::Add };
            let block = self.transform(&block, row, zeros);
            for position in 0..PER_ROW {
                for tap in 0..self.n_taps() {
                    let len = self.conv.n_inputs() * self.conv.out_channels;
                    let at = position * self.n_taps() + tap;
                    self.multiply(&block, [tap, position], finish, &mut sums[at * len..][..len]);
                }
            }
        }
    }

    fn transform(&self, block: &Range<usize>, row: usize, zeros: &[f32]) -> Block {
        let (n_taps, n_out) = (self.n_taps(), self.conv.out_channels);
        let [in_pitch, out_pitch] = [self.conv.n_inputs(), n_out].map(pitch);
        let [in_plane, out_plane] = [in_pitch, out_pitch].map(|pitch| block.len() * pitch);
        let mut seen = Scratch::take(n_taps * PER_ROW * in_plane + OVERRUN);
        let mut gradient = Scratch::take(PER_ROW * out_plane + OVERRUN);
        for (at, patch) in block.clone().enumerate() {
            for tap in 0..n_taps {
                let pixels = self.patches.inputs(patch, (tap, n_taps));
                let mut first = 0;
                for (input, n_channels) in self.inputs.into_iter().zip(self.conv.in_channels) {
                    let pixels = pixels.map(|pixel| match pixel {
                        Some(pixel) => input[pixel * n_channels..].as_ptr(),
                        None => zeros.as_ptr(),
                    });
                    let start = tap * PER_ROW * in_plane + at * in_pitch + first;
                    let (to, plane) = (seen[start..].as_mut_ptr(), in_plane);
                    self.isa.run(DataRow { pixels: &pixels, n_channels, row, to, plane });
                    first += n_channels;
                }
            }
            let pixels = self.patches.outputs(patch).map(|pixel| match pixel {
                Some(pixel) => self.gradient[pixel * n_out..].as_ptr(),
                None => zeros.as_ptr(),
            });
            let (to, plane) = (gradient[at * out_pitch..].as_mut_ptr(), out_plane);
            self.isa.run(GradientRow { pixels: &pixels, n_channels: n_out, row, to, plane });
        }
        Block { n_patches: block.len(), seen, gradient }
    }

    /// Sums of one kernel slice and position over the block.
    fn multiply(
        &self,
        block: &Block,
        [tap, position]: [usize; 2],
        finish: Finish,
        sums: &mut [f32],
    ) {
        let (n_in, n_out) = (self.conv.n_inputs(), self.conv.out_channels);
        let [in_pitch, out_pitch] = [n_in, n_out].map(pitch);
        let at = tap * PER_ROW + position;
        let seen = &block.seen[at * block.n_patches * in_pitch..];
        let gradient = &block.gradient[position * block.n_patches * out_pitch..];
        let panels: Vec<(Range<usize>, Tiles)> = panels(n_out, |n| channel_tiles(self.isa, n));
        for (lanes, tiles) in &panels {
            let step = tiles.balanced(n_in);
            for row in (0..n_in).step_by(step) {
                let segment =
                    Segment { left: seen[row..].as_ptr(), panel: gradient[lanes.start..].as_ptr() };
                let tile = Tile {
                    segments: &[segment],
                    n_steps: block.n_patches,
                    left_step: in_pitch,
                    left_row: 1,
                    panel_step: out_pitch,
                    places: &FIRST_PLACES[..step.min(n_in - row)],
                    output_row: n_out,
                    output: Numbers::F32(sums[row * n_out + lanes.start..].as_mut_ptr()),
                    n_lanes: lanes.len(),
                    finish,
                };
                // SAFETY: both operands have room for all rows and lanes of a tile past their last patch, and
                // the sums of these rows and lanes are this task's.
                unsafe { tiles.run(&tile) };
            }
        }
    }

    /// Transforms the sums of all chunks, in their order, and adds them.
    fn add(&self, partial: &[f32], n_chunks: usize, weight_gradient: &mut [f32]) {
        let (n_in, n_out, plane) = (self.conv.n_inputs(), self.conv.out_channels, self.n_sums());
        let shared = SharedMut::new(weight_gradient);
        for_each_task(self.n_taps() * n_in, |task| {
            let (tap, input) = (task / n_in, task % n_in);
            let chunks: Vec<*const f32> = (0..n_chunks)
                .map(|chunk| partial[chunk * N_POSITIONS * plane + task * n_out..].as_ptr())
                .collect();
            let taps = std::array::from_fn(|at| {
                // SAFETY: the line of one tap and in channel, which this task alone writes.
                unsafe { shared.slice(((tap * N_TAPS + at) * n_in + input) * n_out, n_out) }
                    .as_mut_ptr()
            });
            let chunks = &chunks;
            self.isa.run(WeightGradientTransform { chunks, plane, n_lanes: n_out, taps: &taps });
        });
    }
}
