//! The axes of an experiment and the `${…}` by which its nodes mention them.

use crate::{
    config::{Node, Origin, Value},
    error::ConfigError,
};

/// One axis of the matrix.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) name: String,
    /// Values in the order of the file: label and what `${axis}` stands for.
    pub(super) values: Vec<(String, Node)>,
}

impl Axis {
    /// Reads `[matrix]`: a list of plain values, or a table of labelled tables.
    pub(super) fn all(document: &Node) -> Result<Vec<Self>, ConfigError> {
        let Some(matrix) = document.get("matrix") else {
            return Ok(Vec::new());
        };
        let axes = matrix.table().ok_or_else(|| wrong_type(matrix, "matrix", "a table of axes"))?;
        axes.iter().map(|(name, node)| Self::read(name, node)).collect()
    }

    fn read(name: &str, node: &Node) -> Result<Self, ConfigError> {
        let expected = "a list of plain values or a table of tables";
        let wrong = |node: &Node| wrong_type(node, &format!("matrix.{name}"), expected);
        let values = match &node.value {
            Value::List(items) => items
                .iter()
                .map(|item| Ok((label(item).ok_or_else(|| wrong(item))?, item.clone())))
                .collect::<Result<_, ConfigError>>()?,
            Value::Table(entries) => entries.clone(),
            _ => return Err(wrong(node)),
        };
        Ok(Self { name: name.to_owned(), values })
    }
}

fn wrong_type(node: &Node, key: &str, expected: &'static str) -> ConfigError {
    ConfigError::WrongType {
        origin: node.origin.clone(),
        key: key.to_owned(),
        expected,
        found: node.kind(),
    }
}

/// A plain value as the text that names it.
fn label(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => Some(node.to_toml()),
        Value::List(_) | Value::Table(_) => None,
    }
}

/// The axes that a value mentions, among `axes`.
pub(super) fn mentioned(node: &Node, axes: &[Axis], found: &mut Vec<bool>) {
    match &node.value {
        Value::Text(text) => {
            for (name, _) in mentions(text) {
                let axis = name.split('.').next().unwrap_or_default();
                if let Some(i) = axes.iter().position(|known| known.name == axis) {
                    found[i] = true;
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| mentioned(item, axes, found)),
        Value::Table(entries) => {
            entries.iter().for_each(|(_, entry)| mentioned(entry, axes, found))
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

/// `${name}` in a text: the names and the text before each.
fn mentions(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}') else {
            break;
        };
        found.push((&rest[start + 2..start + end], &rest[..start]));
        rest = &rest[start + end + 1..];
    }
    found
}

/// What `${…}` stands for in one cell.
pub(super) struct Scope<'a> {
    /// Label and value of each bound axis, and other named tables such as `experiment`.
    pub(super) names: Vec<(&'a str, &'a str, &'a Node)>,
    /// Every axis of the matrix, bound or not: what a wrong name may have meant.
    pub(super) axes: Vec<&'a str>,
}

impl Scope<'_> {
    /// Replaces every `${…}`: a text that is nothing else becomes the value itself.
    pub(super) fn fill(&self, node: &Node) -> Result<Node, ConfigError> {
        let value = match &node.value {
            Value::Text(text) => return self.fill_text(text, node),
            Value::List(items) => {
                Value::List(items.iter().map(|i| self.fill(i)).collect::<Result<_, _>>()?)
            }
            Value::Table(entries) => {
                let filled =
                    entries.iter().map(|(key, entry)| Ok((key.clone(), self.fill(entry)?)));
                Value::Table(filled.collect::<Result<_, ConfigError>>()?)
            }
            plain => plain.clone(),
        };
        Ok(Node { value, origin: node.origin.clone() })
    }

    fn fill_text(&self, text: &str, node: &Node) -> Result<Node, ConfigError> {
        let found = mentions(text);
        if let [(name, "")] = found[..]
            && text.len() == name.len() + 3
        {
            let value = self.value(name, &node.origin)?;
            return Ok(Node { value, origin: node.origin.clone() });
        }
        let mut filled = String::new();
        let mut consumed = 0;
        for (name, before) in found {
            let value =
                Node { value: self.value(name, &node.origin)?, origin: node.origin.clone() };
            filled.push_str(before);
            filled.push_str(&label(&value).unwrap_or_else(|| value.to_toml()));
            consumed += before.len() + name.len() + 3;
        }
        filled.push_str(&text[consumed..]);
        Ok(Node { value: Value::Text(filled), origin: node.origin.clone() })
    }

    fn value(&self, name: &str, origin: &Origin) -> Result<Value, ConfigError> {
        let (axis, field) =
            name.split_once('.').map_or((name, None), |(axis, field)| (axis, Some(field)));
        let known = || self.axes.iter().copied().chain(["experiment"]);
        let (_, label, node) =
            self.names.iter().find(|&&(name, _, _)| name == axis).ok_or_else(|| {
                ConfigError::unknown(origin.clone(), "name", axis, "`${…}`", known())
            })?;
        match (field, node.table()) {
            (None, None) => Ok(node.value.clone()),
            (None, Some(_)) => Ok(Value::Text((*label).to_owned())),
            (Some(field), table) => {
                let entries = table.unwrap_or_default();
                let found = entries.iter().find(|(key, _)| key == field);
                let keys = || entries.iter().map(|(key, _)| key.as_str());
                found.map(|(_, node)| node.value.clone()).ok_or_else(|| {
                    ConfigError::unknown(origin.clone(), "key", field, format!("`{axis}`"), keys())
                })
            }
        }
    }
}
