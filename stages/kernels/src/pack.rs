//! Weights rearranged into the panels that tiles read.
//!
//! A packed panel is `[kernel slice and row][step][lane]`, where a step is `group` neighbouring floats of
//! (kernel column, channel) and lanes of one output channel lie together. Steps and lanes past the end are zero.

use std::{borrow::Cow, ops::Range};

use crate::{
    Element,
    parallel::{Scratch, SharedMut, for_each_task},
    tile::Tiles,
};

/// Axes of convolution weights `[kernel slice, kernel row, kernel column, in channel, out channel]`.
#[derive(Clone, Copy)]
pub(crate) struct WeightAxes {
    /// Kernel slices times kernel rows.
    pub(crate) tap_rows: usize,
    /// Kernel columns.
    pub(crate) tap_columns: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
}

/// Which way a packed panel carries values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From in channels to out channels.
    Forward,
    /// From out channels to in channels, with the taps reversed.
    Backward,
}

/// One panel to be packed.
pub(crate) struct PanelPlace {
    /// Channels that the panel computes.
    pub(crate) channels: Range<usize>,
    /// Tiles that will read it.
    pub(crate) tiles: Tiles,
    /// First float in the packed buffer.
    pub(crate) start: usize,
}

/// Weights as activations of format `E` meet them: rounded to it.
pub(crate) fn rounded<E: Element>(weights: &[f32]) -> Cow<'_, [f32]> {
    match E::as_f32(&[]) {
        Some(_) => Cow::Borrowed(weights),
        None => weights.iter().map(|&weight| E::narrow(weight).widen()).collect(),
    }
}

impl WeightAxes {
    /// Floats of the sum for one kernel row.
    pub(crate) fn depth(self, direction: Direction) -> usize {
        self.tap_columns
            * match direction {
                Direction::Forward => self.in_channels,
                Direction::Backward => self.out_channels,
            }
    }

    /// Places `panels` one after the other; also gives the length of the packed buffer.
    pub(crate) fn place(
        self,
        direction: Direction,
        panels: Vec<(Range<usize>, Tiles)>,
    ) -> (Vec<PanelPlace>, usize) {
        let mut start = 0;
        let mut places = Vec::with_capacity(panels.len());
        for (channels, tiles) in panels {
            places.push(PanelPlace { channels, tiles, start });
            start += self.tap_rows * self.panel_row(direction, tiles);
        }
        (places, start)
    }

    /// Floats of one kernel row of a panel.
    pub(crate) fn panel_row(self, direction: Direction, tiles: Tiles) -> usize {
        self.depth(direction).div_ceil(tiles.group) * tiles.panel_floats()
    }

    /// Packs all `places`, which [`WeightAxes::place`] gave.
    pub(crate) fn pack(
        self,
        direction: Direction,
        weights: &[f32],
        places: &[PanelPlace],
        len: usize,
    ) -> Scratch {
        let mut packed = Scratch::take(len);
        let shared = SharedMut::new(&mut packed);
        for_each_task(places.len(), |index| {
            let place = &places[index];
            let row_len = self.panel_row(direction, place.tiles);
            // SAFETY: panels lie one after the other, so each task has floats of its own; `packed` outlives them.
            let panel = unsafe { shared.slice(place.start, self.tap_rows * row_len) };
            for (tap_row, panel) in panel.chunks_exact_mut(row_len).enumerate() {
                match direction {
                    Direction::Forward => self.pack_forward(weights, tap_row, place, panel),
                    Direction::Backward => self.pack_backward(weights, tap_row, place, panel),
                }
            }
        });
        packed
    }

    fn pack_forward(self, weights: &[f32], tap_row: usize, place: &PanelPlace, panel: &mut [f32]) {
        let (depth, group) = (self.depth(Direction::Forward), place.tiles.group);
        let floats = place.tiles.panel_floats();
        panel[depth / group * floats..].fill(0.0);
        for step in 0..depth {
            let start = (tap_row * depth + step) * self.out_channels;
            let from = &weights[start + place.channels.start..start + place.channels.end];
            let to = &mut panel[step / group * floats..][..floats];
            if group == 1 {
                to[..from.len()].copy_from_slice(from);
                to[from.len()..].fill(0.0);
            } else {
                to.iter_mut().skip(step % group).step_by(group).for_each(|lane| *lane = 0.0);
                for (lane, &value) in from.iter().enumerate() {
                    to[lane * group + step % group] = value;
                }
            }
        }
    }

    fn pack_backward(self, weights: &[f32], tap_row: usize, place: &PanelPlace, panel: &mut [f32]) {
        /// Out channels moved together, so that both sides stay in the nearest cache.
        const BLOCK: usize = 16;
        let (group, floats) = (place.tiles.group, place.tiles.panel_floats());
        if place.channels.len() < place.tiles.lanes || group > 1 {
            panel.fill(0.0);
        }
        for tap_column in 0..self.tap_columns {
            let from_row = self.tap_rows - 1 - tap_row;
            let from_column = self.tap_columns - 1 - tap_column;
            let tap = (from_row * self.tap_columns + from_column) * self.in_channels;
            for block in (0..self.out_channels).step_by(BLOCK) {
                let n_out = BLOCK.min(self.out_channels - block);
                for (lane, channel) in place.channels.clone().enumerate() {
                    let from = &weights[(tap + channel) * self.out_channels + block..][..n_out];
                    let first = tap_column * self.out_channels + block;
                    if group == 1 {
                        let to = panel[first * floats + lane..].iter_mut().step_by(floats);
                        to.zip(from).for_each(|(to, &value)| *to = value);
                        continue;
                    }
                    for (step, &value) in (first..).zip(from) {
                        panel[step / group * floats + lane * group + step % group] = value;
                    }
                }
            }
        }
    }
}
