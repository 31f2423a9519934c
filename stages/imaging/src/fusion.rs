//! Fusing the masks of several sources into one.
//!
//! Source: majority voting as in arXiv 2304.00466v2, IV. With an even number of sources the rule for ties decides
//! much of the result, and libraries differ in it, so it is explicit here. Randomness: none. Cost: one pass a mask.

use std::cmp::Ordering;

use datasets::{Grid, Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ImagingError, zip::zip};

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

/// Number of sources that mark each voxel.
fn count_votes(masks: &[NamedMask<'_>]) -> Result<Grid<u32>, ImagingError> {
    let Some(first) = masks.first() else {
        return Err(ImagingError::NoMasks);
    };
    let mut votes = Grid::filled(first.mask.shape(), 0_u32);
    for other in masks {
        check_shapes([first.source, other.source], [first.mask, other.mask])?;
        for (votes, &inside) in votes.values_mut().iter_mut().zip(other.mask.values()) {
            *votes += u32::from(inside);
        }
    }
    Ok(votes)
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
mod tests {
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
