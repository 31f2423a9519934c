//! The reports of a run and the scores in them.

use engine::{RunReport, Store, store::Stored};
use serde_json::Value;

use crate::error::CliError;

/// Kind of the artifacts that are reports.
const REPORT_KIND: &str = "report";
/// The part of a report that a browser opens.
pub(crate) const REPORT_PAGE: &str = "index.html";
/// The part of a report that holds its scores: a list of rows.
const REPORT_SCORES: &str = "table.json";
/// The keys of a row in their order.
pub(crate) const SCORE_KEYS: [&str; 8] =
    ["method", "subset", "seed", "structure", "metric", "mean", "sd", "n"];

/// The reports of a run with the cells that made them; one that is gone from the store is left out.
pub(crate) fn report_artifacts<'r>(store: &Store, report: &'r RunReport) -> Vec<(&'r str, Stored)> {
    let outputs = report
        .cells
        .iter()
        .flat_map(|cell| cell.manifests.values().map(|manifest| (cell.cell.as_str(), manifest)));
    let stored =
        outputs.filter_map(|(cell, manifest)| Some((cell, store.artifact(manifest).ok()?)));
    stored.filter(|(_, stored)| stored.manifest.kind == REPORT_KIND).collect()
}

/// The rows of scores in all reports of a run; `None` where no report has any.
///
/// # Errors
/// [`CliError::BadJson`] for scores that cannot be read, or what the store says.
pub(crate) fn scores(store: &Store, report: &RunReport) -> Result<Option<Vec<Value>>, CliError> {
    let mut rows: Option<Vec<Value>> = None;
    for (_, stored) in report_artifacts(store, report) {
        for part in stored.manifest.parts().filter(|part| part.name == REPORT_SCORES) {
            let path = store.blob(&part.blob);
            let bytes = std::fs::read(&path).map_err(CliError::file("read", path))?;
            let found: Vec<Value> = serde_json::from_slice(&bytes)
                .map_err(|source| CliError::BadJson { part: part.name.clone(), source })?;
            rows.get_or_insert_default().extend(found);
        }
    }
    Ok(rows)
}
