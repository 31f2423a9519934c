//! Pictures of every kind, written by other encoders, and hostile ones.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::io::Cursor;

use ::gif::{Encoder, Frame};
use ::png::{BitDepth, ColorType};
use ::tiff::encoder::{TiffEncoder, colortype};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use super::*;

/// The colours of DRIVE's masks: nearly black and nearly white, neither of them grey.
const DRIVE: [u8; 6] = [4, 2, 4, 252, 254, 252];

fn png(colour: ColorType, depth: BitDepth, size: [u32; 2], rows: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, size[1], size[0]);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ColorType::Indexed {
        encoder.set_palette(DRIVE.to_vec());
        encoder.set_trns(vec![255, 9]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rows).unwrap();
    writer.finish().unwrap();
    bytes
}

fn gif(frames: &[[u16; 4]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 3, 2, &DRIVE).unwrap();
    for &[left, top, width, height] in frames {
        let pixels = [1, 0, 1, 0, 1, 1];
        let n = usize::from(width * height);
        let buffer = pixels[..n].into();
        encoder
            .write_frame(&Frame { left, top, width, height, buffer, ..Frame::default() })
            .unwrap();
    }
    drop(encoder);
    bytes
}

fn values(raster: &Raster) -> Vec<&[f32]> {
    raster.channels.iter().map(Image::values).collect()
}

#[test]
fn a_palette_stays_indices_and_becomes_colours_when_asked() {
    let indexed = decode(&png(ColorType::Indexed, BitDepth::One, [2, 3], &[0xa0, 0x60])).unwrap();
    assert_eq!(values(&indexed), [[1.0, 0.0, 1.0, 0.0, 1.0, 1.0]]);
    assert_eq!(indexed.palette.as_deref(), Some(&[[4, 2, 4, 255], [252, 254, 252, 9]][..]));
    let coloured = indexed.coloured().unwrap();
    assert_eq!((coloured.model, coloured.channels.len()), (Model::RgbAlpha, 4));
    assert_eq!(coloured.channels[1].values(), [254.0, 2.0, 254.0, 2.0, 254.0, 254.0]);
    let found = decode(&gif(&[[0, 0, 3, 2]])).unwrap();
    assert_eq!(
        (found.model, values(&found)),
        (Model::Indexed, vec![&[1.0, 0.0, 1.0, 0.0, 1.0, 1.0][..]])
    );
    assert_eq!(found.coloured().unwrap().model, Model::Rgb);
}

#[test]
fn samples_of_png_are_channels() {
    let rgb = decode(&png(ColorType::Rgb, BitDepth::Eight, [1, 2], &[1, 2, 3, 4, 5, 6])).unwrap();
    assert_eq!(values(&rgb), [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    let deep =
        decode(&png(ColorType::GrayscaleAlpha, BitDepth::Sixteen, [1, 1], &[1, 0, 255, 255]))
            .unwrap();
    assert_eq!((values(&deep), deep.white), (vec![&[256.0][..], &[65535.0]], Some(65535.0)));
    let bits = decode(&png(ColorType::Grayscale, BitDepth::One, [2, 2], &[0x80, 0x40])).unwrap();
    assert_eq!((values(&bits), bits.white), (vec![&[1.0, 0.0, 0.0, 1.0][..]], Some(1.0)));
}

fn tiff<C: colortype::ColorType>(pages: &[([u32; 2], &[C::Inner])]) -> Vec<u8>
where
    [C::Inner]: ::tiff::encoder::TiffValue,
{
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
    for ([rows, columns], values) in pages {
        encoder.write_image::<C>(*columns, *rows, values).unwrap();
    }
    bytes.into_inner()
}

#[test]
fn numbers_of_tiff_keep_sign_and_fraction() {
    let signed = decode(&tiff::<colortype::GrayI16>(&[([1, 2], &[-1000, 1200])])).unwrap();
    assert_eq!((values(&signed), signed.white), (vec![&[-1000.0, 1200.0][..]], None));
    let real = decode(&tiff::<colortype::Gray32Float>(&[([2, 1], &[0.25, -1.5])])).unwrap();
    assert_eq!((values(&real), real.white), (vec![&[0.25, -1.5][..]], None));
    let wide = decode(&tiff::<colortype::Gray16>(&[([1, 1], &[65535])])).unwrap();
    assert_eq!((values(&wide), wide.white), (vec![&[65535.0][..]], Some(65535.0)));
    let rgb = decode(&tiff::<colortype::RGB8>(&[([1, 1], &[7, 8, 9])])).unwrap();
    assert_eq!((values(&rgb), rgb.white), (vec![&[7.0][..], &[8.0], &[9.0]], Some(255.0)));
}

#[test]
fn pages_are_slices_when_they_are_alike() {
    let stack = decode(&tiff::<colortype::Gray8>(&[([1, 2], &[1, 2]), ([1, 2], &[3, 4])])).unwrap();
    assert_eq!(
        (stack.channels[0].shape(), values(&stack)),
        ([2, 1, 2], vec![&[1.0, 2.0, 3.0, 4.0][..]])
    );
    let error = decode(&tiff::<colortype::Gray8>(&[([1, 2], &[1, 2]), ([2, 1], &[3, 4])]));
    assert!(matches!(error, Err(RasterError::Page { page: 1, .. })), "{error:?}");
}

#[test]
fn jpeg_is_grey_or_coloured() {
    let write = |picture: DynamicImage| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        decode(&bytes.into_inner()).unwrap()
    };
    let grey = write(GrayImage::from_pixel(8, 16, image::Luma([100])).into());
    assert_eq!((grey.model, grey.channels[0].shape()), (Model::Grey, [1, 16, 8]));
    assert!(grey.channels[0].values().iter().all(|value| (value - 100.0).abs() <= 1.0));
    let rgb = write(RgbImage::from_pixel(8, 8, image::Rgb([200, 10, 30])).into());
    assert_eq!((rgb.model, rgb.channels.len()), (Model::Rgb, 3));
    assert!((rgb.channels[0].values()[0] - 200.0).abs() <= 3.0);
}

#[test]
fn what_is_not_read_is_named() {
    assert!(matches!(decode(b"BM6 "), Err(RasterError::Unknown { .. })));
    assert!(matches!(decode(&gif(&[[0, 0, 3, 2]; 2])), Err(RasterError::Frames { .. })));
    assert!(matches!(decode(&gif(&[[1, 0, 2, 2]])), Err(RasterError::Kind { .. })));
    // The header with its palette, and at once the end.
    let empty = [&gif(&[[0, 0, 3, 2]])[..19], &[0x3b]].concat();
    assert!(decode(&empty).is_err());
    let raster = Raster {
        channels: vec![Grid::filled([1, 1, 1], 3.0)],
        model: Model::Indexed,
        white: None,
        palette: Some(vec![[0; 4]; 3]),
    };
    assert!(matches!(raster.coloured(), Err(RasterError::NoColour { index: 3, n_colours: 3 })));
}

/// Headers of small files that announce gigabytes are refused before anything is allocated for them.
#[test]
fn bombs_are_refused_by_their_headers() {
    let mut bytes = png(ColorType::Rgba, BitDepth::Sixteen, [1, 1], &[0; 8]);
    bytes[16..20].copy_from_slice(&16_384_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&16_384_u32.to_be_bytes());
    let checksum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert!(
        matches!(decode(&bytes), Err(RasterError::Budget { announced, .. }) if announced > 1 << 32)
    );
    let mut bytes = gif(&[[0, 0, 3, 2]]);
    bytes[6..10].copy_from_slice(&[255, 255, 1, 0]);
    assert!(matches!(decode(&bytes), Err(RasterError::Sides { .. })));
    bytes[6..10].copy_from_slice(&[0, 64, 0, 64]);
    assert!(matches!(decode(&bytes), Err(RasterError::Budget { .. })));
    let good = tiff::<colortype::Gray8>(&[([1, 2], &[1, 2])]);
    let place = good.windows(8).position(|tag| tag == [0, 1, 4, 0, 1, 0, 0, 0]).unwrap();
    let mut bytes = good.clone();
    bytes[place + 8..place + 12].copy_from_slice(&16_384_u32.to_le_bytes());
    assert!(decode(&bytes).is_err());
}

/// The decoder makes room for all values of an entry before it looks for them: 255 MiB for a file of 200 bytes.
#[test]
fn entries_of_tiff_hold_no_more_than_the_file() {
    let good = tiff::<colortype::Gray8>(&[([1, 2], &[1, 2])]);
    let place = good.windows(8).position(|entry| entry == [3, 1, 3, 0, 1, 0, 0, 0]).unwrap();
    let mut bytes = good.clone();
    bytes[place + 4..place + 8].copy_from_slice(&8_323_073_u32.to_le_bytes());
    let error = decode(&bytes).unwrap_err();
    assert!(matches!(error, RasterError::Budget { announced: 16_646_146, .. }), "{error}");
}

/// The checksum of PNG, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn every_truncation_is_an_error_or_the_picture() {
    for whole in [
        png(ColorType::Indexed, BitDepth::One, [2, 3], &[0xa0, 0x60]),
        gif(&[[0, 0, 3, 2]]),
        tiff::<colortype::GrayI16>(&[([1, 2], &[-1000, 1200])]),
    ] {
        let picture = decode(&whole).unwrap();
        let survivors = (0..whole.len()).filter(|&length| match decode(&whole[..length]) {
            Ok(found) => {
                assert_eq!(found, picture, "{length} of {}", whole.len());
                true
            }
            Err(_) => false,
        });
        assert_eq!(survivors.count(), 0);
    }
}
