//! Fusing the masks of several sources into one: votes here, each other method in a file of its own.
//!
//! Source: majority voting as in arXiv 2304.00466v2, IV. With an even number of sources the rule for ties decides
//! much of the result, and libraries differ in it, so it is explicit here. Randomness: none. Cost: one pass a mask.

mod multi_label;
mod patterns;
mod sample;
mod shape_average;
mod simple;
mod staple;
#[cfg(test)]
mod tests;

pub use multi_label::{
    LabelMap, MultiLabelEstimate, MultiLabelOptions, NamedLabels, multi_label_staple, vote_labels,
};
pub use sample::sample_source;
pub(crate) use shape_average::signed_distance;
pub use shape_average::{ShapeAverageOptions, mean_signed_distance, shape_average};
pub use simple::{SimpleEstimate, SimpleOptions, simple};
pub use staple::{StapleEstimate, StapleOptions, staple};

use std::cmp::Ordering;

use datasets::{Grid, Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ImagingError, error::check_option, zip::zip};

/// A mask and the source that drew it.
#[derive(Clone, Copy, Debug)]
pub struct NamedMask<'a> {
    /// Name of the source, for errors.
    pub source: &'a str,
    /// Its mask.
    pub mask: &'a Mask,
}

/// What a voxel becomes when exactly half of the sources mark it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TieRule {
    /// Background: more than half must agree. Two sources give their intersection.
    #[default]
    Background,
    /// Foreground: half is enough. Two sources give their union.
    Foreground,
    /// What the first source says. Two sources give the first.
    First,
}

/// Marks every voxel that more than half of the sources mark; `tie` decides at exactly half.
///
/// # Errors
/// [`ImagingError::NoMasks`] for an empty list, [`ImagingError::ShapesDiffer`] when a mask differs from the first.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::fusion::{NamedMask, TieRule, majority_vote};
/// let (a, b) = (mask!["# # ."], mask![". # #"]);
/// let masks = [NamedMask { source: "a", mask: &a }, NamedMask { source: "b", mask: &b }];
/// assert_eq!(majority_vote(&masks, TieRule::Background)?, mask![". # ."]);
/// assert_eq!(majority_vote(&masks, TieRule::Foreground)?, mask!["# # #"]);
/// assert_eq!(majority_vote(&masks, TieRule::First)?, a);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn majority_vote(masks: &[NamedMask<'_>], tie: TieRule) -> Result<Mask, ImagingError> {
    let votes = count_votes(masks)?;
    let n_sources = masks.len() as u32;
    Ok(zip(&votes, masks[0].mask, |&votes, &first| match (2 * votes).cmp(&n_sources) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => match tie {
            TieRule::Background => false,
            TieRule::Foreground => true,
            TieRule::First => first,
        },
    }))
}

/// Share of the sources that mark each voxel, in `[0, 1]`.
///
/// # Errors
/// As [`majority_vote`].
pub fn mean_mask(masks: &[NamedMask<'_>]) -> Result<Image, ImagingError> {
    let votes = count_votes(masks)?;
    let n_sources = masks.len() as f64;
    Ok(votes.map(|&votes| (f64::from(votes) / n_sources) as f32))
}

/// Marks every voxel that more than `threshold` of the sources mark; exactly that share does not suffice.
///
/// Threshold 0 is the union of the masks, thresholds just below 1 their intersection, 0.5 the majority vote with
/// ties to background. Shares are compared as `f64`, so 3 of 5 does not exceed 0.6.
///
/// # Errors
/// As [`majority_vote`], and [`ImagingError::OptionOutOfRange`] for a threshold outside `[0, 1]`.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::fusion::{NamedMask, soft_vote};
/// let (a, b) = (mask!["# # ."], mask![". # #"]);
/// let masks = [NamedMask { source: "a", mask: &a }, NamedMask { source: "b", mask: &b }];
/// assert_eq!(soft_vote(&masks, 0.4)?, mask!["# # #"]);
/// assert_eq!(soft_vote(&masks, 0.5)?, mask![". # ."]);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn soft_vote(masks: &[NamedMask<'_>], threshold: f64) -> Result<Mask, ImagingError> {
    check_option("soft_vote", "threshold", threshold, [0.0, 1.0])?;
    let votes = count_votes(masks)?;
    let n_sources = masks.len() as f64;
    Ok(votes.map(|&votes| f64::from(votes) / n_sources > threshold))
}

/// Number of sources that mark each voxel.
fn count_votes(masks: &[NamedMask<'_>]) -> Result<Grid<u32>, ImagingError> {
    check_all_shapes(masks)?;
    let mut votes = Grid::filled(masks[0].mask.shape(), 0_u32);
    for other in masks {
        for (votes, &inside) in votes.values_mut().iter_mut().zip(other.mask.values()) {
            *votes += u32::from(inside);
        }
    }
    Ok(votes)
}

/// Refuses an empty list and masks that differ in shape from the first.
fn check_all_shapes(masks: &[NamedMask<'_>]) -> Result<(), ImagingError> {
    let first = masks.first().ok_or(ImagingError::NoMasks)?;
    masks
        .iter()
        .try_for_each(|other| check_shapes([first.source, other.source], [first.mask, other.mask]))
}

/// Refuses two masks of different shapes.
pub(crate) fn check_shapes(names: [&str; 2], masks: [&Mask; 2]) -> Result<(), ImagingError> {
    if masks[0].shape() == masks[1].shape() {
        return Ok(());
    }
    Err(ImagingError::ShapesDiffer {
        left: names[0].to_owned(),
        left_shape: masks[0].shape(),
        right: names[1].to_owned(),
        right_shape: masks[1].shape(),
    })
}

#[cfg(test)]
mod vote_tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use datasets::mask;

    fn named(masks: &[Mask]) -> Vec<NamedMask<'_>> {
        masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect()
    }

    #[test]
    fn an_odd_number_of_sources_has_no_ties() {
        let masks = [mask!["# # ."], mask!["# . ."], mask![". # #"]];
        for tie in [TieRule::Background, TieRule::Foreground, TieRule::First] {
            assert_eq!(majority_vote(&named(&masks), tie).unwrap(), mask!["# # ."]);
        }
    }

    #[test]
    fn ties_of_four_follow_the_rule() {
        let masks = [mask!["# . #"], mask!["# . #"], mask![". # #"], mask![". # ."]];
        assert_eq!(majority_vote(&named(&masks), TieRule::Background).unwrap(), mask![". . #"]);
        assert_eq!(majority_vote(&named(&masks), TieRule::Foreground).unwrap(), mask!["# # #"]);
        assert_eq!(majority_vote(&named(&masks), TieRule::First).unwrap(), mask!["# . #"]);
        assert_eq!(mean_mask(&named(&masks)).unwrap().values(), [0.5, 0.5, 0.75]);
    }

    #[test]
    fn soft_votes_compare_exact_shares() {
        let masks: Vec<Mask> =
            (0..5).map(|source| Mask::from_fn([1, 1, 6], |[_, _, votes]| source < votes)).collect();
        let area = |threshold| soft_vote(&named(&masks), threshold).unwrap().area();
        assert_eq!([0.0, 0.2, 0.5, 0.6, 0.8, 0.999, 1.0].map(area), [5, 4, 3, 2, 1, 1, 0]);
        let error = soft_vote(&named(&masks), f64::NAN).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { owner: "soft_vote", .. }));
    }

    #[test]
    fn one_source_is_its_own_vote() {
        let masks = [mask!["# . #"]];
        assert_eq!(majority_vote(&named(&masks), TieRule::Background).unwrap(), masks[0]);
    }

    #[test]
    fn refuses_nothing_and_other_shapes() {
        assert_eq!(majority_vote(&[], TieRule::Background), Err(ImagingError::NoMasks));
        let (a, b) = (mask!["# ."], mask!["# . ."]);
        let masks =
            [NamedMask { source: "rater_2", mask: &a }, NamedMask { source: "rater_5", mask: &b }];
        let error = mean_mask(&masks).unwrap_err();
        assert_eq!(
            error.to_string(),
            "masks `rater_2` and `rater_5` differ in shape: [1, 1, 2] and [1, 1, 3] as [slice, row, column]"
        );
    }
}
