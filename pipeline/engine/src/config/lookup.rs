//! Where a configuration file is looked for.

use std::path::{Path, PathBuf};

use crate::{error::ConfigError, names::nearest};

/// The folders that names in a configuration are relative to.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The folder that the command was started in.
    pub working: PathBuf,
    /// The nearest folder upward that holds `configs/` or `pipeline.toml`; the working folder where there is none.
    pub project: PathBuf,
}

impl Roots {
    /// Finds the project root from the working folder.
    pub fn find(working: &Path) -> Self {
        let project = project_root(working).unwrap_or(working);
        Self { working: working.to_owned(), project: project.to_owned() }
    }

    /// Finds a configuration file: as given, beside the file that names it, then under `configs/`.
    ///
    /// # Errors
    /// [`ConfigError::NoFile`] with every place tried and the nearest name.
    pub fn config_file(&self, name: &str, beside: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let configs = self.project.join("configs");
        let folders =
            [beside.map(Path::to_owned), Some(self.working.clone()), Some(configs.clone())];
        let tried: Vec<PathBuf> =
            folders.into_iter().flatten().map(|folder| folder.join(name)).collect();
        match tried.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => {
                let known = toml_files(&configs);
                let file_name = Path::new(name).file_name();
                let elsewhere = known.iter().find(|path| Path::new(path).file_name() == file_name);
                let close = || nearest(name, known.iter().map(String::as_str));
                Err(ConfigError::NoFile {
                    name: name.to_owned(),
                    tried,
                    nearest: elsewhere.map(String::as_str).or_else(close).map(str::to_owned),
                })
            }
        }
    }

    /// The path as messages show it: relative to the working folder or the project where that is shorter.
    pub fn shown(&self, path: &Path) -> String {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let short = path.strip_prefix(&self.working).or_else(|_| path.strip_prefix(&self.project));
        short.unwrap_or(&path).display().to_string()
    }
}

/// The nearest folder from `start` upward that holds `configs/` or `pipeline.toml`.
pub fn project_root(start: &Path) -> Option<&Path> {
    start
        .ancestors()
        .find(|folder| folder.join("configs").is_dir() || folder.join("pipeline.toml").is_file())
}

fn toml_files(configs: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![configs.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml")
                && let Ok(name) = path.strip_prefix(configs)
            {
                found.push(name.display().to_string());
            }
        }
    }
    found.sort();
    found
}
