//! Networks, losses and optimizers over channels-last buffers.

mod assembly;
mod augment;
mod axes;
mod backend;
mod batch;
mod checkpoint;
mod config;
mod container;
mod error;
mod feed;
mod layers;
#[cfg(test)]
mod learning_tests;
mod loss;
mod metrics;
mod model;
mod optimizer_config;
mod parameters;
mod patches;
mod precision;
mod quality;
mod real;
mod samples;
mod schedule;
mod single;
#[cfg(test)]
mod testing;
mod training;
mod training_config;
mod uma;
mod unet;
mod weights;
mod windows;

pub use augment::{AugmentationConfig, Placement};
pub use axes::Axes;
pub use backend::{Accelerator, Backend, Cpu, DeviceFault, NoAccelerator, Rule};
pub use batch::{Batch, MeanDice};
pub use checkpoint::Checkpoint;
pub use config::{
    AuemConfig, AuemDecoders, AuxiliaryConfig, ConsistencyConfig, SingleConfig, TaskShape,
    UmaConfig,
};
pub use error::NetsError;
pub use kernels::{UnknownIsa, Volume};
pub use loss::{
    LossAt, LossConfig, LossGradients, LossMaps, LossScratch, LossTask, LossTerms,
    UncertaintyRange, loss_of_case, losses_of_batch,
};
pub use metrics::{EpochMetrics, QualityMeans};
pub use model::{
    Predictor, QualityReport, StepAt, StepReport, Streams, Trainable, Weighting, not_finite,
};
pub use optimizer_config::OptimizerConfig;
pub use parameters::{Buffer, Entry, Layout, NamedTensor, Parameters, ParametersError};
pub use patches::{PatchConfig, Region};
pub use precision::{Execution, Precision};
pub use quality::{
    CaseQuality, EntropyDomain, EntropyForm, QualityConfig, QualityMaps, QualityScore,
    VarianceForm, calibration_maps, score_case, score_cases,
};
pub use real::Real;
pub use samples::{Case, Outline, ReadCase, ReadError, Samples};
pub use schedule::{Ramp, RampShape, learning_rate};
pub use single::SingleNet;
pub use training::{CheckpointHook, HookError, Hooks, Outcome, Progress, Training};
pub use training_config::{Selection, TrainingConfig};
pub use uma::{Assessment, UmaNet};
pub use unet::{Unet, UnetConfig, UnetError};
pub use weights::{
    Architecture, Model, ModelInfo, from_tensors, read_model, to_var_map, write_model,
};
pub use windows::{WindowConfig, predict_image};

use kernels::Isa;

/// The vector instructions that networks run on in a number format: trained bytes depend on them.
pub fn instruction_set(precision: Precision) -> &'static str {
    match (Isa::current(), precision) {
        // The tiles of AMX are for bf16 only.
        (Isa::Amx, Precision::F32) => Isa::Avx512.name(),
        (isa, _) => isa.name(),
    }
}

/// Refuses an instruction set that was asked for and that this machine lacks.
///
/// # Errors
/// [`UnknownIsa`] when [`INSTRUCTIONS`](kernels::INSTRUCTIONS) names no set of this machine.
pub fn check_instructions() -> Result<(), UnknownIsa> {
    Isa::of_process().map(|_| ())
}
