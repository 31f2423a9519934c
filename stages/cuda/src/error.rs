//! What can go wrong between this program and a GPU.

use thiserror::Error;

/// A fault of the device, of a library, or of what was asked of them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CudaError {
    /// A shared library could not be opened.
    #[error("{library} was not found: looked for {}", tried.join(", "))]
    Library {
        /// What it is.
        library: &'static str,
        /// File names and paths, in the order in which they were tried.
        tried: Vec<String>,
    },
    /// The driver is there and sees no GPU.
    #[error("the NVIDIA driver sees no GPU ({status})")]
    NoDevice {
        /// What the driver said.
        status: String,
    },
    /// There is no GPU of this number.
    #[error("GPU {ordinal} does not exist: the driver sees {n_devices}")]
    Ordinal {
        /// Number that was asked for.
        ordinal: usize,
        /// GPUs that the driver sees.
        n_devices: usize,
    },
    /// There is no GPU of this name.
    #[error("no GPU is called `{id}`: {}", named(visible))]
    Name {
        /// Name that was asked for.
        id: String,
        /// Content of `CUDA_VISIBLE_DEVICES`, if it is set.
        visible: Option<String>,
    },
    /// The memory of the GPU is too small.
    #[error("the GPU has no {} MiB more", n_bytes.div_ceil(1 << 20))]
    Memory {
        /// Bytes that were asked for.
        n_bytes: usize,
    },
    /// An optimizer that there are no kernels for.
    #[error("the optimizer must be Adam")]
    Optimizer,
    /// A call of a library failed.
    #[error("{library}: {call} failed: {status}")]
    Call {
        /// The library.
        library: &'static str,
        /// The function.
        call: &'static str,
        /// Its status, by name.
        status: String,
    },
    /// cuDNN has no algorithm for a convolution.
    #[error("cuDNN has no algorithm for the {pass} of {shape}")]
    NoAlgorithm {
        /// The pass.
        pass: String,
        /// Axes, channels, kernel and number of the convolution.
        shape: String,
    },
    /// The kernels could not be compiled at the start.
    #[error("the kernels could not be compiled for {architecture}: {log}")]
    Compile {
        /// Architecture that was asked for.
        architecture: String,
        /// What the compiler said.
        log: String,
    },
    /// A kernel could not be launched.
    #[error("kernel `{kernel}` could not be launched: {what}")]
    Launch {
        /// Name of the kernel.
        kernel: String,
        /// Why not.
        what: String,
    },
    /// A network lacks a tensor that the step needs.
    #[error("tensor `{name}` is missing or of an unexpected shape {shape:?}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// Shape that was found; empty if there was none.
        shape: Vec<usize>,
    },
    /// A buffer does not hold the values that its axes ask for.
    #[error("{what} must hold {expected} values: got {found}")]
    Length {
        /// The buffer that is meant.
        what: &'static str,
        /// Product of its axes.
        expected: usize,
        /// Values that were given.
        found: usize,
    },
    /// The CPU refused what the device should be compared on.
    #[error("the CPU refused the comparison: {what}")]
    Reference {
        /// Why.
        what: String,
    },
    /// Something is out of the range that the kernels are written for.
    #[error("{what} must be {allowed}: got {found}")]
    Range {
        /// What it is.
        what: &'static str,
        /// What it may be.
        allowed: String,
        /// What it is instead.
        found: usize,
    },
}

fn named(visible: &Option<String>) -> String {
    match visible {
        Some(visible) => format!("CUDA_VISIBLE_DEVICES is `{visible}`"),
        None => "without CUDA_VISIBLE_DEVICES they have the numbers from 0 on".to_owned(),
    }
}

impl CudaError {
    /// Advice to the user, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Library { library, .. } if library.contains("driver") => Some(
                "install the NVIDIA driver (580 or later for CUDA 13), or run the cell without a GPU",
            ),
            Self::Library { .. } => Some(
                "install the packages `nvidia-cudnn-cu13` and `cuda-toolkit[cublas,nvrtc]==13.0.2` with pip (PyTorch \
                 for CUDA 13 brings them) and name their folders, separated by `:`, in PIPELINE_CUDA_LIBRARIES",
            ),
            Self::NoDevice { .. } => {
                Some("check `nvidia-smi`, and CUDA_VISIBLE_DEVICES, which must not be empty")
            }
            Self::Memory { .. } => Some(
                "take smaller batches or patches (`training.batch_size`, `training.patch`), or `training.precision = \"bf16\"`",
            ),
            Self::Optimizer => {
                Some("leave `training.optimizer` out, or train with `device = \"cpu\"`")
            }
            Self::Compile { .. } => {
                Some("build with nvcc 13.0 in PATH, so that nothing is compiled at the start")
            }
            Self::NoAlgorithm { .. } => {
                Some("run with the number format f32, or with a newer cuDNN")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_says_what_was_looked_for() {
        let fault = CudaError::Library {
            library: "the NVIDIA driver",
            tried: vec!["libcuda.so.1".into(), "/opt/libcuda.so.1".into()],
        };
        let text = "the NVIDIA driver was not found: looked for libcuda.so.1, /opt/libcuda.so.1";
        assert_eq!(fault.to_string(), text);
        assert!(fault.hint().is_some_and(|hint| hint.contains("driver")));
    }
}
