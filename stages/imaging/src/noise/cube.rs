//! Annotation source that draws too small or too large by a cube: dilation or erosion with a box of voxels.
//!
//! Source: the noisy labels of Xu et al. (MTCL, lemoshu/MTCL) for the left atrium: with equal chance dilation or erosion with
//! a cube of 3 to 15 voxels a side, in 72 of 80 training cases.
//! Deviation: one strength stands for the range, from 1/3 to 5/3 of it; where an erosion would leave less than 5 % of the
//! volume, the largest smaller cube is taken.
//! Randomness: `u1` decides whether the case is noisy, `u2` between dilation and erosion, `u3` the side.
//! Cost: six sliding sums over the mask, and again for each smaller cube that is tried.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale, shorter_side,
    to_voxels,
};

/// Erosion never leaves less than this share of the volume.
const SMALLEST_SHARE: f64 = 0.05;

/// Dilates or erodes by a cube (in 2-D by a square); the strength is its mean side in the unit of the spacing.
///
/// A side of 1 voxel or less leaves the mask as it is. As in SciPy a cube of an even side reaches one voxel further
/// towards smaller indices when it dilates, and beyond the image is background, so erosion eats from the border.
/// An empty mask stays empty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cube {
    /// Share of the cases that are noisy. Default 1; 0.9 as published.
    pub noisy_probability: f64,
    /// Probability of dilation, else erosion. Default 0.5.
    pub dilate_probability: f64,
}

impl Default for Cube {
    fn default() -> Self {
        Self { noisy_probability: 1.0, dilate_probability: 0.5 }
    }
}

impl Simulator for Cube {
    fn name(&self) -> &'static str {
        "cube"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Continuous(0.05))
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 0.5 * shorter_side(shape, spacing)]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![
            ("noisy_probability", self.noisy_probability, [0.0, 1.0]),
            ("dilate_probability", self.dilate_probability, [0.0, 1.0]),
        ]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let [whether, kind, side, _] = draw.uniforms;
        if whether >= self.noisy_probability || mask.is_empty() {
            return Noisy::unchanged(mask);
        }
        let side = strength * (1.0 + 4.0 * side) / 3.0;
        let wanted = [0, 1, 2].map(|axis| {
            if mask.shape()[axis] > 1 { to_voxels(side, spacing[axis]).max(1) } else { 1 }
        });
        let is_dilation = kind < self.dilate_probability;
        let (noisy, used) = if is_dilation {
            (boxed(mask, wanted, true), wanted)
        } else {
            eroded_at_most(mask, wanted)
        };
        let params = vec![
            ("dilate", f64::from(u8::from(is_dilation))),
            ("side_px", used[2] as f64),
            ("side_slices", used[0] as f64),
        ];
        Noisy { mask: noisy, params, clamped: used != wanted }
    }
}

/// Erodes by the largest box up to `wanted` that leaves enough, and says which.
fn eroded_at_most(mask: &Mask, wanted: [usize; 3]) -> (Mask, [usize; 3]) {
    let smallest = ((mask.area() as f64 * SMALLEST_SHARE).ceil() as usize).max(1);
    let mut sides = wanted;
    loop {
        let eroded = boxed(mask, sides, false);
        if eroded.area() >= smallest || sides == [1; 3] {
            return (eroded, sides);
        }
        sides = sides.map(|side| (side - 1).max(1));
    }
}

/// Dilation, or erosion, by a box of these sides.
pub(super) fn boxed(mask: &Mask, sides: [usize; 3], is_dilation: bool) -> Mask {
    let mut result = mask.clone();
    for (axis, side) in sides.into_iter().enumerate() {
        along(&mut result, axis, side, is_dilation);
    }
    result
}

/// One axis of [`boxed`]: a voxel is set when the window around it has one that is (dilation) or only such (erosion).
fn along(mask: &mut Mask, axis: usize, side: usize, is_dilation: bool) {
    if side <= 1 {
        return;
    }
    let shape = mask.shape();
    let (length, stride) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    // SciPy centres an even box on the larger of its two middles and reflects it for the dilation.
    let (before, after) =
        if is_dilation { ((side - 1) / 2, side / 2) } else { (side / 2, (side - 1) / 2) };
    let mut sums = vec![0_usize; length + 1];
    for start in 0..mask.values().len() / length {
        let start = start / stride * stride * length + start % stride;
        let at = |n: usize| start + n * stride;
        for n in 0..length {
            sums[n + 1] = sums[n] + usize::from(mask.values()[at(n)]);
        }
        for n in 0..length {
            let (first, end) = (n.saturating_sub(before), (n + after + 1).min(length));
            let n_set = sums[end] - sums[first];
            mask.values_mut()[at(n)] = if is_dilation { n_set > 0 } else { n_set == side };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::disc;
    use datasets::mask;

    fn drawn() -> Mask {
        Mask::from_fn([9, 12, 11], |[slice, row, column]| {
            let away =
                |place: usize, middle: f64, axis: f64| ((place as f64 - middle) / axis).powi(2);
            let ball = away(slice, 4.0, 3.0) + away(row, 6.0, 4.0) + away(column, 5.0, 3.5) <= 1.0;
            let edge = slice == 8 && row == 11 && (3..8).contains(&column);
            ball || edge || [slice, row, column] == [0, 0, 0]
        })
    }

    /// Voxels, and the sum of their indices, that SciPy 1.17.1 gives:
    ///
    /// ```python
    /// s, r, c = np.mgrid[:9, :12, :11]
    /// m = ((s-4)/3)**2 + ((r-6)/4)**2 + ((c-5)/3.5)**2 <= 1
    /// m[0, 0, 0] = True; m[8, 11, 3:8] = True
    /// idx = np.arange(m.size).reshape(m.shape)
    /// for k in (2, 3, 4, 5):
    ///     d = binary_dilation(m, np.ones((k, k, k))); e = binary_erosion(m, np.ones((k, k, k)))
    ///     print(k, d.sum(), idx[d].sum(), e.sum(), idx[e].sum())
    /// ```
    #[test]
    fn golden_cubes_of_scipy() {
        let indices = |mask: &Mask| -> usize {
            let set = mask.values().iter().enumerate().filter(|(_, inside)| **inside);
            set.map(|(index, _)| index).sum()
        };
        for (side, dilated, eroded) in [
            (2, [329, 186_848], [72, 48_312]),
            (3, [531, 328_175], [23, 13_777]),
            (4, [788, 449_740], [0, 0]),
            (5, [1013, 603_642], [0, 0]),
        ] {
            for (is_dilation, expected) in [(true, dilated), (false, eroded)] {
                let found = boxed(&drawn(), [side; 3], is_dilation);
                assert_eq!([found.area(), indices(&found)], expected, "{side} {is_dilation}");
            }
        }
    }

    #[test]
    fn sides_follow_the_draw_and_the_spacing() {
        let draw = |kind, side| Draw { uniforms: [0.0, kind, side, 0.0], seed: 0 };
        let cube = Cube::default();
        let pixel = mask![". . . . .", ". . . . .", ". . # . .", ". . . . .", ". . . . ."];
        let grown = cube.apply(&pixel, [1.0; 3], 3.0, &draw(0.1, 0.5)).mask;
        assert_eq!(grown, mask![". . . . .", ". # # # .", ". # # # .", ". # # # .", ". . . . ."]);
        assert_eq!(cube.apply(&grown, [1.0; 3], 3.0, &draw(0.9, 0.5)).mask, pixel);
        let flat = cube.apply(&pixel, [1.0, 1.0, 3.0], 3.0, &draw(0.1, 0.5)).mask;
        assert_eq!(flat, mask![". . . . .", ". . # . .", ". . # . .", ". . # . .", ". . . . ."]);
        let voxel = Mask::from_fn([5, 5, 5], |place| place == [2; 3]);
        let grown = cube.apply(&voxel, [3.0, 1.0, 1.0], 3.0, &draw(0.1, 0.5));
        assert_eq!((grown.mask.area(), grown.params[2]), (9, ("side_slices", 1.0)));
    }

    #[test]
    fn nothing_disappears_and_clean_cases_stay() {
        let clean = disc(32, [16.0, 16.0], 6.0);
        let draw = |whether, kind| Draw { uniforms: [whether, kind, 0.5, 0.0], seed: 0 };
        let shrunk = Cube::default().apply(&clean, [1.0; 3], 30.0, &draw(0.0, 0.9));
        assert!(shrunk.clamped && shrunk.mask.area() as f64 >= 0.05 * clean.area() as f64);
        let seldom = Cube { noisy_probability: 0.9, ..Cube::default() };
        assert_eq!(seldom.apply(&clean, [1.0; 3], 9.0, &draw(0.95, 0.1)).mask, clean);
        assert_eq!(Cube::default().apply(&clean, [1.0; 3], 0.0, &draw(0.0, 0.1)).mask, clean);
        let empty = Mask::filled([1, 6, 6], false);
        assert_eq!(Cube::default().apply(&empty, [1.0; 3], 4.0, &draw(0.0, 0.1)).mask, empty);
        let wrong = Cube { noisy_probability: 2.0, ..Cube::default() };
        assert!(wrong.check(1.0, [1, 6, 6], [1.0; 3]).is_err());
    }
}
