//! Looking after a store: what is damaged, what nobody needs any more, and who takes the space.

mod audit;
mod pins;
mod sweep;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

pub(crate) use audit::Draw;
pub use audit::{Audit, Fault, Problem, Share};
pub use sweep::{Amount, Kept, Sweep};
pub use usage::{ExperimentUsage, KindUsage, Usage};

use crate::{
    digest::Digest,
    error::StoreError,
    run::{Outcome, RunReport},
    seal::open_sealed,
    store::{RECORD_FORMAT, Record, Store},
};

/// A file under a name in the store.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// The files two levels below a folder, as `cas/`, `ac/` and `cells/` have them, sorted; none where there is no folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<Entry>, StoreError> {
    let mut found = Vec::new();
    for below in list(folder)?.into_iter().filter(|path| path.is_dir()) {
        for path in list(&below)? {
            // What another process has removed meanwhile is not there.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            found.push(Entry { name: name.unwrap_or_default(), bytes: meta.len(), path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The paths in a folder; none where it is not there.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(StoreError::io("list", folder))?,
    };
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// What a file in `ac/` holds.
pub(crate) enum Content {
    /// A record of this program's format under its own key.
    Record(Record),
    /// A record that another version has written: a miss, but nothing is wrong with it.
    Foreign,
    /// Something else; in words.
    Bad(String),
}

/// Reads a file in `ac/`; `None` when it is gone.
pub(crate) fn read_record(entry: &Entry) -> Option<Content> {
    let bytes = match fs::read(&entry.path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Content::Bad(format!("unreadable: {error}"))),
    };
    let content = match open_sealed::<Record>(&bytes) {
        Err("of another version") => Content::Foreign,
        Err(what) => Content::Bad(what.to_owned()),
        Ok(record) if record.format != RECORD_FORMAT => Content::Foreign,
        Ok(record) if record.key.to_string() != entry.name => {
            Content::Bad(format!("the record of key {}", record.key.short()))
        }
        Ok(record) => Content::Record(record),
    };
    Some(content)
}

/// A finished run and when it ended.
pub(crate) struct Ended {
    pub(crate) report: RunReport,
    pub(crate) at: SystemTime,
}

impl Ended {
    /// Whether it reached every cell of its experiment.
    fn is_whole(&self) -> bool {
        let reached = |outcome| matches!(outcome, Outcome::Built | Outcome::Fresh);
        !self.report.partial && self.report.cells.iter().all(|cell| reached(cell.outcome))
    }
}

impl Store {
    /// Every finished run whose report can be read, oldest first.
    pub(crate) fn ended_runs(&self) -> Result<Vec<Ended>, StoreError> {
        let read = |id: String| {
            let path = self.root().join("runs").join(&id).join("run.json");
            let at = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
            Some(Ended { report: self.run_report(&id).ok()?, at })
        };
        Ok(self.runs()?.into_iter().filter_map(read).collect())
    }
}

/// Indices of the last run of each experiment and of the last that reached everything, with the experiment.
pub(crate) fn last_runs(runs: &[Ended]) -> BTreeMap<usize, &str> {
    let mut last: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for (i, run) in runs.iter().enumerate() {
        last.insert((&run.report.experiment, false), i);
        if run.is_whole() {
            last.insert((&run.report.experiment, true), i);
        }
    }
    last.into_iter().map(|((experiment, _), i)| (i, experiment)).collect()
}

/// The digest that a file's name in `cas/` or `ac/` is.
pub(crate) fn digest_of_name(name: &str) -> Option<Digest> {
    // Digests are written in small letters only.
    name.parse().ok().filter(|digest: &Digest| digest.to_string() == name)
}
