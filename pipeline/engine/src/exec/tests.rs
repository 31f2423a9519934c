#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{collections::BTreeMap, fs, sync::atomic::AtomicBool, time::Instant};

use super::*;
use crate::{
    Event, Experiment, Limits, Part, RunError, RunOptions, RunReport, run,
    toy::{Toy, walk},
};

/// Two words as shards, and a script in the project that reads them.
const WORDS: &str = "[words]\nuse = 'list'\nwords = ['apple', 'banana']\n\n";

fn cell(rest: &str) -> String {
    format!(
        "{WORDS}[count]\nuse = 'exec'\nargv = ['sh', 'tools/count.sh', 'x']\nfiles = ['tools/count.sh']\n{rest}"
    )
}

/// A project with this script.
fn project(script: &str) -> Toy {
    let toy = Toy::new();
    fs::create_dir(toy.path("tools")).unwrap();
    fs::write(toy.path("tools/count.sh"), script).unwrap();
    toy
}

const IN_AND_OUT: &str =
    "in = { words = 'words' }\ninputs = { words = 'words' }\noutputs.text = { kind = 'text' }\n";

fn run_with(toy: &Toy, experiment: &Experiment, gpus: &[&str]) -> Result<RunReport, RunError> {
    let limits = Limits { cpus: 2, memory: 4 << 30 };
    let gpus = gpus.iter().map(|gpu| (*gpu).to_owned()).collect();
    let options = RunOptions { gpus, ..limits.into() };
    let all = vec![true; experiment.cells.len()];
    run(experiment, &all, &toy.store(), options, &AtomicBool::new(false), &mut |_| {})
}

/// The parts that a cell made on a port, by name.
fn made(toy: &Toy, report: &RunReport, cell: &str, port: &str) -> Vec<(String, String)> {
    let store = toy.store();
    let found = report.cells.iter().find(|found| found.cell == cell).unwrap();
    let manifest = store.manifest(&found.manifests[port]).unwrap();
    let text = |part: &Part| fs::read_to_string(store.blob(&part.blob)).unwrap();
    manifest.parts().map(|part| (part.name.clone(), text(part))).collect()
}

/// Runs a script in a cell; what it failed with, its causes one after another.
fn failure(script: &str, rest: &str) -> (FailureClass, String) {
    let toy = project(script);
    let experiment = toy.load(&cell(rest), &[]);
    let error = run_with(&toy, &experiment, &[]).unwrap_err();
    let left = walk(&toy.path("store/tmp"));
    assert!(left.is_empty(), "{left:?}");
    let text = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let mut lines: Vec<String> = text.map(ToString::to_string).collect();
    lines.dedup();
    (error.class(), lines[1..].join("; "))
}

#[test]
fn a_program_finds_what_the_request_says_and_nothing_more() {
    let toy = project(
        "cat > outputs/text/request\ncat inputs/words/0/* > outputs/text/words\n\
         ls -A > outputs/text/folder\nenv | cut -d= -f1 | sort > outputs/text/names\n\
         printf '%s|' \"$@\" \"$MODE\" \"$CUDA_VISIBLE_DEVICES\" > outputs/text/arguments",
    );
    let text = cell(&format!(
        "{IN_AND_OUT}config = {{ bins = 3 }}\nrng_seed = 7\nenv = {{ MODE = 'a b' }}\n"
    ));
    let experiment = toy.load(&text, &[]);
    let report = run_with(&toy, &experiment, &["4"]).unwrap();
    let parts: BTreeMap<String, String> =
        made(&toy, &report, "count", "text").into_iter().collect();
    assert_eq!(parts["words"], "applebanana");
    assert_eq!(parts["arguments"], "x|a b||", "no device that it has not asked for");
    assert_eq!(parts["folder"], "inputs\noutputs\nrequest.json\ntmp\ntools\n");
    let ours = "CUDA_VISIBLE_DEVICES HOME LANG LC_ALL MODE OMP_NUM_THREADS PATH TMPDIR TZ";
    let of_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names = parts["names"].lines().filter(|name| !of_shell.contains(name));
    assert_eq!(names.collect::<Vec<_>>().join(" "), ours);
    let mut request: Value = serde_json::from_str(&parts["request"]).unwrap();
    let checkpoints = request["checkpoints"].take();
    assert!(Path::new(checkpoints.as_str().unwrap()).is_absolute());
    assert_eq!(
        request,
        serde_json::json!({
            "config": { "bins": 3 },
            "rng_seed": 7,
            "shard": null,
            "inputs": { "words": [
                { "kind": "words", "folder": "inputs/words/0", "files": ["apple", "banana"] },
            ]},
            "outputs": { "text": { "kind": "text", "folder": "outputs/text", "files": [] } },
            "scratch": "tmp",
            "checkpoints": null,
            "threads": 1,
            "gpus": [],
        })
    );
}

#[test]
fn an_edit_of_a_script_builds_its_cell_again_and_what_reads_other_bytes() {
    let toy = project("cat inputs/words/0/* > outputs/text/text");
    let more = "\n[again]\nuse = 'exec'\nargv = ['cp', 'inputs/text/0/text', 'outputs/text/text']\n\
                in = { text = 'count' }\ninputs = { text = 'text' }\noutputs.text = { kind = 'text' }\n";
    let text = cell(&format!("{IN_AND_OUT}{more}"));
    let run = || run_with(&toy, &toy.load(&text, &[]), &[]).unwrap();
    assert_eq!(run().built, 3);
    assert_eq!(run().built, 0);
    // Other bytes of the script, the same of its output.
    fs::write(toy.path("tools/count.sh"), "# better\ncat inputs/words/0/* > outputs/text/text")
        .unwrap();
    let report = run();
    assert_eq!((report.built, report.fresh), (1, 2));
    fs::write(toy.path("tools/count.sh"), "cat inputs/words/0/apple > outputs/text/text").unwrap();
    assert_eq!(run().built, 2);
    // A file beside it that is not listed is not found either.
    fs::write(toy.path("tools/other.sh"), "echo other").unwrap();
    fs::write(toy.path("tools/count.sh"), "ls tools > outputs/text/text").unwrap();
    let report = run();
    assert_eq!(made(&toy, &report, "count", "text")[0].1, "count.sh\n");
}

#[test]
fn a_program_may_run_shard_by_shard() {
    let toy = project("read -r _; cat inputs/words/0/* > outputs/words/$(ls inputs/words/0)");
    let rest = "in = { words = 'words' }\ninputs = { words = 'words' }\nper_shard = true\n\
                outputs.words = { kind = 'words' }\n";
    let text =
        format!("{}\n[join]\nuse = 'join'\nin = {{ words = ['count', 'words'] }}\n", cell(rest));
    let report = run_with(&toy, &toy.load(&text, &[]), &[]).unwrap();
    assert_eq!(made(&toy, &report, "join", "text")[0].1, "applebananaapplebanana");
    let mut shards = None;
    let experiment = toy.load(&text, &["words.words=['apple', 'banana', 'cherry']"]);
    let (all, limits) = (vec![true; 3], Limits { cpus: 1, memory: 4 << 30 });
    run(&experiment, &all, &toy.store(), limits, &AtomicBool::new(false), &mut |event| {
        if let Event::Built { cell, shards: found, .. } = event
            && cell == "count"
        {
            shards = found;
        }
    })
    .unwrap();
    assert_eq!(shards, Some((1, 2)), "a word more is a shard more");
}

#[test]
fn programs_that_fail_say_how() {
    let (class, text) = failure("echo one; echo two >&2; exit 3", IN_AND_OUT);
    assert_eq!(class, FailureClass::Stage);
    assert!(text.starts_with("the program ended with 3: "), "{text}");
    assert!(text.contains("one") && text.contains("two"), "{text}");
    for (script, class) in [
        ("exit 75", FailureClass::Infrastructure),
        ("exit 137", FailureClass::Memory),
        ("kill -9 $$", FailureClass::Memory),
        ("kill -11 $$", FailureClass::Stage),
    ] {
        assert_eq!(
            failure(script, &format!("retry = {{ infrastructure = 0 }}\n{IN_AND_OUT}")).0,
            class,
            "{script}"
        );
    }
    let missing = IN_AND_OUT.replace("'text' }", "'text', files = ['a', 'b'] }");
    for (script, rest, expected) in [
        ("true", IN_AND_OUT, "output `text` should have at least one file: found []"),
        (
            "echo > outputs/text/a",
            &missing,
            "output `text` should have the files [\"a\", \"b\"]: found [\"a\"]",
        ),
        (
            "echo > outputs/other",
            IN_AND_OUT,
            "`other` in the folder of the outputs is no output of the cell",
        ),
        (
            "mkdir outputs/text/a",
            IN_AND_OUT,
            "`text/a` in the folder of the outputs is a folder: an output has files alone",
        ),
        (
            "ln -s /etc/passwd outputs/text/a",
            IN_AND_OUT,
            "`text/a` in the folder of the outputs is not a plain file",
        ),
    ] {
        assert_eq!(failure(script, rest), (FailureClass::Stage, expected.to_owned()));
    }
    let rest = format!(
        "{IN_AND_OUT}\n[other]\nuse = 'exec'\nargv = ['no-such-program']\noutputs.a = {{ kind = 'a' }}\n"
    );
    let (_, text) = failure("echo > outputs/text/a", &rest);
    assert_eq!(text, "no program `no-such-program` in `PATH`");
}

#[test]
fn a_program_that_hangs_is_ended_when_its_time_is_over() {
    let started = Instant::now();
    let script = "trap '' TERM; sleep 300 & sleep 300; while :; do sleep 1; done";
    let rest = format!("timeout = 0.1\ngrace_seconds = 0.1\n{IN_AND_OUT}");
    assert_eq!(failure(script, &rest).0, FailureClass::Timeout);
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn each_program_has_devices_of_its_own() {
    let script = "[ -n \"$CUDA_VISIBLE_DEVICES\" ] || exit 1\n\
                  mkdir \"$PLACE/$CUDA_VISIBLE_DEVICES\" || exit 1\nsleep 0.02\n\
                  rmdir \"$PLACE/$CUDA_VISIBLE_DEVICES\"\necho > outputs/text/done";
    let toy = project(script);
    let place = toy.path("place").display().to_string();
    fs::create_dir(&place).unwrap();
    let cell = |i: usize| {
        format!(
            "[c{i}]\nuse = 'exec'\nargv = ['sh', 'tools/count.sh', '{i}']\nfiles = ['tools']\n\
             env = {{ PLACE = '{place}' }}\nresources = {{ gpus = 1 }}\noutputs.text = {{ kind = 'text' }}\n"
        )
    };
    let text: String = (0..6).map(cell).collect();
    let experiment = toy.load(&text, &[]);
    let mut few = Vec::new();
    let (all, limits) = (vec![true; 6], Limits { cpus: 4, memory: 4 << 30 });
    let stop = AtomicBool::new(false);
    let error = run(&experiment, &all, &toy.store(), limits, &stop, &mut |event| {
        if let Event::FewGpus { asked, found, .. } = event {
            few.push((asked, found));
        }
    });
    assert!(error.is_err() && few.contains(&(1, 0)), "{few:?}");
    assert_eq!(run_with(&toy, &experiment, &["a", "b"]).unwrap().built, 6);
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_runs() {
    let toy = project("");
    let load = |text: &str| {
        fs::write(toy.path("configs/toy.toml"), text).unwrap();
        let (roots, registry) = (crate::Roots::find(&toy.path("")), crate::toy::registry());
        let error = Experiment::load("toy.toml", &[], &roots, &registry).map(drop).unwrap_err();
        let mut lines = vec![error.to_string()];
        lines.extend(std::error::Error::source(&error).map(ToString::to_string));
        lines.join("; ")
    };
    let base = "[a]\nuse = 'exec'\nargv = ['true']\n";
    let out = "outputs.a = { kind = 'a' }\n";
    for (rest, expected) in [
        ("outputs.a = { kind = 'a', files = ['../b'] }", "`outputs.a.files.0`"),
        (
            "files = ['../b']\noutputs.a = { kind = 'a' }",
            "expected a path below the project: got \"../b\"",
        ),
        (
            "files = ['inputs/b']\noutputs.a = { kind = 'a' }",
            "`inputs` is a name of the program's own folder",
        ),
        ("files = ['nowhere.py']\noutputs.a = { kind = 'a' }", "nowhere.py`, which `files` names"),
        ("outputs.A = { kind = 'a' }", "expected a name of a-z, 0-9 and `_`: got \"A\""),
        ("outputs = {}", "expected at least one output: got none"),
        (
            "outputs.a = { kind = 'a' }\ninputs = { w = 'words' }",
            "port `w` of cell `a` takes exactly one artifact: got 0",
        ),
        (
            "outputs.a = { kind = 'a' }\nper_shard = true",
            "no input is of a kind that comes in shards",
        ),
    ] {
        let text = load(&format!("{base}{rest}\n"));
        assert!(text.contains(expected), "{text}");
    }
    let text = load(&format!("[a]\nuse = 'exec'\nargv = ['sh', 'tools/count.sh']\n{out}"));
    assert!(
        text.contains(
            "`argv` names `tools/count.sh`, a file of the project that `files` does not list"
        ),
        "{text}"
    );
    let text = load(&format!("[a]\nuse = 'exec'\nargv = []\n{out}"));
    assert!(text.starts_with("configs/toy.toml:3: `argv` of cell `a` (stage `exec`)"), "{text}");
    let mixed = format!("{WORDS}{base}{out}in = {{ w = 'words' }}\ninputs = {{ w = 'text' }}\n");
    assert!(load(&mixed).contains("port `w` of cell `a` takes `text`: `words` is `words`"));
}
