//! One timeline: an experiment, edits, and after each a run that must do what the reckoning says and no more.

use std::{collections::BTreeMap, fs, path::Path, sync::atomic::AtomicBool};

use engine::{Experiment, Limits, Outcome, Roots, State, Store, plan, run, run_unchanged};

use super::{
    model::{Oracle, Random, World},
    stages::{registry, take_executed},
};

/// What was done in some timelines.
#[derive(Debug, Default)]
pub struct Count {
    /// Runs.
    pub runs: usize,
    /// Cells looked at.
    pub cells: usize,
    /// Units executed.
    pub units: usize,
    /// Runs that were done without expanding the experiment.
    pub unchanged: usize,
}

/// Plays the timeline of a seed in an empty folder.
///
/// # Errors
/// What differs from the reckoning, with the experiment.
pub fn timeline(seed: u64, folder: &Path, count: &mut Count) -> Result<(), String> {
    let mut random = Random(seed);
    let mut world = World::random(&mut random);
    let mut past = vec![world.clone()];
    let mut oracle = Oracle::default();
    fs::create_dir_all(folder.join("configs")).map_err(|error| error.to_string())?;
    // Nothing changes its files but the runs, which make new ones.
    let store = Store::open(&folder.join("store")).map_err(|error| error.to_string())?;
    let store = store.trusting_young_files();
    for step in 0..4 + random.below(5) {
        if step > 0 {
            if random.below(6) == 0 {
                world = past[random.below(past.len())].clone();
            } else if random.below(4) > 0 {
                (0..1 + random.below(2)).for_each(|_| world.edit(&mut random));
            }
            past.push(world.clone());
        }
        let cpus = 1 + random.below(3);
        check(seed, &world, &mut oracle, folder, &store, cpus, count).map_err(|problem| {
            format!("timeline {seed}, step {step}: {problem}\n{}", world.to_toml(seed))
        })?;
    }
    Ok(())
}

fn check(
    seed: u64,
    world: &World,
    oracle: &mut Oracle,
    folder: &Path,
    store: &Store,
    cpus: usize,
    count: &mut Count,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let file = folder.join("configs/e.toml");
    fs::write(&file, world.to_toml(seed)).map_err(|error| text(&error))?;
    let (registry, roots) = (registry(world.second), Roots::find(folder));
    let experiment =
        Experiment::load("e.toml", &[], &roots, &registry).map_err(|error| text(&error))?;
    let selected = experiment.select(&world.only).map_err(|error| text(&error))?;
    let planned = plan(&experiment, &selected, store).map_err(|error| text(&error))?;
    let limits = Limits { cpus, memory: 4 << 30 };
    let never = AtomicBool::new(false);
    let unchanged = || run_unchanged("e.toml", &[], &roots, &registry, store, &mut |_| {});
    let unchanged = world.only.is_empty().then(unchanged).flatten();
    count.unchanged += usize::from(unchanged.is_some());
    let report = unchanged
        .unwrap_or_else(|| run(&experiment, &selected, store, limits, &never, &mut |_| {}))
        .map_err(|error| text(&error))?;
    let (expected, digests) = oracle.run(world);
    let executed = take_executed(seed);
    count.runs += 1;
    count.cells += report.cells.len();
    count.units += executed.len();
    if executed != expected {
        return Err(format!("executed {executed:#?}\nexpected {expected:#?}"));
    }
    let found: BTreeMap<_, _> = report
        .cells
        .iter()
        .map(|cell| (cell.cell.clone(), cell.outputs.values().next().copied()))
        .collect();
    let expected: BTreeMap<_, _> = digests.into_iter().map(|(name, d)| (name, Some(d))).collect();
    if found != expected {
        return Err(format!("outputs {found:#?}\nexpected {expected:#?}"));
    }
    for (planned, cell) in planned.iter().zip(&report.cells) {
        if planned.state == State::Fresh && cell.outcome != Outcome::Fresh {
            return Err(format!("`{}` was planned as fresh and built", cell.cell));
        }
    }
    Ok(())
}

/// Plays many timelines, each in a folder of its own below `folder`, on all cores.
///
/// # Errors
/// The first problem found.
pub fn timelines(seeds: std::ops::Range<u64>, folder: &Path) -> Result<Count, String> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let play = |thread: u64| {
        let mut count = Count::default();
        for seed in seeds.clone().filter(|seed| seed % n_threads == thread) {
            let own = folder.join(seed.to_string());
            timeline(seed, &own, &mut count)?;
            let _ = fs::remove_dir_all(own);
        }
        Ok::<Count, String>(count)
    };
    let counts: Vec<Result<Count, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|t| scope.spawn(move || play(t))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|played| played.unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect()
    });
    counts.into_iter().try_fold(Count::default(), |sum, count| {
        let count = count?;
        Ok(Count {
            runs: sum.runs + count.runs,
            cells: sum.cells + count.cells,
            units: sum.units + count.units,
            unchanged: sum.unchanged + count.unchanged,
        })
    })
}

/// A folder for many small files: in memory where there is such a place.
pub fn scratch() -> std::io::Result<tempfile::TempDir> {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }
}
