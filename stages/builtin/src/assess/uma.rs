//! Uncertainty and calibration maps of annotated cases, and which cases the quality module lets through.
//!
//! Source: arXiv 2304.00466v2, Eqs. 4, 6 and 7, and its Fig. 7.
//! Ports: in `images`, `annotations` (as in training), `reference` and `weights`; out `assessment: Assessment` with
//! `cases.json` (scores of every case), and for each of the cases with the lowest and highest `u_a`, which `cases.json`
//! lists as shown, the shards `maps-N.parquet` (images named `CASE/uncertainty/SOURCE` and the like) and
//! `labels-N.parquet` (annotations, truth and prediction).
//! Randomness: none. Cost: one pass of the AUEM over the split and, for the cases that are shown, another and one of the
//! backbone; one case in memory at a time, by windows if they are asked for.

use std::collections::BTreeMap;

use datasets::{CaseImage, Image, Split};
use engine::{Ctx, Many, One, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use nets::{Model, NetsError, Precision, Samples, UmaNet, WindowConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AssessedCase, AssessedCases, labels_part, maps_part};
use crate::{
    channels::{Channels, join},
    kinds::{self, FittedImages, FittedLabels, Weights},
    shards::{images_of, labels_of, write_images_as, write_json, write_labels_as},
    train::{cases_of_split, fault},
    trained::{Predicting, environment, in_pool, predict_case, read_weights, window_refusal},
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
    /// Overlapping windows by which large cases are assessed and predicted. Default none: each case as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowConfig>,
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
    const VERSION: u32 = 2;
    const ABOUT: &'static str =
        "Shows what a trained UMA-Net thinks of the annotations of each case.";
    type Config = AssessUmaConfig;
    type Inputs = AssessUmaInputs;
    type Outputs = AssessUmaOutputs;

    fn check(config: &AssessUmaConfig) -> Result<(), Refusal> {
        config
            .window
            .iter()
            .try_for_each(WindowConfig::validate)
            .map_err(|error| window_refusal(&error))
    }

    fn resources(_: &AssessUmaConfig) -> Resources {
        // A scan of 320 x 224 x 160 voxels with four sources and its maps.
        Resources { memory: 2560 << 20, ..Resources::default() }
    }

    fn environment(_: &AssessUmaConfig) -> Option<BTreeMap<String, String>> {
        Some(environment(Precision::F32))
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
    let split = cases_of_split(
        config.split,
        "assessed",
        &inputs.images,
        &inputs.annotations,
        None,
        &info.structures,
        None,
    )?;
    let sources = split.sources.clone();
    let samples = split.samples(0);
    let cases = assess_all(config, &mut network, &samples).map_err(fault)?;
    let n = config.shown.min(cases.len() / 2);
    let shown: Vec<usize> =
        cases[..n].iter().chain(&cases[cases.len() - n..]).map(|of| of.0).collect();
    let quality = network.config().quality;
    let out = &outputs.assessment;
    let listed = AssessedCases {
        sources: sources.clone(),
        thresholds: [quality.tau_a, quality.tau_b],
        cases: cases.into_iter().map(|(_, case)| case).collect(),
        shown: shown.iter().map(|&nth| samples.outline().ids[nth].clone()).collect(),
    };
    write_json(out, "cases.json", &listed)?;
    let predicting = Predicting { windows: config.window, ..Predicting::default() };
    for (place, (&nth, id)) in shown.iter().zip(&listed.shown).enumerate() {
        for channels in join(&inputs.images, |input| images_of(input, id))? {
            let maps = maps_of(config, &mut network, &samples, nth, &sources, &channels)?;
            write_images_as(out, &maps_part(place), &maps)?;
            drop(maps);
            let mut kept = predict_case(&mut *network, &info, &channels, predicting)?;
            for input in inputs.annotations.iter().chain([&*inputs.reference]) {
                kept.extend(labels_of(input, id)?);
            }
            write_labels_as(out, &labels_part(place), &kept)?;
        }
    }
    Ok(())
}

/// The places and scores of all cases, by rising `u_a`.
fn assess_all(
    config: &AssessUmaConfig,
    network: &mut UmaNet,
    samples: &Samples,
) -> Result<Vec<(usize, AssessedCase)>, NetsError> {
    let outline = samples.outline();
    let mut cases = Vec::new();
    samples.each(|nth, case| {
        let found = network.assess(case, outline.size, config.window.as_ref())?;
        let id = outline.ids[nth].clone();
        let (u_a, u_b, is_high) = (found.score.u_a, found.score.u_b, found.is_high);
        cases.push((nth, AssessedCase { id, u_a, u_b, is_high }));
        Ok(())
    })?;
    cases.sort_by(|(_, a), (_, b)| a.u_a.total_cmp(&b.u_a));
    Ok(cases)
}

/// The image and the maps of a case, of its first structure.
fn maps_of(
    config: &AssessUmaConfig,
    network: &mut UmaNet,
    samples: &Samples,
    nth: usize,
    sources: &[String],
    Channels { case, .. }: &Channels,
) -> Result<Vec<CaseImage>, StageError> {
    let outline = samples.outline();
    let found = network
        .assess(&*samples.case(nth).map_err(fault)?, outline.size, config.window.as_ref())
        .map_err(StageError::new)?;
    let first_structure = |map: &[f32]| {
        let values = map.iter().step_by(outline.n_structures).copied().collect();
        Image::new(case.image.shape(), values).map_err(StageError::new)
    };
    let named = |name: String, image: Image| CaseImage {
        id: format!("{}/{name}", case.id),
        patient: case.patient.clone(),
        dataset: case.dataset.clone(),
        split: case.split,
        image,
        spacing: case.spacing,
        affine: case.affine,
    };
    let mut maps = vec![named("image".to_owned(), case.image.clone())];
    let pairs = found.uncertainty.iter().zip(&found.calibration);
    for (name, (uncertainty, calibration)) in sources.iter().zip(pairs) {
        maps.push(named(format!("uncertainty/{name}"), first_structure(uncertainty)?));
        maps.push(named(format!("calibration/{name}"), first_structure(calibration)?));
    }
    maps.push(named("consensus".to_owned(), first_structure(&found.consensus)?));
    Ok(maps)
}
