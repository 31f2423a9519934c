//! Data elements of DICOM: a walk over the bytes of a file that keeps the attributes of a closed list and nothing else.
//!
//! Source: DICOM PS3.5, 7.1 (elements), 7.5 (sequences), A.1 to A.5 (transfer syntaxes); PS3.10, 7.1 (files).
//! No length is believed before it is compared with the bytes that are left, nothing is copied, and nesting is
//! bounded, so a hostile file costs no more than its own size.

use std::{borrow::Cow, io::Read};

use flate2::bufread::DeflateDecoder;

use super::{
    DicomError,
    attribute::{self, Attribute, Tag},
};

/// Levels of sequences that are followed; functional groups need four.
const MAX_DEPTH: usize = 32;

/// Most bytes that a deflated data set may have.
const MAX_INFLATED: u64 = 1 << 31;

const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;

/// How pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Native,
    RunLength,
    JpegBaseline,
    JpegLossless,
}

/// A transfer syntax that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) is_explicit: bool,
    pub(super) is_big: bool,
    is_deflated: bool,
    pub(super) codec: Codec,
}

impl Syntax {
    fn of(uid: &str) -> Result<Self, DicomError> {
        let little =
            |is_explicit, codec| Self { is_explicit, is_big: false, is_deflated: false, codec };
        let plain = little(true, Codec::Native);
        let Some(suffix) = uid.strip_prefix("1.2.840.10008.1.2") else {
            return Err(DicomError::TransferSyntax { name: "private" });
        };
        let name = match suffix {
            "" => return Ok(little(false, Codec::Native)),
            ".1" => return Ok(plain),
            ".1.99" => return Ok(Self { is_deflated: true, ..plain }),
            ".2" => return Ok(Self { is_big: true, ..plain }),
            ".5" => return Ok(little(true, Codec::RunLength)),
            ".4.50" => return Ok(little(true, Codec::JpegBaseline)),
            ".4.57" | ".4.70" => return Ok(little(true, Codec::JpegLossless)),
            ".4.51" => "JPEG Extended",
            ".4.80" | ".4.81" => "JPEG-LS",
            ".4.90" | ".4.91" | ".4.92" | ".4.93" => "JPEG 2000",
            ".4.94" | ".4.95" => "JPIP",
            ".4.110" | ".4.111" | ".4.112" => "JPEG XL",
            ".4.201" | ".4.202" | ".4.203" => "High-Throughput JPEG 2000",
            _ if suffix.starts_with(".4.10") => "MPEG",
            _ => "unknown",
        };
        Err(DicomError::TransferSyntax { name })
    }
}

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<DataSet<'a>>),
    /// Encapsulated pixels: the table of offsets and the fragments.
    Fragments(Vec<&'a [u8]>),
}

/// An attribute of the closed list with what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Element<'a> {
    tag: Tag,
    pub(super) value: Value<'a>,
    /// Whether its numbers are words of 16 bits, which the order of bytes concerns.
    pub(super) is_words: bool,
}

/// The attributes of a file, or of an item of a sequence, that are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DataSet<'a> {
    elements: Vec<Element<'a>>,
    pub(super) is_big: bool,
}

impl<'a> DataSet<'a> {
    pub(super) fn find(&self, attribute: Attribute) -> Option<&Element<'a>> {
        self.elements.iter().find(|element| element.tag == attribute.tag)
    }

    /// The items of a sequence; none where it is absent.
    pub(super) fn items(&self, attribute: Attribute) -> &[DataSet<'a>] {
        match self.find(attribute).map(|element| &element.value) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }
}

/// The bytes of a file after its meta information, inflated where they are deflated.
pub(super) fn body(file: &[u8]) -> Result<(Cow<'_, [u8]>, Syntax), DicomError> {
    if file.get(128..132) != Some(b"DICM") {
        return Err(DicomError::Magic);
    }
    let syntax =
        Syntax { is_explicit: true, is_big: false, is_deflated: false, codec: Codec::Native };
    let mut walk = Walk { bytes: file, at: 132, syntax };
    let mut uid = None;
    while walk.peek_group() == Some(2) {
        let header = walk.header()?;
        let value = walk.take(header.tag, header.length)?;
        if header.tag == attribute::TRANSFER_SYNTAX.tag {
            uid = Some(value);
        }
    }
    let missing = DicomError::Missing { name: attribute::TRANSFER_SYNTAX.name };
    let uid = uid.and_then(|uid| str::from_utf8(uid).ok()).ok_or(missing)?;
    let syntax = Syntax::of(uid.trim_end_matches(['\0', ' ']))?;
    let rest = &file[walk.at..];
    if !syntax.is_deflated {
        return Ok((rest.into(), syntax));
    }
    let mut plain = Vec::new();
    let read = DeflateDecoder::new(rest).take(MAX_INFLATED).read_to_end(&mut plain);
    let damaged =
        DicomError::Stream { codec: "deflate", frame: 0, what: "it cannot be decompressed" };
    read.map_err(|_| damaged)?;
    Ok((plain.into(), syntax))
}

/// The known attributes of a data set.
pub(super) fn parse(bytes: &[u8], syntax: Syntax) -> Result<DataSet<'_>, DicomError> {
    Walk { bytes, at: 0, syntax }.data_set(0, false)
}

struct Header {
    tag: Tag,
    length: u32,
    vr: Option<[u8; 2]>,
}

/// A place in bytes.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    syntax: Syntax,
}

impl<'a> Walk<'a> {
    fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn peek_group(&self) -> Option<u16> {
        let group = self.bytes.get(self.at..self.at + 2)?;
        Some(self.short([group[0], group[1]]))
    }

    fn short(&self, bytes: [u8; 2]) -> u16 {
        if self.syntax.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn long(&self, bytes: [u8; 4]) -> u32 {
        if self.syntax.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn truncated(&self, tag: Option<Tag>, length: usize) -> DicomError {
        DicomError::Truncated {
            tag: tag.map_or(String::new(), |tag| tag.to_string()),
            expected: (self.at as u64).saturating_add(length as u64),
            found: self.bytes.len() as u64,
        }
    }

    fn array<const N: usize>(&mut self, tag: Option<Tag>) -> Result<[u8; N], DicomError> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let found = *found.ok_or_else(|| self.truncated(tag, N))?;
        self.at += N;
        Ok(found)
    }

    fn take(&mut self, tag: Tag, length: u32) -> Result<&'a [u8], DicomError> {
        let length = length as usize;
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.truncated(Some(tag), length))?;
        let value = &self.bytes[self.at..end];
        self.at = end;
        Ok(value)
    }

    fn header(&mut self) -> Result<Header, DicomError> {
        let group = self.array(None)?;
        let element = self.array(None)?;
        let tag = Tag(self.short(group), self.short(element));
        if !self.syntax.is_explicit || tag.0 == ITEM.0 {
            let length = self.array(Some(tag))?;
            return Ok(Header { tag, length: self.long(length), vr: None });
        }
        let vr: [u8; 2] = self.array(Some(tag))?;
        let is_long = matches!(
            &vr,
            b"OB"
                | b"OD"
                | b"OF"
                | b"OL"
                | b"OV"
                | b"OW"
                | b"SQ"
                | b"SV"
                | b"UC"
                | b"UN"
                | b"UR"
                | b"UT"
                | b"UV"
        );
        let length = if is_long {
            let _reserved: [u8; 2] = self.array(Some(tag))?;
            let length = self.array(Some(tag))?;
            self.long(length)
        } else {
            let length = self.array(Some(tag))?;
            self.short(length).into()
        };
        Ok(Header { tag, length, vr: Some(vr) })
    }

    /// Elements up to the end of the bytes, or of the item where that has no length.
    fn data_set(&mut self, depth: usize, is_open_item: bool) -> Result<DataSet<'a>, DicomError> {
        let mut found = DataSet { elements: Vec::new(), is_big: self.syntax.is_big };
        while !self.is_done() {
            let header = self.header()?;
            if header.tag == ITEM_END && is_open_item {
                return Ok(found);
            }
            if let Some(value) = self.value(&header, depth)? {
                // An attribute occurs once; of a second one nobody could say which is meant.
                if found.elements.iter().any(|element| element.tag == header.tag) {
                    let name = attribute::name(header.tag).unwrap_or_default();
                    let found = "two".to_owned();
                    return Err(DicomError::Attribute { name, expected: "one", found });
                }
                let is_words = header.vr != Some(*b"OB");
                found.elements.push(Element { tag: header.tag, value, is_words });
            }
        }
        match is_open_item {
            true => Err(self.truncated(Some(ITEM_END), 8)),
            false => Ok(found),
        }
    }

    /// What an element holds; `None`, and passed over, for one that is not on the list.
    fn value(&mut self, header: &Header, depth: usize) -> Result<Option<Value<'a>>, DicomError> {
        let &Header { tag, length, vr } = header;
        let is_known = attribute::name(tag).is_some();
        if tag == attribute::PIXEL_DATA.tag && length == UNDEFINED {
            return self.fragments().map(|found| Some(Value::Fragments(found)));
        }
        if is_known && (attribute::is_sequence(tag) || length == UNDEFINED) {
            return self.items(header, depth).map(|found| Some(Value::Items(found)));
        }
        if length == UNDEFINED {
            // A sequence of unknown representation is implicit, whatever the file is (PS3.5, 6.2.2).
            let outer = self.syntax;
            if vr == Some(*b"UN") {
                self.syntax = Syntax { is_explicit: false, is_big: false, ..outer };
            }
            let skipped = self.skip_items(depth);
            self.syntax = outer;
            return skipped.map(|()| None);
        }
        let bytes = self.take(tag, length)?;
        Ok(is_known.then_some(Value::Bytes(bytes)))
    }

    /// The items of a sequence.
    fn items(&mut self, header: &Header, depth: usize) -> Result<Vec<DataSet<'a>>, DicomError> {
        if depth >= MAX_DEPTH {
            return Err(DicomError::Depth { limit: MAX_DEPTH });
        }
        if header.length != UNDEFINED {
            let bytes = self.take(header.tag, header.length)?;
            let mut inner = Walk { bytes, at: 0, syntax: self.syntax };
            let mut items = Vec::new();
            while !inner.is_done() {
                items.extend(inner.item(depth)?);
            }
            return Ok(items);
        }
        let mut items = Vec::new();
        while let Some(item) = self.item(depth)? {
            items.push(item);
        }
        Ok(items)
    }

    /// One item; `None` at the end of a sequence without length.
    fn item(&mut self, depth: usize) -> Result<Option<DataSet<'a>>, DicomError> {
        let place = self.at;
        let header = self.header()?;
        match header.tag {
            SEQUENCE_END => Ok(None),
            ITEM if header.length == UNDEFINED => self.data_set(depth + 1, true).map(Some),
            ITEM => {
                let bytes = self.take(ITEM, header.length)?;
                let inner =
                    Walk { bytes, at: 0, syntax: self.syntax }.data_set(depth + 1, false)?;
                Ok(Some(inner))
            }
            tag => Err(DicomError::Item { place, tag: tag.to_string() }),
        }
    }

    /// Passes over a sequence without length.
    fn skip_items(&mut self, depth: usize) -> Result<(), DicomError> {
        if depth >= MAX_DEPTH {
            return Err(DicomError::Depth { limit: MAX_DEPTH });
        }
        loop {
            let place = self.at;
            let header = self.header()?;
            match header.tag {
                SEQUENCE_END => return Ok(()),
                ITEM if header.length == UNDEFINED => self.skip_open_item(depth)?,
                ITEM => self.take(ITEM, header.length).map(drop)?,
                tag => return Err(DicomError::Item { place, tag: tag.to_string() }),
            }
        }
    }

    fn skip_open_item(&mut self, depth: usize) -> Result<(), DicomError> {
        loop {
            let header = self.header()?;
            match header.tag {
                ITEM_END => return Ok(()),
                _ if header.length == UNDEFINED => self.skip_items(depth + 1)?,
                tag => self.take(tag, header.length).map(drop)?,
            }
        }
    }

    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, DicomError> {
        let mut found = Vec::new();
        loop {
            let place = self.at;
            let header = self.header()?;
            match header.tag {
                SEQUENCE_END => return Ok(found),
                ITEM => found.push(self.take(ITEM, header.length)?),
                tag => return Err(DicomError::Item { place, tag: tag.to_string() }),
            }
        }
    }
}
