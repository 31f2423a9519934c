//! `pipeline show`: runs, cells, artifacts and Parquet files.

mod artifact;
mod files;
pub(super) mod find;
mod parquet;
pub(super) mod reports;
mod runs;

use std::path::PathBuf;

use crate::{
    arguments::ShowArguments,
    console::Console,
    error::{CliError, Exit},
    world::World,
};

use artifact::Details;
use find::{Thing, find};

/// How much is shown.
struct View<'a> {
    json: bool,
    /// Rows of a table; texts have a few lines for each.
    rows: usize,
    /// Where pictures go.
    pictures: Option<&'a PathBuf>,
    /// Where copies of files go.
    files: Option<&'a PathBuf>,
}

pub(super) fn run(
    arguments: &ShowArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let store = world.read_store();
    let ShowArguments { thing, json, rows, pictures, files } = arguments;
    let (pictures, files) = (pictures.as_ref(), files.as_ref());
    let view = View { json: *json, rows: *rows, pictures, files };
    match find(thing, world, &store)? {
        Thing::Run(report) if view.json => runs::scores_as_json(&report, &store, console)?,
        Thing::Run(report) => runs::show(&report, &store, world, console)?,
        Thing::Cell(report, cell) => runs::show_cell(&report, &cell, &store, &view, console)?,
        Thing::Artifact(stored) => {
            let details = Details::of(&stored, &store, &view)?;
            if let Some(folder) = view.pictures {
                parquet::tell_pictures(details.n_pictures, folder, console);
            }
            if let Some(folder) = view.files {
                files::tell(files::copy(&stored, &store, folder)?, folder, console);
            }
            details.show(&view, console)?;
        }
        Thing::File(path) => parquet::show_file(&path, world, &view, console)?,
    }
    Ok(Exit::Done)
}
