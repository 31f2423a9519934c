//! The clinical tables of the release: age, sex, and where the nodule is.
//!
//! `CLNDAT_EN.txt` (films with a nodule) has 12 fields between tabs, of which location and diagnosis were cut in two
//! after 7 and 12 letters; `CNNDAT_EN.TXT` (films without) is aligned by blanks. Lines end with CR alone.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::DatasetsError;

/// Largest number of bytes of a clinical table.
const MAX_BYTES: u64 = 1 << 20;

/// Sex of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
}

/// What the tables say of a film.
#[derive(Clone, Debug, PartialEq)]
pub struct Clinical {
    /// Age in years; `None` where the table has `?`.
    pub age: Option<u32>,
    /// Sex of the patient.
    pub sex: Sex,
    /// The nodule, in films that have one.
    pub nodule: Option<Nodule>,
}

/// A nodule in a film.
#[derive(Clone, Debug, PartialEq)]
pub struct Nodule {
    /// 5 is obvious, 1 extremely subtle.
    pub subtlety: u32,
    /// Size in millimetres.
    pub size_mm: f64,
    /// `[row, column]` of its centre in pixels of the raw film.
    pub place_px: [u32; 2],
    /// Whether it is malignant.
    pub is_malignant: bool,
    /// Where it lies, for example `l.upper lobe(S3)`.
    pub location: String,
    /// What it is, for example `lung cancer`.
    pub diagnosis: String,
}

/// Reads the tables that lie in `root` or in a `Clinical_Information` folder, and tells which those are.
pub(super) fn find(
    root: &Path,
) -> Result<(BTreeMap<String, Clinical>, Vec<PathBuf>), DatasetsError> {
    let mut records = BTreeMap::new();
    let mut files = Vec::new();
    let folders = ["", "Clinical_Information", "Clinical", "Datasets/JSRT/Clinical_Information"];
    for folder in folders.map(|folder| root.join(folder)) {
        let Ok(listed) = fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = listed.flatten().map(|file| file.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_uppercase());
            let parse: Parse = match name.as_deref() {
                Some("CLNDAT_EN.TXT") => with_nodule,
                Some("CNNDAT_EN.TXT") => without_nodule,
                _ => continue,
            };
            records.extend(read(&path, parse)?);
            files.push(path);
        }
    }
    Ok((records, files))
}

/// Makes sense of a record, or tells what it expected.
type Parse = fn(&str) -> Result<(String, Clinical), &'static str>;

fn read(path: &Path, parse: Parse) -> Result<Vec<(String, Clinical)>, DatasetsError> {
    let failed = |source| DatasetsError::Read { path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(failed)?.len();
    if found > MAX_BYTES {
        let [column, what] = ["*", "bytes"];
        return Err(DatasetsError::TooLarge {
            path: path.to_owned(),
            column: column.to_owned(),
            what,
            limit: MAX_BYTES,
            found,
        });
    }
    let text = String::from_utf8_lossy(&fs::read(path).map_err(failed)?).into_owned();
    let records = text.split(['\r', '\n']).filter(|record| !record.trim().is_empty());
    records
        .enumerate()
        .map(|(index, record)| {
            parse(record).map_err(|expected| DatasetsError::ClinicalRecord {
                path: path.to_owned(),
                record: index + 1,
                expected,
                found: format!("{record:?}"),
            })
        })
        .collect()
}

fn with_nodule(record: &str) -> Result<(String, Clinical), &'static str> {
    let fields: Vec<&str> = record.split('\t').collect();
    let &[file, subtlety, size, age, sex, x, y, kind, place, place_rest, diagnosis, diagnosis_rest] =
        fields.as_slice()
    else {
        return Err("12 fields between tabs");
    };
    let nodule = Nodule {
        subtlety: subtlety
            .parse()
            .ok()
            .filter(|grade| (1..=5).contains(grade))
            .ok_or("a subtlety of 1 to 5")?,
        size_mm: size
            .parse()
            .ok()
            .filter(|&mm: &f64| mm.is_finite() && mm > 0.0)
            .ok_or("a size in mm")?,
        place_px: [y.parse().map_err(|_| "a row")?, x.parse().map_err(|_| "a column")?],
        is_malignant: match kind {
            "malignant" => true,
            "benign" => false,
            _ => return Err("`malignant` or `benign`"),
        },
        location: joined(place, place_rest, 7),
        diagnosis: joined(diagnosis, diagnosis_rest, 12),
    };
    Ok((
        id_of(file)?,
        Clinical { age: parse_age(age)?, sex: parse_sex(sex)?, nodule: Some(nodule) },
    ))
}

fn without_nodule(record: &str) -> Result<(String, Clinical), &'static str> {
    let fields: Vec<&str> = record.split_whitespace().collect();
    let &[file, age, sex, "non-nodule"] = fields.as_slice() else {
        return Err("file, age, sex and `non-nodule`");
    };
    Ok((id_of(file)?, Clinical { age: parse_age(age)?, sex: parse_sex(sex)?, nodule: None }))
}

fn id_of(file: &str) -> Result<String, &'static str> {
    let id = file.to_ascii_uppercase();
    id.strip_suffix(".IMG").map(str::to_owned).ok_or("a file name that ends with .IMG")
}

fn parse_age(age: &str) -> Result<Option<u32>, &'static str> {
    if age == "?" { Ok(None) } else { age.parse().map(Some).map_err(|_| "an age in years or `?`") }
}

fn parse_sex(sex: &str) -> Result<Sex, &'static str> {
    match sex {
        "female" => Ok(Sex::Female),
        "male" => Ok(Sex::Male),
        _ => Err("`female` or `male`"),
    }
}

/// Rejoins a text that was cut after `width` letters; a blank at the cut was lost.
fn joined(begin: &str, rest: &str, width: usize) -> String {
    /// Words of the tables that end exactly at a cut.
    const WHOLE: [&str; 3] = ["upper", "lower", "inflammatory"];
    let is_word_end = begin.len() < width || WHOLE.iter().any(|word| begin.ends_with(word));
    let blank = if is_word_end && !rest.is_empty() { " " } else { "" };
    format!("{begin}{blank}{rest}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn cut_words_are_rejoined() {
        assert_eq!(joined("r.middl", "e lobe(S4)", 7), "r.middle lobe(S4)");
        assert_eq!(joined("l.upper", "lobe", 7), "l.upper lobe");
        assert_eq!(joined("lung cancer", "or metastasis", 12), "lung cancer or metastasis");
        assert_eq!(joined("inflammatory", "mass", 12), "inflammatory mass");
        assert_eq!(joined("lung abscess", "", 12), "lung abscess");
    }

    #[test]
    fn records_are_understood_or_refused() {
        let (id, found) = with_nodule(
            "JPCLN106.IMG\t2\t18\t?\tmale\t246\t1233\tmalignant\tr.middl\te lobe\tlung cancer\t",
        )
        .unwrap();
        assert_eq!((id.as_str(), found.age, found.sex), ("JPCLN106", None, Sex::Male));
        let nodule = found.nodule.unwrap();
        assert_eq!((nodule.place_px, nodule.location.as_str()), ([1233, 246], "r.middle lobe"));
        let (id, found) = without_nodule("JPCNN001.IMG 30  female   non-nodule").unwrap();
        assert_eq!((id.as_str(), found.age, found.sex), ("JPCNN001", Some(30), Sex::Female));
        assert_eq!(
            without_nodule("JPCNN001.IMG 30 female").unwrap_err(),
            "file, age, sex and `non-nodule`"
        );
        assert_eq!(with_nodule("JPCLN106.IMG\t2").unwrap_err(), "12 fields between tabs");
    }
}
