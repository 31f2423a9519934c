//! Trains a UNet on one label a case: the baseline on a vote, or on clean masks.
//!
//! Source: arXiv 2304.00466v2, IV: single-annotation methods are trained on the majority vote; network of
//! milesial/Pytorch-UNet.
//! Ports: in `images`, `target` and, to be reported only, `reference`; out `model: Model`.
//! Randomness: initialisation, order and augmentation by `rng_seed`. Cost: see the README.

use std::{collections::BTreeMap, marker::PhantomData, num::NonZeroUsize};

use super::{
    FeedConfig, TrainingDevice, check_structures,
    fit::Fit,
    settings::{Size, lung, one, refusal, training_resources},
};
use crate::kinds::{FittedImages, FittedLabels, Model, ValLabels};
use engine::{
    Ctx, Many, One, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs,
};
use nets::{Accelerator, Architecture, NoAccelerator, SingleConfig, TrainingConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of [`TrainUnet`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainUnetConfig {
    /// The network.
    #[serde(default)]
    pub network: SingleConfig,
    /// The training.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Seed of initialisation, order and augmentation.
    #[serde(default)]
    pub rng_seed: u64,
    /// Structures to segment. Default the lungs.
    #[serde(default = "lung")]
    pub structures: Vec<String>,
    /// Training cases that are used, the first by id, at least 1. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_cases: Option<NonZeroUsize>,
    /// Where the steps are done: `cpu` (default) or `cuda`, an NVIDIA GPU of those that `--gpus` names.
    #[serde(default, skip_serializing_if = "TrainingDevice::is_cpu")]
    pub device: TrainingDevice,
    /// Threads; the result does not depend on them. Default 1: cells side by side use the cores better.
    #[serde(default = "one")]
    pub threads: usize,
    /// Whether the blocks of the networks are computed again for their gradients, which takes a third more time and
    /// less memory; the result does not depend on it, and a GPU does without. Default false.
    #[serde(default)]
    pub recompute: bool,
    /// How cases come to the steps; the result does not depend on it.
    #[serde(default)]
    pub feed: FeedConfig,
}

inputs! {
    /// What [`TrainUnet`] reads.
    pub struct TrainUnetInputs {
        /// Images for training and validation, one artifact a channel.
        images: Many<FittedImages>,
        /// The label that the network learns.
        target: One<FittedLabels>,
        /// Clean masks of the validation cases, to be reported beside the target.
        reference: Optional<ValLabels>,
    }
}

outputs! {
    /// What [`TrainUnet`] makes.
    pub struct TrainUnetOutputs {
        /// Weights, metrics per epoch and a summary.
        model: Out<Model>,
    }
}

/// Training of a UNet; GPUs are those of `A`.
pub struct TrainUnet<A = NoAccelerator>(PhantomData<fn() -> A>);

impl<A: Accelerator> Stage for TrainUnet<A> {
    const NAME: &'static str = "train.unet";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Trains a UNet on one label a case.";
    const NONSEMANTIC: &'static [&'static str] = &["threads", "recompute", "feed"];
    type Config = TrainUnetConfig;
    type Inputs = TrainUnetInputs;
    type Outputs = TrainUnetOutputs;

    fn check(config: &TrainUnetConfig) -> Result<(), Refusal> {
        check_structures(&config.structures)?;
        config.network.validate().map_err(|error| refusal("network", &error))?;
        config.training.validate().map_err(|error| refusal("training", &error))?;
        config.device.check(&config.training)
    }

    fn resources(config: &TrainUnetConfig) -> Resources {
        let TrainUnetConfig { network, training, device, threads, recompute, feed, .. } = config;
        let SingleConfig { base_width: width, levels, axes, .. } = *network;
        let networks = [Size { width, levels, decoders: 1, axes }];
        training_resources((*threads, *device), training, *recompute, *feed, &networks)
    }

    fn gpus(config: &TrainUnetConfig) -> usize {
        config.device.gpus()
    }

    fn program(config: &TrainUnetConfig) -> Option<&'static str> {
        config.device.program::<A>()
    }

    fn environment(config: &TrainUnetConfig) -> Option<BTreeMap<String, String>> {
        Some(config.device.environment(&config.training))
    }

    fn run(
        config: &TrainUnetConfig,
        inputs: TrainUnetInputs,
        outputs: &TrainUnetOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let fit = Fit {
            images: &inputs.images,
            annotations: std::slice::from_ref(&*inputs.target),
            reference: inputs.reference.get(),
            structures: &config.structures,
            train_cases: config.train_cases,
            training: &config.training,
            device: config.device,
            recompute: config.recompute,
            feed: config.feed,
            rng_seed: config.rng_seed,
        };
        let network = config.network;
        fit.run::<A>(|shape| Architecture::Single { config: network, shape }, &outputs.model, ctx)
    }
}
