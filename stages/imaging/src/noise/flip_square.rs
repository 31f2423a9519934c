//! Annotation source with one wrong patch: foreground and background change places in a square.
//!
//! Source: arXiv 2304.00466v2, IV-A.1, noise 3. Deviation: the side is ours, found by calibration.
//! Randomness: `u1`, `u2`, `u3` place the square along row, column and slice (or, centred on the foreground, `u1`
//! picks the centre). Cost: one copy of the mask.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale, to_voxels};
use crate::ImagingError;

/// Where the square may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SquareCentre {
    /// Anywhere inside the image.
    #[default]
    Anywhere,
    /// Around a foreground voxel, moved into the image where it would reach beyond.
    Foreground,
}

/// Inverts one square (in 3-D one cube); the strength is its side in the unit of the spacing.
///
/// Side 0 leaves the mask as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlipSquare {
    /// Where the square may lie; `anywhere` by default.
    pub centre: SquareCentre,
    /// Leaves empty masks empty; true by default.
    pub skip_empty: bool,
}

impl Default for FlipSquare {
    fn default() -> Self {
        Self { centre: SquareCentre::Anywhere, skip_empty: true }
    }
}

impl Simulator for FlipSquare {
    fn name(&self) -> &'static str {
        "flip_square"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Whole)
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        let extents = (0..3).filter(|&axis| shape[axis] > 1);
        let longest = extents
            .map(|axis| (shape[axis] - 1) as f64 * spacing[axis])
            .fold(f64::INFINITY, f64::min);
        [0.0, if longest.is_finite() { longest.floor() } else { 0.0 }]
    }

    fn fits(
        &self,
        strength: f64,
        shape: [usize; 3],
        spacing: [f64; 3],
    ) -> Result<(), ImagingError> {
        for axis in (0..3).filter(|&axis| shape[axis] > 1) {
            let side_px = to_voxels(strength, spacing[axis]);
            if side_px >= shape[axis] {
                return Err(ImagingError::SquareTooLarge { side_px, shape });
            }
        }
        Ok(())
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        if self.skip_empty && mask.is_empty() {
            return Noisy::unchanged(mask);
        }
        let shape = mask.shape();
        let wanted = spacing.map(|spacing| to_voxels(strength, spacing));
        let largest = shape.map(|length| if length > 1 { length - 1 } else { length });
        let sides = [0, 1, 2].map(|axis| wanted[axis].min(largest[axis]));
        if sides[1] == 0 || sides[2] == 0 {
            return Noisy::unchanged(mask);
        }
        let sides = [sides[0].max(1), sides[1], sides[2]];
        let corner = self.corner(mask, sides, draw);
        let params = vec![
            ("side_px", sides[2] as f64),
            ("slice", corner[0] as f64),
            ("row", corner[1] as f64),
            ("column", corner[2] as f64),
        ];
        let clamped = (0..3).any(|axis| shape[axis] > 1 && sides[axis] < wanted[axis]);
        Noisy { mask: invert(mask, corner, sides), params, clamped }
    }
}

impl FlipSquare {
    /// First voxel of the square, as `[slice, row, column]`.
    fn corner(&self, mask: &Mask, sides: [usize; 3], draw: &Draw) -> [usize; 3] {
        let [row, column, slice, _] = draw.uniforms;
        let uniforms = [slice, row, column];
        let places = [0, 1, 2].map(|axis| mask.shape()[axis] - sides[axis]);
        let area = mask.area();
        if self.centre == SquareCentre::Anywhere || area == 0 {
            return [0, 1, 2].map(|axis| (uniforms[axis] * (places[axis] + 1) as f64) as usize);
        }
        let rank = (row * area as f64) as usize;
        let mut foreground = mask.values().iter().enumerate().filter(|(_, inside)| **inside);
        let index = foreground.nth(rank).map_or(0, |(index, _)| index);
        let [_, n_rows, n_columns] = mask.shape();
        let centre = [index / (n_rows * n_columns), index / n_columns % n_rows, index % n_columns];
        [0, 1, 2].map(|axis| centre[axis].saturating_sub(sides[axis] / 2).min(places[axis]))
    }
}

/// Inverts the box of these sides at `corner`.
fn invert(mask: &Mask, corner: [usize; 3], sides: [usize; 3]) -> Mask {
    let mut inverted = mask.clone();
    for slice in corner[0]..corner[0] + sides[0] {
        for row in corner[1]..corner[1] + sides[1] {
            let start = mask.index([slice, row, corner[2]]);
            for value in &mut inverted.values_mut()[start..start + sides[2]] {
                *value = !*value;
            }
        }
    }
    inverted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::dice;
    use datasets::mask;

    fn draw(row: f64, column: f64) -> Draw {
        Draw { uniforms: [row, column, 0.0, 0.0], seed: 0 }
    }

    #[test]
    fn inverts_the_square_that_the_uniforms_choose() {
        let clean = mask!["# # . .", "# # . .", ". . . .", ". . . ."];
        let noisy = FlipSquare::default().apply(&clean, [1.0; 3], 2.0, &draw(0.4, 0.4));
        assert_eq!(noisy.mask, mask!["# # . .", "# . # .", ". # # .", ". . . ."]);
        let last = FlipSquare::default().apply(&clean, [1.0; 3], 2.0, &draw(0.999, 0.999));
        assert_eq!(last.params, [("side_px", 2.0), ("slice", 0.0), ("row", 2.0), ("column", 2.0)]);
        assert_eq!(FlipSquare::default().apply(&clean, [1.0; 3], 0.0, &draw(0.4, 0.4)).mask, clean);
    }

    #[test]
    fn dice_follows_the_side() {
        let clean = Mask::from_fn([1, 100, 100], |[_, row, column]| row < 40 && column < 50);
        let area = 2000.0;
        for side in [5.0, 20.0, 35.0] {
            let squared: f64 = side * side;
            let inside = FlipSquare::default().apply(&clean, [1.0; 3], side, &draw(0.0, 0.0));
            assert!(
                (dice(&clean, &inside.mask) - 2.0 * (area - squared) / (2.0 * area - squared))
                    .abs()
                    < 1e-12
            );
            let outside = FlipSquare::default().apply(&clean, [1.0; 3], side, &draw(0.999, 0.999));
            assert!(
                (dice(&clean, &outside.mask) - 2.0 * area / (2.0 * area + squared)).abs() < 1e-12
            );
        }
    }

    #[test]
    fn a_centre_in_the_foreground_is_kept_inside_the_image() {
        let clean = mask![". . . .", ". . . .", ". . . .", ". . . #"];
        let simulator = FlipSquare { centre: SquareCentre::Foreground, ..FlipSquare::default() };
        let noisy = simulator.apply(&clean, [1.0; 3], 3.0, &draw(0.7, 0.0));
        assert_eq!(noisy.mask, mask![". . . .", ". # # #", ". # # #", ". # # ."]);
    }

    #[test]
    fn cubes_are_measured_in_millimetres() {
        let clean = Mask::from_fn([8, 8, 8], |place| place == [7, 7, 7]);
        let noisy = FlipSquare::default().apply(&clean, [2.0, 1.0, 1.0], 4.0, &draw(0.0, 0.0));
        assert_eq!(noisy.mask.area(), 2 * 4 * 4 + 1);
    }

    #[test]
    fn empty_masks_and_large_squares() {
        let empty = Mask::filled([1, 4, 4], false);
        assert_eq!(FlipSquare::default().apply(&empty, [1.0; 3], 2.0, &draw(0.0, 0.0)).mask, empty);
        let drawn = FlipSquare { skip_empty: false, ..FlipSquare::default() };
        assert_eq!(drawn.apply(&empty, [1.0; 3], 2.0, &draw(0.0, 0.0)).mask.area(), 4);
        let error = FlipSquare::default().check(4.0, [1, 4, 9], [1.0; 3]);
        assert_eq!(error, Err(ImagingError::SquareTooLarge { side_px: 4, shape: [1, 4, 9] }));
        assert!(drawn.apply(&empty, [1.0; 3], 9.0, &draw(0.0, 0.0)).clamped);
    }
}
