//! The store: content-addressed files, records that name them, and what runs leave behind.
//!
//! ```text
//! cas/aa/DIGEST           files of artifacts and their manifests, never changed
//! ac/kk/KEY               records: the fact that a key produced artifacts
//! cells/EXPERIMENT/NAME   what each cell did last, to explain what changed
//! recall/EXPERIMENT       what the last look-ups found, to save time
//! graphs/REQUEST          what the keys of an experiment followed from when all its cells were fresh, to save time
//! runs/ID/                one folder a run: run.json, experiment.toml; live.json while it is under way
//! pins/NAME               runs whose results are kept; runs/ID/pins/NAME says so too
//! lease/KEY               who builds a key at present
//! ckpt/KEY/               checkpoints of cells that have not finished
//! tmp/, quarantine/       work in progress; files that were found damaged
//! ```
//!
//! A file is written in `tmp/`, hashed, synced and linked into `cas/`; when all files of a cell lie there, its record is
//! linked into `ac/`. So a readable record implies its files, and a crash anywhere leaves garbage only; a loss of power
//! may take the newest records of short work besides. No lock is needed: two processes that publish the same key write
//! the same name, and the first one wins.

mod publish;
mod workplace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    action::Action,
    artifact::{Chunk, Manifest, Part},
    digest::Digest,
    disk::Disk,
    error::StoreError,
    memo::Memo,
    process,
    seal::{open_sealed, sealed},
};

pub(crate) use workplace::{Room, Workplace};

/// What was written or used in this time is never swept away, so that a process may rely on what it has just seen.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);

/// Format of records; another number makes every older record a miss.
pub(crate) const RECORD_FORMAT: u32 = 2;

/// An artifact in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Digest of its content.
    pub digest: Digest,
    /// Its parts.
    pub manifest: Manifest,
}

impl From<Manifest> for Stored {
    fn from(manifest: Manifest) -> Self {
        Self { digest: manifest.digest(), manifest }
    }
}

impl Stored {
    /// Digest under which the manifest is stored; equal contents in different files have different ones.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest.list_file().digest
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
    /// Keys of what the outputs were assembled from: shards or, where they are very many, some shards together.
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
    Hit(Arc<Outputs>),
    /// No usable result; the note says what is wrong with one that was found.
    Miss(Option<String>),
}

/// A folder that holds artifacts and records.
pub struct Store {
    root: PathBuf,
    disk: Disk,
    memo: Memo,
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
        store.remove_remains();
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

    /// A store that trusts files however young they are, for tests in which none changes within a tick of the clock.
    #[cfg(any(test, feature = "faults"))]
    #[must_use]
    pub fn trusting_young_files(mut self) -> Self {
        self.memo.racy = Duration::ZERO;
        self
    }

    fn on(disk: Disk, root: &Path, marks: bool) -> Self {
        Self {
            root: root.to_owned(),
            memo: Memo::open(disk.clone(), root),
            disk,
            settled: Mutex::default(),
            marks,
        }
    }

    /// Removes what processes that are gone have left in `tmp/`.
    fn remove_remains(&self) {
        for path in crate::upkeep::list(&self.root.join("tmp")).unwrap_or_default() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if process::owner_is_alive(&name) != Some(false) {
                continue;
            }
            // Another process may be about the same.
            let _ = if path.is_dir() {
                self.disk.remove_folder(&path)
            } else {
                self.disk.remove(&path)
            };
        }
    }

    /// Whether what is used is marked as used.
    pub(crate) fn marks(&self) -> bool {
        self.marks
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
        self.place_of("cas", digest)
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
                return self.useless(&path, format!("stored record is {note}; building it again"));
            }
        };
        if record.format != RECORD_FORMAT {
            let format = record.format;
            let note = format!("stored record has format {format}, this program writes");
            return self.useless(&path, format!("{note} {RECORD_FORMAT}; building it again"));
        }
        if record.key != *key {
            return self.useless(&path, "stored record is that of another key".to_owned());
        }
        let outputs =
            record.outputs.iter().map(|(port, digest)| Ok((port.clone(), self.stored(digest)?)));
        match outputs.collect::<Result<_, String>>() {
            Ok(outputs) => Lookup::Hit(Arc::new(outputs)),
            Err(note) => self.useless(&path, note),
        }
    }

    /// A record that is of no use: it would be a miss for ever, because publishing does not replace.
    fn useless(&self, path: &Path, note: String) -> Lookup {
        if self.marks {
            let _ = self.disk.remove(path);
        }
        Lookup::Miss(Some(note))
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
        manifest.parts().try_for_each(|part| self.is_present(part))?;
        Ok(manifest.into())
    }

    /// Whether a part's file is there in its size.
    pub(crate) fn is_there(&self, part: &Part) -> bool {
        fs::metadata(self.blob(&part.blob)).is_ok_and(|meta| meta.len() == part.bytes)
    }

    /// The same in words; a file of another size is moved away.
    fn is_present(&self, part: &Part) -> Result<(), String> {
        let found = match fs::metadata(self.blob(&part.blob)) {
            Ok(meta) if meta.len() == part.bytes => return Ok(()),
            Ok(meta) => {
                self.quarantine(&part.blob);
                format!("{} bytes", meta.len())
            }
            Err(_) => "none".to_owned(),
        };
        let Part { name, bytes, .. } = part;
        Err(format!("stored part `{name}` should have {bytes} bytes, found {found}"))
    }

    /// Reads a stored manifest.
    ///
    /// # Errors
    /// [`StoreError::BadManifest`] when it is gone or damaged.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let read = self.read_list(digest);
        let manifest = read.and_then(|bytes| {
            Manifest::read(&bytes, &mut |leaf| Manifest::read_leaf(&self.read_list(leaf)?))
        });
        manifest.map_err(|message| StoreError::BadManifest { digest: *digest, message })
    }

    /// The chunk of a stored list, if it is there and whole.
    pub(crate) fn chunk(&self, list: &Digest) -> Option<Arc<Chunk>> {
        Manifest::read_leaf(&self.read_list(list).ok()?).ok()
    }

    fn read_list(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let bytes = self.disk.read(&self.blob(digest)).map_err(|error| error.to_string())?;
        if Digest::of(&bytes) != *digest {
            self.quarantine(digest);
            return Err("its bytes do not have its digest".to_owned());
        }
        Ok(bytes)
    }

    /// Makes sure that a part's bytes are what they were when they were stored; hashes them at first use on this machine.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] after moving the file away, so that the next run makes it again.
    pub fn verify(&self, part: &Part) -> Result<PathBuf, StoreError> {
        let path = self.blob(&part.blob);
        let found = self.memo.stored(&part.blob, &path);
        let (digest, bytes) = found.map_err(StoreError::io("read", &path))?;
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

    /// The same, and sees to it that a loss of power does not take it back.
    pub(crate) fn replace_synced(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.written("file", bytes)?;
        let synced = self.disk.sync(&temporary).map_err(StoreError::io("sync", &temporary));
        let folder = path.parent().unwrap_or(&self.root);
        let moved = synced.and_then(|()| {
            self.settle(folder)?;
            self.disk.rename(&temporary, path).map_err(StoreError::io("write", path))
        });
        if moved.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        moved.and_then(|()| self.sync_folder(folder))
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
        self.place_of("ac", key)
    }

    fn place_of(&self, folder: &str, digest: &Digest) -> PathBuf {
        // There are very many of these: one allocation each.
        const LONGEST: usize = "/cas/aa/".len() + 64;
        let name = digest.to_string();
        let mut path = PathBuf::with_capacity(self.root.as_os_str().len() + LONGEST);
        [self.root.as_os_str(), folder.as_ref(), name[..2].as_ref(), name.as_ref()]
            .into_iter()
            .for_each(|step| path.push(step));
        path
    }

    /// A name in `tmp/` that no other thread or process uses, and that says whose it is.
    pub(crate) fn temporary(&self, what: &str) -> PathBuf {
        self.root.join("tmp").join(format!("{what}-{}", process::unique()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What cannot be written costs time, not correctness.
        for (path, bytes) in self.memo.changes(|name| self.blob(name).exists()) {
            let _ = self.replace(&path, &bytes);
        }
    }
}

/// A name that is one path component whatever an experiment calls itself.
pub(crate) fn safe(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }
    };
    name.chars().map(plain).collect()
}
