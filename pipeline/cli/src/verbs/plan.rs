//! `pipeline plan`: what a run would build, and why.

use engine::{Planned, State, plan};
use serde_json::{Value, json};

use crate::{
    arguments::PlanArguments,
    console::Console,
    error::{CliError, Exit},
    text::{Table, count, reasons},
    world::World,
};

pub(super) fn run(
    arguments: &PlanArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let experiment = world.experiment(&arguments.experiment)?;
    let selected = experiment.select(&arguments.selection.only)?;
    let planned = plan(&experiment, &selected, &world.read_store())?;
    if arguments.json {
        planned.iter().try_for_each(|line| console.json(&to_json(line)))?;
    } else {
        let mut table = Table::default();
        for line in &planned {
            table.row([word(line.state), line.cell.as_str(), why(line).as_str()]);
        }
        table.lines().iter().try_for_each(|line| console.line(line))?;
        console.flush()?;
        console.remark(&summary(&planned));
    }
    let work = planned.iter().any(|line| line.state != State::Fresh);
    Ok(if arguments.check && work { Exit::WorkFound } else { Exit::Done })
}

/// The state as `--json` spells it too.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Fresh => "fresh",
        State::Stale => "stale",
        State::Unknown => "unknown",
    }
}

/// Shards and reasons of a cell that is not fresh.
pub(super) fn why(line: &Planned) -> String {
    let shards = line.shards.map(|(n, m)| format!("{n} of {}: ", count(m, "shard")));
    format!("{}{}", shards.unwrap_or_default(), reasons(&line.reasons))
}

/// One line of `--json`.
pub(super) fn to_json(line: &Planned) -> Value {
    let reason: Vec<String> = line.reasons.iter().map(ToString::to_string).collect();
    json!({
        "cell": line.cell,
        "stage": line.stage,
        "state": line.state,
        "reason": reason.join("; "),
        "reasons": line.reasons,
        "shards": line.shards.map(|(stale, total)| json!({ "stale": stale, "total": total })),
    })
}

fn summary(planned: &[Planned]) -> String {
    let number = |state| planned.iter().filter(|line| line.state == state).count();
    let (fresh, stale, unknown) =
        (number(State::Fresh), number(State::Stale), number(State::Unknown));
    let cells = count(planned.len(), "cell");
    match (stale, unknown) {
        (0, 0) => format!("{cells}, all fresh"),
        (_, 0) => format!("{cells}: {fresh} fresh, {stale} stale"),
        _ => format!(
            "{cells}: {fresh} fresh, {stale} stale, {unknown} unknown until what they need is built"
        ),
    }
}
