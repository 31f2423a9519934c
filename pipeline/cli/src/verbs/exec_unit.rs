//! `pipeline exec-unit`: the work of one cell for a run in another process, which hears it and publishes.

use engine::{StageError, exec_unit};

use crate::{
    arguments::ExecUnitArguments,
    error::{CliError, Exit},
    hint,
    world::World,
};

pub(super) fn run(arguments: &ExecUnitArguments, world: &World) -> Result<Exit, CliError> {
    let advise = |error: &StageError| hint::chain(error).hint;
    exec_unit(&world.registry, &arguments.request, (world.stop)(), &advise)
        .map_err(|source| CliError::Unit { request: arguments.request.clone(), source })?;
    Ok(Exit::Done)
}
