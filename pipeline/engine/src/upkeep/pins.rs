//! Pins: names for runs whose results are kept until the name is taken away.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use super::list;
use crate::{
    error::StoreError,
    store::{Store, safe},
};

impl Store {
    /// Keeps the results of a finished run under a name; another run that has the name loses it.
    ///
    /// # Errors
    /// [`StoreError::BadRun`] for a run whose report cannot be read, [`StoreError::BadPin`] for a name that is not of
    /// letters, digits, `-` and `_` alone, [`StoreError::Io`] when the pin cannot be written.
    pub fn pin(&self, run: &str, name: &str) -> Result<(), StoreError> {
        self.run_report(run)?;
        self.replace(&self.pin_path(name)?, run.as_bytes())
    }

    /// Takes a name away; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError::BadPin`] and [`StoreError::Io`] as for [`pin`](Self::pin).
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.pin_path(name)?;
        match self.disk().remove(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", path)(error)),
        }
    }

    /// The pinned runs by name.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder of pins is there and cannot be read.
    pub fn pins(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let read = |path: PathBuf| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, fs::read_to_string(path).ok()?))
        };
        Ok(list(&self.root().join("pins"))?.into_iter().filter_map(read).collect())
    }

    fn pin_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        if name.is_empty() || safe(name) != name {
            return Err(StoreError::BadPin { name: name.to_owned() });
        }
        Ok(self.root().join("pins").join(name))
    }
}
