//! `pipeline history`: the runs, newest first.

use engine::{PastRun, RunOutcome};

use crate::{
    arguments::HistoryArguments,
    console::Console,
    error::{CliError, Exit},
    text::{Table, duration},
    world::World,
};

pub(super) fn run(
    arguments: &HistoryArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let runs = world.read_store().history()?;
    if arguments.json {
        runs.iter().try_for_each(|run| console.json(run))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::titled(&["run", "experiment", "built", "fresh", "time", "outcome"])
        .right(&[2, 3, 4]);
    for PastRun { run, experiment, outcome, built, fresh, seconds } in &runs {
        let number = |n: &Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let time = seconds.map_or_else(|| "-".to_owned(), duration);
        let (built, fresh) = (number(built), number(fresh));
        table.row([run, experiment, &built, &fresh, &time, word(*outcome)]);
    }
    table.lines().iter().try_for_each(|line| console.line(line))?;
    Ok(Exit::Done)
}

fn word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Stopped => "stopped",
        RunOutcome::Running => "running",
        RunOutcome::Killed => "killed",
    }
}
