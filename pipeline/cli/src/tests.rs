//! The verbs on toy stages: what goes in is arguments, what comes out is text and an exit code.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod show;
mod upkeep;

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use engine::{
    Artifact, Ctx, Many, One, Out, Refusal, Registry, Stage, StageError, Store, inputs, outputs,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{console::Console, error::Exit, interrupt::StopFlag, run_with};

struct Words;
impl Artifact for Words {
    const KIND: &'static str = "words";
    const SHARDED: bool = true;
}

struct Report;
impl Artifact for Report {
    const KIND: &'static str = "report";
}

inputs! { struct NoneIn {} }
inputs! { struct WordsIn { words: One<Words> } }
inputs! { struct ManyIn { words: Many<Words> } }
outputs! { struct WordsOut { words: Out<Words> } }
outputs! { struct ReportOut { report: Out<Report> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListConfig {
    /// One shard a word.
    words: Vec<String>,
}

struct List;
impl Stage for List {
    const NAME: &'static str = "list";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes words.";
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

fn two() -> usize {
    2
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CutConfig {
    /// Letters that stay.
    #[serde(default = "two")]
    length: usize,
}

struct Cut;
impl Stage for Cut {
    const NAME: &'static str = "cut";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Cuts words.";
    const PER_SHARD: bool = true;
    type Config = CutConfig;
    type Inputs = WordsIn;
    type Outputs = WordsOut;

    fn check(config: &CutConfig) -> Result<(), Refusal> {
        match config.length {
            0 => Err(Refusal::new("length", "expected a positive number: got 0")),
            _ => Ok(()),
        }
    }

    fn run(
        config: &CutConfig,
        inputs: WordsIn,
        outputs: &WordsOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let text = fs::read_to_string(inputs.words.file(ctx.shard())?).map_err(StageError::new)?;
        if text == "bomb" {
            let cause = std::io::Error::other("it ticks");
            return Err(StageError::new(cause).hint("take `bomb` out of `words`"));
        }
        outputs.words.write(ctx.shard(), &text.as_bytes()[..config.length.min(text.len())])
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TellConfig {}

struct Tell;
impl Stage for Tell {
    const NAME: &'static str = "tell";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reports words.";
    type Config = TellConfig;
    type Inputs = ManyIn;
    type Outputs = ReportOut;

    fn run(
        _: &TellConfig,
        inputs: ManyIn,
        outputs: &ReportOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let n: usize = inputs.words.iter().map(|input| input.parts.len()).sum();
        let row = |seed: u64| {
            json!({
                "method": "tell", "subset": "1-2", "seed": seed, "structure": "lung",
                "metric": "dice", "mean": 0.5 + n as f64 / 100.0, "sd": null, "n": n,
            })
        };
        outputs.report.write("index.html", b"<!doctype html><p>told")?;
        outputs.report.write("table.json", json!([row(0), row(1)]).to_string().as_bytes())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add::<List>();
    registry.add::<Cut>();
    registry.add::<Tell>();
    registry
}

const TOY: &str = "\
[matrix]
length = [1, 2]

[words]
use = 'list'
words = ['apple', 'banana']

[cut]
use = 'cut'
in = { words = 'words' }
length = '${length}'

[tell]
use = 'tell'
in = { words = 'cut[*]' }
";

/// Nobody stops a run.
fn never() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

/// A run is stopped before it has begun.
fn at_once() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

struct Toy {
    folder: tempfile::TempDir,
}

struct Said {
    exit: Exit,
    data: String,
    talk: String,
}

impl Toy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("configs")).unwrap();
        fs::write(folder.path().join("configs/toy.toml"), TOY).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Calls the command; ids, digests and times are replaced by words.
    fn call(&self, arguments: &[&str]) -> Said {
        let (exit, data, talk) = self.raw(arguments);
        let text = |bytes: String| self.plain(&bytes);
        Said { exit, data: text(data), talk: text(talk) }
    }

    fn raw(&self, arguments: &[&str]) -> (Exit, String, String) {
        self.stoppable(arguments, never)
    }

    fn stoppable(&self, arguments: &[&str], stop: StopFlag) -> (Exit, String, String) {
        let (mut data, mut talk) = (Vec::new(), Vec::new());
        let mut console = Console::plain(&mut data, &mut talk);
        let store = self.path().join(".pipeline");
        let arguments = ["pipeline", "--store", store.to_str().unwrap()]
            .into_iter()
            .chain(arguments.iter().copied())
            .map(Into::into);
        let exit = run_with(registry(), arguments, self.path(), stop, &mut console);
        drop(console);
        (exit, String::from_utf8(data).unwrap(), String::from_utf8(talk).unwrap())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.raw(arguments).1).unwrap()
    }

    fn plain(&self, text: &str) -> String {
        let mut text = text.replace(self.path().to_str().unwrap(), "DIR");
        let runs = Store::for_reading(&self.path().join(".pipeline")).runs().unwrap();
        for (i, id) in runs.iter().enumerate().rev() {
            text = text.replace(id.as_str(), &format!("RUN{i}"));
        }
        let lines = text.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let word = |i: usize| {
                let next = words.get(i + 1).map_or("", |next| next.trim_matches([',', ':']));
                let hex = words[i].trim_matches([',', ':']);
                if next == "s" && words[i].parse::<f64>().is_ok() {
                    "T"
                } else if [12, 64].contains(&hex.len())
                    && hex.bytes().all(|b| b.is_ascii_hexdigit())
                {
                    "DIGEST"
                } else {
                    words[i]
                }
            };
            (0..words.len()).map(word).collect::<Vec<_>>().join(" ") + "\n"
        });
        lines.collect()
    }
}

fn check(said: &Said, exit: Exit, data: &str, talk: &str) {
    assert_eq!((said.exit, said.data.as_str(), said.talk.as_str()), (exit, data, talk));
}

#[test]
fn a_failing_stage() {
    let toy = Toy::new();
    let set = ["--set", "words.words=['apple', 'bomb']", "--set", "matrix.length=[1]"];
    let run: Vec<&str> = ["run", "toy.toml", "--jobs", "1"].into_iter().chain(set).collect();
    check(
        &toy.call(&run),
        Exit::Failed,
        "\
run RUN0: 1 built, 0 fresh, 1 failed, 1 not reached in T s
cut[length=1]: stage error; see `pipeline logs 'cut[length=1]'`
",
        "\
run    RUN0 of 3 cells
start  words: never built
built  words in T s (1/3)
start  cut[length=1]: never built
failed cell `cut[length=1]` failed (stage `cut`, shard `bomb`)
error: cell `cut[length=1]` failed (stage `cut`, shard `bomb`)
caused by: it ticks
hint: take `bomb` out of `words`
",
    );
    let json: Vec<&str> = run.into_iter().chain(["--json"]).collect();
    let ended = toy.json(&json);
    assert_eq!(
        ended["errors"],
        json!([{
            "error": "cell `cut[length=1]` failed (stage `cut`, shard `bomb`)",
            "caused_by": ["it ticks"],
            "hint": "take `bomb` out of `words`",
        }])
    );
    let said = toy.call(&["logs", "cut"]);
    assert!(
        said.data.contains("failed (stage error): cell `cut[length=1]` failed"),
        "{}",
        said.data
    );
    assert!(said.data.lines().any(|line| line.ends_with("caused by: it ticks")), "{}", said.data);
    let said = toy.call(&["logs", "words", "--run", "latest"]);
    assert!(said.talk.starts_with("`words` said nothing in run"), "{}", said.talk);
    assert_eq!(toy.call(&["logs", "cot"]).exit, Exit::BadInput);
}

#[test]
fn bad_input_is_refused_before_anything_runs() {
    let toy = Toy::new();
    let refused = |arguments: &[&str], talk: &str| {
        check(&toy.call(arguments), Exit::BadInput, "", talk);
    };
    refused(
        &["run", "tyo.toml"],
        "\
error: no file `tyo.toml`: looked for `DIR/tyo.toml`, `DIR/configs/tyo.toml`; did you mean `toy.toml`?
hint: name a file from the working folder or from `configs/` in the project root
",
    );
    refused(
        &["run", "toy.toml", "--set", "cut.length=0"],
        "\
error: --set cut.length=0: `length` of cell `cut` (stage `cut`): expected a positive number: got 0
hint: `pipeline stages cut` says what its keys take
",
    );
    refused(
        &["plan", "toy.toml", "--set", "cut.lenght=1"],
        "\
error: --set cut.lenght=1: unknown key `lenght` in stage `cut`; did you mean `length`?
hint: `pipeline stages NAME` lists the keys and ports of a stage
",
    );
    refused(
        &["run", "toy.toml", "--set", "oops"],
        "\
error: expected `--set key=value`: got `--set oops`
hint: for example: --set train.epochs=3
",
    );
    refused(
        &["explain", "toy.toml", "cat"],
        "\
error: no cell matches `cat`; did you mean `cut`?
hint: `pipeline plan FILE` lists the cells
",
    );
    refused(
        &["schema", "cutt"],
        "\
error: unknown stage `cutt`; did you mean `cut`?
hint: `pipeline stages` lists all stages
",
    );
    assert_eq!(toy.call(&["run"]).exit, Exit::BadInput);
    assert_eq!(toy.call(&["run", "toy.toml", "--memory", "much"]).exit, Exit::BadInput);
    assert!(!toy.path().join(".pipeline").exists());
}

#[test]
fn an_unwritable_store() {
    let toy = Toy::new();
    fs::write(toy.path().join(".pipeline"), "a file").unwrap();
    let said = toy.call(&["run", "toy.toml"]);
    assert_eq!(said.exit, Exit::Failed);
    assert!(
        said.talk.starts_with("error: cannot make or write the store `DIR/.pipeline`\ncaused by: ")
    );
}

/// A reader that has gone away.
struct Gone;
impl std::io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let toy = Toy::new();
    for arguments in [&["stages"][..], &["plan", "configs/toy.toml"], &["completions", "zsh"]] {
        let mut talk = Vec::new();
        let mut console = Console::plain(Gone, &mut talk);
        let arguments = ["pipeline"].iter().chain(arguments).map(Into::into);
        let exit = run_with(registry(), arguments, toy.path(), never, &mut console);
        assert_eq!(exit, Exit::Done);
        drop(console);
        assert_eq!(String::from_utf8_lossy(&talk), "");
    }
}

#[test]
fn a_stopped_run_says_how_to_go_on() {
    let toy = Toy::new();
    let (exit, data, talk) = toy.stoppable(&["run", "toy.toml", "--jobs", "1"], at_once);
    assert_eq!(exit, Exit::Interrupted);
    assert_eq!(toy.plain(&data), "run RUN0: 0 built, 0 fresh, 0 failed, 4 not reached in T s\n");
    assert_eq!(
        toy.plain(&talk),
        "\
run    RUN0 of 4 cells
warning: stopping: 0 units at work; Ctrl-C again ends at once
error: run `RUN0` was stopped with 4 of its cells not built
hint: run the same command again: what was finished is stored, and the rest goes on from there
"
    );
}

#[test]
fn keep_going_names_what_was_not_reached() {
    let toy = Toy::new();
    let words = ["--set", "words.words=['apple', 'bomb']", "--set", "cut.length=3"];
    let run = ["run", "toy.toml", "--jobs", "1", "--keep-going", "-q"];
    let arguments: Vec<&str> = run.into_iter().chain(words).collect();
    check(
        &toy.call(&arguments),
        Exit::Failed,
        "\
run RUN0: 1 built, 0 fresh, 1 failed, 1 not reached in T s
cut: stage error; see `pipeline logs cut`
",
        "\
not reached: `tell`
error: cell `cut` failed (stage `cut`, shard `bomb`)
caused by: it ticks
hint: take `bomb` out of `words`
",
    );
    let plan: Vec<&str> = ["plan", "toy.toml"].into_iter().chain(words).collect();
    assert!(toy.call(&plan).data.contains("1 of 2 shards"), "the other shard was built");
}
