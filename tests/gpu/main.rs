//! Cells that another program runs: `pipeline-cuda` in its place is this file's own program, which has toy stages and no
//! GPU. Without arguments of the command it is the tests, so it can call itself.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

#[path = "../shared/project.rs"]
mod project;
mod stages_here;
mod trials;
mod world;

use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("run" | "status" | "logs" | "exec-unit") => {
            pipeline::main_with(stages_here::registry())
        }
        _ => run_trials(words.iter().find(|word| !word.starts_with('-')).map(String::as_str)),
    }
}

/// Runs the trials whose name holds `part`; a panic ends the process as a failure.
fn run_trials(part: Option<&str>) -> ExitCode {
    for (name, trial) in trials::ALL.iter().filter(|(name, _)| name.contains(part.unwrap_or(""))) {
        let _ = writeln!(std::io::stderr(), "trial {name}");
        trial();
    }
    ExitCode::SUCCESS
}
