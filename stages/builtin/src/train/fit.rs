//! The training that all methods share: read samples, train with checkpoints, write weights and metrics.

use std::{
    fs::{self, File},
    io::Write,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use datasets::{
    Split, Stream,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, Input, Out, StageError};
use nets::{
    Accelerator, Architecture, Backend, Checkpoint, EpochMetrics, HookError, Hooks, Model,
    ModelInfo, Outcome, Progress, TaskShape, Training, TrainingConfig, write_model,
};
use serde::{Deserialize, Serialize};

use super::{
    data::{SplitCases, cases_of_split, fault},
    device::TrainingDevice,
    feed::FeedConfig,
};
use crate::{
    kinds,
    shards::{write_json, write_table},
    trained::in_pool,
};

/// Checkpoints that are kept: the newest may be one that a crash has truncated.
const KEPT_CHECKPOINTS: usize = 2;

/// What `summary.json` of a trained network holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingSummary {
    /// Names of the sources, in order.
    pub sources: Vec<String>,
    /// Names of the structures, in order.
    pub structures: Vec<String>,
    /// Seed of initialisation, order and augmentation.
    pub rng_seed: u64,
    /// Number of training cases.
    pub n_train: usize,
    /// Number of validation cases.
    pub n_val: usize,
    /// Number of parameters, all networks together.
    pub n_parameters: usize,
    /// The epoch whose weights were kept, from 0.
    pub best_epoch: usize,
    /// Steps of the whole training.
    pub n_steps: usize,
    /// Steps in which the primary head was trained.
    pub n_primary_steps: usize,
    /// Whether the weights that were kept ever saw a gradient through the primary head.
    pub primary_trained: bool,
    /// The network.
    pub architecture: Architecture,
    /// The training.
    pub training: TrainingConfig,
    /// Where its steps were done.
    #[serde(default, skip_serializing_if = "TrainingDevice::is_cpu")]
    pub device: TrainingDevice,
}

/// What a training stage wants trained, and on what.
pub(crate) struct Fit<'a> {
    pub(crate) images: &'a [Input],
    pub(crate) annotations: &'a [Input],
    pub(crate) reference: Option<&'a Input>,
    pub(crate) structures: &'a [String],
    pub(crate) train_cases: Option<NonZeroUsize>,
    pub(crate) training: &'a TrainingConfig,
    pub(crate) device: TrainingDevice,
    pub(crate) recompute: bool,
    pub(crate) feed: FeedConfig,
    pub(crate) rng_seed: u64,
}

impl Fit<'_> {
    /// Trains the network that `architecture` makes of the data's shape and writes it with its metrics; a GPU is one of
    /// `A`.
    pub(crate) fn run<A: Accelerator>(
        &self,
        architecture: impl FnOnce(TaskShape) -> Architecture + Send,
        out: &Out<kinds::Model>,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        in_pool(ctx, || self.run_here::<A>(architecture, out, ctx))
    }

    fn run_here<A: Accelerator>(
        &self,
        architecture: impl FnOnce(TaskShape) -> Architecture,
        out: &Out<kinds::Model>,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let train = self.cases(Split::Train, "trained", None)?;
        let validation = self.cases(Split::Val, "validated", self.reference)?;
        let plan = self.feed.plan(&train.outline, &validation.outline)?;
        let sources = train.sources.clone();
        let (train, validation) =
            (train.samples(plan.n_train), validation.samples(plan.n_validation));
        let architecture = architecture(train.outline().shape());
        let streams = |purpose: &str, parts: &[&str]| -> Box<dyn FnMut() -> f64> {
            let mut stream = Stream::new(self.rng_seed, purpose, parts);
            Box::new(move || stream.uniform())
        };
        let mut model = Model::new(&architecture, &streams).map_err(StageError::new)?;
        let training = Training {
            config: self.training,
            train: &train,
            validation: Some(&validation),
            recompute: self.recompute,
            readers: plan.readers,
            streams: &streams,
        };
        let mut backend = self.device.open::<A>(self.training, ctx)?;
        let outcome = train_with_checkpoints(&training, &mut *backend, &mut model, ctx)?;
        let n_parameters = model.trainable().parts().iter().map(|(_, part)| part.count()).sum();
        let summary = TrainingSummary {
            sources,
            structures: self.structures.to_vec(),
            rng_seed: self.rng_seed,
            n_train: train.n_cases(),
            n_val: validation.n_cases(),
            n_parameters,
            best_epoch: outcome.best_epoch,
            n_steps: outcome.n_steps,
            n_primary_steps: outcome.n_primary_steps,
            primary_trained: outcome.primary_trained,
            architecture,
            training: *self.training,
            device: self.device,
        };
        let notes = [
            ("normalisation", "zero mean, unit standard deviation per image".to_owned()),
            ("primary_trained", outcome.primary_trained.to_string()),
            ("sources", summary.sources.join(",")),
        ];
        let info = ModelInfo {
            structures: self.structures.to_vec(),
            notes: notes.map(|(name, text)| (name.to_owned(), text)).into_iter().collect(),
            ..ModelInfo::default()
        };
        out.write("weights.safetensors", &write_model(model.trainable(), &info))?;
        write_metrics(out, &outcome.metrics, &summary.sources)?;
        write_json(out, "summary.json", &summary)
    }

    fn cases(
        &self,
        split: Split,
        purpose: &'static str,
        truth: Option<&Input>,
    ) -> Result<SplitCases, StageError> {
        let most = self.train_cases.filter(|_| split == Split::Train);
        let (images, annotations) = (self.images, self.annotations);
        cases_of_split(split, purpose, images, annotations, truth, self.structures, most)
    }
}

/// Trains from the newest checkpoint that can be read, or from the start.
fn train_with_checkpoints(
    training: &Training<'_>,
    backend: &mut dyn Backend,
    model: &mut Model,
    ctx: &Ctx<'_>,
) -> Result<Outcome, StageError> {
    let folder = ctx.checkpoints();
    fs::create_dir_all(folder).map_err(StageError::new)?;
    let resume = newest_checkpoint(folder, model);
    let n_epochs = training.config.epochs;
    let mut progress = |at: Progress| {
        let fraction = at.step as f64 / at.n_steps.max(1) as f64;
        let mut doing = format!("epoch {} of {n_epochs}", at.epoch + 1);
        if at.ends_epoch() {
            doing += &format!(", {}", waiting(&at));
        }
        if at.step == at.n_steps {
            ctx.log(&waiting(&at));
        }
        ctx.progress(fraction, &doing);
        if ctx.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut keep =
        |checkpoint: &Checkpoint| keep_checkpoint(folder, checkpoint).map_err(HookError::from);
    let mut hooks =
        Hooks { progress: Some(&mut progress), epoch: None, checkpoint: Some(&mut keep) };
    let model = model.trainable_mut();
    training.run_on(backend, model, &mut hooks, resume.as_ref()).map_err(fault)
}

/// What steps did besides working.
fn waiting(at: &Progress) -> String {
    let (share, seconds) = (100.0 * at.waiting_share(), at.stepping.as_secs_f64());
    format!("steps waited for data {share:.2} % of their {seconds:.1} s")
}

/// Checkpoint files in a folder, oldest first.
fn checkpoint_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let finished =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
    let mut files: Vec<PathBuf> = entries.filter(finished).collect();
    files.sort();
    files
}

/// The newest checkpoint that belongs to `model` and is whole.
fn newest_checkpoint(folder: &Path, model: &Model) -> Option<Checkpoint> {
    checkpoint_files(folder).iter().rev().find_map(|path| {
        let bytes = fs::read(path).ok()?;
        Checkpoint::from_bytes(&bytes, model.trainable()).ok()
    })
}

/// Writes a checkpoint whole or not at all, and removes all but the newest ones.
fn keep_checkpoint(folder: &Path, checkpoint: &Checkpoint) -> std::io::Result<()> {
    let name = format!("epoch-{:06}", checkpoint.n_epochs());
    let temporary = folder.join(format!("{name}.{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(&checkpoint.to_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(format!("{name}.safetensors")))?;
    let files = checkpoint_files(folder);
    let old = files.len().saturating_sub(KEPT_CHECKPOINTS);
    files[..old].iter().try_for_each(fs::remove_file)
}

fn write_metrics(
    out: &Out<kinds::Model>,
    metrics: &[EpochMetrics],
    sources: &[String],
) -> Result<(), StageError> {
    let fixed = [
        "learning_rate",
        "alpha",
        "loss",
        "loss_cross_entropy",
        "loss_dice",
        "loss_consistency",
        "val_dice_vote",
        "val_dice_truth",
        "primary_share",
        "high_quality_share",
        "u_a",
        "u_b",
    ];
    let whole = ["epoch", "n_steps", "n_primary_steps", "n_skipped_steps"]
        .map(|name| (name, Kind::Integer));
    let per_source: Vec<String> =
        sources.iter().map(|source| format!("uncertainty_{source}")).collect();
    let numbers = fixed.into_iter().chain(per_source.iter().map(String::as_str));
    let columns: Vec<_> =
        whole.into_iter().chain(numbers.map(|name| (name, Kind::Number))).collect();
    let mut table = Table::new(&columns);
    for epoch in metrics {
        table.push(metrics_row(epoch, sources.len())).map_err(StageError::new)?;
    }
    write_table(out, "metrics.parquet", &table)?;
    table.write_json_lines(&out.path("metrics.jsonl")).map_err(StageError::new)
}

fn metrics_row(epoch: &EpochMetrics, n_sources: usize) -> Vec<Cell> {
    let quality = epoch.quality.as_ref();
    let whole =
        [epoch.epoch, epoch.n_steps, epoch.n_primary_steps, epoch.n_skipped_steps].map(Cell::from);
    let numbers = [
        Some(epoch.learning_rate),
        Some(epoch.alpha),
        Some(epoch.terms.total),
        Some(epoch.terms.cross_entropy),
        Some(epoch.terms.dice),
        Some(epoch.terms.consistency),
        epoch.dice_vote,
        epoch.dice_truth,
        Some(epoch.primary_share),
        quality.map(|quality| quality.passing_share),
        quality.map(|quality| quality.u_a),
        quality.map(|quality| quality.u_b),
    ];
    let uncertainty = (0..n_sources)
        .map(|source| quality.and_then(|quality| quality.uncertainty.get(source).copied()));
    whole.into_iter().chain(numbers.into_iter().chain(uncertainty).map(Cell::from)).collect()
}
