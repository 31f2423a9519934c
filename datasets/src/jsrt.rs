//! Chest films of the Japanese Society of Radiological Technology (JSRT) with the masks of SCR.
//!
//! Source: Shiraishi et al., AJR 174 (2000), the films; van Ginneken et al., Med. Image Anal. 10 (2006), the masks.
//! Two layouts are told apart by what lies in the folder: the official release (raw films of 2048 x 2048, GIF masks
//! of 1024 x 1024) and the repack of the `SpatialCorrection` project (PNG of 256 x 256 in `images_train`,
//! `lung_gts_train` and so on). Values keep the polarity of the raw films, where air is bright, and are scaled to
//! `[0, 1]`; training normalises them. The patient's right lung lies on the left of the image.

mod clinical;
mod film;
mod layout;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CaseImage, CaseLabel, DatasetsError, Grid, Image, Mask, SourceKind, Spacing, Split, picture,
};

pub use clinical::{Clinical, Nodule, Sex};

/// Rows and columns of a raw film.
pub const FILM_SIDE: usize = 2048;

/// Rows and columns of an official mask.
pub const MASK_SIDE: usize = 1024;

/// Distance between the pixels of a raw film.
pub const FILM_SPACING_MM: f64 = 0.175;

/// Smallest number of rows and columns that films are reduced to.
const MIN_SIDE: usize = 16;

/// What SCR outlines in every film.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum JsrtStructure {
    /// Both lungs in one mask, without heart, mediastinum and what lies below the diaphragm.
    Lung,
    /// The heart.
    Heart,
    /// Both clavicles in one mask.
    Clavicle,
}

impl JsrtStructure {
    /// All structures.
    pub const ALL: [Self; 3] = [Self::Lung, Self::Heart, Self::Clavicle];

    /// The word that labels use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lung => "lung",
            Self::Heart => "heart",
            Self::Clavicle => "clavicle",
        }
    }

    /// Folders of the official release whose masks make up the structure.
    fn official_folders(self) -> &'static [&'static str] {
        match self {
            Self::Lung => &["left lung", "right lung"],
            Self::Heart => &["heart"],
            Self::Clavicle => &["left clavicle", "right clavicle"],
        }
    }
}

/// How a release lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsrtLayout {
    /// Raw films and GIF masks as their owners publish them.
    Official,
    /// Small PNG of films and masks, already divided into splits.
    Reduced,
}

/// The files of one film.
#[derive(Clone, Debug, PartialEq)]
pub struct JsrtEntry {
    /// Name of the case, for example `JPCLN001`.
    pub id: String,
    /// How the release lies on disk.
    pub layout: JsrtLayout,
    /// The film.
    pub image: PathBuf,
    /// The masks whose union is each structure.
    pub masks: BTreeMap<JsrtStructure, Vec<PathBuf>>,
    /// The split that the layout gives the film; the official release gives none.
    pub published_split: Option<Split>,
    /// What the clinical tables say, where they lie beside the films.
    pub clinical: Option<Clinical>,
}

/// All that is read from a release.
#[derive(Clone, Debug, PartialEq)]
pub struct JsrtListing {
    /// How the release lies on disk.
    pub layout: JsrtLayout,
    /// The films in the order of their ids.
    pub entries: Vec<JsrtEntry>,
    /// The clinical tables that were read.
    pub clinical_files: Vec<PathBuf>,
}

impl JsrtListing {
    /// All files that listing and [`read_case`] read: films, masks and clinical tables.
    pub fn files(&self) -> Vec<&Path> {
        let pictures = self.entries.iter().flat_map(|JsrtEntry { image, masks, .. }| {
            std::iter::once(image).chain(masks.values().flatten())
        });
        pictures.chain(&self.clinical_files).map(PathBuf::as_path).collect()
    }
}

/// A film and its masks at the size that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct JsrtCase {
    /// The film; values in `[0, 1]`, air bright.
    pub image: CaseImage,
    /// One mask a structure, of the shape of the film.
    pub masks: BTreeMap<JsrtStructure, Mask>,
}

impl JsrtCase {
    /// The masks as labels of the source `truth`.
    pub fn labels(&self) -> Vec<CaseLabel> {
        let label = |(structure, mask): (&JsrtStructure, &Mask)| CaseLabel {
            id: self.image.id.clone(),
            source: "truth".to_owned(),
            kind: SourceKind::Truth,
            structure: structure.name().to_owned(),
            split: self.image.split,
            mask: mask.clone(),
            probability: None,
            spacing: self.image.spacing,
            affine: None,
            params: None,
        };
        self.masks.iter().map(label).collect()
    }
}

/// Lists a release and pairs films with masks, without reading a picture.
///
/// Films are looked for in `root`, `root/All247images` and, for the repack, `root/Datasets/JSRT`; masks of the
/// official release in `root/scratch/fold1|fold2/masks` and `root/fold1|fold2/masks`. Hidden files are left out.
///
/// # Errors
/// [`DatasetsError::UnknownLayout`] when neither layout is there; [`DatasetsError::Unpaired`] with every mask that is
/// missing or has no film; [`DatasetsError::DuplicateCase`] when a film or mask is there twice;
/// [`DatasetsError::ClinicalRecord`] and [`DatasetsError::Read`].
pub fn list(root: &Path, structures: &[JsrtStructure]) -> Result<JsrtListing, DatasetsError> {
    let mut listing = layout::list(root, structures)?;
    let (records, files) = clinical::find(root)?;
    for entry in &mut listing.entries {
        entry.clinical = records.get(&entry.id).cloned();
    }
    listing.clinical_files = files;
    Ok(listing)
}

/// Reads a film and its masks and reduces them to `size` rows and columns.
///
/// Films are averaged over the area of each new pixel; a mask keeps the pixels of which it covers at least half.
/// Spacing is 0.175 mm x 2048 / `size`.
///
/// # Errors
/// [`DatasetsError::Setting`] when `size` is below 16 or above the stored film; [`DatasetsError::RawSize`] and
/// [`DatasetsError::ByteOrder`] for raw films; [`DatasetsError::PictureSize`] for masks of another size and films
/// that are not square; [`DatasetsError::EmptyMask`]; and those of [`picture::read_mask`], which allows no tolerance
/// here.
pub fn read_case(entry: &JsrtEntry, split: Split, size: usize) -> Result<JsrtCase, DatasetsError> {
    let check = |side: usize| {
        let [low, high, found] = [MIN_SIDE, side, size].map(|n| n as f64);
        let is_within = (MIN_SIDE..=side).contains(&size);
        if is_within {
            Ok(())
        } else {
            Err(DatasetsError::Setting { setting: "size", low, high, found })
        }
    };
    let (film, mask_side) = match entry.layout {
        JsrtLayout::Official => {
            check(FILM_SIDE)?;
            (film::read_raw_reduced(&entry.image, size)?, MASK_SIDE)
        }
        JsrtLayout::Reduced => {
            let film = square(&entry.image, picture::read_image(&entry.image)?)?;
            check(film.n_rows())?;
            (film::reduce(&film, size), film.n_rows())
        }
    };
    let mut masks = BTreeMap::new();
    for (&structure, parts) in &entry.masks {
        let union = read_union(entry, parts, mask_side)?;
        masks.insert(structure, film::reduce_mask(&union, size));
    }
    let column_mm = FILM_SPACING_MM * FILM_SIDE as f64 / size as f64;
    let image = CaseImage {
        id: entry.id.clone(),
        patient: entry.id.clone(),
        dataset: "jsrt".to_owned(),
        split,
        image: film,
        spacing: Spacing::new([1.0, column_mm, column_mm])?,
        affine: None,
    };
    Ok(JsrtCase { image, masks })
}

/// Joins the masks of a structure.
fn read_union(entry: &JsrtEntry, parts: &[PathBuf], side: usize) -> Result<Mask, DatasetsError> {
    let mut union = Grid::filled([1, side, side], false);
    for path in parts {
        let mask = picture::read_mask(path, 0)?;
        if mask.shape() != union.shape() {
            return Err(wrong_size(path, side, mask.shape()));
        }
        if mask.is_empty() {
            return Err(DatasetsError::EmptyMask { path: path.clone(), case: entry.id.clone() });
        }
        for (joined, &inside) in union.values_mut().iter_mut().zip(mask.values()) {
            *joined |= inside;
        }
    }
    Ok(union)
}

/// Refuses films that are not square.
fn square(path: &Path, film: Image) -> Result<Image, DatasetsError> {
    if film.n_rows() == film.n_columns() {
        Ok(film)
    } else {
        Err(wrong_size(path, film.n_rows(), film.shape()))
    }
}

fn wrong_size(path: &Path, side: usize, shape: [usize; 3]) -> DatasetsError {
    DatasetsError::PictureSize {
        path: path.to_owned(),
        expected: [side; 2],
        found: [shape[1], shape[2]],
    }
}

#[cfg(test)]
mod tests;
