//! What can be wrong with DICOM files; no variant holds text of a header, so that no name of a patient reaches a message.

use thiserror::Error;

use crate::volume::VolumeError;

/// Everything that the reader of DICOM refuses.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DicomError {
    /// A file of another format, or one without preamble.
    #[error("this is not a DICOM file: bytes 128 to 131 are not `DICM`")]
    Magic,
    /// A file that ends before a data element does.
    #[error("data element {tag} ends at byte {expected}: the file or its item has {found}")]
    Truncated {
        /// Group and element, as `(0028,0010)`; empty where even these are missing.
        tag: String,
        /// Where the element would end.
        expected: u64,
        /// Where the bytes end.
        found: u64,
    },
    /// Sequences within sequences beyond what any standard object has.
    #[error("sequences are nested more than {limit} deep")]
    Depth {
        /// Levels that are followed.
        limit: usize,
    },
    /// A sequence that holds something else than items.
    #[error("expected an item in a sequence at byte {place}: found element {tag}")]
    Item {
        /// Where it was expected.
        place: usize,
        /// What stands there.
        tag: String,
    },
    /// A way to encode pixels that is not read.
    #[error("transfer syntax `{name}` is not read")]
    TransferSyntax {
        /// Its name in the standard.
        name: &'static str,
    },
    /// An attribute that is needed.
    #[error("`{name}` is missing")]
    Missing {
        /// Name of the attribute.
        name: &'static str,
    },
    /// An attribute with a value that is not understood.
    #[error("`{name}` must be {expected}: found {found}")]
    Attribute {
        /// Name of the attribute.
        name: &'static str,
        /// What is understood.
        expected: &'static str,
        /// Numbers that were found, or a word for what is no number.
        found: String,
    },
    /// Pixels that do not fill the image.
    #[error("the pixels need {expected} bytes: found {found}")]
    PixelLength {
        /// Bytes that the header announces.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// More pixels than are read.
    #[error("{found} pixels in all: at most {limit} are read")]
    PixelLimit {
        /// Pixels that the header announces.
        found: u64,
        /// Largest number that is read.
        limit: usize,
    },
    /// A compressed stream that is damaged or does not fit its header.
    #[error("the {codec} stream of frame {frame} is damaged: {what}")]
    Stream {
        /// The kind of compression.
        codec: &'static str,
        /// The frame of the file, from 0.
        frame: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Files that do not make up one volume.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// An impossible place in the world.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// Why slices are no volume; slices are counted from 0 along their normal, phases in the order of time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// Files of several series.
    #[error("the files are of {found} series: expected one")]
    SeveralSeries {
        /// Number of series.
        found: usize,
    },
    /// Slices of different sizes or kinds of pixels.
    #[error("slices differ in {what}: {first} and {other}")]
    Mixed {
        /// What differs.
        what: &'static str,
        /// Of the first slice.
        first: String,
        /// Of the first that differs.
        other: String,
    },
    /// Slices that are not parallel, or whose distances between pixels differ.
    #[error("slices differ in {what}: {first:?} and {other:?}")]
    MixedOrientation {
        /// What differs.
        what: &'static str,
        /// Of the first slice.
        first: Vec<f64>,
        /// Of the first that differs.
        other: Vec<f64>,
    },
    /// A slice without a place in the world among several.
    #[error("{n_lacking} of {n_slices} slices do not tell their `{name}`")]
    NoPlace {
        /// Name of the attribute.
        name: &'static str,
        /// Slices without it.
        n_lacking: usize,
        /// All slices.
        n_slices: usize,
    },
    /// Distances between pixels that nothing tells.
    #[error("`PixelSpacing` is missing in images that have a place in the world")]
    NoSpacing,
    /// Several slices at one place, which nothing tells apart.
    #[error(
        "{n_frames} slices lie at slice {slice}, {at_mm:.3} mm along the normal, and no attribute of time tells them apart"
    )]
    DuplicateSlice {
        /// The place.
        slice: usize,
        /// Distance from the origin along the normal.
        at_mm: f64,
        /// Slices there.
        n_frames: usize,
    },
    /// Unequal distances between slices.
    #[error("slices {slice} and {} are {found_mm:.3} mm apart: expected {expected_mm:.3}", slice + 1)]
    Gap {
        /// The slice before the gap.
        slice: usize,
        /// Median distance between neighbours.
        expected_mm: f64,
        /// The distance there.
        found_mm: f64,
    },
    /// Slices that do not lie on one line.
    #[error("slice {slice} lies {off_mm:.3} mm beside the line of the others")]
    OffLine {
        /// The slice.
        slice: usize,
        /// Distance to where it should be.
        off_mm: f64,
    },
    /// Phases of which one lacks slices.
    #[error("slice {slice} was taken {found} times: expected {expected}")]
    PhasesDiffer {
        /// The place.
        slice: usize,
        /// Slices at the first place.
        expected: usize,
        /// Slices there.
        found: usize,
    },
    /// Phases whose order two attributes tell differently.
    #[error("phases in the order of `{by}` go back in `{against}` at phase {phase}")]
    TimeOrder {
        /// The attribute that tells phases apart.
        by: &'static str,
        /// The one that contradicts.
        against: &'static str,
        /// The first phase that is earlier than the one before.
        phase: usize,
    },
}

impl DicomError {
    /// What the user may do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TransferSyntax { .. } => Some(
                "rewrite the files uncompressed, for example with `gdcmconv --raw` or `dcmdjpeg`",
            ),
            Self::Magic => Some("rewrite the file with its preamble, for example with `dcmconv`"),
            Self::Truncated { .. } | Self::PixelLength { .. } => {
                Some("the file may be truncated or damaged: fetch it again")
            }
            Self::Series(SeriesError::SeveralSeries { .. }) => {
                Some("put every series into a folder of its own")
            }
            _ => None,
        }
    }
}
