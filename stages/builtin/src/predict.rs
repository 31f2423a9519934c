//! Predicts masks of the test images with trained weights.
//!
//! Source: arXiv 2304.00466v2, III: only the primary predictor is used at test.
//! Ports: in `images: Images` (test shards) and `weights: Model` (its weights); out `labels: Labels` of kind `predicted`,
//! with probabilities.
//! Randomness: none. Cost: one forward pass a case.
//! Deviation: the threshold is not in the paper; ½ here, and no component is removed.

use std::collections::BTreeMap;

use datasets::{CaseImage, CaseLabel, Image, Mask, SourceKind, shard::read_images};
use engine::{Ctx, One, Out, Refusal, Stage, StageError, inputs, outputs};
use nets::{ImageSize, Model, ModelInfo, read_model};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Labels, TestImages, Weights},
    shards::{refused, write_label_shard},
    train::normalised,
};

/// Settings of [`Predict`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictConfig {
    /// Probability above which a pixel is foreground, in (0, 1). Default ½.
    #[serde(default = "half")]
    pub threshold: f64,
    /// Name of the source in the labels. Default `prediction`.
    #[serde(default = "prediction")]
    pub source: String,
}

impl Default for PredictConfig {
    fn default() -> Self {
        Self { threshold: half(), source: prediction() }
    }
}

fn half() -> f64 {
    0.5
}

fn prediction() -> String {
    "prediction".to_owned()
}

inputs! {
    /// What [`Predict`] reads.
    pub struct PredictInputs {
        /// Test images.
        images: One<TestImages>,
        /// Trained weights.
        weights: One<Weights>,
    }
}

outputs! {
    /// What [`Predict`] makes.
    pub struct PredictOutputs {
        /// One mask a case and structure.
        labels: Out<Labels>,
    }
}

/// Prediction with a trained network.
pub struct Predict;

impl Stage for Predict {
    const NAME: &'static str = "predict";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Predicts masks of the test images with trained weights.";
    const PER_SHARD: bool = true;
    type Config = PredictConfig;
    type Inputs = PredictInputs;
    type Outputs = PredictOutputs;

    fn check(config: &PredictConfig) -> Result<(), Refusal> {
        if config.threshold > 0.0 && config.threshold < 1.0 {
            return Ok(());
        }
        let message = format!("expected a probability between 0 and 1: got {}", config.threshold);
        Err(Refusal::new("threshold", message))
    }

    fn environment(_: &PredictConfig) -> BTreeMap<String, String> {
        crate::train::environment()
    }

    fn run(
        config: &PredictConfig,
        inputs: PredictInputs,
        outputs: &PredictOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let bytes =
            std::fs::read(inputs.weights.file("weights.safetensors")?).map_err(StageError::new)?;
        let cases = read_images(inputs.images.file(ctx.shard())?).map_err(refused)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(ctx.threads()).build();
        let labels = pool.map_err(StageError::new)?.install(|| {
            let (mut model, info) = read_model(&bytes).map_err(StageError::new)?;
            let mut labels = Vec::new();
            for case in &cases {
                labels.extend(predict_case(&mut model, &info, case, config)?);
            }
            Ok::<_, StageError>(labels)
        })?;
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}

/// One label a structure.
pub(crate) fn predict_case(
    model: &mut Model,
    info: &ModelInfo,
    case: &CaseImage,
    config: &PredictConfig,
) -> Result<Vec<CaseLabel>, StageError> {
    let [_, rows, columns] = case.image.shape();
    let size = ImageSize { n_cases: 1, rows, columns };
    let maps = model.predict(&normalised(&case.image), size).map_err(StageError::new)?;
    let n = info.structures.len().max(1);
    let trained = info.notes.get("primary_trained").is_none_or(|text| text == "true");
    let labels = info.structures.iter().enumerate().map(|(structure, name)| {
        let probability = maps.iter().skip(structure).step_by(n).copied().collect();
        let probability = Image::new(case.image.shape(), probability).map_err(StageError::new)?;
        let mask: Mask = probability.map(|&p| f64::from(p) > config.threshold);
        Ok(CaseLabel {
            id: case.id.clone(),
            source: config.source.clone(),
            kind: SourceKind::Predicted,
            structure: name.clone(),
            split: case.split,
            mask,
            probability: Some(probability),
            spacing: case.spacing,
            params: Some(serde_json::json!({ "primary_trained": trained }).to_string()),
        })
    });
    labels.collect()
}
