//! What can go wrong in a network, its training and its files.

use std::ops::RangeInclusive;

use crate::DeviceFault;

/// An error of this crate. Variants hold data; the caller adds stage and case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetsError {
    /// A field of a config is outside its range.
    #[error("`{field}` is out of range: expected {expected}, got {found}")]
    Config {
        /// Dotted name of the field, for example `quality.tau_a`.
        field: &'static str,
        /// The accepted range in words.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// A buffer has not the length that its shape asks for.
    #[error("`{what}` has {found} values, shape {axes} = {shape:?} needs {expected}")]
    Shape {
        /// Which buffer.
        what: String,
        /// Names of the axes.
        axes: &'static str,
        /// Sizes of the axes.
        shape: Vec<usize>,
        /// Product of the sizes.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// Two things that must agree in number do not.
    #[error("`{what}`: expected {expected}, found {found}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The number needed.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// An image holds a number that is not finite.
    #[error(
        "image of case `{case}` is not finite at slice {slice}, row {row}, column {column}, channel {channel}"
    )]
    ImageNotFinite {
        /// Id of the case.
        case: String,
        /// Slice of the first bad pixel.
        slice: usize,
        /// Row of the first bad pixel.
        row: usize,
        /// Column of the first bad pixel.
        column: usize,
        /// Channel of the first bad pixel.
        channel: usize,
    },
    /// A label holds a value other than 0 and 1.
    #[error("label of source {source_idx} of case `{case}` must be 0 or 1: got {found}")]
    LabelValue {
        /// Id of the case.
        case: String,
        /// Index of the source.
        source_idx: usize,
        /// The value found.
        found: u8,
    },
    /// A set of cases or a batch has no case or no pixel.
    #[error("{split} cases: none given")]
    Empty {
        /// Which set.
        split: &'static str,
    },
    /// A case could not be read.
    #[error("case `{case}` could not be read")]
    CaseUnread {
        /// Id of the case.
        case: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A patch does not fit into the cases.
    #[error("a patch of {size:?} as [slice, row, column] does not fit into cases of {whole:?}")]
    Patch {
        /// Axes of the patch.
        size: [usize; 3],
        /// Axes of the cases.
        whole: [usize; 3],
    },
    /// Best-epoch selection asks for a mask that the validation set does not have.
    #[error("selection by {metric} needs {needs}")]
    Selection {
        /// The metric asked for.
        metric: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// The loss became NaN or infinite; the parameters are those before the step.
    #[error(
        "loss is not finite at step {step} (epoch {epoch}): {term} is {value}, prediction range \
         [{:.3}, {:.3}], uncertainty range [{:.3}, {:.3}], {n_empty} of {n_masks} masks empty",
        prediction.start(), prediction.end(), uncertainty.start(), uncertainty.end()
    )]
    NotFinite {
        /// Epoch, from 0.
        epoch: usize,
        /// Step over the whole training, from 0.
        step: usize,
        /// The first term that is not finite.
        term: &'static str,
        /// Its value.
        value: f64,
        /// Range of the finite predicted probabilities; empty range (1 to 0) if none is finite.
        prediction: RangeInclusive<f64>,
        /// Range of the finite uncertainties; empty range (1 to 0) if none is finite.
        uncertainty: RangeInclusive<f64>,
        /// Masks of the batch without foreground.
        n_empty: usize,
        /// Masks of the batch.
        n_masks: usize,
    },
    /// The device that should do a training does not.
    #[error("the device of the training {fault}")]
    Device {
        /// Why not, as far as that decides what to do next.
        fault: DeviceFault,
        /// Advice to the user, if there is any.
        hint: Option<&'static str>,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A progress callback asked to stop.
    #[error("training was cancelled at step {step} (epoch {epoch})")]
    Cancelled {
        /// Epoch, from 0.
        epoch: usize,
        /// Step over the whole training, from 0.
        step: usize,
    },
    /// A checkpoint callback failed.
    #[error("checkpoint after epoch {epoch} was not kept")]
    CheckpointSink {
        /// Epoch, from 0.
        epoch: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of weights or a checkpoint is not readable as safetensors.
    #[error("not a readable safetensors file")]
    Container(#[from] safetensors::SafeTensorError),
    /// An entry of a weights file or checkpoint is missing, has another shape or type, or is no number.
    #[error("entry `{name}`: expected {expected}, found {found}")]
    Entry {
        /// Name of the tensor or metadata key.
        name: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Metadata of a weights file or checkpoint is not the JSON it should be.
    #[error("metadata `{key}` is not readable")]
    Metadata {
        /// Metadata key.
        key: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A network refused its input.
    #[error(transparent)]
    Unet(#[from] crate::UnetError),
    /// Tensors of a file do not fit the network.
    #[error(transparent)]
    Parameters(#[from] crate::ParametersError),
    /// candle refused a tensor.
    #[error("candle refused a tensor")]
    Candle(#[from] candle_core::Error),
}

impl NetsError {
    /// Passes if the range check of `field` came out `good`, else refuses it with its value.
    pub(crate) fn check<T: std::fmt::Debug>(
        field: &'static str,
        expected: &'static str,
        value: T,
        good: bool,
    ) -> Result<(), Self> {
        if good {
            Ok(())
        } else {
            Err(Self::Config { field, expected, found: format!("{value:?}") })
        }
    }

    /// Passes a buffer whose length is the product of `shape`.
    pub(crate) fn check_len(
        what: &str,
        axes: &'static str,
        shape: &[usize],
        found: usize,
    ) -> Result<(), Self> {
        let expected = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if expected == Some(found) {
            return Ok(());
        }
        let expected = expected.unwrap_or(usize::MAX);
        Err(Self::Shape { what: what.to_owned(), axes, shape: shape.to_vec(), expected, found })
    }
}
