//! Hot operations of the networks on channels-last f32 buffers, each with its gradients.
//!
//! Buffers are `[batch, slice, row, column, channel]`, 2-D with one slice. Operations use the rayon pool that they
//! are called in and the best instruction set of the machine ([`Isa`]); for one set, results are the same bytes
//! for any number of threads. Buffers of the wrong length are bugs of the caller and panic.

mod adam;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod candle_ops;
mod consensus;
mod conv;
mod conv_weights;
mod element;
mod elementwise;
mod map_sums;
mod math;
mod norm;
mod optimizer;
mod pack;
mod parallel;
mod pointwise;
mod pool;
#[cfg(test)]
mod reference;
mod resize;
mod sgd;
mod simd;
mod spread;
mod strided;
mod sums;
mod tile;
mod uma_loss;
mod up_conv;
mod volume;
mod windows;
mod winograd;

pub use adam::{AdamConfig, AdamState};
pub use consensus::{Consensus, ConsensusDomain, ConsensusMaps, ConsensusSums};
pub use conv::{Conv, Write};
pub use element::Element;
pub use half::bf16;
pub use norm::{
    Activation, Affine, AffineGradient, BatchStatistics, NORM_EPSILON, NORM_MOMENTUM, Norm,
    NormKind, NormStatistics, PooledGradient, Pooling, RunningStatistics, norm_relu_gradient,
    norm_relu_inference, norm_relu_training,
};
pub use optimizer::{Optimizer, OptimizerState, clip_factor, gradient_norm};
pub use pointwise::{sigmoid, sigmoids};
pub use pool::{MaxPool, Pooled};
pub use resize::{Interpolation, Resize};
pub use sgd::{SgdConfig, SgdState};
pub use simd::{INSTRUCTIONS, Isa, UnknownIsa, with_isa};
pub use strided::StridedConv;
pub use uma_loss::{LossCase, LossValues, UmaLoss, bce_with_logits, soft_dice};
pub use up_conv::UpConv;
pub use volume::Volume;
