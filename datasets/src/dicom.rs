//! Series of DICOM images: a folder of slices, or a file of several frames, to volumes.
//!
//! Source: DICOM PS3.3, PS3.5 and PS3.10. The reader is our own: the one of `dicom-rs` makes room for whatever length a
//! header announces and follows nesting without end (0.10.1), while images need some forty attributes.
//! What is read: implicit and explicit little endian, big endian, deflated, RLE Lossless, JPEG Baseline and JPEG
//! Lossless; 8, 16 and 32 bits with and without sign; grey, and RGB unless it is JPEG; functional groups of enhanced
//! multi-frame files. All else is refused by its name.
//!
//! Only attributes of geometry, pixels and time are kept in memory (see `attribute.rs`), and the names of objects as what can
//! be compared and not be shown ([`Uid`]): neither images nor messages can tell who the patient is, except for what is drawn
//! into the pixels, which a note points out where the file does.

mod attribute;
#[cfg(test)]
pub(crate) mod drawn;
mod element;
mod error;
mod frame;
mod lossless;
mod pixels;
mod run_length;
mod series;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    DatasetsError,
    volume::{MAX_VOXELS, Volume, file::read_file},
};

pub use error::{DicomError, SeriesError};

/// Ending of the names of files.
pub const ENDING: &str = ".dcm";

/// The images of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// One volume a phase in the order of time, or red, green and blue; all at one place.
    ///
    /// Slices lie along their normal, `slice` 0 at its lowest end, so axes are right-handed. Values are those after the
    /// rescaling of the file; MONOCHROME1 is inverted, so that large values are bright.
    pub channels: Vec<Volume>,
    /// When each phase began, in seconds after the first; `None` for one phase, and where no attribute tells.
    pub seconds: Option<Vec<f64>>,
    /// Whether the files tell distances between pixels; where they do not, spacings are 1 mm.
    pub has_spacing: bool,
    /// How the files number the slices of the first phase.
    pub numbering: Numbering,
    /// The series that the files say they are of.
    pub uid: Option<Uid>,
    /// The object of each slice of the first phase; `None` where the file does not tell it or holds several frames.
    pub objects: Vec<Option<Uid>>,
    /// What somebody should know who uses the images.
    pub notes: Vec<SeriesNote>,
}

/// How the InstanceNumbers of files, or the frames of one file, run along slices that are sorted by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// From the lowest slice up, as one slice does.
    Up,
    /// From the highest slice down.
    Down,
    /// In no order, or not at all.
    Unclear,
}

/// Name of an object or a series, which leads to a study and so to a patient: it can be compared and not be shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uid(Box<str>);

impl Uid {
    /// Takes a name without blanks and padding; `None` where nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then(|| Self(text.into()))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Uid(..)")
    }
}

/// Something unusual about a series that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SeriesNote {
    /// The line of slices is not along their normal (gantry tilt); the affine is sheared.
    Tilted {
        /// Angle between the two.
        degrees: f64,
    },
    /// Slices are not axial.
    NotAxial {
        /// Their normal towards left, back and head.
        normal: [f64; 3],
    },
    /// MONOCHROME1: the grey was inverted.
    Inverted,
    /// Pixels were compressed with loss.
    Lossy,
    /// The file says that text is drawn into the pixels, which may name the patient.
    BurnedIn,
}

impl fmt::Display for SeriesNote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tilted { degrees } => {
                write!(out, "slices are shifted against each other by {degrees:.1} degrees")
            }
            Self::NotAxial { normal: [x, y, z] } => {
                write!(out, "slices are not axial: their normal is ({x:.2}, {y:.2}, {z:.2})")
            }
            Self::Inverted => {
                out.write_str("MONOCHROME1 was inverted so that large values are bright")
            }
            Self::Lossy => out.write_str("pixels were compressed with loss"),
            Self::BurnedIn => out.write_str("text is drawn into the pixels (`BurnedInAnnotation`)"),
        }
    }
}

/// Reads the files of one series, in any order.
///
/// Slices are sorted by their place along the normal, never by number or name. Where several share each place they are
/// phases, told apart by the first of TemporalPositionIdentifier (or -Index), TemporalPositionTimeOffset, TriggerTime,
/// AcquisitionNumber, AcquisitionDateTime and AcquisitionTime that separates all of them.
///
/// # Errors
/// [`DatasetsError::Read`]; [`DatasetsError::Dicom`] with the file for what is wrong in one, and with the folder and
/// [`DicomError::Series`] or [`DicomError::Volume`] for files that do not fit each other.
///
/// # Panics
/// When `files` is empty.
pub fn read_series(files: &[PathBuf]) -> Result<Series, DatasetsError> {
    let (mut frames, mut uids) = (Vec::new(), BTreeSet::new());
    let (mut notes, mut n_pixels) = (Vec::new(), 0);
    for path in files {
        let failed = |source| DatasetsError::Dicom { path: path.clone(), source };
        let content = frame::content(&read_file(path)?).map_err(failed)?;
        uids.insert(content.series);
        n_pixels +=
            content.frames.iter().flat_map(|frame| &frame.samples).map(Vec::len).sum::<usize>();
        if n_pixels > MAX_VOXELS {
            return Err(failed(DicomError::PixelLimit {
                found: n_pixels as u64,
                limit: MAX_VOXELS,
            }));
        }
        frames.extend(content.frames);
        let found = [
            (content.is_inverted, SeriesNote::Inverted),
            (content.is_lossy, SeriesNote::Lossy),
            (content.is_burned_in, SeriesNote::BurnedIn),
        ];
        for (is_found, note) in found {
            if is_found && !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    let path = &files[0];
    let whole = if files.len() == 1 { path } else { path.parent().unwrap_or(path) };
    let misfit = |source| DatasetsError::Dicom { path: whole.to_owned(), source };
    if uids.len() > 1 {
        return Err(misfit(SeriesError::SeveralSeries { found: uids.len() }.into()));
    }
    let assembled = series::assemble(frames).map_err(misfit)?;
    notes.extend(assembled.notes);
    Ok(Series { uid: uids.pop_first().flatten(), notes, ..assembled })
}

/// Whether a file begins as DICOM does: 128 bytes of anything, then `DICM`. One that cannot be read does not.
pub fn has_preamble(path: &Path) -> bool {
    let mut start = [0; 132];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start.ends_with(b"DICM")
}

/// Whether a name is that of a file that may be read.
pub fn is_file_name(name: &Path) -> bool {
    name.to_string_lossy().to_ascii_lowercase().ends_with(ENDING)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
