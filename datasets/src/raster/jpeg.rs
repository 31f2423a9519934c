//! JPEG of 8 bits, grey or coloured.

use std::io::Cursor;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{MAX_SIDE, Model, Raster, RasterError, budget, check_size, separate};

pub(crate) fn decode(bytes: &[u8]) -> Result<Raster, RasterError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(budget(bytes));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Jpeg);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(RasterError::Jpeg)?;
    let (width, height) = decoder.dimensions();
    let model = match decoder.color_type() {
        ColorType::L8 => Model::Grey,
        ColorType::Rgb8 => Model::Rgb,
        other => {
            return Err(RasterError::Kind { format: "JPEG", what: format!("samples {other:?}") });
        }
    };
    let n_samples = model.n_samples();
    let [n_rows, n_columns] = check_size([height, width], 9 * n_samples as u64, bytes)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(RasterError::Jpeg)?;
    let values: Vec<f32> = decoded.into_bytes().into_iter().map(f32::from).collect();
    Ok(Raster {
        channels: separate(&values, n_samples, [1, n_rows, n_columns]),
        model,
        white: Some(255.0),
        palette: None,
    })
}
