//! One UNet on given labels: the baselines (majority vote, clean masks) and the mean over several sources.
//!
//! Loss: cross-entropy plus λ times Dice, Eqs. 1 and 3 of arXiv 2304.00466v2 with `w = 1`, `σ = 0`.

use kernels::Volume;

use crate::{
    Architecture, Batch, Execution, LossAt, LossGradients, LossMaps, LossTask, LossTerms,
    NetsError, Parameters, Predictor, SingleConfig, StepAt, StepReport, Streams, TaskShape,
    Trainable, Unet, losses_of_batch,
    model::{not_finite, probabilities, zeros},
};

/// A UNet with one head and the memory of its last step.
#[derive(Debug)]
pub struct SingleNet {
    config: SingleConfig,
    shape: TaskShape,
    unet: Unet,
    gradients: Vec<Vec<Vec<f32>>>,
}

impl SingleNet {
    /// Builds the network; weights are drawn from the stream `nets.init` of `backbone`.
    ///
    /// # Errors
    /// [`NetsError::Config`] if `config` or `shape` is out of range.
    pub fn new(
        config: &SingleConfig,
        shape: TaskShape,
        streams: Streams<'_>,
    ) -> Result<Self, NetsError> {
        config.validate()?;
        shape.validate()?;
        let unet = Unet::new(config.unet(shape), &mut *streams("nets.init", &["backbone"]))?;
        let gradients = vec![vec![Vec::new()]];
        Ok(Self { config: *config, shape, unet, gradients })
    }

    /// The settings it was built with.
    pub fn config(&self) -> &SingleConfig {
        &self.config
    }

    fn losses(&mut self, batch: &Batch) -> Vec<LossTerms> {
        let len = batch.n_pixels() * self.shape.n_structures;
        zeros(&mut self.gradients[0][0], len * batch.n_cases);
        let logits = self.unet.logits(0, 0);
        let places = self.gradients[0][0].chunks_exact_mut(len);
        let tasks = places.enumerate().map(|(case, prediction)| {
            let of_case = case * len..(case + 1) * len;
            let maps = LossMaps {
                prediction: &logits[of_case.clone()],
                uncertainty: Vec::new(),
                labels: batch.labels.iter().map(|map| &map[of_case.clone()]).collect(),
            };
            LossTask { maps, gradients: LossGradients { prediction, uncertainty: Vec::new() } }
        });
        let at = LossAt {
            config: &self.config.loss,
            alpha: 0.0,
            gradient_scale: 1.0 / batch.n_cases as f64,
            n_structures: self.shape.n_structures,
        };
        losses_of_batch(&at, tasks.collect())
    }
}

impl Predictor for SingleNet {
    fn shape(&self) -> TaskShape {
        self.shape
    }

    fn predict(&mut self, images: &[f32], volume: Volume) -> Result<Vec<f32>, NetsError> {
        self.unet.forward(images, volume, false)?;
        Ok(probabilities(self.unet.logits(0, 0)))
    }
}

impl Trainable for SingleNet {
    fn architecture(&self) -> Architecture {
        Architecture::Single { config: self.config, shape: self.shape }
    }

    fn set_execution(&mut self, execution: Execution) {
        self.unet.set_execution(execution);
    }

    fn step(&mut self, batch: &Batch, at: StepAt) -> Result<StepReport, NetsError> {
        batch.check(self.shape)?;
        self.unet.parameters_mut().zero_gradients();
        self.unet.forward(&batch.images, batch.volume(), true)?;
        let losses = self.losses(batch);
        let mut terms = LossTerms::default();
        losses.iter().for_each(|case| terms.add(case, 1.0 / losses.len() as f64));
        if let Some(term) = terms.not_finite() {
            return Err(not_finite(term, at, batch, &[self.unet.logits(0, 0)], &[]));
        }
        self.unet.backward(&self.gradients)?;
        let n_cases = batch.n_cases;
        Ok(StepReport {
            terms,
            alpha: 0.0,
            n_cases,
            n_primary: n_cases,
            n_auxiliary: 0,
            gate: false,
            quality: None,
        })
    }

    fn parts(&self) -> Vec<(&'static str, &Parameters)> {
        vec![("backbone", self.unet.parameters())]
    }

    fn parts_mut(&mut self) -> Vec<(&'static str, &mut Parameters)> {
        vec![("backbone", self.unet.parameters_mut())]
    }
}
