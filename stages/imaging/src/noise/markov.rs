//! Annotation source whose outline drifts: the boundary grows or shrinks in many small random steps.
//!
//! Source: Yao et al., ICLR 2023 ("Learning to segment from noisy annotations: a spatial correction approach"), their
//! Markov label noise with `theta_1` (preference), `theta_2` (variance) and `theta_3` (random flips). They use 180 steps
//! with 0.8, 0.05 and 0.2 for lungs and heart, 100 steps with 0.8, 0.02 and 0.2 for clavicles, and 80 steps with
//! 0.7, 0.3 (or 0.05) and 0 in 3-D.
//! Deviation: their blur rounds to 8 bits before the threshold, ours does not.
//! Randomness: three streams of the case (steps, edge voxels, flips), so that more steps continue fewer.
//! Cost: a pass over a bit mask and the voxels of its outline for each step, and one smoothing.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseGrows, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, StrengthUnit,
};
use crate::{
    bits::BitMask,
    smooth::{Edge, smooth},
    zip::zip,
};

/// Grows or shrinks by single voxels of the outline; the strength is the number of steps.
///
/// In every step the voxels just outside (with probability `growth_probability`) or just inside change with
/// `change_probability`. Then every voxel changes with `flip_probability` and the mask is smoothed: in 2-D by a Gaussian
/// of 5 x 5 pixels and standard deviation 2, in 3-D of standard deviation 1, cut at one half. Steps are voxels,
/// whatever the spacing. 0 steps leave the mask as it is, without flips and smoothing; an empty mask stays empty but
/// for flips that survive the smoothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Markov {
    /// Probability that a step grows, else it shrinks (`theta_1`). Default 0.8: too large an outline.
    pub growth_probability: f64,
    /// Probability that a voxel of the outline changes in a step (`theta_2`). Default 0.05.
    pub change_probability: f64,
    /// Probability that a voxel is flipped at the end (`theta_3`). Default 0.2.
    pub flip_probability: f64,
}

impl Default for Markov {
    fn default() -> Self {
        Self { growth_probability: 0.8, change_probability: 0.05, flip_probability: 0.2 }
    }
}

impl Simulator for Markov {
    fn name(&self) -> &'static str {
        "markov"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        StrengthScale {
            unit: StrengthUnit::Steps,
            steps: StrengthSteps::Whole,
            noise_grows: NoiseGrows::WithStrength,
        }
    }

    fn bracket(&self, shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 4.0 * shape[1].max(shape[2]) as f64]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![
            ("growth_probability", self.growth_probability, [0.0, 1.0]),
            ("change_probability", self.change_probability, [0.0, 1.0]),
            ("flip_probability", self.flip_probability, [0.0, 1.0]),
        ]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1e5]
    }

    fn apply(&self, mask: &Mask, _spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        // A severity may ask for more steps than are allowed.
        let allowed = strength.clamp(0.0, 1e5);
        let n_steps = allowed.round() as usize;
        if n_steps == 0 {
            return Noisy::unchanged(mask);
        }
        let mut steps = Stream::new(draw.seed, "noise.markov.steps", &[]);
        let mut edges = Stream::new(draw.seed, "noise.markov.edges", &[]);
        let mut bits = BitMask::of(mask);
        let mut n_grown = 0;
        for _ in 0..n_steps {
            let grows = steps.uniform() < self.growth_probability;
            n_grown += u32::from(grows);
            bits.flip_edge(!grows, || edges.uniform() < self.change_probability);
        }
        let drifted = bits.to_mask();
        let mask = smoothed(&flipped(&drifted, self.flip_probability, draw.seed));
        let params = vec![("steps", n_steps as f64), ("growing_steps", f64::from(n_grown))];
        Noisy { mask, params, clamped: allowed < strength }
    }
}

fn flipped(mask: &Mask, probability: f64, seed: u64) -> Mask {
    let mut stream = Stream::new(seed, "noise.markov.flips", &[]);
    mask.map(|&inside| inside ^ (stream.uniform() < probability))
}

fn smoothed(mask: &Mask) -> Mask {
    let image = mask.map(|&inside| f64::from(u8::from(inside)));
    let smoothed = if mask.n_slices() > 1 {
        smooth(&image, 1.0, 4, Edge::Nearest)
    } else {
        smooth(&image, 2.0, 2, Edge::Mirror)
    };
    // At exactly one half (up to rounding) a voxel stays as it is.
    zip(
        &smoothed,
        mask,
        |&value: &f64, &inside| {
            if (value - 0.5).abs() < 1e-9 { inside } else { value > 0.5 }
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::fs;

    use datasets::picture::read_mask;
    use rayon::prelude::*;

    use super::*;
    use crate::{
        noise::{
            Correlation, NoiseCase, NoiseSource, simulate,
            test_masks::{dice, draw, lungs},
        },
        published::published,
    };

    fn apply(simulator: Markov, mask: &Mask, n_steps: f64) -> Noisy {
        simulator.apply(mask, [1.0; 3], n_steps, &draw(3))
    }

    #[test]
    fn preference_decides_between_growing_and_shrinking() {
        let clean = lungs(0);
        let area = |growth_probability| {
            let simulator = Markov { growth_probability, ..Markov::default() };
            apply(simulator, &clean, 100.0).mask.area() as f64 / clean.area() as f64
        };
        assert!(area(0.9) > 1.15 && area(0.1) < 0.85, "{} {}", area(0.9), area(0.1));
    }

    #[test]
    fn certain_changes_are_plain_dilation_and_erosion() {
        let clean = lungs(1);
        let certain = |growth_probability| Markov {
            growth_probability,
            change_probability: 1.0,
            flip_probability: 0.0,
        };
        let grown = crate::morphology::dilate(&clean, 1.0, [1.0; 3]);
        assert_eq!(apply(certain(1.0), &clean, 1.0).mask, smoothed(&grown));
        let border = crate::distance::Border::Unknown;
        let shrunk = crate::morphology::erode(&clean, 1.0, [1.0; 3], border);
        assert_eq!(apply(certain(0.0), &clean, 1.0).mask, smoothed(&shrunk));
    }

    #[test]
    fn nothing_and_bad_options() {
        let clean = lungs(2);
        assert_eq!(apply(Markov::default(), &clean, 0.0).mask, clean);
        let quiet = Markov { flip_probability: 0.0, ..Markov::default() };
        let empty = Mask::filled([1, 8, 8], false);
        assert_eq!(apply(quiet, &empty, 50.0).mask, empty);
        let wrong = Markov { change_probability: 1.5, ..Markov::default() };
        assert!(wrong.check(10.0, [1, 8, 8], [1.0; 3]).is_err());
        assert!(quiet.check(-1.0, [1, 8, 8], [1.0; 3]).is_err());
        let ball = Mask::from_fn([9, 12, 12], |[slice, row, column]| {
            [slice as f64 - 4.0, row as f64 - 6.0, column as f64 - 6.0]
                .iter()
                .map(|x| x * x)
                .sum::<f64>()
                < 12.0
        });
        assert!(apply(quiet, &ball, 40.0).mask.area() > ball.area());
    }

    /// Mean Dice, its spread and the mean ratio of areas of pairs of masks.
    fn levels(pairs: &[(Mask, Mask)]) -> [f64; 3] {
        let scores: Vec<f64> = pairs.iter().map(|(clean, noisy)| dice(clean, noisy)).collect();
        let n_cases = pairs.len() as f64;
        let mean = scores.iter().sum::<f64>() / n_cases;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let ratios = pairs.iter().map(|(clean, noisy)| noisy.area() as f64 / clean.area() as f64);
        [mean, (squares / n_cases).sqrt(), ratios.sum::<f64>() / n_cases]
    }

    /// The 148 masks that the authors publish beside their code, against ours with the same settings.
    #[test]
    #[allow(clippy::print_stderr, reason = "both levels are worth reading")]
    fn lungs_of_the_authors_have_our_levels() {
        for (structure, n_steps, change_probability, their_dice) in [
            ("lung", 180.0, 0.05, 0.784),
            ("heart", 180.0, 0.05, 0.772),
            ("clavicle", 100.0, 0.02, 0.828),
        ] {
            let noisy = format!("{structure}_{n_steps}_0.8_{change_probability}_0.2");
            let folder = published(&format!("jsrt_scr_256/Datasets/JSRT/{noisy}"));
            let Some(folder) = folder else { return };
            let clean = folder.with_file_name(format!("{structure}_gts_train"));
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            let simulator = Markov { change_probability, ..Markov::default() };
            let source = NoiseSource {
                simulator: &simulator,
                correlation: Correlation::default(),
                seed: 0,
                name: "markov",
            };
            let (theirs, ours): (Vec<_>, Vec<_>) = names
                .par_iter()
                .map(|name| {
                    let clean = read_mask(&clean.join(name), 0).unwrap();
                    let noisy = read_mask(&folder.join(name), 0).unwrap();
                    let case =
                        NoiseCase { id: &name.to_string_lossy(), mask: &clean, spacing: [1.0; 3] };
                    let ours = simulate(&source, n_steps, &case).unwrap().mask;
                    ((clean.clone(), noisy), (clean, ours))
                })
                .unzip();
            assert_eq!(names.len(), 148);
            let ([mean, sd, ratio], found) = (levels(&theirs), levels(&ours));
            assert!((mean - their_dice).abs() < 6e-4, "{structure}: {mean}");
            eprintln!(
                "{structure}: Dice {mean:.4} sd {sd:.4}, area x {ratio:.4}; ours {found:.4?}"
            );
            // With 148 masks the standard error of each mean is below 0.003.
            assert!((found[0] - mean).abs() < 0.003 && (found[1] - sd).abs() < 0.003, "{found:?}");
            assert!((found[2] - ratio).abs() < 0.01, "{structure}: {found:?}, {ratio}");
        }
    }
}
