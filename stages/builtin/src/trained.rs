//! Networks on this machine: how images are prepared, the threads and instructions they run on, prediction.

use std::collections::BTreeMap;

use datasets::{CaseLabel, Image, Mask, SourceKind};
use engine::{Ctx, Input, Refusal, StageError};
use nets::{
    Model, ModelInfo, NetsError, Precision, Trainable, WindowConfig, predict_image, read_model,
};

use crate::{channels::Channels, shards::ShardsError};

/// Name of the source of predicted labels, unless a stage names another.
pub(crate) const PREDICTION: &str = "prediction";

/// Probability above which a pixel is foreground, unless a stage names another.
pub(crate) const HALF: f64 = 0.5;

/// Facts of the machine on which the bytes of a network in this number format depend.
pub(crate) fn environment(precision: Precision) -> BTreeMap<String, String> {
    let facts = [("device", "cpu"), ("instructions", nets::instruction_set(precision))];
    facts.map(|(name, fact)| (name.to_owned(), fact.to_owned())).into_iter().collect()
}

/// Runs `work` in a pool of as many threads as the cell was given, so cells side by side do not take each other's cores.
pub(crate) fn in_pool<T: Send>(
    ctx: &Ctx<'_>,
    work: impl FnOnce() -> Result<T, StageError> + Send,
) -> Result<T, StageError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(ctx.threads()).build();
    pool.map_err(StageError::new)?.install(work)
}

/// The network of a weights artifact.
pub(crate) fn read_weights(input: &Input) -> Result<(Model, ModelInfo), StageError> {
    let bytes = std::fs::read(input.file("weights.safetensors")?).map_err(StageError::new)?;
    read_model(&bytes).map_err(StageError::new)
}

/// Windows that are refused, under the key that they have in every stage.
pub(crate) fn window_refusal(error: &NetsError) -> Refusal {
    match error {
        NetsError::Config { field, expected, found } => {
            Refusal::new(*field, format!("expected {expected}: got {found}"))
        }
        other => Refusal::new("window", other.to_string()),
    }
}

/// How predicted labels are made of probabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predicting<'a> {
    /// Name of the source of the labels.
    pub(crate) source: &'a str,
    /// Probability above which a pixel is foreground.
    pub(crate) threshold: f64,
    /// Windows that a case is predicted by; none for the whole case at once.
    pub(crate) windows: Option<WindowConfig>,
}

impl Default for Predicting<'_> {
    fn default() -> Self {
        Self { source: PREDICTION, threshold: HALF, windows: None }
    }
}

/// One label a structure.
pub(crate) fn predict_case(
    network: &mut dyn Trainable,
    info: &ModelInfo,
    channels: &Channels,
    predicting: Predicting<'_>,
) -> Result<Vec<CaseLabel>, StageError> {
    let Predicting { source, threshold, windows } = predicting;
    let case = &channels.case;
    let expected = network.shape().n_channels;
    if channels.n_channels() != expected {
        let found = channels.n_channels();
        return Err(StageError::new(ShardsError::ChannelCount { expected, found }));
    }
    let (image, shape) = (channels.normalised(), case.image.shape());
    let maps = predict_image(network, &image, shape, windows.as_ref()).map_err(StageError::new)?;
    let n = info.structures.len().max(1);
    let trained = info.notes.get("primary_trained").is_none_or(|text| text == "true");
    let labels = info.structures.iter().enumerate().map(|(structure, name)| {
        let probability = maps.iter().skip(structure).step_by(n).copied().collect();
        let probability = Image::new(case.image.shape(), probability).map_err(StageError::new)?;
        let mask: Mask = probability.map(|&p| f64::from(p) > threshold);
        Ok(CaseLabel {
            id: case.id.clone(),
            source: source.to_owned(),
            kind: SourceKind::Predicted,
            structure: name.clone(),
            split: case.split,
            mask,
            probability: Some(probability),
            spacing: case.spacing,
            affine: case.affine,
            params: Some(serde_json::json!({ "primary_trained": trained }).to_string()),
        })
    });
    labels.collect()
}

/// The image with mean 0 and standard deviation 1; a constant image becomes 0.
pub(crate) fn normalised(image: &Image) -> Vec<f32> {
    let values = image.values();
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / variance.sqrt().max(1e-8);
    values.iter().map(|&v| ((f64::from(v) - mean) * scale) as f32).collect()
}
