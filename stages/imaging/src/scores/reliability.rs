//! How well predicted probabilities hold: reliability diagram, expected calibration error, Brier score.
//!
//! Source: Naeini et al., AAAI 2015 (bins of the foreground's probability), Guo et al., ICML 2017 (bins of the
//! confidence in the predicted class); Brier, Monthly Weather Review 78 (1950). Bins are equally wide, closed below
//! and open above, the last closed at both ends. Randomness: none. Cost: one pass, sums in raster order in `f64`.

use datasets::{Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ImagingError, error::check_option};

/// What is sorted into bins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binning {
    /// The probability `p` of the foreground, against how often it is foreground.
    #[default]
    Probability,
    /// The confidence `max(p, 1 - p)` in the class that is predicted, against how often it is right.
    Confidence,
}

/// One bar of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReliabilityBin {
    /// Number of voxels.
    pub n_voxels: usize,
    /// Mean of what was sorted; 0 in an empty bin.
    pub mean_predicted: f64,
    /// How often it was true; 0 in an empty bin.
    pub frequency: f64,
}

/// Calibration of a map of probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reliability {
    /// The bars, from 0 to 1.
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error: the mean difference of prediction and frequency, bins weighted by their voxels.
    pub expected_error: f64,
    /// Largest difference of a bin that has voxels.
    pub largest_error: f64,
    /// Brier score: the mean of `(p - y)^2`.
    pub brier: f64,
}

impl Reliability {
    /// Compares probabilities in `[0, 1]` with the truth; an empty or full truth is nothing special.
    ///
    /// # Errors
    /// [`ImagingError::MapShapeDiffers`] when the axes differ, [`ImagingError::NoVoxels`] without voxels,
    /// [`ImagingError::NotAProbability`] for a value outside `[0, 1]`, [`ImagingError::OptionOutOfRange`] without
    /// bins.
    ///
    /// # Examples
    /// ```
    /// # use datasets::{Grid, mask}; use imaging::scores::{Binning, Reliability};
    /// let probability = Grid::new([1, 1, 4], vec![0.1, 0.9, 0.8, 0.3])?;
    /// let found = Reliability::measure(&mask![". # # ."], &probability, 10, Binning::Probability)?;
    /// assert!((found.brier - 0.0375).abs() < 1e-7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn measure(
        truth: &Mask,
        probability: &Image,
        n_bins: usize,
        binning: Binning,
    ) -> Result<Self, ImagingError> {
        check_option("reliability", "n_bins", n_bins as f64, [1.0, 1e6])?;
        check(truth, probability)?;
        let mut sums = vec![(0_usize, 0.0, 0.0); n_bins];
        let mut brier = 0.0;
        for (&is_foreground, &value) in truth.values().iter().zip(probability.values()) {
            let value = f64::from(value);
            let truth = f64::from(u8::from(is_foreground));
            brier += (value - truth).powi(2);
            let (predicted, is_true) = match binning {
                Binning::Probability => (value, truth),
                Binning::Confidence if value > 0.5 => (value, truth),
                Binning::Confidence => (1.0 - value, 1.0 - truth),
            };
            // The cast saturates below the number of bins.
            let bin = &mut sums[((predicted * n_bins as f64) as usize).min(n_bins - 1)];
            *bin = (bin.0 + 1, bin.1 + predicted, bin.2 + is_true);
        }
        let n_voxels = truth.values().len() as f64;
        let bins: Vec<ReliabilityBin> = sums.into_iter().map(ReliabilityBin::of).collect();
        let errors =
            || bins.iter().filter(|bin| bin.n_voxels > 0).map(|bin| (bin.n_voxels, bin.error()));
        Ok(Self {
            expected_error: errors().map(|(n, error)| n as f64 * error).sum::<f64>() / n_voxels,
            largest_error: errors().map(|(_, error)| error).fold(0.0, f64::max),
            brier: brier / n_voxels,
            bins,
        })
    }

    /// Calibration over several maps together, as if their voxels were those of one: several truths of one map, such as
    /// the masks of raters, or several cases. Bins are matched by place; `None` for nothing.
    pub fn pooled(parts: &[Self]) -> Option<Self> {
        let n_bins = parts.iter().map(|part| part.bins.len()).max()?;
        let place = |n: usize| parts.iter().filter_map(move |part| part.bins.get(n));
        let bins: Vec<ReliabilityBin> =
            (0..n_bins).map(|n| ReliabilityBin::pooled(place(n))).collect();
        let n_of = |bins: &[ReliabilityBin]| bins.iter().map(|bin| bin.n_voxels).sum::<usize>();
        let n_voxels = n_of(&bins) as f64;
        let errors = bins.iter().map(|bin| (bin.n_voxels as f64, bin.error()));
        let squares = parts.iter().map(|part| n_of(&part.bins) as f64 * part.brier);
        Some(Self {
            expected_error: errors.clone().map(|(n, error)| n * error).sum::<f64>() / n_voxels,
            largest_error: errors
                .filter(|&(n, _)| n > 0.0)
                .map(|(_, error)| error)
                .fold(0.0, f64::max),
            brier: squares.sum::<f64>() / n_voxels,
            bins,
        })
    }
}

impl ReliabilityBin {
    fn pooled<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let sums = parts.fold((0, 0.0, 0.0), |(n, predicted, is_true), part| {
            let weight = part.n_voxels as f64;
            (
                n + part.n_voxels,
                predicted + weight * part.mean_predicted,
                is_true + weight * part.frequency,
            )
        });
        Self::of(sums)
    }

    fn of((n_voxels, predicted, is_true): (usize, f64, f64)) -> Self {
        let share = |sum: f64| if n_voxels > 0 { sum / n_voxels as f64 } else { 0.0 };
        Self { n_voxels, mean_predicted: share(predicted), frequency: share(is_true) }
    }

    /// Difference of prediction and frequency.
    fn error(&self) -> f64 {
        (self.mean_predicted - self.frequency).abs()
    }
}

fn check(truth: &Mask, probability: &Image) -> Result<(), ImagingError> {
    if truth.shape() != probability.shape() {
        return Err(ImagingError::MapShapeDiffers {
            mask_shape: truth.shape(),
            map_shape: probability.shape(),
        });
    }
    if truth.values().is_empty() {
        return Err(ImagingError::NoVoxels);
    }
    match probability.values().iter().find(|value| !(0.0..=1.0).contains(*value)) {
        Some(&value) => Err(ImagingError::NotAProbability { value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use datasets::{Grid, mask};

    fn map(values: &[f32]) -> Image {
        Grid::new([1, 1, values.len()], values.to_vec()).unwrap()
    }

    /// Expected values: the example of torchmetrics' `BinaryCalibrationError`, 2 bins, norms l1 and max.
    #[test]
    fn golden_example_of_torchmetrics() {
        let probability = map(&[0.25, 0.25, 0.55, 0.75, 0.75]);
        let found =
            Reliability::measure(&mask![". . # # #"], &probability, 2, Binning::Probability)
                .unwrap();
        assert!((found.expected_error - 0.29).abs() < 1e-7, "{found:?}");
        assert!((found.largest_error - 0.316_666_7).abs() < 1e-6, "{found:?}");
        assert_eq!(found.bins.iter().map(|bin| bin.n_voxels).collect::<Vec<_>>(), [2, 3]);
    }

    /// By hand: confidences are 0.75, 0.75, 0.55, 0.75, 0.75, and all five are right.
    #[test]
    fn confidence_counts_the_predicted_class() {
        let probability = map(&[0.25, 0.25, 0.55, 0.75, 0.75]);
        let found =
            Reliability::measure(&mask![". . # # #"], &probability, 10, Binning::Confidence)
                .unwrap();
        let expected = (4.0 * 0.25 + 0.45) / 5.0;
        assert!((found.expected_error - expected).abs() < 1e-7, "{found:?}");
        assert_eq!(found.bins[5].n_voxels, 1);
    }

    #[test]
    fn certain_and_right_is_perfect_in_every_corner() {
        for truth in [mask!["# # # ."], mask![". . . ."], mask!["# # # #"]] {
            let certain = truth.map(|&inside| f32::from(u8::from(inside)));
            for binning in [Binning::Probability, Binning::Confidence] {
                let found = Reliability::measure(&truth, &certain, 15, binning).unwrap();
                assert_eq!((found.expected_error, found.brier), (0.0, 0.0));
                let wrong = certain.map(|&value| 1.0 - value);
                let found = Reliability::measure(&truth, &wrong, 15, binning).unwrap();
                assert_eq!(
                    (found.expected_error, found.largest_error, found.brier),
                    (1.0, 1.0, 1.0)
                );
            }
        }
    }

    /// Two raters of one map are one long map beside itself; by hand, opposite raters make every bin right half the time.
    #[test]
    fn several_truths_pool_as_one_long_map_would() {
        let probability = map(&[0.1, 0.45, 0.55, 0.9, 0.95, 0.2]);
        let truths = [mask![". . # # # #"], mask![". # . # # ."]];
        let measure = |truth: &Mask, probability: &Image| {
            Reliability::measure(truth, probability, 4, Binning::Probability).unwrap()
        };
        let parts = truths.each_ref().map(|truth| measure(truth, &probability));
        let long = measure(
            &mask![". . # # # # . # . # # ."],
            &map(&[probability.values(), probability.values()].concat()),
        );
        let pooled = Reliability::pooled(&parts).unwrap();
        assert!((pooled.expected_error - long.expected_error).abs() < 1e-12);
        assert!((pooled.largest_error - long.largest_error).abs() < 1e-12);
        assert!((pooled.brier - long.brier).abs() < 1e-12);
        assert_ne!(pooled.expected_error, parts[0].expected_error);
        let unsure = map(&[0.5; 4]);
        let opposite = [mask!["# # . ."], mask![". . # #"]];
        let parts = opposite.each_ref().map(|truth| measure(truth, &unsure));
        assert_eq!(Reliability::pooled(&parts).unwrap().expected_error, 0.0);
        assert_eq!(Reliability::pooled(&[]), None);
    }

    #[test]
    fn bad_maps_are_refused() {
        let truth = mask!["# ."];
        let with = |values: &[f32], n_bins| {
            Reliability::measure(&truth, &map(values), n_bins, Binning::Probability).unwrap_err()
        };
        assert!(matches!(with(&[0.5], 10), ImagingError::MapShapeDiffers { .. }));
        assert!(matches!(with(&[0.5, 1.5], 10), ImagingError::NotAProbability { .. }));
        assert!(matches!(with(&[0.5, f32::NAN], 10), ImagingError::NotAProbability { .. }));
        assert!(matches!(with(&[0.5, 0.5], 0), ImagingError::OptionOutOfRange { .. }));
        let none = Grid::filled([0, 1, 1], 0.0);
        let found = Reliability::measure(&none.map(|_| true), &none, 10, Binning::Probability);
        assert_eq!(found, Err(ImagingError::NoVoxels));
    }
}
