//! The transforms of patches, in lanes over channels.
//!
//! Arrays of lanes are filled by loops: a closure that is not inlined, such as one given to `array::map`, is compiled
//! without the features of the set, and then every addition is a call.

use crate::{
    simd::{LaneTask, Lanes},
    tile::Finish,
};

/// `Bᵀ d` of four values in a line.
macro_rules! data_line {
    ($d:expr) => {{
        let [a, b, c, d] = $d;
        [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
    }};
}

/// The transpose of a small matrix.
#[inline(always)]
fn transposed<T: Copy, const A: usize, const B: usize>(matrix: [[T; A]; B]) -> [[T; B]; A] {
    let mut turned = [[matrix[0][0]; B]; A];
    for (a, line) in turned.iter_mut().enumerate() {
        for (b, value) in line.iter_mut().enumerate() {
            *value = matrix[b][a];
        }
    }
    turned
}

/// `Bᵀ d B` of 4 × 4 pixels: all channels of one input of one patch.
pub(super) struct DataTransform<'a> {
    /// First channel of each pixel, or of a line of zeros.
    pub(super) pixels: &'a [*const f32; 16],
    pub(super) n_channels: usize,
    /// Channels of position 0; whole vectors are writable.
    pub(super) to: *mut f32,
    /// Floats from one position to the next.
    pub(super) plane: usize,
}

impl LaneTask for DataTransform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for channel in (0..self.n_channels).step_by(L::WIDTH) {
            let count = (self.n_channels - channel).min(L::WIDTH);
            // SAFETY: the caller promises `n_channels` floats at each pixel and whole vectors at the target.
            unsafe {
                let load = |at: usize| {
                    let from = self.pixels[at].add(channel);
                    if count == L::WIDTH { L::load(from) } else { L::load_first(from, count) }
                };
                let mut rows = [[L::zero(); 4]; 4];
                for (column, target) in rows.iter_mut().enumerate() {
                    *target = data_line!([
                        load(column),
                        load(4 + column),
                        load(8 + column),
                        load(12 + column)
                    ]);
                }
                for (row, line) in transposed(rows).into_iter().enumerate() {
                    let line = data_line!(line);
                    for (column, value) in line.into_iter().enumerate() {
                        value.store(self.to.add((row * 4 + column) * self.plane + channel));
                    }
                }
            }
        }
    }
}

/// Row `row` of `Bᵀ d B`, four positions, as [`DataTransform`] gives all rows.
pub(super) struct DataRow<'a> {
    pub(super) pixels: &'a [*const f32; 16],
    pub(super) n_channels: usize,
    pub(super) row: usize,
    /// Channels of the row's first position.
    pub(super) to: *mut f32,
    pub(super) plane: usize,
}

impl LaneTask for DataRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // Row of `Bᵀ`: the two lines that it combines, and whether the second is added.
        let (first, second, adds) =
            [(0, 2, false), (1, 2, true), (2, 1, false), (1, 3, false)][self.row];
        for channel in (0..self.n_channels).step_by(L::WIDTH) {
            let count = (self.n_channels - channel).min(L::WIDTH);
            // SAFETY: as in `DataTransform`.
            unsafe {
                let load = |at: usize| {
                    let from = self.pixels[at].add(channel);
                    if count == L::WIDTH { L::load(from) } else { L::load_first(from, count) }
                };
                let mut line = [L::zero(); 4];
                for (column, value) in line.iter_mut().enumerate() {
                    let (a, b) = (load(first * 4 + column), load(second * 4 + column));
                    *value = if adds { a.add(b) } else { a.sub(b) };
                }
                for (column, value) in data_line!(line).into_iter().enumerate() {
                    value.store(self.to.add(column * self.plane + channel));
                }
            }
        }
    }
}

/// Row `row` of `A y Aᵀ` of 2 × 2 output gradients, four positions: the adjoint of [`OutputTransform`].
pub(super) struct GradientRow<'a> {
    /// First channel of each output pixel, or of a line of zeros.
    pub(super) pixels: &'a [*const f32; 4],
    pub(super) n_channels: usize,
    pub(super) row: usize,
    pub(super) to: *mut f32,
    pub(super) plane: usize,
}

impl LaneTask for GradientRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for channel in (0..self.n_channels).step_by(L::WIDTH) {
            let count = (self.n_channels - channel).min(L::WIDTH);
            // SAFETY: as in `DataTransform`.
            unsafe {
                let load = |at: usize| {
                    let from = self.pixels[at].add(channel);
                    if count == L::WIDTH { L::load(from) } else { L::load_first(from, count) }
                };
                let mut line = [L::zero(); 2];
                for (column, value) in line.iter_mut().enumerate() {
                    *value = match self.row {
                        0 => load(column),
                        1 => load(column).add(load(2 + column)),
                        2 => load(column).sub(load(2 + column)),
                        _ => L::zero().sub(load(2 + column)),
                    };
                }
                let [a, b] = line;
                for (column, value) in
                    [a, a.add(b), a.sub(b), L::zero().sub(b)].into_iter().enumerate()
                {
                    value.store(self.to.add(column * self.plane + channel));
                }
            }
        }
    }
}

/// `Aᵀ m A` of one patch for the lanes of a panel.
pub(super) struct OutputTransform<'a> {
    /// Lanes of position 0; whole vectors are readable.
    pub(super) from: *const f32,
    /// Floats from one position to the next.
    pub(super) plane: usize,
    pub(super) n_lanes: usize,
    /// First lane of each output pixel; null outside the image.
    pub(super) pixels: &'a [*mut f32; 4],
    pub(super) finish: Finish,
}

impl LaneTask for OutputTransform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for lane in (0..self.n_lanes).step_by(L::WIDTH) {
            let count = (self.n_lanes - lane).min(L::WIDTH);
            // SAFETY: the caller promises 16 readable positions, and `n_lanes` writable lanes where not null.
            unsafe {
                let mut columns = [[L::zero(); 2]; 4];
                for (column, target) in columns.iter_mut().enumerate() {
                    let load =
                        |row: usize| L::load(self.from.add((row * 4 + column) * self.plane + lane));
                    let (a, b, c, d) = (load(0), load(1), load(2), load(3));
                    *target = [a.add(b).add(c), b.sub(c).sub(d)];
                }
                for (row, [a, b, c, d]) in transposed(columns).into_iter().enumerate() {
                    let pair = [a.add(b).add(c), b.sub(c).sub(d)];
                    for (column, mut value) in pair.into_iter().enumerate() {
                        let to = self.pixels[row * 2 + column];
                        if to.is_null() {
                            continue;
                        }
                        let to = to.add(lane);
                        match self.finish {
                            Finish::Replace => {}
                            Finish::Bias(bias) => {
                                value = value.add(L::load_first(bias.add(lane), count));
                            }
                            Finish::Add => value = value.add(L::load_first(to, count)),
                        }
                        if count == L::WIDTH {
                            value.store(to);
                        } else {
                            value.store_first(to, count);
                        }
                    }
                }
            }
        }
    }
}

/// `G g Gᵀ` of nine lines of weights to sixteen.
pub(super) struct WeightTransform<'a> {
    /// The taps of one (kernel slice, in channel), row by row, already turned if the direction is backward.
    pub(super) taps: &'a [*const f32; 9],
    pub(super) n_lanes: usize,
    /// Lanes of position 0; `n_lanes` are writable at each.
    pub(super) to: *mut f32,
    pub(super) plane: usize,
}

impl LaneTask for WeightTransform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for lane in (0..self.n_lanes).step_by(L::WIDTH) {
            let count = (self.n_lanes - lane).min(L::WIDTH);
            // SAFETY: the caller promises `n_lanes` floats at each tap and target.
            unsafe {
                let half = L::splat(0.5);
                let line = |a: L, b: L, c: L| {
                    let ends = a.add(c);
                    [a, ends.add(b).mul(half), ends.sub(b).mul(half), c]
                };
                let load = |at: usize| {
                    let from = self.taps[at].add(lane);
                    if count == L::WIDTH { L::load(from) } else { L::load_first(from, count) }
                };
                let mut columns = [[L::zero(); 4]; 3];
                for (column, target) in columns.iter_mut().enumerate() {
                    *target = line(load(column), load(3 + column), load(6 + column));
                }
                for (row, [a, b, c]) in transposed(columns).into_iter().enumerate() {
                    let values = line(a, b, c);
                    for (column, value) in values.into_iter().enumerate() {
                        let to = self.to.add((row * 4 + column) * self.plane + lane);
                        if count == L::WIDTH {
                            value.store(to);
                        } else {
                            value.store_first(to, count);
                        }
                    }
                }
            }
        }
    }
}

/// Adds `Gᵀ s G` of the partial sums to nine lines of weight gradients: the adjoint of [`WeightTransform`].
pub(super) struct WeightGradientTransform<'a> {
    /// Sums of position 0 of each chunk.
    pub(super) chunks: &'a [*const f32],
    pub(super) plane: usize,
    pub(super) n_lanes: usize,
    pub(super) taps: &'a [*mut f32; 9],
}

impl LaneTask for WeightGradientTransform<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for lane in (0..self.n_lanes).step_by(L::WIDTH) {
            let count = (self.n_lanes - lane).min(L::WIDTH);
            // SAFETY: the caller promises `n_lanes` floats at each position of each chunk and at each tap.
            unsafe {
                let half = L::splat(0.5);
                let mut sums = [[L::zero(); 4]; 4];
                for (at, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                    for chunk in self.chunks {
                        let part = L::load_first(chunk.add(at * self.plane + lane), count);
                        *sum = sum.add(part);
                    }
                }
                let line = |[a, b, c, d]: [L; 4]| {
                    let (both, difference) = (b.add(c).mul(half), b.sub(c).mul(half));
                    [a.add(both), difference, both.add(d)]
                };
                let mut columns = [[L::zero(); 3]; 4];
                for (target, column) in columns.iter_mut().zip(transposed(sums)) {
                    *target = line(column);
                }
                for (row, values) in transposed(columns).into_iter().enumerate() {
                    let values = line(values);
                    for (column, value) in values.into_iter().enumerate() {
                        let to = self.taps[row * 3 + column].add(lane);
                        value.add(L::load_first(to, count)).store_first(to, count);
                    }
                }
            }
        }
    }
}
