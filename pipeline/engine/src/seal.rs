//! Seals: the digest of a small file within it, so that one that was damaged or cut off is told from a good one.

use serde::{Serialize, de::DeserializeOwned};

use crate::digest::Digest;

/// Length of `\n`, a digest and `\n`.
const LINE: usize = 66;

/// JSON and a line with its digest.
pub(crate) fn sealed(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("records are plain data");
    bytes.extend(line(&bytes));
    bytes
}

fn line(body: &[u8]) -> Vec<u8> {
    format!("\n{}\n", Digest::of(body)).into_bytes()
}

/// What is sealed in these bytes.
///
/// # Errors
/// What is wrong with them, in words.
pub(crate) fn open_sealed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, &'static str> {
    let split = bytes.len().checked_sub(LINE).ok_or("truncated")?;
    let (body, stated) = bytes.split_at(split);
    if stated != line(body) {
        return Err("damaged");
    }
    serde_json::from_slice(body).map_err(|_| "of another version")
}

/// The end of a sealed object: JSON stays JSON.
fn end(body: &[u8]) -> Vec<u8> {
    format!(",\n  \"seal\": \"{}\"\n}}", Digest::of(body)).into_bytes()
}

/// An object as JSON for people and programs, the digest of all before it in its last field.
pub(crate) fn sealed_object(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("reports are plain data");
    bytes.truncate(bytes.len().saturating_sub("\n}".len()));
    bytes.extend(end(&bytes));
    bytes
}

/// What is sealed as an object in these bytes.
///
/// # Errors
/// What is wrong with them, in words.
pub(crate) fn open_sealed_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, &'static str> {
    let split = bytes.len().checked_sub(end(b"").len()).ok_or("truncated")?;
    let (body, stated) = bytes.split_at(split);
    if stated != end(body) {
        return Err("damaged, or without a seal");
    }
    serde_json::from_slice(bytes).map_err(|_| "of another version")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use serde_json::{Value, json};

    use super::*;

    /// No flipped bit and no missing end goes unseen.
    #[test]
    fn every_change_breaks_a_seal() {
        let value = json!({ "a": [1, 2], "b": { "c": "d" } });
        let object = sealed_object(&value);
        assert_eq!(serde_json::from_slice::<Value>(&object).unwrap()["b"]["c"], "d");
        assert_eq!(open_sealed_object::<Value>(&object).unwrap()["a"], json!([1, 2]));
        let plain = sealed(&value);
        assert_eq!(open_sealed::<Value>(&plain).unwrap(), value);
        let is_bad = |bytes: &[u8]| {
            open_sealed::<Value>(bytes).is_err() && open_sealed_object::<Value>(bytes).is_err()
        };
        for bytes in [object, plain] {
            for i in 0..bytes.len() {
                assert!(is_bad(&bytes[..i]), "cut at {i}");
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[i] ^= 1 << bit;
                    assert!(is_bad(&flipped), "bit {bit} of {i}");
                }
            }
        }
        assert!(open_sealed_object::<Value>(b"{\n  \"run\": 1\n}").is_err());
    }
}
