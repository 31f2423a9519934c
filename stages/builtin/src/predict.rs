//! Predicts masks of the test images with trained weights.
//!
//! Source: arXiv 2304.00466v2, III: only the primary predictor is used at test.
//! Ports: in `images: Images` (test shards) and `weights: Model` (its weights); out `labels: Labels` of kind `predicted`,
//! with probabilities.
//! Randomness: none. Cost: one forward pass a case; by windows one a window, which bounds the memory (see
//! [`nets::WindowConfig`]).
//! Deviation: the threshold is not in the paper; ½ here, and no component is removed.

use std::collections::BTreeMap;

use datasets::shard::read_images;
use engine::{Ctx, Input, Many, One, Out, Refusal, Stage, StageError, inputs, outputs};
use nets::{Precision, WindowConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    channels::join,
    kinds::{Labels, TestImages, Weights},
    shards::{refused, write_label_shard},
    trained::{
        HALF, PREDICTION, Predicting, environment, in_pool, predict_case, read_weights,
        window_refusal,
    },
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
    /// Overlapping windows by which large cases are predicted. Default none: each case as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowConfig>,
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
        /// Test images, one artifact a channel, in the order of training.
        images: Many<TestImages>,
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
        if !(config.threshold > 0.0 && config.threshold < 1.0) {
            let found = config.threshold;
            let message = format!("expected a probability between 0 and 1: got {found}");
            return Err(Refusal::new("threshold", message));
        }
        config
            .window
            .iter()
            .try_for_each(WindowConfig::validate)
            .map_err(|error| window_refusal(&error))
    }

    fn environment(_: &PredictConfig) -> Option<BTreeMap<String, String>> {
        Some(environment(Precision::F32))
    }

    fn run(
        config: &PredictConfig,
        inputs: PredictInputs,
        outputs: &PredictOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let read = |input: &Input| read_images(input.file(ctx.shard())?).map_err(refused);
        let cases = join(&inputs.images, read)?;
        let labels = in_pool(ctx, || {
            let (mut model, info) = read_weights(&inputs.weights)?;
            let mut labels = Vec::new();
            let PredictConfig { threshold, source, window } = config;
            let predicting = Predicting { source, threshold: *threshold, windows: *window };
            for case in &cases {
                labels.extend(predict_case(model.trainable_mut(), &info, case, predicting)?);
            }
            Ok(labels)
        })?;
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}
