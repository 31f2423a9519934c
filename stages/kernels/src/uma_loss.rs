//! The loss of UMA-Net over whole maps, with its gradients, from logits: values in one pass, gradients in another.
//!
//! Source: arXiv 2304.00466v2. With prediction `p = sigmoid(x)`, uncertainty `q^m = sigmoid(u^m)` of source m,
//! `σ = offset + slope · q`, label `y^m`, weight `w = e^(−kσ)`, M sources and N pixels:
//! - Eq. 1 `1/(MN) Σ_m Σ_i [w CE(p, y) + ½σ]`
//! - Eq. 3 `1/M Σ_m Σ_i [w (p − y)² / (Σp² + Σy² + ε) + ½σ/N]`
//! - Eq. 5 `1/(MN) Σ_m Σ_i (s^m − s*)²`, `s^m = |y^m − q^m|`, `s* = mean_m s^m`
//!
//! and their weighted sum (Eq. 8). Without uncertainty maps `w = 1` and `σ = 0`; with one label that is binary
//! cross-entropy plus soft Dice, see [`bce_with_logits`] and [`soft_dice`].
//!
//! The Dice denominators must be known before any gradient, so there are two passes. The second computes
//! probabilities and weights again: that costs no more than keeping eight bytes a source and pixel. Numbers are f32;
//! sums are those of `map_sums`, in f64 and in an order given by the shapes alone.

use std::ops::Range;

use crate::{
    Isa,
    map_sums::{Part, VectorSums, add_product, inside, load, parts, store, sum_parts, sum_vectors},
    math::{Logistic, ShortExp, exp, ln_1p},
    parallel::{Scratch, SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// A Dice denominator under it counts as empty: its inverse would not fit a f32.
const EMPTY: f64 = 1e-30;

/// Sums of a structure besides two for each source.
const FIXED: usize = 4;
const SQUARES: usize = 0;
const ENTROPY: usize = 1;
const UNCERTAINTY: usize = 2;
const VARIANCE: usize = 3;

/// Weights of the terms, and the forms of σ and of the weights of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UmaLoss {
    /// Weight of Eq. 1 in the total; 0 leaves it out.
    pub cross_entropy: f64,
    /// Weight λ of Eq. 3; 0 leaves it out.
    pub dice: f64,
    /// Weight α of Eq. 5; 0 leaves it out.
    pub consistency: f64,
    /// k in `w = e^(−kσ)`; `kσ` must stay within ±80 or weights overflow.
    pub weight_temperature: f64,
    /// σ at `q = 0`; 0 in the paper.
    pub uncertainty_offset: f64,
    /// Slope of σ over q; 1 in the paper.
    pub uncertainty_slope: f64,
    /// ε in the denominator of Eq. 3; a denominator under 1e-30 gives 0.
    pub dice_epsilon: f64,
    /// Factor on the gradients; values stay unscaled.
    pub gradient_scale: f64,
    /// Structures interleaved in the maps, at least 1; each has a loss of its own and a case has their mean.
    pub n_structures: usize,
}

impl Default for UmaLoss {
    /// Eq. 8 as printed with λ = α = 1, and ε = 1e-6.
    fn default() -> Self {
        Self {
            cross_entropy: 1.0,
            dice: 1.0,
            consistency: 1.0,
            weight_temperature: 1.0,
            uncertainty_offset: 0.0,
            uncertainty_slope: 1.0,
            dice_epsilon: 1e-6,
            gradient_scale: 1.0,
            n_structures: 1,
        }
    }
}

/// The maps of one case, all `[pixel, structure]` of one length, and where their gradients go.
#[derive(Debug)]
pub struct LossCase<'a> {
    /// Logits of the prediction.
    pub prediction: &'a [f32],
    /// Logits of the uncertainty per source; empty without.
    pub uncertainty: Vec<&'a [f32]>,
    /// Labels per source, in [0, 1].
    pub labels: Vec<&'a [f32]>,
    /// Gradient of `prediction`, overwritten; empty where only values are wanted, of both kinds.
    pub prediction_gradient: &'a mut [f32],
    /// Gradients of `uncertainty`, overwritten.
    pub uncertainty_gradients: Vec<&'a mut [f32]>,
}

/// Values of the terms, each without its weight, and their weighted sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossValues {
    /// Eq. 1, in nats.
    pub cross_entropy: f64,
    /// Eq. 3.
    pub dice: f64,
    /// Eq. 5.
    pub consistency: f64,
    /// Eq. 8.
    pub total: f64,
}

impl UmaLoss {
    /// Values of each case, and its gradients into the places it brings; all cases and parts of cases in parallel.
    ///
    /// A case without pixels or without labels has zeros. A NaN in a map makes its terms NaN.
    ///
    /// # Panics
    /// When the maps of a case differ in length or number.
    pub fn run(&self, cases: &mut [LossCase<'_>]) -> Vec<LossValues> {
        cases.iter().for_each(|case| self.check(case));
        let lens = cases.iter().map(|case| match case.labels.len() {
            0 => 0,
            _ => case.prediction.len(),
        });
        let parts = parts(lens, self.n_structures);
        let n_sources = cases.iter().map(|case| case.labels.len()).max().unwrap_or(0);
        let n_sums = self.n_structures * (FIXED + 2 * n_sources);
        let isa = Isa::current();
        let sums = sum_parts(&parts, cases.len(), n_sums, |part, sums| {
            let maps = Maps::of(&cases[part.case]);
            isa.run(SumPass { loss: self, maps, range: part.range.clone(), sums });
        });
        let found: Vec<Found> =
            cases.iter().zip(&sums).map(|(case, sums)| self.finish(case, sums)).collect();
        self.gradients(cases, &parts, &found);
        found.into_iter().map(|found| found.values).collect()
    }

    /// The bounds that the unsafe code relies on.
    fn check(&self, case: &LossCase<'_>) {
        let len = case.prediction.len();
        assert!(self.n_structures > 0 && len.is_multiple_of(self.n_structures), "whole pixels");
        assert!(case.labels.iter().all(|map| map.len() == len), "labels of the size of the case");
        assert!(case.uncertainty.iter().all(|map| map.len() == len), "one uncertainty a pixel");
        assert!([0, case.labels.len()].contains(&case.uncertainty.len()), "one map a source");
        let (own, others) = (&case.prediction_gradient, &case.uncertainty_gradients);
        let wanted = if own.is_empty() { 0 } else { case.uncertainty.len() };
        assert!(own.is_empty() || own.len() == len, "one gradient a logit");
        assert!(others.len() == wanted || own.is_empty(), "one gradient a map");
        assert!(
            own.is_empty() || others.iter().all(|map| map.len() == len),
            "one gradient a logit"
        );
    }

    /// Values of a case, and what its gradients need of the sums.
    fn finish(&self, case: &LossCase<'_>, sums: &[f64]) -> Found {
        let n_sources = case.labels.len();
        let n_pixels = case.prediction.len() / self.n_structures;
        let mut found = Found::default();
        if n_sources == 0 || n_pixels == 0 {
            return found;
        }
        let per_map = 1.0 / (n_sources * n_pixels) as f64;
        let share = 1.0 / self.n_structures as f64;
        for sums in sums.chunks_exact(FIXED + 2 * n_sources).take(self.n_structures) {
            let (fixed, of_sources) = sums.split_at(FIXED);
            let (numerators, squares) = of_sources.split_at(n_sources);
            let penalty = if case.uncertainty.is_empty() {
                0.0
            } else {
                let all = self.uncertainty_offset / per_map;
                0.5 * (all + self.uncertainty_slope * fixed[UNCERTAINTY]) * per_map
            };
            let bottoms = squares.iter().map(|sum| fixed[SQUARES] + sum + self.dice_epsilon);
            let inverses: Vec<f64> =
                bottoms.map(|sum| if sum < EMPTY { 0.0 } else { 1.0 / sum }).collect();
            let pairs = || numerators.iter().zip(&inverses);
            let ratio: f64 = pairs().map(|(top, inverse)| top * inverse).sum();
            found.values.add(
                &LossValues {
                    cross_entropy: fixed[ENTROPY] * per_map + penalty,
                    dice: ratio / n_sources as f64 + penalty,
                    consistency: fixed[VARIANCE] * per_map,
                    total: 0.0,
                },
                share,
            );
            found.shrink.push(pairs().map(|(top, inverse)| top * inverse * inverse).sum());
            found.inverses.push(inverses);
        }
        found.values.total = self.total(&found.values, !case.uncertainty.is_empty());
        found
    }

    /// Eq. 8; terms without weight are left out and not multiplied by 0, which would keep a NaN.
    fn total(&self, values: &LossValues, has_uncertainty: bool) -> f64 {
        let alpha = if has_uncertainty { self.consistency } else { 0.0 };
        [
            (self.cross_entropy, values.cross_entropy),
            (self.dice, values.dice),
            (alpha, values.consistency),
        ]
        .into_iter()
        .filter(|(weight, _)| *weight > 0.0)
        .map(|(weight, value)| weight * value)
        .sum()
    }

    /// The second pass.
    fn gradients(&self, cases: &mut [LossCase<'_>], parts: &[Part], found: &[Found]) {
        let isa = Isa::current();
        let targets: Vec<Option<Targets>> = cases
            .iter_mut()
            .map(|case| {
                (!case.prediction_gradient.is_empty()).then(|| Targets {
                    prediction: SharedMut::new(case.prediction_gradient),
                    uncertainty: case
                        .uncertainty_gradients
                        .iter_mut()
                        .map(|map| SharedMut::new(map))
                        .collect(),
                })
            })
            .collect();
        for_each_task(parts.len(), |task| {
            let Part { case, range } = &parts[task];
            if let Some(targets) = &targets[*case] {
                let (maps, found) = (Maps::of(&cases[*case]), &found[*case]);
                isa.run(GradientPass { loss: self, maps, range: range.clone(), found, targets });
            }
        });
    }

    /// Factors of the gradients for `n_sources` maps of `n_pixels`.
    fn factors(&self, n_sources: usize, n_pixels: usize) -> Factors {
        let scale = self.gradient_scale / (self.n_structures * n_sources) as f64;
        let (entropy, dice) = (self.cross_entropy * scale / n_pixels as f64, self.dice * scale);
        let (k, slope) = (self.weight_temperature, self.uncertainty_slope);
        Factors {
            entropy: entropy as f32,
            dice: (2.0 * dice) as f32,
            penalty: (0.5 * slope * (entropy + dice / n_pixels as f64)) as f32,
            entropy_of_weight: (-k * slope * entropy) as f32,
            dice_of_weight: (-k * slope * dice) as f32,
            consistency: (2.0 * self.consistency * scale / n_pixels as f64) as f32,
        }
    }
}

impl LossValues {
    fn add(&mut self, other: &Self, weight: f64) {
        self.cross_entropy += weight * other.cross_entropy;
        self.dice += weight * other.dice;
        self.consistency += weight * other.consistency;
        self.total += weight * other.total;
    }
}

/// Values of a case, and per structure the inverse denominators of its sources and the pull of its own square.
#[derive(Default)]
struct Found {
    values: LossValues,
    inverses: Vec<Vec<f64>>,
    shrink: Vec<f64>,
}

struct Targets {
    prediction: SharedMut,
    uncertainty: Vec<SharedMut>,
}

/// Factors of the parts of the gradients.
#[derive(Clone, Copy)]
struct Factors {
    entropy: f32,
    dice: f32,
    penalty: f32,
    entropy_of_weight: f32,
    dice_of_weight: f32,
    consistency: f32,
}

/// The maps of a case, of one length.
struct Maps<'a> {
    prediction: &'a [f32],
    uncertainty: &'a [&'a [f32]],
    labels: &'a [&'a [f32]],
}

impl<'a> Maps<'a> {
    fn of(case: &'a LossCase<'_>) -> Self {
        Self { prediction: case.prediction, uncertainty: &case.uncertainty, labels: &case.labels }
    }
}

/// The first pass over a part of a case.
struct SumPass<'a> {
    loss: &'a UmaLoss,
    maps: Maps<'a>,
    range: Range<usize>,
    sums: &'a mut [f64],
}

impl LaneTask for SumPass<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let weights = self.loss.weights(!self.maps.uncertainty.is_empty());
        let (maps, n_structures) = (&self.maps, self.loss.n_structures);
        // SAFETY: the caller's promise; the range lies in the maps, which have one length.
        unsafe {
            match weights {
                Weights::Ones => {
                    let of = Weighed { maps, weights: Ones };
                    sum_vectors::<L>(&of, n_structures, self.range, self.sums);
                }
                Weights::Short(weights) => {
                    let of = Weighed { maps, weights };
                    sum_vectors::<L>(&of, n_structures, self.range, self.sums);
                }
                Weights::Long(weights) => {
                    let of = Weighed { maps, weights };
                    sum_vectors::<L>(&of, n_structures, self.range, self.sums);
                }
            }
        }
    }
}

/// The maps with their weights.
struct Weighed<'a, W> {
    maps: &'a Maps<'a>,
    weights: W,
}

impl<W: Weight> VectorSums for Weighed<'_, W> {
    fn n_sums(&self) -> usize {
        FIXED + 2 * self.maps.labels.len()
    }

    #[inline(always)]
    unsafe fn add<L: Lanes, const FULL: bool>(&self, at: usize, count: usize, sums: *mut f32) {
        let n_sources = self.maps.labels.len();
        // SAFETY: the caller promises the maps' floats, the sums and the instructions.
        unsafe {
            let inside = inside::<L>(count);
            let sum = |index: usize| sums.add(index * L::WIDTH);
            let x = load::<L, FULL>(self.maps.prediction, at, count);
            let p = Logistic::of(x);
            add_product::<L, FULL>(sum(SQUARES), p.value, p.value, inside);
            let (mut total, mut total_of_labels, mut uncertainty) =
                (L::zero(), L::zero(), L::zero());
            let (mut first, mut moved, mut squares) = (L::zero(), L::zero(), L::zero());
            for source in 0..n_sources {
                let y = load::<L, FULL>(self.maps.labels[source], at, count);
                let error = p.value.sub(y);
                let (mut weight, mut calibration) = (L::splat(1.0), y.abs());
                if W::VARY {
                    let u = load::<L, FULL>(self.maps.uncertainty[source], at, count);
                    let q = Logistic::of(u).value;
                    weight = self.weights.at(q);
                    uncertainty = uncertainty.add(q);
                    calibration = q.sub(y).abs();
                }
                total = total.add(weight);
                total_of_labels = weight.mul_add(y, total_of_labels);
                let weighed = weight.mul(error);
                add_product::<L, FULL>(sum(FIXED + source), weighed, error, inside);
                add_product::<L, FULL>(sum(FIXED + n_sources + source), y, y, inside);
                // Deviations from the first map, so that close maps do not cancel.
                if source == 0 {
                    first = calibration;
                } else {
                    let deviation = calibration.sub(first);
                    moved = moved.add(deviation);
                    squares = deviation.mul_add(deviation, squares);
                }
            }
            // Σ w CE = max(x, 0) Σw - x Σwy + ln(1 + e^(-|x|)) Σw: the first two cancel exactly where all y are 1.
            let entropy = x.relu().mul(total).sub(x.mul(total_of_labels));
            let entropy = ln_1p(p.tail).mul_add(total, entropy);
            let mean = moved.mul(L::splat(-1.0 / n_sources as f32));
            let variance = mean.mul_add(moved, squares);
            let one = L::splat(1.0);
            add_product::<L, FULL>(sum(ENTROPY), entropy, one, inside);
            add_product::<L, FULL>(sum(UNCERTAINTY), uncertainty, one, inside);
            add_product::<L, FULL>(sum(VARIANCE), variance, one, inside);
        }
    }
}

/// The weight of a pixel as a function of q.
trait Weight {
    /// Whether it is one that depends on q at all.
    const VARY: bool;

    /// The weights of a vector of q.
    unsafe fn at<L: Lanes>(&self, q: L) -> L;
}

struct Ones;

impl Weight for Ones {
    const VARY: bool = false;

    #[inline(always)]
    unsafe fn at<L: Lanes>(&self, _q: L) -> L {
        // SAFETY: the caller promises the instructions of `L`, here and below.
        unsafe { L::splat(1.0) }
    }
}

impl Weight for ShortExp {
    const VARY: bool = true;

    #[inline(always)]
    unsafe fn at<L: Lanes>(&self, q: L) -> L {
        // SAFETY: as above.
        unsafe { ShortExp::at(self, q) }
    }
}

/// `e^(a + bq)` for any `a` and `b`.
struct LongExp([f32; 2]);

impl Weight for LongExp {
    const VARY: bool = true;

    #[inline(always)]
    unsafe fn at<L: Lanes>(&self, q: L) -> L {
        // SAFETY: as above.
        unsafe { exp(q.mul_add(L::splat(self.0[1]), L::splat(self.0[0]))) }
    }
}

/// Which of them a loss has.
enum Weights {
    Ones,
    Short(ShortExp),
    Long(LongExp),
}

impl UmaLoss {
    fn weights(&self, has_uncertainty: bool) -> Weights {
        if !has_uncertainty {
            return Weights::Ones;
        }
        let [a, b] = [self.uncertainty_offset, self.uncertainty_slope]
            .map(|part| -self.weight_temperature * part);
        match ShortExp::new(a, b) {
            Some(short) => Weights::Short(short),
            None => Weights::Long(LongExp([a as f32, b as f32])),
        }
    }
}

/// The second pass over a part of a case.
struct GradientPass<'a> {
    loss: &'a UmaLoss,
    maps: Maps<'a>,
    range: Range<usize>,
    found: &'a Found,
    targets: &'a Targets,
}

/// What the gradients of a phase of the pattern need: vectors at these places.
struct Patterns {
    shrink: *const f32,
    inverses: *const f32,
    /// Room for a vector a source.
    room: *mut f32,
}

impl LaneTask for GradientPass<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.loss.weights(!self.maps.uncertainty.is_empty()) {
                Weights::Ones => self.pass::<L, _>(&Ones),
                Weights::Short(short) => self.pass::<L, _>(&short),
                Weights::Long(long) => self.pass::<L, _>(&long),
            }
        }
    }
}

impl GradientPass<'_> {
    #[inline(always)]
    unsafe fn pass<L: Lanes, W: Weight>(self, weights: &W) {
        let (n_phases, n_sources) = (self.loss.n_structures, self.maps.labels.len());
        let factors = self.loss.factors(n_sources, self.maps.prediction.len() / n_phases);
        let row = (1 + n_sources) * L::WIDTH;
        let mut patterns = Scratch::<f32>::take(n_phases * row);
        for (phase, row) in patterns.chunks_exact_mut(row).enumerate() {
            for (place, value) in row.iter_mut().enumerate() {
                let structure = (phase * L::WIDTH + place % L::WIDTH) % n_phases;
                *value = match (place / L::WIDTH).checked_sub(1) {
                    None => self.found.shrink[structure] as f32,
                    Some(source) => self.found.inverses[structure][source] as f32,
                };
            }
        }
        let mut room = Scratch::<f32>::take(n_sources * L::WIDTH);
        let (mut at, mut phase) = (self.range.start, 0);
        while at < self.range.end {
            let count = L::WIDTH.min(self.range.end - at);
            // SAFETY: `count` floats follow `at` in every map and gradient, where no other task writes; rows of
            // patterns and the room are as long as `Patterns` says.
            unsafe {
                let shrink = patterns.as_ptr().add(phase * row);
                let inverses = shrink.add(L::WIDTH);
                let patterns = Patterns { shrink, inverses, room: room.as_mut_ptr() };
                if count == L::WIDTH {
                    self.write::<L, W, true>(at, count, (weights, &factors), &patterns);
                } else {
                    self.write::<L, W, false>(at, count, (weights, &factors), &patterns);
                }
            }
            at += count;
            phase = if phase + 1 == n_phases { 0 } else { phase + 1 };
        }
    }

    /// Writes the gradients of a vector of pixels.
    #[inline(always)]
    unsafe fn write<L: Lanes, W: Weight, const FULL: bool>(
        &self,
        at: usize,
        count: usize,
        (weights, factors): (&W, &Factors),
        patterns: &Patterns,
    ) {
        let n_sources = self.maps.labels.len();
        // SAFETY: the caller promises the maps' floats, those of the patterns and the instructions.
        unsafe {
            let consensus = if W::VARY {
                self.calibrations::<L, FULL>(at, count, patterns.room)
            } else {
                L::zero()
            };
            let one = L::splat(1.0);
            let x = load::<L, FULL>(self.maps.prediction, at, count);
            let p = Logistic::of(x);
            let (high, tail) = (x.relu(), ln_1p(p.tail));
            let minus_x = L::zero().sub(x);
            let (mut by_entropy, mut by_dice) = (L::zero(), L::zero());
            for source in 0..n_sources {
                let y = load::<L, FULL>(self.maps.labels[source], at, count);
                let inverse = L::load(patterns.inverses.add(source * L::WIDTH));
                let error = p.value.sub(y);
                let mut weighed = error;
                if W::VARY {
                    let q = L::load(patterns.room.add(source * L::WIDTH));
                    let weight = weights.at(q);
                    weighed = weight.mul(error);
                    let loss = minus_x.mul_add(y, high).add(tail);
                    let by_weight = loss.mul(L::splat(factors.entropy_of_weight));
                    let square = error.mul(error).mul(inverse);
                    let by_weight = square.mul_add(L::splat(factors.dice_of_weight), by_weight);
                    let by_sigma = weight.mul_add(by_weight, L::splat(factors.penalty));
                    let distance = q.sub(y);
                    let excess = distance.abs().sub(consensus);
                    let pull = excess.choose(distance, L::zero().sub(excess));
                    let by_q = pull.mul_add(L::splat(factors.consistency), by_sigma);
                    let gradient = by_q.mul(q.mul(one.sub(q)));
                    let target = self.targets.uncertainty[source].pointer().add(at);
                    store::<L, FULL>(gradient, target, count);
                }
                by_entropy = by_entropy.add(weighed);
                by_dice = weighed.mul_add(inverse, by_dice);
            }
            let by_dice = by_dice.sub(p.value.mul(L::load(patterns.shrink)));
            let slope = p.value.mul(one.sub(p.value)).mul(L::splat(factors.dice));
            let gradient = by_entropy.mul_add(L::splat(factors.entropy), by_dice.mul(slope));
            store::<L, FULL>(gradient, self.targets.prediction.pointer().add(at), count);
        }
    }

    /// Leaves q of each source in `room`; returns the consensus.
    #[inline(always)]
    unsafe fn calibrations<L: Lanes, const FULL: bool>(
        &self,
        at: usize,
        count: usize,
        room: *mut f32,
    ) -> L {
        // SAFETY: as in `write`.
        unsafe {
            let mut sum = L::zero();
            for (source, logits) in self.maps.uncertainty.iter().enumerate() {
                let q = Logistic::of(load::<L, FULL>(logits, at, count)).value;
                let y = load::<L, FULL>(self.maps.labels[source], at, count);
                sum = sum.add(q.sub(y).abs());
                q.store(room.add(source * L::WIDTH));
            }
            sum.mul(L::splat(1.0 / self.maps.labels.len() as f32))
        }
    }
}

/// Mean binary cross-entropy of `logits` against `labels` in [0, 1], in nats, without overflow for any logit; its
/// gradient goes to `gradient`, which is empty where only the value is wanted.
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// let mut gradient = [0.0; 2];
/// let loss = kernels::bce_with_logits(&[1e4, 0.0], &[1.0, 1.0], &mut gradient);
/// assert!((loss - 0.5 * 2.0_f64.ln()).abs() < 1e-7);
/// assert_eq!(gradient, [0.0, -0.25]);
/// ```
pub fn bce_with_logits(logits: &[f32], labels: &[f32], gradient: &mut [f32]) -> f64 {
    let loss = UmaLoss { dice: 0.0, consistency: 0.0, ..UmaLoss::default() };
    loss.of_one(logits, labels, gradient)
}

/// Soft Dice loss `Σ(p − y)² / (Σp² + Σy² + epsilon)` of `p = sigmoid(logits)`, in [0, 1]; its gradient goes to
/// `gradient`, which is empty where only the value is wanted.
///
/// But for `epsilon` it is `1 − 2Σpy / (Σp² + Σy²)`, the form of V-Net (Milletari et al., arXiv 1606.04797).
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// assert_eq!(kernels::soft_dice(&[-200.0, -200.0], &[0.0, 0.0], 1e-6, &mut []), 0.0);
/// assert_eq!(kernels::soft_dice(&[200.0, -200.0], &[0.0, 1.0], 0.0, &mut []), 1.0);
/// ```
pub fn soft_dice(logits: &[f32], labels: &[f32], epsilon: f64, gradient: &mut [f32]) -> f64 {
    let loss = UmaLoss {
        cross_entropy: 0.0,
        consistency: 0.0,
        dice_epsilon: epsilon,
        ..UmaLoss::default()
    };
    loss.of_one(logits, labels, gradient)
}

impl UmaLoss {
    fn of_one(&self, logits: &[f32], labels: &[f32], gradient: &mut [f32]) -> f64 {
        let case = LossCase {
            prediction: logits,
            uncertainty: vec![],
            labels: vec![labels],
            prediction_gradient: gradient,
            uncertainty_gradients: vec![],
        };
        self.run(&mut [case])[0].total
    }
}

#[cfg(test)]
mod tests;
