//! Layouts: where the files of cases lie.
//!
//! Sources: `dataset_format.md` of nnU-Net v2, with `labelsTr_rater<k>` of our own for further raters; the Medical
//! Segmentation Decathlon; QUBIQ 2020 and 2021; CHASE_DB1; DRIVE; Duke-Breast-Cancer-MRI of The Cancer Imaging Archive.

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    LabelValues, Pattern, PatternError,
    Placeholder::{self, Case, Channel, Patient, Rater, Structure},
    ValueRule, duke,
};
use crate::DatasetsError;

/// Where the files of cases lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// nnU-Net: `imagesTr/<case>_<channel>`, reference `labelsTr/<case>`, raters `labelsTr_rater<k>/<case>`, and
    /// `dataset.json`.
    Nnunet,
    /// Medical Segmentation Decathlon: `imagesTr/<case>` of one or more channels, reference `labelsTr/<case>`, and
    /// `dataset.json`.
    Msd,
    /// QUBIQ: `<case>/image` and `<case>/<task>_seg<rater>`; each task is a structure.
    Qubiq,
    /// CHASE_DB1: `Image_<case>.jpg` and `Image_<case>_<rater>HO.png`, in one folder or in several.
    ChaseDb1,
    /// DRIVE: `<part>/images/<case>_<part>.tif` and `<part>/<rater>_manual/<case>_manual<k>.gif`.
    Drive,
    /// Duke-Breast-Cancer-MRI: `Duke-Breast-Cancer-MRI/<case>/<study>/<series>/`; the phases of contrast are the channels
    /// `phase_0` (before) to `phase_4`, by the table of paths where it is given, else by descriptive names, and other
    /// series are left out. Boxes of a table are a rater named `box`. Masks, which the release has none of, are looked
    /// for as `masks/<case>`.
    Duke,
    /// Patterns of one's own.
    Patterns(LayoutPatterns),
}

/// Patterns of paths relative to the root; see [`Pattern`] for what they may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayoutPatterns {
    /// Images, with `{case}` and, where every channel has a file, `{channel}`.
    pub image: String,
    /// Labels of raters, with `{case}`, `{rater}` and, where every structure has a file, `{structure}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Reference labels, with `{case}` and perhaps `{structure}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<String>,
    /// The patient in the name of a case, with `{patient}`; every case is a patient of its own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
}

/// Parsed patterns of a layout; the first that fits a path counts.
pub(super) struct Patterns {
    pub(super) image: Vec<Pattern>,
    pub(super) label: Vec<Pattern>,
    pub(super) truth: Vec<Pattern>,
    pub(super) patient: Option<Pattern>,
}

impl Layout {
    /// Refuses patterns that are none.
    ///
    /// # Errors
    /// The first [`PatternError`].
    pub fn check(&self) -> Result<(), PatternError> {
        self.patterns().map(|_| ())
    }

    /// Name of the file that describes the data set, where the layout has one.
    pub fn metadata(&self) -> Option<&'static str> {
        matches!(self, Self::Nnunet | Self::Msd).then_some("dataset.json")
    }

    /// Structures of data sets that show one thing only or have no labels; `None` where the data set or its user names them.
    pub fn structures(&self) -> Option<BTreeMap<String, LabelValues>> {
        let tumour = ("tumour".to_owned(), LabelValues::Rule(ValueRule::Foreground));
        match self {
            Self::Duke => Some(BTreeMap::from([tumour])),
            Self::Patterns(LayoutPatterns { label: None, truth: None, .. }) => {
                Some(BTreeMap::new())
            }
            _ => None,
        }
    }

    /// Name of a channel by the text that stands for it in a path; `None` for files that do not count.
    pub(super) fn channel(&self, found: &str) -> Option<String> {
        match self {
            Self::Duke => duke::channel(found),
            _ => Some(found.to_owned()),
        }
    }

    pub(super) fn patterns(&self) -> Result<Patterns, PatternError> {
        let own;
        let (image, label, truth, patient): (&[&str], &[&str], &[&str], _) = match self {
            Self::Nnunet => (
                &["imagesTr/{case}_{channel}"],
                &["labelsTr_rater{rater}/{case}"],
                &["labelsTr/{case}"],
                None,
            ),
            Self::Msd => (&["imagesTr/{case}"], &[], &["labelsTr/{case}"], None),
            Self::Qubiq => (&["{case}/image"], &["{case}/{structure}_seg{rater}"], &[], None),
            Self::ChaseDb1 => (
                &["Image_{case}.jpg", "{*}/Image_{case}.jpg"],
                &["Image_{case}_{rater}HO.png", "{*}/Image_{case}_{rater}HO.png"],
                &[],
                // Both eyes of a child: `01L`, `01R`.
                Some("{patient}{?}"),
            ),
            Self::Drive => (
                &["{*}/images/{case}_{*}.tif"],
                &["{*}/{rater}_manual/{case}_manual{?}.gif"],
                &[],
                None,
            ),
            Self::Duke => (
                &[
                    "Duke-Breast-Cancer-MRI/{case}/{*}/{channel}",
                    "{*}/Duke-Breast-Cancer-MRI/{case}/{*}/{channel}",
                ],
                &[],
                &["masks/{case}"],
                None,
            ),
            Self::Patterns(LayoutPatterns { image, label, truth, patient }) => {
                own = [Some(image), label.as_ref(), truth.as_ref()]
                    .map(|text| text.map(String::as_str).into_iter().collect::<Vec<_>>());
                (&own[0], &own[1], &own[2], patient.as_deref())
            }
        };
        let parse = |texts: &[&str], needed: &[Placeholder], allowed: &[Placeholder]| {
            let parsed = texts.iter().map(|text| Pattern::parse(text, needed, allowed));
            parsed.collect::<Result<Vec<_>, _>>()
        };
        Ok(Patterns {
            image: parse(image, &[Case], &[Channel])?,
            label: parse(label, &[Case, Rater], &[Structure])?,
            truth: parse(truth, &[Case], &[Structure])?,
            patient: patient.map(|text| Pattern::parse(text, &[Patient], &[])).transpose()?,
        })
    }
}

/// What a `dataset.json` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The structures by name, without the background.
    pub structures: BTreeMap<String, LabelValues>,
}

impl Metadata {
    /// Reads `dataset.json` in the form of nnU-Net (`"labels": {"tumour": 1}`, regions as lists) or of the Decathlon
    /// (`"labels": {"1": "tumour"}`).
    ///
    /// # Errors
    /// [`DatasetsError::Metadata`] for what is neither.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, DatasetsError> {
        let wrong = |found: &str| DatasetsError::Metadata {
            path: path.to_owned(),
            found: found.to_owned(),
        };
        let json: Value = serde_json::from_slice(bytes).map_err(|_| wrong("no JSON"))?;
        let labels = json.get("labels").and_then(Value::as_object);
        let labels = labels.ok_or_else(|| wrong("no table `labels`"))?;
        let mut structures = BTreeMap::new();
        for (key, value) in labels {
            let (name, values) =
                structure(key, value).ok_or_else(|| wrong("a label without a whole number"))?;
            if values != [0] {
                structures.insert(name.replace(' ', "_"), LabelValues::Listed(values));
            }
        }
        Ok(Self { structures })
    }
}

/// Name and values of an entry of `labels`.
fn structure(key: &str, value: &Value) -> Option<(String, Vec<u32>)> {
    let whole = |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok());
    match value {
        Value::String(name) => Some((name.clone(), vec![key.parse().ok()?])),
        Value::Array(values) => {
            Some((key.to_owned(), values.iter().map(whole).collect::<Option<_>>()?))
        }
        _ => Some((key.to_owned(), vec![whole(value)?])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn every_preset_is_made_of_patterns() {
        let presets = [
            Layout::Nnunet,
            Layout::Msd,
            Layout::Qubiq,
            Layout::ChaseDb1,
            Layout::Drive,
            Layout::Duke,
        ];
        for preset in presets {
            preset.check().unwrap();
            let text = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), preset);
        }
        let own = r#"{"patterns": {"image": "{case}.png", "label": "{case}_{channel}.png"}}"#;
        let own: Layout = serde_json::from_str(own).unwrap();
        assert!(matches!(own.check(), Err(PatternError::Missing { needed: Rater, .. })));
        assert_eq!(own.structures(), None);
        let bare: Layout =
            serde_json::from_str(r#"{"patterns": {"image": "{case}.png"}}"#).unwrap();
        assert_eq!(bare.structures(), Some(BTreeMap::new()), "no labels, nothing to name");
    }

    #[test]
    fn both_kinds_of_metadata_name_the_structures() {
        let read = |text: &str| Metadata::parse(text.as_bytes(), Path::new("dataset.json"));
        let listed = |values: &[u32]| LabelValues::Listed(values.to_vec());
        let decathlon =
            read(r#"{"labels": {"0": "background", "1": "Anterior", "2": "left lung"}}"#).unwrap();
        let expected = [("Anterior", listed(&[1])), ("left_lung", listed(&[2]))];
        let expected = expected.map(|(name, values)| (name.to_owned(), values));
        assert_eq!(decathlon.structures, BTreeMap::from(expected));
        let nnunet = read(r#"{"labels": {"background": 0, "whole": [1, 2], "core": 2}}"#).unwrap();
        let expected = [("core", listed(&[2])), ("whole", listed(&[1, 2]))];
        let expected = expected.map(|(name, values)| (name.to_owned(), values));
        assert_eq!(nnunet.structures, BTreeMap::from(expected));
        for text in ["", "{}", r#"{"labels": {"a": -1}}"#, r#"{"labels": {"x": "a"}}"#] {
            assert!(matches!(read(text), Err(DatasetsError::Metadata { .. })), "{text}");
        }
    }
}
