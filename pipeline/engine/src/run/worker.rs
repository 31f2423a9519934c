//! The threads that do the work: one unit at a time, from its bound inputs to its record.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crossbeam::channel::{Receiver, Sender};

use crate::{
    action::Action,
    elsewhere::{panic_message, run_elsewhere},
    error::{RunError, StageError},
    experiment::Cell,
    log::Log,
    policy::Need,
    ports::{Bound, MadeOutput},
    resolve::{Resolver, Unit},
    stage::Ctx,
    store::{Outputs, Room, Workplace},
};

/// One unit of work with everything that it needs.
pub(super) struct Job {
    pub(super) cell: usize,
    pub(super) unit: Unit,
    pub(super) action: Action,
    pub(super) bound: Bound,
    pub(super) need: Need,
    /// Graphics processors that are its own while it runs.
    pub(super) gpus: Vec<String>,
    /// The program that runs it, unless it is this one.
    pub(super) program: Option<PathBuf>,
}

/// What a thread tells.
pub(super) enum News {
    Progress { cell: usize, fraction: f64, doing: String },
    Done(Box<Done>),
}

/// A unit that has ended.
pub(super) struct Done {
    pub(super) cell: usize,
    pub(super) unit: Unit,
    pub(super) need: Need,
    pub(super) gpus: Vec<String>,
    pub(super) worker: usize,
    pub(super) seconds: f64,
    pub(super) result: Result<Arc<Outputs>, RunError>,
}

/// What all units of a thread see.
pub(super) struct Worker<'a> {
    pub(super) resolver: &'a Resolver<'a>,
    /// Id of the run.
    pub(super) run: &'a str,
    /// Number of the thread.
    pub(super) number: usize,
    pub(super) news: Sender<News>,
    pub(super) cancelled: &'a AtomicBool,
    pub(super) launcher: Option<&'a Path>,
}

impl Worker<'_> {
    /// Works until there are no more jobs.
    pub(super) fn work(&self, jobs: &Receiver<Job>) {
        let mut place = Workplace::new(self.resolver.store);
        while let Ok(job) = jobs.recv() {
            if !self.work_on(job, &mut place) {
                return;
            }
        }
    }

    /// Does a job; says whether somebody heard of it.
    pub(super) fn work_on(&self, mut job: Job, place: &mut Workplace<'_>) -> bool {
        let started = Instant::now();
        let bound = std::mem::take(&mut job.bound);
        let result = self.execute(&job, bound, place);
        let Job { cell, unit, action: _, bound: _, need, gpus, program: _ } = job;
        let (worker, seconds) = (self.number, started.elapsed().as_secs_f64());
        let done = Done { cell, unit, need, gpus, worker, seconds, result };
        self.news.send(News::Done(Box::new(done))).is_ok()
    }

    fn execute(
        &self,
        job: &Job,
        bound: Bound,
        place: &mut Workplace<'_>,
    ) -> Result<Arc<Outputs>, RunError> {
        let store = self.resolver.store;
        let cell = &self.resolver.experiment.cells[job.cell];
        let log = Log::new(store, self.run, &cell.name, job.unit.shard.as_deref());
        let room = place.enter(cell.stage.outputs().iter().map(|port| port.name));
        let result = room
            .map_err(RunError::from)
            .and_then(|room| self.stage_outputs(cell, job, bound, room, &log));
        place.leave();
        match &result {
            Ok(_) => {
                let _ = store.disk().remove_folder(&store.checkpoint_folder(&job.unit.key));
            }
            Err(error) => log.say(&format!("failed ({}): {}", error.class(), chain(error))),
        }
        result
    }

    fn stage_outputs(
        &self,
        cell: &Cell,
        job: &Job,
        bound: Bound,
        Room { out, scratch }: Room,
        log: &Log<'_>,
    ) -> Result<Arc<Outputs>, RunError> {
        let (store, unit) = (self.resolver.store, &job.unit);
        let ports = cell.stage.outputs();
        let started = Instant::now();
        let ctx = Ctx {
            shard: unit.shard.clone(),
            externals: cell.externals.clone().unwrap_or_default(),
            scratch,
            checkpoints: store.checkpoint_folder(&unit.key),
            threads: job.need.cpus,
            gpus: job.gpus.clone(),
            progress: &|fraction, doing| {
                log.doing(fraction, doing);
                let (cell, doing) = (job.cell, doing.to_owned());
                let _ = self.news.send(News::Progress { cell, fraction, doing });
            },
            log: &|text| log.say(text),
            cancelled: self.cancelled,
            launcher: self.launcher,
            deadline: cell.policy.timeout.map(|limit| started + limit),
        };
        let made = self.ran(cell, job, bound, &out, &ctx)?;
        for (port, output) in &made {
            check_shard_output(cell, unit, port, output)?;
        }
        let with_kinds = made.into_iter().map(|(port, output)| {
            let kind = ports.iter().find(|p| p.name == port).map_or("", |p| p.kind);
            (port, kind, output)
        });
        let seconds = started.elapsed().as_secs_f64();
        Ok(store.publish(&unit.key, &job.action, with_kinds.collect(), seconds)?)
    }

    /// Runs the stage of a unit.
    fn ran(
        &self,
        cell: &Cell,
        job: &Job,
        bound: Bound,
        out: &Path,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<(&'static str, MadeOutput)>, RunError> {
        let run = || match &job.program {
            Some(program) => run_elsewhere(program, cell, bound, out, ctx),
            None => cell.stage.run(&cell.config, bound, out, ctx),
        };
        let (cell_name, stage) = (cell.name.clone(), cell.stage.name());
        let shard = job.unit.shard.clone();
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(source)) => match cell.policy.timeout {
                Some(limit) if ctx.is_late() && !self.cancelled.load(Ordering::Relaxed) => {
                    Err(RunError::Timeout { cell: cell_name, stage, shard, limit })
                }
                _ => Err(RunError::Stage { cell: cell_name, stage, shard, source }),
            },
            Err(panic) => {
                let message = panic_message(&*panic);
                Err(RunError::Panic { cell: cell_name, stage, message })
            }
        }
    }
}

/// An error and its causes on lines of their own.
pub(super) fn chain(error: &RunError) -> String {
    let mut lines = vec![error.to_string()];
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        // A wrapper that shows its cause in its place says nothing of its own.
        if lines.last() != Some(&text) {
            lines.push(text);
        }
        next = cause.source();
    }
    lines.join("\n  caused by: ")
}

/// A unit of a shard must give exactly the part of that shard on every port.
fn check_shard_output(
    cell: &Cell,
    unit: &Unit,
    port: &str,
    output: &MadeOutput,
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
