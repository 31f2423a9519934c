//! Reader of NIfTI-1 and NIfTI-2, as one file (`.nii`, `.nii.gz`) or as a pair (`.hdr` with `.img`).
//!
//! Source: `nifti1.h` and `nifti2.h` of the NIfTI data format working group. Both byte orders; whole and real numbers
//! of up to 8 bytes. The affine is the sform when its code is positive, else the qform, else unknown;
//! its code tells the space.
//! Not read: Analyze 7.5, complex and colour voxels, 5 and more axes (vectors, CIFTI).

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::{
    Affine, Volume, VolumeError,
    element::{Element, Endian},
    file::{count_voxels, gunzip, is_gzip, read_file, wrong},
};
use crate::{DatasetsError, Space, affine::steps};

/// Largest share by which `pixdim` and the affine may differ and still say the same.
const SAME_STEP: f64 = 1e-3;

/// Most bytes before the voxels: the header and its extensions.
const MAX_OFFSET: usize = 1 << 26;

/// Reads the one volume of a file.
///
/// `scl_slope` of 0, NaN or infinity means that nothing is scaled. Numbers without a unit are millimetres.
///
/// # Errors
/// [`DatasetsError::Read`] and [`DatasetsError::Volume`] with
/// - [`VolumeError::Magic`] for other formats, Analyze among them,
/// - [`VolumeError::Field`] for a header that is not understood,
/// - [`VolumeError::VoxelLimit`] above [`MAX_VOXELS`](super::MAX_VOXELS), [`VolumeError::DataLength`] and [`VolumeError::HeaderLength`]
///   for too few or too many bytes, [`VolumeError::Compressed`] for damaged gzip,
/// - [`VolumeError::Spacing`] for distances that are not positive,
/// - [`VolumeError::Frames`] when the fourth axis is longer than 1.
pub fn read_nifti(path: &Path) -> Result<Volume, DatasetsError> {
    let mut frames = read_nifti_frames(path)?;
    match (frames.pop(), frames.len()) {
        (Some(volume), 0) => Ok(volume),
        (_, n_before) => Err(wrong(path, VolumeError::Frames { found: n_before + 1 })),
    }
}

/// Reads all volumes of a file, in the order of the fourth axis.
///
/// # Errors
/// Those of [`read_nifti`], but for the number of volumes.
pub fn read_nifti_frames(path: &Path) -> Result<Vec<Volume>, DatasetsError> {
    let stored = read_file(path)?;
    let bytes = whole(&stored).map_err(|source| wrong(path, source))?;
    let header = Header::parse(&bytes).map_err(|source| wrong(path, source))?;
    if !header.is_pair {
        return header.frames(&bytes).map_err(|source| wrong(path, source));
    }
    let voxels = voxels_of_pair(path);
    let stored = read_file(&voxels)?;
    let frames = || header.frames(&expanded(&stored, header.end()?)?);
    frames().map_err(|source| wrong(&voxels, source))
}

/// All bytes of a file that begins with a header.
fn whole(stored: &[u8]) -> Result<Cow<'_, [u8]>, VolumeError> {
    if !is_gzip(stored) {
        return Ok(stored.into());
    }
    // The first bytes tell how many there should be, so a bomb costs no more than it may announce.
    let start = gunzip(stored, NIFTI_2_BYTES)?;
    match Header::parse(&start) {
        Ok(header) if !header.is_pair => expanded(stored, header.end()?),
        _ => expanded(stored, MAX_OFFSET),
    }
}

/// Decompresses up to one byte more than `expected`, so that a longer stream shows and a shorter one is checked.
fn expanded(stored: &[u8], expected: usize) -> Result<Cow<'_, [u8]>, VolumeError> {
    if is_gzip(stored) {
        gunzip(stored, expected.saturating_add(1)).map(Into::into)
    } else {
        Ok(stored.into())
    }
}

/// The `.img` beside a `.hdr`, compressed or not.
pub(super) fn voxels_of_pair(header: &Path) -> PathBuf {
    let plain = header.with_extension("img");
    let compressed = header.with_extension("img.gz");
    if !plain.exists() && compressed.exists() { compressed } else { plain }
}

const NIFTI_1_BYTES: usize = 348;
const NIFTI_2_BYTES: usize = 540;

/// What a header says, in one form for both versions.
#[derive(Clone, Debug)]
struct Header {
    endian: Endian,
    is_pair: bool,
    element: Element,
    /// Columns, rows, slices, volumes.
    axes: [u64; 4],
    offset: usize,
    scale: Option<[f64; 2]>,
    spacing: [f64; 3],
    affine: Option<Affine>,
}

/// Fields of a header at places that differ between the versions.
struct Fields<'a> {
    bytes: &'a [u8],
    endian: Endian,
    is_second: bool,
}

impl Fields<'_> {
    /// `N` bytes from `place`, in little-endian order.
    fn take<const N: usize>(&self, place: usize) -> [u8; N] {
        let mut taken = [0; N];
        taken.copy_from_slice(&self.bytes[place..place + N]);
        if self.endian == Endian::Big {
            taken.reverse();
        }
        taken
    }

    fn short(&self, place: usize) -> i16 {
        i16::from_le_bytes(self.take(place))
    }

    /// A code: `i16` in the first version, `i32` in the second.
    fn code(&self, first: usize, second: usize) -> i32 {
        if self.is_second {
            i32::from_le_bytes(self.take(second))
        } else {
            i32::from(self.short(first))
        }
    }

    /// The number `index` of a list of reals.
    fn real(&self, first: usize, second: usize, index: usize) -> f64 {
        if self.is_second {
            f64::from_le_bytes(self.take(second + 8 * index))
        } else {
            f64::from(f32::from_le_bytes(self.take(first + 4 * index)))
        }
    }

    fn axis(&self, index: usize) -> i64 {
        if self.is_second {
            i64::from_le_bytes(self.take(16 + 8 * index))
        } else {
            i64::from(self.short(40 + 2 * index))
        }
    }

    fn pixdim(&self, index: usize) -> f64 {
        self.real(76, 104, index)
    }
}

fn field(field: &'static str, expected: &'static str, found: impl ToString) -> VolumeError {
    VolumeError::Field { field, expected, found: found.to_string() }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, VolumeError> {
        let (fields, is_pair) = recognize(bytes)?;
        let element = element(&fields)?;
        let axes = axes(&fields)?;
        let millimetres = unit(&fields)?;
        let in_unit = affine(&fields)?;
        let affine = in_unit.map(|Affine { rows, space }| Affine {
            rows: rows.map(|row| row.map(|value| value * millimetres)),
            space,
        });
        let spacing = spacing(&fields, &axes, millimetres, affine.as_ref());
        Ok(Self {
            endian: fields.endian,
            is_pair,
            element,
            axes,
            offset: offset(&fields, is_pair)?,
            scale: scale(&fields)?,
            spacing,
            affine,
        })
    }

    /// Place after the last voxel.
    fn end(&self) -> Result<usize, VolumeError> {
        Ok(self.offset + count_voxels(&self.axes)? * self.element.size())
    }

    /// Decodes the voxels of a file.
    fn frames(&self, bytes: &[u8]) -> Result<Vec<Volume>, VolumeError> {
        let end = self.end()?;
        if bytes.len() != end {
            let [expected, found] = [end, bytes.len()].map(|n| n.saturating_sub(self.offset));
            return Err(VolumeError::DataLength { expected, found });
        }
        let axes = [self.axes[0], self.axes[1], self.axes[2]].map(|axis| axis as usize);
        let size = axes.iter().product::<usize>() * self.element.size();
        let frames = bytes[self.offset..].chunks_exact(size);
        frames
            .map(|frame| Volume::assemble(axes, self.decode(frame), self.spacing, self.affine))
            .collect()
    }

    fn decode(&self, frame: &[u8]) -> Vec<f32> {
        match self.scale {
            None => self.element.decode(frame, self.endian, |value| value),
            Some([slope, intercept]) => {
                self.element.decode(frame, self.endian, |value| slope * value + intercept)
            }
        }
    }
}

/// Version, byte order, and whether the voxels lie in another file.
fn recognize(bytes: &[u8]) -> Result<(Fields<'_>, bool), VolumeError> {
    let missing = |expected| VolumeError::HeaderLength { expected, found: bytes.len() };
    let size = bytes.first_chunk::<4>().ok_or(missing(NIFTI_1_BYTES))?;
    let known =
        [(Endian::Little, i32::from_le_bytes(*size)), (Endian::Big, i32::from_be_bytes(*size))];
    let found = known.into_iter().find(|&(_, size)| size == 348 || size == 540);
    let Some((endian, size)) = found else {
        return Err(VolumeError::Magic { format: "NIfTI", found: size.to_vec() });
    };
    let is_second = size == 540;
    let n_bytes = if is_second { NIFTI_2_BYTES } else { NIFTI_1_BYTES };
    if bytes.len() < n_bytes {
        return Err(missing(n_bytes));
    }
    let magic = if is_second { &bytes[4..12] } else { &bytes[344..348] };
    let is_pair = match magic {
        b"n+1\0" | b"n+2\0\r\n\x1a\n" => false,
        b"ni1\0" | b"ni2\0\r\n\x1a\n" => true,
        _ => return Err(VolumeError::Magic { format: "NIfTI", found: magic.to_vec() }),
    };
    Ok((Fields { bytes, endian, is_second }, is_pair))
}

fn element(fields: &Fields<'_>) -> Result<Element, VolumeError> {
    let code = fields.short(if fields.is_second { 12 } else { 70 });
    let element = match code {
        2 => Element::U8,
        4 => Element::I16,
        8 => Element::I32,
        16 => Element::F32,
        64 => Element::F64,
        256 => Element::I8,
        512 => Element::U16,
        768 => Element::U32,
        1024 => Element::I64,
        1280 => Element::U64,
        _ => return Err(field("datatype", "a whole or real number of 1 to 8 bytes", code)),
    };
    let bits = fields.short(if fields.is_second { 14 } else { 72 });
    if usize::try_from(bits).ok() == Some(8 * element.size()) {
        Ok(element)
    } else {
        Err(field("bitpix", "the size of the datatype in bits", bits))
    }
}

/// Columns, rows, slices and volumes; axes that the file does not have are 1.
fn axes(fields: &Fields<'_>) -> Result<[u64; 4], VolumeError> {
    let n_axes = fields.axis(0);
    let Some(n_axes) = usize::try_from(n_axes).ok().filter(|n_axes| (1..=7).contains(n_axes))
    else {
        return Err(field("dim[0]", "a number of axes in [1, 7]", n_axes));
    };
    let mut axes = [1; 7];
    for (index, axis) in axes.iter_mut().enumerate().take(n_axes) {
        let length = fields.axis(index + 1);
        *axis = u64::try_from(length)
            .ok()
            .filter(|&length| length > 0)
            .ok_or_else(|| field("dim", "positive in every axis", length))?;
    }
    if axes[4..].iter().any(|&axis| axis > 1) {
        return Err(field("dim", "at most 4 axes longer than 1", format!("{axes:?}")));
    }
    Ok([axes[0], axes[1], axes[2], axes[3]])
}

/// Where the voxels begin in their file.
fn offset(fields: &Fields<'_>, is_pair: bool) -> Result<usize, VolumeError> {
    // In the first version after the header come four bytes that tell of extensions; in the second too.
    let (least, expected) = match (is_pair, fields.is_second) {
        (true, _) => (0, "a whole number from 0"),
        (false, false) => (352, "a whole number from 352"),
        (false, true) => (544, "a whole number from 544"),
    };
    let found = if fields.is_second {
        i64::from_le_bytes(fields.take(168)) as f64
    } else {
        fields.real(108, 0, 0)
    };
    // NaN and what lies outside are refused before the cast.
    if found.fract() == 0.0 && (f64::from(least)..=MAX_OFFSET as f64).contains(&found) {
        Ok(found as usize)
    } else {
        Err(field("vox_offset", expected, found))
    }
}

/// Slope and intercept, when there are any.
fn scale(fields: &Fields<'_>) -> Result<Option<[f64; 2]>, VolumeError> {
    let [slope, intercept] = [fields.real(112, 176, 0), fields.real(116, 184, 0)];
    if slope == 0.0 || !slope.is_finite() {
        return Ok(None);
    }
    if !intercept.is_finite() {
        return Err(field("scl_inter", "finite where scl_slope is", intercept));
    }
    Ok((slope != 1.0 || intercept != 0.0).then_some([slope, intercept]))
}

/// Millimetres of the file's unit of length.
fn unit(fields: &Fields<'_>) -> Result<f64, VolumeError> {
    let code = if fields.is_second {
        i32::from_le_bytes(fields.take(500)) & 7
    } else {
        i32::from(fields.bytes[123] & 7)
    };
    match code {
        0 | 2 => Ok(1.0),
        1 => Ok(1000.0),
        3 => Ok(0.001),
        _ => Err(field("xyzt_units", "metre, millimetre, micrometre or none in its length", code)),
    }
}

fn affine(fields: &Fields<'_>) -> Result<Option<Affine>, VolumeError> {
    let [sform, qform] = [fields.code(254, 348), fields.code(252, 344)];
    let (rows, code) = if sform > 0 {
        let row = |row: usize| [0, 1, 2, 3].map(|index| fields.real(280, 400, 4 * row + index));
        ([row(0), row(1), row(2)], sform)
    } else if qform > 0 {
        (of_quaternion(fields), qform)
    } else {
        return Ok(None);
    };
    if rows.iter().flatten().all(|value| value.is_finite()) {
        Ok(Some(Affine { rows, space: Space::of_code(code) }))
    } else {
        Err(field("sform or qform", "finite", format!("{rows:?}")))
    }
}

/// The rows of the affine of the qform: a rotation, `pixdim` and an offset.
fn of_quaternion(fields: &Fields<'_>) -> [[f64; 4]; 3] {
    let [b, c, d] = [0, 1, 2].map(|index| fields.real(256, 352, index));
    let offset = [3, 4, 5].map(|index| fields.real(256, 352, index));
    let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    let hand = if fields.pixdim(0) < 0.0 { -1.0 } else { 1.0 };
    let sizes = [fields.pixdim(1), fields.pixdim(2), hand * fields.pixdim(3)];
    [0, 1, 2].map(|row| {
        let [x, y, z] = [0, 1, 2].map(|column| rotation[row][column] * sizes[column]);
        [x, y, z, offset[row]]
    })
}

/// Distances as `[slice, row, column]`: `pixdim`, or the affine's where that says something else.
///
/// An axis of length 1 for which the file says nothing has 1 mm.
fn spacing(
    fields: &Fields<'_>,
    axes: &[u64; 4],
    millimetres: f64,
    affine: Option<&Affine>,
) -> [f64; 3] {
    let pixdim = [3, 2, 1].map(|index| fields.pixdim(index).abs() * millimetres);
    let world = affine.map_or(pixdim, steps);
    [0, 1, 2].map(|axis| {
        let (told, real) = (pixdim[axis], world[axis]);
        if (told - real).abs() <= SAME_STEP * real && told > 0.0 {
            told
        } else if axes[2 - axis] == 1 && real == 0.0 {
            1.0
        } else {
            real
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::volume::{NiftiVersion, NiftiVoxel, encode_nifti};
    use crate::{Grid, Spacing};

    /// Writes a number into a header at a place, little-endian.
    fn put(bytes: &mut [u8], place: usize, number: &[u8]) {
        bytes[place..place + number.len()].copy_from_slice(number);
    }

    fn sample() -> Volume {
        let image =
            Grid::from_fn([2, 3, 4], |[slice, row, column]| (slice * 12 + row * 4 + column) as f32);
        let affine = [[-0.5, 0.0, 0.0, 10.0], [0.0, 0.75, 0.0, -3.0], [0.0, 0.0, 2.0, 5.5]];
        Volume {
            image,
            spacing: Spacing::new([2.0, 0.75, 0.5]).unwrap(),
            affine: Some(affine.into()),
        }
    }

    fn encoded(version: NiftiVersion) -> Vec<u8> {
        encode_nifti(&sample(), NiftiVoxel::F32, version).unwrap()
    }

    fn parse(bytes: &[u8]) -> Result<Vec<Volume>, VolumeError> {
        Header::parse(bytes)?.frames(bytes)
    }

    #[test]
    fn header_bombs_and_nonsense_are_typed_errors() {
        let good = encoded(NiftiVersion::One);
        let hostile: [(usize, &[u8], &str); 14] = [
            (40, &[7, 0, 255, 127, 255, 127, 255, 127, 255, 127, 1, 0, 1, 0, 1, 0], "voxels"),
            (42, &2000_i16.to_le_bytes(), "the voxels need"),
            (42, &(-5_i16).to_le_bytes(), "`dim`"),
            (42, &0_i16.to_le_bytes(), "`dim`"),
            (40, &9_i16.to_le_bytes(), "`dim[0]`"),
            (70, &128_i16.to_le_bytes(), "`datatype`"),
            (72, &8_i16.to_le_bytes(), "`bitpix`"),
            (108, &f32::NAN.to_le_bytes(), "`vox_offset`"),
            (108, &1e30_f32.to_le_bytes(), "`vox_offset`"),
            (108, &0_f32.to_le_bytes(), "`vox_offset`"),
            (116, &f32::NAN.to_le_bytes(), "`scl_inter`"),
            (123, &[5], "`xyzt_units`"),
            (280, &f32::NAN.to_le_bytes(), "`sform or qform`"),
            (344, b"n+9\0", "not NIfTI"),
        ];
        for (place, number, expected) in hostile {
            let mut bytes = good.clone();
            put(&mut bytes, 112, &2.0_f32.to_le_bytes());
            put(&mut bytes, place, number);
            let error = parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{place}: {error}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for version in [NiftiVersion::One, NiftiVersion::Two] {
            let good = encoded(version);
            assert!(parse(&good).is_ok());
            for length in 0..good.len() {
                assert!(parse(&good[..length]).is_err(), "{length}");
            }
            let longer = [good, vec![0]].concat();
            assert!(matches!(
                parse(&longer),
                Err(VolumeError::DataLength { expected: 96, found: 97 })
            ));
        }
    }

    #[test]
    fn slopes_without_meaning_scale_nothing() {
        for (slope, factor) in [(0.0, 1.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0), (2.0, 2.0)] {
            let mut bytes = encoded(NiftiVersion::One);
            put(&mut bytes, 112, &slope.to_le_bytes());
            put(&mut bytes, 116, &(if factor > 1.0 { 3.0_f32 } else { f32::NAN }).to_le_bytes());
            let found = parse(&bytes).unwrap();
            let intercept = if factor > 1.0 { 3.0 } else { 0.0 };
            assert_eq!(found[0].image.values()[5], 5.0 * factor + intercept, "{slope}");
        }
    }

    #[test]
    fn units_scale_the_world() {
        let mut bytes = encoded(NiftiVersion::One);
        bytes[123] = 1;
        let found = parse(&bytes).unwrap();
        assert_eq!(found[0].spacing.millimetres(), [2000.0, 750.0, 500.0]);
        assert_eq!(found[0].affine.unwrap().rows[2][3], 5500.0);
    }

    #[test]
    fn the_quaternion_gives_the_affine_when_the_sform_is_not_set() {
        let mut bytes = encoded(NiftiVersion::One);
        put(&mut bytes, 254, &0_i16.to_le_bytes());
        let nowhere = parse(&bytes).unwrap();
        assert_eq!((nowhere[0].affine, nowhere[0].spacing.millimetres()), (None, [2.0, 0.75, 0.5]));
        // Half a turn about z, mirrored slices.
        put(&mut bytes, 252, &1_i16.to_le_bytes());
        put(&mut bytes, 76, &(-1.0_f32).to_le_bytes());
        put(&mut bytes, 264, &1.0_f32.to_le_bytes());
        put(&mut bytes, 268, &7.0_f32.to_le_bytes());
        let found = parse(&bytes).unwrap();
        let rows = [[-0.5, 0.0, 0.0, 7.0], [0.0, -0.75, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0]];
        assert_eq!(found[0].affine, Some(Affine { rows, space: Space::Scanner }));
        // Where both are set, the code of the sform counts with it.
        put(&mut bytes, 254, &4_i16.to_le_bytes());
        assert_eq!(parse(&bytes).unwrap()[0].affine.unwrap().space, Space::Mni);
    }

    #[test]
    fn where_pixdim_and_affine_differ_the_affine_counts() {
        let mut bytes = encoded(NiftiVersion::One);
        put(&mut bytes, 80, &3.0_f32.to_le_bytes());
        assert_eq!(parse(&bytes).unwrap()[0].spacing.millimetres(), [2.0, 0.75, 0.5]);
        for place in (280..328).step_by(4) {
            put(&mut bytes, place, &0.0_f32.to_le_bytes());
        }
        assert!(matches!(parse(&bytes), Err(VolumeError::Spacing { .. })));
    }
}
