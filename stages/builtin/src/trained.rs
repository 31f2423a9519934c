//! Networks on this machine: how images are prepared, the threads and instructions they run on, prediction.

use std::collections::BTreeMap;

use datasets::{CaseImage, CaseLabel, Image, Mask, SourceKind};
use engine::{Ctx, Input, StageError};
use nets::{ImageSize, Model, ModelInfo, read_model};

/// Name of the source of predicted labels, unless a stage names another.
pub(crate) const PREDICTION: &str = "prediction";

/// Probability above which a pixel is foreground, unless a stage names another.
pub(crate) const HALF: f64 = 0.5;

/// Facts of the machine on which trained bytes depend.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let facts =
        [("device", "cpu".to_owned()), ("instructions", nets::instruction_set().to_owned())];
    facts.map(|(name, fact)| (name.to_owned(), fact)).into_iter().collect()
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

/// One label a structure.
pub(crate) fn predict_case(
    model: &mut Model,
    info: &ModelInfo,
    case: &CaseImage,
    source: &str,
    threshold: f64,
) -> Result<Vec<CaseLabel>, StageError> {
    let [_, rows, columns] = case.image.shape();
    let size = ImageSize { n_cases: 1, rows, columns };
    let maps = model.predict(&normalised(&case.image), size).map_err(StageError::new)?;
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
