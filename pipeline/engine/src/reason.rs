//! Why a cell is built: a value with what changed, from what and to what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    action::{Action, InputState, Shown},
    digest::Digest,
};

/// Gives the parts of a stored chunk, if it is there still.
pub(crate) type PartsOf<'f> = dyn Fn(&Digest) -> Option<Vec<(String, Digest)>> + 'f;

/// One reason for building a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// No run of this experiment has built the cell before.
    NeverBuilt,
    /// The cell uses another stage.
    Stage {
        /// The stage before.
        from: String,
        /// The stage now.
        to: String,
    },
    /// The stage gives another output now.
    Version {
        /// The version before.
        from: u32,
        /// The version now.
        to: u32,
    },
    /// A value of the configuration differs.
    Config {
        /// Path of the value.
        key: String,
        /// The value before; absent where there was none.
        from: Option<Value>,
        /// The value now; absent where there is none.
        to: Option<Value>,
    },
    /// The artifacts on a port are others or in another order.
    Wiring {
        /// The port.
        port: String,
        /// The cells before.
        from: Vec<String>,
        /// The cells now.
        to: Vec<String>,
    },
    /// An artifact has another content.
    Input {
        /// The port.
        port: String,
        /// The cell that made it.
        cell: String,
        /// Content before.
        from: Digest,
        /// Content now.
        to: Digest,
        /// Parts that are new, gone or different.
        parts: Vec<String>,
    },
    /// An outside file has another content, is new or gone.
    External {
        /// Its name.
        name: String,
        /// Content before.
        from: Option<Digest>,
        /// Content now.
        to: Option<Digest>,
    },
    /// The machine differs in a fact that changes the output.
    Environment {
        /// The fact.
        name: String,
        /// Before.
        from: Option<String>,
        /// Now.
        to: Option<String>,
    },
    /// Nothing on which the cell depends has changed, but its stored result is gone or damaged.
    Lost {
        /// What is wrong with the result.
        note: String,
    },
    /// A cell that it reads from will be built; whether this one must be is known only then.
    Upstream {
        /// The cells.
        cells: Vec<String>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => write!(f, "never built"),
            Self::Stage { from, to } => write!(f, "stage changed from `{from}` to `{to}`"),
            Self::Version { from, to } => {
                write!(f, "version of the stage changed from {from} to {to}")
            }
            Self::Config { key, from, to } => {
                write!(f, "`{key}` changed from {} to {}", shown(from.as_ref()), shown(to.as_ref()))
            }
            Self::Wiring { port, from, to } => {
                write!(f, "port `{port}` changed from [{}] to [{}]", from.join(", "), to.join(", "))
            }
            Self::Input { port, cell, from, to, parts } => {
                write!(
                    f,
                    "`{cell}` on port `{port}` changed from {} to {}",
                    from.short(),
                    to.short()
                )?;
                match parts.as_slice() {
                    [] => Ok(()),
                    [one] => write!(f, " (part `{one}`)"),
                    [first, ..] => write!(f, " ({} parts, first `{first}`)", parts.len()),
                }
            }
            Self::External { name, from, to } => {
                let short =
                    |digest: &Option<Digest>| digest.map_or("absent".to_owned(), |d| d.short());
                write!(f, "file `{name}` changed from {} to {}", short(from), short(to))
            }
            Self::Environment { name, from, to } => {
                let text =
                    |fact: &Option<String>| fact.clone().unwrap_or_else(|| "absent".to_owned());
                write!(f, "{name} changed from {} to {}", text(from), text(to))
            }
            Self::Lost { note } => write!(f, "{note}"),
            Self::Upstream { cells } => match cells.as_slice() {
                [one] => write!(f, "`{one}` is built first"),
                [first, ..] => {
                    write!(f, "{} cells are built first, among them `{first}`", cells.len())
                }
                [] => write!(f, "cells that it needs are built first"),
            },
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        // A value that may be left out is null where it is.
        None | Some(Value::Null) => "absent".to_owned(),
        Some(value) => {
            let text = value.to_string();
            match text.char_indices().nth(80) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

/// Why `now` must be built where `before` was built last; `note` tells of a stored result that could not be used.
pub(crate) fn compare(
    before: Option<&Action>,
    now: &Action,
    note: Option<&str>,
    parts_of: &PartsOf<'_>,
) -> Vec<Reason> {
    let Some(before) = before else {
        return vec![
            note.map_or(Reason::NeverBuilt, |note| Reason::Lost { note: note.to_owned() }),
        ];
    };
    let Action { stage, version, config, shard: _, inputs, externals, environment } = now;
    let mut reasons = Vec::new();
    if before.stage != *stage {
        reasons.push(Reason::Stage { from: before.stage.clone(), to: stage.clone() });
    } else if before.version != *version {
        reasons.push(Reason::Version { from: before.version, to: *version });
    }
    compare_values("", Some(&before.config), Some(config), &mut reasons);
    let none = Vec::new();
    for port in keys(&before.inputs, inputs) {
        let (old, new) =
            (before.inputs.get(port).unwrap_or(&none), inputs.get(port).unwrap_or(&none));
        compare_port(port, old, new, parts_of, &mut reasons);
    }
    for name in keys(&before.externals, externals) {
        let (from, to) = (before.externals.get(name).copied(), externals.get(name).copied());
        if from != to {
            reasons.push(Reason::External { name: name.clone(), from, to });
        }
    }
    for name in keys(&before.environment, environment) {
        let (from, to) = (before.environment.get(name).cloned(), environment.get(name).cloned());
        if from != to {
            reasons.push(Reason::Environment { name: name.clone(), from, to });
        }
    }
    if reasons.is_empty() {
        reasons.push(Reason::Lost { note: note.unwrap_or("the stored result is gone").to_owned() });
    }
    reasons
}

fn keys<'a, T>(a: &'a BTreeMap<String, T>, b: &'a BTreeMap<String, T>) -> Vec<&'a String> {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn compare_values(key: &str, from: Option<&Value>, to: Option<&Value>, reasons: &mut Vec<Reason>) {
    match (from, to) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare_values(&path, old.get(name), new.get(name), reasons);
            }
        }
        (from, to) if from != to => {
            reasons.push(Reason::Config {
                key: key.to_owned(),
                from: from.cloned(),
                to: to.cloned(),
            });
        }
        _ => {}
    }
}

fn compare_port(
    port: &str,
    old: &[InputState],
    new: &[InputState],
    parts_of: &PartsOf<'_>,
    reasons: &mut Vec<Reason>,
) {
    let names = |states: &[InputState]| states.iter().map(|s| s.cell.clone()).collect::<Vec<_>>();
    if old.iter().map(|s| s.content).eq(new.iter().map(|s| s.content)) && old.len() == new.len() {
        let renamed = new.iter().any(|state| state.named) && names(old) != names(new);
        if renamed {
            reasons.push(Reason::Wiring {
                port: port.to_owned(),
                from: names(old),
                to: names(new),
            });
        }
        return;
    }
    if names(old) != names(new) {
        reasons.push(Reason::Wiring { port: port.to_owned(), from: names(old), to: names(new) });
        return;
    }
    for (old, new) in old.iter().zip(new).filter(|(old, new)| old.content != new.content) {
        reasons.push(Reason::Input {
            port: port.to_owned(),
            cell: new.cell.clone(),
            from: old.content,
            to: new.content,
            parts: changed_parts(&old.parts, &new.parts, parts_of).unwrap_or_default(),
        });
    }
}

/// Names of the parts that differ, read from the chunks that differ; `None` where one of those is gone.
fn changed_parts(old: &Shown, new: &Shown, parts_of: &PartsOf<'_>) -> Option<Vec<String>> {
    let contents = |shown: &Shown| shown.chunks.iter().map(|(content, _)| *content).collect();
    let (in_old, in_new): (BTreeSet<Digest>, BTreeSet<Digest>) = (contents(old), contents(new));
    let differing = |shown: &Shown, others: &BTreeSet<Digest>| {
        let mut parts: BTreeMap<String, Digest> = shown.parts.iter().cloned().collect();
        for (_, list) in shown.chunks.iter().filter(|(content, _)| !others.contains(content)) {
            parts.extend(parts_of(list)?);
        }
        Some(parts)
    };
    let (old, new) = (differing(old, &in_new)?, differing(new, &in_old)?);
    let names = keys(&old, &new).into_iter().filter(|name| old.get(*name) != new.get(*name));
    Some(names.cloned().collect())
}
