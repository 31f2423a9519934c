//! Prints the time of the passes over full-resolution maps and over flat parameter buffers.
//!
//! Run with `cargo run --release -p kernels --example map_rate [threads] [repeats]`.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::{error::Error, hint::black_box, time::Instant};

use kernels::{
    AdamConfig, ConsensusDomain, ConsensusMaps, ConsensusSums, LossCase, Optimizer, SgdConfig,
    UmaLoss, gradient_norm, sigmoids,
};

/// Sources, cases and floats of a case.
const SHAPE: [usize; 3] = [5, 8, 256 * 256];

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    let number = |at: usize| ((at + seed) as u32).wrapping_mul(2_654_435_761) >> 8;
    (0..len).map(|at| number(at) as f32 / (1 << 24) as f32).collect()
}

/// Prints the median milliseconds of `body`, after one call to warm up.
fn measure(name: &str, n_repeats: usize, mut body: impl FnMut()) {
    let mut times: Vec<f64> = (0..=n_repeats)
        .map(|_| {
            let start = Instant::now();
            body();
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(1)
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<44}{:>9.2} ms, at best {:.2}", times[times.len() / 2], times[0]);
}

fn losses(n_repeats: usize, n_sources: usize, name: &str) {
    let [_, n_cases, len] = SHAPE;
    let logits: Vec<Vec<f32>> = (0..=n_sources)
        .map(|map| numbers(len * n_cases, map * 977).iter().map(|x| 12.0 * x - 6.0).collect())
        .collect();
    let labels: Vec<Vec<f32>> = (0..n_sources.max(1))
        .map(|map| numbers(len * n_cases, 31 + map).iter().map(|x| x.round()).collect())
        .collect();
    let mut gradients = vec![vec![0.0; len * n_cases]; n_sources + 1];
    measure(name, n_repeats, || {
        let mut places: Vec<_> =
            gradients.iter_mut().map(|map| map.chunks_exact_mut(len)).collect();
        let of_case =
            |map: &'_ Vec<f32>, case: usize| case * len..((case + 1) * len).min(map.len());
        let mut cases: Vec<LossCase<'_>> = Vec::new();
        for case in 0..n_cases {
            let mut places = places.iter_mut().filter_map(Iterator::next);
            let Some(prediction_gradient) = places.next() else { continue };
            cases.push(LossCase {
                prediction: &logits[0][of_case(&logits[0], case)],
                uncertainty: logits[1..].iter().map(|map| &map[of_case(map, case)]).collect(),
                labels: labels.iter().map(|map| &map[of_case(map, case)]).collect(),
                prediction_gradient,
                uncertainty_gradients: places.collect(),
            });
        }
        black_box(UmaLoss::default().run(&mut cases));
    });
}

fn quality(n_repeats: usize) {
    let [n_sources, n_cases, len] = SHAPE;
    let maps = |scale: f32, seed: usize| -> Vec<Vec<f32>> {
        let map = |at: usize| numbers(len * n_cases, seed + 977 * at);
        (0..n_sources).map(|at| map(at).iter().map(|x| scale * (x - 0.5)).collect()).collect()
    };
    let (logits, labels) = (maps(12.0, 1), maps(0.0, 1));
    let cases: Vec<ConsensusMaps<'_>> = (0..n_cases)
        .map(|case| ConsensusMaps {
            uncertainty: logits.iter().map(|map| &map[case * len..][..len]).collect(),
            labels: labels.iter().map(|map| &map[case * len..][..len]).collect(),
            inside: &[],
        })
        .collect();
    let domain = ConsensusDomain::None;
    let sums = ConsensusSums { from_logits: true, both_classes: false, domain, n_structures: 1 };
    measure("quality assessment", n_repeats, || {
        black_box(sums.run(&cases));
    });
    let mut probabilities = vec![0.0; len * n_cases];
    measure("probabilities of one map", n_repeats, || sigmoids(&logits[0], &mut probabilities));
}

fn optimizers(n_repeats: usize) {
    let len = 8_000_000;
    let (mut values, gradients) = (numbers(len, 1), numbers(len, 2));
    let sgd = SgdConfig { momentum: 0.99, nesterov: true, ..SgdConfig::default() };
    let adam = Optimizer::Adam(AdamConfig::default());
    for (name, optimizer) in [("Adam", adam), ("SGD with momentum", Optimizer::Sgd(sgd))] {
        let mut state = optimizer.start(len);
        measure(&format!("{name}, {len} parameters"), n_repeats, || {
            state.update(&optimizer, 1.0, &mut values, &gradients);
        });
    }
    measure("gradient norm", n_repeats, || {
        black_box(gradient_norm(&[&gradients]));
    });
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let n_repeats = arguments.next().map_or(Ok(7), |text| text.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build()?;
    println!("{n_threads} threads; medians of {n_repeats}; {SHAPE:?} = sources, cases, pixels");
    pool.install(|| {
        losses(n_repeats, SHAPE[0], "loss of UMA-Net with gradients");
        losses(n_repeats, 0, "cross-entropy and Dice with gradients");
        quality(n_repeats);
        optimizers(n_repeats);
    });
    Ok(())
}
