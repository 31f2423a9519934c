//! Register-tiled matrix products: the arithmetic of every convolution.
//!
//! A tile multiplies up to [`Tiles::rows`] rows of a left operand with one panel of a right operand and keeps all
//! sums in registers. Left rows are pixels or channels of a channels-last buffer, read in place by two strides;
//! panels are packed weights or, for weight gradients, rows of a buffer.

use half::bf16;

use crate::{
    element::{InLanes, Numbers},
    simd::{Isa, Lanes},
};

/// Row of a tile that is computed and not stored (padding between image rows).
pub(crate) const SKIP: usize = usize::MAX;

/// Greatest number of rows of any tile; left operands stay readable this many rows past their last one.
pub(crate) const MAX_ROWS: usize = 28;

/// One stretch of the sum: where its left rows and its panel begin.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// Left operand of row 0, step 0.
    pub(crate) left: *const f32,
    /// Panel of step 0.
    pub(crate) panel: *const f32,
}

/// What happens to the sums of a tile.
#[derive(Clone, Copy)]
pub(crate) enum Finish {
    /// They replace the output.
    Replace,
    /// They are added to the output.
    Add,
    /// They replace the output after the bias was added: one float a lane, whole vectors readable.
    Bias(*const f32),
}

/// Operands of one tile.
pub(crate) struct Tile<'a> {
    /// Stretches of the sum, added in this order.
    pub(crate) segments: &'a [Segment],
    /// Steps of each segment.
    pub(crate) n_steps: usize,
    /// Floats from one step of the left operand to the next.
    pub(crate) left_step: usize,
    /// Floats from one left row to the next.
    pub(crate) left_row: usize,
    /// Floats from one step of the panel to the next.
    pub(crate) panel_step: usize,
    /// Output place of each row in units of `output_row`, or [`SKIP`]; at most [`Tiles::rows`].
    pub(crate) places: &'a [usize],
    /// Floats from one output place to the next.
    pub(crate) output_row: usize,
    /// First output lane of place 0.
    pub(crate) output: Numbers,
    /// Output lanes of each row, at most those of the panel.
    pub(crate) n_lanes: usize,
    /// What happens to the sums.
    pub(crate) finish: Finish,
}

/// A compiled tile of a fixed number of rows.
///
/// # Safety
/// The machine has the instruction set; all of `segments` are readable for every step and for the tile's fixed
/// number of rows, also past `places`; the output places are writable and nobody else's.
type TileFn = unsafe fn(&Tile<'_>);

/// Which stride of the left operand is one: it decides how addresses are formed.
const PIXEL_ROWS: bool = true;
const CHANNEL_ROWS: bool = false;

/// Tiles of one kind and panel width, for all numbers of rows.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    table: &'static [TileFn],
    granularity: usize,
    /// Output lanes of a panel.
    pub(crate) lanes: usize,
    /// Neighbouring steps that share one vector; panels interleave them.
    pub(crate) group: usize,
}

impl Tiles {
    /// Greatest number of rows of a tile.
    pub(crate) fn rows(self) -> usize {
        self.table.len() * self.granularity
    }

    /// Length of the next tile when `remaining` rows are left: all tiles nearly equal, none with idle rows.
    pub(crate) fn balanced(self, remaining: usize) -> usize {
        let n_tiles = remaining.div_ceil(self.rows());
        remaining.div_ceil(n_tiles).next_multiple_of(self.granularity)
    }

    /// Floats of a panel for one step (or one group of steps).
    pub(crate) fn panel_floats(self) -> usize {
        self.lanes * self.group
    }

    /// Runs `tile`.
    ///
    /// # Safety
    /// As for [`TileFn`]; `tile.places` holds 1 to [`Tiles::rows`] rows.
    pub(crate) unsafe fn run(self, tile: &Tile<'_>) {
        debug_assert!((1..=self.rows()).contains(&tile.places.len()));
        debug_assert!((1..=self.lanes).contains(&tile.n_lanes));
        let index = (tile.places.len() - 1) / self.granularity;
        // SAFETY: the caller's promises; tables hold functions of available sets only.
        unsafe { self.table[index](tile) }
    }
}

/// The sums of `ROWS` rows by `VECTORS` vectors, `GROUP` steps to a vector.
///
/// # Safety
/// As for [`TileFn`], with `ROWS` rows.
#[inline(always)]
unsafe fn tile<
    L: Lanes,
    const PIXELS: bool,
    const ROWS: usize,
    const VECTORS: usize,
    const GROUP: usize,
>(
    tile: &Tile<'_>,
) {
    // SAFETY: the caller promises that all operands can be read and that the set is there.
    unsafe {
        let mut sums = [[L::zero(); VECTORS]; ROWS];
        let left_step = if PIXELS { GROUP } else { tile.left_step };
        let left_row = if PIXELS { tile.left_row } else { 1 };
        for segment in tile.segments {
            let (mut left, mut panel) = (segment.left, segment.panel);
            for _ in 0..tile.n_steps {
                let mut right = [L::zero(); VECTORS];
                for (vector, lanes) in right.iter_mut().enumerate() {
                    *lanes = L::load(panel.add(vector * L::WIDTH));
                }
                macro_rules! add_rows {
                    ($($row:literal)+) => {$(
                        if $row < ROWS {
                            let value = L::splat_group::<GROUP>(left.add($row * left_row));
                            for (sum, lanes) in sums[$row % ROWS].iter_mut().zip(right) {
                                *sum = value.mul_add(lanes, *sum);
                            }
                        }
                    )+};
                }
                // Written out: a loop over rows is not always unrolled, and then the sums leave the registers.
                add_rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27);
                left = left.add(left_step);
                panel = panel.add(tile.panel_step);
            }
        }
        for (sums, &place) in sums.into_iter().zip(tile.places) {
            if place != SKIP {
                match tile.output.add(place * tile.output_row) {
                    Numbers::F32(to) => finish::<f32, L, VECTORS, GROUP>(tile, sums, to),
                    Numbers::Bf16(to) => finish::<bf16, L, VECTORS, GROUP>(tile, sums, to),
                }
            }
        }
    }
}

/// Folds groups, applies [`Finish`] and stores the lanes of one row.
///
/// # Safety
/// `to` is writable for `tile.n_lanes` numbers, and the set is there.
#[inline(always)]
unsafe fn finish<E: InLanes, L: Lanes, const VECTORS: usize, const GROUP: usize>(
    tile: &Tile<'_>,
    sums: [L; VECTORS],
    to: *mut E,
) {
    let width = L::WIDTH / GROUP;
    for (vector, mut sum) in sums.into_iter().enumerate() {
        let start = vector * width;
        let count = tile.n_lanes.saturating_sub(start).min(width);
        // SAFETY: `count` lanes from `start` on lie inside `n_lanes`; a bias holds whole vectors.
        unsafe {
            if GROUP >= 2 {
                sum = sum.fold_pairs();
            }
            if GROUP >= 4 {
                sum = sum.fold_pairs();
            }
            let to = to.add(start);
            match tile.finish {
                Finish::Replace => {}
                Finish::Bias(bias) => sum = sum.add(L::load_first(bias.add(start), count)),
                Finish::Add if count == L::WIDTH => sum = sum.add(E::load(to)),
                Finish::Add => sum = sum.add(E::load_first(to, count)),
            }
            if count == L::WIDTH {
                E::store(sum, to);
            } else {
                E::store_first(sum, to, count);
            }
        }
    }
}

/// Compiles one table: a function for each number of rows, with the features of the set.
macro_rules! table {
    ($lanes:ty, [$($feature:literal)?], $kind:expr, $vectors:literal, $group:literal, [$($rows:literal),+]) => {{
        $(#[target_feature(enable = $feature)])?
        unsafe fn compiled<const ROWS: usize>(operands: &Tile<'_>) {
            // SAFETY: the caller promises what `TileFn` asks for.
            unsafe { tile::<$lanes, $kind, ROWS, $vectors, $group>(operands) }
        }
        const TABLE: &[TileFn] = &[$(compiled::<$rows>),+];
        TABLE
    }};
}

/// Tables of one instruction set. `pixel` tables: two vectors; one vector with groups of 1, 2, 4.
struct Tables {
    width: usize,
    granularity: [usize; 2],
    pixel: [&'static [TileFn]; 4],
    channel: [&'static [TileFn]; 2],
}

const PORTABLE: Tables = Tables {
    width: 4,
    granularity: [1, 2],
    pixel: [
        table!(crate::simd::Portable, [], PIXEL_ROWS, 2, 1, [1, 2, 3, 4, 5]),
        table!(crate::simd::Portable, [], PIXEL_ROWS, 1, 1, [2, 4, 6, 8, 10]),
        table!(crate::simd::Portable, [], PIXEL_ROWS, 1, 2, [2, 4, 6, 8, 10]),
        table!(crate::simd::Portable, [], PIXEL_ROWS, 1, 4, [2, 4, 6, 8, 10]),
    ],
    channel: [
        table!(crate::simd::Portable, [], CHANNEL_ROWS, 2, 1, [1, 2, 3, 4, 5]),
        table!(crate::simd::Portable, [], CHANNEL_ROWS, 1, 1, [2, 4, 6, 8, 10]),
    ],
};

#[cfg(target_arch = "x86_64")]
const AVX2: Tables = Tables {
    width: 8,
    granularity: [1, 2],
    pixel: [
        table!(crate::simd::Avx2, ["avx2,fma"], PIXEL_ROWS, 2, 1, [1, 2, 3, 4, 5, 6]),
        table!(crate::simd::Avx2, ["avx2,fma"], PIXEL_ROWS, 1, 1, [2, 4, 6, 8, 10, 12]),
        table!(crate::simd::Avx2, ["avx2,fma"], PIXEL_ROWS, 1, 2, [2, 4, 6, 8, 10, 12]),
        table!(crate::simd::Avx2, ["avx2,fma"], PIXEL_ROWS, 1, 4, [2, 4, 6, 8, 10, 12]),
    ],
    channel: [
        table!(crate::simd::Avx2, ["avx2,fma"], CHANNEL_ROWS, 2, 1, [1, 2, 3, 4, 5, 6]),
        table!(crate::simd::Avx2, ["avx2,fma"], CHANNEL_ROWS, 1, 1, [2, 4, 6, 8, 10, 12]),
    ],
};

#[cfg(target_arch = "x86_64")]
const AVX512: Tables = Tables {
    width: 16,
    granularity: [2, 4],
    pixel: [
        table!(crate::simd::Avx512, ["avx512f"], PIXEL_ROWS, 2, 1, [2, 4, 6, 8, 10, 12, 14]),
        table!(crate::simd::Avx512, ["avx512f"], PIXEL_ROWS, 1, 1, [4, 8, 12, 16, 20, 24, 28]),
        table!(crate::simd::Avx512, ["avx512f"], PIXEL_ROWS, 1, 2, [4, 8, 12, 16, 20, 24]),
        table!(crate::simd::Avx512, ["avx512f"], PIXEL_ROWS, 1, 4, [4, 8, 12, 16, 20, 24]),
    ],
    channel: [
        table!(crate::simd::Avx512, ["avx512f"], CHANNEL_ROWS, 2, 1, [2, 4, 6, 8, 10, 12, 14]),
        table!(crate::simd::Avx512, ["avx512f"], CHANNEL_ROWS, 1, 1, [4, 8, 12, 16, 20, 24, 28]),
    ],
};

fn tables(isa: Isa) -> &'static Tables {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx | Isa::AmxSplit => &AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &AVX2,
        _ => &PORTABLE,
    }
}

/// Tiles whose rows are pixels and whose steps are neighbouring floats, for `n_lanes` output channels at once.
///
/// Panels of few channels take several steps in one vector, so that lanes do not idle.
pub(crate) fn pixel_tiles(isa: Isa, n_lanes: usize) -> Tiles {
    let tables = tables(isa);
    let (index, group) = match tables.width {
        // Up to 1.5 vectors, one full vector and a grouped panel after it idle less than two vectors.
        width if n_lanes * 2 > width * 3 => (0, 1),
        width if n_lanes * 2 > width => (1, 1),
        width if n_lanes * 4 > width => (2, 2),
        _ => (3, 4),
    };
    let vectors = if index == 0 { 2 } else { 1 };
    Tiles {
        table: tables.pixel[index],
        granularity: tables.granularity[usize::from(vectors == 1)],
        lanes: vectors * tables.width / group,
        group,
    }
}

/// Tiles whose rows are neighbouring floats and whose steps are pixels, for `n_lanes` output lanes at once.
pub(crate) fn channel_tiles(isa: Isa, n_lanes: usize) -> Tiles {
    let tables = tables(isa);
    let (index, vectors) = if n_lanes > tables.width { (0, 2) } else { (1, 1) };
    Tiles {
        table: tables.channel[index],
        granularity: tables.granularity[index],
        lanes: vectors * tables.width,
        group: 1,
    }
}

/// Splits `n_channels` output channels into panels: ranges of channels, each with its tiles.
pub(crate) fn panels(
    n_channels: usize,
    tiles: impl Fn(usize) -> Tiles,
) -> Vec<(std::ops::Range<usize>, Tiles)> {
    let mut panels = Vec::new();
    let mut start = 0;
    while start < n_channels {
        let chosen = tiles(n_channels - start);
        let end = (start + chosen.lanes).min(n_channels);
        panels.push((start..end, chosen));
        start = end;
    }
    panels
}
