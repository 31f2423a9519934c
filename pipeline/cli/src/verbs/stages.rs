//! `pipeline stages`: the stages that an experiment may name.

use std::sync::Arc;

use engine::{Arity, DynStage, InputPort, OutputPort, nearest};
use serde_json::{Value, json};

use crate::{
    arguments::StagesArguments,
    console::Console,
    error::{CliError, Exit},
    text::Table,
    world::World,
};

pub(super) fn run(
    arguments: &StagesArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    match (&arguments.name, arguments.json) {
        (Some(name), true) => console.json_pretty(&to_json(stage(world, name)?.as_ref()))?,
        (Some(name), false) => describe(stage(world, name)?.as_ref(), console)?,
        (None, true) => {
            let all: Vec<Value> =
                world.registry.iter().map(|stage| to_json(stage.as_ref())).collect();
            console.json_pretty(&all)?;
        }
        (None, false) => list(world, console)?,
    }
    Ok(Exit::Done)
}

/// The stage with this name.
pub(super) fn stage<'w>(world: &'w World, name: &str) -> Result<&'w Arc<dyn DynStage>, CliError> {
    world.registry.get(name).ok_or_else(|| {
        let nearest = nearest(name, world.registry.names()).map(str::to_owned);
        CliError::NoStage { name: name.to_owned(), nearest }
    })
}

fn list(world: &World, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut table = Table::titled(&["stage", "version", "runs", "in", "out"]).right(&[1]);
    for stage in world.registry.iter() {
        let inputs: Vec<String> = stage.inputs().iter().map(input).collect();
        let outputs: Vec<String> = stage.outputs().iter().map(output).collect();
        let runs = if stage.per_shard() { "per shard" } else { "once" };
        let version = stage.version().to_string();
        let (inputs, outputs) = (inputs.join(", "), outputs.join(", "));
        table.row([stage.name(), &version, runs, &inputs, &outputs]);
    }
    table.lines().iter().try_for_each(|line| console.line(line))
}

/// `images: shards`, or `images` alone where name and kind are one word, with a mark for the number: `?` for one or
/// none, `+` for one or more, `*` for any number.
fn input(port: &InputPort) -> String {
    format!("{}{}", named(port.name, port.kind), mark(port.arity))
}

fn named(name: &str, kind: &str) -> String {
    if name == kind { name.to_owned() } else { format!("{name}: {kind}") }
}

fn mark(arity: Arity) -> &'static str {
    match arity {
        Arity::One => "",
        Arity::Optional => "?",
        Arity::Many => "+",
        Arity::Named => "*",
    }
}

fn output(port: &OutputPort) -> String {
    named(port.name, port.kind)
}

fn describe(stage: &dyn DynStage, console: &mut Console<'_>) -> Result<(), CliError> {
    let per_shard = if stage.per_shard() { ", runs once a shard" } else { "" };
    console.line(format!("{}, version {}{per_shard}", stage.name(), stage.version()))?;
    console.line(stage.about())?;
    let mut table = Table::default();
    for port in stage.inputs() {
        let sharded = if port.sharded { "sharded" } else { "" };
        table.row(["  ", port.name, port.kind, port.arity.words(), sharded]);
    }
    section("in", &table, console)?;
    let mut table = Table::default();
    for port in stage.outputs() {
        table.row(["  ", port.name, port.kind, if port.sharded { "sharded" } else { "" }]);
    }
    section("out", &table, console)?;
    let keys = keys(stage.schema());
    let mut table = Table::default();
    for key in &keys {
        let default = match &key.default {
            None if key.required => "required".to_owned(),
            None => String::new(),
            Some(value) => format!("default {value}"),
        };
        table.row(["  ", &key.path, &shortened(&key.kind), &default, &key.about]);
    }
    section("config", &table, console)?;
    // What would make a column of the table too wide stands below it.
    for key in keys.iter().filter(|key| shortened(&key.kind) != key.kind) {
        console.line("")?;
        console.line(format!("{}: {}", key.path, key.kind))?;
    }
    Ok(())
}

/// A kind as long as a column of a table may be: whole, or its first words.
fn shortened(kind: &str) -> String {
    const LONGEST: usize = 50;
    if kind.len() <= LONGEST {
        return kind.to_owned();
    }
    let cut = kind.match_indices(" | ").map(|(at, _)| at).take_while(|at| *at < LONGEST).last();
    cut.map_or_else(|| kind.to_owned(), |at| format!("{} | …", &kind[..at]))
}

fn section(title: &str, table: &Table, console: &mut Console<'_>) -> Result<(), CliError> {
    let lines = table.lines();
    if lines.is_empty() {
        return Ok(());
    }
    console.line("")?;
    console.line(title)?;
    lines.iter().try_for_each(|line| console.line(line))
}

/// A key of a configuration.
#[derive(Debug, PartialEq)]
struct Key {
    path: String,
    kind: String,
    required: bool,
    default: Option<Value>,
    about: String,
}

/// The keys of a configuration by its JSON Schema; those of tables in it as `table.key`.
fn keys(schema: &Value) -> Vec<Key> {
    let mut found = Vec::new();
    gather(schema, schema, "", &mut found);
    found
}

fn gather(root: &Value, schema: &Value, prefix: &str, found: &mut Vec<Key>) {
    const DEEPEST: usize = 4;
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required = schema.get("required").and_then(Value::as_array);
    for (name, own) in properties {
        let target = followed(root, own);
        let path = format!("{prefix}{name}");
        let text = |schema: &Value| schema.get("description")?.as_str().map(one_line);
        found.push(Key {
            kind: kind(root, own),
            required: required.is_some_and(|names| names.contains(&json!(name))),
            default: default_of(own, target),
            about: text(own).or_else(|| text(target)).unwrap_or_default(),
            path: path.clone(),
        });
        // A schema may contain itself.
        if prefix.matches('.').count() < DEEPEST {
            gather(root, target, &format!("{path}."), found);
        }
    }
}

/// The default of a plain value; that of a table follows from its keys, which are listed too.
fn default_of(own: &Value, target: &Value) -> Option<Value> {
    if target.get("properties").is_some() { None } else { own.get("default").cloned() }
}

/// The first sentence or so: a doc comment up to its first empty line.
fn one_line(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().replace('\n', " ")
}

/// The schema that a reference leads to.
fn followed<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let target = reference.and_then(|text| root.pointer(text.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// What a key takes, in a few words.
fn kind(root: &Value, schema: &Value) -> String {
    let schema = followed(root, schema);
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    for union in ["oneOf", "anyOf"] {
        if let Some(options) = schema.get(union).and_then(Value::as_array) {
            return options.iter().map(|one| kind(root, one)).collect::<Vec<_>>().join(" | ");
        }
    }
    match schema.get("type") {
        Some(Value::String(name)) => plain_kind(root, schema, name),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            names.map(|name| plain_kind(root, schema, name)).collect::<Vec<_>>().join(" | ")
        }
        _ => "anything".to_owned(),
    }
}

fn plain_kind(root: &Value, schema: &Value, name: &str) -> String {
    match name {
        "array" => {
            let items =
                schema.get("items").map_or_else(|| "anything".to_owned(), |i| kind(root, i));
            let length = schema.get("minItems").filter(|n| schema.get("maxItems") == Some(n));
            length.map_or_else(|| format!("[{items}, ...]"), |n| format!("[{items}; {n}]"))
        }
        "object" => "table".to_owned(),
        "null" => "nothing".to_owned(),
        "boolean" => "true | false".to_owned(),
        plain => plain.to_owned(),
    }
}

fn to_json(stage: &dyn DynStage) -> Value {
    let input = |port: &InputPort| {
        let arity = match port.arity {
            Arity::One => "one",
            Arity::Optional => "optional",
            Arity::Many => "many",
            Arity::Named => "named",
        };
        json!({ "name": port.name, "kind": port.kind, "sharded": port.sharded, "arity": arity })
    };
    let output = |port: &OutputPort| json!({ "name": port.name, "kind": port.kind, "sharded": port.sharded });
    let key = |key: Key| {
        let Key { path, kind, required, default, about } = key;
        json!({
            "key": path, "type": kind, "required": required, "default": default, "about": about
        })
    };
    json!({
        "name": stage.name(),
        "version": stage.version(),
        "about": stage.about(),
        "per_shard": stage.per_shard(),
        "in": stage.inputs().iter().map(input).collect::<Vec<_>>(),
        "out": stage.outputs().iter().map(output).collect::<Vec<_>>(),
        "config": keys(stage.schema()).into_iter().map(key).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_become_words() {
        let schema = json!({
            "$defs": {
                "Optimizer": { "type": "object", "properties": {
                    "rate": { "type": "number", "default": 0.1, "description": "Step\nsize.\n\nMore." },
                }},
                "Mode": { "oneOf": [{ "const": "fast" }, { "const": "exact" }] },
            },
            "properties": {
                "mode": { "$ref": "#/$defs/Mode" },
                "optimizer": { "$ref": "#/$defs/Optimizer" },
                "seeds": { "type": "array", "items": { "type": "integer" } },
                "shape": { "type": "array", "items": { "type": "integer" }, "minItems": 3, "maxItems": 3 },
                "limit": { "type": ["integer", "null"] },
            },
            "required": ["mode"],
        });
        let found: Vec<String> =
            keys(&schema).into_iter().map(|key| format!("{}: {}", key.path, key.kind)).collect();
        assert_eq!(
            found,
            [
                "limit: integer | nothing",
                "mode: \"fast\" | \"exact\"",
                "optimizer: table",
                "optimizer.rate: number",
                "seeds: [integer, ...]",
                "shape: [integer; 3]",
            ]
        );
        let rate = keys(&schema).into_iter().find(|key| key.path == "optimizer.rate");
        assert_eq!(rate.map(|key| key.about), Some("Step size.".to_owned()));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({
            "$defs": { "T": { "type": "object", "properties": { "t": { "$ref": "#/$defs/T" } } } },
            "properties": { "t": { "$ref": "#/$defs/T" } },
        });
        assert!(keys(&schema).len() < 10);
    }
}
