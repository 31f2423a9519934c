//! A TOML value that knows where each of its parts was written.

use std::{collections::BTreeMap, fmt, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::error::ConfigError;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File {
        /// Path as the user would type it.
        path: Arc<str>,
        /// Line, counted from 1.
        line: usize,
    },
    /// An argument of the command line.
    Argument(Arc<str>),
    /// Made by the program, not written by anybody.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Argument(argument) => write!(f, "--set {argument}"),
            Self::Program => f.write_str("built in"),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// What TOML can hold; dates and times are refused because no stage reads them.
#[derive(Clone, Debug)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Named values in the order in which they were written.
    Table(Vec<(String, Node)>),
}

impl Node {
    /// An empty table that nobody wrote.
    pub fn empty() -> Self {
        Self { value: Value::Table(Vec::new()), origin: Origin::Program }
    }

    /// Parses a TOML file's text; `path` is used in messages only.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] with the line, or [`ConfigError::Unsupported`] for dates and infinite numbers.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let lines = Lines::new(text, path);
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: lines.origin(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let value = lines.table(table.get_ref())?;
        Ok(Self { value, origin: lines.origin(0) })
    }

    /// The named part of a table.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.table()?.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Takes the named part out of a table.
    pub fn remove(&mut self, name: &str) -> Option<Self> {
        let Value::Table(entries) = &mut self.value else {
            return None;
        };
        let place = entries.iter().position(|(key, _)| key == name)?;
        Some(entries.remove(place).1)
    }

    /// The entries, if this is a table.
    pub fn table(&self) -> Option<&[(String, Self)]> {
        match &self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The place of the part at `path` (keys and list indices), or of the deepest part on the way there.
    pub fn origin_of<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> &Origin {
        let mut node = self;
        for step in path {
            let part = match &node.value {
                Value::List(items) => step.parse().ok().and_then(|i: usize| items.get(i)),
                _ => node.get(step),
            };
            match part {
                Some(part) => node = part,
                None => break,
            }
        }
        &node.origin
    }

    /// Lays `upper` over this value: tables are merged key by key, everything else is replaced.
    pub fn overlay(&mut self, upper: Self) {
        match (&mut self.value, upper.value) {
            (Value::Table(lower), Value::Table(entries)) => {
                let known = lower.iter().enumerate().map(|(i, (name, _))| (name.clone(), i));
                let mut places: BTreeMap<String, usize> = known.collect();
                for (key, node) in entries {
                    if let Some(&place) = places.get(&key) {
                        lower[place].1.overlay(node);
                    } else {
                        places.insert(key.clone(), lower.len());
                        lower.push((key, node));
                    }
                }
            }
            (lower, value) => {
                *lower = value;
                self.origin = upper.origin;
            }
        }
    }

    /// The plain value, for deserializing.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Bool(flag) => (*flag).into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(entries) => serde_json::Value::Object(
                entries.iter().map(|(k, v)| (k.clone(), v.to_json())).collect(),
            ),
        }
    }

    /// The value as TOML in one line, as in an inline table.
    pub fn to_toml(&self) -> String {
        match &self.value {
            Value::Bool(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Text(text) => quoted(text),
            Value::List(items) => {
                format!("[{}]", items.iter().map(Self::to_toml).collect::<Vec<_>>().join(", "))
            }
            Value::Table(entries) => {
                let fields: Vec<String> = entries
                    .iter()
                    .map(|(k, v)| format!("{} = {}", toml_key(k), v.to_toml()))
                    .collect();
                if fields.is_empty() { "{}".into() } else { format!("{{ {} }}", fields.join(", ")) }
            }
        }
    }
}

/// A key as TOML writes it: bare where that is allowed, quoted otherwise.
pub(crate) fn toml_key(key: &str) -> String {
    let bare =
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { quoted(key) }
}

/// A text as TOML writes it in one line.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    // What `toml` says too, without its pains.
    if text.bytes().all(plain) {
        format!("\"{text}\"")
    } else {
        toml::Value::from(text).to_string()
    }
}

/// Line numbers of a file.
struct Lines {
    /// Where lines end.
    ends: Vec<usize>,
    path: Arc<str>,
}

impl Lines {
    fn new(text: &str, path: &str) -> Self {
        Self { ends: text.match_indices('\n').map(|(end, _)| end).collect(), path: path.into() }
    }

    fn origin(&self, offset: usize) -> Origin {
        let line = 1 + self.ends.partition_point(|&end| end < offset);
        Origin::File { path: self.path.clone(), line }
    }

    fn table(&self, table: &DeTable<'_>) -> Result<Value, ConfigError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let mut node = self.node(value)?;
            node.origin = self.origin(key.span().start);
            Ok((key.get_ref().to_string(), node))
        });
        Ok(Value::Table(entries.collect::<Result<_, ConfigError>>()?))
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Result<Node, ConfigError> {
        let origin = self.origin(value.span().start);
        let unsupported =
            |what: &str| ConfigError::Unsupported { origin: origin.clone(), what: what.to_owned() };
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::Integer)
                .map_err(|_| unsupported("an integer beyond 64 bits"))?,
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) if f64::is_finite(number) => Value::Float(number),
                _ => return Err(unsupported("a number that is not finite")),
            },
            DeValue::Datetime(_) => return Err(unsupported("a date or time")),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => self.table(table)?,
        };
        Ok(Node { value, origin })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn keeps_order_and_lines() {
        let node = Node::parse("b = 1\n\n[z]\ny = [1, 2]\n[a]\nx = 0.5\n", "f.toml").unwrap();
        let keys: Vec<&str> = node.table().unwrap().iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["b", "z", "a"]);
        assert_eq!(node.origin_of(["z", "y", "1"]).to_string(), "f.toml:4");
        assert_eq!(node.origin_of(["a", "x"]).to_string(), "f.toml:6");
        assert_eq!(node.origin_of(["a", "nothing"]).to_string(), "f.toml:5");
    }

    #[test]
    fn overlay_merges_tables_and_replaces_the_rest() {
        let mut lower = Node::parse("[t]\na = 1\nb = [1, 2]\n", "low").unwrap();
        lower.overlay(Node::parse("[t]\nb = [3]\nc = 'x'\n", "up").unwrap());
        assert_eq!(lower.to_toml(), r#"{ t = { a = 1, b = [3], c = "x" } }"#);
        assert_eq!(lower.origin_of(["t", "b"]).to_string(), "up:2");
        assert_eq!(lower.origin_of(["t", "a"]).to_string(), "low:2");
    }

    #[test]
    fn refuses_what_no_stage_reads() {
        for (text, line) in
            [("a = 1\nb = 1979-05-27", 2), ("a = inf", 1), ("a = ", 1), ("a = 1\na = 2", 2)]
        {
            let error = Node::parse(text, "f.toml").unwrap_err().to_string();
            assert!(error.starts_with(&format!("f.toml:{line}: ")), "{error}");
        }
    }
}
