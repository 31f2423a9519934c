//! safetensors files whose bytes depend on their content only, and careful reading of foreign ones.
//!
//! The `safetensors` crate writes `__metadata__` in the order of a hash map; here all keys are sorted.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use crate::NetsError;

/// Values of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Values {
    fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "F32",
            Self::F64(_) => "F64",
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::F32(values) => 4 * values.len(),
            Self::F64(values) => 8 * values.len(),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::F32(values) => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::F64(values) => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
        }
    }
}

/// Named tensors and text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Container {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Values)>,
}

impl Container {
    pub(crate) fn put(&mut self, name: impl Into<String>, shape: &[usize], values: Values) {
        self.tensors.insert(name.into(), (shape.to_vec(), values));
    }

    pub(crate) fn put_f32(&mut self, name: impl Into<String>, values: &[f32]) {
        self.put(name, &[values.len()], Values::F32(values.to_vec()));
    }

    pub(crate) fn note(&mut self, key: &str, value: impl ToString) {
        self.metadata.insert(key.to_owned(), value.to_string());
    }

    /// The file; equal content gives equal bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // 8-byte types first, so that every tensor is aligned; then by name.
        let wide = self.tensors.iter().filter(|(_, (_, values))| matches!(values, Values::F64(_)));
        let narrow =
            self.tensors.iter().filter(|(_, (_, values))| matches!(values, Values::F32(_)));
        let ordered: Vec<_> = wide.chain(narrow).collect();
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let notes: Vec<String> = self
            .metadata
            .iter()
            .map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)))
            .collect();
        let mut header = format!("{{\"__metadata__\":{{{}}}", notes.join(","));
        let mut start = 0;
        for (name, (shape, values)) in &ordered {
            let end = start + values.n_bytes();
            let (name, dtype) = (quoted(name), values.dtype());
            let entry = format!(
                ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
            );
            header.push_str(&entry);
            start = end;
        }
        header.push('}');
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut bytes = Vec::with_capacity(8 + header.len() + start);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header.into_bytes());
        ordered.iter().for_each(|(_, (_, values))| values.write(&mut bytes));
        bytes
    }

    /// Reads a file of F32 and F64 tensors.
    ///
    /// # Errors
    /// [`NetsError::Container`] if it is damaged, [`NetsError::Entry`] for another type.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, NetsError> {
        let file = SafeTensors::deserialize(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let metadata = header
            .metadata()
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let values = match view.dtype() {
                Dtype::F32 => Values::F32(floats(view.data(), f32::from_le_bytes)),
                Dtype::F64 => Values::F64(floats(view.data(), f64::from_le_bytes)),
                other => {
                    let (expected, found) = ("dtype F32 or F64".to_owned(), format!("{other:?}"));
                    return Err(NetsError::Entry { name, expected, found });
                }
            };
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Self { metadata, tensors })
    }

    /// The text of `key`.
    pub(crate) fn text(&self, key: &str) -> Result<&str, NetsError> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| NetsError::Entry {
            name: key.to_owned(),
            expected: "a metadata key".to_owned(),
            found: "none".to_owned(),
        })
    }

    /// The whole number of `key`.
    pub(crate) fn number(&self, key: &str) -> Result<usize, NetsError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| NetsError::Entry {
            name: key.to_owned(),
            expected: "a whole number".to_owned(),
            found: text.to_owned(),
        })
    }

    /// Takes out the F32 tensor `name`, which must hold `len` values.
    pub(crate) fn take_f32(&mut self, name: &str, len: usize) -> Result<Vec<f32>, NetsError> {
        let found = match self.tensors.remove(name) {
            Some((_, Values::F32(values))) if values.len() == len => return Ok(values),
            Some((shape, values)) => format!("{} {shape:?}", values.dtype()),
            None => "none".to_owned(),
        };
        Err(NetsError::Entry { name: name.to_owned(), expected: format!("F32 [{len}]"), found })
    }
}

fn floats<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    fn sample() -> Container {
        let mut container = Container::default();
        container.note("structures", "[\"lung \\\"left\\\"\"]");
        container.note("format", 1);
        container.put_f32("z", &[1.5, -2.0]);
        container.put("a", &[2, 1], Values::F64(vec![0.1, f64::MAX]));
        container.put("empty", &[0], Values::F32(vec![]));
        container
    }

    #[test]
    fn a_file_reads_back_and_is_aligned() {
        let bytes = sample().to_bytes();
        assert_eq!(Container::from_bytes(&bytes).unwrap(), sample());
        assert_eq!(bytes, Container::from_bytes(&bytes).unwrap().to_bytes());
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(header % 8, 0);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let bytes = sample().to_bytes();
        for end in 0..bytes.len() {
            assert!(Container::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let header_end = bytes.len() - 24;
        for place in 0..header_end {
            for value in [0, b'"', b'9', b'}', 0xff] {
                let mut damaged = bytes.clone();
                damaged[place] = value;
                let _ = Container::from_bytes(&damaged);
            }
        }
    }

    #[test]
    fn wrong_entries_are_named() {
        let mut container = sample();
        assert!(
            matches!(container.take_f32("z", 3), Err(NetsError::Entry { name, .. }) if name == "z")
        );
        assert!(
            matches!(container.take_f32("y", 3), Err(NetsError::Entry { found, .. }) if found == "none")
        );
        assert!(matches!(container.number("structures"), Err(NetsError::Entry { .. })));
        assert_eq!(container.number("format").unwrap(), 1);
    }
}
