//! Annotation source that sees spicules: pointed hats stand out of the outline.
//!
//! Source: the spiculation of the MISS tool (U.S. FDA, CC0; Guan et al., SPIE Medical Imaging 2023): the distance of the outline
//! from its centre grows by `height * exp(-((angle - place) / width)^2)`.
//! Deviation: the width is an angle that goes round, where the tool counts points of its sorted outline; the places are random,
//! and there are several.
//! Randomness: one uniform a spicule from a stream for each component, so that more spicules keep the places of the fewer.
//! Cost: the contours, and `points * spicules` for each component and slice.

use std::f64::consts::{PI, TAU};

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale,
    redraw::redraw, shorter_side,
};
use crate::contour::Point;

/// Lets spicules stand out of each outline; the strength is their height.
///
/// Height 0 leaves the mask as it is. Components of fewer pixels than `smallest_component_px` are copied; the others lose
/// their holes. An empty mask stays empty. In 3-D every slice is drawn by itself with spicules at the same angles for all
/// slices of a component, and a majority over three neighbouring slices smooths the result; voxels of a slice are taken as
/// square.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Spiculation {
    /// Spicules of a component. Default 5.
    pub n_spicules: u32,
    /// Angle from the middle of a spicule at which its height is divided by e, in degrees. Default 8.
    pub width_degrees: f64,
    /// Components of a slice with fewer pixels are copied. Default 20.
    pub smallest_component_px: usize,
}

impl Default for Spiculation {
    fn default() -> Self {
        Self { n_spicules: 5, width_degrees: 8.0, smallest_component_px: 20 }
    }
}

impl Simulator for Spiculation {
    fn name(&self) -> &'static str {
        "spiculation"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Continuous(0.01))
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, shorter_side(shape, spacing)]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![
            ("n_spicules", f64::from(self.n_spicules), [1.0, 1000.0]),
            ("width_degrees", self.width_degrees, [0.1, 180.0]),
        ]
    }

    fn limits(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 10.0 * shorter_side(shape, spacing)]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        if strength <= 0.0 {
            return Noisy::unchanged(mask);
        }
        let height = strength / spacing[2];
        let mask = redraw(mask, self.smallest_component_px, |component, contour| {
            Some(self.spiculated(contour.points(), height, &self.places(component, draw.seed)))
        });
        Noisy { mask, params: vec![("height", strength)], clamped: false }
    }
}

impl Spiculation {
    /// Angles of the spicules of a component.
    fn places(&self, component: usize, seed: u64) -> Vec<f64> {
        let mut stream = Stream::new(seed, "noise.spiculation", &[&component.to_string()]);
        (0..self.n_spicules).map(|_| TAU * stream.uniform()).collect()
    }

    /// Moves the points of a closed line away from their mean.
    fn spiculated(&self, points: &[Point], height: f64, places: &[f64]) -> Vec<Point> {
        let n_points = points.len() as f64;
        let centre = [0, 1]
            .map(|axis: usize| points.iter().map(|point| point[axis]).sum::<f64>() / n_points);
        let width = self.width_degrees.to_radians();
        let point = |&[row, column]: &Point| {
            let [down, right] = [row - centre[0], column - centre[1]];
            let (distance, angle) = (down.hypot(right), down.atan2(right));
            let hat = |place: &f64| {
                let away = (angle - place + PI).rem_euclid(TAU) - PI;
                (-(away / width).powi(2)).exp()
            };
            let grown = distance + height * places.iter().map(hat).sum::<f64>();
            let (sine, cosine) = angle.sin_cos();
            [centre[0] + grown * sine, centre[1] + grown * cosine]
        };
        points.iter().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{check_cylinder, dice, draw, lungs};
    use datasets::mask;

    fn noisy(mask: &Mask, height: f64, seed: u64) -> Mask {
        Spiculation::default().apply(mask, [1.0; 3], height, &draw(seed)).mask
    }

    #[test]
    fn a_spicule_stands_where_it_is_said_and_is_as_high_and_as_wide() {
        let circle: Vec<Point> = (0..720)
            .map(|index| (TAU * f64::from(index) / 720.0).sin_cos())
            .map(|(sine, cosine)| [30.0 + 10.0 * sine, 40.0 + 10.0 * cosine])
            .collect();
        let one = Spiculation { width_degrees: 10.0, ..Spiculation::default() };
        let distances: Vec<f64> = one
            .spiculated(&circle, 6.0, &[TAU * 350.0 / 360.0])
            .iter()
            .map(|point| (point[0] - 30.0).hypot(point[1] - 40.0))
            .collect();
        assert!((distances[700] - 16.0).abs() < 1e-9);
        // Ten degrees to both sides it has sunk to 1/e, also across the angle 0.
        for place in [680, 0] {
            assert!((distances[place] - 10.0 - 6.0 / 1.0_f64.exp()).abs() < 1e-9);
        }
        assert!((distances[340] - 10.0).abs() < 1e-9);
    }

    #[test]
    fn spicules_are_added_and_nothing_is_taken() {
        for case in 0..7 {
            let clean = lungs(case);
            let found = noisy(&clean, 6.0, case as u64);
            let mut voxels = clean.values().iter().zip(found.values());
            assert!(voxels.all(|(&clean, &found)| found || !clean));
            assert_eq!(noisy(&clean, 1e-9, 1), clean);
        }
        let mean = |height| {
            (0..20).map(|seed| dice(&lungs(0), &noisy(&lungs(0), height, seed))).sum::<f64>() / 20.0
        };
        let means = [0.0, 2.0, 5.0, 10.0, 20.0].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
    }

    #[test]
    fn slices_of_a_cylinder_stay_alike_and_small_parts_are_copied() {
        check_cylinder(8.0, |clean| noisy(clean, 4.0, 2));
        let small = mask!["# # . .", "# # . .", ". . . #", ". . . ."];
        assert_eq!(noisy(&small, 2.0, 3), small);
        let empty = mask![". ."];
        assert_eq!(noisy(&empty, 2.0, 3), empty);
        let wrong = Spiculation { width_degrees: 0.0, ..Spiculation::default() };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(Spiculation::default().check(f64::NAN, [1, 9, 9], [1.0; 3]).is_err());
    }
}
