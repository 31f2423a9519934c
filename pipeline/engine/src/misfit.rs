//! What a value is not, in the words of the JSON Schema that it should fit.
//!
//! Deserializers name the types of the program (`usize`, `struct TrainingConfig`); people ask for numbers and tables.

use serde_json::Value;

use crate::{schema::followed, stage::Refusal};

/// Longest value that a message repeats.
const LONGEST: usize = 60;

/// The first part of `value` that does not fit `schema`, where that can be told.
pub(crate) fn misfit(schema: &Value, value: &Value) -> Option<Refusal> {
    let found = Search { root: schema }.value(schema, value, "")?;
    Some(Refusal::new(found.key, found.message))
}

struct Misfit {
    key: String,
    message: String,
    /// Whether a table has other fields than it should, so that it may be meant for another variant.
    fields: bool,
}

struct Search<'a> {
    root: &'a Value,
}

impl Search<'_> {
    fn value(&self, schema: &Value, value: &Value, key: &str) -> Option<Misfit> {
        let schema = followed(self.root, schema);
        if let Some(options) = options(schema) {
            return self.union(schema, options, value, key);
        }
        let fits = match schema.get("const") {
            Some(constant) => constant == value,
            None => schema
                .get("enum")
                .and_then(Value::as_array)
                .is_none_or(|values| values.contains(value)),
        };
        if !fits || !self.fits_type(schema, value) {
            return Some(self.here(schema, value, key));
        }
        match value {
            Value::Object(_) => self.table(schema, value, key),
            Value::Array(items) => {
                let below = schema.get("items")?;
                let mut items = items.iter().enumerate();
                items.find_map(|(i, item)| self.value(below, item, &format!("{key}[{i}]")))
            }
            _ => None,
        }
    }

    /// One of several must fit; where none does, what is wrong inside the one that is meant tells more.
    fn union(&self, schema: &Value, options: &[Value], value: &Value, key: &str) -> Option<Misfit> {
        let mut deepest: Option<Misfit> = None;
        for option in options {
            let found = self.value(option, value, key)?;
            let depth = deepest.as_ref().map_or(key.len(), |best| best.key.len());
            let is_own = !found.key[key.len()..].trim_start_matches('.').contains('.');
            if found.key.len() > depth && !(found.fields && is_own) {
                deepest = Some(found);
            }
        }
        Some(deepest.unwrap_or_else(|| self.here(schema, value, key)))
    }

    fn table(&self, schema: &Value, value: &Value, key: &str) -> Option<Misfit> {
        let name = |field: &str| {
            if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") }
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        let mut required = required.into_iter().flatten().filter_map(Value::as_str);
        if let Some(field) = required.find(|&field| value.get(field).is_none()) {
            let own = properties.and_then(|own| own.get(field)).unwrap_or(&Value::Null);
            let message = format!("expected {}: got nothing", self.words(own));
            return Some(Misfit { key: name(field), message, fields: true });
        }
        let properties = properties?;
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        value.as_object()?.iter().find_map(|(field, value)| match properties.get(field) {
            Some(below) => self.value(below, value, &name(field)),
            None if !closed => None,
            None => {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                let message = format!("unknown key; known: `{}`", known.join("`, `"));
                Some(Misfit { key: name(field), message, fields: true })
            }
        })
    }

    fn here(&self, schema: &Value, value: &Value, key: &str) -> Misfit {
        let text = value.to_string();
        let shown = match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        let message = format!("expected {}: got {shown}", self.words(schema));
        Misfit { key: key.to_owned(), message, fields: false }
    }

    fn fits_type(&self, schema: &Value, value: &Value) -> bool {
        let types = types(schema);
        types.is_empty() || types.iter().any(|name| fits_one(name, schema, value))
    }

    /// What a schema asks for.
    fn words(&self, schema: &Value) -> String {
        let mut choices = self.choices(schema);
        match choices.pop() {
            Some(last) if choices.is_empty() => last,
            Some(last) => format!("{} or {last}", choices.join(", ")),
            None => "a value".to_owned(),
        }
    }

    /// Everything that a schema takes but for nothing.
    fn choices(&self, schema: &Value) -> Vec<String> {
        let schema = followed(self.root, schema);
        if let Some(constant) = schema.get("const") {
            return vec![constant.to_string()];
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return values.iter().map(Value::to_string).collect();
        }
        if let Some(options) = options(schema) {
            return options.iter().flat_map(|option| self.choices(option)).collect();
        }
        let types = types(schema).into_iter().filter(|name| *name != "null");
        types.map(|name| words_of_type(name, schema)).collect()
    }
}

fn words_of_type(name: &str, schema: &Value) -> String {
    let bound = |key: &str| schema.get(key).filter(|bound| bound.is_number());
    match name {
        "integer" | "number" => {
            let what = if name == "integer" { "a whole number" } else { "a number" };
            match (bound("minimum"), bound("maximum")) {
                (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
                (Some(low), None) => format!("{what} from {low}"),
                (None, Some(high)) => format!("{what} up to {high}"),
                (None, None) => what.to_owned(),
            }
        }
        "array" => match (bound("minItems"), bound("maxItems")) {
            (Some(least), Some(most)) if least == most => format!("a list of {least} values"),
            _ => "a list".to_owned(),
        },
        "object" => match single_field(schema) {
            Some(field) => format!("a table with `{field}`"),
            None => "a table".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        "string" => "a text".to_owned(),
        other => other.to_owned(),
    }
}

fn options(schema: &Value) -> Option<&[Value]> {
    let options = schema.get("oneOf").or_else(|| schema.get("anyOf"))?;
    options.as_array().map(Vec::as_slice)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The field of a variant that is written as a table of one.
fn single_field(schema: &Value) -> Option<&str> {
    let required = schema.get("required")?.as_array()?;
    let properties = schema.get("properties")?.as_object()?;
    if properties.len() == 1 && required.len() == 1 { required[0].as_str() } else { None }
}

fn fits_one(name: &str, schema: &Value, value: &Value) -> bool {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let within = |number: f64| {
        bound("minimum").is_none_or(|low| number >= low)
            && bound("maximum").is_none_or(|high| number <= high)
    };
    match (name, value) {
        ("integer", Value::Number(n)) => {
            (n.is_i64() || n.is_u64()) && n.as_f64().is_some_and(within)
        }
        ("number", Value::Number(n)) => n.as_f64().is_some_and(within),
        ("array", Value::Array(items)) => {
            let n = items.len() as f64;
            bound("minItems").is_none_or(|least| n >= least)
                && bound("maxItems").is_none_or(|most| n <= most)
        }
        ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("object", Value::Object(_))
        | ("null", Value::Null) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    /// Fields of every kind that stages have.
    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct Settings {
        count: usize,
        share: Option<f64>,
        names: Vec<String>,
        range: [f64; 2],
        #[serde(default)]
        mode: Mode,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Default, JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Mode {
        #[default]
        Fast,
        Exact,
        Within {
            radius_px: u32,
        },
    }

    #[derive(JsonSchema)]
    #[allow(dead_code, reason = "only its schema is of interest")]
    struct Inner {
        on: bool,
    }

    fn check(key: &str, value: Value, expected: Option<&str>) {
        let mut all = json!({ "count": 1, "names": ["a"], "range": [0.5, 1] });
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(key)),
            value => all[key] = value,
        }
        let schema = schemars::schema_for!(Settings).to_value();
        let found = misfit(&schema, &all).map(|found| format!("{}: {}", found.key, found.message));
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn misfits_are_told_in_words() {
        let count = "count: expected a whole number from 0: got";
        check("count", json!("many"), Some(&format!("{count} \"many\"")));
        check("count", json!(-1), Some(&format!("{count} -1")));
        check("count", json!(1.5), Some(&format!("{count} 1.5")));
        check("count", Value::Null, Some(&format!("{count} nothing")));
        check("share", json!("x"), Some("share: expected a number: got \"x\""));
        check("names", json!("a"), Some("names: expected a list: got \"a\""));
        check("names", json!(["a", 1]), Some("names[1]: expected a text: got 1"));
        check("range", json!([1]), Some("range: expected a list of 2 values: got [1]"));
        check("inner", json!(3), Some("inner: expected a table with `on`: got 3"));
        check("inner", json!({ "on": 1 }), Some("inner.on: expected true or false: got 1"));
    }

    #[test]
    fn variants_are_told_apart() {
        check("mode", json!("exact"), None);
        check("mode", json!({ "within": { "radius_px": 3 } }), None);
        let words = "mode: expected \"fast\", \"exact\" or a table with `within`: got";
        check("mode", json!("slow"), Some(&format!("{words} \"slow\"")));
        check("mode", json!(3), Some(&format!("{words} 3")));
        check(
            "mode",
            json!({ "within": { "radius_px": "x" } }),
            Some("mode.within.radius_px: expected a whole number from 0: got \"x\""),
        );
        check(
            "mode",
            json!({ "within": { "radius_px": 1, "radius": 3 } }),
            Some("mode.within.radius: unknown key; known: `radius_px`"),
        );
    }
}
