//! A disk that does as it is told until a chosen step, and then does not.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use engine::{Faults, Step};

use super::{
    random::Random,
    shadow::{Loss, Shadow},
};

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// Nothing: steps are counted.
    Nothing,
    /// The process is gone; a write under way has written half.
    Death,
    /// The step fails with this error, and so do all of its kind while it lasts.
    Error {
        /// Number of the error.
        errno: i32,
        /// Which steps fail.
        of: Kind,
        /// Whether all later ones fail too.
        lasts: bool,
    },
}

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Those that take room on the disk.
    Growing,
    /// Those that change anything.
    Changing,
    /// All of them.
    Any,
}

impl Kind {
    fn holds(self, step: &Step<'_>) -> bool {
        match step {
            Step::Wait => false,
            Step::Read(_) => self == Self::Any,
            Step::Remove(_) | Step::RemoveFolder(_) | Step::Mark(_) => self != Self::Growing,
            Step::Sync(_) | Step::SyncFolder(_) => self != Self::Growing,
            _ => true,
        }
    }
}

/// A fault to come.
pub struct Trap {
    at: usize,
    then: Then,
    state: Mutex<State>,
}

struct State {
    taken: usize,
    sprung: bool,
    shadow: Option<Shadow>,
}

impl Trap {
    /// Lets `at` steps pass.
    pub fn new(at: usize, then: Then) -> Self {
        Self { at, then, state: Mutex::new(State { taken: 0, sprung: false, shadow: None }) }
    }

    /// The same with the memory of what was synced of the store at `root`.
    pub fn with_shadow(at: usize, root: &Path) -> Self {
        let trap = Self::new(at, Then::Death);
        trap.state().shadow = Some(Shadow::of(root));
        trap
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of steps taken.
    pub fn taken(&self) -> usize {
        self.state().taken
    }

    /// Takes away what was not synced.
    ///
    /// # Errors
    /// Whatever keeps a file from being written.
    pub fn lose(&self, loss: Loss, random: &mut Random) -> io::Result<()> {
        self.state().shadow.as_ref().map_or(Ok(()), |shadow| shadow.lose(loss, random))
    }
}

impl Faults for Trap {
    fn step(&self, step: &Step<'_>, act: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        match self.then {
            Then::Nothing => {}
            Then::Death if state.taken < self.at => {}
            Then::Death => {
                let first = !state.sprung;
                state.sprung = true;
                if let (true, Step::Write(path, bytes)) = (first, step) {
                    fs::write(path, &bytes[..bytes.len() / 2])?;
                    if let Some(shadow) = &mut state.shadow {
                        shadow.after(step);
                    }
                }
                return Err(io::Error::other("the process is gone"));
            }
            Then::Error { errno, of, lasts } => {
                let due = state.taken >= self.at && of.holds(step) && (lasts || !state.sprung);
                if due {
                    state.sprung = true;
                    if let (Step::Write(path, bytes), Kind::Growing) = (step, of) {
                        fs::write(path, &bytes[..bytes.len() / 2])?;
                    }
                    return Err(io::Error::from_raw_os_error(errno));
                }
            }
        }
        state.taken += 1;
        if let Some(shadow) = &mut state.shadow {
            shadow.before(step);
        }
        act()?;
        if let Some(shadow) = &mut state.shadow {
            shadow.after(step);
        }
        Ok(())
    }
}
