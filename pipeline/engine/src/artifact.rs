//! Artifacts: immutable typed outputs, each a set of named parts.
//!
//! A *kind* says what an artifact is. A sharded kind has one part a shard, and stages that run per shard
//! see one part at a time. A *view* is a kind under the same name that shows only some parts: a stage that
//! reads a view is not run again when the other parts change.
//!
//! The list of an artifact's parts is kept in chunks whose borders follow from the names of the parts alone, so
//! that two lists of very many parts that differ in one share all chunks but the one that it lies in.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Encoder};

/// Parts that a chunk has at least, unless it is the last one.
const LEAST_PARTS: usize = 128;
/// Beyond those, one name in so many ends a chunk.
const NAMES_A_BORDER: u16 = 128;

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
#[serde(from = "ListedPart", into = "ListedPart")]
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

/// A part as a stored list has it.
#[derive(Serialize, Deserialize)]
struct ListedPart {
    name: String,
    blob: Digest,
    bytes: u64,
    /// Left out where it is that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Digest>,
}

impl From<ListedPart> for Part {
    fn from(ListedPart { name, blob, bytes, content }: ListedPart) -> Self {
        Self { name, content: content.unwrap_or(blob), blob, bytes }
    }
}

impl From<Part> for ListedPart {
    fn from(Part { name, content, blob, bytes }: Part) -> Self {
        Self { name, blob, bytes, content: (content != blob).then_some(content) }
    }
}

/// Neighbouring parts of an artifact, in which its list is stored and compared.
#[derive(Debug)]
pub(crate) struct Chunk {
    parts: Vec<Part>,
    /// Digest of the kind, the names and the contents.
    content: Digest,
    /// The file that holds it; written or not.
    file: OnceLock<ListFile>,
}

/// A stored list: its digest and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListFile {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

impl ListFile {
    fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), bytes: bytes.len() as u64 }
    }
}

#[derive(Serialize)]
struct LeafOut<'a> {
    kind: &'a str,
    parts: &'a [Part],
}

impl Chunk {
    fn new(kind: &str, parts: Vec<Part>) -> Self {
        Self { content: content_digest(kind, &parts), parts, file: OnceLock::new() }
    }

    /// The parts, sorted by name.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Digest of the kind, the names and the contents of its parts.
    pub(crate) fn content(&self) -> Digest {
        self.content
    }

    fn bytes(&self, kind: &str) -> Vec<u8> {
        serde_json::to_vec(&LeafOut { kind, parts: &self.parts }).expect("a list is plain data")
    }

    fn file(&self, kind: &str) -> ListFile {
        *self.file.get_or_init(|| ListFile::of(&self.bytes(kind)))
    }
}

/// A chunk as the list of the whole artifact names it.
#[derive(Serialize, Deserialize)]
struct Branch {
    /// Its first part.
    first: String,
    /// Digest of its content.
    content: Digest,
    /// Digest of its stored list.
    list: Digest,
}

#[derive(Serialize)]
struct TreeOut<'a> {
    kind: &'a str,
    chunks: Vec<Branch>,
}

/// A stored list as it is read: parts, or chunks whose lists are stored by themselves.
#[derive(Deserialize)]
struct ListIn {
    kind: String,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    chunks: Vec<Branch>,
}

/// All parts of one artifact, sorted by name; a copy shares them.
#[derive(Clone, Debug)]
pub struct Manifest(Arc<List>);

/// What a [`Manifest`] holds.
#[derive(Debug)]
pub struct List {
    /// Kind of the artifact.
    pub kind: String,
    /// At least one; only the single one of an empty artifact is empty.
    chunks: Vec<Arc<Chunk>>,
    digest: Digest,
    /// The file that holds the list of chunks where there are several.
    tree: OnceLock<ListFile>,
}

impl Deref for Manifest {
    type Target = List;

    fn deref(&self) -> &List {
        &self.0
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.parts().eq(other.parts())
    }
}

impl Manifest {
    /// Sorts the parts by name.
    pub fn new(kind: &str, mut parts: Vec<Part>) -> Self {
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let mut builder = Builder::new(kind);
        parts.into_iter().for_each(|part| builder.push(part));
        builder.finish()
    }

    fn of_chunks(kind: &str, chunks: Vec<Arc<Chunk>>) -> Self {
        let digest = match chunks.as_slice() {
            [one] => one.content,
            chunks => {
                let mut encoder = Encoder::new("artifact of chunks v1");
                encoder.text(kind);
                encoder.list(chunks.len());
                chunks.iter().for_each(|chunk| encoder.digest(&chunk.content));
                encoder.finish()
            }
        };
        Self(Arc::new(List { kind: kind.to_owned(), chunks, digest, tree: OnceLock::new() }))
    }

    /// An artifact from those of some of its parts; chunks of it that they have already are taken over.
    pub(crate) fn union<'m>(kind: &str, some: impl Iterator<Item = &'m Self>) -> Self {
        let mut chunks: Vec<&Arc<Chunk>> = some.flat_map(|manifest| &manifest.chunks).collect();
        chunks.retain(|chunk| !chunk.parts.is_empty());
        chunks.sort_by(|a, b| first_name(a).cmp(first_name(b)));
        let apart = chunks.windows(2).all(|pair| last_name(pair[0]) < first_name(pair[1]));
        if !apart {
            let parts = chunks.iter().flat_map(|chunk| chunk.parts.iter().cloned());
            return Self::new(kind, parts.collect());
        }
        let mut builder = Builder::new(kind);
        chunks.into_iter().for_each(|chunk| builder.push_chunk(chunk));
        builder.finish()
    }

    /// The artifact's identity: kind, names and contents of all parts.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The parts, sorted by name.
    pub fn parts(&self) -> impl Iterator<Item = &Part> + Clone {
        self.chunks.iter().flat_map(|chunk| &chunk.parts)
    }

    /// Number of the parts.
    pub fn n_parts(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.parts.len()).sum()
    }

    /// The part of a name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        let chunk = self.chunks.partition_point(|chunk| last_name(chunk) < name);
        let parts = &self.chunks.get(chunk)?.parts;
        let place = parts.binary_search_by(|part| part.name.as_str().cmp(name)).ok()?;
        Some(&parts[place])
    }

    pub(crate) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// The artifact of one chunk alone.
    pub(crate) fn of_chunk(&self, chunk: usize) -> Self {
        Self::of_chunks(&self.kind, vec![self.chunks[chunk].clone()])
    }

    /// What a view shows.
    pub(crate) fn view(&self, prefixes: &[&str]) -> Self {
        if prefixes.is_empty() {
            return self.clone();
        }
        let shown = |part: &Part| prefixes.iter().any(|prefix| part.name.starts_with(prefix));
        let mut builder = Builder::new(&self.kind);
        for chunk in &self.chunks {
            if chunk.parts.iter().all(shown) {
                builder.push_chunk(chunk);
            } else {
                let parts = chunk.parts.iter().filter(|part| shown(part)).cloned();
                parts.for_each(|part| builder.push(part));
            }
        }
        builder.finish()
    }

    /// Total size of the parts.
    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// The stored list of each chunk, with what writes it; none where there is one chunk, whose list is that of the
    /// artifact.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (ListFile, impl Fn() -> Vec<u8>)> {
        let chunks = if self.chunks.len() > 1 { self.chunks.as_slice() } else { &[] };
        chunks.iter().map(|chunk| (chunk.file(&self.kind), || chunk.bytes(&self.kind)))
    }

    /// The stored list of the artifact.
    pub(crate) fn list_file(&self) -> ListFile {
        match self.chunks.as_slice() {
            [one] => one.file(&self.kind),
            _ => *self.tree.get_or_init(|| ListFile::of(&self.list_bytes())),
        }
    }

    /// The bytes of that.
    pub(crate) fn list_bytes(&self) -> Vec<u8> {
        if let [one] = self.chunks.as_slice() {
            return one.bytes(&self.kind);
        }
        let branch = |chunk: &Arc<Chunk>| Branch {
            first: first_name(chunk).to_owned(),
            content: chunk.content,
            list: chunk.file(&self.kind).digest,
        };
        let chunks = self.chunks.iter().map(branch).collect();
        serde_json::to_vec(&TreeOut { kind: &self.kind, chunks }).expect("a list is plain data")
    }

    /// An artifact of one chunk of which everything is known already.
    pub(crate) fn known(kind: &str, parts: Vec<Part>, content: Digest, file: ListFile) -> Self {
        let chunk = Chunk { parts, content, file: OnceLock::from(file) };
        Self::of_chunks(kind, vec![Arc::new(chunk)])
    }

    /// Reads a stored list; `leaf` gives the chunk of a list that it names.
    ///
    /// # Errors
    /// What is wrong with it, in words, or what `leaf` says.
    pub(crate) fn read(
        bytes: &[u8],
        leaf: &mut dyn FnMut(&Digest) -> Result<Arc<Chunk>, String>,
    ) -> Result<Self, String> {
        let found: ListIn = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if found.chunks.is_empty() {
            let chunk = Chunk::new(&found.kind, found.parts);
            let _ = chunk.file.set(ListFile::of(bytes));
            return Ok(Self::of_chunks(&found.kind, vec![Arc::new(chunk)]));
        }
        let chunks = found.chunks.iter().map(|branch| {
            let chunk = leaf(&branch.list)?;
            let fits = chunk.content == branch.content;
            fits.then_some(chunk).ok_or_else(|| "a chunk of it has another content".to_owned())
        });
        let chunks = chunks.collect::<Result<_, _>>()?;
        let manifest = Self::of_chunks(&found.kind, chunks);
        let _ = manifest.tree.set(ListFile::of(bytes));
        Ok(manifest)
    }

    /// Reads the stored list of a chunk.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read_leaf(bytes: &[u8]) -> Result<Arc<Chunk>, String> {
        let nested = |_: &Digest| Err("chunks within a chunk".to_owned());
        Ok(Self::read(bytes, &mut { nested })?.chunks[0].clone())
    }
}

fn first_name(chunk: &Chunk) -> &str {
    chunk.parts.first().map_or("", |part| &part.name)
}

fn last_name(chunk: &Chunk) -> &str {
    chunk.parts.last().map_or("", |part| &part.name)
}

/// Takes sorted parts and makes chunks of them.
struct Builder<'k> {
    kind: &'k str,
    chunks: Vec<Arc<Chunk>>,
    /// Parts of the chunk that is not complete.
    open: Vec<Part>,
}

impl<'k> Builder<'k> {
    fn new(kind: &'k str) -> Self {
        Self { kind, chunks: Vec::new(), open: Vec::new() }
    }

    fn push(&mut self, part: Part) {
        self.open.push(part);
        if is_complete(&self.open) {
            self.chunks.push(Arc::new(Chunk::new(self.kind, std::mem::take(&mut self.open))));
        }
    }

    /// Takes a whole chunk, which stays what it is where it begins at a border and ends at one.
    fn push_chunk(&mut self, chunk: &Arc<Chunk>) {
        if self.open.is_empty() && is_complete(&chunk.parts) {
            self.chunks.push(chunk.clone());
        } else {
            chunk.parts.iter().for_each(|part| self.push(part.clone()));
        }
    }

    fn finish(mut self) -> Manifest {
        if !self.open.is_empty() || self.chunks.is_empty() {
            self.chunks.push(Arc::new(Chunk::new(self.kind, self.open)));
        }
        Manifest::of_chunks(self.kind, self.chunks)
    }
}

/// Whether a chunk ends with the last of these parts, as far as it is known that none before ends it.
fn is_complete(parts: &[Part]) -> bool {
    let Some(last) = parts.last().filter(|_| parts.len() >= LEAST_PARTS) else { return false };
    let digest = Digest::of(last.name.as_bytes());
    let [low, high, ..] = *digest.bytes();
    u16::from_le_bytes([low, high]) % NAMES_A_BORDER == 0
}

/// Digest of some parts of an artifact of a kind.
pub(crate) fn content_digest(kind: &str, parts: &[Part]) -> Digest {
    let mut encoder = Encoder::new("artifact v1");
    encoder.text(kind);
    encoder.list(parts.len());
    for part in parts {
        encoder.text(&part.name);
        encoder.digest(&part.content);
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn part(name: &str, text: &str) -> Part {
        let content = Digest::of(text.as_bytes());
        Part { name: name.to_owned(), content, blob: content, bytes: text.len() as u64 }
    }

    fn numbered(range: std::ops::Range<usize>) -> Vec<Part> {
        range.map(|i| part(&format!("case-{i:06}"), "x")).collect()
    }

    /// A manifest that was written and read again.
    fn stored(manifest: &Manifest) -> Manifest {
        let leaves: BTreeMap<Digest, Vec<u8>> =
            manifest.leaves().map(|(file, bytes)| (file.digest, bytes())).collect();
        let bytes = manifest.list_bytes();
        assert_eq!(manifest.list_file(), ListFile::of(&bytes));
        Manifest::read(&bytes, &mut |list| Manifest::read_leaf(&leaves[list])).unwrap()
    }

    #[test]
    fn one_more_part_changes_one_chunk() {
        let all = numbered(0..20_000);
        let whole = Manifest::new("k", all.clone());
        let n = whole.chunks().len();
        assert!((50..120).contains(&n), "{n} chunks");
        let mut most = 0;
        for i in (0..20_000).step_by(97) {
            let mut fewer = all.clone();
            fewer.remove(i);
            let fewer = Manifest::new("k", fewer);
            let known: Vec<Digest> = whole.chunks().iter().map(|chunk| chunk.content()).collect();
            let new = fewer.chunks().iter().filter(|c| !known.contains(&c.content())).count();
            assert!(fewer.digest() != whole.digest());
            most = most.max(new);
        }
        assert!(most <= 3, "{most} chunks changed");
    }

    #[test]
    fn few_parts_are_one_list() {
        let manifest = Manifest::new("k", numbered(0..LEAST_PARTS));
        assert_eq!((manifest.chunks().len(), manifest.leaves().count()), (1, 0));
        let parts: Vec<Part> = manifest.parts().cloned().collect();
        assert_eq!(manifest.digest(), content_digest("k", &parts));
        let empty = Manifest::new("k", Vec::new());
        assert_eq!((empty.n_parts(), stored(&empty)), (0, empty.clone()));
        assert!(empty.part("x").is_none());
    }

    #[test]
    fn a_list_that_is_not_one_is_refused() {
        let read = |text: &str| {
            Manifest::read(text.as_bytes(), &mut |_| Err("no such chunk".to_owned())).unwrap_err()
        };
        assert!(read("{").contains("EOF"));
        let digest = Digest::of(b"");
        let chunk = format!(r#"{{"first":"a","content":"{digest}","list":"{digest}"}}"#);
        assert_eq!(read(&format!(r#"{{"kind":"k","chunks":[{chunk}]}}"#)), "no such chunk");
        let other = Manifest::new("k", numbered(0..3)).list_bytes();
        let text = format!(r#"{{"kind":"k","chunks":[{chunk}]}}"#);
        let found = Manifest::read(text.as_bytes(), &mut |_| Manifest::read_leaf(&other));
        assert_eq!(found.unwrap_err(), "a chunk of it has another content");
        assert!(Manifest::read_leaf(text.as_bytes()).unwrap_err().contains("within"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However an artifact comes about, its chunks and its digest are those of its parts.
        #[test]
        fn chunks_follow_from_the_parts(
            names in prop::collection::btree_set("[a-c][0-9]{1,5}", 0..2000),
            cut in 0_usize..5,
        ) {
            let parts: Vec<Part> = names.iter().map(|name| part(name, name)).collect();
            let whole = Manifest::new("k", parts.clone());
            prop_assert_eq!(stored(&whole).digest(), whole.digest());
            prop_assert_eq!(&stored(&whole), &whole);
            let is_b = |part: &&Part| part.name.starts_with('b');
            let only: Vec<Part> = parts.iter().filter(is_b).cloned().collect();
            let (view, only) = (whole.view(&["b"]), Manifest::new("k", only));
            prop_assert_eq!(view.digest(), only.digest());
            prop_assert_eq!(view.list_file(), only.list_file());
            let pieces: Vec<Manifest> = parts
                .chunks(1 + parts.len() / (cut + 1))
                .map(|some| Manifest::new("k", some.to_vec()))
                .collect();
            let mixed = Manifest::union("k", pieces.iter().rev());
            prop_assert_eq!(mixed.digest(), whole.digest());
            let again = Manifest::union("k", (0..whole.chunks().len()).map(|i| whole.of_chunk(i)).collect::<Vec<_>>().iter());
            prop_assert_eq!(again.list_file(), whole.list_file());
            for part in &parts {
                prop_assert_eq!(whole.part(&part.name), Some(part));
            }
            prop_assert!(whole.part("b").is_none() && whole.part("zzz").is_none());
        }
    }
}
