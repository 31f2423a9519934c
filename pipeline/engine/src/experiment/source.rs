//! What an experiment is read from, so that it can be seen whether it would be read as it was.

use std::{fs, path::Path};

use crate::{
    compact::{Reader, Writer},
    config::{Override, Roots, Text},
    digest::Digest,
    memo::Stat,
    registry::Registry,
};

/// All that the cells of an experiment file follow from, but for what their stages see outside.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    /// Digest of the stages' names and versions.
    stages: Digest,
    /// This program, which knows how to expand; it is never the same where it cannot be seen.
    program: Option<Stat>,
    /// The files that were read, in their order.
    texts: Vec<Text>,
    /// Digest of what was asked for.
    request: Digest,
}

impl Source {
    /// What was asked for and what was read for it.
    pub(crate) fn new(
        file: &str,
        overrides: &[Override],
        roots: &Roots,
        registry: &Registry,
        texts: Vec<Text>,
    ) -> Self {
        let (request, stages) = (Self::request(file, overrides, roots), digest_of(registry));
        Self { stages, program: program(), texts, request }
    }

    /// Digest of the name of a file, the overrides and the folders that names are relative to.
    pub(crate) fn request(file: &str, overrides: &[Override], roots: &Roots) -> Digest {
        Digest::of(format!("{:?}", (file, overrides, roots)).as_bytes())
    }

    /// Digest of what was asked for.
    pub(crate) fn asked(&self) -> Digest {
        self.request
    }

    /// Whether the same request would be answered by the same program from the same texts.
    pub(crate) fn holds(&self, roots: &Roots, registry: &Registry) -> bool {
        let same = |Text { name, beside, path, digest }: &Text| {
            roots.config_file(name, beside.as_deref()).is_ok_and(|found| found == *path)
                && fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
        };
        self.program.is_some()
            && self.program == program()
            && self.stages == digest_of(registry)
            && self.texts.iter().all(same)
    }

    /// Writes it; `None` where a path is not text.
    pub(crate) fn write(&self, writer: &mut Writer) -> Option<()> {
        let Self { stages, program, texts, request } = self;
        writer.digest(request);
        writer.digest(stages);
        (*program)?.write(writer);
        writer.number(texts.len() as u64);
        for Text { name, beside, path, digest } in texts {
            writer.text(name);
            // An empty path is none.
            writer.text(beside.as_deref().map_or(Some(""), Path::to_str)?);
            writer.text(path.to_str()?);
            writer.digest(digest);
        }
        Some(())
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (request, stages) = (reader.digest()?, reader.digest()?);
        let program = Some(Stat::read(reader)?);
        let mut texts = Vec::new();
        for _ in 0..reader.number()? {
            let (name, beside) = (reader.text()?.to_owned(), reader.text()?);
            let beside = (!beside.is_empty()).then(|| beside.into());
            let (path, digest) = (reader.text()?.into(), reader.digest()?);
            texts.push(Text { name, beside, path, digest });
        }
        Some(Self { stages, program, texts, request })
    }
}

fn program() -> Option<Stat> {
    std::env::current_exe().and_then(|path| Stat::of(&path)).ok()
}

fn digest_of(registry: &Registry) -> Digest {
    let stages: Vec<_> = registry.iter().map(|stage| (stage.name(), stage.version())).collect();
    Digest::of(format!("{stages:?}").as_bytes())
}
