//! The kernels as a module of the driver: compiled when the program was built, or by NVRTC now.

use std::ffi::c_void;

use cudarc::driver::{result as driver, sys};

use super::of_driver;
use crate::CudaError;

/// Machine code for compute capability 9.0 and PTX of 8.0.
#[cfg(compiled_kernels)]
const COMPILED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// Loads the kernels for a GPU of compute capability `[major, minor]`.
pub(super) fn load(capability: [i32; 2]) -> Result<sys::CUmodule, CudaError> {
    let [major, minor] = capability;
    if major < 8 {
        let log = format!("the GPU has compute capability {major}.{minor}, and bf16 needs 8.0");
        return Err(CudaError::Compile { architecture: format!("sm_{major}{minor}"), log });
    }
    let image = image(capability)?;
    // SAFETY: the image is a whole fatbin, or machine code from NVRTC, and is copied by the call.
    unsafe { driver::module::load_data(image.as_ptr().cast::<c_void>()) }
        .map_err(of_driver("cuModuleLoadData"))
}

#[cfg(compiled_kernels)]
fn image(_capability: [i32; 2]) -> Result<&'static [u8], CudaError> {
    Ok(COMPILED)
}

#[cfg(not(compiled_kernels))]
fn image(capability: [i32; 2]) -> Result<Vec<u8>, CudaError> {
    runtime::compile(capability)
}

/// Compiles the embedded sources.
#[cfg(any(test, not(compiled_kernels)))]
mod runtime {
    use std::ffi::{CStr, CString, c_char};

    use cudarc::nvrtc::{result as nvrtc, sys};

    use crate::CudaError;

    /// The sources by file name; the first includes the others.
    const SOURCES: [(&str, &str); 7] = [
        ("kernels.cu", include_str!("../../cuda/kernels.cu")),
        ("common.cuh", include_str!("../../cuda/common.cuh")),
        ("norm.cuh", include_str!("../../cuda/norm.cuh")),
        ("spatial.cuh", include_str!("../../cuda/spatial.cuh")),
        ("linear.cuh", include_str!("../../cuda/linear.cuh")),
        ("loss.cuh", include_str!("../../cuda/loss.cuh")),
        ("adam.cuh", include_str!("../../cuda/adam.cuh")),
    ];

    /// Machine code for a GPU of compute capability `[major, minor]`.
    pub(super) fn compile([major, minor]: [i32; 2]) -> Result<Vec<u8>, CudaError> {
        let architecture = format!("sm_{major}{minor}");
        let fault = |log: String| CudaError::Compile { architecture: architecture.clone(), log };
        let texts = SOURCES.map(|(name, text)| (CString::new(name), CString::new(text)));
        let mut sources = Vec::with_capacity(texts.len());
        for (name, text) in texts {
            let nul = |nul: std::ffi::NulError| fault(nul.to_string());
            sources.push((name.map_err(nul)?, text.map_err(nul)?));
        }
        let headers: Vec<*const c_char> =
            sources[1..].iter().map(|(_, text)| text.as_ptr()).collect();
        let names: Vec<*const c_char> =
            sources[1..].iter().map(|(name, _)| name.as_ptr()).collect();
        let mut program = std::ptr::null_mut();
        // SAFETY: all strings live until the program is destroyed below.
        unsafe {
            let count = i32::try_from(headers.len()).unwrap_or(0);
            let (name, text) = (sources[0].0.as_ptr(), sources[0].1.as_ptr());
            sys::nvrtcCreateProgram(
                &mut program,
                text,
                name,
                count,
                headers.as_ptr(),
                names.as_ptr(),
            )
            .result()
            .map_err(|status| fault(format!("{:?}", status.0)))?;
            let options = [format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
            let done = nvrtc::compile_program(program, &options);
            let image = match done {
                Ok(()) => machine_code(program).map_err(|status| fault(format!("{:?}", status.0))),
                Err(status) => {
                    let log = nvrtc::get_program_log(program).unwrap_or_default();
                    let log = if log.last() == Some(&0) {
                        CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned()
                    } else {
                        String::new()
                    };
                    Err(fault(format!("{:?}: {log}", status.0)))
                }
            };
            let _ = nvrtc::destroy_program(program);
            image
        }
    }

    /// # Safety
    /// `program` was compiled.
    unsafe fn machine_code(program: sys::nvrtcProgram) -> Result<Vec<u8>, nvrtc::NvrtcError> {
        let mut len = 0;
        // SAFETY: the program was compiled for an architecture, so it has machine code of this length.
        unsafe {
            sys::nvrtcGetCUBINSize(program, &mut len).result()?;
            let mut image = vec![0_u8; len];
            sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result()?;
            Ok(image)
        }
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

        use super::*;

        /// NVRTC needs no GPU: where the library is, the embedded sources are compiled.
        #[test]
        fn the_embedded_sources_compile() {
            let found = crate::gpu::find();
            if found.iter().any(|found| found.library == "NVRTC" && found.place.is_err()) {
                return;
            }
            let image = compile([9, 0]).unwrap();
            assert_eq!(&image[1..4], b"ELF");
            let name = b"norm_backward_bf16_8";
            assert!(image.windows(name.len()).any(|window| window == name));
        }
    }
}
