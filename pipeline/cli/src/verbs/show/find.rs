//! What a name means: a run, a cell, an artifact or a file.

use std::path::PathBuf;

use engine::{CellReport, RunReport, Store, nearest, store::Stored};

use crate::{error::CliError, world::World};

/// Fewest digits of a digest that are taken for one.
const FEWEST_DIGITS: usize = 4;

/// Something that can be shown.
pub(crate) enum Thing {
    /// A finished run.
    Run(Box<RunReport>),
    /// A cell of a run.
    Cell(Box<RunReport>, CellReport),
    /// A stored artifact.
    Artifact(Box<Stored>),
    /// A file of the user.
    File(PathBuf),
}

/// Finds what `thing` names: a file, a run, `RUN:CELL`, a cell of the latest run, an artifact, in this order.
///
/// # Errors
/// [`CliError::NoThing`], [`CliError::NoCell`], [`CliError::NoRun`], [`CliError::Ambiguous`], or what the store says.
pub(crate) fn find(thing: &str, world: &World, store: &Store) -> Result<Thing, CliError> {
    let path = world.roots.working.join(thing);
    if (thing.contains('/') || thing.ends_with(".parquet")) && path.is_file() {
        return Ok(Thing::File(path));
    }
    let ids = store.runs()?;
    if let Some(report) = find_run(thing, &ids, store)? {
        return Ok(Thing::Run(Box::new(report)));
    }
    if let Some((run, cell)) = thing.split_once(':')
        && let Some(report) = find_run(run, &ids, store)?
    {
        let found = find_cell(cell, &report)?.ok_or_else(|| {
            let known = report.cells.iter().map(|known| known.cell.as_str());
            let nearest = nearest(cell, known).map(str::to_owned);
            CliError::NoCell { run: report.run.clone(), cell: cell.to_owned(), nearest }
        })?;
        return Ok(Thing::Cell(Box::new(report), found));
    }
    let latest = latest(&ids, store)?;
    if let Some(latest) = &latest
        && let Some(cell) = find_cell(thing, latest)?
    {
        return Ok(Thing::Cell(Box::new(latest.clone()), cell));
    }
    if let Some(stored) = find_artifact(thing, store)? {
        return Ok(Thing::Artifact(Box::new(stored)));
    }
    Err(latest.map_or_else(|| no_run(world), |latest| nothing(thing, &latest, &ids)))
}

fn no_run(world: &World) -> CliError {
    CliError::NoRun { store: world.shown(&world.store) }
}

fn nothing(thing: &str, latest: &RunReport, ids: &[String]) -> CliError {
    let cells = latest.cells.iter().map(|cell| cell.cell.as_str());
    let known = cells.chain(ids.iter().map(String::as_str)).chain([latest.experiment.as_str()]);
    let nearest = nearest(thing, known.chain(["latest"])).map(str::to_owned);
    CliError::NoThing { thing: thing.to_owned(), run: latest.run.clone(), nearest }
}

/// The latest run whose report can be read.
fn latest(ids: &[String], store: &Store) -> Result<Option<RunReport>, CliError> {
    let mut error = None;
    for id in ids.iter().rev() {
        match store.run_report(id) {
            Ok(report) => return Ok(Some(report)),
            Err(found) => error = error.or(Some(found)),
        }
    }
    error.map_or(Ok(None), |error| Err(error.into()))
}

/// The finished run that a name means.
///
/// # Errors
/// [`CliError::NoRun`], [`CliError::UnknownRun`], [`CliError::Ambiguous`], or what the store says.
pub(crate) fn named_run(name: &str, world: &World, store: &Store) -> Result<RunReport, CliError> {
    let ids = store.runs()?;
    if ids.is_empty() {
        return Err(no_run(world));
    }
    if let Some(report) = find_run(name, &ids, store)? {
        return Ok(report);
    }
    let experiments: Vec<String> =
        ids.iter().filter_map(|id| Some(store.run_report(id).ok()?.experiment)).collect();
    let known = ids.iter().chain(&experiments).map(String::as_str).chain(["latest"]);
    let nearest = nearest(name, known).map(str::to_owned);
    Err(CliError::UnknownRun { run: name.to_owned(), nearest })
}

/// A run by `latest`, its id, the name of its experiment or the beginning of its id.
fn find_run(name: &str, ids: &[String], store: &Store) -> Result<Option<RunReport>, CliError> {
    if name == "latest" {
        return latest(ids, store);
    }
    if ids.iter().any(|id| id == name) {
        return Ok(Some(store.run_report(name)?));
    }
    let of_experiment = ids.iter().rev().filter_map(|id| store.run_report(id).ok());
    if let Some(report) = of_experiment.into_iter().find(|report| report.experiment == name) {
        return Ok(Some(report));
    }
    let fitting: Vec<&String> =
        ids.iter().filter(|id| !name.is_empty() && id.starts_with(name)).collect();
    match fitting.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(store.run_report(id)?)),
        several => Err(CliError::Ambiguous {
            thing: name.to_owned(),
            what: "run",
            found: several.iter().map(|id| (*id).clone()).collect(),
        }),
    }
}

/// A cell by its name, or by its node where that has one cell.
fn find_cell(name: &str, report: &RunReport) -> Result<Option<CellReport>, CliError> {
    if let Some(cell) = report.cells.iter().find(|cell| cell.cell == name) {
        return Ok(Some(cell.clone()));
    }
    let of_node =
        |cell: &&CellReport| cell.cell.strip_prefix(name).is_some_and(|rest| rest.starts_with('['));
    let found: Vec<&CellReport> = report.cells.iter().filter(of_node).collect();
    match found.as_slice() {
        [] => Ok(None),
        [cell] => Ok(Some((*cell).clone())),
        several => Err(CliError::Ambiguous {
            thing: name.to_owned(),
            what: "cell",
            found: several.iter().map(|cell| cell.cell.clone()).collect(),
        }),
    }
}

/// An artifact by the beginning of its digest.
fn find_artifact(prefix: &str, store: &Store) -> Result<Option<Stored>, CliError> {
    let prefix = prefix.to_ascii_lowercase();
    if prefix.len() < FEWEST_DIGITS || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found = store.artifacts(&prefix)?;
    if found.len() > 1 {
        let found = found.iter().map(|stored| stored.digest.short()).collect();
        return Err(CliError::Ambiguous { thing: prefix, what: "artifact", found });
    }
    Ok(found.pop())
}
