//! Generalised energy distance between two sets of masks: samples of a model and the masks of raters.
//!
//! Source: `2 E[d(S, Y)] - E[d(S, S')] - E[d(Y, Y')]` with `d = 1 - IoU` (Kohl et al., arXiv 1806.05034); two empty
//! masks have distance 0. Published numbers differ in whether a mask is compared with itself: with identical pairs
//! the value is never negative and biased (PHiSeg's code), without them it is unbiased and may be negative
//! (D-Persona's). Both are given. Randomness: none. Cost: one pass over both masks for every pair.

use crate::{
    ImagingError,
    fusion::NamedMask,
    scores::{EmptyPolicy, Overlap},
};

/// Generalised energy distance in both conventions, and what it is made of; all of them are in distances `1 - IoU`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnergyDistance {
    /// Mean distance of a prediction and a reference.
    pub between: f64,
    /// Mean distance of two predictions, a mask compared with itself included.
    pub within_predictions: f64,
    /// Mean distance of two references, a mask compared with itself included.
    pub within_references: f64,
    /// Number of predictions; values of different numbers are not comparable.
    pub n_predictions: usize,
    /// Number of references.
    pub n_references: usize,
}

impl EnergyDistance {
    /// Compares two sets of masks.
    ///
    /// # Errors
    /// [`ImagingError::NoMasks`] when a set is empty, [`ImagingError::ShapesDiffer`] when two masks differ.
    ///
    /// # Examples
    /// ```
    /// # use datasets::mask; use imaging::{fusion::NamedMask, scores::EnergyDistance};
    /// let (a, b) = (mask!["# # . ."], mask![". # # ."]);
    /// let both = [NamedMask { source: "a", mask: &a }, NamedMask { source: "b", mask: &b }];
    /// let distance = EnergyDistance::measure(&both, &both)?;
    /// assert_eq!(distance.with_identical_pairs(), 0.0);
    /// # Ok::<(), imaging::ImagingError>(())
    /// ```
    pub fn measure(
        references: &[NamedMask<'_>],
        predictions: &[NamedMask<'_>],
    ) -> Result<Self, ImagingError> {
        if references.is_empty() || predictions.is_empty() {
            return Err(ImagingError::NoMasks);
        }
        let mut between = 0.0;
        for prediction in predictions {
            for reference in references {
                between += distance(prediction, reference)?;
            }
        }
        Ok(Self {
            between: between / (references.len() * predictions.len()) as f64,
            within_predictions: mean_within(predictions)?,
            within_references: mean_within(references)?,
            n_predictions: predictions.len(),
            n_references: references.len(),
        })
    }

    /// The distance with a mask compared with itself too: from 0, biased upwards.
    pub fn with_identical_pairs(&self) -> f64 {
        2.0 * self.between - self.within_predictions - self.within_references
    }

    /// The distance over different masks only: unbiased, possibly negative; `None` when a set has one mask.
    pub fn without_identical_pairs(&self) -> Option<f64> {
        let unbiased = |mean: f64, n_masks: usize| {
            (n_masks > 1).then(|| mean * n_masks as f64 / (n_masks - 1) as f64)
        };
        let predictions = unbiased(self.within_predictions, self.n_predictions)?;
        let references = unbiased(self.within_references, self.n_references)?;
        Some(2.0 * self.between - predictions - references)
    }
}

/// Mean over all ordered pairs, identical ones included.
fn mean_within(masks: &[NamedMask<'_>]) -> Result<f64, ImagingError> {
    let mut sum = 0.0;
    for (index, left) in masks.iter().enumerate() {
        for right in &masks[index + 1..] {
            sum += 2.0 * distance(left, right)?;
        }
    }
    Ok(sum / (masks.len() * masks.len()) as f64)
}

fn distance(left: &NamedMask<'_>, right: &NamedMask<'_>) -> Result<f64, ImagingError> {
    crate::fusion::check_shapes([left.source, right.source], [left.mask, right.mask])?;
    let overlap = Overlap::count(left.mask, right.mask)?;
    // The default policy gives 1 to two empty masks and 0 to one: it skips nothing.
    Ok(1.0 - overlap.jaccard(EmptyPolicy::default()).unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use datasets::{Mask, mask};

    fn named(masks: &[Mask]) -> Vec<NamedMask<'_>> {
        masks.iter().map(|mask| NamedMask { source: "rater", mask }).collect()
    }

    fn measure(references: &[Mask], predictions: &[Mask]) -> EnergyDistance {
        EnergyDistance::measure(&named(references), &named(predictions)).unwrap()
    }

    /// By hand: `IoU` of the two masks is 1/3.
    #[test]
    fn equal_sets_differ_only_by_the_convention() {
        let masks = [mask!["# # . ."], mask![". # # ."]];
        let found = measure(&masks, &masks);
        assert!((found.between - 1.0 / 3.0).abs() < 1e-15);
        assert!(found.with_identical_pairs().abs() < 1e-15);
        assert!((found.without_identical_pairs().unwrap() + 2.0 / 3.0).abs() < 1e-15);
    }

    /// By hand: distances to the references are 0 and 1, those have distance 1.
    #[test]
    fn a_single_prediction_has_no_spread() {
        let references = [mask!["# # . ."], mask![". . # #"]];
        let found = measure(&references, &references[..1]);
        assert_eq!((found.between, found.within_references), (0.5, 0.5));
        assert_eq!((found.with_identical_pairs(), found.without_identical_pairs()), (0.5, None));
    }

    #[test]
    fn every_empty_corner_has_a_distance() {
        let (some, none) = (mask!["# ."], mask![". ."]);
        for (reference, prediction, expected) in
            [(&some, &some, 0.0), (&some, &none, 2.0), (&none, &some, 2.0), (&none, &none, 0.0)]
        {
            let found = measure(std::slice::from_ref(reference), std::slice::from_ref(prediction));
            assert_eq!(found.with_identical_pairs(), expected);
        }
    }

    #[test]
    fn the_order_of_the_masks_changes_nothing_and_bad_sets_are_refused() {
        let masks = [mask!["# # . ."], mask![". # # ."], mask!["# # # #"]];
        let mut reversed = masks.clone();
        reversed.reverse();
        let [there, back] = [measure(&masks, &masks[..2]), measure(&reversed, &masks[..2])];
        assert!((there.with_identical_pairs() - back.with_identical_pairs()).abs() < 1e-15);
        let none: &[NamedMask<'_>] = &[];
        assert_eq!(EnergyDistance::measure(none, &named(&masks)), Err(ImagingError::NoMasks));
        let error = EnergyDistance::measure(&named(&masks), &named(&[mask!["#"]])).unwrap_err();
        assert!(matches!(error, ImagingError::ShapesDiffer { .. }));
    }
}
