//! From shards to the buffers that networks are trained on.

use datasets::{CaseImage, CaseLabel, Split};
use engine::{Input, Refusal, StageError};
use nets::Samples;
use std::{collections::BTreeMap, num::NonZeroUsize};

use crate::{
    channels::{Channels, join},
    shards::{ShardsError, images, labels},
};

/// Labels of one source by (case, structure), with the cell that made them.
struct Source<'a> {
    cell: &'a str,
    labels: BTreeMap<(String, String), CaseLabel>,
}

/// The cases of a split as samples, and the names of the sources.
///
/// Each artifact of `image_inputs` is a channel; every image gets zero mean and unit standard deviation. `truth` may be
/// absent or lack the split. Only the first `most` cases by id are taken.
///
/// # Errors
/// [`ShardsError`] when the split is empty, cases differ in shape, or a case lacks a label or a channel or has one of
/// another shape.
pub(crate) fn samples_of_split(
    split: Split,
    purpose: &'static str,
    image_inputs: &[Input],
    annotations: &[Input],
    truth: Option<&Input>,
    structures: &[String],
    most: Option<NonZeroUsize>,
) -> Result<(Samples, Vec<String>), StageError> {
    let mut cases = join(image_inputs, |input| images(&of_split(input, split)))?;
    cases.truncate(most.map_or(usize::MAX, NonZeroUsize::get));
    let first = cases
        .first()
        .ok_or_else(|| StageError::new(ShardsError::EmptySplit { split: split.name(), purpose }))?;
    let (size, n_channels) = (one_size(&cases, &first.case)?, first.n_channels());
    let sources: Vec<Source<'_>> =
        annotations.iter().map(|input| read_source(input, split)).collect::<Result<_, _>>()?;
    let names = sources.iter().map(|source| source_name(source, &first.case.id, structures));
    let names = names.collect::<Result<_, _>>()?;
    let masks = sources.iter().map(|source| masks(source, &cases, structures));
    let masks = masks.collect::<Result<_, _>>()?;
    let truth = truth.map(|input| self::masks(&read_source(input, split)?, &cases, structures));
    let truth = truth.transpose()?;
    let samples = Samples {
        ids: cases.iter().map(|channels| channels.case.id.clone()).collect(),
        size,
        n_channels,
        n_structures: structures.len(),
        images: cases.iter().flat_map(Channels::normalised).collect(),
        labels: masks,
        truth,
    };
    Ok((samples, names))
}

/// The shape that all cases have.
fn one_size(cases: &[Channels], first: &CaseImage) -> Result<[usize; 3], StageError> {
    let expected = first.image.shape();
    let Some(other) = cases.iter().find(|channels| channels.case.image.shape() != expected) else {
        return Ok(expected);
    };
    Err(StageError::new(ShardsError::SizesDiffer {
        case: other.case.id.clone(),
        first: first.id.clone(),
        expected,
        found: other.case.image.shape(),
    }))
}

fn read_source(input: &Input, split: Split) -> Result<Source<'_>, StageError> {
    Ok(Source { cell: &input.cell, labels: labels(&of_split(input, split))? })
}

/// The shards of one split: training and validation read each file once.
fn of_split(input: &Input, split: Split) -> Input {
    let mut own = input.clone();
    own.parts.retain(|part| part.name.starts_with(&format!("{split}-")));
    own
}

fn find<'a>(
    source: &'a Source<'_>,
    case: &str,
    structure: &str,
) -> Result<&'a CaseLabel, StageError> {
    let key = (case.to_owned(), structure.to_owned());
    source.labels.get(&key).ok_or_else(|| {
        let mut found: Vec<String> =
            source.labels.keys().map(|(_, structure)| structure.clone()).collect();
        found.sort();
        found.dedup();
        let cell = source.cell.to_owned();
        StageError::new(if found.iter().any(|known| known == structure) {
            ShardsError::LabelMissing { case: key.0, structure: key.1, cell }
        } else {
            ShardsError::StructureMissing { structure: key.1, cell, found }
        })
    })
}

fn source_name(
    source: &Source<'_>,
    case: &str,
    structures: &[String],
) -> Result<String, StageError> {
    Ok(find(source, case, &structures[0])?.source.clone())
}

/// Masks `[case, row, column, structure]` of 0 and 1.
fn masks(
    source: &Source<'_>,
    cases: &[Channels],
    structures: &[String],
) -> Result<Vec<u8>, StageError> {
    let mut all = Vec::new();
    for Channels { case, .. } in cases {
        let labels = structures.iter().map(|structure| find(source, &case.id, structure));
        let labels: Vec<&CaseLabel> = labels.collect::<Result<_, _>>()?;
        if let Some(wrong) = labels.iter().find(|label| label.mask.shape() != case.image.shape()) {
            return Err(StageError::new(ShardsError::ShapeDiffers {
                case: case.id.clone(),
                source_name: wrong.source.clone(),
                expected: case.image.shape(),
                found: wrong.mask.shape(),
            }));
        }
        for pixel in 0..case.image.values().len() {
            all.extend(labels.iter().map(|label| u8::from(label.mask.values()[pixel])));
        }
    }
    Ok(all)
}

/// Refuses an empty or repeating list of structures.
pub(crate) fn check_structures(structures: &[String]) -> Result<(), Refusal> {
    let repeats = structures.iter().enumerate().find(|(i, name)| structures[..*i].contains(name));
    match (structures.is_empty(), repeats) {
        (true, _) => Err(Refusal::new("structures", "expected at least one structure: got none")),
        (_, Some((_, name))) => Err(Refusal::new("structures", format!("`{name}` is named twice"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{
        Image, Spacing, mask,
        shard::{write_images, write_labels},
    };

    use super::*;
    use crate::{
        shards::tests::{input, label},
        trained::normalised,
    };

    fn image(id: &str) -> CaseImage {
        CaseImage {
            id: id.to_owned(),
            patient: id.to_owned(),
            dataset: "drawn".to_owned(),
            split: Split::Train,
            image: Image::new([1, 2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap(),
            spacing: Spacing::unit(),
        }
    }

    fn read(
        labels: &[CaseLabel],
        structures: &[&str],
    ) -> Result<(Samples, Vec<String>), StageError> {
        let folder = tempfile::tempdir().unwrap();
        let (images, masks) = (folder.path().join("i.parquet"), folder.path().join("l.parquet"));
        write_images(&images, &[image("a"), image("b"), image("c")]).unwrap();
        write_labels(&masks, labels).unwrap();
        let structures: Vec<String> = structures.iter().map(|&name| name.to_owned()).collect();
        let part = "train-0.parquet";
        let images = [input("cases", part, images)];
        let annotations = [input("source1", part, masks)];
        let most = NonZeroUsize::new(2);
        samples_of_split(Split::Train, "trained", &images, &annotations, None, &structures, most)
    }

    #[test]
    fn samples_hold_normalised_images_and_masks_of_0_and_1() {
        let drawn = || mask!["# . .", "# # ."];
        let (samples, sources) =
            read(&[label("a", "x", drawn()), label("b", "x", drawn())], &["lung"]).unwrap();
        assert_eq!((samples.size, samples.n_cases()), ([1, 2, 3], 2));
        assert_eq!(samples.labels, [[1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0]]);
        assert_eq!(sources, ["x"]);
        let (mean, squares) =
            samples.images.iter().fold((0.0, 0.0), |(m, s), v| (m + v, s + v * v));
        assert!(mean.abs() < 1e-5 && (squares - 12.0).abs() < 1e-4);
        samples.validate().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let drawn = || mask!["# . .", "# # ."];
        let error = |labels: &[CaseLabel], structures: &[&str]| {
            read(labels, structures).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[label("a", "x", drawn())], &["lung"]),
            "case `b` has no label of structure `lung` from cell `source1`"
        );
        assert_eq!(
            error(&[label("a", "x", drawn()), label("b", "x", drawn())], &["heart"]),
            "no label of structure `heart` in cell `source1`: it has [\"lung\"]"
        );
        assert_eq!(
            error(&[label("a", "x", drawn()), label("b", "x", mask!["# ."])], &["lung"]),
            "label of source `x` for case `b` has shape [1, 1, 2] as [slice, row, column]: the image has [1, 2, 3]"
        );
    }

    #[test]
    fn a_constant_image_becomes_zero() {
        assert_eq!(normalised(&Image::filled([1, 2, 2], 7.0)), [0.0; 4]);
    }
}
