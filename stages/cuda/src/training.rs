//! Trainings on a device: the steps of [`nets::Training`] done by [`UmaStep`].
//!
//! The device keeps weights, running statistics and Adam's moments; the host sees them between epochs. A step is told at
//! once, which waits for it: while the device works on one batch, the training's readers make the next.

use kernels::{AdamConfig, AdamState, Optimizer, OptimizerState, Volume};
use nets::{
    Architecture, Backend, Batch, DeviceFault, NetsError, Parameters, Precision, Predictor,
    QualityConfig, QualityReport, Rule, StepAt, StepReport, TaskShape, Trainable, TrainingConfig,
    Weighting, not_finite,
};

use crate::{CudaError, Device, Moment, Number, StepNumbers, UmaPlan, UmaStep};

/// The steps of a training on a device: of UMA-Net or of a single network, with Adam.
#[derive(Debug)]
pub struct DeviceBackend<D: Device> {
    number: Number,
    adam: AdamConfig,
    shape: TaskShape,
    /// Before the first weights are there.
    idle: Option<D>,
    step: Option<UmaStep<D>>,
}

impl<D: Device> DeviceBackend<D> {
    /// The steps of trainings by `config` on `device`.
    ///
    /// # Errors
    /// [`NetsError::Device`] for another optimizer than Adam.
    pub fn new(device: D, config: &TrainingConfig) -> Result<Self, NetsError> {
        let Optimizer::Adam(adam) = config.optimizer_at(0) else {
            return Err(CudaError::Optimizer.into());
        };
        let number = match config.precision {
            Precision::F32 => Number::F32,
            Precision::Bf16 => Number::Bf16,
        };
        let adam = AdamConfig { max_gradient_norm: config.clip_norm, ..adam };
        let shape = TaskShape { n_channels: 0, n_structures: 0, n_sources: 0 };
        Ok(Self { number, adam, shape, idle: Some(device), step: None })
    }

    /// The step, which is there from the first weights on.
    fn planned(&mut self, volume: Volume) -> Result<&mut UmaStep<D>, NetsError> {
        let step = self.step.as_mut().expect("weights are loaded before the first step");
        step.resize(volume)?;
        Ok(step)
    }
}

/// What a step of this network is planned for; its first batch is not known yet.
fn plan(architecture: &Architecture, number: Number, adam: AdamConfig) -> UmaPlan {
    let volume = Volume { batch: 0, slices: 0, rows: 0, columns: 0 };
    let (shape, loss, quality) = match architecture {
        Architecture::Uma { config, shape } => (shape, config.loss, config.quality),
        Architecture::Single { config, shape } => (shape, config.loss, QualityConfig::default()),
    };
    let TaskShape { n_structures, n_sources, .. } = *shape;
    UmaPlan { number, volume, n_structures, n_sources, loss, quality, adam }
}

impl<D: Device> Backend for DeviceBackend<D> {
    fn load(&mut self, model: &dyn Trainable, states: &[OptimizerState]) -> Result<(), NetsError> {
        let parts: Vec<&Parameters> = model.parts().into_iter().map(|(_, part)| part).collect();
        if let Some(device) = self.idle.take() {
            let plan = plan(&model.architecture(), self.number, self.adam);
            self.shape = model.shape();
            self.step = Some(UmaStep::bare(device, &plan, parts[0], parts.get(1).copied())?);
        }
        let states: Vec<&AdamState> = states.iter().map(adam).collect::<Result<_, _>>()?;
        let step = self.step.as_mut().expect("it was made just now");
        let auem = parts.get(1).copied().zip(states.get(1).copied());
        Ok(step.write((parts[0], states[0]), auem)?)
    }

    fn step(
        &mut self,
        (model, _): (&mut dyn Trainable, &mut [OptimizerState]),
        batch: &Batch,
        at: StepAt,
        rule: &Rule,
    ) -> Result<StepReport, NetsError> {
        batch.check(self.shape)?;
        let Optimizer::Adam(AdamConfig { learning_rate, .. }) = rule.optimizer else {
            return Err(CudaError::Optimizer.into());
        };
        let Weighting { alpha, gate } = model.weighting(at);
        let step = self.planned(batch.volume())?;
        step.step(&batch.images, &batch.labels, Moment { learning_rate, alpha, gate })?;
        let StepNumbers { terms, n_primary, n_auxiliary, gate: seen, .. } = step.numbers()?;
        if let Some(term) = terms.not_finite() {
            let logits = step.logits()?;
            let [heads, sources] = logits.each_ref().map(|maps| maps.iter().map(Vec::as_slice));
            let (heads, sources): (Vec<_>, Vec<_>) = (heads.collect(), sources.collect());
            return Err(not_finite(term, at, batch, &heads, &sources));
        }
        let assesses = matches!(model.architecture(), Architecture::Uma { .. });
        let quality = assesses.then_some(QualityReport {
            n_passing: seen.n_passing,
            u_a: seen.u_a,
            u_a_all: seen.u_a_all,
            u_b: seen.u_b,
            uncertainty: seen.uncertainty,
        });
        let n_cases = batch.n_cases;
        Ok(StepReport { terms, alpha, n_cases, n_primary, n_auxiliary, gate, quality })
    }

    fn store(
        &mut self,
        model: &mut dyn Trainable,
        states: &mut [OptimizerState],
    ) -> Result<(), NetsError> {
        let step = self.step.as_mut().expect("weights are loaded before they are stored");
        let mut parts = model.parts_mut().into_iter().map(|(_, part)| part);
        let backbone = parts.next().expect("a model has a network");
        let found = step.read(backbone, parts.next())?;
        for (state, found) in states.iter_mut().zip(found) {
            *state = OptimizerState::Adam(found);
        }
        Ok(())
    }

    fn predictor<'a>(&'a mut self, _: &'a mut dyn Trainable) -> &'a mut dyn Predictor {
        self
    }
}

impl<D: Device> Predictor for DeviceBackend<D> {
    fn shape(&self) -> TaskShape {
        self.shape
    }

    fn predict(&mut self, images: &[f32], volume: Volume) -> Result<Vec<f32>, NetsError> {
        Ok(self.planned(volume)?.predict(images)?)
    }
}

fn adam(state: &OptimizerState) -> Result<&AdamState, NetsError> {
    match state {
        OptimizerState::Adam(state) => Ok(state),
        OptimizerState::Sgd(_) => Err(CudaError::Optimizer.into()),
    }
}

impl From<CudaError> for NetsError {
    fn from(fault: CudaError) -> Self {
        let kind = match &fault {
            CudaError::Memory { .. } => DeviceFault::Memory,
            CudaError::Call { .. } | CudaError::Launch { .. } => DeviceFault::Failed,
            _ => DeviceFault::Refused,
        };
        Self::Device { fault: kind, hint: fault.hint(), source: Box::new(fault) }
    }
}

/// NVIDIA GPUs.
#[cfg(feature = "cuda")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuda;

#[cfg(feature = "cuda")]
impl nets::Accelerator for Cuda {
    const PRESENT: bool = true;

    fn open(id: &str, config: &TrainingConfig) -> Result<Box<dyn Backend>, NetsError> {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let gpu = crate::gpu::Gpu::open(ordinal(id, visible.as_deref())?)?;
        Ok(Box::new(DeviceBackend::new(gpu, config)?))
    }
}

/// Number of a GPU among those that the driver sees: the place of `id` in `visible`, the list of `CUDA_VISIBLE_DEVICES`,
/// or, without one, `id` itself.
#[cfg(any(test, feature = "cuda"))]
fn ordinal(id: &str, visible: Option<&str>) -> Result<usize, CudaError> {
    let place = match visible {
        Some(visible) => visible.split(',').position(|one| one.trim() == id),
        None => id.parse().ok(),
    };
    place.ok_or_else(|| CudaError::Name { id: id.to_owned(), visible: visible.map(str::to_owned) })
}

#[cfg(test)]
mod tests;
