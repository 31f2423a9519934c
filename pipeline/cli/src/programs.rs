//! Where the programs lie that run what this one cannot: `pipeline-cuda` beside it.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The program that has the same stages and trains on NVIDIA GPUs.
pub(crate) const CUDA: &str = "pipeline-cuda";

/// The file of a program: what the variable of its name says (`PIPELINE_CUDA`), else beside this command, else in the
/// folders of PATH; or all places where it was looked for.
pub(crate) fn find(name: &str) -> Result<PathBuf, Vec<PathBuf>> {
    let variable = name.to_uppercase().replace('-', "_");
    let own = env::current_exe().ok();
    let path = env::var_os("PATH").unwrap_or_default();
    let places = match env::var_os(variable) {
        Some(file) => vec![PathBuf::from(file)],
        None => {
            let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
            beside.into_iter().chain(env::split_paths(&path)).map(|at| at.join(name)).collect()
        }
    };
    places.iter().find(|place| place.is_file()).cloned().ok_or(places)
}
