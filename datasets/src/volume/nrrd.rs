//! Reader of NRRD: `.nrrd`, or `.nhdr` with its voxels in a file beside it; plain or gzip.
//!
//! Source: the NRRD format definition of Teem, versions 1 to 5. Worlds LPS, RAS and LAS are turned into RAS.
//! Not read: list and vector axes, block types, text and hexadecimal voxels, bzip2, skipped lines or bytes, voxels
//! spread over several files. Key/value pairs (`key:=value`) are left alone.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Affine, Volume, VolumeError,
    element::{Element, Endian},
    file::{
        MAX_HEADER_BYTES, axes, beside, count_voxels, gunzip, numbers, read_file, read_start,
        shortened, wrong,
    },
    from_lps,
};
use crate::{DatasetsError, affine::steps};

/// Reads a NRRD of 2 or 3 axes; one of 2 axes, and one without `space`, has no affine.
///
/// # Errors
/// [`DatasetsError::Read`], and [`DatasetsError::Volume`] with [`VolumeError::Magic`], [`VolumeError::Field`],
/// [`VolumeError::FieldMissing`], [`VolumeError::FieldTwice`], [`VolumeError::VoxelLimit`],
/// [`VolumeError::DataLength`], [`VolumeError::Compressed`], [`VolumeError::DataPath`] or [`VolumeError::Spacing`].
pub fn read_nrrd(path: &Path) -> Result<Volume, DatasetsError> {
    let bytes = read_file(path)?;
    let (header, rest) = Header::parse(&bytes).map_err(|source| wrong(path, source))?;
    let Some(name) = header.get("data file") else {
        return header.volume(rest).map_err(|source| wrong(path, source));
    };
    let voxels = beside(path, name).map_err(|source| wrong(path, source))?;
    let stored = read_file(&voxels)?;
    header.volume(&stored).map_err(|source| wrong(&voxels, source))
}

/// The file that a header names for its voxels.
pub(super) fn detached(path: &Path) -> Result<Option<PathBuf>, DatasetsError> {
    let start = read_start(path)?;
    let name = |(header, _): (Header, _)| header.get("data file").map(str::to_owned);
    let name = Header::parse(&start).map(name).map_err(|source| wrong(path, source))?;
    let voxels = name.map(|name| beside(path, &name)).transpose();
    voxels.map_err(|source| wrong(path, source))
}

/// Fields by their names, written in one way.
struct Header(BTreeMap<String, String>);

impl Header {
    /// Splits a file into its header and what follows.
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), VolumeError> {
        let is_known =
            matches!(bytes.get(..8), Some([b'N', b'R', b'R', b'D', b'0', b'0', b'0', b'1'..=b'5']));
        if !is_known {
            let found = bytes.iter().copied().take(8).collect();
            return Err(VolumeError::Magic { format: "NRRD", found });
        }
        let mut fields = BTreeMap::new();
        let mut rest = bytes;
        let mut is_first = true;
        while let Some(end) = rest.iter().take(MAX_HEADER_BYTES).position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]);
            let line = line.trim_end_matches('\r');
            rest = &rest[end + 1..];
            if line.is_empty() {
                return Ok((Self(fields), rest));
            }
            if !is_first {
                add_line(&mut fields, line)?;
            }
            is_first = false;
            if bytes.len() - rest.len() > MAX_HEADER_BYTES {
                break;
            }
        }
        // A header without voxels of its own may end with the file.
        let has_ended = rest.is_empty() && fields.contains_key("data file");
        if has_ended {
            Ok((Self(fields), rest))
        } else {
            Err(VolumeError::FieldMissing { field: "blank line" })
        }
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    fn need(&self, field: &'static str) -> Result<&str, VolumeError> {
        self.get(field).ok_or(VolumeError::FieldMissing { field })
    }

    fn volume(&self, stored: &[u8]) -> Result<Volume, VolumeError> {
        for skip in ["line skip", "byte skip"] {
            if let Some(found) = self.get(skip).filter(|&found| found != "0") {
                let found = shortened(found);
                return Err(VolumeError::Field {
                    field: "line skip or byte skip",
                    expected: "0",
                    found,
                });
            }
        }
        let axes = axes("sizes", self.need("sizes")?)?;
        if self.need("dimension")? != axes.len().to_string() {
            return Err(VolumeError::Field {
                field: "dimension",
                expected: "2 or 3, the number of axes in `sizes`",
                found: shortened(self.need("dimension")?),
            });
        }
        self.check_kinds()?;
        let element = self.element()?;
        let n_bytes = count_voxels(&axes)? * element.size();
        let bytes = self.expand(stored, n_bytes)?;
        if bytes.len() != n_bytes {
            return Err(VolumeError::DataLength { expected: n_bytes, found: bytes.len() });
        }
        let values = element.decode(&bytes, self.endian(element)?, |value| value);
        let sizes = [axes[0], axes[1], axes.get(2).copied().unwrap_or(1)].map(|axis| axis as usize);
        let affine = self.affine(axes.len())?;
        let spacing = match &affine {
            Some(affine) => steps(affine),
            None => self.spacings(axes.len())?,
        };
        Volume::assemble(sizes, values, spacing, affine)
    }

    /// Refuses axes that are not directions in space.
    fn check_kinds(&self) -> Result<(), VolumeError> {
        let mut kinds = self.get("kinds").unwrap_or_default().split_whitespace();
        match kinds.find(|kind| !["domain", "space", "???", "none"].contains(kind)) {
            Some(found) => Err(VolumeError::Field {
                field: "kinds",
                expected: "domain or space for every axis",
                found: shortened(found),
            }),
            None => Ok(()),
        }
    }

    fn element(&self) -> Result<Element, VolumeError> {
        Ok(match self.need("type")? {
            "signed char" | "int8" | "int8_t" => Element::I8,
            "uchar" | "unsigned char" | "uint8" | "uint8_t" => Element::U8,
            "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
                Element::I16
            }
            "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => {
                Element::U16
            }
            "int" | "signed int" | "int32" | "int32_t" => Element::I32,
            "uint" | "unsigned int" | "uint32" | "uint32_t" => Element::U32,
            "longlong"
            | "long long"
            | "long long int"
            | "signed long long"
            | "signed long long int"
            | "int64"
            | "int64_t" => Element::I64,
            "ulonglong"
            | "unsigned long long"
            | "unsigned long long int"
            | "uint64"
            | "uint64_t" => Element::U64,
            "float" => Element::F32,
            "double" => Element::F64,
            other => {
                let expected = "a whole or real number";
                let found = shortened(other);
                return Err(VolumeError::Field { field: "type", expected, found });
            }
        })
    }

    fn endian(&self, element: Element) -> Result<Endian, VolumeError> {
        match self.get("endian") {
            Some("little") => Ok(Endian::Little),
            Some("big") => Ok(Endian::Big),
            None if element.size() == 1 => Ok(Endian::Little),
            None => Err(VolumeError::FieldMissing { field: "endian" }),
            Some(other) => {
                let found = shortened(other);
                Err(VolumeError::Field { field: "endian", expected: "little or big", found })
            }
        }
    }

    fn expand<'a>(&self, stored: &'a [u8], n_bytes: usize) -> Result<Cow<'a, [u8]>, VolumeError> {
        match self.need("encoding")? {
            "raw" => Ok(stored.into()),
            "gzip" | "gz" => gunzip(stored, n_bytes.saturating_add(1)).map(Into::into),
            other => {
                let found = shortened(other);
                Err(VolumeError::Field { field: "encoding", expected: "raw or gzip", found })
            }
        }
    }

    /// Distances as `[slice, row, column]` where there is no world; 1 mm when the header has none.
    fn spacings(&self, n_axes: usize) -> Result<[f64; 3], VolumeError> {
        let expected = "one finite number an axis";
        let Some(text) = self.get("spacings") else { return Ok([1.0; 3]) };
        let found = numbers("spacings", text, expected)?;
        match (found.as_slice(), n_axes) {
            (&[column, row], 2) => Ok([1.0, row, column]),
            (&[column, row, slice], 3) => Ok([slice, row, column]),
            _ => Err(VolumeError::Field { field: "spacings", expected, found: shortened(text) }),
        }
    }

    fn affine(&self, n_axes: usize) -> Result<Option<Affine>, VolumeError> {
        let Some(directions) = self.get("space directions").filter(|_| n_axes == 3) else {
            return Ok(None);
        };
        let signs = match self.get("space") {
            Some("left-posterior-superior" | "LPS") => [-1.0, -1.0],
            Some("right-anterior-superior" | "RAS") => [1.0, 1.0],
            Some("left-anterior-superior" | "LAS") => [-1.0, 1.0],
            found => {
                let expected = "LPS, RAS or LAS where there are space directions";
                let found = shortened(found.unwrap_or_default());
                return Err(VolumeError::Field { field: "space", expected, found });
            }
        };
        let axes = vectors("space directions", directions)?;
        let origin = match self.get("space origin") {
            Some(text) => vectors("space origin", text)?,
            None => vec![[0.0; 3]],
        };
        let (&[x, y, z], &[origin]) = (axes.as_slice(), origin.as_slice()) else {
            let expected = "one vector of three numbers an axis, and one for the origin";
            let found = shortened(directions);
            return Err(VolumeError::Field { field: "space directions", expected, found });
        };
        let lps = [0, 1, 2].map(|world| [x[world], y[world], z[world], origin[world]]);
        // LPS is the world that `from_lps` turns; the other two are brought there first.
        let turn = |row: [f64; 4], sign: f64| {
            row.map(|value| if sign < 0.0 { value } else { 0.0 - value })
        };
        Ok(Some(from_lps([turn(lps[0], signs[0]), turn(lps[1], signs[1]), lps[2]])))
    }
}

/// Adds a line of the header; comments and key/value pairs are left out.
fn add_line(fields: &mut BTreeMap<String, String>, line: &str) -> Result<(), VolumeError> {
    if line.starts_with('#') || line.contains(":=") {
        return Ok(());
    }
    let Some((field, value)) = line.split_once(':') else {
        let expected = "`field: value`, `key:=value` or a comment";
        // The text stays out of messages: free text of headers may name a patient.
        let found = format!("{} bytes of something else", line.len());
        return Err(VolumeError::Field { field: "line", expected, found });
    };
    let name = match field.trim() {
        "datafile" => "data file",
        "lineskip" => "line skip",
        "byteskip" => "byte skip",
        other => other,
    };
    if fields.insert(name.to_owned(), value.trim().to_owned()).is_some() {
        return Err(VolumeError::FieldTwice { field: name.to_owned() });
    }
    Ok(())
}

/// Vectors of three numbers, each as `(x,y,z)`.
fn vectors(field: &'static str, text: &str) -> Result<Vec<[f64; 3]>, VolumeError> {
    let expected = "vectors of three finite numbers, as (1,0,0)";
    let refused = || VolumeError::Field { field, expected, found: shortened(text) };
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (vector, after) =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(refused)?;
        let parsed = numbers(field, &vector.replace(',', " "), expected)?;
        found.push(<[f64; 3]>::try_from(parsed).map_err(|_| refused())?);
        rest = after.trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::Space;

    const HEADER: &str = "NRRD0004\n# a comment\ntype: short\ndimension: 3\nspace: left-posterior-superior\n\
        sizes: 4 3 2\nspace directions: (0.5,0,0) (0,0,0.75) (0,2,0)\nkinds: domain domain domain\nendian: little\n\
        encoding: raw\nspace origin: (10,-20,30)\nSegment0_LabelValue:=1\n\n";

    fn voxels() -> Vec<u8> {
        (0..24_i16).flat_map(|value| (value - 4).to_le_bytes()).collect()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8]) -> Result<Volume, VolumeError> {
        Header::parse(bytes).and_then(|(header, rest)| header.volume(rest))
    }

    fn read(header: &str, voxels: &[u8]) -> Result<Volume, VolumeError> {
        decode(&[header.as_bytes(), voxels].concat())
    }

    #[test]
    fn plain_compressed_and_detached_voxels_are_the_same_volume() {
        let volume = read(HEADER, &voxels()).unwrap();
        assert_eq!((volume.image.shape(), volume.image.get([1, 2, 3])), ([2, 3, 4], 19.0));
        assert_eq!(volume.spacing.millimetres(), [2.0, 0.75, 0.5]);
        let rows = [[-0.5, 0.0, 0.0, -10.0], [0.0, 0.0, -2.0, 20.0], [0.0, 0.75, 0.0, 30.0]];
        assert_eq!(volume.affine, Some(Affine { rows, space: Space::Scanner }));
        assert_eq!(read(&HEADER.replace("raw", "gzip"), &gz(&voxels())).unwrap(), volume);
        assert_eq!(read(&HEADER.replace('\n', "\r\n"), &voxels()).unwrap(), volume);
        let swapped: Vec<u8> =
            voxels().chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        assert_eq!(read(&HEADER.replace("little", "big"), &swapped).unwrap(), volume);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.raw.gz"), gz(&voxels())).unwrap();
        let path = folder.path().join("a.nhdr");
        let header = HEADER.replace("raw\n", "gzip\ndata file: a.raw.gz\n");
        for header in [header.as_str(), header.trim_end_matches('\n'), &header[..header.len() - 1]]
        {
            fs::write(&path, header).unwrap();
            let found = read_nrrd(&path);
            assert!(found.is_err() || found.unwrap() == volume);
        }
        assert_eq!(read_nrrd(&path).unwrap(), volume);
    }

    #[test]
    fn worlds_become_one() {
        let of = |space: &str| {
            read(&HEADER.replace("left-posterior-superior", space), &voxels())
                .unwrap()
                .affine
                .unwrap()
                .rows
        };
        let [x, y, z] = of("LPS");
        let negated = |row: [f64; 4]| row.map(|value| 0.0 - value);
        assert_eq!(of("right-anterior-superior"), [negated(x), negated(y), z]);
        assert_eq!(of("LAS"), [x, negated(y), z]);
    }

    #[test]
    fn without_a_world_there_are_spacings() {
        let header = "NRRD0001\ntype: uchar\ndimension: 2\nsizes: 3 2\nspacings: 0.5 0.25\nencoding: raw\n\n";
        let volume = read(header, &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((volume.image.shape(), volume.affine), ([1, 2, 3], None));
        assert_eq!(volume.spacing.millimetres(), [1.0, 0.25, 0.5]);
    }

    #[test]
    fn hostile_headers_are_typed_errors() {
        for (from, to, expected) in [
            ("NRRD0004", "NRRD0009", "not NRRD"),
            ("sizes: 4 3 2", "sizes: 4 3 -2", "`sizes`"),
            ("sizes: 4 3 2", "sizes: 4 3 2 2", "`sizes`"),
            ("sizes: 4 3 2", "sizes: 4 3", "`dimension`"),
            ("sizes: 4 3 2", "sizes: 4 3 3", "the voxels need 72 bytes"),
            ("sizes: 4 3 2", "sizes: 99999999999 99999999999 9", "more than"),
            ("sizes: 4 3 2", "sizes: 4 3 2\nsizes: 4 3 2", "twice"),
            ("type: short", "type: block", "`type`"),
            ("type: short\n", "", "no `type`"),
            ("endian: little\n", "", "no `endian`"),
            ("encoding: raw", "encoding: bzip2", "`encoding`"),
            ("encoding: raw", "encoding: raw\nbyteskip: -1", "skip"),
            ("domain domain domain", "vector domain domain", "`kinds`"),
            ("(0,0,0.75)", "none", "`space directions`"),
            ("(0,0,0.75)", "(0,0,nan)", "`space directions`"),
            ("(0,0,0.75)", "(0,0,0)", "positive"),
            ("(0,0,0.75)", "", "`space directions`"),
            ("left-posterior-superior", "scanner-xyz", "`space`"),
            ("\n\n", "\n", "`line`"),
        ] {
            let header = HEADER.replacen(from, to, 1);
            assert_ne!(header, HEADER, "{from}");
            let error = read(&header, &voxels()).unwrap_err().to_string();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn voxels_outside_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nhdr");
        for name in ["../a.raw", "/tmp/a.raw", "LIST/a", "b/../a.raw"] {
            fs::write(&path, HEADER.replace("raw\n", &format!("raw\ndatafile: {name}\n"))).unwrap();
            let error = read_nrrd(&path).unwrap_err();
            let DatasetsError::Volume { source, .. } = error else { continue };
            assert!(matches!(source, VolumeError::DataPath { .. }), "{name}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let packed = HEADER.replace("raw", "gzip");
        for whole in
            [[HEADER.as_bytes(), &voxels()].concat(), [packed.as_bytes(), &gz(&voxels())].concat()]
        {
            assert!(decode(&whole).is_ok());
            for length in 0..whole.len() {
                assert!(decode(&whole[..length]).is_err(), "{length}");
            }
        }
    }
}
