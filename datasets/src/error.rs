//! What can be wrong with cases, pictures, shards and releases: one enum, with the data behind each message.

use std::{collections::BTreeMap, io, path::PathBuf};

use parquet::errors::ParquetError;
use thiserror::Error;

use crate::{
    case::Split, dicom::DicomError, lidc::ReadingError, raster::RasterError, sheet::SheetError,
    volume::VolumeError,
};

/// Everything that this crate refuses, with what was expected and what was found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetsError {
    /// A distance between voxels that is not a positive finite number.
    #[error("spacing must be positive and finite: got {found:?} mm as [slice, row, column]")]
    Spacing {
        /// The spacing that was given, `[slice, row, column]` in millimetres.
        found: [f64; 3],
    },
    /// A setting outside its range.
    #[error("`{setting}` must lie in [{low}, {high}]: got {found}")]
    Setting {
        /// Name of the configuration field.
        setting: &'static str,
        /// Smallest value allowed.
        low: f64,
        /// Largest value allowed.
        high: f64,
        /// The value that was given.
        found: f64,
    },
    /// A range of a setting whose ends are in the wrong order.
    #[error("`{setting}` must be given as [low, high]: got {found:?}")]
    SettingOrder {
        /// Name of the configuration field.
        setting: &'static str,
        /// The range that was given.
        found: [f64; 2],
    },
    /// Splits that need more cases than there are.
    #[error("splits ask for {asked} cases: there are {found}")]
    SplitSizes {
        /// Sum of the sizes, the rest counted as one case.
        asked: usize,
        /// Number of cases.
        found: usize,
    },
    /// A split without a case.
    #[error("split `{}` has no case: {n_cases} cases of {n_patients} patients were given", split.name())]
    EmptySplit {
        /// The split that stays empty.
        split: Split,
        /// Number of cases.
        n_cases: usize,
        /// Number of patients.
        n_patients: usize,
    },
    /// A case id that stands for two cases.
    #[error("case `{case}` occurs more than once")]
    DuplicateCase {
        /// The id in question.
        case: String,
    },
    /// Two labels of one case, structure and source.
    #[error("case `{case}` has two labels of structure `{structure}` by source `{source_name}`")]
    DuplicateLabel {
        /// The case in question.
        case: String,
        /// Name of the structure.
        structure: String,
        /// Name of the source.
        source_name: String,
    },
    /// A patient in two splits.
    #[error("patient `{patient}` is in two splits: `{}` and `{}`", splits[0].name(), splits[1].name())]
    Leakage {
        /// The patient in question.
        patient: String,
        /// The two splits.
        splits: [Split; 2],
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Parquet that cannot be written.
    #[error("cannot encode {} as Parquet", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder says.
        source: ParquetError,
    },
    /// Parquet that cannot be decoded: damaged or of another kind.
    #[error("cannot decode {} as Parquet", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: ParquetError,
    },
    /// Parquet on which the decoder gave up without a word.
    #[error("the Parquet decoder broke down on {}", path.display())]
    DecoderBroke {
        /// The file.
        path: PathBuf,
    },
    /// A file whose directory announces more than we accept to decode.
    #[error("{} announces {found} {what} in column `{column}`: at most {limit} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is counted: `rows`, `values` or `bytes`.
        what: &'static str,
        /// The number accepted.
        limit: u64,
        /// The number announced.
        found: u64,
    },
    /// A column that is not there.
    #[error("{} has no column `{column}`: found {}", path.display(), quoted(found))]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column looked for.
        column: String,
        /// The columns that are there.
        found: Vec<String>,
    },
    /// A column of another type.
    #[error("column `{column}` of {} must be {expected}: found {found}", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type that is read.
        expected: &'static str,
        /// The Arrow type that was found.
        found: String,
    },
    /// A missing value where one is needed.
    #[error("column `{column}` of {} has no value in row {row}", path.display())]
    NullValue {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Row in the file, from 0.
        row: usize,
    },
    /// A word that is none of the known ones.
    #[error("column `{column}` of {} must hold one of {}: case `{case}` has `{found}`", path.display(), quoted(known))]
    UnknownWord {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// The case.
        case: String,
        /// The words that are known.
        known: Vec<String>,
        /// The word that was found.
        found: String,
    },
    /// A shape that is no shape of a case.
    #[error("case `{case}` of {}: shape [slice, row, column] = {found:?} is not within [1, {limit}] voxels", path.display())]
    CaseShape {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// The shape announced.
        found: Vec<i64>,
        /// Largest number of voxels accepted.
        limit: usize,
    },
    /// Voxels that do not fill their shape.
    #[error("case `{case}` of {}: `{column}` holds {found} voxels, shape [slice, row, column] = {shape:?} needs {expected}", path.display())]
    VoxelCount {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// The column.
        column: &'static str,
        /// The shape announced.
        shape: [usize; 3],
        /// The number of voxels that the shape holds.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// A voxel outside the values allowed: not finite, or a probability outside `[0, 1]`.
    #[error("case `{case}` of {}: `{column}` is {value} at [slice, row, column] = {place:?}", path.display())]
    VoxelValue {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// The column.
        column: &'static str,
        /// `[slice, row, column]` of the first such voxel.
        place: [usize; 3],
        /// Its value.
        value: f32,
    },
    /// Two columns of a shard that contradict each other.
    #[error("case `{case}` of {}: column `{column}` says {found}, its voxels say {expected}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// The column.
        column: &'static str,
        /// What follows from the voxels.
        expected: String,
        /// What the column says.
        found: String,
    },
    /// A case in a shard with an impossible spacing.
    #[error("case `{case}` of {}: column `spacing_mm` holds {found:?}, expected three positive numbers", path.display())]
    CaseSpacing {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// What the column holds.
        found: Vec<f64>,
    },
    /// A case in a shard with an impossible affine.
    #[error("case `{case}` of {}: column `affine` holds {found:?}, expected twelve finite numbers", path.display())]
    CaseAffine {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// What the column holds.
        found: Vec<f64>,
    },
    /// Parameters that are not JSON.
    #[error("case `{case}` of {}: column `params` is not JSON", path.display())]
    Params {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A row of a table with another number of cells than the table has columns, or a cell of another kind.
    #[error("row {row} of the table does not fit its columns: expected {expected}, found {found}")]
    TableRow {
        /// The row, from 0.
        row: usize,
        /// Kinds of the columns, or of one column.
        expected: String,
        /// Kinds of the cells, or of one cell.
        found: String,
    },
    /// A picture that cannot be decoded.
    #[error("cannot decode {} as a picture", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<RasterError>,
    },
    /// A volume (NIfTI, MetaImage, NRRD) that cannot be decoded.
    #[error("cannot decode {} as a volume", path.display())]
    Volume {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VolumeError,
    },
    /// A DICOM file, or a folder of such, that cannot be read.
    #[error("cannot read {} as DICOM images", path.display())]
    Dicom {
        /// The file, or the folder where several do not fit each other.
        path: PathBuf,
        /// What is wrong with it.
        source: DicomError,
    },
    /// A spreadsheet that cannot be read.
    #[error("cannot read {} as a table", path.display())]
    Sheet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SheetError,
    },
    /// A reading of LIDC-IDRI that cannot be understood.
    #[error("cannot read {} as a reading of LIDC-IDRI", path.display())]
    Reading {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadingError,
    },
    /// A picture with colour.
    #[error("{} must be grey: pixel [row, column] = {place:?} is (red, green, blue) = {rgb:?}, {n_coloured} pixels differ", path.display())]
    Coloured {
        /// The file.
        path: PathBuf,
        /// `[row, column]` of the first coloured pixel.
        place: [usize; 2],
        /// Its colour.
        rgb: [u16; 3],
        /// Number of coloured pixels.
        n_coloured: usize,
    },
    /// A picture with transparent pixels.
    #[error("{} must be opaque: pixel [row, column] = {place:?} has alpha {alpha}", path.display())]
    Transparent {
        /// The file.
        path: PathBuf,
        /// `[row, column]` of the first transparent pixel.
        place: [usize; 2],
        /// Its opacity.
        alpha: u16,
    },
    /// A mask with values other than its two.
    #[error("{} must hold two values, 0 and 255 or 0 and 1: found also {}", path.display(), counted(found))]
    MaskValues {
        /// The file.
        path: PathBuf,
        /// Number of pixels of every unexpected value.
        found: BTreeMap<u16, usize>,
    },
    /// A picture of another size than its partner.
    #[error("{} must have [rows, columns] = {expected:?}: found {found:?}", path.display())]
    PictureSize {
        /// The file.
        path: PathBuf,
        /// `[rows, columns]` that were expected.
        expected: [usize; 2],
        /// `[rows, columns]` that were found.
        found: [usize; 2],
    },
    /// A mask without foreground.
    #[error("mask {} of case `{case}` is empty", path.display())]
    EmptyMask {
        /// The file.
        path: PathBuf,
        /// The case.
        case: String,
    },
    /// A folder that is not laid out as any release that we know.
    #[error("{} is not a JSRT release: looked for {}", root.display(), quoted(looked_for))]
    UnknownLayout {
        /// The folder given.
        root: PathBuf,
        /// Patterns of paths that were looked for, relative to the folder.
        looked_for: Vec<String>,
    },
    /// Images and masks that do not pair.
    #[error("images and masks under {} do not pair: {} masks missing ({}), {} masks without an image ({})",
        root.display(), missing.len(), shortened(missing), extra.len(), shortened(extra))]
    Unpaired {
        /// The folder given.
        root: PathBuf,
        /// Masks that are not there, relative to the folder.
        missing: Vec<String>,
        /// Masks without an image, relative to the folder.
        extra: Vec<String>,
    },
    /// A folder with more files than a data set has.
    #[error("{} holds more than {limit} files", root.display())]
    TooManyFiles {
        /// The folder in which the counting ended.
        root: PathBuf,
        /// Most files that are listed.
        limit: usize,
    },
    /// A description of a data set that cannot be understood.
    #[error("{} must have a table `labels` of names and whole numbers: found {found}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A raw film of another size.
    #[error("{} must be {expected} bytes (2048 x 2048 pixels of 2 bytes): found {found}", path.display())]
    RawSize {
        /// The file.
        path: PathBuf,
        /// Bytes of a film.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A raw film whose values do not fit 12 bits.
    #[error("{} has value {value} at [row, column] = {place:?}: 12-bit films end at {maximum}", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
        /// `[row, column]` of the first such pixel.
        place: [usize; 2],
        /// Its value, read as big-endian.
        value: u16,
        /// Largest value of a film.
        maximum: u16,
    },
    /// A line of the clinical tables that cannot be understood.
    #[error("{}: record {record} has {found}, expected {expected}", path.display())]
    ClinicalRecord {
        /// The file.
        path: PathBuf,
        /// The record, from 1.
        record: usize,
        /// What a record holds.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl DatasetsError {
    /// What the user may do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Coloured { .. } => {
                Some("convert the picture to one grey channel; a palette must be grey")
            }
            Self::Volume { source, .. } => source.hint(),
            Self::Dicom { source, .. } => source.hint(),
            Self::Picture { source, .. } => source.hint(),
            Self::Transparent { .. } => Some("remove the alpha channel of the picture"),
            Self::MaskValues { .. } => Some(
                "masks blurred by resampling must be thresholded first, label maps split into one mask a structure",
            ),
            Self::ByteOrder { .. } => {
                Some("JSRT films are big-endian; this file may have been byte-swapped")
            }
            Self::RawSize { .. } => {
                Some("the file may be truncated or still compressed: fetch it again")
            }
            Self::SplitSizes { .. } => Some("leave `test` out to take all the rest"),
            Self::Unpaired { .. } => Some("ask for fewer `structures`, or complete the folder"),
            _ => None,
        }
    }
}

/// Joins names in backticks.
fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".into() } else { quoted.join(", ") }
}

/// Joins the first names and counts the others.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0 => "none".into(),
        n if n > SHOWN => format!("{} and {} more", quoted(&names[..SHOWN]), n - SHOWN),
        _ => quoted(names),
    }
}

/// Lists the first values with their numbers of pixels.
fn counted(counts: &BTreeMap<u16, usize>) -> String {
    const SHOWN: usize = 8;
    let mut parts: Vec<String> =
        counts.iter().take(SHOWN).map(|(value, n)| format!("{value} ({n} pixels)")).collect();
    if counts.len() > SHOWN {
        parts.push(format!("{} more values", counts.len() - SHOWN));
    }
    parts.join(", ")
}

/// An error and its causes in one line, outermost first.
pub(crate) fn messages(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_was_expected_and_found() {
        let error = DatasetsError::MaskValues {
            path: "a.png".into(),
            found: (1..=9).map(|value| (value * 10, 2)).collect(),
        };
        assert_eq!(
            error.to_string(),
            "a.png must hold two values, 0 and 255 or 0 and 1: found also 10 (2 pixels), 20 (2 pixels), \
             30 (2 pixels), 40 (2 pixels), 50 (2 pixels), 60 (2 pixels), 70 (2 pixels), 80 (2 pixels), 1 more values"
        );
        assert!(error.hint().is_some());
        let error = DatasetsError::Unpaired {
            root: "jsrt".into(),
            missing: (0..7).map(|n| format!("m{n}")).collect(),
            extra: Vec::new(),
        };
        assert_eq!(
            error.to_string(),
            "images and masks under jsrt do not pair: 7 masks missing (`m0`, `m1`, `m2`, `m3`, `m4` and 2 more), \
             0 masks without an image (none)"
        );
    }

    #[test]
    fn the_error_stays_small_enough_to_return() {
        assert!(size_of::<DatasetsError>() <= 128);
    }
}
