//! The local scheduler: runs the cells of an experiment side by side, within the machine's cores and memory.
//!
//! One thread decides, as many as there are cores do the work. A cell is looked up when all its inputs are known, so the
//! wave stops wherever a rebuilt cell gives the bytes it gave before. When a cell fails, what is running is finished and
//! published, nothing new is started, and the failure is reported at the end.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam::channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    error::{RunError, StageError, StoreError},
    events::Event,
    experiment::{Cell, Experiment},
    ports::Bound,
    resolve::{Known, LastBuild, Resolver, Step, Unit},
    stage::{Ctx, Resources},
    store::{Outputs, Store, Stored, safe},
};

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
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
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
    /// Digest of each output.
    pub outputs: BTreeMap<String, Digest>,
    /// Digest under which the manifest of each output is stored.
    #[serde(default)]
    pub manifests: BTreeMap<String, Digest>,
}

/// A finished run, as `runs/ID/run.json` holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// Id of the run: start time and experiment.
    pub run: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Number of cells built.
    pub built: usize,
    /// Number of cells fresh.
    pub fresh: usize,
    /// Seconds from start to end.
    pub seconds: f64,
    /// The cells.
    pub cells: Vec<CellReport>,
}

/// Runs the selected cells and calls `observe` with everything that happens, on this thread.
///
/// # Errors
/// The first failure, or [`RunError::Several`]; everything that was finished is stored.
pub fn run(
    experiment: &Experiment,
    selected: &[bool],
    store: &Store,
    limits: Limits,
    cancelled: &AtomicBool,
    observe: &mut dyn FnMut(Event),
) -> Result<RunReport, RunError> {
    let started = Instant::now();
    let run_id = claim_run(store, &experiment.name)?;
    let n_cells = selected.iter().filter(|flag| **flag).count();
    observe(Event::Begun { run: run_id.clone(), cells: n_cells });
    let resolver = Resolver { experiment, store };
    let (job_sender, jobs) = unbounded::<Job>();
    let (news_sender, news) = unbounded::<News>();
    let state = Coordinator {
        resolver: &resolver,
        limits,
        run_id: &run_id,
        known: vec![None; experiment.cells.len()],
        waiting: experiment.waiting(selected),
        open: BTreeMap::new(),
        ready: Vec::new(),
        running: 0,
        free: limits,
        outcomes: BTreeMap::new(),
        failures: Vec::new(),
        jobs: job_sender,
        observe,
    };
    let (outcomes, mut failures) = std::thread::scope(|scope| {
        // Owned here, so that the workers see the end of the jobs however this closure ends.
        let mut state = state;
        for _ in 0..limits.cpus.max(1) {
            let (jobs, news) = (jobs.clone(), news_sender.clone());
            let resolver = &resolver;
            scope.spawn(move || work(resolver, &jobs, &news, cancelled));
        }
        drop((jobs, news_sender));
        state.drive(&news, cancelled);
        (state.outcomes, state.failures)
    });
    let report = report(experiment, selected, run_id, outcomes, started.elapsed().as_secs_f64());
    save_report(store, experiment, &report)?;
    match failures.len() {
        0 => Ok(report),
        1 => Err(failures.remove(0)),
        _ => Err(RunError::Several { failures }),
    }
}

/// One unit of work with everything that it needs.
struct Job {
    cell: usize,
    unit: Unit,
    bound: Bound,
    threads: usize,
    resources: Resources,
}

enum News {
    Progress { cell: usize, fraction: f64, doing: String },
    Done { cell: usize, resources: Resources, seconds: f64, result: Result<Outputs, RunError> },
}

/// A cell that is being built.
struct Open {
    whole: Unit,
    reasons: Vec<crate::reason::Reason>,
    /// Units not finished yet.
    left: usize,
    n_built: usize,
    n_found: usize,
    /// Outputs of the finished units.
    outputs: Vec<Outputs>,
    seconds: f64,
    failed: bool,
}

/// What became of a cell, its seconds of work and what it gave.
type Finished = (Outcome, f64, Option<Arc<Outputs>>);

struct Coordinator<'a> {
    resolver: &'a Resolver<'a>,
    limits: Limits,
    run_id: &'a str,
    known: Known,
    /// Number of inputs not known yet, by cell; only of selected cells that have not been looked up.
    waiting: BTreeMap<usize, usize>,
    open: BTreeMap<usize, Open>,
    /// Units that may start, in the order of their cells.
    ready: Vec<(usize, Unit)>,
    running: usize,
    free: Limits,
    outcomes: BTreeMap<usize, Finished>,
    failures: Vec<RunError>,
    jobs: Sender<Job>,
    observe: &'a mut dyn FnMut(Event),
}

impl Coordinator<'_> {
    fn drive(&mut self, news: &Receiver<News>, cancelled: &AtomicBool) {
        loop {
            if !self.is_stopping(cancelled) {
                self.resolve_ready();
            }
            if !self.is_stopping(cancelled) {
                self.dispatch();
            }
            if self.running == 0 && (self.ready.is_empty() || self.is_stopping(cancelled)) {
                break;
            }
            match news.recv() {
                Ok(News::Progress { cell, fraction, doing }) => {
                    let cell = self.cell(cell).name.clone();
                    (self.observe)(Event::Progress { cell, fraction, doing });
                }
                Ok(News::Done { cell, resources, seconds, result }) => {
                    self.running -= 1;
                    self.free.cpus += resources.cpus;
                    self.free.memory += resources.memory;
                    self.unit_done(cell, seconds, result);
                }
                Err(_) => break,
            }
        }
    }

    /// Whether nothing new is to be started.
    fn is_stopping(&self, cancelled: &AtomicBool) -> bool {
        !self.failures.is_empty() || cancelled.load(Ordering::Relaxed)
    }

    fn cell(&self, index: usize) -> &Cell {
        &self.resolver.experiment.cells[index]
    }

    /// Looks up every cell whose inputs are known, until none is left.
    fn resolve_ready(&mut self) {
        while let Some(index) =
            self.waiting.iter().find(|(_, left)| **left == 0).map(|(index, _)| *index)
        {
            self.waiting.remove(&index);
            match self.resolver.step(index, &self.known) {
                Ok(Step::Fresh(outputs)) => self.fresh(index, outputs),
                Ok(Step::Stale { whole, missing, found, reasons }) => {
                    self.stale(index, whole, missing, found, reasons);
                }
                Err(error) => self.failed(index, error),
            }
            if !self.failures.is_empty() {
                return;
            }
        }
    }

    fn fresh(&mut self, index: usize, outputs: Outputs) {
        let cell = self.cell(index).name.clone();
        (self.observe)(Event::Fresh { cell });
        self.finish(index, Outcome::Fresh, 0.0, outputs);
    }

    fn stale(
        &mut self,
        index: usize,
        whole: Unit,
        missing: Vec<Unit>,
        found: Vec<Outputs>,
        reasons: Vec<crate::reason::Reason>,
    ) {
        let cell = self.cell(index);
        if missing.is_empty() {
            let outputs = self.resolver.assemble(cell, &found);
            let stage = (cell.stage.name(), cell.stage.version());
            if let Err(error) = self.resolver.store.publish_record(&whole.key, stage, &outputs) {
                return self.failed(index, error.into());
            }
            return self.fresh(index, outputs);
        }
        let name = cell.name.clone();
        (self.observe)(Event::Stale { cell: name, reasons: reasons.clone(), units: missing.len() });
        let open = Open {
            whole,
            reasons,
            left: missing.len(),
            n_built: 0,
            n_found: found.len(),
            outputs: found,
            seconds: 0.0,
            failed: false,
        };
        self.open.insert(index, open);
        self.ready.extend(missing.into_iter().map(|unit| (index, unit)));
        self.ready.sort_by_key(|(cell, _)| *cell);
    }

    /// Starts every ready unit that fits beside those that run.
    fn dispatch(&mut self) {
        let mut i = 0;
        while i < self.ready.len() {
            let index = self.ready[i].0;
            let asked = self.cell(index).config.resources;
            let resources = Resources {
                cpus: asked.cpus.clamp(1, self.limits.cpus.max(1)),
                memory: asked.memory.min(self.limits.memory),
            };
            if resources.cpus > self.free.cpus || resources.memory > self.free.memory {
                i += 1;
                continue;
            }
            let (_, unit) = self.ready.remove(i);
            match self.resolver.bind(self.cell(index), &self.known, unit.shard.as_deref()) {
                Ok(bound) => {
                    let cell = self.cell(index).name.clone();
                    (self.observe)(Event::Started { cell, shard: unit.shard.clone() });
                    self.free.cpus -= resources.cpus;
                    self.free.memory -= resources.memory;
                    self.running += 1;
                    let job = Job { cell: index, unit, bound, threads: resources.cpus, resources };
                    self.jobs
                        .send(job)
                        .expect("workers live as long as the coordinator sends jobs");
                }
                Err(error) => return self.failed(index, error.into()),
            }
        }
    }

    fn unit_done(&mut self, index: usize, seconds: f64, result: Result<Outputs, RunError>) {
        let open = self.open.get_mut(&index).expect("a unit belongs to a cell that is open");
        open.left -= 1;
        open.seconds += seconds;
        match result {
            Ok(outputs) => {
                open.n_built += 1;
                open.outputs.push(outputs);
            }
            Err(error) => {
                open.failed = true;
                return self.failed(index, error);
            }
        }
        if open.left == 0 && !open.failed {
            let open = self.open.remove(&index).expect("the cell was open a moment ago");
            if let Err(error) = self.close(index, open) {
                self.failed(index, error);
            }
        }
    }

    /// Publishes and reports a cell all of whose units are done.
    fn close(&mut self, index: usize, mut open: Open) -> Result<(), RunError> {
        let (resolver, cell) = (self.resolver, &self.resolver.experiment.cells[index]);
        let per_shard = cell.stage.per_shard();
        let outputs = if per_shard {
            let outputs = resolver.assemble(cell, &open.outputs);
            let stage = (cell.stage.name(), cell.stage.version());
            resolver.store.publish_record(&open.whole.key, stage, &outputs)?;
            outputs
        } else {
            open.outputs.pop().expect("a cell that is not per shard has one unit")
        };
        let shards = per_shard.then_some((open.n_built, open.n_found));
        let last = LastBuild {
            cell: cell.name.clone(),
            action: open.whole.action,
            reasons: open.reasons,
            run: self.run_id.to_owned(),
            shards,
            seconds: open.seconds,
            outputs: outputs.iter().map(|(port, stored)| (port.clone(), stored.digest)).collect(),
        };
        resolver.store.remember(&resolver.experiment.name, &cell.name, &last)?;
        (self.observe)(Event::Built { cell: cell.name.clone(), shards, seconds: open.seconds });
        self.finish(index, Outcome::Built, open.seconds, outputs);
        Ok(())
    }

    fn finish(&mut self, index: usize, outcome: Outcome, seconds: f64, outputs: Outputs) {
        let outputs = Arc::new(outputs);
        self.outcomes.insert(index, (outcome, seconds, Some(outputs.clone())));
        self.known[index] = Some(outputs);
        let experiment = self.resolver.experiment;
        for (waiting, left) in &mut self.waiting {
            *left -= experiment.needs(*waiting).filter(|&needed| needed == index).count();
        }
    }

    fn failed(&mut self, index: usize, error: RunError) {
        let cell = self.cell(index).name.clone();
        (self.observe)(Event::Failed { cell, message: error.to_string() });
        self.outcomes.insert(index, (Outcome::Failed, 0.0, None));
        self.failures.push(error);
    }
}

impl Experiment {
    /// Number of wires into each selected cell.
    fn waiting(&self, selected: &[bool]) -> BTreeMap<usize, usize> {
        (0..self.cells.len()).filter(|&i| selected[i]).map(|i| (i, self.needs(i).count())).collect()
    }
}

fn work(
    resolver: &Resolver<'_>,
    jobs: &Receiver<Job>,
    news: &Sender<News>,
    cancelled: &AtomicBool,
) {
    while let Ok(job) = jobs.recv() {
        let started = Instant::now();
        let (cell, resources) = (job.cell, job.resources);
        let result = execute(resolver, job, news, cancelled);
        let seconds = started.elapsed().as_secs_f64();
        if news.send(News::Done { cell, resources, seconds, result }).is_err() {
            return;
        }
    }
}

fn execute(
    resolver: &Resolver<'_>,
    job: Job,
    news: &Sender<News>,
    cancelled: &AtomicBool,
) -> Result<Outputs, RunError> {
    let Job { cell: index, unit, bound, threads, .. } = job;
    let cell = &resolver.experiment.cells[index];
    let store = resolver.store;
    let folder = store.work_folder()?;
    let result = stage_outputs(
        cell,
        &unit,
        bound,
        threads,
        &folder,
        store,
        cancelled,
        &|fraction, doing| {
            let _ = news.send(News::Progress { cell: index, fraction, doing: doing.to_owned() });
        },
    );
    if result.is_ok() {
        let _ = std::fs::remove_dir_all(store.checkpoint_folder(&unit.key));
    }
    let _ = std::fs::remove_dir_all(&folder);
    result
}

#[allow(clippy::too_many_arguments, reason = "one call; the parts belong to different owners")]
fn stage_outputs(
    cell: &Cell,
    unit: &Unit,
    bound: Bound,
    threads: usize,
    folder: &std::path::Path,
    store: &Store,
    cancelled: &AtomicBool,
    progress: &(dyn Fn(f64, &str) + Sync),
) -> Result<Outputs, RunError> {
    let stage = cell.stage.name();
    let scratch = folder.join("scratch");
    let ports = cell.stage.outputs();
    let out = folder.join("out");
    for path in ports.iter().map(|port| out.join(port.name)).chain([scratch.clone()]) {
        std::fs::create_dir_all(&path).map_err(crate::error::StoreError::io("create", &path))?;
    }
    let ctx = Ctx {
        shard: unit.shard.clone(),
        externals: cell.externals.clone(),
        scratch,
        checkpoints: store.checkpoint_folder(&unit.key),
        threads,
        progress,
        cancelled,
    };
    let started = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| cell.stage.run(&cell.config, bound, &out, &ctx)));
    let made = match ran {
        Ok(Ok(made)) => made,
        Ok(Err(source)) => {
            let (cell, shard) = (cell.name.clone(), unit.shard.clone());
            return Err(RunError::Stage { cell, stage, shard, source });
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
            let message = text.unwrap_or_else(|| "no message".to_owned());
            return Err(RunError::Panic { cell: cell.name.clone(), stage, message });
        }
    };
    for (port, output) in &made {
        check_shard_output(cell, unit, port, output)?;
    }
    let with_kinds = made.into_iter().map(|(port, output)| {
        let kind = ports.iter().find(|p| p.name == port).map_or("", |p| p.kind);
        (port, kind, output)
    });
    let version = cell.stage.version();
    Ok(store.publish(
        &unit.key,
        (stage, version),
        with_kinds.collect(),
        started.elapsed().as_secs_f64(),
    )?)
}

/// A unit of a shard must give exactly the part of that shard on every port.
fn check_shard_output(
    cell: &Cell,
    unit: &Unit,
    port: &str,
    output: &crate::ports::MadeOutput,
) -> Result<(), RunError> {
    let Some(shard) = &unit.shard else {
        return Ok(());
    };
    let entries = std::fs::read_dir(&output.folder).into_iter().flatten().flatten();
    let names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names == [shard.as_str()] {
        return Ok(());
    }
    let message = format!("output `{port}` must have the part `{shard}` alone: it has {names:?}");
    let (cell, stage) = (cell.name.clone(), cell.stage.name());
    Err(RunError::Stage {
        cell,
        stage,
        shard: Some(shard.clone()),
        source: StageError::new(message),
    })
}

fn report(
    experiment: &Experiment,
    selected: &[bool],
    run: String,
    mut outcomes: BTreeMap<usize, Finished>,
    seconds: f64,
) -> RunReport {
    let cells: Vec<CellReport> = experiment
        .cells
        .iter()
        .enumerate()
        .filter(|(i, _)| selected[*i])
        .map(|(i, cell)| {
            let finished = outcomes.remove(&i);
            let (outcome, seconds, outputs) = finished.unwrap_or((Outcome::Skipped, 0.0, None));
            let outputs = || outputs.as_deref().into_iter().flatten();
            let manifest =
                |(port, stored): (&String, &Stored)| (port.clone(), stored.manifest_digest());
            CellReport {
                cell: cell.name.clone(),
                stage: cell.stage.name().to_owned(),
                outcome,
                seconds,
                outputs: outputs().map(|(port, stored)| (port.clone(), stored.digest)).collect(),
                manifests: outputs().map(manifest).collect(),
            }
        })
        .collect();
    let count = |outcome| cells.iter().filter(|cell| cell.outcome == outcome).count();
    RunReport {
        run,
        experiment: experiment.name.clone(),
        built: count(Outcome::Built),
        fresh: count(Outcome::Fresh),
        seconds,
        cells,
    }
}

fn save_report(store: &Store, experiment: &Experiment, report: &RunReport) -> Result<(), RunError> {
    let folder = store.root().join("runs").join(&report.run);
    store.replace(&folder.join("experiment.toml"), experiment.resolved.as_bytes())?;
    let json = serde_json::to_vec_pretty(report).expect("a report is plain data");
    store.replace(&folder.join("run.json"), &json)?;
    Ok(())
}

/// Makes the folder of a new run: processes in containers may share an id, and two runs of one process may start within
/// a second, so the folder decides who has the name.
fn claim_run(store: &Store, experiment: &str) -> Result<String, RunError> {
    let id = new_run_id(experiment);
    let runs = store.root().join("runs");
    std::fs::create_dir_all(&runs).map_err(StoreError::io("create", &runs))?;
    let mut n = 1;
    loop {
        let candidate = if n == 1 { id.clone() } else { format!("{id}-{n}") };
        let folder = runs.join(&candidate);
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(StoreError::io("create", folder)(error).into()),
        }
    }
}

/// Start time in UTC, the experiment and the process, so that ids sort by time and two runs at once differ.
fn new_run_id(experiment: &str) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let pid = std::process::id();
    format!(
        "{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{}-{pid}",
        safe(experiment)
    )
}

/// Gregorian date of a day counted from 1970-01-01 (Howard Hinnant's algorithm).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_780), (2026, 11, 23));
    }
}
