//! Whole steps against the networks on the CPU.

use kernels::{AdamConfig, AdamState, Volume};
use nets::{
    AuemConfig, AuxiliaryConfig, Axes, Batch, EntropyDomain, EntropyForm, NetsError, Parameters,
    Predictor, QualityConfig, StepAt, StepReport, TaskShape, Trainable, UmaConfig, UmaNet,
    UncertaintyRange, VarianceForm,
};

use super::{Row, largest_error, uniform};
use crate::{CudaError, Device, Moment, Number, UmaPlan, UmaStep};

/// One network, batch and format.
struct Case {
    name: &'static str,
    config: UmaConfig,
    shape: TaskShape,
    volume: Volume,
    number: Number,
}

/// Bounds of the numbers of a case: losses, gradients and statistics of one step, weights after some.
///
/// A value within rounding of zero before a ReLU, or of its neighbour in a pooling, goes the other way in another order
/// of sums, and part of the gradient with it: seen once in some ten cases, as 1.5e-3 of a gradient. The operations
/// alone have tight bounds.
struct Bounds {
    loss: f64,
    gradient: f64,
    statistics: f64,
    /// Root mean square, in multiples of the learning rate. Where a gradient is about zero, Adam turns its rounding
    /// into a whole step, so the largest distance says little.
    weights: f64,
}

/// Steps of a case.
const N_STEPS: usize = 3;
const LEARNING_RATE: f64 = 1e-3;
/// Seed of the first batch.
const FIRST_SEED: u64 = 300;

fn bounds(number: Number) -> Bounds {
    match number {
        Number::F32 => Bounds { loss: 1e-5, gradient: 1e-2, statistics: 5e-3, weights: 0.3 },
        Number::Bf16 => Bounds { loss: 2e-2, gradient: 0.3, statistics: 3e-2, weights: 1.0 },
    }
}

fn cases() -> Vec<Case> {
    let quality =
        QualityConfig { start_share: 0.0, tau_a: 0.62, tau_b: 3.0, ..QualityConfig::default() };
    let small = UmaConfig { base_width: 8, levels: 3, quality, ..UmaConfig::default() };
    let shape = TaskShape { n_channels: 1, n_structures: 1, n_sources: 3 };
    let volume = Volume { batch: 3, slices: 1, rows: 16, columns: 24 };
    let other = UmaConfig {
        quality: QualityConfig {
            entropy: EntropyForm::MeanBinaryBits,
            domain: EntropyDomain::Union { radius_px: 2 },
            variance: VarianceForm::Sample,
            tau_a: 0.9,
            ..quality
        },
        loss: nets::LossConfig {
            uncertainty_range: UncertaintyRange::Symmetric { tau: 0.5 },
            ..small.loss
        },
        auxiliary: AuxiliaryConfig { enabled: false },
        ..small
    };
    let consensus = UmaConfig {
        quality: QualityConfig {
            entropy: EntropyForm::Binary,
            domain: EntropyDomain::Consensus { epsilon: 0.2 },
            tau_a: 10.0,
            ..quality
        },
        base_width: 6,
        levels: 2,
        ..small
    };
    let plain = UmaConfig { auem: AuemConfig { enabled: false, ..small.auem }, ..small };
    let deep = UmaConfig { axes: Axes::Three, ..small };
    let thick = UmaConfig { axes: Axes::Anisotropic { flat_poolings: 1 }, ..small };
    let case = |name, config: UmaConfig, shape, number| {
        let slices = if config.axes == Axes::Two { 1 } else { 4 };
        Case { name, config, shape, volume: Volume { slices, ..volume }, number }
    };
    let two = TaskShape { n_channels: 3, n_structures: 2, n_sources: 2 };
    vec![
        case("UMA-Net", small, shape, Number::F32),
        case("UMA-Net, no auxiliary head", other, two, Number::F32),
        case("UMA-Net, 2 levels of 6", consensus, two, Number::F32),
        case("without AUEM", plain, shape, Number::F32),
        case("UMA-Net, 3-D", deep, shape, Number::F32),
        case("UMA-Net, thick slices", thick, shape, Number::F32),
        case("UMA-Net, thick slices", thick, shape, Number::Bf16),
        case("UMA-Net", small, shape, Number::Bf16),
        case("without AUEM", plain, two, Number::Bf16),
    ]
}

/// Blobs on noise, and labels that are the blob with errors.
fn batch(shape: TaskShape, volume: Volume, seed: u64) -> Batch {
    let mut uniform = uniform(seed);
    let Volume { batch, slices, rows, columns } = volume;
    let (mut images, mut labels) = (Vec::new(), vec![Vec::new(); shape.n_sources]);
    for case in 0..batch {
        let (middle, radius) = (
            (rows as f64 * (0.3 + 0.4 * uniform()), columns as f64 * (0.3 + 0.4 * uniform())),
            4.0,
        );
        for place in 0..slices * rows * columns {
            let (row, column) = ((place / columns % rows) as f64, (place % columns) as f64);
            let inside = (row - middle.0).powi(2) + (column - middle.1).powi(2) < radius * radius;
            let contrast = if inside { 1.0 } else { -1.0 };
            for _ in 0..shape.n_channels {
                images.push((contrast + uniform() - 0.5) as f32);
            }
            for label in &mut labels {
                for _ in 0..shape.n_structures {
                    // The sources of later cases err more.
                    let wrong = uniform() < 0.02 + 0.15 * case as f64;
                    label.push(f32::from(u8::from(inside != wrong)));
                }
            }
        }
    }
    Batch { n_cases: batch, size: [slices, rows, columns], images, labels }
}

pub(super) fn compare(device: &mut dyn Device, tell: &mut dyn FnMut(Row)) -> Result<(), CudaError> {
    for case in cases() {
        // A fault is told as a row, so that the other cases are told too.
        if let Err(fault) = compare_case(device, &case, tell) {
            let (operation, shape) = ("step".to_owned(), format!("{}: {fault}", case.name));
            tell(Row { operation, shape, number: case.number, error: f64::NAN, bound: 0.0 });
        }
    }
    Ok(())
}

/// Initial weights from one seed.
fn streams(purpose: &str, parts: &[&str]) -> Box<dyn FnMut() -> f64> {
    let seed = [purpose].iter().chain(parts).flat_map(|part| part.bytes()).map(u64::from).sum();
    Box::new(uniform(seed))
}

fn refused(fault: &NetsError) -> CudaError {
    CudaError::Reference { what: fault.to_string() }
}

/// The config with the mean `u_a` of the first batch as its threshold, so that cases go either way.
fn between(config: &UmaConfig, shape: TaskShape, volume: Volume) -> Result<UmaConfig, CudaError> {
    let mut net = UmaNet::new(config, shape, &streams).map_err(|fault| refused(&fault))?;
    let moment = StepAt { epoch: 0, step: 0, n_steps: 4 };
    let report =
        net.step(&batch(shape, volume, FIRST_SEED), moment).map_err(|fault| refused(&fault))?;
    let tau_a = report.quality.map_or(config.quality.tau_a, |quality| quality.u_a);
    Ok(UmaConfig { quality: QualityConfig { tau_a, ..config.quality }, ..*config })
}

fn compare_case(
    device: &mut dyn Device,
    case: &Case,
    tell: &mut dyn FnMut(Row),
) -> Result<(), CudaError> {
    let Case { name, config, shape, volume, number } = case;
    let config = &between(config, *shape, *volume)?;
    let mut net = UmaNet::new(config, *shape, &streams).map_err(|fault| refused(&fault))?;
    net.begin_epoch(&[]);
    let plan = UmaPlan {
        number: *number,
        volume: *volume,
        n_structures: shape.n_structures,
        n_sources: shape.n_sources,
        loss: config.loss,
        quality: config.quality,
        adam: AdamConfig::default(),
    };
    let first: Vec<_> = net.parts().into_iter().map(|(_, part)| part.clone()).collect();
    let step = UmaStep::new(device, &plan, &first[0], first.get(1))?;
    let states = first.iter().map(|part| AdamState::new(part.values.len())).collect();
    let Volume { batch, slices, rows, columns } = *volume;
    let name = format!("{name}, {batch}x{slices}x{rows}x{columns}");
    let mut run = Run { case, name, bounds: bounds(*number), net, step, states, first, tell };
    for at in 0..N_STEPS {
        run.step(at)?;
    }
    run.compare_end()
}

/// A network on both sides.
struct Run<'a, D: Device> {
    case: &'a Case,
    name: String,
    bounds: Bounds,
    net: UmaNet,
    step: UmaStep<D>,
    states: Vec<AdamState>,
    first: Vec<Parameters>,
    tell: &'a mut dyn FnMut(Row),
}

/// Names of the networks in rows.
const PARTS: [&str; 2] = ["backbone", "AUEM"];

impl<D: Device> Run<'_, D> {
    fn row(&mut self, operation: &str, error: f64, bound: f64) {
        let (operation, shape, number) =
            (operation.to_owned(), self.name.clone(), self.case.number);
        (self.tell)(Row { operation, shape, number, error, bound });
    }

    /// One step on both sides; the first one is compared.
    fn step(&mut self, at: usize) -> Result<(), CudaError> {
        let batch = batch(self.case.shape, self.case.volume, FIRST_SEED + at as u64);
        let moment = StepAt { epoch: 0, step: at, n_steps: 4 };
        let report = self.net.step(&batch, moment).map_err(|fault| refused(&fault))?;
        let (alpha, gate) = (report.alpha, self.net.gate_acts());
        let moment = Moment { learning_rate: LEARNING_RATE, alpha, gate };
        self.step.step(&batch.images, &batch.labels, moment)?;
        let adam = AdamConfig { learning_rate: LEARNING_RATE, ..AdamConfig::default() };
        let parts = self.net.parts();
        let gradients: Vec<Vec<f32>> =
            parts.iter().map(|(_, part)| part.gradients.clone()).collect();
        if report.has_gradient() {
            let parts = self.net.parts_mut().into_iter().zip(&mut self.states);
            for (((_, part), state), gradients) in parts.zip(&gradients) {
                state.update(&adam, &mut part.values, gradients);
            }
        }
        if at == 0 { self.compare_first(&report, &gradients) } else { Ok(()) }
    }

    fn compare_first(
        &mut self,
        report: &StepReport,
        gradients: &[Vec<f32>],
    ) -> Result<(), CudaError> {
        let numbers = self.step.numbers()?;
        let quality = report.quality.clone().unwrap_or_default();
        let bound = self.bounds.loss;
        self.row("step: loss", relative(numbers.terms.total, report.terms.total), bound);
        self.row("step: u_a", relative(numbers.gate.u_a, quality.u_a), bound);
        self.row("step: u_b", relative(numbers.gate.u_b, quality.u_b), bound);
        let counts = [numbers.n_primary, numbers.n_auxiliary, numbers.gate.n_passing];
        let differ = counts != [report.n_primary, report.n_auxiliary, quality.n_passing]
            || numbers.moved != report.has_gradient();
        let operation = format!("step: routes {}+{}", numbers.n_primary, numbers.n_auxiliary);
        self.row(&operation, f64::from(u8::from(differ)), 0.0);
        let mut found = self.first.clone();
        match found.as_mut_slice() {
            [backbone] => self.step.read_gradients(backbone, None)?,
            [backbone, auem, ..] => self.step.read_gradients(backbone, Some(auem))?,
            [] => {}
        }
        for ((found, gradients), part) in found.iter().zip(gradients).zip(PARTS) {
            let error = distance(&found.gradients, gradients);
            self.row(&format!("step: gradient, {part}"), error, self.bounds.gradient);
        }
        Ok(())
    }

    /// Weights, statistics and optimizers after all steps, and a prediction.
    fn compare_end(&mut self) -> Result<(), CudaError> {
        let (found, found_states) = self.read()?;
        let parts: Vec<Parameters> =
            self.net.parts().into_iter().map(|(_, part)| part.clone()).collect();
        for ((part, found), name) in parts.iter().zip(&found).zip(PARTS) {
            let squares =
                part.values.iter().zip(&found.values).map(|(a, b)| f64::from(a - b).powi(2));
            let error = (squares.sum::<f64>() / part.values.len() as f64).sqrt() / LEARNING_RATE;
            self.row(&format!("{N_STEPS} steps: weights, {name}"), error, self.bounds.weights);
            let error = largest_error(&statistics(found), &statistics(part));
            self.row(
                &format!("{N_STEPS} steps: statistics, {name}"),
                error,
                self.bounds.statistics,
            );
        }
        let differ = found_states.iter().zip(&self.states);
        let differ = differ.filter(|(found, state)| found.step != state.step).count();
        self.row("Adam's count", differ as f64, 0.0);
        // The same weights on both sides, so that only the pass itself differs.
        for ((_, part), found) in self.net.parts_mut().into_iter().zip(&found) {
            part.clone_from(found);
        }
        let images = batch(self.case.shape, self.case.volume, 200).images;
        let expected =
            self.net.predict(&images, self.case.volume).map_err(|fault| refused(&fault))?;
        let error = largest_error(&self.step.predict(&images)?, &expected);
        self.row("prediction", error, self.bounds.loss);
        Ok(())
    }

    /// The networks as the device has them, and their optimizers.
    fn read(&mut self) -> Result<(Vec<Parameters>, Vec<AdamState>), CudaError> {
        let mut found = self.first.clone();
        let states = match found.as_mut_slice() {
            [backbone] => self.step.read(backbone, None)?,
            [backbone, auem, ..] => self.step.read(backbone, Some(auem))?,
            [] => Vec::new(),
        };
        Ok((found, states))
    }
}

fn statistics(parameters: &Parameters) -> Vec<f32> {
    parameters.buffers.iter().flat_map(|buffer| buffer.values.clone()).collect()
}

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected.abs().max(1e-3)
}

/// Euclidean distance over the norm of what is expected.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let pairs = found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    squares(&mut pairs.into_iter())
        / squares(&mut expected.iter().map(|&value| f64::from(value))).max(f64::MIN_POSITIVE)
}
