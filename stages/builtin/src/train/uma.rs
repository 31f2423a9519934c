//! Trains UMA-Net on the labels of several sources.
//!
//! Source: arXiv 2304.00466v2, III and IV-B; settings and deviations at [`nets::UmaConfig`].
//! Ports: in `images`, `annotations` (one a source, in order) and, to be reported only, `reference`; out `model: Model`.
//! Randomness: initialisation, order and augmentation by `rng_seed`. Cost: see the README.

use std::{collections::BTreeMap, marker::PhantomData, num::NonZeroUsize};

use engine::{Ctx, Many, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use nets::{Accelerator, Architecture, NoAccelerator, TrainingConfig, UmaConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    FeedConfig, TrainingDevice, check_structures,
    fit::Fit,
    settings::{SOURCES, Size, lung, one, refusal, training_resources},
};
use crate::kinds::{FittedImages, FittedLabels, Model, ValLabels};

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
    /// What [`TrainUma`] reads.
    pub struct TrainUmaInputs {
        /// Images for training and validation, one artifact a channel.
        images: Many<FittedImages>,
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

/// Training of UMA-Net; GPUs are those of `A`.
pub struct TrainUma<A = NoAccelerator>(PhantomData<fn() -> A>);

impl<A: Accelerator> Stage for TrainUma<A> {
    const NAME: &'static str = "train.uma";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Trains UMA-Net on the labels of several sources.";
    const NONSEMANTIC: &'static [&'static str] = &["threads", "recompute", "feed"];
    type Config = TrainUmaConfig;
    type Inputs = TrainUmaInputs;
    type Outputs = TrainUmaOutputs;

    fn check(config: &TrainUmaConfig) -> Result<(), Refusal> {
        check_structures(&config.structures)?;
        config.network.validate().map_err(|error| refusal("network", &error))?;
        config.training.validate().map_err(|error| refusal("training", &error))?;
        config.device.check(&config.training)
    }

    fn resources(config: &TrainUmaConfig) -> Resources {
        let TrainUmaConfig { network, training, device, threads, recompute, feed, .. } = config;
        let UmaConfig { base_width: width, levels, axes, auem, .. } = *network;
        let backbone = Size { width, levels, decoders: 1, axes };
        let width = (width as f64 * auem.width_mult).ceil() as usize;
        let estimator = Size { width, decoders: SOURCES, ..backbone };
        let networks: &[Size] = if auem.enabled { &[backbone, estimator] } else { &[backbone] };
        training_resources((*threads, *device), training, *recompute, *feed, networks)
    }

    fn gpus(config: &TrainUmaConfig) -> usize {
        config.device.gpus()
    }

    fn program(config: &TrainUmaConfig) -> Option<&'static str> {
        config.device.program::<A>()
    }

    fn environment(config: &TrainUmaConfig) -> Option<BTreeMap<String, String>> {
        Some(config.device.environment(&config.training))
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
            train_cases: config.train_cases,
            training: &config.training,
            device: config.device,
            recompute: config.recompute,
            feed: config.feed,
            rng_seed: config.rng_seed,
        };
        let network = config.network;
        fit.run::<A>(|shape| Architecture::Uma { config: network, shape }, &outputs.model, ctx)
    }
}
