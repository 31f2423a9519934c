//! Prints time and memory of the training steps of one network as a JSON object.
//!
//! Run with `cargo run --release -p nets --example step_rate -- net=unet size=1,256,256 batch=4 base=32`; every
//! setting is `name=value`, see [`Settings`]. A step is forward pass, loss, backward pass and Adam; the first one
//! is not counted.
#![allow(clippy::print_stdout, reason = "printing is what this program does")]

use std::{collections::BTreeMap, error::Error, str::FromStr, time::Instant};

use kernels::{AdamConfig, AdamState};
use nets::{
    Axes, Batch, Execution, LossConfig, Precision, SingleConfig, SingleNet, StepAt, TaskShape,
    Trainable, UmaConfig, UmaNet,
};

/// What is measured.
struct Settings {
    /// `unet` (cross-entropy on one label) or `uma` (UMA-Net's loss, backbone and uncertainty estimation).
    net: String,
    /// `[slice, row, column]`; more than one slice makes a network of three axes.
    size: [usize; 3],
    batch: usize,
    /// Channels of the image.
    channels: usize,
    base: usize,
    levels: usize,
    /// Labels a case.
    sources: usize,
    /// `dtype`, the number format of activations (`f32` or `bf16`), and `recompute` (`true` or `false`).
    execution: Execution,
    steps: usize,
    threads: usize,
}

impl Settings {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        for argument in arguments {
            let (name, value) = argument
                .split_once('=')
                .ok_or_else(|| format!("expected name=value: got `{argument}`"))?;
            given.insert(name.to_owned(), value.to_owned());
        }
        let mut text =
            |name: &str, default: &str| given.remove(name).unwrap_or_else(|| default.to_owned());
        let size = text("size", "1,256,256");
        let sides: Vec<usize> =
            size.split(',').map(|side| parse("size", side)).collect::<Result<_, _>>()?;
        let precision = match text("dtype", "f32").as_str() {
            "f32" => Precision::F32,
            "bf16" => Precision::Bf16,
            other => return Err(format!("dtype must be f32 or bf16: got `{other}`")),
        };
        let recompute = parse("recompute", &text("recompute", "false"))?;
        let settings = Self {
            execution: Execution { precision, recompute },
            net: text("net", "unet"),
            size: sides
                .try_into()
                .map_err(|_| format!("size must be slice,row,column: got `{size}`"))?,
            batch: parse("batch", &text("batch", "4"))?,
            channels: parse("channels", &text("channels", "1"))?,
            base: parse("base", &text("base", "32"))?,
            levels: parse("levels", &text("levels", "4"))?,
            sources: parse("sources", &text("sources", "1"))?,
            steps: parse("steps", &text("steps", "5"))?,
            threads: parse("threads", &text("threads", "2"))?,
        };
        given.keys().next().map_or(Ok(settings), |name| Err(format!("unknown setting `{name}`")))
    }

    fn axes(&self) -> Axes {
        if self.size[0] > 1 { Axes::Three } else { Axes::Two }
    }

    fn shape(&self) -> TaskShape {
        TaskShape { n_channels: self.channels, n_structures: 1, n_sources: self.sources }
    }

    fn network(&self) -> Result<Box<dyn Trainable>, Box<dyn Error>> {
        let (base_width, levels, axes) = (self.base, self.levels, self.axes());
        let streams = |_: &str, _: &[&str]| -> Box<dyn FnMut() -> f64> { Box::new(draws(7)) };
        let mut network: Box<dyn Trainable> = match self.net.as_str() {
            "unet" => {
                let loss = LossConfig { lambda: 0.0, ..LossConfig::default() };
                let config = SingleConfig { base_width, levels, axes, loss };
                Box::new(SingleNet::new(&config, self.shape(), &streams)?)
            }
            "uma" => {
                let config = UmaConfig { base_width, levels, axes, ..UmaConfig::default() };
                Box::new(UmaNet::new(&config, self.shape(), &streams)?)
            }
            other => return Err(format!("net must be unet or uma: got `{other}`").into()),
        };
        network.set_execution(self.execution);
        Ok(network)
    }

    /// Noise for images, masks of half the pixels for labels.
    fn batch(&self) -> Batch {
        let n_pixels = self.batch * self.size.iter().product::<usize>();
        let mut draw = draws(1);
        let images = (0..n_pixels * self.channels).map(|_| draw() as f32 - 0.5).collect();
        let mut mask = |_| (0..n_pixels).map(|_| f32::from(u8::from(draw() > 0.5))).collect();
        let labels = (0..self.sources).map(&mut mask).collect();
        Batch { n_cases: self.batch, size: self.size, images, labels }
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} is not a value of its kind: got `{text}`"))
}

/// Numbers in `[0, 1)` without end.
fn draws(seed: u32) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1_u32 << 24)
    }
}

/// Milliseconds of every step but the first, and the loss of the last.
fn measure(
    network: &mut dyn Trainable,
    settings: &Settings,
) -> Result<(Vec<f64>, f64), Box<dyn Error>> {
    let batch = settings.batch();
    let mut optimizers: Vec<AdamState> =
        network.parts().iter().map(|(_, part)| AdamState::new(part.count())).collect();
    let (mut times, mut loss) = (Vec::new(), 0.0);
    for step in 0..=settings.steps {
        let start = Instant::now();
        let at = StepAt { epoch: 0, step, n_steps: settings.steps + 1 };
        loss = network.step(&batch, at)?.terms.total;
        for ((_, part), adam) in network.parts_mut().into_iter().zip(&mut optimizers) {
            adam.update(&AdamConfig::default(), &mut part.values, &part.gradients);
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.remove(0);
    Ok((times, loss))
}

/// Greatest resident memory of this process in MiB, where the system tells it.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::read(std::env::args().skip(1))?;
    let mut network = settings.network()?;
    rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build_global()?;
    let (times, loss) = measure(network.as_mut(), &settings)?;
    let row = serde_json::json!({ "times_ms": times, "peak_mib": peak_mib(), "loss": loss });
    println!("{row}");
    Ok(())
}
