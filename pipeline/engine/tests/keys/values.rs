//! Random values, what is nearly like them, and a decoder that gives them back from their encodings.

use std::collections::BTreeMap;

use engine::digest::Encoder;
use serde_json::{Map, Number, Value};

use super::random::Random;

/// What was looked at.
#[derive(Debug, Default)]
pub struct Looked {
    /// Values and their neighbours.
    pub mutations: u64,
    /// Values by type.
    pub types: BTreeMap<&'static str, u64>,
}

/// Encodes values drawn from seeds, gets them back, and compares with what differs from them in one place.
///
/// # Errors
/// The first value that does not come back, or that shares its encoding with another.
pub fn check(seeds: std::ops::Range<u64>) -> Result<Looked, String> {
    let mut looked = Looked::default();
    for seed in seeds {
        let mut random = Random(seed);
        let value = random_value(&mut random, 4);
        count(&value, &mut looked.types);
        let encoding = encoded(&value);
        let plain = plain(&value);
        match decode(&encoding) {
            Some(found) if same(&found, &plain) => {}
            found => return Err(format!("seed {seed}: {value} came back as {found:?}")),
        }
        for _ in 0..4 {
            let mut other = value.clone();
            mutate(&mut other, &mut random);
            looked.mutations += 1;
            let is_same = same(&self::plain(&other), &plain);
            if (encoded(&other) == encoding) != is_same {
                return Err(format!("seed {seed}: {value} and {other}: same = {is_same}"));
            }
        }
    }
    Ok(looked)
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::unhashed("");
    encoder.value(value);
    encoder.into_bytes()
}

const TEXTS: [&str; 12] =
    ["a", "b", "s", "l", "\0", "\"", "é", "e\u{301}", "ß", "😀", "\u{202e}", "\u{1}"];

fn random_text(random: &mut Random) -> String {
    (0..random.below(4)).map(|_| random.one(&TEXTS)).collect()
}

fn random_number(random: &mut Random) -> Number {
    let bits = random.next();
    let float = |number: f64| Number::from_f64(number).unwrap_or_else(|| 0.into());
    match random.below(8) {
        0 => bits.into(),
        1 => (u64::MAX - bits % 3).into(),
        2 => (bits % 5).into(),
        3 => (-((bits >> 1) as i64)).into(),
        4 => (i64::MIN + (bits % 3) as i64).into(),
        5 => float(random.one(&[0.0, -0.0, 1.0, -1.0, 0.1, 5e-324, f64::MAX, f64::MIN_POSITIVE])),
        6 => float((bits % 7) as f64),
        _ => float(f64::from_bits(bits)),
    }
}

fn random_value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 4 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::Number(random_number(random)),
        3 => Value::String(random_text(random)),
        4 | 5 => (0..random.below(4)).map(|_| random_value(random, depth - 1)).collect(),
        _ => {
            let field =
                |random: &mut Random| (random_text(random), random_value(random, depth - 1));
            Value::Object((0..random.below(4)).map(|_| field(random)).collect())
        }
    }
}

fn count(value: &Value, types: &mut BTreeMap<&'static str, u64>) {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "integer beyond i64",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    };
    *types.entry(name).or_default() += 1;
    children(value).into_iter().for_each(|child| count(child, types));
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

/// Changes a value in one place.
fn mutate(value: &mut Value, random: &mut Random) {
    let n = children(value).len();
    if n > 0 && random.below(3) > 0 {
        let child = random.below(n);
        let below = match value {
            Value::Array(items) => items.get_mut(child),
            Value::Object(fields) => fields.values_mut().nth(child),
            _ => None,
        };
        return below.map_or((), |below| mutate(below, random));
    }
    let old = value.take();
    *value = match (old, random.below(5)) {
        // In other words, or wrapped.
        (old, 0) => Value::Array(vec![old]),
        (old, 1) => Value::String(old.to_string()),
        (Value::Bool(flag), _) => Value::Bool(!flag),
        (Value::Null, _) => random.one(&[0, 1]).into(),
        (Value::Number(number), _) => neighbour(&number, random),
        (Value::String(text), 2) => Value::String(text + random.one(&TEXTS)),
        (Value::String(text), _) => {
            // The same letters in two texts.
            let mut cut = random.below(text.len() + 1);
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            vec![Value::from(&text[..cut]), Value::from(&text[cut..])].into()
        }
        (Value::Array(items), 2) => nested(items),
        (Value::Array(mut items), _) => {
            let end = items.len();
            match random.below(3) {
                0 if end > 1 => items.swap(0, end - 1),
                1 if end > 0 => drop(items.pop()),
                _ => items.push(Value::Null),
            }
            Value::Array(items)
        }
        (Value::Object(fields), 2) => {
            // A map as the list of what is in it.
            fields.into_iter().flat_map(|(name, field)| [Value::from(name), field]).collect()
        }
        (Value::Object(fields), _) => rename(fields, random),
    };
}

/// The last two items in a list of their own.
fn nested(mut items: Vec<Value>) -> Value {
    let inner = items.split_off(items.len().saturating_sub(2));
    items.push(Value::Array(inner));
    Value::Array(items)
}

fn rename(mut fields: Map<String, Value>, random: &mut Random) -> Value {
    let first = fields.keys().next().cloned();
    if let Some(first) = first
        && let Some(field) = fields.remove(&first)
    {
        fields.insert(first + random.one(&TEXTS), field);
    } else {
        fields.insert(random_text(random), Value::Null);
    }
    Value::Object(fields)
}

/// A number next to another, or the same one as another type.
fn neighbour(number: &Number, random: &mut Random) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    let other_type = random.below(2) == 0;
    if let Some(whole) = number.as_u64() {
        return if other_type { float(whole as f64) } else { (whole ^ 1).into() };
    }
    if let Some(whole) = number.as_i64() {
        return if other_type { float(whole as f64) } else { (whole ^ 1).into() };
    }
    let own = number.as_f64().unwrap_or_default();
    if other_type { ((own as i64) as f64).into() } else { float(f64::from_bits(own.to_bits() ^ 1)) }
}

/// A value as its encoding means it: there is one zero.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            Number::from_f64(number.as_f64().unwrap_or_default() + 0.0)
                .map_or(Value::Null, Value::Number)
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), plain(field))).collect()
        }
        other => other.clone(),
    }
}

/// Whether two values are the same in type and bits; `==` takes the two zeros for one.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// The value of an encoding, which must be nothing besides.
fn decode(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    // The empty domain.
    decoded(&mut rest).filter(|domain| domain == "")?;
    decoded(&mut rest).filter(|_| rest.is_empty())
}

fn decoded(rest: &mut &[u8]) -> Option<Value> {
    let tag = taken(rest, 1)?[0];
    let word = |rest: &mut &[u8]| Some(u64::from_le_bytes(taken(rest, 8)?.try_into().ok()?));
    let value = match tag {
        b'n' => Value::Null,
        b't' => true.into(),
        b'f' => false.into(),
        b'u' => word(rest)?.into(),
        b'i' => (word(rest)? as i64).into(),
        b'r' => Value::Number(Number::from_f64(f64::from_bits(word(rest)?))?),
        b's' => {
            let length = word(rest)? as usize;
            std::str::from_utf8(taken(rest, length)?).ok()?.into()
        }
        b'l' => (0..word(rest)?).map(|_| decoded(rest)).collect::<Option<_>>()?,
        b'm' => {
            let n = word(rest)?;
            let field = |_| match (decoded(rest)?, decoded(rest)?) {
                (Value::String(name), field) => Some((name, field)),
                _ => None,
            };
            Value::Object((0..n).map(field).collect::<Option<Map<_, _>>>()?)
        }
        _ => return None,
    };
    Some(value)
}

fn taken<'b>(rest: &mut &'b [u8], n: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(taken)
}
