//! Reads an experiment file with everything that it extends, its scale and the command line's overrides.

use std::path::{Path, PathBuf};

use crate::{
    config::{Node, Origin, Roots, Value},
    digest::Digest,
    error::ConfigError,
};

/// A file that was read, and how it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    /// Its name, as it was asked for.
    pub(crate) name: String,
    /// The folder of the file that names it, where it was looked for first.
    pub(crate) beside: Option<PathBuf>,
    /// Where it was found.
    pub(crate) path: PathBuf,
    /// Digest of its text.
    pub(crate) digest: Digest,
}

/// One `key=value` of the command line; the value is TOML, a bare word is a text.
#[derive(Clone, Debug)]
pub struct Override {
    path: Vec<String>,
    node: Node,
}

impl Override {
    /// Reads `a.b=value`.
    ///
    /// # Errors
    /// [`ConfigError::BadOverride`] when there is no `=` or no key; [`ConfigError::Syntax`] for a value that begins as a list,
    /// a table or a quoted text and is none.
    pub fn parse(argument: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::BadOverride { argument: argument.to_owned() };
        let (key, value) = argument.split_once('=').ok_or_else(bad)?;
        let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err(bad());
        }
        let origin = Origin::Argument(argument.into());
        let parsed = Node::parse(&format!("value = {value}"), "");
        let value = match (parsed, value.trim_start().starts_with(['[', '{', '"', '\''])) {
            (Ok(mut node), _) => node.remove("value").map(|node| node.value),
            (Err(ConfigError::Syntax { message, .. }), true) => {
                return Err(ConfigError::Syntax { origin, message });
            }
            (Err(_), _) => None,
        }
        .unwrap_or_else(|| Value::Text(value.to_owned()));
        let mut node = Node { value, origin: origin.clone() };
        relabel(&mut node, &origin);
        Ok(Self { path, node })
    }

    /// Sets `path` to a text, as an own switch of the command does (`--scale` for `experiment.scale`).
    pub fn text(path: &[&str], value: &str, argument: &str) -> Self {
        let origin = Origin::Argument(argument.into());
        let node = Node { value: Value::Text(value.to_owned()), origin };
        Self { path: path.iter().map(|&part| part.to_owned()).collect(), node }
    }

    /// The override as a document that holds nothing else.
    fn into_document(self) -> Node {
        let origin = self.node.origin.clone();
        self.path.into_iter().rev().fold(self.node, |node, key| Node {
            value: Value::Table(vec![(key, node)]),
            origin: origin.clone(),
        })
    }
}

fn relabel(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| relabel(item, origin)),
        Value::Table(entries) => entries.iter_mut().for_each(|(_, entry)| relabel(entry, origin)),
        _ => {}
    }
}

/// Reads the experiment `name`: what it extends below it, fragments named by `use`, the chosen scale and the overrides on top.
///
/// Says besides which files were read.
///
/// # Errors
/// Any [`ConfigError`] of finding, reading, parsing or composing the files.
pub(crate) fn load(
    name: &str,
    overrides: &[Override],
    roots: &Roots,
) -> Result<(Node, Vec<Text>), ConfigError> {
    let mut loader = Loader { roots, open: Vec::new(), texts: Vec::new() };
    let mut document = loader.file(name, None)?;
    let set: Vec<Node> = overrides.iter().map(|o| o.clone().into_document()).collect();
    // Overrides go on first, because they may choose fragments and the scale, and last, because they have the last word.
    set.iter().for_each(|node| document.overlay(node.clone()));
    let scale = chosen_scale(&document)?;
    splice_fragments(&mut document, &mut loader, scale.as_ref())?;
    apply_scale(&mut document, scale.as_ref())?;
    set.into_iter().for_each(|node| document.overlay(restore_use(node, &document)));
    Ok((document, loader.texts))
}

/// An override's `use = "….toml"` has been replaced by the fragment's own `use`, which must stay.
fn restore_use(mut node: Node, document: &Node) -> Node {
    if let Value::Table(entries) = &mut node.value {
        for (name, table) in entries {
            let fragment = table.get("use").and_then(Node::text).is_some_and(is_fragment);
            let resolved = document.get(name).and_then(|below| below.get("use")).cloned();
            if fragment && let (Some(resolved), Value::Table(fields)) = (resolved, &mut table.value)
            {
                fields
                    .iter_mut()
                    .filter(|(key, _)| key == "use")
                    .for_each(|(_, n)| *n = resolved.clone());
            }
        }
    }
    node
}

fn is_fragment(name: &str) -> bool {
    name.ends_with(".toml")
}

/// The name under `experiment.scale` and where it was written.
fn chosen_scale(document: &Node) -> Result<Option<(String, Origin)>, ConfigError> {
    let Some(node) = document.get("experiment").and_then(|table| table.get("scale")) else {
        return Ok(None);
    };
    let name = node.text().ok_or_else(|| ConfigError::WrongType {
        origin: node.origin.clone(),
        key: "experiment.scale".to_owned(),
        expected: "a string",
        found: node.kind(),
    })?;
    Ok(Some((name.to_owned(), node.origin.clone())))
}

/// Replaces each table whose `use` names a file by that file's table, at the chosen scale, with the table's own keys on top.
fn splice_fragments(
    document: &mut Node,
    loader: &mut Loader<'_>,
    scale: Option<&(String, Origin)>,
) -> Result<(), ConfigError> {
    let Value::Table(entries) = &mut document.value else {
        return Ok(());
    };
    for (_, table) in entries {
        let Some(named) = table.get("use").filter(|node| node.text().is_some_and(is_fragment))
        else {
            continue;
        };
        let origin = named.origin.clone();
        let name = named.text().unwrap_or_default().to_owned();
        let mut fragment = loader.file(&name, None).map_err(|error| error.at(origin))?;
        let own_scales = fragment.remove("scale");
        if let Some(overlay) = scale.and_then(|(name, _)| own_scales.as_ref()?.get(name)) {
            fragment.overlay(overlay.clone());
        }
        table.remove("use");
        fragment.origin = table.origin.clone();
        fragment.overlay(table.clone());
        *table = fragment;
    }
    Ok(())
}

/// Lays the document's `scale.NAME` over the document.
fn apply_scale(document: &mut Node, scale: Option<&(String, Origin)>) -> Result<(), ConfigError> {
    let scales = document.remove("scale");
    let Some((name, origin)) = scale else {
        return Ok(());
    };
    let known = scales.as_ref().and_then(Node::table).unwrap_or_default();
    let Some((_, overlay)) = known.iter().find(|(scale, _)| scale == name) else {
        let names = known.iter().map(|(scale, _)| scale.as_str());
        return Err(ConfigError::unknown(origin.clone(), "scale", name, "the experiment", names));
    };
    document.overlay(overlay.clone());
    Ok(())
}

struct Loader<'a> {
    roots: &'a Roots,
    /// The files being read, outermost first: a file that extends itself is found here.
    open: Vec<PathBuf>,
    /// The files that were read.
    texts: Vec<Text>,
}

impl Loader<'_> {
    fn file(&mut self, name: &str, beside: Option<&Path>) -> Result<Node, ConfigError> {
        let path = self.roots.config_file(name, beside)?;
        let shown = self.roots.shown(&path);
        if self.open.contains(&path) {
            let files = self.open.iter().chain([&path]).map(|p| self.roots.shown(p)).collect();
            return Err(ConfigError::ExtendsItself { files });
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Unreadable { path: shown.clone(), source })?;
        let (name, digest) = (name.to_owned(), Digest::of(text.as_bytes()));
        let beside = beside.map(Path::to_owned);
        self.texts.push(Text { name, beside, path: path.clone(), digest });
        let mut own = Node::parse(&text, &shown)?;
        let bases =
            own.remove("extends").map(|node| base_names(&node)).transpose()?.unwrap_or_default();
        self.open.push(path.clone());
        let mut document = Node::empty();
        for base in bases {
            document.overlay(self.file(&base, path.parent())?);
        }
        self.open.pop();
        document.overlay(own);
        Ok(document)
    }
}

fn base_names(node: &Node) -> Result<Vec<String>, ConfigError> {
    let wrong = |node: &Node| ConfigError::WrongType {
        origin: node.origin.clone(),
        key: "extends".to_owned(),
        expected: "a file name or a list of file names",
        found: node.kind(),
    };
    match &node.value {
        Value::Text(name) => Ok(vec![name.clone()]),
        Value::List(items) => items
            .iter()
            .map(|item| item.text().map(str::to_owned).ok_or_else(|| wrong(item)))
            .collect(),
        _ => Err(wrong(node)),
    }
}
