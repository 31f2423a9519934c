//! Annotation source with a constant offset: a clean mask moved sideways.
//!
//! Source: arXiv 2304.00466v2, IV-A.1, noise 2. Deviation: the distance is ours, found by calibration.
//! Randomness: none. Cost: one copy of the mask.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale, to_voxels};
use crate::ImagingError;

/// Where a shifted mask goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards larger columns.
    #[default]
    Right,
    /// Towards smaller columns.
    Left,
    /// Towards larger rows.
    Down,
    /// Towards smaller rows.
    Up,
}

impl Direction {
    /// Axis of the direction in `[slice, row, column]`.
    fn axis(self) -> usize {
        match self {
            Self::Right | Self::Left => 2,
            Self::Down | Self::Up => 1,
        }
    }

    /// Signed steps along `[row, column]`.
    fn offset(self, distance: usize) -> [isize; 2] {
        let distance = distance.cast_signed();
        match self {
            Self::Right => [0, distance],
            Self::Left => [0, -distance],
            Self::Down => [distance, 0],
            Self::Up => [-distance, 0],
        }
    }
}

/// Moves the mask by whole voxels; the strength is the distance in the unit of the spacing.
///
/// Freed voxels become background and what leaves the image is lost, so the object may shrink and never grows;
/// an empty mask stays empty. Distance 0 leaves the mask as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shift {
    /// Where the mask goes; `right` by default.
    pub direction: Direction,
}

impl Simulator for Shift {
    fn name(&self) -> &'static str {
        "shift"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Whole)
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        let axis = self.direction.axis();
        [0.0, (0.5 * shape[axis] as f64 * spacing[axis]).floor()]
    }

    fn fits(
        &self,
        strength: f64,
        shape: [usize; 3],
        spacing: [f64; 3],
    ) -> Result<(), ImagingError> {
        let axis = self.direction.axis();
        let distance_px = to_voxels(strength, spacing[axis]);
        if distance_px > 0 && distance_px >= shape[axis] {
            return Err(ImagingError::ShiftTooLong { distance_px, length_px: shape[axis] });
        }
        Ok(())
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, _draw: &Draw) -> Noisy {
        let axis = self.direction.axis();
        let wanted = to_voxels(strength, spacing[axis]);
        let distance = wanted.min(mask.shape()[axis].saturating_sub(1));
        Noisy {
            mask: shift(mask, self.direction.offset(distance)),
            params: vec![("distance_px", distance as f64)],
            clamped: distance < wanted,
        }
    }
}

/// Moves every slice by `[row, column]` voxels, without wrapping around.
pub(crate) fn shift(mask: &Mask, [down, right]: [isize; 2]) -> Mask {
    let [n_slices, n_rows, n_columns] = mask.shape();
    let mut moved = Mask::filled(mask.shape(), false);
    let (left_out, width) = (right.unsigned_abs(), n_columns.saturating_sub(right.unsigned_abs()));
    if width == 0 {
        return moved;
    }
    let (from, to) = if right >= 0 { (0, left_out) } else { (left_out, 0) };
    for slice in 0..n_slices {
        for row in 0..n_rows {
            let Some(source) = row.checked_add_signed(-down).filter(|&source| source < n_rows)
            else {
                continue;
            };
            let start = moved.index([slice, row, to]);
            let line = &mask.row(slice, source)[from..from + width];
            moved.values_mut()[start..start + width].copy_from_slice(line);
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::dice;
    use datasets::mask;

    const ANY: Draw = Draw { uniforms: [0.5; 4], seed: 0 };

    #[test]
    fn moves_to_each_side_and_loses_what_leaves() {
        let clean = mask!["# # .", ". # .", ". . ."];
        for (direction, expected) in [
            (Direction::Right, mask![". # #", ". . #", ". . ."]),
            (Direction::Left, mask!["# . .", "# . .", ". . ."]),
            (Direction::Down, mask![". . .", "# # .", ". # ."]),
            (Direction::Up, mask![". # .", ". . .", ". . ."]),
        ] {
            let noisy = Shift { direction }.apply(&clean, [1.0; 3], 1.0, &ANY);
            assert_eq!(noisy.mask, expected, "{direction:?}");
        }
        assert_eq!(Shift::default().apply(&clean, [1.0; 3], 0.0, &ANY).mask, clean);
    }

    #[test]
    fn a_rectangle_loses_dx_over_its_width() {
        let clean = Mask::from_fn([1, 40, 100], |[_, row, column]| {
            (5..35).contains(&row) && (10..50).contains(&column)
        });
        for distance in [1.0, 7.0, 16.0, 39.0] {
            let noisy = Shift::default().apply(&clean, [1.0; 3], distance, &ANY);
            assert!((dice(&clean, &noisy.mask) - (1.0 - distance / 40.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn millimetres_become_voxels() {
        let clean = Mask::from_fn([2, 1, 8], |[.., column]| column == 0);
        let noisy = Shift::default().apply(&clean, [2.0, 1.0, 0.5], 2.0, &ANY);
        assert_eq!(noisy.params, [("distance_px", 4.0)]);
        assert!(noisy.mask.get([0, 0, 4]) && noisy.mask.get([1, 0, 4]));
    }

    #[test]
    fn a_shift_out_of_the_image_is_refused_or_clamped() {
        let error = Shift::default().check(4.0, [1, 9, 4], [1.0; 3]);
        assert_eq!(error, Err(ImagingError::ShiftTooLong { distance_px: 4, length_px: 4 }));
        let noisy = Shift::default().apply(&mask!["# . . ."], [1.0; 3], 9.0, &ANY);
        assert_eq!((noisy.mask, noisy.clamped), (mask![". . . #"], true));
        assert_eq!(shift(&mask!["#"], [0, 3]), mask!["."]);
        assert_eq!(shift(&mask!["#"], [-3, 0]), mask!["."]);
    }
}
