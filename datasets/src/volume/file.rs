//! Bytes of volume files: bounded reading, checked decompression, and voxels beside their header.

use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use flate2::{bufread::ZlibDecoder, read::MultiGzDecoder};

use super::VolumeError;
use crate::DatasetsError;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 32;

/// Largest number of voxels that is read from one file, all its volumes together.
pub const MAX_VOXELS: usize = 1 << 28;

/// Bytes that any compressed file may expand to, however small it is.
///
/// It holds 2^28 voxels of 2 bytes, 2^26 of 8.
const FREE_BYTES: usize = 1 << 29;

/// Bytes that a stored byte may expand to beyond [`FREE_BYTES`].
///
/// Deflate reaches 1032 on zeros. Label maps in files of hundreds of megabytes come near that only when each label
/// takes 8 bytes; images stay below 20.
const MAX_EXPANSION: usize = 200;

/// Longest text header, in bytes.
pub(super) const MAX_HEADER_BYTES: usize = 1 << 20;

/// Says which file an error belongs to.
pub(super) fn wrong(path: &Path, source: VolumeError) -> DatasetsError {
    DatasetsError::Volume { path: path.to_owned(), source }
}

/// Reads a whole file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DatasetsError> {
    let unreadable = |source| DatasetsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?.len();
    if found > MAX_FILE_BYTES {
        return Err(wrong(path, VolumeError::FileSize { found, limit: MAX_FILE_BYTES }));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Whether bytes begin as gzip does.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Decompresses gzip of any number of members up to `limit` bytes, with checksums and lengths, and nothing behind.
///
/// Exactly `limit` bytes mean that there may be more.
///
/// # Errors
/// [`VolumeError::Compressed`], and [`VolumeError::Expansion`] where a small file becomes improbably large.
pub(super) fn gunzip(bytes: &[u8], limit: usize) -> Result<Vec<u8>, VolumeError> {
    inflate(MultiGzDecoder::new(bytes), limit, bytes.len(), "gzip")
}

/// Decompresses zlib up to `limit` bytes, with its checksum and nothing behind; as [`gunzip`] otherwise.
pub(super) fn unzlib(bytes: &[u8], limit: usize) -> Result<Vec<u8>, VolumeError> {
    let mut decoder = ZlibDecoder::new(bytes);
    let plain = inflate(&mut decoder, limit, bytes.len(), "zlib")?;
    let n_behind = decoder.into_inner().len();
    if plain.len() < limit && n_behind > 0 {
        let text = format!("{n_behind} bytes follow the stream");
        let source = io::Error::new(io::ErrorKind::InvalidData, text);
        return Err(VolumeError::Compressed { format: "zlib", source });
    }
    Ok(plain)
}

fn inflate(
    reader: impl Read,
    limit: usize,
    stored: usize,
    format: &'static str,
) -> Result<Vec<u8>, VolumeError> {
    let most = FREE_BYTES.max(stored.saturating_mul(MAX_EXPANSION));
    let mut plain = Vec::new();
    let mut limited = reader.take(limit.min(most.saturating_add(1)) as u64);
    limited.read_to_end(&mut plain).map_err(|source| VolumeError::Compressed { format, source })?;
    if plain.len() > most {
        return Err(VolumeError::Expansion { stored, limit: most });
    }
    Ok(plain)
}

/// The first bytes of a file, as many as a text header may have.
pub(super) fn read_start(path: &Path) -> Result<Vec<u8>, DatasetsError> {
    let unreadable = |source| DatasetsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Number of voxels of axes (fastest first) that are all at least 1 and hold at most [`MAX_VOXELS`].
pub(super) fn count_voxels(axes: &[u64]) -> Result<usize, VolumeError> {
    let product = axes.iter().try_fold(1_u64, |product, &axis| product.checked_mul(axis));
    match product.and_then(|product| usize::try_from(product).ok()) {
        Some(n_voxels) if n_voxels <= MAX_VOXELS => Ok(n_voxels),
        _ => Err(VolumeError::VoxelLimit { axes: axes.to_vec(), limit: MAX_VOXELS }),
    }
}

/// Path of a file that lies in the folder of `header` and has the plain name `name`.
pub(super) fn beside(header: &Path, name: &str) -> Result<PathBuf, VolumeError> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(plain)), None) if !name.contains(['/', '\\']) => {
            Ok(header.with_file_name(plain))
        }
        _ => Err(VolumeError::DataPath { name: name.to_owned() }),
    }
}

/// Numbers separated by blanks.
pub(super) fn numbers(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<Vec<f64>, VolumeError> {
    let parsed = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>();
    parsed
        .ok()
        .filter(|numbers| numbers.iter().all(|number| number.is_finite()))
        .ok_or_else(|| VolumeError::Field { field, expected, found: shortened(text) })
}

/// Axes of at least 1 voxel, separated by blanks; 2 or 3 of them.
pub(super) fn axes(field: &'static str, text: &str) -> Result<Vec<u64>, VolumeError> {
    let parsed = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
    let fits = |axes: &Vec<u64>| matches!(axes.len(), 2 | 3) && !axes.contains(&0);
    parsed.ok().filter(fits).ok_or_else(|| VolumeError::Field {
        field,
        expected: "two or three positive whole numbers",
        found: shortened(text),
    })
}

/// The beginning of a text from a header, for messages.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let start: String = text.chars().take(SHOWN).collect();
    if start.len() < text.len() { format!("`{start}...`") } else { format!("`{start}`") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_damage_of_gzip_is_found() {
        let whole = gz(b"voxels voxels voxels");
        assert_eq!(gunzip(&whole, 100).unwrap(), b"voxels voxels voxels");
        let two = [whole.clone(), gz(b" and more")].concat();
        assert_eq!(gunzip(&two, 100).unwrap(), b"voxels voxels voxels and more");
        for length in 0..whole.len() {
            assert!(gunzip(&whole[..length], 100).is_err(), "{length}");
        }
        for place in whole.len() - 8..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            assert!(gunzip(&flipped, 100).is_err(), "{place}");
        }
        assert!(gunzip(&[whole, vec![7; 20]].concat(), 100).is_err());
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let bomb = gz(&vec![0; 1 << 22]);
        assert_eq!(gunzip(&bomb, 1000).unwrap().len(), 1000);
    }

    /// A file of half a megabyte that announces and holds 2^29 + 1 bytes of zeros.
    #[test]
    fn improbable_expansion_is_refused_and_probable_one_is_not() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..FREE_BYTES >> 20 {
            encoder.write_all(&zeros).unwrap();
        }
        let full = encoder.try_finish().map(|()| encoder.get_ref().clone()).unwrap();
        assert!(full.len() < 600_000, "{}", full.len());
        assert_eq!(gunzip(&full, FREE_BYTES + 1).unwrap().len(), FREE_BYTES);
        let bomb = [full, gz(&[0])].concat();
        let error = gunzip(&bomb, usize::MAX).unwrap_err();
        assert!(
            matches!(error, VolumeError::Expansion { stored, limit: FREE_BYTES } if stored == bomb.len()),
            "{error}"
        );
    }

    #[test]
    fn zlib_is_checked_to_its_end() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"voxels").unwrap();
        let whole = encoder.finish().unwrap();
        assert_eq!(unzlib(&whole, 100).unwrap(), b"voxels");
        assert!(unzlib(&whole[..whole.len() - 1], 100).is_err());
        assert!(unzlib(&[whole.clone(), vec![0]].concat(), 100).is_err());
        let mut flipped = whole;
        *flipped.last_mut().unwrap() ^= 1;
        assert!(unzlib(&flipped, 100).is_err());
    }

    #[test]
    fn names_stay_in_the_folder() {
        let header = Path::new("a/b.mhd");
        assert_eq!(beside(header, "b.raw").unwrap(), Path::new("a/b.raw"));
        for name in ["../b.raw", "/etc/passwd", "c/b.raw", "..", "", ".", "c\\b.raw", "b.raw/"] {
            assert!(matches!(beside(header, name), Err(VolumeError::DataPath { .. })), "{name}");
        }
    }

    #[test]
    fn axes_cannot_overflow() {
        assert_eq!(count_voxels(&[2, 3, 4]).unwrap(), 24);
        for axes in [vec![u64::MAX, 2], vec![1 << 40, 1 << 40], vec![2000, 2000, 1000]] {
            assert!(matches!(count_voxels(&axes), Err(VolumeError::VoxelLimit { .. })));
        }
    }
}
