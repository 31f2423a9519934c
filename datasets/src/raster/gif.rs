//! GIF of one picture, as indices with their palette.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{Model, Raster, RasterError, budget, check_size};
use crate::Grid;

pub(super) fn decode(bytes: &[u8]) -> Result<Raster, RasterError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(true);
    let limit = NonZeroU64::new(budget(bytes)).unwrap_or(NonZeroU64::MIN);
    options.set_memory_limit(MemoryLimit::Bytes(limit));
    let mut decoder = options.read_info(bytes).map_err(RasterError::Gif)?;
    let screen = [decoder.height(), decoder.width()];
    let [n_rows, n_columns] = check_size(screen.map(u32::from), 6, bytes)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(RasterError::Gif)?;
    let frame = frame.ok_or(RasterError::Empty { format: "GIF" })?;
    if [frame.top, frame.left, frame.height, frame.width] != [0, 0, screen[0], screen[1]] {
        let what = "a picture that does not fill its screen".to_owned();
        return Err(RasterError::Kind { format: "GIF", what });
    }
    let colours = frame.palette.as_ref().or(global.as_ref()).map(Vec::as_slice);
    let palette = palette(colours.unwrap_or_default(), frame.transparent);
    let indices = frame.buffer.iter().map(|&index| f32::from(index)).collect();
    if decoder.read_next_frame().map_err(RasterError::Gif)?.is_some() {
        return Err(RasterError::Frames { format: "GIF" });
    }
    let channel = Grid::new([1, n_rows, n_columns], indices)
        .expect("a frame that fills the screen has its pixels");
    Ok(Raster {
        channels: vec![channel],
        model: Model::Indexed,
        white: Some(255.0),
        palette: Some(palette),
    })
}

/// Colours with their opacity.
fn palette(colours: &[u8], transparent: Option<u8>) -> Vec<[u8; 4]> {
    let colour = |(index, &[red, green, blue]): (usize, &[u8; 3])| {
        let is_clear = transparent.is_some_and(|clear| usize::from(clear) == index);
        [red, green, blue, if is_clear { 0 } else { u8::MAX }]
    };
    colours.as_chunks::<3>().0.iter().enumerate().map(colour).collect()
}
