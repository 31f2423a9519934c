//! `pipeline logs`: what a cell said while it worked, and why it failed.

use engine::{CellReport, Outcome, RunOutcome, RunReport, Store};

use super::show::find::{Thing, find};
use crate::{
    arguments::LogsArguments,
    console::Console,
    error::{CliError, Exit},
    text::duration,
    world::World,
};

pub(super) fn run(
    arguments: &LogsArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let store = world.read_store();
    let LogsArguments { cell, run } = arguments;
    if run.is_none()
        && let Some(log) = unfinished(cell, &store)?
    {
        console.lines(&log)?;
        return Ok(Exit::Done);
    }
    let name = run.as_ref().map_or_else(|| cell.clone(), |run| format!("{run}:{cell}"));
    let Thing::Cell(report, cell) = find(&name, world, &store)? else {
        let (thing, run) = (name, "latest".to_owned());
        return Err(CliError::NoThing { thing, run, nearest: None });
    };
    match store.log(&report.run, &cell.cell)? {
        Some(log) => console.lines(&log)?,
        None => console.remark(&silence(&report, &cell)),
    }
    Ok(Exit::Done)
}

/// The log of a cell in the newest run, where that is under way or was killed: it has no report then.
fn unfinished(cell: &str, store: &Store) -> Result<Option<String>, CliError> {
    let newest = store.history()?.into_iter().next();
    let open =
        |run: &engine::PastRun| matches!(run.outcome, RunOutcome::Running | RunOutcome::Killed);
    match newest.filter(open) {
        Some(run) => Ok(store.log(&run.run, cell)?),
        None => Ok(None),
    }
}

/// What is known of a cell that said nothing.
fn silence(report: &RunReport, cell: &CellReport) -> String {
    let became = match cell.outcome {
        Outcome::Fresh => "its result was stored already".to_owned(),
        Outcome::Built => format!("built in {}", duration(cell.seconds)),
        Outcome::Failed => "failed".to_owned(),
        Outcome::Skipped => "not reached".to_owned(),
    };
    format!("`{}` said nothing in run {}: {became}", cell.cell, report.run)
}
