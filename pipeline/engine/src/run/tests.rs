#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    fs,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;
use crate::toy::{TOY, Toy, run_quietly, run_watched};

fn outcomes(report: &RunReport) -> Vec<(&str, Outcome)> {
    report.cells.iter().map(|cell| (cell.cell.as_str(), cell.outcome)).collect()
}

/// Lines of a log, sorted.
fn logged(toy: &Toy) -> Vec<String> {
    let text = fs::read_to_string(toy.path("log")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn with_log(toy: &Toy) -> String {
    let log = toy.path("log").display().to_string();
    TOY.replace("use = 'echo'", &format!("use = 'echo'\nlog = '{log}'"))
}

#[test]
fn runs_side_by_side_build_each_unit_once() {
    let toy = Toy::new();
    let experiment = toy.load(&with_log(&toy), &[]);
    let start = Barrier::new(3);
    let reports: Vec<RunReport> = std::thread::scope(|scope| {
        let run = || {
            let store = toy.store();
            start.wait();
            run_quietly(&experiment, &store).unwrap()
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let expected: Vec<String> = ["apple", "banana", "cherry"]
        .iter()
        .flat_map(|word| (1..=3).map(move |times| format!("{word} {times}")))
        .collect();
    assert_eq!(logged(&toy), expected, "each unit ran once");
    for report in &reports {
        assert_eq!(report.built + report.fresh, 5);
    }
    assert!(crate::toy::walk(&toy.path("store/lease")).is_empty());
    assert!(crate::toy::walk(&toy.path("store/tmp")).is_empty());
}

#[test]
fn equal_cells_of_one_run_are_built_once() {
    let toy = Toy::new();
    let experiment =
        toy.load(&with_log(&toy), &["twice.times=1", "thrice.in.words=words", "thrice.times=1"]);
    let report = toy.try_run(&experiment).unwrap();
    assert_eq!(logged(&toy), ["apple 1", "banana 1", "cherry 1"]);
    assert_eq!((report.built, report.fresh), (3, 2));
}

#[test]
fn a_stopped_run_keeps_what_was_finished_and_can_go_on() {
    let toy = Toy::new();
    let gate = toy.path("gate").display().to_string();
    let set = format!("twice.gate={gate}");
    let experiment = toy.load(TOY, &[&set]);
    let (store, cancelled) = (toy.store(), AtomicBool::new(false));
    let mut stopping = 0;
    let result = run_watched(&experiment, &store, &cancelled, &mut |event| match event {
        Event::Started { cell, .. } if cell == "twice" => cancelled.store(true, Ordering::Relaxed),
        Event::Stopping { .. } => stopping += 1,
        _ => {}
    });
    let Err(RunError::Cancelled { run, not_reached }) = result else {
        unreachable!("the gate is shut: {result:?}")
    };
    assert_eq!((not_reached, stopping), (3, 1));
    let report = store.run_report(&run).unwrap();
    assert_eq!(outcomes(&report)[..2], [("words", Outcome::Built), ("once", Outcome::Built)]);
    fs::write(&gate, "").unwrap();
    let again = toy.try_run(&experiment).unwrap();
    assert_eq!((again.built, again.fresh), (3, 2));
}

#[test]
fn what_does_not_need_a_failed_cell_is_still_built() {
    let toy = Toy::new();
    let text = format!(
        "{TOY}\n[bombs]\nuse = 'list'\nwords = ['bomb', 'ok']\n\n[said]\nuse = 'echo'\nin = {{ words = 'bombs' }}\n\n[after]\nuse = 'join'\nin = {{ words = 'said' }}\n"
    );
    let experiment = toy.load(&text, &[]);
    let store = toy.store();
    let options = RunOptions { limits: Limits { cpus: 1, memory: 4 << 30 }, keep_going: true };
    let selected = vec![true; experiment.cells.len()];
    let error = run(&experiment, &selected, &store, options, &AtomicBool::new(false), &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("shard `bomb`"), "{error}");
    let report = store.run_report(store.runs().unwrap().last().unwrap()).unwrap();
    let of = |outcome| {
        let cells = outcomes(&report).into_iter().filter(move |(_, found)| *found == outcome);
        cells.map(|(cell, _)| cell).collect::<Vec<_>>()
    };
    assert_eq!(of(Outcome::Failed), ["said"]);
    assert_eq!(of(Outcome::Skipped), ["after"]);
    assert_eq!(report.built, 6);
}

#[test]
fn a_run_under_way_is_seen_and_a_killed_one_is_not() {
    let toy = Toy::new();
    let experiment = toy.load(TOY, &[]);
    let store = toy.store();
    let mut seen = Vec::new();
    run_watched(&experiment, &store, &AtomicBool::new(false), &mut |event| {
        if let Event::Built { .. } = event {
            seen.extend(store.live_runs().unwrap());
        }
    })
    .unwrap();
    assert_eq!((seen.len(), seen[0].cells, seen[0].experiment.as_str()), (5, 5, "toy"));
    assert!(store.live_runs().unwrap().is_empty());
    let mut left = serde_json::to_value(&seen[0]).unwrap();
    left["process"]["ticks"] = 1.into();
    let folder = store.root().join("runs/20200101-000000-toy-1");
    store.replace(&folder.join("live.json"), left.to_string().as_bytes()).unwrap();
    assert!(store.live_runs().unwrap().is_empty());
}
