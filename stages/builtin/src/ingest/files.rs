//! What stages share that read a folder of files: its files as inputs of the key, and the work shard by shard.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use datasets::{
    folder::{Finding, SourceFile, files_under},
    shard::ShardPart,
};
use engine::{Ctx, External, StageError};
use rayon::prelude::*;

use super::folder::FolderFault;
use crate::shards::refused;

/// What to do where the folder of a data set cannot be read.
pub(super) const ROOT_HINT: &str = "set the data set's folder with `--set CELL.root=FOLDER`";

/// All files below the folder of a data set.
pub(super) fn files_of(root: &Path) -> Result<Vec<SourceFile>, StageError> {
    files_under(root).map_err(|error| refused(error).hint(ROOT_HINT))
}

pub(super) fn external(SourceFile { name, path }: SourceFile) -> External {
    External { name, path }
}

/// The files that were declared as externals.
pub(super) fn declared(ctx: &Ctx<'_>) -> Vec<SourceFile> {
    let file =
        |External { name, path }: &External| SourceFile { name: name.clone(), path: path.clone() };
    ctx.externals().iter().map(file).collect()
}

/// Refuses a folder with these files of which none fits what is looked for.
pub(super) fn some_of(files: &[SourceFile], found: &[SourceFile]) -> Result<(), StageError> {
    match found {
        [] => Err(StageError::new(FolderFault::NoCase { n_files: files.len() })),
        _ => Ok(()),
    }
}

/// Does the work of every shard, on all threads, and tells how far it is: rows of cases and findings, in the order of the
/// shards.
pub(super) fn each_part<R: Send>(
    parts: &[ShardPart],
    ctx: &Ctx<'_>,
    work: impl Fn(&ShardPart) -> Result<(Vec<R>, Vec<Finding>), StageError> + Sync,
) -> Result<(Vec<R>, Vec<Finding>), StageError> {
    let n_done = AtomicUsize::new(0);
    let done = parts.par_iter().map(|part| {
        let found = work(part)?;
        let n_done = n_done.fetch_add(1, Ordering::Relaxed) + 1;
        ctx.progress(n_done as f64 / parts.len() as f64, &part.name);
        Ok(found)
    });
    let done = done.collect::<Result<Vec<_>, StageError>>()?;
    let (rows, findings): (Vec<Vec<R>>, Vec<Vec<Finding>>) = done.into_iter().unzip();
    Ok((rows.into_iter().flatten().collect(), findings.concat()))
}
