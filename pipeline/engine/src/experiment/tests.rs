#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::sync::atomic::AtomicBool;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    Artifact, Ctx, Event, Limits, Named, One, Reason, Refusal, RunError, Stage, StageError, State,
    Store, inputs, plan, run,
    toy::{List, ManyIn, Text, TextOut, WordsIn, WordsOut, joined, walk},
};

struct AWords;
impl Artifact for AWords {
    const KIND: &'static str = "words";
    const SHARDED: bool = true;
    const VIEW: &'static [&'static str] = &["a"];
}

inputs! { struct AWordsIn { words: One<AWords> } }
inputs! { struct NamedIn { texts: Named<Text> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CutConfig {
    length: usize,
}

/// Cuts every word to a length, shard by shard.
struct Cut;
impl Stage for Cut {
    const NAME: &'static str = "cut";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Cuts words.";
    const PER_SHARD: bool = true;
    type Config = CutConfig;
    type Inputs = WordsIn;
    type Outputs = WordsOut;

    fn check(config: &CutConfig) -> Result<(), Refusal> {
        if config.length == 13 {
            return Err(Refusal::new("length", "expected any number but 13: got 13"));
        }
        Ok(())
    }

    fn run(
        config: &CutConfig,
        inputs: WordsIn,
        outputs: &WordsOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let text =
            std::fs::read_to_string(inputs.words.file(ctx.shard())?).map_err(StageError::new)?;
        if text == "bomb" {
            return Err(StageError::new("word `bomb` cannot be cut").hint("remove it"));
        }
        outputs.words.write(ctx.shard(), &text.as_bytes()[..config.length.min(text.len())])
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JoinConfig {
    #[serde(default)]
    rng_seed: u64,
}

/// Joins all words of all inputs.
struct Join;
impl Stage for Join {
    const NAME: &'static str = "join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Joins words.";
    type Config = JoinConfig;
    type Inputs = ManyIn;
    type Outputs = TextOut;

    fn run(
        config: &JoinConfig,
        inputs: ManyIn,
        outputs: &TextOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut text = joined(inputs.words.iter());
        text.extend(config.rng_seed.to_string().bytes());
        outputs.text.write("text", &text)
    }
}

/// Joins the words that begin with a.
struct JoinA;
impl Stage for JoinA {
    const NAME: &'static str = "join_a";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Joins words that begin with a.";
    type Config = JoinConfig;
    type Inputs = AWordsIn;
    type Outputs = TextOut;

    fn run(
        _: &JoinConfig,
        inputs: AWordsIn,
        outputs: &TextOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        outputs.text.write("text", &joined([&*inputs.words]))
    }
}

/// Writes each text with the name of its cell.
struct Report;
impl Stage for Report {
    const NAME: &'static str = "report";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reports texts.";
    type Config = JoinConfig;
    type Inputs = NamedIn;
    type Outputs = TextOut;

    fn run(
        _: &JoinConfig,
        inputs: NamedIn,
        outputs: &TextOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let lines = inputs
            .texts
            .iter()
            .map(|text| format!("{}: {}\n", text.cell, String::from_utf8_lossy(&joined([text]))));
        outputs.text.write("text", lines.collect::<String>().as_bytes())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add::<List>();
    registry.add::<Cut>();
    registry.add::<Join>();
    registry.add::<JoinA>();
    registry.add::<Report>();
    registry
}

const EXPERIMENT: &str = "\
[matrix]
seed = [0, 1]
[matrix.subset]
one = { from = ['cut2'] }
both = { from = ['cut2', 'cut3'] }

[words]
use = 'list'
words = ['apple', 'banana', 'cherry']

[cut2]
use = 'cut'
in = { words = 'words' }
length = 2

[cut3]
use = 'cut'
in = { words = 'words' }
length = 3

[join]
use = 'join'
in = { words = '${subset.from}' }
rng_seed = '${seed}'

[a]
use = 'join_a'
in = { words = 'cut3' }

[report]
use = 'report'
in = { texts = ['join[*]', 'a'] }
";

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("configs")).unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("configs").join(name), text).unwrap();
    }

    fn load(&self, text: &str, set: &[&str]) -> Result<Experiment, ConfigError> {
        self.write("e.toml", text);
        let overrides: Vec<Override> = set.iter().map(|s| Override::parse(s).unwrap()).collect();
        Experiment::load("e.toml", &overrides, &Roots::find(self.folder.path()), &registry())
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("store")).unwrap()
    }

    /// Runs and returns one line a cell that was not fresh: `built cell (reasons)`.
    fn run(&self, text: &str, set: &[&str]) -> Vec<String> {
        let experiment = self.load(text, set).unwrap();
        let (lines, result) = run_lines(&experiment, &self.store());
        result.unwrap();
        lines
    }

    fn plan(&self, text: &str, set: &[&str]) -> Vec<String> {
        let experiment = self.load(text, set).unwrap();
        let planned = plan(&experiment, &experiment.select(&[]).unwrap(), &self.store()).unwrap();
        let stale = planned.into_iter().filter(|line| line.state != State::Fresh);
        stale
            .map(|line| format!("{:?} {} ({})", line.state, line.cell, reasons(&line.reasons)))
            .collect()
    }

    fn error(&self, text: &str, set: &[&str]) -> String {
        self.load(text, set).map(|_| ()).unwrap_err().to_string()
    }
}

fn reasons(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn run_lines(
    experiment: &Experiment,
    store: &Store,
) -> (Vec<String>, Result<crate::RunReport, RunError>) {
    let selected = experiment.select(&[]).unwrap();
    let mut lines = Vec::new();
    let mut why = std::collections::BTreeMap::new();
    let limits = Limits { cpus: 2, memory: 1 << 30 };
    let result =
        run(
            experiment,
            &selected,
            store,
            limits,
            &AtomicBool::new(false),
            &mut |event| match event {
                Event::Stale { cell, reasons, .. } => {
                    why.insert(cell, reasons);
                }
                Event::Built { cell, shards, .. } => {
                    let shards =
                        shards.map(|(b, f)| format!(" {b} of {}", b + f)).unwrap_or_default();
                    lines.push(format!("{cell}{shards} ({})", reasons(&why[&cell])));
                }
                _ => {}
            },
        );
    lines.sort();
    (lines, result)
}

#[test]
fn spans_the_matrix_and_orders_the_cells() {
    let experiment = World::new().load(EXPERIMENT, &[]).unwrap();
    let names: Vec<&str> = experiment.cells.iter().map(|cell| cell.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "words",
            "cut2",
            "cut3",
            "join[seed=0,subset=one]",
            "join[seed=0,subset=both]",
            "join[seed=1,subset=one]",
            "join[seed=1,subset=both]",
            "a",
            "report"
        ]
    );
    let wires = |cell: usize| experiment.needs(cell).collect::<Vec<_>>();
    assert_eq!(wires(4), [1, 2]);
    assert_eq!(wires(8), [3, 4, 5, 6, 7]);
}

#[test]
fn a_second_run_builds_nothing() {
    let world = World::new();
    let lines = world.run(EXPERIMENT, &[]);
    assert_eq!(lines.len(), 9);
    assert_eq!(lines[0], "a (never built)");
    assert_eq!(lines[1], "cut2 3 of 3 (never built)");
    assert_eq!(world.plan(EXPERIMENT, &[]), Vec::<String>::new());
    assert_eq!(world.run(EXPERIMENT, &[]), Vec::<String>::new());
    let threads_do_not_matter = world.run(EXPERIMENT, &["words.buffer=7"]);
    assert_eq!(threads_do_not_matter, Vec::<String>::new());
}

#[test]
fn a_changed_source_rebuilds_what_uses_it() {
    let world = World::new();
    world.run(EXPERIMENT, &[]);
    let set = ["cut3.length=4"];
    let planned = world.plan(EXPERIMENT, &set);
    assert_eq!(
        planned,
        [
            "Stale cut3 (`length` changed from 3 to 4)",
            "Unknown join[seed=0,subset=both] (`cut3` is built first)",
            "Unknown join[seed=1,subset=both] (`cut3` is built first)",
            "Unknown a (`cut3` is built first)",
            "Unknown report (3 cells are built first, among them `join[seed=0,subset=both]`)",
        ]
    );
    let lines = world.run(EXPERIMENT, &set);
    let built: Vec<&str> = lines.iter().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(
        built,
        ["a", "cut3 3 of 3", "join[seed=0,subset=both]", "join[seed=1,subset=both]", "report"]
    );
    assert!(lines[2].contains("`cut3` on port `words` changed from"), "{lines:?}");
    assert_eq!(world.run(EXPERIMENT, &[]), Vec::<String>::new(), "the old results are still there");
}

#[test]
fn an_added_case_runs_one_shard_and_views_hide_what_they_do_not_show() {
    let world = World::new();
    world.run(EXPERIMENT, &[]);
    let lines = world.run(EXPERIMENT, &["words.words=['apple', 'banana', 'cherry', 'date']"]);
    let built: Vec<&str> = lines.iter().map(|line| line.split(" (").next().unwrap()).collect();
    // `a` sees words that begin with a only, so it is fresh.
    assert_eq!(
        built,
        [
            "cut2 1 of 4",
            "cut3 1 of 4",
            "join[seed=0,subset=both]",
            "join[seed=0,subset=one]",
            "join[seed=1,subset=both]",
            "join[seed=1,subset=one]",
            "report",
            "words",
        ]
    );
}

#[test]
fn equal_bytes_stop_the_wave() {
    let world = World::new();
    world.run(EXPERIMENT, &["cut3.length=20"]);
    let lines = world.run(EXPERIMENT, &["cut3.length=30"]);
    assert_eq!(lines, ["cut3 3 of 3 (`length` changed from 20 to 30)"]);
}

#[test]
fn a_failure_is_reported_and_nothing_finished_is_lost() {
    let world = World::new();
    let bomb = "words.words=['apple', 'bomb']";
    let experiment = world.load(EXPERIMENT, &[bomb]).unwrap();
    let (lines, result) = run_lines(&experiment, &world.store());
    let error = result.unwrap_err();
    let text = match &error {
        RunError::Several { failures } => failures[0].to_string(),
        one => one.to_string(),
    };
    assert!(text.contains("failed (stage `cut`, shard `bomb`)"), "{text}");
    assert_eq!(lines, ["words (never built)"]);
    let planned = world.plan(EXPERIMENT, &[bomb]);
    assert!(planned[0].starts_with("Stale cut2"), "{planned:?}");
}

#[test]
fn damaged_entries_are_found_and_healed() {
    let world = World::new();
    world.run(EXPERIMENT, &[]);
    for entry in walk(&world.folder.path().join("store/ac")) {
        std::fs::write(entry, "{").unwrap();
    }
    let lines = world.run(EXPERIMENT, &[]);
    assert_eq!(lines.len(), 9);
    assert!(lines[0].contains("truncated"), "{lines:?}");
    for entry in walk(&world.folder.path().join("store/cas")) {
        let mut permissions = std::fs::metadata(&entry).unwrap().permissions();
        #[allow(clippy::permissions_set_readonly_false, reason = "a temporary folder of a test")]
        permissions.set_readonly(false);
        std::fs::set_permissions(&entry, permissions).unwrap();
        std::fs::write(entry, "x").unwrap();
    }
    assert_eq!(world.run(EXPERIMENT, &[]).len(), 9);
    assert_eq!(world.run(EXPERIMENT, &[]), Vec::<String>::new());
}

#[test]
fn damaged_bytes_never_reach_a_stage() {
    let world = World::new();
    world.run(EXPERIMENT, &[]);
    let apple = walk(&world.folder.path().join("store/cas"))
        .into_iter()
        .find(|path| std::fs::read(path).unwrap() == b"apple")
        .unwrap();
    let mut permissions = std::fs::metadata(&apple).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a temporary folder of a test")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&apple, permissions).unwrap();
    std::fs::write(&apple, "APPLE").unwrap();
    let experiment = world.load(EXPERIMENT, &["cut3.length=4"]).unwrap();
    let report = run_lines(&experiment, &world.store()).1.unwrap();
    let clean = run_lines(
        &World::new().load(EXPERIMENT, &["cut3.length=4"]).unwrap(),
        &World::new().store(),
    );
    let digests = |report: &crate::RunReport| -> Vec<_> {
        report.cells.iter().map(|cell| cell.outputs.clone()).collect()
    };
    assert_eq!(digests(&report), digests(&clean.1.unwrap()), "it was made again first");
    assert_eq!(std::fs::read(&apple).unwrap(), b"apple");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let world = World::new();
    let with = |from: &str, to: &str| EXPERIMENT.replace(from, to);
    let cases = [
        (
            with("length = 2", "lenght = 2"),
            "configs/e.toml:14: unknown key `lenght` in stage `cut`; did you mean `length`?",
        ),
        (
            with("length = 2", "length = 'x'"),
            "configs/e.toml:14: `length` of cell `cut2` (stage `cut`): expected a whole number from 0: got \"x\"",
        ),
        (
            with("length = 2", "length = 13"),
            "configs/e.toml:14: `length` of cell `cut2` (stage `cut`): expected any number but 13: got 13",
        ),
        (
            with("use = 'join_a'", "use = 'join_b'"),
            "configs/e.toml:27: unknown stage `join_b` in the registry; did you mean `join_a`?",
        ),
        (
            with("['cut2', 'cut3']", "['cut2', 'cut7']"),
            "configs/e.toml:5: unknown cell `cut7` in the experiment; did you mean `cut2`?",
        ),
        (
            with("in = { words = 'words' }\nlength = 2", "in = { words = 'cut3' }\nlength = 2")
                .replace(
                    "in = { words = 'words' }\nlength = 3",
                    "in = { words = 'cut2' }\nlength = 3",
                ),
            "cells wait for each other in a circle",
        ),
        (
            with("['join[*]', 'a']", "['join[*]', 'words']"),
            "configs/e.toml:32: port `texts` of cell `report` takes `text`: `words` is `words`",
        ),
        (
            with("['join[*]', 'a']", "['join[sede=0]', 'a']"),
            "unknown axis `sede` in `join[sede=0]`; did you mean `seed`?",
        ),
        (
            with("in = { words = 'words' }\nlength = 3", "length = 3"),
            "configs/e.toml:16: port `words` of cell `cut3` takes exactly one artifact: got 0",
        ),
        (
            with("${seed}", "${sede}"),
            "configs/e.toml:24: unknown name `sede` in `${…}`; did you mean `seed`?",
        ),
        (with("length = 2", "length = "), "configs/e.toml:14: "),
    ];
    for (text, expected) in cases {
        let error = world.error(&text, &[]);
        assert!(error.contains(expected), "expected {expected}\n   found {error}");
    }
    assert!(
        world.error(EXPERIMENT, &["cut2.lenght=1"]).starts_with("--set cut2.lenght=1: unknown key")
    );
}

#[test]
fn composes_files_scales_and_fragments() {
    let world = World::new();
    world.write(
        "base.toml",
        "[words]\nuse = 'list'\nwords = ['x']\n[scale.big.cut]\nlength = 100\n",
    );
    world.write("frag.toml", "use = 'cut'\nlength = 1\n[scale.big]\nlength = 50\n");
    let text = "extends = 'base.toml'\n[experiment]\nscale = 'big'\n[cut]\nuse = 'frag.toml'\nin = { words = 'words' }\n";
    let config = |set: &[&str]| {
        let experiment = world.load(text, set).unwrap();
        experiment.cells[1].config.full["length"].as_u64().unwrap()
    };
    assert_eq!(config(&[]), 100);
    assert_eq!(config(&["cut.length=7"]), 7);
    assert_eq!(config(&["scale.big={}"]), 100);
    assert_eq!(config(&["cut.use=frag.toml", "cut.length=3"]), 3);
    let error = world.error(text, &["experiment.scale=bgi"]);
    assert!(
        error.contains("unknown scale `bgi` in the experiment; did you mean `big`?"),
        "{error}"
    );
    let error = world.error(text, &["cut.use=frga.toml"]);
    assert!(error.contains("--set cut.use=frga.toml"), "{error}");
    world.write("loop.toml", "extends = 'e.toml'\n");
    let error = world.error("extends = 'loop.toml'\n", &[]);
    assert!(error.contains("a file extends itself"), "{error}");
}

#[test]
fn the_resolved_experiment_is_the_same_experiment() {
    let world = World::new();
    let first = world.load(EXPERIMENT, &["cut2.length=9"]).unwrap();
    let again = world.load(&first.resolved, &[]).unwrap();
    assert_eq!(first.resolved, again.resolved);
    let configs =
        |e: &Experiment| e.cells.iter().map(|c| c.config.full.clone()).collect::<Vec<_>>();
    assert_eq!(configs(&first), configs(&again));
}

#[test]
fn selection_takes_what_is_needed() {
    let world = World::new();
    let experiment = world.load(EXPERIMENT, &[]).unwrap();
    let names = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        let flags = experiment.select(&patterns).unwrap();
        let chosen = experiment.cells.iter().zip(flags).filter(|(_, flag)| *flag);
        chosen.map(|(cell, _)| cell.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["a"]), ["words", "cut3", "a"]);
    assert_eq!(names(&["join[seed=1*one]"]), ["words", "cut2", "join[seed=1,subset=one]"]);
    let error = experiment.select(&["jion".to_owned()]).unwrap_err().to_string();
    assert_eq!(error, "no cell matches `jion`; did you mean `join`?");
}
