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

/// Fills what lies strictly inside a polygon whose vertices are pixels, into an empty slice of `n_rows` by `n_columns`.
///
/// Neither the vertices nor pixels whose centre an edge passes through belong to it: such a polygon goes around the pixels
/// just outside of a region. Vertices are `[row, column]`; the last joins the first. What lies outside the image is cut off.
///
/// # Examples
/// ```
/// # use datasets::mask;
/// let filled = imaging::polygon::fill_within([4, 5], &[[0, 0], [0, 3], [3, 3], [3, 0]]);
/// assert_eq!(filled, mask![". . . . .", ". # # . .", ". # # . .", ". . . . ."]);
/// ```
pub fn fill_within(shape: [usize; 2], polygon: &[[usize; 2]]) -> Mask {
    let points: Vec<Point> = polygon.iter().map(|vertex| vertex.map(|at| at as f64)).collect();
    let mut mask = fill_polygon(shape, &points);
    for (index, &from) in polygon.iter().enumerate() {
        let to = polygon[(index + 1) % polygon.len()];
        let [down, right] =
            [0, 1].map(|axis: usize| to[axis].cast_signed() - from[axis].cast_signed());
        let n_steps =
            greatest_divisor(down.unsigned_abs(), right.unsigned_abs()).max(1).cast_signed();
        for step in 0..n_steps {
            let row = from[0].saturating_add_signed(down / n_steps * step);
            let column = from[1].saturating_add_signed(right / n_steps * step);
            if row < shape[0] && column < shape[1] {
                mask.set([0, row, column], false);
            }
        }
    }
    mask
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
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

    /// Which side of an edge a pixel is on, in whole numbers: positive, negative, or 0 on its line.
    fn side([from, to]: [[i64; 2]; 2], pixel: [i64; 2]) -> i64 {
        (to[0] - from[0]) * (pixel[1] - from[1]) - (to[1] - from[1]) * (pixel[0] - from[0])
    }

    /// Strictly inside by the winding of edges above and below, all in whole numbers.
    fn is_within(polygon: &[[usize; 2]], pixel: [usize; 2]) -> bool {
        let whole = |vertex: [usize; 2]| vertex.map(|at| at as i64);
        let pixel = whole(pixel);
        let mut inside = false;
        for (index, &from) in polygon.iter().enumerate() {
            let edge = [whole(from), whole(polygon[(index + 1) % polygon.len()])];
            let between = |axis: usize| {
                let [a, b] = edge.map(|vertex| vertex[axis]);
                (a.min(b)..=a.max(b)).contains(&pixel[axis])
            };
            let side = side(edge, pixel);
            if side == 0 && between(0) && between(1) {
                return false;
            }
            let is_down = edge[0][0] <= pixel[0] && edge[1][0] > pixel[0];
            let is_up = edge[1][0] <= pixel[0] && edge[0][0] > pixel[0];
            inside ^= is_down && side > 0 || is_up && side < 0;
        }
        inside
    }

    #[test]
    fn pixels_of_the_edge_are_outside() {
        let mut stream = datasets::Stream::new(0, "test.polygon.within", &[]);
        for _ in 0..500 {
            let n_vertices = 1 + stream.below(9);
            let polygon: Vec<[usize; 2]> =
                (0..n_vertices).map(|_| [stream.below(14), stream.below(12)]).collect();
            let expected =
                Grid::from_fn([1, 12, 12], |[_, row, column]| is_within(&polygon, [row, column]));
            assert_eq!(fill_within([12, 12], &polygon), expected, "{polygon:?}");
        }
        // A line around one pixel, as it is drawn from neighbour to neighbour, with a spike and its start again.
        let around = [[1, 2], [2, 3], [2, 4], [2, 3], [3, 2], [2, 1], [1, 2]];
        let expected = datasets::mask![". . . . .", ". . . . .", ". . # . .", ". . . . .",];
        assert_eq!(fill_within([4, 5], &around), expected);
        assert!(fill_within([4, 5], &[]).is_empty() && fill_within([4, 5], &[[1, 1]]).is_empty());
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let filled = fill_polygon([3, 3], &[[-5.0, -5.0], [-5.0, 9.0], [9.0, 9.0], [9.0, -5.0]]);
        assert_eq!(filled.area(), 9);
        assert!(fill_polygon([3, 3], &[]).is_empty());
    }
}
