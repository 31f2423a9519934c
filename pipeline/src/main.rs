//! The `pipeline` command with the built-in stages.

fn main() -> std::process::ExitCode {
    pipeline::main_with(pipeline::standard())
}
