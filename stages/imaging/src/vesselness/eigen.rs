//! Eigenvalues of symmetric 3 x 3 matrices, a block of them at a time, and the exponential that goes with them.
//!
//! Source: Smith, "Eigenvalues of a symmetric 3 x 3 matrix" (1961); arc cosine by Abramowitz and Stegun, 4.4.46.
//! Everything is free of branches, so that the compiler works on several voxels at once. The error of an eigenvalue is
//! below 1e-3 of the largest where two of them meet and below 1e-5 elsewhere.

use super::hessian::{BLOCK, Hessian};

/// Eigenvalues of every voxel of a block in ascending order.
pub(super) fn eigenvalues(hessian: &Hessian) -> [[f32; BLOCK]; 3] {
    let mut found = [[0.0; BLOCK]; 3];
    let ([zz, yy, xx], [zy, zx, yx]) = (&hessian.diagonal, &hessian.mixed);
    let [low, middle, high] = &mut found;
    for i in 0..BLOCK {
        let [l, m, h] = eigenvalues_of([zz[i], yy[i], xx[i]], [zy[i], zx[i], yx[i]]);
        low[i] = l;
        middle[i] = m;
        high[i] = h;
    }
    found
}

/// Eigenvalues of one matrix; `mixed` holds the elements 01, 02 and 12.
#[inline(always)]
fn eigenvalues_of([a, b, c]: [f32; 3], [d, e, f]: [f32; 3]) -> [f32; 3] {
    let mean = (a + b + c) * (1.0 / 3.0);
    let (a, b, c) = (a - mean, b - mean, c - mean);
    let square = (a * a + b * b + c * c + 2.0 * (d * d + e * e + f * f)) * (1.0 / 6.0);
    let radius = square.sqrt();
    let determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e);
    // An isotropic matrix has no direction: any angle does.
    let ratio = 0.5 * determinant / (square * radius + f32::MIN_POSITIVE);
    let ratio = smaller(larger(ratio, -1.0), 1.0);
    let [cosine, sine] = third_of_angle(ratio);
    let high = 2.0 * radius * cosine;
    let half = -radius * cosine;
    let apart = 1.732_050_8 * radius * sine;
    [mean + half - apart, mean + half + apart, mean + high]
}

/// Cosine and sine of a third of the angle whose cosine is `ratio`.
#[inline(always)]
fn third_of_angle(ratio: f32) -> [f32; 2] {
    const ARC: [f32; 8] = [
        std::f32::consts::FRAC_PI_2,
        -0.214_598_8,
        0.088_978_99,
        -0.050_174_305,
        0.030_891_88,
        -0.017_088_126,
        0.006_670_09,
        -0.001_262_491_1,
    ];
    let size = ratio.abs();
    let mut sum = ARC[7];
    sum = sum * size + ARC[6];
    sum = sum * size + ARC[5];
    sum = sum * size + ARC[4];
    sum = sum * size + ARC[3];
    sum = sum * size + ARC[2];
    sum = sum * size + ARC[1];
    sum = sum * size + ARC[0];
    let arc = (1.0 - size).sqrt() * sum;
    let angle = if ratio < 0.0 { std::f32::consts::PI - arc } else { arc } * (1.0 / 3.0);
    let t = angle * angle;
    // Taylor series: the angle is at most pi / 3.
    let cosine = 1.0 - t * (0.5 - t * (1.0 / 24.0 - t * (1.0 / 720.0 - t * (1.0 / 40320.0))));
    let sine =
        1.0 - t * (1.0 / 6.0 - t * (1.0 / 120.0 - t * (1.0 / 5040.0 - t * (1.0 / 362_880.0))));
    [cosine, angle * sine]
}

/// `exp(-x)` for `x >= 0`, to 3e-7 of itself; numbers above 87 count as 87.
#[inline(always)]
pub(super) fn exp_minus(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which lies in the last bits.
    const ROUNDER: f32 = 12_582_912.0;
    let x = -smaller(x, 87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let whole = rounded - ROUNDER;
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut sum = 1.0 / 720.0;
    sum = sum * rest + 1.0 / 120.0;
    sum = sum * rest + 1.0 / 24.0;
    sum = sum * rest + 1.0 / 6.0;
    sum = sum * rest + 0.5;
    sum = sum * rest + 1.0;
    sum = sum * rest + 1.0;
    sum * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The smaller of two numbers that are not NaN, as one instruction.
#[inline(always)]
pub(super) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The larger of two numbers that are not NaN, as one instruction.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use datasets::Stream;

    use super::*;

    /// A matrix with these eigenvalues, turned by random rotations about the axes.
    fn turned(values: [f64; 3], stream: &mut Stream) -> [[f64; 3]; 3] {
        let mut matrix = [[0.0; 3]; 3];
        for axis in 0..3 {
            matrix[axis][axis] = values[axis];
        }
        for axis in 0..3 {
            let (i, j) = ((axis + 1) % 3, (axis + 2) % 3);
            let (sine, cosine) = stream.between(0.0, 6.0).sin_cos();
            let mut rotation = [[0.0; 3]; 3];
            rotation[axis][axis] = 1.0;
            (rotation[i][i], rotation[j][j]) = (cosine, cosine);
            (rotation[i][j], rotation[j][i]) = (-sine, sine);
            let product = |a: &[[f64; 3]; 3], b: &[[f64; 3]; 3], is_turned: bool| {
                let at = |r: usize, c: usize, k: usize| if is_turned { b[c][k] } else { b[k][c] } * a[r][k];
                [0, 1, 2].map(|r| [0, 1, 2].map(|c| (0..3).map(|k| at(r, c, k)).sum::<f64>()))
            };
            let left = product(&rotation, &matrix, false);
            matrix = product(&left, &rotation, true);
        }
        matrix
    }

    #[test]
    fn eigenvalues_come_back_in_order() {
        let mut stream = Stream::new(1, "test.eigen", &[]);
        for round in 0..3000 {
            let mut values = [stream.normal(), stream.normal(), stream.normal()];
            let bound = match round % 3 {
                0 => 2e-5,
                1 => {
                    values[1] = values[0];
                    1e-3
                }
                _ => {
                    values[2] = 0.0;
                    2e-5
                }
            };
            values.sort_by(f64::total_cmp);
            let gap = (values[1] - values[0]).min(values[2] - values[1]);
            let m = turned(values, &mut stream).map(|row| row.map(|value| value as f32));
            let found = eigenvalues_of([m[0][0], m[1][1], m[2][2]], [m[0][1], m[0][2], m[1][2]]);
            let largest = values[0].abs().max(values[2].abs());
            let bound = if gap < 0.02 * largest { 1e-3 } else { bound };
            for (found, expected) in found.iter().zip(values) {
                let error = (f64::from(*found) - expected).abs() / largest;
                assert!(error < bound, "{error} {values:?}");
            }
        }
    }

    #[test]
    fn flat_and_isotropic_matrices_have_eigenvalues() {
        assert_eq!(eigenvalues_of([0.0; 3], [0.0; 3]), [0.0; 3]);
        for value in eigenvalues_of([2.0; 3], [0.0; 3]) {
            assert!((value - 2.0).abs() < 1e-6);
        }
    }

    #[test]
    fn the_exponential_is_one() {
        for step in 0..8000 {
            let x = step as f32 * 0.01;
            let expected = (-f64::from(x)).exp();
            assert!((f64::from(exp_minus(x)) / expected - 1.0).abs() < 5e-7, "{x}");
        }
        assert!(exp_minus(1e30) < 1e-37);
    }
}
