//! A project in a folder of its own, and calls of the command in it.

use std::{
    fs,
    io::Write,
    ops::Deref,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::project::Project;
pub(crate) use super::project::{Said, files};

/// The repository, whose `configs/` every project gets a copy of.
pub(crate) const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Overrides that make the ablation a matter of seconds.
pub(crate) const TINY: &[&str] = &[
    "matrix.seed=[0]",
    "cases.count=24",
    "cases.phantom.size=32",
    "cases.shard_cases=3",
    "cases.split={train=12, val=4, seed=1}",
    "train.network={levels=2, base_width=4}",
    "train.training.epochs=1",
    "train_vote.network={levels=2, base_width=4}",
    "train_vote.training.epochs=1",
];

/// Drawn chests with two simulated sources and a small network: what most tests need.
pub(crate) const SMALL: &str = "\
[cases]
use = 'ingest.phantom_cxr'
count = 16
phantom = { size = 32 }
split = { train = 8, val = 3 }
shard_cases = 4

[shift]
use = 'noise.shift'
in = { truth = 'cases.truth' }

[erase]
use = 'noise.erase'
in = { truth = 'cases.truth' }

[source1]
use = 'noise.apply'
in = { truth = 'cases.truth', simulator = 'shift' }

[source2]
use = 'noise.apply'
in = { truth = 'cases.truth', simulator = 'erase' }

[train]
use = 'train.uma'
in = { images = 'cases.images', annotations = ['source1', 'source2'] }
network = { levels = 2, base_width = 4 }
training = { epochs = 2, batch_size = 4, augmentation = { enabled = false } }

[predict]
use = 'predict'
in = { images = 'cases.images', weights = 'train' }

[score]
use = 'score'
in = { predictions = 'predict', reference = 'cases.truth' }
method = 'UMA-Net'
";

/// A project with `configs/`.
pub(crate) struct World(Project);

impl Deref for World {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.0
    }
}

impl World {
    /// A project with the repository's configuration files.
    pub(crate) fn new() -> Self {
        let project = Project::new();
        copy_tree(&Path::new(REPOSITORY).join("configs"), &project.path("configs"));
        Self(project)
    }

    /// A project with one more experiment: `small.toml`.
    pub(crate) fn small(experiment: &str) -> Self {
        let world = Self::new();
        world.write("small.toml", experiment);
        world
    }

    /// The command in the project's folder, its surroundings those of every machine.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.current_dir(self.root()).args(arguments);
        command.env_remove("PIPELINE_STORE").env_remove("PIPELINE_INSTRUCTIONS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Calls the command.
    pub(crate) fn call(&self, arguments: &[&str]) -> Said {
        self.said(self.command(arguments).output().unwrap())
    }

    /// Calls the command, which must end with `code`, and reads stdout as JSON, paths in it as they are.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let data = self.data(code, arguments);
        serde_json::from_str(&data).unwrap_or_else(|error| unreachable!("{error}: {data}"))
    }

    /// Calls the command, which must end with 0, and reads every line of stdout as JSON.
    pub(crate) fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        self.data(0, arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn data(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let data = String::from_utf8(output.stdout.clone()).unwrap();
        let said = self.said(output);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:#?}");
        data
    }

    /// Runs `small.toml`, which must end well, and gives the names of the cells that were built.
    pub(crate) fn built(&self, more: &[&str]) -> Vec<String> {
        cells(&self.json(0, &with(&["run", "small.toml", "--json"], more)), "built")
    }

    /// Calls the command, which must refuse its input or fail, and compares what it says.
    pub(crate) fn refused(&self, code: i32, arguments: &[&str], talk: &str) {
        let said = self.call(arguments);
        assert_eq!((said.code, said.talk.as_str()), (Some(code), talk), "{}", said.data);
    }
}

impl Said {
    /// Whether a line of talk holds all of `words`.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        self.talk.lines().any(|line| words.iter().all(|word| line.contains(word)))
    }
}

/// The names of the cells of a `run --json` with this outcome.
pub(crate) fn cells(report: &Value, outcome: &str) -> Vec<String> {
    let cells = report["cells"].as_array().unwrap().iter();
    let found = cells.filter(|cell| cell["outcome"] == outcome);
    found.map(|cell| cell["cell"].as_str().unwrap().to_owned()).collect()
}

/// The outputs of a cell of a `run --json`: digest by port.
pub(crate) fn outputs<'r>(report: &'r Value, cell: &str) -> &'r Value {
    let mut cells = report["cells"].as_array().unwrap().iter();
    let found = cells.find(|found| found["cell"] == cell);
    &found.unwrap_or_else(|| unreachable!("no cell {cell}: {report:#}"))["outputs"]
}

/// Arguments and more arguments.
pub(crate) fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// Arguments with `--set` in front of each override.
pub(crate) fn set<'a>(arguments: &[&'a str], overrides: &[&'a str]) -> Vec<&'a str> {
    let set = overrides.iter().flat_map(|&one| ["--set", one]);
    arguments.iter().copied().chain(set).collect()
}

/// Says what a test could not check on this machine. The harness keeps what passing tests print to itself, but not this.
pub(crate) fn not_run(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}");
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}
