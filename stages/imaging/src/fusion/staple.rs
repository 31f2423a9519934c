//! STAPLE: the hidden truth and the quality of every source, estimated together by expectation maximization.
//!
//! Source: Warfield, Zou and Wells, IEEE TMI 23 (2004), in the conventions of ITK's `STAPLEImageFilter`: the
//! probability of a voxel starts at the mean of the masks, the prior is the mean of that and stays fixed, each
//! iteration estimates sensitivities and specificities first and then the probabilities, and it ends when no
//! squared change exceeds the squared tolerance. There is no spatial model.
//! Deviation: likelihoods are summed as logarithms, so many sources do not underflow; where ITK divides 0 by 0, the
//! result is defined (below); iterations are limited to 1000 unless told otherwise.
//! Randomness: none. Cost: one pass over the masks, then work in proportion to the distinct combinations of
//! decisions (at most 2 to the number of sources) for each iteration.

use datasets::{Grid, Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamedMask, check_all_shapes, patterns::Patterns};
use crate::{ImagingError, error::check_option};

/// Settings of [`staple`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StapleOptions {
    /// Iterations after which the estimate is taken as it is, from 1. Default 1000; three raters may need 980.
    pub max_iterations: u32,
    /// Largest change of a sensitivity or specificity that counts as none. Default 1e-7, as in ITK.
    pub tolerance: f64,
    /// Prior probability of the foreground, in `[0, 1]`. Default: the mean of all masks, as in ITK.
    pub prior: Option<f64>,
}

impl Default for StapleOptions {
    fn default() -> Self {
        Self { max_iterations: 1000, tolerance: 1e-7, prior: None }
    }
}

/// What [`staple`] finds.
#[derive(Clone, Debug)]
pub struct StapleEstimate {
    /// Share of the true foreground that each source marks, in the order of the sources, in `[0, 1]`.
    pub sensitivity: Vec<f64>,
    /// Share of the true background that each source leaves out, in `[0, 1]`.
    pub specificity: Vec<f64>,
    /// Prior probability of the foreground that was used.
    pub prior: f64,
    /// Iterations as ITK counts them: the number of the last one from 0, or the limit.
    pub iterations: u32,
    /// Whether it ended before the limit.
    pub has_converged: bool,
    patterns: Patterns<bool>,
    weights: Vec<f64>,
}

impl StapleEstimate {
    /// Probability of the foreground for every voxel, in `[0, 1]`.
    pub fn probability(&self) -> Image {
        self.patterns.spread(|pattern| self.weights[pattern] as f32)
    }

    /// As [`StapleEstimate::probability`], to the last digit that was computed.
    pub fn weights(&self) -> Grid<f64> {
        self.patterns.spread(|pattern| self.weights[pattern])
    }

    /// Voxels whose probability exceeds `threshold`; a tie is background.
    pub fn mask(&self, threshold: f64) -> Mask {
        self.patterns.spread(|pattern| self.weights[pattern] > threshold)
    }
}

/// Estimates the hidden mask behind `masks` together with the quality of each source.
///
/// Sources that all leave everything out give probability 0 everywhere, those that all mark everything 1 everywhere;
/// what cannot be estimated then (the sensitivities or the specificities) stays 1. A voxel that the estimates hold
/// for impossible either way gets the prior.
///
/// # Errors
/// [`ImagingError::NoMasks`] for an empty list, [`ImagingError::NoVoxels`] for masks without voxels,
/// [`ImagingError::ShapesDiffer`] when a mask differs from the first, [`ImagingError::OptionOutOfRange`] for options without meaning.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::fusion::{NamedMask, StapleOptions, staple};
/// let masks = [mask!["# # . ."], mask!["# # . ."], mask![". . . ."]];
/// let named: Vec<_> = masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect();
/// let estimate = staple(&named, &StapleOptions::default())?;
/// assert_eq!(estimate.mask(0.5), mask!["# # . ."]);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn staple(
    masks: &[NamedMask<'_>],
    options: &StapleOptions,
) -> Result<StapleEstimate, ImagingError> {
    let owner = "staple";
    check_option(owner, "max_iterations", f64::from(options.max_iterations), [1.0, f64::MAX])?;
    check_option(owner, "tolerance", options.tolerance, [0.0, 1.0])?;
    if let Some(prior) = options.prior {
        check_option(owner, "prior", prior, [0.0, 1.0])?;
    }
    check_all_shapes(masks)?;
    let patterns = Patterns::of_masks(&masks.iter().map(|named| named.mask).collect::<Vec<_>>());
    let n_voxels: f64 = patterns.counts.iter().sum();
    if n_voxels < 1.0 {
        return Err(ImagingError::NoVoxels);
    }
    let mut weights: Vec<f64> = patterns.keys.iter().map(|key| share_of_true(key)).collect();
    let mean = dot(&patterns.counts, &weights) / n_voxels;
    let prior = options.prior.unwrap_or(mean);
    let mut quality = vec![Quality::PERFECT; masks.len()];
    let mut has_converged = false;
    let mut iterations = 0;
    while iterations < options.max_iterations {
        let updated = qualities(&patterns, &weights, masks.len());
        for (weight, key) in weights.iter_mut().zip(&patterns.keys) {
            *weight = posterior(key, &updated, prior);
        }
        let change = quality.iter().zip(&updated).map(|(old, new)| old.change(new));
        let is_still = change.fold(0.0, f64::max) <= options.tolerance * options.tolerance;
        quality = updated;
        if iterations > 0 && is_still {
            has_converged = true;
            break;
        }
        iterations += 1;
    }
    Ok(StapleEstimate {
        sensitivity: quality.iter().map(|quality| quality.sensitivity).collect(),
        specificity: quality.iter().map(|quality| quality.specificity).collect(),
        prior,
        iterations,
        has_converged,
        patterns,
        weights,
    })
}

/// How good one source is.
#[derive(Clone, Copy, Debug)]
struct Quality {
    sensitivity: f64,
    specificity: f64,
}

impl Quality {
    /// What holds as long as nothing is known.
    const PERFECT: Self = Self { sensitivity: 1.0, specificity: 1.0 };

    /// Larger of the two squared changes.
    fn change(&self, other: &Self) -> f64 {
        let sensitivity = (self.sensitivity - other.sensitivity).powi(2);
        sensitivity.max((self.specificity - other.specificity).powi(2))
    }
}

fn share_of_true(key: &[bool]) -> f64 {
    key.iter().filter(|&&decision| decision).count() as f64 / key.len() as f64
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The maximization step.
fn qualities(patterns: &Patterns<bool>, weights: &[f64], n_sources: usize) -> Vec<Quality> {
    let inside = dot(&patterns.counts, weights);
    let outside: f64 =
        patterns.counts.iter().zip(weights).map(|(count, weight)| count * (1.0 - weight)).sum();
    let mut found = vec![Quality { sensitivity: 0.0, specificity: 0.0 }; n_sources];
    for ((key, count), weight) in patterns.keys.iter().zip(&patterns.counts).zip(weights) {
        for (quality, &decision) in found.iter_mut().zip(key) {
            if decision {
                quality.sensitivity += count * weight;
            } else {
                quality.specificity += count * (1.0 - weight);
            }
        }
    }
    let share = |part: f64, whole: f64| if whole > 0.0 { (part / whole).min(1.0) } else { 1.0 };
    for quality in &mut found {
        quality.sensitivity = share(quality.sensitivity, inside);
        quality.specificity = share(quality.specificity, outside);
    }
    found
}

/// The expectation step for one combination of decisions.
fn posterior(key: &[bool], quality: &[Quality], prior: f64) -> f64 {
    let mut inside = prior.ln();
    let mut outside = (1.0 - prior).ln();
    for (&decision, source) in key.iter().zip(quality) {
        if decision {
            inside += source.sensitivity.ln();
            outside += (1.0 - source.specificity).ln();
        } else {
            inside += (1.0 - source.sensitivity).ln();
            outside += source.specificity.ln();
        }
    }
    if inside == f64::NEG_INFINITY && outside == f64::NEG_INFINITY {
        return prior;
    }
    1.0 / (1.0 + (outside - inside).exp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::ops::Range;

    use super::*;
    use crate::fusion::{TieRule, majority_vote};

    /// Digits that the reference prints.
    const PRINTED: f64 = 5.1e-7;

    fn box_of(rows: Range<usize>, columns: Range<usize>) -> Mask {
        Mask::from_fn([1, 8, 8], |[_, row, column]| {
            rows.contains(&row) && columns.contains(&column)
        })
    }

    fn raters() -> [Mask; 3] {
        [box_of(2..6, 2..6), box_of(2..6, 3..7), box_of(1..5, 2..6)]
    }

    fn empty() -> Mask {
        Mask::filled([1, 8, 8], false)
    }

    fn named(masks: &[Mask]) -> Vec<NamedMask<'_>> {
        masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect()
    }

    fn run(masks: &[Mask]) -> StapleEstimate {
        staple(&named(masks), &StapleOptions::default()).unwrap()
    }

    fn assert_printed(found: &[f64], expected: &[f64], digit: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= digit, "{found} instead of {expected}");
        }
    }

    /// Number of voxels whose probability is `value` to the digits printed.
    fn count(estimate: &StapleEstimate, value: f64, digit: f64) -> usize {
        let probability = estimate.probability();
        probability.values().iter().filter(|&&w| (f64::from(w) - value).abs() <= digit).count()
    }

    /// Expected values here and below: SimpleITK 2.5.7, `STAPLEImageFilter`, the same masks.
    #[test]
    fn golden_three_raters_who_differ() {
        let [a, b, c] = raters();
        let estimate = run(&[a.clone(), b.clone(), c.clone()]);
        assert_eq!((estimate.iterations, estimate.has_converged), (980, true));
        assert_printed(&estimate.sensitivity, &[1.0, 0.750098, 0.750098], 2e-6);
        assert_printed(&estimate.specificity, &[0.999951, 0.916667, 0.916667], 2e-6);
        assert_eq!(estimate.mask(0.5), a);
        let vote = majority_vote(&named(&[a, b, c]), TieRule::Background).unwrap();
        assert_eq!(vote.area(), 15);
    }

    #[test]
    fn golden_a_single_iteration() {
        let options = StapleOptions { max_iterations: 1, ..StapleOptions::default() };
        let estimate = staple(&named(&raters()), &options).unwrap();
        assert_eq!((estimate.iterations, estimate.has_converged), (1, false));
        assert_printed(&estimate.sensitivity, &[0.833333, 0.770833, 0.770833], PRINTED);
        assert_printed(&estimate.specificity, &[0.944444, 0.923611, 0.923611], PRINTED);
        for (value, n_voxels) in
            [(0.00361, 40), (0.12837, 8), (0.23537, 1), (0.92603, 6), (0.99804, 9)]
        {
            assert_eq!(count(&estimate, value, 5.1e-6), n_voxels, "{value}");
        }
    }

    #[test]
    fn golden_equal_and_two_raters() {
        let [a, b, _] = raters();
        let same = run(&[a.clone(), a.clone(), a.clone()]);
        assert_eq!((same.iterations, same.mask(0.5)), (1, a.clone()));
        assert_eq!((same.sensitivity, same.specificity), (vec![1.0; 3], vec![1.0; 3]));
        let two = run(&[a.clone(), b.clone()]);
        assert_eq!(two.iterations, 34);
        assert_printed(&two.sensitivity, &[0.862373; 2], PRINTED);
        assert_printed(&two.specificity, &[0.954124; 2], PRINTED);
        for (value, n_voxels) in [(0.0069, 44), (0.4747, 8), (0.9916, 12)] {
            assert_eq!(count(&two, value, 5.1e-5), n_voxels, "{value}");
        }
        let pairs = run(&[a.clone(), a, b.clone(), b]);
        assert_eq!((pairs.iterations, pairs.mask(0.5).area()), (7, 20));
        assert_printed(&pairs.sensitivity, &[0.799045; 4], PRINTED);
        assert_printed(&pairs.specificity, &[1.0; 4], PRINTED);
    }

    #[test]
    fn golden_a_rater_who_draws_nothing() {
        let [a, ..] = raters();
        let one = run(&[a.clone(), empty()]);
        assert_printed(&one.sensitivity, &[1.0, 0.0], PRINTED);
        assert_printed(&one.specificity, &[0.857143, 1.0], PRINTED);
        assert_eq!((count(&one, 0.5, 1e-6), one.mask(0.5).area()), (16, 0));
        assert_eq!(one.mask(0.499_999), a);
        let two = run(&[a.clone(), a.clone(), empty()]);
        assert_eq!((two.iterations, two.mask(0.5)), (5, a));
        assert_printed(&two.sensitivity, &[1.0, 1.0, 0.0], PRINTED);
    }

    /// Expected values: SimpleITK 2.5.7; raters that contain each other.
    #[test]
    fn golden_nested_raters() {
        let masks = [box_of(2..6, 2..6), box_of(2..6, 2..7), box_of(1..6, 2..6)];
        let three = run(&masks);
        assert_eq!((three.iterations, three.mask(0.5)), (5, masks[0].clone()));
        assert_printed(&three.sensitivity, &[1.0; 3], PRINTED);
        assert_printed(&three.specificity, &[1.0, 0.916667, 0.916667], PRINTED);
        let two = run(&masks[..2]);
        assert_eq!(two.iterations, 1);
        assert_printed(&two.sensitivity, &[0.888889, 1.0], PRINTED);
        assert_printed(&two.specificity, &[1.0, 0.956522], PRINTED);
        assert_eq!((count(&two, 1.0, 1e-6), count(&two, 0.5, 1e-6)), (16, 4));
    }

    #[test]
    fn all_empty_and_all_full_stay_finite() {
        let full = Mask::filled([1, 8, 8], true);
        for (mask, weight) in [(empty(), 0.0), (full, 1.0)] {
            for n_sources in [1, 3] {
                let estimate = run(&vec![mask.clone(); n_sources]);
                assert_eq!(estimate.prior, weight);
                assert!(estimate.probability().values().iter().all(|&w| f64::from(w) == weight));
                assert_eq!(estimate.sensitivity, vec![1.0; n_sources]);
                assert_eq!(estimate.specificity, vec![1.0; n_sources]);
                assert_eq!((estimate.iterations, estimate.has_converged), (1, true));
            }
        }
    }

    #[test]
    fn hundreds_of_sources_do_not_underflow() {
        let [a, b, c] = raters();
        let masks: Vec<Mask> = [a, b, c].into_iter().cycle().take(600).collect();
        let estimate = run(&masks);
        assert!(estimate.probability().values().iter().all(|w| (0.0..=1.0).contains(w)));
        assert!(estimate.sensitivity.iter().all(|p| (0.5..=1.0).contains(p)));
    }

    #[test]
    fn bad_options_and_inputs_are_refused() {
        let masks = raters();
        for options in [
            StapleOptions { max_iterations: 0, ..StapleOptions::default() },
            StapleOptions { tolerance: f64::NAN, ..StapleOptions::default() },
            StapleOptions { prior: Some(1.5), ..StapleOptions::default() },
        ] {
            let error = staple(&named(&masks), &options).unwrap_err();
            assert!(matches!(error, ImagingError::OptionOutOfRange { owner: "staple", .. }));
        }
        let options = StapleOptions::default();
        assert_eq!(staple(&[], &options).unwrap_err(), ImagingError::NoMasks);
        let nothing = [Mask::filled([0, 2, 2], false)];
        assert_eq!(staple(&named(&nothing), &options).unwrap_err(), ImagingError::NoVoxels);
        let differing = [empty(), Mask::filled([1, 8, 7], false)];
        let error = staple(&named(&differing), &options).unwrap_err();
        assert!(matches!(error, ImagingError::ShapesDiffer { .. }));
    }
}
