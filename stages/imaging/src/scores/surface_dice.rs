//! Surface Dice at a tolerance: the share of both surfaces that the other one comes near to.
//!
//! Source: Nikolov et al., arXiv 1809.04430, "normalised surface Dice", with the voxel surfaces of this module, as
//! MONAI's `compute_surface_dice` counts them: every surface voxel weighs the same, the border of the image is
//! surface, and a distance equal to the tolerance is within.
//! Deviation from DeepMind's `surface_distance`: its surface elements lie between voxels and weigh by their area, so
//! its distances are smaller; both give 1 from the Hausdorff distance on, and 1 for equal masks.
//! Randomness: none. Cost: that of the surface distances.

use datasets::Mask;

use super::{EmptyPolicy, Levels, Overlap, SurfaceDistances};
use crate::{ImagingError, error::check_option};

/// Surface Dice of `prediction` and `reference`, in `[0, 1]`; `None` when the policy leaves the case out.
///
/// `tolerance` has the unit of `spacing`, which is `[slice, row, column]`. Two empty masks score 1 and one empty mask
/// 0, unless they are skipped.
///
/// # Errors
/// [`ImagingError::ShapesDiffer`], [`ImagingError::SpacingNotPositive`], and [`ImagingError::OptionOutOfRange`] for a
/// tolerance that is negative or no number.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::scores::{EmptyPolicy, surface_dice};
/// let (a, b) = (mask!["# # . ."], mask![". # # ."]);
/// let at = |tolerance| surface_dice(&a, &b, [1.0; 3], tolerance, EmptyPolicy::default());
/// assert_eq!((at(0.0)?, at(1.0)?), (Some(0.5), Some(1.0)));
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn surface_dice(
    reference: &Mask,
    prediction: &Mask,
    spacing: [f64; 3],
    tolerance: f64,
    policy: EmptyPolicy,
) -> Result<Option<f64>, ImagingError> {
    check_option("surface_dice", "tolerance", tolerance, [0.0, f64::MAX])?;
    let emptiness = Overlap::count(reference, prediction)?.emptiness();
    let distances = SurfaceDistances::measure(reference, prediction, spacing)?;
    Ok(policy.score(emptiness, Levels::OVERLAP, || {
        distances.map_or(f64::NAN, |distances| distances.surface_dice(tolerance))
    }))
}

impl SurfaceDistances {
    /// Share of the surface voxels of both masks that lie within `tolerance` of the other surface.
    pub fn surface_dice(&self, tolerance: f64) -> f64 {
        let [reference, prediction] = [self.from_reference(), self.from_prediction()];
        let near = count_within(reference, tolerance) + count_within(prediction, tolerance);
        near as f64 / (reference.len() + prediction.len()) as f64
    }

    /// Share of the surface of the reference within `tolerance` of the prediction, and the other way round.
    pub fn overlap_within(&self, tolerance: f64) -> [f64; 2] {
        [self.from_reference(), self.from_prediction()]
            .map(|distances| count_within(distances, tolerance) as f64 / distances.len() as f64)
    }
}

fn count_within(distances: &[f64], tolerance: f64) -> usize {
    distances.iter().filter(|&&distance| distance <= tolerance).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::scores::{BothEmpty, OneEmpty};
    use datasets::mask;

    fn at(reference: &Mask, prediction: &Mask, spacing: [f64; 3], tolerance: f64) -> f64 {
        surface_dice(reference, prediction, spacing, tolerance, EmptyPolicy::default())
            .unwrap()
            .unwrap()
    }

    /// Expected values: MONAI, tests/metrics/test_surface_dice.py, closed forms of two half planes 10 columns apart.
    #[test]
    fn golden_half_planes_of_monai() {
        let from = |first: usize| Mask::from_fn([1, 480, 640], |[_, _, column]| column >= first);
        let (prediction, reference) = (from(50), from(60));
        let n_surface = f64::from(480 * 4 + 588 * 2 + 578 * 2);
        let expected = 1.0 - f64::from(478 + 480 + 9 * 2) / n_surface;
        assert!((at(&reference, &prediction, [1.0; 3], 0.0) - expected).abs() < 1e-12);
        assert_eq!(at(&reference, &prediction, [1.0; 3], 10.0), 1.0);
        assert!(at(&reference, &prediction, [1.0; 3], 9.0) < 1.0);
    }

    /// DeepMind's own test gives 0.5 at 1 mm here, where elements between voxels are 1 mm away; both give 1 at 2 mm.
    #[test]
    fn two_pixels_agree_with_deepmind_from_the_hausdorff_distance_on() {
        let pixel = |column| Mask::from_fn([1, 100, 100], |place| place == [0, 50, column]);
        let spacing = [1.0, 2.0, 1.0];
        assert_eq!(at(&pixel(70), &pixel(72), spacing, 1.0), 0.0);
        assert_eq!(at(&pixel(70), &pixel(72), spacing, 2.0), 1.0);
        assert_eq!(at(&pixel(70), &pixel(70), spacing, 0.0), 1.0);
    }

    #[test]
    fn directed_overlaps_tell_what_is_missing() {
        let (reference, prediction) = (mask!["# . . . #"], mask!["# . . . ."]);
        let distances =
            SurfaceDistances::measure(&reference, &prediction, [1.0; 3]).unwrap().unwrap();
        assert_eq!(distances.overlap_within(1.0), [0.5, 1.0]);
        assert!((distances.surface_dice(1.0) - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn every_empty_corner_follows_the_policy() {
        let (some, none) = (mask!["# ."], mask![". ."]);
        let skip = EmptyPolicy { both_empty: BothEmpty::Skip, one_empty: OneEmpty::Skip };
        for (reference, prediction, expected, skipped) in [
            (&some, &some, Some(1.0), Some(1.0)),
            (&some, &none, Some(0.0), None),
            (&none, &some, Some(0.0), None),
            (&none, &none, Some(1.0), None),
        ] {
            let with = |policy| surface_dice(reference, prediction, [1.0; 3], 1.0, policy).unwrap();
            assert_eq!((with(EmptyPolicy::default()), with(skip)), (expected, skipped));
        }
        let error = surface_dice(&some, &some, [1.0; 3], -1.0, skip).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { owner: "surface_dice", .. }));
    }
}
