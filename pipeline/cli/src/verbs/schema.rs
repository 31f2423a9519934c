//! `pipeline schema`: JSON Schemas for editors.

use engine::experiment_schema;

use super::stages::stage;
use crate::{
    arguments::SchemaArguments,
    console::Console,
    error::{CliError, Exit},
    world::World,
};

pub(super) fn run(
    arguments: &SchemaArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    match &arguments.stage {
        None => console.json_pretty(&experiment_schema(&world.registry))?,
        Some(name) => console.json_pretty(stage(world, name)?.schema())?,
    }
    Ok(Exit::Done)
}
