//! Whole training steps against PyTorch: loss terms, running statistics and the gradient of every parameter.
//!
//! `torch.safetensors` is written by `tests/python/torch_vectors.py`: networks of a few channels with their weights,
//! one batch, and what PyTorch makes of them in f64. Networks of many channels (`_wide`), whose convolutions take
//! other ways, draw their weights by a rule, and their results are seen through a few directions.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]
#![allow(clippy::panic, reason = "tests may fail loudly")]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, safetensors};
use nets::{
    Axes, Batch, ConsistencyConfig, LossConfig, Parameters, Ramp, RampShape, SingleConfig,
    SingleNet, StepAt, StepReport, TaskShape, Trainable, UmaConfig, UmaNet,
};

/// Bound on the error of a tensor relative to its largest value, or to its norm: about ten layers of f32 arithmetic.
const CLOSE: f64 = 2e-5;
/// Bound on the error of loss terms and scores, relative.
const TERM: f64 = 1e-6;
/// Where the linear ramp reaches the weight of the consistency loss that PyTorch used, 0.5.
const HALF_WAY: StepAt = StepAt { epoch: 0, step: 1, n_steps: 2 };

/// Numbers of 16 bits in [-1, 1) that follow from a name: `drawn` of `torch_vectors.py`.
fn drawn(name: &str) -> impl Iterator<Item = f64> {
    let mix = |salt: u32, byte: u8| (salt ^ u32::from(byte)).wrapping_mul(16_777_619);
    let salt = name.bytes().fold(2_166_136_261, mix);
    (0..).map(move |place: u32| {
        let mut x = place.wrapping_add(salt);
        for (shift, factor) in [(16, 0x7feb_352d), (15, 0x846c_a68b)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        f64::from((x ^ (x >> 16)) >> 16) / 32768.0 - 1.0
    })
}

/// The vectors of one step.
struct Case {
    name: &'static str,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    fn read(name: &'static str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torch.safetensors");
        let all = safetensors::load(path, &Device::Cpu).unwrap().into_iter();
        let own = |(key, tensor): (String, Tensor)| {
            Some((key.strip_prefix(name)?.strip_prefix('/')?.to_owned(), tensor))
        };
        Self { name, tensors: all.filter_map(own).collect() }
    }

    fn find(&self, what: &str) -> Option<Vec<f32>> {
        let flat = self.tensors.get(what)?.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        Some(flat.to_vec1().unwrap())
    }

    fn floats(&self, what: &str) -> Vec<f32> {
        self.find(what).unwrap_or_else(|| panic!("{} has no `{what}`", self.name))
    }

    fn check_terms(&self, what: &str, found: &[f64]) {
        let found: Vec<f32> = found.iter().map(|&term| term as f32).collect();
        for (place, (a, b)) in found.iter().zip(self.floats(what)).enumerate() {
            let error = f64::from(a - b).abs();
            assert!(
                error <= TERM * f64::from(b.abs()),
                "{}/{what}[{place}]: {a}, not {b}",
                self.name
            );
        }
    }

    /// Whether weights are drawn and results seen through directions.
    fn is_wide(&self) -> bool {
        self.name.ends_with("_wide")
    }

    /// The weights of a parameter of `len` numbers: stored, or drawn around a start with a spread.
    fn weights(&self, name: &str, len: usize) -> Vec<f32> {
        if !self.is_wide() {
            return self.floats(&format!("weight/{name}"));
        }
        let rule = self.floats(&format!("rule/{name}"));
        drawn(name).take(len).map(|value| rule[0] + rule[1] * value as f32).collect()
    }

    /// Holds a tensor against the stored one, or its norm and its products with directions against the stored ones.
    fn check_result(&self, kind: &str, name: &str, found: &[f32]) {
        let what = format!("{kind}/{name}");
        let expected: Vec<f64> = self.floats(&what).into_iter().map(f64::from).collect();
        let mut found: Vec<f64> = found.iter().copied().map(f64::from).collect();
        let scale = if self.is_wide() {
            let product = |direction: &str| drawn(direction).zip(&found).map(|(a, b)| a * b).sum();
            let norm = found.iter().map(|value| value * value).sum::<f64>().sqrt();
            let products = (0..expected.len() - 1).map(|n| product(&format!("{name}/{n}")));
            found = [norm].into_iter().chain(products).collect();
            expected[0]
        } else {
            expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()))
        };
        assert_eq!(found.len(), expected.len(), "{}/{what}", self.name);
        for (place, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() <= CLOSE * scale,
                "{}/{what}[{place}]: {a} and not {b}, scale {scale}",
                self.name
            );
        }
    }

    /// Runs a step of the case's network with the stored weights.
    fn step(&self) -> (Box<dyn Trainable>, StepReport) {
        let settings = self.tensors["settings"].to_vec1::<i64>().unwrap();
        let settings: Vec<usize> =
            settings.into_iter().map(|n| usize::try_from(n).unwrap()).collect();
        let &[
            axes,
            n_channels,
            base_width,
            levels,
            n_sources,
            n_structures,
            n_cases,
            slices,
            rows,
            columns,
        ] = settings.as_slice()
        else {
            panic!("settings of {}: {settings:?}", self.name)
        };
        let axes = if axes == 3 { Axes::Three } else { Axes::Two };
        let shape = TaskShape { n_channels, n_structures, n_sources };
        let streams = |_: &str, _: &[&str]| -> Box<dyn FnMut() -> f64> { Box::new(|| 0.5) };
        let mut net: Box<dyn Trainable> = if self.name.starts_with("unet") {
            let loss = LossConfig { lambda: 0.0, ..LossConfig::default() };
            let config = SingleConfig { base_width, levels, axes, loss };
            Box::new(SingleNet::new(&config, shape, &streams).unwrap())
        } else {
            let ramp = Ramp { shape: RampShape::Linear, fraction: 1.0 };
            let consistency = ConsistencyConfig { ramp, ..ConsistencyConfig::default() };
            let config =
                UmaConfig { base_width, levels, axes, consistency, ..UmaConfig::default() };
            Box::new(UmaNet::new(&config, shape, &streams).unwrap())
        };
        for (part, parameters) in net.parts_mut() {
            self.load(part, parameters);
        }
        let labels = self.floats("labels");
        let batch = Batch {
            n_cases,
            size: [slices, rows, columns],
            images: self.floats("image"),
            labels: labels.chunks(labels.len() / n_sources).map(<[f32]>::to_vec).collect(),
        };
        let report = net.step(&batch, HALF_WAY).unwrap();
        (net, report)
    }

    fn load(&self, part: &str, parameters: &mut Parameters) {
        let mut tensors = parameters.export();
        let n_entries = parameters.entries.len();
        for tensor in &mut tensors[..n_entries] {
            tensor.values = self.weights(&format!("{part}.{}", tensor.name), tensor.values.len());
        }
        parameters.import(&tensors).unwrap();
    }

    /// Holds every gradient and running statistic against the stored ones, and that none is left over.
    fn check_parts(&self, net: &dyn Trainable) {
        let mut n_checked = 0;
        for (part, parameters) in net.parts() {
            let mut gradients = parameters.clone();
            gradients.values.clone_from(&parameters.gradients);
            let n_entries = parameters.entries.len();
            for (index, tensor) in gradients.export().into_iter().enumerate() {
                let kind = if index < n_entries { "gradient" } else { "running" };
                self.check_result(kind, &format!("{part}.{}", tensor.name), &tensor.values);
                n_checked += 1;
            }
        }
        let stored = |name: &&String| name.starts_with("gradient/") || name.starts_with("running/");
        assert_eq!(n_checked, self.tensors.keys().filter(stored).count(), "{}", self.name);
    }
}

fn check_unet(name: &'static str) {
    let case = Case::read(name);
    let (net, report) = case.step();
    case.check_terms("terms", &[report.terms.total]);
    case.check_parts(net.as_ref());
}

fn check_uma(name: &'static str) {
    let case = Case::read(name);
    let (net, report) = case.step();
    let terms = report.terms;
    case.check_terms("terms", &[terms.total, terms.cross_entropy, terms.dice, terms.consistency]);
    let quality = report.quality.as_ref().unwrap();
    case.check_terms("quality", &[quality.u_a, quality.u_b]);
    assert_eq!((report.alpha, report.n_auxiliary), (0.5, 0), "{name}");
    case.check_parts(net.as_ref());
}

#[test]
fn unet_step_2d() {
    check_unet("unet_2d");
}

#[test]
fn unet_step_3d() {
    check_unet("unet_3d");
}

#[test]
fn uma_net_step_2d() {
    check_uma("uma_2d");
}

#[test]
fn uma_net_step_3d() {
    check_uma("uma_3d");
}

#[test]
fn unet_step_2d_of_many_channels() {
    check_unet("unet_2d_wide");
}

#[test]
fn unet_step_3d_of_many_channels() {
    check_unet("unet_3d_wide");
}

#[test]
fn uma_net_step_2d_of_many_channels() {
    check_uma("uma_2d_wide");
}
