//! Dice, Jaccard and volume similarity from voxel counts.
//!
//! Source: `D = 2 |A and B| / (|A| + |B|)`, `J = |A and B| / |A or B|`; volume similarity as in Taha and Hanbury, BMC
//! Medical Imaging 15 (2015), and, signed, as in ITK. Randomness: none. Cost: one pass.

use datasets::Mask;

use super::{Emptiness, EmptyPolicy, Levels};
use crate::{ImagingError, fusion::check_shapes};

/// Voxel counts of a reference, a prediction and what they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Foreground voxels of the reference.
    pub reference: usize,
    /// Foreground voxels of the prediction.
    pub prediction: usize,
    /// Voxels that are foreground in both.
    pub shared: usize,
}

impl Overlap {
    /// Counts the voxels of two masks.
    ///
    /// # Errors
    /// [`ImagingError::ShapesDiffer`] when the masks have different axes.
    ///
    /// # Examples
    /// ```
    /// # use datasets::mask; use imaging::scores::{EmptyPolicy, Overlap};
    /// let overlap = Overlap::count(&mask!["# # ."], &mask![". # ."])?;
    /// assert_eq!(overlap.dice(EmptyPolicy::default()), Some(2.0 / 3.0));
    /// assert_eq!(overlap.jaccard(EmptyPolicy::default()), Some(0.5));
    /// # Ok::<(), imaging::ImagingError>(())
    /// ```
    pub fn count(reference: &Mask, prediction: &Mask) -> Result<Self, ImagingError> {
        check_shapes(["reference", "prediction"], [reference, prediction])?;
        // A byte counts a block of so many: several voxels are added at once.
        const BLOCK: usize = u8::MAX as usize;
        let mut overlap = Self { reference: 0, prediction: 0, shared: 0 };
        let blocks = reference.values().chunks(BLOCK).zip(prediction.values().chunks(BLOCK));
        for (expected, found) in blocks {
            let mut counts = [0_u8; 3];
            for (&expected, &found) in expected.iter().zip(found) {
                counts[0] += u8::from(expected);
                counts[1] += u8::from(found);
                counts[2] += u8::from(expected & found);
            }
            let [expected, found, shared] = counts.map(usize::from);
            overlap.reference += expected;
            overlap.prediction += found;
            overlap.shared += shared;
        }
        Ok(overlap)
    }

    /// Which of the two masks is empty.
    pub fn emptiness(&self) -> Emptiness {
        match (self.reference, self.prediction) {
            (0, 0) => Emptiness::Both,
            (0, _) => Emptiness::Reference,
            (_, 0) => Emptiness::Prediction,
            _ => Emptiness::Neither,
        }
    }

    /// Dice coefficient in `[0, 1]`; `None` when the policy leaves the case out.
    pub fn dice(&self, policy: EmptyPolicy) -> Option<f64> {
        policy.score(self.emptiness(), Levels::OVERLAP, || {
            2.0 * self.shared as f64 / (self.reference + self.prediction) as f64
        })
    }

    /// Jaccard index in `[0, 1]`; `None` when the policy leaves the case out.
    pub fn jaccard(&self, policy: EmptyPolicy) -> Option<f64> {
        policy.score(self.emptiness(), Levels::OVERLAP, || {
            self.shared as f64 / (self.reference + self.prediction - self.shared) as f64
        })
    }

    /// Volume similarity `1 - ||P| - |R|| / (|P| + |R|)` in `[0, 1]`; 1 for masks of one size, wherever they are.
    ///
    /// `None` when the policy leaves the case out.
    pub fn volume_similarity(&self, policy: EmptyPolicy) -> Option<f64> {
        policy.score(self.emptiness(), Levels::OVERLAP, || {
            let difference = self.prediction.abs_diff(self.reference);
            1.0 - difference as f64 / (self.reference + self.prediction) as f64
        })
    }

    /// Relative difference of the volumes, `2 (|P| - |R|) / (|P| + |R|)` in `[-2, 2]`: negative when too little was
    /// predicted.
    ///
    /// ITK calls this the volume similarity, with the prediction as source. Two empty masks do not differ; one empty
    /// mask gives -2 or 2. `None` when the policy leaves the case out.
    pub fn volume_difference(&self, policy: EmptyPolicy) -> Option<f64> {
        let extreme = if self.prediction > self.reference { 2.0 } else { -2.0 };
        let levels = Levels { best: 0.0, worst: extreme, infinite: extreme };
        policy.score(self.emptiness(), levels, || {
            let difference = self.prediction as f64 - self.reference as f64;
            2.0 * difference / (self.reference + self.prediction) as f64
        })
    }
}

/// Jaccard index that belongs to a Dice coefficient, `D / (2 - D)`.
///
/// Of a mean Dice this is *not* the mean Jaccard: the mean Jaccard is never smaller. Some papers print this value.
pub fn jaccard_from_mean_dice(mean_dice: f64) -> f64 {
    mean_dice / (2.0 - mean_dice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::scores::{BothEmpty, OneEmpty};
    use datasets::mask;

    #[test]
    fn every_empty_corner_follows_the_policy() {
        let (some, none) = (mask!["# ."], mask![". ."]);
        let strict = EmptyPolicy::default();
        let lenient = EmptyPolicy { both_empty: BothEmpty::Skip, one_empty: OneEmpty::Skip };
        let infinite =
            EmptyPolicy { both_empty: BothEmpty::Perfect, one_empty: OneEmpty::Infinite };
        for (reference, prediction, emptiness, expected) in [
            (&some, &some, Emptiness::Neither, [Some(1.0), Some(1.0), Some(1.0)]),
            (&some, &none, Emptiness::Prediction, [Some(0.0), None, Some(0.0)]),
            (&none, &some, Emptiness::Reference, [Some(0.0), None, Some(0.0)]),
            (&none, &none, Emptiness::Both, [Some(1.0), None, Some(1.0)]),
        ] {
            let overlap = Overlap::count(reference, prediction).unwrap();
            assert_eq!(overlap.emptiness(), emptiness);
            assert_eq!([strict, lenient, infinite].map(|policy| overlap.dice(policy)), expected);
            assert_eq!([strict, lenient, infinite].map(|policy| overlap.jaccard(policy)), expected);
        }
    }

    /// Expected values: ITK's test of `LabelOverlapMeasuresImageFilter`, 1 voxel against 2 in 128^3.
    #[test]
    fn golden_volumes_of_itk() {
        let mut prediction = Mask::filled([128; 3], false);
        prediction.set([64; 3], true);
        let mut reference = prediction.clone();
        reference.set([64, 64, 65], true);
        let overlap = Overlap::count(&reference, &prediction).unwrap();
        let policy = EmptyPolicy::default();
        assert_eq!((overlap.dice(policy), overlap.jaccard(policy)), (Some(2.0 / 3.0), Some(0.5)));
        assert_eq!(overlap.volume_difference(policy), Some(-2.0 / 3.0));
        assert!((overlap.volume_similarity(policy).unwrap() - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn volumes_of_every_empty_corner_follow_the_policy() {
        let (some, none) = (mask!["# ."], mask![". ."]);
        let skip = EmptyPolicy { both_empty: BothEmpty::Skip, one_empty: OneEmpty::Skip };
        for (reference, prediction, similarity, difference) in [
            (&some, &some, 1.0, 0.0),
            (&some, &none, 0.0, -2.0),
            (&none, &some, 0.0, 2.0),
            (&none, &none, 1.0, 0.0),
        ] {
            let overlap = Overlap::count(reference, prediction).unwrap();
            let policy = EmptyPolicy::default();
            assert_eq!(overlap.volume_similarity(policy), Some(similarity));
            assert_eq!(overlap.volume_difference(policy), Some(difference));
            let is_scored = overlap.emptiness() == Emptiness::Neither;
            assert_eq!(overlap.volume_similarity(skip).is_some(), is_scored);
            assert_eq!(overlap.volume_difference(skip).is_some(), is_scored);
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        let error = Overlap::count(&mask!["# ."], &mask!["#", "."]).unwrap_err();
        assert!(matches!(error, ImagingError::ShapesDiffer { .. }));
    }

    #[test]
    fn jaccard_of_a_mean_is_not_the_mean_of_jaccards() {
        assert!((jaccard_from_mean_dice(0.8) - 2.0 / 3.0).abs() < 1e-15);
        let mean_jaccard = (jaccard_from_mean_dice(0.6) + jaccard_from_mean_dice(1.0)) / 2.0;
        assert!(mean_jaccard > jaccard_from_mean_dice(0.8));
    }
}
