//! The training loop: epochs of shuffled, moved batches, validation, the best epoch, checkpoints.
//!
//! Source: arXiv 2304.00466v2, IV-B (Adam, 1e-3, × 0.96 per epoch). Deviation: epochs, batch size, augmentation and
//! the choice of the epoch are not in the paper.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use kernels::{OptimizerState, Volume};

use crate::{
    Backend, Case, Checkpoint, Cpu, EpochMetrics, Execution, MeanDice, NetsError, Predictor, Rule,
    Samples, Selection, StepAt, Streams, Trainable, TrainingConfig, WindowConfig,
    assembly::{Assembly, Filling},
    checkpoint::{PartState, Snapshot},
    feed::Feed,
    metrics::EpochSums,
    predict_image,
};

/// Where a training stands, told after every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Steps done over the whole training.
    pub step: usize,
    /// Steps of the whole training.
    pub n_steps: usize,
    /// Steps of an epoch.
    pub steps_of_epoch: usize,
    /// Time spent on the steps of this run, without validation and checkpoints.
    pub stepping: Duration,
    /// The part of it in which a step waited for its batch.
    pub waited: Duration,
}

impl Progress {
    /// Share of the steps' time in which they waited for their batches, in [0, 1].
    pub fn waiting_share(&self) -> f64 {
        self.waited.as_secs_f64() / self.stepping.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Whether the step was the last of its epoch.
    pub fn ends_epoch(&self) -> bool {
        self.step == (self.epoch + 1) * self.steps_of_epoch
    }
}

/// Error of a caller's callback.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps a checkpoint, or says why not.
pub type CheckpointHook<'a> = &'a mut dyn FnMut(&Checkpoint) -> Result<(), HookError>;

/// What the caller wants to hear; none of it changes the result.
#[derive(Default)]
pub struct Hooks<'a> {
    /// After every step; breaking cancels the training.
    pub progress: Option<&'a mut dyn FnMut(Progress) -> ControlFlow<()>>,
    /// After every epoch.
    pub epoch: Option<&'a mut dyn FnMut(&EpochMetrics)>,
    /// After every epoch but the last: a state to resume from.
    pub checkpoint: Option<CheckpointHook<'a>>,
}

impl std::fmt::Debug for Hooks<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// What a training came to; the model holds the weights of the chosen epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Metrics of all epochs.
    pub metrics: Vec<EpochMetrics>,
    /// The chosen epoch, from 0.
    pub best_epoch: usize,
    /// Steps in which the primary head was trained, over all epochs.
    pub n_primary_steps: usize,
    /// Steps in which the primary head was trained, up to and with the chosen epoch.
    pub n_primary_steps_at_best: usize,
    /// Steps without a gradient.
    pub n_skipped_steps: usize,
    /// All steps.
    pub n_steps: usize,
    /// First epoch in which the quality gate acted.
    pub first_gate_epoch: Option<usize>,
    /// Whether the weights that are kept ever saw a gradient through the primary head. If not, every case went to
    /// the auxiliary head, predictions are those of random weights and no score of them means anything.
    pub primary_trained: bool,
}

/// A training: its settings, its data and its randomness.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// Settings.
    pub config: &'a TrainingConfig,
    /// Training cases.
    pub train: &'a Samples,
    /// Validation cases; none is possible with [`Selection::Last`].
    pub validation: Option<&'a Samples>,
    /// Whether blocks are computed again on the way back, see [`Execution::recompute`]; changes no byte.
    pub recompute: bool,
    /// Threads that read and move the cases of the next steps, at least 1; changes no byte.
    pub readers: usize,
    /// Randomness: streams `nets.shuffle` of an epoch, `nets.augment` and `nets.patch` of an epoch and a case id.
    pub streams: Streams<'a>,
}

impl std::fmt::Debug for Training<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Training").field("config", self.config).finish_non_exhaustive()
    }
}

/// The way by which batches come.
struct Line {
    feed: Feed,
    steps_of_epoch: usize,
    stepping: Duration,
}

/// What changes while a training runs.
struct State<'a> {
    backend: &'a mut dyn Backend,
    model: &'a mut dyn Trainable,
    optimizers: Vec<OptimizerState>,
    best: Option<(usize, Vec<Snapshot>)>,
    metrics: Vec<EpochMetrics>,
}

impl Training<'_> {
    /// Trains `model` from its present weights, or goes on from `resume`; leaves the chosen epoch's weights in it.
    ///
    /// # Errors
    /// Those of [`Training::run_on`] but for those of a device.
    pub fn run(
        &self,
        model: &mut dyn Trainable,
        hooks: &mut Hooks<'_>,
        resume: Option<&Checkpoint>,
    ) -> Result<Outcome, NetsError> {
        self.run_on(&mut Cpu, model, hooks, resume)
    }

    /// As [`Training::run`], with the steps and the predictions of `backend`.
    ///
    /// # Errors
    /// Of the config and the data before the first step ([`NetsError::Config`], [`NetsError::Empty`],
    /// [`NetsError::Selection`], [`NetsError::Count`], those of [`Samples::load`]); of a step
    /// ([`NetsError::NotFinite`], [`NetsError::Unet`], those of [`Samples::case`]); [`NetsError::Device`] of the
    /// backend; [`NetsError::Cancelled`] and [`NetsError::CheckpointSink`] from the hooks.
    pub fn run_on(
        &self,
        backend: &mut dyn Backend,
        model: &mut dyn Trainable,
        hooks: &mut Hooks<'_>,
        resume: Option<&Checkpoint>,
    ) -> Result<Outcome, NetsError> {
        self.validate(model)?;
        if let Some(state) = resume {
            state.check(model, &self.config.optimizer_at(0))?;
        }
        let (precision, recompute) = (self.config.precision, self.recompute);
        model.set_execution(Execution { precision, recompute });
        let mut state = self.restore(backend, model, resume);
        let assembly = Assembly::new(self.config, self.train, self.streams);
        std::thread::scope(|scope| {
            let steps = assembly.steps(state.metrics.len()..self.config.epochs);
            let feed = Feed::start(scope, self.readers.max(1), steps, Filling::put);
            let (steps_of_epoch, stepping) = (assembly.n_steps(), Duration::ZERO);
            let mut line = Line { feed, steps_of_epoch, stepping };
            self.run_epochs(&mut state, &mut line, hooks)
        })?;
        Ok(finish(state))
    }

    fn run_epochs(
        &self,
        state: &mut State<'_>,
        line: &mut Line,
        hooks: &mut Hooks<'_>,
    ) -> Result<(), NetsError> {
        let first = state.metrics.len();
        for epoch in first..self.config.epochs {
            let changed = state.model.begin_epoch(&state.metrics);
            if changed || epoch == first {
                state.backend.load(state.model, &state.optimizers)?;
            }
            let mut metrics = self.run_epoch(state, (epoch, &mut *line), hooks)?;
            state.backend.store(state.model, &mut state.optimizers)?;
            if let Some(cases) = self.validation {
                self.measure(state.backend.predictor(state.model), cases, &mut metrics)?;
            }
            self.keep_best(state, &metrics);
            if let Some(tell) = &mut hooks.epoch {
                tell(&metrics);
            }
            state.metrics.push(metrics);
            if let (Some(keep), true) = (&mut hooks.checkpoint, epoch + 1 < self.config.epochs) {
                keep(&checkpoint(state))
                    .map_err(|source| NetsError::CheckpointSink { epoch, source })?;
            }
        }
        Ok(())
    }

    fn validate(&self, model: &dyn Trainable) -> Result<(), NetsError> {
        self.config.validate()?;
        let empty = |split| Err(NetsError::Empty { split });
        if self.train.n_cases() == 0 {
            return empty("training");
        }
        if self.validation.is_some_and(|cases| cases.n_cases() == 0) {
            return empty("validation");
        }
        if let Some(patch) = self.config.patch {
            let (size, whole) = (patch.size, self.train.outline().size);
            if size.iter().zip(&whole).any(|(side, whole)| side > whole) {
                return Err(NetsError::Patch { size, whole });
            }
        }
        let truth = self.validation.is_some_and(|cases| cases.outline().has_truth);
        match self.config.selection {
            Selection::Vote if self.validation.is_none() => {
                return Err(NetsError::Selection { metric: "vote", needs: "validation cases" });
            }
            Selection::Truth if !truth => {
                return Err(NetsError::Selection {
                    metric: "truth",
                    needs: "clean masks of the validation cases",
                });
            }
            _ => {}
        }
        let expected = model.shape();
        let sets = [Some(self.train), self.validation].into_iter().flatten();
        for found in sets.map(|cases| cases.outline().shape()) {
            let named = [
                ("channels", expected.n_channels, found.n_channels),
                ("structures", expected.n_structures, found.n_structures),
            ];
            let pair = named.into_iter().find(|(_, expected, found)| expected != found);
            if let Some((what, expected, found)) = pair {
                return Err(NetsError::Count { what, expected, found });
            }
        }
        let (expected, found) = (expected.n_sources, self.train.outline().n_sources);
        if expected != found {
            return Err(NetsError::Count { what: "sources", expected, found });
        }
        self.validation.map_or(Ok(()), |cases| cases.load(self.readers))?;
        self.train.load(self.readers)
    }

    /// Puts `resume` into the model, or takes the model as it is.
    fn restore<'a>(
        &self,
        backend: &'a mut dyn Backend,
        model: &'a mut dyn Trainable,
        resume: Option<&Checkpoint>,
    ) -> State<'a> {
        let Some(from) = resume else {
            let optimizer = self.config.optimizer_at(0);
            let optimizers =
                model.parts().iter().map(|(_, part)| optimizer.start(part.values.len())).collect();
            return State { backend, model, optimizers, best: None, metrics: Vec::new() };
        };
        for ((_, parameters), part) in model.parts_mut().into_iter().zip(&from.parts) {
            part.now.put(parameters);
        }
        let best = from.best_epoch.map(|epoch| {
            let snapshots = from.parts.iter().filter_map(|part| part.best.clone()).collect();
            (epoch, snapshots)
        });
        State {
            backend,
            model,
            optimizers: from.parts.iter().map(|part| part.optimizer.clone()).collect(),
            best,
            metrics: from.metrics.clone(),
        }
    }

    fn run_epoch(
        &self,
        state: &mut State<'_>,
        (epoch, line): (usize, &mut Line),
        hooks: &mut Hooks<'_>,
    ) -> Result<EpochMetrics, NetsError> {
        let (optimizer, clip_norm) = (self.config.optimizer_at(epoch), self.config.clip_norm);
        let rule = Rule { optimizer, clip_norm };
        let n_steps = line.steps_of_epoch * self.config.epochs;
        let mut sums = EpochSums::default();
        for idx in 0..line.steps_of_epoch {
            let at = StepAt { epoch, step: epoch * line.steps_of_epoch + idx, n_steps };
            let start = Instant::now();
            let batch = line.feed.take()?.expect("there is a batch for every step");
            let learner: (&mut dyn Trainable, _) = (&mut *state.model, &mut *state.optimizers);
            let report = state.backend.step(learner, &batch, at, &rule)?;
            line.feed.give_back(batch);
            sums.add(&report);
            line.stepping += start.elapsed();
            let progress = Progress {
                epoch,
                step: at.step + 1,
                n_steps,
                steps_of_epoch: line.steps_of_epoch,
                stepping: line.stepping,
                waited: line.feed.waited(),
            };
            if let Some(tell) = &mut hooks.progress
                && tell(progress).is_break()
            {
                return Err(NetsError::Cancelled { epoch, step: at.step });
            }
        }
        Ok(sums.finish(epoch, self.config.learning_rate_at(epoch)))
    }

    /// Scores what `predictor` finds in `cases`: by windows of the size of a patch if there are patches, else by batches.
    fn measure(
        &self,
        predictor: &mut dyn Predictor,
        cases: &Samples,
        metrics: &mut EpochMetrics,
    ) -> Result<(), NetsError> {
        let (mut vote, mut truth) = (MeanDice::default(), MeanDice::default());
        let n_structures = cases.outline().n_structures;
        let by_windows = self
            .config
            .patch
            .map(|patch| WindowConfig { size: patch.size, overlap: patch.overlap });
        predict_each(
            predictor,
            cases,
            self.config.batch_size,
            by_windows.as_ref(),
            |case, found| {
                vote.add(found, &case.majority_vote(), n_structures);
                if let Some(mask) = &case.truth {
                    truth.add(found, mask, n_structures);
                }
            },
        )?;
        metrics.dice_vote = Some(vote.mean());
        metrics.dice_truth = cases.outline().has_truth.then(|| truth.mean());
        Ok(())
    }

    /// Score of the last epoch of `epochs`; none for a Dice before the primary head has learned something.
    fn score(&self, epochs: &[&EpochMetrics]) -> Option<f64> {
        let last = epochs.last()?;
        let trained = epochs.iter().any(|epoch| epoch.n_primary_steps > 0);
        match self.config.selection {
            Selection::Vote => last.dice_vote.filter(|_| trained),
            Selection::Truth => last.dice_truth.filter(|_| trained),
            Selection::Last => Some(last.epoch as f64),
        }
    }

    fn keep_best(&self, state: &mut State<'_>, metrics: &EpochMetrics) {
        let epochs: Vec<&EpochMetrics> = state.metrics.iter().chain([metrics]).collect();
        let best = state.best.as_ref().map(|(epoch, _)| self.score(&epochs[..=*epoch]));
        if best.is_none_or(|best| self.score(&epochs) > best) {
            let parts = state.model.parts().into_iter();
            let snapshots = parts.map(|(_, parameters)| Snapshot::take(parameters)).collect();
            state.best = Some((metrics.epoch, snapshots));
        }
    }
}

/// Gives `take` every case with its probabilities `[slice, row, column, structure]`, in order.
///
/// Without `windows`, `batch_size` cases go through the network together.
///
/// # Errors
/// Those of [`Predictor::predict`] and [`Samples::case`].
pub(crate) fn predict_each(
    predictor: &mut dyn Predictor,
    cases: &Samples,
    batch_size: usize,
    windows: Option<&WindowConfig>,
    mut take: impl FnMut(&Case, &[f32]),
) -> Result<(), NetsError> {
    let outline = cases.outline();
    let ([slices, rows, columns], mask_len) = (outline.size, outline.mask_len());
    if windows.is_some() {
        return cases.each(|_, case| {
            take(case, &predict_image(predictor, &case.image, outline.size, windows)?);
            Ok(())
        });
    }
    let n_cases = cases.n_cases();
    let mut images = Vec::new();
    for start in (0..n_cases).step_by(batch_size.max(1)) {
        let together = start..(start + batch_size.max(1)).min(n_cases);
        let batch: Vec<Arc<Case>> =
            together.map(|nth| cases.case(nth)).collect::<Result<_, _>>()?;
        images.clear();
        batch.iter().for_each(|case| images.extend_from_slice(&case.image));
        let volume = Volume { batch: batch.len(), slices, rows, columns };
        let found = predictor.predict(&images, volume)?;
        batch.iter().zip(found.chunks_exact(mask_len)).for_each(|(case, found)| take(case, found));
    }
    Ok(())
}

fn checkpoint(state: &State<'_>) -> Checkpoint {
    let best = |idx: usize| state.best.as_ref().map(|(_, snapshots)| snapshots[idx].clone());
    let parts = state.model.parts().into_iter().zip(&state.optimizers).enumerate();
    let parts = parts.map(|(idx, ((name, parameters), optimizer))| PartState {
        name: name.to_owned(),
        now: Snapshot::take(parameters),
        optimizer: optimizer.clone(),
        best: best(idx),
    });
    Checkpoint {
        parts: parts.collect(),
        best_epoch: state.best.as_ref().map(|(epoch, _)| *epoch),
        metrics: state.metrics.clone(),
    }
}

/// Puts the best weights into the model and sums up.
fn finish(state: State<'_>) -> Outcome {
    let State { model, metrics, best, .. } = state;
    let mut best_epoch = metrics.len().saturating_sub(1);
    if let Some((epoch, snapshots)) = best {
        best_epoch = epoch;
        for ((_, parameters), snapshot) in model.parts_mut().into_iter().zip(&snapshots) {
            snapshot.put(parameters);
        }
    }
    let primary =
        |epochs: &[EpochMetrics]| epochs.iter().map(|epoch| epoch.n_primary_steps).sum::<usize>();
    let at_best = primary(&metrics[..(best_epoch + 1).min(metrics.len())]);
    Outcome {
        best_epoch,
        n_primary_steps: primary(&metrics),
        n_primary_steps_at_best: at_best,
        n_skipped_steps: metrics.iter().map(|epoch| epoch.n_skipped_steps).sum(),
        n_steps: metrics.iter().map(|epoch| epoch.n_steps).sum(),
        first_gate_epoch: metrics.iter().find(|epoch| epoch.gate).map(|epoch| epoch.epoch),
        primary_trained: at_best > 0,
        metrics,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{
        OptimizerConfig,
        testing::{PixelNet, discs, drawn_discs, in_memory, kept as keeping, streams},
    };

    fn config(epochs: usize) -> TrainingConfig {
        TrainingConfig { epochs, batch_size: 3, learning_rate: 0.05, ..TrainingConfig::default() }
    }

    /// Trains on seven discs; gives the model, the outcome and all checkpoints as bytes.
    fn train(config: &TrainingConfig, resume: Option<&[u8]>) -> (PixelNet, Outcome, Vec<Vec<u8>>) {
        let (train, validation) = (discs(7, 8, 1), discs(2, 8, 2));
        let mut model = PixelNet::new(3);
        let resume = resume.map(|bytes| Checkpoint::from_bytes(bytes, &model).unwrap());
        let mut kept = Vec::new();
        let mut keep = |checkpoint: &Checkpoint| {
            kept.push(checkpoint.to_bytes());
            Ok(())
        };
        let mut hooks = Hooks { checkpoint: Some(&mut keep), ..Hooks::default() };
        let streams = streams(5);
        let training = Training {
            config,
            train: &train,
            validation: Some(&validation),
            recompute: false,
            readers: 2,
            streams: &streams,
        };
        let outcome = training.run(&mut model, &mut hooks, resume.as_ref()).unwrap();
        (model, outcome, kept)
    }

    #[test]
    fn a_resumed_training_ends_in_the_same_bytes() {
        let (whole_model, whole, whole_kept) = train(&config(4), None);
        let (resumed_model, resumed, resumed_kept) = train(&config(4), Some(&whole_kept[1]));
        assert_eq!(whole.metrics.len(), 4);
        assert_eq!(resumed, whole);
        assert_eq!(resumed_kept, whole_kept[2..]);
        assert_eq!(resumed_model.parameters, whole_model.parameters);
        let done = train(&config(3), Some(&whole_kept[2]));
        assert_eq!(done.1.metrics, whole.metrics[..3]);
    }

    fn sgd(momentum: f64) -> OptimizerConfig {
        OptimizerConfig::Sgd { momentum, nesterov: momentum > 0.0, weight_decay: 1e-4 }
    }

    #[test]
    fn a_resumed_training_with_sgd_ends_in_the_same_bytes() {
        for momentum in [0.0, 0.9] {
            let optimizer = sgd(momentum);
            let config = TrainingConfig { optimizer, clip_norm: Some(0.1), ..config(3) };
            let (whole_model, whole, kept) = train(&config, None);
            let (resumed_model, resumed, resumed_kept) = train(&config, Some(&kept[0]));
            assert_eq!((resumed, &resumed_kept[..]), (whole, &kept[1..]));
            assert_eq!(resumed_model.parameters, whole_model.parameters);
        }
    }

    #[test]
    fn a_checkpoint_of_another_model_or_damaged_is_refused() {
        let (.., kept) = train(&config(2), None);
        let mut other = PixelNet::new(3);
        other.parameters.values.push(0.0);
        assert!(matches!(Checkpoint::from_bytes(&kept[0], &other), Err(NetsError::Entry { .. })));
        let model = PixelNet::new(3);
        let good = Checkpoint::from_bytes(&kept[0], &model).unwrap();
        let optimizer = config(2).optimizer_at(0);
        assert!(good.check(&other, &optimizer).is_err() && good.check(&model, &optimizer).is_ok());
        let sgd = sgd(0.9).with_learning_rate(0.05);
        assert!(matches!(good.check(&model, &sgd), Err(NetsError::Entry { .. })));
        assert_eq!(good.to_bytes(), kept[0]);
        for end in (0..kept[0].len()).step_by(7) {
            assert!(Checkpoint::from_bytes(&kept[0][..end], &model).is_err());
        }
    }

    #[test]
    fn the_earliest_of_the_best_epochs_is_kept() {
        let still = TrainingConfig { learning_rate: 1e-12, ..config(3) };
        assert_eq!(train(&still, None).1.best_epoch, 0);
        let last = TrainingConfig { selection: Selection::Last, ..still };
        assert_eq!(train(&last, None).1.best_epoch, 2);
        let (model, outcome, kept) = train(&config(6), None);
        let scores: Vec<f64> = outcome.metrics.iter().filter_map(|epoch| epoch.dice_vote).collect();
        let best = scores.iter().copied().fold(f64::MIN, f64::max);
        assert_eq!(scores.iter().position(|&score| score == best), Some(outcome.best_epoch));
        assert!(kept.len() == 5 && model.parameters.values[0] > 0.0);
    }

    fn run(
        model: &mut PixelNet,
        config: &TrainingConfig,
        train: &Samples,
        hooks: &mut Hooks<'_>,
    ) -> Result<Outcome, NetsError> {
        let streams = streams(5);
        let (mut outline, mut cases) = drawn_discs(2, 8, 2);
        outline.has_truth = false;
        cases.iter_mut().for_each(|case| case.truth = None);
        let validation = &in_memory((outline, cases));
        let validation = Some(validation);
        Training { config, train, validation, recompute: false, readers: 1, streams: &streams }
            .run(model, hooks, None)
    }

    #[test]
    fn a_primary_head_without_a_step_is_reported() {
        let train = discs(6, 8, 1);
        let mut model = PixelNet { first_primary_step: usize::MAX, ..PixelNet::new(3) };
        let outcome = run(&mut model, &config(3), &train, &mut Hooks::default()).unwrap();
        assert!(!outcome.primary_trained);
        assert_eq!((outcome.n_steps, outcome.n_skipped_steps, outcome.n_primary_steps), (6, 6, 0));
        assert_eq!(model.parameters.values, [0.0, 0.0]);
        let mut model = PixelNet { first_primary_step: 3, ..PixelNet::new(3) };
        let outcome = run(&mut model, &config(3), &train, &mut Hooks::default()).unwrap();
        assert!(outcome.primary_trained && outcome.best_epoch > 0);
        assert_eq!((outcome.n_skipped_steps, outcome.n_primary_steps), (3, 3));
    }

    #[test]
    fn faults_come_before_the_first_step() {
        let mut model = PixelNet::new(3);
        let good = discs(4, 8, 1);
        let mut refused = |config: &TrainingConfig, train: &Samples| {
            run(&mut model, config, train, &mut Hooks::default()).unwrap_err()
        };
        let truth = TrainingConfig { selection: Selection::Truth, ..config(1) };
        assert!(matches!(refused(&truth, &good), NetsError::Selection { metric: "truth", .. }));
        let patch = crate::PatchConfig { size: [1, 9, 8], foreground_share: 0.3, overlap: 0.0 };
        let patched = TrainingConfig { patch: Some(patch), ..config(1) };
        assert!(matches!(refused(&patched, &good), NetsError::Patch { whole: [1, 8, 8], .. }));
        let (mut outline, mut cases) = drawn_discs(4, 8, 1);
        outline.n_sources = 2;
        cases.iter_mut().for_each(|case| case.labels.truncate(2));
        let two = in_memory((outline, cases));
        assert!(matches!(
            refused(&config(1), &two),
            NetsError::Count { what: "sources", expected: 3, found: 2 }
        ));
        assert!(matches!(
            refused(&config(1), &discs(0, 8, 1)),
            NetsError::Empty { split: "training" }
        ));
        for n_kept in [0, 4] {
            let (outline, mut cases) = drawn_discs(4, 8, 1);
            cases[1].image[6] = f32::INFINITY;
            assert!(matches!(
                refused(&config(1), &keeping((outline, cases), n_kept)),
                NetsError::ImageNotFinite { row: 0, column: 6, .. }
            ));
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_stops_with_its_circumstances() {
        let mut model = PixelNet::new(3);
        model.parameters.values[0] = f32::NAN;
        let (outline, mut cases) = drawn_discs(3, 8, 1);
        cases.iter_mut().for_each(|case| case.labels[2].fill(0));
        let train = in_memory((outline, cases));
        let fault = run(&mut model, &config(2), &train, &mut Hooks::default()).unwrap_err();
        let expected = "loss is not finite at step 0 (epoch 0): weighted cross-entropy is NaN, prediction range \
                        [1.000, 0.000], uncertainty range [1.000, 0.000], 3 of 9 masks empty";
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn the_time_of_the_steps_leaves_out_what_is_between_epochs() {
        let mut last = None;
        let mut tell = |progress: Progress| {
            last = Some(progress);
            ControlFlow::Continue(())
        };
        let mut sleep = |_: &EpochMetrics| std::thread::sleep(Duration::from_millis(150));
        let mut hooks =
            Hooks { progress: Some(&mut tell), epoch: Some(&mut sleep), ..Hooks::default() };
        let start = Instant::now();
        run(&mut PixelNet::new(3), &config(3), &discs(6, 8, 1), &mut hooks).unwrap();
        let (whole, last) = (start.elapsed(), last.unwrap());
        assert!(last.ends_epoch() && last.waited <= last.stepping);
        assert!(last.stepping + Duration::from_millis(450) <= whole, "{last:?} {whole:?}");
    }

    #[test]
    fn hooks_see_every_step_and_can_stop() {
        let train = discs(6, 8, 1);
        let mut seen = Vec::new();
        let mut tell = |progress: Progress| {
            assert!((0.0..=1.0).contains(&progress.waiting_share()));
            assert_eq!(progress.ends_epoch(), progress.step.is_multiple_of(2));
            seen.push((progress.epoch, progress.step, progress.n_steps));
            if progress.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut hooks = Hooks { progress: Some(&mut tell), ..Hooks::default() };
        let fault = run(&mut PixelNet::new(3), &config(2), &train, &mut hooks).unwrap_err();
        assert!(matches!(fault, NetsError::Cancelled { epoch: 1, step: 2 }));
        assert_eq!(seen, [(0, 1, 4), (0, 2, 4), (1, 3, 4)]);
        let mut refuse = |_: &Checkpoint| Err("disk is full".into());
        let mut hooks = Hooks { checkpoint: Some(&mut refuse), ..Hooks::default() };
        let fault = run(&mut PixelNet::new(3), &config(2), &train, &mut hooks).unwrap_err();
        assert!(matches!(fault, NetsError::CheckpointSink { epoch: 0, .. }));
    }
}
