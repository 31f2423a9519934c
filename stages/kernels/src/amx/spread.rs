//! The pass behind a convolution and its input gradient on tiles.
//!
//! A task takes some rows of some slices. It copies them with borders into slabs, one for each slice of the kernel,
//! which it keeps in turn as it goes from slice to slice, and runs its products over them: 64 positions at a time,
//! with all panels of output channels. How work is split depends on the shapes alone.

use std::{arch::x86_64::*, ops::Range};

use half::bf16;

use super::{
    panel::{Panels, n_parts, terms},
    shuffle::{mask, widen},
    slab::Feed,
    tiles::{Product, SIDE, SUMS, Tiles},
};
use crate::{
    Element,
    parallel::{Scratch, SharedMut, for_each_task, part},
    tile::Finish,
    volume::RowMap,
};

/// Numbers of the slabs that a task holds at once, at most: a part of the second-level cache.
const SLAB_NUMBERS: usize = 192 * 1024;
/// Tasks that a large pass is split into at least.
const MIN_TASKS: usize = 16;
/// Packed weights that stay in the second-level cache.
const FEW_WEIGHTS: usize = 640 * 1024;
/// Multiplications worth a task of their own.
const TASK_PRODUCTS: usize = 1 << 22;
/// Rows and slices below which copying borders costs too much.
const FEW_ROWS: usize = 8;
/// Positions that are computed together.
const POSITIONS: usize = 4 * SIDE;

/// Where the lanes of a panel are written.
pub(crate) struct Target<E> {
    /// Output buffer, `[pixel, channel]`.
    pub(crate) numbers: SharedMut<E>,
    /// Channels of the buffer.
    pub(crate) n_channels: usize,
    /// Channel of the buffer that is the panel's first.
    pub(crate) first_channel: usize,
    /// Rows of the buffer that stand for the image rows.
    pub(crate) rows: RowMap,
    /// What happens to the sums.
    pub(crate) finish: Finish,
}

// SAFETY: `Finish` holds a pointer to bias values that are only read and that outlive the pass.
unsafe impl<E: Element> Sync for Target<E> {}

/// Operands of one pass.
pub(crate) struct Pass<'a, E> {
    pub(crate) feed: &'a Feed<'a, E>,
    pub(crate) panels: &'a Panels,
    /// One for each panel.
    pub(crate) targets: &'a [Target<E>],
}

/// Numbers of parts that the work is split into.
struct Plan {
    /// Tasks for each group of panels.
    chunks: usize,
    /// Stretches of rows of each slice.
    rows: usize,
    /// Groups of panels.
    panels: usize,
}

/// Some rows of a slice: what slabs hold at a time.
struct Step {
    image: usize,
    rows: Range<usize>,
    /// Steps of the task before this one; slabs change places with each.
    turn: usize,
    /// Whether all slabs are to be filled, not just the one of the last kernel slice.
    fresh: bool,
}

impl<E: Element> Pass<'_, E> {
    fn plan(&self) -> Plan {
        let Feed { volume, kernel, .. } = *self.feed;
        let (volumes, depth) = match kernel[0] {
            1 => (1, volume.batch * volume.slices),
            _ => (volume.batch, volume.slices),
        };
        let n_panels = self.panels.panels.len();
        let n_lanes: usize = self.panels.panels.iter().map(|panel| panel.lanes.len()).sum();
        let products = volume.n_pixels() * self.panels.n_segments * self.panels.depth * n_lanes;
        let wanted = (products / TASK_PRODUCTS).clamp(1, MIN_TASKS);
        let line = self.feed.pitch() * self.feed.n_channels() * kernel[0] * n_parts::<E>();
        let most_rows = (SLAB_NUMBERS / line.max(1)).saturating_sub(kernel[1] - 1).max(1);
        let mut rows = volume.rows.div_ceil(most_rows);
        let few_slices = if kernel[0] == 1 { 1 } else { FEW_ROWS };
        let slices = wanted.div_ceil(volumes * rows).clamp(1, depth.div_ceil(few_slices));
        let missing = wanted.div_ceil(volumes * slices * rows);
        if missing > 1 {
            rows = (rows * missing).min(volume.rows.div_ceil(FEW_ROWS)).max(rows);
        }
        let chunks = match kernel[0] {
            1 => (depth * rows).min(wanted),
            _ => volumes * slices * rows,
        };
        Plan { chunks, rows, panels: wanted.div_ceil(chunks).clamp(1, n_panels) }
    }

    /// What task `chunk` walks through: rows of several slices in turn if the kernel has slices, or else stretches
    /// of rows as they come.
    fn steps(&self, plan: &Plan, chunk: usize) -> Vec<Step> {
        let Feed { volume, kernel, .. } = *self.feed;
        let rows = |index| part(volume.rows, plan.rows, index);
        if kernel[0] == 1 {
            let bands = volume.batch * volume.slices * plan.rows;
            let step = |(turn, band): (usize, usize)| {
                let (image, rows) = (band / plan.rows, rows(band % plan.rows));
                Step { image, rows, turn, fresh: true }
            };
            return part(bands, plan.chunks, chunk).enumerate().map(step).collect();
        }
        let n_parts = plan.chunks / plan.rows / volume.batch;
        let (rest, rows) = (chunk / plan.rows, rows(chunk % plan.rows));
        let first = rest / n_parts * volume.slices;
        let slices = part(volume.slices, n_parts, rest % n_parts).enumerate();
        slices
            .map(|(turn, slice)| Step {
                image: first + slice,
                rows: rows.clone(),
                turn,
                fresh: turn == 0,
            })
            .collect()
    }

    /// Runs all tasks.
    pub(crate) fn run(&self) {
        let Feed { volume, .. } = *self.feed;
        if volume.n_pixels() * self.panels.depth * self.panels.panels.len() == 0 {
            return;
        }
        let plan = self.plan();
        for_each_task(plan.chunks * plan.panels, |task| {
            let panels = part(self.panels.panels.len(), plan.panels, task % plan.panels);
            let steps = self.steps(&plan, task / plan.panels);
            self.run_task(&steps, panels, self.feed.slab_len(volume.rows.div_ceil(plan.rows)));
        });
    }

    fn run_task(&self, steps: &[Step], panels: Range<usize>, part_len: usize) {
        let kernel = self.feed.kernel;
        let slab_len = n_parts::<E>() * part_len;
        let mut slabs = Scratch::take(kernel[0] * slab_len);
        let mut lefts =
            [0, 1].map(|_| vec![std::ptr::null(); kernel[0] * kernel[1] * terms::<E>().len()]);
        let mut sums = Scratch::<f32>::take(SUMS);
        // Weights beyond the second-level cache are read once a step, others once every 64 positions.
        let group = if self.packed_len(&panels) > FEW_WEIGHTS { 1 } else { panels.len() };
        // SAFETY: this module runs where the unit is, and no other task runs on this thread before the end.
        let tiles = unsafe { Tiles::configure() };
        for step in steps {
            let known = if step.fresh { 0 } else { kernel[0] - 1 };
            for tap in known..kernel[0] {
                let slab = &mut slabs[(step.turn + tap) % kernel[0] * slab_len..][..slab_len];
                self.feed.fill(self.feed.source_image(step.image, tap), &step.rows, slab);
            }
            let n_positions = self.feed.n_positions(step.rows.len());
            for first in panels.clone().step_by(group) {
                let panels = first..(first + group).min(panels.end);
                for position in (0..n_positions).step_by(POSITIONS) {
                    self.place_lefts((step, position), &slabs, part_len, &mut lefts);
                    let block = Block { step, panels: panels.clone(), position, lefts: &lefts };
                    self.run_block(&tiles, &block, &mut sums);
                }
            }
        }
    }

    /// Numbers of some packed panels.
    fn packed_len(&self, panels: &Range<usize>) -> usize {
        let end = self.panels.panels.get(panels.end).map(|panel| panel.start);
        end.unwrap_or(self.panels.packed.len()) - self.panels.panels[panels.start].start
    }

    /// Sets the left rows of all segments for both halves of a block.
    fn place_lefts(
        &self,
        (step, position): (&Step, usize),
        slabs: &[bf16],
        part_len: usize,
        lefts: &mut [Vec<*const bf16>; 2],
    ) {
        let kernel = self.feed.kernel;
        let n_lines = kernel[0] * kernel[1];
        for (half, lefts) in lefts.iter_mut().enumerate() {
            for (segment, left) in lefts.iter_mut().enumerate() {
                let part = terms::<E>()[segment / n_lines].0;
                let (tap, row) = (segment % n_lines / kernel[1], segment % kernel[1]);
                let place = row * self.feed.pitch() + position + half * 2 * SIDE;
                let slab = (step.turn + tap) % kernel[0] * n_parts::<E>() + part;
                *left = slabs[slab * part_len + place * self.feed.n_channels()..].as_ptr();
            }
        }
    }

    /// All panels of the task at up to 64 positions.
    fn run_block(&self, tiles: &Tiles, block: &Block<'_>, sums: &mut [f32]) {
        let n_channels = self.feed.n_channels();
        let n_positions = self.feed.n_positions(block.step.rows.len()) - block.position;
        let rows = SIDE * n_channels;
        for index in block.panels.clone() {
            let panel = &self.panels.panels[index];
            let mut product = Product {
                lefts: &block.lefts[0],
                left_row: n_channels,
                gaps: [rows, 2 * rows, 3 * rows],
                n_steps: self.panels.n_steps(),
                panel: self.panels.packed[panel.start..].as_ptr(),
                sums: sums.as_mut_ptr(),
                add: false,
            };
            // SAFETY: slabs hold 64 positions past their last pixel, and packed panels all steps of all segments;
            // lines of the second half lie in the slab too. Rows of this block are this task's.
            unsafe {
                if panel.n_tiles() == 1 {
                    tiles.tall(&product);
                    self.finish(block, 0, index, sums);
                    continue;
                }
                tiles.wide(&product);
                self.finish(block, 0, index, sums);
                if n_positions > 2 * SIDE {
                    product.lefts = &block.lefts[1];
                    tiles.wide(&product);
                    self.finish(block, 2 * SIDE, index, sums);
                }
            }
        }
    }

    /// Writes the sums of panel `index` at the positions from `offset` of the block on.
    ///
    /// # Safety
    /// The machine has the vectors that come with the tile unit, and the output pixels are this task's.
    unsafe fn finish(&self, block: &Block<'_>, offset: usize, index: usize, sums: &[f32]) {
        let (panel, target) = (&self.panels.panels[index], &self.targets[index]);
        let (columns, pitch) = (self.feed.volume.columns, self.feed.pitch());
        let n_lanes = panel.n_tiles() * SIDE;
        let start = block.position + offset;
        let end = (start + SUMS / n_lanes).min(self.feed.n_positions(block.step.rows.len()));
        let mut position = start;
        while position < end {
            let (row, column) = (position / pitch, position % pitch);
            if column >= columns {
                position += pitch - column;
                continue;
            }
            let count = (columns - column).min(end - position);
            let image_row = block.step.image * self.feed.volume.rows + block.step.rows.start + row;
            let place = target.rows.row(image_row) * columns + column;
            // SAFETY: these pixels lie in the buffer, and so do the lanes in its channels.
            unsafe {
                let to =
                    target.numbers.pointer().add(place * target.n_channels + target.first_channel);
                let run = Run {
                    sums: sums[(position - start) * n_lanes..].as_ptr(),
                    to,
                    to_pixel: target.n_channels,
                    n_lanes: panel.lanes.len(),
                    n_pixels: count,
                };
                match (target.finish, panel.n_tiles()) {
                    (Finish::Add, 1) => run.narrow::<1, true>(None),
                    (Finish::Add, _) => run.narrow::<2, true>(None),
                    (Finish::Bias(bias), 1) => run.narrow::<1, false>(Some(bias)),
                    (Finish::Bias(bias), _) => run.narrow::<2, false>(Some(bias)),
                    (Finish::Replace, 1) => run.narrow::<1, false>(None),
                    (Finish::Replace, _) => run.narrow::<2, false>(None),
                }
            }
            position += count;
        }
    }
}

/// Positions that are computed together.
struct Block<'a> {
    step: &'a Step,
    panels: Range<usize>,
    /// First position in the slab.
    position: usize,
    /// Left rows of both halves, for each kernel slice and row.
    lefts: &'a [Vec<*const bf16>; 2],
}

/// Sums of neighbouring pixels and where they go.
struct Run<E> {
    sums: *const f32,
    to: *mut E,
    to_pixel: usize,
    n_lanes: usize,
    n_pixels: usize,
}

impl<E: Element> Run<E> {
    /// Rounds the sums of `TILES` tiles a pixel, with a bias or added to what is there.
    ///
    /// # Safety
    /// AVX-512 F, BW, VL and BF16; sums of all pixels readable, lanes writable, and as many biases.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn narrow<const TILES: usize, const ADD: bool>(&self, bias: Option<*const f32>) {
        let halves = [0, 1].map(|tile: usize| {
            mask(self.n_lanes.saturating_sub(tile * SIDE).min(SIDE)) as __mmask16
        });
        let lanes = mask(self.n_lanes) as __mmask32;
        // SAFETY: masked lanes are neither read nor written; the caller promises the others.
        unsafe {
            let biases = [0, 1].map(|tile: usize| match bias {
                Some(bias) => _mm512_maskz_loadu_ps(halves[tile], bias.wrapping_add(tile * SIDE)),
                None => _mm512_setzero_ps(),
            });
            for pixel in 0..self.n_pixels {
                let from = self.sums.add(pixel * TILES * SIDE);
                let to = self.to.add(pixel * self.to_pixel);
                if n_parts::<E>() > 1 {
                    for tile in 0..TILES {
                        let to = to.cast::<f32>().wrapping_add(tile * SIDE);
                        let sums = _mm512_loadu_ps(from.add(tile * SIDE));
                        let mut sums = _mm512_add_ps(sums, biases[tile]);
                        if ADD {
                            sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(halves[tile], to));
                        }
                        _mm512_mask_storeu_ps(to, halves[tile], sums);
                    }
                    continue;
                }
                let mut low = _mm512_add_ps(_mm512_loadu_ps(from), biases[0]);
                if TILES == 1 {
                    if ADD {
                        let old = _mm256_maskz_loadu_epi16(halves[0], to.cast());
                        low = _mm512_add_ps(low, widen(old));
                    }
                    let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(low));
                    _mm256_mask_storeu_epi16(to.cast(), halves[0], rounded);
                    continue;
                }
                let mut high = _mm512_add_ps(_mm512_loadu_ps(from.add(SIDE)), biases[1]);
                if ADD {
                    let old = _mm512_maskz_loadu_epi16(lanes, to.cast());
                    low = _mm512_add_ps(low, widen(_mm512_castsi512_si256(old)));
                    high = _mm512_add_ps(high, widen(_mm512_extracti64x4_epi64::<1>(old)));
                }
                let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_mask_storeu_epi16(to.cast(), lanes, rounded);
            }
        }
    }
}
