//! Prints the rate of the convolution and its gradients in GFLOP/s, for shapes of small and large networks, and their
//! share of what the cores can do: the rate of fused multiply-adds in registers, measured first. Minimal filtering does
//! fewer products than a convolution counts, so its share may be above 100 %.
//!
//! Run with `cargo run --release -p kernels --example conv_rate [threads] [filter]`; on a shared machine before it
//! `chrt -r 1`. The filter is a part of a row's name, such as `bf16` or `@ [4, 1, 256, 256]`.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::{error::Error, hint::black_box, time::Instant};

use kernels::{Conv, Element, Isa, UpConv, Volume, Write, bf16};

/// Time spent on each measured operation.
const SECONDS: f64 = 0.15;

/// In channels of both inputs, out channels, `[batch, slice, row, column]`; a kernel of three a side.
const SHAPES: [([usize; 2], usize, [usize; 4]); 32] = [
    ([1, 0], 16, [8, 1, 64, 64]),
    ([8, 8], 8, [8, 1, 64, 64]),
    ([16, 0], 16, [8, 1, 64, 64]),
    ([32, 0], 32, [8, 1, 32, 32]),
    ([64, 0], 64, [8, 1, 16, 16]),
    ([128, 128], 128, [8, 1, 8, 8]),
    ([256, 0], 256, [8, 1, 4, 4]),
    ([1, 0], 32, [4, 1, 256, 256]),
    ([32, 0], 32, [4, 1, 256, 256]),
    ([64, 0], 32, [4, 1, 256, 256]),
    ([32, 32], 32, [4, 1, 256, 256]),
    ([32, 0], 64, [4, 1, 128, 128]),
    ([64, 0], 64, [4, 1, 128, 128]),
    ([64, 64], 64, [4, 1, 128, 128]),
    ([64, 0], 128, [4, 1, 64, 64]),
    ([128, 0], 128, [4, 1, 64, 64]),
    ([128, 128], 128, [4, 1, 64, 64]),
    ([128, 0], 256, [4, 1, 32, 32]),
    ([256, 0], 256, [4, 1, 32, 32]),
    ([256, 0], 512, [4, 1, 16, 16]),
    ([512, 0], 512, [4, 1, 16, 16]),
    ([3, 0], 16, [1, 96, 96, 96]),
    ([16, 0], 16, [1, 96, 96, 96]),
    ([16, 16], 16, [1, 96, 96, 96]),
    ([32, 0], 32, [1, 96, 96, 96]),
    ([32, 32], 32, [1, 96, 96, 96]),
    ([32, 0], 32, [1, 48, 48, 48]),
    ([64, 0], 64, [1, 48, 48, 48]),
    ([64, 0], 64, [1, 24, 24, 24]),
    ([128, 0], 128, [1, 24, 24, 24]),
    ([128, 0], 128, [1, 12, 12, 12]),
    ([256, 0], 256, [1, 12, 12, 12]),
];

/// In and out channels and axes of transposed convolutions that double all sides.
const UP_SHAPES: [(usize, usize, [usize; 4]); 6] = [
    (64, 32, [4, 1, 128, 128]),
    (128, 64, [4, 1, 64, 64]),
    (256, 128, [4, 1, 32, 32]),
    (32, 16, [1, 48, 48, 48]),
    (64, 32, [1, 48, 48, 48]),
    (128, 64, [1, 24, 24, 24]),
];

/// In and out channels and axes of convolutions of one pixel.
const POINT_SHAPES: [(usize, usize, [usize; 4]); 2] =
    [(32, 1, [4, 1, 256, 256]), (16, 1, [1, 96, 96, 96])];

/// Which rows are printed and what their rates are compared with.
struct Filter {
    name: String,
    peak: Option<f64>,
}

/// Best time of several runs, in seconds.
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

fn buffer<E: Element>(len: usize) -> Vec<E> {
    (0..len).map(|i| E::narrow((i % 17) as f32 - 8.0)).collect()
}

fn volume([batch, slices, rows, columns]: [usize; 4]) -> Volume {
    Volume { batch, slices, rows, columns }
}

/// Chains of multiply-adds that do not wait for each other: latency times ports of today's cores.
const CHAINS: usize = 12;

/// `rounds` multiply-adds of every lane of `CHAINS` vectors.
///
/// # Safety
/// The machine must have AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_add_avx2(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let factor = _mm256_set1_ps(black_box(0.5));
    let mut sums = [factor; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, factor);
        }
    }
    _mm256_cvtss_f32(black_box(sums)[0])
}

/// As [`multiply_add_avx2`].
///
/// # Safety
/// The machine must have AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn multiply_add_avx512(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm512_cvtss_f32, _mm512_fmadd_ps, _mm512_set1_ps};
    let factor = _mm512_set1_ps(black_box(0.5));
    let mut sums = [factor; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, factor);
        }
    }
    _mm512_cvtss_f32(black_box(sums)[0])
}

/// GFLOP/s of f32 multiply-adds on all threads of the pool; none on sets without them.
fn peak() -> Option<f64> {
    const ROUNDS: usize = 1 << 22;
    let isa = Isa::current();
    let lanes = match isa {
        Isa::Portable => return None,
        Isa::Avx2 => 8,
        _ => 16,
    };
    let run = |_: rayon::BroadcastContext<'_>| {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the current set is one of this machine.
        black_box(unsafe {
            if isa == Isa::Avx2 { multiply_add_avx2(ROUNDS) } else { multiply_add_avx512(ROUNDS) }
        });
    };
    let best = seconds(|| drop(rayon::broadcast(run)));
    let flop = 2 * ROUNDS * CHAINS * lanes * rayon::current_num_threads();
    Some(flop as f64 / best * 1e-9)
}

/// Prints a row unless the filter leaves it out; `times` gives seconds of forward, input and weight gradient.
fn report<E: Element>(name: &str, filter: &Filter, flop: f64, times: impl FnOnce() -> [f64; 3]) {
    let split = if Isa::current() == Isa::AmxSplit { " split" } else { "" };
    let name = format!("{}{split} {name}", E::NAME);
    if name.contains(&filter.name) {
        let times = times();
        let rate = |seconds: f64| {
            let rate = flop / seconds * 1e-9;
            let share = filter.peak.map(|peak| format!("{:>4.0} %", rate / peak * 100.0));
            format!("{rate:>7.0}{}", share.unwrap_or_default())
        };
        let rates = times.map(rate).concat();
        let times = times.map(|seconds| format!("{:>8.2}", seconds * 1e3)).concat();
        println!("{name:<45}{:>8.0}{rates}{times}", flop * 1e-6);
    }
}

fn conv<E: Element>(conv: Conv, volume: Volume) -> [f64; 3] {
    let [first, second] = conv.in_channels.map(|n| buffer::<E>(volume.n_pixels() * n));
    let weights = buffer::<f32>(conv.n_weights());
    let mut output = buffer::<E>(volume.n_pixels() * conv.out_channels);
    let forward = seconds(|| conv.forward(volume, [&first, &second], &weights, None, &mut output));
    let (mut to_first, mut to_second) = (first.clone(), second.clone());
    let input = seconds(|| {
        let second = (!to_second.is_empty()).then_some((to_second.as_mut_slice(), Write::Replace));
        let targets = [Some((to_first.as_mut_slice(), Write::Replace)), second];
        conv.input_gradient(volume, &output, &weights, targets);
    });
    let mut sums = weights.clone();
    let weight = seconds(|| {
        conv.weight_gradient(volume, [&first, &second], &output, &mut sums, None);
    });
    [forward, input, weight]
}

fn up_conv<E: Element>(layer: UpConv, volume: Volume) -> [f64; 3] {
    let mut input = buffer::<E>(volume.n_pixels() * layer.in_channels);
    let weights = buffer::<f32>(layer.n_weights());
    let bias = buffer::<f32>(layer.out_channels);
    let mut output = buffer::<E>(layer.output_volume(volume).n_pixels() * layer.out_channels);
    let forward = seconds(|| layer.forward(volume, &input, &weights, Some(&bias), &mut output));
    let mut sums = weights.clone();
    let weight = seconds(|| layer.weight_gradient(volume, &input, &output, &mut sums, None));
    let gradient = seconds(|| {
        layer.input_gradient(volume, &output, &weights, &mut input, Write::Replace);
    });
    [forward, gradient, weight]
}

fn measure<E: Element>(filter: &Filter) {
    for (in_channels, out_channels, axes) in SHAPES {
        let kernel = [if axes[1] > 1 { 3 } else { 1 }, 3, 3];
        let layer = Conv { kernel, in_channels, out_channels };
        let flop = 2.0 * (volume(axes).n_pixels() * layer.n_weights()) as f64;
        let name = format!("{in_channels:?} -> {out_channels} @ {axes:?}");
        report::<E>(&name, filter, flop, || conv::<E>(layer, volume(axes)));
    }
    for (in_channels, out_channels, axes) in POINT_SHAPES {
        let layer = Conv::flat(1, in_channels, out_channels);
        let flop = 2.0 * (volume(axes).n_pixels() * layer.n_weights()) as f64;
        let name = format!("point {in_channels} -> {out_channels} @ {axes:?}");
        report::<E>(&name, filter, flop, || conv::<E>(layer, volume(axes)));
    }
    for (in_channels, out_channels, axes) in UP_SHAPES {
        let stride = [if axes[1] > 1 { 2 } else { 1 }, 2, 2];
        let layer = UpConv { stride, in_channels, out_channels };
        let flop = 2.0 * (volume(axes).n_pixels() * layer.n_weights()) as f64;
        let name = format!("up {in_channels} -> {out_channels} @ {axes:?}");
        report::<E>(&name, filter, flop, || up_conv::<E>(layer, volume(axes)));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build()?;
    let peak = pool.install(peak);
    let most = peak.map_or("no peak".to_owned(), |peak| format!("peak {peak:.0} GFLOP/s in f32"));
    println!(
        "{:?}, {n_threads} threads, {most}; rates in GFLOP/s, then times in ms",
        Isa::current()
    );
    let filter = Filter { name: filter, peak };
    let passes = ["forward", "input", "weight"];
    let width = if peak.is_some() { 13 } else { 7 };
    let heads = passes.map(|name| format!("{name:>width$}")).concat();
    let times = passes.map(|name| format!("{name:>8}")).concat();
    println!("{:<45}{:>8}{heads}{times}", "shape", "MFLOP");
    pool.install(|| {
        measure::<f32>(&filter);
        kernels::with_isa(Isa::AmxSplit, || measure::<f32>(&filter));
        measure::<bf16>(&filter);
    });
    Ok(())
}
