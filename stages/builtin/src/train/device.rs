//! Where the steps of a training are done.

use std::collections::BTreeMap;

use engine::{Ctx, FailureClass, Refusal, StageError};
use nets::{Accelerator, Backend, Cpu, DeviceFault, NetsError, OptimizerConfig, TrainingConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::trained::environment;

/// The program that trains on NVIDIA GPUs.
const PROGRAM: &str = "pipeline-cuda";

/// Where the steps of a training are done. The bytes that come out differ, so it is part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrainingDevice {
    /// The cores of this machine.
    #[default]
    Cpu,
    /// An NVIDIA GPU, which the training has for itself: one of those that `--gpus` names. The same training gives other
    /// bytes the next time where cuDNN chooses other algorithms.
    Cuda,
}

impl TrainingDevice {
    /// Whether this is what settings leave out.
    pub(crate) fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }

    /// Refuses what the device has no kernels for.
    pub(crate) fn check(self, training: &TrainingConfig) -> Result<(), Refusal> {
        match (self, training.optimizer) {
            (Self::Cuda, OptimizerConfig::Sgd { .. }) => {
                let message = "expected `kind = \"adam\"` with `device = \"cuda\"`: got `sgd`";
                Err(Refusal::new("training.optimizer", message))
            }
            _ => Ok(()),
        }
    }

    /// Graphics processors that a training takes for itself.
    pub(crate) fn gpus(self) -> usize {
        usize::from(self == Self::Cuda)
    }

    /// The program that trains there, unless this one has the devices of `A`.
    pub(crate) fn program<A: Accelerator>(self) -> Option<&'static str> {
        (self == Self::Cuda && !A::PRESENT).then_some(PROGRAM)
    }

    /// Facts of the machine on which the bytes depend.
    pub(crate) fn environment(self, training: &TrainingConfig) -> BTreeMap<String, String> {
        match self {
            Self::Cpu => environment(training.precision),
            Self::Cuda => [("device".to_owned(), "cuda".to_owned())].into(),
        }
    }

    /// What does the steps: a device of `A` that the cell has for itself, or the cores of this machine.
    pub(crate) fn open<A: Accelerator>(
        self,
        training: &TrainingConfig,
        ctx: &Ctx<'_>,
    ) -> Result<Box<dyn Backend>, StageError> {
        if self == Self::Cpu {
            return Ok(Box::new(Cpu));
        }
        let Some(gpu) = ctx.gpus().first() else {
            let error = StageError::new(
                "a training with `device = \"cuda\"` must have a graphics processor: got none",
            );
            return Err(error.hint("name one that the run may use, for example `--gpus 0`"));
        };
        A::open(gpu, training).map_err(of_device)
    }
}

/// A fault of a training as the run takes it: one of the device has a class and advice of its own.
pub(crate) fn of_device(error: NetsError) -> StageError {
    let NetsError::Device { fault, hint, .. } = &error else { return StageError::new(error) };
    let (class, hint) = (*fault, *hint);
    let wrapped = StageError::new(error).of_class(match class {
        DeviceFault::Refused => FailureClass::Stage,
        DeviceFault::Memory => FailureClass::Memory,
        DeviceFault::Failed => FailureClass::Infrastructure,
    });
    match hint {
        Some(hint) => wrapped.hint(hint),
        None => wrapped,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use nets::NoAccelerator;

    use super::*;

    #[test]
    fn a_gpu_asks_for_its_program_and_refuses_what_it_lacks() {
        let (cpu, cuda) = (TrainingDevice::Cpu, TrainingDevice::Cuda);
        assert_eq!((cpu.gpus(), cpu.program::<NoAccelerator>()), (0, None));
        assert_eq!((cuda.gpus(), cuda.program::<NoAccelerator>()), (1, Some("pipeline-cuda")));
        let adam = TrainingConfig::default();
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let sgd = TrainingConfig { optimizer: sgd, ..adam };
        assert!(cpu.check(&sgd).is_ok() && cuda.check(&adam).is_ok());
        assert_eq!(cuda.check(&sgd).unwrap_err().key, "training.optimizer");
        assert_eq!(cuda.environment(&adam)["device"], "cuda");
        assert!(cpu.environment(&adam).contains_key("instructions"));
    }

    #[test]
    fn faults_of_a_device_have_a_class_and_advice() {
        for (fault, class) in [
            (DeviceFault::Refused, FailureClass::Stage),
            (DeviceFault::Memory, FailureClass::Memory),
            (DeviceFault::Failed, FailureClass::Infrastructure),
        ] {
            let source = "why".into();
            let error = of_device(NetsError::Device { fault, hint: Some("do that"), source });
            assert_eq!((error.class(), error.advice()), (Some(class), Some("do that")));
        }
        assert_eq!(of_device(NetsError::Empty { split: "training" }).class(), None);
    }
}
