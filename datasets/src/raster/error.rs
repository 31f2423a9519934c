//! What can be wrong with a picture, with what was expected and what was found.

use thiserror::Error;

/// Everything that the readers of pictures refuse.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RasterError {
    /// A file of another format.
    #[error("this is neither PNG, GIF, TIFF nor JPEG: it begins with {found:?}")]
    Unknown {
        /// First bytes.
        found: Vec<u8>,
    },
    /// Damaged PNG.
    #[error("the PNG stream is damaged")]
    Png(#[source] png::DecodingError),
    /// Damaged GIF.
    #[error("the GIF stream is damaged")]
    Gif(#[source] gif::DecodingError),
    /// Damaged TIFF, or TIFF of a kind that is not read.
    #[error("the TIFF file is damaged or of a kind that is not read")]
    Tiff(#[source] tiff::TiffError),
    /// Damaged JPEG.
    #[error("the JPEG stream is damaged")]
    Jpeg(#[source] image::ImageError),
    /// Empty pictures and those with too long sides.
    #[error("[rows, columns] = {found:?} are not within [1, {limit}]")]
    Sides {
        /// Rows and columns announced.
        found: [u32; 2],
        /// Longest side that is read.
        limit: u32,
    },
    /// A picture that announces more than its file can plausibly hold.
    #[error("{stored} stored bytes announce {announced} bytes of pixels: at most {limit} are read")]
    Budget {
        /// Bytes of the decoded picture.
        announced: u64,
        /// Bytes that are read.
        limit: u64,
        /// Bytes of the file.
        stored: u64,
    },
    /// Something that the format allows and we do not read.
    #[error("{format} with {what} is not read")]
    Kind {
        /// The format.
        format: &'static str,
        /// What it has.
        what: String,
    },
    /// Several pictures where one was expected.
    #[error("the {format} file holds several pictures: expected one")]
    Frames {
        /// The format.
        format: &'static str,
    },
    /// No picture at all.
    #[error("the {format} file holds no picture")]
    Empty {
        /// The format.
        format: &'static str,
    },
    /// Pages that are no slices of one volume.
    #[error("page {page} is {found}: the first is {expected}")]
    Page {
        /// The page, from 0.
        page: usize,
        /// Size and kind of the first page.
        expected: String,
        /// Size and kind of this page.
        found: String,
    },
    /// An index beyond the palette.
    #[error("a pixel has index {index}: the palette has {n_colours} colours")]
    NoColour {
        /// The index.
        index: usize,
        /// Number of colours.
        n_colours: usize,
    },
}

impl RasterError {
    /// What the user may do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Png(_) | Self::Gif(_) | Self::Jpeg(_) => {
                Some("the file may be truncated or damaged: fetch it again")
            }
            Self::Frames { .. } => Some("extract one picture first"),
            Self::Kind { .. } | Self::Tiff(_) => Some("rewrite the picture as plain PNG or TIFF"),
            _ => None,
        }
    }
}
