//! What can be wrong with the data of a report.

use thiserror::Error;

/// Why a report could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A picture whose number of values does not fill its shape, or that has no pixels.
    #[error(
        "{what}: shape [row, column] = [{rows}, {columns}] needs {expected} values, at least one: got {found}"
    )]
    PictureShape {
        /// The picture, in words.
        what: String,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// Rows times columns.
        expected: usize,
        /// Values that were given.
        found: usize,
    },
    /// A picture of a case that does not lie on the grid of the case's image.
    #[error(
        "case `{case}`: {what} differs from the image in shape [row, column]: {found:?}, expected {expected:?}"
    )]
    ShapeMismatch {
        /// The case.
        case: String,
        /// The picture, in words.
        what: String,
        /// Shape of the image.
        expected: [usize; 2],
        /// Shape of the picture.
        found: [usize; 2],
    },
    /// A row whose number of entries differs from the columns of its table.
    #[error("row `{row}` of table `{table}`: expected {expected} {what}, got {found}")]
    RowLength {
        /// The table's title.
        table: String,
        /// The row's label.
        row: String,
        /// What the entries are.
        what: &'static str,
        /// Columns of the table.
        expected: usize,
        /// Entries of the row.
        found: usize,
    },
    /// A picture that could not be written as PNG.
    #[error("{what}: encoding as PNG failed")]
    Png {
        /// The picture, in words.
        what: String,
        /// The encoder's error.
        source: image::ImageError,
    },
    /// The page template and its values do not fit: a fault of this crate.
    #[error("page template failed")]
    Template(#[from] minijinja::Error),
}
