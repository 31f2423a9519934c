//! Digests of files that have not changed since they were hashed last.
//!
//! An entry is trusted while inode, size and both times of the file are the same and the file is older than the entry
//! by two seconds: a file that changes within the resolution of its clock is hashed again. A memo never enters a key.
//!
//! Outside files are few and remembered by path, in `memo.json`. Stored files may be very many and are remembered by their
//! names, in `verified`, which is read when the first of them is used.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    compact::{Reader, Writer},
    digest::Digest,
    disk::Disk,
    store::GRACE,
};

/// A file younger than this when it was read may change without its times changing.
pub(crate) const RACY: Duration = Duration::from_secs(2);

/// Kind and version of the file of verified files.
const VERIFIED: &str = "verified 1";

/// Verified files that are remembered beyond those used in this process before it is looked which are there still.
const MOST_UNUSED: usize = 100_000;

/// What of a file changes when its bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stat {
    inode: u64,
    pub(crate) bytes: u64,
    /// Nanoseconds since 1970.
    modified: i64,
    changed: i64,
}

impl Stat {
    /// The state of a file now.
    ///
    /// # Errors
    /// Any error of asking for it.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        let time = |seconds: i64, nanoseconds: i64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Ok(Self {
            inode: meta.ino(),
            bytes: meta.size(),
            modified: time(meta.mtime(), meta.mtime_nsec()),
            changed: time(meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether a change from now on would show.
    pub(crate) fn is_settled(&self, racy: Duration) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = now.saturating_sub(racy).as_nanos();
        i128::from(self.modified.max(self.changed)) < limit as i128
    }

    /// Whether it was not used for so long that the next use has to be marked.
    pub(crate) fn is_aged(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = now.saturating_sub(GRACE / 2).as_nanos();
        i128::from(self.modified) < limit as i128
    }

    /// Whether it is the same file but for its times.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.inode, self.bytes) == (other.inode, other.bytes)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let Self { inode, bytes, modified, changed } = *self;
        for number in [inode, bytes, modified as u64, changed as u64] {
            writer.number(number);
        }
    }

    #[allow(clippy::cast_possible_wrap, reason = "written from the same type")]
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut number = || reader.number();
        let (inode, bytes) = (number()?, number()?);
        Some(Self { inode, bytes, modified: number()? as i64, changed: number()? as i64 })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    stat: Stat,
    digest: Digest,
}

/// What is remembered of outside files.
#[derive(Default)]
struct Outside {
    entries: BTreeMap<PathBuf, Entry>,
    changed: bool,
}

/// What is remembered of stored files: those whose bytes were found to be what their names say.
#[derive(Default)]
struct Verified {
    /// Whether a file is of use to this process.
    entries: BTreeMap<Digest, (Stat, bool)>,
    read: bool,
    changed: bool,
}

/// Remembered digests.
pub(crate) struct Memo {
    disk: Disk,
    folder: PathBuf,
    /// A file younger than this is not trusted.
    pub(crate) racy: Duration,
    outside: Mutex<Outside>,
    verified: Mutex<Verified>,
}

impl Memo {
    /// Reads the memo of a store; one that cannot be read is empty.
    pub(crate) fn open(disk: Disk, folder: &Path) -> Self {
        let bytes = disk.read(&folder.join("memo.json"));
        let entries = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let outside = Outside { entries: entries.unwrap_or_default(), changed: false };
        Self {
            disk,
            folder: folder.to_owned(),
            racy: RACY,
            outside: Mutex::new(outside),
            verified: Mutex::default(),
        }
    }

    /// Digest of an outside file, hashed only if it may have changed.
    ///
    /// # Errors
    /// Any error of reading the file.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<Digest> {
        let path = std::path::absolute(path)?;
        let stat = Stat::of(&path)?;
        if let Some(entry) = lock(&self.outside).entries.get(&path).filter(|e| e.stat == stat) {
            return Ok(entry.digest);
        }
        let (digest, _) = self.disk.digest(&path)?;
        if stat.is_settled(self.racy) && Stat::of(&path)? == stat {
            let mut outside = lock(&self.outside);
            outside.entries.insert(path, Entry { stat, digest });
            outside.changed = true;
        }
        Ok(digest)
    }

    /// Digest and size of the stored file of a name, hashed only if it may have changed.
    ///
    /// # Errors
    /// Any error of reading the file.
    pub(crate) fn stored(&self, name: &Digest, path: &Path) -> io::Result<(Digest, u64)> {
        let stat = Stat::of(path)?;
        if let Some((known, used)) = self.verified().entries.get_mut(name)
            && *known == stat
        {
            *used = true;
            return Ok((*name, stat.bytes));
        }
        let (digest, bytes) = self.disk.digest(path)?;
        if digest == *name && stat.is_settled(self.racy) && Stat::of(path)? == stat {
            let mut verified = self.verified();
            verified.entries.insert(*name, (stat, true));
            verified.changed = true;
        }
        Ok((digest, bytes))
    }

    fn verified(&self) -> MutexGuard<'_, Verified> {
        let mut verified = lock(&self.verified);
        if !verified.read {
            verified.read = true;
            let bytes = self.disk.read(&self.folder.join("verified")).unwrap_or_default();
            verified.entries = read_verified(&bytes).unwrap_or_default();
        }
        verified
    }

    /// What has changed of the memo, by name of the file; `is_there` tells of a stored file.
    pub(crate) fn changes(&self, is_there: impl Fn(&Digest) -> bool) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut outside = lock(&self.outside);
        if std::mem::take(&mut outside.changed)
            && let Ok(bytes) = serde_json::to_vec(&outside.entries)
        {
            files.push((self.folder.join("memo.json"), bytes));
        }
        let mut verified = lock(&self.verified);
        if std::mem::take(&mut verified.changed) {
            let n_used = verified.entries.values().filter(|(_, used)| *used).count();
            if verified.entries.len() > n_used + MOST_UNUSED {
                verified.entries.retain(|name, (_, used)| *used || is_there(name));
            }
            let mut writer = Writer::new(VERIFIED);
            for (name, (stat, _)) in &verified.entries {
                writer.digest(name);
                stat.write(&mut writer);
            }
            files.push((self.folder.join("verified"), writer.finish()));
        }
        files
    }
}

fn read_verified(bytes: &[u8]) -> Option<BTreeMap<Digest, (Stat, bool)>> {
    let mut reader = Reader::open(bytes, VERIFIED)?;
    let mut entries = Vec::new();
    while !reader.is_at_end() {
        entries.push((reader.digest()?, (Stat::read(&mut reader)?, false)));
    }
    Some(entries.into_iter().collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::toy::next_stamp;

    fn memo(folder: &Path, racy: Duration) -> Memo {
        Memo { racy, ..Memo::open(Disk::default(), folder) }
    }

    fn save(memo: &Memo) {
        for (path, bytes) in memo.changes(|_| true) {
            fs::write(path, bytes).unwrap();
        }
    }

    /// An entry that says something else than the file does, so that it shows whether it was used.
    fn plant(memo: &Memo, path: &Path) -> Digest {
        let (stat, digest) = (Stat::of(path).unwrap(), Digest::of(b"planted"));
        lock(&memo.outside).entries.insert(path.to_owned(), Entry { stat, digest });
        digest
    }

    #[test]
    fn a_file_that_stays_the_same_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "text").unwrap();
        next_stamp(folder.path());
        let first = memo(folder.path(), Duration::ZERO);
        assert_eq!(first.digest(&path).unwrap(), Digest::of(b"text"));
        let planted = plant(&first, &path);
        assert_eq!(first.digest(&path).unwrap(), planted);
        lock(&first.outside).changed = true;
        save(&first);
        assert_eq!(memo(folder.path(), RACY).digest(&path).unwrap(), planted, "it was kept");
        fs::write(folder.path().join("memo.json"), "{").unwrap();
        assert_eq!(memo(folder.path(), RACY).digest(&path).unwrap(), Digest::of(b"text"));
    }

    /// Two edits within the resolution of the clock leave the same size and the same times behind.
    #[test]
    fn a_young_file_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let memo = memo(folder.path(), RACY);
        for text in ["one", "two", "six"] {
            fs::write(&path, text).unwrap();
            assert_eq!(memo.digest(&path).unwrap(), Digest::of(text.as_bytes()));
            assert!(lock(&memo.outside).entries.is_empty());
            let name = Digest::of(text.as_bytes());
            assert_eq!(memo.stored(&name, &path).unwrap(), (name, 3));
            assert!(memo.verified().entries.is_empty());
        }
        // A file of the future may change as well before its time has come.
        let time = SystemTime::now() + Duration::from_secs(86_400);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
        memo.digest(&path).unwrap();
        assert!(lock(&memo.outside).entries.is_empty());
    }

    #[test]
    fn an_edit_that_keeps_size_and_time_is_seen_by_the_change_of_status() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "before").unwrap();
        let time = SystemTime::now() - Duration::from_secs(3600);
        let set = |path: &Path| fs::File::open(path).unwrap().set_modified(time).unwrap();
        set(&path);
        next_stamp(folder.path());
        let memo = memo(folder.path(), Duration::ZERO);
        let (name, edited) = (Digest::of(b"before"), Digest::of(b"after!"));
        assert_eq!(memo.digest(&path).unwrap(), name);
        assert_eq!(memo.stored(&name, &path).unwrap(), (name, 6));
        let before = Stat::of(&path).unwrap();
        fs::write(&path, "after!").unwrap();
        set(&path);
        let after = Stat::of(&path).unwrap();
        assert_eq!((before.bytes, before.modified), (after.bytes, after.modified));
        assert_eq!(memo.digest(&path).unwrap(), edited);
        assert_eq!(memo.stored(&name, &path).unwrap(), (edited, 6));
    }

    #[test]
    fn another_file_of_the_same_name_size_and_time_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        let time = SystemTime::now() - Duration::from_secs(3600);
        for (path, text) in [(&path, "before"), (&other, "after!")] {
            fs::write(path, text).unwrap();
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
        next_stamp(folder.path());
        let memo = memo(folder.path(), Duration::ZERO);
        assert_eq!(memo.digest(&path).unwrap(), Digest::of(b"before"));
        fs::rename(&other, &path).unwrap();
        assert_eq!(memo.digest(&path).unwrap(), Digest::of(b"after!"));
    }

    #[test]
    fn verified_files_are_kept_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        fs::write(&path, "text").unwrap();
        next_stamp(folder.path());
        let name = Digest::of(b"text");
        let first = memo(folder.path(), Duration::ZERO);
        assert_eq!(first.stored(&name, &path).unwrap(), (name, 4));
        save(&first);
        assert!(memo(folder.path(), RACY).verified().entries.contains_key(&name));
        // What is not what it is called is never remembered as if it were.
        let other = Digest::of(b"other");
        assert_eq!(first.stored(&other, &path).unwrap(), (name, 4));
        assert!(!first.verified().entries.contains_key(&other));
        fs::write(folder.path().join("verified"), "damaged").unwrap();
        assert!(memo(folder.path(), RACY).verified().entries.is_empty());
    }
}
