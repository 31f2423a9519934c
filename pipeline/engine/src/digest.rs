//! Content digests and the canonical encoding that keys are hashed from.
//!
//! Everything that enters a key goes through [`Encoder`]: typed, length-prefixed, maps sorted, floats by their bits.
//! No two different values share an encoding, so a key cannot confuse `["ab", "c"]` with `["a", "bc"]`.

use std::{fmt, fs::File, io, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// BLAKE3 digest of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Digest of a file's bytes and their number.
    ///
    /// # Errors
    /// Any error of opening or reading the file.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok((Self(*hasher.finalize().as_bytes()), bytes))
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are text"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("expected a digest of 64 hexadecimal digits: got `{0}`")]
pub struct DigestError(String);

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError(text.to_owned());
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let digit = |letter: u8| char::from(letter).to_digit(16).map(|digit| digit as u8);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte =
                digit(pair[0]).zip(digit(pair[1])).map(|(a, b)| 16 * a + b).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

/// Where an encoding goes.
pub trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for blake3::Hasher {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes values in the canonical encoding straight into a hash.
pub struct Encoder<S = blake3::Hasher> {
    sink: S,
}

impl Encoder {
    /// Opens an encoding of its own domain; equal values under different domains have different digests.
    pub fn new(domain: &str) -> Self {
        Self::into_sink(domain, blake3::Hasher::new())
    }

    /// Closes the encoding.
    pub fn finish(self) -> Digest {
        Digest(*self.sink.finalize().as_bytes())
    }
}

impl Encoder<Vec<u8>> {
    /// Opens an encoding that is not hashed, for those who look into it.
    pub fn unhashed(domain: &str) -> Self {
        Self::into_sink(domain, Vec::new())
    }

    /// The encoding.
    pub fn into_bytes(self) -> Vec<u8> {
        self.sink
    }
}

impl<S: Sink> Encoder<S> {
    fn into_sink(domain: &str, sink: S) -> Self {
        let mut encoder = Self { sink };
        encoder.text(domain);
        encoder
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) {
        self.tagged(b's', text.len());
        self.sink.put(text.as_bytes());
    }

    /// Adds a whole number that cannot be negative.
    pub fn number(&mut self, number: u64) {
        self.sink.put(b"u");
        self.sink.put(&number.to_le_bytes());
    }

    /// Adds a digest.
    pub fn digest(&mut self, digest: &Digest) {
        self.sink.put(b"d");
        self.sink.put(digest.bytes());
    }

    /// Opens a list of `n` items, which the caller adds next.
    pub fn list(&mut self, n: usize) {
        self.tagged(b'l', n);
    }

    /// Adds a JSON value; objects are sorted by key, floats go by their bits with -0 as 0.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => {
                self.sink.put(b"n");
            }
            Value::Bool(flag) => {
                self.sink.put(if *flag { b"t" } else { b"f" });
            }
            Value::Number(number) => self.json_number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.list(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by_key(|(name, _)| *name);
                self.tagged(b'm', sorted.len());
                for (name, field) in sorted {
                    self.text(name);
                    self.value(field);
                }
            }
        }
    }

    fn json_number(&mut self, number: &serde_json::Number) {
        if let Some(whole) = number.as_u64() {
            self.number(whole);
        } else if let Some(whole) = number.as_i64() {
            self.sink.put(b"i");
            self.sink.put(&whole.to_le_bytes());
        } else {
            let float = number.as_f64().unwrap_or(f64::NAN) + 0.0;
            self.sink.put(b"r");
            self.sink.put(&float.to_bits().to_le_bytes());
        }
    }

    fn tagged(&mut self, tag: u8, length: usize) {
        self.sink.put(&[tag]);
        self.sink.put(&(length as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use serde_json::json;

    use super::*;

    fn digest(value: &Value) -> Digest {
        let mut encoder = Encoder::new("test");
        encoder.value(value);
        encoder.finish()
    }

    #[test]
    fn hex_round_trip_and_refusal() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("abc".parse::<Digest>().is_err());
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }

    #[test]
    fn different_values_differ() {
        let values = [
            json!(null),
            json!(0),
            json!(0.0),
            json!(-1),
            json!("0"),
            json!([]),
            json!({}),
            json!([[], []]),
            json!([["a"], "b"]),
            json!(["a", "b"]),
            json!(["ab"]),
            json!({"a": "b"}),
            json!([true]),
            json!([false]),
        ];
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                assert_ne!(digest(a), digest(b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn negative_zero_is_zero() {
        assert_eq!(digest(&json!(-0.0)), digest(&json!(0.0)));
    }

    /// Golden vector: a change here changes every key of every user.
    #[test]
    fn golden_encoding() {
        let value = json!({"b": [1, -2, 0.5, "x", null, true], "a": {}});
        let golden = "5e200818de3991ce2304a385c467a51d60c409206ba4345192f896f0a1275d3f";
        assert_eq!(digest(&value).to_string(), golden);
    }
}
