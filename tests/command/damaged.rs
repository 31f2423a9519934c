//! A store whose files were changed from outside: what is damaged is found, said, and built again.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::world::{SMALL, World, cells, files, outputs};

const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

/// The stored file of the first part of an output whose name begins so.
fn part(world: &World, cell: &str, port: &str, prefix: &str) -> PathBuf {
    let shown = world.json(0, &["show", cell, "--json", "--rows", "0"]);
    let parts = shown["outputs"][port]["parts"].as_array().unwrap();
    let found = parts.iter().find(|part| part["name"].as_str().unwrap().starts_with(prefix));
    PathBuf::from(found.unwrap()["path"].as_str().unwrap())
}

/// Changes a stored file, whose permissions forbid it.
fn change(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    edit(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_is_found_at_its_use_and_heals_in_the_same_run() {
    let world = World::small(SMALL);
    let before = world.json(0, RUN);
    let shard = part(&world, "cases", "images", "train-");
    let whole = fs::read(&shard).unwrap();
    change(&shard, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let name = shard.file_name().unwrap().to_str().unwrap();
    let longer = [RUN, &["--set", "train.training={epochs=6, selection='last'}"]].concat();
    let healed = world.json(0, &longer);
    assert!(world.store().join("quarantine").join(name).is_file());
    assert_eq!(cells(&healed, "built"), ["cases", "train", "predict", "score"]);
    assert_eq!(outputs(&healed, "cases"), outputs(&before, "cases"));
    assert_eq!(fs::read(&shard).unwrap(), whole);
    assert_eq!(world.json(0, RUN)["built"], 0);
}

#[test]
fn an_audit_names_what_is_damaged_and_whose_it_was() {
    let world = World::small(SMALL);
    world.json(0, RUN);
    assert_eq!(world.json(0, &["verify", "--json"])["problems"], serde_json::json!([]));
    let shard = part(&world, "cases", "truth", "val-");
    change(&shard, |bytes| bytes[9] ^= 0x80);
    let found = world.json(1, &["verify", "--json"]);
    let problems = found["problems"].as_array().unwrap();
    let name = shard.file_name().unwrap().to_str().unwrap();
    assert_eq!(problems.len(), 1, "{found:#}");
    assert!(problems[0]["path"].as_str().unwrap().ends_with(name), "{found:#}");
    assert!(
        problems[0]["named_by"].to_string().contains("`truth` of stage `ingest.phantom_cxr`"),
        "{found:#}"
    );
    assert_eq!(world.json(0, &["verify", "--repair", "--json"])["repaired"], true);
    let report = world.json(0, RUN);
    assert_eq!(cells(&report, "built"), ["cases"], "the same bytes stop the wave");
    assert_eq!(world.call(&["verify"]).code, Some(0));
}

#[test]
fn a_truncated_file_is_found_when_it_is_looked_up() {
    let world = World::small(SMALL);
    world.json(0, RUN);
    change(&part(&world, "source1", "labels", "test-"), |bytes| bytes.truncate(100));
    let report = world.json(0, RUN);
    assert_eq!(cells(&report, "built"), ["source1"], "the same bytes stop the wave");
    let explained = world.json_lines(&["explain", "small.toml", "source1", "--json"]);
    let reasons = explained[0]["last"]["reasons"].as_array().unwrap();
    assert_eq!((reasons.len(), &reasons[0]["reason"]), (1, &"lost".into()));
    assert!(
        reasons[0]["note"].as_str().unwrap().ends_with("bytes, found 100 bytes"),
        "{reasons:?}"
    );
    let built = explained[0]["last"]["shards"][0].as_u64();
    assert_eq!(built, Some(1), "one shard was gone: {}", explained[0]["last"]["shards"]);
}

#[test]
fn damaged_records_are_misses() {
    let world = World::small(SMALL);
    let before = world.json(0, RUN);
    let n = before["cells"].as_array().unwrap().len();
    for (i, record) in files(&world.store().join("ac")).iter().enumerate() {
        match i % 3 {
            0 => change(record, |bytes| bytes.truncate(10)),
            1 => change(record, |bytes| bytes[5] ^= 1),
            _ => change(record, |bytes| bytes.clear()),
        }
    }
    fs::write(world.store().join("memo.json"), "no memo").unwrap();
    let said = world.call(&["plan", "small.toml"]);
    assert!(said.data.contains("stored record is "), "{}", said.data);
    let after = world.json(0, RUN);
    assert_eq!(after["built"], n);
    for cell in cells(&before, "built") {
        assert_eq!(outputs(&after, &cell), outputs(&before, &cell), "{cell}");
    }
    assert_eq!(world.json(0, RUN)["built"], 0);
}

#[test]
fn what_is_damaged_is_shown_as_an_error() {
    let world = World::small(SMALL);
    world.json(0, RUN);
    for (length, name) in [(0, "train-"), (500, "val-"), (40, "test-")] {
        let shard = part(&world, "cases", "truth", name);
        let whole = fs::read(&shard).unwrap();
        change(&shard, |bytes| bytes.truncate(length));
        for more in [&["--json"][..], &["--pictures", "out"]] {
            let said = world.call(&[&["show", "cases"], more].concat());
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.has(&[&format!("error: cannot show `{name}")]), "{said:?}");
        }
        change(&shard, |bytes| *bytes = whole);
    }
    assert_eq!(world.call(&["show", "cases"]).code, Some(0));
}
