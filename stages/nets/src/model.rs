//! What the training loop needs of a model, and what a step tells.

use kernels::Volume;
use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Batch, EpochMetrics, Execution, LossTerms, NetsError, Parameters, TaskShape,
    real::sigmoid,
};

/// Opens the random stream of a purpose and its parts; numbers are uniform in `[0, 1)`.
///
/// The same arguments must give the same numbers at any time: training draws by (epoch, case id) only, so an
/// interrupted training goes on as if nothing had happened.
pub type Streams<'a> = &'a (dyn Fn(&str, &[&str]) -> Box<dyn FnMut() -> f64> + Sync);

/// The moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepAt {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step over the whole training, from 0.
    pub step: usize,
    /// Steps of the whole training.
    pub n_steps: usize,
}

/// What the quality assessment saw in a step; means over the cases of the batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    /// Cases under both thresholds, whether the gate acts or not.
    pub n_passing: usize,
    /// Mean of `u_a`.
    pub u_a: f64,
    /// Mean of `u_a` over the whole image, whatever the domain.
    pub u_a_all: f64,
    /// Mean of `u_b`.
    pub u_b: f64,
    /// Mean uncertainty σ per source, in [0, 1].
    pub uncertainty: Vec<f64>,
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Mean of the loss over the cases that trained something; zeros if none did.
    pub terms: LossTerms,
    /// Weight of the consistency term.
    pub alpha: f64,
    /// Cases of the batch.
    pub n_cases: usize,
    /// Cases that trained the primary head.
    pub n_primary: usize,
    /// Cases that trained the auxiliary head.
    pub n_auxiliary: usize,
    /// Whether the quality gate acted; without it every case trains the primary head.
    pub gate: bool,
    /// The quality assessment, where there is one.
    pub quality: Option<QualityReport>,
}

impl StepReport {
    /// Whether there is a gradient to take a step along; without one the optimizer must not move.
    pub fn has_gradient(&self) -> bool {
        self.n_primary + self.n_auxiliary > 0
    }
}

/// What of a step depends on the moment alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weighting {
    /// Weight of the consistency term.
    pub alpha: f64,
    /// Whether the quality gate acts.
    pub gate: bool,
}

/// What finds structures in images: a model, or a device with a copy of one.
pub trait Predictor {
    /// Channels, structures and sources of its cases.
    fn shape(&self) -> TaskShape;

    /// Probabilities `[case, slice, row, column, structure]` of the primary head, for images
    /// `[case, slice, row, column, channel]` of axes `volume`.
    ///
    /// # Errors
    /// [`NetsError::Unet`] for sizes that do not fit, [`NetsError::Device`] of a device.
    fn predict(&mut self, images: &[f32], volume: Volume) -> Result<Vec<f32>, NetsError>;
}

/// A model that the training loop can train.
pub trait Trainable: Predictor {
    /// All that is needed to build it again, but its weights.
    fn architecture(&self) -> Architecture;

    /// Sets how all later passes are computed.
    fn set_execution(&mut self, execution: Execution);

    /// Prepares for the epoch after those of `history`; says whether that changed a weight.
    fn begin_epoch(&mut self, history: &[EpochMetrics]) -> bool {
        let _ = history;
        false
    }

    /// What the moment says of a step in the epoch that was begun.
    fn weighting(&self, at: StepAt) -> Weighting {
        let _ = at;
        Weighting::default()
    }

    /// Sets the gradients of all parts to those of `batch`; the parameters stay.
    ///
    /// # Errors
    /// [`NetsError::NotFinite`] for a loss that is NaN or infinite, [`NetsError::Unet`] for sizes that do not fit.
    fn step(&mut self, batch: &Batch, at: StepAt) -> Result<StepReport, NetsError>;

    /// Names and parameters of its networks, in a fixed order.
    fn parts(&self) -> Vec<(&'static str, &Parameters)>;

    /// As [`Trainable::parts`], to be changed in place.
    fn parts_mut(&mut self) -> Vec<(&'static str, &mut Parameters)>;
}

/// Probabilities of logits.
pub(crate) fn probabilities(logits: &[f32]) -> Vec<f32> {
    let mut values = vec![0.0; logits.len()];
    kernels::sigmoids(logits, &mut values);
    values
}

/// Makes `buffer` hold `len` zeros without giving memory back.
pub(crate) fn zeros(buffer: &mut Vec<f32>, len: usize) {
    buffer.clear();
    buffer.resize(len, 0.0);
}

/// The typed refusal of a loss that is not finite, with the ranges of the logits that went in.
pub fn not_finite(
    (term, value): (&'static str, f64),
    at: StepAt,
    batch: &Batch,
    prediction: &[&[f32]],
    uncertainty: &[&[f32]],
) -> NetsError {
    let range = |maps: &[&[f32]]| {
        let finite = maps.iter().flat_map(|map| map.iter()).filter(|x| x.is_finite());
        let (low, high) = finite
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
        if low > high { 1.0..=0.0 } else { sigmoid(f64::from(low))..=sigmoid(f64::from(high)) }
    };
    let (n_masks, n_empty) = batch.count_empty();
    NetsError::NotFinite {
        epoch: at.epoch,
        step: at.step,
        term,
        value,
        prediction: range(prediction),
        uncertainty: range(uncertainty),
        n_empty,
        n_masks,
    }
}
