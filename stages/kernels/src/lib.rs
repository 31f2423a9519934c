//! Hot operations of the networks on channels-last f32 buffers, each with its gradients.
//!
//! Buffers are `[batch, slice, row, column, channel]`, 2-D with one slice. Operations use the rayon pool that they
//! are called in and the best instruction set of the machine ([`Isa`]); for one set, results are the same bytes
//! for any number of threads. Buffers of the wrong length are bugs of the caller and panic.

mod adam;
pub mod candle_ops;
mod conv;
mod conv_weights;
mod element;
mod elementwise;
mod norm;
mod pack;
mod parallel;
mod pointwise;
mod pool;
#[cfg(test)]
mod reference;
mod simd;
mod spread;
mod sums;
mod tile;
mod up_conv;
mod volume;

pub use adam::{AdamConfig, AdamState};
pub use conv::{Conv, Write};
pub use element::Element;
pub use half::bf16;
pub use norm::{
    Affine, BatchStatistics, NORM_EPSILON, NORM_MOMENTUM, RunningStatistics, norm_relu_gradient,
    norm_relu_inference, norm_relu_training,
};
pub use pointwise::sigmoid;
pub use pool::{MaxPool, Pooled};
pub use simd::{Isa, with_isa};
pub use up_conv::UpConv;
pub use volume::Volume;
