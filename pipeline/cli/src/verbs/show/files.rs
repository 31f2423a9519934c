//! Files of an artifact under their own names, for programs that know nothing of the store.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use engine::{Store, store::Stored};

use crate::{
    console::Console,
    error::CliError,
    text::{count, file_name},
};

/// Copies all parts into a folder, verified, and counts them.
pub(super) fn copy(stored: &Stored, store: &Store, folder: &Path) -> Result<usize, CliError> {
    fs::create_dir_all(folder).map_err(CliError::file("create", folder))?;
    for part in stored.manifest.parts() {
        let source = store.verify(part)?;
        // Lists are files, too: a name that is none, and a link under it, would lead out of the folder.
        let is_name = Path::new(&part.name).file_name() == Some(part.name.as_ref());
        let target = folder.join(if is_name { part.name.clone() } else { file_name(&part.name) });
        let _ = fs::remove_file(&target);
        let mut from = File::open(&source).map_err(CliError::file("read", &source))?;
        let copied = File::create_new(&target).and_then(|mut file| io::copy(&mut from, &mut file));
        copied.map_err(CliError::file("write", &target))?;
    }
    Ok(stored.manifest.n_parts())
}

/// Says how many files lie in a folder now.
pub(super) fn tell(n: usize, folder: &Path, console: &mut Console<'_>) {
    console.remark(&format!("{} in {}", count(n, "file"), folder.display()));
}
