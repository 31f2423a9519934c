//! Leases: who is building a key, so that nobody builds it a second time meanwhile.
//!
//! `lease/KEY` is made only where it is not there yet, and removed when the key is recorded or given up. Nothing depends
//! on it but time: without leases two runs build the same thing and publish the same record. A lease is stale when its
//! process is gone; where the process cannot be seen, when the lease was not renewed for three periods.

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, disk::Disk, process::Process, store::Store};

/// Time between two renewals of a lease.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// Who builds a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Id of the run.
    pub(crate) run: String,
    process: Process,
}

/// The right to build a key; given back when it is dropped.
pub(crate) struct Lease(Option<(Disk, PathBuf)>);

impl Lease {
    /// Says that the key is still being built.
    pub(crate) fn renew(&self) {
        let _ = self.0.as_ref().map(|(disk, path)| disk.touch(path));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(|(disk, path)| disk.remove(path));
    }
}

/// The outcome of asking for a key.
pub(crate) enum Claim {
    /// Nobody else builds it.
    Mine(Lease),
    /// Another run, or another cell of the same run, builds it.
    Theirs(String),
}

impl Store {
    fn lease_path(&self, key: &Digest) -> PathBuf {
        self.root().join("lease").join(key.to_string())
    }

    /// Asks for the right to build a key; a lease that cannot be written is as good as one that was.
    pub(crate) fn claim(&self, key: &Digest, run: &str) -> Claim {
        let path = self.lease_path(key);
        // The second try follows the removal of a stale lease; losing that race means somebody else builds.
        let holder = Holder { run: run.to_owned(), process: Process::this().clone() };
        let bytes = serde_json::to_vec(&holder).expect("a lease is plain data");
        for _ in 0..2 {
            match self.disk().write_new(&path, &bytes) {
                Ok(()) => return Claim::Mine(Lease(Some((self.disk().clone(), path)))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if let Some(holder) = self.holder(key) {
                        return Claim::Theirs(holder);
                    }
                    self.remove_stale(key);
                }
                Err(_) => break,
            }
        }
        Claim::Mine(Lease(None))
    }

    /// The run that builds a key, if there is one.
    pub(crate) fn holder(&self, key: &Digest) -> Option<String> {
        let path = self.lease_path(key);
        let bytes = fs::read(&path).ok()?;
        let young = || {
            let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
            Some(SystemTime::now().duration_since(modified).unwrap_or_default() < 3 * PERIOD)
        };
        // One that cannot be read may be in the middle of being written.
        let holder: Option<Holder> = serde_json::from_slice(&bytes).ok();
        let alive = holder.as_ref().and_then(|holder| holder.process.is_alive()).or_else(young);
        let run = holder.map_or_else(|| "another run".to_owned(), |holder| holder.run);
        alive.filter(|alive| *alive).map(|_| run)
    }

    /// Removes a lease by a rename, of which only one process succeeds.
    fn remove_stale(&self, key: &Digest) {
        let grave = self.temporary("lease");
        if self.disk().rename(&self.lease_path(key), &grave).is_ok() {
            let _ = self.disk().remove(&grave);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::toy::Toy;

    #[test]
    fn a_lease_is_held_given_back_and_taken_over() {
        let toy = Toy::new();
        let (store, key) = (toy.store(), Digest::of(b"key"));
        let Claim::Mine(lease) = store.claim(&key, "a") else { unreachable!("nobody holds it") };
        assert!(matches!(store.claim(&key, "b"), Claim::Theirs(run) if run == "a"));
        drop(lease);
        assert_eq!(store.holder(&key), None);

        let Claim::Mine(lease) = store.claim(&key, "c") else { unreachable!("it was given back") };
        let path = store.lease_path(&key);
        let gone = fs::read_to_string(&path).unwrap().replace("\"ticks\":", "\"ticks\":1");
        fs::write(&path, gone).unwrap();
        assert!(matches!(store.claim(&key, "d"), Claim::Mine(_)), "its process is gone");
        drop(lease);

        // Of a process elsewhere only the age of the lease is known.
        let Claim::Mine(lease) = store.claim(&key, "e") else { unreachable!("it was given back") };
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"boot\":\"", "\"boot\":\"elsewhere ")).unwrap();
        assert_eq!(store.holder(&key).as_deref(), Some("e"));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 4 * PERIOD).unwrap();
        assert_eq!(store.holder(&key), None);
        lease.renew();
        assert_eq!(store.holder(&key).as_deref(), Some("e"));
        fs::write(&path, "half a le").unwrap();
        assert!(store.holder(&key).is_some());
    }
}
