//! Typed, cached pipelines: stages, artifacts, keys, a content-addressed store and a local scheduler.
//!
//! `engine` knows nothing of images, tensors or Parquet: a stage turns files into files, and the engine decides which
//! stages must run.
//!
//! # What makes a cell stale
//!
//! | input | part of the key |
//! | --- | --- |
//! | name and declared version of the stage | yes |
//! | resolved configuration, defaults included | yes, but for the keys that a stage declares not to matter |
//! | content of each input artifact, as far as the port sees it | yes |
//! | names of the cells that made the inputs | on named ports only |
//! | content of outside files, under names relative to the data set | yes |
//! | device, instruction set and number type, where a stage says that its bytes depend on them | yes |
//! | paths, times, host, user, threads, name of the cell or the run | no |
//!
//! The key of a cell leads to the record of its outputs. Because a key holds the *content* of inputs and not their keys,
//! a rebuilt cell that gives the bytes it gave before stops the wave.

pub mod action;
pub mod artifact;
mod child;
mod compact;
pub mod config;
pub mod digest;
mod disk;
mod elsewhere;
pub mod error;
pub mod events;
mod exec;
pub mod experiment;
mod history;
mod lease;
mod live;
mod log;
mod memo;
mod misfit;
mod names;
mod plan;
mod policy;
mod ports;
mod process;
mod reason;
mod recall;
mod registry;
mod resolve;
mod run;
mod runs;
mod schema;
mod seal;
mod stage;
pub mod store;
#[cfg(test)]
mod toy;
mod trace;
mod upkeep;

pub use artifact::{Artifact, Manifest, Part};
pub use config::{Override, Roots};
pub use digest::Digest;
#[cfg(feature = "faults")]
pub use disk::{Faults, Step};
pub use elsewhere::exec_unit;
pub use error::{ConfigError, RunError, StageError, StoreError};
pub use events::Event;
pub use exec::{Exec, ExecConfig, ExecError, ExecOutput};
pub use experiment::{Cell, Dag, Experiment};
pub use history::{CellChange, PastRun, RunOutcome, compare_runs};
pub use live::{LiveCell, LiveRun};
pub use names::nearest;
pub use plan::{Planned, State, plan};
pub use policy::{FailureClass, Need, Policy, Retry};
pub use ports::{
    Arity, Bound, Input, InputField, InputPart, InputPort, InputPorts, MadeOutput, Many, Named,
    One, Optional, Out, OutputField, OutputPort, OutputPorts,
};
pub use process::Process;
pub use reason::Reason;
pub use registry::{Registry, Requirement};
pub use resolve::LastBuild;
#[cfg(feature = "faults")]
pub use run::run_alone;
pub use run::{
    CellFailure, CellReport, Differing, FindProgram, Limits, Outcome, Rerun, RunOptions, RunReport,
    rerun, run, run_unchanged, total_memory,
};
pub use schema::experiment_schema;
pub use stage::{Ctx, DynStage, External, Refusal, Resolved, Resources, Stage};
pub use store::Store;
pub use upkeep::{
    Amount, Audit, ExperimentUsage, Fault, Kept, KindUsage, Problem, Share, Sweep, Usage,
};
