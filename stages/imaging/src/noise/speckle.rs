//! Annotation source without a hand: single voxels are wrong at random, as many of one kind as of the other.
//!
//! Source: Heller et al., LABELS 2018 (neheller/labels18), "random" errors: foreground flips with probability `p`, background
//! with `p f / (1 - f)`, where `f` is the share of the foreground; 0.05, 0.10 and 0.15. Their finding: networks hardly
//! mind, unlike wrong borders.
//! Deviation: `f` is that of the case, where they take that of the data set.
//! Randomness: one uniform a voxel from a stream of the case; the strength is only compared with it.
//! Cost: one pass over the mask.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, NoiseGrows, Noisy, Simulator, StrengthScale, StrengthSteps, StrengthUnit};

/// Flips voxels so that the size of the mask stays the same in the mean; the strength is the probability in the
/// foreground.
///
/// Probability 0 leaves the mask as it is; empty and full masks stay as they are. Where the foreground is the larger part,
/// the background flips with a probability of at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Speckle {}

impl Simulator for Speckle {
    fn name(&self) -> &'static str {
        "speckle"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        StrengthScale {
            unit: StrengthUnit::Probability,
            steps: StrengthSteps::Continuous(1e-4),
            noise_grows: NoiseGrows::WithStrength,
        }
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn apply(&self, mask: &Mask, _spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let (area, n_voxels) = (mask.area(), mask.values().len());
        if area == 0 || area == n_voxels {
            return Noisy::unchanged(mask);
        }
        let inside = strength.clamp(0.0, 1.0);
        let balanced = inside * area as f64 / (n_voxels - area) as f64;
        let outside = balanced.min(1.0);
        let mut stream = Stream::new(draw.seed, "noise.speckle", &[]);
        let noisy = mask.map(|&is_inside| {
            is_inside ^ (stream.uniform() < if is_inside { inside } else { outside })
        });
        Noisy {
            mask: noisy,
            params: vec![("inside", inside), ("outside", outside)],
            clamped: inside < strength || outside < balanced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{dice, disc, draw, lungs};

    fn noisy(mask: &Mask, strength: f64) -> Noisy {
        Speckle {}.apply(mask, [1.0; 3], strength, &draw(2))
    }

    /// As many voxels come as go, so Dice is `1 - p`.
    #[test]
    fn the_size_stays_and_dice_is_what_is_left() {
        let clean = disc(300, [150.0, 150.0], 80.0);
        for probability in [0.05, 0.1, 0.15, 0.3] {
            let found = noisy(&clean, probability).mask;
            assert!((found.area() as f64 / clean.area() as f64 - 1.0).abs() < 0.02);
            assert!((dice(&clean, &found) - (1.0 - probability)).abs() < 0.01, "{probability}");
        }
    }

    #[test]
    fn more_flips_keep_the_fewer() {
        let clean = lungs(3);
        let [few, many] = [0.1, 0.2].map(|probability| noisy(&clean, probability).mask);
        let pairs = clean.values().iter().zip(few.values()).zip(many.values());
        assert!(pairs.into_iter().all(|((clean, few), many)| few == clean || many != clean));
        assert_eq!(noisy(&clean, 0.0).mask, clean);
    }

    #[test]
    fn empty_full_and_mostly_full_masks() {
        for value in [false, true] {
            let mask = Mask::filled([1, 5, 5], value);
            assert_eq!(noisy(&mask, 0.9).mask, mask);
        }
        let most = Mask::from_fn([1, 10, 10], |[_, row, _]| row > 0);
        let found = noisy(&most, 0.9);
        assert!(found.clamped && found.mask.row(0, 0).iter().all(|&inside| inside));
        assert!(Speckle {}.check(1.1, [1, 9, 9], [1.0; 3]).is_err());
    }
}
