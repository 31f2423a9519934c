//! The thread that decides: what is fresh, what must wait, what starts next.

mod lost;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::{
    CellFailure, Finished, Limits, Outcome, RunOptions,
    worker::{Done, Job, News, chain},
};
use crate::{
    digest::Digest,
    error::RunError,
    events::Event,
    experiment::Cell,
    lease::{self, Badge, Claim, Lease},
    live::{Heart, LiveCell},
    log::Log,
    policy::{FailureClass, Need},
    resolve::{Known, LastBuild, Resolver, Scope, Stale, Step, Unit},
    store::{Lookup, Outputs},
    trace::{Bar, Trace},
};

/// Time between two looks at the world while nothing is heard.
const TICK: Duration = Duration::from_millis(250);
/// The same while another run's result is waited for.
const IMPATIENT_TICK: Duration = Duration::from_millis(50);

/// A cell that is being built.
struct Open<'a> {
    stale: Box<Stale<'a>>,
    /// Units not finished yet.
    left: usize,
    /// Units at work.
    running: usize,
    n_built: usize,
    n_found: usize,
    seconds: f64,
    /// Whether a unit has failed or was stopped.
    broken: bool,
    /// How far it is within its unit and what it is doing, for those who watch.
    progress: (f64, String),
}

/// How often a unit has failed.
#[derive(Clone, Copy, Default)]
struct Tries {
    failed: u32,
    /// For want of memory.
    memory: u32,
}

/// Place of a unit in the queue: cells in their order, units as they come.
type Place = (usize, usize);

/// The state of one run.
pub(super) struct Coordinator<'a> {
    resolver: &'a Resolver<'a>,
    options: RunOptions,
    known: Known,
    /// Cells that read from each cell, once for each wire.
    readers: Vec<Vec<usize>>,
    /// Number of wires into each cell from cells that are not known yet.
    waiting: Vec<usize>,
    /// Selected cells whose inputs are known and that have not been looked up.
    resolvable: BTreeSet<usize>,
    open: BTreeMap<usize, Open<'a>>,
    /// Units that may start.
    ready: BTreeMap<Place, Unit>,
    n_queued: usize,
    /// Units that another run is building.
    awaited: BTreeMap<Place, Unit>,
    next_look: Instant,
    badge: Badge<'a>,
    leases: BTreeMap<Digest, Lease>,
    renewed: Instant,
    running: usize,
    free: Limits,
    free_gpus: Vec<String>,
    /// Programs that were found.
    programs: BTreeMap<&'static str, PathBuf>,
    /// Failures of units that are tried again.
    tries: BTreeMap<Digest, Tries>,
    /// Cells that are built once more because a file of theirs was lost, with what they gave before.
    again: BTreeMap<usize, Arc<Outputs>>,
    /// Units that wait for those, by cell.
    blocked: BTreeMap<usize, Vec<(Place, Unit)>>,
    /// Those cells and the files of theirs that were lost: each loss heals once.
    lost: BTreeSet<(usize, Digest)>,
    trace: Trace<'a>,
    outcomes: BTreeMap<usize, Finished>,
    failures: Vec<RunError>,
    heart: Heart<'a>,
    jobs: Sender<Job>,
    observe: &'a mut dyn FnMut(Event),
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(
        resolver: &'a Resolver<'a>,
        selected: &'a [bool],
        options: RunOptions,
        (heart, trace): (Heart<'a>, Trace<'a>),
        jobs: Sender<Job>,
        observe: &'a mut dyn FnMut(Event),
    ) -> Self {
        let experiment = resolver.experiment;
        let n_cells = experiment.cells.len();
        let mut readers = vec![Vec::new(); n_cells];
        let mut waiting = vec![0; n_cells];
        for cell in (0..n_cells).filter(|&cell| selected[cell]) {
            for needed in experiment.needs(cell) {
                readers[needed].push(cell);
                waiting[cell] += 1;
            }
        }
        Self {
            resolver,
            free: options.limits,
            free_gpus: options.gpus.clone(),
            options,
            known: vec![None; n_cells],
            resolvable: (0..n_cells).filter(|&c| selected[c] && waiting[c] == 0).collect(),
            readers,
            waiting,
            open: BTreeMap::new(),
            ready: BTreeMap::new(),
            n_queued: 0,
            awaited: BTreeMap::new(),
            next_look: Instant::now(),
            badge: Badge::new(resolver.store, &heart.live.run),
            leases: BTreeMap::new(),
            renewed: Instant::now(),
            running: 0,
            programs: BTreeMap::new(),
            tries: BTreeMap::new(),
            again: BTreeMap::new(),
            blocked: BTreeMap::new(),
            lost: BTreeSet::new(),
            trace,
            outcomes: BTreeMap::new(),
            failures: Vec::new(),
            heart,
            jobs,
            observe,
        }
    }

    /// What became of the cells, the failures, and the sign of life, which lasts until the report is written.
    pub(super) fn end(self) -> (BTreeMap<usize, Finished>, Vec<RunError>, Heart<'a>, Trace<'a>) {
        (self.outcomes, self.failures, self.heart, self.trace)
    }

    /// Runs everything that can be run.
    pub(super) fn drive(&mut self, news: &Receiver<News>, cancelled: &AtomicBool) {
        self.heed(cancelled);
        loop {
            if !self.is_stopping() {
                self.resolve_ready();
            }
            if !self.is_stopping() {
                self.look_for_awaited();
                self.dispatch();
            }
            let nothing_left = self.ready.is_empty() && self.awaited.is_empty();
            let more = !nothing_left || !self.resolvable.is_empty();
            if self.running == 0 && (!more || self.is_stopping()) {
                break;
            }
            let tick = if self.awaited.is_empty() { TICK } else { IMPATIENT_TICK };
            let received = news.recv_timeout(tick);
            // A stage that was told to stop may answer before this loop has noticed why.
            self.heed(cancelled);
            match received {
                Ok(News::Progress { cell, fraction, doing }) => {
                    self.progress(cell, fraction, doing)
                }
                Ok(News::Done(done)) => self.unit_done(*done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.stay_alive();
        }
    }

    /// Runs everything that can be run on this thread alone, a unit of work between two decisions.
    #[cfg(feature = "faults")]
    pub(super) fn drive_alone(
        &mut self,
        work: &mut dyn FnMut(Job),
        jobs: &Receiver<Job>,
        news: &Receiver<News>,
    ) -> Result<(), std::io::Error> {
        while !self.is_stopping() {
            self.resolve_ready();
            // No clock decides what happens next.
            self.next_look = Instant::now();
            self.look_for_awaited();
            self.dispatch();
            if let Ok(job) = jobs.try_recv() {
                work(job);
            } else if self.resolvable.is_empty() && self.ready.is_empty() {
                if self.awaited.is_empty() {
                    break;
                }
                self.resolver.store.disk().wait()?;
            }
            while let Ok(heard) = news.try_recv() {
                if let News::Done(done) = heard {
                    self.unit_done(*done);
                }
            }
        }
        Ok(())
    }

    /// Takes notice of being told to stop.
    fn heed(&mut self, cancelled: &AtomicBool) {
        if !self.heart.live.stopping && cancelled.load(Ordering::Relaxed) {
            self.heart.live.stopping = true;
            (self.observe)(Event::Stopping { running: self.running });
        }
    }

    /// Whether nothing new is to be started.
    fn is_stopping(&self) -> bool {
        self.heart.live.stopping || (!self.failures.is_empty() && !self.options.keep_going)
    }

    fn cell(&self, index: usize) -> &Cell {
        &self.resolver.experiment.cells[index]
    }

    /// Tells other processes that this run and what it holds are alive.
    fn stay_alive(&mut self) {
        if self.renewed.elapsed() >= lease::PERIOD {
            self.leases.values().for_each(Lease::renew);
            self.renewed = Instant::now();
        }
        if !self.heart.is_due() {
            return;
        }
        let cells = &self.resolver.experiment.cells;
        // Of a wide experiment very many cells are open that have not begun.
        let at_work = self.open.iter().filter(|(_, open)| open.running > 0);
        let running = at_work.map(|(&index, open)| {
            let ended = open.n_built + open.n_found;
            let (within, doing) = &open.progress;
            let fraction = (ended as f64 + within) / (ended + open.left).max(1) as f64;
            LiveCell { cell: cells[index].name.clone(), fraction, doing: doing.clone() }
        });
        self.heart.live.running = running.collect();
        self.heart.live.done = self.outcomes.len();
        self.heart.beat();
    }

    fn progress(&mut self, index: usize, fraction: f64, doing: String) {
        let cell = self.cell(index).name.clone();
        if let Some(open) = self.open.get_mut(&index).filter(|open| open.left == 1) {
            open.progress = (fraction.clamp(0.0, 1.0), doing.clone());
        }
        (self.observe)(Event::Progress { cell, fraction, doing });
    }

    /// Looks up every cell whose inputs are known, until none is left.
    fn resolve_ready(&mut self) {
        while let Some(index) = self.resolvable.pop_first() {
            match self.resolver.step(index, &self.known) {
                Ok(Step::Fresh { key, outputs }) => self.fresh(index, key, outputs),
                Ok(Step::Stale(stale)) => self.stale(index, stale),
                Err(error) => self.failed(index, error),
            }
            self.stay_alive();
            if self.is_stopping() {
                return;
            }
        }
    }

    fn fresh(&mut self, index: usize, key: Digest, outputs: Arc<Outputs>) {
        let cell = self.cell(index).name.clone();
        (self.observe)(Event::Fresh { cell });
        self.finish(index, Outcome::Fresh, 0.0, key, outputs);
    }

    fn stale(&mut self, index: usize, mut stale: Box<Stale<'a>>) {
        let missing = std::mem::take(&mut stale.missing);
        let mut open = Open {
            left: missing.len(),
            running: 0,
            n_built: 0,
            n_found: stale.n_found(),
            stale,
            seconds: 0.0,
            broken: false,
            progress: (0.0, String::new()),
        };
        let n_groups = open.stale.groups.len();
        let recorded =
            (0..n_groups).try_for_each(|group| self.record_group(&mut open.stale, group));
        if let Err(error) = recorded {
            return self.failed(index, error);
        }
        if missing.is_empty() {
            if open.n_found == 0 {
                let cell = self.cell(index).name.clone();
                (self.observe)(Event::Empty { cell });
            }
            if let Err(error) = self.close(index, open) {
                self.failed(index, error);
            }
            return;
        }
        let (cell, reasons) = (self.cell(index).name.clone(), open.stale.reasons.clone());
        (self.observe)(Event::Stale { cell, reasons, units: missing.len() });
        match self.program_of(index) {
            Ok(Some(_)) => {}
            Ok(None) => self.say_few_gpus(index),
            Err(error) => return self.failed(index, error),
        }
        self.open.insert(index, open);
        for unit in missing {
            self.n_queued += 1;
            self.ready.insert((index, self.n_queued), unit);
        }
    }

    /// Records some shards together whose results are all there, if they are to be.
    fn record_group(&self, stale: &mut Stale<'_>, number: usize) -> Result<(), RunError> {
        let group = &mut stale.groups[number];
        if group.n_missing > 0 {
            return Ok(());
        }
        if let Some(key) = group.key.take() {
            let outputs = stale.prepared.assemble(&group.outputs);
            let (action, units) =
                (stale.prepared.action(Scope::Chunk(number)), std::mem::take(&mut group.units));
            self.resolver.store.publish_record(&key, &action, &outputs, &units)?;
            group.outputs = vec![Arc::new(outputs)];
        }
        Ok(())
    }

    /// The program that runs a cell, unless it is this one; nothing begins without what it needs.
    fn program_of(&mut self, index: usize) -> Result<Option<PathBuf>, RunError> {
        let cell = &self.resolver.experiment.cells[index];
        let Some(program) = cell.config.program else { return Ok(None) };
        let (name, stage) = (cell.name.clone(), cell.stage.name());
        let (asked, found) = (cell.takes().gpus, self.options.gpus.len());
        if asked > found {
            return Err(RunError::NoGpu { cell: name, stage, asked, found });
        }
        if let Some(path) = self.programs.get(program) {
            return Ok(Some(path.clone()));
        }
        let path = (self.options.find_program)(program).map_err(|tried| RunError::NoProgram {
            cell: name,
            stage,
            program,
            tried,
        })?;
        self.programs.insert(program, path.clone());
        Ok(Some(path))
    }

    /// Says so where a cell asks for graphics processors that the run does not have.
    fn say_few_gpus(&mut self, index: usize) {
        let cell = self.cell(index);
        let (name, asked, found) = (cell.name.clone(), cell.takes().gpus, self.options.gpus.len());
        if asked > found {
            let log = Log::new(self.resolver.store, &self.heart.live.run, &name, None);
            log.say(&format!("asks for {asked} graphics processors, the run may use {found}"));
            (self.observe)(Event::FewGpus { cell: name, asked, found });
        }
    }

    /// Takes what other runs have built meanwhile; what they gave up goes back into the queue.
    fn look_for_awaited(&mut self) {
        let started = Instant::now();
        if started < self.next_look {
            return;
        }
        for (place, unit) in std::mem::take(&mut self.awaited) {
            match self.resolver.store.look_up(&unit.key) {
                Lookup::Hit(outputs) => self.unit_found(place.0, unit.group, outputs),
                Lookup::Miss(_) if self.resolver.store.holder(&unit.key).is_some() => {
                    self.awaited.insert(place, unit);
                }
                Lookup::Miss(_) => {
                    self.ready.insert(place, unit);
                }
            }
        }
        // A tenth of the time at most goes into looking, however much is waited for.
        self.next_look = Instant::now() + (9 * started.elapsed()).max(IMPATIENT_TICK / 2);
    }

    /// Starts every ready unit that fits beside those that run.
    fn dispatch(&mut self) {
        let limits = self.options.limits;
        let mut after = None;
        while self.free.cpus > 0 || self.running == 0 {
            let next = match after {
                None => self.ready.keys().next(),
                Some(place) => {
                    self.ready.range(place..).map(|(place, _)| place).find(|p| **p > place)
                }
            };
            let Some(&place) = next else { return };
            after = Some(place);
            let need = self.need(place, &limits);
            if need.cpus > self.free.cpus
                || need.memory > self.free.memory
                || need.gpus > self.free_gpus.len()
            {
                continue;
            }
            if let Some(unit) = self.ready.remove(&place)
                && let Err(error) = self.start(place, unit, need)
            {
                self.failed(place.0, error);
                if self.is_stopping() {
                    return;
                }
            }
        }
    }

    /// What a ready unit takes: no more than there is, so that it starts at some time.
    fn need(&self, place: Place, limits: &Limits) -> Need {
        let (cell, unit) = (self.cell(place.0), &self.ready[&place]);
        let grown = self.tries.get(&unit.key).map_or(0, |tries| tries.memory);
        let asked = cell.policy.resources(cell.config.resources, cell.config.gpus, grown);
        Need {
            cpus: asked.cpus.clamp(1, limits.cpus.max(1)),
            memory: asked.memory.min(limits.memory),
            gpus: asked.gpus.min(self.options.gpus.len()),
        }
    }

    /// Starts a unit, unless another run builds it or has just built it.
    fn start(&mut self, place: Place, unit: Unit, need: Need) -> Result<(), RunError> {
        let (index, store) = (place.0, self.resolver.store);
        let program = self.program_of(index)?;
        let cell = self.cell(index).name.clone();
        let lease = match self.badge.claim(&unit.key) {
            Claim::Mine(lease) => lease,
            Claim::Theirs(run) => {
                if let Some(open) = self.open.get_mut(&index).filter(|open| open.left == 1) {
                    open.progress.1 = format!("built by run {run}");
                }
                (self.observe)(Event::Waiting { cell, shard: unit.shard.clone(), run });
                self.awaited.insert(place, unit);
                return Ok(());
            }
        };
        if let Lookup::Hit(outputs) = store.look_up(&unit.key) {
            self.unit_found(index, unit.group, outputs);
            return Ok(());
        }
        let open = self.open.get_mut(&index).expect("a unit belongs to a cell that is open");
        let prepared = &open.stale.prepared;
        let bound = match prepared.bind(store, unit.scope()) {
            Ok(bound) => bound,
            Err(unbound) => return self.rewind(place, unit, *unbound),
        };
        let action = prepared.action(unit.scope());
        open.running += 1;
        (self.observe)(Event::Started { cell, shard: unit.shard.clone() });
        self.leases.insert(unit.key, lease);
        self.free.cpus -= need.cpus;
        self.free.memory -= need.memory;
        let gpus = self.free_gpus.drain(..need.gpus).collect();
        self.running += 1;
        let job = Job { cell: index, unit, action, bound, need, gpus, program };
        self.jobs.send(job).expect("workers live as long as the coordinator sends jobs");
        Ok(())
    }

    fn unit_done(&mut self, done: Done) {
        self.add_to_trace(&done);
        let Done { cell: index, unit, need, gpus, worker: _, seconds, result } = done;
        self.running -= 1;
        self.free.cpus += need.cpus;
        self.free.memory += need.memory;
        self.free_gpus.extend(gpus);
        // The lowest first, so that a run with one such cell at a time uses one device.
        self.free_gpus.sort_by_key(|gpu| self.options.gpus.iter().position(|own| own == gpu));
        self.leases.remove(&unit.key);
        let stopping = self.heart.live.stopping;
        let open = self.open.get_mut(&index).expect("a unit belongs to a cell that is open");
        open.seconds += seconds;
        open.running -= 1;
        open.progress = (0.0, String::new());
        match result {
            Ok(outputs) => {
                open.n_built += 1;
                self.unit_ended(index, unit.group, outputs);
            }
            // It was asked to return early.
            Err(RunError::Stage { .. }) if stopping => open.broken = true,
            Err(error) if self.may_try_again(index, &unit, &error) => {
                self.try_again(index, unit, &error);
            }
            Err(error) => self.unit_failed(index, error),
        }
    }

    fn add_to_trace(&mut self, done: &Done) {
        let (resolver, class) = (self.resolver, done.result.as_ref().err().map(RunError::class));
        let cell = &resolver.experiment.cells[done.cell];
        self.trace.add(&Bar {
            cell: &cell.name,
            stage: cell.stage.name(),
            shard: done.unit.shard.as_deref(),
            worker: done.worker,
            seconds: done.seconds,
            outcome: class.map_or_else(|| "built".to_owned(), |class| class.to_string()),
        });
    }

    fn may_try_again(&self, index: usize, unit: &Unit, error: &RunError) -> bool {
        let failed = self.tries.get(&unit.key).map_or(0, |tries| tries.failed);
        let most = self.cell(index).policy.retry.of(error.class());
        failed < most && !error.is_permanent() && !self.is_stopping()
    }

    /// Puts a unit that has failed back into the queue.
    fn try_again(&mut self, index: usize, unit: Unit, error: &RunError) {
        let class = error.class();
        let tries = self.tries.entry(unit.key).or_default();
        tries.failed += 1;
        tries.memory += u32::from(class == FailureClass::Memory);
        let tries = tries.failed;
        let (cell, shard, message) =
            (self.cell(index).name.clone(), unit.shard.clone(), error.to_string());
        (self.observe)(Event::Retrying { cell, shard, class, message, tries });
        self.n_queued += 1;
        self.ready.insert((index, self.n_queued), unit);
    }

    fn unit_found(&mut self, index: usize, group: usize, outputs: Arc<Outputs>) {
        let open = self.open.get_mut(&index).expect("a unit belongs to a cell that is open");
        open.n_found += 1;
        self.unit_ended(index, group, outputs);
    }

    fn unit_ended(&mut self, index: usize, group: usize, outputs: Arc<Outputs>) {
        let mut open = self.open.remove(&index).expect("a unit belongs to a cell that is open");
        open.left -= 1;
        open.stale.groups[group].n_missing -= 1;
        open.stale.groups[group].outputs.push(outputs);
        let ended = match self.record_group(&mut open.stale, group) {
            Ok(()) if open.left == 0 && !open.broken => self.close(index, open),
            ended => {
                self.open.insert(index, open);
                ended
            }
        };
        if let Err(error) = ended {
            self.failed(index, error);
        }
    }

    /// Publishes and reports a cell all of whose units are done.
    fn close(&mut self, index: usize, mut open: Open<'a>) -> Result<(), RunError> {
        let (resolver, cell) = (self.resolver, &self.resolver.experiment.cells[index]);
        let (per_shard, stale) = (cell.stage.per_shard(), &mut *open.stale);
        let key = stale.key;
        let mut found = stale.groups.iter().flat_map(|group| group.outputs.iter().cloned());
        let outputs = if per_shard {
            let outputs = stale.prepared.assemble(&found.collect::<Vec<_>>());
            // Of one group its shards, which the cell is made of itself.
            let shards = stale.groups.first().map(|group| group.units.as_slice());
            let several = stale.groups.len() > 1;
            let units = if several { Some(stale.group_keys.as_slice()) } else { shards };
            let action = stale.prepared.action(Scope::Whole);
            resolver.store.publish_record(&key, &action, &outputs, units.unwrap_or_default())?;
            Arc::new(outputs)
        } else {
            found.next().expect("a cell that is not per shard has one unit")
        };
        if open.n_built == 0 {
            self.fresh(index, key, outputs);
            return Ok(());
        }
        let shards = per_shard.then_some((open.n_built, open.n_found));
        let last = LastBuild {
            cell: cell.name.clone(),
            action: open.stale.prepared.explained(),
            reasons: open.stale.reasons,
            run: self.heart.live.run.clone(),
            before: open.stale.before,
            shards,
            seconds: open.seconds,
            outputs: outputs.iter().map(|(port, stored)| (port.clone(), stored.digest)).collect(),
        };
        resolver.store.remember(&resolver.experiment.name, &cell.name, &last)?;
        (self.observe)(Event::Built { cell: cell.name.clone(), shards, seconds: open.seconds });
        self.finish(index, Outcome::Built, open.seconds, key, outputs);
        Ok(())
    }

    fn finish(
        &mut self,
        index: usize,
        outcome: Outcome,
        seconds: f64,
        key: Digest,
        outputs: Arc<Outputs>,
    ) {
        let (key, shared) = (Some(key), Some(outputs.clone()));
        let finished = Finished { outcome, seconds, key, outputs: shared, failure: None };
        self.outcomes.insert(index, finished);
        self.known[index] = Some(outputs);
        if let Some(before) = self.again.remove(&index) {
            return self.rebuilt(index, &before);
        }
        for &reader in &self.readers[index] {
            self.waiting[reader] -= 1;
            if self.waiting[reader] == 0 {
                self.resolvable.insert(reader);
            }
        }
    }

    /// Takes note of a failure outside of a stage.
    fn failed(&mut self, index: usize, error: RunError) {
        let store = self.resolver.store;
        let log = Log::new(store, &self.heart.live.run, &self.cell(index).name, None);
        log.say(&format!("failed ({}): {}", error.class(), chain(&error)));
        self.unit_failed(index, error);
    }

    /// Takes note of a failure that is in the log already.
    fn unit_failed(&mut self, index: usize, error: RunError) {
        let cell = self.cell(index).name.clone();
        if let Some(open) = self.open.get_mut(&index) {
            open.broken = true;
        }
        let failure = Some(CellFailure { class: error.class(), message: chain(&error) });
        (self.observe)(Event::Failed { cell, message: error.to_string() });
        let (outcome, seconds) = (Outcome::Failed, 0.0);
        let finished = Finished { outcome, seconds, key: None, outputs: None, failure };
        self.outcomes.insert(index, finished);
        self.failures.push(error);
    }
}
