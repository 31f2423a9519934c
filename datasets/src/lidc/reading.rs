//! A reading: the nodules that four radiologists marked in one scan, and which slices their outlines lie on.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use super::{ReadingError, parse};
use crate::{
    Affine, DatasetsError,
    dicom::{Series, Uid},
};

/// Most bytes of a file; 311 files of the release have 26 million together.
const MAX_BYTES: usize = 1 << 24;

/// Names of what a reader says of a nodule, each a number: in XML, and as the column of a table.
///
/// All go from 1 to 5 but the internal structure (to 4) and calcification (to 6).
pub const CHARACTERISTICS: [[&str; 2]; 9] = [
    ["subtlety", "subtlety"],
    ["internalStructure", "internal_structure"],
    ["calcification", "calcification"],
    ["sphericity", "sphericity"],
    ["margin", "margin"],
    ["lobulation", "lobulation"],
    ["spiculation", "spiculation"],
    ["texture", "texture"],
    ["malignancy", "malignancy"],
];

/// What the readers of one scan marked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The series that was read, where the file tells it.
    pub series: Option<Uid>,
    /// One session a reader, in the order of the file, which says nothing about who they are.
    pub sessions: Vec<Session>,
}

/// What one reader marked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// Nodules in the order of the file; marks of what is none are left out.
    pub nodules: Vec<Nodule>,
}

/// A nodule of one reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodule {
    /// In the order of [`CHARACTERISTICS`]; `None` where the reader did not say.
    pub characteristics: [Option<u8>; CHARACTERISTICS.len()],
    /// One or more a slice.
    pub outlines: Vec<Outline>,
}

impl Nodule {
    /// Whether it is outlined; one of less than 3 mm has a single point.
    pub fn is_outlined(&self) -> bool {
        self.outlines.iter().map(|outline| outline.edge.len()).sum::<usize>() > 1
    }
}

/// A closed line in one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// Height of the slice in millimetres towards the head.
    pub height_mm: Option<f64>,
    /// The slice.
    pub object: Option<Uid>,
    /// Whether the inside belongs to the nodule; otherwise it is a hole.
    pub is_inclusion: bool,
    /// Its pixels `[row, column]` in the order of the line: the first ones outside.
    pub edge: Vec<[usize; 2]>,
}

/// Reads a file.
///
/// # Errors
/// [`DatasetsError::Read`], and [`DatasetsError::Reading`] with the [`ReadingError`].
pub fn read_reading(path: &Path) -> Result<Reading, DatasetsError> {
    let unreadable = |source| DatasetsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Reading::parse(&bytes)
        .map_err(|source| DatasetsError::Reading { path: path.to_owned(), source })
}

impl Reading {
    /// Understands the bytes of a file; takes memory in the measure of their number.
    ///
    /// # Errors
    /// [`ReadingError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadingError> {
        match bytes.len() > MAX_BYTES {
            true => Err(ReadingError::Size { limit: MAX_BYTES }),
            false => parse::reading(bytes),
        }
    }
}

/// Where the slices of a series are.
#[derive(Clone, Debug)]
pub struct SlicePlaces {
    /// Slices by their objects, where each has one of its own.
    objects: Option<BTreeMap<Uid, usize>>,
    /// Height of slice 0 and distance to the next in millimetres.
    heights: Option<[f64; 2]>,
    n_slices: usize,
}

impl SlicePlaces {
    /// The slices of a series.
    pub fn of(series: &Series) -> Self {
        let n_slices = series.objects.len();
        let numbered = series.objects.iter().cloned().zip(0..);
        let objects: Option<BTreeMap<Uid, usize>> =
            numbered.map(|(object, slice)| Some((object?, slice))).collect();
        let affine = series.channels.first().and_then(|volume| volume.affine);
        Self {
            objects: objects.filter(|objects| objects.len() == n_slices),
            heights: affine
                .map(|Affine { rows: [_, _, [_, _, by_slice, first]], .. }| [first, by_slice]),
            n_slices,
        }
    }

    /// The slice of an outline: that of its object where both tell it, else the nearest one if it is within half a slice.
    pub fn find(&self, outline: &Outline) -> Option<usize> {
        if let (Some(objects), Some(object)) = (&self.objects, &outline.object) {
            return objects.get(object).copied();
        }
        let [first, by_slice] = self.heights?;
        // A series that is not axial has no heights: the quotient is then no number of a slice.
        let slice = ((outline.height_mm? - first) / by_slice).round();
        (slice >= 0.0 && slice < self.n_slices as f64).then_some(slice as usize)
    }
}
