//! The manifests and the drawing of the rooms say the same.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{collections::BTreeSet, path::Path};

/// What each room may import of ours.
const ALLOWED: [(&str, &str, &[&str]); 10] = [
    ("Cargo.toml", "pipeline", &["cli", "cuda", "engine", "stages"]),
    ("pipeline/cli", "cli", &["datasets", "engine"]),
    ("pipeline/engine", "engine", &[]),
    ("datasets", "datasets", &[]),
    ("stages/builtin", "stages", &["datasets", "engine", "imaging", "nets", "report"]),
    ("stages/cuda", "cuda", &["kernels", "nets"]),
    ("stages/imaging", "imaging", &["datasets"]),
    ("stages/kernels", "kernels", &[]),
    ("stages/nets", "nets", &["kernels"]),
    ("stages/report", "report", &[]),
];

/// Outside crates that have one home.
const HOMES: [(&str, &[&str]); 5] = [
    ("arrow", &["datasets"]),
    ("parquet", &["datasets"]),
    ("clap", &["cli"]),
    ("crossbeam", &["engine"]),
    ("candle-nn", &["nets", "kernels"]),
];

/// Names under `[dependencies]` of a manifest.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

#[test]
fn imports_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours: BTreeSet<&str> = ALLOWED.iter().map(|(_, name, _)| *name).collect();
    for (folder, room, allowed) in ALLOWED {
        let manifest = root.join(folder);
        let manifest = if manifest.is_dir() { manifest.join("Cargo.toml") } else { manifest };
        for name in dependencies(&manifest) {
            if ours.contains(name.as_str()) {
                assert!(allowed.contains(&name.as_str()), "`{room}` must not import `{name}`");
            }
            if let Some((_, homes)) = HOMES.iter().find(|(outside, _)| *outside == name) {
                assert!(
                    homes.contains(&room),
                    "`{name}` has its home in {homes:?}, not in `{room}`"
                );
            }
        }
    }
}

#[test]
fn every_file_begins_with_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("pipeline"), root.join("stages"), root.join("datasets")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let is_test_module =
                    path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("tests"));
                assert!(
                    is_test_module || text.starts_with("//!"),
                    "{} has no `//!` line",
                    path.display()
                );
            }
        }
    }
}
