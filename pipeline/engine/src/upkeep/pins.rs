//! Pins: names for runs whose results are kept until the name is taken away.
//!
//! A pin is written twice, as `pins/NAME` and in the folder of its run, each with a seal: where one is gone or damaged, the
//! other tells, so that a lost pin is not an unpinned run.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::list;
use crate::{
    error::StoreError,
    seal::{open_sealed, sealed},
    store::{Store, safe},
};

/// A name as the files of a store have it.
#[derive(Debug, Default)]
pub(super) struct Pin {
    /// The run by `pins/NAME`, or what is wrong with that file; none where there is no file.
    pub(super) main: Option<Result<String, String>>,
    /// The folders of runs that say that they have the name: id of the run, and whether the file is whole.
    pub(super) twins: Vec<(String, Result<(), String>)>,
}

impl Pin {
    /// The run that is pinned, if it can be known.
    pub(super) fn run(&self) -> Option<&str> {
        if let Some(Ok(run)) = &self.main {
            return Some(run);
        }
        let mut whole = self.twins.iter().filter(|(_, twin)| twin.is_ok());
        let run = whole.next().map(|(run, _)| run.as_str());
        // Of several it is not known which came last.
        run.filter(|_| whole.next().is_none())
    }

    /// What is wrong with it: the path below the store, and what was found there.
    pub(super) fn problems(&self, name: &str) -> Vec<(PathBuf, String)> {
        let mut problems = Vec::new();
        let main = match &self.main {
            None => Some("nothing".to_owned()),
            Some(main) => main.as_ref().err().cloned(),
        };
        problems.extend(main.map(|found| (Path::new("pins").join(name), found)));
        for (run, twin) in &self.twins {
            problems.extend(twin.as_ref().err().map(|found| (twin_path(run, name), found.clone())));
        }
        if let Some(Ok(run)) = &self.main
            && self.twins.iter().all(|(twin, _)| twin != run)
        {
            problems.push((twin_path(run, name), "nothing".to_owned()));
        }
        problems
    }
}

fn twin_path(run: &str, name: &str) -> PathBuf {
    Path::new("runs").join(run).join("pins").join(name)
}

impl Store {
    /// Keeps the results of a finished run under a name; another run that has the name loses it.
    ///
    /// # Errors
    /// [`StoreError::BadRun`] for a run whose report cannot be read, [`StoreError::BadPin`] for a name that is not of
    /// letters, digits, `-` and `_` alone, [`StoreError::Io`] when the pin cannot be written.
    pub fn pin(&self, run: &str, name: &str) -> Result<(), StoreError> {
        self.run_report(run)?;
        let main = self.pin_path(name)?;
        self.write_pin(run, name, &main)?;
        // The name may have been another run's.
        let pins = self.all_pins()?;
        let twins = pins.get(name).map(|pin| pin.twins.as_slice()).unwrap_or_default();
        twins
            .iter()
            .filter(|(twin, _)| twin != run)
            .try_for_each(|(twin, _)| self.remove_pin(&self.root().join(twin_path(twin, name))))
    }

    /// Writes both files of a pin.
    pub(super) fn write_pin(&self, run: &str, name: &str, main: &Path) -> Result<(), StoreError> {
        let twin = self.root().join(twin_path(run, name));
        self.replace_synced(&twin, &sealed(&run))?;
        self.replace_synced(main, &sealed(&run))
    }

    /// Takes a name away; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError::BadPin`] and [`StoreError::Io`] as for [`pin`](Self::pin).
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let main = self.pin_path(name)?;
        let Some(pin) = self.all_pins()?.remove(name) else { return Ok(false) };
        for (run, _) in &pin.twins {
            self.remove_pin(&self.root().join(twin_path(run, name)))?;
        }
        self.remove_pin(&main)?;
        Ok(true)
    }

    fn remove_pin(&self, path: &Path) -> Result<(), StoreError> {
        match self.disk().remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The pinned runs by name.
    ///
    /// # Errors
    /// [`StoreError::UnreadablePin`] when one is damaged, [`StoreError::Io`] when the folder of pins is there and cannot be
    /// read.
    pub fn pins(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let run = |(name, pin): (String, Pin)| match (pin.run(), pin.problems(&name).first()) {
            (Some(run), None) => Ok((name, run.to_owned())),
            (_, problem) => {
                let told =
                    problem.map(|(path, found)| format!("{}: found {found}", path.display()));
                Err(StoreError::UnreadablePin { name, message: told.unwrap_or_default() })
            }
        };
        self.all_pins()?.into_iter().map(run).collect()
    }

    /// Everything that looks like a pin, by name.
    pub(super) fn all_pins(&self) -> Result<BTreeMap<String, Pin>, StoreError> {
        let mut pins: BTreeMap<String, Pin> = BTreeMap::new();
        for path in list(&self.root().join("pins"))? {
            if let Some(run) = read_pin(&path) {
                pins.entry(name_of(&path)).or_default().main = Some(run);
            }
        }
        for folder in list(&self.root().join("runs"))? {
            for path in list(&folder.join("pins"))? {
                let run = name_of(&folder);
                let twin = match read_pin(&path) {
                    None => continue,
                    Some(Ok(found)) if found == run => Ok(()),
                    Some(Ok(found)) => Err(format!("a pin of run `{found}`")),
                    Some(Err(found)) => Err(found),
                };
                pins.entry(name_of(&path)).or_default().twins.push((run, twin));
            }
        }
        Ok(pins)
    }

    fn pin_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        if name.is_empty() || safe(name) != name {
            return Err(StoreError::BadPin { name: name.to_owned() });
        }
        Ok(self.root().join("pins").join(name))
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The run that a file of a pin names; `None` when it is gone.
fn read_pin(path: &Path) -> Option<Result<String, String>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(format!("unreadable: {error}"))),
        Ok(bytes) => Some(open_sealed(&bytes).map_err(str::to_owned)),
    }
}
