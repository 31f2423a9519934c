//! Pictures as their files hold them: PNG, GIF, TIFF and JPEG with every sample a channel.
//!
//! Nothing is converted on the way: a palette stays a channel of indices beside its colours, 1-bit grey stays 0 and 1,
//! and signed or real TIFF keeps its numbers. So a label map comes out as it was drawn, whatever its colours.
//! The kind is told by content, not by the file's name.

mod error;
mod gif;
mod jpeg;
mod png;
mod tiff;

use std::path::Path;

use crate::{DatasetsError, Grid, Image, volume::file::read_file};

pub use error::RasterError;
pub(crate) use jpeg::decode as decode_jpeg;

/// Endings of the names of pictures.
pub const ENDINGS: [&str; 6] = [".png", ".gif", ".tif", ".tiff", ".jpg", ".jpeg"];

/// Largest number of rows or columns that is decoded.
pub const MAX_SIDE: u32 = 16_384;

/// Bytes that any picture may decode to, however small its file.
const FREE_BYTES: u64 = 64 << 20;

/// Decoded bytes a stored byte beyond [`FREE_BYTES`]: deflate reaches 1032, pictures of cases stay below 100.
const MAX_RATIO: u64 = 1024;

/// What the samples of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// One level of grey.
    Grey,
    /// Grey and opacity.
    GreyAlpha,
    /// An index into a palette.
    Indexed,
    /// Red, green and blue.
    Rgb,
    /// Red, green, blue and opacity.
    RgbAlpha,
}

impl Model {
    /// Number of samples of a pixel.
    fn n_samples(self) -> usize {
        match self {
            Self::Grey | Self::Indexed => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::RgbAlpha => 4,
        }
    }

    /// In words, for reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::GreyAlpha => "grey with opacity",
            Self::Indexed => "palette",
            Self::Rgb => "colour",
            Self::RgbAlpha => "colour with opacity",
        }
    }
}

/// A decoded picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Raster {
    /// One image a sample, in the order of [`Model`]; values as stored, a page of a TIFF is a slice.
    pub channels: Vec<Image>,
    /// What the channels are.
    pub model: Model,
    /// The value of white: the largest of whole numbers without a sign, `None` for signed and real ones.
    pub white: Option<f32>,
    /// Red, green, blue and opacity of every index of a palette, of 255.
    pub palette: Option<Vec<[u8; 4]>>,
}

impl Raster {
    /// The picture with its palette, if it has one, replaced by colours: grey where all of them are, opacity where one has.
    ///
    /// # Errors
    /// [`RasterError::NoColour`] for an index beyond the palette.
    pub fn coloured(self) -> Result<Self, RasterError> {
        let Some(palette) = &self.palette else { return Ok(self) };
        let indices = &self.channels[0];
        let n_colours = palette.len();
        if let Some(&index) = indices.values().iter().find(|&&index| index as usize >= n_colours) {
            return Err(RasterError::NoColour { index: index as usize, n_colours });
        }
        let is_grey = palette.iter().all(|&[red, green, blue, _]| red == green && green == blue);
        let is_opaque = palette.iter().all(|&[.., alpha]| alpha == u8::MAX);
        let (model, samples): (Model, &[usize]) = match (is_grey, is_opaque) {
            (true, true) => (Model::Grey, &[0]),
            (true, false) => (Model::GreyAlpha, &[0, 3]),
            (false, true) => (Model::Rgb, &[0, 1, 2]),
            (false, false) => (Model::RgbAlpha, &[0, 1, 2, 3]),
        };
        let channel =
            |&sample: &usize| indices.map(|&index| f32::from(palette[index as usize][sample]));
        let channels = samples.iter().map(channel).collect();
        Ok(Self { channels, model, white: Some(255.0), palette: None })
    }
}

/// Reads a picture.
///
/// # Errors
/// [`DatasetsError::Read`], and [`DatasetsError::Picture`] with what [`RasterError`] lists.
pub fn read_raster(path: &Path) -> Result<Raster, DatasetsError> {
    decode(&read_file(path)?).map_err(|source| DatasetsError::Picture {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Decodes a picture of any of the formats.
pub(crate) fn decode(bytes: &[u8]) -> Result<Raster, RasterError> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes),
        [b'G', b'I', b'F', b'8', ..] => gif::decode(bytes),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => tiff::decode(bytes),
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes),
        _ => Err(RasterError::Unknown { found: bytes.iter().copied().take(8).collect() }),
    }
}

/// Most bytes that a file of this size may decode to.
fn budget(stored: &[u8]) -> u64 {
    FREE_BYTES.max(stored.len() as u64 * MAX_RATIO)
}

/// Refuses sizes before anything is allocated for them.
fn check_size(
    [n_rows, n_columns]: [u32; 2],
    bytes_a_pixel: u64,
    stored: &[u8],
) -> Result<[usize; 2], RasterError> {
    let found = [n_rows, n_columns];
    if found.contains(&0) || found.iter().any(|&side| side > MAX_SIDE) {
        return Err(RasterError::Sides { found, limit: MAX_SIDE });
    }
    let announced = u64::from(n_rows) * u64::from(n_columns) * bytes_a_pixel;
    let limit = budget(stored);
    if announced > limit {
        return Err(RasterError::Budget { announced, limit, stored: stored.len() as u64 });
    }
    Ok(found.map(|side| side as usize))
}

/// One image a sample out of interleaved samples.
fn separate(interleaved: &[f32], n_samples: usize, shape: [usize; 3]) -> Vec<Image> {
    let channel = |sample: usize| {
        let values = interleaved.iter().skip(sample).step_by(n_samples).copied().collect();
        Grid::new(shape, values).expect("decoders fill the size that they announce")
    };
    (0..n_samples).map(channel).collect()
}

#[cfg(test)]
mod tests;
