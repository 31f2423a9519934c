//! Writing into the store: files get their names in `cas/`, then a record says what they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use super::{Explained, Outputs, RECORD_FORMAT, Record, Store};
use crate::{
    action::Action,
    artifact::{ListFile, Manifest, Part},
    digest::Digest,
    error::StoreError,
    ports::MadeOutput,
    seal::sealed,
};

/// A record of less work than this many seconds reaches the disk when the system thinks fit.
const WORTH_SYNCING: f64 = 1.0;

impl Store {
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
    ) -> Result<Arc<Outputs>, StoreError> {
        let mut touched = BTreeSet::new();
        let mut outputs = Outputs::new();
        for (port, kind, output) in made {
            let manifest = self.publish_parts(kind, &output, &mut touched)?;
            outputs.insert(port.to_owned(), manifest.into());
        }
        self.record(key, action, &outputs, &[], seconds, &mut touched)?;
        Ok(Arc::new(outputs))
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

    /// Records outputs whose parts are stored already, under the keys `units`, under another key.
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
            let (manifest, list) = (&stored.manifest, stored.manifest.list_file());
            for (leaf, bytes) in manifest.leaves() {
                self.publish_list(leaf, bytes, touched)?;
            }
            self.publish_list(list, || manifest.list_bytes(), touched)?;
            manifests.insert(port.clone(), list.digest);
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
        if self.is_stored(&digest, bytes) {
            self.disk.remove(path).map_err(StoreError::io("remove", path))?;
        } else {
            self.place(path, &digest, touched)?;
        }
        Ok((digest, bytes))
    }

    /// Stores a list of parts, written only where it is not there already.
    fn publish_list(
        &self,
        list: ListFile,
        bytes: impl FnOnce() -> Vec<u8>,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), StoreError> {
        if self.is_stored(&list.digest, list.bytes) {
            return Ok(());
        }
        self.place(&self.written("manifest", &bytes())?, &list.digest, touched)
    }

    /// Whether a file lies in `cas/` and stays there, because it is marked as used; one of another size is moved away.
    fn is_stored(&self, digest: &Digest, bytes: u64) -> bool {
        let target = self.blob(digest);
        let present = fs::metadata(&target).map(|meta| meta.len()).ok();
        if present.is_some_and(|present| present != bytes) {
            self.quarantine(digest);
        }
        let mark = || self.disk.open(&target).map(|file| self.mark_used(&target, &file));
        present == Some(bytes) && mark().is_ok_and(|old| !old || target.exists())
    }

    /// Gives a finished file its name in `cas/`.
    fn place(
        &self,
        path: &Path,
        digest: &Digest,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), StoreError> {
        let target = self.blob(digest);
        let file = self.disk.open(path).map_err(StoreError::io("read", path))?;
        self.mark_used(path, &file);
        self.disk.sync(path).map_err(StoreError::io("sync", path))?;
        self.disk.protect(path).map_err(StoreError::io("protect", path))?;
        self.link(path, &target)?;
        touched.insert(target.parent().unwrap_or(&self.root).to_owned());
        Ok(())
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
    pub(super) fn settle(&self, folder: &Path) -> Result<(), StoreError> {
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
}
