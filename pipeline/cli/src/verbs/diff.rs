//! `pipeline diff`: what differs between two runs, and their scores side by side.

use std::collections::BTreeMap;

use engine::{CellChange, RunReport, Store, compare_runs};
use serde_json::{Value, json};

use super::show::{
    find::named_run,
    reports::{SCORE_KEYS, scores},
};
use crate::{
    arguments::DiffArguments,
    console::Console,
    error::{CliError, Exit},
    text::Table,
    world::World,
};

/// The columns of a score that say what was measured.
const NAMES: &[&str] = SCORE_KEYS.split_at(5).0;

pub(super) fn run(
    arguments: &DiffArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let store = world.read_store();
    let first = named_run(&arguments.first, world, &store)?;
    let second = named_run(&arguments.second, world, &store)?;
    let changes = compare_runs(&store, &first, &second);
    let scores = score_rows(&store, &first, &second)?;
    if arguments.json {
        console.json_pretty(&to_json(&first, &second, &changes, &scores))?;
        return Ok(Exit::Done);
    }
    for line in changes.iter().flat_map(lines) {
        console.line(line)?;
    }
    if !scores.is_empty() {
        console.line("")?;
        score_table(&scores).lines().iter().try_for_each(|line| console.line(line))?;
    }
    console.flush()?;
    let same = second.cells.len() - changes.iter().filter(|change| change.in_second).count();
    console.remark(&format!(
        "{} to {}: {}, {same} the same",
        first.run,
        second.run,
        match changes.len() {
            1 => "1 cell differs".to_owned(),
            n => format!("{n} cells differ"),
        }
    ));
    Ok(Exit::Done)
}

fn lines(change: &CellChange) -> Vec<String> {
    let CellChange { cell, in_first, in_second, reasons, outputs } = change;
    match (in_first, in_second) {
        (true, false) => return vec![format!("- {cell}")],
        (false, true) => return vec![format!("+ {cell}")],
        _ => {}
    }
    let mut lines = vec![format!("~ {cell}")];
    lines.extend(reasons.iter().map(|reason| format!("    {reason}")));
    let short = |digest: &Option<engine::Digest>| digest.map_or("none".to_owned(), |d| d.short());
    lines.extend(outputs.iter().map(|(port, (from, to))| {
        format!("    output `{port}` changed from {} to {}", short(from), short(to))
    }));
    if outputs.is_empty() {
        lines.push("    outputs are the same".to_owned());
    }
    lines
}

/// What was measured, with the mean in the first and in the second run.
type ScoreRow = (Vec<Value>, [Option<f64>; 2]);

/// Scores that either run has, in the order of the second run's, then the others.
fn score_rows(
    store: &Store,
    first: &RunReport,
    second: &RunReport,
) -> Result<Vec<ScoreRow>, CliError> {
    let mut rows: Vec<ScoreRow> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (side, report) in [(1, second), (0, first)] {
        for row in scores(store, report)?.unwrap_or_default() {
            let value = |key: &&str| row.get(*key).cloned().unwrap_or(Value::Null);
            let name: Vec<Value> = NAMES.iter().map(value).collect();
            let place = *places.entry(json!(name).to_string()).or_insert(rows.len());
            if place == rows.len() {
                rows.push((name, [None, None]));
            }
            rows[place].1[side] = row.get("mean").and_then(Value::as_f64);
        }
    }
    Ok(rows)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn score_table(rows: &[ScoreRow]) -> Table {
    let titles = [NAMES, &["first", "second", "change"]].concat();
    let mut table = Table::titled(&titles).right(&[5, 6, 7]);
    for (name, [first, second]) in rows {
        let number = |value: &Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
        let change = first.zip(*second).map(|(a, b)| format!("{:+.4}", b - a));
        let numbers = [number(first), number(second), change.unwrap_or_else(|| "-".to_owned())];
        table.row(name.iter().map(text).chain(numbers));
    }
    table
}

fn to_json(
    first: &RunReport,
    second: &RunReport,
    changes: &[CellChange],
    scores: &[ScoreRow],
) -> Value {
    let cell = |change: &CellChange| {
        let outputs: BTreeMap<_, _> = change
            .outputs
            .iter()
            .map(|(port, (from, to))| (port, json!({ "first": from, "second": to })))
            .collect();
        let reason: Vec<String> = change.reasons.iter().map(ToString::to_string).collect();
        json!({
            "cell": change.cell,
            "in_first": change.in_first,
            "in_second": change.in_second,
            "reason": reason.join("; "),
            "reasons": change.reasons,
            "outputs": outputs,
        })
    };
    let score = |(name, [from, to]): &ScoreRow| {
        let mut row = json!({ "first": from, "second": to });
        NAMES.iter().zip(name).for_each(|(key, value)| row[*key] = value.clone());
        row
    };
    json!({
        "first": first.run,
        "second": second.run,
        "cells": changes.iter().map(cell).collect::<Vec<_>>(),
        "scores": scores.iter().map(score).collect::<Vec<_>>(),
    })
}
