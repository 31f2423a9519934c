//! `pipeline explain`: why cells were built last, and what they would do now.

use engine::{Experiment, LastBuild, Planned, State, plan};
use serde_json::json;

use super::plan::{to_json, why, word};
use crate::{
    arguments::ExplainArguments,
    console::Console,
    error::{CliError, Exit},
    text::{count, duration},
    world::World,
};

pub(super) fn run(
    arguments: &ExplainArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let experiment = world.experiment(&arguments.experiment)?;
    let meant = experiment.matching(&arguments.cell)?;
    let names: Vec<String> =
        meant.iter().map(|&cell| experiment.cells[cell].name.clone()).collect();
    let store = world.read_store();
    let planned = plan(&experiment, &experiment.select(&names)?, &store)?;
    for line in planned.iter().filter(|line| names.contains(&line.cell)) {
        let last: Option<LastBuild> = store.last(&experiment.name, &line.cell);
        if arguments.json {
            console.json(&json!({ "cell": line.cell, "last": last, "now": to_json(line) }))?;
        } else {
            explain(line, last.as_ref(), &experiment, console)?;
        }
    }
    Ok(Exit::Done)
}

fn explain(
    line: &Planned,
    last: Option<&LastBuild>,
    experiment: &Experiment,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    console.line(format!("{} (stage `{}`)", line.cell, line.stage))?;
    match last {
        None => {
            console.line(format!("  never built by a run of experiment `{}`", experiment.name))?;
        }
        Some(last) => {
            let shards = last.shards.map_or_else(String::new, |(built, found)| {
                format!(", {built} of {}", count(built + found, "shard"))
            });
            let before =
                last.before.as_ref().map_or_else(String::new, |run| format!(" since run {run}"));
            console.line(format!(
                "  built by run {} in {}{shards}, because{before}",
                last.run,
                duration(last.seconds)
            ))?;
            last.reasons.iter().try_for_each(|reason| console.line(format!("    {reason}")))?;
            for (port, digest) in &last.outputs {
                console.line(format!("  output `{port}` had content {}", digest.short()))?;
            }
        }
    }
    match line.state {
        State::Fresh => console.line("  now fresh"),
        state => console.line(format!("  now {}, because {}", word(state), why(line))),
    }
}
