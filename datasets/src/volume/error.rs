//! What can be wrong with a volume file, with what was expected and what was found.

use std::io;

use thiserror::Error;

/// Everything that the readers and writers of volumes refuse.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// A file whose name says no format that is read.
    #[error("the name must end in one of {known}")]
    UnknownEnding {
        /// The endings that are known.
        known: String,
    },
    /// A file that is larger than what is read.
    #[error("the file has {found} bytes: at most {limit} are read")]
    FileSize {
        /// Bytes of the file.
        found: u64,
        /// Bytes that are read.
        limit: u64,
    },
    /// A file of another format.
    #[error("this is not {format}: it begins with {found:?}")]
    Magic {
        /// The format that was asked for.
        format: &'static str,
        /// First bytes, or those where the mark of the format should be.
        found: Vec<u8>,
    },
    /// A file that ends within its header.
    #[error("the header needs {expected} bytes: found {found}")]
    HeaderLength {
        /// Bytes of the header.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A field of the header that cannot be understood.
    #[error("`{field}` must be {expected}: found {found}")]
    Field {
        /// Name of the field in the format's own words.
        field: &'static str,
        /// What is understood.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A field that the header lacks.
    #[error("the header has no `{field}`")]
    FieldMissing {
        /// Name of the field in the format's own words.
        field: &'static str,
    },
    /// A field that occurs twice.
    #[error("the header has `{field}` twice")]
    FieldTwice {
        /// Name of the field.
        field: String,
    },
    /// More voxels than are read.
    #[error("axes {axes:?} hold more than {limit} voxels")]
    VoxelLimit {
        /// Axes of the file, fastest first.
        axes: Vec<u64>,
        /// Largest number of voxels that is read.
        limit: usize,
    },
    /// Voxels that do not fill the axes, or bytes behind them.
    #[error("the voxels need {expected} bytes: found {found}")]
    DataLength {
        /// Bytes that the header announces.
        expected: usize,
        /// Bytes that are there; one more than expected when there are too many.
        found: usize,
    },
    /// A compressed stream that is damaged, truncated or followed by something else.
    #[error("the {format} stream is damaged")]
    Compressed {
        /// The kind of compression.
        format: &'static str,
        /// What the decoder says.
        source: io::Error,
    },
    /// A small compressed stream that becomes improbably large.
    #[error("{stored} compressed bytes expand to more than {limit}")]
    Expansion {
        /// Bytes of the stream.
        stored: usize,
        /// Bytes that it may expand to.
        limit: usize,
    },
    /// Voxels in a file outside the folder of the header.
    #[error("the voxels must lie in a file beside the header: found `{name}`")]
    DataPath {
        /// The name that the header gives.
        name: String,
    },
    /// Several volumes in a file where one was asked for.
    #[error("the file holds {found} volumes: expected one")]
    Frames {
        /// Number of volumes.
        found: usize,
    },
    /// A place in the world that contradicts itself: spacings that are not positive.
    #[error(
        "the distances between voxels must be positive: found {found:?} mm as [slice, row, column]"
    )]
    Spacing {
        /// The distances.
        found: [f64; 3],
    },
    /// Axes in the world that lie in a plane or on a line.
    #[error(
        "the affine is singular: the determinant of the directions of its axes is {determinant:.1e}"
    )]
    Singular {
        /// The determinant; 1 or -1 for axes at right angles.
        determinant: f64,
    },
    /// A voxel that is no label.
    #[error(
        "labels must be whole numbers in [0, 255]: [slice, row, column] = {place:?} holds {value}"
    )]
    Label {
        /// The first such voxel.
        place: [usize; 3],
        /// Its value.
        value: f32,
    },
    /// Axes that the format cannot hold.
    #[error("shape {shape:?} as [slice, row, column] does not fit {format}")]
    Unwritable {
        /// The format.
        format: &'static str,
        /// Axes of the volume.
        shape: [usize; 3],
    },
}

impl VolumeError {
    /// What the user may do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Compressed { .. } | Self::DataLength { .. } | Self::HeaderLength { .. } => {
                Some("the file may be truncated or damaged: fetch it again")
            }
            Self::Expansion { .. } => {
                Some("where it is a true label map, store it with 1 byte a label instead of 8")
            }
            Self::Frames { .. } => Some("read all volumes, or extract one of them first"),
            Self::Label { .. } => {
                Some("a label map that was interpolated must be resampled by nearest neighbour")
            }
            Self::Field { field: "vox_offset", .. } => {
                Some("libraries differ in where such voxels begin: rewrite the file with nibabel")
            }
            _ => None,
        }
    }
}
