//! All scores of one case.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Emptiness, EmptyPolicy, Levels, Overlap, SurfaceDistances};
use crate::{ImagingError, error::check_option};

/// Scores of a prediction against a reference; `None` where the policy leaves the case out.
///
/// Distances are in the unit of the spacing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseScores {
    /// Which of the masks is empty.
    pub emptiness: Emptiness,
    /// Foreground voxels of the reference.
    pub reference_voxels: usize,
    /// Foreground voxels of the prediction.
    pub prediction_voxels: usize,
    /// Dice coefficient.
    pub dice: Option<f64>,
    /// Jaccard index.
    pub jaccard: Option<f64>,
    /// Volume similarity, see [`Overlap::volume_similarity`].
    pub volume_similarity: Option<f64>,
    /// Relative difference of the volumes, see [`Overlap::volume_difference`].
    pub volume_difference: Option<f64>,
    /// Surface Dice at the tolerance, see [`surface_dice`](super::surface_dice).
    pub surface_dice: Option<f64>,
    /// Average symmetric surface distance, both surfaces pooled.
    pub assd: Option<f64>,
    /// Mean of the two directed mean distances.
    pub masd: Option<f64>,
    /// Mean distance from the surface of the reference to that of the prediction.
    pub mean_from_reference: Option<f64>,
    /// Mean distance from the surface of the prediction to that of the reference.
    pub mean_from_prediction: Option<f64>,
    /// Hausdorff distance.
    pub hausdorff: Option<f64>,
    /// Larger of the two directed 95th percentiles.
    pub hd95: Option<f64>,
    /// 95th percentile of both surfaces pooled.
    pub hd95_pooled: Option<f64>,
}

/// Scores `prediction` against `reference`; `spacing` is `[slice, row, column]`, and `tolerance`, that of the surface
/// Dice, has its unit.
///
/// # Errors
/// [`ImagingError::ShapesDiffer`] when the masks have different axes,
/// [`ImagingError::SpacingNotPositive`] when a spacing is not positive, [`ImagingError::OptionOutOfRange`] for a
/// tolerance that is negative or no number.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::scores::{EmptyPolicy, score_case};
/// let (reference, prediction) = (mask!["# # . ."], mask![". # # ."]);
/// let scores = score_case(&reference, &prediction, [1.0; 3], 0.0, EmptyPolicy::default())?;
/// assert_eq!((scores.dice, scores.hausdorff, scores.surface_dice), (Some(0.5), Some(1.0), Some(0.5)));
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn score_case(
    reference: &Mask,
    prediction: &Mask,
    spacing: [f64; 3],
    tolerance: f64,
    policy: EmptyPolicy,
) -> Result<CaseScores, ImagingError> {
    check_option("surface_dice", "tolerance", tolerance, [0.0, f64::MAX])?;
    let overlap = Overlap::count(reference, prediction)?;
    let distances = SurfaceDistances::measure(reference, prediction, spacing)?;
    let emptiness = overlap.emptiness();
    let levels = Levels::distance(diagonal(reference.shape(), spacing));
    let distance = |formula: fn(&SurfaceDistances) -> f64| {
        policy.score(emptiness, levels, || distances.as_ref().map_or(f64::NAN, formula))
    };
    Ok(CaseScores {
        emptiness,
        reference_voxels: overlap.reference,
        prediction_voxels: overlap.prediction,
        dice: overlap.dice(policy),
        jaccard: overlap.jaccard(policy),
        volume_similarity: overlap.volume_similarity(policy),
        volume_difference: overlap.volume_difference(policy),
        surface_dice: policy.score(emptiness, Levels::OVERLAP, || {
            distances.as_ref().map_or(f64::NAN, |distances| distances.surface_dice(tolerance))
        }),
        assd: distance(SurfaceDistances::assd),
        masd: distance(SurfaceDistances::masd),
        mean_from_reference: distance(SurfaceDistances::mean_from_reference),
        mean_from_prediction: distance(SurfaceDistances::mean_from_prediction),
        hausdorff: distance(SurfaceDistances::hausdorff),
        hd95: distance(|distances| distances.percentile_directed(95.0)),
        hd95_pooled: distance(|distances| distances.percentile_pooled(95.0)),
    })
}

/// Distance between the centres of opposite corner voxels.
fn diagonal(shape: [usize; 3], spacing: [f64; 3]) -> f64 {
    let squared: f64 =
        (0..3).map(|axis| (shape[axis].saturating_sub(1) as f64 * spacing[axis]).powi(2)).sum();
    squared.sqrt()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::ops::Range;

    use super::*;
    use crate::scores::{BothEmpty, OneEmpty};
    use datasets::mask;

    /// Digits that the references print.
    const PRINTED: f64 = 5.1e-7;

    fn rectangle(side: usize, rows: Range<usize>, columns: Range<usize>) -> Mask {
        Mask::from_fn([1, side, side], |[_, row, column]| {
            rows.contains(&row) && columns.contains(&column)
        })
    }

    fn ellipse(centre: [f64; 2], semi: [f64; 2]) -> Mask {
        Mask::from_fn([1, 64, 64], |[_, row, column]| {
            ((row as f64 - centre[0]) / semi[0]).powi(2)
                + ((column as f64 - centre[1]) / semi[1]).powi(2)
                <= 1.0
        })
    }

    /// Checks dice, jaccard, assd, masd, both directed means, hd95 of both kinds and hd, NaN for "not given".
    fn check(reference: &Mask, prediction: &Mask, spacing: [f64; 3], expected: [f64; 9]) {
        let scores =
            score_case(reference, prediction, spacing, 1.0, EmptyPolicy::default()).unwrap();
        let found = [
            scores.dice,
            scores.jaccard,
            scores.assd,
            scores.masd,
            scores.mean_from_reference,
            scores.mean_from_prediction,
            scores.hd95,
            scores.hd95_pooled,
            scores.hausdorff,
        ];
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let found = found.unwrap();
            assert!(
                expected.is_nan() || (found - expected).abs() <= PRINTED,
                "{index}: {found}, not {expected}"
            );
        }
    }

    /// Expected values: medPy 0.5.2 and MONAI on the same masks.
    #[test]
    fn golden_shifted_squares() {
        let (reference, prediction) = (rectangle(32, 8..24, 8..24), rectangle(32, 10..26, 11..27));
        let mean = 2.330539;
        let unit = [0.710938, 0.551515, mean, mean, mean, mean, 3.0, 3.0, 3.605551];
        check(&reference, &prediction, [1.0; 3], unit);
        let mean = 2.265437;
        let scaled = [0.710938, 0.551515, mean, mean, mean, mean, 4.001556, 4.001556, 4.272002];
        check(&reference, &prediction, [1.0, 2.0, 0.5], scaled);
    }

    #[test]
    fn golden_stray_pixel() {
        let reference = rectangle(32, 8..24, 8..24);
        let mut prediction = reference.clone();
        prediction.set([0, 2, 2], true);
        let expected = [0.998051, 0.996109, 0.070126, 0.069551, 0.0, 0.139103, 0.0, 0.0, 8.485281];
        check(&reference, &prediction, [1.0; 3], expected);
    }

    #[test]
    fn golden_touching_the_border() {
        let (reference, prediction) = (rectangle(32, 0..16, 0..12), rectangle(32, 0..16, 0..16));
        let expected = [0.857143, 0.75, 1.071429, 1.05641, 0.846154, 1.266667, 4.0, 4.0, 4.0];
        check(&reference, &prediction, [1.0; 3], expected);
    }

    #[test]
    fn golden_ellipses() {
        let (reference, prediction) =
            (ellipse([31.5, 31.5], [20.0, 12.0]), ellipse([31.5, 33.5], [18.0, 13.0]));
        let expected =
            [0.880319, 0.786223, 1.73812, 1.738047, 1.741342, 1.734751, 3.0, 3.0, f64::NAN];
        check(&reference, &prediction, [1.0; 3], expected);
    }

    #[test]
    fn overlap_and_surfaces_are_those_of_their_own_files() {
        let (reference, prediction) =
            (ellipse([31.5, 31.5], [20.0, 12.0]), ellipse([31.5, 33.5], [18.0, 13.0]));
        let policy = EmptyPolicy::default();
        for tolerance in [0.0, 1.0, 2.5] {
            let spacing = [1.0, 0.5, 2.0];
            let scores = score_case(&reference, &prediction, spacing, tolerance, policy).unwrap();
            let alone =
                crate::scores::surface_dice(&reference, &prediction, spacing, tolerance, policy);
            assert_eq!(scores.surface_dice, alone.unwrap());
            let overlap = Overlap::count(&reference, &prediction).unwrap();
            assert_eq!(scores.volume_difference, overlap.volume_difference(policy));
            assert_eq!(scores.volume_similarity, overlap.volume_similarity(policy));
        }
    }

    #[test]
    fn every_empty_corner_follows_the_policy() {
        let (some, none) =
            (mask!["# . . .", ". . . .", ". . . .", ". . . ."], Mask::filled([1, 4, 4], false));
        let policies = [
            EmptyPolicy::default(),
            EmptyPolicy { both_empty: BothEmpty::Skip, one_empty: OneEmpty::Skip },
            EmptyPolicy { both_empty: BothEmpty::Perfect, one_empty: OneEmpty::Infinite },
        ];
        let diagonal = 18.0_f64.sqrt();
        for (reference, prediction, expected) in [
            (&some, &some, [Some(0.0), Some(0.0), Some(0.0)]),
            (&some, &none, [Some(diagonal), None, Some(f64::INFINITY)]),
            (&none, &some, [Some(diagonal), None, Some(f64::INFINITY)]),
            (&none, &none, [Some(0.0), None, Some(0.0)]),
        ] {
            for (policy, expected) in policies.into_iter().zip(expected) {
                let scores = score_case(reference, prediction, [1.0; 3], 1.0, policy).unwrap();
                for found in [
                    scores.assd,
                    scores.masd,
                    scores.mean_from_reference,
                    scores.mean_from_prediction,
                    scores.hausdorff,
                    scores.hd95,
                    scores.hd95_pooled,
                ] {
                    assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn shapes_and_spacings_are_checked() {
        let policy = EmptyPolicy::default();
        let error = score_case(&mask!["#"], &mask!["# #"], [1.0; 3], 1.0, policy).unwrap_err();
        assert!(matches!(error, ImagingError::ShapesDiffer { .. }));
        let error = score_case(&mask!["#"], &mask!["#"], [1.0, 0.0, 1.0], 1.0, policy).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spacing must be positive: got [1.0, 0.0, 1.0] as [slice, row, column]"
        );
        let error = score_case(&mask!["#"], &mask!["#"], [1.0; 3], -1.0, policy).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { option: "tolerance", .. }));
    }
}
