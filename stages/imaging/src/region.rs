//! Region growing from seeds: by a threshold, by a neighbourhood, and by a confidence interval that follows the region.
//!
//! Source: the filters `ConnectedThreshold`, `NeighborhoodConnected`, `ConfidenceConnected` and `IsolatedConnected` of
//! ITK, whose masks these equal voxel by voxel on `f32` images. Bounds are inclusive and compared as `f32`.
//! Randomness: none. Cost: one look at each row that the region touches; rows elsewhere are never read.
//! Seeds outside the volume are refused, where ITK ignores them.

mod flood;

use datasets::Image;

use crate::{
    ImagingError,
    bits::{invert, pack_where, widen_row},
    components::Connectivity,
    error::check_option,
};

pub use flood::Region;
use flood::{Rule, flood};

/// An interval of values, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Smallest value that belongs.
    pub lower: f32,
    /// Largest value that belongs.
    pub upper: f32,
}

impl Bounds {
    /// Everything from `lower` up.
    pub fn at_least(lower: f32) -> Self {
        Self { lower, upper: f32::INFINITY }
    }

    /// Marks the values of a row that belong, a bit a value.
    fn mark(self, values: &[f32], inside: &mut [u64]) {
        pack_where(values, inside, |value| (value >= self.lower) & (value <= self.upper));
    }
}

/// The voxels within `bounds` that are connected to a seed; a seed out of bounds grows nothing.
///
/// # Errors
/// [`ImagingError::SeedOutside`] for a seed `[slice, row, column]` outside the volume.
///
/// # Examples
/// ```
/// # use datasets::{Grid, mask}; use imaging::{components::Connectivity, region::{Bounds, connected_threshold}};
/// let image = Grid::new([1, 2, 4], vec![5.0, 6.0, 0.0, 7.0, 5.0, 0.0, 7.0, 0.0])?;
/// let region = connected_threshold(&image, &[[0, 0, 0]], Bounds::at_least(5.0), Connectivity::Face);
/// assert_eq!(region.unwrap().into_mask(), mask!["# # . .", "# . . ."]);
/// # Ok::<(), datasets::ShapeError>(())
/// ```
pub fn connected_threshold(
    image: &Image,
    seeds: &[[usize; 3]],
    bounds: Bounds,
    connectivity: Connectivity,
) -> Result<Region, ImagingError> {
    check_seeds(image, seeds)?;
    Ok(flood(image.shape(), seeds, connectivity, &mut Threshold { image, bounds }))
}

/// The voxels whose whole box of `radius` voxels to each side lies within `bounds`, connected by faces to a seed.
///
/// Voxels beyond the edge repeat the outermost ones. A seed whose box is not within bounds grows nothing.
///
/// # Errors
/// As [`connected_threshold`].
pub fn neighbourhood_connected(
    image: &Image,
    seeds: &[[usize; 3]],
    bounds: Bounds,
    radius: [usize; 3],
) -> Result<Region, ImagingError> {
    check_seeds(image, seeds)?;
    let mut rule = Neighbourhood::new(image, bounds, radius);
    Ok(flood(image.shape(), seeds, Connectivity::Face, &mut rule))
}

/// Settings of [`confidence_connected`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// Standard deviations to each side of the mean that belong, not negative.
    pub multiplier: f64,
    /// How often the interval is taken anew from the region.
    pub n_iterations: usize,
    /// Half side of the box around each seed that gives the first interval.
    pub seed_radius: usize,
}

/// What [`confidence_connected`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfidenceRegion {
    /// The region.
    pub region: Region,
    /// Mean of the last interval.
    pub mean: f64,
    /// Standard deviation of the last interval.
    pub sd: f64,
    /// The last interval.
    pub bounds: Bounds,
}

/// The voxels within some standard deviations of the region's own mean, connected by faces to a seed.
///
/// The first interval comes from boxes around the seeds, the next ones from the region before; every interval is
/// widened to hold the seeds' values.
///
/// # Errors
/// As [`connected_threshold`], [`ImagingError::NoSeeds`] without a seed, and [`ImagingError::OptionOutOfRange`] for a
/// negative multiplier.
pub fn confidence_connected(
    image: &Image,
    seeds: &[[usize; 3]],
    settings: Confidence,
) -> Result<ConfidenceRegion, ImagingError> {
    check_seeds(image, seeds)?;
    check_option("confidence_connected", "multiplier", settings.multiplier, [0.0, f64::MAX])?;
    if seeds.is_empty() {
        return Err(ImagingError::NoSeeds);
    }
    let values = seeds.iter().map(|&seed| image.get(seed));
    let widest = values.fold([f32::MAX, f32::MIN], |[low, high], v| [low.min(v), high.max(v)]);
    let grow = |moments: Moments| {
        let (mean, sd) = (moments.mean(), moments.variance().max(0.0).sqrt());
        let bounds = interval(mean, settings.multiplier * sd, widest);
        let mut rule = Threshold { image, bounds };
        let region = flood(image.shape(), seeds, Connectivity::Face, &mut rule);
        ConfidenceRegion { region, mean, sd, bounds }
    };
    let mut found = grow(seed_moments(image, seeds, settings.seed_radius));
    for _ in 0..settings.n_iterations {
        let moments = Moments::of(found.region.runs(image));
        // ITK's measure of "no variance".
        if moments.n < 2.0 || moments.variance().abs() <= 0.1 * f64::EPSILON {
            break;
        }
        let before = found.bounds;
        found = grow(moments);
        if found.bounds == before {
            break;
        }
    }
    Ok(found)
}

/// The interval around a mean, widened to hold `[low, high]` and narrowed to finite numbers.
fn interval(mean: f64, half: f64, [low, high]: [f32; 2]) -> Bounds {
    let lower = (mean - half).min(f64::from(low)).max(f64::from(f32::MIN));
    let upper = (mean + half).max(f64::from(high)).min(f64::from(f32::MAX));
    Bounds { lower: lower as f32, upper: upper as f32 }
}

/// The lowest threshold at which `inside` and `outside` are apart, within `tolerance`, and what `inside` then grows.
///
/// By bisection of the lower bound between `lower` and `upper`, as ITK's `IsolatedConnected` without
/// `findUpperThreshold`. `None` when they are still joined at the highest threshold that keeps `inside`.
///
/// # Errors
/// As [`connected_threshold`], and [`ImagingError::OptionOutOfRange`] for a tolerance that is not positive.
pub fn isolated_connected(
    image: &Image,
    inside: [usize; 3],
    outside: [usize; 3],
    range: Bounds,
    tolerance: f32,
) -> Result<Option<(f32, Region)>, ImagingError> {
    let positive = [f64::from(f32::MIN_POSITIVE), f64::MAX];
    check_option("isolated_connected", "tolerance", f64::from(tolerance), positive)?;
    let grow = |lower: f32| {
        let bounds = Bounds { lower, upper: range.upper };
        connected_threshold(image, &[inside], bounds, Connectivity::Face)
    };
    check_seeds(image, &[outside])?;
    let (mut joined, mut apart) = (range.lower, image.get(inside).min(range.upper));
    let mut found = grow(apart)?;
    if found.contains(outside) {
        return Ok(None);
    }
    // Halving a finite interval of f32 ends after fewer rounds than a number has bits.
    for _ in 0..256 {
        let middle = 0.5 * (joined + apart);
        if apart - joined <= tolerance || middle <= joined || middle >= apart {
            break;
        }
        let region = grow(middle)?;
        if region.contains(outside) {
            joined = middle;
        } else {
            (apart, found) = (middle, region);
        }
    }
    Ok(Some((apart, found)))
}

fn check_seeds(image: &Image, seeds: &[[usize; 3]]) -> Result<(), ImagingError> {
    let shape = image.shape();
    let stray = seeds.iter().find(|seed| (0..3).any(|axis| seed[axis] >= shape[axis]));
    stray.map_or(Ok(()), |&seed| Err(ImagingError::SeedOutside { seed, shape }))
}

/// Number, sum and sum of squares.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn of<'a>(runs: impl Iterator<Item = &'a [f32]>) -> Self {
        let mut all = Self::default();
        for run in runs {
            for &value in run {
                all.add(f64::from(value));
            }
        }
        all
    }

    fn add(&mut self, value: f64) {
        self.n += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(self) -> f64 {
        self.sum / self.n
    }

    /// Of the values as a sample: divided by one less than their number.
    fn variance(self) -> f64 {
        (self.squares - self.sum * self.sum / self.n) / (self.n - 1.0)
    }
}

/// Moments over the boxes of all seeds; voxels beyond the edge repeat the outermost ones.
fn seed_moments(image: &Image, seeds: &[[usize; 3]], radius: usize) -> Moments {
    let shape = image.shape();
    let mut moments = Moments::default();
    let near = |place: usize, offset: usize, length: usize| {
        (place + offset).saturating_sub(radius).min(length - 1)
    };
    for seed in seeds {
        for slice in 0..=2 * radius {
            for row in 0..=2 * radius {
                for column in 0..=2 * radius {
                    let offset = [slice, row, column];
                    let place = [0, 1, 2].map(|axis| near(seed[axis], offset[axis], shape[axis]));
                    moments.add(f64::from(image.get(place)));
                }
            }
        }
    }
    moments
}

/// Values within bounds.
struct Threshold<'a> {
    image: &'a Image,
    bounds: Bounds,
}

impl Rule for Threshold<'_> {
    fn mark(&mut self, slice: usize, row: usize, inside: &mut [u64]) {
        self.bounds.mark(self.image.row(slice, row), inside);
    }
}

/// Boxes within bounds.
struct Neighbourhood<'a> {
    image: &'a Image,
    bounds: Bounds,
    radius: [usize; 3],
    /// Voxels *out of* bounds, row by row, of the rows that were looked at.
    outside: Vec<u64>,
    is_known: Vec<bool>,
    spare: Vec<u64>,
}

impl<'a> Neighbourhood<'a> {
    fn new(image: &'a Image, bounds: Bounds, radius: [usize; 3]) -> Self {
        let [n_slices, n_rows, n_columns] = image.shape();
        let (n_lines, words_a_row) = (n_slices * n_rows, n_columns.div_ceil(64));
        Self {
            image,
            bounds,
            radius,
            outside: vec![0; n_lines * words_a_row],
            is_known: vec![false; n_lines],
            spare: vec![0; words_a_row],
        }
    }

    fn outside(&mut self, line: usize) -> &[u64] {
        let [_, n_rows, n_columns] = self.image.shape();
        let words_a_row = n_columns.div_ceil(64);
        let outside = &mut self.outside[line * words_a_row..(line + 1) * words_a_row];
        if !self.is_known[line] {
            self.is_known[line] = true;
            self.bounds.mark(self.image.row(line / n_rows, line % n_rows), outside);
            invert(outside, n_columns);
        }
        outside
    }
}

impl Rule for Neighbourhood<'_> {
    fn mark(&mut self, slice: usize, row: usize, inside: &mut [u64]) {
        let [n_slices, n_rows, n_columns] = self.image.shape();
        let range = |place: usize, radius: usize, length: usize| {
            place.saturating_sub(radius)..(place + radius + 1).min(length)
        };
        // Beyond the edge the outermost voxels are repeated, which adds none that is not looked at anyway.
        for slice in range(slice, self.radius[0], n_slices) {
            for row in range(row, self.radius[1], n_rows) {
                let outside = self.outside(slice * n_rows + row);
                inside.iter_mut().zip(outside).for_each(|(all, &outside)| *all |= outside);
            }
        }
        widen_row(inside, &mut self.spare, self.radius[2].min(n_columns));
        invert(inside, n_columns);
    }
}
