//! What can be wrong with a reading; no variant holds text of the file, so that no name of a study reaches a message.

use thiserror::Error;

/// Everything that the reader of readings refuses.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadingError {
    /// A file that is larger than any reading.
    #[error("the file has more than {limit} bytes")]
    Size {
        /// Bytes that are read.
        limit: usize,
    },
    /// What is no XML, or ends before its root element does.
    #[error("the XML is damaged at byte {place}")]
    Xml {
        /// Where the parser gave up.
        place: u64,
    },
    /// Another document.
    #[error("the root element must be `LidcReadMessage`: found another")]
    Root,
    /// A reading of chest X-rays.
    #[error("the root element is `IdriReadMessage`: a reading of chest X-rays")]
    Xray,
    /// An element without one that it needs.
    #[error("`{element}` that ends at byte {place} has no `{name}`")]
    Missing {
        /// The element.
        element: &'static str,
        /// What it needs.
        name: &'static str,
        /// Where it ends.
        place: u64,
    },
    /// An element whose text is not understood.
    #[error("`{name}` that ends at byte {place} must be {expected}: found another text")]
    Text {
        /// The element.
        name: &'static str,
        /// What is understood.
        expected: &'static str,
        /// Where it ends.
        place: u64,
    },
    /// An outline with more points than a slice has room for.
    #[error("`roi` has more than {limit} points at byte {place}")]
    Points {
        /// Points that are read.
        limit: usize,
        /// Where the first of the others ends.
        place: u64,
    },
}
