//! Rank filters of grey values: medians over boxes, and openings by balls.
//!
//! Source: ITK's `MedianImageFilter` and SciPy's `grey_opening` with a flat footprint.
//! Randomness: none. Cost: a selection a voxel for medians; for openings two passes of minima or maxima over the rows of
//! the ball, one more volume of memory for each width that its rows have, one at a time.

use datasets::{Grid, Image};
use rayon::prelude::*;

use crate::{ImagingError, error::check_option, error::check_spacing};

/// The median over a box of `radius` voxels to each side; what lies beyond the edge repeats the outermost voxels.
///
/// # Examples
/// ```
/// # use datasets::Grid; use imaging::grey::median;
/// let image = Grid::new([1, 1, 4], vec![1.0, 9.0, 2.0, 3.0])?;
/// assert_eq!(median(&image, [0, 0, 1]).values(), [1.0, 2.0, 3.0, 3.0]);
/// # Ok::<(), datasets::ShapeError>(())
/// ```
pub fn median(image: &Image, radius: [usize; 3]) -> Image {
    let [n_slices, n_rows, n_columns] = image.shape();
    let mut found = Grid::filled(image.shape(), 0.0);
    if image.values().is_empty() {
        return found;
    }
    let around = |place: usize, radius: usize, length: usize| {
        (0..=2 * radius).map(move |at| (place + at).saturating_sub(radius).min(length - 1))
    };
    let fill = |window: &mut Vec<f32>, (line, target): (usize, &mut [f32])| {
        let rows: Vec<&[f32]> = around(line / n_rows, radius[0], n_slices)
            .flat_map(|slice| {
                around(line % n_rows, radius[1], n_rows).map(move |row| image.row(slice, row))
            })
            .collect();
        let first = rows[0][0];
        if rows.iter().all(|row| row.iter().all(|value| value.to_bits() == first.to_bits())) {
            target.fill(first);
            return;
        }
        for (column, target) in target.iter_mut().enumerate() {
            window.clear();
            let (start, end) = (column.saturating_sub(radius[2]), column + radius[2] + 1);
            if column >= radius[2] && end <= n_columns {
                rows.iter().for_each(|row| window.extend_from_slice(&row[start..end]));
            } else {
                for row in &rows {
                    window.extend(around(column, radius[2], n_columns).map(|column| row[column]));
                }
            }
            *target = middle(window);
        }
    };
    found.values_mut().par_chunks_mut(n_columns).enumerate().for_each_init(Vec::new, fill);
    found
}

/// The middle one of an odd number of values.
fn middle(window: &mut [f32]) -> f32 {
    // Most windows of an enhancement map are of one value: no need to sort those.
    let first = window[0];
    if window.iter().all(|value| value.to_bits() == first.to_bits()) {
        return first;
    }
    let half = window.len() / 2;
    *window.select_nth_unstable_by(half, f32::total_cmp).1
}

/// The opening by a ball of `radius` in the unit of `spacing`: bright parts in which the ball has no room vanish.
///
/// What lies beyond the edge is not looked at. Voxels whose centre is at most `radius` away belong to the ball.
///
/// # Errors
/// [`ImagingError::SpacingNotPositive`]; [`ImagingError::OptionOutOfRange`] for a radius that is negative or longer
/// than 64 voxels.
pub fn opening(image: &Image, radius: f64, spacing: [f64; 3]) -> Result<Image, ImagingError> {
    check_spacing(spacing)?;
    let shortest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
    check_option("opening", "radius", radius, [0.0, 64.0 * shortest])?;
    let ball = Ball::new(radius, spacing, image.shape());
    let eroded = ball.sweep(image, f32::INFINITY, |a, b| if b < a { b } else { a });
    Ok(ball.sweep(&eroded, f32::NEG_INFINITY, |a, b| if b > a { b } else { a }))
}

/// The maximum over a ball of `radius` in the unit of `spacing`.
///
/// # Errors
/// As [`opening`].
pub fn dilation(image: &Image, radius: f64, spacing: [f64; 3]) -> Result<Image, ImagingError> {
    check_spacing(spacing)?;
    let shortest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
    check_option("dilation", "radius", radius, [0.0, 64.0 * shortest])?;
    let ball = Ball::new(radius, spacing, image.shape());
    Ok(ball.sweep(image, f32::NEG_INFINITY, |a, b| if b > a { b } else { a }))
}

/// The rows of a ball, sorted by their half width: `(half width, offsets of slices and rows)`.
struct Ball {
    rows: Vec<(usize, Vec<[isize; 2]>)>,
}

impl Ball {
    fn new(radius: f64, spacing: [f64; 3], shape: [usize; 3]) -> Self {
        let reach = |axis: usize| {
            let voxels = (radius / spacing[axis]).floor() as isize;
            if shape[axis] > 1 { voxels } else { 0 }
        };
        let mut rows: Vec<(usize, Vec<[isize; 2]>)> = Vec::new();
        for slice in -reach(0)..=reach(0) {
            for row in -reach(1)..=reach(1) {
                let lateral =
                    (slice as f64 * spacing[0]).powi(2) + (row as f64 * spacing[1]).powi(2);
                let rest = radius * radius - lateral;
                if rest < 0.0 {
                    continue;
                }
                // Rounding must not lose voxels that lie on the ball.
                let half = ((rest.sqrt() / spacing[2] + 1e-9).floor() as isize).min(reach(2));
                let half = half.unsigned_abs();
                match rows.iter_mut().find(|(width, _)| *width == half) {
                    Some((_, offsets)) => offsets.push([slice, row]),
                    None => rows.push((half, vec![[slice, row]])),
                }
            }
        }
        rows.sort_by_key(|(half, _)| *half);
        Self { rows }
    }

    /// Picks the extreme value over the ball at every voxel.
    fn sweep(&self, image: &Image, start: f32, pick: impl Fn(f32, f32) -> f32 + Sync) -> Image {
        let [n_slices, n_rows, n_columns] = image.shape();
        let mut found = Grid::filled(image.shape(), start);
        if image.values().is_empty() {
            return found;
        }
        for (half, offsets) in &self.rows {
            let wide = along_rows(image, *half, start, &pick);
            found.values_mut().par_chunks_mut(n_columns).enumerate().for_each(|(line, target)| {
                let (slice, row) = (line / n_rows, line % n_rows);
                for &[slices, rows] in offsets {
                    let slice = slice.checked_add_signed(slices).filter(|&slice| slice < n_slices);
                    let row = row.checked_add_signed(rows).filter(|&row| row < n_rows);
                    let (Some(slice), Some(row)) = (slice, row) else { continue };
                    for (target, &value) in target.iter_mut().zip(wide.row(slice, row)) {
                        *target = pick(*target, value);
                    }
                }
            });
        }
        found
    }
}

/// The extreme value over `half` voxels to each side within every row.
fn along_rows(
    image: &Image,
    half: usize,
    start: f32,
    pick: &(impl Fn(f32, f32) -> f32 + Sync),
) -> Image {
    let n_columns = image.n_columns();
    let mut wide = image.clone();
    wide.values_mut().par_chunks_mut(n_columns).enumerate().for_each_init(
        || vec![start; n_columns + 2 * half],
        |padded, (line, target)| {
            padded[half..half + n_columns]
                .copy_from_slice(&image.values()[line * n_columns..(line + 1) * n_columns]);
            for offset in 0..=2 * half {
                for (target, &value) in target.iter_mut().zip(&padded[offset..]) {
                    *target = pick(*target, value);
                }
            }
        },
    );
    wide
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::Stream;

    use super::*;

    /// Minimum or maximum over a ball, one voxel after the other.
    fn slow(image: &Image, radius: f64, spacing: [f64; 3], is_minimum: bool) -> Image {
        let shape = image.shape();
        Grid::from_fn(shape, |centre| {
            let mut best = image.get(centre);
            let _ = Grid::from_fn(shape, |place| {
                let squared: f64 = (0..3)
                    .map(|axis| {
                        ((place[axis] as f64 - centre[axis] as f64) * spacing[axis]).powi(2)
                    })
                    .sum();
                if squared.sqrt() <= radius + 1e-9 {
                    let value = image.get(place);
                    best = if is_minimum { best.min(value) } else { best.max(value) };
                }
            });
            best
        })
    }

    #[test]
    fn openings_equal_the_definition() {
        let mut stream = Stream::new(4, "test.opening", &[]);
        for (radius, spacing) in
            [(1.0, [1.0; 3]), (3.2, [1.4, 0.7, 0.7]), (2.0, [3.0, 1.0, 0.5]), (0.2, [1.0; 3])]
        {
            let image = Grid::from_fn([5, 7, 9], |_| stream.uniform() as f32);
            let expected = slow(&slow(&image, radius, spacing, true), radius, spacing, false);
            assert_eq!(opening(&image, radius, spacing).unwrap(), expected);
        }
    }

    #[test]
    fn a_ball_that_is_too_large_is_refused() {
        let error = opening(&Grid::filled([2, 2, 2], 0.0), 100.0, [1.0; 3]).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { option: "radius", .. }));
    }

    #[test]
    fn medians_forget_single_voxels() {
        let mut image = Grid::filled([3, 5, 5], 1.0);
        image.set([1, 2, 2], 50.0);
        assert!(median(&image, [1, 1, 1]).values().iter().all(|&value| value == 1.0));
    }
}
