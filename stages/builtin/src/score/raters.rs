//! Scores predictions against several raters at once: agreement with their spread, and calibration.
//!
//! Source: soft Dice at thresholds as QUBIQ and works on raters of fundus images have it; the generalised energy distance
//! of arXiv 1806.05034; expected calibration error and Brier score; conventions at [`imaging::scores`].
//! Ports: in `predictions: Labels` (several are samples of one method, such as trainings of several seeds) and
//! `raters: Labels` (several), their test shards; out `scores: RaterScores` (`raters.parquet` and `raters.jsonl`): for
//! each case and structure one row a rater, and one with an empty `rater` for all of them together.
//! The soft prediction is the mean of the predicted probabilities, or of the masks where there are none. All voxels count
//! in the calibration, so its numbers of small structures are small.
//! Randomness: none. Cost: a few passes over each mask and pair of masks.

use std::collections::BTreeMap;

use datasets::{
    CaseLabel, Image, Mask,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, Input, Many, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::{
    fusion::{NamedMask, mean_mask},
    scores::{
        AtThreshold, Binning, EmptyPolicy, EnergyDistance, Overlap, Reliability, SOFT_THRESHOLDS,
        soft_dice,
    },
};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::primary_trained;
use crate::{
    kinds::{RaterScores, TestLabels},
    shards::{ShardsError, labels, refused, write_table},
};

/// Settings of [`ScoreRaters`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRatersConfig {
    /// Name of the method in tables.
    pub method: String,
    /// Name of the set of sources in tables.
    #[serde(default)]
    pub subset: String,
    /// Seed of the training, for means over seeds.
    #[serde(default)]
    pub rng_seed: u64,
    /// Thresholds of the soft Dice, in [0, 1]. Default 0.1, 0.3, 0.5, 0.7 and 0.9.
    #[serde(default = "usual")]
    pub thresholds: Vec<f64>,
    /// Whether a value at a threshold is foreground. Default background.
    #[serde(default)]
    pub at_threshold: AtThreshold,
    /// Number of bins of the calibration error, 1 to 1000. Default 10.
    #[serde(default = "ten")]
    pub bins: usize,
    /// What is sorted into the bins. Default the probability of the foreground.
    #[serde(default)]
    pub binning: Binning,
    /// What empty masks score. Default: two empty masks are perfect, one empty mask is the worst.
    #[serde(default)]
    pub empty: EmptyPolicy,
}

fn usual() -> Vec<f64> {
    SOFT_THRESHOLDS.to_vec()
}

fn ten() -> usize {
    10
}

inputs! {
    /// What [`ScoreRaters`] reads.
    pub struct ScoreRatersInputs {
        /// Predicted masks with their probabilities, one artifact a sample of the method.
        predictions: Many<TestLabels>,
        /// Masks of the raters.
        raters: Many<TestLabels>,
    }
}

outputs! {
    /// What [`ScoreRaters`] makes.
    pub struct ScoreRatersOutputs {
        /// One row a case, structure and rater, and one for all raters.
        scores: Out<RaterScores>,
    }
}

/// Scores against raters.
pub struct ScoreRaters;

impl Stage for ScoreRaters {
    const NAME: &'static str = "score.raters";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Scores predictions against several raters: soft Dice, energy distance, calibration.";
    type Config = ScoreRatersConfig;
    type Inputs = ScoreRatersInputs;
    type Outputs = ScoreRatersOutputs;

    fn check(config: &ScoreRatersConfig) -> Result<(), Refusal> {
        if !(1..=1000).contains(&config.bins) {
            let message = format!("expected a number in [1, 1000]: got {}", config.bins);
            return Err(Refusal::new("bins", message));
        }
        let outside = config.thresholds.iter().find(|at| !(0.0..=1.0).contains(*at));
        match (config.thresholds.is_empty(), outside) {
            (true, _) => Err(Refusal::new("thresholds", "expected at least one: got none")),
            (_, Some(found)) => {
                Err(Refusal::new("thresholds", format!("expected numbers in [0, 1]: got {found}")))
            }
            _ => Ok(()),
        }
    }

    fn run(
        config: &ScoreRatersConfig,
        inputs: ScoreRatersInputs,
        outputs: &ScoreRatersOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = joined(&inputs)?;
        let rows = cases.par_iter().map(|case| case.rows(config));
        let names = columns(config);
        let columns: Vec<(&str, Kind)> =
            names.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let mut table = Table::new(&columns);
        for row in rows.collect::<Result<Vec<_>, StageError>>()?.into_iter().flatten() {
            table.push(row).map_err(refused)?;
        }
        let scores = &outputs.scores;
        write_table(scores, "raters.parquet", &table)?;
        table.write_json_lines(&scores.path("raters.jsonl")).map_err(refused)
    }
}

/// What is said of one structure of one case.
struct RatedCase {
    predictions: Vec<CaseLabel>,
    raters: Vec<CaseLabel>,
}

/// The structures of all cases that are predicted.
fn joined(inputs: &ScoreRatersInputs) -> Result<Vec<RatedCase>, StageError> {
    type Found = BTreeMap<(String, String), CaseLabel>;
    let read = |port: &[Input]| -> Result<Vec<(String, Found)>, StageError> {
        port.iter().map(|input| Ok((input.cell.clone(), labels(input)?))).collect()
    };
    let (mut predictions, mut raters) = (read(&inputs.predictions)?, read(&inputs.raters)?);
    let keys: Vec<(String, String)> =
        predictions.first().map(|(_, found)| found.keys().cloned().collect()).unwrap_or_default();
    if keys.is_empty() {
        let fault = ShardsError::EmptySplit { split: "test", purpose: "scored" };
        return Err(StageError::new(fault));
    }
    let take = |sources: &mut [(String, Found)], key: &(String, String)| {
        let own = sources.iter_mut().map(|(cell, found)| {
            found.remove(key).ok_or_else(|| {
                let ((case, structure), cell) = (key.clone(), cell.clone());
                StageError::new(ShardsError::LabelMissing { case, structure, cell })
            })
        });
        own.collect::<Result<Vec<CaseLabel>, StageError>>()
    };
    let case = |key| {
        Ok(RatedCase { predictions: take(&mut predictions, key)?, raters: take(&mut raters, key)? })
    };
    keys.iter().map(case).collect()
}

/// Columns of `raters.parquet`.
fn columns(config: &ScoreRatersConfig) -> Vec<(String, Kind)> {
    let texts = ["method", "subset", "case_id", "structure", "rater"];
    let whole = ["rng_seed", "n_predictions", "n_raters"];
    let numbers = ["dice", "soft_dice", "ece", "brier", "energy", "energy_distinct"];
    let named = |names: &[&str], kind| -> Vec<(String, Kind)> {
        names.iter().map(|&name| (name.to_owned(), kind)).collect()
    };
    let at = config.thresholds.iter().map(|at| (format!("soft_dice_{at}"), Kind::Number));
    let mut columns = named(&texts, Kind::Text);
    columns.extend(named(&whole, Kind::Integer));
    columns.extend(named(&numbers, Kind::Number));
    columns.extend(at);
    columns.push(("primary_trained".to_owned(), Kind::Flag));
    columns
}

/// Scores of a case against one rater or all of them.
struct Scored {
    /// Dice of the mask where the soft prediction exceeds one half.
    dice: Option<f64>,
    soft: imaging::scores::SoftDice,
    reliability: Reliability,
    energy: EnergyDistance,
}

impl RatedCase {
    /// A row a rater and one for all of them.
    fn rows(&self, config: &ScoreRatersConfig) -> Result<Vec<Vec<Cell>>, StageError> {
        let soft = soft_prediction(&self.predictions)?;
        let measure = |raters: &[CaseLabel]| self.measure(config, &soft, raters);
        let mut rows = Vec::new();
        for (n, rater) in self.raters.iter().enumerate() {
            rows.push(self.row(config, &rater.source, 1, &measure(&self.raters[n..=n])?));
        }
        rows.push(self.row(config, "", self.raters.len(), &measure(&self.raters)?));
        Ok(rows)
    }

    fn measure(
        &self,
        config: &ScoreRatersConfig,
        soft: &Image,
        raters: &[CaseLabel],
    ) -> Result<Scored, StageError> {
        let (named, predicted) = (named(raters), named(&self.predictions));
        let mean = mean_mask(&named).map_err(StageError::new)?;
        let reliability = named
            .iter()
            .map(|rater| Reliability::measure(rater.mask, soft, config.bins, config.binning));
        let reliability = reliability.collect::<Result<Vec<_>, _>>().map_err(StageError::new)?;
        let reliability = Reliability::pooled(&reliability)
            .ok_or_else(|| StageError::new(imaging::ImagingError::NoMasks))?;
        let dice = match named.as_slice() {
            [rater] => {
                let mask: Mask = soft.map(|&value| value > 0.5);
                let overlap = Overlap::count(rater.mask, &mask).map_err(StageError::new)?;
                overlap.dice(config.empty)
            }
            _ => None,
        };
        let (thresholds, rule) = (&config.thresholds, config.at_threshold);
        Ok(Scored {
            dice,
            soft: soft_dice(&mean, soft, thresholds, rule, config.empty)
                .map_err(StageError::new)?,
            reliability,
            energy: EnergyDistance::measure(&named, &predicted).map_err(StageError::new)?,
        })
    }

    fn row(
        &self,
        config: &ScoreRatersConfig,
        rater: &str,
        n_raters: usize,
        scored: &Scored,
    ) -> Vec<Cell> {
        let ScoreRatersConfig { method, subset, rng_seed, .. } = config;
        let label = &self.predictions[0];
        let texts = [method.as_str(), subset, &label.id, &label.structure, rater].map(Cell::from);
        let seed = i64::try_from(*rng_seed).unwrap_or(i64::MAX);
        let whole = [seed.into(), self.predictions.len().into(), n_raters.into()];
        let numbers = [
            scored.dice,
            scored.soft.mean,
            Some(scored.reliability.expected_error),
            Some(scored.reliability.brier),
            Some(scored.energy.with_identical_pairs()),
            scored.energy.without_identical_pairs(),
        ];
        let trained = self.predictions.iter().all(primary_trained);
        let mut row: Vec<Cell> = texts.into_iter().chain(whole).collect();
        row.extend(numbers.map(Cell::from));
        row.extend(scored.soft.at.iter().map(|&dice| Cell::from(dice)));
        row.push(trained.into());
        row
    }
}

fn named(labels: &[CaseLabel]) -> Vec<NamedMask<'_>> {
    let named = labels.iter().map(|label| NamedMask { source: &label.source, mask: &label.mask });
    named.collect()
}

/// Mean of the probabilities; a label without them counts as certain.
fn soft_prediction(predictions: &[CaseLabel]) -> Result<Image, StageError> {
    let mut mean = mean_mask(&named(predictions)).map_err(StageError::new)?.map(|_| 0.0_f64);
    for label in predictions {
        let certain = || label.mask.map(|&inside| f32::from(u8::from(inside)));
        let map = label.probability.clone().unwrap_or_else(certain);
        let places = mean.values_mut().iter_mut().zip(map.values());
        places.for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let n = predictions.len() as f64;
    Ok(mean.map(|&sum| (sum / n) as f32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    fn config() -> ScoreRatersConfig {
        serde_json::from_str(r#"{ "method": "net", "thresholds": [0.25, 0.75] }"#).unwrap()
    }

    fn cell<'a>(config: &ScoreRatersConfig, row: &'a [Cell], name: &str) -> &'a Cell {
        &row[columns(config).iter().position(|(own, _)| own == name).unwrap()]
    }

    /// By hand: raters mark the first two pixels and the first one; two samples of the network the first two and none.
    #[test]
    fn rows_of_raters_and_of_all_of_them() {
        let case = RatedCase {
            predictions: vec![
                label("a", "net", mask!["# # . ."]),
                label("a", "net", mask![". . . ."]),
            ],
            raters: vec![label("a", "x", mask!["# # . ."]), label("a", "y", mask!["# . . ."])],
        };
        let config = config();
        let rows = case.rows(&config).unwrap();
        let names: Vec<&Cell> = rows.iter().map(|row| cell(&config, row, "rater")).collect();
        assert_eq!(names, [&Cell::from("x"), &Cell::from("y"), &Cell::from("")]);
        let number = |row: usize, name: &str| match cell(&config, &rows[row], name) {
            Cell::Number(number) => Some(*number),
            _ => None,
        };
        // The soft prediction is ½ on two pixels: nothing exceeds ½ or ¾, two pixels exceed ¼.
        assert_eq!((number(0, "dice"), number(2, "dice")), (Some(0.0), None));
        assert_eq!(
            (number(0, "soft_dice_0.25"), number(0, "soft_dice_0.75")),
            (Some(1.0), Some(0.0))
        );
        assert_eq!(
            (number(1, "soft_dice_0.25"), number(2, "soft_dice_0.25")),
            (Some(2.0 / 3.0), Some(1.0))
        );
        assert_eq!(number(2, "soft_dice"), Some(0.5));
        // ½ against 1 twice, against 1 and 0: the second rater is met half the time.
        assert_eq!(
            (number(0, "ece"), number(1, "ece"), number(2, "ece")),
            (Some(0.25), Some(0.0), Some(0.125))
        );
        assert_eq!((number(0, "brier"), number(2, "brier")), (Some(0.125), Some(0.125)));
        // Distances to the raters: 0, ½ and 1, 1; between the samples 1, between the raters ½.
        let energy: f64 = 2.0 * 0.625 - 0.5 - 0.25;
        assert!((number(2, "energy").unwrap() - energy).abs() < 1e-12);
        assert!((number(2, "energy_distinct").unwrap() - (1.25 - 1.0 - 0.5)).abs() < 1e-12);
        assert_eq!(number(0, "energy_distinct"), None);
    }

    #[test]
    fn probabilities_are_averaged_and_settings_are_checked() {
        let mut sure = label("a", "net", mask!["# ."]);
        sure.probability = Some(Image::new([1, 1, 2], vec![0.75, 0.25]).unwrap());
        let soft = soft_prediction(&[sure, label("a", "net", mask!["# ."])]).unwrap();
        assert_eq!(soft.values(), [0.875, 0.125]);
        assert!(ScoreRaters::check(&config()).is_ok());
        for wrong in [
            ScoreRatersConfig { bins: 0, ..config() },
            ScoreRatersConfig { thresholds: Vec::new(), ..config() },
            ScoreRatersConfig { thresholds: vec![0.5, f64::NAN], ..config() },
        ] {
            assert!(ScoreRaters::check(&wrong).is_err());
        }
    }
}
