//! Elements and texts of XML, as far as workbooks have any, with bounds for what `quick-xml` would keep however much it is:
//! a tag or a text, and the names of the elements that are open.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
    sync::Arc,
};

use quick_xml::{
    Error, Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesEnd, BytesStart, Event},
};

use super::{MAX_CELL_BYTES, SheetError};

/// Most elements within each other; workbooks have about ten.
const MAX_DEPTH: usize = 1 << 8;

/// A piece of a part.
pub(super) enum Piece<'a> {
    /// An element begins; one without content ends at once.
    Start(BytesStart<'a>),
    /// An element ends.
    End(BytesEnd<'a>),
    /// Text between elements, or some of it.
    Text(Cow<'a, str>),
}

impl Piece<'_> {
    /// Name of the element without the prefix of its namespace; none of a text.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Start(tag) => tag.local_name().into_inner(),
            Self::End(tag) => tag.local_name().into_inner(),
            Self::Text(_) => "",
        }
    }

    /// An attribute of an element that begins, whatever the prefix of its namespace.
    pub(super) fn attribute(&self, wanted: &str) -> Option<Cow<'_, str>> {
        let Self::Start(tag) = self else { return None };
        let mut attributes = tag.attributes();
        // Looking for doubles takes time with the square of their number.
        let mut found = attributes.with_checks(false).flatten();
        let found = found.find(|found| found.key.local_name().into_inner() == wanted)?;
        found.normalized_value(XmlVersion::Implicit1_0).ok()
    }
}

/// Calls `visit` with each piece of a part; no piece is longer than a cell.
///
/// # Errors
/// [`SheetError::Markup`], [`SheetError::Damaged`] where the part cannot be read, and those of `visit`.
pub(super) fn each_piece(
    part: &str,
    input: impl BufRead,
    mut visit: impl FnMut(&Piece<'_>) -> Result<(), SheetError>,
) -> Result<(), SheetError> {
    let wrong = |found: &str| SheetError::Markup { part: part.to_owned(), found: found.to_owned() };
    let mut reader = Reader::from_reader(Bounded { input, left: 0 });
    reader.config_mut().expand_empty_elements = true;
    let (mut piece, mut depth) = (Vec::new(), 0_usize);
    loop {
        piece.clear();
        // One more than a piece has, so that the end of the longest one is seen.
        reader.get_mut().left = MAX_CELL_BYTES + 1;
        let event = match reader.read_event_into(&mut piece) {
            Ok(event) => event,
            Err(Error::Io(_)) if reader.get_ref().left == 0 => {
                return Err(wrong("a piece of it is longer than any cell"));
            }
            Err(Error::Io(source)) => {
                let source = Arc::into_inner(source).unwrap_or(io::ErrorKind::Other.into());
                return Err(SheetError::Damaged { part: part.to_owned(), source });
            }
            // It may tell a name as long as a piece.
            Err(error) => {
                return Err(wrong(&error.to_string().chars().take(200).collect::<String>()));
            }
        };
        let piece = match event {
            Event::Start(tag) => Piece::Start(tag),
            Event::End(tag) => Piece::End(tag),
            Event::Text(text) => Piece::Text(text.xml10_content()),
            Event::CData(text) => Piece::Text(text.xml10_content()),
            Event::GeneralRef(entity) => {
                let character =
                    entity.resolve_char_ref().map_err(|error| wrong(&error.to_string()))?;
                let text = match character {
                    Some(character) => Some(character.to_string().into()),
                    None => resolve_predefined_entity(&entity.into_inner()).map(Cow::Borrowed),
                };
                Piece::Text(text.ok_or_else(|| wrong("an entity is not known"))?)
            }
            Event::DocType(_) => return Err(wrong("it has a document type")),
            Event::Eof => return Ok(()),
            _ => continue,
        };
        depth = match piece {
            Piece::Start(_) => depth + 1,
            Piece::End(_) => depth.saturating_sub(1),
            Piece::Text(_) => depth,
        };
        if depth > MAX_DEPTH {
            return Err(wrong("its elements are nested deeper than those of any workbook"));
        }
        visit(&piece)?;
    }
}

/// Gives so many bytes, and then an error.
struct Bounded<R> {
    input: R,
    left: usize,
}

impl<R: BufRead> BufRead for Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bytes = self.input.fill_buf()?;
        Ok(&bytes[..bytes.len().min(self.left)])
    }

    fn consume(&mut self, n_bytes: usize) {
        self.left -= n_bytes;
        self.input.consume(n_bytes);
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.fill_buf()?.read(room)?;
        self.consume(n_bytes);
        Ok(n_bytes)
    }
}
