//! Keys: no two different values share an encoding, and known values have the keys that they had.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "tests may fail loudly and explain themselves"
)]

#[path = "../faults/random.rs"]
mod random;
mod values;

use engine::digest::Encoder;
use serde_json::Value;

/// Values that a test run has the time for; the example `keys` takes as many as wanted.
const VALUES: u64 = 20_000;

#[test]
fn different_values_have_different_encodings() {
    let looked = values::check(0..VALUES).unwrap();
    assert!(looked.mutations > 3 * VALUES, "{looked:?}");
    assert!(looked.types.iter().all(|(_, &n)| n > VALUES / 100), "{looked:?}");
    assert_eq!(looked.types.len(), 8, "{looked:?}");
}

/// Keys by `golden.py`, which knows the encoding but not this program. A difference disowns all that users have stored.
#[test]
fn golden_keys() {
    let vectors: Vec<(String, Value)> = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert_eq!(vectors.len(), 12);
    for (key, value) in vectors {
        let mut encoder = Encoder::new("pipeline action v1");
        encoder.value(&value);
        assert_eq!(encoder.finish().to_string(), key, "{value}");
    }
}

/// Numbers that JSON does not have never come as far as an encoding.
#[test]
fn what_is_no_number_is_no_value() {
    let payloads = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001), f64::INFINITY];
    for number in payloads {
        assert!(serde_json::Number::from_f64(number).is_none());
        assert!(engine::config::Node::parse(&format!("a = {number}"), "f").is_err());
    }
    for text in ["nan", "-nan", "+inf", "1e999"] {
        assert!(engine::config::Node::parse(&format!("a = {text}"), "f").is_err(), "{text}");
    }
}
