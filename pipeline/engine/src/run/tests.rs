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
    let limits = Limits { cpus: 1, memory: 4 << 30 };
    let options = RunOptions { keep_going: true, ..limits.into() };
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

/// A word that fails, in one way or another.
fn fails(how: &str, rest: &str) -> String {
    format!("[bad]\nuse = 'fail'\nhow = '{how}'\n{rest}\n")
}

/// Runs an experiment with two graphics processors; the error, what was tried again, and the report.
fn run_failing(toy: &Toy, text: &str) -> (Option<RunError>, Vec<(FailureClass, u32)>, RunReport) {
    let (experiment, store) = (toy.load(text, &[]), toy.store());
    let limits = Limits { cpus: 2, memory: 4 << 30 };
    let gpus = vec!["0".to_owned(), "1".to_owned()];
    let options = RunOptions { gpus, ..limits.into() };
    let (mut tried, selected) = (Vec::new(), vec![true; experiment.cells.len()]);
    let result = run(&experiment, &selected, &store, options, &AtomicBool::new(false), &mut |e| {
        if let Event::Retrying { class, tries, .. } = e {
            tried.push((class, tries));
        }
    });
    let report = store.run_report(store.runs().unwrap().last().unwrap()).unwrap();
    (result.err(), tried, report)
}

#[test]
fn a_failure_is_tried_again_as_its_class_says() {
    let toy = Toy::new();
    let (error, tried, report) = run_failing(&toy, &fails("stage", ""));
    assert_eq!((error.unwrap().class(), tried), (FailureClass::Stage, vec![]));
    let failure = report.cells[0].failure.as_ref().unwrap();
    assert_eq!(failure.message, "cell `bad` failed (stage `fail`)\n  caused by: it always fails");

    let (error, tried, _) = run_failing(&toy, &fails("memory", "retry = { memory = 2 }"));
    assert_eq!(error.unwrap().class(), FailureClass::Memory);
    assert_eq!(tried, [(FailureClass::Memory, 1), (FailureClass::Memory, 2)]);

    // A device that fails is tried once more without being asked, a full disk is not.
    let (error, tried, _) = run_failing(&toy, &fails("device", ""));
    assert_eq!(error.unwrap().class(), FailureClass::Infrastructure);
    assert_eq!(tried, [(FailureClass::Infrastructure, 1)]);
    let (error, tried, _) = run_failing(&toy, &fails("full", ""));
    assert_eq!((error.unwrap().class(), tried), (FailureClass::Infrastructure, vec![]));

    let text = fails("once", "retry = { stage = 1 }");
    let (error, tried, report) = run_failing(&toy, &text);
    assert!(error.is_none(), "{error:?}");
    assert_eq!((tried, report.built), (vec![(FailureClass::Stage, 1)], 1));
}

#[test]
fn a_cell_that_takes_too_long_is_stopped() {
    let toy = Toy::new();
    let (error, _, report) = run_failing(&toy, &fails("hang", "timeout = 0.05"));
    assert!(matches!(error, Some(RunError::Timeout { .. })), "{error:?}");
    assert_eq!(report.cells[0].failure.as_ref().unwrap().class, FailureClass::Timeout);
}

#[test]
fn what_a_cell_says_is_in_its_log() {
    let toy = Toy::new();
    let (_, _, report) = run_failing(&toy, &fails("stage", ""));
    let log = toy.store().log(&report.run, "bad").unwrap().unwrap();
    let said = |text: &str| log.lines().any(|line| line.ends_with(text));
    assert!(said("] about to fail"), "{log}");
    assert!(said("]  50 % failing"), "{log}");
    assert!(said("]   caused by: it always fails"), "{log}");
}

#[test]
fn each_cell_has_graphics_processors_for_itself() {
    let toy = Toy::new();
    let cell = |i: usize| {
        format!("[c{i}]\nuse = 'fail'\nhow = 'gpus'\nsalt = {i}\nresources = {{ gpus = 1 }}\n")
    };
    let text: String = (0..6).map(cell).collect();
    let (error, _, report) = run_failing(&toy, &text);
    assert!(error.is_none(), "{error:?}");
    for cell in &report.cells {
        let log = toy.store().log(&report.run, &cell.cell).unwrap().unwrap();
        let gpus = log.lines().next().unwrap().rsplit("gpus ").next().unwrap().to_owned();
        assert!(gpus == "0" || gpus == "1", "{log}");
    }
    // No two at once had the same: the stage would have failed.
    let text = text.replace("gpus = 1", "gpus = 5");
    let (error, _, report) = run_failing(&toy, &text.replace("salt = ", "salt = 1"));
    assert!(error.is_none(), "{error:?}");
    let log = toy.store().log(&report.run, "c0").unwrap().unwrap();
    assert!(log.contains("gpus 0,1"), "{log}");
}

#[test]
fn cells_wait_for_memory() {
    let toy = Toy::new();
    let cell = |i: usize| {
        format!(
            "[c{i}]\nuse = 'fail'\nhow = 'alone'\nsalt = {i}\nresources = {{ memory = '3G' }}\n"
        )
    };
    let text: String = (0..4).map(cell).collect();
    let (error, _, report) = run_failing(&toy, &text);
    assert!(error.is_none(), "two at once would have failed: {error:?}");
    assert_eq!(report.built, 4);
}
