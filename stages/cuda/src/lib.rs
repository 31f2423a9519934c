//! The networks' training step on an NVIDIA GPU, with the same numbers as the CPU's.
//!
//! Convolutions are cuDNN's, products cuBLAS's, all else are the kernels under `cuda/`, one module. A step is a list of
//! launches on one stream over buffers from an arena: it allocates nothing, never waits for the device, and is
//! recorded as a graph the second time. Activations are f32 or bf16, weights f32 with a bf16 copy, sums f32 or f64.
//!
//! Without the feature `cuda` this crate is empty. With it, libraries are opened when the program starts and not
//! linked, so `pipeline-cuda` builds without CUDA and starts anywhere, if only to say what it did not find. That is the
//! command of the whole project with this crate in it, whose trainings get here by `nets::Backend`. The steps
//! talk to a trait `Device`; the tests put an emulator in its place, which runs the same kernel sources on the CPU.
//! What they cannot show (cuDNN, cuBLAS, the driver) is what `pipeline-cuda selfcheck` compares on a GPU.

#[cfg(any(test, feature = "cuda"))]
mod arena;
#[cfg(feature = "cuda")]
pub mod bench;
#[cfg(any(test, feature = "cuda"))]
mod buffers;
#[cfg(any(test, feature = "cuda"))]
pub mod check;
#[cfg(feature = "cuda")]
pub mod command;
#[cfg(any(test, feature = "cuda"))]
mod device;
#[cfg(test)]
mod emulator;
#[cfg(any(test, feature = "cuda"))]
mod error;
#[cfg(feature = "cuda")]
pub mod gpu;
#[cfg(any(test, feature = "cuda"))]
mod launches;
#[cfg(any(test, feature = "cuda"))]
mod layout;
#[cfg(any(test, feature = "cuda"))]
mod net;
#[cfg(any(test, feature = "cuda"))]
mod step;
#[cfg(any(test, feature = "cuda"))]
mod training;

#[cfg(feature = "cuda")]
pub use self::training::Cuda;
#[cfg(any(test, feature = "cuda"))]
pub use self::{
    arena::Arena,
    device::{Address, Argument, ConvPass, ConvShape, Device, Launch, Number, Product},
    error::CudaError,
    launches::{LossNumbers, QualityNumbers},
    layout::NetLayout,
    net::{Net, NetWeights},
    step::{GateReport, Moment, StepNumbers, UmaPlan, UmaStep},
    training::DeviceBackend,
};
