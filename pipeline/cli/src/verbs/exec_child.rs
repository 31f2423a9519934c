//! `pipeline exec-child`: becomes another program, which the system ends when the run that has started it is gone.

use std::{convert::Infallible, io, os::unix::process::CommandExt, process::Command};

use rustix::process::{Pid, getppid};

use crate::{arguments::ExecChildArguments, error::CliError};

pub(super) fn run(arguments: &ExecChildArguments) -> Result<Infallible, CliError> {
    let failed = |error: io::Error| CliError::file("run", &arguments.program)(error);
    die_with_parent().map_err(failed)?;
    // Who has gone before that will not be heard of.
    let parent = getppid().map(Pid::as_raw_pid);
    if parent.is_none_or(|parent| parent.unsigned_abs() != arguments.parent) {
        return Err(failed(io::Error::other("the run that has started it is gone")));
    }
    Err(failed(Command::new(&arguments.program).args(&arguments.arguments).exec()))
}

/// Asks the system for a `SIGKILL` when the parent ends; other systems than Linux have no such thing.
fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}
