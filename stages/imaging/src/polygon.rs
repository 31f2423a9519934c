//! Filling closed polygons by the even-odd rule.
//!
//! Source: the crossing rule of scikit-image's `polygon2mask`; the middle of a pentagram stays empty. A pixel
//! belongs to the polygon when its centre does; of two edges that meet a centre, the upper and the left one hold it.
//! Randomness: none. Cost: the rows that each edge crosses, and the area that is filled.

use datasets::Mask;

use crate::contour::Point;

/// Fills a polygon into an empty slice of `n_rows` by `n_columns`.
///
/// Vertices are `[row, column]`; the last joins the first. What lies outside the image is cut off.
///
/// # Examples
/// ```
/// # use datasets::mask;
/// let filled = imaging::polygon::fill_polygon([3, 4], &[[0.5, 0.5], [0.5, 2.5], [1.5, 2.5], [1.5, 0.5]]);
/// assert_eq!(filled, mask![". . . .", ". # # .", ". . . ."]);
/// ```
pub fn fill_polygon([n_rows, n_columns]: [usize; 2], polygon: &[Point]) -> Mask {
    let mut mask = Mask::filled([1, n_rows, n_columns], false);
    add_polygon(&mut mask, 0, polygon);
    mask
}

/// Sets the inside of a polygon to foreground in one slice and leaves the rest as it is.
pub(crate) fn add_polygon(mask: &mut Mask, slice: usize, polygon: &[Point]) {
    let n_columns = mask.n_columns();
    let crossings = crossings(polygon, mask.n_rows());
    for pair in crossings.chunks_exact(2) {
        let (row, enter) = pair[0];
        let (_, leave) = pair[1];
        let first = first_column(enter, n_columns);
        let end = first_column(leave, n_columns);
        let start = mask.index([slice, row, 0]);
        mask.values_mut()[start + first..start + end].fill(true);
    }
}

/// Where the edges cross the rows of pixel centres, sorted by row and column; an even number in each row.
fn crossings(polygon: &[Point], n_rows: usize) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    for (index, &from) in polygon.iter().enumerate() {
        let to = polygon[(index + 1) % polygon.len()];
        let (upper, lower) = if from[0] <= to[0] { (from, to) } else { (to, from) };
        let slope = (lower[1] - upper[1]) / (lower[0] - upper[0]);
        for row in first_column(upper[0], n_rows)..first_column(lower[0], n_rows) {
            found.push((row, upper[1] + slope * (row as f64 - upper[0])));
        }
    }
    found.sort_unstable_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)));
    found
}

/// First whole coordinate at or after `coordinate`, within `0..=length`.
fn first_column(coordinate: f64, length: usize) -> usize {
    coordinate.ceil().clamp(0.0, length as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::Grid;

    fn pentagram() -> Vec<Point> {
        (0..5)
            .map(|index| {
                let angle = std::f64::consts::TAU * f64::from(index) * 2.0 / 5.0;
                [20.0 - 18.0 * angle.cos(), 20.0 + 18.0 * angle.sin()]
            })
            .collect()
    }

    /// The textbook even-odd test of one point.
    fn is_inside(polygon: &[Point], [row, column]: Point) -> bool {
        let mut inside = false;
        for (index, from) in polygon.iter().enumerate() {
            let to = polygon[(index + 1) % polygon.len()];
            if (from[0] <= row) != (to[0] <= row) {
                let crossing = from[1] + (row - from[0]) / (to[0] - from[0]) * (to[1] - from[1]);
                inside ^= crossing <= column;
            }
        }
        inside
    }

    #[test]
    fn the_middle_of_a_pentagram_is_empty() {
        let filled = fill_polygon([41, 41], &pentagram());
        assert!(!filled.get([0, 20, 20]));
        assert!(filled.get([0, 8, 20]));
        let expected = Grid::from_fn([1, 41, 41], |[_, row, column]| {
            is_inside(&pentagram(), [row as f64, column as f64])
        });
        assert_eq!(filled, expected);
    }

    #[test]
    fn neighbours_share_no_pixel_and_leave_none() {
        let left = fill_polygon([6, 6], &[[0.0, 0.0], [0.0, 3.0], [6.0, 3.0], [6.0, 0.0]]);
        let right = fill_polygon([6, 6], &[[0.0, 3.0], [0.0, 6.0], [6.0, 6.0], [6.0, 3.0]]);
        assert_eq!((left.area(), right.area()), (18, 18));
        assert!(left.values().iter().zip(right.values()).all(|(&a, &b)| a != b));
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let filled = fill_polygon([3, 3], &[[-5.0, -5.0], [-5.0, 9.0], [9.0, 9.0], [9.0, -5.0]]);
        assert_eq!(filled.area(), 9);
        assert!(fill_polygon([3, 3], &[]).is_empty());
    }
}
