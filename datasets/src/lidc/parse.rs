//! The XML of a reading, walked once from its beginning to its end.
//!
//! Elements are told by their names without prefix; those that are not known are passed over, whatever they hold. Nothing
//! is expanded or fetched, and what is kept takes no more room than a few times the text that it was read from.

use std::str::FromStr;

use quick_xml::{Reader, events::Event};

use super::{
    ReadingError,
    reading::{CHARACTERISTICS, Nodule, Outline, Reading, Session},
};
use crate::dicom::Uid;

/// Most points of an outline; the longest one around a slice of 512 x 512 has 2044.
const MAX_POINTS: usize = 1 << 13;

/// Understands a whole document.
pub(super) fn reading(bytes: &[u8]) -> Result<Reading, ReadingError> {
    let mut walk = root(bytes)?;
    let mut found = Reading::default();
    walk.children(|walk, name| match name {
        "ResponseHeader" => {
            found.series = walk.header()?.or(found.series.take());
            Ok(())
        }
        "readingSession" => {
            found.sessions.push(walk.session()?);
            Ok(())
        }
        _ => walk.skip(),
    })?;
    walk.end()?;
    Ok(found)
}

/// Goes to the beginning of a document and into its root element.
pub(super) fn root(bytes: &[u8]) -> Result<Walk<'_>, ReadingError> {
    let mut walk = Walk { reader: Reader::from_reader(bytes) };
    walk.reader.config_mut().expand_empty_elements = true;
    loop {
        match walk.event()? {
            Event::Start(tag) => {
                return match tag.local_name().into_inner() {
                    "LidcReadMessage" => Ok(walk),
                    "IdriReadMessage" => Err(ReadingError::Xray),
                    _ => Err(ReadingError::Root),
                };
            }
            Event::Eof => return Err(ReadingError::Root),
            _ => {}
        }
    }
}

/// A place in a document.
pub(super) struct Walk<'a> {
    reader: Reader<&'a [u8]>,
}

impl<'a> Walk<'a> {
    fn place(&self) -> u64 {
        self.reader.buffer_position()
    }

    fn damaged(&self) -> ReadingError {
        ReadingError::Xml { place: self.place() }
    }

    fn event(&mut self) -> Result<Event<'a>, ReadingError> {
        self.reader.read_event().map_err(|_| self.damaged())
    }

    /// Calls `visit` with the name of every child of the element at hand; it has to read the child to its end.
    fn children(
        &mut self,
        mut visit: impl FnMut(&mut Self, &str) -> Result<(), ReadingError>,
    ) -> Result<(), ReadingError> {
        loop {
            match self.event()? {
                Event::Start(tag) => visit(self, tag.local_name().into_inner())?,
                Event::End(_) => return Ok(()),
                Event::Eof => return Err(self.damaged()),
                _ => {}
            }
        }
    }

    /// Reads to the end of the element at hand.
    fn skip(&mut self) -> Result<(), ReadingError> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.event()? {
                Event::Start(_) => depth += 1,
                Event::End(_) => depth -= 1,
                Event::Eof => return Err(self.damaged()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Nothing but comments may follow the root element.
    fn end(&mut self) -> Result<(), ReadingError> {
        loop {
            match self.event()? {
                Event::Eof => return Ok(()),
                Event::Start(_) | Event::End(_) => return Err(self.damaged()),
                _ => {}
            }
        }
    }

    /// The text of an element without blanks around it; one that holds anything else has none.
    fn text(&mut self) -> Result<Option<String>, ReadingError> {
        let (mut text, mut is_plain) = (String::new(), true);
        loop {
            match self.event()? {
                Event::Text(part) => text.push_str(&part),
                Event::End(_) => break,
                Event::Eof => return Err(self.damaged()),
                Event::Comment(_) => {}
                Event::Start(_) => {
                    is_plain = false;
                    self.skip()?;
                }
                _ => is_plain = false,
            }
        }
        Ok(is_plain.then(|| text.trim().to_owned()))
    }

    /// What `understand` makes of the text of an element.
    fn value<T>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        understand: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ReadingError> {
        let found = self.text()?.and_then(|text| understand(&text));
        found.ok_or_else(|| ReadingError::Text { name, expected, place: self.place() })
    }

    /// The series that the header names.
    fn header(&mut self) -> Result<Option<Uid>, ReadingError> {
        let mut series = None;
        self.children(|walk, name| {
            // Both spellings occur.
            if !name.eq_ignore_ascii_case("SeriesInstanceUid") {
                return walk.skip();
            }
            series = walk.text()?.and_then(|text| Uid::new(&text));
            Ok(())
        })?;
        Ok(series)
    }

    fn session(&mut self) -> Result<Session, ReadingError> {
        let mut found = Session::default();
        self.children(|walk, name| match name {
            "unblindedReadNodule" => {
                found.nodules.push(walk.nodule()?);
                Ok(())
            }
            _ => walk.skip(),
        })?;
        Ok(found)
    }

    fn nodule(&mut self) -> Result<Nodule, ReadingError> {
        let mut found = Nodule::default();
        self.children(|walk, name| match name {
            "characteristics" => walk.characteristics(&mut found.characteristics),
            "roi" => {
                found.outlines.push(walk.outline()?);
                Ok(())
            }
            _ => walk.skip(),
        })?;
        Ok(found)
    }

    /// An element without children stands for none, as one that is absent does.
    fn characteristics(
        &mut self,
        found: &mut [Option<u8>; CHARACTERISTICS.len()],
    ) -> Result<(), ReadingError> {
        self.children(|walk, name| {
            match CHARACTERISTICS.iter().position(|[known, _]| *known == name) {
                None => walk.skip(),
                Some(which) => {
                    let [name, _] = CHARACTERISTICS[which];
                    found[which] = Some(walk.value(name, "a number up to 255", number)?);
                    Ok(())
                }
            }
        })
    }

    fn outline(&mut self) -> Result<Outline, ReadingError> {
        let (mut height_mm, mut object, mut is_inclusion) = (None, None, None);
        let mut edge = Vec::new();
        self.children(|walk, name| {
            match name {
                "imageZposition" => {
                    let finite = |text: &str| number(text).filter(|mm: &f64| mm.is_finite());
                    height_mm = Some(walk.value("imageZposition", "a finite number", finite)?);
                }
                "imageSOP_UID" => object = walk.text()?.and_then(|text| Uid::new(&text)),
                "inclusion" => {
                    is_inclusion = Some(walk.value("inclusion", "TRUE or FALSE", truth)?);
                }
                "edgeMap" if edge.len() == MAX_POINTS => {
                    return Err(ReadingError::Points { limit: MAX_POINTS, place: walk.place() });
                }
                "edgeMap" => edge.push(walk.point()?),
                _ => walk.skip()?,
            }
            Ok(())
        })?;
        let is_inclusion = is_inclusion.ok_or_else(|| self.missing("roi", "inclusion"))?;
        Ok(Outline { height_mm, object, is_inclusion, edge })
    }

    /// A point as `[row, column]`.
    fn point(&mut self) -> Result<[usize; 2], ReadingError> {
        let (mut row, mut column) = (None, None);
        self.children(|walk, name| {
            const EXPECTED: &str = "a whole number up to 65535";
            let pixel = |text: &str| number::<u16>(text).map(usize::from);
            match name {
                "xCoord" => column = Some(walk.value("xCoord", EXPECTED, pixel)?),
                "yCoord" => row = Some(walk.value("yCoord", EXPECTED, pixel)?),
                _ => walk.skip()?,
            }
            Ok(())
        })?;
        let row = row.ok_or_else(|| self.missing("edgeMap", "yCoord"))?;
        Ok([row, column.ok_or_else(|| self.missing("edgeMap", "xCoord"))?])
    }

    fn missing(&self, element: &'static str, name: &'static str) -> ReadingError {
        ReadingError::Missing { element, name, place: self.place() }
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "TRUE" => Some(true),
        "FALSE" => Some(false),
        _ => None,
    }
}
