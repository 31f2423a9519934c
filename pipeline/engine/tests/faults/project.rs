//! The project that faults are injected into: three stages, five cells, ten units of work.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use engine::{
    Artifact, Ctx, Digest, Event, Experiment, External, Faults, Limits, Many, One, Out, Override,
    Registry, Roots, RunError, RunReport, Stage, StageError, Store, inputs, outputs, run,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

struct Words;
impl Artifact for Words {
    const KIND: &'static str = "words";
    const SHARDED: bool = true;
}

struct Text;
impl Artifact for Text {
    const KIND: &'static str = "text";
}

inputs! { struct NoneIn {} }
inputs! { struct WordsIn { words: One<Words> } }
inputs! { struct ManyIn { words: Many<Words> } }
outputs! { struct WordsOut { words: Out<Words> } }
outputs! { struct TextOut { text: Out<Text> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListConfig {
    /// One shard a word, named for the word.
    #[serde(default)]
    words: Vec<String>,
    /// A file to read in their place.
    #[serde(default)]
    file: Option<String>,
}

/// Writes each word as a shard of its own.
struct List;
impl Stage for List {
    const NAME: &'static str = "list";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes words.";
    type Config = ListConfig;
    type Inputs = NoneIn;
    type Outputs = WordsOut;

    fn externals(config: &ListConfig, project: &Path) -> Result<Option<Vec<External>>, StageError> {
        let file = |name: &String| External { name: name.clone(), path: project.join(name) };
        Ok(Some(config.file.iter().map(file).collect()))
    }

    fn run(
        config: &ListConfig,
        _: NoneIn,
        out: &WordsOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        for external in ctx.externals() {
            let text = fs::read(&external.path).map_err(StageError::new)?;
            out.words.write("text", &text)?;
        }
        config.words.iter().try_for_each(|word| out.words.write(word, word.as_bytes()))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EchoConfig {
    /// How often each word is said.
    times: usize,
}

/// Repeats every word, shard by shard.
struct Echo;
impl Stage for Echo {
    const NAME: &'static str = "echo";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Repeats words.";
    const PER_SHARD: bool = true;
    type Config = EchoConfig;
    type Inputs = WordsIn;
    type Outputs = WordsOut;

    fn run(
        config: &EchoConfig,
        inputs: WordsIn,
        out: &WordsOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let text = fs::read(inputs.words.file(ctx.shard())?).map_err(StageError::new)?;
        out.words.write(ctx.shard(), &text.repeat(config.times))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JoinConfig {}

/// Joins all words of all inputs.
struct Join;
impl Stage for Join {
    const NAME: &'static str = "join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Joins words.";
    type Config = JoinConfig;
    type Inputs = ManyIn;
    type Outputs = TextOut;

    fn run(_: &JoinConfig, inputs: ManyIn, out: &TextOut, _: &Ctx<'_>) -> Result<(), StageError> {
        let mut text = Vec::new();
        for part in inputs.words.iter().flat_map(|input| &input.parts) {
            text.extend(fs::read(&part.path).map_err(StageError::new)?);
        }
        out.text.write("text", &text)
    }
}

const EXPERIMENT: &str = "\
[words]
use = 'list'
words = ['apple', 'banana', 'cherry']

[once]
use = 'echo'
in = { words = 'words' }
times = 1

[twice]
use = 'echo'
in = { words = 'words' }
times = 2

[thrice]
use = 'echo'
in = { words = 'once' }
times = 3

[join]
use = 'join'
in = { words = ['once', 'twice', 'thrice'] }
";

/// What a change that leaves half of the results of [`EXPERIMENT`] good looks like.
pub const CHANGE: &[&str] = &["twice.times=5"];

/// Digests of the outputs of every cell, by cell and port.
pub type Digests = BTreeMap<(String, String), Digest>;

/// A run that went through.
pub struct Ran {
    /// What it gave.
    pub digests: Digests,
    /// Units that it executed.
    pub executed: usize,
}

/// A folder with configuration in it, and stores to be.
pub struct Project {
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Project {
    /// A project in memory where the machine has such a file system.
    ///
    /// # Errors
    /// Whatever keeps the folder from being made.
    pub fn new() -> std::io::Result<Self> {
        let shared = Path::new("/dev/shm");
        let folder =
            if shared.is_dir() { tempfile::tempdir_in(shared)? } else { tempfile::tempdir()? };
        fs::create_dir(folder.path().join("configs"))?;
        fs::write(folder.path().join("configs/words.toml"), EXPERIMENT)?;
        let mut registry = Registry::new();
        registry.add::<List>();
        registry.add::<Echo>();
        registry.add::<Join>();
        Ok(Self { folder, registry })
    }

    /// A path in the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the store is that faults are injected into.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// An experiment of the project with some values changed.
    ///
    /// # Errors
    /// The engine's, in words.
    pub fn load(&self, file: &str, set: &[&str]) -> Result<Experiment, String> {
        let overrides = set.iter().map(|text| Override::parse(text));
        let overrides: Vec<Override> =
            overrides.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let roots = Roots::find(self.folder.path());
        Experiment::load(file, &overrides, &roots, &self.registry).map_err(|e| e.to_string())
    }

    /// Runs the project's experiment on a store that is opened for it.
    ///
    /// # Errors
    /// That of the run.
    pub fn run(
        &self,
        experiment: &Experiment,
        faults: Option<Arc<dyn Faults>>,
    ) -> Result<Ran, RunError> {
        let store = match faults {
            Some(faults) => Store::open_faulty(&self.store(), faults)?,
            None => Store::open(&self.store())?,
        };
        let (selected, mut executed) = (vec![true; experiment.cells.len()], 0);
        let limits = Limits { cpus: 1, memory: 4 << 30 };
        let observe = &mut |event| executed += usize::from(matches!(event, Event::Started { .. }));
        let report = run(experiment, &selected, &store, limits, &AtomicBool::new(false), observe)?;
        Ok(Ran { digests: digests(&report), executed })
    }

    /// Makes everything in the store look as if it had lain there for a while, or had come from the future.
    ///
    /// # Errors
    /// Whatever keeps a time from being set.
    pub fn shift_times(&self, by: Duration, back: bool) -> std::io::Result<()> {
        for path in walk(&self.store()) {
            let file = fs::File::open(&path)?;
            let time = file.metadata()?.modified()?;
            let time = if back { time.checked_sub(by) } else { time.checked_add(by) };
            file.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH))?;
        }
        Ok(())
    }
}

/// Digests of the outputs of a run.
pub fn digests(report: &RunReport) -> Digests {
    let ports = report.cells.iter().flat_map(|cell| {
        cell.outputs.iter().map(|(port, digest)| ((cell.cell.clone(), port.clone()), *digest))
    });
    ports.collect()
}

/// The files in a folder and those below it, sorted.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Copies a folder with everything in it.
///
/// # Errors
/// Whatever keeps a file from being copied.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &place)?;
        } else {
            fs::copy(&path, &place)?;
            fs::File::open(&place)?.set_modified(fs::metadata(&path)?.modified()?)?;
        }
    }
    Ok(())
}
