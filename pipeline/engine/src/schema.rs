//! Unknown keys by a stage's JSON Schema, and the schema of whole experiments.

use serde_json::{Map, Value, json};

use crate::{
    policy::{self, Policy},
    registry::Registry,
    stage::DynStage,
};

/// A key that no schema knows.
pub(crate) struct UnknownKey {
    /// Keys on the way to it.
    pub(crate) path: Vec<String>,
    /// The key.
    pub(crate) name: String,
    /// The keys that would be known in its place.
    pub(crate) known: Vec<String>,
}

/// Finds the first key of `value` that `schema` does not know.
pub(crate) fn unknown_key(schema: &Value, value: &Value) -> Option<UnknownKey> {
    search(schema, schema, value, &mut Vec::new())
}

fn search(
    root: &Value,
    schema: &Value,
    value: &Value,
    path: &mut Vec<String>,
) -> Option<UnknownKey> {
    let schema = target(root, schema)?;
    match value {
        Value::Object(fields) => {
            let known = schema.get("properties")?.as_object()?;
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            for (name, field) in fields {
                match known.get(name) {
                    None if closed => {
                        let known = known.keys().cloned().collect();
                        return Some(UnknownKey { path: path.clone(), name: name.clone(), known });
                    }
                    None => {}
                    Some(below) => {
                        path.push(name.clone());
                        let found = search(root, below, field, path);
                        if found.is_some() {
                            return found;
                        }
                        path.pop();
                    }
                }
            }
            None
        }
        Value::Array(items) => {
            let below = schema.get("items")?;
            items.iter().enumerate().find_map(|(i, item)| {
                path.push(i.to_string());
                let found = search(root, below, item, path);
                path.pop();
                found
            })
        }
        _ => None,
    }
}

/// Follows references and optional values to the schema that describes an object or list.
fn target<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return target(root, root.pointer(reference.strip_prefix('#')?)?);
    }
    if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
        let mut objects =
            options.iter().filter(|option| option.get("type") != Some(&json!("null")));
        let only = objects.next()?;
        return if objects.next().is_none() { target(root, only) } else { None };
    }
    Some(schema)
}

/// The schema that a reference leads to.
pub(crate) fn followed<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let target = reference.and_then(|text| root.pointer(text.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// JSON Schema of an experiment file: every cell's keys follow from the stage that it uses.
pub fn experiment_schema(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    let mut cases = Vec::new();
    for stage in registry.iter() {
        let mut schema = stage.schema().clone();
        lift_definitions(&mut schema, stage.name(), &mut definitions);
        add_wiring(&mut schema, stage.as_ref());
        definitions.insert(stage.name().to_owned(), schema);
        cases.push(json!({
            "if": { "properties": { "use": { "const": stage.name() } }, "required": ["use"] },
            "then": { "$ref": format!("#/$defs/{}", stage.name()) },
        }));
    }
    let mut own = Policy::schema();
    lift_definitions(&mut own, "policy", &mut definitions);
    definitions.insert("policy".to_owned(), own);
    definitions.insert("cell".to_owned(), json!({ "type": "object", "allOf": cases }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline experiment",
        "type": "object",
        "properties": {
            "extends": { "type": ["string", "array"], "items": { "type": "string" } },
            "experiment": {
                "type": "object",
                "properties": {
                    "name": { "type": "string" },
                    "title": { "type": "string" },
                    "scale": { "type": "string" },
                },
                "additionalProperties": false,
            },
            "matrix": { "type": "object" },
            "scale": { "type": "object" },
        },
        "additionalProperties": { "$ref": "#/$defs/cell" },
        "$defs": definitions,
    })
}

fn lift_definitions(schema: &mut Value, stage: &str, definitions: &mut Map<String, Value>) {
    let own = schema.as_object_mut().and_then(|object| object.remove("$defs"));
    rename_references(schema, stage);
    if let Some(Value::Object(own)) = own {
        for (name, mut definition) in own {
            rename_references(&mut definition, stage);
            definitions.insert(format!("{stage}.{name}"), definition);
        }
    }
}

fn rename_references(schema: &mut Value, stage: &str) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "$ref"
                    && let Some(name) =
                        value.as_str().and_then(|text| text.strip_prefix("#/$defs/"))
                {
                    *value = json!(format!("#/$defs/{stage}.{name}"));
                } else {
                    rename_references(value, stage);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, stage)),
        _ => {}
    }
}

fn add_wiring(schema: &mut Value, stage: &dyn DynStage) {
    let ports: Map<String, Value> = stage
        .inputs()
        .iter()
        .map(|port| (port.name.to_owned(), json!({ "type": ["string", "array"] })))
        .collect();
    let others =
        if stage.declares_ports() { json!({ "type": ["string", "array"] }) } else { json!(false) };
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("$schema");
    let properties = object.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("use".to_owned(), json!({ "const": stage.name() }));
        properties.insert("enabled".to_owned(), json!({ "type": "boolean" }));
        for key in policy::KEYS {
            properties.insert(
                key.to_owned(),
                json!({ "$ref": format!("#/$defs/policy/properties/{key}") }),
            );
        }
        properties.insert(
            "in".to_owned(),
            json!({ "type": "object", "properties": ports, "additionalProperties": others }),
        );
    }
}
