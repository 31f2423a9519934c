//! The verbs on toy stages: what goes in is arguments, what comes out is text and an exit code.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

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
fn plan_before_and_after_a_run() {
    let toy = Toy::new();
    let said = toy.call(&["plan", "toy.toml", "--check"]);
    check(
        &said,
        Exit::WorkFound,
        "\
stale    words          never built
unknown  cut[length=1]  `words` is built first
unknown  cut[length=2]  `words` is built first
unknown  tell           2 cells are built first, among them `cut[length=1]`
",
        "4 cells: 0 fresh, 1 stale, 3 unknown until what they need is built\n",
    );
    assert!(!toy.path().join(".pipeline").exists(), "a plan makes nothing");
    let said = toy.call(&["run", "toy.toml", "--jobs", "1"]);
    check(
        &said,
        Exit::Done,
        "\
run RUN0: 4 built, 0 fresh in T s
report: .pipeline/runs/RUN0/report.html
",
        "\
run    RUN0 of 4 cells
start  words: never built
built  words in T s (1/4)
start  cut[length=1]: never built
built  cut[length=1] in T s, 2 of 2 shards (2/4)
start  cut[length=2]: never built
built  cut[length=2] in T s, 2 of 2 shards (3/4)
start  tell: never built
built  tell in T s (4/4)
",
    );
    let id = Store::for_reading(&toy.path().join(".pipeline")).runs().unwrap().pop().unwrap();
    let page = toy.path().join(".pipeline/runs").join(id).join("report.html");
    assert_eq!(fs::read_to_string(page).unwrap(), "<!doctype html><p>told");
    let said = toy.call(&["plan", "toy.toml", "--check", "--only", "cut*"]);
    check(
        &said,
        Exit::Done,
        "fresh  words\nfresh  cut[length=1]\nfresh  cut[length=2]\n",
        "3 cells, all fresh\n",
    );
    let set = "words.words=['apple', 'cherry', 'date']";
    assert_eq!(toy.call(&["run", "toy.toml", "--quiet"]).talk, "");
    toy.call(&["run", "toy.toml", "-q", "--set", set, "--only", "words"]);
    let said = toy.call(&["plan", "toy.toml", "--set", set]);
    assert_eq!(
        said.data.lines().nth(1).unwrap(),
        "stale    cut[length=1]  2 of 3 shards: `words` on port `words` changed from DIGEST to DIGEST (3 parts, first `banana`)"
    );
}

#[test]
fn json_for_programs() {
    let toy = Toy::new();
    let (_, data, _) = toy.raw(&["plan", "toy.toml", "--json"]);
    let first: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        json!({
            "cell": "words", "stage": "list", "state": "stale", "reason": "never built",
            "reasons": [{ "reason": "never_built" }], "shards": null,
        })
    );
    let ended = toy.json(&["run", "toy.toml", "--json"]);
    assert_eq!(
        (&ended["built"], &ended["fresh"], &ended["failed"]),
        (&json!(4), &json!(0), &json!(0))
    );
    assert_eq!(ended["cells"].as_array().unwrap().len(), 4);
    assert!(Path::new(ended["reports"][0].as_str().unwrap()).is_file());
    let again = toy.json(&["run", "toy.toml", "--json"]);
    assert_eq!((&again["built"], &again["fresh"]), (&json!(0), &json!(4)));
    assert_ne!(ended["run"], again["run"]);
    let scores = toy.json(&["show", "toy", "--json"]);
    assert_eq!(
        scores[1],
        json!({
            "method": "tell", "subset": "1-2", "seed": 1, "structure": "lung",
            "metric": "dice", "mean": 0.54, "sd": null, "n": 4,
        })
    );
    toy.raw(&["run", "toy.toml", "-q", "--only", "words"]);
    let cells = toy.json(&["show", "--json"]);
    assert_eq!(cells["cells"][0]["cell"], "words");
}

#[test]
fn explain_says_why() {
    let toy = Toy::new();
    let explain = ["explain", "toy.toml", "cut[length=1]"];
    check(
        &toy.call(&explain),
        Exit::Done,
        "\
cut[length=1] (stage `cut`)
  never built by a run of experiment `toy`
  now unknown, because `words` is built first
",
        "",
    );
    toy.call(&["run", "toy.toml"]);
    toy.call(&["run", "toy.toml", "--set", "matrix.length=[1, 4]"]);
    let said = toy.call(&["explain", "toy.toml", "cut*", "--set", "matrix.length=[1, 2, 4]"]);
    check(
        &said,
        Exit::Done,
        "\
cut[length=1] (stage `cut`)
  built by run RUN0 in T s, 2 of 2 shards, because
    never built
  output `words` had content DIGEST
  now fresh
cut[length=2] (stage `cut`)
  built by run RUN0 in T s, 2 of 2 shards, because
    never built
  output `words` had content DIGEST
  now fresh
cut[length=4] (stage `cut`)
  built by run RUN1 in T s, 2 of 2 shards, because
    never built
  output `words` had content DIGEST
  now fresh
",
        "",
    );
    let (_, data, _) = toy.raw(&["explain", "toy.toml", "tell", "--json"]);
    let told: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(told["last"]["reasons"][0]["reason"], "wiring");
    assert_eq!(told["now"]["state"], "fresh");
    // It was built twice: the run that had the other value is named.
    let said = toy.call(&["explain", "toy.toml", "tell", "--set", "matrix.length=[1, 4]"]);
    assert!(
        said.data.contains("built by run RUN1 in T s, because since run RUN0\n"),
        "{}",
        said.data
    );
}

#[test]
fn graphs() {
    let toy = Toy::new();
    check(
        &toy.call(&["graph", "toy.toml"]),
        Exit::Done,
        "\
flowchart LR
  n0[\"words<br/>list\"]
  n1[\"cut[length=1]<br/>cut\"]
  n2[\"cut[length=2]<br/>cut\"]
  n3[\"tell<br/>tell\"]
  n0 -->|\"words\"| n1
  n0 -->|\"words\"| n2
  n1 -->|\"words\"| n3
  n2 -->|\"words\"| n3
",
        "",
    );
    check(
        &toy.call(&["graph", "toy.toml", "--nodes", "--format", "dot"]),
        Exit::Done,
        r#"digraph "toy" {
  rankdir=LR;
  node [shape=box];
  n0 [label="words\nlist"];
  n1 [label="cut\ncut"];
  n2 [label="tell\ntell"];
  n0 -> n1 [label="words"];
  n1 -> n2 [label="words"];
}
"#,
        "",
    );
}

#[test]
fn runs_cells_and_artifacts_are_shown() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml"]);
    let said = toy.call(&["show"]);
    let lines: Vec<&str> = said.data.lines().collect();
    assert_eq!(lines[0], "run RUN0 of experiment `toy`: 4 built, 0 fresh in T s");
    assert_eq!(lines[1], "outcome    time  cell           outputs");
    assert_eq!(lines[2], "built    T s  words          words DIGEST");
    assert_eq!(lines[7], "method  subset  seed  structure  metric    mean  sd  n");
    assert_eq!(lines[8], "tell    1-2     0     lung       dice    0.5400   -  4");
    assert_eq!(lines[10], "report: .pipeline/runs/RUN0/report.html");

    let cell = toy.json(&["show", "latest:words", "--json"]);
    let artifact = &cell["outputs"]["words"];
    assert_eq!(artifact["parts"][0]["name"], "apple");
    assert_eq!(artifact["parts"][0]["bytes"], 5);
    let digest = artifact["digest"].as_str().unwrap();
    let said = toy.call(&["show", &digest[..8]]);
    let lines: Vec<&str> = said.data.lines().collect();
    assert_eq!(
        lines[..4],
        ["kind     words", "digest   DIGEST", "size     11 B in 2 parts", "part    size  file",]
    );
    let said = toy.call(&["show", "tell", "--rows", "1"]);
    assert!(said.data.contains("table.json:\n  [\n    {\n"), "{}", said.data);
    assert!(said.data.contains("  … 14 more lines\n"), "{}", said.data);
}

#[test]
fn names_that_show_nothing() {
    let toy = Toy::new();
    let refused = |thing: &str, talk: &str| {
        check(&toy.call(&["show", thing]), Exit::BadInput, "", talk);
    };
    refused(
        "latest",
        "\
error: no run has ended in the store `.pipeline`
hint: `pipeline run FILE` makes one; another store is named by --store
",
    );
    toy.call(&["run", "toy.toml"]);
    refused(
        "wrods",
        "\
error: nothing is called `wrods`: no run, no cell of run `RUN0`, no artifact, no file; did you mean `words`?
hint: `pipeline show` lists the cells of the latest run
",
    );
    refused(
        "cut",
        "\
error: `cut` is not one cell: it fits `cut[length=1]`, `cut[length=2]`
hint: give more of the name
",
    );
    refused(
        "toy:wrods",
        "\
error: run `RUN0` has no cell `wrods`; did you mean `words`?
hint: `pipeline show` lists the cells of the latest run
",
    );
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

#[test]
fn stages_and_schemas() {
    let toy = Toy::new();
    check(
        &toy.call(&["stages"]),
        Exit::Done,
        "\
stage  version  runs       in      out
cut          3  per shard  words   words
list         1  once               words
tell         1  once       words+  report
",
        "",
    );
    check(
        &toy.call(&["stages", "cut"]),
        Exit::Done,
        "\
cut, version 3, runs once a shard
Cuts words.

in
    words  words  exactly one artifact  sharded

out
    words  words  sharded

config
    length  integer  default 2  Letters that stay.
",
        "",
    );
    let stage = toy.json(&["stages", "list", "--json"]);
    assert_eq!(stage["config"][0]["type"], "[string, ...]");
    assert_eq!(stage["config"][0]["required"], true);
    assert!(toy.json(&["schema", "cut"])["properties"]["length"].is_object());
    assert!(toy.json(&["schema"])["$defs"]["cut"].is_object());
}

#[test]
fn doctor_help_and_completions() {
    let toy = Toy::new();
    let found = toy.json(&["doctor", "--json"]);
    assert_eq!(found["store_exists"], json!(false));
    assert!(found["gpu"]["usable"].is_boolean(), "{}", found["gpu"]);
    assert_eq!(found["store_writable"], true);
    let said = toy.call(&["doctor"]);
    assert!(said.data.contains("\ngpu           "), "{}", said.data);
    assert!(!toy.path().join(".pipeline").exists());
    let help = toy.call(&["--help"]);
    assert!(help.data.contains("explain"), "{}", help.data);
    assert_eq!((help.exit, help.talk.as_str()), (Exit::Done, ""));
    assert!(toy.call(&["completions", "bash"]).data.contains("complete -F"));
}

#[test]
fn parquet_files_and_pictures() {
    use datasets::{CaseImage, Image, Spacing, Split, shard::write_images};
    let toy = Toy::new();
    let image = Image::from_fn([1, 2, 3], |[_, row, column]| (row + column) as f32);
    let case = CaseImage {
        id: "../case".into(),
        patient: "p".into(),
        dataset: "toy".into(),
        split: Split::Train,
        spacing: Spacing::unit(),
        affine: None,
        image,
    };
    write_images(&toy.path().join("s.parquet"), &[case]).unwrap();
    let pictures = toy.path().join("pictures");
    let said = toy.call(&["show", "s.parquet", "--pictures", pictures.to_str().unwrap()]);
    assert_eq!((said.exit, said.talk.as_str()), (Exit::Done, "1 picture in DIR/pictures\n"));
    assert!(
        said.data.starts_with("s.parquet:\n  1 row in 1 row group, written by pipeline"),
        "{}",
        said.data
    );
    let names: Vec<_> =
        fs::read_dir(&pictures).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1);
    let name = names[0].to_str().unwrap();
    assert!(name.starts_with("s-") && name.ends_with("case.png"), "{name}");
    let json = toy.json(&["show", "./s.parquet", "--json"]);
    assert_eq!(json["n_rows"], 1);
    assert_eq!(json["rows"][0]["case_id"], "../case");
    fs::write(toy.path().join("bad.parquet"), "PAR1").unwrap();
    let said = toy.call(&["show", "bad.parquet"]);
    assert_eq!(said.exit, Exit::Failed);
    assert!(
        said.talk.starts_with("error: cannot show `bad.parquet`\ncaused by: "),
        "{}",
        said.talk
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

#[test]
fn history_diff_and_status() {
    let toy = Toy::new();
    check(&toy.call(&["status"]), Exit::Done, "", "no run is under way\n");
    toy.call(&["run", "toy.toml", "-q"]);
    let more = "words.words=['apple', 'banana', 'cherry']";
    toy.call(&["run", "toy.toml", "-q", "--set", more]);
    fs::create_dir(toy.path().join(".pipeline/runs/20200101-000000-toy-1")).unwrap();
    let said = toy.call(&["history"]);
    let lines: Vec<String> =
        said.data.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "run experiment built fresh time outcome",
            "RUN1 toy 4 0 T s done",
            "RUN0 toy 4 0 T s done",
            "20200101-000000-toy-1 toy - - - killed",
        ]
    );
    let (_, data, _) = toy.raw(&["history", "--json"]);
    let newest: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
    assert_eq!((&newest["outcome"], &newest["built"]), (&json!("done"), &json!(4)));
    let ids = Store::for_reading(&toy.path().join(".pipeline")).runs().unwrap();
    let said = toy.call(&["diff", &ids[0], "latest"]);
    let lines: Vec<&str> = said.data.lines().collect();
    assert_eq!(lines[0], "~ words");
    assert!(
        lines[1].starts_with("    `words` changed from [\"apple\",\"banana\"] to "),
        "{lines:?}"
    );
    assert_eq!(lines[2], "    output `words` changed from DIGEST to DIGEST");
    assert_eq!(said.talk, "RUN0 to RUN1: 4 cells differ, 0 the same\n");
    let told = toy.json(&["diff", &ids[0], &ids[1], "--json"]);
    assert_eq!(told["cells"][1]["reasons"][0]["reason"], "input");
    assert_eq!(
        told["scores"][0],
        json!({
            "method": "tell", "subset": "1-2", "seed": 0, "structure": "lung",
            "metric": "dice", "first": 0.54, "second": 0.56,
        })
    );
    check(
        &toy.call(&["diff", "tyo", "latest"]),
        Exit::BadInput,
        "",
        "\
error: no finished run is called `tyo`; did you mean `toy`?
hint: `pipeline history` lists the runs
",
    );
}

#[test]
fn damage_is_told_and_repaired() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml", "-q"]);
    let said = toy.call(&["verify"]);
    assert_eq!((said.exit, said.talk.as_str()), (Exit::Done, ""));
    assert!(said.data.ends_with(": nothing wrong\n"), "{}", said.data);
    let apple = toy.path().join(".pipeline/cas").join({
        let digest = engine::Digest::of(b"apple").to_string();
        format!("{}/{digest}", &digest[..2])
    });
    fs::remove_file(&apple).unwrap();
    fs::write(&apple, "appel").unwrap();
    let said = toy.call(&["verify", "--all"]);
    assert_eq!(said.exit, Exit::Failed);
    assert!(said.data.contains(": found 5 bytes with digest "), "{}", said.data);
    assert!(said.data.contains("\n  part `apple` of output `words` of stage `list`, record "));
    assert!(said.data.ends_with("1 problem\n"), "{}", said.data);
    assert_eq!(toy.raw(&["verify", "--sample", "0%"]).0, Exit::Done);
    assert_eq!(toy.raw(&["verify", "--sample", "2"]).0, Exit::BadInput);
    let audit = toy.json(&["verify", "--repair", "--json"]);
    assert_eq!((&audit["repaired"], &audit["problems"][0]["kind"]), (&json!(true), &json!("file")));
    assert_eq!(toy.raw(&["verify"]).0, Exit::Done);
    assert_eq!(toy.json(&["run", "toy.toml", "--json"])["built"], 1);
    assert_eq!(fs::read(&apple).unwrap(), b"apple");
}

#[test]
fn garbage_pins_and_space() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml", "-q", "--set", "matrix.length=[3]"]);
    toy.call(&["pin", "latest", "first"]);
    toy.call(&["run", "toy.toml", "-q"]);
    let said = toy.call(&["gc", "--dry-run", "--keep-days", "0"]);
    assert_eq!((said.exit, said.talk.as_str()), (Exit::Done, ""));
    assert!(said.data.contains("run `RUN0`, pinned as `first`"), "{}", said.data);
    assert!(said.data.contains("would be freed"), "{}", said.data);
    // Everything is younger than an hour.
    assert_eq!(toy.json(&["gc", "--keep-days", "0", "--json"])["freed_bytes"], 0);
    let usage = toy.json(&["du", "--json"]);
    assert_eq!(usage["experiments"][0]["runs"], 2);
    assert_eq!(usage["kinds"][1]["kind"], "words");
    assert!(toy.call(&["du"]).data.contains("`pipeline gc` frees"));
    assert_eq!(toy.call(&["unpin", "first"]).exit, Exit::Done);
    check(
        &toy.call(&["unpin", "first"]),
        Exit::BadInput,
        "",
        "error: no run is pinned as `first`\n",
    );
    assert_eq!(toy.call(&["pin", "latest", "a/b"]).exit, Exit::BadInput);
}

#[test]
fn a_share_of_the_results_is_made_again() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml", "-q"]);
    let said = toy.call(&["verify", "--rerun", "100%", "--experiment", "toy.toml"]);
    check(&said, Exit::Done, "6 results of 6 made again: 0 differ\n", "");
    assert_eq!(toy.call(&["verify", "--rerun", "1%"]).exit, Exit::BadInput);
}

#[test]
fn an_experiment_for_snakemake_calls_the_command_cell_by_cell() {
    let toy = Toy::new();
    let said = toy.raw(&["export", "snakemake", "toy.toml", "--program", "/bin/pipeline"]).1;
    let rules: Vec<&str> = said.lines().filter(|line| line.starts_with("rule ")).collect();
    let [words, one, two, tell] = [
        "cell_words_073acf80",
        "cell_cut_length_1__8212648b",
        "cell_cut_length_2__00b03dcb",
        "cell_tell_6bb92e96",
    ];
    let named = [words, one, two, tell].map(|name| format!("rule {name}:"));
    assert_eq!(rules, [&["rule all:".to_owned()][..], &named].concat());
    let call = " && /bin/pipeline exec-cell toy.toml 'cut[length=1]' --store ";
    assert!(said.contains(call), "{said}");
    let needs =
        format!("input: \"done/{one}\", \"done/{two}\"\n    output: touch(\"done/{tell}\")");
    assert!(said.contains(&needs), "{said}");
    // In this order, as Snakemake would.
    for cell in ["words", "cut[length=1]", "cut[length=2]", "tell"] {
        assert_eq!(toy.call(&["exec-cell", "toy.toml", cell]).exit, Exit::Done);
    }
    assert_eq!(toy.call(&["plan", "toy.toml", "--check"]).exit, Exit::Done);
}

#[test]
fn stages_and_experiments_begin_as_files() {
    let toy = Toy::new();
    let said = toy.call(&["new", "stage", "clean.crop"]);
    assert_eq!((said.exit, said.data.as_str()), (Exit::Done, "clean_crop.rs\n"));
    let text = fs::read_to_string(toy.path().join("clean_crop.rs")).unwrap();
    assert!(text.contains("const NAME: &'static str = \"clean.crop\";"), "{text}");
    assert_eq!(toy.call(&["new", "stage", "clean.crop"]).exit, Exit::Failed, "it is there");
    assert_eq!(toy.call(&["new", "experiment", "../x"]).exit, Exit::BadInput);
    let said = toy.call(&["new", "experiment", "mine"]);
    assert_eq!(said.data, "configs/experiments/mine.toml\n");
}
