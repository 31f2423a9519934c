//! What a run would do, without doing it.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    error::RunError,
    experiment::Experiment,
    reason::Reason,
    resolve::{Known, Resolver, Step},
    store::Store,
};

/// Whether a cell would be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its result is stored.
    Fresh,
    /// It would be built.
    Stale,
    /// It reads from a cell that would be built: if that gives the bytes it gave before, this one is fresh.
    Unknown,
}

/// One line of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The cell.
    pub cell: String,
    /// Its stage.
    pub stage: &'static str,
    /// Whether it would be built.
    pub state: State,
    /// Why; empty for a fresh cell.
    pub reasons: Vec<Reason>,
    /// Shards that would be built and shards that there are, for a stale cell that runs per shard.
    pub shards: Option<(usize, usize)>,
}

/// Plans the selected cells.
///
/// # Errors
/// [`RunError`] when an outside file cannot be read or the shards of a cell's inputs do not match.
pub fn plan(
    experiment: &Experiment,
    selected: &[bool],
    store: &Store,
) -> Result<Vec<Planned>, RunError> {
    let resolver = Resolver::new(experiment, store);
    resolver.recall.look_ahead(selected.iter().filter(|flag| **flag).count());
    let mut known: Known = vec![None; experiment.cells.len()];
    let mut lines = Vec::new();
    for (index, cell) in experiment.cells.iter().enumerate().filter(|(i, _)| selected[*i]) {
        let mut waits: Vec<String> = experiment
            .needs(index)
            .filter(|&needed| known[needed].is_none())
            .map(|needed| experiment.cells[needed].name.clone())
            .collect();
        waits.dedup();
        let (state, reasons, shards) = if !waits.is_empty() {
            (State::Unknown, vec![Reason::Upstream { cells: waits }], None)
        } else {
            match resolver.step(index, &known)? {
                Step::Fresh { outputs, .. } => {
                    known[index] = Some(outputs);
                    (State::Fresh, Vec::new(), None)
                }
                // All shards are stored, so the artifact is known: nothing would run.
                Step::Stale(stale) if stale.missing.is_empty() => {
                    let found: Vec<_> =
                        stale.groups.iter().flat_map(|group| group.outputs.clone()).collect();
                    known[index] = Some(Arc::new(stale.prepared.assemble(&found)));
                    (State::Fresh, Vec::new(), None)
                }
                Step::Stale(stale) => {
                    let n = stale.missing.len();
                    let shards = cell.stage.per_shard().then_some((n, n + stale.n_found()));
                    (State::Stale, stale.reasons, shards)
                }
            }
        };
        lines.push(Planned {
            cell: cell.name.clone(),
            stage: cell.stage.name(),
            state,
            reasons,
            shards,
        });
    }
    Ok(lines)
}
