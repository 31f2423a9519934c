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

/// Runs an experiment and does something when an event comes; the events in short.
fn run_meddling(
    toy: &Toy,
    text: &str,
    mut meddle: impl FnMut(&Event, &Store),
) -> (Result<RunReport, RunError>, Vec<String>) {
    let (experiment, store, mut events) = (toy.load(text, &[]), toy.store(), Vec::new());
    let result = run_watched(&experiment, &store, &AtomicBool::new(false), &mut |event| {
        meddle(&event, &store);
        match event {
            Event::Lost { cell, .. } => events.push(format!("lost {cell}")),
            Event::Built { cell, shards, .. } => events.push(match shards {
                Some((built, _)) => format!("built {built} of {cell}"),
                None => format!("built {cell}"),
            }),
            _ => {}
        }
    });
    (result, events)
}

fn digests(report: &RunReport) -> Vec<&BTreeMap<String, Digest>> {
    report.cells.iter().map(|cell| &cell.outputs).collect()
}

/// A file that is lost between the look-up of its cell and its use is made again in the same run.
#[test]
fn a_lost_input_is_built_once_more() {
    let harms: [fn(&std::path::Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "APPLE").unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "app").unwrap();
        },
    ];
    for harm in harms {
        let toy = Toy::new();
        let clean = Toy::new().run(&["twice.times=4", "thrice.times=5"]);
        toy.run(&[]);
        let text = TOY.replace("times = 2", "times = 4").replace("times = 3", "times = 5");
        // `apple` is the output of `words` and of `once`: their files are one.
        let mut harmed = false;
        let (result, events) = run_meddling(&toy, &text, |event, store| {
            if let Event::Fresh { cell } = event
                && cell == "once"
                && !std::mem::replace(&mut harmed, true)
            {
                harm(&store.blob(&Digest::of(b"apple")));
            }
        });
        let report = result.unwrap();
        assert_eq!(digests(&report), digests(&clean));
        for expected in ["lost words", "built words", "built join"] {
            assert!(events.contains(&expected.to_owned()), "{events:?}");
        }
        assert_eq!(outcomes(&report)[0], ("words", Outcome::Built));
        let problems = toy.store().audit(crate::Share::All, false).unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(toy.try_run(&toy.load(&text, &[])).unwrap().built, 0);
    }
}

/// What a lost input was made from may be lost too.
#[test]
fn losses_heal_all_the_way_up() {
    let toy = Toy::new();
    let text = "[words]\nuse = 'list'\nwords = ['ab', 'cd']\n\n[once]\nuse = 'echo'\nin = { words = 'words' }\ntimes = 2\n\n[again]\nuse = 'echo'\nin = { words = 'once' }\ntimes = 3\n";
    toy.try_run(&toy.load(text, &[])).unwrap();
    let changed = text.replace("times = 3", "times = 5");
    let (result, events) = run_meddling(&toy, &changed, |event, store| {
        if let Event::Fresh { cell } = event
            && cell == "once"
        {
            for word in ["ab", "cd", "abab", "cdcd"] {
                fs::remove_file(store.blob(&Digest::of(word.as_bytes()))).unwrap();
            }
        }
    });
    assert_eq!(result.unwrap().built, 3);
    let expected =
        ["lost once", "lost words", "built words", "built 2 of once", "built 2 of again"];
    assert_eq!(events, expected);
}

/// A file that is lost again and again stops the run in the end, and so does a cell that gives something else.
#[test]
fn a_loss_that_does_not_heal_is_an_error() {
    let toy = Toy::new();
    toy.run(&[]);
    let text = TOY.replace("times = 2", "times = 4");
    let lose = |store: &Store| {
        let _ = fs::remove_file(store.blob(&Digest::of(b"apple")));
    };
    let (result, events) = run_meddling(&toy, &text, |event, store| match event {
        Event::Fresh { cell } if cell == "words" => lose(store),
        Event::Fresh { cell } | Event::Built { cell, .. } if cell == "once" || cell == "words" => {
            lose(store);
        }
        _ => {}
    });
    let error = result.unwrap_err();
    assert!(matches!(error, RunError::Store(_)), "{error}");
    assert_eq!(events.iter().filter(|event| event.starts_with("lost")).count(), 1, "{events:?}");
    assert_eq!(toy.try_run(&toy.load(&text, &[])).unwrap().cells.len(), 5);

    let chance = toy.path("chance");
    fs::write(&chance, "heads").unwrap();
    let text = format!(
        "[luck]\nuse = 'fail'\nhow = '{}'\n\n[told]\nuse = 'tell'\nin = {{ text = 'luck' }}\n",
        chance.display()
    );
    let (result, _) = run_meddling(&toy, &text, |event, store| {
        if let Event::Built { cell, .. } = event
            && cell == "luck"
            && fs::read(&chance).unwrap() == b"heads"
        {
            fs::write(&chance, "tails").unwrap();
            fs::remove_file(store.blob(&Digest::of(b"heads"))).unwrap();
        }
    });
    let error = result.unwrap_err();
    assert!(matches!(error, RunError::NotTheSame { .. }), "{error}");
    assert_eq!(toy.try_run(&toy.load(&text, &[])).unwrap().built, 1);
}

fn many_words(range: std::ops::Range<usize>) -> String {
    let words: Vec<String> = range.map(|i| format!("'w{i:05}'")).collect();
    format!(
        "[words]\nuse = 'list'\nwords = [{}]\n\n[once]\nuse = 'echo'\nin = {{ words = 'words' }}\ntimes = 1\n\n[twice]\nuse = 'echo'\nin = {{ words = 'once' }}\ntimes = 2\n",
        words.join(", ")
    )
}

/// Shards are recorded in chunks, and only the chunk that a change lies in is looked into.
#[test]
fn very_many_shards_are_recorded_in_chunks() {
    let toy = Toy::new();
    let report = toy.try_run(&toy.load(&many_words(0..1500), &[])).unwrap();
    let store = toy.store();
    let artifact = |report: &RunReport, cell: usize| {
        store.artifact(&report.cells[cell].manifests["words"]).unwrap().manifest
    };
    let n = artifact(&report, 2).chunks().len();
    assert!(n > 3, "{n} chunks");
    let records = || crate::toy::walk(&store.root().join("ac")).len();
    let before = records();
    assert_eq!(before, 1 + 2 * (1500 + n + 1));
    let (result, events) = run_meddling(&toy, &many_words(0..1501), |_, _| {});
    let more = result.unwrap();
    assert_eq!(events, ["built words", "built 1 of once", "built 1 of twice"]);
    // The source, and for each of the two a shard, a chunk and the whole.
    assert_eq!(records() - before, 1 + 2 * 3);
    assert_eq!(artifact(&more, 2).n_parts(), 1501);
    let last: crate::LastBuild = store.last("toy", "twice").unwrap();
    assert_eq!(last.before.as_deref(), Some(report.run.as_str()));
    let told = last.reasons[0].to_string();
    assert!(told.ends_with("(part `w01500`)"), "{told}");
    assert!(store.audit(crate::Share::All, false).unwrap().problems.is_empty());

    // The record of one shard that is lost is found, a lost file of it heals alone.
    let record = crate::toy::walk(&store.root().join("ac")).into_iter().find(|path| {
        let text = fs::read_to_string(path).unwrap();
        text.contains("\"shard\":\"w00700\"") && text.contains("\"times\":2")
    });
    fs::remove_file(record.unwrap()).unwrap();
    let audit = store.audit(crate::Share::All, false).unwrap();
    assert!(matches!(audit.problems.as_slice(), [problem] if problem.kind == crate::Fault::Record));
    fs::remove_file(store.blob(&Digest::of(b"w00700w00700"))).unwrap();
    assert!(store.audit(crate::Share::All, true).unwrap().repaired);
    assert!(store.audit(crate::Share::All, false).unwrap().problems.is_empty());
    let (result, events) = run_meddling(&toy, &many_words(0..1501), |_, _| {});
    assert_eq!(
        (digests(&result.unwrap()), events.as_slice()),
        (digests(&more), &["built 1 of twice".to_owned()][..])
    );
    assert_eq!(store.sweep(std::time::Duration::ZERO, false).unwrap().files.entries, 0);
    assert!(store.audit(crate::Share::All, false).unwrap().problems.is_empty());
}

/// A store of a program before this one: every record is a miss with a note, and is replaced.
#[test]
fn records_of_another_format_are_replaced() {
    let toy = Toy::new();
    let first = toy.run(&[]);
    let store = toy.store();
    for path in crate::toy::walk(&store.root().join("ac")) {
        let mut record: serde_json::Value =
            crate::seal::open_sealed(&fs::read(&path).unwrap()).unwrap();
        record["format"] = 1.into();
        fs::remove_file(&path).unwrap();
        fs::write(&path, crate::seal::sealed(&record)).unwrap();
    }
    let mut told = Vec::new();
    let experiment = toy.load(TOY, &[]);
    let again = run_watched(&experiment, &store, &AtomicBool::new(false), &mut |event| {
        if let Event::Stale { reasons, .. } = event {
            told.push(reasons[0].to_string());
        }
    });
    assert_eq!(digests(&again.unwrap()), digests(&first));
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|note| note.contains("format 1, this program writes")), "{told:?}");
    assert_eq!(toy.run(&[]).built, 0);
}

#[test]
fn a_cell_that_has_no_shards_to_read_says_so() {
    let toy = Toy::new();
    let (experiment, mut empty) = (toy.load(TOY, &["words.words=[]"]), Vec::new());
    let never = AtomicBool::new(false);
    let report = run_watched(&experiment, &toy.store(), &never, &mut |event| {
        if let Event::Empty { cell } = event {
            empty.push(cell);
        }
    });
    empty.sort();
    assert_eq!(empty, ["once", "thrice", "twice"]);
    assert_eq!(report.unwrap().cells.len(), 5);
}
