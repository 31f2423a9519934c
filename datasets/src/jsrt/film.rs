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

/// Rows of 12-bit values whose sum fits into 16 bits.
const FITTING_ROWS: usize = (u16::MAX / WHITE) as usize;

/// Reads a raw film and averages it over the area of each pixel of a `size` x `size` image, as [`reduce`] does.
///
/// Where every pixel covers as many of the film, whole numbers are summed as the bytes come in.
pub(super) fn read_raw_reduced(path: &Path, size: usize) -> Result<Image, DatasetsError> {
    let side = FILM_SIDE / size.max(1);
    if side < 2 || side * size != FILM_SIDE {
        return Ok(reduce(&read_raw(path)?, size));
    }
    let failed = |source| DatasetsError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() != FILM_BYTES {
        return read_raw(path);
    }
    let n_rows = side.min(FITTING_ROWS);
    let mut bytes = vec![0; n_rows * FILM_SIDE * 2];
    let (mut columns, mut sums) = (vec![0_u16; FILM_SIDE], vec![0_u32; size]);
    let (mut values, mut seen) = (Vec::with_capacity(size * size), 0);
    for _ in 0..size {
        sums.fill(0);
        for _ in 0..side / n_rows {
            file.read_exact(&mut bytes).map_err(failed)?;
            seen |= sum_rows(&bytes, &mut columns);
            for (sum, columns) in sums.iter_mut().zip(columns.chunks_exact(side)) {
                *sum += columns.iter().map(|&column| u32::from(column)).sum::<u32>();
            }
        }
        let whole = (side * side) as f64 * f64::from(WHITE);
        values.extend(sums.iter().map(|&sum| (f64::from(sum) / whole) as f32));
    }
    if seen > WHITE {
        // Says which value is too large.
        return read_raw(path);
    }
    Ok(Grid::new([1, size, size], values).expect("a value a pixel"))
}

/// Sums rows of a film column by column; gives all bits that any value has.
fn sum_rows(bytes: &[u8], columns: &mut [u16]) -> u16 {
    columns.fill(0);
    let mut seen = 0;
    for row in bytes.chunks_exact(2 * FILM_SIDE) {
        for (column, pair) in columns.iter_mut().zip(row.as_chunks::<2>().0) {
            let value = u16::from_be_bytes(*pair);
            // What does not fit is refused in the end.
            *column = column.wrapping_add(value);
            seen |= value;
        }
    }
    seen
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
    fn films_are_summed_as_they_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("film.IMG");
        let values = |largest: u16| {
            let value = move |index: usize| (index * index % 4093 + index % 3).min(4095) as u16;
            (0..FILM_SIDE * FILM_SIDE).flat_map(move |i| value(i).min(largest).to_be_bytes())
        };
        std::fs::write(&path, values(4095).collect::<Vec<u8>>()).expect("a file");
        let film = read_raw(&path).expect("a film");
        for size in [16, 64, 256, 1000, 1024, 2048] {
            let (found, expected) = (read_raw_reduced(&path, size), reduce(&film, size));
            let found = found.expect("a film");
            assert_eq!(found.shape(), expected.shape());
            let differ = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-7;
            assert!(!found.values().iter().zip(expected.values()).any(differ), "{size}");
        }
        let mut bytes: Vec<u8> = values(4095).collect();
        bytes[2 * (5 * FILM_SIDE + 7)] = 0x10;
        std::fs::write(&path, &bytes).expect("a file");
        let error = read_raw_reduced(&path, 256).expect_err("a value above 4095");
        assert!(matches!(error, DatasetsError::ByteOrder { place: [5, 7], .. }), "{error}");
        std::fs::write(&path, &bytes[1..]).expect("a file");
        let error = read_raw_reduced(&path, 256).expect_err("a byte too few");
        assert!(matches!(error, DatasetsError::RawSize { .. }), "{error}");
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
