//! What can go wrong in the engine, with the data that a message needs.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::{config::Origin, digest::Digest, names, policy::FailureClass};

/// A configuration that cannot be run; found before anything runs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that lies at none of the places where it is looked for.
    #[error("no file `{name}`: looked for {}{}", list_paths(tried), names::suggestion(nearest))]
    NoFile {
        /// Name as it was given.
        name: String,
        /// Every path tried.
        tried: Vec<PathBuf>,
        /// The nearest name under `configs/`.
        nearest: Option<String>,
    },
    /// A file that cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A problem in a file that another file names.
    #[error("{origin}: in the file named here")]
    At {
        /// Where the file is named.
        origin: Origin,
        /// The problem in it.
        source: Box<ConfigError>,
    },
    /// Text that is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Place of the problem.
        origin: Origin,
        /// The parser's words.
        message: String,
    },
    /// TOML that no stage reads.
    #[error("{origin}: {what} is not supported")]
    Unsupported {
        /// Place of the value.
        origin: Origin,
        /// What it is.
        what: String,
    },
    /// Files that extend each other in a circle.
    #[error("a file extends itself: {}", files.join(" extends "))]
    ExtendsItself {
        /// The circle.
        files: Vec<String>,
    },
    /// A `--set` that is not `key=value`.
    #[error("expected `--set key=value`: got `--set {argument}`")]
    BadOverride {
        /// What was given.
        argument: String,
    },
    /// A value of another type than its key asks for.
    #[error("{origin}: `{key}` must be {expected}: got {found}")]
    WrongType {
        /// Place of the value.
        origin: Origin,
        /// Its key.
        key: String,
        /// What is expected.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// A name that nobody defines.
    #[error("{origin}: unknown {what} `{name}` in {place}{}", unknown_tail(nearest, known))]
    Unknown {
        /// Place of the name.
        origin: Origin,
        /// What kind of name: key, stage, cell, axis, port.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it would have to be defined.
        place: String,
        /// The nearest name that is defined.
        nearest: Option<String>,
        /// All names that are defined, when they are few.
        known: Vec<String>,
    },
    /// A key without which a table means nothing.
    #[error("{origin}: `{table}` has no `{key}`")]
    Missing {
        /// Place of the table.
        origin: Origin,
        /// The table.
        table: String,
        /// The key.
        key: &'static str,
    },
    /// A value that its stage refuses.
    #[error("{origin}: `{key}` of cell `{cell}` (stage `{stage}`): {message}")]
    Refused {
        /// Place of the value.
        origin: Origin,
        /// Path of the value within the cell.
        key: String,
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// Why, in the words of the type that was to hold it.
        message: String,
    },
    /// An input wired to an artifact of another kind.
    #[error(
        "{origin}: port `{port}` of cell `{cell}` takes `{expected}`: `{reference}` is `{found}`"
    )]
    PortMismatch {
        /// Place of the reference.
        origin: Origin,
        /// The port.
        port: &'static str,
        /// The cell that has it.
        cell: String,
        /// Kind of artifact that the port takes.
        expected: &'static str,
        /// What was wired to it.
        reference: String,
        /// The kind of that.
        found: &'static str,
    },
    /// A port with too few or too many artifacts.
    #[error("{origin}: port `{port}` of cell `{cell}` takes {expected}: got {found}")]
    PortCount {
        /// Place of the reference or of the cell.
        origin: Origin,
        /// The port.
        port: &'static str,
        /// The cell that has it.
        cell: String,
        /// How many it takes.
        expected: &'static str,
        /// How many it got.
        found: usize,
    },
    /// A text that should name a cell and does not read as such.
    #[error(
        "{origin}: `{reference}` is not a reference; expected `cell`, `cell.port`, `cell[axis=value].port` or `cell[*].port`"
    )]
    BadReference {
        /// Place of the text.
        origin: Origin,
        /// The text.
        reference: String,
    },
    /// A reference to a cell of several outputs that names none of them.
    #[error(
        "{origin}: `{reference}` has several outputs; expected one of {}",
        one_of(reference, outputs)
    )]
    OutputNotNamed {
        /// Place of the reference.
        origin: Origin,
        /// The reference.
        reference: String,
        /// The outputs that there are.
        outputs: Vec<&'static str>,
    },
    /// Cells that wait for each other.
    #[error("{origin}: cells wait for each other in a circle: {}", cells.join(" needs "))]
    Cycle {
        /// Place of the reference that closes the circle.
        origin: Origin,
        /// The circle, its first cell repeated at the end.
        cells: Vec<String>,
    },
    /// Cell patterns of the command line that match nothing.
    #[error("no cell matches `{pattern}`{}", names::suggestion(nearest))]
    NoCell {
        /// The pattern.
        pattern: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// A cell that a stage refuses as a whole, or whose outside files it cannot list.
    #[error("cell `{cell}` (stage `{stage}`, {origin}) cannot run")]
    CellRefused {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// Where the cell is defined.
        origin: Origin,
        /// Why.
        source: StageError,
    },
}

impl ConfigError {
    /// An unknown name with the nearest of the known ones.
    pub(crate) fn unknown<'a>(
        origin: Origin,
        what: &'static str,
        name: &str,
        place: impl Into<String>,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        let nearest = names::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Self::Unknown { origin, what, name: name.to_owned(), place: place.into(), nearest, known }
    }

    /// Says where the file with this problem is named.
    pub(crate) fn at(self, origin: Origin) -> Self {
        Self::At { origin, source: Box::new(self) }
    }
}

/// What a stage reports; the engine adds the cell and the command the rest.
#[derive(Debug, Error)]
#[error("{source}")]
pub struct StageError {
    // `source` is shown in place of this wrapper, so the chain goes on below it.
    source: Box<dyn std::error::Error + Send + Sync>,
    hint: Option<String>,
    class: Option<FailureClass>,
}

impl StageError {
    /// Wraps an error of a room below.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: error.into(), hint: None, class: None }
    }

    /// Adds advice on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what kind of failure it is, where the error itself does not tell.
    #[must_use]
    pub fn of_class(mut self, class: FailureClass) -> Self {
        self.class = Some(class);
        self
    }

    /// The kind of failure that was stated.
    pub fn class(&self) -> Option<FailureClass> {
        self.class
    }

    /// The advice, if there is any.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The wrapped error.
    pub fn inner(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }
}

/// What went wrong while running.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A configuration that cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A problem of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cell whose stage failed.
    #[error("cell `{cell}` failed (stage `{stage}`{})", shard.as_ref().map(|s| format!(", shard `{s}`")).unwrap_or_default())]
    Stage {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// The shard, for a stage that runs per shard.
        shard: Option<String>,
        /// Why.
        source: StageError,
    },
    /// A cell that was stopped because it took too long.
    #[error("cell `{cell}` took longer than its `timeout` of {} s (stage `{stage}`{})", limit.as_secs_f64(), shard.as_ref().map(|s| format!(", shard `{s}`")).unwrap_or_default())]
    Timeout {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// The shard, for a stage that runs per shard.
        shard: Option<String>,
        /// The time that it had.
        limit: Duration,
    },
    /// A stage that panicked: a bug of the stage.
    #[error("cell `{cell}` panicked (stage `{stage}`): {message}")]
    Panic {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A cell that cannot begin because the run may not use as many graphics processors as it must have.
    #[error("cell `{cell}` (stage `{stage}`) must have {asked} graphics processor{}: the run may use {found}", if *asked == 1 { "" } else { "s" })]
    NoGpu {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// How many it must have.
        asked: usize,
        /// How many the run may use.
        found: usize,
    },
    /// A cell that another program must run, which is not there.
    #[error(
        "cell `{cell}` (stage `{stage}`) is run by `{program}`, which was not found: looked for {}",
        list_paths(tried)
    )]
    NoProgram {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
        /// Name of the program.
        program: &'static str,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// A per-shard stage whose inputs do not have the same shards.
    #[error("cell `{cell}`: shard `{shard}` of port `{first}` is missing from port `{port}`")]
    ShardMissing {
        /// The cell.
        cell: String,
        /// The shard.
        shard: String,
        /// The port that has it.
        first: &'static str,
        /// The port that lacks it.
        port: &'static str,
    },
    /// A cell that was built once more because a stored file of it was lost, and gave something else than before.
    #[error(
        "a stored file of cell `{cell}` was lost, and stage `{stage}` gave other contents when it was run once more"
    )]
    NotTheSame {
        /// The cell.
        cell: String,
        /// Its stage.
        stage: &'static str,
    },
    /// A run that was told to stop before its end.
    #[error("run `{run}` was stopped with {not_reached} of its cells not built")]
    Cancelled {
        /// The run.
        run: String,
        /// Number of cells that have no result.
        not_reached: usize,
    },
    /// Cells that failed in one run.
    #[error("{} of the run's cells failed", failures.len())]
    Several {
        /// One error a cell, in the order in which they failed.
        failures: Vec<RunError>,
    },
}

/// A problem of the store: the disk, not the content.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A folder that cannot be a store: its parts cannot be made, or nothing can be written in it.
    #[error("cannot make or write the store `{}`", root.display())]
    Unusable {
        /// The store's folder.
        root: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file operation that failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A stored file that is not what its name says.
    #[error("stored file `{}` is damaged: expected {expected_bytes} bytes with digest {}, found {found_bytes} bytes; it was moved to `quarantine/`", path.display(), expected.short())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The digest that its name gives.
        expected: Digest,
        /// The size that its artifact gives.
        expected_bytes: u64,
        /// The size that it has.
        found_bytes: u64,
    },
    /// The report of a run that cannot be read.
    #[error("report of run `{run}` cannot be read: {message}")]
    BadRun {
        /// The run.
        run: String,
        /// Why not.
        message: String,
    },
    /// A name that cannot be given to a run.
    #[error("a pin must have a name of letters, digits, `-` and `_`: got `{name}`")]
    BadPin {
        /// The name.
        name: String,
    },
    /// A pin that is there and cannot be read, or whose run cannot.
    #[error("what is pinned as `{name}` cannot be read: {message}")]
    UnreadablePin {
        /// Name of the pin.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A manifest that cannot be read.
    #[error("stored manifest {} cannot be read: {message}", digest.short())]
    BadManifest {
        /// The manifest.
        digest: Digest,
        /// Why not.
        message: String,
    },
}

impl StoreError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether a stored file is gone or is not what it was, so that making it again is of use.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::Unusable { source, .. }
            if source.kind() == io::ErrorKind::StorageFull)
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

fn one_of(reference: &str, outputs: &[&str]) -> String {
    let named: Vec<String> =
        outputs.iter().map(|output| format!("`{reference}.{output}`")).collect();
    named.join(", ")
}

fn unknown_tail(nearest: &Option<String>, known: &[String]) -> String {
    match nearest {
        Some(_) => names::suggestion(nearest),
        None if known.is_empty() => "; there is none".to_owned(),
        None if known.len() <= 12 => format!("; known: `{}`", known.join("`, `")),
        None => String::new(),
    }
}
