//! LIDC-IDRI: CT scans of the chest, and beside each the outlines of nodules that four radiologists drew.
//!
//! Source: Armato et al., Medical Physics 38 (2011), the data set; schema and known defects of its XML as published
//! converters describe them. Readers are anonymous, and nothing says that the sessions of two files come in the same order:
//! the first session of one case and the first of another are not the same person.

#[cfg(test)]
#[allow(dead_code, reason = "other tests use all of it")]
mod drawn;
mod error;
mod parse;
mod reading;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use crate::{
    dicom,
    folder::{Finding, FindingCode, SourceFile},
};

pub use error::ReadingError;
pub use reading::{CHARACTERISTICS, Nodule, Outline, Reading, Session, SlicePlaces, read_reading};

/// Sessions of a reading; a file with eight holds the readings of two panels.
pub const N_SESSIONS: usize = 4;

/// What every folder of a patient begins with; a number follows.
const PATIENT: &str = "LIDC-IDRI-";

/// Bytes of a file in which its root element is looked for.
const START_BYTES: u64 = 1 << 12;

/// The files of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LidcEntry {
    /// Name of the case: that of the patient, `LIDC-IDRI-0001`, with `_2` and so on for further scans of one.
    pub id: String,
    /// Name of the patient.
    pub patient: String,
    /// The folder of the series.
    pub folder: SourceFile,
    /// Its slices.
    pub slices: Vec<SourceFile>,
    /// Readings beside it, of which there should be one.
    pub readings: Vec<SourceFile>,
}

/// The scans of a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LidcListing {
    /// Series with a reading, in the order of their folders.
    pub entries: Vec<LidcEntry>,
    /// What is wrong with the other files.
    pub findings: Vec<Finding>,
    /// Every file that is read or told of.
    pub files: Vec<SourceFile>,
}

/// The files of one folder.
#[derive(Default)]
struct Draft<'a> {
    slices: Vec<&'a SourceFile>,
    readings: Vec<&'a SourceFile>,
}

/// Finds the scans among files, at any depth below the folder of a patient.
///
/// A scan is a folder of slices (`*.dcm`) with a reading (`*.xml`) beside them; readings of chest X-rays are told by their
/// root element, for which the beginning of every reading is read, and left out. What lies in no folder of a patient is
/// left alone.
pub fn list(files: &[SourceFile]) -> LidcListing {
    let mut listing = LidcListing::default();
    let mut drafts: BTreeMap<&str, Draft<'_>> = BTreeMap::new();
    for file in files {
        let Some((folder, name)) = file.name.rsplit_once('/') else { continue };
        if patient(folder).is_none() {
            continue;
        }
        let draft = drafts.entry(folder).or_default();
        if dicom::is_file_name(&file.path) {
            draft.slices.push(file);
        } else if name.to_ascii_lowercase().ends_with(".xml") {
            draft.readings.push(file);
        }
    }
    let mut n_scans: BTreeMap<&str, usize> = BTreeMap::new();
    for (folder, draft) in drafts {
        let Some(patient) = patient(folder) else { continue };
        let Some(entry) = entry(patient, folder, &draft, &mut listing) else { continue };
        let n_scans = n_scans.entry(patient).or_default();
        *n_scans += 1;
        let id = match *n_scans {
            1 => patient.to_owned(),
            n => format!("{patient}_{n}"),
        };
        listing.entries.push(LidcEntry { id, ..entry });
    }
    listing
}

/// The patient in the way to a folder.
fn patient(folder: &str) -> Option<&str> {
    folder.split('/').find(|part| {
        let number = part.strip_prefix(PATIENT).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The scan of a folder, not yet named; `None`, and told, where something of it is missing.
fn entry(
    patient: &str,
    folder: &str,
    draft: &Draft<'_>,
    listing: &mut LidcListing,
) -> Option<LidcEntry> {
    let finding =
        |code, file: &SourceFile, detail: &str| Finding::new(patient, "", code, file, detail);
    let (xray, readings): (Vec<&SourceFile>, Vec<_>) =
        draft.readings.iter().partition(|file| is_xray(&file.path));
    listing.files.extend(draft.readings.iter().copied().cloned());
    let told = xray.iter().map(|file| {
        finding(FindingCode::XrayReading, file, "a reading of chest X-rays (`IdriReadMessage`)")
    });
    listing.findings.extend(told);
    match (draft.slices.first(), readings.is_empty()) {
        (Some(first), false) => {
            listing.files.extend(draft.slices.iter().copied().cloned());
            let path = first.path.parent().unwrap_or(&first.path).to_owned();
            Some(LidcEntry {
                id: String::new(),
                patient: patient.to_owned(),
                folder: SourceFile { name: folder.to_owned(), path },
                slices: draft.slices.iter().copied().cloned().collect(),
                readings: readings.into_iter().cloned().collect(),
            })
        }
        (Some(first), true) if xray.is_empty() => {
            listing.files.push((*first).clone());
            let detail = "no reading beside this and the other slices of its folder";
            listing.findings.push(finding(FindingCode::UnpairedImage, first, detail));
            None
        }
        _ => {
            let lonely = readings.iter().map(|file| {
                finding(FindingCode::UnpairedLabel, file, "no slice (`*.dcm`) beside it")
            });
            listing.findings.extend(lonely);
            None
        }
    }
}

/// Whether a reading is one of X-rays; one that cannot be understood is not, and is an error when it is read.
fn is_xray(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start));
    read.is_ok() && matches!(parse::root(&start), Err(ReadingError::Xray))
}
