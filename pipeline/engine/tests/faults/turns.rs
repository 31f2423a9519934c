//! Several threads on one store of which one at a time takes a step, and a seed decides which.

use std::{
    cell::Cell,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use engine::{Faults, Step};

use super::random::Random;

thread_local! {
    /// Number of the thread among those that take turns.
    static ACTOR: Cell<Option<usize>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, PartialEq)]
enum Actor {
    /// It can take its next step.
    Ready,
    /// It has nothing to do until another has changed something.
    Waiting,
    Done,
}

struct State {
    random: Random,
    actors: Vec<Actor>,
    /// Whose turn it is; nobody's at the end.
    turn: Option<usize>,
    steps: usize,
    /// Digest of who took which turn.
    order: u64,
    stuck: bool,
}

/// Gives turns to some threads.
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Steps taken.
    pub steps: usize,
    /// The same for the same order.
    pub digest: u64,
}

impl Turns {
    /// Turns of `n` threads.
    pub fn new(n: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let turn = Some(random.below(n));
        let actors = vec![Actor::Ready; n];
        let state = State { random, actors, turn, steps: 0, order: 0, stuck: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Does the work of a thread from its first turn on.
    ///
    /// # Errors
    /// That all wait for each other.
    pub fn act<T>(&self, number: usize, work: impl FnOnce() -> T) -> Result<T, String> {
        ACTOR.set(Some(number));
        let begun = self.wait(self.state(), number);
        let done = begun.map(|()| work());
        let mut state = self.state();
        state.actors[number] = Actor::Done;
        // What it has done may be what others wait for.
        state.wake();
        state.pass();
        self.changed.notify_all();
        ACTOR.set(None);
        if state.stuck { Err("all wait for each other".to_owned()) } else { done }
    }

    /// What has come of it.
    pub fn order(&self) -> Order {
        let state = self.state();
        Order { steps: state.steps, digest: state.order }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, number: usize) -> Result<(), String> {
        while state.turn != Some(number) && !state.stuck {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stuck { Err("all wait for each other".to_owned()) } else { Ok(()) }
    }
}

impl State {
    fn wake(&mut self) {
        for actor in &mut self.actors {
            if *actor == Actor::Waiting {
                *actor = Actor::Ready;
            }
        }
    }

    /// Chooses who is next.
    fn pass(&mut self) {
        let is_ready = |&actor: &usize| self.actors[actor] == Actor::Ready;
        let ready: Vec<usize> = (0..self.actors.len()).filter(is_ready).collect();
        if ready.is_empty() {
            self.turn = None;
            self.stuck |= self.actors.contains(&Actor::Waiting);
            return;
        }
        let next = self.random.one(&ready);
        self.order = self.order.wrapping_mul(0x100_0000_01b3) ^ (next as u64 + 1);
        self.turn = Some(next);
    }
}

impl Faults for Turns {
    fn step(&self, step: &Step<'_>, act: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let Some(number) = ACTOR.get() else { return act() };
        // How often a run must try for a name depends on the second in which it starts.
        if matches!(step, Step::MakeFolder(path) if path.parent().is_some_and(|above| above.ends_with("runs")))
        {
            return act();
        }
        let mut state = self.state();
        state.steps += 1;
        if *step == Step::Wait {
            state.actors[number] = Actor::Waiting;
        }
        state.pass();
        self.changed.notify_all();
        self.wait(state, number).map_err(io::Error::other)?;
        let done = act();
        if !matches!(step, Step::Wait | Step::Read(_)) {
            self.state().wake();
        }
        done
    }
}
