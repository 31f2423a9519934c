//! From shards to the cases that networks are trained on: what there is is known at once, voxels are read when needed.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Arc};

use datasets::{
    Affine, CaseImage, DatasetsError, Split,
    shard::{ImageHead, LabelHead, image_heads, label_heads, read_image, read_label},
};
use engine::{Input, InputPart, Refusal, StageError};
use nets::{Case, NetsError, Outline, ReadCase, ReadError, Samples};

use super::device::of_device;
use crate::{
    channels::{OfCase, align},
    shards::{ShardsError, check_place, refused},
    trained::normalised,
};

/// The row of a shard that holds an image or a label.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    row: usize,
}

/// An image that is not read yet.
struct Channel {
    head: ImageHead,
    place: Place,
}

impl OfCase for Channel {
    fn id(&self) -> &str {
        &self.head.id
    }

    fn shape(&self) -> [usize; 3] {
        self.head.shape
    }

    fn affine(&self) -> Option<Affine> {
        self.head.affine
    }
}

/// Labels of one source by (case, structure), none of them read yet, with the cell that made them.
struct Source<'a> {
    cell: &'a str,
    labels: BTreeMap<(String, String), (LabelHead, Place)>,
}

/// Where the voxels of a case lie.
#[derive(Debug)]
struct Places {
    id: String,
    /// One a channel.
    image: Vec<Place>,
    /// Per source, one a structure.
    labels: Vec<Vec<Place>>,
    /// One a structure.
    truth: Option<Vec<Place>>,
}

/// The cases of a split before their voxels are read.
#[derive(Debug)]
pub(crate) struct SplitCases {
    /// What is known of them.
    pub(crate) outline: Outline,
    /// Names of the sources.
    pub(crate) sources: Vec<String>,
    places: Vec<Places>,
}

impl SplitCases {
    /// The cases, of which the first `n_kept` stay in memory.
    pub(crate) fn samples(self, n_kept: usize) -> Samples {
        Samples::new(self.outline, Reader(self.places), n_kept)
    }
}

/// The cases of a split and the names of the sources; no voxel is read.
///
/// Each artifact of `image_inputs` is a channel; every image gets zero mean and unit standard deviation. `truth` may be
/// absent or lack the split. Only the first `most` cases by id are taken.
///
/// # Errors
/// [`ShardsError`] when the split is empty, cases differ in shape, or a case lacks a label or a channel or has one of
/// another shape or in another place.
pub(crate) fn cases_of_split(
    split: Split,
    purpose: &'static str,
    image_inputs: &[Input],
    annotations: &[Input],
    truth: Option<&Input>,
    structures: &[String],
    most: Option<NonZeroUsize>,
) -> Result<SplitCases, StageError> {
    let mut cases = align(image_inputs, |input| channels(input, split))?;
    cases.truncate(most.map_or(usize::MAX, NonZeroUsize::get));
    let first = cases
        .first()
        .ok_or_else(|| StageError::new(ShardsError::EmptySplit { split: split.name(), purpose }))?;
    let size = one_size(&cases, &first[0].head)?;
    let sources: Vec<Source<'_>> =
        annotations.iter().map(|input| read_source(input, split)).collect::<Result<_, _>>()?;
    let names = sources
        .iter()
        .map(|source| Ok(find(source, &first[0].head.id, &structures[0])?.0.source.clone()));
    let names = names.collect::<Result<_, StageError>>()?;
    let truth = truth.map(|input| read_source(input, split)).transpose()?;
    let outline = Outline {
        ids: cases.iter().map(|channels| channels[0].head.id.clone()).collect(),
        size,
        n_channels: image_inputs.len(),
        n_structures: structures.len(),
        n_sources: sources.len(),
        has_truth: truth.is_some(),
    };
    let places = cases.into_iter().map(|channels| {
        let masks = |source: &Source<'_>| places_of_masks(source, &channels[0].head, structures);
        Ok(Places {
            id: channels[0].head.id.clone(),
            labels: sources.iter().map(masks).collect::<Result<_, StageError>>()?,
            truth: truth.as_ref().map(masks).transpose()?,
            image: channels.iter().map(|channel| channel.place.clone()).collect(),
        })
    });
    Ok(SplitCases { outline, sources: names, places: places.collect::<Result<_, StageError>>()? })
}

/// The shape that all cases have.
fn one_size(cases: &[Vec<Channel>], first: &ImageHead) -> Result<[usize; 3], StageError> {
    let Some(other) = cases.iter().find(|channels| channels[0].head.shape != first.shape) else {
        return Ok(first.shape);
    };
    Err(StageError::new(ShardsError::SizesDiffer {
        case: other[0].head.id.clone(),
        first: first.id.clone(),
        expected: first.shape,
        found: other[0].head.shape,
    }))
}

/// The shards of one split.
fn parts_of(input: &Input, split: Split) -> impl Iterator<Item = &InputPart> {
    let start = format!("{split}-");
    input.parts.iter().filter(move |part| part.name.starts_with(&start))
}

/// All images of a split on a port, sorted by case id.
fn channels(input: &Input, split: Split) -> Result<Vec<Channel>, StageError> {
    let mut found = Vec::new();
    for part in parts_of(input, split) {
        let heads = image_heads(&part.path).map_err(refused)?.into_iter().enumerate();
        let path = &part.path;
        found.extend(
            heads.map(|(row, head)| Channel { head, place: Place { path: path.clone(), row } }),
        );
    }
    found.sort_by(|a, b| a.head.id.cmp(&b.head.id));
    Ok(found)
}

fn read_source(input: &Input, split: Split) -> Result<Source<'_>, StageError> {
    let mut labels = BTreeMap::new();
    for part in parts_of(input, split) {
        for (row, head) in label_heads(&part.path).map_err(refused)?.into_iter().enumerate() {
            let place = Place { path: part.path.clone(), row };
            labels.insert((head.id.clone(), head.structure.clone()), (head, place));
        }
    }
    Ok(Source { cell: &input.cell, labels })
}

fn find<'a>(
    source: &'a Source<'_>,
    case: &str,
    structure: &str,
) -> Result<&'a (LabelHead, Place), StageError> {
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

/// Where the masks of a case lie, which must have the shape and the place of its image.
fn places_of_masks(
    source: &Source<'_>,
    image: &ImageHead,
    structures: &[String],
) -> Result<Vec<Place>, StageError> {
    let place = |structure: &String| {
        let (label, place) = find(source, &image.id, structure)?;
        if label.shape == image.shape {
            check_place(&image.id, source.cell, image.shape, image.affine, label.affine)?;
            return Ok(place.clone());
        }
        Err(StageError::new(ShardsError::ShapeDiffers {
            case: image.id.clone(),
            source_name: label.source.clone(),
            expected: image.shape,
            found: label.shape,
        }))
    };
    structures.iter().map(place).collect()
}

/// Reads cases from the shards that hold them.
struct Reader(Vec<Places>);

impl ReadCase for Reader {
    fn read(&self, nth: usize) -> Result<Arc<Case>, ReadError> {
        let places = &self.0[nth];
        let case = Case {
            image: places.image()?,
            labels: places.labels.iter().map(|of| places.mask(of)).collect::<Result<_, _>>()?,
            truth: places.truth.as_ref().map(|of| places.mask(of)).transpose()?,
        };
        Ok(Arc::new(case))
    }
}

impl Places {
    /// Image `[slice, row, column, channel]`: every channel with mean 0 and standard deviation 1.
    fn image(&self) -> Result<Vec<f32>, StageError> {
        let n_channels = self.image.len();
        let mut values = Vec::new();
        for (channel, Place { path, row }) in self.image.iter().enumerate() {
            let CaseImage { image, .. } = self.still_there(read_image(path, *row))?;
            values.resize(image.values().len() * n_channels, 0.0);
            let places = values[channel..].iter_mut().step_by(n_channels);
            places.zip(normalised(&image)).for_each(|(place, value)| *place = value);
        }
        Ok(values)
    }

    /// Masks `[slice, row, column, structure]` of 0 and 1.
    fn mask(&self, of: &[Place]) -> Result<Vec<u8>, StageError> {
        let mut values = Vec::new();
        for (structure, Place { path, row }) in of.iter().enumerate() {
            let mask = self.still_there(read_label(path, *row))?.mask;
            values.resize(mask.values().len() * of.len(), 0);
            let places = values[structure..].iter_mut().step_by(of.len());
            places.zip(mask.values()).for_each(|(place, &inside)| *place = u8::from(inside));
        }
        Ok(values)
    }

    fn still_there<T>(&self, found: Result<Option<T>, DatasetsError>) -> Result<T, StageError> {
        let case = || self.id.clone();
        found
            .map_err(refused)?
            .ok_or_else(|| StageError::new(ShardsError::CaseGone { case: case() }))
    }
}

/// A fault of a training; one of reading a case is the stage's own, with its advice.
pub(crate) fn fault(error: NetsError) -> StageError {
    match error {
        NetsError::CaseUnread { source, case } => match source.downcast::<StageError>() {
            Ok(own) => *own,
            Err(source) => StageError::new(NetsError::CaseUnread { case, source }),
        },
        other => of_device(other),
    }
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
        CaseLabel, Image, Spacing, mask,
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
            affine: None,
        }
    }

    fn read(
        labels: &[CaseLabel],
        structures: &[&str],
    ) -> Result<(tempfile::TempDir, SplitCases), StageError> {
        let folder = tempfile::tempdir().unwrap();
        let (images, masks) = (folder.path().join("i.parquet"), folder.path().join("l.parquet"));
        write_images(&images, &[image("a"), image("b"), image("c")]).unwrap();
        write_labels(&masks, labels).unwrap();
        let structures: Vec<String> = structures.iter().map(|&name| name.to_owned()).collect();
        let part = "train-0.parquet";
        let images = [input("cases", part, images)];
        let annotations = [input("source1", part, masks)];
        let most = NonZeroUsize::new(2);
        let purpose = "trained";
        cases_of_split(Split::Train, purpose, &images, &annotations, None, &structures, most)
            .map(|cases| (folder, cases))
    }

    #[test]
    fn cases_hold_normalised_images_and_masks_of_0_and_1() {
        let drawn = |mask| [label("a", "x", mask), label("b", "x", mask!["# . .", "# # ."])];
        let (_folder, cases) = read(&drawn(mask!["# . .", "# # #"]), &["lung"]).unwrap();
        assert_eq!((cases.outline.size, cases.outline.ids.len()), ([1, 2, 3], 2));
        assert_eq!(cases.sources, ["x"]);
        let samples = cases.samples(1);
        assert_eq!(samples.case(0).unwrap().labels, [[1, 0, 0, 1, 1, 1]]);
        let case = samples.case(1).unwrap();
        assert_eq!(case.labels, [[1, 0, 0, 1, 1, 0]]);
        let (mean, squares) = case.image.iter().fold((0.0, 0.0), |(m, s), v| (m + v, s + v * v));
        assert!(mean.abs() < 1e-5 && (squares - 6.0).abs() < 1e-4);
    }

    #[test]
    fn a_shard_that_is_gone_is_named_with_its_advice() {
        let drawn = || mask!["# . .", "# # ."];
        let (folder, cases) =
            read(&[label("a", "x", drawn()), label("b", "x", drawn())], &["lung"]).unwrap();
        std::fs::write(folder.path().join("l.parquet"), "no Parquet").unwrap();
        let error = fault(cases.samples(0).case(1).unwrap_err());
        assert!(matches!(
            error.inner().downcast_ref(),
            Some(DatasetsError::Decode { path, .. }) if path.ends_with("l.parquet")
        ));
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
