//! Prints the rate of the convolution and its gradients in GFLOP/s, for shapes of small and large networks.
//!
//! Run with `cargo run --release -p kernels --example conv_rate [threads] [filter]`.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::{error::Error, time::Instant};

use kernels::{Conv, Isa, Volume, Write};

/// Time spent on each measured operation.
const SECONDS: f64 = 0.15;

/// In channels of both inputs, out channels, `[batch, slice, row, column]`.
const SHAPES: [([usize; 2], usize, [usize; 4]); 16] = [
    ([1, 0], 16, [8, 1, 64, 64]),
    ([8, 0], 8, [8, 1, 64, 64]),
    ([8, 8], 8, [8, 1, 64, 64]),
    ([16, 0], 16, [8, 1, 64, 64]),
    ([16, 16], 16, [8, 1, 64, 64]),
    ([16, 0], 32, [8, 1, 32, 32]),
    ([32, 0], 32, [8, 1, 32, 32]),
    ([64, 0], 64, [8, 1, 16, 16]),
    ([128, 0], 128, [8, 1, 8, 8]),
    ([128, 128], 128, [8, 1, 8, 8]),
    ([256, 0], 256, [8, 1, 4, 4]),
    ([32, 0], 32, [4, 1, 256, 256]),
    ([64, 0], 64, [4, 1, 128, 128]),
    ([256, 0], 256, [4, 1, 32, 32]),
    ([16, 0], 16, [1, 48, 48, 48]),
    ([32, 0], 32, [1, 32, 48, 48]),
];

/// Best rate of several runs.
fn rate(flop: f64, mut run: impl FnMut()) -> f64 {
    run();
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    flop / best * 1e-9
}

fn measure(in_channels: [usize; 2], out_channels: usize, axes: [usize; 4]) -> [f64; 4] {
    let [batch, slices, rows, columns] = axes;
    let volume = Volume { batch, slices, rows, columns };
    let kernel = [if slices > 1 { 3 } else { 1 }, 3, 3];
    let conv = Conv { kernel, in_channels, out_channels };
    let buffer = |len: usize| (0..len).map(|i| (i % 17) as f32 - 8.0).collect::<Vec<f32>>();
    let (first, second) =
        (buffer(volume.n_pixels() * in_channels[0]), buffer(volume.n_pixels() * in_channels[1]));
    let (weights, mut output) =
        (buffer(conv.n_weights()), buffer(volume.n_pixels() * out_channels));
    let flop = 2.0 * (volume.n_pixels() * conv.n_weights()) as f64;
    let forward =
        rate(flop, || conv.forward(volume, [&first, &second], &weights, None, &mut output));
    let (mut to_first, mut to_second) = (first.clone(), second.clone());
    let input = rate(flop, || {
        let second = (!to_second.is_empty()).then_some((to_second.as_mut_slice(), Write::Replace));
        conv.input_gradient(
            volume,
            &output,
            &weights,
            [Some((&mut to_first, Write::Replace)), second],
        );
    });
    let mut sums = weights.clone();
    let weight = rate(flop, || {
        conv.weight_gradient(volume, [&first, &second], &output, &mut sums, None);
    });
    [flop * 1e-6, forward, input, weight]
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build()?;
    println!("{:?}, {n_threads} threads; rates in GFLOP/s", Isa::current());
    println!("{:<34}{:>9}{:>9}{:>9}{:>9}", "shape", "MFLOP", "forward", "input", "weights");
    for (in_channels, out_channels, axes) in SHAPES {
        let name = format!("{in_channels:?} -> {out_channels} @ {axes:?}");
        if name.contains(&filter) {
            let [flop, forward, input, weight] =
                pool.install(|| measure(in_channels, out_channels, axes));
            println!("{name:<34}{flop:>9.0}{forward:>9.0}{input:>9.0}{weight:>9.0}");
        }
    }
    Ok(())
}
