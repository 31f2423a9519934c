//! The quality assessment module: calibration maps, image-level uncertainties and the high/low decision.
//!
//! Source: arXiv 2304.00466v2, III-C. With label `y^m` and uncertainty `σ^m` in [0, 1] of source m:
//! - Eq. 4 `s^m = |y^m − σ^m|`, `s* = mean_m s^m`
//! - Eq. 6 `u_a = Σ_i (−s*_i ln s*_i) / Σ_i s*_i`
//! - Eq. 7 `u_b = 4M Σ_i Var_m(s^m_i) / Σ_m Σ_i s^m_i`
//! - high quality if and only if `u_a < τ_a` and `u_b < τ_b`
//!
//! Ranges: `u_a` ≥ 0, and ln 2 when every map is ½; `u_b` is in [0, 4(1 − 1/M)] with the population variance,
//! not in [0, 1] as the paper says, and is not clamped.
//! `u_a` is strict on small objects: with 2 % foreground, `s* = 0.001` elsewhere gives 0.32. The domains narrow it.
//!
//! Deviation: a consensus whose mean is under 1e-7 counts as empty and confident (`u_a = u_b = 0`; Eqs. 6 and 7
//! are 0/0 there); with several structures the worst decides; the gate waits for a first epoch in which enough
//! cases pass ([`QualityConfig::start_share`]), because at the start every `u_a` is near ln 2 and the primary
//! head would learn nothing until the AUEM is confident, at small budgets never.

use kernels::{Consensus, ConsensusDomain, ConsensusMaps, ConsensusSums};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NetsError, real::Real};

/// Smallest number under a logarithm, and the mean consensus under which a case counts as empty.
const FLOOR: f64 = 1e-7;

/// What stands for the entropy in Eq. 6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntropyForm {
    /// `Σ(−s* ln s*) / Σ s*`, as printed.
    #[default]
    Foreground,
    /// The same with the base-2 logarithm.
    ForegroundLog2,
    /// Both terms: `Σ(−s* ln s* − (1−s*) ln(1−s*)) / Σ s*`.
    Binary,
    /// Mean binary entropy of a pixel of the domain in bits, in [0, 1].
    MeanBinaryBits,
}

/// The pixels over which Eq. 6 runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EntropyDomain {
    /// The whole image, as printed.
    #[default]
    All,
    /// Pixels within `radius_px` slices, rows and columns of the union of the labels; for small objects.
    Union {
        /// Chessboard radius in pixels, at most 4096.
        radius_px: usize,
    },
    /// Pixels with `s*` over `epsilon`.
    Consensus {
        /// In [0, 1).
        epsilon: f64,
    },
}

/// The variance in Eq. 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VarianceForm {
    /// Mean square deviation.
    #[default]
    Population,
    /// Times `M / (M − 1)`; 0 for one source.
    Sample,
}

/// Settings of the quality assessment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QualityConfig {
    /// Whether the gate exists; without it every case trains the primary head. Default true.
    pub enabled: bool,
    /// τ_a, in (0, 10]. Default 0.2 (the paper's on JSRT and RIGA; 0.15 on Duke).
    pub tau_a: f64,
    /// τ_b, in (0, 4]. Default 0.2 (the paper's on JSRT and RIGA; 0.1 on Duke).
    pub tau_b: f64,
    /// Form of Eq. 6. Default as printed.
    pub entropy: EntropyForm,
    /// Domain of Eq. 6. Default the whole image.
    pub domain: EntropyDomain,
    /// Variance of Eq. 7. Default population.
    pub variance: VarianceForm,
    /// First epoch in which the gate may act; before, every case is high. Default 0.
    pub start_epoch: usize,
    /// The gate acts only after an epoch in which this share of cases would have passed; in [0, 1].
    /// 0 is the paper to the letter, with which a net without auxiliary head never starts. Default 0.5.
    pub start_share: f64,
}

impl Default for QualityConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            tau_a: 0.2,
            tau_b: 0.2,
            entropy: EntropyForm::default(),
            domain: EntropyDomain::default(),
            variance: VarianceForm::default(),
            start_epoch: 0,
            start_share: 0.5,
        }
    }
}

impl QualityConfig {
    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        let good = self.tau_a > 0.0 && self.tau_a <= 10.0;
        NetsError::check("quality.tau_a", "a threshold in (0, 10]", self.tau_a, good)?;
        let good = self.tau_b > 0.0 && self.tau_b <= 4.0;
        NetsError::check("quality.tau_b", "a threshold in (0, 4]", self.tau_b, good)?;
        let good = (0.0..=1.0).contains(&self.start_share);
        NetsError::check("quality.start_share", "a share in [0, 1]", self.start_share, good)?;
        match self.domain {
            EntropyDomain::All => Ok(()),
            EntropyDomain::Union { radius_px } => {
                let field = "quality.domain.union.radius_px";
                NetsError::check(field, "at most 4096 pixels", radius_px, radius_px <= 4096)
            }
            EntropyDomain::Consensus { epsilon } => {
                let field = "quality.domain.consensus.epsilon";
                NetsError::check(
                    field,
                    "a number in [0, 1)",
                    epsilon,
                    (0.0..1.0).contains(&epsilon),
                )
            }
        }
    }

    /// Whether a case with `score` is of high quality; NaN is not.
    pub fn is_high(&self, score: &QualityScore) -> bool {
        score.u_a < self.tau_a && score.u_b < self.tau_b
    }

    /// Whether the gate acts in the next epoch after `passing`, the shares of passing cases of the epochs so far.
    pub fn acts(&self, passing: &[f64]) -> bool {
        let warm =
            self.start_share <= 0.0 || passing.iter().any(|&share| share >= self.start_share);
        self.enabled && passing.len() >= self.start_epoch && warm
    }
}

/// Image-level uncertainties of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QualityScore {
    /// Eq. 6 over the configured domain.
    pub u_a: f64,
    /// Eq. 6 over the whole image, whatever the domain.
    pub u_a_all: f64,
    /// Eq. 7.
    pub u_b: f64,
}

impl QualityScore {
    /// The larger of each number.
    pub fn worst(&self, other: &Self) -> Self {
        Self {
            u_a: self.u_a.max(other.u_a),
            u_a_all: self.u_a_all.max(other.u_a_all),
            u_b: self.u_b.max(other.u_b),
        }
    }
}

/// The maps of one case, all `[slice, row, column, structure]`.
#[derive(Clone, Debug)]
pub struct QualityMaps<'a, T> {
    /// σ per source, in [0, 1]; empty without AUEM, which counts as 0.
    pub uncertainty: Vec<&'a [T]>,
    /// Labels per source, in [0, 1].
    pub labels: Vec<&'a [f32]>,
    /// Their first axes, `[slice, row, column]`.
    pub size: [usize; 3],
    /// Structures interleaved in the maps.
    pub n_structures: usize,
}

impl<T: Real> QualityMaps<'_, T> {
    fn n_pixels(&self) -> usize {
        self.size.iter().product()
    }

    fn calibration(&self, source: usize, place: usize) -> f64 {
        let sigma = self.uncertainty.get(source).map_or(0.0, |map| map[place].wide());
        (f64::from(self.labels[source][place]) - sigma).abs()
    }
}

/// Calibration maps `s^m` per source and their mean `s*` (Eq. 4), each `[slice, row, column, structure]` in [0, 1].
pub fn calibration_maps<T: Real>(maps: &QualityMaps<'_, T>) -> (Vec<Vec<f32>>, Vec<f32>) {
    let len = maps.n_pixels() * maps.n_structures;
    let n_sources = maps.labels.len();
    let each = (0..n_sources)
        .map(|source| (0..len).map(|place| maps.calibration(source, place) as f32).collect())
        .collect();
    let mean = |place| {
        let sum: f64 = (0..n_sources).map(|source| maps.calibration(source, place)).sum();
        (sum / n_sources.max(1) as f64) as f32
    };
    (each, (0..len).map(mean).collect())
}

/// `u_a` and `u_b` of a case: the worst over its structures.
///
/// No pixel, no source or an empty consensus gives zeros.
pub fn score_case<T: Real>(config: &QualityConfig, maps: &QualityMaps<'_, T>) -> QualityScore {
    (0..maps.n_structures)
        .map(|structure| score_structure(config, maps, structure))
        .fold(QualityScore::default(), |worst, score| worst.worst(&score))
}

/// The assessment of a case as a step needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaseQuality {
    /// `u_a` and `u_b`, the worst over the structures.
    pub score: QualityScore,
    /// Mean σ per source over pixels and structures.
    pub uncertainty: Vec<f64>,
}

/// What [`score_case`] says of each of `maps`, whose uncertainties are logits and whose numbers of structures are the
/// same: vectorized in f32 with sums in f64, all cores also on a single case. Threads change no byte.
///
/// # Panics
/// When the maps of a case differ in length or number.
pub fn score_cases(config: &QualityConfig, maps: &[QualityMaps<'_, f32>]) -> Vec<CaseQuality> {
    let inside: Vec<Vec<f32>> = maps.iter().map(|maps| inside(config.domain, maps)).collect();
    let cases: Vec<ConsensusMaps<'_>> = maps
        .iter()
        .zip(&inside)
        .map(|(maps, inside)| ConsensusMaps {
            uncertainty: maps.uncertainty.clone(),
            labels: maps.labels.clone(),
            inside,
        })
        .collect();
    let sums = ConsensusSums {
        from_logits: true,
        both_classes: matches!(config.entropy, EntropyForm::Binary | EntropyForm::MeanBinaryBits),
        domain: match config.domain {
            EntropyDomain::All => ConsensusDomain::None,
            EntropyDomain::Union { .. } => ConsensusDomain::Inside,
            EntropyDomain::Consensus { epsilon } => ConsensusDomain::Above(epsilon as f32),
        },
        n_structures: maps.first().map_or(1, |maps| maps.n_structures),
    };
    let found = sums.run(&cases);
    maps.iter().zip(&found).map(|(maps, sums)| case_quality(config, maps, sums)).collect()
}

fn case_quality(
    config: &QualityConfig,
    maps: &QualityMaps<'_, f32>,
    structures: &[Consensus],
) -> CaseQuality {
    let n_sources = maps.labels.len();
    let sample = if config.variance == VarianceForm::Sample && n_sources > 1 {
        n_sources as f64 / (n_sources - 1) as f64
    } else {
        1.0
    };
    let n_pixels = maps.n_pixels() as f64;
    let form = config.entropy;
    let log2 = if form == EntropyForm::ForegroundLog2 || form == EntropyForm::MeanBinaryBits {
        std::f64::consts::LOG2_E
    } else {
        1.0
    };
    let score = |sums: &Consensus| {
        let uncertainty = |entropy: f64, consensus: f64, n_pixels: f64| {
            let sums = EntropySums { entropy: entropy * log2, consensus, n_pixels };
            sums.uncertainty(form)
        };
        let u_a_all = uncertainty(sums.entropy, sums.consensus, n_pixels);
        let u_a = match config.domain {
            EntropyDomain::All => u_a_all,
            _ => uncertainty(sums.entropy_inside, sums.consensus_inside, sums.n_inside),
        };
        let empty = sums.consensus <= FLOOR * n_pixels;
        let u_b = if empty { 0.0 } else { 4.0 * sample * sums.variance / sums.consensus };
        QualityScore { u_a, u_a_all, u_b }
    };
    let mean = |source: usize| {
        let sum: f64 = structures.iter().map(|sums| sums.uncertainty[source]).sum();
        sum / (n_pixels * structures.len() as f64).max(1.0)
    };
    let worst = |worst: QualityScore, sums: &Consensus| worst.worst(&score(sums));
    CaseQuality {
        score: structures.iter().fold(QualityScore::default(), worst),
        uncertainty: (0..maps.uncertainty.len()).map(mean).collect(),
    }
}

/// Ones inside the union of the labels widened as `domain` says; empty for other domains.
fn inside(domain: EntropyDomain, maps: &QualityMaps<'_, f32>) -> Vec<f32> {
    let EntropyDomain::Union { radius_px } = domain else { return Vec::new() };
    let mut inside = vec![0.0; maps.n_pixels() * maps.n_structures];
    for structure in 0..maps.n_structures {
        let near = near_union(maps, structure, radius_px);
        let places = inside.iter_mut().skip(structure).step_by(maps.n_structures);
        places.zip(near).for_each(|(place, near)| *place = f32::from(u8::from(near)));
    }
    inside
}

/// Sums of Eq. 6 over some pixels.
#[derive(Default)]
struct EntropySums {
    entropy: f64,
    consensus: f64,
    n_pixels: f64,
}

impl EntropySums {
    fn add(&mut self, form: EntropyForm, s: f64) {
        let clamped = s.clamp(FLOOR, 1.0 - FLOOR);
        let foreground = -s * clamped.max(s).ln();
        self.entropy += match form {
            EntropyForm::Foreground => foreground,
            EntropyForm::ForegroundLog2 => foreground * std::f64::consts::LOG2_E,
            EntropyForm::Binary => foreground - (1.0 - s) * (1.0 - clamped).ln(),
            EntropyForm::MeanBinaryBits => {
                (foreground - (1.0 - s) * (1.0 - clamped).ln()) * std::f64::consts::LOG2_E
            }
        };
        self.consensus += s;
        self.n_pixels += 1.0;
    }

    fn uncertainty(&self, form: EntropyForm) -> f64 {
        let n_pixels = self.n_pixels;
        if self.consensus <= FLOOR * n_pixels {
            return 0.0;
        }
        match form {
            EntropyForm::MeanBinaryBits => self.entropy / n_pixels,
            _ => self.entropy / self.consensus,
        }
    }
}

fn score_structure<T: Real>(
    config: &QualityConfig,
    maps: &QualityMaps<'_, T>,
    structure: usize,
) -> QualityScore {
    let n_sources = maps.labels.len();
    let n_pixels = maps.n_pixels();
    if n_sources == 0 || n_pixels == 0 {
        return QualityScore::default();
    }
    let near = match config.domain {
        EntropyDomain::Union { radius_px } => Some(near_union(maps, structure, radius_px)),
        _ => None,
    };
    let (mut all, mut domain) = (EntropySums::default(), EntropySums::default());
    let mut variance = 0.0;
    for pixel in 0..n_pixels {
        let place = pixel * maps.n_structures + structure;
        let (mut sum, mut squares) = (0.0, 0.0);
        for source in 0..n_sources {
            sum += maps.calibration(source, place);
        }
        let consensus = sum / n_sources as f64;
        for source in 0..n_sources {
            squares += (maps.calibration(source, place) - consensus).powi(2);
        }
        variance += squares / n_sources as f64;
        all.add(config.entropy, consensus);
        let inside = match config.domain {
            EntropyDomain::All => false,
            EntropyDomain::Union { .. } => near.as_ref().is_some_and(|near| near[pixel]),
            EntropyDomain::Consensus { epsilon } => consensus > epsilon,
        };
        if inside {
            domain.add(config.entropy, consensus);
        }
    }
    if config.variance == VarianceForm::Sample && n_sources > 1 {
        variance *= n_sources as f64 / (n_sources - 1) as f64;
    }
    let u_a_all = all.uncertainty(config.entropy);
    let u_a = if config.domain == EntropyDomain::All {
        u_a_all
    } else {
        domain.uncertainty(config.entropy)
    };
    let empty = all.consensus <= FLOOR * n_pixels as f64;
    let u_b = if empty { 0.0 } else { 4.0 * variance / all.consensus };
    QualityScore { u_a, u_a_all, u_b }
}

/// `[slice, row, column]`: whether some label has foreground within `radius` slices, rows and columns.
fn near_union<T: Real>(maps: &QualityMaps<'_, T>, structure: usize, radius: usize) -> Vec<bool> {
    let foreground = |pixel: usize| {
        let place = pixel * maps.n_structures + structure;
        maps.labels.iter().any(|label| label[place] >= 0.5)
    };
    let mut near: Vec<bool> = (0..maps.n_pixels()).map(foreground).collect();
    for axis in 0..3 {
        let stride = maps.size[axis + 1..].iter().product();
        near = widen(&near, (maps.size[axis], stride), radius);
    }
    near
}

/// Dilates every line of `len` pixels along an axis by `radius`; `stride` is that of the axis.
fn widen(mask: &[bool], (len, stride): (usize, usize), radius: usize) -> Vec<bool> {
    let mut wide = vec![false; mask.len()];
    let starts = (0..mask.len()).filter(|pixel| pixel / stride % len == 0);
    for start in starts {
        let mut filled = 0;
        for position in (0..len).filter(|position| mask[start + position * stride]) {
            let end = (position + radius + 1).min(len);
            for target in position.saturating_sub(radius).max(filled)..end {
                wide[start + target * stride] = true;
            }
            filled = end;
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    /// The worked example has six printed digits.
    const PRINTED: f64 = 6e-7;

    fn worked(config: &QualityConfig) -> QualityScore {
        let (first, second) = ([0.1, 0.1, 0.2, 0.3], [0.1, 0.2, 0.6, 0.5]);
        let maps = QualityMaps::<f64> {
            uncertainty: vec![&first, &second],
            labels: vec![&[1.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 0.0, 1.0]],
            size: [1, 2, 2],
            n_structures: 1,
        };
        let (each, consensus) = calibration_maps(&maps);
        assert_eq!(each, [[0.9, 0.1, 0.8, 0.3], [0.9, 0.2, 0.6, 0.5]]);
        assert_eq!(consensus, [0.9, 0.15, 0.7, 0.4]);
        score_case(config, &maps)
    }

    fn uniform(s: f32, label: f32) -> QualityScore {
        let map = vec![(label - s).abs(); 16];
        let labels = vec![label; 16];
        let maps = QualityMaps::<f32> {
            uncertainty: vec![&map, &map],
            labels: vec![&labels, &labels],
            size: [1, 4, 4],
            n_structures: 1,
        };
        score_case(&QualityConfig::default(), &maps)
    }

    #[test]
    fn the_worked_example_comes_out_in_every_form() {
        let plain = QualityConfig::default();
        let cases = [
            (EntropyForm::Foreground, 0.463061),
            (EntropyForm::ForegroundLog2, 0.668056),
            (EntropyForm::Binary, 0.944962),
            (EntropyForm::MeanBinaryBits, 0.732769),
        ];
        for (entropy, expected) in cases {
            let found = worked(&QualityConfig { entropy, ..plain });
            assert!((found.u_a - expected).abs() < PRINTED, "{entropy:?}: {}", found.u_a);
            assert_eq!(found.u_a, found.u_a_all);
        }
        for (variance, expected) in
            [(VarianceForm::Population, 0.041860), (VarianceForm::Sample, 0.083721)]
        {
            let found = worked(&QualityConfig { variance, ..plain });
            assert!((found.u_b - expected).abs() < PRINTED, "{variance:?}: {}", found.u_b);
        }
    }

    #[test]
    fn a_uniform_consensus_gives_its_own_logarithm() {
        for (s, expected) in [(0.5, std::f64::consts::LN_2), (0.9, 0.105361)] {
            let found = uniform(s, 1.0);
            assert!((found.u_a - expected).abs() < 1e-6, "{}", found.u_a);
            assert!(found.u_b.abs() < 1e-12);
        }
    }

    #[test]
    fn empty_and_full_consensus_are_confident() {
        let zeros = QualityScore::default();
        assert_eq!(uniform(0.0, 0.0), zeros);
        let full = uniform(1.0, 1.0);
        assert!(full.u_a.abs() < 1e-6 && full.u_b == 0.0, "{full:?}");
    }

    #[test]
    fn disagreement_without_auem_gives_the_bound_of_eq_7() {
        for (n_ones, expected) in [(1, 3.2), (2, 2.4), (3, 1.6), (4, 0.8), (5, 0.0)] {
            let labels: Vec<Vec<f32>> =
                (0..5).map(|m| vec![f32::from(u8::from(m < n_ones)); 4]).collect();
            let maps = QualityMaps::<f32> {
                uncertainty: vec![],
                labels: labels.iter().map(Vec::as_slice).collect(),
                size: [1, 2, 2],
                n_structures: 1,
            };
            let score = score_case(&QualityConfig::default(), &maps);
            assert!((score.u_b - expected).abs() < 1e-12, "{n_ones}: {}", score.u_b);
        }
    }

    #[test]
    fn domains_leave_out_the_far_background() {
        let (rows, columns) = (5, 6);
        let mut label = vec![0.0; 30];
        label[2 * columns + 1] = 1.0;
        let sigma: Vec<f32> = vec![0.05; 30];
        let maps = QualityMaps::<f32> {
            uncertainty: vec![&sigma],
            labels: vec![&label],
            size: [1, rows, columns],
            n_structures: 1,
        };
        let near = near_union(&maps, 0, 1);
        assert_eq!(near.iter().filter(|&&inside| inside).count(), 9);
        let along_slices = QualityMaps::<f32> { size: [rows, columns, 1], ..maps.clone() };
        assert_eq!(near_union(&along_slices, 0, 1), near);
        assert!(near[columns] && near[3 * columns + 2] && !near[0] && !near[2 * columns + 3]);
        let at = |domain| score_case(&QualityConfig { domain, ..QualityConfig::default() }, &maps);
        let all = at(EntropyDomain::All);
        let union = at(EntropyDomain::Union { radius_px: 1 });
        let object = at(EntropyDomain::Consensus { epsilon: 0.5 });
        assert!(object.u_a < union.u_a && union.u_a < all.u_a);
        assert!((object.u_a + 0.95f64.ln()).abs() < 1e-6);
        assert_eq!((union.u_a_all, union.u_b), (all.u_a, all.u_b));
    }

    #[test]
    fn the_worst_structure_decides() {
        let sigma: Vec<f32> = [0.01, 0.4].repeat(4);
        let labels: Vec<f32> = vec![1.0; 8];
        let maps = QualityMaps::<f32> {
            uncertainty: vec![&sigma],
            labels: vec![&labels],
            size: [1, 2, 2],
            n_structures: 2,
        };
        let config = QualityConfig::default();
        let score = score_case(&config, &maps);
        assert!((score.u_a + 0.6f64.ln()).abs() < 1e-6);
        assert!(!config.is_high(&score));
        assert!(!config.is_high(&QualityScore { u_a: f64::NAN, ..score }));
    }

    #[test]
    fn the_vectorized_version_agrees_with_the_plain_one_in_every_form() {
        let (size, n_structures) = ([2, 5, 7], 2);
        let wave = |seed: f32| (0..140).map(move |at| (at as f32 * 0.7 + seed).sin());
        let logits: Vec<Vec<f32>> =
            (0..3_u8).map(|m| wave(f32::from(m)).map(|x| 4.0 * x).collect()).collect();
        let sigma: Vec<Vec<f32>> =
            logits.iter().map(|map| map.iter().map(|&x| kernels::sigmoid(x)).collect()).collect();
        let labels: Vec<Vec<f32>> = (0..3_u8)
            .map(|m| wave(f32::from(m) / 4.0).map(|x| f32::from(u8::from(x > 0.9))).collect())
            .collect();
        let slices = |maps: &'static [Vec<f32>]| maps.iter().map(Vec::as_slice).collect();
        let maps = |uncertainty: Vec<Vec<f32>>| QualityMaps::<f32> {
            uncertainty: slices(Vec::leak(uncertainty)),
            labels: slices(Vec::leak(labels.clone())),
            size,
            n_structures,
        };
        let (from_logits, from_sigma) = (maps(logits), maps(sigma.clone()));
        let domains = [
            EntropyDomain::All,
            EntropyDomain::Union { radius_px: 1 },
            EntropyDomain::Consensus { epsilon: 0.4 },
        ];
        let forms = [
            (EntropyForm::Foreground, VarianceForm::Population),
            (EntropyForm::ForegroundLog2, VarianceForm::Sample),
            (EntropyForm::Binary, VarianceForm::Population),
            (EntropyForm::MeanBinaryBits, VarianceForm::Sample),
        ];
        for domain in domains {
            for (entropy, variance) in forms {
                let config =
                    QualityConfig { domain, entropy, variance, ..QualityConfig::default() };
                let plain = score_case(&config, &from_sigma);
                let fast = score_cases(&config, &[from_logits.clone(), from_logits.clone()]);
                assert_eq!(fast[0], fast[1]);
                for (fast, plain) in [
                    (fast[0].score.u_a, plain.u_a),
                    (fast[0].score.u_a_all, plain.u_a_all),
                    (fast[0].score.u_b, plain.u_b),
                ] {
                    assert!((fast - plain).abs() < 3e-6, "{config:?}: {fast} and {plain}");
                }
                let mean = sigma[1].iter().sum::<f32>() / 140.0;
                assert!((fast[0].uncertainty[1] - f64::from(mean)).abs() < 1e-5);
            }
        }
        let none = QualityMaps { uncertainty: vec![], ..from_logits };
        let config = QualityConfig::default();
        let (fast, plain) =
            (score_cases(&config, std::slice::from_ref(&none)), score_case(&config, &none));
        assert!((fast[0].score.u_b - plain.u_b).abs() < 1e-6 && fast[0].uncertainty.is_empty());
    }

    #[test]
    fn the_gate_waits_for_its_epoch_and_its_share() {
        let config = QualityConfig { start_epoch: 2, ..QualityConfig::default() };
        assert!(!config.acts(&[]) && !config.acts(&[0.9]) && config.acts(&[0.9, 0.1]));
        assert!(!config.acts(&[0.1, 0.2, 0.49]) && config.acts(&[0.1, 0.2, 0.5, 0.0]));
        let literal = QualityConfig { start_share: 0.0, ..QualityConfig::default() };
        assert!(literal.acts(&[]));
        assert!(!QualityConfig { enabled: false, ..literal }.acts(&[]));
    }

    #[test]
    fn ranges_are_checked() {
        let good = QualityConfig::default();
        assert!(good.validate().is_ok());
        for bad in [
            QualityConfig { tau_a: 0.0, ..good },
            QualityConfig { tau_b: f64::NAN, ..good },
            QualityConfig { start_share: 1.1, ..good },
            QualityConfig { domain: EntropyDomain::Consensus { epsilon: 1.0 }, ..good },
            QualityConfig { domain: EntropyDomain::Union { radius_px: 5000 }, ..good },
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
    }
}
