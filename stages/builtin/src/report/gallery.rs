//! Pictures of cases with their annotations and maps, as Fig. 7 of arXiv 2304.00466v2.

use datasets::{
    CaseImage, CaseLabel, Grid, SourceKind,
    shard::{read_images, read_labels},
};
use engine::{Input, StageError};
use imaging::scores::{EmptyPolicy, Overlap};
use report::{CaseMap, CaseMask, Gallery, GalleryCase, Plane, Quality};

use super::trace;
use crate::{
    assess::{AssessedCase, AssessedCases, labels_part, maps_part},
    shards::{read_json, refused},
};

/// One gallery an assessment.
pub(super) fn galleries(inputs: &[Input]) -> Result<Vec<Gallery>, StageError> {
    inputs.iter().map(gallery).collect()
}

fn gallery(input: &Input) -> Result<Gallery, StageError> {
    let listed: AssessedCases = read_json(input.file("cases.json")?)?;
    let n_high = listed.cases.iter().filter(|case| case.is_high).count();
    // One case after the other: their maps are large.
    let shown = listed.shown.iter().enumerate().map(|(place, id)| {
        let maps = read_images(input.file(&maps_part(place))?).map_err(refused)?;
        let labels = read_labels(input.file(&labels_part(place))?).map_err(refused)?;
        let case = listed.cases.iter().find(|case| case.id == *id);
        Ok(case.map(|case| gallery_case(case, &listed.sources, &maps, &labels)))
    });
    let shown: Vec<Option<GalleryCase>> = shown.collect::<Result<_, StageError>>()?;
    Ok(Gallery {
        title: format!("Annotations as {} saw them", input.cell),
        caption: format!(
            "Training cases with the lowest and the highest u_a; {n_high} of {} cases pass both thresholds.",
            listed.cases.len()
        ),
        thresholds: Some(listed.thresholds),
        cases: shown.into_iter().flatten().collect(),
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
    let slice = case_slice(&case.id, maps, labels);
    let map = |name: &str| {
        let id = format!("{}/{name}", case.id);
        maps.iter().find(|map| map.id == id).map(|map| plane(&map.image, slice))
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
            mask: plane(&label.mask, slice),
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
        truth: truth.map(|label| plane(&label.mask, slice)),
        annotations: annotations.collect(),
        uncertainty: per_source("uncertainty"),
        calibration: per_source("calibration"),
        consensus: map("consensus"),
        prediction: prediction.map(|label| plane(&label.mask, slice)),
        dice: prediction.and_then(dice),
        ..GalleryCase::default()
    }
}

/// The slice of a case that its pictures show.
fn case_slice(id: &str, maps: &[CaseImage], labels: &[CaseLabel]) -> usize {
    let image = maps.iter().find(|map| map.id == format!("{id}/image"));
    let n_slices = image.map_or(0, |map| map.image.shape()[0]);
    let own = |kind| labels.iter().filter(move |label| label.id == id && label.kind == kind);
    let truth = own(SourceKind::Truth).any(|label| label.mask.values().contains(&true));
    let others =
        labels.iter().filter(|label| label.id == id && label.kind != SourceKind::Predicted);
    if truth {
        shown_slice(own(SourceKind::Truth), n_slices)
    } else {
        shown_slice(others, n_slices)
    }
}

/// The slice in which most of the structure lies: by the truth or, without it, by the sources; the middle one when none
/// has any of it.
fn shown_slice<'a>(labels: impl IntoIterator<Item = &'a CaseLabel>, n_slices: usize) -> usize {
    let mut pixels = vec![0; n_slices];
    for label in labels {
        for (slice, sum) in pixels.iter_mut().enumerate().take(label.mask.shape()[0]) {
            *sum += plane(&label.mask, slice).values.into_iter().filter(|&inside| inside).count();
        }
    }
    let most = pixels.iter().copied().max().unwrap_or(0);
    let first = pixels.iter().position(|&sum| sum == most).filter(|_| most > 0);
    first.unwrap_or(n_slices / 2)
}

/// One slice of a volume.
fn plane<T: Copy>(volume: &Grid<T>, slice: usize) -> Plane<T> {
    let [_, rows, columns] = volume.shape();
    let start = slice * rows * columns;
    Plane { rows, columns, values: volume.values()[start..start + rows * columns].to_vec() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::shards::tests::label;

    fn volume(inside: [usize; 3]) -> CaseLabel {
        let values = inside.iter().flat_map(|&n| (0..4).map(move |pixel| pixel < n)).collect();
        label("a", "x", Grid::new([3, 2, 2], values).unwrap())
    }

    #[test]
    fn the_slice_with_most_of_the_structure_is_shown() {
        let (low, high) = (volume([3, 1, 0]), volume([0, 1, 4]));
        assert_eq!(shown_slice([&low, &high], 3), 2);
        assert_eq!(shown_slice([&low], 3), 0);
        assert_eq!(shown_slice([&volume([0; 3])], 3), 1);
        assert_eq!(plane(&high.mask, 1).values, [true, false, false, false]);
    }
}
