//! `pipeline gc`: removes what nobody needs and says why the rest stays.

use std::time::Duration;

use engine::Sweep;
use serde_json::{Value, json};

use crate::{
    arguments::GcArguments,
    console::Console,
    error::{CliError, Exit},
    text::{Table, size},
    world::World,
};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn run(
    arguments: &GcArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let sweep = world.read_store().sweep(DAY * arguments.keep_days, arguments.dry_run)?;
    if arguments.json {
        console.json_pretty(&to_json(&sweep))?;
    } else {
        tables(&sweep).iter().try_for_each(|line| console.line(line))?;
    }
    Ok(Exit::Done)
}

fn tables(sweep: &Sweep) -> Vec<String> {
    let mut kept = Table::titled(&["kept", "files", "size"]).right(&[1, 2]);
    for group in &sweep.kept {
        kept.row([&group.why, &group.files.to_string(), &size(group.bytes)]);
    }
    let word = if sweep.dry_run { "would be freed" } else { "freed" };
    let mut freed = Table::titled(&[word, "entries", "size"]).right(&[1, 2]);
    let rows = [
        ("records", sweep.records),
        ("files of artifacts", sweep.files),
        ("abandoned work", sweep.work),
        ("checkpoints", sweep.checkpoints),
        ("quarantine", sweep.quarantine),
    ];
    for (name, amount) in rows {
        freed.row([name, &amount.entries.to_string(), &size(amount.bytes)]);
    }
    freed.row(["in all", "", &size(sweep.bytes())]);
    kept.lines().into_iter().chain([String::new()]).chain(freed.lines()).collect()
}

fn to_json(sweep: &Sweep) -> Value {
    let mut value = json!(sweep);
    value["freed_bytes"] = json!(sweep.bytes());
    value
}
