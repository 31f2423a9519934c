//! Fusion of the labels of several sources into one.

pub mod sample;
pub mod shape_average;
pub mod simple;
pub mod soft_vote;
pub mod staple;
pub mod vote;

use std::collections::BTreeMap;

use datasets::{CaseLabel, Image, Mask, SourceKind};
use engine::{Refusal, Registry};
use imaging::fusion::NamedMask;
use serde_json::Value;

/// Adds the stages.
pub(crate) fn register(registry: &mut Registry) {
    registry.add::<vote::Vote>();
    registry.add::<soft_vote::SoftVote>();
    registry.add::<staple::Staple>();
    registry.add::<simple::Simple>();
    registry.add::<shape_average::ShapeAverage>();
    registry.add::<sample::Sample>();
}

/// Refuses a setting outside `[low, high]`; NaN is outside.
fn within(setting: &str, value: f64, low: f64, high: f64) -> Result<(), Refusal> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(Refusal::new(setting, format!("expected a number in [{low:?}, {high:?}]: got {value}")))
    }
}

/// The masks of a case with the names of their sources.
fn named(labels: &[CaseLabel]) -> Vec<NamedMask<'_>> {
    let named = labels.iter().map(|label| NamedMask { source: &label.source, mask: &label.mask });
    named.collect()
}

/// The fused label of a case that has at least one label.
fn fused(labels: &[CaseLabel], source: &str, mask: Mask) -> CaseLabel {
    CaseLabel {
        source: source.to_owned(),
        kind: SourceKind::Fused,
        mask,
        probability: None,
        params: None,
        ..labels[0].clone()
    }
}

/// Adds what a fusion knows beyond the mask.
fn explained(label: CaseLabel, probability: Option<Image>, params: &Value) -> CaseLabel {
    CaseLabel { probability, params: Some(params.to_string()), ..label }
}

/// Numbers by the names of the sources; of two sources of one name the first number stays.
fn by_source<T: Copy + Into<Value>>(labels: &[CaseLabel], numbers: &[T]) -> Value {
    let mut named = BTreeMap::new();
    for (label, &number) in labels.iter().zip(numbers) {
        named.entry(label.source.clone()).or_insert_with(|| number.into());
    }
    Value::Object(named.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn fused_labels_keep_the_case_and_lose_the_source() {
        let drawn = [label("a", "x", mask!["# . .", "# # ."]), label("a", "x", mask!["# . ."])];
        let label = explained(
            fused(&drawn, "staple", mask![". . .", ". . ."]),
            None,
            &by_source(&drawn, &[1.0, 0.5]),
        );
        assert_eq!((label.id.as_str(), label.source.as_str()), ("a", "staple"));
        assert_eq!(
            (label.kind, label.params.as_deref()),
            (SourceKind::Fused, Some(r#"{"x":1.0}"#))
        );
    }
}
