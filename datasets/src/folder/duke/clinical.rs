//! What is known of the patients: the side of the tumour, and columns that somebody asks for.
//!
//! The sheet `Data` has three rows of headers: groups, whose names stand above their first columns only, columns, and how
//! they are coded. Nothing but the side and the columns that are asked for is kept.

use std::{collections::BTreeMap, path::Path};

use super::{
    boxes::Side,
    tables::{Header, Rejects, plain, squeezed},
};
use crate::{
    DatasetsError,
    folder::{Finding, SourceFile},
    sheet::each_row,
    table::{Cell, Kind, Table},
};

const SHEET: &str = "Data";

/// `Position` begins with the side; where both breasts have a tumour, the last column tells which one was annotated.
const NAMES: [&str; 3] = ["Patient ID", "Position", "Side Annotated"];

/// The clinical table, by the letters and digits of patients.
#[derive(Clone, Debug, Default)]
pub(super) struct Clinical {
    columns: Vec<String>,
    patients: BTreeMap<String, (Option<Side>, Vec<String>)>,
}

impl Clinical {
    /// Reads the side and the chosen columns, and what rows cannot be used.
    pub(super) fn read(
        file: &SourceFile,
        columns: &[String],
    ) -> Result<(Self, Vec<Finding>), DatasetsError> {
        let (mut header, mut rejects) = (Header::new(&NAMES), Rejects::of(file));
        let mut clinical = Self { columns: columns.to_vec(), patients: BTreeMap::new() };
        let (mut groups, mut places, mut missing) = (Vec::new(), None, None);
        each_row(&file.path, Some(SHEET), |number, cells| {
            let before = if places.is_none() { header.row.clone() } else { Vec::new() };
            if !header.is_above(cells) {
                groups = before;
                return;
            }
            let places: &Vec<Option<usize>> = places.get_or_insert_with(|| {
                let names = full_names(&groups, &header.row);
                missing = columns.iter().find(|column| !names.contains(&squeezed(column)));
                let place = |column: &String| names.iter().position(|own| *own == squeezed(column));
                columns.iter().map(place).collect()
            });
            let patient = header.cell(cells, 0);
            // The third row of headers names no patient either.
            if patient.is_empty() {
                return;
            }
            let value = |place: &Option<usize>| place.and_then(|place| cells.get(place).cloned());
            let values = places.iter().map(|place| value(place).unwrap_or_default()).collect();
            let side = side_of(header.cell(cells, 2)).or_else(|| side_of(header.cell(cells, 1)));
            let before = clinical.patients.insert(plain(patient), (side, values));
            if before.is_some() {
                rejects.add(patient, format!("row {number} names the patient a second time"));
            }
        })?;
        header.check(&file.path, 2)?;
        match missing {
            Some(column) => Err(unknown(&file.path, column, &full_names(&groups, &header.row))),
            None => Ok((clinical, rejects.finish())),
        }
    }

    /// The side of the patient's tumour, or of the one that was annotated.
    pub(super) fn side(&self, patient: &str) -> Option<Side> {
        self.patients.get(&plain(patient)).and_then(|(side, _)| *side)
    }

    /// Whether columns were chosen.
    pub(super) fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// The chosen columns for the cases of a data set.
    pub(super) fn of_cases<'a>(
        &self,
        cases: impl Iterator<Item = &'a str>,
    ) -> Result<Table, DatasetsError> {
        let names = ["case_id"].into_iter().chain(self.columns.iter().map(String::as_str));
        let mut table = Table::new(&names.map(|name| (name, Kind::Text)).collect::<Vec<_>>());
        for case in cases {
            let known = self.patients.get(&plain(case)).map(|(_, values)| values.as_slice());
            let value = |nth: usize| {
                let value = known.and_then(|values| values.get(nth));
                Cell::from(value.map(|value| value.trim()).filter(|value| !value.is_empty()))
            };
            let cells = (0..self.columns.len()).map(value);
            table.push([Cell::from(case)].into_iter().chain(cells).collect())?;
        }
        Ok(table)
    }
}

/// Names of columns with those of their groups, as `Group:Column`; without a group just the name.
fn full_names(groups: &[String], names: &[String]) -> Vec<String> {
    let mut group = "";
    let full = names.iter().enumerate().map(|(nth, name)| {
        if let Some(own) = groups.get(nth).filter(|own| !own.is_empty()) {
            group = own.as_str();
        }
        if group.is_empty() { name.clone() } else { format!("{group}:{name}") }
    });
    full.collect()
}

/// The error for a column that is not there, with those of its group or else all groups.
fn unknown(path: &Path, column: &str, names: &[String]) -> DatasetsError {
    let group = |name: &str| name.split_once(':').map_or("", |(group, _)| group).to_owned();
    let own = squeezed(column);
    let mut found: Vec<String> =
        names.iter().filter(|name| group(name) == group(&own)).cloned().collect();
    if found.is_empty() {
        found = names.iter().map(|name| group(name)).collect();
        found.dedup();
    }
    DatasetsError::MissingColumn { path: path.to_owned(), column: column.to_owned(), found }
}

/// The one side that a text names by a word such as `L` or `right`.
fn side_of(text: &str) -> Option<Side> {
    let words = text.split(|c: char| !c.is_ascii_alphabetic());
    let sides = words.filter_map(|word| match word.to_ascii_lowercase().as_str() {
        "l" | "left" => Some(Side::Left),
        "r" | "right" => Some(Side::Right),
        _ => None,
    });
    let sides: Vec<Side> = sides.collect();
    let first = *sides.first()?;
    sides.iter().all(|side| *side == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_word_of_its_own_and_the_only_one() {
        let sides = ["L 9 medial", "L", "R 12:30", "right upper", "r, lateral"].map(side_of);
        let [left, right] = [Some(Side::Left), Some(Side::Right)];
        assert_eq!(sides, [left, left, right, right, right]);
        for text in ["", "NC", "R 9, L 11:30", "upper", "lateral 3"] {
            assert_eq!(side_of(text), None, "{text}");
        }
    }
}
