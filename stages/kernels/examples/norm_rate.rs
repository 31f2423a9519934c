//! Prints the time and rate of normalization and pooling in GB/s of the numbers that a pass must read and write.
//!
//! Run with `cargo run --release -p kernels --example norm_rate [threads] [filter]`.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::{error::Error, time::Instant};

use kernels::{
    Affine, AffineGradient, Element, Isa, MaxPool, Norm, Pooled, PooledGradient, Pooling, Volume,
    Write, bf16,
};

/// Time spent on each measured operation.
const SECONDS: f64 = 0.2;

/// Channels and `[batch, slice, row, column]`.
const SHAPES: [(usize, [usize; 4]); 5] = [
    (32, [4, 1, 256, 256]),
    (64, [4, 1, 128, 128]),
    (256, [4, 1, 32, 32]),
    (16, [1, 96, 96, 96]),
    (32, [1, 48, 48, 48]),
];

/// Best seconds of several runs.
fn seconds(mut run: impl FnMut()) -> f64 {
    run();
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Buffers of one shape and format.
struct Bench<E> {
    volume: Volume,
    n_channels: usize,
    values: Vec<E>,
    gradient: Vec<E>,
    output: Vec<E>,
    numbers: [Vec<f32>; 4],
}

impl<E: Element> Bench<E> {
    fn new(n_channels: usize, [batch, slices, rows, columns]: [usize; 4]) -> Self {
        let volume = Volume { batch, slices, rows, columns };
        let buffer = || {
            let values = (0..volume.n_pixels() * n_channels).map(|i| (i % 17) as f32 - 8.0);
            values.map(E::narrow).collect::<Vec<E>>()
        };
        let numbers = [1.0, 0.1, 0.0, 0.0].map(|value| vec![value; n_channels]);
        let [values, gradient, output] = [buffer(), buffer(), buffer()];
        Self { volume, n_channels, values, gradient, output, numbers }
    }

    /// Prints the time of `run`, which reads and writes `passes` times as much as there are values.
    fn show(&self, name: &str, passes: f64, filter: &str, run: impl FnMut()) {
        if !format!("{} {name}", E::NAME).contains(filter) {
            return;
        }
        let Volume { batch, slices, rows, columns } = self.volume;
        let shape =
            format!("{} {} @ {:?}", E::NAME, self.n_channels, [batch, slices, rows, columns]);
        let seconds = seconds(run);
        let rate = passes * size_of_val(self.values.as_slice()) as f64 / seconds * 1e-9;
        println!("{shape:<28}{name:<22}{:>9.2}{passes:>8.2}{rate:>9.1}", seconds * 1e3);
    }

    fn norm(&mut self, filter: &str) {
        let (norm, n) = (Norm::default(), self.n_channels);
        let mut values = self.values.clone();
        let mut output = std::mem::take(&mut self.output);
        let [scale, shift, to_scale, to_shift] = &mut self.numbers.clone();
        let affine = Affine { scale, shift };
        let mut statistics = norm.statistics(&values, self.volume.batch, n, None);
        self.show("statistics", 1.0, filter, || {
            statistics = norm.statistics(&values, self.volume.batch, n, None);
        });
        self.show("apply", 2.0, filter, || norm.apply(&values, affine, &statistics, &mut output));
        self.show("apply in place", 2.0, filter, || {
            norm.apply_in_place(&mut values, affine, &statistics);
        });
        values.copy_from_slice(&self.values);
        self.show("gradient", 5.0, filter, || {
            let to_affine = AffineGradient { scale: to_scale, shift: to_shift };
            norm.gradient(&self.gradient, &mut values, (affine, &statistics), to_affine);
        });
        self.output = output;
    }

    fn pool(&mut self, filter: &str) {
        let (norm, n, volume) = (Norm::default(), self.n_channels, self.volume);
        let window = [if volume.slices > 1 { 2 } else { 1 }, 2, 2];
        let (pool, n_taps) = (MaxPool { window }, window.iter().product::<usize>());
        let small = 1.0 / n_taps as f64;
        let mut values = self.values.clone();
        let mut output = std::mem::take(&mut self.output);
        let mut pooled = values[..values.len() / n_taps].to_vec();
        let small_gradient = pooled.clone();
        let [scale, shift, to_scale, to_shift] = &mut self.numbers.clone();
        let affine = Affine { scale, shift };
        let statistics = norm.statistics(&values, volume.batch, n, None);
        let pair = (affine, &statistics);
        self.show("pool", 1.0 + small, filter, || pool.forward(volume, n, &output, &mut pooled));
        let passed = Pooled { input: &output, output: &pooled, output_gradient: &small_gradient };
        self.show("pool gradient", 3.0 + 2.0 * small, filter, || {
            pool.input_gradient(volume, n, passed, &mut values, Write::Add);
        });
        values.copy_from_slice(&self.values);
        let pooling = Pooling { volume, pool };
        self.show("apply and pool", 2.0 + small, filter, || {
            norm.apply_pooled(pooling, &values, pair, &mut output, &mut pooled);
        });
        let gradient = PooledGradient { full: &self.gradient, pooled: &small_gradient };
        self.show("gradient with pool", 5.0 + 2.0 * small, filter, || {
            let to_affine = AffineGradient { scale: to_scale, shift: to_shift };
            norm.gradient_pooled(pooling, gradient, &mut values, pair, to_affine);
        });
        self.output = output;
    }
}

fn measure<E: Element>(n_channels: usize, axes: [usize; 4], filter: &str) {
    let mut bench = Bench::<E>::new(n_channels, axes);
    bench.norm(filter);
    bench.pool(filter);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build()?;
    println!("{:?}, {n_threads} threads", Isa::current());
    println!("{:<28}{:<22}{:>9}{:>8}{:>9}", "shape", "operation", "ms", "passes", "GB/s");
    for (n_channels, axes) in SHAPES {
        pool.install(|| measure::<f32>(n_channels, axes, &filter));
        pool.install(|| measure::<bf16>(n_channels, axes, &filter));
    }
    Ok(())
}
