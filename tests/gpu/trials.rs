//! What must hold of cells that another program runs.

use std::{collections::BTreeMap, fs};

use pipeline::{Digest, Store};
use serde_json::Value;

use super::world::{World, is_running, send, until};

type Trial = (&'static str, fn());

pub(crate) const ALL: &[Trial] = &[
    ("the_program_does_the_work", the_program_does_the_work),
    ("a_training_is_the_same_over_there", a_training_is_the_same_over_there),
    ("errors_come_back_whole", errors_come_back_whole),
    (
        "failures_have_their_class_and_are_tried_again",
        failures_have_their_class_and_are_tried_again,
    ),
    ("a_killed_program_is_a_failure", a_killed_program_is_a_failure),
    ("a_stopped_run_stops_the_program", a_stopped_run_stops_the_program),
    ("a_program_ends_with_its_run", a_program_ends_with_its_run),
    ("others_see_how_far_it_is", others_see_how_far_it_is),
    ("what_is_missing_is_named", what_is_missing_is_named),
    ("another_program_is_refused", another_program_is_refused),
];

fn failure(report: &Value) -> (&str, &str) {
    let failure = &report["cells"][0]["failure"];
    (failure["class"].as_str().unwrap(), failure["message"].as_str().unwrap())
}

fn the_program_does_the_work() {
    let world = World::told("fine", "");
    let said = world.call(&["run", "small.toml", "--gpus", "3,5"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let log = world.call(&["logs", "cell"]).data;
    assert!(log.contains("devices 3 and 3") && log.contains("50 % half way"), "{log}");
    assert_eq!(world.run(0, &[])["fresh"], 1);
    assert!(world.stored("tmp").is_empty() && world.stored("lease").is_empty());
}

/// Contents of the parts of the only output of a cell.
fn contents(world: &World, report: &Value, cell: &str) -> BTreeMap<String, Digest> {
    let mut cells = report["cells"].as_array().unwrap().iter();
    let cell = cells.find(|found| found["cell"] == cell).unwrap();
    let manifest = cell["manifests"].as_object().unwrap().values().next().unwrap();
    let digest: Digest = serde_json::from_value(manifest.clone()).unwrap();
    let artifact = Store::open(&world.store()).unwrap().artifact(&digest).unwrap();
    artifact.manifest.parts().map(|part| (part.name.clone(), part.content)).collect()
}

fn a_training_is_the_same_over_there() {
    let train = |name: &str, more: &str| {
        format!(
            "[{name}]\nuse = 'train.unet'\nin = {{ images = 'cases.images', target = 'cases.truth' }}\n\
             network = {{ levels = 2, base_width = 4 }}\ntraining = {{ epochs = 2, batch_size = 3 }}\n{more}\n"
        )
    };
    let experiment = format!(
        "[cases]\nuse = 'ingest.phantom_cxr'\ncount = 12\nphantom = {{ size = 32 }}\n\
         split = {{ train = 7, val = 3 }}\nshard_cases = 4\n{}{}",
        train("here", ""),
        train("there", "device = 'cuda'"),
    );
    let world = World::new(&experiment);
    let report = world.run(0, &[]);
    let [mut here, mut there] = ["here", "there"].map(|cell| contents(&world, &report, cell));
    // The summary says where the steps were done.
    assert_ne!(here.remove("summary.json"), there.remove("summary.json"));
    assert!(here.contains_key("weights.safetensors") && here.contains_key("metrics.parquet"));
    assert_eq!(here, there);
    assert!(world.call(&["logs", "there"]).data.contains("epoch 2 of 2"));
    assert!(world.stored("ckpt").is_empty());
}

fn errors_come_back_whole() {
    let world = World::told("refuse", "");
    let said = world.call(&["run", "small.toml", "--quiet", "--gpus", "0"]);
    let expected = "\
error: cell `cell` failed (stage `on_device`)
caused by: it is too warm
hint: open a window
";
    assert_eq!((said.code, said.talk.as_str()), (Some(1), expected));
    let log = world.call(&["logs", "cell"]).data;
    assert!(log.contains("failed (stage error)") && log.contains("it is too warm"), "{log}");
    let world = World::told("panic", "");
    let said = world.call(&["run", "small.toml", "--quiet", "--gpus", "0"]);
    assert_eq!(said.code, Some(1));
    assert!(said.talk.contains("cell `cell` panicked (stage `on_device`)"), "{said:?}");
    assert!(said.talk.contains("a bug over there"), "{said:?}");
}

fn failures_have_their_class_and_are_tried_again() {
    let world = World::told("memory", "retry = { memory = 1 }");
    let said = world.call(&["run", "small.toml", "--gpus", "0"]);
    assert!(said.talk.contains("no room") && said.talk.contains("there is another"), "{said:?}");
    let report = world.run(1, &[]);
    assert_eq!(failure(&report).0, "memory");
    let report = World::told("full", "").run(1, &[]);
    assert_eq!(failure(&report).0, "infrastructure");
    let hint = report["errors"][0]["hint"].as_str().unwrap();
    assert!(hint.contains("free space"), "a full disk over there is one here: {hint}");
    let report = World::told("wait", "timeout = '0.2s'").run(1, &[]);
    assert_eq!(failure(&report).0, "timeout");
}

fn a_killed_program_is_a_failure() {
    let world = World::told("wait", "");
    let (mut run, program) = world.begin();
    send("-KILL", program);
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let log = world.call(&["logs", "cell"]).data;
    assert!(log.contains("failed (out of memory)") && log.contains("was killed"), "{log}");
    assert!(world.stored("tmp").is_empty() && world.stored("lease").is_empty());
}

fn a_stopped_run_stops_the_program() {
    for signal in ["-INT", "-TERM"] {
        let world = World::told("wait", "");
        let (mut run, program) = world.begin();
        send(signal, run.id());
        assert_eq!(run.wait().unwrap().code(), Some(130));
        assert!(!is_running(program));
        assert_eq!(world.stored("ckpt").len(), 1, "it has saved its checkpoint");
        assert_eq!(world.run(0, &[])["built"], 1);
        assert!(world.stored("ckpt").is_empty(), "it has gone on from there");
    }
}

fn a_program_ends_with_its_run() {
    let world = World::told("wait", "");
    let (mut run, program) = world.begin();
    run.kill().unwrap();
    run.wait().unwrap();
    until("the program ends", || !is_running(program));
    assert_eq!(world.stored("ckpt").len(), 1, "it has saved its checkpoint");
    assert!(world.stored("ac").is_empty(), "it has published nothing");
    fs::remove_file(world.place()).unwrap();
    assert_eq!(world.run(0, &[])["built"], 1);
}

fn others_see_how_far_it_is() {
    let world = World::told("wait", "");
    let (mut run, _) = world.begin();
    until("the status says so", || {
        let said = world.call(&["status", "--json"]);
        let live: Value = serde_json::from_str(said.data.trim()).unwrap();
        let cells = live["running"].as_array().unwrap();
        cells.iter().any(|cell| cell["doing"] == "waiting" && cell["fraction"] == 0.25)
    });
    send("-INT", run.id());
    assert_eq!(run.wait().unwrap().code(), Some(130));
}

fn what_is_missing_is_named() {
    let world = World::told("fine", "");
    let said = world.call(&["run", "small.toml", "--quiet"]);
    let expected = "\
error: cell `cell` (stage `on_device`) must have 1 graphics processor: the run may use 0
hint: name those that the run may use, for example `--gpus 0`
";
    assert_eq!((said.code, said.talk.as_str()), (Some(2), expected));
    let run = ["run", "small.toml", "--quiet", "--gpus", "0"];
    let said = world
        .said(world.command(&run).env("PIPELINE_CUDA", "/nowhere/pipeline-cuda").output().unwrap());
    let expected = "\
error: cell `cell` (stage `on_device`) is run by `pipeline-cuda`, which was not found: looked for `/nowhere/pipeline-cuda`
hint: build it with `cargo build --release --features cuda`, or name it in PIPELINE_CUDA
";
    assert_eq!((said.code, said.talk.as_str()), (Some(2), expected));
    let said = world.said(
        world.command(&run).env_remove("PIPELINE_CUDA").env("PATH", "/else").output().unwrap(),
    );
    let own = std::env::current_exe().unwrap().with_file_name("pipeline-cuda");
    if own.exists() {
        return;
    }
    let tried = format!("looked for `{}`, `/else/pipeline-cuda`", own.display());
    assert!(said.talk.contains(&tried), "{said:?}");
}

fn another_program_is_refused() {
    let world = World::told("fine", "");
    let run = ["run", "small.toml", "--quiet", "--gpus", "0"];
    let plain = env!("CARGO_BIN_EXE_pipeline");
    let said = world.said(world.command(&run).env("PIPELINE_CUDA", plain).output().unwrap());
    let expected = "\
error: cell `cell` failed (stage `on_device`)
caused by: the program is of another version than the run: a stage is none of that name, expected `on_device`
hint: build both programs from the same sources
";
    assert_eq!((said.code, said.talk.as_str()), (Some(1), expected));
    // Something else of that name says nothing that a run understands.
    let said = world.said(world.command(&run).env("PIPELINE_CUDA", "/bin/false").output().unwrap());
    assert_eq!(said.code, Some(1));
    assert!(said.talk.contains("the program ended with 1"), "{said:?}");
}
