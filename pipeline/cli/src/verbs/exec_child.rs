//! `pipeline exec-child`: becomes another program, which the system ends when the run that has started it is gone.

use std::{convert::Infallible, io, os::unix::process::CommandExt, process::Command};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::{arguments::ExecChildArguments, error::CliError};

pub(super) fn run(arguments: &ExecChildArguments) -> Result<Infallible, CliError> {
    let failed = |error: io::Error| CliError::file("run", &arguments.program)(error);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    // Who has gone before that will not be heard of.
    let parent = getppid().map(Pid::as_raw_pid);
    if parent.is_none_or(|parent| parent.unsigned_abs() != arguments.parent) {
        return Err(failed(io::Error::other("the run that has started it is gone")));
    }
    Err(failed(Command::new(&arguments.program).args(&arguments.arguments).exec()))
}
