//! Means and spreads over cases or runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Emptiness;

/// Summary of one score over cases of a run, or over runs.
///
/// Sums run in the given order in `f64`. Cases without a score are counted and left out; an infinite score makes
/// the mean infinite and the spread undefined, and is counted too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Number of scores in the mean.
    pub n: usize,
    /// Number of cases that the empty policy left out.
    pub n_skipped: usize,
    /// Number of infinite scores among `n`.
    pub n_infinite: usize,
    /// Mean; `None` without scores.
    pub mean: Option<f64>,
    /// Sample standard deviation (divisor `n - 1`); `None` with fewer than 2 scores. Runs are compared by this one.
    pub sample_sd: Option<f64>,
    /// Population standard deviation (divisor `n`); `None` without scores.
    pub population_sd: Option<f64>,
    /// Smallest score; `None` without scores.
    pub min: Option<f64>,
    /// Largest score; `None` without scores.
    pub max: Option<f64>,
}

impl Summary {
    /// Summarizes scores, of which `None` are skipped.
    ///
    /// # Examples
    /// ```
    /// # use imaging::scores::Summary;
    /// let summary = Summary::of([Some(0.8), None, Some(0.9), Some(1.0)]);
    /// assert_eq!((summary.n, summary.n_skipped), (3, 1));
    /// assert!((summary.sample_sd.unwrap_or_default() - 0.1).abs() < 1e-12);
    /// ```
    pub fn of(scores: impl IntoIterator<Item = Option<f64>>) -> Self {
        let mut values = Vec::new();
        let mut n_skipped = 0;
        for score in scores {
            match score {
                Some(value) => values.push(value),
                None => n_skipped += 1,
            }
        }
        let n = values.len();
        let n_infinite = values.iter().filter(|value| value.is_infinite()).count();
        let mean = (n > 0).then(|| values.iter().sum::<f64>() / n as f64);
        let squares = mean
            .filter(|_| n_infinite == 0)
            .map(|mean| values.iter().map(|value| (value - mean).powi(2)).sum::<f64>());
        Self {
            n,
            n_skipped,
            n_infinite,
            mean,
            sample_sd: squares.filter(|_| n > 1).map(|squares| (squares / (n - 1) as f64).sqrt()),
            population_sd: squares.map(|squares| (squares / n as f64).sqrt()),
            min: values.iter().copied().reduce(f64::min),
            max: values.iter().copied().reduce(f64::max),
        }
    }
}

/// How many cases had empty masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmptyCounts {
    /// Cases where both masks are empty.
    pub both: usize,
    /// Cases where only the reference is empty.
    pub reference: usize,
    /// Cases where only the prediction is empty.
    pub prediction: usize,
}

impl EmptyCounts {
    /// Counts the corners.
    pub fn of(cases: impl IntoIterator<Item = Emptiness>) -> Self {
        let mut counts = Self::default();
        for emptiness in cases {
            match emptiness {
                Emptiness::Neither => {}
                Emptiness::Both => counts.both += 1,
                Emptiness::Reference => counts.reference += 1,
                Emptiness::Prediction => counts.prediction += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spreads_are_named() {
        let summary = Summary::of([1.0, 2.0, 3.0, 4.0].map(Some));
        assert_eq!(summary.mean, Some(2.5));
        assert_eq!(summary.population_sd, Some(1.25_f64.sqrt()));
        assert_eq!(summary.sample_sd, Some((5.0_f64 / 3.0).sqrt()));
        assert_eq!((summary.min, summary.max), (Some(1.0), Some(4.0)));
    }

    #[test]
    fn nothing_one_and_infinity_are_no_numbers_by_accident() {
        let nothing = Summary::of([None, None]);
        assert_eq!(
            (nothing.n, nothing.n_skipped, nothing.mean, nothing.population_sd),
            (0, 2, None, None)
        );
        let one = Summary::of([Some(0.5)]);
        assert_eq!((one.mean, one.sample_sd, one.population_sd), (Some(0.5), None, Some(0.0)));
        let infinite = Summary::of([Some(1.0), Some(f64::INFINITY)]);
        assert_eq!(
            (infinite.mean, infinite.sample_sd, infinite.n_infinite),
            (Some(f64::INFINITY), None, 1)
        );
    }

    #[test]
    fn corners_are_counted() {
        let counts = EmptyCounts::of([
            Emptiness::Both,
            Emptiness::Neither,
            Emptiness::Reference,
            Emptiness::Both,
        ]);
        assert_eq!(counts, EmptyCounts { both: 2, reference: 1, prediction: 0 });
    }
}
