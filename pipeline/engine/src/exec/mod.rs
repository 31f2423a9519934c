//! `exec`: a program in any language as a cell, its ports written in the experiment.
//!
//! ```toml
//! [areas]
//! use = "exec"
//! argv = ["python3", "scripts/areas.py"]      # a list: no shell takes it apart
//! files = ["scripts/areas.py"]                # files and folders of the project that the program reads
//! in = { masks = "source1" }
//! inputs = { masks = "labels" }               # kind by port: `?` one or none, `+` one or more, `*` any, with their cells
//! outputs.areas = { kind = "areas", files = ["areas.csv"] }
//! config = { threshold = 0.5 }
//! ```
//!
//! The program runs in an empty folder, in which there are copies of `files` under their names, `inputs/PORT/N/` with the
//! parts of the n-th artifact of a port (links into the store, not to be written) and an empty `outputs/PORT/` for each
//! output. A JSON request on stdin says so too, with paths relative to that folder:
//!
//! ```json
//! { "config": {}, "rng_seed": 0, "shard": null,
//!   "inputs": { "masks": [{ "kind": "labels", "folder": "inputs/masks/0", "files": ["train-5f.parquet"] }] },
//!   "outputs": { "areas": { "kind": "areas", "folder": "outputs/areas", "files": ["areas.csv"] } },
//!   "scratch": "tmp", "checkpoints": "/…", "threads": 1, "gpus": [] }
//! ```
//!
//! What it says on either stream is in the log of the cell; a line `{"progress": 0.5, "doing": "…"}` on stdout is its
//! progress. It ends with 0 when its outputs are whole, with 75 when it may be better next time; any other code is a
//! failure, and a death by `SIGKILL` that nobody here has sent, or 137, is taken for want of memory.
//!
//! The environment is `PATH`, `HOME` and `TMPDIR` (the scratch folder), `LANG` and `LC_ALL` (`C.UTF-8`), `TZ` (`UTC`),
//! `OMP_NUM_THREADS`, `CUDA_VISIBLE_DEVICES` with the cell's own devices and none besides, `env` of the configuration, and
//! those that `pass` names. The key of the cell covers `argv`, `config`, `env` and the content of `files` and inputs: not
//! the interpreter or its libraries. Raise `version` when those change what comes out.

mod config;
mod error;
mod room;

use std::{
    collections::VecDeque,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus},
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::Value;

pub use config::{ExecConfig, ExecOutput};
pub use error::ExecError;

use crate::{
    child::{Stream, supervise},
    error::StageError,
    policy::FailureClass,
    ports::{Bound, InputPort, MadeOutput, OutputPort},
    registry::Registry,
    stage::{Ctx, DynStage, External, Refusal, Resolved, Resources, read_config},
};
use room::Room;

const NAME: &str = "exec";
const VERSION: u32 = 1;
/// Keys of the configuration that say where things lie and how patient to be.
const NONSEMANTIC: [&str; 2] = ["pass", "grace_seconds"];
/// Lines of a failed program that its error repeats.
pub(crate) const LAST_WORDS: usize = 5;
/// A program that ends with this code says that it may be better next time: `EX_TEMPFAIL`.
const TRY_AGAIN: i32 = 75;

/// The stage `exec`: without ports as it is registered, with those of a cell's table where a cell uses it.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    inputs: Vec<InputPort>,
    outputs: Vec<OutputPort>,
    per_shard: bool,
}

impl Exec {
    /// Adds the stage to a registry.
    pub fn register(registry: &mut Registry) {
        registry.add_dyn(Arc::new(Self::default()));
    }

    fn typed(config: &Resolved) -> &ExecConfig {
        config.typed().expect("a configuration goes back to the stage that resolved it")
    }

    /// Runs the program in a room that is ready and hears what it says.
    fn call(config: &ExecConfig, room: &Room<'_>, ctx: &Ctx<'_>) -> Result<(), ExecError> {
        let program = room.program(&config.argv[0])?;
        let mut command = match ctx.launcher {
            Some(launcher) => {
                let mut command = Command::new(launcher);
                let parent = std::process::id().to_string();
                command.args(["exec-child", &parent]).arg(&program).arg("--");
                command
            }
            None => Command::new(&program),
        };
        command.args(&config.argv[1..]).current_dir(room.folder()).stdin(room.request(config)?);
        command.env_clear().envs(room.environment(config));
        let mut last: VecDeque<String> = VecDeque::new();
        let grace = Duration::from_secs_f64(config.grace_seconds);
        let ended = supervise(&mut command, grace, &|| ctx.is_cancelled(), &mut |stream, line| {
            if stream == Stream::Out
                && let Some((fraction, doing)) = progress(line)
            {
                return ctx.progress(fraction, &doing);
            }
            ctx.log(line);
            last.push_back(line.to_owned());
            if last.len() > LAST_WORDS {
                last.pop_front();
            }
        });
        let ended = ended.map_err(ExecError::io("run", program))?;
        if ended.told {
            return Err(ExecError::Stopped);
        }
        if ended.status.success() {
            return Ok(());
        }
        Err(ExecError::Failed { status: ended.status, last: last.into() })
    }
}

/// What kind of failure an exit status is.
fn class_of(status: ExitStatus) -> FailureClass {
    const KILLED: i32 = 9;
    match (status.signal(), status.code()) {
        (Some(KILLED), _) => FailureClass::Memory,
        // A shell says so of what it has called.
        (_, Some(code)) if code == 128 + KILLED => FailureClass::Memory,
        (_, Some(TRY_AGAIN)) => FailureClass::Infrastructure,
        _ => FailureClass::Stage,
    }
}

/// Reads `{"progress": FRACTION, "doing": TEXT}`.
fn progress(line: &str) -> Option<(f64, String)> {
    if !line.starts_with('{') {
        return None;
    }
    let value: Value = serde_json::from_str(line).ok()?;
    let doing = value.get("doing").and_then(Value::as_str).unwrap_or_default();
    Some((value.get("progress")?.as_f64()?, doing.to_owned()))
}

impl From<ExecError> for StageError {
    fn from(error: ExecError) -> Self {
        let (class, hint) = (error.class(), error.hint());
        let mut wrapped = Self::new(error);
        if let Some(class) = class {
            wrapped = wrapped.of_class(class);
        }
        match hint {
            Some(hint) => wrapped.hint(hint),
            None => wrapped,
        }
    }
}

impl DynStage for Exec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn about(&self) -> &'static str {
        "Runs a program of yours in any language; its ports are written in the cell (`inputs`, `outputs`)."
    }

    fn per_shard(&self) -> bool {
        self.per_shard
    }

    fn inputs(&self) -> &[InputPort] {
        &self.inputs
    }

    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn schema(&self) -> &Value {
        static SCHEMA: LazyLock<Value> =
            LazyLock::new(|| schemars::schema_for!(ExecConfig).to_value());
        &SCHEMA
    }

    fn declares_ports(&self) -> bool {
        true
    }

    fn with_ports(
        &self,
        table: &Value,
        registry: &Registry,
    ) -> Result<Option<Arc<dyn DynStage>>, Refusal> {
        let ports = config::Ports::read(table, registry)?;
        let config::Ports { inputs, outputs, per_shard } = ports;
        Ok(Some(Arc::new(Self { inputs, outputs, per_shard })))
    }

    fn resolve(&self, config: &Value) -> Result<Resolved, Refusal> {
        let typed: ExecConfig = read_config(self.schema(), config)?;
        typed.check()?;
        let resources = (Resources::default(), 0);
        Resolved::new(typed, &NONSEMANTIC, resources, None)
    }

    fn externals(
        &self,
        config: &Resolved,
        project: &Path,
    ) -> Result<Option<Vec<External>>, StageError> {
        Ok(Some(room::externals(Self::typed(config), project)?))
    }

    fn run(
        &self,
        config: &Resolved,
        bound: Bound,
        _: &Path,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<(&'static str, MadeOutput)>, StageError> {
        let config = Self::typed(config);
        let room = Room::prepare(self, &bound, ctx)?;
        Self::call(config, &room, ctx)?;
        Ok(room.made(config)?)
    }
}

#[cfg(test)]
mod tests;
