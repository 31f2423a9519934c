//! What every verb sees: the stages, the project and the store.

use std::path::{Path, PathBuf};

use engine::{Experiment, Override, Registry, Roots, Store, StoreError};

use crate::{arguments::ExperimentArguments, error::CliError, interrupt::StopFlag};

/// The surroundings of one call of the command.
pub(crate) struct World {
    /// The stages that an experiment may name.
    pub(crate) registry: Registry,
    /// The folders that names are relative to.
    pub(crate) roots: Roots,
    /// The folder of the store.
    pub(crate) store: PathBuf,
    /// What tells a run to stop.
    pub(crate) stop: StopFlag,
}

impl World {
    /// Reads and checks the experiment that the arguments name.
    pub(crate) fn experiment(
        &self,
        arguments: &ExperimentArguments,
    ) -> Result<Experiment, CliError> {
        let overrides = Self::overrides(arguments)?;
        Ok(Experiment::load(&arguments.file, &overrides, &self.roots, &self.registry)?)
    }

    /// What the arguments set over the experiment's file.
    pub(crate) fn overrides(arguments: &ExperimentArguments) -> Result<Vec<Override>, CliError> {
        let scale = arguments.scale.as_deref().map(|name| {
            Override::text(&["experiment", "scale"], name, &format!("experiment.scale={name}"))
        });
        let set = arguments.set.iter().map(|argument| Override::parse(argument));
        Ok(scale.into_iter().map(Ok).chain(set).collect::<Result<_, _>>()?)
    }

    /// Opens the store for writing.
    pub(crate) fn open_store(&self) -> Result<Store, StoreError> {
        Store::open(&self.store)
    }

    /// Opens the store for reading; one that is not there is empty and stays absent.
    pub(crate) fn read_store(&self) -> Store {
        Store::for_reading(&self.store)
    }

    /// The file of this command, even where another one has taken its name.
    pub(crate) fn launcher(&self) -> Option<PathBuf> {
        // In the library's own tests this process is not the command.
        (!cfg!(test)).then(|| PathBuf::from("/proc/self/exe")).filter(|path| path.exists())
    }

    /// A path as people see it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        self.roots.shown(path)
    }
}
