//! Rows of spreadsheets (`.xlsx`) and of comma-separated text (`.csv`), as texts.
//!
//! Sources: ECMA-376 part 1, 18 (SpreadsheetML); RFC 4180. The reader is our own: `calamine` (0.38) keeps every shared
//! text and a dense grid of a sheet in memory, however far apart its cells are, and has no limit for either, while the
//! table of a data set needs one row at a time. Values are those that the file stores: of formulas the last result, of
//! dates the number of the day.

mod archive;
mod comma;
mod error;
mod markup;
#[cfg(test)]
mod tests;
mod workbook;

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use crate::DatasetsError;

pub use error::SheetError;

/// Largest file, in bytes. A workbook is in memory as it is stored.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// Largest text file, in bytes.
const MAX_TEXT_FILE_BYTES: u64 = 1 << 30;

/// Largest text of one cell, in bytes; Excel ends at 32,767 characters.
const MAX_CELL_BYTES: usize = 1 << 20;

/// Largest text of one row, in bytes.
const MAX_ROW_BYTES: usize = 1 << 24;

/// Rows and columns of a sheet, as in Excel.
const MAX_ROWS: usize = 1 << 20;
const MAX_COLUMNS: usize = 1 << 14;

/// What is done with a row: its number, from 1, and its cells from the first column on. Empty cells are empty texts, and
/// those behind the last one of a row may be absent.
type Visit<'a> = dyn FnMut(usize, &[String]) + 'a;

/// Gives the rows of a table one after another; `sheet` names one of a workbook, whose first is the default.
///
/// A workbook takes the memory of its file and of its shared texts, at most 2^29 bytes of them; a text file that of a row.
///
/// # Errors
/// [`DatasetsError::Read`], and [`DatasetsError::Sheet`] for what is no such table or is larger than what is read. Rows
/// before the damage were given.
pub fn each_row(
    path: &Path,
    sheet: Option<&str>,
    mut visit: impl FnMut(usize, &[String]),
) -> Result<(), DatasetsError> {
    let unreadable = |source| DatasetsError::Read { path: path.to_owned(), source };
    let wrong = |source| DatasetsError::Sheet { path: path.to_owned(), source };
    let name = path.to_string_lossy().to_ascii_lowercase();
    let is_workbook = name.ends_with(".xlsx");
    if !is_workbook && !name.ends_with(".csv") {
        return Err(wrong(SheetError::UnknownEnding));
    }
    let limit = if is_workbook { MAX_FILE_BYTES } else { MAX_TEXT_FILE_BYTES };
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?.len();
    if found > limit {
        return Err(wrong(SheetError::Size { what: "the file".to_owned(), found, limit }));
    }
    let mut file = file.take(limit);
    if !is_workbook {
        return comma::each_row(BufReader::new(file), &mut visit).map_err(wrong);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    workbook::each_row(&bytes, sheet, &mut visit).map_err(wrong)
}
