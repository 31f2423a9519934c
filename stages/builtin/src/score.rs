//! Scores predictions against reference masks, case by case.
//!
//! Source: metrics of arXiv 2304.00466v2, Tables I to V; surface Dice and volumes beside them; conventions at
//! [`imaging::scores`].
//! Ports: in `predictions: Labels` and `reference: Labels`, their test shards; out `scores: Scores`
//! (`scores.parquet` and `scores.jsonl`, one row a case and structure).
//! Randomness: none. Cost: four distance transforms a case.

pub mod raters;

use datasets::{
    CaseLabel,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, One, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::scores::{CaseScores, EmptyPolicy, score_case};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Scores, TestLabels},
    shards::{ShardsError, check_place, labels, refused, write_table},
    unit::LengthUnit,
};

/// Settings of [`Score`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreConfig {
    /// Name of the method in tables.
    pub method: String,
    /// Name of the set of sources in tables.
    #[serde(default)]
    pub subset: String,
    /// Seed of the training, for means over seeds.
    #[serde(default)]
    pub rng_seed: u64,
    /// Name in tables of who drew the reference, where it is not the truth.
    #[serde(default)]
    pub against: String,
    /// Unit of surface distances and of the tolerance; volumes have its cube (areas its square). Default pixels.
    #[serde(default)]
    pub unit: LengthUnit,
    /// Distance up to which surfaces agree, for the surface Dice. Default 1.
    #[serde(default = "one")]
    pub tolerance: f64,
    /// What empty masks score. Default: two empty masks are perfect, one empty mask is the worst.
    #[serde(default)]
    pub empty: EmptyPolicy,
}

fn one() -> f64 {
    1.0
}

inputs! {
    /// What [`Score`] reads.
    pub struct ScoreInputs {
        /// Predicted masks.
        predictions: One<TestLabels>,
        /// Masks to score against.
        reference: One<TestLabels>,
    }
}

outputs! {
    /// What [`Score`] makes.
    pub struct ScoreOutputs {
        /// One row a case and structure.
        scores: Out<Scores>,
    }
}

/// Scores of predictions.
pub struct Score;

impl Stage for Score {
    const NAME: &'static str = "score";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Scores predicted masks against reference masks.";
    type Config = ScoreConfig;
    type Inputs = ScoreInputs;
    type Outputs = ScoreOutputs;

    fn check(config: &ScoreConfig) -> Result<(), Refusal> {
        if config.tolerance.is_finite() && config.tolerance >= 0.0 {
            return Ok(());
        }
        let message = format!("expected a distance from 0: got {}", config.tolerance);
        Err(Refusal::new("tolerance", message))
    }

    fn run(
        config: &ScoreConfig,
        inputs: ScoreInputs,
        outputs: &ScoreOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let predictions = labels(&inputs.predictions)?;
        let reference = labels(&inputs.reference)?;
        if predictions.is_empty() {
            return Err(StageError::new(ShardsError::EmptySplit {
                split: "test",
                purpose: "scored",
            }));
        }
        let rows = predictions.par_iter().map(|(key, prediction)| {
            let reference = reference.get(key).ok_or_else(|| {
                StageError::new(ShardsError::LabelMissing {
                    case: key.0.clone(),
                    structure: key.1.clone(),
                    cell: inputs.reference.cell.clone(),
                })
            })?;
            let (shape, place) = (prediction.mask.shape(), reference.affine);
            check_place(&key.0, &inputs.predictions.cell, shape, place, prediction.affine)?;
            let spacing = config.unit.spacing(prediction);
            let (reference, tolerance) = (&reference.mask, config.tolerance);
            let scores = score_case(reference, &prediction.mask, spacing, tolerance, config.empty);
            Ok(row(config, prediction, &scores.map_err(StageError::new)?))
        });
        let mut table = Table::new(&columns());
        for row in rows.collect::<Result<Vec<_>, StageError>>()? {
            table.push(row).map_err(refused)?;
        }
        let scores = &outputs.scores;
        write_table(scores, "scores.parquet", &table)?;
        table.write_json_lines(&scores.path("scores.jsonl")).map_err(refused)
    }
}

/// Columns of `scores.parquet`.
fn columns() -> Vec<(&'static str, Kind)> {
    let texts = ["method", "subset", "against", "case_id", "structure", "unit", "volume_unit"];
    let texts = texts.map(|name| (name, Kind::Text));
    let whole =
        ["rng_seed", "reference_voxels", "predicted_voxels"].map(|name| (name, Kind::Integer));
    let numbers = METRICS.into_iter().chain(["tolerance"]).map(|name| (name, Kind::Number));
    texts.into_iter().chain(whole).chain(numbers).chain([("primary_trained", Kind::Flag)]).collect()
}

/// Columns of `scores.parquet` that hold scores.
const METRICS: [&str; 12] = [
    "dice",
    "jaccard",
    "assd",
    "masd",
    "hausdorff",
    "hd95",
    "hd95_pooled",
    "surface_dice",
    "reference_volume",
    "predicted_volume",
    "volume_similarity",
    "volume_difference",
];

fn row(config: &ScoreConfig, label: &CaseLabel, scores: &CaseScores) -> Vec<Cell> {
    let (unit, volume_unit) = (config.unit.name(), config.unit.volume_name(label));
    let ScoreConfig { method, subset, against, .. } = config;
    let texts = [method, subset, against, &label.id, &label.structure, &unit, &volume_unit];
    let seed = i64::try_from(config.rng_seed).unwrap_or(i64::MAX);
    let whole = [seed.into(), scores.reference_voxels.into(), scores.prediction_voxels.into()];
    let volume = |voxels: usize| Some(voxels as f64 * config.unit.volume(label));
    let numbers = [
        scores.dice,
        scores.jaccard,
        scores.assd,
        scores.masd,
        scores.hausdorff,
        scores.hd95,
        scores.hd95_pooled,
        scores.surface_dice,
        volume(scores.reference_voxels),
        volume(scores.prediction_voxels),
        scores.volume_similarity,
        scores.volume_difference,
        Some(config.tolerance),
    ];
    let trained = Cell::from(primary_trained(label));
    let texts = texts.map(|text| Cell::from(text.as_str()));
    texts.into_iter().chain(whole).chain(numbers.map(Cell::from)).chain([trained]).collect()
}

/// Whether the network that predicted the label was trained at all, as far as it says; see [`crate::predict`].
fn primary_trained(label: &CaseLabel) -> bool {
    let params = label
        .params
        .as_deref()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    params.and_then(|params| params.get("primary_trained")?.as_bool()).unwrap_or(true)
}
