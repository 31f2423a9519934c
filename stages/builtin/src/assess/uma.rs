//! Uncertainty and calibration maps of annotated cases, and which cases the quality module lets through.
//!
//! Source: arXiv 2304.00466v2, Eqs. 4, 6 and 7, and its Fig. 7.
//! Ports: in `images`, `annotations` (as in training), `reference` and `weights`; out `assessment: Assessment` with
//! `cases.json` (scores of every case), and for the cases with the lowest and highest `u_a` the shards `maps.parquet`
//! (images named `CASE/uncertainty/SOURCE` and the like) and `labels.parquet` (annotations, truth and prediction).
//! Randomness: none. Cost: one pass of the AUEM over the split.

use datasets::{CaseImage, CaseLabel, Image, Split};
use engine::{Ctx, Many, One, Out, Stage, StageError, inputs, outputs};
use nets::{Batch, Model, Precision, Samples, UmaNet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AssessedCase, AssessedCases};
use crate::{
    channels::{Channels, join},
    kinds::{self, FittedImages, FittedLabels, Weights},
    shards::{ShardsError, images, labels, write_images_as, write_json, write_labels_as},
    train::samples_of_split,
    trained::{Predicting, environment, in_pool, predict_case, read_weights},
};

/// Settings of [`AssessUma`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessUmaConfig {
    /// Split that is assessed: `train` or `val`. Default `train`.
    #[serde(default = "train")]
    pub split: Split,
    /// Cases at each end of `u_a` whose maps are kept. Default 3.
    #[serde(default = "three")]
    pub shown: usize,
}

fn train() -> Split {
    Split::Train
}

fn three() -> usize {
    3
}

inputs! {
    /// What [`AssessUma`] reads.
    pub struct AssessUmaInputs {
        /// Images for training and validation, one artifact a channel, in the order of training.
        images: Many<FittedImages>,
        /// Labels of the sources, in the order of training.
        annotations: Many<FittedLabels>,
        /// Clean masks.
        reference: One<FittedLabels>,
        /// A trained UMA-Net.
        weights: One<Weights>,
    }
}

outputs! {
    /// What [`AssessUma`] makes.
    pub struct AssessUmaOutputs {
        /// Scores of all cases and maps of some.
        assessment: Out<kinds::Assessment>,
    }
}

/// Assessment by a trained UMA-Net.
pub struct AssessUma;

impl Stage for AssessUma {
    const NAME: &'static str = "assess.uma";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Shows what a trained UMA-Net thinks of the annotations of each case.";
    type Config = AssessUmaConfig;
    type Inputs = AssessUmaInputs;
    type Outputs = AssessUmaOutputs;

    fn environment(_: &AssessUmaConfig) -> std::collections::BTreeMap<String, String> {
        environment(Precision::F32)
    }

    fn run(
        config: &AssessUmaConfig,
        inputs: AssessUmaInputs,
        outputs: &AssessUmaOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        in_pool(ctx, || assess(config, &inputs, outputs))
    }
}

/// One assessed case with its maps.
struct Row {
    case: usize,
    result: nets::Assessment,
}

fn assess(
    config: &AssessUmaConfig,
    inputs: &AssessUmaInputs,
    outputs: &AssessUmaOutputs,
) -> Result<(), StageError> {
    let (model, info) = read_weights(&inputs.weights)?;
    let Model::Uma(mut network) = model else {
        return Err(StageError::new(
            "the weights are of a single UNet, which assesses no annotations",
        )
        .hint("wire a cell of stage `train.uma` to `weights`"));
    };
    let (samples, sources) = samples_of_split(
        config.split,
        "assessed",
        &inputs.images,
        &inputs.annotations,
        None,
        &info.structures,
        None,
    )?;
    let mut rows = Vec::new();
    for case in 0..samples.n_cases() {
        let result = assess_case(&mut network, &samples, case)?;
        rows.push(Row { case, result });
    }
    rows.sort_by(|a, b| a.result.score.u_a.total_cmp(&b.result.score.u_a));
    let n = config.shown.min(rows.len() / 2);
    let shown: Vec<&Row> = rows[..n].iter().chain(&rows[rows.len() - n..]).collect();
    let quality = network.config().quality;
    let ids: Vec<String> = shown.iter().map(|row| samples.ids[row.case].clone()).collect();
    let listed = AssessedCases {
        sources: sources.clone(),
        thresholds: [quality.tau_a, quality.tau_b],
        cases: rows.iter().map(|row| describe(&samples, row)).collect(),
        shown: ids.clone(),
    };
    let out = &outputs.assessment;
    write_json(out, "cases.json", &listed)?;
    let mut cases = join(&inputs.images, images)?;
    cases.retain(|channels| ids.contains(&channels.case.id));
    let mut maps = Vec::new();
    for row in shown {
        maps.extend(maps_of(row, &samples, &sources, &cases)?);
    }
    write_images_as(out, "maps.parquet", &maps)?;
    let kept = inputs.annotations.iter().chain([&*inputs.reference]).map(|input| {
        let found = labels(input)?.into_values().filter(|label| ids.contains(&label.id));
        Ok(found.collect::<Vec<CaseLabel>>())
    });
    let mut kept = kept.collect::<Result<Vec<_>, StageError>>()?.concat();
    let mut model = Model::Uma(network);
    for case in &cases {
        kept.extend(predict_case(&mut model, &info, case, Predicting::default())?);
    }
    write_labels_as(out, "labels.parquet", &kept)
}

fn assess_case(
    network: &mut UmaNet,
    samples: &Samples,
    case: usize,
) -> Result<nets::Assessment, StageError> {
    let n_pixels = samples.size.iter().product::<usize>();
    let image =
        &samples.images[case * n_pixels * samples.n_channels..][..n_pixels * samples.n_channels];
    let n_values = n_pixels * samples.n_structures;
    let mask = |labels: &Vec<u8>| {
        labels[case * n_values..][..n_values].iter().map(|&v| f32::from(v)).collect()
    };
    let batch = Batch {
        n_cases: 1,
        size: samples.size,
        images: image.to_vec(),
        labels: samples.labels.iter().map(mask).collect(),
    };
    let mut found = network.assess(&batch).map_err(StageError::new)?;
    found.pop().ok_or_else(|| {
        StageError::new(ShardsError::EmptySplit { split: "train", purpose: "assessed" })
    })
}

fn describe(samples: &Samples, row: &Row) -> AssessedCase {
    AssessedCase {
        id: samples.ids[row.case].clone(),
        u_a: row.result.score.u_a,
        u_b: row.result.score.u_b,
        is_high: row.result.is_high,
    }
}

/// The image and the maps of a case, of its first structure.
fn maps_of(
    row: &Row,
    samples: &Samples,
    sources: &[String],
    cases: &[Channels],
) -> Result<Vec<CaseImage>, StageError> {
    let id = &samples.ids[row.case];
    let Some(Channels { case, .. }) = cases.iter().find(|channels| channels.case.id == *id) else {
        return Ok(Vec::new());
    };
    let first_structure = |map: &[f32]| {
        let values = map.iter().step_by(samples.n_structures).copied().collect();
        Image::new(case.image.shape(), values).map_err(StageError::new)
    };
    let named = |name: String, image: Image| CaseImage {
        id: format!("{id}/{name}"),
        image,
        ..case.clone()
    };
    let mut maps = vec![named("image".to_owned(), case.image.clone())];
    for (source, name) in sources.iter().enumerate() {
        let (uncertainty, calibration) =
            (&row.result.uncertainty[source], &row.result.calibration[source]);
        maps.push(named(format!("uncertainty/{name}"), first_structure(uncertainty)?));
        maps.push(named(format!("calibration/{name}"), first_structure(calibration)?));
    }
    maps.push(named("consensus".to_owned(), first_structure(&row.result.consensus)?));
    Ok(maps)
}
