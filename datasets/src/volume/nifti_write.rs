//! Writer of NIfTI, the same bytes for the same volume.

use std::{fs, io::Write, path::Path};

use flate2::{Compression, GzBuilder};

use super::{Volume, VolumeError, file::wrong};
use crate::DatasetsError;

/// Version of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NiftiVersion {
    /// NIfTI-1, which every program reads: axes up to 32767, affine and spacing rounded to `f32`.
    #[default]
    One,
    /// NIfTI-2: any axes, affine and spacing as `f64`.
    Two,
}

/// Type of the voxels in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NiftiVoxel {
    /// Real numbers of 4 bytes.
    F32,
    /// Labels of 1 byte.
    U8,
}

/// Writes a volume, compressed when the name ends in `.gz`.
///
/// An affine that came from a file of the same version is written as it was, as the sform with the code of its space, and so
/// is its absence; the unit is the millimetre. The compressed form holds neither name nor time, so equal volumes give equal bytes.
///
/// # Errors
/// [`DatasetsError::Write`], and [`DatasetsError::Volume`] as [`encode_nifti`].
pub fn write_nifti(
    path: &Path,
    volume: &Volume,
    voxel: NiftiVoxel,
    version: NiftiVersion,
) -> Result<(), DatasetsError> {
    let bytes = encode_nifti(volume, voxel, version).map_err(|source| wrong(path, source))?;
    let is_compressed = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
    let stored = if is_compressed { gzip(&bytes) } else { Ok(bytes) };
    stored
        .and_then(|stored| fs::write(path, stored))
        .map_err(|source| DatasetsError::Write { path: path.to_owned(), source })
}

/// The bytes of an uncompressed file.
///
/// # Errors
/// [`VolumeError::Unwritable`] when an axis is empty or too long for the version, [`VolumeError::Label`] when the
/// voxels are to be [`NiftiVoxel::U8`] and are not labels.
pub fn encode_nifti(
    volume: &Volume,
    voxel: NiftiVoxel,
    version: NiftiVersion,
) -> Result<Vec<u8>, VolumeError> {
    let mut bytes = match version {
        NiftiVersion::One => first_header(volume, voxel)?,
        NiftiVersion::Two => second_header(volume, voxel)?,
    };
    match voxel {
        NiftiVoxel::F32 => {
            bytes.extend(volume.image.values().iter().flat_map(|value| value.to_le_bytes()));
        }
        NiftiVoxel::U8 => bytes.extend(volume.labels()?.values()),
    }
    Ok(bytes)
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Code and bits of the voxels.
fn datatype(voxel: NiftiVoxel) -> [i16; 2] {
    match voxel {
        NiftiVoxel::F32 => [16, 32],
        NiftiVoxel::U8 => [2, 8],
    }
}

/// Header of which the fields are set one by one.
struct Blank(Vec<u8>);

impl Blank {
    fn put<const N: usize>(&mut self, place: usize, number: [u8; N]) {
        self.0[place..place + N].copy_from_slice(&number);
    }
}

/// `dim` of a volume: 3 axes, fastest first, and 1 for the rest.
fn axes<T: TryFrom<usize>>(volume: &Volume, format: &'static str) -> Result<[T; 8], VolumeError> {
    let shape = volume.image.shape();
    let [slices, rows, columns] = shape;
    let unwritable = || VolumeError::Unwritable { format, shape };
    let axes = [3, columns, rows, slices, 1, 1, 1, 1]
        .map(|axis| T::try_from(axis).ok().filter(|_| axis > 0));
    let axes: Vec<T> = axes.into_iter().collect::<Option<_>>().ok_or_else(unwritable)?;
    axes.try_into().map_err(|_| unwritable())
}

fn first_header(volume: &Volume, voxel: NiftiVoxel) -> Result<Vec<u8>, VolumeError> {
    let mut header = Blank(vec![0; 352]);
    header.put(0, 348_i32.to_le_bytes());
    for (index, axis) in axes::<i16>(volume, "NIfTI-1")?.into_iter().enumerate() {
        header.put(40 + 2 * index, axis.to_le_bytes());
    }
    let [code, bits] = datatype(voxel);
    header.put(70, code.to_le_bytes());
    header.put(72, bits.to_le_bytes());
    let [slice, row, column] = volume.spacing.millimetres();
    for (index, step) in [1.0, column, row, slice, 1.0, 1.0, 1.0, 1.0].into_iter().enumerate() {
        header.put(76 + 4 * index, (step as f32).to_le_bytes());
    }
    header.put(108, 352_f32.to_le_bytes());
    header.put(112, 1_f32.to_le_bytes());
    header.put(123, [2]);
    if let Some(affine) = volume.affine {
        header.put(254, affine.space.code().to_le_bytes());
        for (index, value) in affine.rows.into_iter().flatten().enumerate() {
            header.put(280 + 4 * index, (value as f32).to_le_bytes());
        }
    }
    header.put(344, *b"n+1\0");
    Ok(header.0)
}

fn second_header(volume: &Volume, voxel: NiftiVoxel) -> Result<Vec<u8>, VolumeError> {
    let mut header = Blank(vec![0; 544]);
    header.put(0, 540_i32.to_le_bytes());
    header.put(4, *b"n+2\0\r\n\x1a\n");
    let [code, bits] = datatype(voxel);
    header.put(12, code.to_le_bytes());
    header.put(14, bits.to_le_bytes());
    for (index, axis) in axes::<i64>(volume, "NIfTI-2")?.into_iter().enumerate() {
        header.put(16 + 8 * index, axis.to_le_bytes());
    }
    let [slice, row, column] = volume.spacing.millimetres();
    for (index, step) in [1.0, column, row, slice, 1.0, 1.0, 1.0, 1.0].into_iter().enumerate() {
        header.put(104 + 8 * index, f64::to_le_bytes(step));
    }
    header.put(168, 544_i64.to_le_bytes());
    header.put(176, 1_f64.to_le_bytes());
    if let Some(affine) = volume.affine {
        header.put(348, i32::from(affine.space.code()).to_le_bytes());
        for (index, value) in affine.rows.into_iter().flatten().enumerate() {
            header.put(400 + 8 * index, value.to_le_bytes());
        }
    }
    header.put(500, 2_i32.to_le_bytes());
    Ok(header.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{
        Grid, Space, Spacing,
        volume::{Affine, read_nifti},
    };

    fn volume(affine: Option<Affine>, spacing: [f64; 3]) -> Volume {
        let image = Grid::from_fn([2, 3, 5], |[slice, row, column]| {
            (slice * 100 + row * 10 + column) as f32
        });
        Volume { image, spacing: Spacing::new(spacing).unwrap(), affine }
    }

    #[test]
    fn volumes_come_back_and_compress_to_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let oblique = [[0.1, 0.7, 0.0, 1.0 / 3.0], [-0.7, 0.1, 0.0, -2.0], [0.0, 0.0, 3.0, 9.0]];
        let step = 0.5_f64.sqrt();
        let exact = [[-0.5, 0.0, 0.0, 3.0], [0.0, 0.25, 0.0, -8.0], [0.0, 0.0, 3.0, 9.0]];
        let [oblique, exact] = [(oblique, Space::Mni), (exact, Space::Scanner)]
            .map(|(rows, space)| Affine { rows, space });
        for (version, volume) in [
            (NiftiVersion::One, volume(Some(exact), [3.0, 0.25, 0.5])),
            (NiftiVersion::One, volume(None, [3.0, 0.25, 0.5])),
            (NiftiVersion::Two, volume(Some(oblique), [3.0, step, step])),
        ] {
            for voxel in [NiftiVoxel::F32, NiftiVoxel::U8] {
                let [plain, first, second] =
                    ["a.nii", "b.nii.gz", "c.nii.gz"].map(|name| folder.path().join(name));
                for path in [&plain, &first, &second] {
                    write_nifti(path, &volume, voxel, version).unwrap();
                    assert_eq!(read_nifti(path).unwrap(), volume, "{version:?} {voxel:?}");
                }
                let bytes = fs::read(&first).unwrap();
                assert_eq!(bytes, fs::read(&second).unwrap());
                assert_eq!(&bytes[3..8], [0; 5], "neither name nor time");
                assert!(bytes.len() < fs::read(&plain).unwrap().len());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = Volume { image: Grid::filled([1, 1, 40_000], 0.0), ..volume(None, [1.0; 3]) };
        let error = encode_nifti(&long, NiftiVoxel::F32, NiftiVersion::One).unwrap_err();
        assert!(matches!(error, VolumeError::Unwritable { format: "NIfTI-1", .. }));
        assert!(encode_nifti(&long, NiftiVoxel::F32, NiftiVersion::Two).is_ok());
        let empty = Volume { image: Grid::filled([0, 1, 1], 0.0), ..volume(None, [1.0; 3]) };
        assert!(encode_nifti(&empty, NiftiVoxel::F32, NiftiVersion::Two).is_err());
        for value in [0.5, -1.0, 256.0, f32::NAN] {
            let mut stray = volume(None, [1.0; 3]);
            stray.image.set([1, 2, 3], value);
            let error = encode_nifti(&stray, NiftiVoxel::U8, NiftiVersion::One).unwrap_err();
            assert!(matches!(error, VolumeError::Label { place: [1, 2, 3], .. }));
        }
    }
}
