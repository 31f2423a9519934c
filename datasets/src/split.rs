//! Divides cases into training, validation and test, by patient and by a seed.
//!
//! Patients are ordered by a hash of (seed, patient), so a patient that joins moves at most one other across each
//! of the two borders, and the order in which cases are listed does not matter.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DatasetsError,
    case::{CaseImage, Split},
};

/// Numbers of cases in each split.
///
/// The defaults are those of the JSRT experiments of arXiv 2304.00466v2, section IV-A: 165 training, 12 validation
/// and the remaining 70 test cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSizes {
    /// Number of training cases (165).
    pub train: usize,
    /// Number of validation cases (12).
    pub val: usize,
    /// Number of test cases; all the rest when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
    /// Chooses who goes where (0).
    pub seed: u64,
}

impl Default for SplitSizes {
    fn default() -> Self {
        Self { train: 165, val: 12, test: None, seed: 0 }
    }
}

/// A case and the patient it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CasePatient<'a> {
    /// Name of the case.
    pub case: &'a str,
    /// Name of the patient.
    pub patient: &'a str,
}

/// Gives every case its split; cases that no split has room for are left out of the answer.
///
/// Patients are taken in the order of their hash, and all cases of one go to the first split that still has room
/// for all of them. With one case a patient the sizes are met exactly; otherwise they are upper bounds.
///
/// # Errors
/// [`DatasetsError::DuplicateCase`] when a case is listed twice; [`DatasetsError::SplitSizes`] when the splits need
/// more cases than there are; [`DatasetsError::EmptySplit`] when a split is asked to be empty or no patient fits it.
pub fn split_cases(
    cases: &[CasePatient<'_>],
    sizes: SplitSizes,
) -> Result<BTreeMap<String, Split>, DatasetsError> {
    let patients = by_patient(cases)?;
    let asked = sizes.train.saturating_add(sizes.val).saturating_add(sizes.test.unwrap_or(1));
    if asked > cases.len() {
        return Err(DatasetsError::SplitSizes { asked, found: cases.len() });
    }
    let mut order: Vec<(&str, &BTreeSet<&str>)> =
        patients.iter().map(|(&name, own)| (name, own)).collect();
    order.sort_by_cached_key(|(patient, _)| rank(sizes.seed, patient));
    let mut room = [sizes.train, sizes.val, sizes.test.unwrap_or(usize::MAX)];
    let mut found = BTreeMap::new();
    for (_, own) in order {
        let Some(place) = room.iter().position(|&room| room >= own.len()) else { continue };
        room[place] -= own.len();
        found.extend(own.iter().map(|&case| (case.to_owned(), Split::ALL[place])));
    }
    match Split::ALL.into_iter().find(|split| !found.values().any(|own| own == split)) {
        Some(split) => Err(DatasetsError::EmptySplit {
            split,
            n_cases: cases.len(),
            n_patients: patients.len(),
        }),
        None => Ok(found),
    }
}

/// Chooses at most `n_cases` cases, all of a patient or none, of a part of a data set whose other cases stay together.
///
/// Patients are taken in the order of their hash as far as there is room.
///
/// # Errors
/// [`DatasetsError::DuplicateCase`] when a case is listed twice.
pub fn hold_out(
    cases: &[CasePatient<'_>],
    n_cases: usize,
    seed: u64,
) -> Result<BTreeSet<String>, DatasetsError> {
    let patients = by_patient(cases)?;
    let mut order: Vec<(&str, &BTreeSet<&str>)> =
        patients.iter().map(|(&name, own)| (name, own)).collect();
    order.sort_by_cached_key(|(patient, _)| rank(seed, patient));
    let mut chosen = BTreeSet::new();
    for (_, own) in order {
        if chosen.len() + own.len() <= n_cases {
            chosen.extend(own.iter().map(|&case| case.to_owned()));
        }
    }
    Ok(chosen)
}

/// Refuses cases that share a patient across splits, or an id.
///
/// # Errors
/// [`DatasetsError::Leakage`] and [`DatasetsError::DuplicateCase`].
pub fn check_leakage<'a>(
    cases: impl IntoIterator<Item = &'a CaseImage>,
) -> Result<(), DatasetsError> {
    let mut splits: BTreeMap<&str, Split> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for case in cases {
        if !ids.insert(case.id.as_str()) {
            return Err(DatasetsError::DuplicateCase { case: case.id.clone() });
        }
        let first = *splits.entry(&case.patient).or_insert(case.split);
        if first != case.split {
            let patient = case.patient.clone();
            return Err(DatasetsError::Leakage { patient, splits: [first, case.split] });
        }
    }
    Ok(())
}

/// Collects the cases of every patient.
fn by_patient<'a>(
    cases: &[CasePatient<'a>],
) -> Result<BTreeMap<&'a str, BTreeSet<&'a str>>, DatasetsError> {
    let mut ids = BTreeSet::new();
    let mut patients: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for &CasePatient { case, patient } in cases {
        if !ids.insert(case) {
            return Err(DatasetsError::DuplicateCase { case: case.to_owned() });
        }
        patients.entry(patient).or_default().insert(case);
    }
    Ok(patients)
}

/// Place of a patient in the order of a seed.
fn rank(seed: u64, patient: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("pipeline 2026 split of patients v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(patient.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use proptest::prelude::*;

    use super::*;
    use crate::{Grid, Spacing};

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|index| format!("case-{index:03}")).collect()
    }

    fn alone(names: &[String]) -> Vec<CasePatient<'_>> {
        names.iter().map(|name| CasePatient { case: name, patient: name }).collect()
    }

    fn count(found: &BTreeMap<String, Split>, split: Split) -> usize {
        found.values().filter(|&&own| own == split).count()
    }

    #[test]
    fn the_default_sizes_divide_jsrt_as_published() {
        let names = names(247);
        let found = split_cases(&alone(&names), SplitSizes::default()).unwrap();
        assert_eq!(Split::ALL.map(|split| count(&found, split)), [165, 12, 70]);
        let mut backwards = alone(&names);
        backwards.reverse();
        assert_eq!(split_cases(&backwards, SplitSizes::default()).unwrap(), found);
        let other =
            split_cases(&alone(&names), SplitSizes { seed: 1, ..SplitSizes::default() }).unwrap();
        assert_ne!(other, found);
    }

    #[test]
    fn cases_of_a_patient_stay_together() {
        let names = names(30);
        let patients: Vec<String> = (0..30).map(|index| format!("P{}", index / 3)).collect();
        let cases: Vec<CasePatient<'_>> = names
            .iter()
            .zip(&patients)
            .map(|(case, patient)| CasePatient { case, patient })
            .collect();
        let found =
            split_cases(&cases, SplitSizes { train: 16, val: 4, test: Some(9), seed: 3 }).unwrap();
        assert_eq!(Split::ALL.map(|split| count(&found, split)), [15, 3, 9]);
        for group in names.chunks(3) {
            assert!(group.iter().all(|name| found.get(name) == found.get(&group[0])));
        }
    }

    #[test]
    fn sizes_that_cannot_be_met_are_refused() {
        let names = names(10);
        let sizes = |train, val, test| SplitSizes { train, val, test, seed: 0 };
        let refused = |sizes| split_cases(&alone(&names), sizes).unwrap_err();
        assert!(matches!(
            refused(sizes(8, 2, None)),
            DatasetsError::SplitSizes { asked: 11, found: 10 }
        ));
        assert!(matches!(
            refused(sizes(8, 2, Some(1))),
            DatasetsError::SplitSizes { asked: 11, .. }
        ));
        for (empty, split) in [
            (sizes(0, 2, None), Split::Train),
            (sizes(5, 0, None), Split::Val),
            (sizes(5, 2, Some(0)), Split::Test),
        ] {
            assert!(
                matches!(refused(empty), DatasetsError::EmptySplit { split: found, .. } if found == split)
            );
        }
        let twice = [CasePatient { case: "a", patient: "p" }; 2];
        let error = split_cases(&twice, sizes(1, 0, None)).unwrap_err();
        assert!(matches!(error, DatasetsError::DuplicateCase { case } if case == "a"));
        assert!(serde_json::from_str::<SplitSizes>(r#"{"trian": 3}"#).is_err());
    }

    #[test]
    fn held_out_patients_stay_whole_and_do_not_depend_on_the_order() {
        let names = names(9);
        let pairs: Vec<CasePatient<'_>> =
            (0..9).map(|n| CasePatient { case: &names[n], patient: &names[n / 2 * 2] }).collect();
        let held = hold_out(&pairs, 5, 3).unwrap();
        assert_eq!(held.len(), 5);
        let backwards: Vec<_> = pairs.iter().rev().copied().collect();
        assert_eq!(hold_out(&backwards, 5, 3).unwrap(), held);
        for pair in pairs.chunks_exact(2) {
            assert_eq!(held.contains(pair[0].case), held.contains(pair[1].case));
        }
        assert!(hold_out(&pairs, 0, 3).unwrap().is_empty());
        assert_eq!(hold_out(&pairs, 99, 3).unwrap().len(), 9);
    }

    #[test]
    fn a_patient_in_two_splits_is_refused() {
        let case = |id: &str, split| CaseImage {
            id: id.to_owned(),
            patient: "P1".to_owned(),
            dataset: "drawn".to_owned(),
            split,
            image: Grid::filled([1, 1, 1], 0.0),
            spacing: Spacing::unit(),
            affine: None,
        };
        let [train, again, test] =
            [case("a", Split::Train), case("b", Split::Train), case("c", Split::Test)];
        check_leakage([&train, &again]).unwrap();
        let error = check_leakage([&train, &test]).unwrap_err();
        assert_eq!(error.to_string(), "patient `P1` is in two splits: `train` and `test`");
        assert!(matches!(
            check_leakage([&train, &train]),
            Err(DatasetsError::DuplicateCase { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_patient_that_joins_moves_at_most_two_others(n in 12usize..60, seed in 0u64..1000) {
            let names = names(n + 1);
            let sizes = SplitSizes { train: n / 2, val: 3, test: None, seed };
            let before = split_cases(&alone(&names[..n]), sizes).unwrap();
            let after = split_cases(&alone(&names), sizes).unwrap();
            let moved = before.iter().filter(|(case, split)| after[case.as_str()] != **split).count();
            prop_assert!(moved <= 2, "{moved} cases moved");
        }
    }
}
