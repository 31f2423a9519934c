//! Convolution 3 × 3 in f32 by minimal filtering: 16 products for 2 × 2 outputs instead of 36.
//!
//! Source: Winograd's F(2×2, 3×3) as in Lavin and Gray, arXiv 1509.09308: an output patch is
//! `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`. The 16 positions ξ of the transformed patches are independent matrix products over
//! channels, run by the same tiles as the direct convolution; slices of a 3-D kernel add up before the inverse
//! transform. All coefficients are 0, ±1 and ±1/2, so the error stays that of f32 sums (measured below 1e-6 of
//! the norm). The split of work depends on the shapes alone.

mod forward;
mod gradient;
mod transforms;
mod weights;

use std::ops::Range;

use crate::{
    Conv, Isa, Volume, Write,
    pack::Direction,
    parallel::SharedMut,
    tile::{Finish, Tiles},
};
use forward::{Pass, Place};
use gradient::GradientPass;
use weights::{TransformedWeights, whole_panels};

/// Positions of a transformed patch.
const N_POSITIONS: usize = 16;

/// Channels on either side, and products of both, from which saved products outweigh the transforms (measured).
const MIN_CHANNELS: usize = 32;
const MIN_PRODUCTS: usize = 2048;

/// Whether this is the faster way for a convolution.
pub(crate) fn suits(conv: &Conv, volume: Volume) -> bool {
    let (n_in, n_out) = (conv.n_inputs(), conv.out_channels);
    let wide = n_in.min(n_out) >= MIN_CHANNELS && n_in * n_out >= MIN_PRODUCTS;
    wide && conv.kernel[1..] == [3, 3] && volume.n_pixels() > 0
}

/// [`Conv::forward`].
pub(crate) fn forward(
    conv: &Conv,
    volume: Volume,
    inputs: [&[f32]; 2],
    weights: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let isa = Isa::current();
    let ranges = whole_panels(isa, conv.out_channels);
    let weights = &TransformedWeights::new(conv, Direction::Forward, weights, ranges);
    let (floats, n_channels) = (SharedMut::new(output), conv.out_channels);
    let places: Vec<Place> = (weights.panels.iter())
        .map(|panel| {
            let first_channel = panel.channels.start;
            let finish =
                bias.map_or(Finish::Replace, |bias| Finish::Bias(bias[first_channel..].as_ptr()));
            Place { floats, n_channels, first_channel, finish }
        })
        .collect();
    let (patches, channels) = (Patches::new(volume), conv.in_channels);
    Pass { isa, patches, inputs, channels, weights, places: &places }.run();
}

/// [`Conv::input_gradient`].
pub(crate) fn input_gradient(
    conv: &Conv,
    volume: Volume,
    output_gradient: &[f32],
    weights: &[f32],
    input_gradients: [Option<(&mut [f32], Write)>; 2],
) {
    let isa = Isa::current();
    let (mut ranges, mut places): (Vec<(Range<usize>, Tiles)>, Vec<Place>) = Default::default();
    let mut first = 0;
    for (gradient, n_channels) in input_gradients.into_iter().zip(conv.in_channels) {
        if let Some((gradient, write)) = gradient {
            let floats = SharedMut::new(gradient);
            for (channels, tiles) in whole_panels(isa, n_channels) {
                let (first_channel, finish) = (channels.start, write.finish());
                places.push(Place { floats, n_channels, first_channel, finish });
                ranges.push((first + channels.start..first + channels.end, tiles));
            }
        }
        first += n_channels;
    }
    let weights = &TransformedWeights::new(conv, Direction::Backward, weights, ranges);
    let (patches, channels) = (Patches::new(volume), [conv.out_channels, 0]);
    Pass { isa, patches, inputs: [output_gradient, &[]], channels, weights, places: &places }.run();
}

/// [`Conv::weight_gradient`] without that of the bias.
pub(crate) fn weight_gradient(
    conv: &Conv,
    volume: Volume,
    inputs: [&[f32]; 2],
    gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let (isa, patches) = (Isa::current(), Patches::new(volume));
    GradientPass { isa, patches, inputs, conv, gradient }.run(weight_gradient);
}

/// Patches of 2 × 2 outputs of a batch; the last of an odd side hangs over.
#[derive(Clone, Copy)]
struct Patches {
    volume: Volume,
    rows: usize,
    columns: usize,
}

impl Patches {
    fn new(volume: Volume) -> Self {
        Self { volume, rows: volume.rows.div_ceil(2), columns: volume.columns.div_ceil(2) }
    }

    /// Number of patches of the whole batch.
    fn len(self) -> usize {
        self.volume.batch * self.volume.slices * self.rows * self.columns
    }

    /// Image (slice of the batch), first row and first column of patch `index`.
    fn place(self, index: usize) -> (usize, usize, usize) {
        let (row, column) = (index / self.columns, index % self.columns);
        (row / self.rows, row % self.rows * 2, column * 2)
    }

    /// Pixels of the four outputs of patch `index`, row by row; none outside the image.
    fn outputs(self, index: usize) -> [Option<usize>; 4] {
        let (image, row, column) = self.place(index);
        self.pixels::<2, 4>(image, row, column, 0)
    }

    /// Pixels of the 4 × 4 inputs that patch `index` reads in the slice that kernel slice `tap` of `n_taps` sees.
    fn inputs(self, index: usize, (tap, n_taps): (usize, usize)) -> [Option<usize>; N_POSITIONS] {
        let (image, row, column) = self.place(index);
        let slices = self.volume.slices;
        if n_taps == 1 {
            return self.pixels::<4, N_POSITIONS>(image, row, column, 1);
        }
        let slice = (image % slices + tap).checked_sub(n_taps / 2).filter(|&slice| slice < slices);
        let Some(slice) = slice else { return [None; N_POSITIONS] };
        self.pixels::<4, N_POSITIONS>(image / slices * slices + slice, row, column, 1)
    }

    /// Pixels of the square of `SIDE` × `SIDE` that begins `before` rows and columns before (row, column).
    #[inline(always)]
    fn pixels<const SIDE: usize, const LEN: usize>(
        self,
        image: usize,
        row: usize,
        column: usize,
        before: usize,
    ) -> [Option<usize>; LEN] {
        let Volume { rows, columns, .. } = self.volume;
        let inside = |at: usize, len: usize| at >= before && at - before + SIDE <= len;
        let first = image * rows * columns;
        if inside(row, rows) && inside(column, columns) {
            let first = first + (row - before) * columns + column - before;
            return std::array::from_fn(|at| Some(first + at / SIDE * columns + at % SIDE));
        }
        std::array::from_fn(|at| {
            let row = (row + at / SIDE).checked_sub(before).filter(|&row| row < rows)?;
            let column = (column + at % SIDE).checked_sub(before);
            Some(first + row * columns + column.filter(|&column| column < columns)?)
        })
    }
}

/// Floats between neighbouring positions of a patch: room for whole vectors past the channels.
fn pitch(n_channels: usize) -> usize {
    n_channels.next_multiple_of(16) + 16
}

/// Floats between neighbouring patches whose positions lie together, so that a transform writes to few pages; an
/// odd number of cache lines.
fn stride(pitch: usize) -> usize {
    N_POSITIONS * pitch + 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_hang_over_odd_sides() {
        let patches = Patches::new(Volume::flat(2, 3, 2));
        assert_eq!(patches.len(), 4);
        assert_eq!(patches.outputs(0), [0, 1, 2, 3].map(Some));
        assert_eq!(patches.outputs(3), [Some(10), Some(11), None, None]);
        let first = patches.inputs(0, (0, 1));
        assert_eq!(first[..4], [None; 4]);
        assert_eq!(first[4..8], [None, Some(0), Some(1), None]);
        assert_eq!(first[12..16], [None, Some(4), Some(5), None]);
    }

    #[test]
    fn slices_outside_are_empty() {
        let patches = Patches::new(Volume { batch: 1, slices: 2, rows: 2, columns: 2 });
        assert_eq!(patches.inputs(0, (0, 3)), [None; 16]);
        assert_eq!(patches.inputs(0, (2, 3))[5], Some(4));
        assert_eq!(patches.inputs(1, (0, 3))[5], Some(0));
        assert_eq!(patches.inputs(1, (2, 3)), [None; 16]);
    }
}
