//! Pictures of cases: grey images, colour maps and mask contours, ready to stand inside a page.
//!
//! Images and maps become PNG data URIs; contours become SVG paths along the pixel borders, so that they stay
//! sharp at any size and one embedded image serves all contours that are laid over it.
//! Colour maps: viridis and inferno of matplotlib (S. van der Walt, N. Smith; CC0), perceptually uniform and legible
//! without colour vision, by linear interpolation between ten of their entries.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::data::{MaskPicture, Picture, Plane};
use crate::error::ReportError;

/// Longest side of an embedded picture in pixels; larger ones are reduced by whole factors.
pub const LONGEST_SIDE: usize = 256;

/// Grey of a map's pixels that have no value.
const NO_VALUE: [u8; 3] = [128, 128, 128];

/// A perceptually uniform colour map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourMap {
    /// Black to light yellow by purple and orange; for uncertainty.
    Inferno,
    /// Purple to yellow by green; for calibration and consensus.
    Viridis,
}

impl ColourMap {
    /// Ten entries at equal steps from 0 to 1.
    fn entries(self) -> &'static [[u8; 3]; 10] {
        match self {
            Self::Inferno => &[
                [0x00, 0x00, 0x04],
                [0x1b, 0x0c, 0x41],
                [0x4a, 0x0c, 0x6b],
                [0x78, 0x1c, 0x6d],
                [0xa5, 0x2c, 0x60],
                [0xcf, 0x44, 0x46],
                [0xed, 0x69, 0x25],
                [0xfb, 0x9b, 0x06],
                [0xf7, 0xd1, 0x3d],
                [0xfc, 0xff, 0xa4],
            ],
            Self::Viridis => &[
                [0x44, 0x01, 0x54],
                [0x48, 0x28, 0x78],
                [0x3e, 0x49, 0x89],
                [0x31, 0x68, 0x8e],
                [0x26, 0x82, 0x8e],
                [0x1f, 0x9e, 0x89],
                [0x35, 0xb7, 0x79],
                [0x6e, 0xce, 0x58],
                [0xb5, 0xde, 0x2b],
                [0xfd, 0xe7, 0x25],
            ],
        }
    }

    /// Colour at `share` from 0 to 1; beyond these the ends, and mid grey for NaN.
    #[must_use]
    pub fn rgb(self, share: f32) -> [u8; 3] {
        if share.is_nan() {
            return NO_VALUE;
        }
        let entries = self.entries();
        let place = share.clamp(0.0, 1.0) * (entries.len() - 1) as f32;
        let below = place.floor() as usize;
        let above = (below + 1).min(entries.len() - 1);
        let weight = place - place.floor();
        std::array::from_fn(|channel| {
            let (low, high) =
                (f32::from(entries[below][channel]), f32::from(entries[above][channel]));
            (low + (high - low) * weight).round() as u8
        })
    }
}

impl<T> Plane<T> {
    /// Shape as `[row, column]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Refuses a picture without pixels or whose values do not fill its shape.
    ///
    /// # Errors
    /// [`ReportError::PictureShape`], naming `what`.
    pub fn check(&self, what: &str) -> Result<(), ReportError> {
        let expected = self.rows.saturating_mul(self.columns);
        if expected == self.values.len() && expected > 0 {
            return Ok(());
        }
        Err(ReportError::PictureShape {
            what: what.to_owned(),
            rows: self.rows,
            columns: self.columns,
            expected,
            found: self.values.len(),
        })
    }

    /// Whole factor that brings the longer side down to [`LONGEST_SIDE`].
    pub(crate) fn factor(&self) -> usize {
        self.rows.max(self.columns).div_ceil(LONGEST_SIDE).max(1)
    }

    /// Joins blocks of `factor` × `factor` pixels into one by `join`; blocks at the far edges may be smaller.
    fn blocks<U>(
        &self,
        factor: usize,
        join: impl Fn(&mut dyn Iterator<Item = &T>) -> U,
    ) -> Plane<U> {
        let (rows, columns) = (self.rows.div_ceil(factor), self.columns.div_ceil(factor));
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let in_rows = row * factor..((row + 1) * factor).min(self.rows);
                let in_columns = column * factor..((column + 1) * factor).min(self.columns);
                let mut block = in_rows.flat_map(|row| {
                    let start = row * self.columns;
                    &self.values[start + in_columns.start..start + in_columns.end]
                });
                values.push(join(&mut block));
            }
        }
        Plane { rows, columns, values }
    }
}

/// Reduces a picture to [`LONGEST_SIDE`] by the mean of the finite values of each block; NaN where there are none.
///
/// The picture must have passed [`Plane::check`].
#[must_use]
pub fn shrink(picture: &Picture) -> Picture {
    picture.blocks(picture.factor(), |block| {
        let (mut sum, mut count) = (0.0, 0.0);
        for value in block.filter(|value| value.is_finite()) {
            sum += value;
            count += 1.0;
        }
        if count > 0.0 { sum / count } else { f32::NAN }
    })
}

/// Reduces a mask as [`shrink`] reduces a picture; a block is `true` when at least half of its pixels are.
#[must_use]
pub fn shrink_mask(mask: &MaskPicture) -> MaskPicture {
    mask.blocks(mask.factor(), |block| {
        let (mut inside, mut count) = (0, 0);
        for &value in block {
            inside += usize::from(value);
            count += 1;
        }
        2 * inside >= count
    })
}

/// Values at the shares `low` and `high` (0 to 1) of the finite values in rising order; `[0, 1]` without any.
#[must_use]
pub fn percentile_window(values: &[f32], low: f64, high: f64) -> [f32; 2] {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return [0.0, 1.0];
    };
    let at = |share: f64| sorted[(share.clamp(0.0, 1.0) * last as f64).round() as usize];
    [at(low), at(high)]
}

/// Renders a picture in grey between its 1st and 99th percentile as a PNG data URI.
///
/// Values outside the window saturate; a flat picture is mid grey and pixels without a value are black.
///
/// # Errors
/// [`ReportError::PictureShape`] and [`ReportError::Png`], naming `what`.
pub fn grey_png(picture: &Picture, what: &str) -> Result<String, ReportError> {
    picture.check(what)?;
    let picture = shrink(picture);
    let [low, high] = percentile_window(&picture.values, 0.01, 0.99);
    let bytes: Vec<u8> = picture
        .values
        .iter()
        .map(|value| match (value - low) / (high - low) {
            _ if !value.is_finite() => 0,
            share if share.is_finite() => (share.clamp(0.0, 1.0) * 255.0).round() as u8,
            _ => 128,
        })
        .collect();
    data_uri(&bytes, picture.shape(), ExtendedColorType::L8, what)
}

/// Renders a map in `colours` as a PNG data URI; `range` gives the values at the two ends.
///
/// # Errors
/// [`ReportError::PictureShape`] and [`ReportError::Png`], naming `what`.
pub fn map_png(
    map: &Picture,
    colours: ColourMap,
    range: [f32; 2],
    what: &str,
) -> Result<String, ReportError> {
    map.check(what)?;
    let map = shrink(map);
    let [low, high] = range;
    let bytes: Vec<u8> =
        map.values.iter().flat_map(|value| colours.rgb((value - low) / (high - low))).collect();
    data_uri(&bytes, map.shape(), ExtendedColorType::Rgb8, what)
}

/// Renders a lying legend bar of `colours`, low values left, as a PNG data URI of 1 row.
///
/// # Errors
/// [`ReportError::Png`].
pub fn legend_png(colours: ColourMap) -> Result<String, ReportError> {
    let columns = 128;
    let values = (0..columns).map(|column| column as f32 / (columns - 1) as f32).collect();
    map_png(&Picture { rows: 1, columns, values }, colours, [0.0, 1.0], "legend bar")
}

/// Encodes bytes as PNG and wraps them as a data URI.
fn data_uri(
    bytes: &[u8],
    [rows, columns]: [usize; 2],
    colour: ExtendedColorType,
    what: &str,
) -> Result<String, ReportError> {
    let mut png = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive);
    encoder
        .write_image(bytes, columns as u32, rows as u32, colour)
        .map_err(|source| ReportError::Png { what: what.to_owned(), source })?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

/// Steps along pixel borders as `[column, row]`: right, down, left, up.
const STEPS: [[isize; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// Traces the borders of a mask as SVG path data in pixel units, x along columns and y along rows.
///
/// Every border is a closed loop with the structure on its right-hand side, so outer borders run clockwise; pixels
/// that touch at a corner alone get loops of their own. An empty mask gives an empty path, and a mask that touches
/// the edge of the picture is closed along that edge.
///
/// # Examples
/// ```
/// use report::{MaskPicture, overlay::contour_path};
/// let mask = MaskPicture { rows: 2, columns: 3, values: vec![false, true, true, false, false, false] };
/// assert_eq!(contour_path(&mask), "M1 0h2v1h-2v-1z");
/// ```
#[must_use]
pub fn contour_path(mask: &MaskPicture) -> String {
    let mut edges = border_edges(mask);
    let width = mask.columns + 1;
    let mut path = String::new();
    for corner in 0..edges.len() {
        while edges[corner] != 0 {
            trace_loop(&mut edges, width, corner, &mut path);
        }
    }
    path
}

/// For each pixel corner, as bits, the steps of [`STEPS`] that a border takes from it.
fn border_edges(mask: &MaskPicture) -> Vec<u8> {
    let width = mask.columns + 1;
    let inside = |row: usize, column: usize| {
        row < mask.rows && column < mask.columns && mask.values[row * mask.columns + column]
    };
    let mut edges = vec![0u8; width * (mask.rows + 1)];
    for row in 0..mask.rows {
        for column in 0..mask.columns {
            if !inside(row, column) {
                continue;
            }
            let corner = row * width + column;
            if row == 0 || !inside(row - 1, column) {
                edges[corner] |= 1;
            }
            if !inside(row, column + 1) {
                edges[corner + 1] |= 1 << 1;
            }
            if !inside(row + 1, column) {
                edges[corner + width + 1] |= 1 << 2;
            }
            if column == 0 || !inside(row, column - 1) {
                edges[corner + width] |= 1 << 3;
            }
        }
    }
    edges
}

/// Follows one loop from `start`, takes its edges away and writes it to `path`.
fn trace_loop(edges: &mut [u8], width: usize, start: usize, path: &mut String) {
    let mut corner = start;
    let mut direction = edges[start].trailing_zeros() as usize;
    let mut length = 0isize;
    // Writing into a string cannot fail.
    let _ = write!(path, "M{} {}", start % width, start / width);
    let mut draw = |direction: usize, length: isize| {
        let [x, y] = STEPS[direction];
        let _ =
            if y == 0 { write!(path, "h{}", x * length) } else { write!(path, "v{}", y * length) };
    };
    loop {
        edges[corner] &= !(1 << direction);
        let [x, y] = STEPS[direction];
        corner = corner.wrapping_add_signed(x + y * width as isize);
        length += 1;
        // A turn to the right keeps pixels apart that touch at this corner alone.
        let turns = [1, 0, 3].map(|turn| (direction + turn) % 4);
        let next = turns.into_iter().find(|next| edges[corner] & (1 << next) != 0);
        let Some(next) = next.filter(|_| corner != start) else {
            break;
        };
        if next != direction {
            draw(direction, length);
            length = 0;
            direction = next;
        }
    }
    // The last side is drawn too, so that dashes and joins close evenly.
    draw(direction, length);
    path.push('z');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    /// Draws a mask: `#` inside, `.` outside.
    fn mask(rows: &[&str]) -> MaskPicture {
        let values = rows.iter().flat_map(|row| row.bytes().map(|byte| byte == b'#')).collect();
        MaskPicture { rows: rows.len(), columns: rows[0].len(), values }
    }

    fn picture(columns: usize, values: &[f32]) -> Picture {
        Picture { rows: values.len() / columns, columns, values: values.to_vec() }
    }

    #[test]
    fn contours_follow_the_pixel_borders() {
        for (rows, expected) in [
            (vec!["..", ".."], ""),
            (vec!["##", "##"], "M0 0h2v2h-2v-2z"),
            (vec!["...", ".#.", "..."], "M1 1h1v1h-1v-1z"),
            (vec!["#.", "##"], "M0 0h1v1h1v1h-2v-2z"),
            (vec!["#.", ".#"], "M0 0h1v1h-1v-1zM1 1h1v1h-1v-1z"),
            (vec![".#", "#."], "M1 0h1v1h-1v-1zM0 1h1v1h-1v-1z"),
            (vec!["###", "#.#", "###"], "M0 0h3v3h-3v-3zM1 1v1h1v-1h-1z"),
        ] {
            assert_eq!(contour_path(&mask(&rows)), expected, "{rows:?}");
        }
    }

    #[test]
    fn colour_maps_end_in_their_published_colours_and_brighten() {
        for map in [ColourMap::Inferno, ColourMap::Viridis] {
            let grey = |share: f32| {
                let [red, green, blue] = map.rgb(share).map(f32::from);
                0.2126 * red + 0.7152 * green + 0.0722 * blue
            };
            assert!((1..=20).all(|step| grey(step as f32 / 20.0) > grey((step - 1) as f32 / 20.0)));
        }
        assert_eq!(ColourMap::Viridis.rgb(0.0), [68, 1, 84]);
        assert_eq!(ColourMap::Viridis.rgb(2.0), [253, 231, 37]);
        assert_eq!(ColourMap::Inferno.rgb(f32::NAN), NO_VALUE);
    }

    #[test]
    fn pictures_become_png_also_when_flat_or_without_values() {
        for values in
            [[0.0, 0.5, 1.0, 2.0], [3.0; 4], [f32::NAN; 4], [f32::INFINITY, 0.0, 1.0, 2.0]]
        {
            let uri = grey_png(&picture(2, &values), "image").unwrap();
            let bytes =
                STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
            let decoded = image::load_from_memory(&bytes).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (2, 2));
        }
    }

    #[test]
    fn large_pictures_are_reduced_by_whole_factors() {
        let wide = Picture { rows: 2, columns: 513, values: vec![1.0; 1026] };
        assert_eq!(shrink(&wide).shape(), [1, 171]);
        let half = MaskPicture {
            rows: 1,
            columns: 514,
            values: (0..514).map(|column| column >= 257).collect(),
        };
        let small = shrink_mask(&half);
        assert_eq!(small.values.iter().filter(|&&inside| inside).count(), 86);
    }

    #[test]
    fn pictures_that_do_not_fill_their_shape_are_refused() {
        let broken = Picture { rows: 2, columns: 2, values: vec![0.0; 3] };
        let error = grey_png(&broken, "case `a`: image").unwrap_err();
        assert_eq!(
            error.to_string(),
            "case `a`: image: shape [row, column] = [2, 2] needs 4 values, at least one: got 3"
        );
        assert!(Picture::default().check("map").is_err());
    }

    #[test]
    fn window_ignores_outliers_and_broken_values() {
        let mut values: Vec<f32> = (0..=100).map(|value| value as f32).collect();
        values.push(f32::NAN);
        assert_eq!(percentile_window(&values, 0.01, 0.99), [1.0, 99.0]);
        assert_eq!(percentile_window(&[], 0.01, 0.99), [0.0, 1.0]);
    }
}
