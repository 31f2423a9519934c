//! Scores predictions against reference masks, case by case.
//!
//! Source: metrics of arXiv 2304.00466v2, Tables I to V; conventions at [`imaging::scores`].
//! Ports: in `predictions: Labels` and `reference: Labels`, their test shards; out `scores: Scores`
//! (`scores.parquet` and `scores.jsonl`, one row a case and structure).
//! Randomness: none. Cost: four distance transforms a case.

use datasets::{
    CaseLabel,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, One, Out, Stage, StageError, inputs, outputs};
use imaging::scores::{CaseScores, EmptyPolicy, score_case};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Scores, TestLabels},
    shards::{ShardsError, labels, refused},
};

/// Unit of surface distances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DistanceUnit {
    /// Millimetres, by the spacing of the case.
    Millimetres,
    /// Pixels of the masks as they are.
    Pixels,
    /// Pixels of a grid with this many columns over the same field of view.
    PixelsOfGrid(u32),
}

impl DistanceUnit {
    /// Size of a voxel in this unit.
    fn spacing(self, label: &CaseLabel) -> [f64; 3] {
        match self {
            Self::Millimetres => label.spacing.millimetres(),
            Self::Pixels => [1.0; 3],
            Self::PixelsOfGrid(columns) => [f64::from(columns) / label.mask.n_columns() as f64; 3],
        }
    }

    /// Short name for column heads.
    pub fn name(self) -> String {
        match self {
            Self::Millimetres => "mm".to_owned(),
            Self::Pixels => "px".to_owned(),
            Self::PixelsOfGrid(columns) => format!("px of {columns}"),
        }
    }
}

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
    /// Unit of surface distances. Default pixels.
    #[serde(default = "pixels")]
    pub unit: DistanceUnit,
    /// What empty masks score. Default: two empty masks are perfect, one empty mask is the worst.
    #[serde(default)]
    pub empty: EmptyPolicy,
}

fn pixels() -> DistanceUnit {
    DistanceUnit::Pixels
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
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Scores predicted masks against reference masks.";
    type Config = ScoreConfig;
    type Inputs = ScoreInputs;
    type Outputs = ScoreOutputs;

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
            let spacing = config.unit.spacing(prediction);
            let scores = score_case(&reference.mask, &prediction.mask, spacing, config.empty);
            Ok(row(config, prediction, &scores.map_err(StageError::new)?))
        });
        let mut table = Table::new(&columns());
        for row in rows.collect::<Result<Vec<_>, StageError>>()? {
            table.push(row).map_err(refused)?;
        }
        let scores = &outputs.scores;
        let content = table.write_parquet(&scores.path("scores.parquet")).map_err(refused)?;
        scores.content("scores.parquet", content);
        table.write_json_lines(&scores.path("scores.jsonl")).map_err(refused)
    }
}

/// Columns of `scores.parquet`.
fn columns() -> Vec<(&'static str, Kind)> {
    let texts = ["method", "subset", "case_id", "structure", "unit"].map(|name| (name, Kind::Text));
    let whole =
        ["rng_seed", "reference_voxels", "predicted_voxels"].map(|name| (name, Kind::Integer));
    let numbers = METRICS.map(|name| (name, Kind::Number));
    texts.into_iter().chain(whole).chain(numbers).chain([("primary_trained", Kind::Flag)]).collect()
}

/// Columns of `scores.parquet` that hold scores.
pub(crate) const METRICS: [&str; 7] =
    ["dice", "jaccard", "assd", "masd", "hausdorff", "hd95", "hd95_pooled"];

fn row(config: &ScoreConfig, label: &CaseLabel, scores: &CaseScores) -> Vec<Cell> {
    let texts = [&config.method, &config.subset, &label.id, &label.structure, &config.unit.name()];
    let seed = i64::try_from(config.rng_seed).unwrap_or(i64::MAX);
    let whole = [seed.into(), scores.reference_voxels.into(), scores.prediction_voxels.into()];
    let numbers = [
        scores.dice,
        scores.jaccard,
        scores.assd,
        scores.masd,
        scores.hausdorff,
        scores.hd95,
        scores.hd95_pooled,
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
