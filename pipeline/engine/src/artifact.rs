//! Artifacts: immutable typed outputs, each a set of named parts.
//!
//! A *kind* says what an artifact is. A sharded kind has one part a shard, and stages that run per shard
//! see one part at a time. A *view* is a kind under the same name that shows only some parts: a stage that
//! reads a view is not run again when the other parts change.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Encoder};

/// A kind of artifact, as a type without values.
pub trait Artifact: Send + Sync + 'static {
    /// Name of the kind, equal for all views of it.
    const KIND: &'static str;
    /// Whether each part is a shard.
    const SHARDED: bool = false;
    /// Beginnings of the names of the parts that this view shows; empty for all parts.
    const VIEW: &'static [&'static str] = &[];
}

/// One named file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Name, unique in the artifact, for example `train-5f0c.parquet`.
    pub name: String,
    /// Digest of what the part means; differs from `blob` where a container adds bytes of its own.
    pub content: Digest,
    /// Digest of the file's bytes, under which it is stored.
    pub blob: Digest,
    /// Size of the file.
    pub bytes: u64,
}

/// All parts of one artifact, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Kind of the artifact.
    pub kind: String,
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// Sorts the parts by name.
    pub fn new(kind: &str, mut parts: Vec<Part>) -> Self {
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        Self { kind: kind.to_owned(), parts }
    }

    /// The artifact's identity: kind, names and contents of all parts.
    pub fn digest(&self) -> Digest {
        content_digest(&self.kind, &self.parts)
    }

    /// The parts that a view shows.
    pub fn view(&self, prefixes: &[&str]) -> Vec<Part> {
        let shown = |part: &&Part| {
            prefixes.is_empty() || prefixes.iter().any(|prefix| part.name.starts_with(prefix))
        };
        self.parts.iter().filter(shown).cloned().collect()
    }

    /// Total size of the parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Digest of some parts of an artifact of a kind.
pub fn content_digest(kind: &str, parts: &[Part]) -> Digest {
    let mut encoder = Encoder::new("artifact v1");
    encoder.text(kind);
    encoder.list(parts.len());
    for part in parts {
        encoder.text(&part.name);
        encoder.digest(&part.content);
    }
    encoder.finish()
}
