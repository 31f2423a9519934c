//! Time of many trivial cells, cold and with nothing to do: `many_cells [CELLS] [FOLDER]`.
//!
//! The experiment is ten chains of cells that copy a small file. Times are of this process: processor and wall seconds.
#![allow(clippy::print_stdout, reason = "prints its result")]

use std::{error::Error, fs, path::Path, sync::atomic::AtomicBool, time::Instant};

use engine::{
    Artifact, Ctx, Experiment, Limits, Many, Out, Registry, Roots, Stage, StageError, Store,
    inputs, outputs, plan, run,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

struct Small;
impl Artifact for Small {
    const KIND: &'static str = "small";
}

inputs! { struct SmallIn { from: Many<Small> } }
inputs! { struct NoneIn {} }
outputs! { struct SmallOut { file: Out<Small> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    number: u64,
}

struct First;
impl Stage for First {
    const NAME: &'static str = "first";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes a number.";
    type Config = Config;
    type Inputs = NoneIn;
    type Outputs = SmallOut;

    fn run(config: &Config, _: NoneIn, out: &SmallOut, _: &Ctx<'_>) -> Result<(), StageError> {
        out.file.write("file", config.number.to_string().as_bytes())
    }
}

struct Next;
impl Stage for Next {
    const NAME: &'static str = "next";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Adds a number to a file.";
    type Config = Config;
    type Inputs = SmallIn;
    type Outputs = SmallOut;

    fn run(
        config: &Config,
        inputs: SmallIn,
        out: &SmallOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut bytes = fs::read(inputs.from[0].file("file")?).map_err(StageError::new)?;
        bytes.truncate(64);
        bytes.extend(config.number.to_string().bytes());
        out.file.write("file", &bytes)
    }
}

fn experiment(n_cells: usize) -> String {
    const CHAINS: usize = 10;
    let cell = |i: usize| match i.checked_sub(CHAINS) {
        None => format!("[c{i}]\nuse = 'first'\nnumber = {i}\n"),
        Some(from) => format!("[c{i}]\nuse = 'next'\nin = {{ from = 'c{from}' }}\nnumber = {i}\n"),
    };
    (0..n_cells).map(cell).collect()
}

/// Processor seconds of this process, its own and the system's.
fn processor_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
    // A tick is a hundredth of a second on Linux.
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

fn timed<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let (wall, processor) = (Instant::now(), processor_seconds());
    let done = work()?;
    let processor = processor_seconds() - processor;
    println!("{what:20} {processor:6.2} s processor {:8.3} s wall", wall.elapsed().as_secs_f64());
    Ok(done)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_cells = arguments.next().map_or(Ok(1000), |text| text.parse::<usize>())?;
    let parent = arguments.next();
    let folder = match &parent {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let mut registry = Registry::new();
    registry.add::<First>();
    registry.add::<Next>();
    fs::write(folder.path().join("e.toml"), experiment(n_cells))?;
    let load = || Experiment::load("e.toml", &[], &Roots::find(folder.path()), &registry);
    let limits = Limits::of_machine();
    let all = |experiment: &Experiment, place: &Path| {
        let selected = vec![true; experiment.cells.len()];
        let store = Store::open(place)?;
        run(experiment, &selected, &store, limits, &AtomicBool::new(false), &mut |_| {})
    };
    let experiment = timed("load", load)?;
    let store = folder.path().join("store");
    let cold = timed("cold run", || all(&experiment, &store))?;
    let again = timed("no-op run", || all(&experiment, &store))?;
    timed("no-op with load", || all(&load()?, &store))?;
    let selected = vec![true; experiment.cells.len()];
    timed("no-op plan", || plan(&experiment, &selected, &Store::for_reading(&store)))?;
    println!("{n_cells} cells: {} built, then {} fresh", cold.built, again.fresh);
    Ok(())
}
