//! The loss against a scalar version in f64, which in turn is held against finite differences.

use super::*;
use crate::reference::{assert_close, numbers, on_all_sets};

/// Largest relative error of a value: a few thousand f32 terms of relative error 1e-7 each.
const VALUE: f64 = 2e-6;
/// Central differences of step 1e-5 in f64: truncation and rounding both near 1e-10.
const DIFFERENCE: f64 = 1e-8;

/// A case in f64 with storage of its own.
#[derive(Clone, Debug)]
struct Maps64 {
    prediction: Vec<f64>,
    uncertainty: Vec<Vec<f64>>,
    labels: Vec<Vec<f64>>,
}

/// Values, and gradients of prediction and uncertainties.
type Result64 = (LossValues, Vec<f64>, Vec<Vec<f64>>);

fn logistic(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// One structure, by the formulas.
#[expect(
    clippy::needless_range_loop,
    reason = "sources and pixels are numbers here, as in the formulas"
)]
fn plain(loss: &UmaLoss, maps: &Maps64) -> Result64 {
    let (n_pixels, n_sources) = (maps.prediction.len(), maps.labels.len());
    let per_map = 1.0 / (n_pixels * n_sources) as f64;
    let p: Vec<f64> = maps.prediction.iter().map(|&x| logistic(x)).collect();
    let weighed = !maps.uncertainty.is_empty();
    let q = |m: usize, i: usize| if weighed { logistic(maps.uncertainty[m][i]) } else { 0.0 };
    let sigma = |m: usize, i: usize| {
        if weighed { loss.uncertainty_offset + loss.uncertainty_slope * q(m, i) } else { 0.0 }
    };
    let weight = |m: usize, i: usize| (-loss.weight_temperature * sigma(m, i)).exp();
    let entropy = |m: usize, i: usize| {
        let (x, y) = (maps.prediction[i], maps.labels[m][i]);
        x.max(0.0) - x * y + (-x.abs()).exp().ln_1p()
    };
    let calibration = |m: usize, i: usize| (maps.labels[m][i] - q(m, i)).abs();
    let consensus =
        |i: usize| (0..n_sources).map(|m| calibration(m, i)).sum::<f64>() / n_sources as f64;
    let squares: f64 = p.iter().map(|p| p * p).sum();
    let inverse: Vec<f64> = maps
        .labels
        .iter()
        .map(|y| {
            let bottom = squares + y.iter().map(|y| y * y).sum::<f64>() + loss.dice_epsilon;
            if bottom < EMPTY { 0.0 } else { 1.0 / bottom }
        })
        .collect();
    let error = |m: usize, i: usize| p[i] - maps.labels[m][i];
    // Not `p (1 - p)`, which loses the complement of large logits.
    let slope = |x: f64| logistic(x) * logistic(-x);
    let top = |m: usize| (0..n_pixels).map(|i| weight(m, i) * error(m, i).powi(2)).sum::<f64>();
    let mut values = LossValues::default();
    for m in 0..n_sources {
        values.dice += top(m) * inverse[m] / n_sources as f64;
        for i in 0..n_pixels {
            values.cross_entropy += per_map * (weight(m, i) * entropy(m, i) + 0.5 * sigma(m, i));
            values.dice += per_map * 0.5 * sigma(m, i);
            values.consistency += per_map * (calibration(m, i) - consensus(i)).powi(2);
        }
    }
    values.total = loss.total(&values, weighed);
    let shrink: f64 = (0..n_sources).map(|m| top(m) * inverse[m].powi(2)).sum();
    let (a, b) = (loss.cross_entropy * per_map, loss.dice / n_sources as f64);
    let (mut by_x, mut by_u) = (Vec::new(), vec![Vec::new(); maps.uncertainty.len()]);
    for i in 0..n_pixels {
        let sum = |of: &dyn Fn(usize) -> f64| (0..n_sources).map(of).sum::<f64>();
        let by_entropy = sum(&|m| weight(m, i) * error(m, i));
        let by_dice = sum(&|m| weight(m, i) * error(m, i) * inverse[m]) - p[i] * shrink;
        by_x.push(a * by_entropy + 2.0 * b * by_dice * slope(maps.prediction[i]));
        for (m, by_u) in by_u.iter_mut().enumerate() {
            let fall = loss.weight_temperature * weight(m, i);
            let by_sigma = a * (0.5 - fall * entropy(m, i))
                + b * (0.5 / n_pixels as f64 - fall * error(m, i).powi(2) * inverse[m]);
            let side = if q(m, i) > maps.labels[m][i] { 1.0 } else { -1.0 };
            let pull = 2.0 * loss.consistency * per_map * (calibration(m, i) - consensus(i)) * side;
            let by_q = by_sigma * loss.uncertainty_slope + pull;
            by_u.push(by_q * slope(maps.uncertainty[m][i]));
        }
    }
    (values, by_x, by_u)
}

/// The mean over interleaved structures.
fn expected(loss: &UmaLoss, maps: &Maps64) -> Result64 {
    let n = loss.n_structures;
    let pick = |map: &Vec<f64>, first: usize| map.iter().copied().skip(first).step_by(n).collect();
    let len = maps.prediction.len();
    let mut values = LossValues::default();
    let (mut by_x, mut by_u) = (vec![0.0; len], vec![vec![0.0; len]; maps.uncertainty.len()]);
    for structure in 0..n {
        let each = |all: &[Vec<f64>]| all.iter().map(|map| pick(map, structure)).collect();
        let own = Maps64 {
            prediction: pick(&maps.prediction, structure),
            uncertainty: each(&maps.uncertainty),
            labels: each(&maps.labels),
        };
        let (part, to_x, to_u) = plain(loss, &own);
        values.add(&part, 1.0 / n as f64);
        let scale = loss.gradient_scale / n as f64;
        for (pixel, gradient) in to_x.iter().enumerate() {
            by_x[pixel * n + structure] = scale * gradient;
        }
        for (all, own) in by_u.iter_mut().zip(&to_u) {
            for (pixel, gradient) in own.iter().enumerate() {
                all[pixel * n + structure] = scale * gradient;
            }
        }
    }
    (values, by_x, by_u)
}

fn narrow(map: &[f64]) -> Vec<f32> {
    map.iter().map(|&value| value as f32).collect()
}

fn run(loss: &UmaLoss, maps: &Maps64) -> (LossValues, Vec<f32>, Vec<Vec<f32>>) {
    let prediction = narrow(&maps.prediction);
    let uncertainty: Vec<Vec<f32>> = maps.uncertainty.iter().map(|map| narrow(map)).collect();
    let labels: Vec<Vec<f32>> = maps.labels.iter().map(|map| narrow(map)).collect();
    let mut by_x = vec![f32::NAN; prediction.len()];
    let mut by_u = vec![by_x.clone(); uncertainty.len()];
    let case = LossCase {
        prediction: &prediction,
        uncertainty: uncertainty.iter().map(Vec::as_slice).collect(),
        labels: labels.iter().map(Vec::as_slice).collect(),
        prediction_gradient: &mut by_x,
        uncertainty_gradients: by_u.iter_mut().map(Vec::as_mut_slice).collect(),
    };
    let values = loss.run(&mut [case])[0];
    (values, by_x, by_u)
}

/// Random logits up to `size` and labels of 0, 1 and now and then ½; the first labels are 1, because a single pixel
/// with label 0 has a Dice of almost 1 whose slope is the difference of two large numbers.
fn case(len: usize, n_sources: usize, weighed: bool, size: f32) -> Maps64 {
    let wide = |seed: u64| {
        numbers(len, seed).iter().map(|x| f64::from(2.0 * size * x)).collect::<Vec<f64>>()
    };
    let label = |seed: u64| {
        let value = |(at, x): (usize, &f32)| match x {
            _ if at < 8 => 1.0,
            x if *x > 0.45 => 0.5,
            x => f64::from(u8::from(*x > 0.1)),
        };
        numbers(len, seed).iter().enumerate().map(value).collect()
    };
    let n_maps = if weighed { n_sources as u64 } else { 0 };
    Maps64 {
        prediction: wide(1),
        uncertainty: (0..n_maps).map(|m| wide(10 + m)).collect(),
        labels: (0..n_sources as u64).map(|m| label(100 + m)).collect(),
    }
}

fn switches() -> [UmaLoss; 6] {
    let whole = UmaLoss::default();
    [
        whole,
        UmaLoss { consistency: 0.0, ..whole },
        UmaLoss { dice: 0.0, consistency: 0.3, ..whole },
        UmaLoss { dice: 2.5, weight_temperature: 1.7, gradient_scale: 0.125, ..whole },
        UmaLoss { uncertainty_offset: -1.5, uncertainty_slope: 3.0, ..whole },
        UmaLoss { cross_entropy: 0.0, consistency: 0.0, ..whole },
    ]
}

fn check(loss: &UmaLoss, maps: &Maps64) {
    let (values, by_x, by_u) = expected(loss, maps);
    let what = format!("{loss:?}, {} floats", maps.prediction.len());
    for (found, to_x, to_u) in on_all_sets(|| run(loss, maps)) {
        for (found, expected) in [
            (found.cross_entropy, values.cross_entropy),
            (found.dice, values.dice),
            (found.consistency, values.consistency),
            (found.total, values.total),
        ] {
            let error = (found - expected).abs() / expected.abs().max(1e-3);
            assert!(error < VALUE, "{what}: {found} and {expected}");
        }
        let pairs = [(&to_x, &by_x)].into_iter().chain(to_u.iter().zip(&by_u));
        for (found, expected) in pairs {
            // Gradients of saturated pixels may underflow.
            if expected.iter().all(|gradient| gradient.abs() < 1e-15) {
                assert!(found.iter().all(|gradient| gradient.abs() < 1e-15), "{what}");
            } else {
                assert_close(found, expected, &what);
            }
        }
    }
}

#[test]
fn the_scalar_version_agrees_with_finite_differences() {
    for mut loss in switches() {
        loss.gradient_scale = 1.0;
        for (n_sources, weighed, n_structures) in [(2, true, 1), (3, false, 2), (1, false, 1)] {
            let loss = UmaLoss { n_structures, ..loss };
            let maps = case(6, n_sources, weighed, 3.0);
            let (_, by_x, by_u) = expected(&loss, &maps);
            let gradients: Vec<f64> = by_x.into_iter().chain(by_u.into_iter().flatten()).collect();
            for (index, gradient) in gradients.into_iter().enumerate() {
                let at = |by: f64| {
                    let mut maps = maps.clone();
                    let mut all =
                        maps.prediction.iter_mut().chain(maps.uncertainty.iter_mut().flatten());
                    *all.nth(index).expect("one number a gradient") += by;
                    expected(&loss, &maps).0.total
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - gradient).abs() < DIFFERENCE, "{index}: {slope} and {gradient}");
            }
        }
    }
}

#[test]
fn values_and_gradients_agree_with_the_scalar_version_under_every_switch() {
    for loss in switches() {
        for (len, n_sources, weighed) in [(1, 1, true), (37, 5, true), (300, 2, false)] {
            check(&loss, &case(len, n_sources, weighed, 4.0));
        }
        check(&UmaLoss { n_structures: 3, ..loss }, &case(3 * 71, 4, true, 4.0));
    }
}

#[test]
fn several_tasks_and_several_cases_give_the_same() {
    let loss = UmaLoss { n_structures: 5, ..UmaLoss::default() };
    check(&loss, &case(5 * 4001, 3, true, 6.0));
    check(&UmaLoss::default(), &case(20_011, 2, true, 6.0));
    let (first, second) = (narrow(&case(40, 1, false, 3.0).prediction), numbers(9000, 3));
    let label = vec![1.0; 9000];
    let maps = |prediction, label| LossCase {
        prediction,
        uncertainty: vec![],
        labels: vec![label],
        prediction_gradient: &mut [],
        uncertainty_gradients: vec![],
    };
    let loss = UmaLoss::default();
    let both = loss.run(&mut [maps(&first, &label[..40]), maps(&second, &label)]);
    let alone = [(&first, 40), (&second, 9000)]
        .map(|(map, len)| loss.run(&mut [maps(map, &label[..len])])[0]);
    assert_eq!(both, alone);
}

#[test]
fn extreme_logits_stay_finite_and_right() {
    for size in [40.0, 300.0, 1e4, 3e4] {
        for label in [0.0, 1.0] {
            let mut maps = case(21, 2, true, 1.0);
            let all = maps.prediction.iter_mut().chain(maps.uncertainty.iter_mut().flatten());
            all.for_each(|x| *x = x.signum() * size);
            maps.labels.iter_mut().flatten().for_each(|y| *y = label);
            check(&UmaLoss { dice_epsilon: 0.0, ..UmaLoss::default() }, &maps);
        }
    }
    let mut empty = case(21, 2, false, 1.0);
    empty.prediction.fill(-800.0);
    empty.labels.iter_mut().for_each(|map| map.fill(0.0));
    for epsilon in [0.0, 1e-6] {
        let loss = UmaLoss { dice_epsilon: epsilon, ..UmaLoss::default() };
        let (values, by_x, _) = run(&loss, &empty);
        assert_eq!(values, LossValues::default());
        assert!(by_x.iter().all(|&gradient| gradient == 0.0));
    }
}

#[test]
fn nan_in_any_map_reaches_the_terms_that_read_it() {
    for isa in Isa::available() {
        let found = |maps: &Maps64| {
            crate::with_isa(isa, || run(&UmaLoss::default(), maps).0).expect("available")
        };
        for pixel in [0, 20] {
            let mut maps = case(21, 2, true, 1.0);
            maps.prediction[pixel] = f64::NAN;
            let values = found(&maps);
            assert!(values.cross_entropy.is_nan() && values.dice.is_nan(), "{isa:?}");
            assert!(values.total.is_nan() && !values.consistency.is_nan(), "{isa:?}");
            let mut maps = case(21, 2, true, 1.0);
            maps.uncertainty[1][pixel] = f64::NAN;
            assert!(found(&maps).consistency.is_nan() && found(&maps).dice.is_nan(), "{isa:?}");
        }
    }
}

#[test]
fn nothing_to_learn_from_gives_zeros() {
    assert_eq!(run(&UmaLoss::default(), &case(0, 2, true, 1.0)).0, LossValues::default());
    let maps = Maps64 { labels: vec![], ..case(4, 1, false, 1.0) };
    assert_eq!(run(&UmaLoss::default(), &maps).0, LossValues::default());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 40,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn any_shape_agrees_with_the_scalar_version(
        n_pixels in 1..200_usize,
        n_structures in 1..7_usize,
        n_sources in 1..7_usize,
        weighed in proptest::bool::ANY,
        switch in 0..6_usize,
    ) {
        let loss = UmaLoss { n_structures, ..switches()[switch] };
        check(&loss, &case(n_pixels * n_structures, n_sources, weighed, 5.0));
    }
}
