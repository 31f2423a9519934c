//! Shape-based averaging: the mean of signed distances to the outlines.
//!
//! Source: Rohlfing and Maurer, IEEE TIP 16 (2007). The signed distance is that of a voxel's centre to the nearest
//! voxel of the other kind, negative inside; the fused mask is where the mean is negative or zero.
//! Deviation: distances end at a limit (by default the diagonal of the image), since an empty or a full mask has
//! none, and what a mean of zero gives is a rule.
//! Randomness: none. Cost: two distance transforms a mask.

use datasets::{Grid, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamedMask, TieRule, check_all_shapes};
use crate::{
    ImagingError,
    distance::{Border, squared_distance, squared_distance_to_background},
    error::{check_option, check_spacing},
    zip::zip,
};

/// Means of distances of the order of 1: what is smaller is rounding.
const ZERO: f64 = 1e-9;

/// Settings of [`shape_average`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShapeAverageOptions {
    /// Distances beyond this count as this, in the unit of the spacing; a small one makes outliers harmless.
    /// Default: the diagonal of the image.
    pub limit: Option<f64>,
    /// What a voxel becomes whose mean distance is zero. Default `foreground`, as published.
    pub tie: TieRule,
}

impl Default for ShapeAverageOptions {
    fn default() -> Self {
        Self { limit: None, tie: TieRule::Foreground }
    }
}

/// Mean of the signed distances of `masks`, negative inside, in the unit of `spacing` (`[slice, row, column]`).
///
/// An empty mask is at the limit everywhere, a full mask at the negative limit.
///
/// # Errors
/// [`ImagingError::NoMasks`], [`ImagingError::ShapesDiffer`], [`ImagingError::SpacingNotPositive`], and
/// [`ImagingError::OptionOutOfRange`] for a limit that is not positive.
pub fn mean_signed_distance(
    masks: &[NamedMask<'_>],
    spacing: [f64; 3],
    limit: Option<f64>,
) -> Result<Grid<f64>, ImagingError> {
    check_spacing(spacing)?;
    if let Some(limit) = limit {
        check_option("shape_average", "limit", limit, [f64::MIN_POSITIVE, f64::MAX])?;
    }
    check_all_shapes(masks)?;
    let shape = masks[0].mask.shape();
    let limit = limit.unwrap_or_else(|| diagonal(shape, spacing));
    let mut sums = Grid::filled(shape, 0.0);
    for named in masks {
        let distances = signed_distance(named.mask, spacing);
        for (sum, distance) in sums.values_mut().iter_mut().zip(distances.values()) {
            *sum += distance.clamp(-limit, limit);
        }
    }
    let n_sources = masks.len() as f64;
    Ok(sums.map(|sum| sum / n_sources))
}

/// Marks the voxels whose mean signed distance is negative; `options.tie` decides at zero.
///
/// # Errors
/// Those of [`mean_signed_distance`].
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::fusion::{NamedMask, ShapeAverageOptions, shape_average};
/// let masks = [mask!["# . . . . . ."], mask!["# # # # # . ."]];
/// let named: Vec<_> = masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect();
/// let fused = shape_average(&named, [1.0; 3], &ShapeAverageOptions::default())?;
/// assert_eq!(fused, mask!["# # # . . . ."]);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn shape_average(
    masks: &[NamedMask<'_>],
    spacing: [f64; 3],
    options: &ShapeAverageOptions,
) -> Result<Mask, ImagingError> {
    let mean = mean_signed_distance(masks, spacing, options.limit)?;
    Ok(zip(&mean, masks[0].mask, |&mean: &f64, &first| {
        if mean.abs() > ZERO {
            return mean < 0.0;
        }
        match options.tie {
            TieRule::Background => false,
            TieRule::Foreground => true,
            TieRule::First => first,
        }
    }))
}

/// Distance to the nearest voxel of the other kind, negative inside; infinite where there is none.
pub(crate) fn signed_distance(mask: &Mask, spacing: [f64; 3]) -> Grid<f64> {
    let outside = squared_distance(mask, spacing);
    let inside = squared_distance_to_background(mask, spacing, Border::Unknown);
    zip(
        &outside,
        &inside,
        |&outside: &f64, &inside: &f64| {
            if outside > 0.0 { outside.sqrt() } else { -inside.sqrt() }
        },
    )
}

/// Distance between opposite corners of the image; an axis of length 1 has none.
fn diagonal(shape: [usize; 3], spacing: [f64; 3]) -> f64 {
    let squares = (0..3).map(|axis| (shape[axis].saturating_sub(1) as f64 * spacing[axis]).powi(2));
    squares.sum::<f64>().sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::noise::test_masks::disc;
    use datasets::mask;

    fn named(masks: &[Mask]) -> Vec<NamedMask<'_>> {
        masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect()
    }

    fn average(masks: &[Mask], options: ShapeAverageOptions) -> Mask {
        shape_average(&named(masks), [1.0; 3], &options).unwrap()
    }

    #[test]
    fn discs_average_to_the_disc_of_the_mean_radius() {
        let centre = [32.0, 32.0];
        let fused = average(
            &[disc(64, centre, 8.0), disc(64, centre, 10.0), disc(64, centre, 24.0)],
            ShapeAverageOptions::default(),
        );
        let expected = disc(64, centre, 14.0);
        let differing = fused.values().iter().zip(expected.values()).filter(|(a, b)| a != b);
        assert!(differing.count() <= 40, "of {} voxels", expected.area());
    }

    #[test]
    fn ties_follow_the_rule_and_the_spacing_counts() {
        let masks = [mask!["# # . ."], mask!["# # # ."]];
        // Signed distances of the third voxel are 1 and -1.
        for (tie, expected) in [
            (TieRule::Foreground, mask!["# # # ."]),
            (TieRule::Background, mask!["# # . ."]),
            (TieRule::First, mask!["# # . ."]),
        ] {
            let options = ShapeAverageOptions { tie, limit: None };
            assert_eq!(average(&masks, options), expected);
        }
        let mean = mean_signed_distance(&named(&masks), [1.0, 1.0, 0.5], None).unwrap();
        assert_eq!(mean.values(), [-1.25, -0.75, 0.0, 0.75]);
    }

    #[test]
    fn empty_and_full_masks_have_the_limit() {
        let (empty, full) = (mask![". . .", ". . ."], mask!["# # #", "# # #"]);
        let some = mask!["# # .", "# # ."];
        for mask in [&empty, &full, &some] {
            assert_eq!(average(std::slice::from_ref(mask), Default::default()), *mask);
        }
        let mean =
            mean_signed_distance(&named(std::slice::from_ref(&empty)), [1.0; 3], None).unwrap();
        assert!(mean.values().iter().all(|&value| value == 5.0_f64.sqrt()));
        let both = [empty.clone(), full];
        let options = ShapeAverageOptions { tie: TieRule::First, limit: None };
        assert_eq!(average(&both, options), empty);
        // One blank mask wins against two drawn ones, unless distances are limited.
        let masks = [some.clone(), some.clone(), empty.clone()];
        assert_eq!(average(&masks, Default::default()).area(), 2);
        let options = ShapeAverageOptions { limit: Some(1.0), ..Default::default() };
        assert_eq!(average(&masks, options), some);
    }

    #[test]
    fn bad_input_is_refused() {
        let masks = [mask!["# ."]];
        for (spacing, limit) in [([1.0, 0.0, 1.0], None), ([1.0; 3], Some(0.0))] {
            assert!(mean_signed_distance(&named(&masks), spacing, limit).is_err());
        }
        let error = shape_average(&[], [1.0; 3], &Default::default()).unwrap_err();
        assert_eq!(error, ImagingError::NoMasks);
    }
}
