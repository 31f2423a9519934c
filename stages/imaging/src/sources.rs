//! Region-growing sources on breast scans: a seed, then a rule by which the region grows from it.
//!
//! Source: four conventional algorithms label breast tumours in arXiv 2304.00466v2, IV-A.2, which shares the steps of
//! [`crate::dce`] among them and characterises two: the first follows boundaries and is sensitive to noise, the second
//! is robust and misses detail. Deviation: the rules below are ours, made to have these characters.
//! Randomness: none; ties go to the first voxel in raster order. A new rule is a file and a line in [`Grower`]'s users.

mod edge;
mod fuzzy;
mod guard;
mod seed;
mod smooth;
mod statistic;

use datasets::{Image, Mask};
use serde::Serialize;

use crate::{ImagingError, error::check_spacing};

pub use edge::Edge;
pub use fuzzy::Fuzzy;
pub use guard::Guard;
pub use seed::SeedRule;
pub use smooth::Smooth;
pub use statistic::Statistic;

/// Enhancement below which nothing is taken for a tumour.
const FAINTEST: f32 = 0.05;

/// The maps of a case, all of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Maps<'a> {
    /// Where a tumour may be, in `[0, 1]`.
    pub enhancement: &'a Image,
    /// Early uptake in `[0, 1]`.
    pub uptake: &'a Image,
    /// How much a voxel looks like a vessel, in `[0, 1]`.
    pub vesselness: &'a Image,
    /// Where regions may grow.
    pub breast: &'a Mask,
    /// Distance between voxels, `[slice, row, column]` in millimetres.
    pub spacing: [f64; 3],
}

impl Maps<'_> {
    /// Refuses maps of other shapes than the breast.
    fn check(&self) -> Result<(), ImagingError> {
        check_spacing(self.spacing)?;
        for map in [self.enhancement, self.uptake, self.vesselness] {
            if map.shape() != self.breast.shape() {
                return Err(ImagingError::MapShapeDiffers {
                    mask_shape: self.breast.shape(),
                    map_shape: map.shape(),
                });
            }
        }
        Ok(())
    }

    /// Volume of a voxel in cubic millimetres.
    fn voxel_mm3(&self) -> f64 {
        self.spacing.iter().product()
    }

    /// Voxels of the breast within `radius` millimetres of a seed.
    fn ball(&self, seed: [usize; 3], radius: f64) -> Mask {
        let shape = self.breast.shape();
        let mut ball = Mask::filled(shape, false);
        let range = [0, 1, 2].map(|axis| {
            let reach = (radius / self.spacing[axis]).min(shape[axis] as f64) as usize;
            seed[axis].saturating_sub(reach)..(seed[axis] + reach + 1).min(shape[axis])
        });
        for slice in range[0].clone() {
            for row in range[1].clone() {
                for column in range[2].clone() {
                    let place = [slice, row, column];
                    let squared: f64 = (0..3)
                        .map(|axis| {
                            let steps = place[axis] as f64 - seed[axis] as f64;
                            (steps * self.spacing[axis]).powi(2)
                        })
                        .sum();
                    ball.set(place, squared <= radius * radius && self.breast.get(place));
                }
            }
        }
        ball
    }
}

/// What a source found, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Grown {
    /// The tumour; empty without a seed.
    pub mask: Mask,
    /// How it came about.
    pub record: Record,
}

/// How a region came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// The seed as `[slice, row, column]`; none when nothing enhances.
    pub growth_seed: Option<[usize; 3]>,
    /// Volume in cubic millimetres.
    pub volume_mm3: f64,
    /// Numbers of the rule: thresholds, multipliers, rounds.
    pub numbers: Vec<(&'static str, f64)>,
    /// Nothing enhances enough to start from.
    pub no_seed: bool,
    /// The region had to be held back.
    pub leak_capped: bool,
    /// The region reaches the end of the ball in which it may grow.
    pub touches_roi: bool,
    /// The region reaches the edge of the breast.
    pub touches_breast_edge: bool,
}

/// An algorithm that outlines the tumour of a case.
pub trait Grower: Send + Sync {
    /// Name for sources and errors.
    fn name(&self) -> &'static str;

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`ImagingError::OptionOutOfRange`].
    fn check(&self) -> Result<(), ImagingError>;

    /// Where the region starts; `None` when nothing enhances.
    ///
    /// # Errors
    /// Those of the filters that the rule uses.
    fn seed(&self, maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError>;

    /// Grows the region from `seed`.
    ///
    /// # Errors
    /// Those of the filters that the rule uses.
    fn grow(&self, maps: Maps<'_>, seed: [usize; 3]) -> Result<Grown, ImagingError>;
}

/// Outlines the tumour of a case: an empty mask with a flag when nothing enhances.
///
/// # Errors
/// [`ImagingError::MapShapeDiffers`] and [`ImagingError::SpacingNotPositive`] for maps that do not fit, and those of
/// [`Grower::check`].
pub fn outline(grower: &dyn Grower, maps: Maps<'_>) -> Result<Grown, ImagingError> {
    maps.check()?;
    grower.check()?;
    let enhances = maps.enhancement.values().iter().any(|&value| value > FAINTEST);
    let seed = if enhances { grower.seed(maps)? } else { None };
    let Some(seed) = seed else {
        let record = Record { no_seed: true, ..Record::default() };
        return Ok(Grown { mask: Mask::filled(maps.breast.shape(), false), record });
    };
    let mut grown = grower.grow(maps, seed)?;
    grown.record.growth_seed = Some(seed);
    grown.record.volume_mm3 = grown.mask.area() as f64 * maps.voxel_mm3();
    grown.record.touches_breast_edge = touches_edge(&grown.mask, maps.breast);
    Ok(grown)
}

/// Whether a voxel of `mask` has a face neighbour outside `within`.
fn touches_edge(mask: &Mask, within: &Mask) -> bool {
    let shape = mask.shape();
    let values = mask.values().iter().enumerate().filter(|&(_, &inside)| inside);
    values.map(|(index, _)| index).any(|index| {
        let place = [index / (shape[1] * shape[2]), index / shape[2] % shape[1], index % shape[2]];
        (0..3).any(|axis| {
            let (mut before, mut after) = (place, place);
            before[axis] = place[axis].saturating_sub(1);
            after[axis] = (place[axis] + 1).min(shape[axis] - 1);
            !within.get(before) || !within.get(after)
        })
    })
}

/// The place of the largest value inside `within`, the first in raster order; `None` when it is empty.
fn brightest(image: &Image, within: &Mask) -> Option<[usize; 3]> {
    let mut best: Option<(usize, f32)> = None;
    for (index, (&value, &inside)) in image.values().iter().zip(within.values()).enumerate() {
        if inside && best.is_none_or(|(_, largest)| value > largest) {
            best = Some((index, value));
        }
    }
    let [_, n_rows, n_columns] = image.shape();
    best.map(|(index, _)| {
        [index / (n_rows * n_columns), index / n_columns % n_rows, index % n_columns]
    })
}
