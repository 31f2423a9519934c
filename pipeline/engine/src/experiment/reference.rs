//! References to the outputs of other nodes: `node`, `node.port`, `node[axis=value].port`, `node[*].port`.

use crate::{
    config::{Node, Origin, Value},
    error::ConfigError,
};

/// Which cells of a node are meant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selector {
    /// Every combination.
    All,
    /// Those with these values; the other axes follow the cell that refers.
    Pinned(Vec<(String, String)>),
}

/// A parsed reference.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) text: String,
    pub(super) node: String,
    pub(super) selector: Selector,
    pub(super) port: Option<String>,
    pub(super) origin: Origin,
}

impl Reference {
    fn parse(text: &str, origin: &Origin) -> Result<Self, ConfigError> {
        let bad =
            || ConfigError::BadReference { origin: origin.clone(), reference: text.to_owned() };
        let (node, rest) = text.split_at(text.find(['[', '.']).unwrap_or(text.len()));
        let (selector, rest) = match rest.strip_prefix('[') {
            None => (Selector::Pinned(Vec::new()), rest),
            Some(rest) => {
                let (inside, rest) = rest.split_once(']').ok_or_else(bad)?;
                (selector(inside).ok_or_else(bad)?, rest)
            }
        };
        let port = match rest {
            "" => None,
            _ => Some(
                rest.strip_prefix('.').filter(|port| !port.is_empty()).ok_or_else(bad)?.to_owned(),
            ),
        };
        if node.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            text: text.to_owned(),
            node: node.to_owned(),
            selector,
            port,
            origin: origin.clone(),
        })
    }

    /// The references of one port: a text, or a list of texts and lists.
    pub(super) fn list(node: &Node, key: &str) -> Result<Vec<Self>, ConfigError> {
        match &node.value {
            Value::Text(text) => Ok(vec![Self::parse(text, &node.origin)?]),
            Value::List(items) => {
                let lists = items.iter().map(|item| Self::list(item, key));
                Ok(lists.collect::<Result<Vec<_>, _>>()?.concat())
            }
            _ => Err(ConfigError::WrongType {
                origin: node.origin.clone(),
                key: key.to_owned(),
                expected: "a reference or a list of references",
                found: node.kind(),
            }),
        }
    }
}

fn selector(inside: &str) -> Option<Selector> {
    if inside.trim() == "*" {
        return Some(Selector::All);
    }
    let pins = inside.split(',').map(|pin| {
        let (axis, value) = pin.split_once('=')?;
        Some((axis.trim().to_owned(), value.trim().to_owned()))
    });
    pins.collect::<Option<_>>().map(Selector::Pinned)
}
