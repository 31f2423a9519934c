//! `pipeline du`: what takes the space of the store.

use std::time::Duration;

use engine::Usage;

use crate::{
    arguments::DuArguments,
    console::Console,
    error::{CliError, Exit},
    text::{Table, size},
    world::World,
};

/// What `gc` keeps unused results for, unless it is told otherwise.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn run(
    arguments: &DuArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let usage = world.read_store().usage(KEEP)?;
    if arguments.json {
        console.json_pretty(&usage)?;
    } else {
        lines(&usage).iter().try_for_each(|line| console.line(line))?;
    }
    Ok(Exit::Done)
}

fn lines(usage: &Usage) -> Vec<String> {
    let mut experiments = Table::titled(&["experiment", "runs", "files", "size"]).right(&[1, 2, 3]);
    for row in &usage.experiments {
        let (runs, files) = (row.runs.to_string(), row.files.to_string());
        experiments.row([&row.experiment, &runs, &files, &size(row.bytes)]);
    }
    let mut kinds = Table::titled(&["kind", "artifacts", "files", "size"]).right(&[1, 2, 3]);
    for row in &usage.kinds {
        let (artifacts, files) = (row.artifacts.to_string(), row.files.to_string());
        kinds.row([&row.kind, &artifacts, &files, &size(row.bytes)]);
    }
    let mut folders = Table::titled(&["folder", "size"]).right(&[1]);
    for (name, bytes) in &usage.folders {
        folders.row([name, &size(*bytes)]);
    }
    folders.row(["in all", &size(usage.bytes)]);
    folders.row(["`pipeline gc` frees", &size(usage.garbage)]);
    let space = || [String::new()];
    let tables = experiments.lines().into_iter().chain(space());
    tables.chain(kinds.lines()).chain(space()).chain(folders.lines()).collect()
}
