//! What `show` tells of runs, cells, artifacts and files.

use std::fs;

use serde_json::Value;

use super::world::{SMALL, World, files};

/// A project whose small experiment has been run.
fn done() -> World {
    let world = World::small(SMALL);
    assert_eq!(world.built(&["--quiet"]).len(), 8);
    world
}

#[test]
fn shards_show_their_columns_and_rows() {
    let world = done();
    let shown = world.json(0, &["show", "source1", "--json", "--rows", "100"]);
    let output = &shown["outputs"]["labels"];
    assert_eq!(output["kind"], "labels");
    let mut ids = Vec::new();
    for part in output["parts"].as_array().unwrap() {
        let split = part["name"].as_str().unwrap().split('-').next().unwrap();
        let parquet = &part["parquet"];
        let columns: Vec<&str> = parquet["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        for column in
            ["case_id", "source", "source_kind", "structure", "split", "shape", "spacing_mm"]
        {
            assert!(columns.contains(&column), "{columns:?}");
        }
        let rows = parquet["rows"].as_array().unwrap();
        assert_eq!(parquet["n_rows"], rows.len());
        assert!(rows.iter().all(|row| row["split"] == split && row["source"] == "shift"));
        assert!(rows.iter().all(|row| row["shape"] == serde_json::json!([1, 32, 32])));
        ids.extend(rows.iter().map(|row| row["case_id"].as_str().unwrap().to_owned()));
    }
    ids.sort();
    let expected: Vec<String> = (1..=16).map(|n| format!("phantom-{n:04}")).collect();
    assert_eq!(ids, expected, "every case is in one shard");
    let text = world.call(&["show", "source1", "--rows", "1"]);
    assert!(
        text.data.contains("kind     labels") && text.data.contains("case_id"),
        "{}",
        text.data
    );
}

#[test]
fn runs_and_artifacts_are_found_by_their_names() {
    let world = done();
    let run = world.call(&["show"]);
    assert!(run.data.contains("8 built, 0 fresh"), "{}", run.data);
    let shown = world.json(0, &["show", "train", "--json"]);
    let output = &shown["outputs"]["model"];
    let parts = output["parts"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["metrics.jsonl", "metrics.parquet", "summary.json", "weights.safetensors"]);
    let digest = &output["digest"].as_str().unwrap()[..10];
    assert_eq!(&world.json(0, &["show", digest, "--json"])["digest"], &output["digest"]);
    let id = shown["run"].as_str().unwrap();
    let same = world.json(0, &["show", &format!("{id}:train"), "--json"]);
    assert_eq!(same["outputs"], shown["outputs"]);
    assert_eq!(world.json(0, &["show", "small", "--json"])["run"], id, "by its experiment");
    for (thing, words) in [
        ("trian", "did you mean `train`?"),
        ("latest:trian", "did you mean `train`?"),
        ("ffffffffff", "nothing is called `ffffffffff`"),
    ] {
        let said = world.call(&["show", thing]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.talk.contains(words), "{said:?}");
    }
    let empty = World::new();
    let said = empty.call(&["show"]);
    assert_eq!(said.code, Some(2));
    assert!(said.has(&["error: no run has ended in the store `.pipeline`"]), "{said:?}");
}

#[test]
fn pictures_are_written_and_can_be_decoded() {
    let world = done();
    for (cell, n, names) in
        [("cases", 32, ".lung.truth.png"), ("predict", 5, ".lung.prediction.png")]
    {
        let folder = world.path(&format!("pictures of {cell}"));
        let said = world.call(&["show", cell, "--pictures", folder.to_str().unwrap()]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let found = files(&folder);
        assert_eq!(said.talk, format!("{} pictures in DIR/pictures of {cell}\n", found.len()));
        let masks = found.iter().filter(|path| path.to_str().unwrap().ends_with(names)).count();
        assert_eq!(masks, if cell == "cases" { 16 } else { 5 }, "{found:?}");
        assert!(found.len() >= n, "{found:?}");
        for path in &found {
            let picture = image::open(path).unwrap();
            assert_eq!((picture.width(), picture.height()), (32, 32), "{}", path.display());
        }
    }
}

#[test]
fn a_file_of_the_user_is_shown_and_refused_by_what_it_is() {
    let world = done();
    let shown = world.json(0, &["show", "cases", "--json"]);
    let stored = shown["outputs"]["cases"]["parts"][0]["path"].as_str().unwrap();
    fs::copy(stored, world.path("mine.parquet")).unwrap();
    let table: Value = world.json(0, &["show", "mine.parquet", "--json", "--rows", "2"]);
    assert_eq!((&table["n_rows"], table["rows"].as_array().unwrap().len()), (&16.into(), 2));
    world.write("other.parquet", "not at all");
    let said = world.call(&["show", "other.parquet"]);
    assert_eq!(said.code, Some(1));
    assert!(said.talk.starts_with("error: cannot show `other.parquet`\ncaused by: "), "{said:?}");
}
