//! Normalization against a naive f64 version and finite differences of it.

use super::*;
use crate::{
    MaxPool, Pooled, Volume, Write, bf16,
    reference::{assert_close, numbers, on_all_sets, relative_error},
};

/// Error of results that are rounded to bf16, of 8 digits, relative to their norm.
const BF16_TOLERANCE: f64 = 4e-3;

/// Kinds and activations of the tests; groups are of two channels or of all.
fn norms(n_channels: usize) -> Vec<Norm> {
    let groups = if n_channels.is_multiple_of(2) { n_channels / 2 } else { 1 };
    let kinds = [NormKind::Batch, NormKind::Instance, NormKind::Group { groups }];
    let activations =
        [Activation::Identity, Activation::Relu, Activation::LeakyRelu { slope: 0.01 }];
    let pair = |kind| activations.map(|activation| Norm { kind, activation });
    kinds.into_iter().flat_map(pair).collect()
}

/// Cases, pixels of each and channels: fewer and more than lanes, periods cut short, several tasks.
const SHAPES: [[usize; 3]; 8] = [
    [1, 37, 1],
    [2, 25, 3],
    [3, 1400, 16],
    [2, 333, 24],
    [3, 5, 40],
    [1, 11_001, 6],
    [2, 9, 72],
    [4, 16, 512],
];

/// What a pass works on.
struct Setup<E> {
    shape: [usize; 3],
    values: Vec<E>,
    gradient: Vec<E>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl<E: Element> Setup<E> {
    fn new(shape: [usize; 3]) -> Self {
        let (len, n_channels) = (shape.iter().product(), shape[2]);
        let narrow = |values: Vec<f32>| values.into_iter().map(E::narrow).collect();
        Self {
            shape,
            // A mean far from zero, as after layers of positive inputs.
            values: narrow(numbers(len, 1).iter().map(|value| value + 3.0).collect()),
            gradient: narrow(numbers(len, 2)),
            scale: numbers(n_channels, 3).iter().map(|value| value + 1.0).collect(),
            shift: numbers(n_channels, 4),
        }
    }

    fn affine(&self) -> Affine<'_> {
        Affine { scale: &self.scale, shift: &self.shift }
    }

    fn statistics(&self, norm: Norm) -> NormStatistics {
        norm.statistics(&self.values, self.shape[0], self.shape[2], None)
    }

    fn apply(&self, norm: Norm) -> Vec<E> {
        let mut output = vec![E::narrow(f32::NAN); self.values.len()];
        norm.apply(&self.values, self.affine(), &self.statistics(norm), &mut output);
        output
    }

    /// Gradients of values, scale and shift; the latter two start at one.
    fn gradients(&self, norm: Norm) -> (Vec<E>, [Vec<f32>; 2]) {
        let mut values = self.values.clone();
        let statistics = self.statistics(norm);
        let mut to_affine = [vec![1.0; self.scale.len()], vec![1.0; self.scale.len()]];
        let [scale, shift] = &mut to_affine;
        let pair = (self.affine(), &statistics);
        norm.gradient(&self.gradient, &mut values, pair, AffineGradient { scale, shift });
        (values, to_affine)
    }
}

fn wide<E: Element>(values: &[E]) -> Vec<f32> {
    values.iter().map(|value| value.widen()).collect()
}

fn double<E: Element>(values: &[E]) -> Vec<f64> {
    values.iter().map(|value| f64::from(value.widen())).collect()
}

/// Set of values that share statistics, for each value.
fn set_of(norm: Norm, [_, n_pixels, n_channels]: [usize; 3], at: usize) -> usize {
    let (case, channel) = (at / n_channels / n_pixels, at % n_channels);
    match norm.kind {
        NormKind::Batch => channel,
        NormKind::Instance => case * n_channels + channel,
        NormKind::Group { groups } => case * groups + channel / (n_channels / groups),
    }
}

/// Normalized values and the inverse deviation at each place.
fn normal(norm: Norm, shape: [usize; 3], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let set = |at: usize| set_of(norm, shape, at);
    let mut sums = vec![[0.0; 3]; shape[0] * shape[2]];
    for (at, value) in values.iter().enumerate() {
        sums[set(at)][0] += 1.0;
        sums[set(at)][1] += value;
    }
    for (at, value) in values.iter().enumerate() {
        let [count, sum, _] = sums[set(at)];
        sums[set(at)][2] += (value - sum / count).powi(2);
    }
    let inv_std = |at: usize| 1.0 / (sums[set(at)][2] / sums[set(at)][0] + NORM_EPSILON).sqrt();
    let mean = |at: usize| sums[set(at)][1] / sums[set(at)][0];
    let normal = (0..values.len()).map(|at| (values[at] - mean(at)) * inv_std(at)).collect();
    (normal, (0..values.len()).map(inv_std).collect())
}

/// Activation and its slope.
fn activate(activation: Activation, line: f64) -> (f64, f64) {
    let slope = match activation {
        Activation::Identity => 1.0,
        Activation::Relu => 0.0,
        Activation::LeakyRelu { slope } => f64::from(slope),
    };
    if line > 0.0 { (line, 1.0) } else { (line * slope, slope) }
}

/// Pre-activations.
fn lines<E>(setup: &Setup<E>, normal: &[f64]) -> Vec<f64> {
    let of = |(at, normal): (usize, &f64)| {
        let channel = at % setup.shape[2];
        normal * f64::from(setup.scale[channel]) + f64::from(setup.shift[channel])
    };
    normal.iter().enumerate().map(of).collect()
}

fn expected_output<E: Element>(norm: Norm, setup: &Setup<E>) -> Vec<f64> {
    let (normal, _) = normal(norm, setup.shape, &double(&setup.values));
    let lines = lines(setup, &normal);
    lines.into_iter().map(|line| activate(norm.activation, line).0).collect()
}

/// Gradients of values, scale and shift by the textbook, for `gradient` of the output.
fn expected_gradients<E: Element>(norm: Norm, setup: &Setup<E>, gradient: &[f64]) -> [Vec<f64>; 3] {
    let (shape, n) = (setup.shape, setup.shape[2]);
    let (normal, inv_std) = normal(norm, shape, &double(&setup.values));
    let lines = lines(setup, &normal);
    let [mut to_scale, mut to_shift] = [vec![1.0; n], vec![1.0; n]];
    let mut sums = vec![[0.0; 3]; shape[0] * n];
    let mut scaled = vec![0.0; gradient.len()];
    for at in 0..gradient.len() {
        let passed = gradient[at] * activate(norm.activation, lines[at]).1;
        to_scale[at % n] += passed * normal[at];
        to_shift[at % n] += passed;
        scaled[at] = passed * f64::from(setup.scale[at % n]);
        let [count, plain, weighted] = &mut sums[set_of(norm, shape, at)];
        (*count, *plain) = (*count + 1.0, *plain + scaled[at]);
        *weighted += scaled[at] * normal[at];
    }
    let to_value = |at: usize| {
        let [count, plain, weighted] = sums[set_of(norm, shape, at)];
        inv_std[at] * (scaled[at] - (plain + normal[at] * weighted) / count)
    };
    [(0..gradient.len()).map(to_value).collect(), to_scale, to_shift]
}

/// Compares both passes of all kinds with the references.
fn check<E: Element>(shape: [usize; 3], tolerance: f64) {
    let setup = Setup::<E>::new(shape);
    for norm in norms(shape[2]) {
        let what = format!("{} {shape:?} {norm:?}", E::NAME);
        let output = expected_output(norm, &setup);
        for found in on_all_sets(|| wide(&setup.apply(norm))) {
            let error = relative_error(&found, &output);
            assert!(error < tolerance, "{what}: {error:.1e}");
        }
        let [values, scale, shift] = expected_gradients(norm, &setup, &double(&setup.gradient));
        for (found, to_affine) in on_all_sets(|| setup.gradients(norm)) {
            let error = relative_error(&wide(&found), &values);
            assert!(error < tolerance, "{what}, values: {error:.1e}");
            assert_close(&to_affine[0], &scale, &format!("{what}, scale"));
            assert_close(&to_affine[1], &shift, &format!("{what}, shift"));
        }
    }
}

#[test]
fn all_kinds_are_those_of_the_definition() {
    SHAPES.into_iter().for_each(|shape| check::<f32>(shape, 1e-5));
}

#[test]
fn all_kinds_in_bf16_are_rounded_once() {
    SHAPES.into_iter().for_each(|shape| check::<bf16>(shape, BF16_TOLERANCE));
}

#[test]
fn gradients_are_finite_differences() {
    // Smooth enough: no pre-activation of this shape is nearer to zero than a step moves it.
    const STEP: f64 = 1e-6;
    let shape = [2, 7, 4];
    let setup = Setup::<f32>::new(shape);
    let loss = |norm: Norm, values: &[f64]| {
        let (normal, _) = normal(norm, shape, values);
        let lines = lines(&setup, &normal);
        let outputs = lines.into_iter().map(|line| activate(norm.activation, line).0);
        outputs.zip(&setup.gradient).map(|(y, &weight)| y * f64::from(weight)).sum::<f64>()
    };
    for norm in norms(shape[2]) {
        let values = double(&setup.values);
        let slope = |at: usize| {
            let [mut less, mut more] = [values.clone(), values.clone()];
            less[at] -= STEP;
            more[at] += STEP;
            (loss(norm, &more) - loss(norm, &less)) / (2.0 * STEP)
        };
        let expected: Vec<f64> = (0..values.len()).map(slope).collect();
        let (found, _) = setup.gradients(norm);
        assert_close(&found, &expected, &format!("{norm:?}"));
    }
}

#[test]
fn running_statistics_follow_the_batch() {
    for shape in [[1, 1, 2], [1, 50, 3], [2, 300, 16]] {
        let setup = Setup::<f32>::new(shape);
        let n = (shape[0] * shape[1]) as f64;
        let [mut mean, mut variance] = [vec![1.0; shape[2]], vec![2.0; shape[2]]];
        let running = RunningStatistics { mean: &mut mean, variance: &mut variance };
        let mut output = vec![0.0; setup.values.len()];
        let batch = norm_relu_training(&setup.values, setup.affine(), running, &mut output);
        assert_eq!(batch, setup.statistics(Norm::default()));
        let of = |channel: usize| double(&setup.values).into_iter().skip(channel).step_by(shape[2]);
        let means: Vec<f64> = (0..shape[2]).map(|c| of(c).sum::<f64>() / n).collect();
        let blend = |channel: usize| {
            let squares: f64 = of(channel).map(|value| (value - means[channel]).powi(2)).sum();
            1.8 + 0.1 * squares / (n - 1.0).max(1.0)
        };
        assert_close(&variance, &(0..shape[2]).map(blend).collect::<Vec<_>>(), "variance");
        assert_close(&mean, &means.iter().map(|mean| 0.9 + 0.1 * mean).collect::<Vec<_>>(), "mean");
    }
}

#[test]
fn inference_is_training_by_other_statistics() {
    let setup = Setup::<bf16>::new([2, 21, 24]);
    let [mean, variance] = [vec![2.9; 24], vec![0.2; 24]];
    for found in on_all_sets(|| {
        let mut values = setup.values.clone();
        norm_relu_inference(&mut values, setup.affine(), &mean, &variance);
        values
    }) {
        let line = |(at, value): (usize, &f64)| {
            let normal =
                (value - f64::from(mean[0])) / (f64::from(variance[0]) + NORM_EPSILON).sqrt();
            (normal * f64::from(setup.scale[at % 24]) + f64::from(setup.shift[at % 24])).max(0.0)
        };
        let values = double(&setup.values);
        let expected: Vec<f64> = values.iter().enumerate().map(line).collect();
        assert!(relative_error(&wide(&found), &expected) < BF16_TOLERANCE);
    }
}

#[test]
fn constant_channel_gives_its_shift() {
    let (values, affine) = (vec![1000.0_f32; 30], Affine { scale: &[2.0], shift: &[0.25] });
    for norm in norms(1) {
        let mut output = vec![0.0; 30];
        norm.apply(&values, affine, &norm.statistics(&values, 2, 1, None), &mut output);
        assert_eq!(output, vec![0.25; 30], "{norm:?}");
    }
}

/// Pooling, channels and format of a check of the passes with pooling.
fn check_pooled<E: Element>(window: [usize; 3], volume: Volume, n_channels: usize, norm: Norm) {
    let shape = [volume.batch, volume.n_pixels() / volume.batch, n_channels];
    let (setup, pool) = (Setup::<E>::new(shape), MaxPool { window });
    let pooling = Pooling { volume, pool };
    let what = format!("{} {window:?} {volume:?} {norm:?}", E::NAME);
    let n_small = pool.output_volume(volume).n_pixels() * n_channels;
    let small_gradient: Vec<E> = numbers(n_small, 7).into_iter().map(E::narrow).collect();
    let run = || {
        let statistics = setup.statistics(norm);
        let pair = (setup.affine(), &statistics);
        let mut both = [setup.values.clone(), vec![E::default(); n_small]];
        let [output, pooled] = &mut both;
        norm.apply_pooled(pooling, &setup.values, pair, output, pooled);
        let mut to_affine = [vec![1.0; n_channels], vec![1.0; n_channels]];
        let [scale, shift] = &mut to_affine;
        let mut values = setup.values.clone();
        let gradient = PooledGradient { full: &setup.gradient, pooled: &small_gradient };
        let to = AffineGradient { scale, shift };
        norm.gradient_pooled(pooling, gradient, &mut values, pair, to);
        (both, values, to_affine)
    };
    let separate = || {
        let output = setup.apply(norm);
        let mut pooled = vec![E::default(); n_small];
        pool.forward(volume, n_channels, &output, &mut pooled);
        [output, pooled]
    };
    for (expected, (found, values, to_affine)) in on_all_sets(|| (separate(), run())) {
        assert_eq!(found, expected, "{what}");
        let mut full = wide(&setup.gradient);
        let input: Vec<f32> = expected_output(norm, &setup).iter().map(|&y| y as f32).collect();
        let mut output = vec![0.0; n_small];
        pool.forward(volume, n_channels, &input, &mut output);
        let small_gradient = wide(&small_gradient);
        let passed = Pooled { input: &input, output: &output, output_gradient: &small_gradient };
        pool.input_gradient(volume, n_channels, passed, &mut full, Write::Add);
        let [to_value, scale, shift] = expected_gradients(norm, &setup, &double(&full));
        let tolerance = if E::NAME == "f32" { 1e-5 } else { BF16_TOLERANCE };
        let [to_scale, to_shift] = &to_affine;
        // Windows of other sizes round in between.
        for (found, expected) in [(&wide(&values), to_value), (to_scale, scale), (to_shift, shift)]
        {
            let error = relative_error(found, &expected);
            assert!(error < tolerance, "{what}: {error:.1e}");
        }
    }
}

#[test]
fn pooling_in_the_same_pass_changes_nothing() {
    for (window, n_channels, [batch, slices, rows, columns]) in [
        ([1, 2, 2], 16, [2, 1, 9, 8]),
        ([1, 2, 2], 6, [3, 1, 4, 7]),
        ([2, 2, 2], 20, [2, 4, 5, 6]),
        ([2, 2, 2], 8, [1, 3, 4, 5]),
        ([1, 2, 1], 34, [1, 2, 6, 3]),
        ([1, 2, 2], 64, [2, 1, 40, 30]),
        ([1, 3, 2], 4, [2, 1, 7, 6]),
    ] {
        let volume = Volume { batch, slices, rows, columns };
        for norm in norms(n_channels) {
            check_pooled::<f32>(window, volume, n_channels, norm);
        }
        check_pooled::<bf16>(window, volume, n_channels, Norm::default());
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 16,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..Default::default()
    })]

    // Fewer pixels leave a gradient that is nothing but the rounding of its terms.
    #[test]
    fn any_shape_agrees_with_the_definition(shape in [1..4_usize, 8..80_usize, 1..70_usize]) {
        check::<f32>(shape, 1e-5);
        check::<bf16>(shape, BF16_TOLERANCE);
    }
}
