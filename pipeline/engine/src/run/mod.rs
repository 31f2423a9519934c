//! The local scheduler: runs the cells of an experiment side by side, within the machine's cores and memory.
//!
//! One thread decides, as many as there are cores do the work. A cell is looked up when all its inputs are known, so the
//! wave stops wherever a rebuilt cell gives the bytes it gave before. When a cell fails or the run is told to stop, what is
//! running is finished and published, nothing new is started, and the failure is reported at the end. What another run is
//! building already is waited for.

mod again;
mod claim;
mod coordinator;
#[cfg(test)]
mod tests;
mod unchanged;
mod worker;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Instant,
};

use crossbeam::channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    error::{RunError, StoreError},
    events::Event,
    experiment::Experiment,
    live::Heart,
    policy::FailureClass,
    resolve::Resolver,
    store::{Outputs, Store, Stored},
    trace::Trace,
};

pub use again::{Differing, Rerun, rerun};
use claim::{claim_run, save_report};
use coordinator::Coordinator;
pub use unchanged::run_unchanged;
use worker::{Job, News, Worker};

/// How much of the machine a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Cores.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
}

impl Limits {
    /// The whole machine: all its cores and nine tenths of its memory.
    pub fn of_machine() -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Self { cpus, memory: total_memory().unwrap_or(4 << 30) / 10 * 9 }
    }
}

/// Total memory by `/proc/meminfo`.
pub fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its result was stored.
    Fresh,
    /// It was built.
    Built,
    /// Its stage failed.
    Failed,
    /// It was not reached.
    Skipped,
}

/// A cell of a finished run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellReport {
    /// The cell.
    pub cell: String,
    /// Its stage.
    pub stage: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Seconds of work in this run.
    pub seconds: f64,
    /// Key under which its result is recorded, unless it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Digest of each output.
    pub outputs: BTreeMap<String, Digest>,
    /// Digest under which the manifest of each output is stored.
    #[serde(default)]
    pub manifests: BTreeMap<String, Digest>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<CellFailure>,
}

/// Why a cell failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellFailure {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// The error, and on lines of their own its causes.
    pub message: String,
}

/// A finished run, as `runs/ID/run.json` holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// Id of the run: start time and experiment.
    pub run: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Whether only some of the experiment's cells were selected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Number of cells built.
    pub built: usize,
    /// Number of cells fresh.
    pub fresh: usize,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Digest of the resolved configuration, which lies beside the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Digest>,
    /// The cells.
    pub cells: Vec<CellReport>,
}

/// How a run goes about its work.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How much of the machine it may use.
    pub limits: Limits,
    /// Whether cells that do not need a failed one are still built.
    pub keep_going: bool,
    /// Graphics processors that cells may have, as `CUDA_VISIBLE_DEVICES` names them. A cell that asks for one gets one
    /// for itself alone, or none where there are none.
    pub gpus: Vec<String>,
    /// A command that takes `exec-child PARENT PROGRAM -- ARGUMENTS…`: it becomes that program, which then dies with its
    /// parent. Without it, a program of an `exec` cell outlives a run that is killed.
    pub launcher: Option<PathBuf>,
    /// Where the programs are that some stages are run by.
    pub find_program: FindProgram,
}

/// Finds a program by its name; else the places where it was looked for.
pub type FindProgram = fn(&str) -> Result<PathBuf, Vec<PathBuf>>;

impl From<Limits> for RunOptions {
    fn from(limits: Limits) -> Self {
        let (gpus, find_program): (_, FindProgram) = (Vec::new(), |_| Err(Vec::new()));
        Self { limits, keep_going: false, gpus, launcher: None, find_program }
    }
}

/// Runs the selected cells and calls `observe` with everything that happens, on this thread.
///
/// When `cancelled` becomes true, nothing new is started, running stages are told, and what they finish is stored.
///
/// # Errors
/// The first failure, or [`RunError::Several`]; [`RunError::Cancelled`] when it was stopped before its end. Everything
/// that was finished is stored.
pub fn run(
    experiment: &Experiment,
    selected: &[bool],
    store: &Store,
    options: impl Into<RunOptions>,
    cancelled: &AtomicBool,
    observe: &mut dyn FnMut(Event),
) -> Result<RunReport, RunError> {
    go(experiment, selected, store, options.into(), observe, &|crew| {
        thread::scope(|scope| {
            // Owned here, so that the workers see the end of the jobs however this closure ends.
            let Crew { mut state, jobs, news, news_sender, resolver, run, n_workers, launcher } =
                crew;
            for number in 0..n_workers {
                let (jobs, news) = (jobs.clone(), news_sender.clone());
                let worker = Worker { resolver, run, number, news, cancelled, launcher };
                let started =
                    thread::Builder::new().spawn_scoped(scope, move || worker.work(&jobs));
                match started {
                    Err(error) if number == 0 => {
                        return Err(
                            StoreError::io("start a worker for", store.root())(error).into()
                        );
                    }
                    // Fewer workers do the same work.
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            drop((jobs, news_sender));
            state.drive(&news, cancelled);
            Ok(state.end())
        })
    })
}

/// Runs the selected cells on this thread alone, so that what happens in which order depends on nothing but the store.
///
/// # Errors
/// Those of [`run`].
#[cfg(feature = "faults")]
pub fn run_alone(
    experiment: &Experiment,
    selected: &[bool],
    store: &Store,
    observe: &mut dyn FnMut(Event),
) -> Result<RunReport, RunError> {
    let (limits, never) = (Limits { cpus: 1, memory: u64::MAX }, AtomicBool::new(false));
    go(experiment, selected, store, limits.into(), observe, &|crew| {
        let Crew { mut state, jobs, news, news_sender, resolver, run, n_workers: _, launcher } =
            crew;
        let (number, cancelled) = (0, &never);
        let worker = Worker { resolver, run, number, news: news_sender, cancelled, launcher };
        let mut place = crate::store::Workplace::new(store);
        let mut work = |job| {
            worker.work_on(job, &mut place);
        };
        let waited = state.drive_alone(&mut work, &jobs, &news);
        waited.map_err(StoreError::io("wait in", store.root()))?;
        Ok(state.end())
    })
}

/// Who does the work of a run, and what they talk through.
struct Crew<'a> {
    state: Coordinator<'a>,
    jobs: Receiver<Job>,
    news: Receiver<News>,
    news_sender: Sender<News>,
    resolver: &'a Resolver<'a>,
    /// Id of the run.
    run: &'a str,
    n_workers: usize,
    /// Program that starts the children of cells.
    launcher: Option<&'a Path>,
}

/// What is left of a run when its work is done.
type Ended<'a> = (BTreeMap<usize, Finished>, Vec<RunError>, Heart<'a>, Trace<'a>);

fn go(
    experiment: &Experiment,
    selected: &[bool],
    store: &Store,
    options: RunOptions,
    observe: &mut dyn FnMut(Event),
    work: &dyn for<'a> Fn(Crew<'a>) -> Result<Ended<'a>, RunError>,
) -> Result<RunReport, RunError> {
    let started = Instant::now();
    let run_id = claim_run(store, &experiment.name)?;
    let n_cells = selected.iter().filter(|flag| **flag).count();
    let heart = Heart::start(store, &run_id, &experiment.name, n_cells)?;
    observe(Event::Begun { run: run_id.clone(), cells: n_cells });
    let resolver = Resolver::new(experiment, store);
    resolver.recall.look_ahead(n_cells);
    let (job_sender, jobs) = unbounded::<Job>();
    let (news_sender, news) = unbounded::<News>();
    let trace = Trace::start(store, &run_id, &experiment.name);
    let (n_workers, launcher) = (options.limits.cpus.max(1), options.launcher.clone());
    let state = Coordinator::new(&resolver, selected, options, (heart, trace), job_sender, observe);
    let crew = Crew {
        state,
        jobs,
        news,
        news_sender,
        resolver: &resolver,
        run: &run_id,
        n_workers,
        launcher: launcher.as_deref(),
    };
    let (outcomes, mut failures, heart, trace) = work(crew)?;
    resolver.recall.save();
    let cells = reports(experiment, selected, outcomes);
    let begun = (run_id.clone(), started);
    let mut report = RunReport::new(begun, &experiment.name, &experiment.resolved, cells);
    report.partial = !selected.iter().all(|flag| *flag);
    let saved = end(store, &experiment.resolved, &report, heart, trace);
    unchanged::keep(experiment, &report, store);
    let not_reached = report.cells.iter().filter(|cell| cell.outcome == Outcome::Skipped).count();
    match failures.len() {
        // A report that could not be written has no say where a cell failed: that came first.
        0 if saved.is_err() => saved.map(|()| report),
        0 if not_reached > 0 => Err(RunError::Cancelled { run: report.run, not_reached }),
        0 => Ok(report),
        1 => Err(failures.remove(0)),
        _ => Err(RunError::Several { failures }),
    }
}

/// What became of a cell.
struct Finished {
    outcome: Outcome,
    seconds: f64,
    key: Option<Digest>,
    outputs: Option<Arc<Outputs>>,
    failure: Option<CellFailure>,
}

/// Writes a run down whose work is done.
fn end(
    store: &Store,
    resolved: &str,
    report: &RunReport,
    heart: Heart<'_>,
    trace: Trace<'_>,
) -> Result<(), RunError> {
    trace.end(report.built, report.fresh);
    let saved = save_report(store, resolved, report);
    // A run without a report looks like one that was killed, not like one whose report was lost.
    if saved.is_ok() {
        drop(heart);
    } else {
        heart.leave();
    }
    saved
}

fn reports(
    experiment: &Experiment,
    selected: &[bool],
    mut outcomes: BTreeMap<usize, Finished>,
) -> Vec<CellReport> {
    let cells = experiment.cells.iter().enumerate().filter(|(i, _)| selected[*i]);
    cells
        .map(|(i, cell)| {
            let finished = outcomes.remove(&i).unwrap_or(Finished {
                outcome: Outcome::Skipped,
                seconds: 0.0,
                key: None,
                outputs: None,
                failure: None,
            });
            let name = (cell.name.clone(), cell.stage.name().to_owned());
            CellReport::new(name, finished)
        })
        .collect()
}

impl CellReport {
    /// What became of the cell and the stage of these names.
    fn new((cell, stage): (String, String), finished: Finished) -> Self {
        let Finished { outcome, seconds, key, outputs, failure } = finished;
        let ports = || outputs.as_deref().into_iter().flatten();
        let manifest =
            |(port, stored): (&String, &Stored)| (port.clone(), stored.manifest_digest());
        Self {
            cell,
            stage,
            outcome,
            seconds,
            key,
            outputs: ports().map(|(port, stored)| (port.clone(), stored.digest)).collect(),
            manifests: ports().map(manifest).collect(),
            failure,
        }
    }
}

impl RunReport {
    /// The report of all cells of a run, which has an id and began some time ago.
    fn new(
        (run, began): (String, Instant),
        experiment: &str,
        resolved: &str,
        cells: Vec<CellReport>,
    ) -> Self {
        let count = |outcome| cells.iter().filter(|cell| cell.outcome == outcome).count();
        Self {
            run,
            experiment: experiment.to_owned(),
            partial: false,
            built: count(Outcome::Built),
            fresh: count(Outcome::Fresh),
            seconds: began.elapsed().as_secs_f64(),
            configuration: Some(Digest::of(resolved.as_bytes())),
            cells,
        }
    }
}
