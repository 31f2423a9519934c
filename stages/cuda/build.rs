//! Compiles the kernels with nvcc where there is one; without it the program compiles them itself when it starts.
//!
//! Nothing happens without the feature `cuda`. `NVCC` names the compiler; otherwise `CUDA_HOME/bin` and `PATH` are
//! searched. The object holds machine code for compute capability 9.0 and PTX of 8.0 for all other GPUs since.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const OUTPUT: &str = "kernels.fatbin";

fn main() {
    for name in ["NVCC", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=cuda");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let (Some(nvcc), Some(folder)) = (nvcc(), env::var_os("OUT_DIR")) else { return };
    let output = Path::new(&folder).join(OUTPUT);
    match compile(&nvcc, &output) {
        Ok(()) => println!("cargo:rustc-cfg=compiled_kernels"),
        Err(log) => println!(
            "cargo:warning=`{}` could not compile the kernels, so they are compiled at each start: {}",
            nvcc.display(),
            log.replace('\n', " ")
        ),
    }
}

fn nvcc() -> Option<PathBuf> {
    if let Some(given) = env::var_os("NVCC") {
        return Some(PathBuf::from(given));
    }
    let home = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = home.into_iter().chain(env::split_paths(&path));
    folders.map(|folder| folder.join("nvcc")).find(|file| file.is_file())
}

fn compile(nvcc: &Path, output: &Path) -> Result<(), String> {
    let done = Command::new(nvcc)
        .args(["-std=c++17", "-O3", "-fatbin"])
        .args(["-gencode", "arch=compute_90,code=sm_90"])
        .args(["-gencode", "arch=compute_80,code=compute_80"])
        .arg("cuda/kernels.cu")
        .arg("-o")
        .arg(output)
        .output()
        .map_err(|fault| fault.to_string())?;
    if done.status.success() && output.is_file() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}
