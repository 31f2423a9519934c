//! The arguments of the command; the doc comments are its help.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Typed data pipelines with a content-addressed cache.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// Folder of stored results [default: `.pipeline` in the project root]
    #[arg(long, global = true, env = "PIPELINE_STORE", value_name = "DIR", hide_env_values = true)]
    pub(crate) store: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
The project root is the nearest folder upward that holds `configs/` or `pipeline.toml`.
Exit codes: 0 done, 1 a stage or the store failed, 2 bad arguments or configuration, 3 `plan --check` found work,
130 a run was stopped by Ctrl-C.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run an experiment: build what is not stored yet
    Run(RunArguments),
    /// Say what a run would build and why
    Plan(PlanArguments),
    /// Say why cells were built last and what they would do now
    Explain(ExplainArguments),
    /// Draw the cells of an experiment and what flows between them
    Graph(GraphArguments),
    /// Show a run, a cell, an artifact or a Parquet file
    Show(ShowArguments),
    /// List the runs, newest first
    History(HistoryArguments),
    /// Say what differs between two runs: configuration, inputs, outputs and scores
    Diff(DiffArguments),
    /// Show what a cell said while it worked, and why it failed
    Logs(LogsArguments),
    /// Show the runs that are under way
    Status(StatusArguments),
    /// Check every stored file and record for damage
    Verify(VerifyArguments),
    /// Remove results that nobody needs any more
    Gc(GcArguments),
    /// Say what takes the space of the store
    Du(DuArguments),
    /// Keep the results of a run under a name
    Pin(PinArguments),
    /// Take a name given by `pin` away
    Unpin(UnpinArguments),
    /// List the stages, or describe one
    Stages(StagesArguments),
    /// Write an experiment for another workflow system: one rule a cell
    Export(ExportArguments),
    /// Build one cell whose inputs are stored: what the rules of `export` call
    #[command(hide = true)]
    ExecCell(ExecCellArguments),
    /// Become another program that dies with its parent: what the cells of stage `exec` are started by
    #[command(hide = true)]
    ExecChild(ExecChildArguments),
    /// Do the work of one cell for a run in another process: what `pipeline-cuda` is called with
    #[command(hide = true)]
    ExecUnit(ExecUnitArguments),
    /// Write the beginning of a stage or of an experiment
    New(NewArguments),
    /// Print the JSON Schema of experiments or of a stage's configuration
    Schema(SchemaArguments),
    /// Describe this machine, the project and the store
    Doctor(DoctorArguments),
    /// Print a completion script for a shell
    Completions(CompletionsArguments),
}

/// What names an experiment and changes it.
#[derive(Args, Debug)]
pub(crate) struct ExperimentArguments {
    /// Experiment: a TOML file, as given or under `configs/`
    pub(crate) file: String,
    /// Replace a value, for example `train.epochs=3`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Scale of the experiment, for example `paper`
    #[arg(long, value_name = "NAME")]
    pub(crate) scale: Option<String>,
}

/// Which cells are meant.
#[derive(Args, Debug)]
pub(crate) struct SelectionArguments {
    /// Only cells with this name and what they need; `*` stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArguments,
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Memory to use, for example `8G` [default: nine tenths of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = crate::text::parse_size)]
    pub(crate) memory: Option<u64>,
    /// Graphics processors that cells may have, for example `0,1`; a cell that asks for one has it for itself alone
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub(crate) gpus: Vec<String>,
    /// Still build cells that do not need a failed one
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// End with one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but the result and errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArguments,
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// Print one JSON object a cell
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 3 when a cell is not fresh
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArguments,
    /// Name of a cell or node; `*` stands for anything
    pub(crate) cell: String,
    /// Print one JSON object a cell
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GraphArguments {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArguments,
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// Language of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub(crate) format: GraphFormat,
    /// One box a node of the file instead of one a cell
    #[arg(long)]
    pub(crate) nodes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Mermaid flowchart
    Mermaid,
    /// Graphviz
    Dot,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    /// A run (`latest`, its id or the beginning of it, or an experiment's name), `RUN:CELL`, a cell of the latest run,
    /// the beginning of an artifact's digest, or a Parquet file
    #[arg(default_value = "latest")]
    pub(crate) thing: String,
    /// Print JSON; of a run, its scores
    #[arg(long)]
    pub(crate) json: bool,
    /// Rows and lines to show of a part
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rows: usize,
    /// Write the pictures of shards into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Copy the files of a cell or an artifact into this folder, under their names; those of a cell with several outputs
    /// into one folder an output
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryArguments {
    /// Print one JSON object a run
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArguments {
    /// The earlier run: `latest`, its id or the beginning of it, or an experiment's name
    pub(crate) first: String,
    /// The later run
    #[arg(default_value = "latest")]
    pub(crate) second: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArguments {
    /// The cell, or its node where that has one cell
    pub(crate) cell: String,
    /// The run [default: the newest]
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// Print one JSON object a run
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// Hash every file (this is the default)
    #[arg(long, conflicts_with = "sample")]
    pub(crate) all: bool,
    /// Hash this share of the files, for example `0.1` or `10%`; sizes and records are checked in any case
    #[arg(long, value_name = "SHARE", value_parser = crate::text::parse_share)]
    pub(crate) sample: Option<f64>,
    /// Move what is damaged to `quarantine/`, so that the next run builds it again
    #[arg(long)]
    pub(crate) repair: bool,
    /// Make this share of an experiment's stored results again, for example `1%`, and compare
    #[arg(long, value_name = "SHARE", value_parser = crate::text::parse_share, requires = "experiment")]
    #[arg(conflicts_with_all = ["all", "sample", "repair"])]
    pub(crate) rerun: Option<f64>,
    /// Experiment whose results are made again
    #[arg(long, value_name = "FILE", requires = "rerun")]
    pub(crate) experiment: Option<String>,
    /// Replace a value of the experiment
    #[arg(long, value_name = "KEY=VALUE", requires = "experiment")]
    pub(crate) set: Vec<String>,
    /// Scale of the experiment
    #[arg(long, value_name = "NAME", requires = "experiment")]
    pub(crate) scale: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GcArguments {
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep what was made or used in this many days
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) keep_days: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DuArguments {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PinArguments {
    /// The run: `latest`, its id or the beginning of it, or an experiment's name
    pub(crate) run: String,
    /// The name: letters, digits, `-` and `_`
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct UnpinArguments {
    /// The name
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct StagesArguments {
    /// Stage to describe
    pub(crate) name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A Snakefile
    Snakemake,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArguments {
    /// The other system
    #[arg(value_enum)]
    pub(crate) format: ExportFormat,
    #[command(flatten)]
    pub(crate) experiment: ExperimentArguments,
    #[command(flatten)]
    pub(crate) selection: SelectionArguments,
    /// The command that the rules call [default: this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ExecCellArguments {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArguments,
    /// Name of the cell
    pub(crate) cell: String,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
}

#[derive(Args, Debug)]
pub(crate) struct ExecChildArguments {
    /// Number of the process that has called
    pub(crate) parent: u32,
    /// The program
    pub(crate) program: PathBuf,
    /// Its arguments
    #[arg(last = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct ExecUnitArguments {
    /// File that says what to run on what
    pub(crate) request: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewThing {
    /// A Rust file with a stage in it
    Stage,
    /// An experiment below `configs/experiments`
    Experiment,
}

#[derive(Args, Debug)]
pub(crate) struct NewArguments {
    /// What to begin
    #[arg(value_enum)]
    pub(crate) thing: NewThing,
    /// Its name, for example `clean.crop` of a stage, `ablation` of an experiment
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct SchemaArguments {
    /// Stage whose configuration is meant [default: whole experiments]
    pub(crate) stage: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArguments {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
