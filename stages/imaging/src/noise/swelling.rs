//! Annotation source that sees a bulge: everything around a place on the medial axis is drawn too large.
//!
//! Source: Castro et al., JMLR 2019 (Morpho-MNIST), swelling: within a radius of a random pixel of the medial axis a voxel at
//! the distance `d` takes the value at the distance `d (d / radius)^(power - 1)`; the power is 3, and the radius 7 times half
//! the root of the mean thickness.
//! Deviation: in 3-D the bulge is a ball. Voxels lie between those of the mask, not of a fourfold grid.
//! Randomness: `u1` chooses the place. Cost: the medial axis, and the voxels of the bulge.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale,
    medial_axis::{MedialAxis, places},
    share_scale, shorter_side, voxels_near,
};

/// Swells one place of the mask; the strength is the radius of the bulge in halves of the root of the mean thickness, 7 as
/// published, lengths being in the unit of the spacing.
///
/// Strength 0 leaves the mask as it is, and an empty mask stays empty; holes near the place swell as well. Thickness is
/// measured within slices, and that of all slices together counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Swelling {
    /// Power by which distances shrink, from 1, which changes nothing. Default 3.
    pub power: f64,
}

impl Default for Swelling {
    fn default() -> Self {
        Self { power: 3.0 }
    }
}

impl Simulator for Swelling {
    fn name(&self) -> &'static str {
        "swelling"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        share_scale()
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, shorter_side(shape, spacing)]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![("power", self.power, [1.0, 100.0])]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1e6]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let axis = MedialAxis::of(mask, spacing);
        let places = places(&axis.pixels);
        // A uniform number is below 1, so the place is one of them.
        let Some(&centre) = places.get((draw.uniforms[0] * places.len() as f64) as usize) else {
            return Noisy::unchanged(mask);
        };
        let radius = strength * axis.mean_thickness().sqrt() / 2.0;
        let [slice, row, column] = centre.map(|index| index as f64);
        let params = vec![("slice", slice), ("row", row), ("column", column), ("radius", radius)];
        let noisy = swollen(mask, spacing, centre, [radius, self.power]);
        Noisy { mask: noisy, params, clamped: false }
    }
}

/// Takes every voxel within the radius of `centre` from a place nearer to it.
fn swollen(mask: &Mask, spacing: [f64; 3], centre: [usize; 3], [radius, power]: [f64; 2]) -> Mask {
    let mut swollen = mask.clone();
    for voxel in voxels_near(mask.shape(), spacing, centre, radius) {
        let steps = [0, 1, 2].map(|axis| voxel[axis] as f64 - centre[axis] as f64);
        let away: f64 =
            (0..3).map(|axis| (steps[axis] * spacing[axis]).powi(2)).sum::<f64>().sqrt();
        if away < radius {
            let weight = (away / radius).powf(power - 1.0);
            let from = [0, 1, 2].map(|axis| (centre[axis] as f64 + weight * steps[axis]).round());
            swollen.set(voxel, mask.get(from.map(|place| place as usize)));
        }
    }
    swollen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{dice, disc, lungs, vectors};
    use datasets::mask;

    fn noisy(mask: &Mask, strength: f64, place: f64) -> Noisy {
        let draw = Draw { uniforms: [place, 0.0, 0.0, 0.0], seed: 0 };
        Swelling::default().apply(mask, [1.0; 3], strength, &draw)
    }

    #[test]
    fn golden_swellings_of_scikit_image() {
        let (shape, masks) = vectors();
        let clean = &masks["clean"];
        let swellings: Vec<_> =
            masks.iter().filter(|(name, _)| name.starts_with("swell")).collect();
        assert_eq!(swellings.len(), 3);
        for (name, expected) in swellings {
            let numbers: Vec<f64> = name.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
            let [row, column, radius, power] = numbers.try_into().unwrap();
            let centre = [0, row as usize, column as usize];
            let found = swollen(clean, [1.0; 3], centre, [radius, power]);
            assert_eq!((found.shape(), &found), (shape, expected), "{name}");
        }
    }

    /// At half the radius a voxel is taken from an eighth of it: a disc around its centre grows to where `d³ = r R²`.
    #[test]
    fn a_disc_in_the_middle_grows_by_the_formula() {
        let clean = disc(65, [32.0; 2], 5.0);
        for radius in [8.0_f64, 16.0, 28.0] {
            let grown = (5.0 * radius.powi(2)).cbrt();
            let found = swollen(&clean, [1.0; 3], [0, 32, 32], [radius, 3.0]);
            assert!(dice(&found, &disc(65, [32.0; 2], grown)) > 0.96, "{radius}");
        }
    }

    #[test]
    fn the_bulge_is_on_the_axis_and_larger_ones_are_worse() {
        let mean = |strength| {
            let score =
                |n: usize| dice(&lungs(n), &noisy(&lungs(n), strength, n as f64 / 20.0).mask);
            (0..20).map(score).sum::<f64>() / 20.0
        };
        let means = [0.0, 7.0, 14.0, 28.0].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
        let found = noisy(&lungs(0), 7.0, 0.7);
        let [row, column] = [found.params[1].1 as usize, found.params[2].1 as usize];
        assert!(MedialAxis::of(&lungs(0), [1.0; 3]).pixels.get([0, row, column]));
    }

    #[test]
    fn a_ball_swells_along_slices_too() {
        let ball = Mask::from_fn([17, 33, 33], |place| {
            let away = [place[0] as f64 - 8.0, place[1] as f64 - 16.0, place[2] as f64 - 16.0];
            (2.0 * away[0]).powi(2) + away[1].powi(2) + away[2].powi(2) <= 25.0
        });
        let found = swollen(&ball, [2.0, 1.0, 1.0], [8, 16, 16], [12.0, 3.0]);
        let grown = (5.0_f64 * 144.0).cbrt();
        let expected = Mask::from_fn([17, 33, 33], |place| {
            let away = [place[0] as f64 - 8.0, place[1] as f64 - 16.0, place[2] as f64 - 16.0];
            (2.0 * away[0]).powi(2) + away[1].powi(2) + away[2].powi(2) <= grown.powi(2)
        });
        assert!(dice(&found, &expected) > 0.9);
    }

    #[test]
    fn nothing_full_and_bad_options() {
        let empty = mask![". ."];
        assert_eq!(noisy(&empty, 7.0, 0.5).mask, empty);
        for full in [mask!["# #", "# #"], mask!["#"]] {
            assert_eq!(noisy(&full, 7.0, 0.99).mask, full);
        }
        let wrong = Swelling { power: 0.5 };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(Swelling::default().check(f64::INFINITY, [1, 9, 9], [1.0; 3]).is_err());
    }
}
