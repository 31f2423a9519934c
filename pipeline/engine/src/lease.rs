//! Leases: who is building a key, so that nobody builds it a second time meanwhile.
//!
//! `lease/KEY` is made only where it is not there yet, and removed when the key is recorded or given up. Nothing depends
//! on it but time: without leases two runs build the same thing and publish the same record. A lease is stale when its
//! process is gone; where the process cannot be seen, when the lease was not renewed for three periods.

use std::{
    fs, io,
    path::{Path, PathBuf},
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

/// What a run holds its leases by: a file in `tmp/` that says whose they are, and of which each lease is another name.
///
/// A file for each would be removed as soon as it was made, which some file systems take ill: see
/// [`Workplace`](crate::store::Workplace).
pub(crate) struct Badge<'a> {
    store: &'a Store,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl<'a> Badge<'a> {
    /// That of a run; nothing is written before something is claimed.
    pub(crate) fn new(store: &'a Store, run: &str) -> Self {
        let holder = Holder { run: run.to_owned(), process: Process::this().clone() };
        let bytes = serde_json::to_vec(&holder).expect("a lease is plain data");
        Self { store, path: store.temporary("badge"), bytes }
    }

    /// Asks for the right to build a key; a lease that cannot be written is as good as one that was.
    pub(crate) fn claim(&self, key: &Digest) -> Claim {
        let path = self.store.lease_path(key);
        // The second try follows the removal of a stale lease; losing that race means somebody else builds.
        for _ in 0..2 {
            match self.write(&path) {
                Ok(()) => return Claim::Mine(Lease(Some((self.store.disk().clone(), path)))),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if let Some(holder) = self.store.holder(key) {
                        return Claim::Theirs(holder);
                    }
                    self.store.remove_stale(key);
                }
                Err(_) => break,
            }
        }
        Claim::Mine(Lease(None))
    }

    /// Writes a lease that is not there yet; of several writers one succeeds.
    fn write(&self, lease: &Path) -> io::Result<()> {
        let disk = self.store.disk();
        let mut linked = disk.link(&self.path, lease);
        if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let written = disk.write(&self.path, &self.bytes);
            linked = written.and_then(|()| disk.link(&self.path, lease));
        }
        match linked {
            // Some file systems have no hard links.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                disk.write_new(lease, &self.bytes)
            }
            linked => linked,
        }
    }
}

impl Drop for Badge<'_> {
    fn drop(&mut self) {
        let _ = self.store.disk().remove(&self.path);
    }
}

impl Store {
    fn lease_path(&self, key: &Digest) -> PathBuf {
        self.root().join("lease").join(key.to_string())
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

    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::toy::{Toy, walk};

    #[test]
    fn a_lease_is_held_given_back_and_taken_over() {
        let toy = Toy::new();
        let (store, key) = (toy.store(), Digest::of(b"key"));
        let badges = ["a", "b", "c", "d", "e"].map(|run| Badge::new(&store, run));
        let [a, b, c, d, e] = &badges;
        let mine = |claim| match claim {
            Claim::Mine(lease) => lease,
            Claim::Theirs(run) => unreachable!("{run} holds it"),
        };
        let lease = mine(a.claim(&key));
        assert!(matches!(b.claim(&key), Claim::Theirs(run) if run == "a"));
        drop(lease);
        assert_eq!(store.holder(&key), None);

        let lease = mine(c.claim(&key));
        let path = store.lease_path(&key);
        // A file of its own, as where there are no hard links.
        let rewrite = |from: &str, to: &str| {
            let text = fs::read_to_string(&path).unwrap().replace(from, to);
            fs::remove_file(&path).unwrap();
            fs::write(&path, text).unwrap();
        };
        rewrite("\"ticks\":", "\"ticks\":1");
        drop(mine(d.claim(&key)));
        drop(lease);

        // Of a process elsewhere only the age of the lease is known.
        let lease = mine(e.claim(&key));
        rewrite("\"boot\":\"", "\"boot\":\"elsewhere ");
        assert_eq!(store.holder(&key).as_deref(), Some("e"));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 4 * PERIOD).unwrap();
        assert_eq!(store.holder(&key), None);
        lease.renew();
        assert_eq!(store.holder(&key).as_deref(), Some("e"));
        fs::write(&path, "half a le").unwrap();
        assert!(store.holder(&key).is_some());
        drop(lease);

        // Several at once are names of one file, which goes with the run.
        let other = Digest::of(b"other");
        let leases = [mine(a.claim(&key)), mine(a.claim(&other))];
        assert_eq!(fs::metadata(&a.path).unwrap().nlink(), 3);
        drop(leases);
        fs::remove_file(&a.path).unwrap();
        drop(mine(a.claim(&key)));
        drop(badges);
        assert!(walk(&store.root().join("tmp")).is_empty());
    }
}
