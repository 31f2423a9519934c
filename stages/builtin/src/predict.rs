//! Predicts masks of the test images with trained weights.
//!
//! Source: arXiv 2304.00466v2, III: only the primary predictor is used at test.
//! Ports: in `images: Images` (test shards) and `weights: Model` (its weights); out `labels: Labels` of kind `predicted`,
//! with probabilities.
//! Randomness: none. Cost: one forward pass a case.
//! Deviation: the threshold is not in the paper; ½ here, and no component is removed.

use std::collections::BTreeMap;

use datasets::shard::read_images;
use engine::{Ctx, One, Out, Refusal, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Labels, TestImages, Weights},
    shards::{refused, write_label_shard},
    trained::{HALF, PREDICTION, environment, in_pool, predict_case, read_weights},
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

fn half() -> f64 {
    HALF
}

fn prediction() -> String {
    PREDICTION.to_owned()
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
        environment()
    }

    fn run(
        config: &PredictConfig,
        inputs: PredictInputs,
        outputs: &PredictOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = read_images(inputs.images.file(ctx.shard())?).map_err(refused)?;
        let labels = in_pool(ctx, || {
            let (mut model, info) = read_weights(&inputs.weights)?;
            let mut labels = Vec::new();
            for case in &cases {
                let PredictConfig { threshold, source } = config;
                labels.extend(predict_case(&mut model, &info, case, source, *threshold)?);
            }
            Ok(labels)
        })?;
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}
