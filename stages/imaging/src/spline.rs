//! Closed cubic splines through given points, with uniform knots.
//!
//! Source: the periodic natural form `M[i-1] + 4 M[i] + M[i+1] = 6 (p[i-1] - 2 p[i] + p[i+1])`, a cyclic
//! tridiagonal system, solved by Thomas elimination with a Sherman-Morrison correction for the two corners.
//! Randomness: none. Cost: linear in the number of points.

use crate::{ImagingError, contour::Point};

/// Points on each piece between two neighbouring knots.
pub const SAMPLES_PER_SEGMENT: usize = 32;

/// Samples the closed spline through `points`, [`SAMPLES_PER_SEGMENT`] to a piece, each piece from its first knot on.
///
/// The curve is twice continuously differentiable in its parameter, closes on itself and passes through every
/// point; points may repeat. The result has `points.len() * SAMPLES_PER_SEGMENT` vertices.
///
/// # Errors
/// [`ImagingError::TooFewPoints`] for fewer than 3 points.
pub fn closed_spline(points: &[Point]) -> Result<Vec<Point>, ImagingError> {
    let n_points = points.len();
    if n_points < 3 {
        return Err(ImagingError::TooFewPoints { found: n_points });
    }
    let bends = second_derivatives(points);
    let mut curve = Vec::with_capacity(n_points * SAMPLES_PER_SEGMENT);
    for index in 0..n_points {
        let next = (index + 1) % n_points;
        for sample in 0..SAMPLES_PER_SEGMENT {
            let after = sample as f64 / SAMPLES_PER_SEGMENT as f64;
            let before = 1.0 - after;
            let (bend_before, bend_after) =
                ((before.powi(3) - before) / 6.0, (after.powi(3) - after) / 6.0);
            curve.push([0, 1].map(|axis| {
                before * points[index][axis]
                    + after * points[next][axis]
                    + bend_before * bends[index][axis]
                    + bend_after * bends[next][axis]
            }));
        }
    }
    Ok(curve)
}

/// Solves for the second derivatives at the knots.
fn second_derivatives(points: &[Point]) -> Vec<Point> {
    let n_points = points.len();
    let right = |index: usize| {
        let (before, here) = (points[(index + n_points - 1) % n_points], points[index]);
        let after = points[(index + 1) % n_points];
        [0, 1].map(|axis| 6.0 * (before[axis] - 2.0 * here[axis] + after[axis]))
    };
    // A = B + u v' with u = (-4, 0, .., 1) and v = (1, 0, .., -1/4): B is tridiagonal, its ends are 8 and 4.25.
    let mut diagonal = vec![4.0; n_points];
    diagonal[0] = 8.0;
    diagonal[n_points - 1] = 4.25;
    let mut bends: Vec<Point> = (0..n_points).map(right).collect();
    let mut correction = vec![0.0; n_points];
    correction[0] = -4.0;
    correction[n_points - 1] = 1.0;
    for index in 1..n_points {
        let factor = 1.0 / diagonal[index - 1];
        diagonal[index] -= factor;
        correction[index] -= factor * correction[index - 1];
        bends[index] = [0, 1].map(|axis| bends[index][axis] - factor * bends[index - 1][axis]);
    }
    for index in (0..n_points).rev() {
        let (later, later_correction) = match bends.get(index + 1) {
            Some(&later) => (later, correction[index + 1]),
            None => ([0.0; 2], 0.0),
        };
        bends[index] = [0, 1].map(|axis| (bends[index][axis] - later[axis]) / diagonal[index]);
        correction[index] = (correction[index] - later_correction) / diagonal[index];
    }
    let last = n_points - 1;
    let scale = 1.0 + correction[0] - 0.25 * correction[last];
    let share = [0, 1].map(|axis| (bends[0][axis] - 0.25 * bends[last][axis]) / scale);
    for (bend, &correction) in bends.iter_mut().zip(&correction) {
        *bend = [0, 1].map(|axis| bend[axis] - correction * share[axis]);
    }
    bends
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::Stream;

    #[test]
    fn solves_the_cyclic_system() {
        let mut stream = Stream::new(3, "test.spline", &[]);
        for n_points in 3..20 {
            let points: Vec<Point> =
                (0..n_points).map(|_| [stream.uniform(), stream.uniform()]).collect();
            let bends = second_derivatives(&points);
            for index in 0..n_points {
                let (before, after) = ((index + n_points - 1) % n_points, (index + 1) % n_points);
                for axis in 0..2 {
                    let left = bends[before][axis] + 4.0 * bends[index][axis] + bends[after][axis];
                    let right = 6.0
                        * (points[before][axis] - 2.0 * points[index][axis] + points[after][axis]);
                    assert!((left - right).abs() < 1e-12, "{n_points} points, knot {index}");
                }
            }
        }
    }

    #[test]
    fn passes_through_its_points_and_rounds_a_square_to_a_circle() {
        let points = [[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]];
        let curve = closed_spline(&points).expect("four points are enough");
        for (index, point) in points.iter().enumerate() {
            assert_eq!(curve[index * SAMPLES_PER_SEGMENT], *point);
        }
        for point in &curve {
            assert!((point[0].hypot(point[1]) - 1.0).abs() < 0.03, "{point:?}");
        }
    }

    #[test]
    fn two_points_are_refused() {
        assert_eq!(
            closed_spline(&[[0.0, 0.0], [1.0, 1.0]]),
            Err(ImagingError::TooFewPoints { found: 2 })
        );
    }
}
