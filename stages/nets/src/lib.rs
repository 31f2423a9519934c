//! Networks, losses and optimizers over channels-last buffers.

mod augment;
mod checkpoint;
mod config;
mod container;
mod error;
mod layers;
#[cfg(test)]
mod learning_tests;
mod loss;
mod metrics;
mod model;
mod parameters;
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

pub use augment::{AugmentationConfig, Placement};
pub use checkpoint::Checkpoint;
pub use config::{
    AuemConfig, AuemDecoders, AuxiliaryConfig, ConsistencyConfig, SingleConfig, TaskShape,
    UmaConfig,
};
pub use error::NetsError;
pub use loss::{
    LossAt, LossConfig, LossGradients, LossMaps, LossScratch, LossTask, LossTerms,
    UncertaintyRange, loss_of_case, losses_of_batch,
};
pub use metrics::{EpochMetrics, QualityMeans};
pub use model::{ImageSize, QualityReport, StepAt, StepReport, Streams, Trainable};
pub use parameters::{Buffer, Entry, Layout, NamedTensor, Parameters, ParametersError};
pub use quality::{
    EntropyDomain, EntropyForm, QualityConfig, QualityMaps, QualityScore, VarianceForm,
    calibration_maps, score_case,
};
pub use real::Real;
pub use samples::{Batch, Samples, mean_dice};
pub use schedule::{Ramp, RampShape, learning_rate};
pub use single::SingleNet;
pub use training::{CheckpointHook, HookError, Hooks, Outcome, Progress, Training, predict_all};
pub use training_config::{Selection, TrainingConfig};
pub use uma::{Assessment, UmaNet};
pub use unet::{Unet, UnetConfig, UnetError};
pub use weights::{
    Architecture, Model, ModelInfo, from_tensors, read_model, to_var_map, write_model,
};

/// The vector instructions that networks run on: trained bytes depend on them.
pub fn instruction_set() -> &'static str {
    match kernels::Isa::current() {
        kernels::Isa::Portable => "portable",
        kernels::Isa::Avx2 => "avx2",
        kernels::Isa::Avx512 => "avx512",
    }
}
