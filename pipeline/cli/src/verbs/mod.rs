//! The verbs, one file each.

mod completions;
mod diff;
mod doctor;
mod du;
mod exec_cell;
mod exec_child;
mod exec_unit;
mod explain;
mod export;
mod gc;
mod graph;
mod history;
mod logs;
mod new;
mod pin;
mod plan;
mod run;
mod schema;
mod show;
mod stages;
mod status;
mod verify;

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
        Verb::History(arguments) => history::run(arguments, world, console),
        Verb::Diff(arguments) => diff::run(arguments, world, console),
        Verb::Logs(arguments) => logs::run(arguments, world, console),
        Verb::Status(arguments) => status::run(arguments, world, console),
        Verb::Verify(arguments) => verify::run(arguments, world, console),
        Verb::Gc(arguments) => gc::run(arguments, world, console),
        Verb::Du(arguments) => du::run(arguments, world, console),
        Verb::Pin(arguments) => pin::pin(arguments, world, console),
        Verb::Unpin(arguments) => pin::unpin(arguments, world, console),
        Verb::Stages(arguments) => stages::run(arguments, world, console),
        Verb::Export(arguments) => export::run(arguments, world, console),
        Verb::ExecCell(arguments) => exec_cell::run(arguments, world, console),
        Verb::ExecUnit(arguments) => exec_unit::run(arguments, world),
        Verb::ExecChild(arguments) => exec_child::run(arguments).map(|never| match never {}),
        Verb::New(arguments) => new::run(arguments, world, console),
        Verb::Schema(arguments) => schema::run(arguments, world, console),
        Verb::Doctor(arguments) => doctor::run(arguments, world, console),
        Verb::Completions(arguments) => completions::run(arguments, console),
    }
}
