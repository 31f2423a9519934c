//! What becomes of the findings of a data set: cases are compared, and it is decided and reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
};

use datasets::{
    CasePatient, DatasetsError, Split, SplitSizes,
    folder::{Finding, FindingCode, FolderCase, Severity, table},
    shard::{ShardPart, shard_parts},
    split_cases,
};
use engine::{Ctx, Out, StageError};
use serde_json::json;
use thiserror::Error;

use crate::{
    kinds::IngestReport,
    shards::{refused, write_json, write_table},
};

/// A data set that cannot be used as it is.
#[derive(Debug, Error)]
#[error("errors found in the files: {} ({}); the first: {first}", self.n_errors(), self.counted())]
pub(super) struct Findings {
    /// Number of errors by code.
    counts: BTreeMap<FindingCode, usize>,
    /// The first of them.
    first: String,
}

impl Findings {
    fn n_errors(&self) -> usize {
        self.counts.values().sum()
    }

    fn counted(&self) -> String {
        let counts = self.counts.iter().map(|(code, n)| format!("{n} `{code}`"));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// What is kept of a case after its shard is written.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) case: String,
    pub(super) patient: String,
    pub(super) split: Split,
    pub(super) shape: [usize; 3],
    digest: [u8; 32],
    channels: Vec<String>,
    file: String,
}

impl Written {
    /// The case, if it is not dropped.
    pub(super) fn of(case: &FolderCase, file: &str) -> Option<Self> {
        let (_, image) = case.channels.first()?;
        Some(Self {
            case: image.id.clone(),
            patient: image.patient.clone(),
            split: image.split,
            shape: image.image.shape(),
            digest: case.digest,
            channels: case.channels.iter().map(|(name, _)| name.clone()).collect(),
            file: file.to_owned(),
        })
    }

    fn finding(&self, code: FindingCode, detail: String) -> Finding {
        let (case, file) = (self.case.clone(), self.file.clone());
        Finding { case, source: String::new(), code, file, detail }
    }
}

/// What shows only beside other cases: images that occur twice, and channels that others do not have.
fn compare(cases: &[Written]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: BTreeMap<[u8; 32], &Written> = BTreeMap::new();
    for case in cases {
        let first = *seen.entry(case.digest).or_insert(case);
        if first.case != case.case {
            let is_leak = first.split != case.split;
            let code = match is_leak {
                true => FindingCode::SameImageAcrossSplits,
                false => FindingCode::SameImage,
            };
            let detail =
                format!("the image is that of case `{}` of split {}", first.case, first.split);
            findings.push(case.finding(code, detail));
        }
        let expected = &cases[0].channels;
        if *expected != case.channels {
            let detail = format!(
                "channels are {:?}: case `{}` has {expected:?}",
                case.channels, cases[0].case
            );
            findings.push(case.finding(FindingCode::ChannelsDiffer, detail));
        }
    }
    findings
}

/// Divides cases into splits and shards of `target` cases in the mean; the last argument is what was found wrong with those
/// that were left out, and the codes that are allowed.
///
/// # Errors
/// Too few cases for the splits, unless what was wrong with the others says more.
pub(super) fn divided(
    cases: &[CasePatient<'_>],
    sizes: SplitSizes,
    target: NonZeroUsize,
    (findings, allow): (&[Finding], &[FindingCode]),
) -> Result<Vec<ShardPart>, StageError> {
    let splits = split_cases(cases, sizes).or_else(|error| {
        judge(findings, allow)?;
        Err(refused(error))
    })?;
    let marked = splits.iter().map(|(case, split)| (case.as_str(), *split));
    shard_parts(marked, target).map_err(refused)
}

/// What a data set comes to: its findings are logged, judged and reported.
///
/// # Errors
/// [`Findings`] that are not allowed, and a split of which no case is left.
pub(super) fn conclude(
    found: [Vec<Finding>; 2],
    cases: &[Written],
    allow: &[FindingCode],
    report: &Out<IngestReport>,
    ctx: &Ctx<'_>,
) -> Result<(), StageError> {
    let [listed, read] = found;
    let all = [listed, read, compare(cases)].concat();
    all.iter().for_each(|finding| ctx.log(&finding.to_string()));
    judge(&all, allow)?;
    check_splits(cases)?;
    write_report(report, &all)
}

/// Stops the run for errors that are not allowed.
pub(super) fn judge(findings: &[Finding], allow: &[FindingCode]) -> Result<(), StageError> {
    let is_fatal = |finding: &&Finding| {
        finding.code.severity() == Severity::Error && !allow.contains(&finding.code)
    };
    let fatal: Vec<&Finding> = findings.iter().filter(is_fatal).collect();
    let Some(first) = fatal.first() else { return Ok(()) };
    let mut counts: BTreeMap<FindingCode, usize> = BTreeMap::new();
    fatal.iter().for_each(|finding| *counts.entry(finding.code).or_default() += 1);
    let error = StageError::new(Findings { counts, first: first.to_string() });
    Err(error.hint(
        "`pipeline logs` lists all of them; correct the files, or name the codes in `allow` to go on without the \
         cases that are dropped",
    ))
}

/// Refuses a split whose cases were all dropped.
fn check_splits(cases: &[Written]) -> Result<(), StageError> {
    let empty = |split: &Split| !cases.iter().any(|case| case.split == *split);
    let patients: BTreeSet<&str> = cases.iter().map(|case| case.patient.as_str()).collect();
    match Split::ALL.into_iter().find(empty) {
        Some(split) => Err(refused(DatasetsError::EmptySplit {
            split,
            n_cases: cases.len(),
            n_patients: patients.len(),
        })),
        None => Ok(()),
    }
}

/// Writes the report.
fn write_report(out: &Out<IngestReport>, findings: &[Finding]) -> Result<(), StageError> {
    let table = table(findings).map_err(refused)?;
    write_table(out, "report.parquet", &table)?;
    table.write_json_lines(&out.path("report.jsonl")).map_err(refused)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    findings.iter().for_each(|finding| *counts.entry(finding.code.name()).or_default() += 1);
    write_json(out, "summary.json", &json!({ "findings": findings.len(), "by_code": counts }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{CaseImage, Image, Spacing};

    use super::*;

    fn written(case: &str, split: Split, digest: u8, channels: &[&str]) -> Written {
        let image = CaseImage {
            id: case.to_owned(),
            patient: case.to_owned(),
            dataset: "drawn".to_owned(),
            split,
            image: Image::filled([1, 1, 2], 0.0),
            spacing: Spacing::unit(),
            affine: None,
        };
        let channels = channels.iter().map(|name| ((*name).to_owned(), image.clone())).collect();
        let case = FolderCase {
            channels,
            truth: Vec::new(),
            raters: Vec::new(),
            findings: Vec::new(),
            digest: [digest; 32],
        };
        Written::of(&case, "file").unwrap()
    }

    #[test]
    fn images_that_occur_twice_leak_only_across_splits() {
        let cases = [
            written("a", Split::Train, 1, &["0000", "0001"]),
            written("b", Split::Train, 1, &["0000", "0001"]),
            written("c", Split::Test, 1, &["0000", "0001"]),
            written("d", Split::Test, 2, &["0000"]),
        ];
        let found = compare(&cases);
        let rows: Vec<_> = found.iter().map(|f| (f.case.as_str(), f.code.name())).collect();
        let expected =
            [("b", "same_image"), ("c", "same_image_across_splits"), ("d", "channels_differ")];
        assert_eq!(rows, expected);
        let error = judge(&found, &[FindingCode::ChannelsDiffer]).unwrap_err().to_string();
        assert!(
            error.starts_with("errors found in the files: 1 (1 `same_image_across_splits`)"),
            "{error}"
        );
        let allowed = [FindingCode::ChannelsDiffer, FindingCode::SameImageAcrossSplits];
        judge(&found, &allowed).unwrap();
        let error = check_splits(&cases).unwrap_err().to_string();
        assert_eq!(error, "split `val` has no case: 4 cases of 4 patients were given");
    }
}
