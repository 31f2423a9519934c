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

/// What a process that is gone has left in `tmp/` goes when the store is opened; what lives or cannot be seen stays.
#[test]
fn remains_of_processes_that_are_gone_go_at_once() {
    let toy = Toy::new();
    let store = toy.store();
    let (file, folder) = (store.temporary("manifest"), store.temporary("work"));
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "half").unwrap();
    fs::write(folder.join("output"), "half").unwrap();
    let rename = |path: &Path, from: &str, to: &str| {
        let name = path.file_name().unwrap().to_str().unwrap().replacen(from, to, 1);
        fs::rename(path, path.with_file_name(&name)).unwrap();
        path.with_file_name(name)
    };
    // Another process had the number before this one.
    let dead = [rename(&file, ".", ".1"), rename(&folder, ".", ".1")];
    let alive = store.temporary("manifest");
    fs::write(&alive, "half").unwrap();
    let elsewhere = store.root().join("tmp/work-1.2.0123456789ab-3.4");
    let older = store.root().join("tmp/manifest-17-1700000000-3");
    [&elsewhere, &older].into_iter().for_each(|path| fs::write(path, "half").unwrap());
    let other = toy.store();
    assert!(dead.iter().all(|path| !path.exists()), "{:?}", walk(&other.root().join("tmp")));
    assert_eq!(walk(&other.root().join("tmp")).len(), 3);
    // A sweep spares what belongs to a process that lives, however old it is.
    age_folders(&other, 2 * DAY);
    other.sweep(DAY, false).unwrap();
    assert_eq!(walk(&other.root().join("tmp")), [alive]);
}

fn problems(store: &Store) -> Vec<(Fault, String)> {
    let audit = store.audit(Share::All, false).unwrap();
    audit.problems.into_iter().map(|problem| (problem.kind, problem.path)).collect()
}

/// A pin or the report of its run is damaged: it is found, nothing is collected, and repair leaves what can be known.
#[test]
fn damaged_pins_and_reports_are_found_and_stop_a_sweep() {
    for (what, how) in DAMAGES {
        let toy = Toy::new();
        let first = toy.run(&["twice.times=7"]).run;
        toy.run(&[]);
        let store = toy.store();
        store.pin(&first, "paper").unwrap();
        assert!(problems(&store).is_empty());
        age(&store, 40 * DAY);
        let folder = format!("runs/{first}");
        let [main, twin, report] =
            ["pins/paper".to_owned(), format!("{folder}/pins/paper"), format!("{folder}/run.json")];
        for pin in [&main, &twin] {
            damage(&store.root().join(pin), how);
            assert_eq!(problems(&store), [(Fault::Pin, pin.clone())], "{what}");
            let error = store.sweep(30 * DAY, false).unwrap_err();
            assert!(matches!(&error, StoreError::UnreadablePin { name, .. } if name == "paper"));
            assert!(store.audit(Share::All, true).unwrap().repaired);
            assert!(problems(&store).is_empty(), "{what}");
            assert_eq!(store.pins().unwrap()["paper"], first, "{what}: the other half tells");
        }
        damage(&store.root().join(&report), how);
        assert_eq!(problems(&store), [(Fault::Run, report.clone())], "{what}");
        let named_by = store.audit(Share::All, false).unwrap().problems.remove(0).named_by;
        assert_eq!(named_by, ["pin `paper`"]);
        let error = store.sweep(30 * DAY, false).unwrap_err();
        assert!(error.to_string().contains("`paper` cannot be read: report of run"), "{error}");
        assert!(store.audit(Share::All, true).unwrap().repaired);
        assert!(problems(&store).is_empty() && store.pins().unwrap().is_empty(), "{what}");
        assert_eq!(store.sweep(30 * DAY, false).unwrap().files.entries, 9, "it was given up");
    }
}

#[test]
fn a_lost_configuration_is_found() {
    let toy = Toy::new();
    let run = toy.run(&[]).run;
    let store = toy.store();
    for (what, how) in DAMAGES {
        let path = format!("runs/{run}/experiment.toml");
        damage(&store.root().join(&path), how);
        assert_eq!(problems(&store), [(Fault::Run, path.clone())], "{what}");
        fs::write(store.root().join(path), toy.load(crate::toy::TOY, &[]).resolved).unwrap();
        assert!(problems(&store).is_empty(), "{what}");
    }
    fs::remove_file(store.root().join(format!("runs/{run}/experiment.toml"))).unwrap();
    assert!(store.audit(Share::All, true).unwrap().repaired);
    assert!(problems(&store).is_empty());
    assert_eq!(store.run_report(&run).unwrap().configuration, None);
}

#[test]
fn a_name_goes_from_run_to_run() {
    let toy = Toy::new();
    let (first, second) = (toy.run(&[]).run, toy.run(&["twice.times=7"]).run);
    let store = toy.store();
    store.pin(&first, "paper").unwrap();
    store.pin(&second, "paper").unwrap();
    assert_eq!(store.pins().unwrap()["paper"], second);
    assert!(problems(&store).is_empty());
    // Interrupted between the two: the old half is no pin any more.
    fs::create_dir_all(store.root().join("runs").join(&first).join("pins")).unwrap();
    let twin = store.root().join("runs").join(&first).join("pins/paper");
    fs::write(twin, crate::seal::sealed(&first)).unwrap();
    assert_eq!(store.pins().unwrap()["paper"], second);
    assert!(store.unpin("paper").unwrap());
    assert!(store.pins().unwrap().is_empty() && problems(&store).is_empty());
}
