//! The tables of the release, which are downloaded beside its series.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    boxes::{PatientBoxes, read_boxes},
    channel,
    clinical::Clinical,
    mapping::{Mapping, Named},
};
use crate::{
    DatasetsError,
    folder::{Finding, FindingCode, SourceFile},
    table::Table,
};

const BOXES: &str = "Annotation_Boxes";
const MAPPING: &str = "Breast-Cancer-MRI-filepath_filename-mapping";
const CLINICAL: &str = "Clinical_and_Other_Features";

/// Endings of tables in the order in which they are looked for: what somebody saved as text was meant to be read.
const ENDINGS: [&str; 2] = ["csv", "xlsx"];

/// Rows of a table that are told one by one when they cannot be used.
const SHOWN: usize = 20;

/// Tables of Duke-Breast-Cancer-MRI, `.xlsx` or `.csv` with the same rows; relative paths start at the project root. Those
/// that are not named here are looked for under their published names in the folder of the data set and in the one that
/// holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableFiles {
    /// Boxes around tumours, published as `Annotation_Boxes`; they become a rater named `box`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boxes: Option<PathBuf>,
    /// Phases of series by their paths, published as `Breast-Cancer-MRI-filepath_filename-mapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<PathBuf>,
    /// What is known of the patients, published as `Clinical_and_Other_Features`, sheet `Data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clinical: Option<PathBuf>,
}

impl TableFiles {
    /// The tables that there are, under their published names wherever they lie.
    pub fn find(&self, root: &Path, project: &Path) -> Vec<SourceFile> {
        let named = [(BOXES, &self.boxes), (MAPPING, &self.mapping), (CLINICAL, &self.clinical)];
        let found = named.into_iter().filter_map(|(stem, own)| {
            let path = match own {
                Some(own) => project.join(own),
                None => published(root, stem)?,
            };
            let is_text = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
            let ending = if is_text { "csv" } else { "xlsx" };
            Some(SourceFile { name: format!("{stem}.{ending}"), path })
        });
        found.collect()
    }
}

fn published(root: &Path, stem: &str) -> Option<PathBuf> {
    let folders = [Some(root), root.parent()].into_iter().flatten();
    let mut paths =
        folders.flat_map(|folder| ENDINGS.map(|ending| folder.join(format!("{stem}.{ending}"))));
    paths.find(|path| path.is_file())
}

/// What the tables of the release say.
#[derive(Clone, Debug, Default)]
pub struct DukeTables {
    /// The table of boxes, and the box of every patient in it.
    pub(in crate::folder) boxes: Option<(SourceFile, PatientBoxes)>,
    mapping: Option<Mapping>,
    clinical: Option<Clinical>,
    /// Rows that cannot be used.
    pub(in crate::folder) findings: Vec<Finding>,
}

impl DukeTables {
    /// Reads the tables among `files`; of the clinical one only `columns`, each as `Group:Column`, are kept.
    ///
    /// # Errors
    /// Those of [`each_row`](crate::sheet::each_row), and [`DatasetsError::MissingColumn`].
    pub fn read(files: &[SourceFile], columns: &[String]) -> Result<Self, DatasetsError> {
        let named = |stem: &str| {
            let is_own = |file: &&SourceFile| {
                let ending = file.name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
                ending.is_some_and(|ending| ENDINGS.contains(&ending))
            };
            files.iter().find(is_own)
        };
        let mut tables = Self::default();
        if let Some(file) = named(CLINICAL) {
            let (clinical, findings) = Clinical::read(file, columns)?;
            tables.clinical = Some(clinical);
            tables.findings.extend(findings);
        }
        if let Some(file) = named(BOXES) {
            let (mut boxes, findings) = read_boxes(file)?;
            for (patient, bounds) in &mut boxes {
                bounds.side = tables.clinical.as_ref().and_then(|table| table.side(patient));
            }
            tables.boxes = Some((file.clone(), boxes));
            tables.findings.extend(findings);
        }
        if let Some(file) = named(MAPPING) {
            let (mapping, findings) = Mapping::read(file)?;
            tables.mapping = Some(mapping);
            tables.findings.extend(findings);
        }
        Ok(tables)
    }

    /// Channel of a series, and how its name and the table contradict each other, if they do.
    ///
    /// The table decides for all series of the patients that it knows; for others it is the name.
    pub(in crate::folder) fn channel(
        &self,
        case: &str,
        series: &str,
    ) -> (Option<String>, Option<String>) {
        let by_name = channel(series);
        let named = self.mapping.as_ref().map(|mapping| mapping.find(case, series));
        let (by_table, words) = match named {
            None | Some(Named::NoPatient) => return (by_name, None),
            Some(Named::NoSeries) => (None, "does not name the series".to_owned()),
            Some(Named::Several) => (None, "gives the series several phases".to_owned()),
            Some(Named::Kind(kind)) => (kind.channel(), format!("says `{kind}`")),
        };
        let differs = by_name.as_ref().filter(|&by_name| by_table.as_ref() != Some(by_name));
        let detail = differs.map(|name| format!("the name says `{name}`: the table {words}"));
        (by_table, detail)
    }

    /// The chosen columns of the clinical table, one row a case, as the table writes them; `None` without such a table or
    /// choice.
    ///
    /// # Errors
    /// None that the columns allow.
    pub fn clinical<'a>(
        &self,
        cases: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Table>, DatasetsError> {
        let chosen = self.clinical.as_ref().filter(|clinical| clinical.has_columns());
        chosen.map(|clinical| clinical.of_cases(cases)).transpose()
    }
}

/// Letters and digits of a name in lower case: what is left of one wherever it was written.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// A text with single blanks, as names of columns are compared.
pub(super) fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The row of a table that names its columns: the first with the first of the names that are looked for.
pub(super) struct Header {
    names: &'static [&'static str],
    /// The header, or as long as there is none the row before.
    pub(super) row: Vec<String>,
    places: Vec<Option<usize>>,
}

impl Header {
    pub(super) fn new(names: &'static [&'static str]) -> Self {
        Self { names, row: Vec::new(), places: Vec::new() }
    }

    /// Looks for the header; whether it stands further up than `cells`.
    pub(super) fn is_above(&mut self, cells: &[String]) -> bool {
        if self.is_found() {
            return true;
        }
        self.row = cells.iter().map(|cell| squeezed(cell)).collect();
        // Some names go on with the coding of their column in braces.
        let base = |own: &str| own.split('{').next().unwrap_or_default().trim_end().to_owned();
        let is = |own: &String, name: &str| base(own).eq_ignore_ascii_case(name);
        let place = |name: &&str| self.row.iter().position(|own| is(own, name));
        if place(&self.names[0]).is_some() {
            self.places = self.names.iter().map(place).collect();
        }
        false
    }

    fn is_found(&self) -> bool {
        !self.places.is_empty()
    }

    /// The cell of a row in the column of the `nth` name, without blanks around it.
    pub(super) fn cell<'a>(&self, cells: &'a [String], nth: usize) -> &'a str {
        let place = self.places.get(nth).copied().flatten();
        place.and_then(|place| cells.get(place)).map_or("", |cell| cell.trim())
    }

    /// Refuses a table without one of the first `n_needed` columns.
    pub(super) fn check(&self, path: &Path, n_needed: usize) -> Result<(), DatasetsError> {
        let is_missing = |nth: &usize| self.places.get(*nth).copied().flatten().is_none();
        match (0..n_needed).find(is_missing) {
            Some(nth) => Err(DatasetsError::MissingColumn {
                path: path.to_owned(),
                column: self.names[nth].to_owned(),
                found: self.row.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Rows that cannot be used; after the first ones they are counted.
pub(super) struct Rejects<'a> {
    file: &'a SourceFile,
    findings: Vec<Finding>,
    n_more: usize,
}

impl<'a> Rejects<'a> {
    pub(super) fn of(file: &'a SourceFile) -> Self {
        Self { file, findings: Vec::new(), n_more: 0 }
    }

    pub(super) fn add(&mut self, case: &str, detail: String) {
        if self.findings.len() < SHOWN {
            self.findings.push(self.finding(case, detail));
        } else {
            self.n_more += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.n_more > 0 {
            self.findings.push(self.finding("", format!("{} more rows", self.n_more)));
        }
        self.findings
    }

    fn finding(&self, case: &str, detail: String) -> Finding {
        Finding::new(case, "", FindingCode::InvalidRow, self.file, detail)
    }
}
