//! Volumes from files: NIfTI-1 and -2, MetaImage and NRRD.
//!
//! Readers are strict: a field that is not understood, a stream whose checksum is wrong and a file with too few or too
//! many bytes are errors, never guesses, and nothing is allocated because a header says so. Voxels lie as in the
//! file: its fastest axis is `column`, the next `row`, the slowest `slice`; nothing is flipped or resampled, and the
//! affine says where the voxels are.

mod element;
mod error;
mod file;
mod metaimage;
mod nifti;
mod nifti_write;
mod nrrd;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::{DatasetsError, Grid, Image, Mask, Spacing};

pub use error::VolumeError;
pub use file::MAX_VOXELS;
pub use metaimage::read_metaimage;
pub use nifti::{read_nifti, read_nifti_frames};
pub use nifti_write::{NiftiVersion, NiftiVoxel, encode_nifti, write_nifti};
pub use nrrd::read_nrrd;

/// Where voxels are: three rows that take `(column, row, slice, 1)` to millimetres towards the patient's right-to-left,
/// back-to-front and foot-to-head direction (RAS+, the convention of NIfTI).
pub type Affine = [[f64; 4]; 3];

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
    fn assemble(
        axes: [usize; 3],
        values: Vec<f32>,
        spacing: [f64; 3],
        affine: Option<Affine>,
    ) -> Result<Self, VolumeError> {
        let [columns, rows, slices] = axes;
        let spacing = Spacing::new(spacing).map_err(|_| VolumeError::Spacing { found: spacing })?;
        let image = Grid::new([slices, rows, columns], values)
            .expect("readers count the voxels that they decode");
        Ok(Self { image, spacing, affine })
    }
}

/// Lengths of the columns of an affine as `[slice, row, column]`: the distances between voxels.
fn steps(affine: &Affine) -> [f64; 3] {
    [2, 1, 0].map(|axis| affine.iter().map(|row| row[axis].powi(2)).sum::<f64>().sqrt())
}

/// Turns an affine whose first two world axes point left and back into one where they point right and front.
fn from_lps(affine: Affine) -> Affine {
    let [x, y, z] = affine;
    [x.map(|value| 0.0 - value), y.map(|value| 0.0 - value), z]
}

/// Reads a file by its ending: `.nii`, `.nii.gz`, `.hdr`, `.mha`, `.mhd`, `.nrrd` or `.nhdr`.
///
/// # Errors
/// [`VolumeError::UnknownEnding`], and those of [`read_nifti`], [`read_metaimage`] and [`read_nrrd`].
pub fn read_volume(path: &Path) -> Result<Volume, DatasetsError> {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".nii", ".nii.gz", ".hdr"]) {
        read_nifti(path)
    } else if ends(&[".mha", ".mhd"]) {
        read_metaimage(path)
    } else if ends(&[".nrrd", ".nhdr"]) {
        read_nrrd(path)
    } else {
        let known = ".nii, .nii.gz, .hdr, .mha, .mhd, .nrrd, .nhdr";
        Err(file::wrong(path, VolumeError::UnknownEnding { known }))
    }
}
