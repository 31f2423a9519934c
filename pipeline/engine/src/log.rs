//! What the cells of a run say while they work, a file a cell: `runs/ID/logs/CELL.log`.
//!
//! A cell that says nothing and does not fail has no file, so that a run of very many small cells does not write as many.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::{
    digest::Digest,
    error::StoreError,
    store::{Store, safe},
};

/// Longest log of a unit; what comes after it is left out.
const LONGEST: usize = 4 << 20;

/// The log of one unit of a cell at one try.
pub(crate) struct Log<'a> {
    store: &'a Store,
    path: PathBuf,
    shard: Option<String>,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What it was doing last.
    doing: String,
    written: usize,
}

impl<'a> Log<'a> {
    /// A log that has no file yet.
    pub(crate) fn new(store: &'a Store, run: &str, cell: &str, shard: Option<&str>) -> Self {
        let (path, shard) = (log_path(store, run, cell), shard.map(str::to_owned));
        Self { store, path, shard, started: Instant::now(), state: Mutex::default() }
    }

    /// Adds what is said, each line with the seconds since the unit began and its shard.
    ///
    /// A log that cannot be written is no reason to stop work.
    pub(crate) fn say(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written > LONGEST {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let shard = self.shard.as_ref().map_or_else(String::new, |shard| format!(" {shard}"));
        let mut lines = String::new();
        for line in text.lines() {
            let _ = writeln!(lines, "[{seconds:9.3}{shard}] {line}");
        }
        state.written += lines.len();
        if state.written > LONGEST {
            lines.push_str("[the rest is left out]\n");
        }
        let _ = self.store.append(&self.path, lines.as_bytes());
    }

    /// Adds what the unit is doing, if that is something else than before.
    pub(crate) fn doing(&self, fraction: f64, doing: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.doing == doing {
            return;
        }
        doing.clone_into(&mut state.doing);
        drop(state);
        self.say(&format!("{:3.0} % {doing}", 100.0 * fraction));
    }
}

/// Where the log of a cell lies: its name as far as files may have it, and a digest where that is not all of it.
fn log_path(store: &Store, run: &str, cell: &str) -> PathBuf {
    const LONGEST_NAME: usize = 120;
    let mut name = safe(cell);
    if name != cell || name.len() > LONGEST_NAME {
        name.truncate(LONGEST_NAME);
        name = format!("{name}-{}", &Digest::of(cell.as_bytes()).short()[..8]);
    }
    logs_folder(store.root(), run).join(name + ".log")
}

fn logs_folder(root: &Path, run: &str) -> PathBuf {
    root.join("runs").join(run).join("logs")
}

impl Store {
    /// What a cell said in a run; `None` where it said nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`] when its log cannot be read.
    pub fn log(&self, run: &str, cell: &str) -> Result<Option<String>, StoreError> {
        let path = log_path(self, run, cell);
        match self.disk().read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::toy::Toy;

    #[test]
    fn a_log_is_made_by_its_first_line() {
        let toy = Toy::new();
        let store = toy.store();
        let log = Log::new(&store, "run", "train[seed=0]", Some("s1"));
        assert_eq!(store.log("run", "train[seed=0]").unwrap(), None);
        log.doing(0.25, "epoch 1");
        log.doing(0.26, "epoch 1");
        log.say("two\nlines");
        let text = store.log("run", "train[seed=0]").unwrap().unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[11..]).collect();
        assert_eq!(lines, ["s1]  25 % epoch 1", "s1] two", "s1] lines"]);
        assert_eq!(store.log("run", "train[seed=1]").unwrap(), None);
    }
}
