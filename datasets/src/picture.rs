//! Grey pictures: strict readers for images and masks, and the PNG that shards carry for viewers.
//!
//! Colour and palettes are accepted exactly where they are losslessly grey (red = green = blue, opaque), and refused
//! with the first pixel that is not.

use std::{collections::BTreeMap, io::Cursor, path::Path};

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::{
    DatasetsError, Grid, Image, Mask,
    raster::{Model, Raster, RasterError, read_raster},
};

/// A grey picture as its file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct GreyPicture {
    /// Values `[slice, row, column]` with one slice, in `[0, white]`.
    pub values: Grid<u16>,
    /// The value of white: the largest that its number of bits holds.
    pub white: u16,
}

/// Reads a grey picture of 1 to 16 bits; the kind is told by content, not by the file's name.
///
/// # Errors
/// Those of [`read_raster`], [`DatasetsError::Picture`] for several pages and for signed and real numbers,
/// [`DatasetsError::Coloured`] and [`DatasetsError::Transparent`].
pub fn read_grey(path: &Path) -> Result<GreyPicture, DatasetsError> {
    grey_of(read_raster(path)?, path)
}

/// Reads a grey picture as an image with values in `[0, 1]`: black is 0, white is 1.
///
/// # Errors
/// Those of [`read_grey`].
pub fn read_image(path: &Path) -> Result<Image, DatasetsError> {
    let picture = read_grey(path)?;
    let white = f32::from(picture.white);
    Ok(picture.values.map(|&value| f32::from(value) / white))
}

/// Reads a mask whose pixels are 0 and white (255, or 65535 in 16 bits), or 0 and 1.
///
/// `tolerance` is a number of grey levels: pixels that close to 0 or white are taken as such. With 0 the values are
/// exact. A mask of 0 and 1 is told by having no value above 1, and a tolerance does not apply to it.
///
/// # Errors
/// Those of [`read_grey`], and [`DatasetsError::MaskValues`] with a count of every other value.
pub fn read_mask(path: &Path, tolerance: u16) -> Result<Mask, DatasetsError> {
    mask_of(&read_grey(path)?, tolerance, path)
}

/// Decides for every pixel whether it is foreground.
fn mask_of(picture: &GreyPicture, tolerance: u16, path: &Path) -> Result<Mask, DatasetsError> {
    let values = picture.values.values();
    if values.iter().all(|&value| value <= 1) {
        return Ok(picture.values.map(|&value| value == 1));
    }
    let bright = picture.white.saturating_sub(tolerance);
    let mut found = BTreeMap::new();
    for &value in values.iter().filter(|&&value| value > tolerance && value < bright) {
        *found.entry(value).or_insert(0) += 1;
    }
    if found.is_empty() {
        Ok(picture.values.map(|&value| value >= bright))
    } else {
        Err(DatasetsError::MaskValues { path: path.to_owned(), found })
    }
}

/// Takes the grey out of a picture, if that loses nothing.
fn grey_of(raster: Raster, path: &Path) -> Result<GreyPicture, DatasetsError> {
    let undecoded =
        |source| DatasetsError::Picture { path: path.to_owned(), source: Box::new(source) };
    let raster = raster.coloured().map_err(undecoded)?;
    let Some(white) = raster.white.filter(|_| raster.channels[0].n_slices() == 1) else {
        let what = "several pages or numbers with a sign".to_owned();
        return Err(undecoded(RasterError::Kind { format: "a grey picture", what }));
    };
    let shape = raster.channels[0].shape();
    let place = |index: usize| [index / shape[2], index % shape[2]];
    let level = |channel: usize, index: usize| raster.channels[channel].values()[index] as u16;
    let (n_colours, alpha) = match raster.model {
        Model::Grey | Model::Indexed => (1, None),
        Model::GreyAlpha => (1, Some(1)),
        Model::Rgb => (3, None),
        Model::RgbAlpha => (3, Some(3)),
    };
    let pixels = 0..raster.channels[0].values().len();
    let clear = alpha.and_then(|alpha| {
        let mut levels = pixels.clone().map(|index| (index, level(alpha, index)));
        levels.find(|&(_, level)| f32::from(level) != white)
    });
    if let Some((index, alpha)) = clear {
        let (path, place) = (path.to_owned(), place(index));
        return Err(DatasetsError::Transparent { path, place, alpha });
    }
    let rgb = |index: usize| [0, 1, 2].map(|channel| level(channel.min(n_colours - 1), index));
    let mut coloured = pixels.filter(|&index| {
        let [red, green, blue] = rgb(index);
        red != green || green != blue
    });
    if let Some(first) = coloured.next() {
        return Err(DatasetsError::Coloured {
            path: path.to_owned(),
            place: place(first),
            rgb: rgb(first),
            n_coloured: 1 + coloured.count(),
        });
    }
    let values = raster.channels[0].map(|&value| value as u16);
    Ok(GreyPicture { values, white: white as u16 })
}

/// Encodes one slice of a mask as 8-bit PNG with 0 and 255; `None` when there is no such slice or it has no pixel.
pub fn mask_png(mask: &Mask, slice: usize) -> Option<Vec<u8>> {
    let [_, n_rows, n_columns] = mask.shape();
    let pixels =
        slice_of(mask, slice)?.iter().map(|&inside| if inside { 255 } else { 0 }).collect();
    encode(pixels, [n_rows, n_columns], ExtendedColorType::L8)
}

/// Encodes one slice of an image as 16-bit PNG; `None` when there is no such slice or it has no pixel.
///
/// Images within `[0, 1]` keep their scale: 1 is 65535, and values of 8 or 16 bits survive exactly. Others are
/// stretched from the smallest to the largest value of the image.
pub fn image_png(image: &Image, slice: usize) -> Option<Vec<u8>> {
    let [_, n_rows, n_columns] = image.shape();
    let (low, high) = window(image);
    let scale = f32::from(u16::MAX) / (high - low);
    let pixels = slice_of(image, slice)?
        .iter()
        .flat_map(|&value| (((value - low) * scale).round() as u16).to_ne_bytes())
        .collect();
    encode(pixels, [n_rows, n_columns], ExtendedColorType::L16)
}

/// Values that become black and white.
fn window(image: &Image) -> (f32, f32) {
    let low = image.values().iter().copied().fold(f32::INFINITY, f32::min);
    let high = image.values().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if low >= 0.0 && high <= 1.0 || low >= high { (0.0, 1.0) } else { (low, high) }
}

/// One slice in row and column order, when it is there.
fn slice_of<T>(grid: &Grid<T>, slice: usize) -> Option<&[T]> {
    let [n_slices, n_rows, n_columns] = grid.shape();
    let area = n_rows * n_columns;
    (slice < n_slices && area > 0).then(|| &grid.values()[slice * area..(slice + 1) * area])
}

/// Writes PNG into memory; `None` for sizes that PNG cannot hold.
fn encode(
    pixels: Vec<u8>,
    [n_rows, n_columns]: [usize; 2],
    colour: ExtendedColorType,
) -> Option<Vec<u8>> {
    let [height, width] = [u32::try_from(n_rows).ok()?, u32::try_from(n_columns).ok()?];
    let mut bytes = Cursor::new(Vec::new());
    PngEncoder::new(&mut bytes).write_image(&pixels, width, height, colour).ok()?;
    Some(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::path::PathBuf;

    use image::{DynamicImage, GrayImage, ImageFormat, Rgba, RgbaImage};

    use super::*;
    use crate::{
        mask,
        raster::{MAX_SIDE, decode},
    };

    fn name() -> PathBuf {
        PathBuf::from("picture.png")
    }

    fn stored(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn decode_grey(bytes: &[u8]) -> Result<GreyPicture, DatasetsError> {
        let undecoded = |source| DatasetsError::Picture { path: name(), source: Box::new(source) };
        grey_of(decode(bytes).map_err(undecoded)?, &name())
    }

    fn grey(
        picture: impl Into<DynamicImage>,
        format: ImageFormat,
    ) -> Result<GreyPicture, DatasetsError> {
        decode_grey(&stored(picture, format))
    }

    #[test]
    fn masks_survive_png_and_grey_gif() {
        let drawn = mask!["# . #", ". . #"];
        let png = mask_png(&drawn, 0).unwrap();
        let read = decode_grey(&png).unwrap();
        assert_eq!(mask_of(&read, 0, &name()).unwrap(), drawn);
        let pixels = RgbaImage::from_fn(3, 2, |column, row| {
            let level = if drawn.get([0, row as usize, column as usize]) { 255 } else { 0 };
            Rgba([level, level, level, 255])
        });
        let read = grey(pixels, ImageFormat::Gif).unwrap();
        assert_eq!(mask_of(&read, 0, &name()).unwrap(), drawn);
        assert!(mask_png(&drawn, 1).is_none());
    }

    #[test]
    fn values_of_8_and_16_bits_survive_the_picture_of_a_shard() {
        for white in [255u16, 4095, 65535] {
            let image = Grid::from_fn([1, 3, 2], |[_, row, column]| {
                f32::from((row * 2 + column) as u16 * (white / 5)) / f32::from(white)
            });
            let read = decode_grey(&image_png(&image, 0).unwrap()).unwrap();
            let levels = |level: f32| (level * f32::from(white)).round() as u16;
            let back = read.values.map(|&value| levels(f32::from(value) / 65535.0));
            assert_eq!(back, image.map(|&value| levels(value)));
        }
        let stretched = Grid::new([1, 1, 3], vec![-2.0, 0.0, 2.0]).unwrap();
        let read = decode_grey(&image_png(&stretched, 0).unwrap()).unwrap();
        assert_eq!(read.values.values(), [0, 32768, 65535]);
    }

    #[test]
    fn colour_is_accepted_only_where_it_is_grey() {
        let mut pixels = RgbaImage::from_pixel(4, 2, Rgba([7, 7, 7, 255]));
        assert_eq!(
            grey(pixels.clone(), ImageFormat::Png).unwrap().values,
            Grid::filled([1, 2, 4], 7)
        );
        pixels.put_pixel(3, 1, Rgba([7, 8, 7, 255]));
        let error = grey(pixels.clone(), ImageFormat::Png).unwrap_err();
        assert!(matches!(
            error,
            DatasetsError::Coloured { place: [1, 3], rgb: [7, 8, 7], n_coloured: 1, .. }
        ));
        pixels.put_pixel(2, 0, Rgba([7, 7, 7, 9]));
        let error = grey(pixels, ImageFormat::Png).unwrap_err();
        assert!(matches!(error, DatasetsError::Transparent { place: [0, 2], alpha: 9, .. }));
    }

    #[test]
    fn other_values_in_a_mask_are_counted() {
        let read =
            grey(GrayImage::from_raw(2, 2, vec![0, 3, 255, 3]).unwrap(), ImageFormat::Png).unwrap();
        let error = mask_of(&read, 0, &name()).unwrap_err();
        assert!(
            matches!(&error, DatasetsError::MaskValues { found, .. } if found[&3] == 2),
            "{error}"
        );
        assert_eq!(mask_of(&read, 3, &name()).unwrap(), mask![". .", "# ."]);
        let ones = grey(GrayImage::from_raw(2, 1, vec![0, 1]).unwrap(), ImageFormat::Png).unwrap();
        assert_eq!(mask_of(&ones, 0, &name()).unwrap(), mask![". #"]);
    }

    #[test]
    fn damaged_and_oversized_pictures_are_errors() {
        let whole = stored(GrayImage::new(40, 40), ImageFormat::Png);
        for length in [0, 4, 20, whole.len() / 2, whole.len() - 14] {
            let cut = &whole[..length];
            assert!(matches!(decode_grey(cut), Err(DatasetsError::Picture { .. })), "{length}");
        }
        let wide = stored(GrayImage::new(MAX_SIDE + 1, 1), ImageFormat::Png);
        assert!(matches!(decode_grey(&wide), Err(DatasetsError::Picture { .. })));
        assert!(matches!(read_grey(Path::new("no/such.png")), Err(DatasetsError::Read { .. })));
    }
}
