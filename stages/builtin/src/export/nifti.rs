//! Writes labels as NIfTI files on the grid of the images that they belong to.
//!
//! Ports: in `labels: Labels` (a source, a fusion, a prediction), optional `source: Images`, the images before they were
//! resampled or cut; out `files: NiftiFiles`. With `source`, every label is brought back to the grid of its case's image:
//! masks from the nearest voxel, probabilities by linear interpolation, background beyond what the label covers.
//! Without, the grid is that of the labels. The affine is that of the image with the code of its space, rounded to the 4 bytes of NIfTI-1
//! as the file that it came from has it; of pictures and other images whose place is not known nothing is written but the spacing, which
//! programs take for a grid along the axes of the world.
//! Randomness: none. Cost: one case a thread in memory; the same labels give the same bytes.

use std::collections::BTreeMap;

use datasets::{
    Affine, CaseLabel, Grid, Image, Spacing,
    affine::{self, VoxelMap},
    shard::{ImageHead, image_heads, label_heads, read_label, safe_name},
    volume::{NiftiVersion, NiftiVoxel, Volume, write_nifti},
};
use engine::{
    Ctx, Input, One, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs,
};
use imaging::resample::{linear_onto, nearest_onto};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::values::Values;
use crate::{
    kinds::{Images, Labels, NiftiFiles},
    shards::{ShardsError, check_place, refused, write_json},
};

/// Settings of [`ExportNifti`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportNiftiConfig {
    /// Structures, each with the values of label maps that it is made of, as `ingest.folder` reads them: one map a case,
    /// `CASE.nii.gz`, and `labels.json` with the values. Where structures meet that no value stands for, the most probable
    /// value is taken, and labels without probabilities are refused. Other structures are left out. Default none: one file
    /// of 0 and 1 a structure, `CASE.STRUCTURE.nii.gz`.
    pub structures: BTreeMap<String, Vec<u8>>,
    /// Whether probabilities are written as well, `CASE.STRUCTURE.probability.nii.gz`, where labels have them. Default
    /// false.
    pub probabilities: bool,
}

inputs! {
    /// What [`ExportNifti`] reads.
    pub struct ExportNiftiInputs {
        /// Labels of one source.
        labels: One<Labels>,
        /// Images on the grids that are to be written, of all cases of the labels.
        source: Optional<Images>,
    }
}

outputs! {
    /// What [`ExportNifti`] makes.
    pub struct ExportNiftiOutputs {
        /// The files.
        files: Out<NiftiFiles>,
    }
}

/// Labels that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Structures that meet in a voxel and have no value together.
    #[error(
        "case `{case}`: no value stands for {structures:?} alone, as at [slice, row, column] = {place:?}"
    )]
    NoValue {
        /// The case.
        case: String,
        /// The first such voxel.
        place: [usize; 3],
        /// The structures that it belongs to.
        structures: Vec<String>,
    },
    /// A case that the source images lack.
    #[error("case `{case}` has a label in cell `{labels}` and no image in cell `{source_cell}`")]
    ImageMissing {
        /// The case.
        case: String,
        /// The cell of the labels.
        labels: String,
        /// The cell of the images.
        source_cell: String,
    },
    /// A label that cannot be brought to another grid, because nobody knows where it is.
    #[error(
        "label of case `{case}` has shape {found:?} as [slice, row, column] and no affine: the image has {expected:?}"
    )]
    PlaceUnknown {
        /// The case.
        case: String,
        /// Shape of the image.
        expected: [usize; 3],
        /// Shape of the label.
        found: [usize; 3],
    },
    /// A label whose axes span no volume.
    #[error("label of case `{case}` has an affine whose axes lie in a plane: {found:?}")]
    Singular {
        /// The case.
        case: String,
        /// Its affine.
        found: Box<[[f64; 4]; 3]>,
    },
    /// Labels of one case on different grids.
    #[error(
        "labels of case `{case}` differ in shape: {found:?} and {expected:?} as [slice, row, column]"
    )]
    ShapesDiffer {
        /// The case.
        case: String,
        /// Shape of the first.
        expected: [usize; 3],
        /// Shape of one that differs.
        found: [usize; 3],
    },
    /// Two labels for one file.
    #[error("two labels would be written to `{name}`, the later of case `{case}`")]
    NameTwice {
        /// Name of the file.
        name: String,
        /// The case.
        case: String,
    },
}

/// Labels as NIfTI files.
pub struct ExportNifti;

impl Stage for ExportNifti {
    const NAME: &'static str = "export.nifti";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes labels as NIfTI files on the grid of their images.";
    type Config = ExportNiftiConfig;
    type Inputs = ExportNiftiInputs;
    type Outputs = ExportNiftiOutputs;

    fn check(config: &ExportNiftiConfig) -> Result<(), Refusal> {
        Values::new(&config.structures).map(|_| ())
    }

    fn resources(_: &ExportNiftiConfig) -> Resources {
        // A label of 512 x 512 x 200 voxels on two grids.
        Resources { memory: 1 << 30, ..Resources::default() }
    }

    fn run(
        config: &ExportNiftiConfig,
        inputs: ExportNiftiInputs,
        outputs: &ExportNiftiOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let values =
            Values::new(&config.structures).map_err(|refusal| StageError::new(refusal.message))?;
        let files = &outputs.files;
        let export = Export { config, values: &values, labels: &inputs.labels, files };
        export.all(inputs.source.get())?;
        if config.structures.is_empty() {
            return Ok(());
        }
        let named = config.structures.iter().map(|(name, values)| match values.as_slice() {
            [value] => (name.clone(), json!(value)),
            values => (name.clone(), json!(values)),
        });
        let background = ("background".to_owned(), json!(0));
        let described: BTreeMap<String, serde_json::Value> = named.chain([background]).collect();
        write_json(files, "labels.json", &described)
    }
}

/// Where a label lies in its shard.
struct Row<'a> {
    path: &'a std::path::Path,
    row: usize,
    structure: String,
}

/// The labels of every case that are to be written, by structure.
///
/// # Errors
/// [`ExportError::NameTwice`], and [`ShardsError::LabelMissing`] for a case that lacks one of the listed structures.
fn cases<'a>(
    input: &'a Input,
    values: &Values<'_>,
) -> Result<BTreeMap<String, Vec<Row<'a>>>, StageError> {
    let mut found: BTreeMap<String, Vec<Row<'a>>> = BTreeMap::new();
    for part in &input.parts {
        for (row, head) in label_heads(&part.path).map_err(refused)?.into_iter().enumerate() {
            let rows = found.entry(head.id).or_default();
            rows.push(Row { path: &part.path, row, structure: head.structure });
        }
    }
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (case, rows) in &mut found {
        let listed = values.structures();
        if !listed.is_empty() {
            rows.retain(|row| listed.contains(&row.structure.as_str()));
        }
        rows.sort_by(|a, b| a.structure.cmp(&b.structure));
        let missing = listed.iter().find(|name| rows.iter().all(|row| row.structure != **name));
        if let Some(structure) = missing {
            return Err(StageError::new(ShardsError::LabelMissing {
                case: case.clone(),
                structure: (*structure).to_owned(),
                cell: input.cell.clone(),
            }));
        }
        let maps = (!listed.is_empty()).then(|| file_name(&[case]));
        let single = rows.iter().map(|row| file_name(&[case, &row.structure]));
        for name in maps.into_iter().chain(single) {
            if names.insert(name.clone(), case).is_some() {
                return Err(StageError::new(ExportError::NameTwice { name, case: case.clone() }));
            }
        }
    }
    Ok(found)
}

/// `CASE.STRUCTURE.nii.gz` and the like, safe wherever files are kept.
fn file_name(parts: &[&str]) -> String {
    format!("{}.nii.gz", safe_name(&parts.join(".")))
}

/// What is known of every image, by case.
fn heads(input: &Input) -> Result<BTreeMap<String, ImageHead>, StageError> {
    let mut found = BTreeMap::new();
    for part in &input.parts {
        let heads = image_heads(&part.path).map_err(refused)?.into_iter();
        found.extend(heads.map(|head| (head.id.clone(), head)));
    }
    Ok(found)
}

/// The grid of a file.
#[derive(Clone, Copy)]
struct Onto {
    shape: [usize; 3],
    spacing: Spacing,
    affine: Option<Affine>,
}

impl Onto {
    fn of_label(label: &CaseLabel) -> Self {
        Self { shape: label.mask.shape(), spacing: label.spacing, affine: label.affine }
    }

    fn of_image(head: &ImageHead) -> Self {
        Self { shape: head.shape, spacing: head.spacing, affine: head.affine }
    }

    /// The way from this grid into that of a label; none where they are the same.
    fn way(&self, label: &CaseLabel) -> Result<Option<VoxelMap>, ExportError> {
        let (case, found) = (label.id.clone(), label.mask.shape());
        let is_shape = self.shape == found;
        let Some(place) = label.affine else {
            let unknown = ExportError::PlaceUnknown { case, expected: self.shape, found };
            return if is_shape { Ok(None) } else { Err(unknown) };
        };
        let own = self.affine.unwrap_or_else(|| affine::of_spacing(self.spacing));
        if is_shape && affine::are_same(&own, &place, found) {
            return Ok(None);
        }
        let way = VoxelMap::between(&own, &place);
        way.map(Some).ok_or_else(|| ExportError::Singular { case, found: Box::new(place.rows) })
    }
}

struct Export<'a> {
    config: &'a ExportNiftiConfig,
    values: &'a Values<'a>,
    labels: &'a Input,
    files: &'a Out<NiftiFiles>,
}

impl Export<'_> {
    /// Writes the files of all cases, on the grids of `source`.
    fn all(&self, source: Option<&Input>) -> Result<(), StageError> {
        let cases = cases(self.labels, self.values)?;
        let images = source.map_or(Ok(BTreeMap::new()), heads)?;
        cases.par_iter().try_for_each(|(case, rows)| {
            let Some(source) = source else { return self.case(case, rows, None) };
            let image = images.get(case).ok_or_else(|| {
                StageError::new(ExportError::ImageMissing {
                    case: case.clone(),
                    labels: self.labels.cell.clone(),
                    source_cell: source.cell.clone(),
                })
            })?;
            self.case(case, rows, Some(image))
        })
    }

    /// Writes the files of a case.
    fn case(
        &self,
        case: &str,
        rows: &[Row<'_>],
        image: Option<&ImageHead>,
    ) -> Result<(), StageError> {
        let mut labels = Vec::new();
        for Row { path, row, .. } in rows {
            let label = read_label(path, *row).map_err(refused)?;
            let gone = || StageError::new(ShardsError::CaseGone { case: case.to_owned() });
            labels.push(label.ok_or_else(gone)?);
        }
        let Some(first) = labels.first() else { return Ok(()) };
        for label in &labels {
            let (expected, found) = (first.mask.shape(), label.mask.shape());
            if expected != found {
                let case = case.to_owned();
                return Err(StageError::new(ExportError::ShapesDiffer { case, expected, found }));
            }
            check_place(case, &self.labels.cell, found, first.affine, label.affine)?;
        }
        let onto = image.map_or_else(|| Onto::of_label(first), Onto::of_image);
        let way = onto.way(first).map_err(StageError::new)?;
        if self.values.structures().is_empty() {
            for label in &labels {
                let mask = label.mask.map(|&inside| u8::from(inside));
                self.mask(&file_name(&[case, &label.structure]), mask, onto, way.as_ref())?;
            }
        } else {
            let labels: Vec<&CaseLabel> = labels.iter().collect();
            let map = self.values.map(&labels).map_err(|error| {
                StageError::new(error).hint("leave `structures` out to get one file a structure")
            })?;
            self.mask(&file_name(&[case]), map, onto, way.as_ref())?;
        }
        for label in labels.iter().filter(|_| self.config.probabilities) {
            if let Some(map) = &label.probability {
                let name = file_name(&[case, &label.structure, "probability"]);
                let image = match &way {
                    Some(way) => linear_onto(map, way, onto.shape, 0.0),
                    None => map.clone(),
                };
                self.write(&name, image, onto, NiftiVoxel::F32)?;
            }
        }
        Ok(())
    }

    fn mask(
        &self,
        name: &str,
        map: Grid<u8>,
        onto: Onto,
        way: Option<&VoxelMap>,
    ) -> Result<(), StageError> {
        let map = match way {
            Some(way) => nearest_onto(&map, way, onto.shape, 0),
            None => map,
        };
        self.write(name, map.map(|&value| f32::from(value)), onto, NiftiVoxel::U8)
    }

    fn write(
        &self,
        name: &str,
        image: Image,
        onto: Onto,
        voxel: NiftiVoxel,
    ) -> Result<(), StageError> {
        let volume = Volume { image, spacing: onto.spacing, affine: onto.affine };
        let path = self.files.path(name);
        write_nifti(&path, &volume, voxel, NiftiVersion::One).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{
        CaseImage, Mask, Space, Split, mask,
        shard::{write_images, write_labels},
        volume::read_nifti,
    };

    use super::*;
    use crate::shards::tests::{input, label};

    const PLACE: Affine = Affine {
        rows: [[-0.5, 0.0, 0.0, 8.0], [0.0, 2.0, 0.0, -3.0], [0.0, 0.0, 4.0, 1.0]],
        space: Space::Scanner,
    };

    /// What the stage writes of these labels, by name, for images of one shape.
    fn written(
        config: &ExportNiftiConfig,
        labels: &[CaseLabel],
        images: Option<(&[&str], [usize; 3])>,
    ) -> Result<BTreeMap<String, Volume>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.parquet");
        write_labels(&path, labels).unwrap();
        let labels = input("drawn", "train-0.parquet", path);
        let values = Values::new(&config.structures).unwrap();
        let image = |case: &&str, shape| CaseImage {
            id: (*case).to_owned(),
            patient: "p".to_owned(),
            dataset: "drawn".to_owned(),
            split: Split::Train,
            image: Image::filled(shape, 0.0),
            spacing: Spacing::new([4.0, 2.0, 0.5]).unwrap(),
            affine: Some(PLACE),
        };
        let source = images.map(|(cases, shape)| {
            let path = folder.path().join("images.parquet");
            let images: Vec<CaseImage> = cases.iter().map(|case| image(case, shape)).collect();
            write_images(&path, &images).unwrap();
            input("scans", "train-0.parquet", path)
        });
        let files = Out::in_folder(folder.path().join("files"));
        std::fs::create_dir(folder.path().join("files")).unwrap();
        let export = Export { config, values: &values, labels: &labels, files: &files };
        export.all(source.as_ref()).map_err(|error| error.to_string())?;
        let found = std::fs::read_dir(folder.path().join("files")).unwrap();
        let found = found.map(|entry| entry.unwrap());
        Ok(found
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, read_nifti(&entry.path()).unwrap())
            })
            .collect())
    }

    fn placed(case: &str, structure: &str, mask: Mask, affine: Option<Affine>) -> CaseLabel {
        CaseLabel { structure: structure.to_owned(), affine, ..label(case, "x", mask) }
    }

    #[test]
    fn a_label_cut_out_of_its_image_goes_back_to_its_place() {
        let cut = affine::regridded(&PLACE, [0.0, 1.0, 2.0], [1.0; 3]);
        let probability = Image::new([1, 1, 2], vec![0.25, 1.0]).unwrap();
        let label = CaseLabel {
            probability: Some(probability),
            ..placed("a", "lung", mask![". #"], Some(cut))
        };
        let config = ExportNiftiConfig { probabilities: true, ..ExportNiftiConfig::default() };
        let found = written(&config, &[label], Some((&["a"], [1, 2, 5]))).unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.lung.nii.gz", "a.lung.probability.nii.gz"]);
        let [mask, map] =
            names.try_into().map(|names: [&str; 2]| names.map(|name| &found[name])).unwrap();
        assert_eq!((mask.affine, mask.spacing.millimetres()), (Some(PLACE), [4.0, 2.0, 0.5]));
        assert_eq!(mask.image.values(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(map.image.values(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 1.0, 0.0]);
    }

    #[test]
    fn what_has_no_way_back_is_refused() {
        let config = ExportNiftiConfig::default();
        let refused = |labels: &[CaseLabel], images| written(&config, labels, images).unwrap_err();
        let nowhere = placed("a", "lung", mask![". #"], None);
        assert_eq!(
            refused(std::slice::from_ref(&nowhere), Some((&["a"], [1, 2, 5]))),
            "label of case `a` has shape [1, 1, 2] as [slice, row, column] and no affine: the image has [1, 2, 5]"
        );
        let same = written(&config, std::slice::from_ref(&nowhere), Some((&["a"], [1, 1, 2])));
        assert_eq!(same.unwrap()["a.lung.nii.gz"].affine, Some(PLACE));
        assert_eq!(
            refused(&[nowhere], Some((&["b"], [1, 1, 2]))),
            "case `a` has a label in cell `drawn` and no image in cell `scans`"
        );
        let flat: Affine =
            [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]].into();
        let flat = placed("a", "lung", mask![". #"], Some(flat));
        assert!(refused(&[flat], Some((&["a"], [1, 2, 5]))).contains("axes lie in a plane"));
    }

    #[test]
    fn labels_that_do_not_fit_one_file_are_refused() {
        let one = |values: &[(&str, u8)]| ExportNiftiConfig {
            structures: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), vec![*value]))
                .collect(),
            ..ExportNiftiConfig::default()
        };
        let lung = placed("a", "lung", mask![". #"], None);
        let two = [lung.clone(), placed("a", "heart", mask!["# . ."], None)];
        let refused = |config: &ExportNiftiConfig, labels: &[CaseLabel]| {
            written(config, labels, None).unwrap_err()
        };
        assert_eq!(
            refused(&one(&[("lung", 1), ("heart", 2)]), &two),
            "labels of case `a` differ in shape: [1, 1, 2] and [1, 1, 3] as [slice, row, column]"
        );
        assert_eq!(
            refused(&one(&[("lung", 1), ("liver", 2)]), &two),
            "case `a` has no label of structure `liver` from cell `drawn`"
        );
        let twins = [placed("a", "b.c", mask!["#"], None), placed("a.b", "c", mask!["#"], None)];
        assert_eq!(
            refused(&ExportNiftiConfig::default(), &twins),
            "two labels would be written to `a.b.c.nii.gz`, the later of case `a.b`"
        );
        let found = written(&one(&[("lung", 7)]), &[lung], None).unwrap();
        assert_eq!(found["a.nii.gz"].image.values(), [0.0, 7.0]);
    }
}
