//! The `pipeline` command: its verbs, and how events, plans, artifacts and errors look.
//!
//! Data goes to stdout, talk to stderr, and everything can be read without colour. Exit codes: 0 done, 1 a stage or the
//! store failed, 2 bad arguments or configuration, 3 `plan --check` found work, 130 a run was stopped.

mod arguments;
mod console;
mod error;
mod hint;
mod interrupt;
mod programs;
mod progress;
mod text;
mod verbs;
mod world;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::Parser;
use engine::{Registry, Roots};

use crate::{
    arguments::Arguments,
    console::Console,
    error::{CliError, Exit},
    interrupt::StopFlag,
    world::World,
};

/// Runs the command with the stages of `registry` on this process's arguments, folder and streams.
pub fn main_with(registry: Registry) -> ExitCode {
    let mut console = Console::of_process();
    let exit = match std::env::current_dir() {
        Ok(working) => {
            let arguments = std::env::args_os();
            run_with(registry, arguments, &working, interrupt::on_signals, &mut console)
        }
        Err(source) => console.fail(&CliError::WorkingFolder { source }),
    };
    ExitCode::from(exit as u8)
}

/// Runs the command on given arguments; the first is the program's name.
fn run_with(
    registry: Registry,
    arguments: impl IntoIterator<Item = OsString>,
    working: &Path,
    stop: StopFlag,
    console: &mut Console<'_>,
) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(usage) => return console.usage(&usage),
    };
    if let Err(source) = registry.check() {
        return console.fail(&CliError::Requirement { source });
    }
    let roots = Roots::find(working);
    let store =
        arguments.store.map_or_else(|| roots.project.join(".pipeline"), |s| working.join(s));
    let world = World { registry, roots, store, stop };
    let done = verbs::run(&arguments.verb, &world, console);
    match done.and_then(|exit| console.flush().map(|()| exit)) {
        Ok(exit) => exit,
        // Whoever read our output has read enough.
        Err(error) if error.is_broken_pipe() => Exit::Done,
        Err(error) => console.fail(&error),
    }
}
