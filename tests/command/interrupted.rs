//! Runs that are killed, and runs that share a store.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use pipeline::{Event, Experiment, Limits, Override, Roots, Store};
use serde_json::Value;

use super::world::{SMALL, World, files, outputs, set};

const EPOCHS: &str = "train.training.epochs=60";
const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

/// How long a checkpoint is waited for, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The checkpoints in the project's store by the number of epochs that they hold, oldest first.
fn checkpoints(world: &World) -> Vec<(usize, PathBuf)> {
    let number = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let digits = name.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
        Some((digits.parse().ok()?, path))
    };
    let mut found: Vec<_> =
        files(&world.store().join("ckpt")).into_iter().filter_map(number).collect();
    found.sort();
    found
}

/// How a training comes to its end before its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The process is gone at once.
    Killed,
    /// So is the machine: half of the newest checkpoint did not reach the disk.
    Crashed,
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// The system asked it to end.
    Terminated,
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Waits until the training has saved a few epochs and ends it; gives the epochs from which it can go on.
fn end_in_training(world: &World, end: End) -> usize {
    let mut child = world.command(&set(RUN, &[EPOCHS])).spawn().unwrap();
    let started = Instant::now();
    while checkpoints(world).last().is_none_or(|(epochs, _)| *epochs < 3) {
        assert!(child.try_wait().unwrap().is_none(), "the training ended before it was killed");
        assert!(started.elapsed() < PATIENCE, "no checkpoint in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
    let signal = match end {
        End::Interrupted => Some("-INT"),
        End::Terminated => Some("-TERM"),
        End::Killed | End::Crashed => None,
    };
    if let Some(signal) = signal {
        send(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(130));
    } else {
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
    }
    let kept = checkpoints(world);
    let (newest, path) = kept.last().unwrap();
    if end == End::Crashed {
        fs::write(path, &fs::read(path).unwrap()[..100]).unwrap();
        return kept[kept.len() - 2].0;
    }
    *newest
}

/// Runs the experiment in this process and gives the first thing that the training said of its progress.
fn first_progress(world: &World) -> String {
    let overrides = [Override::parse(EPOCHS).unwrap()];
    let roots = Roots::find(world.root());
    let registry = pipeline::standard();
    let experiment = Experiment::load("small.toml", &overrides, &roots, &registry).unwrap();
    let selected = experiment.select(&[]).unwrap();
    let store = Store::open(&world.store()).unwrap();
    let mut first = None;
    let mut observe = |event: Event| {
        if let Event::Progress { doing, .. } = event {
            first.get_or_insert(doing);
        }
    };
    let cancelled = AtomicBool::new(false);
    let limits = Limits::of_machine();
    pipeline::run(&experiment, &selected, &store, limits, &cancelled, &mut observe).unwrap();
    first.unwrap()
}

#[test]
fn a_training_that_was_ended_goes_on_to_the_same_weights() {
    let calm = World::small(SMALL);
    let undisturbed = calm.json(0, &set(RUN, &[EPOCHS]));
    for end in [End::Killed, End::Crashed, End::Interrupted, End::Terminated] {
        let world = World::small(SMALL);
        let done = end_in_training(&world, end);
        let plan = world.json_lines(&set(&["plan", "small.toml", "--json"], &[EPOCHS]));
        let fresh = plan.iter().filter(|line| line["state"] == "fresh").count();
        assert_eq!(fresh, 5, "what was finished is there, the training is not: {plan:#?}");
        assert_eq!(first_progress(&world), format!("epoch {} of 60", done + 1), "{end:?}");
        let report = world.json(0, &set(RUN, &[EPOCHS]));
        assert_eq!(report["built"], 0, "the run in this process has built all");
        for cell in ["train", "predict", "score"] {
            assert_eq!(outputs(&report, cell), outputs(&undisturbed, cell), "{cell}, {end:?}");
        }
        assert!(checkpoints(&world).is_empty(), "a finished training leaves no checkpoint");
    }
}

#[test]
fn two_runs_at_once_on_one_store() {
    let calm = World::small(SMALL);
    let undisturbed = calm.json(0, RUN);
    let world = World::small(SMALL);
    let children = [0, 1].map(|_| world.command(RUN).spawn().unwrap());
    let said = children.map(|child| world.said(child.wait_with_output().unwrap()));
    for said in &said {
        assert_eq!((said.code, said.talk.as_str()), (Some(0), ""), "{}", said.data);
        let report: Value = serde_json::from_str(&said.data).unwrap();
        for cell in undisturbed["cells"].as_array().unwrap() {
            let name = cell["cell"].as_str().unwrap();
            assert_eq!(outputs(&report, name), &cell["outputs"], "{name}");
        }
    }
    let runs = files(&world.store().join("runs"));
    assert_eq!(runs.iter().filter(|path| path.ends_with("run.json")).count(), 2, "{runs:?}");
    assert_eq!(files(&world.store().join("tmp")), Vec::<PathBuf>::new(), "nothing is left behind");
    assert_eq!(world.json(0, RUN)["built"], 0);
}

/// A program that does not end when it is asked to.
const STUBBORN: &str = "\
[stubborn]
use = 'exec'
argv = ['sh', '-c', 'trap \"\" TERM INT; echo $$ > \"$PLACE.new\"; mv \"$PLACE.new\" \"$PLACE\"; while :; do sleep 0.1; done']
outputs.nothing = { kind = 'nothing' }
grace_seconds = 600
";

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| !state.starts_with(" Z"))
}

#[test]
fn a_program_that_does_not_listen_ends_with_its_run() {
    for signals in [&["-INT", "-INT"][..], &["-TERM", "-INT"], &["-KILL"]] {
        let world = World::small(STUBBORN);
        let place = world.path("pid");
        let env = format!("stubborn.env.PLACE=\"{}\"", place.display());
        let mut run = world.command(&["run", "small.toml", "--set", &env]).spawn().unwrap();
        let started = Instant::now();
        while !place.exists() {
            assert!(run.try_wait().unwrap().is_none(), "the run has ended by itself");
            assert!(started.elapsed() < PATIENCE, "the program has not begun in {PATIENCE:?}");
            thread::sleep(Duration::from_millis(1));
        }
        let program: u32 = fs::read_to_string(&place).unwrap().trim().parse().unwrap();
        let mut talk = BufReader::new(run.stderr.take().unwrap()).lines();
        for (i, signal) in signals.iter().enumerate() {
            send(signal, run.id());
            // The second means another thing when the first was heard.
            if i + 1 < signals.len() {
                let heard = talk.any(|line| line.unwrap().contains("Ctrl-C again ends at once"));
                assert!(heard, "{signals:?}");
                assert!(is_running(program) && run.try_wait().unwrap().is_none());
            }
        }
        let code = run.wait().unwrap().code();
        assert_eq!(code, if signals == ["-KILL"] { None } else { Some(130) }, "{signals:?}");
        let ended = Instant::now();
        while is_running(program) {
            assert!(ended.elapsed() < PATIENCE, "{signals:?}: the program is still there");
            thread::sleep(Duration::from_millis(1));
        }
        // What is left holds nobody up: the cell is tried again at once, and its time is over soon.
        let limits = ["--set", "stubborn.timeout=0.05", "--set", "stubborn.grace_seconds=0"];
        let again = ["run", "small.toml", "--json", "--quiet", "--set", &env];
        let report = world.json(1, &[&again[..], &limits].concat());
        assert_eq!(report["cells"][0]["failure"]["class"], "timeout", "{report:#}");
        assert_eq!(world.call(&["verify", "--all"]).code, Some(0));
    }
}
