//! Whole trainings on the emulator beside those on the CPU.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::sync::Arc;

use kernels::SgdConfig;
use nets::{
    AuemConfig, AuxiliaryConfig, Case, Checkpoint, Cpu, EpochMetrics, Hooks, Model, Outcome,
    Outline, PatchConfig, Samples, Selection, SingleConfig, Training, UmaConfig,
};

use super::*;
use crate::{check::uniform, emulator::Emulator};

const SHAPE: TaskShape = TaskShape { n_channels: 1, n_structures: 1, n_sources: 3 };

/// Bounds of f32: the two sum in another order, and Adam turns the rounding of a gradient that is about zero into a whole
/// step, so that trainings of a few steps drift apart by shares of a thousandth.
const METRIC: f64 = 5e-3;
/// Root mean square of the distance of weights, in multiples of the learning rate.
const WEIGHTS: f64 = 0.5;
/// Two pixels of the validation discs.
const DICE: f64 = 0.03;
const RATE: f64 = 2e-3;

fn streams(purpose: &str, parts: &[&str]) -> Box<dyn FnMut() -> f64> {
    let text = [purpose].into_iter().chain(parts.iter().copied()).flat_map(str::bytes);
    let seed = text.fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    Box::new(uniform(seed))
}

/// Discs on noise with three sources: right, too large, and half erased.
fn discs(n_cases: usize, seed: u64) -> Samples {
    let side = 16;
    let mut draw = uniform(seed);
    let inside = |place: usize, middle: (f64, f64), radius: f64| {
        let (row, column) = ((place / side) as f64, (place % side) as f64);
        u8::from((row - middle.0).powi(2) + (column - middle.1).powi(2) < radius * radius)
    };
    let cases = (0..n_cases).map(|_| {
        let (middle, radius) = ((5.0 + 6.0 * draw(), 5.0 + 6.0 * draw()), 3.0 + 2.0 * draw());
        let disc = |radius| (0..side * side).map(|place| inside(place, middle, radius)).collect();
        let (truth, large): (Vec<u8>, Vec<u8>) = (disc(radius), disc(radius + 1.5));
        let half = truth.iter().enumerate();
        let half = half.map(|(place, &value)| if place % 3 == 0 { 0 } else { value }).collect();
        let image = truth.iter().map(|&value| 2.0 * f32::from(value) - 1.0 + draw() as f32 - 0.5);
        let image = image.collect();
        Arc::new(Case { image, labels: vec![truth.clone(), large, half], truth: Some(truth) })
    });
    let cases: Vec<Arc<Case>> = cases.collect();
    let outline = Outline {
        ids: (0..n_cases).map(|nth| format!("disc-{nth}")).collect(),
        size: [1, side, side],
        n_channels: 1,
        n_structures: 1,
        n_sources: 3,
        has_truth: true,
    };
    Samples::new(outline, cases, n_cases)
}

/// Ten cases in batches of three: the last one joins the batch before it, so that sizes change within an epoch.
fn config() -> TrainingConfig {
    TrainingConfig { epochs: 3, batch_size: 3, learning_rate: RATE, ..TrainingConfig::default() }
}

fn uma(quality: QualityConfig) -> Architecture {
    let config = UmaConfig { base_width: 4, levels: 2, quality, ..UmaConfig::default() };
    Architecture::Uma { config, shape: SHAPE }
}

fn single() -> Architecture {
    let config = SingleConfig { base_width: 4, levels: 3, ..SingleConfig::default() };
    Architecture::Single { config, shape: SHAPE }
}

/// What came of a training.
struct Trained {
    model: Model,
    outcome: Outcome,
    checkpoints: Vec<Vec<u8>>,
}

fn train(
    architecture: &Architecture,
    config: &TrainingConfig,
    backend: &mut dyn Backend,
    resume: Option<&[u8]>,
) -> Result<Trained, NetsError> {
    let (train, validation) = (discs(10, 1), discs(5, 2));
    let mut model = Model::new(architecture, &streams)?;
    let resume = resume.map(|bytes| Checkpoint::from_bytes(bytes, model.trainable()).unwrap());
    let mut checkpoints = Vec::new();
    let mut keep = |checkpoint: &Checkpoint| {
        checkpoints.push(checkpoint.to_bytes());
        Ok(())
    };
    let mut hooks = Hooks { checkpoint: Some(&mut keep), ..Hooks::default() };
    let training = Training {
        config,
        train: &train,
        validation: Some(&validation),
        recompute: false,
        readers: 1,
        streams: &streams,
    };
    let outcome = training.run_on(backend, model.trainable_mut(), &mut hooks, resume.as_ref())?;
    Ok(Trained { model, outcome, checkpoints })
}

/// On the emulator; none where there is none.
fn emulated(
    architecture: &Architecture,
    config: &TrainingConfig,
    resume: Option<&[u8]>,
) -> Option<Trained> {
    let mut backend = DeviceBackend::new(Emulator::new()?, config).unwrap();
    Some(train(architecture, config, &mut backend, resume).unwrap())
}

fn values(model: &Model) -> Vec<f32> {
    let parts = model.trainable().parts().into_iter();
    parts.flat_map(|(_, part)| part.values.clone()).collect()
}

fn statistics(model: &Model) -> Vec<f32> {
    let parts = model.trainable().parts().into_iter();
    parts.flat_map(|(_, part)| part.buffers.iter().flat_map(|b| b.values.clone())).collect()
}

/// Root mean square of the distance.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares = found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / found.len() as f64).sqrt()
}

fn close(found: f64, expected: f64, what: &str) {
    let bound = METRIC * expected.abs().max(0.1);
    assert!((found - expected).abs() <= bound, "{what}: {found}, not {expected}");
}

fn compare_epochs(found: &EpochMetrics, expected: &EpochMetrics) {
    let counts = |epoch: &EpochMetrics| {
        let EpochMetrics { epoch, n_primary_steps, n_skipped_steps, n_steps, gate, .. } = *epoch;
        (epoch, n_primary_steps, n_skipped_steps, n_steps, gate)
    };
    assert_eq!(counts(found), counts(expected));
    assert_eq!(found.learning_rate, expected.learning_rate);
    assert_eq!((found.alpha, found.primary_share), (expected.alpha, expected.primary_share));
    close(found.terms.total, expected.terms.total, "loss");
    close(found.terms.cross_entropy, expected.terms.cross_entropy, "cross-entropy");
    close(found.terms.dice, expected.terms.dice, "Dice");
    close(found.terms.consistency, expected.terms.consistency, "consistency");
    for (found, expected) in
        [(found.dice_vote, expected.dice_vote), (found.dice_truth, expected.dice_truth)]
    {
        let (found, expected) = (found.unwrap(), expected.unwrap());
        assert!((found - expected).abs() <= DICE, "validation: {found}, not {expected}");
    }
    assert_eq!(found.quality.is_some(), expected.quality.is_some());
    if let (Some(found), Some(expected)) = (&found.quality, &expected.quality) {
        assert_eq!(found.passing_share, expected.passing_share);
        close(found.u_a, expected.u_a, "u_a");
        close(found.u_a_all, expected.u_a_all, "u_a everywhere");
        close(found.u_b, expected.u_b, "u_b");
        assert_eq!(found.uncertainty.len(), expected.uncertainty.len());
        for (found, expected) in found.uncertainty.iter().zip(&expected.uncertainty) {
            close(*found, *expected, "uncertainty");
        }
    }
}

/// Trains on both sides; gives what the emulator did.
fn compare(architecture: &Architecture, config: &TrainingConfig) -> Option<Trained> {
    let found = emulated(architecture, config, None)?;
    let expected = train(architecture, config, &mut Cpu, None).unwrap();
    assert_eq!(found.outcome.metrics.len(), expected.outcome.metrics.len());
    for (found, expected) in found.outcome.metrics.iter().zip(&expected.outcome.metrics) {
        compare_epochs(found, expected);
    }
    let chosen = |outcome: &Outcome| {
        (outcome.best_epoch, outcome.first_gate_epoch, outcome.primary_trained, outcome.n_steps)
    };
    assert_eq!(chosen(&found.outcome), chosen(&expected.outcome));
    let apart = distance(&values(&found.model), &values(&expected.model)) / RATE;
    assert!(apart <= WEIGHTS, "weights are {apart:.3} steps apart");
    let apart = distance(&statistics(&found.model), &statistics(&expected.model));
    assert!(apart <= METRIC, "statistics are {apart:.1e} apart");
    Some(found)
}

/// A gate that opens after the first epoch and that about half of the cases pass: its threshold is a mean of the CPU's.
fn half_open() -> QualityConfig {
    let open = QualityConfig { tau_a: 10.0, tau_b: 4.0, ..QualityConfig::default() };
    let config = TrainingConfig { epochs: 1, ..config() };
    let seen = train(&uma(open), &config, &mut Cpu, None).unwrap();
    let quality = seen.outcome.metrics[0].quality.clone().unwrap();
    QualityConfig { tau_a: quality.u_a, start_share: 0.3, ..open }
}

#[test]
fn a_training_of_a_unet_is_that_of_the_cpu() {
    compare(&single(), &config());
}

#[test]
fn a_training_of_uma_net_is_that_of_the_cpu_when_the_gate_opens() {
    let Some(found) = compare(&uma(half_open()), &config()) else { return };
    let shares: Vec<f64> = found.outcome.metrics.iter().map(|m| m.primary_share).collect();
    assert_eq!((found.outcome.first_gate_epoch, shares[0]), (Some(1), 1.0));
    assert!(shares[1..].iter().any(|&share| share > 0.0 && share < 1.0), "{shares:?}");
}

#[test]
fn steps_that_train_nothing_are_skipped() {
    let closed = QualityConfig { start_share: 0.0, tau_a: 1e-9, ..QualityConfig::default() };
    let Architecture::Uma { config: network, shape } = uma(closed) else { unreachable!() };
    let network = UmaConfig { auxiliary: AuxiliaryConfig { enabled: false }, ..network };
    let selection = Selection::Last;
    let config = TrainingConfig { epochs: 2, selection, ..config() };
    let Some(found) = compare(&Architecture::Uma { config: network, shape }, &config) else {
        return;
    };
    assert_eq!(found.outcome.n_skipped_steps, found.outcome.n_steps);
    let untrained = Model::new(&Architecture::Uma { config: network, shape }, &streams).unwrap();
    assert_eq!(values(&found.model), values(&untrained));
}

#[test]
fn limits_decay_and_patches_are_those_of_the_cpu() {
    let adam = |weight_decay| nets::OptimizerConfig::Adam {
        beta1: 0.8,
        beta2: 0.99,
        // Of the size of a limited gradient, or Adam would not notice the limit.
        epsilon: 1e-3,
        weight_decay,
    };
    let patch = PatchConfig { size: [1, 8, 8], foreground_share: 0.5, overlap: 0.25 };
    // Far below the norm of a gradient, so that every step is limited by both networks together.
    let config = TrainingConfig {
        optimizer: adam(0.1),
        clip_norm: Some(0.01),
        patch: Some(patch),
        epochs: 2,
        ..config()
    };
    compare(&uma(QualityConfig::default()), &config);
    let Architecture::Uma { config: network, shape } = uma(QualityConfig::default()) else {
        unreachable!()
    };
    let network = UmaConfig { auem: AuemConfig { enabled: false, ..network.auem }, ..network };
    compare(&Architecture::Uma { config: network, shape }, &config);
}

#[test]
fn a_resumed_training_ends_in_the_same_bytes() {
    let config = config();
    for architecture in [single(), uma(half_open())] {
        let Some(whole) = emulated(&architecture, &config, None) else { return };
        assert_eq!(whole.checkpoints.len(), 2);
        for (done, checkpoint) in whole.checkpoints.iter().enumerate() {
            let rest = emulated(&architecture, &config, Some(checkpoint)).unwrap();
            assert_eq!(rest.outcome, whole.outcome, "after {} epochs", done + 1);
            assert_eq!(values(&rest.model), values(&whole.model));
            assert_eq!(statistics(&rest.model), statistics(&whole.model));
            assert_eq!(rest.checkpoints, whole.checkpoints[done + 1..]);
        }
    }
}

#[test]
fn a_training_in_bf16_learns_as_one_in_f32() {
    let half = TrainingConfig { precision: Precision::Bf16, ..config() };
    let Some(found) = emulated(&single(), &half, None) else { return };
    let expected = train(&single(), &config(), &mut Cpu, None).unwrap();
    let losses = |trained: &Trained| -> Vec<f64> {
        trained.outcome.metrics.iter().map(|epoch| epoch.terms.total).collect()
    };
    for (found, expected) in losses(&found).into_iter().zip(losses(&expected)) {
        assert!((found / expected - 1.0).abs() < 0.05, "{found}, not {expected}");
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_as_on_the_cpu() {
    let Some(device) = Emulator::new() else { return };
    let config = config();
    let architecture = uma(QualityConfig::default());
    let fault = |backend: &mut dyn Backend| {
        let mut model = Model::new(&architecture, &streams).unwrap();
        let (_, backbone) = model.trainable_mut().parts_mut().remove(0);
        backbone.values.fill(f32::NAN);
        let train = discs(4, 1);
        let training = Training {
            config: &config,
            train: &train,
            validation: Some(&train),
            recompute: false,
            readers: 1,
            streams: &streams,
        };
        let model = model.trainable_mut();
        training.run_on(backend, model, &mut Hooks::default(), None).unwrap_err().to_string()
    };
    let found = fault(&mut DeviceBackend::new(device, &config).unwrap());
    assert_eq!(found, fault(&mut Cpu));
    assert!(found.starts_with("loss is not finite at step 0 (epoch 0)"), "{found}");
}

#[test]
fn what_the_device_cannot_do_is_refused() {
    let sgd = nets::OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let config = TrainingConfig { optimizer: sgd, ..config() };
    let refused = DeviceBackend::new(Emulator::without_kernels(), &config).unwrap_err();
    assert!(matches!(
        refused,
        NetsError::Device { fault: DeviceFault::Refused, hint: Some(_), .. }
    ));
    assert!(matches!(config.optimizer_at(0), Optimizer::Sgd(SgdConfig { momentum: 0.9, .. })));
    let memory = NetsError::from(CudaError::Memory { n_bytes: (3 << 20) + 1 });
    let NetsError::Device { fault, source, .. } = memory else { unreachable!() };
    assert_eq!(fault, DeviceFault::Memory);
    assert_eq!(source.to_string(), "the GPU has no 4 MiB more");
}

#[test]
fn gpus_are_named_as_the_driver_counts_them() {
    assert_eq!(ordinal("3", None).unwrap(), 3);
    assert_eq!(ordinal("3", Some("2,3")).unwrap(), 1);
    assert_eq!(ordinal("GPU-5a", Some("GPU-5a")).unwrap(), 0);
    let unknown = ordinal("1", Some("0")).unwrap_err().to_string();
    assert_eq!(unknown, "no GPU is called `1`: CUDA_VISIBLE_DEVICES is `0`");
    assert!(ordinal("GPU-5a", None).is_err());
}
