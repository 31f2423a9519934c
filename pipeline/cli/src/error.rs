//! What can go wrong in the command, and the exit code that follows.

use std::{error::Error, io, path::PathBuf};

use datasets::DatasetsError;
use engine::{ConfigError, RunError, StageError, StoreError};
use thiserror::Error;

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// A stage, the store or a file failed.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    BadInput = 2,
    /// `plan --check` found cells that are not fresh.
    WorkFound = 3,
    /// A run was stopped from outside: the code that shells give after Ctrl-C.
    Interrupted = 130,
}

/// An error of a verb.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    /// The configuration cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A run failed.
    #[error(transparent)]
    Run(RunError),
    /// The machine or the environment lacks what the stages require.
    #[error("the stages cannot be used here")]
    Requirement {
        /// What is missing.
        source: StageError,
    },
    /// The work for another process's run could not be begun or its outcome not be told.
    #[error("cannot do what `{}` asks for", request.display())]
    Unit {
        /// The file.
        request: PathBuf,
        /// Why not.
        source: StageError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A shard cannot be read.
    #[error("cannot show `{path}`")]
    Shard {
        /// The file.
        path: String,
        /// Why not.
        source: DatasetsError,
    },
    /// Stdout cannot be written.
    #[error("cannot write to stdout")]
    Output {
        /// Why not.
        source: io::Error,
    },
    /// The folder that the command was started in is gone.
    #[error("the working folder cannot be found")]
    WorkingFolder {
        /// Why not.
        source: io::Error,
    },
    /// A file or folder of the user that cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A stage that is not registered.
    #[error("unknown stage `{name}`{}", suggestion(nearest))]
    NoStage {
        /// The name.
        name: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// A store without runs.
    #[error("no run has ended in the store `{store}`")]
    NoRun {
        /// The store's folder.
        store: String,
    },
    /// A name that fits no finished run.
    #[error("no finished run is called `{run}`{}", suggestion(nearest))]
    UnknownRun {
        /// The name.
        run: String,
        /// The nearest id or experiment.
        nearest: Option<String>,
    },
    /// A name that nothing new can have.
    #[error(
        "a name must begin with a letter and be of letters, digits, `.`, `-` and `_`: got `{name}`"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// A pin that is not there.
    #[error("no run is pinned as `{name}`{}", suggestion(nearest))]
    NoPin {
        /// The name.
        name: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// A name that fits nothing that can be shown.
    #[error(
        "nothing is called `{thing}`: no run, no cell of run `{run}`, no artifact, no file{}",
        suggestion(nearest)
    )]
    NoThing {
        /// The name.
        thing: String,
        /// The run whose cells were searched.
        run: String,
        /// The nearest name of a cell, run or experiment.
        nearest: Option<String>,
    },
    /// A cell that a run did not have.
    #[error("run `{run}` has no cell `{cell}`{}", suggestion(nearest))]
    NoCell {
        /// The run.
        run: String,
        /// The cell.
        cell: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// A name that fits several things.
    #[error("`{thing}` is not one {what}: it fits {}", listed(found))]
    Ambiguous {
        /// The name.
        thing: String,
        /// What it should name.
        what: &'static str,
        /// Everything that it fits.
        found: Vec<String>,
    },
    /// A part that is not what its name says.
    #[error("part `{part}` is not JSON")]
    BadJson {
        /// The part.
        part: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The machine cannot run pipelines.
    #[error("the store `{store}` cannot be written")]
    StoreNotWritable {
        /// The store's folder.
        store: String,
        /// Why not.
        source: io::Error,
    },
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(error) => Self::Config(error),
            RunError::Store(error) => Self::Store(error),
            error => Self::Run(error),
        }
    }
}

impl CliError {
    pub(crate) fn output(source: io::Error) -> Self {
        Self::Output { source }
    }

    /// Names the file operation that failed.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Whether nobody reads what the command writes any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The errors that are reported one by one: several of a run, itself otherwise.
    pub(crate) fn failures(&self) -> Vec<&(dyn Error + 'static)> {
        match self {
            Self::Run(error) => failures(error),
            other => vec![other],
        }
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Requirement { .. }
            | Self::NoStage { .. }
            | Self::NoRun { .. }
            | Self::UnknownRun { .. }
            | Self::NoPin { .. }
            | Self::BadName { .. }
            | Self::Store(StoreError::BadPin { .. })
            | Self::NoThing { .. }
            | Self::NoCell { .. }
            | Self::Ambiguous { .. }
            | Self::Run(RunError::NoGpu { .. } | RunError::NoProgram { .. }) => Exit::BadInput,
            Self::Run(RunError::Cancelled { .. }) => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }
}

/// The failures of a run, one by one.
pub(crate) fn failures(error: &RunError) -> Vec<&(dyn Error + 'static)> {
    match error {
        RunError::Several { failures: list } => list.iter().flat_map(failures).collect(),
        one => vec![one],
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}
