//! Parts of a zip archive, read one at a time and never beyond the size that its directory announces.
//!
//! Source: APPNOTE 6.3.10 of PKWARE, 4.3: parts that are stored or deflated and below 4 GiB.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read},
};

use flate2::{Crc, bufread::DeflateDecoder};

use super::SheetError;

/// Largest part of an archive, in bytes; it is read as a stream.
const MAX_PART_BYTES: u64 = 1 << 30;

/// Bytes of the end of the directory, and of the comment that may follow it.
const END_BYTES: usize = 22;
const MAX_COMMENT_BYTES: usize = 1 << 16;

/// A size or place that stands elsewhere, in fields of 64 bits.
const ELSEWHERE: u32 = u32::MAX;

/// An archive in memory.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    parts: BTreeMap<String, Entry>,
}

/// What the directory says of a part.
struct Entry {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    header: u32,
}

fn short(bytes: &[u8], place: usize) -> u16 {
    u16::from_le_bytes([bytes[place], bytes[place + 1]])
}

fn long(bytes: &[u8], place: usize) -> u32 {
    u32::from(short(bytes, place)) | u32::from(short(bytes, place + 2)) << 16
}

/// The first `N` bytes of a record with its mark.
fn record<const N: usize>(bytes: &[u8], place: usize, mark: &[u8; 4]) -> Option<[u8; N]> {
    let found = bytes.get(place..)?.first_chunk::<N>()?;
    found.starts_with(mark).then_some(*found)
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, SheetError> {
        let wrong = |found| SheetError::Archive { found };
        let tail = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT_BYTES);
        let end = bytes[tail..].windows(4).rposition(|window| window == b"PK\x05\x06");
        let end = end.and_then(|end| record::<END_BYTES>(bytes, tail + end, b"PK\x05\x06"));
        let end = end.ok_or_else(|| wrong("it has no directory of a zip archive"))?;
        let damaged = || wrong("its directory is damaged");
        let mut parts = BTreeMap::new();
        let mut place = long(&end, 16) as usize;
        for _ in 0..short(&end, 10) {
            let entry = record::<46>(bytes, place, b"PK\x01\x02").ok_or_else(damaged)?;
            let name_end = place + 46 + usize::from(short(&entry, 28));
            let name = bytes.get(place + 46..name_end).ok_or_else(damaged)?;
            let part = Entry {
                flags: short(&entry, 8),
                method: short(&entry, 10),
                crc: long(&entry, 16),
                packed: long(&entry, 20),
                size: long(&entry, 24),
                header: long(&entry, 42),
            };
            parts.insert(String::from_utf8_lossy(name).into_owned(), part);
            place = name_end + usize::from(short(&entry, 30)) + usize::from(short(&entry, 32));
        }
        Ok(Self { bytes, parts })
    }

    /// Whether there is a part of this name.
    pub(super) fn has(&self, part: &str) -> bool {
        self.parts.contains_key(part)
    }

    /// A part as a stream that ends with an error unless size and checksum are those of the directory.
    pub(super) fn part(&self, part: &str) -> Result<BufReader<Checked<'a>>, SheetError> {
        let Some(entry) = self.parts.get(part) else {
            return Err(SheetError::MissingPart { part: part.to_owned() });
        };
        let stored = |found| SheetError::Storage { part: part.to_owned(), found };
        if entry.flags & 1 != 0 {
            return Err(stored("is encrypted"));
        }
        if [entry.size, entry.packed, entry.header].contains(&ELSEWHERE) {
            return Err(stored("has sizes of 64 bits, which are not read"));
        }
        let size = u64::from(entry.size);
        if size > MAX_PART_BYTES {
            let what = format!("part `{part}` of the workbook");
            return Err(SheetError::Size { what, found: size, limit: MAX_PART_BYTES });
        }
        let place = entry.header as usize;
        let header = record::<30>(self.bytes, place, b"PK\x03\x04");
        let packed = header.and_then(|header| {
            let start =
                place + 30 + usize::from(short(&header, 26)) + usize::from(short(&header, 28));
            self.bytes.get(start..start + entry.packed as usize)
        });
        let packed = packed.ok_or_else(|| stored("lies outside the file"))?;
        let inner: Box<dyn Read + 'a> = match entry.method {
            0 => Box::new(packed),
            8 => Box::new(DeflateDecoder::new(packed)),
            _ => return Err(stored("is compressed in another way than by deflate")),
        };
        Ok(BufReader::new(Checked { inner, left: size, crc: Crc::new(), expected: entry.crc }))
    }
}

/// Bytes of a part, counted and summed up as they are read.
pub(super) struct Checked<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    crc: Crc,
    expected: u32,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wrong = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        let n_read = self.inner.read(buffer)?;
        self.crc.update(&buffer[..n_read]);
        match self.left.checked_sub(n_read as u64) {
            None => return wrong("it is longer than its directory says"),
            Some(left) => self.left = left,
        }
        if n_read == 0 && !buffer.is_empty() {
            if self.left > 0 {
                return wrong("it is shorter than its directory says");
            }
            if self.crc.sum() != self.expected {
                return wrong("its checksum is wrong");
            }
        }
        Ok(n_read)
    }
}
