//! Raw films, and the reduction of films and masks to smaller squares.

use std::{fs::File, io::Read, path::Path};

use super::FILM_SIDE;
use crate::{DatasetsError, Grid, Image, Mask};

/// Largest value of a 12-bit film.
const WHITE: u16 = 4095;

/// Bytes of a raw film: 16-bit numbers, most significant byte first, without a header.
const FILM_BYTES: u64 = (FILM_SIDE * FILM_SIDE * 2) as u64;

/// Reads a raw film; values in `[0, 1]`, where 1 is the raw 4095.
pub(super) fn read_raw(path: &Path) -> Result<Image, DatasetsError> {
    let failed = |source| DatasetsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let announced = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if announced == FILM_BYTES {
        file.take(FILM_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 != FILM_BYTES {
        return Err(DatasetsError::RawSize {
            path: path.to_owned(),
            expected: FILM_BYTES,
            found: announced,
        });
    }
    let raw: Vec<u16> =
        bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    if let Some(index) = raw.iter().position(|&value| value > WHITE) {
        return Err(DatasetsError::ByteOrder {
            path: path.to_owned(),
            place: [index / FILM_SIDE, index % FILM_SIDE],
            value: raw[index],
            maximum: WHITE,
        });
    }
    let values = raw.into_iter().map(|value| f32::from(value) / f32::from(WHITE)).collect();
    Ok(Grid::new([1, FILM_SIDE, FILM_SIDE], values).expect("the number of bytes was checked"))
}

/// Averages an image with one slice over the area of each pixel of a `size` x `size` image.
pub(super) fn reduce(image: &Image, size: usize) -> Image {
    if image.shape() == [1, size, size] {
        return image.clone();
    }
    let values = average(&image.map(|&value| f64::from(value)), size);
    values.map(|&value| value as f32)
}

/// Keeps the pixels of which a mask with one slice covers at least half.
pub(super) fn reduce_mask(mask: &Mask, size: usize) -> Mask {
    /// Half, less what rounding may take from it.
    const HALF: f64 = 0.5 - 1e-9;
    average(&mask.map(|&inside| f64::from(u8::from(inside))), size).map(|&covered| covered >= HALF)
}

/// Area average, first along rows, then along columns; enlarges as well, by repeating.
fn average(image: &Grid<f64>, size: usize) -> Grid<f64> {
    let [_, n_rows, n_columns] = image.shape();
    let windows = windows(n_columns, size);
    let narrow = Grid::from_fn([1, n_rows, size], |[_, row, column]| {
        let (first, weights) = &windows[column];
        let values = &image.row(0, row)[*first..];
        values.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f64>()
    });
    let windows = self::windows(n_rows, size);
    let mut out = Grid::filled([1, size, size], 0.0);
    for (line, (first, weights)) in out.values_mut().chunks_exact_mut(size).zip(&windows) {
        for (offset, weight) in weights.iter().enumerate() {
            for (sum, value) in line.iter_mut().zip(narrow.row(0, first + offset)) {
                *sum += value * weight;
            }
        }
    }
    out
}

/// For each new pixel along an axis: the first old one that it overlaps, and the share of each.
fn windows(n_old: usize, n_new: usize) -> Vec<(usize, Vec<f64>)> {
    let window = |index: usize| {
        // In units of 1 / (n_old * n_new) both borders are whole numbers, and the shares exact.
        let [begin, end] = [index * n_old, (index + 1) * n_old];
        let [first, last] = [begin / n_new, end.div_ceil(n_new)];
        let overlap = |old: usize| end.min((old + 1) * n_new) - begin.max(old * n_new);
        (first, (first..last).map(|old| overlap(old) as f64 / n_old as f64).collect())
    };
    (0..n_new).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask;

    #[test]
    fn averages_keep_the_mean_at_any_size() {
        let image = Grid::from_fn([1, 12, 12], |[_, row, column]| (row * 12 + column) as f32);
        assert_eq!(reduce(&image, 12), image);
        assert_eq!(reduce(&image, 6).get([0, 0, 0]), (0.0 + 1.0 + 12.0 + 13.0) / 4.0);
        for size in [1, 3, 5, 7, 24] {
            let reduced = reduce(&image, size);
            let mean = reduced.values().iter().sum::<f32>() / (size * size) as f32;
            assert!((mean - 71.5).abs() < 1e-3, "{size}: {mean}");
        }
    }

    #[test]
    fn a_mask_keeps_the_pixels_that_it_covers_by_half() {
        let drawn = mask!["# . # .", "# . . .", ". . # #", ". . # #"];
        assert_eq!(reduce_mask(&drawn, 2), mask!["# .", ". #"]);
        assert_eq!(reduce_mask(&mask!["#"], 2), mask!["# #", "# #"]);
        let thirds = mask!["# # .", "# . .", ". . ."];
        assert_eq!(reduce_mask(&thirds, 3), thirds);
        assert_eq!(reduce_mask(&thirds, 2), mask!["# .", ". ."]);
    }
}
