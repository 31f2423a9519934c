//! Weights in the order of tiles: rounded to bf16, neighbouring steps of the sum side by side.
//!
//! A panel is `[segment][step][tile][pair 16][lane 16][2]`: one tile a step where it has at most sixteen lanes and
//! two where it has more. Lanes and steps past the end are zero. For f32 the panel comes three times: upper parts for
//! the upper parts of the left side, upper parts for its lower parts, and lower parts for its upper parts.

use std::ops::Range;

use half::bf16;

use super::{
    shuffle,
    tiles::{SIDE, STEP, TILE},
};
use crate::{
    Element,
    parallel::{Scratch, SharedMut, for_each_task},
};

/// Output channels that are computed together.
pub(crate) struct Panel {
    /// Columns of the weights.
    pub(crate) lanes: Range<usize>,
    /// First number of the packed buffer.
    pub(crate) start: usize,
}

impl Panel {
    /// Tiles of one step.
    pub(crate) fn n_tiles(&self) -> usize {
        self.lanes.len().div_ceil(SIDE)
    }
}

/// Packed weights.
pub(crate) struct Panels {
    pub(crate) panels: Vec<Panel>,
    /// Numbers of the sum in each segment.
    pub(crate) depth: usize,
    /// Segments with all their terms.
    pub(crate) n_segments: usize,
    pub(crate) packed: Scratch<bf16>,
}

/// Parts of a number that tiles hold: upper and lower ones of f32.
pub(crate) const fn n_parts<E: Element>() -> usize {
    size_of::<E>() / size_of::<bf16>()
}

/// Parts of left and right side, 0 the upper one, whose products add up to a product.
pub(crate) const fn terms<E: Element>() -> &'static [(usize, usize)] {
    if n_parts::<E>() == 1 { &[(0, 0)] } else { &[(0, 0), (1, 0), (0, 1)] }
}

/// Ranges of at most 32 lanes.
pub(crate) fn split(lanes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = lanes.end;
    lanes.step_by(2 * SIDE).map(move |start| start..(start + 2 * SIDE).min(end))
}

/// Packs weights `[segment][depth][lane]` of `n_lanes` lanes.
pub(crate) fn rows<E: Element>(
    weights: &[f32],
    n_segments: usize,
    n_lanes: usize,
    lanes: impl Iterator<Item = Range<usize>>,
) -> Panels {
    let depth = weights.len() / n_segments / n_lanes;
    Panels::pack::<E>(lanes, n_segments, depth, |(segment, low), step, lanes, tile| {
        let from = weights[(segment * depth + step) * n_lanes + lanes.start..].as_ptr();
        let n_steps = (depth - step).min(STEP);
        // SAFETY: this module runs where the tile unit is, so the vectors are there too; rows of the segment from
        // `step` on and lanes of the row are readable, and a tile is written.
        unsafe { shuffle::pack_rows((from, low), n_lanes, n_steps, lanes.len(), tile.as_mut_ptr()) }
    })
}

/// Packs weights whose lanes are `block` numbers apart and whose sum runs over blocks of `block` neighbouring
/// numbers that begin at `starts`, as many for each segment.
pub(crate) fn columns<E: Element>(
    weights: &[f32],
    n_segments: usize,
    (starts, block): (&[usize], usize),
    lanes: impl Iterator<Item = Range<usize>>,
) -> Panels {
    let n_blocks = starts.len() / n_segments;
    let depth = n_blocks * block;
    Panels::pack::<E>(lanes, n_segments, depth, |(segment, low), step, lanes, tile| {
        let starts = &starts[segment * n_blocks..][..n_blocks];
        if block.is_multiple_of(STEP) {
            let start = starts[step / block] + lanes.start * block + step % block;
            let from = weights[start..start + (lanes.len() - 1) * block + STEP].as_ptr();
            // SAFETY: as in `rows`; the slice holds `STEP` numbers of each lane.
            unsafe { shuffle::pack_columns((from, low), block, lanes.len(), tile.as_mut_ptr()) };
            return;
        }
        for (n, to) in tile.iter_mut().enumerate() {
            let (step, lane) = (step + n / STEP * 2 + n % 2, lanes.start + n % STEP / 2);
            *to = if step < depth && lane < lanes.end {
                let weight = weights[starts[step / block] + lane * block + step % block];
                let high = bf16::from_f32(weight);
                if low { bf16::from_f32(weight - high.to_f32()) } else { high }
            } else {
                bf16::ZERO
            };
        }
    })
}

impl Panels {
    /// Steps of each segment.
    pub(crate) fn n_steps(&self) -> usize {
        self.depth.div_ceil(STEP)
    }

    /// Fills all tiles with `fill`, which gets segment and whether lower parts are meant, first number of the sum,
    /// lanes and the tile.
    fn pack<E: Element>(
        lanes: impl Iterator<Item = Range<usize>>,
        n_segments: usize,
        depth: usize,
        fill: impl Fn((usize, bool), usize, Range<usize>, &mut [bf16]) + Sync,
    ) -> Self {
        let (mut panels, mut start) = (Vec::new(), 0);
        let (n_plain, n_segments) = (n_segments, n_segments * terms::<E>().len());
        let n_steps = depth.div_ceil(STEP);
        for lanes in lanes {
            let panel = Panel { lanes, start };
            start += n_segments * n_steps * panel.n_tiles() * TILE;
            panels.push(panel);
        }
        let mut packed = Scratch::take(start);
        let shared = SharedMut::new(&mut packed);
        for_each_task(panels.len() * n_segments, |task| {
            let (panel, segment) = (&panels[task / n_segments], task % n_segments);
            let n_tiles = panel.n_tiles();
            for n in 0..n_steps * n_tiles {
                let first = panel.lanes.start + n % n_tiles * SIDE;
                let lanes = first..panel.lanes.end.min(first + SIDE);
                let place = panel.start + (segment * n_steps * n_tiles + n) * TILE;
                // SAFETY: tiles of a panel and segment are this task's, and `packed` outlives the tasks.
                let tile = unsafe { shared.slice(place, TILE) };
                let low = terms::<E>()[segment / n_plain].1 == 1;
                fill((segment % n_plain, low), n / n_tiles * STEP, lanes, tile);
            }
        });
        Self { panels, depth, n_segments, packed }
    }
}
