//! The composed configuration as TOML that can be run again.

use crate::config::{Node, Value};

/// Writes a document with one `[table]` a node; what lies deeper is written inline.
pub(super) fn to_toml(document: &Node) -> String {
    let mut text = String::new();
    for (name, node) in document.table().unwrap_or_default() {
        let Value::Table(entries) = &node.value else {
            text.push_str(&line(name, node));
            continue;
        };
        text.push_str(&format!("\n[{}]\n", crate::config::toml_key(name)));
        entries.iter().for_each(|(key, entry)| text.push_str(&line(key, entry)));
    }
    text.trim_start().to_owned()
}

fn line(key: &str, node: &Node) -> String {
    format!("{} = {}\n", crate::config::toml_key(key), node.to_toml())
}
