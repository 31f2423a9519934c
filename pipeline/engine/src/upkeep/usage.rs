//! `du`: who takes the space of a store.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Content, entries, list, read_record, sweep::size_of};
use crate::{digest::Digest, error::StoreError, store::Store};

/// What an experiment takes; what it shares with others is counted for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExperimentUsage {
    /// Name of the experiment.
    pub experiment: String,
    /// Number of finished runs.
    pub runs: usize,
    /// Number of files that their results have in the store.
    pub files: usize,
    /// Size of those files.
    pub bytes: u64,
}

/// What the artifacts of a kind take; a file that several share is counted once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindUsage {
    /// The kind.
    pub kind: String,
    /// Number of recorded artifacts, shards among them.
    pub artifacts: usize,
    /// Number of files.
    pub files: usize,
    /// Size of those files.
    pub bytes: u64,
}

/// The space of a store.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Size of everything in the store.
    pub bytes: u64,
    /// Size of each folder of the store, by name.
    pub folders: BTreeMap<String, u64>,
    /// By experiment.
    pub experiments: Vec<ExperimentUsage>,
    /// By kind of artifact.
    pub kinds: Vec<KindUsage>,
    /// What a sweep would free now.
    pub garbage: u64,
}

/// Files by digest with their sizes.
type Files = BTreeMap<Digest, u64>;

impl Store {
    /// Measures the store; `keep` is what a sweep would keep unused results for.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder cannot be listed.
    pub fn usage(&self, keep: Duration) -> Result<Usage, StoreError> {
        let mut folders = BTreeMap::new();
        for path in list(self.root())? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            folders.insert(name.unwrap_or_default(), size_of(&path));
        }
        Ok(Usage {
            bytes: folders.values().sum(),
            folders,
            experiments: self.usage_by_experiment()?,
            kinds: self.usage_by_kind()?,
            garbage: self.sweep(keep, true)?.bytes(),
        })
    }

    fn usage_by_experiment(&self) -> Result<Vec<ExperimentUsage>, StoreError> {
        let mut found: BTreeMap<String, (usize, Files)> = BTreeMap::new();
        for run in self.ended_runs()? {
            let (runs, files) = found.entry(run.report.experiment).or_default();
            *runs += 1;
            for manifest in run.report.cells.iter().flat_map(|cell| cell.manifests.values()) {
                self.add_files(manifest, files);
            }
        }
        let usage = found.into_iter().map(|(experiment, (runs, files))| {
            let bytes = files.values().sum();
            ExperimentUsage { experiment, runs, files: files.len(), bytes }
        });
        Ok(usage.collect())
    }

    fn usage_by_kind(&self) -> Result<Vec<KindUsage>, StoreError> {
        let mut seen = BTreeMap::new();
        let mut found: BTreeMap<String, (usize, Files)> = BTreeMap::new();
        for entry in entries(&self.root().join("ac"))? {
            let Some(Content::Record(record)) = read_record(&entry) else { continue };
            for digest in record.outputs.values() {
                if seen.insert(*digest, ()).is_some() {
                    continue;
                }
                let Ok(manifest) = self.manifest(digest) else { continue };
                let (artifacts, files) = found.entry(manifest.kind.clone()).or_default();
                *artifacts += 1;
                self.add_files(digest, files);
            }
        }
        let usage = found.into_iter().map(|(kind, (artifacts, files))| {
            let bytes = files.values().sum();
            KindUsage { kind, artifacts, files: files.len(), bytes }
        });
        Ok(usage.collect())
    }

    /// Adds a manifest and its parts, as far as they are there.
    fn add_files(&self, digest: &Digest, files: &mut Files) {
        if files.contains_key(digest) {
            return;
        }
        let Ok(manifest) = self.manifest(digest) else { return };
        files.insert(*digest, size_of(&self.blob(digest)));
        let leaves = manifest.leaves().map(|(list, _)| list.digest);
        for file in leaves.chain(manifest.parts().map(|part| part.blob)) {
            files.entry(file).or_insert_with(|| size_of(&self.blob(&file)));
        }
    }
}
