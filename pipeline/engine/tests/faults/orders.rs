//! Runs and sweeps at once on one store, their steps in an order that a seed decides: whatever it is, every run gives what it
//! gives alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::{Event, Store, run_alone};

use super::{
    project::{digests, walk},
    trials::{Ground, Work, audit, words},
    turns::{Order, Turns},
};

/// What takes turns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Plain,
    Changed,
    Sweep,
}

/// Who is at it, by turns of the seed.
const CASTS: [&[Act]; 4] = [
    &[Act::Plain, Act::Plain],
    &[Act::Plain, Act::Changed, Act::Sweep],
    &[Act::Plain, Act::Changed, Act::Plain, Act::Sweep, Act::Sweep],
    &[Act::Changed, Act::Sweep, Act::Sweep],
];

/// What an actor has to tell.
enum Told {
    /// Units executed, by cell and shard.
    Ran(BTreeMap<(String, Option<String>), usize>),
    Swept,
}

impl Ground {
    /// Plays an order.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn order(&self, seed: u64) -> Result<Order, String> {
        let cast = CASTS[(seed % CASTS.len() as u64) as usize];
        // On an empty store, on one that holds half of what is needed, or on one where all is old.
        self.reset([Work::First, Work::Second, Work::Collect][(seed / 4 % 3) as usize])?;
        let sweeps = cast.contains(&Act::Sweep);
        let turns = Arc::new(Turns::new(cast.len(), seed));
        let told = std::thread::scope(|scope| {
            let play = |number: usize, act: Act| {
                let turns = turns.clone();
                scope.spawn(move || turns.clone().act(number, || self.play(act, turns)))
            };
            let threads: Vec<_> =
                cast.iter().enumerate().map(|(number, &act)| play(number, act)).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        let mut executed: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
        for told in told {
            let told = told.map_err(|_| "a thread panicked".to_owned())???;
            if let Told::Ran(units) = told {
                units.into_iter().for_each(|(unit, n)| *executed.entry(unit).or_default() += n);
            }
        }
        // A sweep may take what nobody had asked for yet, and cells of equal names differ between the experiments.
        let twice = executed.iter().find(|(_, n)| **n > 1);
        if let (false, false, Some((unit, n))) = (sweeps, cast.contains(&Act::Changed), twice) {
            return Err(format!("{unit:?} was executed {n} times"));
        }
        self.is_whole()?;
        Ok(turns.order())
    }

    fn play(&self, act: Act, turns: Arc<Turns>) -> Result<Told, String> {
        let store = Store::open_faulty(&self.project.store(), turns);
        let store = store.map_err(|error| words(&error))?;
        let (experiment, expected) = match act {
            Act::Plain => (&self.plain, &self.expected),
            Act::Changed => (&self.changed, &self.expected_changed),
            Act::Sweep => {
                let swept = store.sweep(Duration::ZERO, false);
                return swept.map(|_| Told::Swept).map_err(|error| words(&error));
            }
        };
        let mut units = BTreeMap::new();
        let selected = vec![true; experiment.cells.len()];
        let report = run_alone(experiment, &selected, &store, &mut |event| {
            if let Event::Started { cell, shard } = event {
                *units.entry((cell, shard)).or_default() += 1;
            }
        });
        let report = report.map_err(|error| words(&error))?;
        if digests(&report) != *expected {
            return Err(format!("{act:?} gave something else than alone"));
        }
        Ok(Told::Ran(units))
    }

    /// Whether the store is whole, holds the results of its runs, and nothing that was under way.
    fn is_whole(&self) -> Result<(), String> {
        let root = self.project.store();
        if let Some(problem) = audit(&root, false)?.problems.first() {
            return Err(format!("{problem:?}"));
        }
        let left = [walk(&root.join("tmp")), walk(&root.join("lease"))].concat();
        if !left.is_empty() {
            return Err(format!("left: {left:?}"));
        }
        Ok(())
    }
}
