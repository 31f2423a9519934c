//! What of a store would be left if the power went now.
//!
//! A disk keeps the bytes of a file as they were when it was last synced, and the names in a folder as they were when the
//! folder was last synced. Of everything since, any part may be there: each name is as it was at some moment since
//! then, each file is whole, as before, cut off, or full of zeros. This is the worst that POSIX allows, and worse than what
//! one file system does.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use engine::Step;

use super::{project::walk, random::Random};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Absent,
    Folder,
    /// Index of the file.
    File(usize),
}

/// What a name stood for when its folder was synced, and what it has stood for since.
struct Name {
    durable: Entry,
    since: Vec<Entry>,
}

impl Name {
    fn now(&self) -> Entry {
        self.since.last().copied().unwrap_or(self.durable)
    }
}

/// The bytes of a file.
#[derive(Default)]
struct Bytes {
    /// As they were synced.
    synced: Option<Vec<u8>>,
    /// As they were when the file lost a name.
    last: Option<Vec<u8>>,
    /// Whether they have changed since they were synced.
    dirty: bool,
}

/// How much is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Everything that was not synced.
    Most,
    /// No name, but the bytes of every file that was not synced.
    Bytes,
    /// Any part of it.
    Any,
}

/// The names and files of a store, as they are and as they were synced.
pub struct Shadow {
    root: PathBuf,
    names: BTreeMap<PathBuf, Name>,
    files: Vec<Bytes>,
}

impl Shadow {
    /// Takes everything that is there for synced.
    pub fn of(root: &Path) -> Self {
        let mut shadow = Self { root: root.to_owned(), names: BTreeMap::new(), files: Vec::new() };
        for path in walk(root) {
            for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
                let name = Name { durable: Entry::Folder, since: Vec::new() };
                shadow.names.insert(folder.to_owned(), name);
            }
            let synced = fs::read(&path).ok();
            shadow.files.push(Bytes { synced, last: None, dirty: false });
            let durable = Entry::File(shadow.files.len() - 1);
            shadow.names.insert(path, Name { durable, since: Vec::new() });
        }
        shadow
    }

    /// What a path stands for; a file that a stage has written is met here for the first time.
    fn entry(&mut self, path: &Path) -> Entry {
        match self.names.get(path).map(Name::now) {
            Some(entry) if entry != Entry::Absent => entry,
            _ if path.is_file() => self.new_file(path),
            _ => Entry::Absent,
        }
    }

    fn new_file(&mut self, path: &Path) -> Entry {
        self.files.push(Bytes { dirty: true, ..Bytes::default() });
        let entry = Entry::File(self.files.len() - 1);
        self.set(path, entry);
        entry
    }

    fn set(&mut self, path: &Path, entry: Entry) {
        let absent = || Name { durable: Entry::Absent, since: Vec::new() };
        self.names.entry(path.to_owned()).or_insert_with(absent).since.push(entry);
    }

    /// Keeps what a step is about to take away.
    pub fn before(&mut self, step: &Step<'_>) {
        let (Step::Remove(path) | Step::Rename(_, path) | Step::Write(path, _)) = *step else {
            return;
        };
        if let Entry::File(file) = self.entry(path) {
            self.files[file].last = fs::read(path).ok();
        }
    }

    /// Takes notice of a step that was taken.
    pub fn after(&mut self, step: &Step<'_>) {
        match *step {
            Step::Read(_) | Step::Mark(_) | Step::Wait => {}
            Step::MakeFolder(path) => {
                let root = self.root.clone();
                let above: Vec<&Path> =
                    path.ancestors().take_while(|folder| folder.starts_with(&root)).collect();
                for folder in above.into_iter().rev() {
                    if self.names.get(folder).map(Name::now) != Some(Entry::Folder) {
                        self.set(folder, Entry::Folder);
                    }
                }
            }
            Step::Write(path, _) | Step::Append(path) => match self.entry(path) {
                Entry::File(file) => self.files[file].dirty = true,
                _ => {
                    self.new_file(path);
                }
            },
            Step::Sync(path) => {
                if let Entry::File(file) = self.entry(path) {
                    let synced = fs::read(path).ok();
                    self.files[file] = Bytes { synced, last: None, dirty: false };
                }
            }
            Step::SyncFolder(folder) => {
                for (path, name) in &mut self.names {
                    if path.parent() == Some(folder) {
                        name.durable = name.now();
                        name.since.clear();
                    }
                }
            }
            Step::Link(from, to) => {
                let entry = self.entry(from);
                self.set(to, entry);
            }
            Step::Rename(from, to) => {
                let known =
                    self.names.get(from).map(Name::now).filter(|known| *known != Entry::Absent);
                // A file that was met for the first time has its new name already.
                let entry = known.unwrap_or_else(|| self.entry(to));
                self.set(to, entry);
                self.set(from, Entry::Absent);
            }
            Step::Remove(path) => self.set(path, Entry::Absent),
            Step::RemoveFolder(path) => self.names.retain(|name, _| !name.starts_with(path)),
        }
    }

    /// Turns the store into what the power left of it.
    ///
    /// # Errors
    /// Whatever keeps a file from being written.
    pub fn lose(&self, loss: Loss, random: &mut Random) -> io::Result<()> {
        let mut bytes = BTreeMap::new();
        // Files first: what they are now is read from names that the second step takes away.
        for (path, name) in &self.names {
            if let Entry::File(file) = name.now()
                && !bytes.contains_key(&file)
            {
                let now = fs::read(path).ok();
                bytes.insert(file, self.left(file, now, loss, random));
            }
        }
        let mut gone: Vec<&Path> = Vec::new();
        for (path, name) in &self.names {
            if gone.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            let choice = match loss {
                Loss::Most => 0,
                Loss::Bytes => name.since.len(),
                Loss::Any => random.below(name.since.len() + 1),
            };
            let entry = if choice == 0 { name.durable } else { name.since[choice - 1] };
            if self.put(path, name.now(), entry, &mut bytes, loss, random)? {
                gone.push(path);
            }
        }
        Ok(())
    }

    /// Makes a path what it is after the loss; says whether it is gone.
    fn put(
        &self,
        path: &Path,
        now: Entry,
        entry: Entry,
        bytes: &mut BTreeMap<usize, Option<Vec<u8>>>,
        loss: Loss,
        random: &mut Random,
    ) -> io::Result<bool> {
        match entry {
            Entry::Absent => {
                if path.is_dir() {
                    fs::remove_dir_all(path)?;
                } else if path.exists() {
                    fs::remove_file(path)?;
                }
                return Ok(true);
            }
            Entry::Folder => fs::create_dir_all(path)?,
            Entry::File(file) => {
                let left = bytes.entry(file).or_insert_with(|| self.left(file, None, loss, random));
                if let Some(left) = left
                    && (now != entry || self.files[file].dirty)
                {
                    if path.exists() {
                        fs::remove_file(path)?;
                    }
                    fs::write(path, left)?;
                }
            }
        }
        Ok(false)
    }

    /// The bytes of a file after the loss; `None` where nothing changed.
    fn left(
        &self,
        file: usize,
        now: Option<Vec<u8>>,
        loss: Loss,
        random: &mut Random,
    ) -> Option<Vec<u8>> {
        let Bytes { synced, last, dirty } = &self.files[file];
        if !dirty {
            return synced.clone();
        }
        let mut now = now.or_else(|| last.clone())?;
        let before = synced.clone().unwrap_or_default();
        let cut = random.below(now.len() + 1);
        match (loss, random.below(5)) {
            (Loss::Most, _) | (_, 0) => return Some(before),
            (Loss::Any, 1) => {}
            (_, 2) => now.truncate(cut),
            (_, 3) => now[cut..].fill(0),
            _ => now.fill(0),
        }
        Some(now)
    }
}
