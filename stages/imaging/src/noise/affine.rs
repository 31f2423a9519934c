//! Annotation source that draws the right shape in the wrong size, turned and misplaced.
//!
//! Source: the affine transformation of the MISS tool (U.S. FDA, CC0; Guan et al., SPIE Medical Imaging 2023): the outline is
//! resized along rows and columns about the middle of its box, then turned about it, then moved.
//! Deviation: the outline itself is resized, where the tool traces the outline of a resized mask, and every component is
//! transformed by itself, where the tool takes the first.
//! Randomness: five uniforms a component from a stream of its own; the strength scales them.
//! Cost: the contours, and one pass over their points.

use std::collections::BTreeMap;

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale,
    redraw::{middle_of, redraw},
    share_scale,
};
use crate::contour::Point;

/// Strength above which a side could shrink to less than nothing.
const MOST: f64 = 1.9;

/// Resizes, turns and moves each outline at random; the strength is the width `k` of what is drawn: both sides are multiplied
/// by `1 + U(-k/2, k/2)`, the angle and the move are `U(-k/2, k/2)` of the most that the options allow.
///
/// Width 0 leaves the mask as it is. Components of fewer pixels than `smallest_component_px` are copied; the others lose
/// their holes. An empty mask stays empty. In 3-D all slices of a component are transformed alike, about the middle of the first,
/// and a majority over three neighbouring slices smooths the result; voxels of a slice are taken as square.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Affine {
    /// Degrees of a turn that are a share of 1. Default 90.
    pub turn_degrees: f64,
    /// A move that is a share of 1, in sides of the box around the component. Default 0.5.
    pub move_sides: f64,
    /// Components of a slice with fewer pixels are copied. Default 20.
    pub smallest_component_px: usize,
}

impl Default for Affine {
    fn default() -> Self {
        Self { turn_degrees: 90.0, move_sides: 0.5, smallest_component_px: 20 }
    }
}

impl Simulator for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        share_scale()
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, MOST]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![
            ("turn_degrees", self.turn_degrees, [0.0, 360.0]),
            ("move_sides", self.move_sides, [0.0, 10.0]),
        ]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 100.0]
    }

    fn apply(&self, mask: &Mask, _spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let width = strength.min(MOST);
        if width <= 0.0 {
            return Noisy::unchanged(mask);
        }
        let mut changes: BTreeMap<usize, Change> = BTreeMap::new();
        let mask = redraw(mask, self.smallest_component_px, |component, contour| {
            let points = contour.points();
            let change = changes
                .entry(component)
                .or_insert_with(|| self.change(component, points, width, draw.seed));
            Some(points.iter().map(|&point| change.of(point)).collect())
        });
        Noisy { mask, params: vec![("width", width)], clamped: width < strength }
    }
}

impl Affine {
    /// What becomes of a component, the first of whose outlines is given.
    fn change(&self, component: usize, points: &[Point], width: f64, seed: u64) -> Change {
        let mut stream = Stream::new(seed, "noise.affine", &[&component.to_string()]);
        let mut share = || width * (stream.uniform() - 0.5);
        let (sizes, turn, moves) = ([1.0 + share(), 1.0 + share()], share(), [share(), share()]);
        let middle = middle_of(points);
        let side = |axis: usize| {
            let half = points.iter().map(|point| (point[axis] - middle[axis]).abs());
            2.0 * half.fold(0.0, f64::max)
        };
        Change {
            middle,
            sizes,
            angle: (turn * self.turn_degrees).to_radians(),
            moves: [0, 1].map(|axis| moves[axis] * self.move_sides * side(axis)),
        }
    }
}

/// A transformation of the plane.
struct Change {
    middle: Point,
    sizes: [f64; 2],
    /// From rows towards columns, in radians.
    angle: f64,
    moves: [f64; 2],
}

impl Change {
    fn of(&self, point: Point) -> Point {
        let [row, column] = [0, 1].map(|axis| self.sizes[axis] * (point[axis] - self.middle[axis]));
        let (sine, cosine) = self.angle.sin_cos();
        let turned = [cosine * row - sine * column, sine * row + cosine * column];
        [0, 1].map(|axis| self.middle[axis] + turned[axis] + self.moves[axis])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{check_cylinder, dice, draw, lungs};
    use datasets::mask;

    fn noisy(mask: &Mask, width: f64, seed: u64) -> Mask {
        Affine::default().apply(mask, [1.0; 3], width, &draw(seed)).mask
    }

    /// An ellipse that is resized, turned and moved is the ellipse of the inverse transformation.
    #[test]
    fn an_ellipse_becomes_the_ellipse_that_it_should() {
        let inside = |[row, column]: Point| (row / 20.0).powi(2) + (column / 11.0).powi(2) <= 1.0;
        let ellipse = Mask::from_fn([1, 96, 96], |[_, row, column]| {
            inside([row as f64 - 48.0, column as f64 - 48.0])
        });
        for seed in 0..20 {
            let affine = Affine::default();
            let contour = crate::contour::Contour::trace(&ellipse, 0, [28, 48]);
            let change = affine.change(0, contour.points(), 0.6, seed);
            assert!((change.middle[0] - 48.0).abs() < 0.6 && (change.middle[1] - 48.0).abs() < 0.6);
            let expected = Mask::from_fn([1, 96, 96], |[_, row, column]| {
                let here = [row as f64, column as f64];
                let [row, column] =
                    [0, 1].map(|axis| here[axis] - change.middle[axis] - change.moves[axis]);
                let (sine, cosine) = change.angle.sin_cos();
                let back = [cosine * row + sine * column, cosine * column - sine * row];
                inside([0, 1].map(|axis| back[axis] / change.sizes[axis]))
            });
            assert!(dice(&expected, &noisy(&ellipse, 0.6, seed)) > 0.96);
        }
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
        let means = [0.0, 0.1, 0.3, 0.8, 1.5].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
        let most = Affine::default().apply(&lungs(0), [1.0; 3], 50.0, &draw(1));
        assert!(most.clamped && most.params == [("width", MOST)]);
    }

    #[test]
    fn slices_of_a_cylinder_stay_alike_and_small_parts_are_copied() {
        check_cylinder(8.0, |clean| noisy(clean, 0.5, 2));
        let small = mask!["# # . .", "# # . .", ". . . #", ". . . ."];
        assert_eq!(noisy(&small, 1.0, 3), small);
        let empty = mask![". ."];
        assert_eq!(noisy(&empty, 1.0, 3), empty);
        let wrong = Affine { move_sides: -1.0, ..Affine::default() };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(Affine::default().check(-1.0, [1, 9, 9], [1.0; 3]).is_err());
    }
}
