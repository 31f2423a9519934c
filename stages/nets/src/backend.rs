//! Where the steps of a training are done: by this machine's cores on the model itself, or on a device with a copy of it.

use kernels::{Optimizer, OptimizerState, clip_factor, gradient_norm};

use crate::{Batch, NetsError, Predictor, StepAt, StepReport, Trainable, TrainingConfig};

/// How weights change along a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The optimizer with the step size of the moment.
    pub optimizer: Optimizer,
    /// Greatest norm of the gradient of all networks together, if there is a limit.
    pub clip_norm: Option<f64>,
}

/// Does whole steps of a training.
///
/// The training owns the model and what its optimizer remembers. A backend with a copy of them is given the present ones
/// by [`load`](Backend::load), and brings them up to date in [`store`](Backend::store), which the training calls after
/// the last step of an epoch: between the two the model's own weights are of no meaning.
pub trait Backend {
    /// Goes on from the weights, running statistics and optimizer states that are given.
    ///
    /// # Errors
    /// [`NetsError::Device`].
    fn load(&mut self, model: &dyn Trainable, states: &[OptimizerState]) -> Result<(), NetsError>;

    /// One step on `batch`: the gradient, and the update along it if there is one.
    ///
    /// # Errors
    /// Those of [`Trainable::step`], and [`NetsError::Device`].
    fn step(
        &mut self,
        learner: (&mut dyn Trainable, &mut [OptimizerState]),
        batch: &Batch,
        at: StepAt,
        rule: &Rule,
    ) -> Result<StepReport, NetsError>;

    /// Brings weights, running statistics and optimizer states up to date.
    ///
    /// # Errors
    /// [`NetsError::Device`].
    fn store(
        &mut self,
        model: &mut dyn Trainable,
        states: &mut [OptimizerState],
    ) -> Result<(), NetsError>;

    /// What predicts with the weights of the last step.
    fn predictor<'a>(&'a mut self, model: &'a mut dyn Trainable) -> &'a mut dyn Predictor;
}

/// The cores of this machine, on the model itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    fn load(&mut self, _: &dyn Trainable, _: &[OptimizerState]) -> Result<(), NetsError> {
        Ok(())
    }

    fn step(
        &mut self,
        (model, states): (&mut dyn Trainable, &mut [OptimizerState]),
        batch: &Batch,
        at: StepAt,
        rule: &Rule,
    ) -> Result<StepReport, NetsError> {
        let report = model.step(batch, at)?;
        if report.has_gradient() {
            update(model, states, rule);
        }
        Ok(report)
    }

    fn store(&mut self, _: &mut dyn Trainable, _: &mut [OptimizerState]) -> Result<(), NetsError> {
        Ok(())
    }

    fn predictor<'a>(&'a mut self, model: &'a mut dyn Trainable) -> &'a mut dyn Predictor {
        model
    }
}

/// Changes all weights of `model` against their gradients.
fn update(model: &mut dyn Trainable, states: &mut [OptimizerState], rule: &Rule) {
    let factor = rule.clip_norm.map_or(1.0, |limit| {
        let parts = model.parts();
        let gradients: Vec<_> = parts.iter().map(|(_, part)| part.gradients.as_slice()).collect();
        clip_factor(gradient_norm(&gradients), limit)
    });
    for ((_, part), state) in model.parts_mut().into_iter().zip(states) {
        state.update(&rule.optimizer, factor, &mut part.values, &part.gradients);
    }
}

/// Devices that trainings can be done on, as far as the program at hand has them.
pub trait Accelerator: Send + Sync + 'static {
    /// Whether there are any.
    const PRESENT: bool;

    /// Opens a device for trainings by `config`; `id` is its name in `CUDA_VISIBLE_DEVICES`, or its number where that is
    /// not set.
    ///
    /// # Errors
    /// [`NetsError::Device`] when it cannot be used, or not for such trainings.
    fn open(id: &str, config: &TrainingConfig) -> Result<Box<dyn Backend>, NetsError>;
}

/// No device: all trainings are done by the cores of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccelerator;

impl Accelerator for NoAccelerator {
    const PRESENT: bool = false;

    fn open(id: &str, _: &TrainingConfig) -> Result<Box<dyn Backend>, NetsError> {
        let source = format!("this program is built without any: {id} is not used").into();
        Err(NetsError::Device { fault: DeviceFault::Refused, hint: None, source })
    }
}

/// Why a device does not do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// It never will: the work is nothing that it can do.
    Refused,
    /// Its memory is too small.
    Memory,
    /// A library, the driver or the device itself failed.
    Failed,
}

impl std::fmt::Display for DeviceFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Refused => "cannot be used",
            Self::Memory => "has too little memory",
            Self::Failed => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use kernels::SgdConfig;

    use super::*;
    use crate::testing::PixelNet;

    #[test]
    fn clipping_shortens_the_step() {
        // Plain descent: a step is the rate times the gradient, (3, 4) of norm 5.
        let optimizer = Optimizer::Sgd(SgdConfig { learning_rate: 0.5, ..SgdConfig::default() });
        for (clip_norm, factor) in [(None, 1.0), (Some(6.0), 1.0), (Some(1.0), 0.2)] {
            let mut model = PixelNet::new(3);
            let n = model.parameters.values.len();
            model.parameters.values.fill(1.0);
            model.parameters.gradients.fill(0.0);
            model.parameters.gradients[..2].copy_from_slice(&[3.0, 4.0]);
            update(&mut model, &mut [optimizer.start(n)], &Rule { optimizer, clip_norm });
            let expected = [1.0 - 1.5 * factor, 1.0 - 2.0 * factor];
            let found = &model.parameters.values[..2];
            let close = |(found, expected): (&f32, &f32)| (found - expected).abs() < 1e-6;
            assert!(found.iter().zip(&expected).all(close), "{clip_norm:?}: {found:?}");
        }
    }
}
