//! `verify`: every stored file against its name, every record against the files that it needs.
//!
//! Nothing is taken on trust: files are hashed whatever was remembered of them. Looking changes nothing. Repairing moves
//! damaged files to `quarantine/` and then the records that name damaged or missing files: a record without its files
//! is a miss, so the next run builds exactly that again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{Content, Ended, Entry, digest_of_name, entries, last_runs, list, read_record};
use crate::{
    artifact::{Chunk, Manifest},
    digest::{Digest, Encoder},
    error::StoreError,
    resolve::LastBuild,
    seal::{open_sealed, sealed_object},
    store::{Record, Store, safe},
};

/// Which stored files are hashed; sizes, records and manifests are checked always.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// Every file.
    All,
    /// Each file with this probability, in `[0, 1]`; another choice at each call.
    Of(f64),
}

/// What kind of entry is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A file of an artifact.
    File,
    /// The list of an artifact's files.
    Manifest,
    /// A record of what a key produced.
    Record,
    /// What is kept to explain why a cell was built.
    Explanation,
    /// The report of a run, or the configuration that it ran.
    Run,
    /// A name under which the results of a run are kept.
    Pin,
}

/// A damaged or missing entry.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What kind of entry it is.
    pub kind: Fault,
    /// Where it lies or should lie, relative to the store.
    pub path: String,
    /// What was found in its place.
    pub found: String,
    /// Everything that names it; nothing names a file that no record needs.
    pub named_by: Vec<String>,
}

/// What was looked at and what is wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// Files in `cas/`.
    pub files: usize,
    /// Files that were hashed.
    pub hashed: usize,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Records.
    pub records: usize,
    /// Records of another version, which are left alone.
    pub foreign: usize,
    /// What is wrong, sorted by path.
    pub problems: Vec<Problem>,
    /// Whether the problems were repaired.
    pub repaired: bool,
}

impl Store {
    /// Checks stored files, manifests and records; with `repair`, takes away what is wrong so that it is built again.
    ///
    /// Other processes may run meanwhile: what they publish or remove during the audit is not a problem.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder cannot be listed or something cannot be repaired.
    pub fn audit(&self, share: Share, repair: bool) -> Result<Audit, StoreError> {
        let mut auditor = Auditor::new(self);
        auditor.files(share)?;
        auditor.records()?;
        auditor.shards();
        auditor.runs()?;
        auditor.explanations()?;
        auditor.reports()?;
        auditor.pins()?;
        auditor.finish(repair)
    }
}

struct Auditor<'a> {
    store: &'a Store,
    audit: Audit,
    /// Sizes of the files that are there.
    sizes: BTreeMap<Digest, u64>,
    /// Files that are not what their names say.
    bad: BTreeMap<Digest, String>,
    problems: BTreeMap<String, Problem>,
    /// Records that are there, with the keys that they were assembled from.
    keys: BTreeMap<Digest, Vec<Digest>>,
    /// Records to be removed.
    condemned: BTreeSet<Digest>,
    /// Chunks that were read, by their lists.
    chunks: BTreeMap<Digest, Arc<Chunk>>,
}

impl<'a> Auditor<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            audit: Audit::default(),
            sizes: BTreeMap::new(),
            bad: BTreeMap::new(),
            problems: BTreeMap::new(),
            keys: BTreeMap::new(),
            condemned: BTreeSet::new(),
            chunks: BTreeMap::new(),
        }
    }

    fn problem(&mut self, kind: Fault, path: &Path, found: &str, named_by: Option<String>) {
        let path = path.strip_prefix(self.store.root()).unwrap_or(path).display().to_string();
        let problem = self.problems.entry(path.clone()).or_insert_with(|| Problem {
            kind,
            path,
            found: found.to_owned(),
            named_by: Vec::new(),
        });
        if kind == Fault::Manifest {
            problem.kind = kind;
        }
        problem.named_by.extend(named_by);
    }

    /// Hashes the chosen files.
    fn files(&mut self, share: Share) -> Result<(), StoreError> {
        let mut chosen = Vec::new();
        for entry in entries(&self.store.root().join("cas"))? {
            let Some(digest) = digest_of_name(&entry.name) else {
                self.problem(Fault::File, &entry.path, "a file whose name is no digest", None);
                continue;
            };
            self.sizes.insert(digest, entry.bytes);
            chosen.push((digest, entry));
        }
        self.audit.files = chosen.len();
        let draw = Draw::new(share);
        chosen.retain(|(digest, _)| draw.takes(digest));
        self.audit.hashed = chosen.len();
        for (digest, found) in hash_all(&chosen) {
            match found {
                Ok((actual, bytes)) => {
                    self.audit.bytes += bytes;
                    if actual != digest {
                        let found = format!("{bytes} bytes with digest {}", actual.short());
                        self.bad_file(digest, found);
                    }
                }
                // Collected meanwhile: a problem only if something still names it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.sizes.remove(&digest);
                }
                Err(error) => self.bad_file(digest, format!("unreadable: {error}")),
            }
        }
        Ok(())
    }

    fn bad_file(&mut self, digest: Digest, found: String) {
        let path = self.store.blob(&digest);
        self.problem(Fault::File, &path, &found, None);
        self.bad.insert(digest, found);
    }

    /// Checks each record and what it names.
    fn records(&mut self) -> Result<(), StoreError> {
        for entry in entries(&self.store.root().join("ac"))? {
            let Some(content) = read_record(&entry) else { continue };
            self.audit.records += 1;
            let key = digest_of_name(&entry.name);
            match content {
                Content::Foreign => self.audit.foreign += 1,
                Content::Bad(found) => {
                    self.problem(Fault::Record, &entry.path, &found, None);
                    self.condemned.extend(key);
                }
                Content::Record(record) => self.record(&record, &entry),
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, entry: &Entry) {
        let mut complete = true;
        for (port, manifest) in &record.outputs {
            let by = format!("output `{port}` of stage `{}`", record.stage);
            let by = format!("{by}, record {}", record.key.short());
            match self.manifest(manifest) {
                Err((list, found)) => {
                    complete = false;
                    if entry.path.exists() {
                        let path = self.store.blob(&list);
                        self.problem(Fault::Manifest, &path, &found, Some(by));
                    }
                }
                Ok(manifest) => {
                    for part in manifest.parts() {
                        let Err(found) = self.file(&part.blob, Some(part.bytes)) else { continue };
                        complete = false;
                        if entry.path.exists() {
                            let path = self.store.blob(&part.blob);
                            let by = format!("part `{}` of {by}", part.name);
                            self.problem(Fault::File, &path, &found, Some(by));
                        }
                    }
                }
            }
        }
        if complete {
            self.keys.insert(record.key, record.units.clone());
        } else {
            self.condemned.insert(record.key);
        }
    }

    /// Whether a file is there as it should be, as far as was looked at; what was found instead otherwise.
    fn file(&self, digest: &Digest, bytes: Option<u64>) -> Result<(), String> {
        if let Some(found) = self.bad.get(digest) {
            return Err(found.clone());
        }
        let found = match self.sizes.get(digest) {
            Some(found) => Some(*found),
            // It may have been published since the files were listed.
            None => fs::metadata(self.store.blob(digest)).map(|meta| meta.len()).ok(),
        };
        match (found, bytes) {
            (None, _) => Err("nothing".to_owned()),
            (Some(found), Some(bytes)) if found != bytes => {
                Err(format!("{found} bytes instead of {bytes}"))
            }
            _ => Ok(()),
        }
    }

    /// A stored manifest, or the list that is wrong and what was found in its place.
    fn manifest(&mut self, digest: &Digest) -> Result<Manifest, (Digest, String)> {
        let bytes = self.list(digest).map_err(|found| (*digest, found))?;
        let mut bad = None;
        let manifest = Manifest::read(&bytes, &mut |list| {
            let known = self.chunks.get(list).cloned();
            let chunk = known.map_or_else(|| Manifest::read_leaf(&self.list(list)?), Ok);
            match &chunk {
                Ok(chunk) => {
                    self.chunks.insert(*list, chunk.clone());
                }
                Err(found) => bad = Some((*list, found.clone())),
            }
            chunk
        });
        manifest.map_err(|error| bad.unwrap_or((*digest, format!("no manifest: {error}"))))
    }

    /// The bytes of a stored list, if they are what its name says.
    fn list(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        self.file(digest, None)?;
        let bytes = fs::read(self.store.blob(digest)).map_err(|error| error.to_string())?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(format!("{} bytes with digest {}", bytes.len(), actual.short()));
        }
        Ok(bytes)
    }

    /// Checks that what was assembled from shards still has their records: without one, a change of another shard would
    /// build it again.
    fn shards(&mut self) {
        let units = self.keys.iter().flat_map(|(whole, units)| units.iter().map(|u| (*whole, *u)));
        let lost: Vec<_> = units.filter(|(_, unit)| !self.keys.contains_key(unit)).collect();
        for (whole, unit) in lost {
            let path = self.store.record_path(&unit);
            if !path.exists() && self.store.record_path(&whole).exists() {
                let by = format!("a shard of record {}", whole.short());
                self.problem(Fault::Record, &path, "nothing", Some(by));
                self.condemned.insert(unit);
            }
        }
    }

    /// Checks that the last runs of each experiment still have the records that they used.
    fn runs(&mut self) -> Result<(), StoreError> {
        let runs = self.store.ended_runs()?;
        for index in last_runs(&runs).into_keys() {
            let Ended { report, at } = &runs[index];
            for cell in &report.cells {
                let Some(key) = cell.key else { continue };
                let by = format!("cell `{}` of run `{}`", cell.cell, report.run);
                self.needed(&key, &by, *at);
                let mut units = self.keys.get(&key).cloned().unwrap_or_default();
                while let Some(unit) = units.pop() {
                    self.needed(&unit, &format!("a shard of {by}"), *at);
                    units.extend(self.keys.get(&unit).into_iter().flatten());
                }
            }
        }
        Ok(())
    }

    /// Reports a record that is not there; one that was taken away since the run ended will come back by itself.
    fn needed(&mut self, key: &Digest, by: &str, run_ended: SystemTime) {
        let path = self.store.record_path(key);
        let marker = self.store.root().join("quarantine").join(key.to_string());
        let removed = fs::metadata(marker).and_then(|meta| meta.modified()).ok();
        if path.exists() || removed.is_some_and(|at| at >= run_ended) {
            return;
        }
        self.problem(Fault::Record, &path, "nothing", Some(by.to_owned()));
        self.condemned.insert(*key);
    }

    fn explanations(&mut self) -> Result<(), StoreError> {
        for entry in entries(&self.store.root().join("cells"))? {
            let Ok(bytes) = fs::read(&entry.path) else { continue };
            match open_sealed::<LastBuild>(&bytes) {
                Ok(_) | Err("of another version") => {}
                Err(found) => self.problem(Fault::Explanation, &entry.path, found, None),
            }
        }
        Ok(())
    }

    /// Checks that what a run has left when it ended is what it wrote.
    fn reports(&mut self) -> Result<(), StoreError> {
        for folder in list(&self.store.root().join("runs"))? {
            let (path, resolved) = (folder.join("run.json"), folder.join("experiment.toml"));
            // A run takes its sign of life away when its report is written, and a killed one never does.
            let ended = !folder.join("live.json").exists() && resolved.exists();
            if !path.exists() {
                if ended {
                    self.problem(Fault::Run, &path, "nothing", None);
                }
                continue;
            }
            let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match self.store.run_report(&id) {
                Err(StoreError::BadRun { message, .. }) => {
                    self.problem(Fault::Run, &path, &message, None);
                }
                Err(error) => return Err(error),
                Ok(report) => {
                    let Some(expected) = report.configuration else { continue };
                    let found = fs::read(&resolved).map(|bytes| Digest::of(&bytes));
                    let found = match found {
                        Ok(found) if found == expected => continue,
                        Ok(found) => format!("a file with digest {}", found.short()),
                        Err(_) => "nothing".to_owned(),
                    };
                    self.problem(Fault::Run, &resolved, &found, Some(format!("run `{id}`")));
                }
            }
        }
        Ok(())
    }

    fn pins(&mut self) -> Result<(), StoreError> {
        for (name, pin) in self.store.all_pins()? {
            let by = format!("pin `{name}`");
            for (path, found) in pin.problems(&name) {
                self.problem(Fault::Pin, &self.store.root().join(path), &found, Some(by.clone()));
            }
            let Some(run) = pin.run() else { continue };
            if let Err(error) = self.store.run_report(run) {
                let path = self.store.root().join("runs").join(run).join("run.json");
                let found = if path.exists() { error.to_string() } else { "nothing".to_owned() };
                self.problem(Fault::Run, &path, &found, Some(by));
            }
        }
        Ok(())
    }

    fn finish(mut self, repair: bool) -> Result<Audit, StoreError> {
        if repair && !self.problems.is_empty() {
            // While the record of a whole stands, nobody looks for those of its shards.
            loop {
                let wholes = self.keys.iter().filter(|(key, units)| {
                    !self.condemned.contains(key)
                        && units.iter().any(|unit| self.condemned.contains(unit))
                });
                let wholes: Vec<Digest> = wholes.map(|(key, _)| *key).collect();
                if wholes.is_empty() {
                    break;
                }
                self.condemned.extend(wholes);
            }
            self.repair()?;
            self.audit.repaired = true;
        }
        self.audit.problems = self.problems.into_values().collect();
        Ok(self.audit)
    }

    /// Files first: should this be interrupted, their records are misses already.
    fn repair(&self) -> Result<(), StoreError> {
        let root = self.store.root();
        let quarantine = root.join("quarantine");
        self.store
            .disk()
            .make_folders(&quarantine)
            .map_err(StoreError::io("create", &quarantine))?;
        for problem in self.problems.values() {
            let path = root.join(&problem.path);
            match problem.kind {
                Fault::Explanation => self.remove(&path)?,
                Fault::Run | Fault::Pin => {}
                _ => self.move_away(&path, &quarantine)?,
            }
        }
        self.repair_runs(&quarantine)?;
        self.repair_pins(&quarantine)?;
        for key in &self.condemned {
            self.move_away(&self.store.record_path(key), &quarantine)?;
            // Written now, as a mark that the record is known to be gone.
            let mark = quarantine.join(key.to_string());
            let marked = self.store.disk().write(&mark, &fs::read(&mark).unwrap_or_default());
            marked.map_err(StoreError::io("write", &mark))?;
        }
        Ok(())
    }

    /// Takes runs away whose reports cannot be read; a report whose configuration is lost goes on without.
    fn repair_runs(&self, quarantine: &Path) -> Result<(), StoreError> {
        for problem in self.problems.values().filter(|problem| problem.kind == Fault::Run) {
            let path = self.store.root().join(&problem.path);
            let Some(folder) = path.parent() else { continue };
            let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match self.store.run_report(&id) {
                Err(_) => {
                    // An older one of the name gives way.
                    let place = quarantine.join(&id);
                    let _ = self.store.disk().remove_folder(&place);
                    self.move_away(folder, quarantine)?;
                }
                Ok(mut report) => {
                    self.move_away(&folder.join("experiment.toml"), quarantine)?;
                    report.configuration = None;
                    let path = folder.join("run.json");
                    self.store.replace_synced(&path, &sealed_object(&report))?;
                }
            }
        }
        Ok(())
    }

    /// Writes pins again of which one half is left, and takes away those of runs that are not there.
    fn repair_pins(&self, quarantine: &Path) -> Result<(), StoreError> {
        for (name, pin) in self.store.all_pins()? {
            let main = self.store.root().join("pins").join(&name);
            if safe(&name) != name {
                self.move_away(&main, quarantine)?; // No pin has such a name.
                continue;
            }
            match pin.run().filter(|run| self.store.run_report(run).is_ok()) {
                Some(run) if !pin.problems(&name).is_empty() => self.store.pin(run, &name)?,
                Some(_) => {}
                None => {
                    self.move_away(&main, quarantine)?;
                    self.store.unpin(&name)?;
                }
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match self.store.disk().remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn move_away(&self, path: &Path, folder: &Path) -> Result<(), StoreError> {
        let place = folder.join(path.file_name().unwrap_or_default());
        match self.store.disk().rename(path, &place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("move away", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// A choice of files or keys.
pub(crate) struct Draw {
    share: Share,
    nonce: u64,
}

impl Draw {
    pub(crate) fn new(share: Share) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { share, nonce: time.map_or(0, |age| age.as_nanos() as u64) }
    }

    pub(crate) fn takes(&self, digest: &Digest) -> bool {
        let Share::Of(share) = self.share else { return true };
        let mut encoder = Encoder::new("audit sample");
        encoder.number(self.nonce);
        encoder.digest(digest);
        let drawn = encoder.finish();
        let [a, b, c, d, ..] = *drawn.bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) < share * f64::from(u32::MAX)
    }
}

/// Digest and size of each file, read on all cores.
fn hash_all(files: &[(Digest, Entry)]) -> Vec<(Digest, io::Result<(Digest, u64)>)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(files.len()));
    let work = || {
        while let Some((digest, entry)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let actual = Digest::of_file(&entry.path);
            found.lock().unwrap_or_else(PoisonError::into_inner).push((*digest, actual));
        }
    };
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..n_threads.min(files.len()) {
            // Where no thread can be had, this one does it alone.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}
