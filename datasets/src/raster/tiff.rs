//! TIFF of whole and real numbers; pages of one size are slices.

use std::{collections::BTreeSet, io::Cursor};

use tiff::{
    ColorType,
    decoder::{Decoder, DecodingResult, Limits},
};

use super::{Model, Raster, RasterError, budget, check_size};
use crate::Grid;

pub(super) fn decode(bytes: &[u8]) -> Result<Raster, RasterError> {
    check_entries(bytes)?;
    let limit = budget(bytes);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(limit).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(RasterError::Tiff)?;
    let mut decoder = decoder.with_limits(limits);
    let first = Page::of(&mut decoder)?;
    let n_samples = first.model.n_samples();
    let (mut channels, mut n_pages, mut announced) = (vec![Vec::new(); n_samples], 0, 0);
    loop {
        let page = Page::of(&mut decoder)?;
        if page != first {
            let [expected, found] = [first, page].map(|page| format!("{page:?}"));
            return Err(RasterError::Page { page: n_pages, expected, found });
        }
        announced += page.bytes();
        if announced > limit {
            return Err(RasterError::Budget { announced, limit, stored: bytes.len() as u64 });
        }
        check_size([page.rows, page.columns], 1, bytes)?;
        let values = numbers(decoder.read_image().map_err(RasterError::Tiff)?)?;
        let n_pixels = page.rows as usize * page.columns as usize;
        if values.len() != n_pixels * n_samples {
            let what = "samples in planes of their own".to_owned();
            return Err(RasterError::Kind { format: "TIFF", what });
        }
        for (sample, channel) in channels.iter_mut().enumerate() {
            channel.extend(values.iter().skip(sample).step_by(n_samples));
        }
        n_pages += 1;
        if !decoder.more_images() {
            break;
        }
        decoder.next_image().map_err(RasterError::Tiff)?;
    }
    let shape = [n_pages, first.rows as usize, first.columns as usize];
    let image = |values| Grid::new(shape, values).expect("pages were counted");
    Ok(Raster {
        channels: channels.into_iter().map(image).collect(),
        model: first.model,
        white: first.white.map(f32::from),
        palette: None,
    })
}

/// Refuses entries of directories that announce more values than the file has bytes: the decoder makes room for them first.
fn check_entries(bytes: &[u8]) -> Result<(), RasterError> {
    let number = |place: usize, width: usize| {
        let digits = bytes.get(place..place.checked_add(width)?)?;
        let join = |number: u64, &digit: &u8| number << 8 | u64::from(digit);
        Some(match bytes[0] {
            b'I' => digits.iter().rev().fold(0, join),
            _ => digits.iter().fold(0, join),
        })
    };
    let is_big = number(2, 2) == Some(43);
    let (width, n_width, entry_bytes) = if is_big { (8, 8, 20) } else { (4, 2, 12) };
    let mut next = number(if is_big { 8 } else { 4 }, width);
    let mut seen = BTreeSet::new();
    while let Some(start) = next.and_then(|start| usize::try_from(start).ok()) {
        if start == 0 || !seen.insert(start) {
            break;
        }
        let first = start.saturating_add(n_width);
        let n_entries = number(start, n_width).unwrap_or(0).min(bytes.len() as u64) as usize;
        for place in (0..n_entries).map(|n| first.saturating_add(n * entry_bytes)) {
            let (Some(kind), Some(count)) = (number(place + 2, 2), number(place + 4, width)) else {
                break;
            };
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                _ => 8,
            };
            let (announced, stored) = (count.saturating_mul(size), bytes.len() as u64);
            if announced > stored {
                return Err(RasterError::Budget { announced, limit: stored, stored });
            }
        }
        next = number(first.saturating_add(n_entries * entry_bytes), width);
    }
    Ok(())
}

/// What pages must share to be slices.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    rows: u32,
    columns: u32,
    model: Model,
    bits: u8,
    white: Option<u16>,
}

impl Page {
    fn of(decoder: &mut Decoder<Cursor<&[u8]>>) -> Result<Self, RasterError> {
        let (columns, rows) = decoder.dimensions().map_err(RasterError::Tiff)?;
        let colour = decoder.colortype().map_err(RasterError::Tiff)?;
        let (model, bits) = match colour {
            ColorType::Gray(bits) => (Model::Grey, bits),
            ColorType::GrayA(bits) => (Model::GreyAlpha, bits),
            ColorType::RGB(bits) => (Model::Rgb, bits),
            ColorType::RGBA(bits) => (Model::RgbAlpha, bits),
            other => return Err(kind(format!("samples {other:?}"))),
        };
        let is_unsigned = match decoder.find_tag_unsigned_vec::<u16>(tiff::tags::Tag::SampleFormat)
        {
            Ok(formats) => formats.is_none_or(|formats| formats.iter().all(|&format| format == 1)),
            Err(error) => return Err(RasterError::Tiff(error)),
        };
        let white = match bits {
            8 if is_unsigned => Some(255),
            16 if is_unsigned => Some(u16::MAX),
            8 | 16 | 32 | 64 => None,
            _ => return Err(kind(format!("samples of {bits} bits"))),
        };
        Ok(Self { rows, columns, model, bits, white })
    }

    /// Bytes of the page as it is decoded, and as `f32`.
    fn bytes(self) -> u64 {
        let samples =
            u64::from(self.rows) * u64::from(self.columns) * self.model.n_samples() as u64;
        samples.saturating_mul(8 + u64::from(self.bits) / 8)
    }
}

fn kind(what: String) -> RasterError {
    RasterError::Kind { format: "TIFF", what }
}

/// Samples as `f32`; whole numbers up to 2^24 are exact.
fn numbers(decoded: DecodingResult) -> Result<Vec<f32>, RasterError> {
    Ok(match decoded {
        DecodingResult::U8(values) => values.into_iter().map(f32::from).collect(),
        DecodingResult::I8(values) => values.into_iter().map(f32::from).collect(),
        DecodingResult::U16(values) => values.into_iter().map(f32::from).collect(),
        DecodingResult::I16(values) => values.into_iter().map(f32::from).collect(),
        DecodingResult::U32(values) => values.into_iter().map(|value| value as f32).collect(),
        DecodingResult::I32(values) => values.into_iter().map(|value| value as f32).collect(),
        DecodingResult::F32(values) => values,
        DecodingResult::F64(values) => values.into_iter().map(|value| value as f32).collect(),
        _ => return Err(kind("half or 8-byte whole numbers".to_owned())),
    })
}
