//! Runs that are under way, as other processes see them.
//!
//! A run writes `runs/ID/live.json` whole, when it begins and then about once a second, and removes it when its report is
//! written. A file whose process is gone is that of a killed run. Where the process cannot be seen, because it runs on
//! another machine or in another container, the file counts as long as it is young.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{error::StoreError, process::Process, store::Store};

/// A run that cannot be seen and has not been heard of for this time is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Time between two signs of life.
const PERIOD: Duration = Duration::from_secs(1);

/// A cell that is being built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveCell {
    /// The cell.
    pub cell: String,
    /// How much of it is done, in `[0, 1]`.
    pub fraction: f64,
    /// What it is doing.
    pub doing: String,
}

/// A run that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveRun {
    /// Id of the run.
    pub run: String,
    /// Name of the experiment.
    pub experiment: String,
    /// The process that runs it.
    pub process: Process,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// Number of cells in it.
    pub cells: usize,
    /// Number of cells built, found or failed.
    pub done: usize,
    /// Whether it has been told to stop.
    pub stopping: bool,
    /// The cells that are being built.
    pub running: Vec<LiveCell>,
}

impl Store {
    /// The runs that are under way, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder of runs is there and cannot be read.
    pub fn live_runs(&self) -> Result<Vec<LiveRun>, StoreError> {
        let folders = crate::upkeep::list(&self.root().join("runs"))?;
        let mut runs: Vec<LiveRun> = folders.iter().filter_map(|folder| live_run(folder)).collect();
        runs.sort_by(|a, b| (a.began, &a.run).cmp(&(b.began, &b.run)));
        Ok(runs)
    }
}

/// The run of a folder, if it is under way.
pub(crate) fn live_run(folder: &Path) -> Option<LiveRun> {
    let path = folder.join("live.json");
    let live: LiveRun = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let heard_of = || {
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
        Some(SystemTime::now().duration_since(modified).unwrap_or_default() < SILENCE)
    };
    live.process.is_alive().or_else(heard_of).filter(|alive| *alive).map(|_| live)
}

/// The sign of life of a run; taken away when it is dropped.
pub(crate) struct Heart<'a> {
    store: &'a Store,
    path: PathBuf,
    pub(crate) live: LiveRun,
    last: Instant,
}

impl<'a> Heart<'a> {
    /// Gives the first sign.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub(crate) fn start(
        store: &'a Store,
        run: &str,
        experiment: &str,
        cells: usize,
    ) -> Result<Self, StoreError> {
        let live = LiveRun {
            run: run.to_owned(),
            experiment: experiment.to_owned(),
            process: Process::this().clone(),
            began: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
            cells,
            done: 0,
            stopping: false,
            running: Vec::new(),
        };
        let path = store.root().join("runs").join(run).join("live.json");
        let heart = Self { store, path, live, last: Instant::now() };
        // From here on a folder without a sign of life and without a report is one that has lost its report.
        store.replace_synced(&heart.path, &heart.bytes())?;
        Ok(heart)
    }

    /// Whether it is time for the next sign.
    pub(crate) fn is_due(&self) -> bool {
        self.last.elapsed() >= PERIOD
    }

    /// Gives a sign. One that cannot be written makes the run look still, which is no reason to stop it.
    pub(crate) fn beat(&mut self) {
        self.last = Instant::now();
        let _ = self.write();
    }

    /// Ends without taking the last sign away: the run looks as if it had been killed.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    fn write(&self) -> Result<(), StoreError> {
        self.store.replace(&self.path, &self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.live).expect("a sign of life is plain data")
    }
}

impl Drop for Heart<'_> {
    fn drop(&mut self) {
        let _ = self.store.disk().remove(&self.path);
    }
}
