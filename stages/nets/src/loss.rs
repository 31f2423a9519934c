//! The loss of UMA-Net with its gradients, from logits, one case at a time.
//!
//! Source: arXiv 2304.00466v2. With prediction `p = sigmoid(x)`, uncertainty `σ^m = sigmoid(u^m)` of source m,
//! label `y^m`, weight `w = e^(−kσ)`, M sources and N pixels:
//! - Eq. 1 `L_WCE = 1/(MN) Σ_m Σ_i [w CE(p, y) + ½σ]`
//! - Eq. 3 `L_WDice = 1/M Σ_m Σ_i [w (p − y)² / (Σp² + Σy² + ε) + ½σ/N]` (the denominator is not weighted)
//! - Eq. 5 `L_C = 1/(MN) Σ_m Σ_i (s^m − s*)²`, `s^m = |y^m − σ^m|`, `s* = mean_m s^m` (Eq. 4)
//! - Eq. 8 `L = L_WCE + λ L_WDice + α L_C`
//!
//! Structures are separate sigmoids; each has its own loss, and the case has their mean.
//! The ½σ stands in Eq. 1 and in Eq. 3, so it counts 1 + λ times; that is what the paper prints.
//! σ and p come from different networks, and no path leads from one to the other: detaching either in the
//! gradient of the other would change nothing, so there is no such switch.
//! Deviation: ε = 1e-6 and k are ours (the paper: 0 and 1); without AUEM `w = 1`, `σ = 0`.
//!
//! Steps run [`losses_of_batch`], vectorized in f32 with sums in f64; [`loss_of_case`] is the same in plain f64, the
//! measure of all other versions.

use kernels::{LossCase, UmaLoss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    NetsError,
    real::{Real, sigmoid},
};

/// What the AUEM's sigmoid stands for in Eqs. 1 and 3; calibration maps always use the sigmoid itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UncertaintyRange {
    /// σ is the sigmoid, in [0, 1], as in the paper; weights lie in [0.368, 1].
    #[default]
    Sigmoid,
    /// σ is `τ (2 · sigmoid − 1)`, in [−τ, τ], as in UMNet (Wang et al., CVPR 2022).
    Symmetric {
        /// Half the width of the range, in (0, 10].
        tau: f64,
    },
}

impl UncertaintyRange {
    fn value(self, q: f64) -> f64 {
        match self {
            Self::Sigmoid => q,
            Self::Symmetric { tau } => tau * (2.0 * q - 1.0),
        }
    }

    fn slope(self) -> f64 {
        match self {
            Self::Sigmoid => 1.0,
            Self::Symmetric { tau } => 2.0 * tau,
        }
    }
}

/// Settings of Eqs. 1, 3 and 8.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// λ of Eq. 8, in [0, 100]; 0 switches the Dice term off. Default 1 (the paper's).
    pub lambda: f64,
    /// k in `w = e^(−kσ)`, in [0, 10], and at most 80/τ with a symmetric range. Default 1 (Eq. 1).
    pub weight_temperature: f64,
    /// Range of σ. Default the sigmoid (Eq. 1).
    pub uncertainty_range: UncertaintyRange,
    /// ε in the denominator of Eq. 3, in [0, 1]. Default 1e-6: an empty label with an empty prediction costs 0.
    pub dice_epsilon: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            lambda: 1.0,
            weight_temperature: 1.0,
            uncertainty_range: UncertaintyRange::Sigmoid,
            dice_epsilon: 1e-6,
        }
    }
}

impl LossConfig {
    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        let Self { lambda, weight_temperature, uncertainty_range, dice_epsilon } = *self;
        let within = |value: f64, end: f64| (0.0..=end).contains(&value);
        NetsError::check("loss.lambda", "a number in [0, 100]", lambda, within(lambda, 100.0))?;
        let good = within(weight_temperature, 10.0);
        NetsError::check(
            "loss.weight_temperature",
            "a number in [0, 10]",
            weight_temperature,
            good,
        )?;
        NetsError::check(
            "loss.dice_epsilon",
            "a number in [0, 1]",
            dice_epsilon,
            within(dice_epsilon, 1.0),
        )?;
        if let UncertaintyRange::Symmetric { tau } = uncertainty_range {
            let good = tau > 0.0 && tau <= 10.0;
            NetsError::check(
                "loss.uncertainty_range.symmetric.tau",
                "a number in (0, 10]",
                tau,
                good,
            )?;
            let (field, power) = ("loss.weight_temperature", weight_temperature * tau);
            NetsError::check(field, "at most 80 / tau, or weights overflow", power, power <= 80.0)?;
        }
        Ok(())
    }
}

/// The maps of one case, all `[slice, row, column, structure]`.
#[derive(Clone, Debug)]
pub struct LossMaps<'a, T> {
    /// Logits of the predictor.
    pub prediction: &'a [T],
    /// Logits of the AUEM per source; empty without AUEM.
    pub uncertainty: Vec<&'a [T]>,
    /// Labels per source, in [0, 1].
    pub labels: Vec<&'a [f32]>,
}

/// Where the gradients of one case go, shaped as its logits. They are overwritten.
#[derive(Debug)]
pub struct LossGradients<'a, T> {
    /// With respect to [`LossMaps::prediction`].
    pub prediction: &'a mut [T],
    /// With respect to [`LossMaps::uncertainty`]; empty without AUEM.
    pub uncertainty: Vec<&'a mut [T]>,
}

/// Values of the terms of Eq. 8; dimensionless, in nats where they are entropies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LossTerms {
    /// `L_WCE`, Eq. 1.
    pub cross_entropy: f64,
    /// `L_WDice`, Eq. 3, without λ.
    pub dice: f64,
    /// `L_C`, Eq. 5, without α.
    pub consistency: f64,
    /// `L`, Eq. 8.
    pub total: f64,
}

impl From<kernels::LossValues> for LossTerms {
    fn from(values: kernels::LossValues) -> Self {
        let kernels::LossValues { cross_entropy, dice, consistency, total } = values;
        Self { cross_entropy, dice, consistency, total }
    }
}

impl LossTerms {
    /// Adds `weight · other`.
    pub(crate) fn add(&mut self, other: &Self, weight: f64) {
        self.cross_entropy += weight * other.cross_entropy;
        self.dice += weight * other.dice;
        self.consistency += weight * other.consistency;
        self.total += weight * other.total;
    }

    /// The first term that is NaN or infinite.
    pub fn not_finite(&self) -> Option<(&'static str, f64)> {
        let Self { cross_entropy, dice, consistency, total } = *self;
        [
            ("weighted cross-entropy", cross_entropy),
            ("weighted Dice", dice),
            ("consistency", consistency),
            ("total", total),
        ]
        .into_iter()
        .find(|(_, value)| !value.is_finite())
    }
}

/// Settings of one step: the fixed part and the weights of the moment.
#[derive(Clone, Copy, Debug)]
pub struct LossAt<'a> {
    /// The fixed part.
    pub config: &'a LossConfig,
    /// α of Eq. 8; 0 switches the consistency term off.
    pub alpha: f64,
    /// Factor on the gradients, for example one over the batch size; the values stay unscaled.
    pub gradient_scale: f64,
    /// Structures interleaved in the maps.
    pub n_structures: usize,
}

impl LossAt<'_> {
    /// The settings of the vectorized version.
    fn vectorized(&self) -> UmaLoss {
        let range = self.config.uncertainty_range;
        UmaLoss {
            cross_entropy: 1.0,
            dice: self.config.lambda,
            consistency: self.alpha,
            weight_temperature: self.config.weight_temperature,
            uncertainty_offset: range.value(0.0),
            uncertainty_slope: range.slope(),
            dice_epsilon: self.config.dice_epsilon,
            gradient_scale: self.gradient_scale,
            n_structures: self.n_structures,
        }
    }
}

/// Buffers of [`loss_of_case`], kept between steps.
#[derive(Debug, Default)]
pub struct LossScratch {
    prediction: Vec<f64>,
    uncertainty: Vec<f64>,
    weight: Vec<f64>,
}

/// Sums over the pixels of one structure that the gradients need.
struct Sums {
    numerator: Vec<f64>,
    denominator: Vec<f64>,
    terms: LossTerms,
}

/// Values of the loss of one case, and its gradients into `gradients`.
///
/// Lengths must agree with each other (checked in debug builds); no pixel gives all terms 0.
pub fn loss_of_case<T: Real>(
    at: &LossAt<'_>,
    maps: &LossMaps<'_, T>,
    scratch: &mut LossScratch,
    gradients: &mut LossGradients<'_, T>,
) -> LossTerms {
    debug_assert!(maps.labels.iter().all(|label| label.len() == maps.prediction.len()));
    debug_assert!(maps.uncertainty.is_empty() || maps.uncertainty.len() == maps.labels.len());
    let mut mean = LossTerms::default();
    let n_pixels = maps.prediction.len() / at.n_structures.max(1);
    if n_pixels == 0 || maps.labels.is_empty() {
        return mean;
    }
    for structure in 0..at.n_structures {
        let sums = forward(at, maps, structure, scratch);
        backward(at, maps, structure, (&sums, scratch), gradients);
        mean.add(&sums.terms, 1.0 / at.n_structures as f64);
    }
    mean
}

/// One pass over the maps of `structure`: values, and what the backward pass needs.
fn forward<T: Real>(
    at: &LossAt<'_>,
    maps: &LossMaps<'_, T>,
    structure: usize,
    scratch: &mut LossScratch,
) -> Sums {
    let n_sources = maps.labels.len();
    let n_pixels = maps.prediction.len() / at.n_structures;
    scratch.prediction.resize(n_pixels, 0.0);
    scratch.uncertainty.resize(n_pixels * n_sources, 0.0);
    scratch.weight.resize(n_pixels * n_sources, 1.0);
    let mut numerator = vec![0.0; n_sources];
    let mut denominator = vec![at.config.dice_epsilon; n_sources];
    let (mut squares, mut entropy, mut penalty, mut variance) = (0.0, 0.0, 0.0, 0.0);
    let mut calibration = vec![0.0; n_sources];
    for pixel in 0..n_pixels {
        let place = pixel * at.n_structures + structure;
        let x = maps.prediction[place].wide();
        let p = sigmoid(x);
        let tail = (-x.abs()).exp().ln_1p();
        scratch.prediction[pixel] = p;
        squares += p * p;
        for source in 0..n_sources {
            let y = f64::from(maps.labels[source][place]);
            let (mut q, mut weight) = (0.0, 1.0);
            if let Some(logits) = maps.uncertainty.get(source) {
                q = sigmoid(logits[place].wide());
                let sigma = at.config.uncertainty_range.value(q);
                weight = (-at.config.weight_temperature * sigma).exp();
                penalty += 0.5 * sigma;
            }
            scratch.uncertainty[pixel * n_sources + source] = q;
            scratch.weight[pixel * n_sources + source] = weight;
            entropy += weight * (x.max(0.0) - x * y + tail);
            numerator[source] += weight * (p - y) * (p - y);
            denominator[source] += y * y;
            calibration[source] = (y - q).abs();
        }
        let consensus = calibration.iter().sum::<f64>() / n_sources as f64;
        variance += calibration.iter().map(|s| (s - consensus) * (s - consensus)).sum::<f64>();
    }
    denominator.iter_mut().for_each(|sum| *sum += squares);
    let per_map = 1.0 / (n_sources * n_pixels) as f64;
    let ratio: f64 =
        numerator.iter().zip(&denominator).map(|(top, bottom)| quotient(*top, *bottom)).sum();
    let (cross_entropy, consistency) = ((entropy + penalty) * per_map, variance * per_map);
    let dice = ratio / n_sources as f64 + penalty * per_map;
    // Switched-off terms are left out and not multiplied by 0, which would keep a NaN.
    let mut total = cross_entropy;
    if at.config.lambda > 0.0 {
        total += at.config.lambda * dice;
    }
    if at.alpha > 0.0 && !maps.uncertainty.is_empty() {
        total += at.alpha * consistency;
    }
    Sums { numerator, denominator, terms: LossTerms { cross_entropy, dice, consistency, total } }
}

/// `top / bottom`, and 0 for 0 / 0 (empty label, prediction 0, ε = 0).
fn quotient(top: f64, bottom: f64) -> f64 {
    if bottom == 0.0 { 0.0 } else { top / bottom }
}

/// The second pass: derivatives of Eq. 8 by the logits of `structure`.
fn backward<T: Real>(
    at: &LossAt<'_>,
    maps: &LossMaps<'_, T>,
    structure: usize,
    (sums, scratch): (&Sums, &LossScratch),
    gradients: &mut LossGradients<'_, T>,
) {
    let n_sources = maps.labels.len();
    let n_pixels = scratch.prediction.len();
    let config = at.config;
    let scale = at.gradient_scale / at.n_structures as f64;
    let per_map = scale / (n_sources * n_pixels) as f64;
    let per_source = scale * config.lambda / n_sources as f64;
    let inverse: Vec<f64> = sums.denominator.iter().map(|&sum| quotient(1.0, sum)).collect();
    let shrink: f64 = sums.numerator.iter().zip(&inverse).map(|(top, inv)| top * inv * inv).sum();
    for pixel in 0..n_pixels {
        let place = pixel * at.n_structures + structure;
        let x = maps.prediction[place].wide();
        let tail = (-x.abs()).exp().ln_1p();
        let p = scratch.prediction[pixel];
        let own = pixel * n_sources..(pixel + 1) * n_sources;
        let (q, weight) = (&scratch.uncertainty[own.clone()], &scratch.weight[own]);
        let label = |source: usize| f64::from(maps.labels[source][place]);
        let consensus = (0..n_sources).map(|source| (label(source) - q[source]).abs()).sum::<f64>();
        let consensus = consensus / n_sources as f64;
        let (mut by_entropy, mut by_dice) = (0.0, -p * shrink);
        for source in 0..n_sources {
            let y = label(source);
            by_entropy += weight[source] * (p - y);
            by_dice += weight[source] * (p - y) * inverse[source];
            let Some(target) = gradients.uncertainty.get_mut(source) else { continue };
            let falling = config.weight_temperature * weight[source];
            let by_sigma = per_map * (0.5 - falling * (x.max(0.0) - x * y + tail))
                + per_source
                    * (0.5 / n_pixels as f64 - falling * (p - y) * (p - y) * inverse[source]);
            let side = if q[source] > y { 1.0 } else { -1.0 };
            let by_calibration =
                2.0 * at.alpha * per_map * ((y - q[source]).abs() - consensus) * side;
            let by_q = by_sigma * config.uncertainty_range.slope() + by_calibration;
            target[place] = T::narrow(by_q * q[source] * (1.0 - q[source]));
        }
        let by_p = 2.0 * per_source * by_dice;
        gradients.prediction[place] = T::narrow(per_map * by_entropy + by_p * p * (1.0 - p));
    }
}

/// One case of a batch, with its place for gradients.
#[derive(Debug)]
pub struct LossTask<'a> {
    /// Logits and labels.
    pub maps: LossMaps<'a, f32>,
    /// Where the gradients go.
    pub gradients: LossGradients<'a, f32>,
}

/// Losses of all cases of a batch, all cores also on a single case; the order of arithmetic does not depend on the
/// threads.
///
/// # Panics
/// When the maps of a case differ in length or number.
pub fn losses_of_batch(at: &LossAt<'_>, tasks: Vec<LossTask<'_>>) -> Vec<LossTerms> {
    let mut cases: Vec<LossCase<'_>> = tasks
        .into_iter()
        .map(|LossTask { maps, gradients }| LossCase {
            prediction: maps.prediction,
            uncertainty: maps.uncertainty,
            labels: maps.labels,
            prediction_gradient: gradients.prediction,
            uncertainty_gradients: gradients.uncertainty,
        })
        .collect();
    at.vectorized().run(&mut cases).into_iter().map(LossTerms::from).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    /// The worked example has six printed digits.
    const PRINTED: f64 = 6e-7;
    /// Central differences of step 1e-5 in f64: truncation and rounding both near 1e-10.
    const DIFFERENCE: f64 = 1e-8;

    fn logit(p: f64) -> f64 {
        (p / (1.0 - p)).ln()
    }

    /// A case in f64 with storage of its own.
    #[derive(Clone)]
    struct Case {
        prediction: Vec<f64>,
        uncertainty: Vec<Vec<f64>>,
        labels: Vec<Vec<f32>>,
        n_structures: usize,
    }

    impl Case {
        /// Four pixels, two sources; values by hand arithmetic in double precision.
        fn worked() -> Self {
            Self {
                prediction: [0.9, 0.2, 0.6, 0.4].map(logit).to_vec(),
                uncertainty: vec![
                    [0.1, 0.1, 0.2, 0.3].map(logit).to_vec(),
                    [0.1, 0.2, 0.6, 0.5].map(logit).to_vec(),
                ],
                labels: vec![vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 0.0, 0.0, 1.0]],
                n_structures: 1,
            }
        }

        fn run(&self, config: &LossConfig, alpha: f64) -> (LossTerms, Vec<f64>, Vec<Vec<f64>>) {
            let at = LossAt { config, alpha, gradient_scale: 1.0, n_structures: self.n_structures };
            let mut prediction = vec![f64::NAN; self.prediction.len()];
            let mut uncertainty: Vec<Vec<f64>> =
                self.uncertainty.iter().map(|map| vec![f64::NAN; map.len()]).collect();
            let maps = LossMaps {
                prediction: &self.prediction,
                uncertainty: self.uncertainty.iter().map(Vec::as_slice).collect(),
                labels: self.labels.iter().map(Vec::as_slice).collect(),
            };
            let mut gradients = LossGradients {
                prediction: &mut prediction,
                uncertainty: uncertainty.iter_mut().map(Vec::as_mut_slice).collect(),
            };
            let terms = loss_of_case(&at, &maps, &mut LossScratch::default(), &mut gradients);
            (terms, prediction, uncertainty)
        }

        fn numbers(&mut self) -> Vec<&mut f64> {
            self.prediction.iter_mut().chain(self.uncertainty.iter_mut().flatten()).collect()
        }

        /// All gradients against central differences of the total.
        fn check_gradients(&self, config: &LossConfig, alpha: f64) {
            let (_, prediction, uncertainty) = self.run(config, alpha);
            let ours: Vec<f64> =
                prediction.into_iter().chain(uncertainty.into_iter().flatten()).collect();
            for (idx, ours) in ours.into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut case = self.clone();
                    *case.numbers()[idx] += by;
                    case.run(config, alpha).0.total
                };
                let theirs = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((ours - theirs).abs() < DIFFERENCE, "{idx}: {ours} and {theirs}");
            }
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < PRINTED, "{found} and {expected}");
    }

    #[test]
    fn the_worked_example_comes_out() {
        let config = LossConfig { dice_epsilon: 0.0, ..LossConfig::default() };
        let (terms, ..) = Case::worked().run(&config, 1.0);
        close(terms.cross_entropy, 0.435070);
        close(terms.dice, 0.242895);
        close(terms.consistency, 0.005625);
        close(terms.total, 0.683590);
    }

    #[test]
    fn the_worked_gradients_of_the_cross_entropy_come_out() {
        let config = LossConfig { lambda: 0.0, ..LossConfig::default() };
        let case = Case::worked();
        let (.., uncertainty) = case.run(&config, 0.0);
        let printed =
            [[0.050583, 0.037261, 0.010221, 0.015196], [0.050583, 0.039663, -0.000359, -0.006970]];
        for source in 0..2 {
            for pixel in 0..4 {
                let q = sigmoid(case.uncertainty[source][pixel]);
                close(uncertainty[source][pixel] / (q * (1.0 - q)), printed[source][pixel]);
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences_under_every_switch() {
        let plain = LossConfig::default();
        let configs = [
            (plain, 1.0),
            (plain, 0.0),
            (LossConfig { lambda: 0.0, ..plain }, 0.3),
            (LossConfig { lambda: 2.5, weight_temperature: 1.7, ..plain }, 0.7),
            (
                LossConfig { uncertainty_range: UncertaintyRange::Symmetric { tau: 1.5 }, ..plain },
                1.0,
            ),
        ];
        for (config, alpha) in configs {
            Case::worked().check_gradients(&config, alpha);
            let mut bare = Case::worked();
            bare.uncertainty.clear();
            bare.check_gradients(&config, alpha);
            let mut baseline = bare.clone();
            baseline.labels.truncate(1);
            baseline.check_gradients(&config, alpha);
            let mut two = Case::worked();
            two.n_structures = 2;
            two.check_gradients(&config, alpha);
        }
    }

    #[test]
    fn two_structures_give_the_mean_of_their_losses() {
        let config = LossConfig::default();
        let mut both = Case::worked();
        both.n_structures = 2;
        let pick = |values: &[f64], first: usize| {
            values.iter().copied().skip(first).step_by(2).collect::<Vec<_>>()
        };
        let alone = |first: usize| {
            let case = Case {
                prediction: pick(&both.prediction, first),
                uncertainty: both.uncertainty.iter().map(|map| pick(map, first)).collect(),
                labels: both
                    .labels
                    .iter()
                    .map(|map| map.iter().copied().skip(first).step_by(2).collect())
                    .collect(),
                n_structures: 1,
            };
            case.run(&config, 0.5).0.total
        };
        let mean = (alone(0) + alone(1)) / 2.0;
        assert!((both.run(&config, 0.5).0.total - mean).abs() < 1e-15);
    }

    #[test]
    fn one_source_without_auem_is_plain_cross_entropy_and_dice() {
        let mut case = Case::worked();
        case.uncertainty.clear();
        case.labels.truncate(1);
        let (terms, ..) = case.run(&LossConfig { dice_epsilon: 0.0, ..LossConfig::default() }, 1.0);
        let entropy = -(0.9f64.ln() + 0.8f64.ln() + 0.6f64.ln() + 0.6f64.ln()) / 4.0;
        let dice = (0.01 + 0.04 + 0.16 + 0.16) / (0.81 + 0.04 + 0.36 + 0.16 + 2.0);
        assert!((terms.total - entropy - dice).abs() < 1e-12);
    }

    #[test]
    fn huge_logits_and_empty_or_full_labels_stay_finite() {
        for size in [40.0, 300.0, 3e4] {
            for label in [0.0, 1.0] {
                let mut case = Case::worked();
                case.numbers().into_iter().for_each(|x| *x = x.signum() * size);
                case.labels.iter_mut().flatten().for_each(|y| *y = label);
                let config = LossConfig { dice_epsilon: 0.0, ..LossConfig::default() };
                let (terms, prediction, uncertainty) = case.run(&config, 1.0);
                assert_eq!(terms.not_finite(), None, "{size} {label}");
                assert!(
                    prediction.iter().chain(uncertainty.iter().flatten()).all(|g| g.is_finite())
                );
            }
        }
        let mut empty = Case::worked();
        empty.prediction.fill(-800.0);
        empty.uncertainty.clear();
        empty.labels.iter_mut().flatten().for_each(|y| *y = 0.0);
        assert_eq!(empty.run(&LossConfig::default(), 1.0).0.total, 0.0);
    }

    /// The vectorized version of a case.
    fn vectorized(
        case: &Case,
        config: &LossConfig,
        alpha: f64,
    ) -> (LossTerms, Vec<f32>, Vec<Vec<f32>>) {
        let narrow = |map: &Vec<f64>| map.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let logits = narrow(&case.prediction);
        let estimates: Vec<Vec<f32>> = case.uncertainty.iter().map(narrow).collect();
        let mut prediction = vec![f32::NAN; logits.len()];
        let mut uncertainty = vec![prediction.clone(); estimates.len()];
        let maps = LossMaps {
            prediction: &logits,
            uncertainty: estimates.iter().map(Vec::as_slice).collect(),
            labels: case.labels.iter().map(Vec::as_slice).collect(),
        };
        let gradients = LossGradients {
            prediction: &mut prediction,
            uncertainty: uncertainty.iter_mut().map(Vec::as_mut_slice).collect(),
        };
        let n_structures = case.n_structures;
        let at = LossAt { config, alpha, gradient_scale: 1.0, n_structures };
        let terms = losses_of_batch(&at, vec![LossTask { maps, gradients }]);
        (terms[0], prediction, uncertainty)
    }

    #[test]
    fn the_vectorized_version_agrees_with_the_plain_one_under_every_switch() {
        let plain = LossConfig::default();
        let symmetric = UncertaintyRange::Symmetric { tau: 1.5 };
        let configs = [
            (plain, 1.0),
            (plain, 0.0),
            (LossConfig { lambda: 0.0, ..plain }, 0.3),
            (LossConfig { lambda: 2.5, weight_temperature: 1.7, dice_epsilon: 0.0, ..plain }, 0.7),
            (LossConfig { uncertainty_range: symmetric, ..plain }, 1.0),
        ];
        let mut bare = Case::worked();
        bare.uncertainty.clear();
        let two = Case { n_structures: 2, ..Case::worked() };
        for (config, alpha) in configs {
            for case in [&Case::worked(), &bare, &two] {
                let (terms, prediction, uncertainty) = case.run(&config, alpha);
                let (fast, fast_prediction, fast_uncertainty) = vectorized(case, &config, alpha);
                close(fast.cross_entropy, terms.cross_entropy);
                close(fast.dice, terms.dice);
                close(fast.consistency, terms.consistency);
                close(fast.total, terms.total);
                let gradients = prediction.iter().chain(uncertainty.iter().flatten());
                let fast = fast_prediction.iter().chain(fast_uncertainty.iter().flatten());
                fast.zip(gradients).for_each(|(&fast, &plain)| close(f64::from(fast), plain));
            }
        }
    }

    #[test]
    fn ranges_are_checked() {
        let good = LossConfig::default();
        assert!(good.validate().is_ok());
        for bad in [
            LossConfig { lambda: -1.0, ..good },
            LossConfig { weight_temperature: f64::NAN, ..good },
            LossConfig { dice_epsilon: 2.0, ..good },
            LossConfig { uncertainty_range: UncertaintyRange::Symmetric { tau: 0.0 }, ..good },
            LossConfig {
                weight_temperature: 9.0,
                uncertainty_range: UncertaintyRange::Symmetric { tau: 9.0 },
                ..good
            },
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
    }
}
