//! Comma-separated text.

use std::io::BufRead;

use super::{MAX_CELL_BYTES, MAX_COLUMNS, MAX_ROW_BYTES, SheetError, Visit};

const BYTE_ORDER: &[u8] = b"\xef\xbb\xbf";

/// Where in a record the next byte stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// At the beginning of a field.
    Start,
    /// In a field without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote that ends the field or is the first of two.
    Quote,
}

/// The record that is read.
struct Record {
    number: usize,
    cells: Vec<String>,
    field: Vec<u8>,
    n_bytes: usize,
}

/// Gives the records of a text, numbered from 1; what is no UTF-8 becomes replacement characters.
pub(super) fn each_row(mut input: impl BufRead, visit: &mut Visit<'_>) -> Result<(), SheetError> {
    let mut record = Record { number: 1, cells: Vec::new(), field: Vec::new(), n_bytes: 0 };
    let mut place = Place::Start;
    let failed = |source| SheetError::Text { row: 0, source };
    // Excel begins UTF-8 with the mark of its byte order.
    if input.fill_buf().map_err(failed)?.starts_with(BYTE_ORDER) {
        input.consume(BYTE_ORDER.len());
    }
    loop {
        let failed = |source| SheetError::Text { row: record.number - 1, source };
        let chunk = input.fill_buf().map_err(failed)?;
        if chunk.is_empty() {
            break;
        }
        let n_bytes = chunk.len();
        for &byte in chunk {
            place = match (place, byte) {
                (Place::Start, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::Quote,
                (Place::Quoted, _) | (Place::Quote, b'"') => record.push(byte, Place::Quoted)?,
                (_, b',') => record.end_field()?,
                (_, b'\n') => record.end(visit)?,
                (_, b'\r') => place,
                _ => record.push(byte, Place::Plain)?,
            };
        }
        input.consume(n_bytes);
    }
    if place == Place::Quoted {
        return Err(record.wrong("ends within quotes"));
    }
    if place != Place::Start || !record.cells.is_empty() {
        record.end(visit)?;
    }
    Ok(())
}

impl Record {
    fn wrong(&self, found: &'static str) -> SheetError {
        SheetError::Row { row: self.number, found }
    }

    fn push(&mut self, byte: u8, place: Place) -> Result<Place, SheetError> {
        self.n_bytes += 1;
        if self.field.len() >= MAX_CELL_BYTES || self.n_bytes > MAX_ROW_BYTES {
            return Err(self.wrong("is longer than what is read"));
        }
        self.field.push(byte);
        Ok(place)
    }

    fn end_field(&mut self) -> Result<Place, SheetError> {
        if self.cells.len() >= MAX_COLUMNS {
            return Err(self.wrong("has more cells than are read"));
        }
        self.cells.push(String::from_utf8_lossy(&self.field).into_owned());
        self.field.clear();
        Ok(Place::Start)
    }

    fn end(&mut self, visit: &mut Visit<'_>) -> Result<Place, SheetError> {
        self.end_field()?;
        visit(self.number, &self.cells);
        self.number += 1;
        self.n_bytes = 0;
        self.cells.clear();
        Ok(Place::Start)
    }
}
