//! The store: content-addressed files, records that name them, and what runs leave behind.
//!
//! ```text
//! cas/aa/DIGEST           files of artifacts and their manifests, never changed
//! ac/kk/KEY               records: the fact that a key produced artifacts
//! cells/EXPERIMENT/NAME   what each cell did last, to explain what changed
//! runs/ID/                one folder a run: run.json, experiment.toml; live.json while it is under way
//! pins/NAME               runs whose results are kept
//! lease/KEY               who builds a key at present
//! ckpt/KEY/               checkpoints of cells that have not finished
//! tmp/, quarantine/       work in progress; files that were found damaged
//! ```
//!
//! A file is written in `tmp/`, hashed, synced and linked into `cas/`; when all files of a cell lie there, its record is
//! linked into `ac/`. So a readable record implies its files, and a crash anywhere leaves garbage only; a loss of power
//! may take the newest records of short work besides. No lock is needed: two processes that publish the same key write
//! the same name, and the first one wins.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    action::Action,
    artifact::{Manifest, Part},
    digest::Digest,
    disk::Disk,
    error::StoreError,
    memo::Memo,
    ports::MadeOutput,
};

/// What was written or used in this time is never swept away, so that a process may rely on what it has just seen.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);

/// A record of less work than this many seconds reaches the disk when the system thinks fit.
const WORTH_SYNCING: f64 = 1.0;

/// Format of records; another number makes every older record a miss.
pub(crate) const RECORD_FORMAT: u32 = 1;

/// An artifact in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Digest of its content.
    pub digest: Digest,
    /// Its parts.
    pub manifest: Manifest,
}

impl Stored {
    /// The manifest as it is stored.
    fn manifest_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.manifest).expect("a manifest is plain data")
    }

    /// Digest under which the manifest is stored; equal contents in different files have different ones.
    pub fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest_bytes())
    }
}

/// The outputs of a cell by port.
pub type Outputs = BTreeMap<String, Stored>;

/// The fact that a key produced artifacts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) key: Digest,
    pub(crate) stage: String,
    version: u32,
    /// Stored manifest by port.
    pub(crate) outputs: BTreeMap<String, Digest>,
    /// Keys of the shards that the outputs were assembled from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) units: Vec<Digest>,
    /// Time that the stage took.
    seconds: f64,
}

/// A record as it is written. Who looks for results passes over the rest.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    record: Record,
    action: Action,
}

/// What the store knows of a key.
#[derive(Debug)]
pub enum Lookup {
    /// A result, all its files in place.
    Hit(Outputs),
    /// No usable result; the note says what is wrong with one that was found.
    Miss(Option<String>),
}

/// A folder that holds artifacts and records.
pub struct Store {
    root: PathBuf,
    disk: Disk,
    memo: Memo,
    next: AtomicU64,
    /// Folders that a loss of power leaves.
    settled: Mutex<BTreeSet<PathBuf>>,
    /// Whether what is used is marked as used.
    marks: bool,
}

impl Store {
    /// Opens a store, making its folders where they are missing.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when a folder cannot be made or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_on(Disk::default(), root)
    }

    /// Opens a store as [`open`](Self::open) does, on a disk that may fail.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when a folder cannot be made or written.
    #[cfg(feature = "faults")]
    pub fn open_faulty(
        root: &Path,
        faults: std::sync::Arc<dyn crate::disk::Faults>,
    ) -> Result<Self, StoreError> {
        Self::open_on(Disk { faults: Some(faults) }, root)
    }

    fn open_on(disk: Disk, root: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Unusable { root: root.to_owned(), source };
        for folder in ["cas", "ac", "cells", "runs", "ckpt", "lease", "tmp"] {
            disk.make_folders(&root.join(folder)).map_err(unusable)?;
        }
        let store = Self::on(disk, root, true);
        // Found out now and not after hours of work.
        let probe = store.temporary("probe");
        let written = store.disk.write(&probe, b"");
        let removed = store.disk.remove(&probe);
        written.and(removed).map_err(unusable)?;
        Ok(store)
    }

    /// Looks at a store without making or probing anything; one that is not there is empty.
    pub fn for_reading(root: &Path) -> Self {
        Self::on(Disk::default(), root, false)
    }

    fn on(disk: Disk, root: &Path, marks: bool) -> Self {
        Self {
            root: root.to_owned(),
            memo: Memo::open(disk.clone(), root.join("memo.json")),
            disk,
            next: AtomicU64::new(0),
            settled: Mutex::default(),
            marks,
        }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The door to its files.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Digests of outside files.
    pub(crate) fn memo(&self) -> &Memo {
        &self.memo
    }

    /// Where a stored file lies.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("cas").join(&name[..2]).join(name)
    }

    /// A new empty folder for one unit of work.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be made.
    pub fn work_folder(&self) -> Result<PathBuf, StoreError> {
        let path = self.temporary("work");
        self.disk.make_folders(&path).map_err(StoreError::io("create", &path))?;
        Ok(path)
    }

    /// The folder for checkpoints of a key.
    pub fn checkpoint_folder(&self, key: &Digest) -> PathBuf {
        self.root.join("ckpt").join(key.to_string())
    }

    /// Looks a key up.
    ///
    /// Anything that cannot be read is a miss with a note: an entry of another version, a damaged one, one whose files are
    /// gone.
    pub fn look_up(&self, key: &Digest) -> Lookup {
        let path = self.record_path(key);
        let bytes = match self.read_used(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Lookup::Miss(None),
            Err(error) => {
                return Lookup::Miss(Some(format!("stored record cannot be read: {error}")));
            }
        };
        let record: Record = match open_sealed(&bytes) {
            Ok(record) => record,
            Err(note) => {
                let _ = self.disk.remove(&path);
                return Lookup::Miss(Some(format!("stored record is {note}; building it again")));
            }
        };
        if record.format != RECORD_FORMAT || record.key != *key {
            return Lookup::Miss(Some(format!(
                "stored record has format {}, this program writes {RECORD_FORMAT}; building it again",
                record.format
            )));
        }
        let outputs =
            record.outputs.iter().map(|(port, digest)| Ok((port.clone(), self.stored(digest)?)));
        match outputs.collect::<Result<_, String>>() {
            Ok(outputs) => Lookup::Hit(outputs),
            Err(note) => {
                // A record without its files would be a miss for ever: publishing does not replace.
                let _ = self.disk.remove(&path);
                Lookup::Miss(Some(note))
            }
        }
    }

    /// Reads a file that is relied on from now on.
    ///
    /// A sweep takes a file's name away and then looks at its time, so a file that has its name after its time was set
    /// stays.
    fn read_used(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = self.disk.open(path)?;
        if self.marks && self.mark_used(path, &file) {
            file = self.disk.open(path)?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The artifact of a stored manifest, if all its files are there in their sizes.
    fn stored(&self, digest: &Digest) -> Result<Stored, String> {
        let manifest = self.manifest(digest).map_err(|error| error.to_string())?;
        for part in &manifest.parts {
            let found = fs::metadata(self.blob(&part.blob)).map(|meta| meta.len()).ok();
            if found != Some(part.bytes) {
                let found = found.map_or("none".to_owned(), |bytes| format!("{bytes} bytes"));
                if found != "none" {
                    self.quarantine(&part.blob);
                }
                return Err(format!(
                    "stored part `{}` should have {} bytes, found {found}",
                    part.name, part.bytes
                ));
            }
        }
        Ok(Stored { digest: manifest.digest(), manifest })
    }

    /// Reads a stored manifest.
    ///
    /// # Errors
    /// [`StoreError::BadManifest`] when it is gone or damaged.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let bad = |message: String| StoreError::BadManifest { digest: *digest, message };
        let bytes = self.disk.read(&self.blob(digest)).map_err(|error| bad(error.to_string()))?;
        if Digest::of(&bytes) != *digest {
            self.quarantine(digest);
            return Err(bad("its bytes do not have its digest".to_owned()));
        }
        serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
    }

    /// Makes sure that a part's bytes are what they were when they were stored; hashes them at first use on this machine.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] after moving the file away, so that the next run makes it again.
    pub fn verify(&self, part: &Part) -> Result<PathBuf, StoreError> {
        let path = self.blob(&part.blob);
        let (digest, bytes) = self.memo.digest(&path).map_err(StoreError::io("read", &path))?;
        if digest == part.blob && bytes == part.bytes {
            return Ok(path);
        }
        self.quarantine(&part.blob);
        Err(StoreError::Damaged {
            path,
            expected: part.blob,
            expected_bytes: part.bytes,
            found_bytes: bytes,
        })
    }

    pub(crate) fn quarantine(&self, digest: &Digest) {
        let folder = self.root.join("quarantine");
        let from = self.blob(digest);
        let moved = self
            .disk
            .make_folders(&folder)
            .and_then(|()| self.disk.rename(&from, &folder.join(digest.to_string())));
        if moved.is_err() {
            let _ = self.disk.remove(&from);
        }
    }

    /// Stores what a stage has made on its ports and records it under `key`.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a file cannot be stored; nothing is recorded then.
    pub fn publish(
        &self,
        key: &Digest,
        action: &Action,
        made: Vec<(&'static str, &'static str, MadeOutput)>,
        seconds: f64,
    ) -> Result<Outputs, StoreError> {
        let mut touched = BTreeSet::new();
        let mut outputs = Outputs::new();
        for (port, kind, output) in made {
            let manifest = self.publish_parts(kind, &output, &mut touched)?;
            outputs.insert(port.to_owned(), Stored { digest: manifest.digest(), manifest });
        }
        self.record(key, action, &outputs, &[], seconds, &mut touched)?;
        Ok(outputs)
    }

    fn publish_parts(
        &self,
        kind: &str,
        output: &MadeOutput,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<Manifest, StoreError> {
        let mut parts = Vec::new();
        let entries =
            fs::read_dir(&output.folder).map_err(StoreError::io("list", &output.folder))?;
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &output.folder))?.path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let (blob, bytes) = self.publish_file(&path, touched)?;
            let content = output.contents.get(&name).copied().unwrap_or(blob);
            parts.push(Part { name, content, blob, bytes });
        }
        Ok(Manifest::new(kind, parts))
    }

    /// Records outputs whose parts are stored already, under the keys of their shards, under another key.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the record cannot be written.
    pub fn publish_record(
        &self,
        key: &Digest,
        action: &Action,
        outputs: &Outputs,
        units: &[Digest],
    ) -> Result<(), StoreError> {
        self.record(key, action, outputs, units, 0.0, &mut BTreeSet::new())
    }

    fn record(
        &self,
        key: &Digest,
        action: &Action,
        outputs: &Outputs,
        units: &[Digest],
        seconds: f64,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), StoreError> {
        let mut manifests = BTreeMap::new();
        for (port, stored) in outputs {
            let bytes = stored.manifest_bytes();
            let path = self.written("manifest", &bytes)?;
            let (digest, _) = self.publish_file(&path, touched)?;
            manifests.insert(port.clone(), digest);
        }
        touched.iter().try_for_each(|folder| self.sync_folder(folder))?;
        let record = Record {
            format: RECORD_FORMAT,
            key: *key,
            stage: action.stage.clone(),
            version: action.version,
            outputs: manifests,
            units: units.to_vec(),
            seconds,
        };
        let bytes = sealed(&Explained { record, action: action.without_parts() });
        let target = self.record_path(key);
        if seconds < WORTH_SYNCING {
            // Should it be lost or torn, its seal tells, and little work is done again.
            return self.link(&self.written("record", &bytes)?, &target);
        }
        let path = self.written("record", &bytes)?;
        self.disk.sync(&path).map_err(StoreError::io("sync", &path))?;
        self.link(&path, &target)?;
        self.sync_folder(target.parent().unwrap_or(&self.root))
    }

    /// Moves a finished file into `cas/`.
    fn publish_file(
        &self,
        path: &Path,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(Digest, u64), StoreError> {
        let (digest, bytes) = self.disk.digest(path).map_err(StoreError::io("read", path))?;
        let target = self.blob(&digest);
        let present = fs::metadata(&target).map(|meta| meta.len()).ok();
        let mark = |path: &Path| self.disk.open(path).map(|file| self.mark_used(path, &file));
        let used = || mark(&target).is_ok_and(|old| !old || target.exists());
        if present == Some(bytes) && used() {
            self.disk.remove(path).map_err(StoreError::io("remove", path))?;
            return Ok((digest, bytes));
        }
        if present.is_some_and(|present| present != bytes) {
            self.quarantine(&digest);
        }
        mark(path).map_err(StoreError::io("read", path))?;
        self.disk.sync(path).map_err(StoreError::io("sync", path))?;
        self.disk.protect(path).map_err(StoreError::io("protect", path))?;
        self.link(path, &target)?;
        touched.insert(target.parent().unwrap_or(&self.root).to_owned());
        Ok((digest, bytes))
    }

    /// Gives a finished file its final name, unless the name is taken; the temporary name goes either way.
    fn link(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let settled = to.parent().map_or(Ok(()), |folder| self.settle(folder));
        let linked = settled.and_then(|()| match self.disk.link(from, to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // Some file systems have no hard links; a rename is atomic too, and equal names hold equal bytes.
                self.disk.rename(from, to).map_err(StoreError::io("store", to)).map(|()| false)
            }
            _ => Ok(true),
        });
        match linked {
            Ok(false) => Ok(()),
            Ok(true) => self.disk.remove(from).map_err(StoreError::io("remove", from)),
            Err(error) => {
                let _ = self.disk.remove(from);
                Err(error)
            }
        }
    }

    /// Makes sure that a folder of the store is there and would be after a loss of power.
    ///
    /// Another process may have made it a moment ago and not synced its name: each one sees to that for itself.
    fn settle(&self, folder: &Path) -> Result<(), StoreError> {
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled().contains(folder) && folder.is_dir() {
            return Ok(());
        }
        if folder == self.root {
            // What lies above the store is its owner's, and perhaps not ours to open.
            let _ = folder.parent().map(|above| self.disk.sync_folder(above));
            settled().insert(folder.to_owned());
            return Ok(());
        }
        let above = folder.parent().unwrap_or(&self.root);
        self.settle(above)?;
        self.disk.make_folders(folder).map_err(StoreError::io("create", folder))?;
        // One sync is for all the folders beside it too.
        let beside = crate::upkeep::list(above)?;
        self.sync_folder(above)?;
        settled().extend(beside);
        Ok(())
    }

    /// What was done under a recorded key, but for the parts of its inputs.
    pub fn action(&self, key: &Digest) -> Option<Action> {
        #[derive(Deserialize)]
        struct Explanation {
            action: Action,
        }
        let bytes = self.disk.read(&self.record_path(key)).ok()?;
        open_sealed::<Explanation>(&bytes).ok().map(|found| found.action)
    }

    /// What a cell of an experiment did last.
    pub fn last<T: DeserializeOwned>(&self, experiment: &str, cell: &str) -> Option<T> {
        open_sealed(&self.disk.read(&self.cell_path(experiment, cell)).ok()?).ok()
    }

    /// Remembers what a cell of an experiment did.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn remember(
        &self,
        experiment: &str,
        cell: &str,
        state: &impl Serialize,
    ) -> Result<(), StoreError> {
        self.replace(&self.cell_path(experiment, cell), &sealed(state))
    }

    /// Writes a file of the store whole: readers see the old content or the new, never a part.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.written("file", bytes)?;
        let mut moved = self.disk.rename(&temporary, path);
        // The folder is nearly always there.
        if let (Err(error), Some(folder)) = (&moved, path.parent())
            && error.kind() == io::ErrorKind::NotFound
        {
            let made = self.disk.make_folders(folder);
            moved = made.and_then(|()| self.disk.rename(&temporary, path));
        }
        moved.map_err(|error| {
            let _ = self.disk.remove(&temporary);
            StoreError::io("write", path)(error)
        })
    }

    /// Makes a file young that is not; says whether it had to.
    ///
    /// The time of a file of another user may not be set: then its age is its owner's care.
    fn mark_used(&self, path: &Path, file: &fs::File) -> bool {
        let now = SystemTime::now();
        let modified = file.metadata().and_then(|meta| meta.modified()).unwrap_or(now);
        let old = now.duration_since(modified).is_ok_and(|age| age > GRACE / 2);
        if old {
            let _ = self.disk.touch(path);
        }
        old
    }

    /// A new file in `tmp/` with these bytes.
    fn written(&self, what: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.temporary(what);
        self.disk.write(&path, bytes).map_err(|error| {
            // On a full disk even the half of a file is too much to leave behind.
            let _ = self.disk.remove(&path);
            StoreError::io("write", &path)(error)
        })?;
        Ok(path)
    }

    /// Adds to the end of a file, in a folder that is made where it is missing.
    pub(crate) fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match (self.disk.append(path, bytes), path.parent()) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.make_folders(folder)?;
                self.disk.append(path, bytes)
            }
            (done, _) => done,
        }
    }

    pub(crate) fn sync_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.sync_folder(path).map_err(StoreError::io("sync", path))
    }

    fn cell_path(&self, experiment: &str, cell: &str) -> PathBuf {
        let name = Digest::of(cell.as_bytes()).to_string();
        self.root.join("cells").join(safe(experiment)).join(&name[..32])
    }

    pub(crate) fn record_path(&self, key: &Digest) -> PathBuf {
        let name = key.to_string();
        self.root.join("ac").join(&name[..2]).join(name)
    }

    /// A name in `tmp/` that no other thread or process uses.
    pub(crate) fn temporary(&self, what: &str) -> PathBuf {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanoseconds = time.map_or(0, |age| age.as_nanos());
        self.root.join("tmp").join(format!("{what}-{}-{nanoseconds}-{n}", std::process::id()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.memo.save();
    }
}

/// A name that is one path component whatever an experiment calls itself.
pub(crate) fn safe(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }
    };
    name.chars().map(plain).collect()
}

/// JSON and a line with its digest.
fn sealed(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("records are plain data");
    bytes.extend(seal(&bytes));
    bytes
}

fn seal(body: &[u8]) -> Vec<u8> {
    format!("\n{}\n", Digest::of(body)).into_bytes()
}

pub(crate) fn open_sealed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, &'static str> {
    let split = bytes.len().checked_sub(66).ok_or("truncated")?;
    let (body, stated) = bytes.split_at(split);
    if stated != seal(body) {
        return Err("damaged");
    }
    serde_json::from_slice(body).map_err(|_| "of another version")
}
