//! Digests of files that have not changed since they were hashed last.
//!
//! An entry is trusted while inode, size and both times of the file are the same and the file is older than the entry
//! by two seconds: a file that changes within the resolution of its clock is hashed again. A memo never enters a key.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, disk::Disk};

/// A file younger than this when it was hashed may change without its times changing.
const RACY_NANOSECONDS: i128 = 2_000_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stat {
    inode: u64,
    bytes: u64,
    modified: i128,
    changed: i128,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    stat: Stat,
    digest: Digest,
}

/// Remembered digests, kept in one file of the store.
pub(crate) struct Memo {
    disk: Disk,
    path: PathBuf,
    entries: Mutex<(BTreeMap<PathBuf, Entry>, bool)>,
}

impl Memo {
    /// Reads the memo; one that cannot be read is empty.
    pub(crate) fn open(disk: Disk, path: PathBuf) -> Self {
        let entries = disk.read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { disk, path, entries: Mutex::new((entries.unwrap_or_default(), false)) }
    }

    /// Digest and size of a file, hashed only if it may have changed.
    ///
    /// # Errors
    /// Any error of reading the file.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<(Digest, u64)> {
        let path = std::path::absolute(path)?;
        let stat = stat(&path)?;
        if let Some(entry) = self.lock().0.get(&path).filter(|entry| entry.stat == stat) {
            return Ok((entry.digest, stat.bytes));
        }
        let (digest, bytes) = self.disk.digest(&path)?;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as i128);
        let settled = stat.modified.max(stat.changed) + RACY_NANOSECONDS < now;
        if settled && self::stat(&path)? == stat {
            let mut entries = self.lock();
            entries.0.insert(path, Entry { stat, digest });
            entries.1 = true;
        }
        Ok((digest, bytes))
    }

    /// Writes the memo back if it has changed. A memo that cannot be written costs time, not correctness.
    pub(crate) fn save(&self) {
        let mut entries = self.lock();
        if !entries.1 {
            return;
        }
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let written = serde_json::to_vec(&entries.0).map_err(io::Error::from);
        let written = written.and_then(|bytes| self.disk.write(&temporary, &bytes));
        if written.and_then(|()| self.disk.rename(&temporary, &self.path)).is_err() {
            let _ = self.disk.remove(&temporary);
        }
        entries.1 = false;
    }

    fn lock(&self) -> MutexGuard<'_, (BTreeMap<PathBuf, Entry>, bool)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stat(path: &Path) -> io::Result<Stat> {
    let meta = fs::metadata(path)?;
    let time = |seconds: i64, nanoseconds: i64| {
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    };
    Ok(Stat {
        inode: meta.ino(),
        bytes: meta.size(),
        modified: time(meta.mtime(), meta.mtime_nsec()),
        changed: time(meta.ctime(), meta.ctime_nsec()),
    })
}
