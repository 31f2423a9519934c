//! Many processes on one store, with `gc` among them: nobody gets another result, and nothing is left behind.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Child,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::world::{Said, World, files, outputs};

/// Drawn chests, four sources, two fusions and their scores: no training, so that much of it is touching the store.
const EXPERIMENT: &str = "\
[matrix]
seed = [0, 1]

[cases]
use = 'ingest.phantom_cxr'
count = 12
rng_seed = '${seed}'
phantom = { size = 32 }
split = { train = 6, val = 3 }
shard_cases = 3

[erase]
use = 'noise.erase'
in = { truth = 'cases.truth' }

[shift]
use = 'noise.shift'
in = { truth = 'cases.truth' }

[source1]
use = 'noise.apply'
in = { truth = 'cases.truth', simulator = 'erase' }

[source2]
use = 'noise.apply'
in = { truth = 'cases.truth', simulator = 'shift' }

[vote]
use = 'fuse.vote'
in = { annotations = ['source1', 'source2', 'cases.truth'] }

[staple]
use = 'fuse.staple'
in = { annotations = ['source1', 'source2', 'cases.truth'] }

[score]
use = 'score'
in = { predictions = 'vote', reference = 'cases.truth' }
method = 'vote'

[score_staple]
use = 'score'
in = { predictions = 'staple', reference = 'cases.truth' }
method = 'STAPLE'
";

/// Parts of the experiment, and the experiment with other numbers: four ways in, which share most of what they need.
const WAYS: [&[&str]; 4] = [
    &[],
    &["--only", "score[seed=0]"],
    &["--only", "staple", "--set", "shift.strength=2"],
    &["--set", "matrix.seed=[1, 2]"],
];
const N_PROCESSES: usize = 16;

fn arguments(way: usize) -> Vec<&'static str> {
    [&["run", "small.toml", "--json", "--quiet", "--jobs", "2"], WAYS[way % WAYS.len()]].concat()
}

/// Makes everything that is stored older than any time of grace, so that a sweep may take what nobody uses from now on.
fn age(store: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(90 * 86_400);
    for path in ["cas", "ac"].iter().flat_map(|folder| files(&store.join(folder))) {
        File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
}

/// The records and files that a sweep has removed.
fn sweep(world: &World) -> u64 {
    let sweep = world.json(0, &["gc", "--keep-days", "0", "--json"]);
    let entries = |what: &str| sweep[what]["entries"].as_u64().unwrap();
    entries("records") + entries("files")
}

/// Lets a crowd run and sweeps all the while; how much the sweeps have removed.
fn crowd(world: &World, alone: &[Value]) -> u64 {
    let done = AtomicBool::new(false);
    let (said, removed) = thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut removed = 0;
            while !done.load(Ordering::Relaxed) {
                removed += sweep(world);
                thread::sleep(Duration::from_millis(5));
            }
            removed
        });
        let start = |i| world.command(&arguments(i)).spawn().unwrap();
        let children: Vec<Child> = (0..N_PROCESSES).map(start).collect();
        let ended = |child: Child| world.said(child.wait_with_output().unwrap());
        let said: Vec<Said> = children.into_iter().map(ended).collect();
        done.store(true, Ordering::Relaxed);
        (said, sweeper.join().unwrap())
    });
    for (i, said) in said.iter().enumerate() {
        assert_eq!((said.code, said.talk.as_str()), (Some(0), ""), "process {i}: {}", said.data);
        same(&serde_json::from_str(&said.data).unwrap(), &alone[i % WAYS.len()]);
    }
    removed
}

/// Two runs have the same cells with the same outputs.
fn same(found: &Value, expected: &Value) {
    for cell in expected["cells"].as_array().unwrap() {
        let name = cell["cell"].as_str().unwrap();
        assert_eq!(outputs(found, name), &cell["outputs"], "{name}");
    }
}

#[test]
fn a_crowd_on_one_store_with_sweeps_between() {
    let calm = World::small(EXPERIMENT);
    let alone: Vec<Value> = (0..WAYS.len()).map(|way| calm.json(0, &arguments(way))).collect();

    let world = World::small(EXPERIMENT);
    let mut removed = 0;
    for round in 1..=2 {
        // Results that nobody will need, and after them some that the crowd will.
        let strength = format!("shift.strength={}", 2 + round);
        let other = ["run", "small.toml", "--quiet", "--only", "score*", "--set", &strength];
        assert_eq!(world.call(&other).code, Some(0));
        same(&world.json(0, &arguments(1)), &alone[1]);
        age(&world.store());
        removed += crowd(&world, &alone);
        assert_eq!(world.call(&["verify", "--all"]).code, Some(0), "round {round}");
        for folder in ["lease", "tmp", "ckpt"] {
            let left = files(&world.store().join(folder));
            assert_eq!(left, Vec::<PathBuf>::new(), "round {round}: {folder}");
        }
        let runs = files(&world.store().join("runs"));
        assert!(!runs.iter().any(|path| path.ends_with("live.json")), "round {round}: {runs:?}");
    }
    // What was swept is built again, to the same.
    age(&world.store());
    removed += sweep(&world);
    assert!(removed > 0, "no sweep has found anything to remove");
    (0..WAYS.len()).for_each(|way| same(&world.json(0, &arguments(way)), &alone[way]));
}
