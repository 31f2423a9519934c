//! Prints the time of a training step of UNets: forward, backward, Adam.
//!
//! Run with `cargo run --release -p nets --example unet_rate [threads] [steps]`.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::{error::Error, time::Instant};

use kernels::{AdamConfig, AdamState};
use nets::{Axes, Unet, UnetConfig, Volume};

/// Base width, levels, decoders, and `[batch, row, column]`.
const NETS: [(usize, usize, usize, [usize; 3]); 6] = [
    (8, 4, 1, [8, 64, 64]),
    (16, 4, 1, [8, 64, 64]),
    (16, 5, 1, [8, 64, 64]),
    (16, 4, 5, [8, 64, 64]),
    (32, 4, 1, [4, 128, 128]),
    (32, 4, 1, [4, 256, 256]),
];

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2] * 1e3
}

/// Median milliseconds of the forward pass, the backward pass and the optimizer.
fn measure(
    config: UnetConfig,
    [batch, rows, columns]: [usize; 3],
    n_steps: usize,
) -> Result<[f64; 3], Box<dyn Error>> {
    let mut draws =
        (0_u32..).map(|draw| f64::from(draw.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX));
    let mut uniform = || draws.next().unwrap_or(0.5);
    let input: Vec<f32> = (0..batch * rows * columns).map(|_| uniform() as f32).collect();
    let gradients = vec![vec![input.clone()]; config.n_decoders];
    let mut unet = Unet::new(config, &mut uniform)?;
    let mut adam = AdamState::new(unet.parameters().count());
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for step in 0..=n_steps {
        let start = Instant::now();
        unet.forward(&input, Volume::flat(batch, rows, columns), true)?;
        let forward = start.elapsed();
        unet.parameters_mut().zero_gradients();
        unet.backward(&gradients)?;
        let backward = start.elapsed();
        let parameters = unet.parameters_mut();
        adam.update(&AdamConfig::default(), &mut parameters.values, &parameters.gradients);
        let whole = start.elapsed();
        if step > 0 {
            for (times, time) in
                times.iter_mut().zip([forward, backward - forward, whole - backward])
            {
                times.push(time.as_secs_f64());
            }
        }
    }
    Ok(times.map(median))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let n_steps = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build()?;
    println!("{n_threads} threads; medians of {n_steps} steps in ms");
    println!("{:<48}{:>9}{:>9}{:>9}{:>9}", "net", "forward", "backward", "adam", "step");
    for (base_width, levels, n_decoders, axes) in NETS {
        let config = UnetConfig {
            axes: Axes::Two,
            in_channels: 1,
            base_width,
            levels,
            n_decoders,
            n_heads: 1,
            out_channels: 1,
        };
        let [forward, backward, adam] =
            pool.install(|| measure(config, axes, n_steps).map_err(|error| error.to_string()))?;
        let name = format!("base {base_width}, {levels} levels, {n_decoders} decoders @ {axes:?}");
        let step = forward + backward + adam;
        println!("{name:<48}{forward:>9.1}{backward:>9.1}{adam:>9.1}{step:>9.1}");
    }
    Ok(())
}
