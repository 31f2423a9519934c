//! Sums behind the image-level uncertainties of UMA-Net, over whole maps in one pass.
//!
//! Source: arXiv 2304.00466v2, III-C: calibration `s^m = |y^m − σ^m|` of source m with label `y^m` and uncertainty
//! `σ^m`, consensus `s* = mean_m s^m` (Eq. 4), and the sums over pixels of `−s* ln s*`, of `s*` and of the variance
//! of the `s^m` (Eqs. 6 and 7). Numbers are f32; sums are those of `map_sums`, in f64 and in an order given by the
//! shapes alone.

use std::ops::Range;

use crate::{
    Isa,
    map_sums::{VectorSums, add_product, inside, load, parts, sum_parts, sum_vectors},
    math::{Logistic, ln},
    simd::{LaneTask, Lanes},
};

/// Smallest number under a logarithm.
const FLOOR: f32 = 1e-7;

/// Sums of a structure besides one for each source.
const FIXED: usize = 6;
const ENTROPY: usize = 0;
const CONSENSUS: usize = 1;
const VARIANCE: usize = 2;
const ENTROPY_INSIDE: usize = 3;
const CONSENSUS_INSIDE: usize = 4;
const INSIDE: usize = 5;

/// Which pixels have sums of their own beside those of all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ConsensusDomain {
    /// None; these sums stay zero.
    #[default]
    None,
    /// Those whose consensus is above a threshold.
    Above(f32),
    /// Those whose [`ConsensusMaps::inside`] is above zero.
    Inside,
}

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConsensusSums {
    /// Whether uncertainties are logits; else they are σ itself, in [0, 1].
    pub from_logits: bool,
    /// Whether `−(1 − s*) ln(1 − s*)` belongs to the entropy.
    pub both_classes: bool,
    /// Pixels with sums of their own.
    pub domain: ConsensusDomain,
    /// Structures interleaved in the maps, at least 1.
    pub n_structures: usize,
}

/// The maps of one case, all `[pixel, structure]` of one length.
#[derive(Clone, Debug)]
pub struct ConsensusMaps<'a> {
    /// Uncertainty per source; empty counts as σ = 0.
    pub uncertainty: Vec<&'a [f32]>,
    /// Labels per source, in [0, 1].
    pub labels: Vec<&'a [f32]>,
    /// Above zero inside the domain; empty unless [`ConsensusDomain::Inside`].
    pub inside: &'a [f32],
}

/// Sums over the pixels of a structure of a case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consensus {
    /// Σ of the entropy, in nats.
    pub entropy: f64,
    /// Σ `s*`.
    pub consensus: f64,
    /// Σ of the population variance of the `s^m`.
    pub variance: f64,
    /// The entropy over the domain.
    pub entropy_inside: f64,
    /// The consensus over the domain.
    pub consensus_inside: f64,
    /// Pixels of the domain.
    pub n_inside: f64,
    /// Σ `σ^m` per source.
    pub uncertainty: Vec<f64>,
}

impl ConsensusSums {
    /// The sums of each structure of each case, `[case][structure]`; all cases and parts of cases in parallel.
    ///
    /// A case without labels has zeros.
    ///
    /// # Panics
    /// When the maps of a case differ in length or number.
    pub fn run(&self, cases: &[ConsensusMaps<'_>]) -> Vec<Vec<Consensus>> {
        cases.iter().for_each(|case| self.check(case));
        let lens = cases.iter().map(|case| case.labels.first().map_or(0, |map| map.len()));
        let parts = parts(lens, self.n_structures);
        let n_sources = cases.iter().map(|case| case.labels.len()).max().unwrap_or(0);
        let isa = Isa::current();
        let n_sums = self.n_structures * (FIXED + n_sources);
        let sums = sum_parts(&parts, cases.len(), n_sums, |part, sums| {
            let maps = &cases[part.case];
            isa.run(Pass {
                sums_of: Sums { settings: self, maps },
                range: part.range.clone(),
                sums,
            });
        });
        cases.iter().zip(&sums).map(|(case, sums)| self.named(case, sums)).collect()
    }

    /// The bounds that the unsafe code relies on.
    fn check(&self, case: &ConsensusMaps<'_>) {
        let len = case.labels.first().map_or(0, |map| map.len());
        assert!(self.n_structures > 0 && len.is_multiple_of(self.n_structures), "whole pixels");
        assert!([0, case.labels.len()].contains(&case.uncertainty.len()), "one map a source");
        let mut maps = case.labels.iter().chain(&case.uncertainty);
        assert!(maps.all(|map| map.len() == len), "maps of one size");
        let expected = if self.domain == ConsensusDomain::Inside { len } else { 0 };
        assert_eq!(case.inside.len(), expected, "floats of the domain");
    }

    fn named(&self, case: &ConsensusMaps<'_>, sums: &[f64]) -> Vec<Consensus> {
        let rows = sums.chunks_exact(FIXED + case.labels.len()).take(self.n_structures);
        rows.map(|row| Consensus {
            entropy: row[ENTROPY],
            consensus: row[CONSENSUS],
            variance: row[VARIANCE],
            entropy_inside: row[ENTROPY_INSIDE],
            consensus_inside: row[CONSENSUS_INSIDE],
            n_inside: row[INSIDE],
            uncertainty: row[FIXED..].to_vec(),
        })
        .collect()
    }
}

/// The pass over a part of a case.
struct Pass<'a> {
    sums_of: Sums<'a>,
    range: Range<usize>,
    sums: &'a mut [f64],
}

impl LaneTask for Pass<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let n_structures = self.sums_of.settings.n_structures;
        // SAFETY: the caller's promise; the range lies in the maps, which have one length.
        unsafe { sum_vectors::<L>(&self.sums_of, n_structures, self.range, self.sums) }
    }
}

struct Sums<'a> {
    settings: &'a ConsensusSums,
    maps: &'a ConsensusMaps<'a>,
}

impl VectorSums for Sums<'_> {
    fn n_sums(&self) -> usize {
        FIXED + self.maps.labels.len()
    }

    #[inline(always)]
    unsafe fn add<L: Lanes, const FULL: bool>(&self, at: usize, count: usize, sums: *mut f32) {
        let ConsensusMaps { uncertainty, labels, inside: domain } = self.maps;
        // SAFETY: the caller promises the pixels, the sums and the instructions.
        unsafe {
            let (valid, one) = (inside::<L>(count), L::splat(1.0));
            let sum = |index: usize| sums.add(index * L::WIDTH);
            let (mut first, mut moved, mut squares) = (L::zero(), L::zero(), L::zero());
            for (source, label) in labels.iter().enumerate() {
                let mut calibration = load::<L, FULL>(label, at, count);
                if let Some(map) = uncertainty.get(source) {
                    let mut sigma = load::<L, FULL>(map, at, count);
                    if self.settings.from_logits {
                        sigma = Logistic::of(sigma).value;
                    }
                    add_product::<L, FULL>(sum(FIXED + source), sigma, one, valid);
                    calibration = calibration.sub(sigma);
                }
                let calibration = calibration.abs();
                // Deviations from the first map, so that close maps do not cancel.
                if source == 0 {
                    first = calibration;
                } else {
                    let deviation = calibration.sub(first);
                    moved = moved.add(deviation);
                    squares = deviation.mul_add(deviation, squares);
                }
            }
            let share = L::splat(1.0 / labels.len() as f32);
            let mean = moved.mul(share);
            let consensus = first.add(mean);
            let variance = squares.sub(mean.mul(moved)).mul(share);
            let mut entropy = entropy(consensus);
            if self.settings.both_classes {
                entropy = entropy.add(self::entropy(one.sub(consensus)));
            }
            add_product::<L, FULL>(sum(ENTROPY), entropy, one, valid);
            add_product::<L, FULL>(sum(CONSENSUS), consensus, one, valid);
            add_product::<L, FULL>(sum(VARIANCE), variance, one, valid);
            let gate = match self.settings.domain {
                ConsensusDomain::None => return,
                ConsensusDomain::Above(threshold) => consensus.sub(L::splat(threshold)),
                ConsensusDomain::Inside => load::<L, FULL>(domain, at, count),
            };
            let gate = one.where_positive(gate);
            add_product::<L, FULL>(sum(ENTROPY_INSIDE), entropy, gate, valid);
            add_product::<L, FULL>(sum(CONSENSUS_INSIDE), consensus, gate, valid);
            add_product::<L, FULL>(sum(INSIDE), one, gate, valid);
        }
    }
}

/// `−s ln s` for `s` in [0, 1].
#[inline(always)]
unsafe fn entropy<L: Lanes>(s: L) -> L {
    // SAFETY: the caller promises the instructions of `L`; in this order of arguments NaN stays NaN.
    unsafe { L::zero().sub(s).mul(ln(L::splat(FLOOR).max(s))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, on_all_sets};

    /// Largest relative error of a sum of a few thousand f32 terms.
    const SUM: f64 = 2e-6;

    fn expected(
        settings: &ConsensusSums,
        [uncertainty, labels]: [&[Vec<f32>]; 2],
        inside: &[f32],
    ) -> Vec<Consensus> {
        let (n, m) = (settings.n_structures, labels.len() as f64);
        let zero = Consensus { uncertainty: vec![0.0; labels.len()], ..Consensus::default() };
        let mut all = vec![zero; n];
        let entropy = |s: f64| -s * s.max(1e-7).ln();
        for place in 0..labels[0].len() {
            let sums = &mut all[place % n];
            let sigma = |map: &Vec<f32>| {
                let x = f64::from(map[place]);
                if settings.from_logits { 1.0 / (1.0 + (-x).exp()) } else { x }
            };
            let sigmas: Vec<f64> = uncertainty.iter().map(sigma).collect();
            sums.uncertainty.iter_mut().zip(&sigmas).for_each(|(sum, sigma)| *sum += sigma);
            let calibrations: Vec<f64> = (0..labels.len())
                .map(|at| f64::from(labels[at][place]) - sigmas.get(at).unwrap_or(&0.0))
                .map(f64::abs)
                .collect();
            let s = calibrations.iter().sum::<f64>() / m;
            let own = entropy(s) + if settings.both_classes { entropy(1.0 - s) } else { 0.0 };
            sums.entropy += own;
            sums.consensus += s;
            sums.variance += calibrations.iter().map(|c| (c - s).powi(2)).sum::<f64>() / m;
            let is_inside = match settings.domain {
                ConsensusDomain::None => false,
                ConsensusDomain::Above(threshold) => s > f64::from(threshold),
                ConsensusDomain::Inside => inside[place] > 0.0,
            };
            if is_inside {
                sums.entropy_inside += own;
                sums.consensus_inside += s;
                sums.n_inside += 1.0;
            }
        }
        all
    }

    fn check(settings: &ConsensusSums, n_pixels: usize, n_sources: u64, has_uncertainty: bool) {
        let len = n_pixels * settings.n_structures;
        let label =
            |seed| numbers(len, seed).iter().map(|x| f32::from(u8::from(*x > 0.1))).collect();
        let map = |seed| {
            let stretch = |x: &f32| if settings.from_logits { 12.0 * x } else { x + 0.5 };
            numbers(len, seed).iter().map(stretch).collect()
        };
        let labels: Vec<Vec<f32>> = (0..n_sources).map(label).collect();
        let n_maps = if has_uncertainty { n_sources } else { 0 };
        let uncertainty: Vec<Vec<f32>> = (0..n_maps).map(|m| map(50 + m)).collect();
        let inside = match settings.domain {
            ConsensusDomain::Inside => numbers(len, 99),
            _ => vec![],
        };
        let maps = ConsensusMaps {
            uncertainty: uncertainty.iter().map(Vec::as_slice).collect(),
            labels: labels.iter().map(Vec::as_slice).collect(),
            inside: &inside,
        };
        let expected = expected(settings, [&uncertainty, &labels], &inside);
        for found in on_all_sets(|| settings.run(&[maps.clone(), maps.clone()])) {
            assert_eq!(found[0], found[1]);
            for (found, expected) in found[0].iter().zip(&expected) {
                let numbers = |sums: &Consensus| {
                    let mut all = vec![sums.entropy, sums.consensus, sums.variance];
                    all.extend([sums.entropy_inside, sums.consensus_inside, sums.n_inside]);
                    all.extend(&sums.uncertainty);
                    all
                };
                for (found, expected) in numbers(found).into_iter().zip(numbers(expected)) {
                    let error = (found - expected).abs() / expected.abs().max(1e-2);
                    assert!(error < SUM, "{settings:?}: {found} and {expected}");
                }
            }
        }
    }

    #[test]
    fn sums_agree_with_the_definition() {
        for (n_pixels, n_sources, n_structures) in [(1, 1, 1), (37, 5, 3), (9001, 2, 1)] {
            for domain in
                [ConsensusDomain::None, ConsensusDomain::Above(0.4), ConsensusDomain::Inside]
            {
                for (from_logits, both_classes) in [(true, false), (false, true)] {
                    let settings =
                        ConsensusSums { from_logits, both_classes, domain, n_structures };
                    check(&settings, n_pixels, n_sources, from_logits);
                }
            }
        }
    }

    #[test]
    fn certain_maps_have_no_entropy_and_nan_shows() {
        let settings = ConsensusSums {
            from_logits: true,
            both_classes: true,
            domain: ConsensusDomain::None,
            n_structures: 1,
        };
        let run = |logit: f32| {
            let (uncertainty, labels) = ([logit; 21], [1.0; 21]);
            let maps = ConsensusMaps {
                uncertainty: vec![&uncertainty],
                labels: vec![&labels],
                inside: &[],
            };
            settings.run(&[maps])[0][0].clone()
        };
        for size in [200.0, 1e4] {
            assert_eq!((run(size).entropy, run(size).consensus), (0.0, 0.0));
            assert_eq!((run(-size).entropy, run(-size).consensus), (0.0, 21.0));
        }
        assert!(run(f32::NAN).entropy.is_nan() && run(f32::NAN).consensus.is_nan());
        let empty = ConsensusMaps { uncertainty: vec![], labels: vec![], inside: &[] };
        assert_eq!(settings.run(&[empty]), [[Consensus::default()]]);
    }
}
