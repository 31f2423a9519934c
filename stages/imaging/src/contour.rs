//! Outer contour of a component at level one half, as marching squares draws it.
//!
//! Source: the contour convention of scikit-image (`find_contours`, fully connected foreground). Every vertex lies
//! halfway between the centres of a foreground pixel and a background pixel; beyond the image is background.
//! Randomness: none. Cost: one step for each pixel edge of the contour.

use datasets::Mask;

/// Point in a slice as `[row, column]` in pixels; pixel centres have whole coordinates.
pub type Point = [f64; 2];

/// Steps to the neighbour above, right, below and left, in clockwise order.
const STEPS: [[isize; 2]; 4] = [[-1, 0], [0, 1], [1, 0], [0, -1]];

/// A pixel and the side (an index into [`STEPS`]) on which it has background.
type Crack = ([isize; 2], usize);

/// A closed line through the vertices of a contour, measured by arc length.
#[derive(Clone, Debug, PartialEq)]
pub struct Contour {
    points: Vec<Point>,
    lengths: Vec<f64>,
}

impl Contour {
    /// Walks clockwise around the outside of the 8-connected component that holds `first`.
    ///
    /// `first` is `[row, column]` of the top-most and then left-most pixel of the component in `slice`; the walk
    /// starts at the vertex above it. Holes are not seen.
    ///
    /// # Examples
    /// ```
    /// # use datasets::mask; use imaging::contour::Contour;
    /// let contour = Contour::trace(&mask![". .", ". #"], 0, [1, 1]);
    /// assert_eq!(contour.points(), [[0.5, 1.0], [1.0, 1.5], [1.5, 1.0], [1.0, 0.5]]);
    /// ```
    pub fn trace(mask: &Mask, slice: usize, first: [usize; 2]) -> Self {
        let start = ([first[0].cast_signed(), first[1].cast_signed()], 0);
        let mut points = Vec::new();
        let mut crack = start;
        loop {
            let ([row, column], side) = crack;
            let [down, right] = STEPS[side];
            points.push([row as f64 + 0.5 * down as f64, column as f64 + 0.5 * right as f64]);
            crack = next_crack(mask, slice, crack);
            if crack == start {
                break;
            }
        }
        Self::through(points)
    }

    /// Closes a line through `points`.
    fn through(points: Vec<Point>) -> Self {
        let mut total = 0.0;
        let mut lengths = Vec::with_capacity(points.len() + 1);
        lengths.push(total);
        for (index, point) in points.iter().enumerate() {
            let next = points[(index + 1) % points.len()];
            total += (next[0] - point[0]).hypot(next[1] - point[1]);
            lengths.push(total);
        }
        Self { points, lengths }
    }

    /// Vertices in clockwise order (rows downwards), without repeating the first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Length of the closed line in pixels.
    pub fn length(&self) -> f64 {
        self.lengths[self.points.len()]
    }

    /// Point at the given fraction of the arc length, from 0 (the start) towards 1 (the start again).
    pub fn at(&self, fraction: f64) -> Point {
        let n_points = self.points.len();
        let along = fraction * self.length();
        let after = self.lengths.partition_point(|&length| length <= along).clamp(1, n_points);
        let (from, to) = (self.points[after - 1], self.points[after % n_points]);
        let part =
            (along - self.lengths[after - 1]) / (self.lengths[after] - self.lengths[after - 1]);
        [from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])]
    }
}

/// The crack that follows clockwise; a diagonal neighbour belongs to the component, so it is tried first.
fn next_crack(mask: &Mask, slice: usize, (pixel, side): Crack) -> Crack {
    let onward = (side + 1) % 4;
    let ahead = step(pixel, onward);
    let diagonal = step(ahead, side);
    if is_foreground(mask, slice, diagonal) {
        (diagonal, (side + 3) % 4)
    } else if is_foreground(mask, slice, ahead) {
        (ahead, side)
    } else {
        (pixel, onward)
    }
}

fn step([row, column]: [isize; 2], side: usize) -> [isize; 2] {
    [row + STEPS[side][0], column + STEPS[side][1]]
}

fn is_foreground(mask: &Mask, slice: usize, [row, column]: [isize; 2]) -> bool {
    match (usize::try_from(row), usize::try_from(column)) {
        (Ok(row), Ok(column)) if row < mask.n_rows() && column < mask.n_columns() => {
            mask.get([slice, row, column])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::mask;

    #[test]
    fn a_square_has_cut_corners() {
        let contour = Contour::trace(&mask!["# #", "# #"], 0, [0, 0]);
        assert_eq!(contour.points().len(), 8);
        assert!((contour.length() - (4.0 + 4.0 * 0.5_f64.sqrt())).abs() < 1e-12);
        assert_eq!(contour.points()[..3], [[-0.5, 0.0], [-0.5, 1.0], [0.0, 1.5]]);
    }

    #[test]
    fn diagonal_pixels_are_one_component_and_holes_are_not_seen() {
        let diagonal = Contour::trace(&mask!["# .", ". #"], 0, [0, 0]);
        assert_eq!(diagonal.points().len(), 8);
        let ring = Contour::trace(&mask!["# # #", "# . #", "# # #"], 0, [0, 0]);
        let full = Contour::trace(&mask!["# # #", "# # #", "# # #"], 0, [0, 0]);
        assert_eq!(ring, full);
    }

    #[test]
    fn fractions_run_once_around() {
        let contour = Contour::trace(&mask!["# # #"], 0, [0, 0]);
        assert_eq!(contour.at(0.0), contour.points()[0]);
        let half = contour.at(0.5);
        assert!((half[0] - 0.5).abs() < 1e-12 && (half[1] - 2.0).abs() < 1e-12, "{half:?}");
        let last = contour.at(1.0);
        assert!((last[0] + 0.5).abs() < 1e-12 && last[1].abs() < 1e-12, "{last:?}");
    }
}
