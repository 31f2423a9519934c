//! Pixels of a file as numbers, whatever they are stored as.
//!
//! Source: DICOM PS3.3, C.7.6.3.1 (image pixel), C.11.1 (modality LUT); PS3.5, 8 and A.4 (encapsulation).

use std::borrow::Cow;

use super::{
    DicomError,
    attribute::{self, Attribute},
    element::{Codec, DataSet, Element, Syntax, Value},
    lossless, run_length,
};
use crate::{
    raster::{self, Model},
    volume::MAX_VOXELS,
};

/// How the pixels of a file are stored, the same for all its frames.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PixelFormat {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Numbers a pixel: 1, or 3 of red, green and blue.
    pub(super) n_samples: usize,
    pub(super) n_frames: usize,
    /// Whether small numbers are bright (MONOCHROME1).
    pub(super) is_inverted: bool,
    is_planar: bool,
    bytes_a_sample: usize,
    bits_stored: u32,
    is_signed: bool,
    codec: Codec,
    is_big: bool,
}

/// Linear rule from stored numbers to those of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rescale {
    slope: f64,
    intercept: f64,
}

impl Rescale {
    /// The rule of a frame; none means that numbers stay as they are.
    pub(super) fn of(frame: &DataSet<'_>) -> Result<Self, DicomError> {
        if !frame.items(attribute::MODALITY_LUT).is_empty() {
            let name = attribute::MODALITY_LUT.name;
            let found = "a table".to_owned();
            return Err(DicomError::Attribute { name, expected: "absent", found });
        }
        let number = |attribute: Attribute, default: f64| {
            let found = frame.array(attribute)?;
            Ok::<f64, DicomError>(found.map_or(default, |[number]: [f64; 1]| number))
        };
        let (slope, intercept) =
            (number(attribute::SLOPE, 1.0)?, number(attribute::INTERCEPT, 0.0)?);
        if slope == 0.0 {
            let name = attribute::SLOPE.name;
            return Err(DicomError::Attribute { name, expected: "not 0", found: "0".to_owned() });
        }
        Ok(Self { slope, intercept })
    }

    fn is_none(self) -> bool {
        self == Self { slope: 1.0, intercept: 0.0 }
    }
}

/// One of several numbers that are understood.
fn one_of(
    data: &DataSet<'_>,
    attribute: Attribute,
    known: &[u32],
    expected: &'static str,
) -> Result<u32, DicomError> {
    let found = data.needed(attribute)?;
    if known.contains(&found) {
        return Ok(found);
    }
    Err(DicomError::Attribute { name: attribute.name, expected, found: found.to_string() })
}

impl PixelFormat {
    pub(super) fn of(data: &DataSet<'_>, syntax: Syntax) -> Result<Self, DicomError> {
        let n_samples = one_of(data, attribute::SAMPLES, &[1, 3], "1 or 3")?;
        let is_inverted = photometric(data, n_samples)?;
        let is_planar = match (n_samples, syntax.codec) {
            (3, Codec::Native) => one_of(data, attribute::PLANAR, &[0, 1], "0 or 1")? == 1,
            // Segments of run lengths are planes, whatever the attribute says (PS3.5, G.2).
            (3, Codec::RunLength) => true,
            (3, _) => {
                return Err(DicomError::Attribute {
                    name: attribute::SAMPLES.name,
                    expected: "1 in JPEG",
                    found: n_samples.to_string(),
                });
            }
            _ => false,
        };
        let bits = one_of(data, attribute::BITS_ALLOCATED, &[8, 16, 32], "8, 16 or 32")?;
        let bits_stored = data.needed(attribute::BITS_STORED)?;
        if !(1..=bits).contains(&bits_stored) {
            return Err(DicomError::Attribute {
                name: attribute::BITS_STORED.name,
                expected: "from 1 to `BitsAllocated`",
                found: bits_stored.to_string(),
            });
        }
        let high_bit = data.whole(attribute::HIGH_BIT)?.unwrap_or(bits_stored - 1);
        if high_bit != bits_stored - 1 {
            return Err(DicomError::Attribute {
                name: attribute::HIGH_BIT.name,
                expected: "`BitsStored` - 1",
                found: high_bit.to_string(),
            });
        }
        let n_frames = data.whole(attribute::FRAMES)?.unwrap_or(1).max(1) as usize;
        let format = Self {
            rows: side(data, attribute::ROWS)?,
            columns: side(data, attribute::COLUMNS)?,
            n_samples: n_samples as usize,
            n_frames,
            is_inverted,
            is_planar,
            bytes_a_sample: bits as usize / 8,
            bits_stored,
            is_signed: one_of(data, attribute::PIXEL_REPRESENTATION, &[0, 1], "0 or 1")? == 1,
            codec: syntax.codec,
            is_big: syntax.is_big,
        };
        let a_frame = (format.n_pixels() * format.n_samples) as u64;
        let found = a_frame.saturating_mul(n_frames as u64);
        match found <= MAX_VOXELS as u64 {
            true => Ok(format),
            false => Err(DicomError::PixelLimit { found, limit: MAX_VOXELS }),
        }
    }

    fn n_pixels(&self) -> usize {
        self.rows * self.columns
    }

    fn frame_bytes(&self) -> usize {
        self.n_pixels() * self.n_samples * self.bytes_a_sample
    }

    /// The stored bytes of every frame.
    pub(super) fn frames<'a>(
        &self,
        pixels: &Element<'a>,
    ) -> Result<Vec<Cow<'a, [u8]>>, DicomError> {
        match (&pixels.value, self.codec) {
            (Value::Bytes(bytes), Codec::Native) => self.native(bytes, pixels.is_words),
            (Value::Fragments(fragments), codec) if codec != Codec::Native => {
                self.encapsulated(fragments)
            }
            _ => Err(DicomError::Attribute {
                name: attribute::PIXEL_DATA.name,
                expected: "encapsulated exactly in compressed transfer syntaxes",
                found: "the other".to_owned(),
            }),
        }
    }

    fn native<'a>(
        &self,
        bytes: &'a [u8],
        is_words: bool,
    ) -> Result<Vec<Cow<'a, [u8]>>, DicomError> {
        let expected = self.frame_bytes() * self.n_frames;
        // A value has an even length (PS3.5, 7.1.1).
        if bytes.len() != expected.next_multiple_of(2) && bytes.len() != expected {
            return Err(DicomError::PixelLength { expected, found: bytes.len() });
        }
        let size = self.frame_bytes();
        if !(self.is_big && is_words && self.bytes_a_sample == 1) {
            return Ok(bytes[..expected].chunks_exact(size).map(Cow::from).collect());
        }
        // Bytes in words of the other order come in swapped pairs.
        let mut swapped = bytes.to_vec();
        swapped.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
        Ok(swapped[..expected].chunks_exact(size).map(|frame| frame.to_vec().into()).collect())
    }

    fn encapsulated<'a>(&self, fragments: &[&'a [u8]]) -> Result<Vec<Cow<'a, [u8]>>, DicomError> {
        // The first item is the table of offsets, which one fragment a frame makes needless.
        let own = fragments.get(1..).unwrap_or_default();
        if own.len() == self.n_frames {
            return Ok(own.iter().map(|&fragment| fragment.into()).collect());
        }
        if self.n_frames == 1 && !own.is_empty() && self.codec != Codec::RunLength {
            return Ok(vec![own.concat().into()]);
        }
        Err(DicomError::Attribute {
            name: attribute::PIXEL_DATA.name,
            expected: "one fragment a frame",
            found: format!("{} fragments of {} frames", own.len(), self.n_frames),
        })
    }

    /// The numbers of a frame, one list a sample, in the order of rows.
    pub(super) fn decode(
        &self,
        stored: &[u8],
        frame: usize,
        rescale: Rescale,
    ) -> Result<Vec<Vec<f32>>, DicomError> {
        if !rescale.is_none() && (self.is_inverted || self.n_samples > 1) {
            return Err(DicomError::Attribute {
                name: attribute::SLOPE.name,
                expected: "absent in colour and MONOCHROME1",
                found: format!("{} with intercept {}", rescale.slope, rescale.intercept),
            });
        }
        let damaged = |codec| move |what| DicomError::Stream { codec, frame, what };
        let n_bytes = self.frame_bytes();
        let (bytes, is_big): (Cow<'_, [u8]>, bool) = match self.codec {
            Codec::Native => (stored.into(), self.is_big),
            Codec::RunLength => {
                let n_segments = self.n_samples * self.bytes_a_sample;
                let planes = run_length::decode(stored, n_segments, self.n_pixels());
                let planes = planes.map_err(damaged("run-length"))?;
                (interleaved(&planes, self.bytes_a_sample).into(), true)
            }
            Codec::JpegLossless => {
                let found = lossless::decode(stored, [self.rows, self.columns]);
                let found = found.map_err(damaged("JPEG"))?;
                let bytes = found.into_iter().flat_map(|number| {
                    let [low, high] = number.to_le_bytes();
                    [low, high].into_iter().take(self.bytes_a_sample)
                });
                (bytes.collect(), false)
            }
            Codec::JpegBaseline => (self.baseline(stored).map_err(damaged("JPEG"))?.into(), false),
        };
        if bytes.len() != n_bytes {
            return Err(DicomError::PixelLength { expected: n_bytes, found: bytes.len() });
        }
        Ok((0..self.n_samples)
            .map(|sample| self.numbers(&bytes, is_big, sample, rescale))
            .collect())
    }

    fn baseline(&self, stored: &[u8]) -> Result<Vec<u8>, &'static str> {
        let decoded = raster::decode_jpeg(stored).map_err(|_| "it cannot be decoded")?;
        let is_grey = decoded.model == Model::Grey && self.bytes_a_sample == 1;
        match decoded.channels.first() {
            Some(grey) if is_grey && grey.shape() == [1, self.rows, self.columns] => {
                Ok(grey.values().iter().map(|&value| value as u8).collect())
            }
            _ => Err("its size or its number of samples is not that of the header"),
        }
    }

    /// One sample of every pixel.
    fn numbers(&self, bytes: &[u8], is_big: bool, sample: usize, rescale: Rescale) -> Vec<f32> {
        let Rescale { slope, intercept } = rescale;
        // The range of stored numbers has its ends exchanged; nothing else is done to inverted ones.
        let (slope, intercept) = match (self.is_inverted, self.is_signed) {
            (false, _) => (slope, intercept),
            (true, false) => (-1.0, f64::from(u32::MAX >> (32 - self.bits_stored))),
            (true, true) => (-1.0, -1.0),
        };
        // Bits above the stored ones belong to overlays and mean nothing here (PS3.5, 8.1.1).
        let n_unused = 32 - self.bits_stored;
        let convert = |stored: f64| (stored * slope + intercept) as f32;
        if self.is_signed {
            let number = |word: u32| f64::from((word << n_unused).cast_signed() >> n_unused);
            self.words(bytes, is_big, sample, |word| convert(number(word)))
        } else {
            let number = |word: u32| f64::from(word << n_unused >> n_unused);
            self.words(bytes, is_big, sample, |word| convert(number(word)))
        }
    }

    fn words(
        &self,
        bytes: &[u8],
        is_big: bool,
        sample: usize,
        convert: impl Fn(u32) -> f32,
    ) -> Vec<f32> {
        match self.bytes_a_sample {
            1 => self.chunks::<1>(bytes, sample, |[byte]| convert(byte.into())),
            2 if is_big => {
                self.chunks(bytes, sample, |word| convert(u16::from_be_bytes(word).into()))
            }
            2 => self.chunks(bytes, sample, |word| convert(u16::from_le_bytes(word).into())),
            _ if is_big => self.chunks(bytes, sample, |word| convert(u32::from_be_bytes(word))),
            _ => self.chunks(bytes, sample, |word| convert(u32::from_le_bytes(word))),
        }
    }

    fn chunks<const N: usize>(
        &self,
        bytes: &[u8],
        sample: usize,
        convert: impl Fn([u8; N]) -> f32,
    ) -> Vec<f32> {
        let (chunks, _) = bytes.as_chunks::<N>();
        if self.is_planar || self.n_samples == 1 {
            let plane = &chunks[sample * self.n_pixels()..][..self.n_pixels()];
            return plane.iter().map(|&chunk| convert(chunk)).collect();
        }
        chunks[sample..].iter().step_by(self.n_samples).map(|&chunk| convert(chunk)).collect()
    }
}

/// Whether the meaning of pixels is inverted grey.
fn photometric(data: &DataSet<'_>, n_samples: u32) -> Result<bool, DicomError> {
    let name = attribute::PHOTOMETRIC.name;
    let wrong = |expected, found: &str| {
        Err(DicomError::Attribute { name, expected, found: found.to_owned() })
    };
    match (n_samples, data.text(attribute::PHOTOMETRIC)) {
        (_, None) => Err(DicomError::Missing { name }),
        (1, Some("MONOCHROME2")) | (3, Some("RGB")) => Ok(false),
        (1, Some("MONOCHROME1")) => Ok(true),
        (1, Some("PALETTE COLOR")) => wrong("MONOCHROME1 or MONOCHROME2", "PALETTE COLOR"),
        (1, Some(_)) => wrong("MONOCHROME1 or MONOCHROME2", "another"),
        (_, Some(text)) if text.starts_with("YBR") => wrong("RGB", "YBR"),
        _ => wrong("RGB", "another"),
    }
}

/// A number of rows or columns.
fn side(data: &DataSet<'_>, attribute: Attribute) -> Result<usize, DicomError> {
    match data.needed(attribute)? {
        0 => Err(DicomError::Attribute {
            name: attribute.name,
            expected: "at least 1",
            found: "0".to_owned(),
        }),
        side => Ok(side as usize),
    }
}

/// Big-endian numbers out of planes of their bytes, the most significant first.
fn interleaved(planes: &[Vec<u8>], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(planes.iter().map(Vec::len).sum());
    for sample in planes.chunks(size) {
        for place in 0..sample[0].len() {
            bytes.extend(sample.iter().map(|plane| plane[place]));
        }
    }
    bytes
}
