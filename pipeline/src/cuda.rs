//! The `pipeline-cuda` command: all verbs of `pipeline` with NVIDIA GPUs to train on, and three about them.

use std::process::ExitCode;

fn main() -> ExitCode {
    let registry = pipeline::Registry::new().with(pipeline::Exec::register);
    let registry = registry.with(stages::register_on::<cuda::Cuda>);
    cuda::command::run(std::env::args().skip(1)).unwrap_or_else(|| pipeline::main_with(registry))
}
