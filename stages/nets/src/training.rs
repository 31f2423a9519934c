//! The training loop: epochs of shuffled, moved batches, validation, the best epoch, checkpoints.
//!
//! Source: arXiv 2304.00466v2, IV-B (Adam, 1e-3, × 0.96 per epoch). Randomness: the order of an epoch is a
//! function of (seed, epoch), the movement of a case of (seed, epoch, case id); nothing depends on what was drawn
//! before. Deviation: epochs, batch size, augmentation and the choice of the epoch are not in the paper.

use std::ops::ControlFlow;

use kernels::{AdamConfig, AdamState};

use crate::{
    Batch, Checkpoint, EpochMetrics, ImageSize, NetsError, Placement, Samples, Selection, StepAt,
    Streams, Trainable, TrainingConfig,
    checkpoint::{PartState, Snapshot},
    learning_rate, mean_dice,
    metrics::EpochSums,
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
    /// Randomness: streams `nets.shuffle` of an epoch, `nets.augment` of an epoch and a case id.
    pub streams: Streams<'a>,
}

impl std::fmt::Debug for Training<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Training").field("config", self.config).finish_non_exhaustive()
    }
}

/// What changes while a training runs, besides the model.
struct State {
    optimizers: Vec<AdamState>,
    best: Option<(usize, Vec<Snapshot>)>,
    metrics: Vec<EpochMetrics>,
}

impl Training<'_> {
    /// Trains `model` from its present weights, or goes on from `resume`; leaves the chosen epoch's weights in it.
    ///
    /// # Errors
    /// Of the config and the data before the first step ([`NetsError::Config`], [`NetsError::Empty`],
    /// [`NetsError::Selection`], [`NetsError::Count`], those of [`Samples::validate`]); of a step
    /// ([`NetsError::NotFinite`], [`NetsError::Unet`]); [`NetsError::Cancelled`] and
    /// [`NetsError::CheckpointSink`] from the hooks.
    pub fn run(
        &self,
        model: &mut dyn Trainable,
        hooks: &mut Hooks<'_>,
        resume: Option<&Checkpoint>,
    ) -> Result<Outcome, NetsError> {
        self.validate(model)?;
        let vote = self.validation.map(Samples::majority_vote);
        if let Some(state) = resume {
            state.check(model)?;
        }
        let mut state = self.restore(model, resume);
        let mut batch = Batch::default();
        for epoch in state.metrics.len()..self.config.epochs {
            model.begin_epoch(&state.metrics);
            let mut metrics = self.run_epoch(model, &mut state, (epoch, &mut batch), hooks)?;
            if let (Some(cases), Some(vote)) = (self.validation, &vote) {
                let found = self.predict(model, cases)?;
                let dice =
                    |masks: &Vec<u8>| mean_dice(&found, masks, cases.n_cases(), cases.n_structures);
                metrics.dice_vote = Some(dice(vote));
                metrics.dice_truth = cases.truth.as_ref().map(dice);
            }
            self.keep_best(model, &mut state, &metrics);
            if let Some(tell) = &mut hooks.epoch {
                tell(&metrics);
            }
            state.metrics.push(metrics);
            if let (Some(keep), true) = (&mut hooks.checkpoint, epoch + 1 < self.config.epochs) {
                keep(&checkpoint(model, &state))
                    .map_err(|source| NetsError::CheckpointSink { epoch, source })?;
            }
        }
        Ok(finish(model, state))
    }

    fn validate(&self, model: &dyn Trainable) -> Result<(), NetsError> {
        self.config.validate()?;
        let empty = |split| Err(NetsError::Empty { split });
        if self.train.n_cases() == 0 {
            return empty("training");
        }
        self.train.validate()?;
        if let Some(cases) = self.validation {
            if cases.n_cases() == 0 {
                return empty("validation");
            }
            cases.validate()?;
        }
        let truth = self.validation.is_some_and(|cases| cases.truth.is_some());
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
        for found in [Some(self.train), self.validation].into_iter().flatten().map(Samples::shape) {
            let named = [
                ("channels", expected.n_channels, found.n_channels),
                ("structures", expected.n_structures, found.n_structures),
            ];
            let pair = named.into_iter().find(|(_, expected, found)| expected != found);
            if let Some((what, expected, found)) = pair {
                return Err(NetsError::Count { what, expected, found });
            }
        }
        let (expected, found) = (expected.n_sources, self.train.labels.len());
        if expected == found {
            Ok(())
        } else {
            Err(NetsError::Count { what: "sources", expected, found })
        }
    }

    /// Puts `resume` into the model, or takes the model as it is.
    fn restore(&self, model: &mut dyn Trainable, resume: Option<&Checkpoint>) -> State {
        let Some(from) = resume else {
            let optimizers =
                model.parts().iter().map(|(_, part)| AdamState::new(part.values.len())).collect();
            return State { optimizers, best: None, metrics: Vec::new() };
        };
        for ((_, parameters), part) in model.parts_mut().into_iter().zip(&from.parts) {
            part.now.put(parameters);
        }
        let adam = |part: &PartState| AdamState {
            first: part.first_moment.clone(),
            second: part.second_moment.clone(),
            step: from.n_updates,
        };
        let best = from.best_epoch.map(|epoch| {
            let snapshots = from.parts.iter().filter_map(|part| part.best.clone()).collect();
            (epoch, snapshots)
        });
        State {
            optimizers: from.parts.iter().map(adam).collect(),
            best,
            metrics: from.metrics.clone(),
        }
    }

    fn run_epoch(
        &self,
        model: &mut dyn Trainable,
        state: &mut State,
        (epoch, batch): (usize, &mut Batch),
        hooks: &mut Hooks<'_>,
    ) -> Result<EpochMetrics, NetsError> {
        let rate = learning_rate(self.config.learning_rate, self.config.learning_rate_decay, epoch);
        let adam_config = AdamConfig { learning_rate: rate, ..AdamConfig::default() };
        let order = self.order(epoch);
        let batches = batches(order.len(), self.config.batch_size);
        let n_steps = batches.len() * self.config.epochs;
        let mut sums = EpochSums::default();
        for (idx, range) in batches.iter().enumerate() {
            let cases: Vec<_> = order[range.clone()]
                .iter()
                .map(|&case| (case, self.placement(epoch, case)))
                .collect();
            batch.fill(self.train, &cases);
            let at = StepAt { epoch, step: epoch * batches.len() + idx, n_steps };
            let report = model.step(batch, at)?;
            sums.add(&report);
            if report.has_gradient() {
                for ((_, parameters), adam) in
                    model.parts_mut().into_iter().zip(&mut state.optimizers)
                {
                    adam.update(&adam_config, &mut parameters.values, &parameters.gradients);
                }
            }
            let progress = Progress { epoch, step: at.step + 1, n_steps };
            if let Some(tell) = &mut hooks.progress
                && tell(progress).is_break()
            {
                return Err(NetsError::Cancelled { epoch, step: at.step });
            }
        }
        Ok(sums.finish(epoch, rate))
    }

    /// The training cases in the order of `epoch`.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut uniform = (self.streams)("nets.shuffle", &[&epoch.to_string()]);
        let mut order: Vec<usize> = (0..self.train.n_cases()).collect();
        for last in (1..order.len()).rev() {
            let other = ((uniform() * (last + 1) as f64) as usize).min(last);
            order.swap(last, other);
        }
        order
    }

    fn placement(&self, epoch: usize, case: usize) -> Placement {
        if !self.config.augmentation.enabled {
            return Placement::default();
        }
        let mut uniform =
            (self.streams)("nets.augment", &[&epoch.to_string(), &self.train.ids[case]]);
        self.config.augmentation.draw(&mut *uniform)
    }

    fn predict(&self, model: &mut dyn Trainable, cases: &Samples) -> Result<Vec<f32>, NetsError> {
        predict_all(model, cases, self.config.batch_size)
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

    fn keep_best(&self, model: &dyn Trainable, state: &mut State, metrics: &EpochMetrics) {
        let epochs: Vec<&EpochMetrics> = state.metrics.iter().chain([metrics]).collect();
        let best = state.best.as_ref().map(|(epoch, _)| self.score(&epochs[..=*epoch]));
        if best.is_none_or(|best| self.score(&epochs) > best) {
            let snapshots = model
                .parts()
                .into_iter()
                .map(|(_, parameters)| Snapshot::take(parameters))
                .collect();
            state.best = Some((metrics.epoch, snapshots));
        }
    }
}

/// Probabilities `[case, row, column, structure]` of all `cases`, `batch_size` at a time.
///
/// # Errors
/// Those of [`Trainable::predict`].
pub fn predict_all(
    model: &mut dyn Trainable,
    cases: &Samples,
    batch_size: usize,
) -> Result<Vec<f32>, NetsError> {
    let mut all = Vec::with_capacity(cases.n_cases() * cases.mask_len());
    for images in cases.images.chunks(cases.image_len().max(1) * batch_size.max(1)) {
        let n_cases = images.len() / cases.image_len().max(1);
        all.extend(
            model
                .predict(images, ImageSize { n_cases, rows: cases.rows, columns: cases.columns })?,
        );
    }
    Ok(all)
}

/// Ranges of `n_cases` cut into `batch_size`; a last batch of one case joins the one before it, because
/// normalization by the statistics of a single case is poor.
fn batches(n_cases: usize, batch_size: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<_> = (0..n_cases)
        .step_by(batch_size)
        .map(|start| start..(start + batch_size).min(n_cases))
        .collect();
    if let [.., before, last] = ranges.as_mut_slice()
        && last.len() == 1
        && batch_size > 1
    {
        before.end = last.end;
        ranges.pop();
    }
    ranges
}

fn checkpoint(model: &dyn Trainable, state: &State) -> Checkpoint {
    let best = |idx: usize| state.best.as_ref().map(|(_, snapshots)| snapshots[idx].clone());
    let parts = model.parts().into_iter().zip(&state.optimizers).enumerate();
    let parts = parts.map(|(idx, ((name, parameters), adam))| PartState {
        name: name.to_owned(),
        now: Snapshot::take(parameters),
        first_moment: adam.first.clone(),
        second_moment: adam.second.clone(),
        best: best(idx),
    });
    Checkpoint {
        parts: parts.collect(),
        n_updates: state.optimizers.first().map_or(0, |adam| adam.step),
        best_epoch: state.best.as_ref().map(|(epoch, _)| *epoch),
        metrics: state.metrics.clone(),
    }
}

/// Puts the best weights into the model and sums up.
fn finish(model: &mut dyn Trainable, state: State) -> Outcome {
    let State { metrics, best, .. } = state;
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
    use crate::testing::{PixelNet, discs, streams};

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
        let training =
            Training { config, train: &train, validation: Some(&validation), streams: &streams };
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

    #[test]
    fn a_checkpoint_of_another_model_or_damaged_is_refused() {
        let (.., kept) = train(&config(2), None);
        let mut other = PixelNet::new(3);
        other.parameters.values.push(0.0);
        assert!(matches!(Checkpoint::from_bytes(&kept[0], &other), Err(NetsError::Entry { .. })));
        let model = PixelNet::new(3);
        let good = Checkpoint::from_bytes(&kept[0], &model).unwrap();
        assert!(good.check(&other).is_err());
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
        let validation = Samples { truth: None, ..discs(2, 8, 2) };
        Training { config, train, validation: Some(&validation), streams: &streams }
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
        let two = Samples { labels: good.labels[..2].to_vec(), ..good.clone() };
        assert!(matches!(
            refused(&config(1), &two),
            NetsError::Count { what: "sources", expected: 3, found: 2 }
        ));
        assert!(matches!(
            refused(&config(1), &Samples::default()),
            NetsError::Empty { split: "training" }
        ));
        let mut bad = good.clone();
        bad.images[70] = f32::INFINITY;
        assert!(matches!(
            refused(&config(1), &bad),
            NetsError::ImageNotFinite { row: 0, column: 6, .. }
        ));
    }

    #[test]
    fn a_loss_that_is_not_finite_stops_with_its_circumstances() {
        let mut model = PixelNet::new(3);
        model.parameters.values[0] = f32::NAN;
        let mut train = discs(3, 8, 1);
        train.labels[2].fill(0);
        let fault = run(&mut model, &config(2), &train, &mut Hooks::default()).unwrap_err();
        let expected = "loss is not finite at step 0 (epoch 0): weighted cross-entropy is NaN, prediction range \
                        [1.000, 0.000], uncertainty range [1.000, 0.000], 3 of 9 masks empty";
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn hooks_see_every_step_and_can_stop() {
        let train = discs(6, 8, 1);
        let mut seen = Vec::new();
        let mut tell = |progress: Progress| {
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

    #[test]
    fn batches_cover_every_case_once_and_none_is_of_one_case() {
        assert_eq!(batches(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(batches(9, 4), [0..4, 4..9]);
        assert_eq!(batches(1, 4).first(), Some(&(0..1)));
        assert_eq!(batches(3, 1), [0..1, 1..2, 2..3]);
        assert!(batches(0, 4).is_empty());
    }
}
