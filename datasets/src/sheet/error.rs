//! What can be wrong with a spreadsheet, with what was expected and what was found.

use std::io;

use thiserror::Error;

/// Everything that the readers of spreadsheets refuse.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SheetError {
    /// A file whose name says no format that is read.
    #[error("the name must end in .xlsx or .csv")]
    UnknownEnding,
    /// Something that is larger than what is read.
    #[error("{what} has {found} bytes: at most {limit} are read")]
    Size {
        /// What is too large.
        what: String,
        /// Its bytes, or those that were counted before the reading ended.
        found: u64,
        /// Bytes that are read.
        limit: u64,
    },
    /// A file that is no zip archive, which a workbook is.
    #[error("this is no workbook: {found}")]
    Archive {
        /// What is wrong with it.
        found: &'static str,
    },
    /// A part that the workbook lacks.
    #[error("the workbook has no part `{part}`")]
    MissingPart {
        /// Its name in the archive.
        part: String,
    },
    /// A part that is stored in a way that is not read.
    #[error("part `{part}` of the workbook {found}")]
    Storage {
        /// Its name in the archive.
        part: String,
        /// How it is stored.
        found: &'static str,
    },
    /// A part whose compressed bytes are damaged.
    #[error("part `{part}` of the workbook is damaged")]
    Damaged {
        /// Its name in the archive.
        part: String,
        /// What the decoder says.
        source: io::Error,
    },
    /// A part that is no XML, or XML with what no workbook has.
    #[error("part `{part}` of the workbook is no such XML as is read: {found}")]
    Markup {
        /// Its name in the archive.
        part: String,
        /// What is wrong with it.
        found: String,
    },
    /// A sheet that the workbook lacks.
    #[error("there is no sheet `{name}`: found {found:?}")]
    MissingSheet {
        /// The sheet asked for.
        name: String,
        /// The sheets that there are.
        found: Vec<String>,
    },
    /// A row that cannot be read.
    #[error("row {row} {found}")]
    Row {
        /// Number of the row, from 1.
        row: usize,
        /// What is wrong with it.
        found: &'static str,
    },
    /// A text file that cannot be read to its end.
    #[error("the text cannot be read behind row {row}")]
    Text {
        /// Number of the last row that was read, from 1.
        row: usize,
        /// What the system says.
        source: io::Error,
    },
}
