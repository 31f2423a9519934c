//! Runs and their cells.

use engine::{CellReport, Outcome, RunReport, Store, store::Stored};
use serde_json::{Value, json};

use super::{
    View,
    artifact::Details,
    files,
    parquet::tell_pictures,
    reports::{SCORE_KEYS, report_artifacts, scores},
};
use crate::{
    console::Console,
    error::CliError,
    text::{Table, duration, file_name},
    world::World,
};

/// The cells of a run, then its scores.
pub(super) fn show(
    report: &RunReport,
    store: &Store,
    world: &World,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let RunReport { run, experiment, partial: _, built, fresh, seconds, configuration: _, cells } =
        report;
    console.line(format!(
        "run {run} of experiment `{experiment}`: {built} built, {fresh} fresh in {}",
        duration(*seconds)
    ))?;
    let mut table = Table::titled(&["outcome", "time", "cell", "outputs"]).right(&[1]);
    for cell in cells {
        let time =
            if cell.outcome == Outcome::Built { duration(cell.seconds) } else { String::new() };
        let outputs: Vec<String> = cell
            .outputs
            .iter()
            .map(|(port, digest)| format!("{port} {}", digest.short()))
            .collect();
        table.row([word(cell.outcome), &time, &cell.cell, &outputs.join(", ")]);
    }
    table.lines().iter().try_for_each(|line| console.line(line))?;
    if let Some(rows) = scores(store, report)? {
        console.line("")?;
        scores_table(&rows).lines().iter().try_for_each(|line| console.line(line))?;
    }
    for page in report_pages(report, store) {
        console.line(format!("report: {}", world.shown(&page)))?;
    }
    Ok(())
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fresh => "fresh",
        Outcome::Built => "built",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
    }
}

/// The pages that the run has put into its folder.
fn report_pages(report: &RunReport, store: &Store) -> Vec<std::path::PathBuf> {
    let folder = store.root().join("runs").join(&report.run);
    let reports = report_artifacts(store, report);
    let names = reports.iter().map(|(cell, _)| file_name(cell)).chain(["report".to_owned()]);
    let mut pages: Vec<_> = names.map(|name| folder.join(format!("{name}.html"))).collect();
    pages.retain(|page| page.is_file());
    pages.sort();
    pages.dedup();
    pages
}

fn scores_table(rows: &[Value]) -> Table {
    let mut table = Table::titled(&SCORE_KEYS).right(&[5, 6, 7]);
    for row in rows {
        table.row(SCORE_KEYS.map(|key| match row.get(key) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if number.is_f64() => {
                format!("{:.4}", number.as_f64().unwrap_or(f64::NAN))
            }
            Some(other) => other.to_string(),
        }));
    }
    table
}

/// The scores of a run as a list of rows; of a run without scores, its cells.
pub(super) fn scores_as_json(
    report: &RunReport,
    store: &Store,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    match scores(store, report)? {
        Some(rows) => console.json_pretty(&rows),
        None => console.json_pretty(&report),
    }
}

/// A cell and its outputs.
pub(super) fn show_cell(
    report: &RunReport,
    cell: &CellReport,
    store: &Store,
    view: &View<'_>,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let stored = outputs_of(cell, store)?;
    let is_alone = stored.len() == 1;
    let details = stored.iter().map(|(port, stored)| Ok((port, Details::of(stored, store, view)?)));
    let details = details.collect::<Result<Vec<_>, CliError>>()?;
    if let Some(folder) = view.pictures {
        let n_pictures = details.iter().map(|(_, details)| details.n_pictures).sum();
        tell_pictures(n_pictures, folder, console);
    }
    if let Some(folder) = view.files {
        let mut n_files = 0;
        for (port, stored) in &stored {
            let own = if is_alone { folder.clone() } else { folder.join(file_name(port)) };
            n_files += files::copy(stored, store, &own)?;
        }
        files::tell(n_files, folder, console);
    }
    if view.json {
        let outputs =
            details.iter().map(|(port, details)| ((*port).to_string(), details.to_json()));
        let outputs: serde_json::Map<String, Value> = outputs.collect();
        return console.json_pretty(&json!({
            "run": report.run,
            "cell": cell.cell,
            "stage": cell.stage,
            "outcome": cell.outcome,
            "seconds": cell.seconds,
            "outputs": outputs,
        }));
    }
    let time = match cell.outcome {
        Outcome::Built => format!(" in {}", duration(cell.seconds)),
        _ => String::new(),
    };
    let outcome = word(cell.outcome);
    console.line(format!(
        "{} (stage `{}`) of run {}: {outcome}{time}",
        cell.cell, cell.stage, report.run
    ))?;
    for (port, details) in details {
        console.line("")?;
        console.line(format!("output   {port}"))?;
        details.show(view, console)?;
    }
    Ok(())
}

fn outputs_of<'c>(cell: &'c CellReport, store: &Store) -> Result<Vec<(&'c str, Stored)>, CliError> {
    let stored = |(port, manifest): (&'c String, _)| Ok((port.as_str(), store.artifact(manifest)?));
    cell.manifests.iter().map(stored).collect()
}
