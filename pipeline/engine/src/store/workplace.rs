//! Where a thread works: the folders of a unit under way.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::Store;
use crate::error::StoreError;

/// Folders in `tmp/` for one unit of work after another: `out` with a folder for each port, and `scratch`.
///
/// They stay for the next unit where the last one has left nothing in them. Some file systems (ext4) look at every file
/// and folder that was removed in the last seconds before they make a new one, so new folders for each of many short units
/// cost more than the units.
pub(crate) struct Workplace<'a> {
    store: &'a Store,
    made: Option<Made>,
}

/// Folders that are there, all of them empty.
struct Made {
    folder: PathBuf,
    ports: BTreeSet<&'static str>,
}

/// The folders of one unit.
pub(crate) struct Room {
    /// Holds a folder for each port.
    pub(crate) out: PathBuf,
    pub(crate) scratch: PathBuf,
}

impl<'a> Workplace<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, made: None }
    }

    /// The empty folders of a unit with these ports.
    ///
    /// # Errors
    /// [`StoreError::Io`] when one cannot be made.
    pub(crate) fn enter(
        &mut self,
        ports: impl IntoIterator<Item = &'static str>,
    ) -> Result<Room, StoreError> {
        let make = |path: &PathBuf| {
            self.store.disk().make_folders(path).map_err(StoreError::io("create", path))
        };
        let made = self.made.get_or_insert_with(|| Made {
            folder: self.store.temporary("work"),
            ports: BTreeSet::new(),
        });
        let room = Room { out: made.folder.join("out"), scratch: made.folder.join("scratch") };
        // Those that are there too: a sweep on another machine may have taken them for abandoned ones.
        make(&room.scratch)?;
        for port in ports {
            made.ports.insert(port);
            make(&room.out.join(port))?;
        }
        Ok(room)
    }

    /// Ends a unit: what it left goes, with the folders.
    pub(crate) fn leave(&mut self) {
        if !self.made.as_ref().is_some_and(Made::is_as_it_was) {
            self.remove();
        }
    }

    fn remove(&mut self) {
        if let Some(made) = self.made.take() {
            let _ = self.store.disk().remove_folder(&made.folder);
        }
    }
}

impl Drop for Workplace<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Made {
    /// Whether there is nothing but the folders that were made.
    fn is_as_it_was(&self) -> bool {
        let out = self.folder.join("out");
        let holds = |path: &PathBuf, n: usize| {
            fs::read_dir(path).is_ok_and(|entries| entries.take(n + 1).count() == n)
        };
        holds(&self.folder, 2)
            && holds(&out, self.ports.len())
            && holds(&self.folder.join("scratch"), 0)
            && self.ports.iter().all(|port| holds(&out.join(port), 0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::toy::{Toy, walk};

    #[test]
    fn folders_stay_while_they_are_empty() {
        let toy = Toy::new();
        let store = toy.store();
        let mut place = Workplace::new(&store);
        let first = place.enter(["a", "b"]).unwrap();
        assert!(first.scratch.is_dir() && first.out.join("a").is_dir());
        place.leave();
        let second = place.enter(["b", "c"]).unwrap();
        assert_eq!(second.out, first.out);
        assert!(second.out.join("c").is_dir());
        place.leave();

        let leavings: [&dyn Fn(&Room) -> PathBuf; 4] = [
            &|room| room.scratch.join("left"),
            &|room| room.out.join("a/left"),
            &|room| room.out.join("left"),
            &|room| room.out.with_file_name("left"),
        ];
        for left in leavings {
            let room = place.enter(["a"]).unwrap();
            fs::write(left(&room), "left").unwrap();
            place.leave();
            assert!(!room.out.exists());
            let next = place.enter(["a"]).unwrap();
            assert_ne!(next.out, room.out);
            fs::create_dir(left(&next)).unwrap();
            place.leave();
            assert!(!next.out.exists());
        }
        place.enter(["a"]).unwrap();
        drop(place);
        assert!(walk(&store.root().join("tmp")).is_empty());
    }
}
