//! `pipeline completions`: a script that teaches a shell the arguments.

use clap::CommandFactory;

use crate::{
    arguments::{Arguments, CompletionsArguments},
    console::Console,
    error::{CliError, Exit},
};

pub(super) fn run(
    arguments: &CompletionsArguments,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    // Made in memory, because the generator panics where a stream is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "pipeline", &mut script);
    console.data().write_all(&script).map_err(CliError::output)?;
    Ok(Exit::Done)
}
