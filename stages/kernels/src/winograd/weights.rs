//! Weights transformed into the panels that tiles read.

use std::ops::Range;

use super::{N_POSITIONS, transforms::WeightTransform};
use crate::{
    Conv, Isa,
    pack::Direction,
    parallel::{Scratch, SharedMut, for_each_task},
    tile::{Tiles, panels, pixel_tiles},
};

/// Taps of a kernel in one slice.
pub(super) const N_TAPS: usize = 9;

/// Channels that are computed together.
pub(super) struct Panel {
    pub(super) channels: Range<usize>,
    pub(super) tiles: Tiles,
    /// First float in the buffer.
    start: usize,
}

/// Transformed weights, `[panel][kernel slice, position][step][lane]`.
pub(super) struct TransformedWeights {
    floats: Scratch,
    pub(super) panels: Vec<Panel>,
    /// Slices of the kernel.
    pub(super) n_taps: usize,
    /// Steps of each sum: channels that are read.
    n_steps: usize,
}

/// Panels of whole vectors for `n_channels` channels.
pub(super) fn whole_panels(isa: Isa, n_channels: usize) -> Vec<(Range<usize>, Tiles)> {
    panels(n_channels, |n| pixel_tiles(isa, n.max(isa.lanes())))
}

impl TransformedWeights {
    /// Transforms `weights` of `conv` for the channels of `ranges`.
    pub(super) fn new(
        conv: &Conv,
        direction: Direction,
        weights: &[f32],
        ranges: Vec<(Range<usize>, Tiles)>,
    ) -> Self {
        let n_taps = conv.kernel[0];
        let n_steps = match direction {
            Direction::Forward => conv.n_inputs(),
            Direction::Backward => conv.out_channels,
        };
        let mut start = 0;
        let panels: Vec<Panel> = ranges
            .into_iter()
            .map(|(channels, tiles)| {
                let panel = Panel { channels, tiles, start };
                start += n_taps * N_POSITIONS * n_steps * tiles.lanes;
                panel
            })
            .collect();
        let mut floats = Scratch::take(start);
        let (isa, shared) = (Isa::current(), SharedMut::new(&mut floats));
        for_each_task(panels.len() * n_taps, |task| {
            let (panel, tap) = (&panels[task / n_taps], task % n_taps);
            let len = N_POSITIONS * n_steps * panel.tiles.lanes;
            // SAFETY: each task has the positions of one panel and slice; `floats` outlives them.
            let target = unsafe { shared.slice(panel.start + tap * len, len) };
            let taps = Taps { isa, conv, weights, panel };
            match direction {
                Direction::Forward => taps.forward(tap, target),
                Direction::Backward => taps.backward(tap, target),
            }
        });
        Self { floats, panels, n_taps, n_steps }
    }

    /// The matrix `[step][lane]` of (kernel slice, position) `at`.
    pub(super) fn matrix(&self, panel: &Panel, at: usize) -> &[f32] {
        let len = self.n_steps * panel.tiles.lanes;
        &self.floats[panel.start + at * len..][..len]
    }
}

/// Source and destination of one panel.
struct Taps<'a> {
    isa: Isa,
    conv: &'a Conv,
    weights: &'a [f32],
    panel: &'a Panel,
}

impl Taps<'_> {
    /// The nine weights of a kernel slice from (in, out) channel on; reversed for the way back.
    fn lines(
        &self,
        tap: usize,
        input: usize,
        output: usize,
        reversed: bool,
    ) -> [*const f32; N_TAPS] {
        let (n_in, n_out) = (self.conv.n_inputs(), self.conv.out_channels);
        std::array::from_fn(|at| {
            let at = if reversed { N_TAPS - 1 - at } else { at };
            self.weights[((tap * N_TAPS + at) * n_in + input) * n_out + output..].as_ptr()
        })
    }

    fn forward(&self, tap: usize, target: &mut [f32]) {
        let Panel { channels, tiles, .. } = self.panel;
        let n_in = self.conv.n_inputs();
        if channels.len() < tiles.lanes {
            target.fill(0.0);
        }
        for input in 0..n_in {
            self.isa.run(WeightTransform {
                taps: &self.lines(tap, input, channels.start, false),
                n_lanes: channels.len(),
                to: target[input * tiles.lanes..].as_mut_ptr(),
                plane: n_in * tiles.lanes,
            });
        }
    }

    fn backward(&self, tap: usize, target: &mut [f32]) {
        /// Out channels moved together, so that both sides stay in the nearest cache.
        const BLOCK: usize = 16;
        let Panel { channels, tiles, .. } = self.panel;
        let n_out = self.conv.out_channels;
        if channels.len() < tiles.lanes {
            target.fill(0.0);
        }
        let tap = self.conv.kernel[0] - 1 - tap;
        let mut block = [0.0; N_POSITIONS * BLOCK];
        for output in (0..n_out).step_by(BLOCK) {
            let n_lanes = BLOCK.min(n_out - output);
            for (lane, input) in channels.clone().enumerate() {
                let taps = &self.lines(tap, input, output, true);
                let to = block.as_mut_ptr();
                self.isa.run(WeightTransform { taps, n_lanes, to, plane: BLOCK });
                for (position, values) in block.chunks_exact(BLOCK).enumerate() {
                    let start = (position * n_out + output) * tiles.lanes + lane;
                    let to = target[start..].iter_mut().step_by(tiles.lanes);
                    to.zip(&values[..n_lanes]).for_each(|(to, &value)| *to = value);
                }
            }
        }
    }
}
