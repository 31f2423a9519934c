//! Volumes from files: NIfTI-1 and -2, MetaImage and NRRD.
//!
//! Readers are strict: a field that is not understood, a stream whose checksum is wrong and a file with too few or too
//! many bytes are errors, never guesses, and nothing is allocated because a header says so. Voxels lie as in the
//! file: its fastest axis is `column`, the next `row`, the slowest `slice`; nothing is flipped or resampled, and the
//! affine says where the voxels are.

mod element;
mod error;
pub(crate) mod file;
mod metaimage;
mod nifti;
mod nifti_write;
mod nrrd;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::{DatasetsError, Grid, Image, Mask, Space, Spacing, affine::solidity_of};

pub use crate::affine::Affine;
pub use error::VolumeError;
pub use file::MAX_VOXELS;
pub use metaimage::read_metaimage;
pub use nifti::{read_nifti, read_nifti_frames};
pub use nifti_write::{NiftiVersion, NiftiVoxel, encode_nifti, write_nifti};
pub use nrrd::read_nrrd;

/// An image with its place in the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Voxels `[slice, row, column]` after the file's own scaling; may hold NaN where the file does.
    pub image: Image,
    /// Distance between voxels.
    pub spacing: Spacing,
    /// Place in the world; `None` when the file does not say.
    pub affine: Option<Affine>,
}

impl Volume {
    /// The voxels as labels.
    ///
    /// # Errors
    /// [`VolumeError::Label`] for the first voxel that is not a whole number in `[0, 255]`.
    pub fn labels(&self) -> Result<Grid<u8>, VolumeError> {
        let is_label = |value: f32| (0.0..=255.0).contains(&value) && value.fract() == 0.0;
        let stray = self.image.values().iter().enumerate().find(|(_, value)| !is_label(**value));
        if let Some((index, &value)) = stray {
            let [_, n_rows, n_columns] = self.image.shape();
            let place =
                [index / (n_rows * n_columns), index / n_columns % n_rows, index % n_columns];
            return Err(VolumeError::Label { place, value });
        }
        Ok(self.image.map(|&value| value as u8))
    }

    /// The mask of one label.
    ///
    /// # Errors
    /// As [`Volume::labels`].
    pub fn mask_of(&self, label: u8) -> Result<Mask, VolumeError> {
        Ok(self.labels()?.map(|&found| found == label))
    }

    /// Puts together what a reader found; `axes` are fastest first.
    pub(crate) fn assemble(
        axes: [usize; 3],
        values: Vec<f32>,
        spacing: [f64; 3],
        affine: Option<Affine>,
    ) -> Result<Self, VolumeError> {
        let [columns, rows, slices] = axes;
        let spacing = Spacing::new(spacing).map_err(|_| VolumeError::Spacing { found: spacing })?;
        if let Some(affine) = &affine {
            check_independent(affine)?;
        }
        let image = Grid::new([slices, rows, columns], values)
            .expect("readers count the voxels that they decode");
        Ok(Self { image, spacing, affine })
    }
}

/// Least determinant of the directions of three axes that is taken for a place in the world: 0.06 degrees off a plane.
const MIN_DETERMINANT: f64 = 1e-3;

/// Refuses axes that lie in a plane; an axis of length 0, which only one voxel can have, is taken upright to the others.
fn check_independent(affine: &Affine) -> Result<(), VolumeError> {
    let determinant = solidity_of(affine);
    if determinant.abs() >= MIN_DETERMINANT {
        Ok(())
    } else {
        Err(VolumeError::Singular { determinant })
    }
}

/// The place in the scanner that rows tell whose first two world axes point left and back: in an affine they point right and
/// front.
pub(crate) fn from_lps([x, y, z]: [[f64; 4]; 3]) -> Affine {
    let rows = [x.map(|value| 0.0 - value), y.map(|value| 0.0 - value), z];
    Affine { rows, space: Space::Scanner }
}

/// Endings of the names of volumes, the longest of those that end alike first.
pub const ENDINGS: [&str; 7] = [".nii.gz", ".nii", ".hdr", ".mha", ".mhd", ".nrrd", ".nhdr"];

/// What reads a file, told by the ending of its name.
enum Format {
    Nifti,
    MetaImage,
    Nrrd,
}

fn format(path: &Path) -> Result<Format, DatasetsError> {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".nii", ".nii.gz", ".hdr"]) {
        Ok(Format::Nifti)
    } else if ends(&[".mha", ".mhd"]) {
        Ok(Format::MetaImage)
    } else if ends(&[".nrrd", ".nhdr"]) {
        Ok(Format::Nrrd)
    } else {
        Err(file::wrong(path, VolumeError::UnknownEnding { known: ENDINGS.join(", ") }))
    }
}

/// Reads a file by its ending, one of [`ENDINGS`].
///
/// # Errors
/// [`VolumeError::UnknownEnding`], and those of [`read_nifti`], [`read_metaimage`] and [`read_nrrd`].
pub fn read_volume(path: &Path) -> Result<Volume, DatasetsError> {
    match format(path)? {
        Format::Nifti => read_nifti(path),
        Format::MetaImage => read_metaimage(path),
        Format::Nrrd => read_nrrd(path),
    }
}

/// Reads all volumes of a file by its ending; only NIfTI holds several.
///
/// # Errors
/// Those of [`read_volume`], but for the number of volumes.
pub fn read_frames(path: &Path) -> Result<Vec<Volume>, DatasetsError> {
    match format(path)? {
        Format::Nifti => read_nifti_frames(path),
        _ => Ok(vec![read_volume(path)?]),
    }
}

/// The file beside a header that holds its voxels; `None` when they follow the header.
///
/// # Errors
/// Those of the readers for the header.
pub fn detached_voxels(path: &Path) -> Result<Option<PathBuf>, DatasetsError> {
    let has_ending =
        |ending: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending));
    match format(path)? {
        Format::Nifti if has_ending("hdr") => Ok(Some(nifti::voxels_of_pair(path))),
        Format::MetaImage if has_ending("mhd") => metaimage::detached(path),
        Format::Nrrd if has_ending("nhdr") => nrrd::detached(path),
        _ => Ok(None),
    }
}
