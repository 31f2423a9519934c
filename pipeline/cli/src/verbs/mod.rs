//! The verbs, one file each.

mod completions;
mod doctor;
mod explain;
mod graph;
mod plan;
mod run;
mod schema;
mod show;
mod stages;

use crate::{
    arguments::Verb,
    console::Console,
    error::{CliError, Exit},
    world::World,
};

/// Does what the arguments ask for.
pub(crate) fn run(verb: &Verb, world: &World, console: &mut Console<'_>) -> Result<Exit, CliError> {
    match verb {
        Verb::Run(arguments) => run::run(arguments, world, console),
        Verb::Plan(arguments) => plan::run(arguments, world, console),
        Verb::Explain(arguments) => explain::run(arguments, world, console),
        Verb::Graph(arguments) => graph::run(arguments, world, console),
        Verb::Show(arguments) => show::run(arguments, world, console),
        Verb::Stages(arguments) => stages::run(arguments, world, console),
        Verb::Schema(arguments) => schema::run(arguments, world, console),
        Verb::Doctor(arguments) => doctor::run(arguments, world, console),
        Verb::Completions(arguments) => completions::run(arguments, console),
    }
}
