//! Past runs: a list of them, and what differs between two.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    digest::Digest,
    error::StoreError,
    live::{LiveRun, live_run},
    reason::{self, Reason},
    run::{CellReport, Outcome, RunReport},
    store::Store,
    upkeep::list,
};

/// How a run ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    /// Every cell has a result.
    Done,
    /// A cell failed.
    Failed,
    /// It was told to stop.
    Stopped,
    /// It is under way.
    Running,
    /// Its process is gone and has left no report.
    Killed,
}

/// A run as a list of runs shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PastRun {
    /// Id of the run.
    pub run: String,
    /// Name of the experiment.
    pub experiment: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Number of cells built; unknown of a run that has not ended.
    pub built: Option<usize>,
    /// Number of cells found in the store; unknown of a run that has not ended.
    pub fresh: Option<usize>,
    /// Seconds that it took, or has taken so far; unknown of a killed run.
    pub seconds: Option<f64>,
}

impl Store {
    /// All runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder of runs is there and cannot be read.
    pub fn history(&self) -> Result<Vec<PastRun>, StoreError> {
        // Runs that have ended are in order already; the others go among them by the time in their ids.
        let mut place = BTreeMap::new();
        for (i, id) in self.runs()?.into_iter().enumerate() {
            place.insert(id, i + 1);
        }
        let mut runs: Vec<(String, usize, PastRun)> = Vec::new();
        for folder in list(&self.root().join("runs"))?.iter().filter(|path| path.is_dir()) {
            let Some(run) = self.past_run(folder) else { continue };
            let second = run.run.chars().take("20000101-000000".len()).collect();
            runs.push((second, place.get(&run.run).copied().unwrap_or(usize::MAX), run));
        }
        runs.sort_by(|a, b| (&b.0, b.1, &b.2.run).cmp(&(&a.0, a.1, &a.2.run)));
        Ok(runs.into_iter().map(|(_, _, run)| run).collect())
    }

    fn past_run(&self, folder: &Path) -> Option<PastRun> {
        let id = folder.file_name()?.to_string_lossy().into_owned();
        if let Ok(report) = self.run_report(&id) {
            let (built, fresh) = (Some(report.built), Some(report.fresh));
            let (outcome, seconds) = (outcome_of(&report), Some(report.seconds));
            let experiment = report.experiment;
            return Some(PastRun { run: id, experiment, outcome, built, fresh, seconds });
        }
        let left: Option<LiveRun> =
            fs::read(folder.join("live.json")).ok().and_then(|b| serde_json::from_slice(&b).ok());
        let live = live_run(folder);
        let since = |live: &LiveRun| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
            now.saturating_sub(live.began) as f64
        };
        let named = || id.splitn(3, '-').nth(2)?.rsplit_once('-').map(|(name, _)| name.to_owned());
        Some(PastRun {
            experiment: left.map(|left| left.experiment).or_else(named).unwrap_or_default(),
            outcome: if live.is_some() { RunOutcome::Running } else { RunOutcome::Killed },
            built: None,
            fresh: None,
            seconds: live.as_ref().map(since),
            run: id,
        })
    }
}

fn outcome_of(report: &RunReport) -> RunOutcome {
    let any = |outcome| report.cells.iter().any(|cell| cell.outcome == outcome);
    match (any(Outcome::Failed), any(Outcome::Skipped)) {
        (true, _) => RunOutcome::Failed,
        (false, true) => RunOutcome::Stopped,
        (false, false) => RunOutcome::Done,
    }
}

/// A cell that is not the same in two runs.
#[derive(Clone, Debug, Serialize)]
pub struct CellChange {
    /// The cell.
    pub cell: String,
    /// Whether the first run has it.
    pub in_first: bool,
    /// Whether the second run has it.
    pub in_second: bool,
    /// What its key says differs from the first run to the second; nothing where a record is gone from the store.
    pub reasons: Vec<Reason>,
    /// Outputs that differ: content in the first and in the second run, where there is one.
    pub outputs: BTreeMap<String, (Option<Digest>, Option<Digest>)>,
}

/// The cells that differ between two runs, in the order of the second, then those that it does not have.
pub fn compare_runs(store: &Store, first: &RunReport, second: &RunReport) -> Vec<CellChange> {
    let by_name = |report: &'_ RunReport| {
        let cells = report.cells.iter().map(|cell| (cell.cell.clone(), cell.clone()));
        cells.collect::<BTreeMap<String, CellReport>>()
    };
    let (before, after) = (by_name(first), by_name(second));
    let gone = first.cells.iter().filter(|cell| !after.contains_key(&cell.cell));
    let names = second.cells.iter().chain(gone).map(|cell| &cell.cell);
    names.filter_map(|name| compare_cells(store, before.get(name), after.get(name))).collect()
}

fn compare_cells(
    store: &Store,
    before: Option<&CellReport>,
    after: Option<&CellReport>,
) -> Option<CellChange> {
    let cell = after.or(before)?.cell.clone();
    let output = |report: Option<&CellReport>, port: &str| {
        report.and_then(|report| report.outputs.get(port)).copied()
    };
    let ports = [before, after].into_iter().flatten().flat_map(|report| report.outputs.keys());
    let outputs: BTreeMap<_, _> = ports
        .map(|port| (port.clone(), (output(before, port), output(after, port))))
        .filter(|(_, (a, b))| a != b)
        .collect();
    let key = |report: Option<&CellReport>| report.and_then(|report| report.key);
    let (old, new) = (key(before), key(after));
    if before.is_some() == after.is_some() && old == new && outputs.is_empty() {
        return None;
    }
    let actions = old.zip(new).filter(|(old, new)| old != new);
    let actions = actions.and_then(|(old, new)| store.action(&old).zip(store.action(&new)));
    let reasons = actions.map(|(old, new)| reason::compare(Some(&old), &new, None, &|_| None));
    Some(CellChange {
        cell,
        in_first: before.is_some(),
        in_second: after.is_some(),
        reasons: reasons.unwrap_or_default(),
        outputs,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::toy::Toy;

    #[test]
    fn runs_are_listed_newest_first_with_their_outcomes() {
        let toy = Toy::new();
        let first = toy.run(&[]);
        let experiment = toy.load(crate::toy::TOY, &["words.words=['bomb']"]);
        toy.try_run(&experiment).unwrap_err();
        let store = toy.store();
        for name in ["20200101-000000-old-1", "20990101-000000-a-b-17"] {
            fs::create_dir(store.root().join("runs").join(name)).unwrap();
        }
        let found = store.history().unwrap();
        let outcomes: Vec<_> =
            found.iter().map(|run| (run.experiment.as_str(), run.outcome, run.built)).collect();
        assert_eq!(
            outcomes,
            [
                ("a-b", RunOutcome::Killed, None),
                ("toy", RunOutcome::Failed, Some(1)),
                ("toy", RunOutcome::Done, Some(5)),
                ("old", RunOutcome::Killed, None),
            ]
        );
        assert_eq!(found[2].run, first.run);
    }

    #[test]
    fn what_differs_between_two_runs_is_told_from_its_cause_on() {
        let toy = Toy::new();
        let first = toy.run(&[]);
        let second = toy.run(&["twice.times=5"]);
        let store = toy.store();
        let changes = compare_runs(&store, &first, &second);
        let told: Vec<String> = changes
            .iter()
            .map(|change| format!("{}: {}", change.cell, change.reasons[0]))
            .collect();
        assert_eq!(told[0], "twice: `times` changed from 2 to 5");
        assert!(told[1].starts_with("join: `twice` on port `words` changed from "), "{told:?}");
        assert_eq!(told.len(), 2);
        assert!(changes[0].outputs["words"].0 != changes[0].outputs["words"].1);
        assert!(compare_runs(&store, &first, &toy.run(&[])).is_empty());
        let experiment = toy.load("[words]\nuse = 'list'\nwords = ['fig']\n", &[]);
        let other = toy.try_run(&experiment).unwrap();
        let only = compare_runs(&store, &first, &other).iter().filter(|c| !c.in_second).count();
        assert_eq!(only, 4);
    }
}
