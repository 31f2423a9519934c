//! Pictures of cases with their annotations and maps, as Fig. 7 of arXiv 2304.00466v2.

use datasets::{
    CaseImage, CaseLabel, Image, Mask, SourceKind,
    shard::{read_images, read_labels},
};
use engine::{Input, StageError};
use imaging::scores::{EmptyPolicy, Overlap};
use report::{CaseMap, CaseMask, Gallery, GalleryCase, MaskPicture, Picture, Plane, Quality};

use super::trace;
use crate::{
    assess::{AssessedCase, AssessedCases},
    shards::read_json,
};

/// One gallery an assessment.
pub(super) fn galleries(inputs: &[Input]) -> Result<Vec<Gallery>, StageError> {
    inputs.iter().map(gallery).collect()
}

fn gallery(input: &Input) -> Result<Gallery, StageError> {
    let listed: AssessedCases = read_json(input.file("cases.json")?)?;
    let maps = read_images(input.file("maps.parquet")?).map_err(StageError::new)?;
    let labels = read_labels(input.file("labels.parquet")?).map_err(StageError::new)?;
    let n_high = listed.cases.iter().filter(|case| case.is_high).count();
    let shown = listed.cases.iter().filter(|case| listed.shown.contains(&case.id));
    Ok(Gallery {
        title: format!("Annotations as {} saw them", input.cell),
        caption: format!(
            "Training cases with the lowest and the highest u_a; {n_high} of {} cases pass both thresholds.",
            listed.cases.len()
        ),
        thresholds: Some(listed.thresholds),
        cases: shown.map(|case| gallery_case(case, &listed.sources, &maps, &labels)).collect(),
        traces: vec![trace(input)],
        ..Gallery::default()
    })
}

fn gallery_case(
    case: &AssessedCase,
    sources: &[String],
    maps: &[CaseImage],
    labels: &[CaseLabel],
) -> GalleryCase {
    let map = |name: &str| {
        let id = format!("{}/{name}", case.id);
        maps.iter().find(|map| map.id == id).map(|map| picture(&map.image))
    };
    let per_source = |what: &str| {
        let found = sources.iter().filter_map(|source| {
            Some(CaseMap { source: source.clone(), map: map(&format!("{what}/{source}"))? })
        });
        found.collect()
    };
    let of_kind =
        |kind: SourceKind| labels.iter().find(|label| label.id == case.id && label.kind == kind);
    let truth = of_kind(SourceKind::Truth);
    let dice = |label: &CaseLabel| {
        Overlap::count(&truth?.mask, &label.mask).ok()?.dice(EmptyPolicy::default())
    };
    let annotations = sources.iter().filter_map(|source| {
        let label = labels.iter().find(|label| label.id == case.id && label.source == *source)?;
        Some(CaseMask {
            source: source.clone(),
            mask: mask_picture(&label.mask),
            dice: dice(label),
        })
    });
    let prediction = of_kind(SourceKind::Predicted);
    GalleryCase {
        id: case.id.clone(),
        quality: Some(if case.is_high { Quality::High } else { Quality::Low }),
        u_a: Some(case.u_a),
        u_b: Some(case.u_b),
        image: map("image").unwrap_or_default(),
        truth: truth.map(|label| mask_picture(&label.mask)),
        annotations: annotations.collect(),
        uncertainty: per_source("uncertainty"),
        calibration: per_source("calibration"),
        consensus: map("consensus"),
        prediction: prediction.map(|label| mask_picture(&label.mask)),
        dice: prediction.and_then(dice),
        ..GalleryCase::default()
    }
}

/// The middle slice of an image.
fn picture(image: &Image) -> Picture {
    let [slices, rows, columns] = image.shape();
    let start = slices / 2 * rows * columns;
    Plane { rows, columns, values: image.values()[start..start + rows * columns].to_vec() }
}

/// The middle slice of a mask.
fn mask_picture(mask: &Mask) -> MaskPicture {
    let [slices, rows, columns] = mask.shape();
    let start = slices / 2 * rows * columns;
    Plane { rows, columns, values: mask.values()[start..start + rows * columns].to_vec() }
}
