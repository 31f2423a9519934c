//! The threads that do the work: one unit at a time, from its bound inputs to its record.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicBool,
    time::Instant,
};

use crossbeam::channel::{Receiver, Sender};

use crate::{
    error::{RunError, StageError},
    experiment::Cell,
    ports::Bound,
    resolve::{Resolver, Unit},
    stage::{Ctx, Resources},
    store::{Outputs, Store},
};

/// One unit of work with everything that it needs.
pub(super) struct Job {
    pub(super) cell: usize,
    pub(super) unit: Unit,
    pub(super) bound: Bound,
    pub(super) resources: Resources,
}

/// What a thread tells.
pub(super) enum News {
    Progress { cell: usize, fraction: f64, doing: String },
    Done(Done),
}

/// A unit that has ended.
pub(super) struct Done {
    pub(super) cell: usize,
    pub(super) key: crate::digest::Digest,
    pub(super) resources: Resources,
    pub(super) seconds: f64,
    pub(super) result: Result<Outputs, RunError>,
}

/// Works until there are no more jobs.
pub(super) fn work(
    resolver: &Resolver<'_>,
    jobs: &Receiver<Job>,
    news: &Sender<News>,
    cancelled: &AtomicBool,
) {
    while let Ok(job) = jobs.recv() {
        let started = Instant::now();
        let (cell, key, resources) = (job.cell, job.unit.key, job.resources);
        let result = execute(resolver, job, news, cancelled);
        let seconds = started.elapsed().as_secs_f64();
        if news.send(News::Done(Done { cell, key, resources, seconds, result })).is_err() {
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
    let Job { cell: index, unit, bound, resources } = job;
    let cell = &resolver.experiment.cells[index];
    let store = resolver.store;
    let folder = store.work_folder()?;
    let result = stage_outputs(
        cell,
        &unit,
        bound,
        resources.cpus,
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
    let seconds = started.elapsed().as_secs_f64();
    Ok(store.publish(&unit.key, &unit.action, with_kinds.collect(), seconds)?)
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
