//! Annotation source with an unsteady hand: the outline wanders in and out by a smooth random field.
//!
//! Source: Gaussian random fields as errors of outlines (Le et al. 2016, GPSSI; Nordstrom et al., arXiv 2304.04116).
//! Deviation: the form, `phi + amplitude * (bias + field) < 0` with the signed distance `phi`, is ours.
//! Randomness: one normal number a node of a lattice from a stream of the case; none depends on the strength.
//! Cost: two distance transforms and a weighted sum of a few nodes a voxel and axis; the same in 2-D and 3-D.

use datasets::{Grid, Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale, shorter_side,
};
use crate::{fusion::signed_distance, zip::zip};

/// Lattice nodes beyond the image, and how far a node reaches, in lattice steps.
const REACH: f64 = 4.0;

/// Most nodes along an axis.
const MAX_NODES: f64 = 1e4;

/// Moves the outline by a random field; the strength is the standard deviation of the move in the unit of the spacing.
///
/// The field has mean `bias`, standard deviation 1 and correlation `exp(-d^2 / (2 l^2))` at distance `d`, with `l` the
/// `correlation_length`. Strength 0 leaves the mask as it is; thin parts break and holes close where the field is
/// large enough; an empty mask stays empty and a full one full.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrfBoundary {
    /// Distance over which the hand stays on one side, in the unit of the spacing, above 0. Default 12.
    pub correlation_length: f64,
    /// Mean move as a multiple of the strength: negative draws too much, positive too little. Default 0.
    pub bias: f64,
}

impl Default for GrfBoundary {
    fn default() -> Self {
        Self { correlation_length: 12.0, bias: 0.0 }
    }
}

impl Simulator for GrfBoundary {
    fn name(&self) -> &'static str {
        "grf_boundary"
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

    fn options(&self, shape: [usize; 3], spacing: [f64; 3]) -> Vec<NoiseOption> {
        let longest = (0..3).map(|axis| shape[axis] as f64 * spacing[axis]).fold(0.0, f64::max);
        let shortest = (longest / MAX_NODES).max(f64::MIN_POSITIVE);
        vec![
            ("correlation_length", self.correlation_length, [shortest, f64::MAX]),
            ("bias", self.bias, [-10.0, 10.0]),
        ]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        if strength <= 0.0 || mask.values().is_empty() {
            return Noisy::unchanged(mask);
        }
        let field = random_field(mask.shape(), spacing, self.correlation_length, draw.seed);
        // Distances are between centres: half a step less is the distance to the outline.
        let extended = (0..3).filter(|&axis| mask.shape()[axis] > 1).map(|axis| spacing[axis]);
        let half = 0.5 * extended.fold(f64::INFINITY, f64::min).min(f64::MAX);
        let distances = signed_distance(mask, spacing);
        let noisy = zip(&distances, &field, |&distance: &f64, &field: &f64| {
            distance - half.copysign(distance) + strength * (self.bias + field) < 0.0
        });
        let mean = field.values().iter().sum::<f64>() / field.values().len() as f64;
        let params = vec![("amplitude", strength), ("mean_of_field", mean)];
        Noisy { mask: noisy, params, clamped: false }
    }
}

/// A Gaussian random field of mean 0, standard deviation 1 and correlation `exp(-d^2 / (2 l^2))`.
///
/// White noise on a lattice of step `l / sqrt(2)` is spread by a Gaussian of that width; weights are scaled so that
/// their squares sum to 1 for every voxel, axis by axis.
fn random_field(shape: [usize; 3], spacing: [f64; 3], length: f64, seed: u64) -> Grid<f64> {
    let step = length * std::f64::consts::FRAC_1_SQRT_2;
    let weights = [0, 1, 2].map(|axis| lattice_weights(shape[axis], spacing[axis], step));
    let n_nodes = weights.each_ref().map(|weights| weights.n_nodes);
    let mut stream = Stream::new(seed, "noise.grf_boundary", &[]);
    let mut field = Grid::from_fn(n_nodes, |_| stream.normal());
    for (axis, weights) in weights.iter().enumerate() {
        field = weights.spread(&field, axis);
    }
    field
}

/// For every voxel along an axis the first node that reaches it and the weights of that one and the next.
struct LatticeWeights {
    n_nodes: usize,
    voxels: Vec<(usize, Vec<f64>)>,
}

fn lattice_weights(length: usize, spacing: f64, step: f64) -> LatticeWeights {
    if length == 1 {
        return LatticeWeights { n_nodes: 1, voxels: vec![(0, vec![1.0])] };
    }
    let n_reached = (2.0 * REACH) as usize + 1;
    let last = (length - 1) as f64 * spacing / step;
    let n_nodes = last as usize + n_reached + 1;
    let voxels = (0..length).map(|voxel| {
        // Place among the nodes, of which `REACH` lie before the image.
        let place = voxel as f64 * spacing / step + REACH;
        let first = (place - REACH).floor() as usize;
        let weight = |node: usize| (-0.5 * ((first + node) as f64 - place).powi(2)).exp();
        let weights: Vec<f64> = (0..n_reached).map(weight).collect();
        let norm = weights.iter().map(|weight| weight * weight).sum::<f64>().sqrt();
        (first, weights.into_iter().map(|weight| weight / norm).collect())
    });
    LatticeWeights { n_nodes, voxels: voxels.collect() }
}

impl LatticeWeights {
    /// Replaces the nodes along an axis by voxels.
    fn spread(&self, field: &Grid<f64>, axis: usize) -> Grid<f64> {
        let mut shape = field.shape();
        let stride: usize = shape[axis + 1..].iter().product();
        let n_nodes = shape[axis];
        shape[axis] = self.voxels.len();
        let mut spread = Grid::filled(shape, 0.0);
        let blocks = field.values().chunks_exact(n_nodes * stride);
        let targets = spread.values_mut().chunks_exact_mut(self.voxels.len() * stride);
        for (block, target) in blocks.zip(targets) {
            for ((first, weights), line) in self.voxels.iter().zip(target.chunks_exact_mut(stride))
            {
                for (node, weight) in weights.iter().enumerate() {
                    let nodes = &block[(first + node) * stride..][..stride];
                    for (sum, value) in line.iter_mut().zip(nodes) {
                        *sum += weight * value;
                    }
                }
            }
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{dice, disc, draw, lungs};

    fn noisy(simulator: GrfBoundary, mask: &Mask, strength: f64, seed: u64) -> Mask {
        simulator.apply(mask, [1.0; 3], strength, &draw(seed)).mask
    }

    #[test]
    fn fields_have_the_moments_they_say() {
        let (length, n_seeds) = (5.0, 600);
        let [mut mean, mut square, mut product] = [0.0; 3];
        for seed in 0..n_seeds {
            let field = random_field([1, 12, 17], [1.0, 1.0, 0.5], length, seed);
            let [here, there] = [field.get([0, 0, 2]), field.get([0, 3, 10])];
            mean += here;
            square += here * here;
            product += here * there;
        }
        let n = f64::from(n_seeds as u32);
        let expected = (-0.5 * (3.0_f64.powi(2) + 4.0_f64.powi(2)) / length.powi(2)).exp();
        let found = [mean / n, square / n, product / n];
        for (found, expected) in found.into_iter().zip([0.0, 1.0, expected]) {
            assert!((found - expected).abs() < 0.13, "{found} instead of {expected}");
        }
    }

    #[test]
    fn more_amplitude_is_a_worse_mask() {
        let strengths = [0.0, 1.0, 3.0, 6.0, 12.0];
        let means = strengths.map(|strength| {
            let scores = (0..40).map(|seed| {
                let clean = lungs(seed as usize);
                dice(&clean, &noisy(GrfBoundary::default(), &clean, strength, seed))
            });
            scores.sum::<f64>() / 40.0
        });
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1] + 0.02), "{means:?}");
    }

    #[test]
    fn long_correlations_scale_and_bias_draws_too_much_or_too_little() {
        let clean = disc(64, [32.0, 32.0], 14.0);
        let straight = GrfBoundary { correlation_length: 1e6, bias: -10.0 };
        let grown = noisy(straight, &clean, 0.4, 5);
        let expected = disc(64, [32.0, 32.0], 18.0).area() as f64;
        assert!((grown.area() as f64 / expected - 1.0).abs() < 0.12, "{}", grown.area());
        let less = GrfBoundary { bias: 1.0, ..GrfBoundary::default() };
        assert!(noisy(less, &clean, 2.0, 5).area() < clean.area());
    }

    #[test]
    fn empty_full_flat_and_bad_input() {
        let simulator = GrfBoundary::default();
        for value in [false, true] {
            let mask = Mask::filled([1, 9, 9], value);
            assert_eq!(noisy(simulator, &mask, 3.0, 1), mask);
        }
        let pixel = Mask::filled([1, 1, 1], true);
        assert_eq!(noisy(simulator, &pixel, 3.0, 1), pixel);
        let ball = Mask::from_fn([8, 16, 16], |[slice, row, column]| {
            (slice as f64 - 4.0).powi(2) * 4.0
                + (row as f64 - 8.0).powi(2)
                + (column as f64 - 8.0).powi(2)
                < 36.0
        });
        let found = simulator.apply(&ball, [2.0, 1.0, 1.0], 1.5, &draw(2)).mask;
        assert!(dice(&ball, &found) > 0.6 && found != ball);
        let wrong = GrfBoundary { correlation_length: 0.0, bias: 0.0 };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(simulator.check(f64::NAN, [1, 9, 9], [1.0; 3]).is_err());
    }
}
