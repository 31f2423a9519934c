//! What the last look-ups of an experiment's cells found, so that a run with nothing to do need not read every record.
//!
//! A look-up reads a record and the lists of parts that it names, and sees whether the parts are there. Here it is kept what
//! was read and from which files: while these are the same by inode, size and both times, reading them again would give
//! the same, so it is not done. Everything else is: the record is marked as used, and that each part is there in its size is
//! looked at each time. What was removed, replaced, cut off or written over is therefore seen just as without. Bytes that
//! changed without the system's knowledge are not; of a record or a list they do not matter, because what it said is
//! known, and those of a part are found when it is used first, and by `verify`, as without.
//!
//! A file younger than two seconds when it was read is not trusted, as in the [memo](crate::memo), and artifacts of several
//! chunks are left to the store. The file `recall/EXPERIMENT` is written whole when something in it has changed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    artifact::{ListFile, Manifest, Part},
    compact::{Reader, Writer},
    digest::Digest,
    memo::Stat,
    store::{Lookup, Outputs, Store, safe},
};

/// Kind and version of the file.
const KIND: &str = "recall 1";

const MANY: usize = 1000;

/// A look-up that found something.
struct Entry {
    /// The record.
    record: Stat,
    /// The lists that it names, in the order of the ports.
    lists: Vec<Stat>,
    outputs: Arc<Outputs>,
    used: bool,
    /// Whether its files were looked at already for the next look-up.
    ahead: bool,
}

impl Entry {
    /// Whether its files are what they were; marks the record as used.
    fn holds(&mut self, store: &Store, key: &Digest) -> bool {
        let path = store.record_path(key);
        if Stat::of(&path).ok() != Some(self.record) {
            return false;
        }
        if store.marks() && self.record.is_aged() {
            // The order of `Store::read_used`: what has its name after its time was set stays.
            let _ = store.disk().touch(&path);
            match Stat::of(&path) {
                Ok(now) if now.is_same_file(&self.record) => self.record = now,
                _ => return false,
            }
        }
        self.outputs.values().zip(&self.lists).all(|(stored, list)| {
            let path = store.blob(&stored.manifest_digest());
            Stat::of(&path).is_ok_and(|now| now == *list)
                && stored.manifest.parts().all(|part| store.is_there(part))
        })
    }
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Digest, Entry>,
    changed: bool,
}

/// The look-ups of an experiment.
pub(crate) struct Recall<'a> {
    store: &'a Store,
    path: PathBuf,
    /// From so many entries on it is worth while to look ahead.
    many: usize,
    state: Mutex<State>,
}

impl<'a> Recall<'a> {
    /// What is kept of an experiment; nothing where it cannot be read.
    pub(crate) fn open(store: &'a Store, experiment: &str) -> Self {
        let path = store.root().join("recall").join(safe(experiment));
        let bytes = store.disk().read(&path).unwrap_or_default();
        let entries = read(&bytes).unwrap_or_default();
        let state = Mutex::new(State { entries, changed: false });
        Self { store, path, many: MANY, state }
    }

    /// Looks at the files of all that is kept, on all cores, where a run is about to ask for most of it.
    pub(crate) fn look_ahead(&self, n_cells: usize) {
        let mut state = self.state();
        let State { entries, changed } = &mut *state;
        if entries.len() < self.many || n_cells < entries.len() / 2 {
            return;
        }
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let each = entries.len().div_ceil(n_threads);
        let mut entries: Vec<_> = entries.iter_mut().collect();
        let look = |(key, entry): &mut (&Digest, &mut Entry)| {
            let record = entry.record;
            entry.ahead = entry.holds(self.store, key);
            record != entry.record
        };
        *changed |= std::thread::scope(|scope| {
            // What no thread can be had for is looked at when it is asked for.
            let pieces = entries.chunks_mut(each).filter_map(|piece| {
                let look = move || piece.iter_mut().fold(false, |any, entry| look(entry) | any);
                std::thread::Builder::new().spawn_scoped(scope, look).ok()
            });
            let pieces: Vec<_> = pieces.collect();
            pieces.into_iter().fold(false, |any, piece| piece.join().unwrap_or(true) | any)
        });
    }

    /// Looks a key up as [`Store::look_up`] does.
    pub(crate) fn look_up(&self, key: &Digest) -> Lookup {
        match self.recalled(key) {
            Some(outputs) => Lookup::Hit(outputs),
            None => self.looked_up(key),
        }
    }

    /// What is known of a key, if its files are what they were.
    pub(crate) fn recalled(&self, key: &Digest) -> Option<Arc<Outputs>> {
        let mut state = self.state();
        let State { entries, changed } = &mut *state;
        let entry = entries.get_mut(key)?;
        if !std::mem::take(&mut entry.ahead) {
            let record = entry.record;
            let holds = entry.holds(self.store, key);
            *changed |= record != entry.record;
            holds.then_some(())?;
        }
        entry.used = true;
        Some(entry.outputs.clone())
    }

    /// Looks into the store, and keeps what was found there if a change from now on would show.
    fn looked_up(&self, key: &Digest) -> Lookup {
        let path = self.store.record_path(key);
        let before = Stat::of(&path);
        let found = self.store.look_up(key);
        let (Lookup::Hit(outputs), Ok(record)) = (&found, before) else { return found };
        if let Some(lists) = self.lists(outputs)
            && record.is_settled(self.store.memo().racy)
            && lists.iter().all(|list| list.is_settled(self.store.memo().racy))
            && Stat::of(&path).is_ok_and(|now| now == record)
        {
            let outputs = outputs.clone();
            let entry = Entry { record, lists, outputs, used: true, ahead: false };
            let mut state = self.state();
            state.entries.insert(*key, entry);
            state.changed = true;
        }
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lists of an artifact on each port as they are now; `None` where there are more files than that.
    fn lists(&self, outputs: &Outputs) -> Option<Vec<Stat>> {
        let list = |manifest: &Manifest| {
            let file = manifest.list_file();
            let found = Stat::of(&self.store.blob(&file.digest)).ok()?;
            (manifest.chunks().len() == 1 && found.bytes == file.bytes).then_some(found)
        };
        outputs.values().map(|stored| list(&stored.manifest)).collect()
    }

    /// Writes what has changed. It costs time alone when it cannot be written.
    pub(crate) fn save(&self) {
        let mut state = self.state();
        let n_used = state.entries.values().filter(|entry| entry.used).count();
        let n_unused = state.entries.len() - n_used;
        if !self.store.marks() || !std::mem::take(&mut state.changed) {
            return;
        }
        // What a changed experiment does not use any more, or a part of it only.
        if n_unused > n_used + 1000 {
            state.entries.retain(|_, entry| entry.used);
        }
        let _ = self.store.replace(&self.path, &written(&state.entries));
    }
}

fn written(entries: &BTreeMap<Digest, Entry>) -> Vec<u8> {
    let mut writer = Writer::new(KIND);
    for (key, entry) in entries {
        writer.digest(key);
        entry.record.write(&mut writer);
        writer.number(entry.outputs.len() as u64);
        for ((port, stored), list) in entry.outputs.iter().zip(&entry.lists) {
            let manifest = &stored.manifest;
            writer.text(port);
            list.write(&mut writer);
            writer.digest(&manifest.list_file().digest);
            writer.digest(&manifest.digest());
            writer.text(&manifest.kind);
            writer.number(manifest.n_parts() as u64);
            for Part { name, content, blob, bytes } in manifest.parts() {
                writer.text(name);
                writer.digest(content);
                writer.digest(blob);
                writer.number(*bytes);
            }
        }
    }
    writer.finish()
}

fn read(bytes: &[u8]) -> Option<BTreeMap<Digest, Entry>> {
    let mut reader = Reader::open(bytes, KIND)?;
    let mut entries = Vec::new();
    while !reader.is_at_end() {
        let (key, record) = (reader.digest()?, Stat::read(&mut reader)?);
        let (mut lists, mut outputs) = (Vec::new(), Outputs::new());
        for _ in 0..reader.number()? {
            let port = reader.text()?.to_owned();
            let list = Stat::read(&mut reader)?;
            outputs.insert(port, read_manifest(&mut reader, list.bytes)?.into());
            lists.push(list);
        }
        let outputs = Arc::new(outputs);
        entries.push((key, Entry { record, lists, outputs, used: false, ahead: false }));
    }
    Some(entries.into_iter().collect())
}

fn read_manifest(reader: &mut Reader<'_>, bytes: u64) -> Option<Manifest> {
    let file = ListFile { digest: reader.digest()?, bytes };
    let (digest, kind) = (reader.digest()?, reader.text()?);
    let mut parts = Vec::new();
    for _ in 0..reader.number()? {
        let name = reader.text()?.to_owned();
        let (content, blob) = (reader.digest()?, reader.digest()?);
        parts.push(Part { name, content, blob, bytes: reader.number()? });
    }
    Some(Manifest::known(kind, parts, digest, file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::{
        fs,
        path::Path,
        time::{Duration, SystemTime},
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        seal::open_sealed,
        store::{RECORD_FORMAT, Record, Stored},
        toy::{Toy, next_stamp, walk},
    };

    /// What a look-up must find, read from every file and without touching any.
    fn expected(store: &Store, key: &Digest) -> Option<Outputs> {
        let record: Record = open_sealed(&fs::read(store.record_path(key)).ok()?).ok()?;
        if record.format != RECORD_FORMAT || record.key != *key {
            return None;
        }
        let stored = |list: &Digest| -> Option<Stored> {
            let read = |list: &Digest| {
                fs::read(store.blob(list)).ok().filter(|bytes| Digest::of(bytes) == *list)
            };
            let leaf = &mut |list: &Digest| {
                Manifest::read_leaf(&read(list).ok_or_else(|| "gone".to_owned())?)
            };
            let manifest = Manifest::read(&read(list)?, leaf).ok()?;
            let there = |part: &Part| {
                fs::metadata(store.blob(&part.blob)).is_ok_and(|meta| meta.len() == part.bytes)
            };
            manifest.parts().all(there).then(|| manifest.clone().into())
        };
        let outputs = record.outputs.iter().map(|(port, list)| Some((port.clone(), stored(list)?)));
        outputs.collect()
    }

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Flip,
        Truncate,
        Delete,
        /// Other bytes of the same size and the same time under the same name.
        Replace,
        /// In the place of another file.
        Swap,
        /// Not used for a day.
        Age,
        /// Touched.
        Touch,
        /// What is kept is written and read again.
        Reopen,
    }

    fn change(store: &Store, change: Change, place: usize) {
        let files = [walk(&store.root().join("cas")), walk(&store.root().join("ac"))].concat();
        let path = &files[place % files.len()];
        let (mut bytes, time) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified());
        let set = |path: &Path, time: SystemTime| {
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        };
        match change {
            Change::Flip => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
                set(path, time.unwrap());
            }
            Change::Truncate => fs::write(path, &bytes[..bytes.len() - 1]).unwrap(),
            Change::Delete => fs::remove_file(path).unwrap(),
            Change::Replace => {
                bytes.reverse();
                fs::remove_file(path).unwrap();
                fs::write(path, bytes).unwrap();
                set(path, time.unwrap());
            }
            Change::Swap => {
                let other = &files[(place / 7) % files.len()];
                fs::rename(other, store.root().join("swap")).unwrap();
                if other != path {
                    fs::rename(path, other).unwrap();
                }
                fs::rename(store.root().join("swap"), path).unwrap();
            }
            Change::Age => set(path, SystemTime::now() - Duration::from_secs(86_400)),
            Change::Touch => set(path, SystemTime::now()),
            Change::Reopen => {}
        }
    }

    fn open(store: &Store) -> Recall<'_> {
        Recall { many: 0, ..Recall::open(store, "toy") }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever becomes of the files, a look-up finds what reading all of them finds.
        #[test]
        fn recalling_is_looking_up(changes in prop::collection::vec(
            (prop::sample::select(vec![
                Change::Flip, Change::Truncate, Change::Delete, Change::Replace, Change::Swap,
                Change::Age, Change::Touch, Change::Reopen,
            ]), 0_usize..10_000),
            1..12,
        )) {
            let toy = Toy::new();
            let report = toy.run(&[]);
            let keys: Vec<Digest> = report.cells.iter().filter_map(|cell| cell.key).collect();
            let store = toy.store().trusting_young_files();
            next_stamp(store.root());
            let mut recall = open(&store);
            for key in &keys {
                prop_assert!(matches!(recall.look_up(key), Lookup::Hit(_)));
                prop_assert!(recall.recalled(key).is_some(), "it is not even remembered");
            }
            for (how, place) in changes {
                next_stamp(store.root());
                change(&store, how, place);
                if matches!(how, Change::Reopen) {
                    recall.save();
                    recall = open(&store);
                }
                if place % 2 == 0 {
                    recall.look_ahead(keys.len());
                }
                for key in &keys {
                    let expected = expected(&store, key);
                    let found = match recall.look_up(key) {
                        Lookup::Hit(outputs) => Some(outputs.as_ref().clone()),
                        Lookup::Miss(_) => None,
                    };
                    prop_assert_eq!(found, expected, "{:?}", how);
                }
                if keys.iter().any(|key| !store.record_path(key).exists()) {
                    toy.run(&[]);
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_marks_use() {
        let toy = Toy::new();
        let report = toy.run(&[]);
        let store = toy.store().trusting_young_files();
        next_stamp(store.root());
        let keys: Vec<Digest> = report.cells.iter().filter_map(|cell| cell.key).collect();
        let recall = open(&store);
        keys.iter().for_each(|key| drop(recall.look_up(key)));
        recall.save();
        let recall = open(&store);
        assert!(keys.iter().all(|key| recall.recalled(key).is_some()));
        // A record that nobody has used for long is marked as used, without being read.
        let record = store.record_path(&keys[0]);
        let old = SystemTime::now() - Duration::from_secs(86_400);
        fs::File::open(&record).unwrap().set_modified(old).unwrap();
        next_stamp(store.root());
        let reading = Store::for_reading(store.root()).trusting_young_files();
        let reader = open(&reading);
        assert!(matches!(reader.look_up(&keys[0]), Lookup::Hit(_)));
        assert!(fs::metadata(&record).unwrap().modified().unwrap() <= old);
        let path = store.root().join("recall/toy");
        fs::write(&path, written(&reader.state().entries)).unwrap();
        let recall = open(&store);
        assert!((0..2).all(|_| recall.recalled(&keys[0]).is_some()));
        assert!(fs::metadata(&record).unwrap().modified().unwrap() > old);
        fs::write(&path, "damaged").unwrap();
        assert!(keys.iter().all(|key| Recall::open(&store, "toy").recalled(key).is_none()));
    }
}
