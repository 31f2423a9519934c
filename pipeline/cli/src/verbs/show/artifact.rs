//! Artifacts: their parts, and what can be read of them.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use engine::{Store, store::Stored};
use serde_json::{Value, json};

use super::{
    View,
    parquet::{ShardView, write_pictures},
};
use crate::{
    console::Console,
    error::CliError,
    text::{Table, count, shortened, size},
};

/// Parts whose content is shown to people; programs get all.
const PARTS_SHOWN: usize = 3;
/// Lines of a text for each row of a table.
const LINES_A_ROW: usize = 8;
/// Characters of a line.
const LINE_WIDTH: usize = 160;
/// Largest JSON part that is read.
const MOST_JSON_BYTES: u64 = 64 << 20;

/// An artifact with the content of its parts, as far as a view shows it.
pub(super) struct Details<'a> {
    stored: &'a Stored,
    store: &'a Store,
    /// By part; no content where it cannot be shown.
    contents: Vec<Content>,
    /// Pictures that were written.
    pub(super) n_pictures: usize,
}

enum Content {
    Hidden,
    Shard(Box<ShardView>),
    Json(Value),
    Rows(Vec<Value>),
}

impl<'a> Details<'a> {
    /// Reads what the view shows and writes the pictures that it asks for.
    pub(super) fn of(
        stored: &'a Stored,
        store: &'a Store,
        view: &View<'_>,
    ) -> Result<Self, CliError> {
        let mut contents = Vec::new();
        let (mut shown, mut n_pictures) = (0, 0);
        for part in stored.manifest.parts() {
            let path = store.blob(&part.blob);
            if let Some(folder) = view.pictures
                && part.name.ends_with(".parquet")
            {
                n_pictures += write_pictures(&path, &part.name, folder)?;
            }
            let content = if view.json || shown < PARTS_SHOWN {
                Content::read(&part.name, &path, part.bytes, view)?
            } else {
                Content::Hidden
            };
            shown += usize::from(!matches!(content, Content::Hidden));
            contents.push(content);
        }
        Ok(Self { stored, store, contents, n_pictures })
    }

    /// Prints the artifact.
    pub(super) fn show(&self, view: &View<'_>, console: &mut Console<'_>) -> Result<(), CliError> {
        if view.json {
            return console.json_pretty(&self.to_json());
        }
        let manifest = &self.stored.manifest;
        let parts = count(manifest.n_parts(), "part");
        console.line(format!("kind     {}", manifest.kind))?;
        console.line(format!("digest   {}", self.stored.digest))?;
        console.line(format!("size     {} in {parts}", size(manifest.bytes())))?;
        let mut table = Table::titled(&["part", "size", "file"]).right(&[1]);
        for part in manifest.parts() {
            let file = self.store.blob(&part.blob).display().to_string();
            table.row([&part.name, &size(part.bytes), &file]);
        }
        table.lines().iter().try_for_each(|line| console.line(line))?;
        for (part, content) in manifest.parts().zip(&self.contents) {
            if !matches!(content, Content::Hidden) {
                console.line("")?;
                console.line(format!("{}:", part.name))?;
                content.show(view, console)?;
            }
        }
        Ok(())
    }

    /// The artifact as a value.
    pub(super) fn to_json(&self) -> Value {
        let parts = self.stored.manifest.parts().zip(&self.contents).map(|(part, content)| {
            let mut value = json!({
                "name": part.name,
                "bytes": part.bytes,
                "content": part.content,
                "blob": part.blob,
                "path": self.store.blob(&part.blob),
            });
            match content {
                Content::Hidden => {}
                Content::Shard(shard) => value["parquet"] = shard.to_json(),
                Content::Json(json) => value["json"] = json.clone(),
                Content::Rows(rows) => value["rows"] = json!(rows),
            }
            value
        });
        json!({
            "kind": self.stored.manifest.kind,
            "digest": self.stored.digest,
            "parts": parts.collect::<Vec<_>>(),
        })
    }
}

impl Content {
    fn read(name: &str, path: &Path, bytes: u64, view: &View<'_>) -> Result<Self, CliError> {
        let bad = |source| CliError::BadJson { part: name.to_owned(), source };
        if name.ends_with(".parquet") {
            return Ok(Self::Shard(Box::new(ShardView::read(path, name, view.rows)?)));
        }
        if name.ends_with(".json") && bytes <= MOST_JSON_BYTES {
            let file = File::open(path).map_err(CliError::file("read", path))?;
            let value = serde_json::from_reader(BufReader::new(file)).map_err(bad)?;
            return Ok(Self::Json(value));
        }
        if name.ends_with(".jsonl") {
            let file = File::open(path).map_err(CliError::file("read", path))?;
            let lines = BufReader::new(file.take(MOST_JSON_BYTES)).lines().take(view.rows);
            let rows = lines.map(|line| {
                let line = line.map_err(CliError::file("read", path))?;
                serde_json::from_str(&line).map_err(bad)
            });
            return Ok(Self::Rows(rows.collect::<Result<_, CliError>>()?));
        }
        Ok(Self::Hidden)
    }

    fn show(&self, view: &View<'_>, console: &mut Console<'_>) -> Result<(), CliError> {
        let limit = view.rows * LINES_A_ROW;
        let mut text_of = |value: &Value| {
            let text = format!("{value:#}");
            let n_lines = text.lines().count();
            let lines = text.lines().take(limit);
            lines
                .into_iter()
                .try_for_each(|line| console.line(format!("  {}", shortened(line, LINE_WIDTH))))?;
            if n_lines > limit {
                console.line(format!("  … {}", count(n_lines - limit, "more line")))?;
            }
            Ok(())
        };
        match self {
            Self::Hidden => Ok(()),
            Self::Json(value) => text_of(value),
            Self::Rows(rows) => rows.iter().try_for_each(text_of),
            Self::Shard(shard) => shard.show(console),
        }
    }
}
