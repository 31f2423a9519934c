//! Data sets that lie in a folder as one file a channel and one label file a rater, in any format that is read.
//!
//! A [`Layout`] says by patterns of paths which file is what. [`list`] pairs the files of a folder into cases both ways,
//! [`read_case`] reads one of them, and whatever is wrong becomes a [`Finding`] of the ingest report instead of the
//! first error: a data set is repaired in one round.

mod check;
mod duke;
mod layout;
mod listing;
mod pattern;
mod read;
mod report;
mod series;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{DatasetsError, dicom, raster, volume};

pub use check::{check_image, digest};
pub use duke::{Bounds, DukeTables, TableFiles};
pub use layout::{Layout, LayoutPatterns, Metadata};
pub use listing::{Entry, LabelFile, Listing, SourceFile, Wanted, list};
pub use pattern::{Captured, Pattern, PatternError, Placeholder};
pub use read::{FolderCase, ReadOptions, has_slices, read_case};
pub use report::{Action, Finding, FindingCode, Severity, table};
pub use series::{code_of_note, refusal};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most files that a folder may hold.
const MAX_FILES: usize = 1 << 20;

/// Folders below the root that are looked into.
const MAX_DEPTH: usize = 8;

/// The values of a label map that make up a structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LabelValues {
    /// These whole numbers; structures may share numbers, as a disc of 1 and 2 and a cup of 2.
    Listed(Vec<u32>),
    /// A rule instead of numbers.
    Rule(ValueRule),
}

/// A rule that tells a structure from the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueRule {
    /// Everything but 0; the file must hold 0 and one other value.
    Foreground,
}

/// Lists all files under `root` as relative names with `/`, in order; hidden ones, as `._*` of some archives, are left out.
///
/// # Errors
/// [`DatasetsError::Read`] for folders that cannot be listed, and [`DatasetsError::TooManyFiles`].
pub fn files_under(root: &Path) -> Result<Vec<SourceFile>, DatasetsError> {
    let mut found = Vec::new();
    collect(root, "", 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<SourceFile>,
) -> Result<(), DatasetsError> {
    let failed = |source| DatasetsError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            if depth < MAX_DEPTH {
                collect(&path, &format!("{name}/"), depth + 1, found)?;
            }
        } else if found.len() < MAX_FILES {
            found.push(SourceFile { name, path });
        } else {
            let root = folder.to_owned();
            return Err(DatasetsError::TooManyFiles { root, limit: MAX_FILES });
        }
    }
    Ok(())
}

/// The file and, where its voxels lie in another file, that one too.
pub fn with_voxels(file: &SourceFile) -> Vec<SourceFile> {
    let mut files = vec![file.clone()];
    // A header that cannot be read is reported when it is read for its voxels.
    let detached = volume::detached_voxels(&file.path).ok().flatten();
    if let Some((path, folder)) = detached.zip(file.path.parent()) {
        let own: PathBuf = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        let prefix = file.name.rsplit_once('/').map_or(String::new(), |(way, _)| format!("{way}/"));
        files.push(SourceFile { name: format!("{prefix}{}", own.display()), path });
    }
    files
}

/// The ending of a file that is read, in lower case.
fn ending(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let known = volume::ENDINGS.iter().chain(&raster::ENDINGS).chain([&dicom::ENDING]);
    known.copied().find(|ending| name.ends_with(ending))
}
