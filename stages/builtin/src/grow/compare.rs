//! Measures sources against the truth: overlap, volume, fine detail, and errors that lie in vessels.
//!
//! Ports: in `truth`, `annotations` (several), optional `tissues: Labels`; out `comparison: Comparison`
//! (`comparison.jsonl`, one row a case and source, pairs and votes of the sources included).
//! Fine detail is the part of the truth in which a ball of 2.5 mm has no room.
//! Randomness: none. Cost: two distance transforms a case.

use std::collections::BTreeMap;

use datasets::{
    CaseLabel, Mask,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, Many, One, Optional, Out, Stage, StageError, inputs, outputs};
use imaging::{
    distance::Border,
    morphology::{dilate, erode},
    scores::{EmptyPolicy, Overlap},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Comparison, Labels},
    shards::{ShardsError, labels, refused},
};

/// Radius of the ball that has no room in fine detail.
const DETAIL_MM: f64 = 2.5;

/// Settings of [`Compare`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompareConfig {
    /// Name of what the cases have in common, for the table.
    pub group: String,
}

inputs! {
    /// What [`Compare`] reads.
    pub struct CompareInputs {
        /// The truth.
        truth: One<Labels>,
        /// The sources' labels.
        annotations: Many<Labels>,
        /// Labels with the structure `vessel`.
        tissues: Optional<Labels>,
    }
}

outputs! {
    /// What [`Compare`] makes.
    pub struct CompareOutputs {
        /// One row a case and source.
        comparison: Out<Comparison>,
    }
}

/// Comparison of sources with the truth.
pub struct Compare;

impl Stage for Compare {
    const NAME: &'static str = "grow.compare";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Measures sources: overlap, volume, fine detail, errors in vessels.";
    type Config = CompareConfig;
    type Inputs = CompareInputs;
    type Outputs = CompareOutputs;

    fn run(
        config: &CompareConfig,
        inputs: CompareInputs,
        outputs: &CompareOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let truth = labels(&inputs.truth)?;
        let vessels = match inputs.tissues.get() {
            Some(tissues) => labels(tissues)?,
            None => BTreeMap::new(),
        };
        let mut sources = Vec::new();
        for input in inputs.annotations.iter() {
            sources.push((input.cell.as_str(), labels(input)?));
        }
        let mut table = Table::new(&columns());
        for (key, label) in &truth {
            let vessel = vessels.get(&(key.0.clone(), "vessel".to_owned()));
            let mut found = Vec::new();
            for (cell, labels) in &sources {
                found.push(labels.get(key).ok_or_else(|| {
                    StageError::new(ShardsError::LabelMissing {
                        case: key.0.clone(),
                        structure: key.1.clone(),
                        cell: (*cell).to_owned(),
                    })
                })?);
            }
            for row in rows(label, &found, vessel)? {
                table.push(row.cells(&config.group, &key.0)).map_err(refused)?;
            }
        }
        table.write_json_lines(&outputs.comparison.path("comparison.jsonl")).map_err(refused)
    }
}

/// Columns of `comparison.jsonl`.
fn columns() -> Vec<(&'static str, Kind)> {
    let texts = ["group", "case_id", "source"].map(|name| (name, Kind::Text));
    let numbers = ["dice", "volume_ratio", "detail_recall", "vessel_share"];
    texts.into_iter().chain(numbers.map(|name| (name, Kind::Number))).collect()
}

/// How one source did in one case.
struct Row {
    source: String,
    dice: f64,
    volume_ratio: f64,
    detail_recall: Option<f64>,
    vessel_share: Option<f64>,
}

impl Row {
    fn cells(self, group: &str, case: &str) -> Vec<Cell> {
        let texts = [group, case, &self.source].map(Cell::from);
        let numbers =
            [Some(self.dice), Some(self.volume_ratio), self.detail_recall, self.vessel_share];
        texts.into_iter().chain(numbers.map(Cell::from)).collect()
    }
}

/// Rows of all sources, of their votes (`>= 2` and so on) and of their pairs (`pairs`, the mean Dice between two).
fn rows(
    truth: &CaseLabel,
    found: &[&CaseLabel],
    vessel: Option<&CaseLabel>,
) -> Result<Vec<Row>, StageError> {
    let fine = fine_detail(truth);
    let measure = |source: &str, mask: &Mask| row(source, mask, &truth.mask, &fine, vessel);
    let mut rows = Vec::new();
    for label in found {
        rows.push(measure(&label.source, &label.mask)?);
    }
    for n_votes in 2..found.len() {
        let mut vote = truth.mask.clone();
        for (index, voted) in vote.values_mut().iter_mut().enumerate() {
            let votes = found.iter().filter(|label| label.mask.values()[index]).count();
            *voted = votes >= n_votes;
        }
        rows.push(measure(&format!(">= {n_votes}"), &vote)?);
    }
    let (mut sum, mut n) = (0.0, 0.0);
    for (place, left) in found.iter().enumerate() {
        for right in &found[place + 1..] {
            sum += dice(&left.mask, &right.mask)?;
            n += 1.0;
        }
    }
    if n > 0.0 {
        let (source, dice) = ("pairs".to_owned(), sum / n);
        rows.push(Row { source, dice, volume_ratio: 1.0, detail_recall: None, vessel_share: None });
    }
    Ok(rows)
}

fn row(
    source: &str,
    mask: &Mask,
    truth: &Mask,
    fine: &Mask,
    vessel: Option<&CaseLabel>,
) -> Result<Row, StageError> {
    let dice = dice(truth, mask)?;
    let both = |other: &Mask| {
        mask.values().iter().zip(other.values()).filter(|&(&a, &b)| a && b).count() as f64
    };
    let wrong = mask.area() as f64 - both(truth);
    Ok(Row {
        source: source.to_owned(),
        dice,
        volume_ratio: mask.area() as f64 / truth.area().max(1) as f64,
        detail_recall: (!fine.is_empty()).then(|| both(fine) / fine.area() as f64),
        vessel_share: vessel.filter(|_| wrong > 0.0).map(|label| both(&label.mask) / wrong),
    })
}

fn dice(left: &Mask, right: &Mask) -> Result<f64, StageError> {
    let overlap = Overlap::count(left, right).map_err(StageError::new)?;
    Ok(overlap.dice(EmptyPolicy::default()).unwrap_or(1.0))
}

/// The truth without its opening.
fn fine_detail(truth: &CaseLabel) -> Mask {
    let spacing = truth.spacing.millimetres();
    let core = erode(&truth.mask, DETAIL_MM, spacing, Border::Unknown);
    let opened = dilate(&core, DETAIL_MM, spacing);
    let mut fine = truth.mask.clone();
    let pairs = fine.values_mut().iter_mut().zip(opened.values());
    pairs.for_each(|(fine, &opened)| *fine &= !opened);
    fine
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn detail_votes_and_pairs_are_counted() {
        let truth = label(
            "a",
            "truth",
            mask![
                "# # # # # # # . . .",
                "# # # # # # # . . .",
                "# # # # # # # # # #",
                "# # # # # # # . . .",
                "# # # # # # # . . ."
            ],
        );
        let fine = fine_detail(&truth);
        assert!(fine.get([0, 2, 9]) && !fine.get([0, 2, 1]));
        let mut blunt = truth.clone();
        for column in 7..10 {
            blunt.mask.set([0, 2, column], false);
        }
        let rows = rows(&truth, &[&truth, &blunt, &blunt], None).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        assert_eq!(names, ["truth", "truth", "truth", ">= 2", "pairs"]);
        assert_eq!((rows[0].dice, rows[0].detail_recall), (1.0, Some(1.0)));
        assert!(rows[1].detail_recall.unwrap() < 1.0 && rows[1].volume_ratio < 1.0);
        assert_eq!(rows[3].dice, rows[1].dice);
    }
}
