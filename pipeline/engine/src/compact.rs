//! Small binary files that only save time: a line that says what they are, their content, and a digest over both.
//!
//! One that is damaged or of another version is as good as none.

use crate::digest::Digest;

/// Writes a file.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Opens a file of a kind; the kind says its version too.
    pub(crate) fn new(kind: &str) -> Self {
        let mut writer = Self(Vec::new());
        writer.text(kind);
        writer
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn digest(&mut self, digest: &Digest) {
        self.0.extend(digest.bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    /// The bytes of the file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let seal = Digest::of(&self.0);
        self.digest(&seal);
        self.0
    }
}

/// Reads a file.
pub(crate) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// Opens a file; `None` where it is not one of this kind, or damaged.
    pub(crate) fn open(bytes: &'b [u8], kind: &str) -> Option<Self> {
        let (body, seal) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if Digest::of(body).bytes() != seal {
            return None;
        }
        let mut reader = Self(body);
        (reader.text()? == kind).then_some(reader)
    }

    /// Whether everything was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Option<Digest> {
        let bytes: [u8; 32] = self.take(32)?.try_into().ok()?;
        Some(bytes.into())
    }

    pub(crate) fn text(&mut self) -> Option<&'b str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn take(&mut self, n: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let mut writer = Writer::new("kind 1");
        writer.number(7);
        writer.text("ä");
        writer.digest(&Digest::of(b"x"));
        let bytes = writer.finish();
        let mut reader = Reader::open(&bytes, "kind 1").unwrap();
        assert_eq!((reader.number(), reader.text()), (Some(7), Some("ä")));
        assert_eq!(reader.digest(), Some(Digest::of(b"x")));
        assert!(reader.is_at_end());
        assert_eq!((reader.number(), reader.text(), reader.digest()), (None, None, None));
        assert!(Reader::open(&bytes, "kind 2").is_none());
        for i in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[i] ^= 1;
            assert!(Reader::open(&flipped, "kind 1").is_none());
            assert!(Reader::open(&bytes[..i], "kind 1").is_none());
        }
    }
}
