//! `gc`: what nobody needs any more goes, while others run.
//!
//! Kept are the results of pinned runs, of the last run of every experiment (and of the last that reached everything),
//! and whatever was made or used lately. A record stays while all its files are kept.
//!
//! No lock is taken. A run sets the time of each record and file that it relies on, unless that is young already; the
//! sweep spares everything that is younger than the oldest run under way by an hour. It takes away the name first and
//! looks at the time then: whoever sets the time after that finds no name, which is a miss, and whoever sets it
//! before is seen, and the name comes back. Records go before files, and files that came to be named meanwhile stay.
//! Should all this fail, a lost file is a miss, and is built again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{Content, Ended, Entry, digest_of_name, entries, last_runs, list, read_record};
use crate::{
    artifact::{Chunk, Manifest},
    digest::Digest,
    error::StoreError,
    live::live_run,
    process,
    store::{GRACE, Store},
};

/// What is kept for one reason, less what is kept for those before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The reason.
    pub why: String,
    /// Number of files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

/// A number of entries and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Number of entries.
    pub entries: usize,
    /// Bytes on the disk that they alone take.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }
}

/// What a sweep has kept and removed, or would.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sweep {
    /// Whether nothing was removed in fact.
    pub dry_run: bool,
    /// Reasons for keeping, with what each keeps.
    pub kept: Vec<Kept>,
    /// Records removed.
    pub records: Amount,
    /// Files of artifacts removed.
    pub files: Amount,
    /// Abandoned work, leases and unfinished runs removed.
    pub work: Amount,
    /// Checkpoints removed.
    pub checkpoints: Amount,
    /// Damaged files removed.
    pub quarantine: Amount,
}

impl Sweep {
    /// Bytes freed in all.
    pub fn bytes(&self) -> u64 {
        let parts = [self.records, self.files, self.work, self.checkpoints, self.quarantine];
        parts.iter().map(|amount| amount.bytes).sum()
    }
}

impl Store {
    /// Removes what is not needed: by no pin, by no last run, and not used for the time `keep`.
    ///
    /// # Errors
    /// [`StoreError::UnreadablePin`] when it is not known what a pin keeps: nothing is removed then. [`StoreError::Io`] when a
    /// folder cannot be listed or an entry cannot be removed.
    pub fn sweep(&self, keep: Duration, dry_run: bool) -> Result<Sweep, StoreError> {
        let now = SystemTime::now();
        let before = |time: SystemTime, by| time.checked_sub(by).unwrap_or(UNIX_EPOCH);
        let oldest = self.live_runs()?.iter().map(|live| live.began).min();
        let oldest = oldest.map_or(now, |began| UNIX_EPOCH + Duration::from_secs(began)).min(now);
        let safe = before(oldest, GRACE);
        let sweep = Sweep { dry_run, ..Sweep::default() };
        let (marked, manifests, chunks) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let unused = before(now, keep).min(safe);
        let mut sweeper = Sweeper { store: self, safe, unused, sweep, marked, manifests, chunks };
        sweeper.mark_runs()?;
        let records = sweeper.mark_records()?;
        sweeper.sweep_records(&records)?;
        sweeper.sweep_files()?;
        sweeper.sweep_work()?;
        sweeper.sweep_checkpoints()?;
        Ok(sweeper.sweep)
    }
}

/// A record as the sweep sees it.
struct Found {
    entry: Entry,
    /// Its manifests; `None` for what this program cannot read.
    manifests: Option<Vec<Digest>>,
    key: Option<Digest>,
    /// Keys of what it was assembled from, which have records of their own.
    units: Vec<Digest>,
    kept: bool,
}

struct Sweeper<'a> {
    store: &'a Store,
    /// What is younger may be in use.
    safe: SystemTime,
    /// What is older was not used in the time to keep.
    unused: SystemTime,
    sweep: Sweep,
    /// Files that stay.
    marked: BTreeSet<Digest>,
    manifests: BTreeMap<Digest, Option<Manifest>>,
    /// Chunks by their lists: a whole and a part of it share them.
    chunks: BTreeMap<Digest, Option<Arc<Chunk>>>,
}

impl Sweeper<'_> {
    /// Marks an artifact and adds what is new in it to an amount.
    fn mark(&mut self, manifest: &Digest, kept: &mut Kept) {
        let size = |digest| fs::metadata(self.store.blob(digest)).map_or(0, |meta| meta.len());
        let files: Vec<(Digest, u64)> = self.manifest(manifest).map(files_of).unwrap_or_default();
        for (digest, bytes) in files.into_iter().chain([(*manifest, size(manifest))]) {
            if self.marked.insert(digest) {
                kept.files += 1;
                kept.bytes += bytes;
            }
        }
    }

    /// A stored manifest; `None` when it is gone or not one. A sweep is no place for repairs.
    fn manifest(&mut self, digest: &Digest) -> Option<&Manifest> {
        let Self { store, manifests, chunks, .. } = self;
        let read = |digest: &Digest| fs::read(store.blob(digest)).ok();
        let mut leaf = |list: &Digest| {
            let found = || Manifest::read_leaf(&read(list)?).ok();
            let chunk = chunks.entry(*list).or_insert_with(found).clone();
            chunk.ok_or_else(|| "a chunk is gone".to_owned())
        };
        let mut found = || Manifest::read(&read(digest)?, &mut leaf).ok();
        manifests.entry(*digest).or_insert_with(&mut found).as_ref()
    }

    fn mark_all<'d>(&mut self, why: String, manifests: impl Iterator<Item = &'d Digest>) {
        let mut kept = Kept { why, files: 0, bytes: 0 };
        manifests.for_each(|manifest| self.mark(manifest, &mut kept));
        self.sweep.kept.push(kept);
    }

    /// Marks the results of pinned and of last runs.
    fn mark_runs(&mut self) -> Result<(), StoreError> {
        let runs = self.store.ended_runs()?;
        let results = |run: &Ended| {
            let cells = run.report.cells.iter().flat_map(|cell| cell.manifests.values());
            cells.copied().collect::<Vec<_>>()
        };
        for (name, id) in self.store.pins()? {
            let Some(run) = runs.iter().find(|run| run.report.run == id) else {
                let message = match self.store.run_report(&id) {
                    Ok(_) => format!("run `{id}` has just come to be"),
                    Err(error) => error.to_string(),
                };
                return Err(StoreError::UnreadablePin { name, message });
            };
            self.mark_all(format!("run `{id}`, pinned as `{name}`"), results(run).iter());
        }
        for (index, experiment) in last_runs(&runs) {
            let why = format!("run `{}`, a last one of `{experiment}`", runs[index].report.run);
            self.mark_all(why, results(&runs[index]).iter());
        }
        Ok(())
    }

    /// Marks what young records name, then finds the records all of whose files are kept.
    fn mark_records(&mut self) -> Result<Vec<Found>, StoreError> {
        let mut found: Vec<Found> = Vec::new();
        for entry in entries(&self.store.root().join("ac"))? {
            let Some(content) = read_record(&entry) else { continue };
            let (manifests, units) = match content {
                Content::Record(record) => {
                    (Some(record.outputs.values().copied().collect()), record.units)
                }
                Content::Foreign | Content::Bad(_) => (None, Vec::new()),
            };
            let key = digest_of_name(&entry.name);
            let kept = modified(&entry.path).is_none_or(|time| time >= self.unused);
            found.push(Found { entry, manifests, key, units, kept });
        }
        let young = found.iter().filter(|record| record.kept).filter_map(|r| r.manifests.as_ref());
        let young: Vec<Digest> = young.flatten().copied().collect();
        let days = self.unused.elapsed().unwrap_or_default().as_secs_f64() / 86_400.0;
        self.mark_all(format!("made or used in the last {days:.1} days"), young.iter());
        for record in found.iter_mut().filter(|record| !record.kept) {
            let Some(manifests) = &record.manifests else { continue };
            record.kept = manifests.iter().all(|digest| self.is_covered(digest));
            if record.kept {
                self.marked.extend(manifests);
            }
        }
        Ok(found)
    }

    /// Whether every part of an artifact stays anyway.
    fn is_covered(&mut self, manifest: &Digest) -> bool {
        let files: Option<Vec<(Digest, u64)>> = self.manifest(manifest).map(files_of);
        files.is_some_and(|files| files.iter().all(|(file, _)| self.marked.contains(file)))
    }

    fn sweep_records(&mut self, records: &[Found]) -> Result<(), StoreError> {
        let mut late = Kept { why: String::new(), files: 0, bytes: 0 };
        // Wholes first: what one that came to be used was assembled from stays with it.
        let assembled = records.iter().filter(|record| !record.units.is_empty());
        let assembled: BTreeSet<Digest> = assembled.filter_map(|record| record.key).collect();
        let rank = |record: &Found| match record.units.iter().any(|u| assembled.contains(u)) {
            true => 0,
            false if !record.units.is_empty() => 1,
            false => 2,
        };
        let mut going: Vec<&Found> = records.iter().filter(|record| !record.kept).collect();
        going.sort_by_key(|record| rank(record));
        let mut touched = BTreeSet::new();
        for record in going {
            let manifests = record.manifests.as_deref().unwrap_or_default();
            let covered = !manifests.is_empty() && manifests.iter().all(|m| self.is_covered(m));
            if !covered && self.take(&record.entry.path, self.unused)? {
                self.sweep.records.add(record.entry.bytes);
                touched.extend(record.entry.path.parent().map(Path::to_owned));
            } else {
                manifests.iter().for_each(|manifest| self.mark(manifest, &mut late));
            }
        }
        if !self.sweep.dry_run {
            // No loss of power may bring back a record whose files went after it.
            touched.iter().try_for_each(|folder| self.store.sync_folder(folder))?;
        }
        let known: BTreeSet<&Path> = records.iter().map(|r| r.entry.path.as_path()).collect();
        for entry in entries(&self.store.root().join("ac"))? {
            if known.contains(entry.path.as_path()) {
                continue;
            }
            if let Some(Content::Record(record)) = read_record(&entry) {
                record.outputs.values().for_each(|manifest| self.mark(manifest, &mut late));
            }
        }
        if late.files > 0 {
            late.why = "came to be used during the sweep".to_owned();
            self.sweep.kept.push(late);
        }
        Ok(())
    }

    fn sweep_files(&mut self) -> Result<(), StoreError> {
        for entry in entries(&self.store.root().join("cas"))? {
            let marked =
                digest_of_name(&entry.name).is_some_and(|name| self.marked.contains(&name));
            if marked || modified(&entry.path).is_none_or(|time| time >= self.safe) {
                continue;
            }
            // A file that has another name besides, in the folder of a run, goes on taking its place.
            let alone = fs::metadata(&entry.path).map_or(0, |meta| meta.nlink()) < 2;
            if self.take(&entry.path, self.safe)? {
                self.sweep.files.add(if alone { entry.bytes } else { 0 });
            }
        }
        Ok(())
    }

    /// Removes a file unless it was used since `since`; the name goes first.
    fn take(&self, path: &Path, since: SystemTime) -> Result<bool, StoreError> {
        if self.sweep.dry_run {
            return Ok(true);
        }
        let grave = self.store.temporary("swept");
        match self.store.disk().rename(path, &grave) {
            // Another sweep has it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            moved => moved.map_err(StoreError::io("remove", path))?,
        }
        let used = modified(&grave).is_none_or(|time| time >= since);
        if used {
            // Where the name is taken again, the same content is there already.
            let _ = self.store.disk().link(&grave, path);
        }
        match self.store.disk().remove(&grave) {
            // A sweep on another machine has taken it for abandoned work.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(StoreError::io("remove", &grave))?,
        }
        Ok(!used)
    }

    fn sweep_work(&mut self) -> Result<(), StoreError> {
        let root = self.store.root();
        for path in list(&root.join("tmp"))? {
            // Of another sweep that is under way what it has just taken is there, and may be old.
            let in_use = process::owner_is_alive(&name_of(&path)) == Some(true);
            if !in_use && newest(&path) < self.safe {
                self.sweep.work.add(self.discard(&path)?);
            }
        }
        for path in list(&root.join("lease"))? {
            let key = name_of(&path).parse().ok();
            let held = key.is_some_and(|key| self.store.holder(&key).is_some());
            if !held && newest(&path) < self.safe {
                self.sweep.work.add(self.discard(&path)?);
            }
        }
        for path in [list(&root.join("recall"))?, list(&root.join("graphs"))?].concat() {
            if newest(&path) < self.unused.min(self.safe) {
                self.sweep.work.add(self.discard(&path)?);
            }
        }
        for path in list(&root.join("quarantine"))? {
            if newest(&path) < self.unused {
                self.sweep.quarantine.add(self.discard(&path)?);
            }
        }
        for path in list(&root.join("runs"))? {
            let ended = path.join("run.json").exists();
            if !ended && live_run(&path).is_none() && newest(&path) < self.unused {
                self.sweep.work.add(self.discard(&path)?);
            }
        }
        Ok(())
    }

    /// Removes checkpoints of keys that have a result, and those that nobody has come back for.
    fn sweep_checkpoints(&mut self) -> Result<(), StoreError> {
        for path in list(&self.store.root().join("ckpt"))? {
            let key: Option<Digest> = name_of(&path).parse().ok();
            let held = key.is_some_and(|key| self.store.holder(&key).is_some());
            let recorded = key.is_none_or(|key| self.store.record_path(&key).exists());
            let limit = if recorded { self.safe } else { self.unused };
            if !held && newest(&path) < limit {
                self.sweep.checkpoints.add(self.discard(&path)?);
            }
        }
        Ok(())
    }

    /// Removes a file or folder and says how much it took.
    fn discard(&self, path: &Path) -> Result<u64, StoreError> {
        let bytes = size_of(path);
        if self.sweep.dry_run {
            return Ok(bytes);
        }
        let disk = self.store.disk();
        let removed = if path.is_dir() { disk.remove_folder(path) } else { disk.remove(path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(bytes),
        }
    }
}

/// The files of an artifact with their sizes, but for its own list.
fn files_of(manifest: &Manifest) -> Vec<(Digest, u64)> {
    let leaves = manifest.leaves().map(|(list, _)| (list.digest, list.bytes));
    leaves.chain(manifest.parts().map(|part| (part.blob, part.bytes))).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// When a file was changed or used last; `None` when it is gone.
fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok()
}

/// When anything in a file or folder was changed last; now for what is gone.
fn newest(path: &Path) -> SystemTime {
    let own = modified(path).unwrap_or_else(SystemTime::now);
    below(path).iter().map(|path| newest(path)).fold(own, SystemTime::max)
}

/// Size of the files in a file or folder.
pub(super) fn size_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => below(path).iter().map(|path| size_of(path)).sum(),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}

/// The entries of a folder; nothing below a link is looked at.
fn below(path: &Path) -> Vec<PathBuf> {
    let folder = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if folder { list(path).unwrap_or_default() } else { Vec::new() }
}
