//! Reader of MetaImage: `.mha`, or `.mhd` with its voxels in a file beside it; plain or zlib.
//!
//! Source: the MetaIO documentation and ITK's `MetaImageIO`: `TransformMatrix` holds the direction of one axis after
//! the other, in a world that points left and back. Keys that do not say how voxels lie are left alone.
//! Not read: ASCII voxels, several channels, `ElementDataFile = LIST` and patterns, offsets within the file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Affine, Volume, VolumeError,
    element::{Element, Endian},
    file::{
        MAX_HEADER_BYTES, axes, beside, count_voxels, numbers, read_file, read_start, shortened,
        unzlib, wrong,
    },
    from_lps,
};
use crate::DatasetsError;

/// Reads a MetaImage of 2 or 3 axes; one of 2 axes has no affine.
///
/// # Errors
/// [`DatasetsError::Read`], and [`DatasetsError::Volume`] with [`VolumeError::Magic`], [`VolumeError::Field`],
/// [`VolumeError::FieldMissing`], [`VolumeError::FieldTwice`], [`VolumeError::VoxelLimit`],
/// [`VolumeError::DataLength`], [`VolumeError::Compressed`], [`VolumeError::DataPath`] or [`VolumeError::Spacing`].
pub fn read_metaimage(path: &Path) -> Result<Volume, DatasetsError> {
    let bytes = read_file(path)?;
    let (header, rest) = Header::parse(&bytes).map_err(|source| wrong(path, source))?;
    match header.data_path(path).map_err(|source| wrong(path, source))? {
        None => header.volume(rest).map_err(|source| wrong(path, source)),
        Some(voxels) => {
            let stored = read_file(&voxels)?;
            header.volume(&stored).map_err(|source| wrong(&voxels, source))
        }
    }
}

/// The file that a header names for its voxels.
pub(super) fn detached(path: &Path) -> Result<Option<PathBuf>, DatasetsError> {
    let start = read_start(path)?;
    let data_path = Header::parse(&start).and_then(|(header, _)| header.data_path(path));
    data_path.map_err(|source| wrong(path, source))
}

/// Keys and values; `ElementDataFile` is the last.
struct Header(BTreeMap<String, String>);

impl Header {
    /// Splits a file into its header and what follows.
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), VolumeError> {
        let mut fields = BTreeMap::new();
        let mut rest = bytes;
        loop {
            // What is not a line of a header is another format at the start and a missing end later on.
            let lost = || match fields.is_empty() {
                true => {
                    let found = bytes.iter().copied().take(16).collect();
                    VolumeError::Magic { format: "MetaImage", found }
                }
                false => VolumeError::FieldMissing { field: "ElementDataFile" },
            };
            let left = MAX_HEADER_BYTES.saturating_sub(bytes.len() - rest.len());
            let end = rest.iter().take(left).position(|&byte| byte == b'\n').ok_or_else(lost)?;
            let line = std::str::from_utf8(&rest[..end]).map_err(|_| lost())?;
            rest = &rest[end + 1..];
            if line.trim().is_empty() {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(lost)?;
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            let is_last = key == "ElementDataFile";
            if fields.insert(key.clone(), value).is_some() {
                return Err(VolumeError::FieldTwice { field: key });
            }
            if is_last {
                return Ok((Self(fields), rest));
            }
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn need(&self, key: &'static str) -> Result<&str, VolumeError> {
        self.get(key).ok_or(VolumeError::FieldMissing { field: key })
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, VolumeError> {
        match self.get(key) {
            None => Ok(None),
            Some("True" | "true" | "1") => Ok(Some(true)),
            Some("False" | "false" | "0") => Ok(Some(false)),
            Some(other) => Err(VolumeError::Field {
                field: key,
                expected: "True or False",
                found: shortened(other),
            }),
        }
    }

    /// Refuses a key with another value than the one that is read, when it is there.
    fn must_be(&self, field: &'static str, expected: &'static str) -> Result<(), VolumeError> {
        match self.get(field) {
            Some(value) if value != expected => {
                Err(VolumeError::Field { field, expected, found: shortened(value) })
            }
            _ => Ok(()),
        }
    }

    /// The file with the voxels; `None` when they follow the header.
    fn data_path(&self, header: &Path) -> Result<Option<PathBuf>, VolumeError> {
        let name = self.need("ElementDataFile")?;
        if name.eq_ignore_ascii_case("LOCAL") {
            return Ok(None);
        }
        if name.starts_with("LIST") || name.contains('%') || name.contains(' ') {
            return Err(VolumeError::Field {
                field: "ElementDataFile",
                expected: "LOCAL or one file name",
                found: shortened(name),
            });
        }
        beside(header, name).map(Some)
    }

    fn volume(&self, stored: &[u8]) -> Result<Volume, VolumeError> {
        self.must_be("ObjectType", "Image")?;
        self.must_be("ElementNumberOfChannels", "1")?;
        self.must_be("HeaderSize", "0")?;
        if self.flag("BinaryData")? == Some(false) {
            let found = "`False`".to_owned();
            return Err(VolumeError::Field { field: "BinaryData", expected: "True", found });
        }
        let axes = axes("DimSize", self.need("DimSize")?)?;
        if self.need("NDims")? != axes.len().to_string() {
            return Err(VolumeError::Field {
                field: "NDims",
                expected: "2 or 3, the number of axes in `DimSize`",
                found: shortened(self.need("NDims")?),
            });
        }
        let element = self.element()?;
        let n_bytes = count_voxels(&axes)? * element.size();
        let bytes = self.expand(stored, n_bytes)?;
        if bytes.len() != n_bytes {
            return Err(VolumeError::DataLength { expected: n_bytes, found: bytes.len() });
        }
        let values = element.decode(&bytes, self.endian()?, |value| value);
        let sizes = [axes[0], axes[1], axes.get(2).copied().unwrap_or(1)].map(|axis| axis as usize);
        let steps = self.steps(axes.len())?;
        let spacing = [steps.get(2).copied().unwrap_or(1.0), steps[1], steps[0]];
        Volume::assemble(sizes, values, spacing, self.affine(&steps)?)
    }

    fn element(&self) -> Result<Element, VolumeError> {
        Ok(match self.need("ElementType")? {
            "MET_UCHAR" => Element::U8,
            "MET_CHAR" => Element::I8,
            "MET_USHORT" => Element::U16,
            "MET_SHORT" => Element::I16,
            "MET_UINT" => Element::U32,
            "MET_INT" => Element::I32,
            "MET_ULONG_LONG" => Element::U64,
            "MET_LONG_LONG" => Element::I64,
            "MET_FLOAT" => Element::F32,
            "MET_DOUBLE" => Element::F64,
            other => {
                // The size of MET_LONG depends on the machine that wrote it.
                let expected = "a whole or real number of known size, as MET_SHORT";
                let found = shortened(other);
                return Err(VolumeError::Field { field: "ElementType", expected, found });
            }
        })
    }

    fn endian(&self) -> Result<Endian, VolumeError> {
        let by_data = self.flag("BinaryDataByteOrderMSB")?;
        let by_element = self.flag("ElementByteOrderMSB")?;
        if let (Some(data), Some(element)) = (by_data, by_element)
            && data != element
        {
            return Err(VolumeError::Field {
                field: "ElementByteOrderMSB",
                expected: "equal to `BinaryDataByteOrderMSB`",
                found: element.to_string(),
            });
        }
        let is_big = by_data.or(by_element).unwrap_or(false);
        Ok(if is_big { Endian::Big } else { Endian::Little })
    }

    fn expand<'a>(&self, stored: &'a [u8], n_bytes: usize) -> Result<Cow<'a, [u8]>, VolumeError> {
        if self.flag("CompressedData")? != Some(true) {
            return Ok(stored.into());
        }
        if let Some(told) = self.get("CompressedDataSize")
            && told != stored.len().to_string()
        {
            return Err(VolumeError::Field {
                field: "CompressedDataSize",
                expected: "the number of bytes that are there",
                found: format!("{} with {} bytes there", shortened(told), stored.len()),
            });
        }
        unzlib(stored, n_bytes.saturating_add(1)).map(Into::into)
    }

    /// Distance along every axis, fastest first; 1 mm when the header has none.
    fn steps(&self, n_axes: usize) -> Result<Vec<f64>, VolumeError> {
        let expected = "one finite number an axis";
        let key =
            if self.get("ElementSpacing").is_some() { "ElementSpacing" } else { "ElementSize" };
        let Some(text) = self.get(key) else { return Ok(vec![1.0; n_axes]) };
        let steps = numbers(key, text, expected)?;
        if steps.len() == n_axes {
            Ok(steps)
        } else {
            Err(VolumeError::Field { field: key, expected, found: shortened(text) })
        }
    }

    /// Numbers under the one of several names that is there.
    fn numbers_of(
        &self,
        names: [&'static str; 3],
        n_numbers: usize,
    ) -> Result<Option<Vec<f64>>, VolumeError> {
        let Some(name) = names.into_iter().find(|name| self.get(name).is_some()) else {
            return Ok(None);
        };
        let expected = "three numbers, or nine for a matrix";
        let text = self.need(name)?;
        let numbers = numbers(name, text, expected)?;
        if numbers.len() == n_numbers {
            Ok(Some(numbers))
        } else {
            Err(VolumeError::Field { field: name, expected, found: shortened(text) })
        }
    }

    fn affine(&self, steps: &[f64]) -> Result<Option<Affine>, VolumeError> {
        if steps.len() != 3 {
            return Ok(None);
        }
        let matrix = self.numbers_of(["TransformMatrix", "Rotation", "Orientation"], 9)?;
        let offset = self.numbers_of(["Offset", "Position", "Origin"], 3)?;
        let (None, None) = (&matrix, &offset) else {
            let matrix =
                matrix.unwrap_or_else(|| vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
            let offset = offset.unwrap_or_else(|| vec![0.0; 3]);
            let row = |world: usize| {
                let [x, y, z] = [0, 1, 2].map(|axis| matrix[3 * axis + world] * steps[axis]);
                [x, y, z, offset[world]]
            };
            return Ok(Some(from_lps([row(0), row(1), row(2)])));
        };
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::{fs, io::Write};

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;
    use crate::Space;

    const HEADER: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n\
        TransformMatrix = 1 0 0 0 0 1 0 1 0\nOffset = 10 -20 30\nElementSpacing = 0.5 0.75 2\nDimSize = 4 3 2\n\
        AnatomicalOrientation = RAI\nElementType = MET_SHORT\nElementDataFile = LOCAL\n";

    fn voxels() -> Vec<u8> {
        (0..24_i16).flat_map(|value| (value - 4).to_le_bytes()).collect()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Reads a header with voxels, as one file.
    fn read(header: &str, voxels: &[u8]) -> Result<Volume, DatasetsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mha");
        fs::write(&path, [header.as_bytes(), voxels].concat()).unwrap();
        read_metaimage(&path)
    }

    #[test]
    fn plain_compressed_and_detached_voxels_are_the_same_volume() {
        let volume = read(HEADER, &voxels()).unwrap();
        assert_eq!(volume.image.shape(), [2, 3, 4]);
        assert_eq!(volume.image.get([1, 2, 3]), 19.0);
        assert_eq!(volume.spacing.millimetres(), [2.0, 0.75, 0.5]);
        let rows = [[-0.5, 0.0, 0.0, -10.0], [0.0, 0.0, -2.0, 20.0], [0.0, 0.75, 0.0, 30.0]];
        assert_eq!(volume.affine, Some(Affine { rows, space: Space::Scanner }));
        let packed = zlib(&voxels());
        let sized =
            format!("CompressedData = True\nCompressedDataSize = {}\n{HEADER}", packed.len());
        assert_eq!(read(&sized, &packed).unwrap(), volume);
        assert_eq!(read(&format!("CompressedData = True\n{HEADER}"), &packed).unwrap(), volume);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.raw"), voxels()).unwrap();
        let path = folder.path().join("a.mhd");
        fs::write(&path, HEADER.replace("LOCAL", "a.raw")).unwrap();
        assert_eq!(read_metaimage(&path).unwrap(), volume);
        let swapped: Vec<u8> =
            voxels().chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        assert_eq!(read(&HEADER.replace("MSB = False", "MSB = True"), &swapped).unwrap(), volume);
    }

    #[test]
    fn two_axes_are_one_slice_without_a_place() {
        let header = "NDims = 2\nDimSize = 3 2\nElementSize = 0.5 0.25\nElementType = MET_UCHAR\n\
            ElementDataFile = LOCAL\n";
        let volume = read(header, &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((volume.image.shape(), volume.affine), ([1, 2, 3], None));
        assert_eq!(volume.spacing.millimetres(), [1.0, 0.25, 0.5]);
    }

    #[test]
    fn hostile_headers_are_typed_errors() {
        for (from, to, expected) in [
            ("DimSize = 4 3 2", "DimSize = 4 3 -2", "`DimSize`"),
            ("DimSize = 4 3 2", "DimSize = 4 0 2", "`DimSize`"),
            ("DimSize = 4 3 2", "DimSize = 99999999999 99999999999 9", "more than"),
            ("DimSize = 4 3 2", "DimSize = 4 3", "`NDims`"),
            ("DimSize = 4 3 2", "DimSize = 4 3 3", "the voxels need 72 bytes"),
            ("DimSize = 4 3 2", "NDims = 3", "twice"),
            ("ElementSpacing = 0.5 0.75 2", "ElementSpacing = 0.5 nan 2", "`ElementSpacing`"),
            ("ElementSpacing = 0.5 0.75 2", "ElementSpacing = 0.5 0 2", "positive"),
            ("ElementSpacing = 0.5 0.75 2", "ElementSpacing = 1", "`ElementSpacing`"),
            ("Offset = 10 -20 30", "Offset = 10", "`Offset`"),
            ("MET_SHORT", "MET_LONG", "`ElementType`"),
            ("MET_SHORT", "MET_SHORT\nElementNumberOfChannels = 3", "`ElementNumberOfChannels`"),
            ("BinaryData = True", "BinaryData = False", "`BinaryData`"),
            ("BinaryData = True", "BinaryData = maybe", "`BinaryData`"),
            ("BinaryData = True", "HeaderSize = -1", "`HeaderSize`"),
            ("= LOCAL", "= LIST", "`ElementDataFile`"),
            ("= LOCAL", "= a%03d.raw 1 2 1", "`ElementDataFile`"),
            ("= LOCAL", "= ../a.raw", "beside the header"),
            ("ElementDataFile = LOCAL\n", "", "no `ElementDataFile`"),
            ("NDims = 3\n", "", "no `NDims`"),
            ("ObjectType = Image", "\u{7f}ELF", "not MetaImage"),
        ] {
            let header = HEADER.replacen(from, to, 1);
            assert_ne!(header, HEADER, "{from}");
            let error = match read(&header, &voxels()).unwrap_err() {
                DatasetsError::Volume { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let packed = zlib(&voxels());
        for (header, voxels) in
            [(HEADER.to_owned(), voxels()), (format!("CompressedData = True\n{HEADER}"), packed)]
        {
            let whole = [header.as_bytes(), &voxels].concat();
            for length in 0..whole.len() {
                let found =
                    Header::parse(&whole[..length]).and_then(|(header, rest)| header.volume(rest));
                assert!(found.is_err(), "{length}");
            }
        }
    }
}
