//! Annotation source with a loose wrist: the outline is drawn in and out by a smooth function of the way along it.
//!
//! Source: Heller et al., LABELS 2018 ("Imperfect segmentation labels: how much do they matter?", neheller/labels18),
//! "natural" errors: every contour is moved towards or away from the middle of its box by a cubic interpolation of five
//! normal numbers; variances 14, 52 and 138 px² for livers.
//! Deviation: the interpolation closes on itself in slope and curvature too; holes are filled.
//! Randomness: five normal numbers a component from a stream of its own; the strength scales them.
//! Cost: the contours.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale,
    redraw::{middle_of, redraw},
    shorter_side,
};
use crate::{contour::Point, spline::closed_spline};

/// Moves each outline by a smooth random function; the strength is the standard deviation of the move in the unit of the
/// spacing along columns.
///
/// Strength 0 leaves the mask as it is. Components of fewer pixels than `smallest_component_px` are copied; the others
/// lose their holes, and one that is drawn in by more than it is wide turns inside out, as published. An empty mask stays
/// empty. In 3-D every slice is drawn by itself with the same function for all slices of a component, and a majority over
/// three neighbouring slices smooths the result; voxels of a slice are taken as square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Natural {
    /// Numbers that are drawn for each outline, at least 3. Default 5.
    pub n_numbers: usize,
    /// Components of a slice with fewer pixels are copied. Default 20.
    pub smallest_component_px: usize,
}

impl Default for Natural {
    fn default() -> Self {
        Self { n_numbers: 5, smallest_component_px: 20 }
    }
}

impl Simulator for Natural {
    fn name(&self) -> &'static str {
        "natural"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Continuous(0.01))
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 0.5 * shorter_side(shape, spacing)]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![("n_numbers", self.n_numbers as f64, [3.0, 1000.0])]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        if strength <= 0.0 {
            return Noisy::unchanged(mask);
        }
        let sd_px = strength / spacing[2];
        let mask = redraw(mask, self.smallest_component_px, |component, contour| {
            Some(moved(contour.points(), &self.moves(component, sd_px, draw.seed)))
        });
        Noisy { mask, params: vec![("sd", strength)], clamped: false }
    }
}

impl Natural {
    /// How far the outline of a component moves inwards, at equal steps along it.
    fn moves(&self, component: usize, sd_px: f64, seed: u64) -> Vec<f64> {
        let mut stream = Stream::new(seed, "noise.natural", &[&component.to_string()]);
        let numbers: Vec<f64> =
            (0..self.n_numbers.max(3)).map(|_| sd_px * stream.normal()).collect();
        periodic(&numbers)
    }
}

/// A periodic cubic spline through numbers at equal steps, sampled finely.
fn periodic(numbers: &[f64]) -> Vec<f64> {
    let points: Vec<Point> = numbers.iter().map(|&number| [number, 0.0]).collect();
    let curve = closed_spline(&points).expect("at least three numbers were drawn");
    curve.into_iter().map(|[number, _]| number).collect()
}

/// The value of a sampled periodic function at a fraction of its period, linear between samples.
fn at(samples: &[f64], fraction: f64) -> f64 {
    let place = fraction * samples.len() as f64;
    let below = place.floor() as usize % samples.len();
    let above = (below + 1) % samples.len();
    samples[below] + (samples[above] - samples[below]) * place.fract()
}

/// Moves the points of a closed line towards the middle of its box.
fn moved(points: &[Point], moves: &[f64]) -> Vec<Point> {
    let middle = middle_of(points);
    let n_points = points.len() as f64;
    let point = |(n, &[row, column]): (usize, &Point)| {
        let [down, right] = [row - middle[0], column - middle[1]];
        let away = down.hypot(right).max(f64::MIN_POSITIVE);
        let factor = 1.0 - at(moves, n as f64 / n_points) / away;
        [middle[0] + factor * down, middle[1] + factor * right]
    };
    points.iter().enumerate().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{check_cylinder, dice, disc, draw, lungs};
    use crate::{contour::Contour, polygon::add_polygon};
    use datasets::mask;

    fn noisy(mask: &Mask, sd: f64, seed: u64) -> Mask {
        Natural::default().apply(mask, [1.0; 3], sd, &draw(seed)).mask
    }

    /// Expected values: SciPy 1.17.1, `CubicSpline(np.arange(6) / 5, [1, -2, .5, 3, -1, 1], bc_type="periodic")` at the
    /// fractions; places of samples, where nothing is between.
    #[test]
    fn golden_periodic_spline_of_scipy() {
        let samples = periodic(&[1.0, -2.0, 0.5, 3.0, -1.0]);
        for (fraction, expected) in [
            (0.05, 0.582_386_364),
            (0.3, -1.517_045_455),
            (0.5, 2.585_227_273),
            (0.731_25, 0.075_714_111),
            (0.95, 0.661_931_818),
        ] {
            assert!((at(&samples, fraction) - expected).abs() < 1e-8, "{fraction}");
        }
    }

    #[test]
    fn a_constant_move_is_a_smaller_disc() {
        let clean = disc(64, [32.0, 32.0], 20.0);
        let contour = Contour::trace(&clean, 0, [12, 32]);
        let mut drawn = Mask::filled([1, 64, 64], false);
        add_polygon(&mut drawn, 0, &moved(contour.points(), &[5.0; 8]));
        assert!(dice(&drawn, &disc(64, [32.0, 32.0], 15.0)) > 0.98);
    }

    #[test]
    fn larger_moves_are_a_worse_mask() {
        let mean = |sd| {
            let score = |seed: u64| {
                let clean = lungs(seed as usize);
                dice(&clean, &noisy(&clean, sd, seed))
            };
            (0..40).map(score).sum::<f64>() / 40.0
        };
        let means = [0.0, 0.8, 2.0, 4.0].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1] + 0.02), "{means:?}");
    }

    #[test]
    fn small_components_are_copied_slices_stay_alike_and_options_are_checked() {
        let small = mask!["# # . .", "# # . .", ". . . #", ". . . ."];
        assert_eq!(noisy(&small, 3.0, 1), small);
        check_cylinder(10.0, |clean| noisy(clean, 2.0, 2));
        let wrong = Natural { n_numbers: 2, ..Natural::default() };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(Natural::default().check(f64::NAN, [1, 9, 9], [1.0; 3]).is_err());
    }
}
