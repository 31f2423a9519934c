//! `pipeline run`: builds what an experiment needs and says what came of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use engine::{
    Limits, Outcome, RunError, RunOptions, RunReport, Store, run as run_cells, run_unchanged,
};
use serde_json::{Value, json};

use super::show::reports::{REPORT_PAGE, report_artifacts};
use crate::{
    arguments::RunArguments,
    console::{Console, Label},
    error::{CliError, Exit, failures},
    hint, programs,
    progress::Progress,
    text::{duration, file_name},
    world::World,
};

pub(super) fn run(
    arguments: &RunArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let mut progress = Progress::new(console, arguments.quiet);
    let (store, result) = match unchanged(arguments, world, &mut progress)? {
        Some(ended) => ended,
        None => built(arguments, world, &mut progress)?,
    };
    let id = progress.end();
    let (report, error) = match result {
        Ok(report) => (report, None),
        Err(error) => match id.map(|id| store.run_report(&id)) {
            // What was finished is told too, unless the run could not even be written down.
            Some(Ok(report)) => (report, Some(error)),
            _ => return Err(error.into()),
        },
    };
    let pages = publish_pages(&store, &report, console);
    if arguments.json {
        console.json(&to_json(&report, &pages, error.as_ref()))?;
    } else {
        summary(&report, &pages, world, console)?;
    }
    if arguments.keep_going {
        say_not_reached(&report, console);
    }
    error.map_or(Ok(Exit::Done), |error| Err(error.into()))
}

/// The store of a run and how the run has ended.
type Ended = (Store, Result<RunReport, RunError>);

/// A run of all cells where nothing has changed since they were fresh.
fn unchanged(
    arguments: &RunArguments,
    world: &World,
    progress: &mut Progress<'_, '_>,
) -> Result<Option<Ended>, CliError> {
    if !arguments.selection.only.is_empty() || !world.store.is_dir() {
        return Ok(None);
    }
    let overrides = World::overrides(&arguments.experiment)?;
    let (file, store) = (&arguments.experiment.file, world.open_store()?);
    let ended =
        run_unchanged(file, &overrides, &world.roots, &world.registry, &store, &mut |event| {
            progress.observe(&event);
        });
    Ok(ended.map(|result| (store, result)))
}

/// A run that expands the experiment and builds what is missing.
fn built(
    arguments: &RunArguments,
    world: &World,
    progress: &mut Progress<'_, '_>,
) -> Result<Ended, CliError> {
    let experiment = world.experiment(&arguments.experiment)?;
    let selected = experiment.select(&arguments.selection.only)?;
    let store = world.open_store()?;
    let mut limits = Limits::of_machine();
    limits.cpus = arguments.jobs.map_or(limits.cpus, usize::from);
    limits.memory = arguments.memory.unwrap_or(limits.memory);
    let gpus = arguments.gpus.clone();
    let (keep_going, launcher) = (arguments.keep_going, world.launcher());
    let find_program = programs::find;
    let options = RunOptions { limits, keep_going, gpus, launcher, find_program };
    let stop = (world.stop)();
    let result = run_cells(&experiment, &selected, &store, options, &stop, &mut |event| {
        progress.observe(&event);
    });
    Ok((store, result))
}

/// Gives the page of every report of a run a name that people can find, in the folder of the run.
fn publish_pages(store: &Store, report: &RunReport, console: &mut Console<'_>) -> Vec<PathBuf> {
    let folder = store.root().join("runs").join(&report.run);
    let mut pages: Vec<(String, PathBuf)> = Vec::new();
    for (cell, artifact) in report_artifacts(store, report) {
        if let Some(part) = artifact.manifest.parts().find(|part| part.name == REPORT_PAGE) {
            pages.push((cell.to_owned(), store.blob(&part.blob)));
        }
    }
    let one = pages.len() == 1;
    let mut published: Vec<PathBuf> = Vec::new();
    for (cell, blob) in pages {
        let stem = if one { "report".to_owned() } else { file_name(&cell) };
        let mut page = folder.join(format!("{stem}.html"));
        let mut n = 2;
        while published.contains(&page) {
            page = folder.join(format!("{stem}-{n}.html"));
            n += 1;
        }
        match copy(&blob, &page) {
            Ok(()) => published.push(page),
            Err(error) => {
                let text = format!("cannot write `{}`: {error}", page.display());
                console.say(Label::Warning, &text);
            }
        }
    }
    published
}

/// A second name for a stored file, or a copy where the file system has no hard links.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        fs::remove_file(to)?;
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

fn number(report: &RunReport, outcome: Outcome) -> usize {
    report.cells.iter().filter(|cell| cell.outcome == outcome).count()
}

fn summary(
    report: &RunReport,
    pages: &[PathBuf],
    world: &World,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let (failed, skipped) = (number(report, Outcome::Failed), number(report, Outcome::Skipped));
    let mut counts = format!("{} built, {} fresh", report.built, report.fresh);
    if failed + skipped > 0 {
        counts += &format!(", {failed} failed, {skipped} not reached");
    }
    console.line(format!("run {}: {counts} in {}", report.run, duration(report.seconds)))?;
    for cell in &report.cells {
        let Some(failure) = &cell.failure else { continue };
        let name =
            if cell.cell.contains('[') { format!("'{}'", cell.cell) } else { cell.cell.clone() };
        console.line(format!("{}: {}; see `pipeline logs {name}`", cell.cell, failure.class))?;
    }
    for page in pages {
        console.line(format!("report: {}", world.shown(page)))?;
    }
    console.flush()
}

/// Names the cells that need a failed one, directly or not.
fn say_not_reached(report: &RunReport, console: &mut Console<'_>) {
    let skipped = report.cells.iter().filter(|cell| cell.outcome == Outcome::Skipped);
    let names: Vec<String> = skipped.map(|cell| format!("`{}`", cell.cell)).collect();
    if !names.is_empty() {
        console.remark(&format!("not reached: {}", names.join(", ")));
    }
}

fn to_json(report: &RunReport, pages: &[PathBuf], error: Option<&RunError>) -> Value {
    let errors: Vec<Value> = error
        .into_iter()
        .flat_map(failures)
        .map(|failure| {
            let chain = hint::chain(failure);
            let (error, causes) =
                chain.messages.split_first().map_or(("", &[][..]), |(e, c)| (e, c));
            json!({ "error": error, "caused_by": causes, "hint": chain.hint })
        })
        .collect();
    json!({
        "run": report.run,
        "experiment": report.experiment,
        "built": report.built,
        "fresh": report.fresh,
        "failed": number(report, Outcome::Failed),
        "skipped": number(report, Outcome::Skipped),
        "seconds": report.seconds,
        "cells": report.cells,
        "reports": pages,
        "errors": errors,
    })
}
