//! SIMPLE: a vote in which sources that disagree with the result count less and in the end not at all.
//!
//! Source: Langerak et al., IEEE TMI 29 (2010), in the form of the BraTS Toolkit (Kofler et al. 2020): a source
//! weighs `(Dice + 1)^2` against the present result and is dropped for good when its weight is at most a share of
//! the largest; the rounds end when the area of the result changes by fewer voxels than a limit.
//! Deviation: the share grows from round to round, as the Toolkit intends; its released code computes the larger
//! share and then does not use it (`threshold_growth = 0` gives that). The best source is always kept, ties follow
//! a rule (the Toolkit takes foreground).
//! Randomness: none. Cost: two passes over the masks for each round.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamedMask, TieRule, check_all_shapes, majority_vote};
use crate::{
    ImagingError,
    error::check_option,
    scores::{EmptyPolicy, Overlap},
};

/// Settings of [`simple`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimpleOptions {
    /// Rounds at most, from 1. Default 25.
    pub max_rounds: u32,
    /// Share of the largest weight at which a source is dropped in the first round, in `[0, 1]`. Default 0.05.
    pub threshold: f64,
    /// What is added to the share after every round, in `[0, 1]`. Default 0.07.
    pub threshold_growth: f64,
    /// The rounds end when the area changes by fewer voxels than this. Default 25.
    pub smallest_change_voxels: usize,
    /// What a voxel becomes on which both sides weigh the same.
    pub tie: TieRule,
}

impl Default for SimpleOptions {
    fn default() -> Self {
        Self {
            max_rounds: 25,
            threshold: 0.05,
            threshold_growth: 0.07,
            smallest_change_voxels: 25,
            tie: TieRule::Background,
        }
    }
}

/// What [`simple`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct SimpleEstimate {
    /// The fused mask.
    pub mask: Mask,
    /// Last weight of each source, in `[1, 4]`; `None` for a source that was dropped.
    pub weights: Vec<Option<f64>>,
    /// Rounds that were made.
    pub rounds: u32,
    /// Whether the area came to rest before the limit.
    pub has_converged: bool,
}

/// Fuses `masks` by repeated weighted votes.
///
/// Sources that all draw nothing agree perfectly and give an empty mask.
///
/// # Errors
/// [`ImagingError::NoMasks`], [`ImagingError::ShapesDiffer`], and [`ImagingError::OptionOutOfRange`] for options
/// outside their range.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::fusion::{NamedMask, SimpleOptions, simple};
/// let masks = [mask!["# # ."], mask!["# # ."], mask![". # #"]];
/// let named: Vec<_> = masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect();
/// assert_eq!(simple(&named, &SimpleOptions::default())?.mask, mask!["# # ."]);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn simple(
    masks: &[NamedMask<'_>],
    options: &SimpleOptions,
) -> Result<SimpleEstimate, ImagingError> {
    let owner = "simple";
    check_option(owner, "max_rounds", f64::from(options.max_rounds), [1.0, f64::MAX])?;
    check_option(owner, "threshold", options.threshold, [0.0, 1.0])?;
    check_option(owner, "threshold_growth", options.threshold_growth, [0.0, 1.0])?;
    check_all_shapes(masks)?;
    let mut mask = majority_vote(masks, options.tie)?;
    let mut weights = vec![Some(1.0); masks.len()];
    let mut threshold = options.threshold;
    let mut rounds = 0;
    let mut has_converged = false;
    while rounds < options.max_rounds && !has_converged {
        rounds += 1;
        weigh(masks, &mask, &mut weights)?;
        drop_worst(&mut weights, threshold);
        threshold += options.threshold_growth;
        let updated = weighted_vote(masks, &weights, options.tie);
        has_converged = updated.area().abs_diff(mask.area()) < options.smallest_change_voxels;
        mask = updated;
    }
    Ok(SimpleEstimate { mask, weights, rounds, has_converged })
}

/// Weighs every source that is left against the present result.
fn weigh(
    masks: &[NamedMask<'_>],
    result: &Mask,
    weights: &mut [Option<f64>],
) -> Result<(), ImagingError> {
    for (named, weight) in masks.iter().zip(weights).filter(|(_, weight)| weight.is_some()) {
        let dice = Overlap::count(result, named.mask)?.dice(EmptyPolicy::default());
        *weight = dice.map(|dice| (dice + 1.0).powi(2));
    }
    Ok(())
}

/// Drops sources whose weight is at most a share of the largest, but never the best.
fn drop_worst(weights: &mut [Option<f64>], share: f64) {
    let largest = weights.iter().flatten().copied().fold(0.0, f64::max);
    for weight in weights {
        *weight = weight.filter(|&weight| weight > share * largest || weight >= largest);
    }
}

fn weighted_vote(masks: &[NamedMask<'_>], weights: &[Option<f64>], tie: TieRule) -> Mask {
    let voters: Vec<(&Mask, f64)> = masks
        .iter()
        .zip(weights)
        .filter_map(|(named, weight)| weight.map(|weight| (named.mask, weight)))
        .collect();
    let total: f64 = voters.iter().map(|(_, weight)| weight).sum();
    let mut sums = masks[0].mask.map(|_| 0.0);
    for (mask, weight) in &voters {
        for (sum, &inside) in sums.values_mut().iter_mut().zip(mask.values()) {
            *sum += if inside { *weight } else { 0.0 };
        }
    }
    let first = voters.first().map_or(masks[0].mask, |(mask, _)| mask);
    crate::zip::zip(&sums, first, |&sum: &f64, &first| {
        let surplus = 2.0 * sum - total;
        // Sums of weights of one size: what is left of a tie is rounding.
        if surplus.abs() <= 1e-12 * total {
            match tie {
                TieRule::Background => false,
                TieRule::Foreground => true,
                TieRule::First => first,
            }
        } else {
            surplus > 0.0
        }
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

    fn square(first: usize, side: usize) -> Mask {
        let range = first..first + side;
        Mask::from_fn([1, 24, 24], |[_, row, column]| {
            range.contains(&row) && range.contains(&column)
        })
    }

    /// Goes on until nothing changes.
    const PATIENT: SimpleOptions = SimpleOptions {
        max_rounds: 25,
        threshold: 0.05,
        threshold_growth: 0.07,
        smallest_change_voxels: 1,
        tie: TieRule::Background,
    };

    #[test]
    fn a_careless_source_is_dropped_and_the_others_decide() {
        let masks = [square(4, 12), square(4, 12), square(5, 12), square(0, 3)];
        let found = simple(&named(&masks), &SimpleOptions { threshold: 0.4, ..PATIENT }).unwrap();
        assert!(found.weights[3].is_none() && found.weights[..3].iter().all(Option::is_some));
        assert_eq!((found.mask, found.has_converged), (square(4, 12), true));
    }

    #[test]
    fn without_growth_and_with_a_small_share_nobody_is_dropped() {
        let masks = [square(4, 12), square(5, 12), square(0, 3)];
        let options = SimpleOptions { threshold_growth: 0.0, ..PATIENT };
        let found = simple(&named(&masks), &options).unwrap();
        assert!(found.weights.iter().all(|weight| (1.0..=4.0).contains(&weight.unwrap())));
    }

    #[test]
    fn the_best_source_survives_any_share() {
        let masks = [square(4, 12), square(5, 12), square(8, 12)];
        let options = SimpleOptions { threshold: 1.0, threshold_growth: 1.0, ..PATIENT };
        let found = simple(&named(&masks), &options).unwrap();
        assert_eq!(found.weights.iter().flatten().count(), 1);
        assert_eq!(found.mask, square(5, 12));
    }

    #[test]
    fn two_sources_tie_by_the_rule() {
        let masks = [mask!["# # ."], mask![". # #"]];
        for (tie, expected) in [
            (TieRule::Background, mask![". # ."]),
            (TieRule::Foreground, mask!["# # #"]),
            (TieRule::First, mask!["# # ."]),
        ] {
            let options = SimpleOptions { tie, threshold_growth: 0.0, ..PATIENT };
            assert_eq!(simple(&named(&masks), &options).unwrap().mask, expected);
        }
    }

    #[test]
    fn empty_sources_agree_and_bad_input_is_refused() {
        let masks = [mask![". ."], mask![". ."]];
        let found = simple(&named(&masks), &SimpleOptions::default()).unwrap();
        assert_eq!((found.mask, found.weights), (mask![". ."], vec![Some(4.0); 2]));
        let options = SimpleOptions { threshold: -0.1, ..PATIENT };
        let error = simple(&named(&masks), &options).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { owner: "simple", .. }));
        assert_eq!(simple(&[], &PATIENT), Err(ImagingError::NoMasks));
    }
}
