//! Annotation source that draws the right shape in wrong proportions: the low frequencies of the outline are off.
//!
//! Source: the boundary modulation of the MISS tool (U.S. FDA, CC0): low-order Fourier coefficients of the
//! outline are multiplied by `1 + U(-k/2, k/2)`.
//! Deviation: the outline is that of marching squares by arc length; only its low frequencies move, so what they do not
//! describe stays as drawn.
//! Randomness: one uniform a coefficient from a stream for each component; the strength scales them.
//! Cost: the contours, and `points * coefficients` for each component and slice.

use std::f64::consts::TAU;

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, NoiseOption, Noisy, Simulator, StrengthScale, redraw::redraw, share_scale};
use crate::contour::Point;

/// Scales the low frequencies of each outline at random; the strength is the width `k` of the factors around 1.
///
/// Width 0 leaves the mask as it is. Components of fewer pixels than `smallest_component_px` are copied; the others lose
/// their holes. An empty mask stays empty. In 3-D every slice is drawn by itself with the same factors for all slices
/// of a component, and a majority over three neighbouring slices smooths the result; voxels of a slice are taken as
/// square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fourier {
    /// Number of frequencies that are scaled, in each direction of the turn, from 1. Default 6.
    pub n_frequencies: u32,
    /// Components of a slice with fewer pixels are copied. Default 20.
    pub smallest_component_px: usize,
}

impl Default for Fourier {
    fn default() -> Self {
        Self { n_frequencies: 6, smallest_component_px: 20 }
    }
}

impl Simulator for Fourier {
    fn name(&self) -> &'static str {
        "fourier"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        share_scale()
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 4.0]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![("n_frequencies", f64::from(self.n_frequencies), [1.0, 1000.0])]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 100.0]
    }

    fn apply(&self, mask: &Mask, _spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let width = strength.clamp(0.0, 100.0);
        if width <= 0.0 {
            return Noisy::unchanged(mask);
        }
        let mask = redraw(mask, self.smallest_component_px, |component, contour| {
            Some(modulated(contour.points(), &self.factors(component, width, draw.seed)))
        });
        Noisy { mask, params: vec![("width", width)], clamped: width < strength }
    }
}

impl Fourier {
    /// What is added to 1 for the frequencies 1, -1, 2, -2 and so on of a component.
    fn factors(&self, component: usize, width: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut stream = Stream::new(seed, "noise.fourier", &[&component.to_string()]);
        let frequencies =
            (1..=self.n_frequencies).flat_map(|order| [f64::from(order), -f64::from(order)]);
        frequencies.map(|frequency| (frequency, width * (stream.uniform() - 0.5))).collect()
    }
}

/// Moves the points of a closed line by its own low frequencies, each times a factor.
fn modulated(points: &[Point], factors: &[(f64, f64)]) -> Vec<Point> {
    let places = arc_places(points);
    let mut moved = points.to_vec();
    for &(frequency, factor) in factors {
        let [real, imaginary] = coefficient(points, &places, frequency);
        for (point, &(place, _)) in moved.iter_mut().zip(&places) {
            let (sine, cosine) = (TAU * frequency * place).sin_cos();
            point[0] += factor * (imaginary * cosine + real * sine);
            point[1] += factor * (real * cosine - imaginary * sine);
        }
    }
    moved
}

/// Place of every point as a fraction of the length of the line, and the share of the line around it.
fn arc_places(points: &[Point]) -> Vec<(f64, f64)> {
    let n_points = points.len();
    let lengths: Vec<f64> = (0..n_points)
        .map(|index| {
            let (from, to) = (points[index], points[(index + 1) % n_points]);
            (to[0] - from[0]).hypot(to[1] - from[1])
        })
        .collect();
    let total: f64 = lengths.iter().sum();
    let mut place = 0.0;
    (0..n_points)
        .map(|index| {
            let share = 0.5 * (lengths[(index + n_points - 1) % n_points] + lengths[index]) / total;
            let here = (place / total, share);
            place += lengths[index];
            here
        })
        .collect()
}

/// Fourier coefficient of the line as complex numbers `column + i row`, by the trapezoidal rule over arc length.
fn coefficient(points: &[Point], places: &[(f64, f64)], frequency: f64) -> [f64; 2] {
    let mut sum = [0.0; 2];
    for (&[row, column], &(place, share)) in points.iter().zip(places) {
        let (sine, cosine) = (TAU * frequency * place).sin_cos();
        sum[0] += share * (column * cosine + row * sine);
        sum[1] += share * (row * cosine - column * sine);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{check_cylinder, dice, draw, lungs};
    use datasets::mask;

    fn noisy(mask: &Mask, width: f64, seed: u64) -> Mask {
        Fourier::default().apply(mask, [1.0; 3], width, &draw(seed)).mask
    }

    #[test]
    fn a_circle_has_one_coefficient_and_it_is_the_radius() {
        let circle: Vec<Point> = (0..200)
            .map(|index| (TAU * f64::from(index) / 200.0).sin_cos())
            .map(|(sine, cosine)| [3.0 + 5.0 * sine, 7.0 + 5.0 * cosine])
            .collect();
        let places = arc_places(&circle);
        let size = |frequency| {
            let [real, imaginary] = coefficient(&circle, &places, frequency);
            real.hypot(imaginary)
        };
        assert!((size(1.0) - 5.0).abs() < 1e-9);
        assert!([-1.0, 2.0, -2.0, 3.0].iter().all(|&frequency| size(frequency) < 1e-9));
        let larger = modulated(&circle, &[(1.0, 0.4)]);
        assert!(larger.iter().all(|p| ((p[0] - 3.0).hypot(p[1] - 7.0) - 7.0).abs() < 1e-9));
    }

    #[test]
    fn a_tiny_width_changes_nothing_and_a_larger_one_more() {
        for case in 0..7 {
            let clean = lungs(case);
            assert_eq!(noisy(&clean, 1e-9, 1), clean);
        }
        let mean = |width| {
            (0..40).map(|seed| dice(&lungs(0), &noisy(&lungs(0), width, seed))).sum::<f64>() / 40.0
        };
        let means = [0.0, 0.2, 0.5, 1.0, 2.0].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
    }

    #[test]
    fn components_have_factors_of_their_own_and_small_ones_are_copied() {
        let both = lungs(2);
        let found = noisy(&both, 1.0, 3);
        let mut left = both.clone();
        for row in 0..64 {
            let start = left.index([0, row, 32]);
            left.values_mut()[start..start + 32].fill(false);
        }
        assert_eq!(noisy(&left, 1.0, 3).row(0, 31)[..20], found.row(0, 31)[..20]);
        let small = mask!["# # . .", "# # . .", ". . . #", ". . . ."];
        assert_eq!(noisy(&small, 2.0, 3), small);
        let empty = mask![". ."];
        assert_eq!(noisy(&empty, 2.0, 3), empty);
    }

    #[test]
    fn slices_of_a_cylinder_stay_alike_and_options_are_checked() {
        check_cylinder(10.0, |clean| noisy(clean, 0.8, 2));
        let wrong = Fourier { n_frequencies: 0, ..Fourier::default() };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(Fourier::default().check(-1.0, [1, 9, 9], [1.0; 3]).is_err());
    }
}
