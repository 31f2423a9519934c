//! The state of a training between two epochs, as bytes and back.

use kernels::{AdamState, Optimizer, OptimizerState, SgdState};

use crate::{
    EpochMetrics, NetsError, Parameters, Trainable,
    container::{Container, Values},
};

/// Format of the bytes; another one is refused.
const FORMAT: &str = "nets checkpoint 1";

/// Learned values and running statistics of one network.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) values: Vec<f32>,
    pub(crate) buffers: Vec<f32>,
}

impl Snapshot {
    pub(crate) fn take(parameters: &Parameters) -> Self {
        let buffers =
            parameters.buffers.iter().flat_map(|buffer| &buffer.values).copied().collect();
        Self { values: parameters.values.clone(), buffers }
    }

    /// Copies into `parameters`, which have the same sizes.
    pub(crate) fn put(&self, parameters: &mut Parameters) {
        parameters.values.copy_from_slice(&self.values);
        let slots = parameters.buffers.iter_mut().flat_map(|buffer| &mut buffer.values);
        slots.zip(&self.buffers).for_each(|(slot, value)| *slot = *value);
    }
}

/// State of one network and its optimizer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartState {
    pub(crate) name: String,
    pub(crate) now: Snapshot,
    pub(crate) optimizer: OptimizerState,
    pub(crate) best: Option<Snapshot>,
}

/// The state of a training after a whole number of epochs.
///
/// Restoring it and going on ends in the same bytes as a training that was never interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub(crate) parts: Vec<PartState>,
    pub(crate) best_epoch: Option<usize>,
    pub(crate) metrics: Vec<EpochMetrics>,
}

impl Checkpoint {
    /// Epochs that are done.
    pub fn n_epochs(&self) -> usize {
        self.metrics.len()
    }

    /// Metrics of the epochs that are done.
    pub fn metrics(&self) -> &[EpochMetrics] {
        &self.metrics
    }

    /// Whether every network of `model` has the sizes of this state.
    fn fits(&self, model: &dyn Trainable) -> bool {
        let parts = model.parts();
        let fits = |parameters: &Parameters, part: &PartState| {
            let sizes = |snapshot: &Snapshot| (snapshot.values.len(), snapshot.buffers.len());
            let n_buffers =
                parameters.buffers.iter().map(|buffer| buffer.values.len()).sum::<usize>();
            let expected = (parameters.values.len(), n_buffers);
            sizes(&part.now) == expected
                && part.best.as_ref().is_none_or(|best| sizes(best) == expected)
        };
        let pairs = parts.iter().zip(&self.parts);
        parts.len() == self.parts.len() && { pairs }.all(|((_, found), part)| fits(found, part))
    }

    /// Refuses a model of another size, and states that are not those of `optimizer`.
    pub(crate) fn check(
        &self,
        model: &dyn Trainable,
        optimizer: &Optimizer,
    ) -> Result<(), NetsError> {
        if self.fits(model) {
            return self.parts.iter().try_for_each(|part| check_state(part, optimizer));
        }
        let sizes = |sizes: Vec<usize>| format!("networks of {sizes:?} parameters");
        Err(NetsError::Entry {
            name: "checkpoint".into(),
            expected: sizes(model.parts().iter().map(|(_, part)| part.values.len()).collect()),
            found: sizes(self.parts.iter().map(|part| part.now.values.len()).collect()),
        })
    }

    /// A safetensors file; equal states give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = Container::default();
        file.note("format", FORMAT);
        let optimizer = self.parts.first().map(|part| &part.optimizer);
        file.note("n_updates", optimizer.map_or(0, OptimizerState::n_steps));
        // Files of Adam say nothing, as those of before there was a choice.
        if let Some(state @ OptimizerState::Sgd(_)) = optimizer {
            file.note("optimizer", state.name());
        }
        file.note("n_epochs", self.metrics.len());
        if let Some(epoch) = self.best_epoch {
            file.note("best_epoch", epoch);
        }
        let rows: Vec<f64> = self.metrics.iter().flat_map(EpochMetrics::to_row).collect();
        let width = rows.len() / self.metrics.len().max(1);
        file.put("metrics", &[self.metrics.len(), width], Values::F64(rows));
        for PartState { name, now, optimizer, best } in &self.parts {
            file.put_f32(format!("{name}/values"), &now.values);
            file.put_f32(format!("{name}/buffers"), &now.buffers);
            for (buffer, values) in optimizer.buffers() {
                file.put_f32(format!("{name}/{}_{buffer}", optimizer.name()), values);
            }
            if let Some(best) = best {
                file.put_f32(format!("{name}/best_values"), &best.values);
                file.put_f32(format!("{name}/best_buffers"), &best.buffers);
            }
        }
        file.to_bytes()
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote, for `model`.
    ///
    /// # Errors
    /// [`NetsError::Container`] for damaged bytes; [`NetsError::Entry`] for another format or for sizes that are
    /// not those of `model`.
    pub fn from_bytes(bytes: &[u8], model: &dyn Trainable) -> Result<Self, NetsError> {
        let mut file = Container::from_bytes(bytes)?;
        let format = file.text("format")?;
        if format != FORMAT {
            let found = format.to_owned();
            return Err(NetsError::Entry {
                name: "format".into(),
                expected: FORMAT.to_owned(),
                found,
            });
        }
        let (n_updates, kind) = (file.number("n_updates")? as u64, read_kind(&file)?);
        let best_epoch = match file.metadata.contains_key("best_epoch") {
            true => Some(file.number("best_epoch")?),
            false => None,
        };
        let metrics = read_metrics(&mut file)?;
        if let Some(epoch) = best_epoch.filter(|&epoch| epoch >= metrics.len()) {
            let expected = format!("an epoch under {}", metrics.len());
            return Err(NetsError::Entry {
                name: "best_epoch".into(),
                expected,
                found: epoch.to_string(),
            });
        }
        let parts = model.parts().into_iter().map(|(name, parameters)| {
            let n_values = parameters.values.len();
            let n_buffers = parameters.buffers.iter().map(|buffer| buffer.values.len()).sum();
            let mut snapshot = |prefix: &str| -> Result<Snapshot, NetsError> {
                Ok(Snapshot {
                    values: file.take_f32(&format!("{name}/{prefix}values"), n_values)?,
                    buffers: file.take_f32(&format!("{name}/{prefix}buffers"), n_buffers)?,
                })
            };
            let now = snapshot("")?;
            let best = best_epoch.map(|_| snapshot("best_")).transpose()?;
            let optimizer = match kind {
                Kind::Adam => OptimizerState::Adam(AdamState {
                    first: file.take_f32(&format!("{name}/adam_first"), n_values)?,
                    second: file.take_f32(&format!("{name}/adam_second"), n_values)?,
                    step: n_updates,
                }),
                Kind::Sgd => {
                    let velocity = format!("{name}/sgd_velocity");
                    // Empty without momentum.
                    let is_empty =
                        matches!(file.tensors.get(&velocity), Some((shape, _)) if *shape == [0]);
                    let len = if is_empty { 0 } else { n_values };
                    let velocity = file.take_f32(&velocity, len)?;
                    OptimizerState::Sgd(SgdState { velocity, step: n_updates })
                }
            };
            Ok(PartState { name: name.to_owned(), now, optimizer, best })
        });
        let parts = parts.collect::<Result<_, NetsError>>()?;
        Ok(Self { parts, best_epoch, metrics })
    }
}

/// Refuses a state that `optimizer` cannot go on with.
fn check_state(part: &PartState, optimizer: &Optimizer) -> Result<(), NetsError> {
    let describe = |state: &OptimizerState| {
        let buffers = state.buffers().into_iter();
        let buffers: Vec<_> = buffers.map(|(name, values)| (name, values.len())).collect();
        format!("the state of {} with {buffers:?}", state.name())
    };
    let expected = describe(&optimizer.start(part.now.values.len()));
    let found = describe(&part.optimizer);
    if expected == found {
        return Ok(());
    }
    Err(NetsError::Entry { name: part.name.clone(), expected, found })
}

/// Optimizers that a file may hold states of.
#[derive(Clone, Copy)]
enum Kind {
    Adam,
    Sgd,
}

fn read_kind(file: &Container) -> Result<Kind, NetsError> {
    match file.metadata.get("optimizer").map(String::as_str) {
        None => Ok(Kind::Adam),
        Some("sgd") => Ok(Kind::Sgd),
        Some(other) => Err(NetsError::Entry {
            name: "optimizer".into(),
            expected: "none or sgd".into(),
            found: other.to_owned(),
        }),
    }
}

fn read_metrics(file: &mut Container) -> Result<Vec<EpochMetrics>, NetsError> {
    let n_epochs = file.number("n_epochs")?;
    let refuse = |found: String| NetsError::Entry {
        name: "metrics".into(),
        expected: format!("F64 [{n_epochs}, n]"),
        found,
    };
    match file.tensors.remove("metrics") {
        Some((_, Values::F64(rows))) if rows.is_empty() && n_epochs == 0 => Ok(Vec::new()),
        Some((shape, Values::F64(rows)))
            if shape.len() == 2 && shape[0] == n_epochs && shape[1] > 0 =>
        {
            rows.chunks_exact(shape[1]).map(EpochMetrics::from_row).collect()
        }
        Some((shape, _)) => Err(refuse(format!("{shape:?}"))),
        None => Err(refuse("none".to_owned())),
    }
}
