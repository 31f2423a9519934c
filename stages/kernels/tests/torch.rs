//! Every operation against PyTorch's values, on every instruction set of the machine, in f32 and bf16.
//!
//! `torch.safetensors` is written by `tests/python/torch_vectors.py`: inputs that both formats represent, results of
//! PyTorch in f64. Errors are relative to the largest value of a tensor.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]
#![allow(clippy::panic, reason = "tests may fail loudly")]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, safetensors};
use kernels::{
    Activation, AdamConfig, AdamState, Affine, AffineGradient, Conv, Element, Interpolation, Isa,
    LossCase, MaxPool, Norm, NormKind, NormStatistics, Pooled, Resize, RunningStatistics,
    SgdConfig, SgdState, StridedConv, UmaLoss, UpConv, Volume, Write, bce_with_logits, bf16,
    clip_factor, gradient_norm, with_isa,
};

/// Bound on errors of f32 results, whatever the format of activations: sums of up to a few hundred products.
const F32: f64 = 1e-5;
/// Bound on errors of results that are rounded to bf16 once: 8 binary digits, half a unit in the last place is 2^-8.
const BF16: f64 = 4e-3;
/// The same for convolutions with stride, which add results of up to eight parts of the kernel.
const BF16_PARTS: f64 = 1.2e-2;
/// Bound on errors of products of f32 on the tiles of [`Isa::AmxSplit`], which keep 16 digits of 24.
const SPLIT: f64 = 3e-5;

/// The vectors whose names begin alike.
struct Case<'a> {
    name: &'a str,
    all: &'a BTreeMap<String, Tensor>,
}

impl Case<'_> {
    fn tensor(&self, what: &str) -> &Tensor {
        let name = format!("{}/{what}", self.name);
        self.all.get(&name).unwrap_or_else(|| panic!("no vector `{name}`"))
    }

    fn has(&self, what: &str) -> bool {
        self.all.contains_key(&format!("{}/{what}", self.name))
    }

    fn floats(&self, what: &str) -> Vec<f32> {
        let flat = self.tensor(what).to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all());
        flat.unwrap().to_vec1().unwrap()
    }

    fn numbers<E: Element>(&self, what: &str) -> Vec<E> {
        self.floats(what).into_iter().map(E::narrow).collect()
    }

    fn triple(&self, what: &str) -> [usize; 3] {
        let numbers = self.tensor(what).to_vec1::<i64>().unwrap();
        let sides: Vec<usize> =
            numbers.iter().map(|&side| usize::try_from(side).unwrap()).collect();
        sides.try_into().unwrap()
    }

    /// Axes and channels of activations.
    fn axes(&self, what: &str) -> (Volume, usize) {
        let [batch, slices, rows, columns, channels] = self.tensor(what).dims() else {
            panic!("`{what}` of {} has no five axes", self.name)
        };
        let [batch, slices, rows, columns] = [*batch, *slices, *rows, *columns];
        (Volume { batch, slices, rows, columns }, *channels)
    }

    /// Holds `found` against the stored values.
    fn check<E: Element>(&self, what: &str, found: &[E]) {
        let bound = match (E::NAME == f32::NAME, Isa::current()) {
            (true, Isa::AmxSplit) if self.name.starts_with("conv_f32/") => SPLIT,
            (true, _) => F32,
            (false, _) if self.has("stride") && self.triple("stride") != [1, 1, 1] => BF16_PARTS,
            (false, _) => BF16,
        };
        let found: Vec<f32> = found.iter().map(|value| value.widen()).collect();
        self.check_within(what, &found, bound);
    }

    fn check_within(&self, what: &str, found: &[f32], bound: f64) {
        let expected = self.floats(what);
        assert_eq!(found.len(), expected.len(), "{}/{what}", self.name);
        let largest = expected.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        let error = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).abs());
        let worst = error.fold(0.0, |worst: f64, error| if error > worst { error } else { worst });
        let all_finite = found.iter().all(|value| value.is_finite());
        let relative = worst / f64::from(largest).max(1e-30);
        assert!(
            all_finite && (relative <= bound || worst == 0.0),
            "{}/{what} on {:?}: relative error {relative:.2e}, bound {bound:.0e}",
            self.name,
            Isa::current()
        );
    }
}

/// Runs `body` on every case whose name begins with `prefix`, on every instruction set.
fn each(prefix: &str, body: impl Fn(&Case<'_>)) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torch.safetensors");
    let all: BTreeMap<String, Tensor> =
        safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect();
    let name = |key: &String| {
        let end = key.rfind('/')?;
        key.starts_with(prefix).then(|| key[..end].to_owned())
    };
    let mut names: Vec<String> = all.keys().filter_map(name).collect();
    names.dedup();
    assert!(!names.is_empty(), "no case begins with `{prefix}`");
    for isa in Isa::available() {
        for name in &names {
            with_isa(isa, || body(&Case { name, all: &all })).unwrap();
        }
    }
}

fn conv<E: Element>(case: &Case<'_>) {
    let ((volume, first_channels), (_, second_channels)) =
        (case.axes("first"), case.axes("second"));
    let &[slices, rows, columns, _, out_channels] = case.tensor("weight").dims() else {
        panic!("weights of {}", case.name)
    };
    let kernel = [slices, rows, columns];
    let conv = Conv { kernel, in_channels: [first_channels, second_channels], out_channels };
    let (first, second) = (case.numbers::<E>("first"), case.numbers::<E>("second"));
    let (weights, gradient) = (case.floats("weight"), case.numbers::<E>("gradient"));
    let bias = case.has("bias").then(|| case.floats("bias"));
    let mut output = vec![E::default(); gradient.len()];
    conv.forward(volume, [&first, &second], &weights, bias.as_deref(), &mut output);
    case.check("output", &output);

    let (mut to_first, mut to_second) = (first.clone(), second.clone());
    let to_second_input =
        (second_channels > 0).then_some((to_second.as_mut_slice(), Write::Replace));
    let targets = [Some((to_first.as_mut_slice(), Write::Replace)), to_second_input];
    conv.input_gradient(volume, &gradient, &weights, targets);
    case.check("first_gradient", &to_first);
    case.check("second_gradient", &to_second);

    let (mut to_weights, mut to_bias) = (vec![0.0; weights.len()], vec![0.0; out_channels]);
    let wanted = bias.is_some().then_some(to_bias.as_mut_slice());
    conv.weight_gradient(volume, [&first, &second], &gradient, &mut to_weights, wanted);
    case.check("weight_gradient", &to_weights);
    if bias.is_some() {
        case.check("bias_gradient", &to_bias);
    }
}

fn strided_conv<E: Element>(case: &Case<'_>) {
    let (volume, in_channels) = case.axes("first");
    let &[slices, rows, columns, _, out_channels] = case.tensor("weight").dims() else {
        panic!("weights of {}", case.name)
    };
    let (kernel, stride) = ([slices, rows, columns], case.triple("stride"));
    let conv = StridedConv { kernel, stride, in_channels, out_channels };
    let (input, gradient) = (case.numbers::<E>("first"), case.numbers::<E>("gradient"));
    let weights = case.floats("weight");
    let bias = case.has("bias").then(|| case.floats("bias"));
    let mut output = vec![E::default(); gradient.len()];
    conv.forward(volume, &input, &weights, bias.as_deref(), &mut output);
    case.check("output", &output);
    let mut to_input = input.clone();
    conv.input_gradient(volume, &gradient, &weights, &mut to_input, Write::Replace);
    case.check("first_gradient", &to_input);
    let (mut to_weights, mut to_bias) = (vec![0.0; weights.len()], vec![0.0; out_channels]);
    let wanted = bias.is_some().then_some(to_bias.as_mut_slice());
    conv.weight_gradient(volume, &input, &gradient, &mut to_weights, wanted);
    case.check("weight_gradient", &to_weights);
    if bias.is_some() {
        case.check("bias_gradient", &to_bias);
    }
}

#[test]
fn convolution() {
    each("conv/", |case| {
        if case.triple("stride") == [1, 1, 1] {
            conv::<f32>(case);
            conv::<bf16>(case);
        }
    });
    each("conv_f32/", conv::<f32>);
}

#[test]
fn convolution_with_stride() {
    each("conv/", |case| {
        if case.axes("second").1 == 0 {
            strided_conv::<f32>(case);
        }
        if case.triple("stride") != [1, 1, 1] {
            strided_conv::<bf16>(case);
        }
    });
}

fn up_conv<E: Element>(case: &Case<'_>) {
    let (volume, in_channels) = case.axes("input");
    let &[slices, rows, columns, _, out_channels] = case.tensor("weight").dims() else {
        panic!("weights of {}", case.name)
    };
    let conv = UpConv { stride: [slices, rows, columns], in_channels, out_channels };
    let (input, gradient) = (case.numbers::<E>("input"), case.numbers::<E>("gradient"));
    let (weights, bias) = (case.floats("weight"), case.floats("bias"));
    let mut output = vec![E::default(); gradient.len()];
    conv.forward(volume, &input, &weights, Some(&bias), &mut output);
    case.check("output", &output);
    let mut to_input = input.clone();
    conv.input_gradient(volume, &gradient, &weights, &mut to_input, Write::Replace);
    case.check("input_gradient", &to_input);
    let (mut to_weights, mut to_bias) = (vec![0.0; weights.len()], vec![0.0; out_channels]);
    conv.weight_gradient(volume, &input, &gradient, &mut to_weights, Some(&mut to_bias));
    case.check("weight_gradient", &to_weights);
    case.check("bias_gradient", &to_bias);
}

#[test]
fn transposed_convolution() {
    each("up_conv/", |case| {
        up_conv::<f32>(case);
        up_conv::<bf16>(case);
    });
}

/// The operation that a case's name means, and whether it uses stored statistics.
fn norm_of(name: &str) -> (Norm, bool) {
    let kind = match name {
        _ if name.contains("batch") => NormKind::Batch,
        _ if name.contains("instance") => NormKind::Instance,
        _ if name.contains("group_2") => NormKind::Group { groups: 2 },
        _ => NormKind::Group { groups: 3 },
    };
    let leaky = Activation::LeakyRelu { slope: 0.01 };
    let activation = if name.ends_with("leaky_relu") { leaky } else { Activation::Relu };
    (Norm { kind, activation }, name.contains("evaluation"))
}

fn norm<E: Element>(case: &Case<'_>) {
    let (norm, stored) = norm_of(case.name);
    let (volume, n_channels) = case.axes("input");
    let mut values = case.numbers::<E>("input");
    let (scale, shift) = (case.floats("scale"), case.floats("shift"));
    let affine = Affine { scale: &scale, shift: &shift };
    let statistics = if case.has("mean") {
        let (mut mean, mut variance) = (case.floats("mean"), case.floats("variance"));
        if stored {
            NormStatistics::of_running(&mean, &variance)
        } else {
            let running = RunningStatistics { mean: &mut mean, variance: &mut variance };
            let found = norm.statistics(&values, volume.batch, n_channels, Some(running));
            case.check("running_mean", &mean);
            case.check("running_variance", &variance);
            found
        }
    } else {
        norm.statistics(&values, volume.batch, n_channels, None)
    };
    let mut output = values.clone();
    norm.apply(&values, affine, &statistics, &mut output);
    case.check("output", &output);
    if stored {
        let mut in_place = values.clone();
        norm.apply_in_place(&mut in_place, affine, &statistics);
        assert_eq!(in_place, output, "{}", case.name);
        // There is no gradient with stored statistics: they are for inference.
        return;
    }
    let (mut to_scale, mut to_shift) = (vec![0.0; n_channels], vec![0.0; n_channels]);
    let to_affine = AffineGradient { scale: &mut to_scale, shift: &mut to_shift };
    let gradient = case.numbers::<E>("gradient");
    norm.gradient(&gradient, &mut values, (affine, &statistics), to_affine);
    case.check("input_gradient", &values);
    case.check("scale_gradient", &to_scale);
    case.check("shift_gradient", &to_shift);
}

#[test]
fn normalization_with_activation() {
    each("norm/", |case| {
        norm::<f32>(case);
        norm::<bf16>(case);
    });
}

fn pool<E: Element>(case: &Case<'_>) {
    let pool = MaxPool { window: case.triple("window") };
    let (volume, n_channels) = case.axes("input");
    let (input, gradient) = (case.numbers::<E>("input"), case.numbers::<E>("gradient"));
    let mut output = vec![E::default(); gradient.len()];
    pool.forward(volume, n_channels, &input, &mut output);
    assert_eq!(output, case.numbers("output"), "{}", case.name);
    let passed = Pooled { input: &input, output: &output, output_gradient: &gradient };
    let mut to_input = input.clone();
    pool.input_gradient(volume, n_channels, passed, &mut to_input, Write::Replace);
    assert_eq!(to_input, case.numbers("input_gradient"), "{}", case.name);
}

#[test]
fn max_pooling_with_ties() {
    each("pool/", |case| {
        pool::<f32>(case);
        pool::<bf16>(case);
    });
}

fn resize<E: Element>(case: &Case<'_>) {
    let interpolation = match case.name {
        name if name.contains("nearest") => Interpolation::Nearest,
        name if name.contains("aligned") => Interpolation::LinearAligned,
        _ => Interpolation::Linear,
    };
    let resize = Resize { interpolation, size: case.triple("size") };
    let (volume, n_channels) = case.axes("input");
    let (input, gradient) = (case.numbers::<E>("input"), case.numbers::<E>("gradient"));
    let mut output = vec![E::default(); gradient.len()];
    resize.forward(volume, n_channels, &input, &mut output);
    case.check("output", &output);
    let mut to_input = input.clone();
    resize.input_gradient(volume, n_channels, &gradient, &mut to_input, Write::Replace);
    case.check("input_gradient", &to_input);
}

#[test]
fn resizing() {
    each("resize/", |case| {
        resize::<f32>(case);
        resize::<bf16>(case);
    });
}

#[test]
fn cross_entropy() {
    each("loss/cross_entropy", |case| {
        let (logits, labels) = (case.floats("logits"), case.floats("labels"));
        let mut gradient = vec![f32::NAN; logits.len()];
        let loss = bce_with_logits(&logits, &labels, &mut gradient);
        case.check("loss", &[loss as f32]);
        case.check("gradient", &gradient);
    });
}

#[test]
fn losses_of_uma_net() {
    each("loss/uma_", |case| {
        let alpha = f64::from(case.floats("alpha")[0]);
        let (logits, maps, labels) =
            (case.floats("logits"), case.floats("uncertainty"), case.floats("labels"));
        let n_pixels = logits.len();
        let mut gradient = vec![f32::NAN; n_pixels];
        let mut gradients = vec![f32::NAN; maps.len()];
        let mut cases = [LossCase {
            prediction: &logits,
            uncertainty: maps.chunks(n_pixels).collect(),
            labels: labels.chunks(n_pixels).collect(),
            prediction_gradient: &mut gradient,
            uncertainty_gradients: gradients.chunks_mut(n_pixels).collect(),
        }];
        let loss = UmaLoss { consistency: alpha, ..UmaLoss::default() };
        let found = loss.run(&mut cases)[0];
        let terms = [found.total, found.cross_entropy, found.dice, found.consistency];
        case.check("terms", &terms.map(|term| term as f32));
        case.check("gradient", &gradient);
        case.check("uncertainty_gradient", &gradients);
    });
}

/// Values after each of the stored gradients, one after the other.
fn after_each_step(case: &Case<'_>, mut step: impl FnMut(&mut [f32], &[f32])) -> Vec<f32> {
    let start = Case { name: "optimizer", all: case.all };
    let (mut values, gradients) = (start.floats("values"), start.floats("gradients"));
    let mut seen = Vec::new();
    for gradient in gradients.chunks(values.len()) {
        step(&mut values, gradient);
        seen.extend_from_slice(&values);
    }
    seen
}

#[test]
fn adam_and_adamw() {
    each("optimizer/adam", |case| {
        let max_gradient_norm = case.name.ends_with("limit_3").then_some(3.0);
        let weight_decay = if case.name.contains("adamw") { 0.125 } else { 0.0 };
        let config = AdamConfig {
            learning_rate: 0.01,
            weight_decay,
            max_gradient_norm,
            ..AdamConfig::default()
        };
        let mut state = AdamState::new(case.tensor("values").dims()[1]);
        let found = after_each_step(case, |values, gradient| {
            state.update(&config, values, gradient);
        });
        case.check("values", &found);
    });
}

#[test]
fn sgd_with_and_without_momentum() {
    each("optimizer/sgd", |case| {
        let has = |what: &str| case.name.contains(what);
        let with_momentum = has("momentum") || has("nesterov") || has("decay");
        let config = SgdConfig {
            learning_rate: 0.1,
            momentum: if with_momentum { 0.9 } else { 0.0 },
            nesterov: has("nesterov"),
            weight_decay: if has("decay") { 0.125 } else { 0.0 },
        };
        let mut state = SgdState::new(&config, case.tensor("values").dims()[1]);
        let found = after_each_step(case, |values, gradient| {
            let limited = has("limit_3");
            let factor = if limited { clip_factor(gradient_norm(&[gradient]), 3.0) } else { 1.0 };
            state.update(&config, factor, values, gradient);
        });
        case.check("values", &found);
    });
}
