#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{fs, path::Path, time::Duration};

use super::*;
use crate::toy::{Toy, walk};

/// What becomes of a file's bytes; `None` deletes it.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

/// Ways to damage a file.
const DAMAGES: [(&str, Damage); 4] = [
    ("flip", |bytes| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Some(bytes)
    }),
    ("truncate", |bytes| Some(bytes[..bytes.len() - 1].to_vec())),
    ("zero", |bytes| Some(vec![0; bytes.len()])),
    ("delete", |_| None),
];

fn damage(path: &Path, how: Damage) {
    let bytes = fs::read(path).unwrap();
    // Removed first: a file may have further names, and it is protected.
    fs::remove_file(path).unwrap();
    if let Some(bytes) = how(&bytes) {
        fs::write(path, bytes).unwrap();
    }
}

fn digests(report: &RunReport) -> Vec<&BTreeMap<String, Digest>> {
    report.cells.iter().map(|cell| &cell.outputs).collect()
}

#[test]
fn every_damage_is_found_and_heals() {
    let toy = Toy::new();
    let first = toy.run(&[]);
    let store = toy.store();
    assert!(store.audit(Share::All, false).unwrap().problems.is_empty());
    let stored: Vec<PathBuf> =
        ["cas", "ac"].iter().flat_map(|folder| walk(&store.root().join(folder))).collect();
    assert!(stored.len() > 30, "{}", stored.len());
    for path in &stored {
        let name = path.strip_prefix(store.root()).unwrap().display().to_string();
        for (what, how) in DAMAGES {
            damage(path, how);
            let audit = store.audit(Share::All, false).unwrap();
            let found: Vec<&String> = audit.problems.iter().map(|problem| &problem.path).collect();
            assert_eq!(found, [&name], "{what}");
            if name.starts_with("cas") {
                assert!(!audit.problems[0].named_by.is_empty(), "{what} {name}");
            }
            assert!(store.audit(Share::All, true).unwrap().repaired);
            let again = store.audit(Share::All, false).unwrap();
            assert!(again.problems.is_empty(), "{what} {name}: {:?}", again.problems);
            assert_eq!(digests(&toy.run(&[])), digests(&first), "{what} {name}");
            assert!(path.exists(), "{what} {name} is built again");
        }
    }
}

#[test]
fn damaged_explanations_are_taken_away() {
    let toy = Toy::new();
    toy.run(&[]);
    let store = toy.store();
    let cells = walk(&store.root().join("cells"));
    for (path, (what, how)) in cells.iter().zip(&DAMAGES[..3]) {
        damage(path, *how);
        let audit = store.audit(Share::Of(0.0), true).unwrap();
        assert_eq!(audit.problems[0].kind, Fault::Explanation, "{what}");
        assert!(!path.exists());
    }
}

#[test]
fn a_share_is_hashed_and_all_records_are_read() {
    let toy = Toy::new();
    toy.run(&[]);
    let store = toy.store();
    let all = store.audit(Share::All, false).unwrap();
    let none = store.audit(Share::Of(0.0), false).unwrap();
    assert_eq!((none.hashed, none.files, none.records), (0, all.files, all.records));
    assert_eq!(
        (all.hashed, store.audit(Share::Of(1.0), false).unwrap().hashed),
        (all.files, all.files)
    );
    // A file in two halves is found by its size alone.
    damage(&store.blob(&Digest::of(b"apple")), |bytes| Some(bytes[..2].to_vec()));
    let found = store.audit(Share::Of(0.0), false).unwrap();
    assert_eq!(found.problems[0].found, "2 bytes instead of 5");
}

#[test]
fn a_store_that_is_not_there_is_whole() {
    let audit = Store::for_reading(Path::new("/nowhere/at/all")).audit(Share::All, false).unwrap();
    assert_eq!((audit.files, audit.records, audit.problems.len()), (0, 0, 0));
}

const DAY: Duration = Duration::from_secs(86_400);

/// Makes everything in a store as old as this.
fn age(store: &Store, by: Duration) {
    for path in walk(store.root()) {
        let file = fs::File::open(&path).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        file.set_modified(time - by).unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    walk(folder).iter().map(|path| path.display().to_string()).collect()
}

#[test]
fn what_nobody_needs_goes_and_the_rest_stays() {
    let toy = Toy::new();
    toy.run(&["twice.times=7"]);
    let store = toy.store();
    age(&store, 40 * DAY);
    toy.run(&[]);
    let before = names(store.root());
    let planned = store.sweep(30 * DAY, true).unwrap();
    assert_eq!(names(store.root()), before, "a dry run removes nothing");
    let done = store.sweep(30 * DAY, false).unwrap();
    assert_eq!(
        (planned.bytes(), planned.files, planned.records),
        (done.bytes(), done.files, done.records)
    );
    // Of the first run: three shards of `twice` with their manifests, the whole of it, the joined text.
    assert_eq!((done.records.entries, done.files.entries), (5, 9));
    assert!(store.audit(Share::All, false).unwrap().problems.is_empty());
    assert_eq!(toy.run(&[]).built, 0);
    assert_eq!(store.sweep(30 * DAY, false).unwrap().bytes(), 0);
    // The results of the last run stay however old they are.
    age(&store, 400 * DAY);
    let done = store.sweep(Duration::ZERO, false).unwrap();
    assert_eq!((done.records.entries, done.files.entries), (0, 0), "{done:?}");
    assert_eq!(toy.run(&[]).built, 0);
    assert_eq!(toy.run(&["twice.times=7"]).built, 2);
}

#[test]
fn pinned_runs_stay() {
    let toy = Toy::new();
    let first = toy.run(&["twice.times=7"]).run;
    toy.run(&[]);
    let store = toy.store();
    store.pin(&first, "paper").unwrap();
    assert!(matches!(store.pin(&first, "../x"), Err(StoreError::BadPin { .. })));
    assert!(matches!(store.pin("no-such-run", "x"), Err(StoreError::BadRun { .. })));
    age(&store, 40 * DAY);
    let done = store.sweep(30 * DAY, false).unwrap();
    assert_eq!(done.files.entries, 0, "{done:?}");
    assert!(done.kept.iter().any(|kept| kept.why.contains("pinned as `paper`") && kept.files > 0));
    assert_eq!((store.unpin("paper").unwrap(), store.unpin("paper").unwrap()), (true, false));
    assert_eq!(store.sweep(30 * DAY, false).unwrap().files.entries, 9);
}

#[test]
fn abandoned_work_goes() {
    let toy = Toy::new();
    let store = toy.store();
    let leave = |name: &str| {
        let path = store.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "left").unwrap();
    };
    let key = Digest::of(b"key");
    leave("tmp/work-1-2-3/scratch/file");
    leave(&format!("lease/{key}"));
    leave(&format!("ckpt/{key}/epoch-1"));
    leave("quarantine/file");
    leave("runs/20200101-000000-killed-1/live.json");
    assert_eq!(store.sweep(DAY, false).unwrap().bytes(), 0, "all of it may be in use");
    age_folders(&store, Duration::from_secs(7200));
    let done = store.sweep(DAY, false).unwrap();
    assert_eq!((done.work.entries, done.checkpoints.entries), (2, 0), "{done:?}");
    age_folders(&store, 2 * DAY);
    let done = store.sweep(DAY, false).unwrap();
    assert_eq!((done.work.entries, done.checkpoints.entries, done.quarantine.entries), (1, 1, 1));
    assert!(walk(store.root()).is_empty());
}

/// Makes the files and folders of a store as old as this.
fn age_folders(store: &Store, by: Duration) {
    fn go(folder: &Path, by: Duration) {
        for path in list(folder).unwrap() {
            if path.is_dir() {
                go(&path, by);
            }
            let file = fs::File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        }
    }
    go(store.root(), by);
}

/// A run that has looked its inputs up goes on while everything around it is swept.
#[test]
fn a_sweep_during_a_run_breaks_nothing() {
    let toy = Toy::new();
    toy.run(&["twice.times=7"]);
    let store = toy.store();
    for round in 0..20 {
        age(&store, 40 * DAY);
        // No earlier run keeps anything: only the use by this one does.
        fs::remove_dir_all(store.root().join("runs")).unwrap();
        let gate = toy.path(&format!("gate{round}"));
        let set = [format!("thrice.times={round}"), format!("thrice.gate={}", gate.display())];
        let experiment = toy.load(crate::toy::TOY, &set.each_ref().map(String::as_str));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                let sweeper = toy.store();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sweeper.sweep(Duration::ZERO, false).unwrap();
                    fs::write(&gate, "").unwrap();
                }
            });
            let report = toy.try_run(&experiment);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            report.unwrap()
        });
        assert_eq!(report.cells.len(), 5);
        let problems = store.audit(Share::All, false).unwrap().problems;
        assert!(problems.is_empty(), "round {round}: {problems:#?}");
        assert_eq!(toy.try_run(&experiment).unwrap().built, 0);
    }
}

#[test]
fn space_is_told_by_experiment_and_kind() {
    let toy = Toy::new();
    toy.run(&[]);
    let store = toy.store();
    let usage = store.usage(30 * DAY).unwrap();
    assert_eq!((usage.experiments.len(), usage.experiments[0].runs), (1, 1));
    let kinds: Vec<&str> = usage.kinds.iter().map(|kind| kind.kind.as_str()).collect();
    assert_eq!((kinds, usage.garbage), (vec!["text", "words"], 0));
    let files: usize = usage.kinds.iter().map(|kind| kind.files).sum();
    assert_eq!(files, walk(&store.root().join("cas")).len());
    assert!(usage.bytes >= usage.folders["cas"] + usage.folders["ac"]);
}
