//! What an epoch of training came to.

use serde::{Deserialize, Serialize};

use crate::{LossTerms, NetsError, StepReport};

/// The quality assessment over an epoch; means over its cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QualityMeans {
    /// Share of cases under both thresholds, whether the gate acts or not.
    pub passing_share: f64,
    /// Mean of `u_a` (Eq. 6).
    pub u_a: f64,
    /// Mean of `u_a` over the whole image, whatever the domain.
    pub u_a_all: f64,
    /// Mean of `u_b` (Eq. 7).
    pub u_b: f64,
    /// Mean uncertainty σ per source, in [0, 1]; empty without AUEM.
    pub uncertainty: Vec<f64>,
}

/// What an epoch came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Learning rate of all its steps.
    pub learning_rate: f64,
    /// Weight α of the consistency term in its last step.
    pub alpha: f64,
    /// Mean loss over the cases that trained something.
    pub terms: LossTerms,
    /// Dice of the primary head at ½ on the validation cases against the vote of their sources.
    pub dice_vote: Option<f64>,
    /// The same against the clean masks, where given.
    pub dice_truth: Option<f64>,
    /// Share of cases that trained the primary head ("high quality").
    pub primary_share: f64,
    /// Steps in which at least one case trained the primary head.
    pub n_primary_steps: usize,
    /// Steps without any gradient, in which the optimizer stood still.
    pub n_skipped_steps: usize,
    /// All steps.
    pub n_steps: usize,
    /// Whether the quality gate acted in this epoch.
    pub gate: bool,
    /// The quality assessment, where there is one.
    pub quality: Option<QualityMeans>,
}

/// Numbers of a row before the uncertainties of the sources.
const FIXED: usize = 19;

impl EpochMetrics {
    /// All numbers in a row, exact to the bit; NaN stands for none.
    pub(crate) fn to_row(&self) -> Vec<f64> {
        let Self {
            epoch, learning_rate, alpha, terms, dice_vote, dice_truth, primary_share, ..
        } = self;
        let LossTerms { cross_entropy, dice, consistency, total } = *terms;
        let counts = [
            *epoch,
            self.n_primary_steps,
            self.n_skipped_steps,
            self.n_steps,
            usize::from(self.gate),
        ]
        .map(|n| n as f64);
        let none = f64::NAN;
        let mut row = vec![*learning_rate, *alpha, cross_entropy, dice, consistency, total];
        row.extend([dice_vote.unwrap_or(none), dice_truth.unwrap_or(none), *primary_share]);
        row.extend(counts);
        match &self.quality {
            Some(QualityMeans { passing_share, u_a, u_a_all, u_b, uncertainty }) => {
                row.extend([1.0, *passing_share, *u_a, *u_a_all, *u_b]);
                row.extend(uncertainty);
            }
            None => row.extend([0.0; 5]),
        }
        row
    }

    /// Reads what [`EpochMetrics::to_row`] wrote.
    pub(crate) fn from_row(row: &[f64]) -> Result<Self, NetsError> {
        let Some((
            &[
                rate,
                alpha,
                cross_entropy,
                dice,
                consistency,
                total,
                vote,
                truth,
                share,
                ref rest @ ..,
            ],
            sources,
        )) = row.split_first_chunk::<FIXED>()
        else {
            let found = format!("{} numbers", row.len());
            let expected = format!("at least {FIXED} numbers an epoch");
            return Err(NetsError::Entry { name: "metrics".into(), expected, found });
        };
        let [
            epoch,
            n_primary,
            n_skipped,
            n_steps,
            gate,
            has_quality,
            passing_share,
            u_a,
            u_a_all,
            u_b,
        ] = *rest;
        let some = |value: f64| (!value.is_nan()).then_some(value);
        let uncertainty = sources.to_vec();
        let quality = QualityMeans { passing_share, u_a, u_a_all, u_b, uncertainty };
        Ok(Self {
            epoch: epoch as usize,
            learning_rate: rate,
            alpha,
            terms: LossTerms { cross_entropy, dice, consistency, total },
            dice_vote: some(vote),
            dice_truth: some(truth),
            primary_share: share,
            n_primary_steps: n_primary as usize,
            n_skipped_steps: n_skipped as usize,
            n_steps: n_steps as usize,
            gate: gate > 0.0,
            quality: (has_quality > 0.0).then_some(quality),
        })
    }
}

/// Sums over the steps of an epoch.
#[derive(Debug, Default)]
pub(crate) struct EpochSums {
    n_cases: usize,
    n_trained: usize,
    n_primary: usize,
    n_passing: usize,
    quality: Option<QualityMeans>,
    metrics: EpochMetrics,
}

impl EpochSums {
    pub(crate) fn add(&mut self, report: &StepReport) {
        let n_trained = report.n_primary + report.n_auxiliary;
        self.n_cases += report.n_cases;
        self.n_trained += n_trained;
        self.n_primary += report.n_primary;
        self.metrics.alpha = report.alpha;
        self.metrics.gate |= report.gate;
        self.metrics.terms.add(&report.terms, n_trained as f64);
        self.metrics.n_steps += 1;
        self.metrics.n_primary_steps += usize::from(report.n_primary > 0);
        self.metrics.n_skipped_steps += usize::from(!report.has_gradient());
        if let Some(seen) = &report.quality {
            let sums = self.quality.get_or_insert_default();
            let weight = report.n_cases as f64;
            self.n_passing += seen.n_passing;
            sums.u_a += weight * seen.u_a;
            sums.u_a_all += weight * seen.u_a_all;
            sums.u_b += weight * seen.u_b;
            sums.uncertainty.resize(seen.uncertainty.len(), 0.0);
            sums.uncertainty
                .iter_mut()
                .zip(&seen.uncertainty)
                .for_each(|(sum, mean)| *sum += weight * mean);
        }
    }

    /// Means so far, as those of `epoch`; Dice is for the caller.
    pub(crate) fn finish(self, epoch: usize, learning_rate: f64) -> EpochMetrics {
        let n_cases = self.n_cases.max(1) as f64;
        let mut terms = LossTerms::default();
        terms.add(&self.metrics.terms, 1.0 / self.n_trained.max(1) as f64);
        let quality = self.quality.map(|sums| QualityMeans {
            passing_share: self.n_passing as f64 / n_cases,
            u_a: sums.u_a / n_cases,
            u_a_all: sums.u_a_all / n_cases,
            u_b: sums.u_b / n_cases,
            uncertainty: sums.uncertainty.into_iter().map(|sum| sum / n_cases).collect(),
        });
        let primary_share = self.n_primary as f64 / n_cases;
        EpochMetrics { epoch, learning_rate, terms, primary_share, quality, ..self.metrics }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::QualityReport;

    fn report(n_primary: usize, n_auxiliary: usize, loss: f64) -> StepReport {
        StepReport {
            terms: LossTerms { total: loss, ..LossTerms::default() },
            n_cases: 4,
            n_primary,
            n_auxiliary,
            quality: Some(QualityReport {
                n_passing: n_primary,
                u_a: loss,
                uncertainty: vec![loss],
                ..QualityReport::default()
            }),
            ..StepReport::default()
        }
    }

    #[test]
    fn losses_are_means_over_the_cases_that_trained() {
        let mut sums = EpochSums::default();
        for step in [report(3, 1, 2.0), report(0, 0, 0.0), report(0, 2, 5.0)] {
            sums.add(&step);
        }
        let metrics = sums.finish(7, 0.5);
        assert_eq!((metrics.epoch, metrics.learning_rate, metrics.terms.total), (7, 0.5, 3.0));
        assert_eq!((metrics.n_steps, metrics.n_primary_steps, metrics.n_skipped_steps), (3, 1, 1));
        assert_eq!(metrics.primary_share, 0.25);
        let quality = metrics.quality.unwrap();
        assert_eq!((quality.passing_share, quality.uncertainty[0]), (0.25, 28.0 / 12.0));
    }

    #[test]
    fn rows_are_exact() {
        let mut sums = EpochSums::default();
        sums.add(&report(1, 1, 0.1 + 0.2));
        let mut metrics = sums.finish(3, 1e-3 * 0.96);
        metrics.dice_vote = Some(1.0 / 3.0);
        metrics.gate = true;
        assert_eq!(EpochMetrics::from_row(&metrics.to_row()).unwrap(), metrics);
        metrics.quality = None;
        assert_eq!(EpochMetrics::from_row(&metrics.to_row()).unwrap(), metrics);
        assert!(matches!(EpochMetrics::from_row(&[0.0; 5]), Err(NetsError::Entry { .. })));
    }
}
