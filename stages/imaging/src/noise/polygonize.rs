//! Annotation source with few clicks: the outline becomes a closed spline through some of its points.
//!
//! Source: arXiv 2304.00466v2, IV-A.1, noise 4. Deviation: the points are random in arc length, since equally
//! spaced points never get as far from the truth as the paper reports; knots are uniform.
//! Randomness: `u1` chooses between the whole numbers of points around the strength; the places of the points come
//! from a stream for each component, and more points keep the places of the fewer.
//! Cost: the contours, and `points * 32` vertices of filling for each component.

use std::collections::BTreeMap;

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseGrows, Noisy, Simulator, StrengthScale, StrengthSteps, StrengthUnit, redraw::redraw,
};
use crate::{contour::Point, spline::closed_spline};

/// A closed spline needs this many points.
const FEWEST_POINTS: f64 = 3.0;

/// Replaces each component by a spline polygon; the strength is the number of points on each contour.
///
/// A strength between whole numbers mixes both: 7.25 gives 8 points in a quarter of the cases and 7 in the others.
/// Infinitely many points leave the mask as it is. Components that are too small or have a contour shorter than the
/// number of points are copied; the other components lose their holes. An empty mask stays empty.
///
/// In 3-D every slice is drawn by itself, with the same places of the points for all slices of a component, and a
/// majority over three neighbouring slices smooths the result; voxels of a slice are taken as square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Polygonize {
    /// Components of a slice with fewer pixels are copied; 20 by default.
    pub smallest_component_px: usize,
}

impl Default for Polygonize {
    fn default() -> Self {
        Self { smallest_component_px: 20 }
    }
}

impl Simulator for Polygonize {
    fn name(&self) -> &'static str {
        "polygonize"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        StrengthScale {
            unit: StrengthUnit::Points,
            steps: StrengthSteps::Continuous(0.01),
            noise_grows: NoiseGrows::AgainstStrength,
        }
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [FEWEST_POINTS, 64.0]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [FEWEST_POINTS, f64::INFINITY]
    }

    fn apply(&self, mask: &Mask, _spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let allowed = strength.max(FEWEST_POINTS);
        let mixed = allowed.floor() + f64::from(u8::from(draw.uniforms[0] < allowed.fract()));
        // The cast saturates: infinitely many points are more than any contour has.
        let n_points = mixed as usize;
        let mask = self.redrawn(mask, n_points, draw.seed);
        Noisy { mask, params: vec![("points", mixed)], clamped: allowed > strength }
    }
}

impl Polygonize {
    fn redrawn(&self, mask: &Mask, n_points: usize, seed: u64) -> Mask {
        let mut places: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        redraw(mask, self.smallest_component_px, |component, contour| {
            if contour.points().len() < n_points {
                return None;
            }
            let sorted = || sorted_places(seed, component, n_points);
            let places = places.entry(component).or_insert_with(sorted);
            let points: Vec<Point> = places.iter().map(|&place| contour.at(place)).collect();
            Some(closed_spline(&points).expect("at least three points were drawn"))
        })
    }
}

/// Places of the points of one component as sorted fractions of its arc length.
fn sorted_places(seed: u64, component: usize, n_points: usize) -> Vec<f64> {
    let mut stream = Stream::new(seed, "noise.polygonize.places", &[&component.to_string()]);
    let mut places: Vec<f64> = (0..n_points).map(|_| stream.uniform()).collect();
    places.sort_unstable_by(f64::total_cmp);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{check_cylinder, dice, disc, draw, lungs};
    use datasets::mask;

    /// Mean Dice over many draws.
    fn mean_dice(clean: &Mask, n_points: f64) -> f64 {
        let total: f64 = (0..60)
            .map(|seed| {
                dice(
                    clean,
                    &Polygonize::default().apply(clean, [1.0; 3], n_points, &draw(seed)).mask,
                )
            })
            .sum();
        total / 60.0
    }

    #[test]
    fn more_points_are_closer_to_the_truth() {
        let clean = lungs(0);
        let means = [4.0, 6.0, 10.0, 20.0, 40.0].map(|n_points| mean_dice(&clean, n_points));
        assert!(means.windows(2).all(|pair| pair[0] < pair[1]), "{means:?}");
        assert!(means[0] < 0.7 && means[4] > 0.93, "{means:?}");
    }

    #[test]
    fn many_points_or_small_components_are_copied() {
        let clean = disc(32, [16.0, 16.0], 8.0);
        let same = Polygonize::default().apply(&clean, [1.0; 3], f64::INFINITY, &draw(1));
        assert_eq!((same.mask, same.clamped), (clean, false));
        let small = mask!["# # . .", "# # . .", ". . . #", ". . . ."];
        assert_eq!(Polygonize::default().apply(&small, [1.0; 3], 3.0, &draw(1)).mask, small);
        let empty = mask![". ."];
        assert_eq!(Polygonize::default().apply(&empty, [1.0; 3], 3.0, &draw(1)).mask, empty);
    }

    #[test]
    fn a_strength_between_whole_numbers_mixes_both() {
        let clean = lungs(1);
        for (uniform, n_points) in [(0.1, 8.0), (0.24, 8.0), (0.26, 7.0), (0.9, 7.0)] {
            let draw = Draw { uniforms: [uniform; 4], seed: 5 };
            let mixed = Polygonize::default().apply(&clean, [1.0; 3], 7.25, &draw);
            assert_eq!(mixed, Polygonize::default().apply(&clean, [1.0; 3], n_points, &draw));
        }
        let clamped = Polygonize::default().apply(&clean, [1.0; 3], 1.0, &draw(3));
        assert_eq!((clamped.params[0].1, clamped.clamped), (3.0, true));
    }

    #[test]
    fn holes_are_lost_and_components_are_independent() {
        let both = lungs(2);
        let mut left = both.clone();
        for row in 0..64 {
            let start = left.index([0, row, 32]);
            left.values_mut()[start..start + 32].fill(false);
        }
        let of_both = Polygonize::default().apply(&both, [1.0; 3], 30.0, &draw(9)).mask;
        let of_left = Polygonize::default().apply(&left, [1.0; 3], 30.0, &draw(9)).mask;
        assert_eq!(of_both.row(0, 31)[..30], of_left.row(0, 31)[..30]);
        left.set([0, 31, 17], false);
        assert_eq!(Polygonize::default().apply(&left, [1.0; 3], 30.0, &draw(9)).mask, of_left);
    }

    #[test]
    fn slices_of_a_cylinder_stay_alike() {
        check_cylinder(10.0, |clean| {
            Polygonize::default().apply(clean, [1.0; 3], 6.0, &draw(2)).mask
        });
    }
}
