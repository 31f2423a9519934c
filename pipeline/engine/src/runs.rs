//! Finished runs and stored artifacts, as they are found again.

use std::{collections::BTreeMap, fs, time::SystemTime};

use crate::{
    digest::Digest,
    error::StoreError,
    run::RunReport,
    seal::{open_sealed, open_sealed_object},
    store::{Record, Store, Stored},
};

impl Store {
    /// Ids of the runs that have ended, in the order in which they began.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder of runs is there and cannot be read.
    pub fn runs(&self) -> Result<Vec<String>, StoreError> {
        let folder = self.root().join("runs");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(String, Option<SystemTime>, String)> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
            let entry = entry.map_err(StoreError::io("list", &folder))?;
            let Ok(meta) = fs::metadata(entry.path().join("run.json")) else {
                continue; // It has not ended, or was killed.
            };
            let id = entry.file_name().to_string_lossy().into_owned();
            // An id begins with the time to the second; within one, the end decides.
            let second = id.chars().take("20000101-000000".len()).collect();
            found.push((second, meta.modified().ok(), id));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, _, id)| id).collect())
    }

    /// The report of a run that [`runs`](Self::runs) lists.
    ///
    /// # Errors
    /// [`StoreError::BadRun`] when it is gone or cannot be read.
    pub fn run_report(&self, id: &str) -> Result<RunReport, StoreError> {
        let bad = |message: String| StoreError::BadRun { run: id.to_owned(), message };
        let path = self.root().join("runs").join(id).join("run.json");
        let bytes = fs::read(&path).map_err(|error| bad(error.to_string()))?;
        open_sealed_object(&bytes).map_err(|what| bad(what.to_owned()))
    }

    /// The stored artifact of a manifest, whose own digest a [run's report](RunReport) gives.
    ///
    /// # Errors
    /// [`StoreError::BadManifest`] when it is gone or damaged.
    pub fn artifact(&self, manifest: &Digest) -> Result<Stored, StoreError> {
        Ok(self.manifest(manifest)?.into())
    }

    /// The recorded artifacts whose digests begin with `prefix`, each once, sorted by digest.
    ///
    /// Reads every record: for people who ask, not for runs.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder of records is there and cannot be read. Records and manifests that cannot be
    /// read are left out.
    pub fn artifacts(&self, prefix: &str) -> Result<Vec<Stored>, StoreError> {
        let records = self.root().join("ac");
        let mut found = BTreeMap::new();
        if !records.is_dir() {
            return Ok(Vec::new());
        }
        for folder in fs::read_dir(&records).map_err(StoreError::io("list", &records))?.flatten() {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let bytes = fs::read(file.path()).unwrap_or_default();
                let record = open_sealed::<Record>(&bytes);
                for manifest in record.iter().flat_map(|record| record.outputs.values()) {
                    if let Ok(stored) = self.artifact(manifest)
                        && stored.digest.to_string().starts_with(prefix)
                    {
                        found.insert(stored.digest, stored);
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{Digest, action::Action, ports::MadeOutput};

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn action() -> Action {
        Action {
            stage: "s".into(),
            version: 1,
            config: serde_json::Value::Null,
            shard: None,
            inputs: BTreeMap::new(),
            externals: BTreeMap::new(),
            environment: BTreeMap::new(),
        }
    }

    fn end(store: &Store, id: &str) {
        let report = RunReport {
            run: id.into(),
            experiment: "e".into(),
            partial: false,
            built: 1,
            fresh: 2,
            seconds: 0.5,
            configuration: None,
            cells: Vec::new(),
        };
        let path = store.root().join("runs").join(id).join("run.json");
        store.replace(&path, &crate::seal::sealed_object(&report)).unwrap();
    }

    #[test]
    fn runs_come_in_the_order_of_their_beginning() {
        let (_folder, store) = store();
        end(&store, "20300101-000000-a-1");
        end(&store, "20290101-000000-z-1");
        fs::create_dir(store.root().join("runs/20310101-000000-killed-1")).unwrap();
        assert_eq!(store.runs().unwrap(), ["20290101-000000-z-1", "20300101-000000-a-1"]);
        assert_eq!(store.run_report("20290101-000000-z-1").unwrap().fresh, 2);
        let error = store.run_report("20310101-000000-killed-1").unwrap_err();
        assert!(matches!(error, StoreError::BadRun { .. }));
    }

    #[test]
    fn artifacts_are_found_by_the_beginning_of_their_digest() {
        let (folder, store) = store();
        let made = folder.path().join("made");
        fs::create_dir(&made).unwrap();
        fs::write(made.join("part"), "x").unwrap();
        let output = MadeOutput { folder: made, contents: BTreeMap::new() };
        let key = Digest::of(b"key");
        let outputs = store.publish(&key, &action(), vec![("out", "kind", output)], 0.0).unwrap();
        store.publish_record(&Digest::of(b"other key"), &action(), &outputs, &[]).unwrap();
        let stored = &outputs["out"];
        let found = store.artifacts(&stored.digest.to_string()[..6]).unwrap();
        assert_eq!(found, std::slice::from_ref(stored));
        assert_eq!(store.artifact(&stored.manifest_digest()).unwrap(), *stored);
        assert_eq!(store.artifacts("not a digest").unwrap(), []);
    }

    #[test]
    fn a_store_that_is_not_there_is_empty() {
        let store = Store::for_reading(std::path::Path::new("/nowhere/at/all"));
        assert!(store.runs().unwrap().is_empty());
        assert!(store.artifacts("").unwrap().is_empty());
    }
}
