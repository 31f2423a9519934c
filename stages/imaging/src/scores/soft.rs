//! Soft Dice: Dice between two maps of probability, cut at the same thresholds.
//!
//! Source: the evaluation of QUBIQ and of the works on several raters of fundus images (MR-Net, CVPR 2021): the mean
//! of the raters' masks and the prediction are cut at 0.1, 0.3, 0.5, 0.7 and 0.9, and Dice is averaged. Codes differ in
//! whether a value at the threshold is in (MR-Net: yes; D-Persona: no), so it is a choice here.
//! Randomness: none. Cost: one pass over both maps for each threshold.

use datasets::Image;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EmptyPolicy, Overlap};
use crate::{ImagingError, error::check_option};

/// Thresholds that publications use.
pub const SOFT_THRESHOLDS: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];

/// Whether a value at the threshold is foreground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtThreshold {
    /// It is background: values must exceed the threshold.
    #[default]
    Background,
    /// It is foreground: values must reach the threshold.
    Foreground,
}

/// Dice at every threshold and their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftDice {
    /// Dice at each threshold, in the order given; `None` where the policy leaves it out.
    pub at: Vec<Option<f64>>,
    /// Mean of those that there are; `None` when there are none.
    pub mean: Option<f64>,
}

/// Cuts two maps with values in `[0, 1]` at the same thresholds and scores the masks.
///
/// Values and thresholds are compared as `f32`, so the mean of 3 of 10 masks is at the threshold 0.3.
///
/// # Errors
/// [`ImagingError::ShapesDiffer`], and [`ImagingError::OptionOutOfRange`] for a threshold outside `[0, 1]`.
///
/// # Examples
/// ```
/// # use datasets::Grid; use imaging::scores::{AtThreshold, EmptyPolicy, soft_dice};
/// let reference = Grid::new([1, 1, 3], vec![1.0, 0.5, 0.0])?;
/// let prediction = Grid::new([1, 1, 3], vec![0.9, 0.2, 0.0])?;
/// let found =
///     soft_dice(&reference, &prediction, &[0.1, 0.3], AtThreshold::Background, EmptyPolicy::default())?;
/// assert_eq!(found.at, [Some(1.0), Some(2.0 / 3.0)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn soft_dice(
    reference: &Image,
    prediction: &Image,
    thresholds: &[f64],
    at_threshold: AtThreshold,
    policy: EmptyPolicy,
) -> Result<SoftDice, ImagingError> {
    let mut at = Vec::with_capacity(thresholds.len());
    for &threshold in thresholds {
        check_option("soft_dice", "threshold", threshold, [0.0, 1.0])?;
        let threshold = threshold as f32;
        let cut = |image: &Image| match at_threshold {
            AtThreshold::Background => image.map(|&value| value > threshold),
            AtThreshold::Foreground => image.map(|&value| value >= threshold),
        };
        at.push(Overlap::count(&cut(reference), &cut(prediction))?.dice(policy));
    }
    let scored: Vec<f64> = at.iter().flatten().copied().collect();
    let mean = (!scored.is_empty()).then(|| scored.iter().sum::<f64>() / scored.len() as f64);
    Ok(SoftDice { at, mean })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::scores::{BothEmpty, OneEmpty};
    use datasets::Grid;

    fn map(values: &[f32]) -> Image {
        Grid::new([1, 1, values.len()], values.to_vec()).unwrap()
    }

    /// By hand: six raters agree on k of 6 for the voxels in turn, the prediction is certain of the last three.
    #[test]
    fn only_the_threshold_of_a_half_depends_on_the_rule_with_six_raters() {
        let reference = map(&[0.0, 1.0 / 6.0, 2.0 / 6.0, 0.5, 4.0 / 6.0, 5.0 / 6.0, 1.0]);
        let prediction = map(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let at = |rule| {
            soft_dice(&reference, &prediction, &SOFT_THRESHOLDS, rule, EmptyPolicy::default())
                .unwrap()
        };
        let over = [6.0 / 9.0, 6.0 / 8.0, 1.0, 0.8, 0.5].map(Some);
        assert_eq!(at(AtThreshold::Background).at, over);
        let mut reached = over;
        reached[2] = Some(6.0 / 7.0);
        assert_eq!(at(AtThreshold::Foreground).at, reached);
        let mean = (6.0 / 9.0 + 6.0 / 8.0 + 1.0 + 0.8 + 0.5) / 5.0;
        assert!((at(AtThreshold::Background).mean.unwrap() - mean).abs() < 1e-15);
    }

    #[test]
    fn shares_of_raters_are_at_their_threshold() {
        let reference = map(&[0.3, 0.7]);
        let found = soft_dice(
            &reference,
            &map(&[1.0, 1.0]),
            &[0.3, 0.7],
            AtThreshold::Foreground,
            EmptyPolicy::default(),
        );
        assert_eq!(found.unwrap().at, [Some(1.0), Some(2.0 / 3.0)]);
    }

    #[test]
    fn every_empty_corner_follows_the_policy() {
        let (some, none) = (map(&[1.0, 0.0]), map(&[0.0, 0.0]));
        let skip = EmptyPolicy { both_empty: BothEmpty::Skip, one_empty: OneEmpty::Skip };
        for (reference, prediction, expected, skipped) in [
            (&some, &some, Some(1.0), Some(1.0)),
            (&some, &none, Some(0.0), None),
            (&none, &some, Some(0.0), None),
            (&none, &none, Some(1.0), None),
        ] {
            let mean = |policy| {
                soft_dice(reference, prediction, &SOFT_THRESHOLDS, AtThreshold::Background, policy)
                    .unwrap()
                    .mean
            };
            assert_eq!((mean(EmptyPolicy::default()), mean(skip)), (expected, skipped));
        }
        let error =
            soft_dice(&some, &none, &[f64::NAN], AtThreshold::Background, skip).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { owner: "soft_dice", .. }));
    }
}
