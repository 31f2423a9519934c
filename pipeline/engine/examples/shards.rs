//! Time of very many shards through two stages that run per shard: `shards [SHARDS] [FOLDER]`.
//!
//! Four runs: cold, nothing to do, one shard changed, one shard added. The times are of this process: processor and wall
//! seconds. The source makes all shards whenever one has changed, so what it takes alone is told apart.
#![allow(clippy::print_stdout, reason = "prints its result")]

use std::{error::Error, fs, path::Path, sync::atomic::AtomicBool, time::Instant};

use engine::{
    Artifact, Ctx, Event, Experiment, Limits, One, Out, Override, Registry, Roots, Stage,
    StageError, Store, inputs, outputs, run,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

struct Cases;
impl Artifact for Cases {
    const KIND: &'static str = "cases";
    const SHARDED: bool = true;
}

inputs! { struct NoneIn {} }
inputs! { struct OneIn { cases: One<Cases> } }
inputs! { struct TwoIn { cases: One<Cases>, marks: One<Cases> } }
outputs! { struct CasesOut { cases: Out<Cases> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SourceConfig {
    shards: usize,
    /// The shard whose content is another one.
    #[serde(default)]
    changed: Option<usize>,
}

struct Source;
impl Stage for Source {
    const NAME: &'static str = "source";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Makes shards.";
    type Config = SourceConfig;
    type Inputs = NoneIn;
    type Outputs = CasesOut;

    fn run(
        config: &SourceConfig,
        _: NoneIn,
        out: &CasesOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        for shard in 0..config.shards {
            let mark = if config.changed == Some(shard) { "changed" } else { "" };
            out.cases.write(&format!("case-{shard:06}"), format!("{shard}{mark}").as_bytes())?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoConfig {}

/// Marks each case.
struct Mark;
impl Stage for Mark {
    const NAME: &'static str = "mark";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Marks a case.";
    const PER_SHARD: bool = true;
    type Config = NoConfig;
    type Inputs = OneIn;
    type Outputs = CasesOut;

    fn run(_: &NoConfig, inputs: OneIn, out: &CasesOut, ctx: &Ctx<'_>) -> Result<(), StageError> {
        let text = fs::read(inputs.cases.file(ctx.shard())?).map_err(StageError::new)?;
        out.cases.write(ctx.shard(), &[text.as_slice(), b" marked"].concat())
    }
}

/// Puts a case and its mark together.
struct Join;
impl Stage for Join {
    const NAME: &'static str = "join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Joins a case and its mark.";
    const PER_SHARD: bool = true;
    type Config = NoConfig;
    type Inputs = TwoIn;
    type Outputs = CasesOut;

    fn run(_: &NoConfig, inputs: TwoIn, out: &CasesOut, ctx: &Ctx<'_>) -> Result<(), StageError> {
        let read = |path: &Path| fs::read(path).map_err(StageError::new);
        let case = read(inputs.cases.file(ctx.shard())?)?;
        out.cases.write(ctx.shard(), &[case, read(inputs.marks.file(ctx.shard())?)?].concat())
    }
}

const EXPERIMENT: &str = "\
[source]
use = 'source'
shards = 10

[marks]
use = 'mark'
in = { cases = 'source' }

[joined]
use = 'join'
in = { cases = 'source', marks = 'marks' }
";

/// Processor seconds of this process, its own and the system's.
fn processor_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
    // A tick is a hundredth of a second on Linux.
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

fn peak_mib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let n_shards = arguments.next().map_or(Ok(10_000), |text| text.parse::<usize>())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(parent)?;
    let mut registry = Registry::new();
    registry.add::<Source>();
    registry.add::<Mark>();
    registry.add::<Join>();
    fs::write(folder.path().join("e.toml"), EXPERIMENT)?;
    let store = folder.path().join("store");
    let phases = [
        ("cold", n_shards, String::new()),
        ("nothing to do", n_shards, String::new()),
        ("again", n_shards, String::new()),
        ("one changed", n_shards, format!("source.changed={}", n_shards / 2)),
        ("one added", n_shards + 1, format!("source.changed={}", n_shards / 2)),
    ];
    println!(
        "{:14} {:>8} {:>8} {:>8} {:>9} {:>7}  units",
        "", "cpu s", "wall s", "source s", "without s", "MiB"
    );
    for (phase, n, set) in phases {
        let sets = [format!("source.shards={n}"), set];
        let sets = sets.iter().filter(|set| !set.is_empty()).map(|set| Override::parse(set));
        let sets: Vec<Override> = sets.collect::<Result<_, _>>()?;
        let experiment = Experiment::load("e.toml", &sets, &Roots::find(folder.path()), &registry)?;
        let (wall, processor) = (Instant::now(), processor_seconds());
        let (mut units, mut source) = (0, 0.0);
        let mut observe = |event| match event {
            Event::Started { .. } => units += 1,
            Event::Built { cell, seconds, .. } if cell == "source" => source = seconds,
            _ => {}
        };
        let opened = Store::open(&store)?;
        let selected = vec![true; experiment.cells.len()];
        let (limits, never) = (Limits::of_machine(), AtomicBool::new(false));
        run(&experiment, &selected, &opened, limits, &never, &mut observe)?;
        drop(opened);
        let (wall, processor) = (wall.elapsed().as_secs_f64(), processor_seconds() - processor);
        println!(
            "{phase:14} {processor:8.2} {wall:8.2} {source:8.2} {:9.2} {:7}  {units}",
            wall - source,
            peak_mib()
        );
    }
    Ok(())
}
