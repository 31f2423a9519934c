//! What a cell says of its program, and the ports that follow from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
    sync::{Mutex, PoisonError},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::room;
use crate::{
    ports::{Arity, InputPort, OutputPort},
    registry::Registry,
    stage::Refusal,
};

/// An output of the program.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOutput {
    /// Kind of artifact, one that other stages read or a name of your own.
    pub kind: String,
    /// The files that it has, exactly; any, but at least one, where the list is empty.
    #[serde(default)]
    pub files: Vec<String>,
}

/// A program and its ports.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program and its arguments; with a slash in its name it is one of `files`, without one it is looked for in `PATH`.
    pub argv: Vec<String>,
    /// Files and folders of the project that the program reads, relative to the project; their content is part of the key.
    #[serde(default)]
    pub files: Vec<String>,
    /// Kind of artifact by input port, with a mark for the number: `?` one or none, `+` one or more, `*` any number,
    /// labelled by the cells that made them.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// What the program makes, by output port.
    pub outputs: BTreeMap<String, ExecOutput>,
    /// Handed to the program as it is.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Handed to the program: the number from which all its randomness should follow.
    #[serde(default)]
    pub rng_seed: u64,
    /// To be raised when the interpreter or a library changes what comes out.
    #[serde(default)]
    pub version: u32,
    /// Whether the program runs once a shard of its sharded inputs, and then makes one file of that name on every output.
    #[serde(default)]
    pub per_shard: bool,
    /// Variables of the environment; part of the key.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of variables that are passed on from the environment of the run, for places and secrets; not part of the key.
    #[serde(default)]
    pub pass: Vec<String>,
    /// Seconds between being asked to end and being killed.
    #[serde(default = "ten")]
    pub grace_seconds: f64,
}

fn ten() -> f64 {
    10.0
}

impl ExecConfig {
    /// Refuses what the types allow and no program can be run by.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(Refusal::new("argv", "expected a program: got an empty list"));
        }
        if let Some(i) = self.argv.iter().position(|word| word.contains('\0')) {
            return Err(Refusal::new(format!("argv.{i}"), "a word may not hold a zero byte"));
        }
        for (i, name) in self.files.iter().enumerate() {
            check_file(&format!("files.{i}"), name)?;
        }
        if self.outputs.is_empty() {
            return Err(Refusal::new("outputs", "expected at least one output: got none"));
        }
        for (port, output) in &self.outputs {
            for (i, name) in output.files.iter().enumerate() {
                let key = format!("outputs.{port}.files.{i}");
                if !is_file_name(name) {
                    let message = format!("expected a file name without folders: got \"{name}\"");
                    return Err(Refusal::new(key, message));
                }
                if self.per_shard {
                    let message =
                        "a program that runs per shard makes one file named for the shard";
                    return Err(Refusal::new(key, message));
                }
            }
        }
        for name in self.env.keys().chain(&self.pass) {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("expected the name of a variable: got \"{name}\"");
                return Err(Refusal::new("env", message));
            }
        }
        if !(0.0..=3600.0).contains(&self.grace_seconds) {
            let message = format!("expected 0 to 3600 seconds: got {}", self.grace_seconds);
            return Err(Refusal::new("grace_seconds", message));
        }
        Ok(())
    }
}

/// A name of one part, which no program takes for something else.
pub(super) fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    plain && !name.starts_with('.') && !name.ends_with('/') && !name.contains(['\0', '\n'])
}

/// A file of the project lies below it, and beside what the room of the program has of its own.
fn check_file(key: &str, name: &str) -> Result<(), Refusal> {
    let below = !name.is_empty()
        && !name.ends_with('/')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !below {
        let message = format!("expected a path below the project: got \"{name}\"");
        return Err(Refusal::new(key, message));
    }
    let first = name.split('/').next().unwrap_or_default();
    if room::OWN.contains(&first) {
        let message = format!("`{first}` is a name of the program's own folder");
        return Err(Refusal::new(key, message));
    }
    Ok(())
}

/// The ports that a cell's table writes.
pub(super) struct Ports {
    pub(super) inputs: Vec<InputPort>,
    pub(super) outputs: Vec<OutputPort>,
    pub(super) per_shard: bool,
}

impl Ports {
    /// Reads them from a table that is checked as a whole later: what is not readable here is left out.
    pub(super) fn read(table: &Value, registry: &Registry) -> Result<Self, Refusal> {
        let entries = |key: &str| table.get(key).and_then(Value::as_object).into_iter().flatten();
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (port, kind) in entries("inputs") {
            let Some(written) = kind.as_str() else { continue };
            let (kind, arity) = arity(written);
            let key = format!("inputs.{port}");
            let (name, kind) = (port_name(&key, port)?, kind_name(&key, kind)?);
            let sharded = registry.is_sharded(kind);
            inputs.push(InputPort { name, kind, sharded, view: &[], arity });
        }
        for (port, output) in entries("outputs") {
            let Some(kind) = output.get("kind").and_then(Value::as_str) else { continue };
            let key = format!("outputs.{port}");
            let (name, kind) = (port_name(&key, port)?, kind_name(&format!("{key}.kind"), kind)?);
            outputs.push(OutputPort { name, kind, sharded: registry.is_sharded(kind) });
        }
        let per_shard = table.get("per_shard") == Some(&Value::Bool(true));
        if per_shard && !inputs.iter().any(|port: &InputPort| port.sharded) {
            return Err(Refusal::new("per_shard", "no input is of a kind that comes in shards"));
        }
        Ok(Self { inputs, outputs, per_shard })
    }
}

/// A kind without the mark of its number.
fn arity(written: &str) -> (&str, Arity) {
    let marks = [('?', Arity::Optional), ('+', Arity::Many), ('*', Arity::Named)];
    let found = marks.iter().find_map(|(mark, arity)| Some((written.strip_suffix(*mark)?, *arity)));
    found.unwrap_or((written, Arity::One))
}

fn port_name(key: &str, name: &str) -> Result<&'static str, Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        let message = format!("expected a name of a-z, 0-9 and `_`: got \"{name}\"");
        return Err(Refusal::new(key, message));
    }
    Ok(interned(name))
}

fn kind_name(key: &str, name: &str) -> Result<&'static str, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) {
        let message = format!("expected the name of a kind of artifact: got \"{name}\"");
        return Err(Refusal::new(key, message));
    }
    Ok(interned(name))
}

/// A name for as long as the process lives, as those of stages in Rust are. Each is kept once, and an experiment has few.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}
