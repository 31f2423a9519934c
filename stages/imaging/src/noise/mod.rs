//! Simulated annotators: clean masks made worse in a controlled, reproducible way.
//!
//! Source: the five noises of arXiv 2304.00466v2, IV-A.1, and others that their files name; the paper gives no
//! strengths, so [`crate::calibrate`] finds those of a wanted Dice. Every random number of a case is drawn before the strength is looked at, so two
//! strengths share their draws and the mean Dice moves smoothly between them.
//! Randomness: streams keyed by seed, case, source, simulator and version; never by strength, order or thread.
//!
//! A new simulator is a new file with an implementation of [`Simulator`].

mod affine;
mod area_ratio;
mod choppy;
mod correlation;
mod cube;
mod edge_distort;
mod erase;
mod erode_dilate;
mod flip_square;
mod fourier;
mod fracture;
mod grf_boundary;
mod markov;
mod medial_axis;
mod morph_rater;
mod natural;
mod polygonize;
mod redraw;
mod shift;
mod speckle;
mod spiculation;
mod swelling;
mod thickening;
mod thinning;

pub use affine::Affine;
pub use area_ratio::AreaRatio;
pub use choppy::Choppy;
pub use correlation::{Correlation, NoiseCase, NoiseSource, simulate};
pub use cube::Cube;
pub use edge_distort::EdgeDistort;
pub use erase::{Erase, SingleComponent};
pub use erode_dilate::ErodeDilate;
pub use flip_square::{FlipSquare, SquareCentre};
pub use fourier::Fourier;
pub use fracture::Fracture;
pub use grf_boundary::GrfBoundary;
pub use markov::Markov;
pub use morph_rater::{MorphRater, RaterHabit};
pub use natural::Natural;
pub use polygonize::Polygonize;
pub use shift::{Direction, Shift};
pub use speckle::Speckle;
pub use spiculation::Spiculation;
pub use swelling::Swelling;
pub use thickening::Thickening;
pub use thinning::Thinning;

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ImagingError,
    error::{check_option, check_spacing},
};

/// The random numbers of one case, source and simulator; the same for every strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Uniforms in `[0, 1)`; each simulator states what it uses them for.
    pub uniforms: [f64; 4],
    /// Seed of further streams, for simulators whose need depends on the mask.
    pub seed: u64,
}

impl Draw {
    /// Takes the uniforms and then the seed from `stream`, always in this order.
    pub fn take(stream: &mut Stream) -> Self {
        let uniforms = std::array::from_fn(|_| stream.uniform());
        Self { uniforms, seed: stream.bits() }
    }
}

/// What a simulator did to one mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Noisy {
    /// The mask of the simulated source, in the shape of the clean mask.
    pub mask: Mask,
    /// What was drawn and used, by name; coins are 0 or 1.
    pub params: Vec<(&'static str, f64)>,
    /// Whether the strength could not be applied in full.
    pub clamped: bool,
}

impl Noisy {
    /// A mask that was left as it is.
    fn unchanged(mask: &Mask) -> Self {
        Self { mask: mask.clone(), params: Vec::new(), clamped: false }
    }
}

/// Unit of a strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrengthUnit {
    /// The unit of the spacing: pixels where the spacing is 1, else millimetres.
    Length,
    /// A number of points.
    Points,
    /// A probability.
    Probability,
    /// A number of steps.
    Steps,
    /// A share of something of the mask's own: its area, its thickness, or the size of its outline's waves.
    Share,
}

/// Which strengths differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StrengthSteps {
    /// Only whole numbers.
    Whole,
    /// Any number; differences below the one given are not worth an evaluation.
    Continuous(f64),
}

/// Which way a strength works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseGrows {
    /// A larger number is a worse mask.
    WithStrength,
    /// A larger number is a better mask.
    AgainstStrength,
}

/// How the strength of a simulator is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StrengthScale {
    /// Its unit.
    pub unit: StrengthUnit,
    /// Its resolution.
    pub steps: StrengthSteps,
    /// Its direction.
    pub noise_grows: NoiseGrows,
}

/// A number of a simulator by its name, with the smallest and the largest value that it can have.
pub type NoiseOption = (&'static str, f64, [f64; 2]);

/// A kind of annotation noise; the implementing type holds the options.
pub trait Simulator: Sync {
    /// Name in keys, errors and configurations.
    fn name(&self) -> &'static str;

    /// Version of the algorithm; part of the key of the random stream.
    fn version(&self) -> u32;

    /// Unit, resolution and direction of the strength.
    fn scale(&self) -> StrengthScale;

    /// Strengths worth searching for masks of `shape`, smallest first.
    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2];

    /// Its numbers with the ranges that have a meaning for masks of `shape`; none by default.
    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        Vec::new()
    }

    /// Smallest and largest strength that have a meaning for masks of `shape`; by default all that are not negative.
    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, f64::MAX]
    }

    /// Refuses strengths within the limits that masks of `shape` are too small for; none by default.
    ///
    /// # Errors
    /// Those of the simulator.
    fn fits(
        &self,
        _strength: f64,
        _shape: [usize; 3],
        _spacing: [f64; 3],
    ) -> Result<(), ImagingError> {
        Ok(())
    }

    /// Refuses spacings, options and strengths that have no meaning for masks of `shape`, in this order.
    ///
    /// # Errors
    /// [`ImagingError::SpacingNotPositive`], [`ImagingError::OptionOutOfRange`], [`ImagingError::StrengthOutOfRange`],
    /// and those of [`fits`](Self::fits).
    fn check(
        &self,
        strength: f64,
        shape: [usize; 3],
        spacing: [f64; 3],
    ) -> Result<(), ImagingError> {
        check_spacing(spacing)?;
        for (option, value, range) in self.options(shape, spacing) {
            check_option(self.name(), option, value, range)?;
        }
        let (simulator, [low, high]) = (self.name(), self.limits(shape, spacing));
        if !(low..=high).contains(&strength) {
            return Err(ImagingError::StrengthOutOfRange { simulator, strength, low, high });
        }
        self.fits(strength, shape, spacing)
    }

    /// Makes the noisy mask; a strength beyond what the mask allows is applied as far as possible and flagged.
    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy;
}

/// The scale of strengths that are lengths, longer ones worse.
fn length_scale(steps: StrengthSteps) -> StrengthScale {
    StrengthScale { unit: StrengthUnit::Length, steps, noise_grows: NoiseGrows::WithStrength }
}

/// The scale of strengths that are shares of something of the mask's own, larger ones worse.
fn share_scale() -> StrengthScale {
    StrengthScale {
        unit: StrengthUnit::Share,
        steps: StrengthSteps::Continuous(1e-3),
        noise_grows: NoiseGrows::WithStrength,
    }
}

/// Length of a slice along rows or columns, whichever is less.
fn shorter_side(shape: [usize; 3], spacing: [f64; 3]) -> f64 {
    (shape[1] as f64 * spacing[1]).min(shape[2] as f64 * spacing[2])
}

/// A length as a number of voxels along an axis with this spacing.
fn to_voxels(length: f64, spacing: f64) -> usize {
    // The cast saturates, so an infinite length is just a very long one.
    (length / spacing).round() as usize
}

/// The spacing with slices so far apart that nothing within `reach` is in another one.
fn within_slices([_, row, column]: [f64; 3], reach: f64) -> [f64; 3] {
    [2.0 * reach + 1.0, row, column]
}

/// The voxels of a box that holds all within `reach` of `centre`, in raster order.
fn voxels_near(
    shape: [usize; 3],
    spacing: [f64; 3],
    centre: [usize; 3],
    reach: f64,
) -> impl Iterator<Item = [usize; 3]> {
    let [slices, rows, columns] = [0, 1, 2].map(|axis| {
        // The cast saturates: what reaches beyond the image is cut below.
        let steps = (reach / spacing[axis]) as usize;
        let end = centre[axis].saturating_add(steps).saturating_add(1);
        centre[axis].saturating_sub(steps)..end.min(shape[axis])
    });
    slices.flat_map(move |slice| {
        let columns = columns.clone();
        let line = move |row| columns.clone().map(move |column| [slice, row, column]);
        rows.clone().flat_map(line)
    })
}

#[cfg(test)]
pub(crate) mod test_masks {
    use std::collections::BTreeMap;

    use datasets::Mask;

    use super::{Draw, redraw::plane_of};

    /// A disc in a square image.
    pub(crate) fn disc(side: usize, centre: [f64; 2], radius: f64) -> Mask {
        Mask::from_fn([1, side, side], |[_, row, column]| {
            (row as f64 - centre[0]).hypot(column as f64 - centre[1]) <= radius
        })
    }

    /// Two ellipses that stand for lungs, `[1, 64, 64]`, slightly different for every `case`.
    pub(crate) fn lungs(case: usize) -> Mask {
        let (grow, lift) = ((case % 5) as f64 * 0.4, (case % 7) as f64 * 0.5);
        Mask::from_fn([1, 64, 64], |[_, row, column]| {
            [(17.0, 9.0 + grow), (46.0, 8.0)].iter().any(|&(centre, width)| {
                let (y, x) = ((row as f64 - 31.0 - lift) / 22.0, (column as f64 - centre) / width);
                y * y + x * x <= 1.0
            })
        })
    }

    /// The masks that `tests/python/morph_vectors.py` makes, by name, and their shape.
    pub(crate) fn vectors() -> ([usize; 3], BTreeMap<String, Mask>) {
        let lines = include_str!("../../tests/vectors/morph.txt").lines();
        let masks: BTreeMap<String, Mask> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, rows)| {
                let rows: Vec<&str> = rows.split('/').collect();
                (name.to_owned(), Mask::from_drawing(&rows))
            })
            .collect();
        (masks["clean"].shape(), masks)
    }

    /// Random numbers of a simulator that takes them from a stream of its own.
    pub(crate) fn draw(seed: u64) -> Draw {
        Draw { uniforms: [0.5; 4], seed }
    }

    /// Checks that every slice of a cylinder becomes what a disc becomes.
    pub(crate) fn check_cylinder(radius: f64, noisy: impl Fn(&Mask) -> Mask) {
        let flat = disc(32, [16.0, 16.0], radius);
        let cylinder = Mask::from_fn([5, 32, 32], |[_, row, column]| flat.get([0, row, column]));
        let (found, flat) = (noisy(&cylinder), noisy(&flat));
        assert!((0..5).all(|slice| plane_of(&found, slice) == flat));
    }

    /// Dice of two masks of one shape.
    pub(crate) fn dice(reference: &Mask, prediction: &Mask) -> f64 {
        let overlap = crate::scores::Overlap::count(reference, prediction).expect("one shape");
        overlap
            .dice(crate::scores::EmptyPolicy::default())
            .expect("the default policy skips nothing")
    }
}
