//! Trains UMA-Net on the labels of several sources.
//!
//! Source: arXiv 2304.00466v2, III and IV-B; settings and deviations at [`nets::UmaConfig`].
//! Ports: in `images`, `annotations` (one a source, in order) and, to be reported only, `reference`; out `model: Model`.
//! Randomness: initialisation, order and augmentation by `rng_seed`. Cost: see the README.

use std::collections::BTreeMap;

use engine::{
    Ctx, Many, One, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs,
};
use nets::{Architecture, TrainingConfig, UmaConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check_structures,
    fit::Fit,
    settings::{lung, one, refusal, training_resources},
};
use crate::{
    kinds::{FittedImages, FittedLabels, Model, ValLabels},
    trained::environment,
};

/// Settings of [`TrainUma`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainUmaConfig {
    /// The network and its losses.
    #[serde(default)]
    pub network: UmaConfig,
    /// The training.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Seed of initialisation, order and augmentation.
    #[serde(default)]
    pub rng_seed: u64,
    /// Structures to segment. Default the lungs.
    #[serde(default = "lung")]
    pub structures: Vec<String>,
    /// Threads; the result does not depend on them. Default 1: cells side by side use the cores better.
    #[serde(default = "one")]
    pub threads: usize,
}

inputs! {
    /// What [`TrainUma`] reads.
    pub struct TrainUmaInputs {
        /// Images for training and validation.
        images: One<FittedImages>,
        /// Labels of the sources, in the order of the network's decoders.
        annotations: Many<FittedLabels>,
        /// Clean masks of the validation cases, to be reported beside the vote.
        reference: Optional<ValLabels>,
    }
}

outputs! {
    /// What [`TrainUma`] makes.
    pub struct TrainUmaOutputs {
        /// Weights, metrics per epoch and a summary.
        model: Out<Model>,
    }
}

/// Training of UMA-Net.
pub struct TrainUma;

impl Stage for TrainUma {
    const NAME: &'static str = "train.uma";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Trains UMA-Net on the labels of several sources.";
    const NONSEMANTIC: &'static [&'static str] = &["threads"];
    type Config = TrainUmaConfig;
    type Inputs = TrainUmaInputs;
    type Outputs = TrainUmaOutputs;

    fn check(config: &TrainUmaConfig) -> Result<(), Refusal> {
        check_structures(&config.structures)?;
        config.network.validate().map_err(|error| refusal("network", &error))?;
        config.training.validate().map_err(|error| refusal("training", &error))
    }

    fn resources(config: &TrainUmaConfig) -> Resources {
        training_resources(config.threads)
    }

    fn environment(_: &TrainUmaConfig) -> BTreeMap<String, String> {
        environment()
    }

    fn run(
        config: &TrainUmaConfig,
        inputs: TrainUmaInputs,
        outputs: &TrainUmaOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let fit = Fit {
            images: &inputs.images,
            annotations: &inputs.annotations,
            reference: inputs.reference.get(),
            structures: &config.structures,
            training: &config.training,
            rng_seed: config.rng_seed,
        };
        let network = config.network;
        fit.run(|shape| Architecture::Uma { config: network, shape }, &outputs.model, ctx)
    }
}
