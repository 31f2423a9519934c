//! The stage: a typed operation from artifacts to artifacts.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    error::StageError,
    misfit::misfit,
    ports::{Bound, InputPort, InputPorts, MadeOutput, OutputPort, OutputPorts},
    registry::Registry,
};

/// What a cell takes of the machine while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Processor cores, at least 1; a cell that asks for more than there are gets all.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1, memory: 256 << 20 }
    }
}

/// A file outside the store that a stage reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct External {
    /// Name that is part of the key: relative, the same on every machine.
    pub name: String,
    /// Where it lies on this machine; not part of the key.
    pub path: PathBuf,
}

/// A value of a configuration that its stage refuses.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Path of the value, its keys joined by dots.
    pub key: String,
    /// What is wrong, with what is expected and what was found.
    pub message: String,
}

impl Refusal {
    /// Refuses the value at `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// What a stage may see besides its configuration and its ports.
pub struct Ctx<'a> {
    pub(crate) shard: Option<String>,
    pub(crate) externals: Vec<External>,
    pub(crate) scratch: PathBuf,
    pub(crate) checkpoints: PathBuf,
    pub(crate) threads: usize,
    pub(crate) gpus: Vec<String>,
    pub(crate) progress: &'a (dyn Fn(f64, &str) + Sync),
    pub(crate) log: &'a (dyn Fn(&str) + Sync),
    pub(crate) cancelled: &'a AtomicBool,
    pub(crate) launcher: Option<&'a Path>,
    pub(crate) deadline: Option<Instant>,
}

impl Ctx<'_> {
    /// The part name of the shard at hand; empty for a stage that does not run per shard.
    pub fn shard(&self) -> &str {
        self.shard.as_deref().unwrap_or_default()
    }

    /// The outside files that the stage listed, with their places on this machine.
    pub fn externals(&self) -> &[External] {
        &self.externals
    }

    /// An empty folder that is removed after the stage.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A folder of this key alone that outlives a killed run; emptied when the stage has succeeded.
    pub fn checkpoints(&self) -> &Path {
        &self.checkpoints
    }

    /// Threads that the stage may use. Its output must not depend on them.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The graphics processors that are this stage's alone while it runs, as `CUDA_VISIBLE_DEVICES` names them.
    pub fn gpus(&self) -> &[String] {
        &self.gpus
    }

    /// Adds to the log of the cell, which `pipeline logs` shows.
    pub fn log(&self, text: &str) {
        (self.log)(text);
    }

    /// Reports how far the stage is, in `[0, 1]`, and what it is doing.
    pub fn progress(&self, fraction: f64, doing: &str) {
        (self.progress)(fraction, doing);
    }

    /// Whether the run is being stopped or the time of the cell is over; a long stage then saves its checkpoint and returns.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.is_late()
    }

    /// Whether the time of the cell is over.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A typed operation. Implement it and register it; nothing else is needed to use it in an experiment.
pub trait Stage: Send + Sync + 'static {
    /// Name in experiments, for example `noise.shift`.
    const NAME: &'static str;
    /// To be raised whenever the same inputs give another output.
    const VERSION: u32;
    /// One sentence for `pipeline stages`.
    const ABOUT: &'static str;
    /// Whether the stage runs once a shard, with a key of its own for each.
    const PER_SHARD: bool = false;
    /// Keys of the configuration that do not change the output: paths, threads, buffer sizes.
    const NONSEMANTIC: &'static [&'static str] = &[];
    /// Resolved configuration; unknown keys are refused by its schema.
    type Config: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// What it reads.
    type Inputs: InputPorts;
    /// What it makes.
    type Outputs: OutputPorts;

    /// Refuses values that the types of the configuration allow and the stage does not.
    ///
    /// # Errors
    /// The key and what is wrong with its value.
    fn check(config: &Self::Config) -> Result<(), Refusal> {
        let _ = config;
        Ok(())
    }

    /// Lists the outside files that the stage reads; relative paths start at `project`. `None` where it reads none with
    /// this configuration, whatever lies there: it is not asked again before the configuration changes.
    ///
    /// # Errors
    /// When the files cannot be listed.
    fn externals(
        config: &Self::Config,
        project: &Path,
    ) -> Result<Option<Vec<External>>, StageError> {
        let _ = (config, project);
        Ok(None)
    }

    /// What the stage takes of the machine.
    fn resources(config: &Self::Config) -> Resources {
        let _ = config;
        Resources::default()
    }

    /// How many graphics processors the stage takes for itself alone.
    fn gpus(config: &Self::Config) -> usize {
        let _ = config;
        0
    }

    /// The program that does the work, where that is not the one that runs the experiment: it has the same stages and
    /// what this one lacks. The run finds it, and hands it the cell with its graphics processors.
    fn program(config: &Self::Config) -> Option<&'static str> {
        let _ = config;
        None
    }

    /// Facts of the machine on which the bytes of the output depend: device, number type, instruction set. `None` where
    /// they depend on none with this configuration, whatever the machine.
    fn environment(config: &Self::Config) -> Option<BTreeMap<String, String>> {
        let _ = config;
        None
    }

    /// Does the work.
    ///
    /// # Errors
    /// Whatever went wrong, as an error of the room that did the work.
    fn run(
        config: &Self::Config,
        inputs: Self::Inputs,
        outputs: &Self::Outputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError>;
}

/// A configuration that a stage has accepted.
#[derive(Clone)]
pub struct Resolved {
    /// Every value, defaults included.
    pub full: Value,
    /// The values that are part of the key.
    pub semantic: Value,
    /// What a cell with this configuration takes of the machine.
    pub resources: Resources,
    /// How many graphics processors it takes.
    pub gpus: usize,
    /// The program that runs the stage, unless it is the one that runs the experiment.
    pub program: Option<&'static str>,
    /// Facts of the machine that are part of the key; `None` where there are none on any machine.
    pub environment: Option<BTreeMap<String, String>>,
    typed: Arc<dyn Any + Send + Sync>,
}

impl Resolved {
    /// A typed configuration with what follows from it; the keys in `nonsemantic` do not change the output.
    pub(crate) fn new<C: Serialize + Send + Sync + 'static>(
        typed: C,
        nonsemantic: &[&str],
        (resources, gpus): (Resources, usize),
        environment: Option<BTreeMap<String, String>>,
    ) -> Result<Self, Refusal> {
        let full =
            serde_json::to_value(&typed).map_err(|error| Refusal::new("", error.to_string()))?;
        let mut semantic = full.clone();
        if let Some(fields) = semantic.as_object_mut() {
            nonsemantic.iter().for_each(|key| {
                fields.remove(*key);
            });
        }
        let (program, typed) = (None, Arc::new(typed));
        Ok(Self { full, semantic, resources, gpus, program, environment, typed })
    }

    /// The configuration as the stage that resolved it has it.
    pub(crate) fn typed<C: 'static>(&self) -> Option<&C> {
        self.typed.downcast_ref()
    }
}

/// Reads a configuration; what does not fit is told in the words of its schema.
pub(crate) fn read_config<C: DeserializeOwned>(
    schema: &Value,
    config: &Value,
) -> Result<C, Refusal> {
    serde_path_to_error::deserialize(config).map_err(|error| {
        let in_program_words = || Refusal::new(error.path().to_string(), error.inner().to_string());
        misfit(schema, config).unwrap_or_else(in_program_words)
    })
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").field("full", &self.full).finish_non_exhaustive()
    }
}

/// A stage without its types, as the engine holds it.
pub trait DynStage: Send + Sync {
    /// Name in experiments.
    fn name(&self) -> &'static str;
    /// Version of its output.
    fn version(&self) -> u32;
    /// One sentence about it.
    fn about(&self) -> &'static str;
    /// Whether it runs once a shard.
    fn per_shard(&self) -> bool;
    /// Its input ports.
    fn inputs(&self) -> &[InputPort];
    /// Its output ports.
    fn outputs(&self) -> &[OutputPort];
    /// JSON Schema of its configuration.
    fn schema(&self) -> &Value;
    /// Whether its ports are written in the cells that use it.
    fn declares_ports(&self) -> bool {
        false
    }
    /// The stage with the ports that the table of a cell writes; `None` for one whose ports are its own.
    ///
    /// # Errors
    /// The key that is refused and why.
    fn with_ports(
        &self,
        table: &Value,
        registry: &Registry,
    ) -> Result<Option<Arc<dyn DynStage>>, Refusal> {
        let _ = (table, registry);
        Ok(None)
    }
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// The key that is refused and why.
    fn resolve(&self, config: &Value) -> Result<Resolved, Refusal>;
    /// Lists its outside files, if it looks for any with this configuration.
    ///
    /// # Errors
    /// When the files cannot be listed.
    fn externals(
        &self,
        config: &Resolved,
        project: &Path,
    ) -> Result<Option<Vec<External>>, StageError>;
    /// Does the work in `folder` and says what was made.
    ///
    /// # Errors
    /// Whatever the stage reports.
    fn run(
        &self,
        config: &Resolved,
        bound: Bound,
        folder: &Path,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<(&'static str, MadeOutput)>, StageError>;
}

/// Gives a [`Stage`] the shape of a [`DynStage`].
pub(crate) struct Erased<S> {
    inputs: Vec<InputPort>,
    outputs: Vec<OutputPort>,
    schema: Value,
    stage: std::marker::PhantomData<fn() -> S>,
}

impl<S: Stage> Erased<S> {
    pub(crate) fn new() -> Self {
        Self {
            inputs: S::Inputs::ports(),
            outputs: S::Outputs::ports(),
            schema: schemars::schema_for!(S::Config).to_value(),
            stage: std::marker::PhantomData,
        }
    }

    fn typed(config: &Resolved) -> &S::Config {
        config.typed().expect("a configuration goes back to the stage that resolved it")
    }
}

impl<S: Stage> DynStage for Erased<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> u32 {
        S::VERSION
    }

    fn about(&self) -> &'static str {
        S::ABOUT
    }

    fn per_shard(&self) -> bool {
        S::PER_SHARD
    }

    fn inputs(&self) -> &[InputPort] {
        &self.inputs
    }

    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn schema(&self) -> &Value {
        &self.schema
    }

    fn resolve(&self, config: &Value) -> Result<Resolved, Refusal> {
        let typed: S::Config = read_config(&self.schema, config)?;
        S::check(&typed)?;
        let (resources, gpus) = (S::resources(&typed), S::gpus(&typed));
        let (environment, program) = (S::environment(&typed), S::program(&typed));
        let resolved = Resolved::new(typed, S::NONSEMANTIC, (resources, gpus), environment)?;
        Ok(Resolved { program, ..resolved })
    }

    fn externals(
        &self,
        config: &Resolved,
        project: &Path,
    ) -> Result<Option<Vec<External>>, StageError> {
        S::externals(Self::typed(config), project)
    }

    fn run(
        &self,
        config: &Resolved,
        mut bound: Bound,
        folder: &Path,
        ctx: &Ctx<'_>,
    ) -> Result<Vec<(&'static str, MadeOutput)>, StageError> {
        let inputs = S::Inputs::bind(&mut bound);
        let outputs = S::Outputs::open(folder);
        S::run(Self::typed(config), inputs, &outputs, ctx)?;
        Ok(outputs.made())
    }
}
