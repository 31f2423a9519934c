//! Runs `chains.toml` of a folder, which copies small files along chains of cells: `chains FOLDER`. Prints what it did as
//! one JSON object.
//!
//! What `tests/compare/engine` measures: a command with its start, the reading of its configuration and its end.
#![allow(clippy::print_stdout, reason = "prints its result")]

use std::{error::Error, fs, path::Path, sync::atomic::AtomicBool};

use engine::{
    Artifact, Ctx, Experiment, External, Limits, One, Out, Registry, Roots, Stage, StageError,
    Store, inputs, outputs, run, run_unchanged,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

struct Small;
impl Artifact for Small {
    const KIND: &'static str = "small";
}

inputs! { struct SmallIn { from: One<Small> } }
inputs! { struct NoneIn {} }
outputs! { struct SmallOut { file: Out<Small> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SourceConfig {
    file: String,
}

/// Takes a file of the user into the store.
struct Source;
impl Stage for Source {
    const NAME: &'static str = "source";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Takes a file.";
    type Config = SourceConfig;
    type Inputs = NoneIn;
    type Outputs = SmallOut;

    fn externals(
        config: &SourceConfig,
        project: &Path,
    ) -> Result<Option<Vec<External>>, StageError> {
        let (name, path) = (config.file.clone(), project.join(&config.file));
        Ok(Some(vec![External { name, path }]))
    }

    fn run(_: &SourceConfig, _: NoneIn, out: &SmallOut, ctx: &Ctx<'_>) -> Result<(), StageError> {
        copy(&ctx.externals()[0].path, out)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CopyConfig {
    /// Tells the cells of a chain apart, which would all be one otherwise.
    number: u64,
}

/// Copies a file.
struct Copy;
impl Stage for Copy {
    const NAME: &'static str = "copy";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Copies a file.";
    type Config = CopyConfig;
    type Inputs = SmallIn;
    type Outputs = SmallOut;

    fn run(_: &CopyConfig, inputs: SmallIn, out: &SmallOut, _: &Ctx<'_>) -> Result<(), StageError> {
        copy(inputs.from.file("file")?, out)
    }
}

fn copy(from: &Path, out: &SmallOut) -> Result<(), StageError> {
    fs::copy(from, out.file.path("file")).map_err(StageError::new)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("a folder with `chains.toml` is missing")?;
    let folder = std::path::absolute(folder)?;
    let registry = Registry::new().with(|registry| {
        registry.add::<Source>();
        registry.add::<Copy>();
    });
    let (file, roots) = ("chains.toml", Roots::find(&folder));
    let store = Store::open(&folder.join(".pipeline"))?;
    let report = match run_unchanged(file, &[], &roots, &registry, &store, &mut |_| {}) {
        Some(report) => report?,
        None => {
            let experiment = Experiment::load(file, &[], &roots, &registry)?;
            let (selected, never) = (vec![true; experiment.cells.len()], AtomicBool::new(false));
            run(&experiment, &selected, &store, Limits::of_machine(), &never, &mut |_| {})?
        }
    };
    println!("{}", serde_json::json!({ "built": report.built, "fresh": report.fresh }));
    Ok(())
}
