//! Toy stages and a project around them, for the tests of this crate.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Artifact, Ctx, Event, Experiment, FailureClass, Limits, Many, One, Out, Override, Registry,
    Roots, RunError, RunReport, Stage, StageError, Store, inputs, outputs, run,
};

pub(crate) struct Words;
impl Artifact for Words {
    const KIND: &'static str = "words";
    const SHARDED: bool = true;
}

pub(crate) struct Text;
impl Artifact for Text {
    const KIND: &'static str = "text";
}

inputs! { pub(crate) struct NoneIn {} }
inputs! { pub(crate) struct WordsIn { words: One<Words> } }
inputs! { pub(crate) struct ManyIn { words: Many<Words> } }
inputs! { pub(crate) struct TextIn { text: One<Text> } }
outputs! { pub(crate) struct WordsOut { words: Out<Words> } }
outputs! { pub(crate) struct TextOut { text: Out<Text> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListConfig {
    /// One shard a word, named for the word.
    words: Vec<String>,
    #[serde(default)]
    buffer: usize,
}

/// Writes each word as a shard of its own.
pub(crate) struct List;
impl Stage for List {
    const NAME: &'static str = "list";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes words.";
    const NONSEMANTIC: &'static [&'static str] = &["buffer"];
    type Config = ListConfig;
    type Inputs = NoneIn;
    type Outputs = WordsOut;

    fn run(
        config: &ListConfig,
        _: NoneIn,
        outputs: &WordsOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        config.words.iter().try_for_each(|word| outputs.words.write(word, word.as_bytes()))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EchoConfig {
    /// How often each word is said.
    #[serde(default)]
    times: usize,
    /// A file that each unit adds a line to.
    #[serde(default)]
    log: Option<PathBuf>,
    /// A file that each unit waits for.
    #[serde(default)]
    gate: Option<PathBuf>,
}

/// Repeats every word, shard by shard.
pub(crate) struct Echo;
impl Stage for Echo {
    const NAME: &'static str = "echo";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Repeats words.";
    const PER_SHARD: bool = true;
    const NONSEMANTIC: &'static [&'static str] = &["log", "gate"];
    type Config = EchoConfig;
    type Inputs = WordsIn;
    type Outputs = WordsOut;

    fn run(
        config: &EchoConfig,
        inputs: WordsIn,
        outputs: &WordsOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        if let Some(log) = &config.log {
            append(log, &format!("{} {}\n", ctx.shard(), config.times));
        }
        while config.gate.as_ref().is_some_and(|gate| !gate.exists()) {
            if ctx.is_cancelled() {
                return Err(StageError::new("told to stop"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let text = fs::read_to_string(inputs.words.file(ctx.shard())?).map_err(StageError::new)?;
        if text == "bomb" {
            return Err(StageError::new("word `bomb` cannot be said"));
        }
        outputs.words.write(ctx.shard(), text.repeat(config.times).as_bytes())
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinConfig {}

/// All parts of all inputs, one after another.
pub(crate) fn joined<'a>(inputs: impl IntoIterator<Item = &'a crate::Input>) -> Vec<u8> {
    let parts = inputs.into_iter().flat_map(|input| &input.parts);
    parts.flat_map(|part| fs::read(&part.path).unwrap()).collect()
}

/// Joins all words of all inputs.
pub(crate) struct Join;
impl Stage for Join {
    const NAME: &'static str = "join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Joins words.";
    type Config = JoinConfig;
    type Inputs = ManyIn;
    type Outputs = TextOut;

    fn run(
        _: &JoinConfig,
        inputs: ManyIn,
        outputs: &TextOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        outputs.text.write("text", &joined(inputs.words.iter()))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FailConfig {
    how: String,
    #[serde(default)]
    salt: usize,
}

/// Fails as it is told, or finds out whether it shares what should be its own.
struct Fail;
impl Stage for Fail {
    const NAME: &'static str = "fail";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Fails.";
    type Config = FailConfig;
    type Inputs = NoneIn;
    type Outputs = TextOut;

    fn run(
        config: &FailConfig,
        _: NoneIn,
        outputs: &TextOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let io = |code| StageError::new(std::io::Error::from_raw_os_error(code));
        match config.how.as_str() {
            "memory" => return Err(StageError::new("no room").of_class(FailureClass::Memory)),
            "device" => return Err(io(5)),
            "full" => return Err(io(28)),
            // The checkpoint is what the second try finds of the first.
            "once" if !ctx.checkpoints().exists() => {
                fs::create_dir_all(ctx.checkpoints()).map_err(StageError::new)?;
                return Err(StageError::new("the first time"));
            }
            "hang" => {
                while !ctx.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                return Err(StageError::new("told to stop"));
            }
            "gpus" => {
                ctx.log(&format!("gpus {}", ctx.gpus().join(",")));
                ctx.gpus().iter().try_for_each(|gpu| alone(ctx, gpu))?;
            }
            "alone" => alone(ctx, "memory")?,
            "stage" => {
                ctx.log("about to fail");
                ctx.progress(0.5, "failing");
                ctx.progress(0.6, "failing");
                return Err(StageError::new("it always fails"));
            }
            // What is there now: no stage should look.
            chance if fs::exists(chance).unwrap_or(false) => {
                return outputs.text.write("text", &fs::read(chance).unwrap());
            }
            _ => {}
        }
        outputs.text.write("text", config.salt.to_string().as_bytes())
    }
}

/// Says a text again.
struct Tell;
impl Stage for Tell {
    const NAME: &'static str = "tell";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Says a text again.";
    type Config = JoinConfig;
    type Inputs = TextIn;
    type Outputs = TextOut;

    fn run(_: &JoinConfig, inputs: TextIn, out: &TextOut, _: &Ctx<'_>) -> Result<(), StageError> {
        let text = fs::read(inputs.text.file("text")?).map_err(StageError::new)?;
        out.text.write("text", &text)
    }
}

/// Fails when another unit has the same thing at the same time.
fn alone(ctx: &Ctx<'_>, thing: &str) -> Result<(), StageError> {
    let taken = ctx.scratch().join("../..").join(format!("taken-{thing}"));
    fs::create_dir(&taken).map_err(StageError::new)?;
    std::thread::sleep(Duration::from_millis(5));
    fs::remove_dir(&taken).map_err(StageError::new)
}

/// Two sources, three echoes and a joined text.
pub(crate) const TOY: &str = "\
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

fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The toy stages.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add::<List>();
    registry.add::<Echo>();
    registry.add::<Join>();
    registry.add::<Fail>();
    registry.add::<Tell>();
    crate::Exec::register(&mut registry);
    registry
}

/// A project in a folder of its own.
pub(crate) struct Toy {
    folder: tempfile::TempDir,
}

impl Toy {
    pub(crate) fn new() -> Self {
        // Tests write many small files, which a disk would make slow.
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            tempfile::tempdir_in(shared).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        fs::create_dir(folder.path().join("configs")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    pub(crate) fn load(&self, text: &str, set: &[&str]) -> Experiment {
        fs::write(self.path("configs/toy.toml"), text).unwrap();
        let overrides: Vec<Override> = set.iter().map(|s| Override::parse(s).unwrap()).collect();
        let roots = Roots::find(self.folder.path());
        Experiment::load("toy.toml", &overrides, &roots, &registry()).unwrap()
    }

    /// Runs the toy.
    pub(crate) fn run(&self, set: &[&str]) -> RunReport {
        self.try_run(&self.load(TOY, set)).unwrap()
    }

    /// Runs an experiment on the project's store.
    pub(crate) fn try_run(&self, experiment: &Experiment) -> Result<RunReport, RunError> {
        run_quietly(experiment, &self.store())
    }
}

/// Runs all of an experiment without listening.
pub(crate) fn run_quietly(experiment: &Experiment, store: &Store) -> Result<RunReport, RunError> {
    run_watched(experiment, store, &AtomicBool::new(false), &mut |_| {})
}

/// Runs all of an experiment on two cores.
pub(crate) fn run_watched(
    experiment: &Experiment,
    store: &Store,
    cancelled: &AtomicBool,
    observe: &mut dyn FnMut(Event),
) -> Result<RunReport, RunError> {
    let limits = Limits { cpus: 2, memory: 4 << 30 };
    run(experiment, &vec![true; experiment.cells.len()], store, limits, cancelled, observe)
}

/// The files in a folder and those below it, sorted.
pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Waits until the clock that files are stamped with has gone on.
pub(crate) fn next_stamp(folder: &Path) {
    use std::os::unix::fs::MetadataExt;
    let probe = folder.join("probe");
    let stamp = || {
        fs::write(&probe, "").unwrap();
        let meta = fs::metadata(&probe).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let (first, started) = (stamp(), std::time::Instant::now());
    while stamp() == first {
        assert!(started.elapsed() < Duration::from_secs(10), "the clock stands still");
    }
    fs::remove_file(&probe).unwrap();
}
