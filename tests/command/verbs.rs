//! Verbs that only look: plans and drawings of every experiment at every scale, schemas, stages, the doctor, help.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    miniature,
    world::{World, files},
};

/// Every experiment that is shipped, its cells, and those that read nothing.
const EXPERIMENTS: [(&str, usize, usize); 11] = [
    ("ablation", 86, 1),
    ("breast", 49, 1),
    ("breast_sources", 78, 7),
    ("breast_sources_found", 78, 7),
    ("breast_sources_gated", 78, 7),
    ("components", 58, 1),
    ("fundus", 95, 1),
    ("lung_hn", 41, 1),
    ("lung_hn_correlated", 41, 1),
    ("lung_ln", 41, 1),
    ("raters", 29, 1),
];

#[test]
fn every_experiment_is_planned_and_drawn_at_every_scale() {
    let world = World::new();
    miniature::brain_growth(&world);
    let shipped = files(&world.path("configs/experiments"));
    let shipped = shipped.iter().map(|file| file.file_stem().unwrap().to_str().unwrap());
    assert!(shipped.eq(EXPERIMENTS.map(|(name, ..)| name)), "an experiment is not planned here");
    for (name, n_cells, n_first) in EXPERIMENTS {
        let file = format!("experiments/{name}.toml");
        for scale in ["quick", "paper"] {
            let plan = world.json_lines(&["plan", &file, "--json", "--scale", scale]);
            assert_eq!(plan.len(), n_cells, "{name} at scale {scale}");
            let stale = plan.iter().filter(|line| line["state"] == "stale").count();
            assert_eq!(stale, n_first, "only the data can be judged before anything is stored");
            let mermaid = world.call(&["graph", &file, "--scale", scale]);
            assert_eq!(mermaid.code, Some(0), "{mermaid:?}");
            assert!(mermaid.data.starts_with("flowchart LR\n"));
            let boxes = mermaid.data.lines().filter(|line| line.contains("<br/>")).count();
            assert_eq!(boxes, n_cells);
            let dot = world.call(&["graph", &file, "--scale", scale, "--format", "dot", "--nodes"]);
            assert_eq!(dot.code, Some(0), "{dot:?}");
            assert!(dot.data.starts_with("digraph ") && dot.data.ends_with("}\n"));
        }
    }
    assert!(!world.store().exists(), "looking makes no store");
}

#[test]
fn the_schema_knows_every_stage() {
    let world = World::new();
    let stages = world.json(0, &["stages", "--json"]);
    let stages: BTreeSet<&str> =
        stages.as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(stages, pipeline::standard().names().collect());
    let schema = world.json(0, &["schema"]);
    let cases = schema["$defs"]["cell"]["allOf"].as_array().unwrap();
    let known =
        |case: &Value| case["if"]["properties"]["use"]["const"].as_str().unwrap().to_owned();
    let known: BTreeSet<String> = cases.iter().map(known).collect();
    assert!(known.iter().map(String::as_str).eq(stages.iter().copied()), "{known:?}");
    check_references(&schema, &schema);
    let text = world.call(&["stages"]).data;
    for stage in stages {
        assert!(text.lines().any(|line| line.starts_with(stage)), "{stage}:\n{text}");
        let described = world.call(&["stages", stage]);
        assert_eq!(described.code, Some(0), "{described:?}");
        assert_eq!(world.json(0, &["schema", stage])["type"], "object");
    }
}

/// Every `$ref` leads somewhere.
fn check_references(root: &Value, schema: &Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                let place = target.strip_prefix('#').unwrap();
                assert!(root.pointer(place).is_some(), "{target} leads nowhere");
            }
            fields.values().for_each(|field| check_references(root, field));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(root, item)),
        _ => {}
    }
}

#[test]
fn the_doctor_finds_the_project() {
    let world = World::new();
    let found = world.json(0, &["doctor", "--json"]);
    assert_eq!(found["project_found"], true);
    assert_eq!(found["store_writable"], true);
    assert_eq!(found["store_exists"], false);
    assert_eq!(found["stages"], pipeline::standard().names().count());
    let said = world.call(&["doctor"]);
    assert!(said.data.contains("not there yet, can be made"), "{}", said.data);
    world.write("file", "");
    let said = world.call(&["doctor", "--store", "file/store"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.talk.starts_with("error: the store `file/store` cannot be written\n"), "{said:?}");
}

#[test]
fn a_call_that_is_no_call_ends_with_2_and_says_how() {
    let world = World::new();
    for (arguments, words) in [
        (&["rnu"][..], "unrecognized subcommand 'rnu'"),
        (&[], "Usage: pipeline [OPTIONS] <COMMAND>"),
        (&["run"], "<FILE>"),
        (&["plan", "experiments/ablation.toml", "--jsn"], "'--json'"),
        (&["graph", "experiments/ablation.toml", "--format", "png"], "mermaid"),
        (&["run", "experiments/ablation.toml", "--jobs", "0"], "--jobs"),
    ] {
        let said = world.call(arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert!(said.talk.contains(words), "{arguments:?}: {said:?}");
    }
    let help = world.call(&["--help"]);
    assert_eq!((help.code, help.talk.as_str()), (Some(0), ""));
    assert!(help.data.contains("Exit codes"), "{}", help.data);
    assert_eq!(world.call(&["completions", "bash"]).code, Some(0));
    assert_eq!(world.call(&["--version"]).data, "pipeline 0.1.0\n");
}
