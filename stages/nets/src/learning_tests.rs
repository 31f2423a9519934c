//! Whole trainings of the real networks on noisy discs.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use crate::{
    Architecture, AuxiliaryConfig, Axes, Checkpoint, Hooks, MeanDice, Model, ModelInfo, Outcome,
    PatchConfig, Precision, QualityConfig, Samples, SingleConfig, TaskShape, Training,
    TrainingConfig, UmaConfig, WindowConfig,
    testing::{discs, in_memory, kept, stacks, streams},
    training::predict_each,
    write_model,
};

const SHAPE: TaskShape = TaskShape { n_channels: 1, n_structures: 1, n_sources: 3 };

fn uma() -> Architecture {
    let config = UmaConfig { base_width: 4, levels: 3, ..UmaConfig::default() };
    Architecture::Uma { config, shape: SHAPE }
}

fn single() -> Architecture {
    let config = SingleConfig { base_width: 4, levels: 3, ..SingleConfig::default() };
    Architecture::Single { config, shape: SHAPE }
}

fn config(epochs: usize) -> TrainingConfig {
    TrainingConfig { epochs, batch_size: 4, learning_rate: 1e-2, ..TrainingConfig::default() }
}

/// Trains on `train`; gives the model, the outcome and every checkpoint as bytes.
fn train(
    architecture: &Architecture,
    config: &TrainingConfig,
    (train, validation): (&Samples, &Samples),
    resume: Option<&[u8]>,
) -> (Model, Outcome, Vec<Vec<u8>>) {
    let streams = streams(11);
    let mut model = Model::new(architecture, &streams).unwrap();
    let resume = resume.map(|bytes| Checkpoint::from_bytes(bytes, model.trainable()).unwrap());
    let mut kept = Vec::new();
    let mut keep = |checkpoint: &Checkpoint| {
        kept.push(checkpoint.to_bytes());
        Ok(())
    };
    let mut hooks = Hooks { checkpoint: Some(&mut keep), ..Hooks::default() };
    let validation = Some(validation);
    let training =
        Training { config, train, validation, recompute: false, readers: 2, streams: &streams };
    let outcome = training.run(model.trainable_mut(), &mut hooks, resume.as_ref()).unwrap();
    (model, outcome, kept)
}

fn bytes(model: &Model) -> Vec<u8> {
    write_model(
        model.trainable(),
        &ModelInfo { structures: vec!["disc".into()], ..ModelInfo::default() },
    )
}

/// Mean Dice against the clean masks.
fn dice(model: &mut Model, test: &Samples, windows: Option<&WindowConfig>) -> f64 {
    let mut dice = MeanDice::default();
    predict_each(model.trainable_mut(), test, 8, windows, |case, found| {
        dice.add(found, case.truth.as_ref().unwrap(), 1);
    })
    .unwrap();
    dice.mean()
}

#[test]
fn an_interrupted_training_ends_in_the_same_bytes() {
    let (cases, validation) = (discs(9, 16, 1), discs(2, 16, 2));
    let formats = [Precision::F32, Precision::Bf16];
    for (architecture, precision) in [uma(), single()].into_iter().zip(formats) {
        let config = TrainingConfig { precision, ..config(4) };
        let (whole, outcome, kept) = train(&architecture, &config, (&cases, &validation), None);
        let (resumed, again, _) =
            train(&architecture, &config, (&cases, &validation), Some(&kept[1]));
        assert_eq!(again, outcome);
        assert_eq!(bytes(&resumed), bytes(&whole));
    }
}

#[test]
fn one_thread_and_two_give_the_same_bytes() {
    let (cases, validation) = (discs(6, 32, 1), discs(2, 32, 2));
    for architecture in [uma(), single()] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bytes(&train(&architecture, &config(2), (&cases, &validation), None).0))
        };
        assert_eq!(run(1), run(2));
    }
}

#[test]
fn noisy_discs_are_learned() {
    let (cases, validation, test) = (discs(32, 32, 1), discs(4, 32, 2), discs(16, 32, 3));
    for precision in [Precision::F32, Precision::Bf16] {
        let config = TrainingConfig { precision, ..config(12) };
        let (mut model, outcome, _) = train(&uma(), &config, (&cases, &validation), None);
        let dice = dice(&mut model, &test, None);
        assert!(outcome.primary_trained);
        assert!(dice > 0.9, "{precision:?}: {dice}, {:?}", outcome.metrics.last());
        let means = outcome.metrics.last().unwrap().quality.clone().unwrap();
        assert!(means.uncertainty.iter().all(|&sigma| (0.0..0.5).contains(&sigma)), "{means:?}");
    }
}

#[test]
fn a_gate_that_never_opens_is_reported() {
    let quality = QualityConfig { start_share: 0.0, tau_a: 1e-9, ..QualityConfig::default() };
    let (cases, validation) = (discs(4, 16, 1), discs(2, 16, 2));
    for (enabled, n_skipped) in [(true, 0), (false, 2)] {
        let auxiliary = AuxiliaryConfig { enabled };
        let config_of_net =
            UmaConfig { base_width: 4, levels: 3, quality, auxiliary, ..UmaConfig::default() };
        let architecture = Architecture::Uma { config: config_of_net, shape: SHAPE };
        let (_, outcome, _) = train(&architecture, &config(2), (&cases, &validation), None);
        assert!(!outcome.primary_trained && outcome.first_gate_epoch == Some(0));
        assert_eq!((outcome.n_primary_steps, outcome.n_skipped_steps), (0, n_skipped));
        assert!(outcome.metrics.iter().all(|epoch| epoch.primary_share == 0.0));
    }
}

/// A net of three axes on patches, in bf16, with everything that changes no byte.
fn deep() -> (Architecture, TrainingConfig) {
    let net = UmaConfig { base_width: 4, levels: 3, axes: Axes::Three, ..UmaConfig::default() };
    let patch = PatchConfig { size: [4, 16, 16], foreground_share: 0.5, overlap: 0.25 };
    let precision = Precision::Bf16;
    let config = TrainingConfig { patch: Some(patch), precision, ..config(16) };
    (Architecture::Uma { config: net, shape: SHAPE }, config)
}

#[test]
fn volumes_are_learned_by_patches_and_predicted_by_windows() {
    let [cases, validation, test] =
        [(16, 1), (2, 2), (4, 3)].map(|(n, seed)| in_memory(stacks(n, 6, 32, seed)));
    let (architecture, config) = deep();
    let (mut model, outcome, _) = train(&architecture, &config, (&cases, &validation), None);
    let windows = WindowConfig { size: [4, 16, 16], overlap: 0.5 };
    let dice = dice(&mut model, &test, Some(&windows));
    assert!(dice > 0.8, "{dice}, {:?}", outcome.metrics.last());
}

#[test]
fn threads_memory_and_recomputing_leave_a_training_on_volumes_as_it_is() {
    let (architecture, config) = deep();
    let config = TrainingConfig { epochs: 2, ..config };
    let run = |n_threads: usize, recompute: bool, n_kept: usize, readers: usize| {
        let cases = kept(stacks(4, 6, 24, 1), n_kept);
        let validation = kept(stacks(2, 6, 24, 2), n_kept);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| {
            let streams = streams(11);
            let mut model = Model::new(&architecture, &streams).unwrap();
            let training = Training {
                config: &config,
                train: &cases,
                validation: Some(&validation),
                recompute,
                readers,
                streams: &streams,
            };
            training.run(model.trainable_mut(), &mut Hooks::default(), None).unwrap();
            bytes(&model)
        })
    };
    let alone = run(1, false, 4, 1);
    assert!(alone == run(3, false, 4, 2) && alone == run(2, true, 0, 1));
    assert!(alone == run(16, false, 1, 3));
}
