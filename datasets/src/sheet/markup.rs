//! Elements and texts of XML, as far as workbooks have any: UTF-8 without document types.

use std::io::{BufRead, Read};

use super::{MAX_CELL_BYTES, SheetError};

/// What comes next in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An element begins; one without content ends at once.
    Start,
    /// An element ends.
    End,
    /// Text between elements.
    Text,
}

/// A part that is read piece by piece; no piece is longer than a cell.
pub(super) struct Markup<R> {
    part: String,
    input: R,
    raw: Vec<u8>,
    /// The last tag without its brackets, or the last text.
    piece: String,
    /// Whether the next byte belongs to a tag.
    is_in_tag: bool,
    /// Whether the last tag ends its element, too.
    is_closing: bool,
}

impl<R: BufRead> Markup<R> {
    pub(super) fn new(part: &str, input: R) -> Self {
        let [is_in_tag, is_closing] = [false; 2];
        let (raw, piece) = (Vec::new(), String::new());
        Self { part: part.to_owned(), input, raw, piece, is_in_tag, is_closing }
    }

    /// The next piece; `None` behind the last one.
    pub(super) fn advance(&mut self) -> Result<Option<Event>, SheetError> {
        if std::mem::take(&mut self.is_closing) {
            return Ok(Some(Event::End));
        }
        loop {
            if !self.is_in_tag {
                self.raw.clear();
                self.is_in_tag = self.fill(b'<')?;
                if !self.raw.is_empty() {
                    self.decode(0, self.raw.len())?;
                    return Ok(Some(Event::Text));
                }
                if !self.is_in_tag {
                    return Ok(None);
                }
            }
            self.is_in_tag = false;
            self.tag()?;
            let is_note = self.raw.starts_with(b"?") || self.raw.starts_with(b"!--");
            if is_note {
                continue;
            }
            if let Some(text) = self.raw.strip_prefix(b"![CDATA[") {
                self.piece = self.utf8(&text[..text.len() - 2])?.to_owned();
                return Ok(Some(Event::Text));
            }
            if self.raw.starts_with(b"!") {
                return Err(self.wrong("it has a document type"));
            }
            let is_end = self.raw.starts_with(b"/");
            self.is_closing = !is_end && self.raw.ends_with(b"/");
            let (start, end) = (usize::from(is_end), self.raw.len() - usize::from(self.is_closing));
            self.piece = self.utf8(&self.raw[start..end])?.to_owned();
            return Ok(Some(if is_end { Event::End } else { Event::Start }));
        }
    }

    /// Name of the last tag without the prefix of its namespace.
    pub(super) fn name(&self) -> &str {
        let name = self.piece.split_ascii_whitespace().next().unwrap_or_default();
        name.rsplit_once(':').map_or(name, |(_, own)| own)
    }

    /// An attribute of the last tag as it is written, whatever the prefix of its namespace.
    pub(super) fn attribute(&self, wanted: &str) -> Option<&str> {
        let mut rest = self.piece.split_once(|c: char| c.is_ascii_whitespace())?.1;
        loop {
            let (name, behind) = rest.split_once('=')?;
            let behind = behind.trim_ascii_start();
            let quote = behind.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let (value, others) = behind[1..].split_once(quote)?;
            let name = name.trim_ascii();
            if name.rsplit_once(':').map_or(name, |(_, own)| own) == wanted {
                return Some(value);
            }
            rest = others;
        }
    }

    /// The last text.
    pub(super) fn text(&self) -> &str {
        &self.piece
    }

    /// A whole tag, comment or section; brackets within quotes do not end a tag.
    fn tag(&mut self) -> Result<(), SheetError> {
        self.raw.clear();
        let (mut n_seen, mut quote) = (0, None);
        loop {
            if !self.fill(b'>')? {
                return Err(self.wrong("it ends within a tag"));
            }
            let raw = self.raw.as_slice();
            let is_whole = if raw.starts_with(b"!--") {
                raw.len() >= 5 && raw.ends_with(b"--")
            } else if raw.starts_with(b"![CDATA[") {
                raw.len() >= 10 && raw.ends_with(b"]]")
            } else if raw.starts_with(b"?") {
                raw.len() >= 2 && raw.ends_with(b"?")
            } else {
                for &byte in &raw[n_seen..] {
                    match quote {
                        None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
                        Some(open) if open == byte => quote = None,
                        _ => {}
                    }
                }
                quote.is_none()
            };
            if is_whole {
                return Ok(());
            }
            n_seen = self.raw.len();
            self.raw.push(b'>');
        }
    }

    /// Appends the bytes before a delimiter, which is taken and left out; `false` at the end of the part.
    fn fill(&mut self, delimiter: u8) -> Result<bool, SheetError> {
        let room = (MAX_CELL_BYTES + 1).saturating_sub(self.raw.len());
        let mut limited = self.input.by_ref().take(room as u64);
        let n_read = limited
            .read_until(delimiter, &mut self.raw)
            .map_err(|source| SheetError::Damaged { part: self.part.clone(), source })?;
        let is_found = n_read > 0 && self.raw.last() == Some(&delimiter);
        if is_found {
            self.raw.pop();
        }
        if self.raw.len() > MAX_CELL_BYTES || room == 0 {
            return Err(self.wrong("a piece of it is longer than any cell"));
        }
        Ok(is_found)
    }

    /// Resolves the entities of a text.
    fn decode(&mut self, start: usize, end: usize) -> Result<(), SheetError> {
        let raw = self.utf8(&self.raw[start..end])?;
        let decoded = resolved(raw).ok_or_else(|| self.wrong("an entity is not known"))?;
        self.piece = decoded;
        Ok(())
    }

    fn utf8<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, SheetError> {
        std::str::from_utf8(bytes).map_err(|_| self.wrong("it is not UTF-8"))
    }

    /// An error of this part.
    pub(super) fn wrong(&self, found: &'static str) -> SheetError {
        SheetError::Markup { part: self.part.clone(), found }
    }
}

/// A text with its entities resolved; `None` for one that is not known.
pub(super) fn resolved(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, behind)) = rest.split_once('&') {
        let (entity, others) = behind.split_once(';')?;
        text.push_str(before);
        text.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = entity.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
        rest = others;
    }
    text.push_str(rest);
    Some(text)
}
