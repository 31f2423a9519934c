//! Quality assessment, loss and optimizer, alone.

use kernels::{AdamConfig, AdamState, sigmoid};
use nets::{
    LossAt, LossConfig, LossGradients, LossMaps, LossScratch, LossTerms, QualityConfig,
    QualityMaps, UncertaintyRange, loss_of_case, score_case,
};

use super::{Bench, numbers, uniform};
use crate::{
    Address, CudaError, QualityNumbers, buffers,
    launches::{AdamAt, Cases, LossPlaces, Maps},
    step::{loss_numbers, quality_numbers},
};

/// Rounding of f64 sums in another order; gradients are f32.
const F64_BOUND: f64 = 1e-9;

pub(super) fn compare(bench: &mut Bench<'_>) -> Result<(), CudaError> {
    let cases = |n_cases, n_pixels, n_structures, n_sources| Cases {
        n_cases,
        n_pixels,
        n_structures,
        n_sources,
    };
    let symmetric = UncertaintyRange::Symmetric { tau: 0.7 };
    let plain = LossConfig::default();
    let other = LossConfig {
        lambda: 0.5,
        weight_temperature: 2.0,
        uncertainty_range: symmetric,
        dice_epsilon: 0.1,
    };
    for (cases, config, has_auem) in [
        (cases(3, 300, 1, 3), plain, true),
        (cases(2, 5000, 2, 5), other, true),
        (cases(2, 70, 3, 1), LossConfig { lambda: 0.0, ..plain }, false),
        (cases(4, 64, 1, 16), plain, false),
    ] {
        compare_loss(bench, cases, &config, has_auem)?;
    }
    for (config, len) in [
        (AdamConfig::default(), 1003),
        (
            AdamConfig { max_gradient_norm: Some(0.5), weight_decay: 0.1, ..AdamConfig::default() },
            70_000,
        ),
    ] {
        compare_adam(bench, &config, len)?;
    }
    compare_sigmoid(bench)
}

/// What one comparison of the loss puts on the device.
struct Inputs {
    heads: [Vec<f32>; 2],
    uncertainty: Vec<f32>,
    labels: Vec<f32>,
}

fn inputs(cases: &Cases, has_auem: bool) -> Inputs {
    let Cases { n_cases, n_pixels, n_structures, n_sources } = *cases;
    let len = n_cases * n_pixels * n_structures;
    let wide = |len: usize, seed: u64| {
        numbers(len, seed).iter().map(|value| 8.0 * value).collect::<Vec<_>>()
    };
    let mut uniform = uniform(26);
    let mut labels: Vec<f32> =
        (0..len * n_sources).map(|_| f32::from(u8::from(uniform() < 0.3))).collect();
    // The last case of the first source is empty, and a logit is huge.
    labels[len - n_pixels * n_structures..len].fill(0.0);
    let mut heads = [wide(len, 27), wide(len, 28)];
    heads[0][0] = 200.0;
    let uncertainty = if has_auem {
        wide(len * n_sources, 29).iter().map(|u| u - 2.0).collect()
    } else {
        Vec::new()
    };
    Inputs { heads, uncertainty, labels }
}

fn compare_loss(
    bench: &mut Bench<'_>,
    cases: Cases,
    config: &LossConfig,
    has_auem: bool,
) -> Result<(), CudaError> {
    let Cases { n_cases, n_pixels, n_structures, n_sources } = cases;
    let (of_case, alpha) = (n_pixels * n_structures, 0.4);
    let len = n_cases * of_case;
    let inputs = inputs(&cases, has_auem);
    let name = format!("{n_cases} cases, {n_pixels} pixels, {n_structures}, {n_sources} sources");
    // Thresholds between the scores, so that some cases go either way.
    let scores = scores(&cases, &inputs, has_auem);
    let middle = scores.iter().map(|score| score[0]).sum::<f64>() / scores.len() as f64;
    let quality = QualityConfig { tau_a: middle, tau_b: 4.0, ..QualityConfig::default() };
    let routes: Vec<usize> = scores.iter().map(|score| usize::from(score[0] >= middle)).collect();

    let (maps, places) = upload(bench, &cases, &inputs, has_auem)?;
    buffers::put(bench.device, places.moment, &[0.0, alpha, 1.0])?;
    let quality: QualityNumbers = quality_numbers(&quality);
    bench.kernels().quality(&cases, &quality, &maps, &places)?;
    bench.kernels().loss(&cases, &loss_numbers(config), &maps, &places)?;

    let found: Vec<f64> = buffers::get(bench.device, places.scores, 3 * n_cases)?;
    bench.tell_error(("quality scores", &name), largest(&found, &scores.concat()), F64_BOUND);
    let found: Vec<i32> = buffers::get(bench.device, places.routes, n_cases)?;
    let wrong = found
        .iter()
        .zip(&routes)
        .filter(|(found, route)| usize::try_from(**found) != Ok(**route))
        .count();
    bench.tell_error(("routes", &name), wrong as f64, 0.0);

    let (mut terms, mut heads) = (LossTerms::default(), [vec![0.0; len], vec![0.0; len]]);
    let mut sources = vec![vec![0.0; if has_auem { len } else { 0 }]; n_sources];
    let at = LossAt { config, alpha, gradient_scale: 1.0 / n_cases as f64, n_structures };
    for (case, &route) in routes.iter().enumerate() {
        let own = case * of_case..(case + 1) * of_case;
        let maps = loss_maps(&cases, &inputs, case, route);
        let uncertainty =
            sources.iter_mut().filter(|_| has_auem).map(|map| &mut map[own.clone()]).collect();
        let mut gradients =
            LossGradients { prediction: &mut heads[route][own.clone()], uncertainty };
        let case = loss_of_case(&at, &maps, &mut LossScratch::default(), &mut gradients);
        terms.cross_entropy += case.cross_entropy / n_cases as f64;
        terms.dice += case.dice / n_cases as f64;
        terms.consistency += case.consistency / n_cases as f64;
        terms.total += case.total / n_cases as f64;
    }
    let expected = [terms.cross_entropy, terms.dice, terms.consistency, terms.total, 1.0];
    let found: Vec<f64> = buffers::get(bench.device, places.report, 5)?;
    bench.tell_error(("loss terms", &name), largest(&found, &expected), F64_BOUND);
    bench.same_floats(("loss gradient, primary", &name), places.to_primary, &heads[0])?;
    bench.same_floats(("loss gradient, auxiliary", &name), places.to_auxiliary, &heads[1])?;
    if has_auem {
        bench.same_floats(
            ("loss gradient, AUEM", &name),
            places.to_uncertainty,
            &sources.concat(),
        )?;
    }
    Ok(())
}

/// Maps of one case, from the logits of one head.
fn loss_maps<'a>(cases: &Cases, inputs: &'a Inputs, case: usize, head: usize) -> LossMaps<'a, f32> {
    let of_case = cases.n_pixels * cases.n_structures;
    let len = cases.n_cases * of_case;
    let own = case * of_case..(case + 1) * of_case;
    let map = |all: &'a [f32]| all.chunks_exact(len).map(|map| &map[own.clone()]).collect();
    LossMaps {
        prediction: &inputs.heads[head][own.clone()],
        uncertainty: map(&inputs.uncertainty),
        labels: map(&inputs.labels),
    }
}

/// `u_a`, `u_a` over the whole image and `u_b` of each case.
fn scores(cases: &Cases, inputs: &Inputs, has_auem: bool) -> Vec<[f64; 3]> {
    // As the network gives them: rounded to f32 after an f64 sigmoid.
    let precise = |x: &f32| 1.0 / (1.0 + (-f64::from(*x)).exp());
    let uncertainty: Vec<f32> = inputs.uncertainty.iter().map(|x| precise(x) as f32).collect();
    let probable =
        Inputs { uncertainty, heads: inputs.heads.clone(), labels: inputs.labels.clone() };
    let score = |case: usize| {
        let maps = loss_maps(cases, &probable, case, 0);
        let maps = QualityMaps {
            uncertainty: if has_auem { maps.uncertainty } else { Vec::new() },
            labels: maps.labels,
            size: [1, 1, cases.n_pixels],
            n_structures: cases.n_structures,
        };
        let score = score_case(&QualityConfig::default(), &maps);
        [score.u_a, score.u_a_all, score.u_b]
    };
    (0..cases.n_cases).map(score).collect()
}

fn upload(
    bench: &mut Bench<'_>,
    cases: &Cases,
    inputs: &Inputs,
    has_auem: bool,
) -> Result<(Maps, LossPlaces), CudaError> {
    let Cases { n_cases, n_structures, n_sources, .. } = *cases;
    let len = inputs.heads[0].len();
    let maps = Maps {
        primary: bench.put_floats(&inputs.heads[0])?,
        auxiliary: bench.put_floats(&inputs.heads[1])?,
        uncertainty: if has_auem { bench.put_floats(&inputs.uncertainty)? } else { Address::NULL },
        labels: bench.put_floats(&inputs.labels)?,
        mask: Address::NULL,
    };
    let places = LossPlaces {
        moment: bench.floats(6)?,
        scores: bench.floats(6 * n_cases)?,
        routes: bench.floats(n_cases)?,
        gate: bench.floats(2 * (6 + n_sources))?,
        terms: bench.floats(8 * n_cases * n_structures)?,
        dice: bench.floats(2 * (1 + n_sources) * n_cases * n_structures)?,
        report: bench.floats(10)?,
        to_primary: bench.floats(len)?,
        to_auxiliary: bench.floats(len)?,
        to_uncertainty: if has_auem { bench.floats(len * n_sources)? } else { Address::NULL },
    };
    Ok((maps, places))
}

fn largest(found: &[f64], expected: &[f64]) -> f64 {
    let distances = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1e-3));
    distances
        .fold(0.0, |largest, error| if error.is_nan() || error > largest { error } else { largest })
}

fn compare_adam(bench: &mut Bench<'_>, config: &AdamConfig, len: usize) -> Result<(), CudaError> {
    let (mut values, mut state) = (numbers(len, 30), AdamState::new(len));
    let name = format!("{len} parameters, limit {:?}", config.max_gradient_norm);
    let zeros = vec![0.0; len];
    let at = AdamAt {
        values: bench.put_floats(&values)?,
        copy: bench.floats(len)?,
        gradients: bench.floats(len)?,
        first: bench.put_floats(&zeros)?,
        second: bench.put_floats(&zeros)?,
        state: bench.put_floats(&[0.0; 4])?,
        numbers: bench.floats(10)?,
        count: len,
    };
    let (report, moment) = (bench.floats(10)?, bench.floats(6)?);
    let mut norm = 0.0;
    for step in 0..4 {
        let gradients = numbers(len, 31 + step);
        // The third step is refused: nothing may change.
        let active = f64::from(u8::from(step != 2));
        let rate = 1e-2 / (1.0 + step as f64);
        buffers::put(bench.device, at.gradients, &gradients)?;
        buffers::put(bench.device, report, &[0.0, 0.0, 0.0, 0.0, active])?;
        buffers::put(bench.device, moment, &[rate, 0.0, 0.0])?;
        bench.kernels().adam(config, &[at], [report, moment])?;
        if active > 0.0 {
            let config = AdamConfig { learning_rate: rate, ..*config };
            state.update(&config, &mut values, &gradients);
            norm = gradients.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        }
    }
    bench.same_floats(("Adam values", &name), at.values, &values)?;
    bench.same_floats(("Adam first moment", &name), at.first, &state.first)?;
    bench.same_floats(("Adam second moment", &name), at.second, &state.second)?;
    let copy: Vec<u16> = buffers::get(bench.device, at.copy, len)?;
    let found: Vec<f32> = buffers::get(bench.device, at.values, len)?;
    let differ = copy
        .iter()
        .zip(&found)
        .filter(|(copy, value)| **copy != buffers::bf16_bits(**value))
        .count();
    bench.tell_error(("Adam bf16 copy", &name), differ as f64, 0.0);
    let found: Vec<f64> = buffers::get(bench.device, at.state, 2)?;
    bench.tell_error(("Adam steps and norm", &name), largest(&found, &[3.0, norm]), 1e-5);
    Ok(())
}

fn compare_sigmoid(bench: &mut Bench<'_>) -> Result<(), CudaError> {
    let logits: Vec<f32> = numbers(500, 40).iter().map(|value| 300.0 * value).collect();
    let expected: Vec<f32> = logits.iter().map(|&x| sigmoid(x)).collect();
    let (at, to) = (bench.put_floats(&logits)?, bench.floats(logits.len())?);
    bench.kernels().sigmoid(at, to, logits.len())?;
    bench.same_floats(("sigmoid", "500 values"), to, &expected)
}
