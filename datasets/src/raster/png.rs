//! PNG of 1 to 16 bits, every colour type, without its expansions.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, Info, Limits};

use super::{Model, Raster, RasterError, budget, check_size, separate};

pub(super) fn decode(bytes: &[u8]) -> Result<Raster, RasterError> {
    let mut options = DecodeOptions::default();
    options.set_ignore_checksums(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    let limit = usize::try_from(budget(bytes)).unwrap_or(usize::MAX);
    decoder.set_limits(Limits { bytes: limit });
    let header = decoder.read_header_info().map_err(RasterError::Png)?;
    let model = model(header.color_type);
    let bits = bits(header.bit_depth);
    // The rows as they are stored, and every sample as `f32` beside its neighbours and in its channel.
    let bytes_a_pixel = model.n_samples() as u64 * (8 + u64::from(bits).div_ceil(8));
    let [n_rows, n_columns] = check_size([header.height, header.width], bytes_a_pixel, bytes)?;
    let mut reader = decoder.read_info().map_err(RasterError::Png)?;
    if reader.info().animation_control.is_some_and(|animation| animation.num_frames > 1) {
        return Err(RasterError::Frames { format: "PNG" });
    }
    let palette = palette(reader.info())?;
    let mut rows = vec![0; reader.output_buffer_size().unwrap_or_default()];
    let n_bytes = reader.next_frame(&mut rows).map_err(RasterError::Png)?.buffer_size();
    reader.finish().map_err(RasterError::Png)?;
    let n_samples = model.n_samples();
    let values = unpack(&rows[..n_bytes], bits, n_columns * n_samples);
    Ok(Raster {
        channels: separate(&values, n_samples, [1, n_rows, n_columns]),
        model,
        white: Some(((1_u32 << bits) - 1) as f32),
        palette,
    })
}

fn model(colour: ColorType) -> Model {
    match colour {
        ColorType::Grayscale => Model::Grey,
        ColorType::GrayscaleAlpha => Model::GreyAlpha,
        ColorType::Indexed => Model::Indexed,
        ColorType::Rgb => Model::Rgb,
        ColorType::Rgba => Model::RgbAlpha,
    }
}

fn bits(depth: BitDepth) -> u8 {
    match depth {
        BitDepth::One => 1,
        BitDepth::Two => 2,
        BitDepth::Four => 4,
        BitDepth::Eight => 8,
        BitDepth::Sixteen => 16,
    }
}

/// Colours with their opacity; opacity by a key colour is not read.
fn palette(info: &Info<'_>) -> Result<Option<Vec<[u8; 4]>>, RasterError> {
    let opacities = info.trns.as_deref().unwrap_or_default();
    if info.color_type != ColorType::Indexed {
        let what = "a transparent key colour".to_owned();
        let kind = RasterError::Kind { format: "PNG", what };
        return if opacities.is_empty() { Ok(None) } else { Err(kind) };
    }
    let (colours, _) = info.palette.as_deref().unwrap_or_default().as_chunks::<3>();
    let colour = |(index, &[red, green, blue]): (usize, &[u8; 3])| {
        [red, green, blue, opacities.get(index).copied().unwrap_or(u8::MAX)]
    };
    Ok(Some(colours.iter().enumerate().map(colour).collect()))
}

/// Samples of rows that each begin at a whole byte, the first sample in the highest bits.
fn unpack(rows: &[u8], bits: u8, samples_a_row: usize) -> Vec<f32> {
    let bytes_a_row = (samples_a_row * usize::from(bits)).div_ceil(8).max(1);
    let rows = rows.chunks_exact(bytes_a_row);
    match bits {
        16 => {
            let pairs = rows.flat_map(|row| row.as_chunks::<2>().0);
            pairs.map(|&pair| f32::from(u16::from_be_bytes(pair))).collect()
        }
        8 => rows.flatten().map(|&value| f32::from(value)).collect(),
        _ => {
            let a_byte = usize::from(8 / bits);
            let sample = |row: &[u8], index: usize| {
                let shift = 8 - bits - bits * (index % a_byte) as u8;
                f32::from(row[index / a_byte] >> shift & ((1 << bits) - 1))
            };
            rows.flat_map(|row| (0..samples_a_row).map(move |index| sample(row, index))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_samples_are_taken_from_the_high_end() {
        assert_eq!(unpack(&[0b1010_0000, 0b0100_0000], 1, 3), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(unpack(&[0b1110_0100, 0b0100_0000], 2, 5), [3.0, 2.0, 1.0, 0.0, 1.0]);
        assert_eq!(unpack(&[0xf3, 0x70], 4, 3), [15.0, 3.0, 7.0]);
        assert_eq!(unpack(&[1, 2, 255, 255], 16, 2), [258.0, 65535.0]);
    }
}
