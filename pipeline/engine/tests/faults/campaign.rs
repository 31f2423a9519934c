//! Many trials, counted by what went wrong in them.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    damage::DAMAGES,
    random::Random,
    shadow::Loss,
    trap::Kind,
    trials::{Ground, WORKS, Work},
};

/// What was injected and what came of it.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Faults injected, by kind.
    pub injected: BTreeMap<String, usize>,
    /// What was not as it must be, with what brings it about again.
    pub violations: Vec<String>,
}

impl Tally {
    /// All faults.
    pub fn total(&self) -> usize {
        self.injected.values().sum()
    }

    /// Counts a trial.
    pub fn count(&mut self, kind: &str, trial: &dyn std::fmt::Debug, result: Result<(), String>) {
        *self.injected.entry(kind.to_owned()).or_default() += 1;
        if let Err(problem) = result {
            self.violations.push(format!("{kind}, {trial:?}: {problem}"));
        }
    }
}

/// Injects `count` faults, chosen by `seed`; calls `observe` now and then.
///
/// Every step of every kind of work is a place for a death and for a loss of power first, as far as `count` goes; the rest
/// is drawn.
///
/// # Errors
/// What keeps the trials from being made at all.
pub fn campaign(count: usize, seed: u64, observe: &mut dyn FnMut(&Tally)) -> Result<Tally, String> {
    let ground = Ground::prepare()?;
    let (mut tally, mut random) = (Tally::default(), Random(seed));
    let sweep: Vec<(usize, usize)> = (0..WORKS.len())
        .flat_map(|work| (0..ground.steps[work]).map(move |step| (work, step)))
        .collect();
    // A quick campaign takes every n-th place.
    let stride = (sweep.len() * 4).div_ceil(count.max(1)).max(1);
    let first = random.below(stride);
    for &(work, step) in sweep.iter().skip(first).step_by(stride) {
        death(&ground, WORKS[work], step, None, &mut random, &mut tally);
        let loss = random.one(&[Loss::Most, Loss::Bytes, Loss::Any]);
        death(&ground, WORKS[work], step, Some(loss), &mut random, &mut tally);
        observe(&tally);
    }
    while tally.total() < count {
        draw(&ground, &mut random, &mut tally);
        observe(&tally);
    }
    Ok(tally)
}

fn death(
    ground: &Ground,
    work: Work,
    step: usize,
    loss: Option<Loss>,
    random: &mut Random,
    tally: &mut Tally,
) {
    let seed = random.next();
    let result = ground.death(work, step, loss, &mut Random(seed));
    let kind = if loss.is_some() { "loss of power" } else { "death of the process" };
    tally.count(kind, &(work, step, loss, seed), result);
}

fn draw(ground: &Ground, random: &mut Random, tally: &mut Tally) {
    // Error numbers of Linux.
    let [eio, enospc, erofs, edquot] = [5, 28, 30, 122];
    let index = random.below(WORKS.len());
    let (work, step) = (WORKS[index], random.below(ground.steps[index]));
    let lasts = random.below(2) == 0;
    let mut error = |kind: &str, errno, of, lasts| {
        let result = ground.error(work, step, errno, of, lasts);
        tally.count(kind, &(work, step, errno, of, lasts), result);
    };
    match random.below(10) {
        0 => death(ground, work, step, None, random, tally),
        1 | 2 => {
            let loss = random.one(&[Loss::Most, Loss::Bytes, Loss::Any, Loss::Any]);
            death(ground, work, step, Some(loss), random, tally);
        }
        3 => error("full disk", enospc, Kind::Growing, true),
        4 => error("quota", edquot, Kind::Growing, lasts),
        5 => error("failing read or write", eio, Kind::Any, false),
        6 => error("store turned read-only", erofs, Kind::Changing, true),
        7 => {
            let (by, back) = (Duration::from_secs(random.next() % 315_360_000), lasts);
            let seed = random.next();
            let result = ground.clock(by, back, &mut Random(seed));
            tally.count("jump of the clock", &(by, back, seed), result);
        }
        _ => {
            let (damage, seed) = (random.one(&DAMAGES), random.next());
            let result = ground.damage(damage, &mut Random(seed));
            tally.count("damaged bytes", &(damage, seed), result);
        }
    }
}
