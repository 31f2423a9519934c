//! Phases of series by the table of paths, one row a slice.
//!
//! `original_path_and_filename` is `DICOM_Images/<patient>/<phase>/<file>` with the phase as `pre`, `post_1` to `post_4` or
//! `T1`; `classic_path` and `descriptive_path` are those of the two styles of download. Descriptive paths have stray `//`
//! and characters that folders lack (`/`, `^`, `+`, `&`), so paths are compared by their letters and digits.

use std::{collections::BTreeMap, fmt};

use super::tables::{Header, Rejects, plain};
use crate::{
    DatasetsError,
    folder::{Finding, SourceFile},
    sheet::each_row,
};

const NAMES: [&str; 3] = ["original_path_and_filename", "classic_path", "descriptive_path"];

/// What a series shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Fat-suppressed, before contrast (0) or in a phase after it.
    Phase(u8),
    /// Without fat suppression.
    T1,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "pre" => Some(Self::Phase(0)),
            "t1" => Some(Self::T1),
            other => {
                let phase = other.strip_prefix("post_")?.parse().ok();
                phase.filter(|phase| (1..=9).contains(phase)).map(Self::Phase)
            }
        }
    }

    /// The channel that it is, if it is one.
    pub(super) fn channel(self) -> Option<String> {
        match self {
            Self::Phase(phase) => Some(format!("phase_{phase}")),
            Self::T1 => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(0) => out.write_str("pre"),
            Self::Phase(phase) => write!(out, "post_{phase}"),
            Self::T1 => out.write_str("T1"),
        }
    }
}

/// What the table says of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// It does not know the patient.
    NoPatient,
    /// It knows other series of the patient.
    NoSeries,
    /// One thing.
    Kind(Kind),
    /// Several things.
    Several,
}

/// What the series of patients show; `None` where the rows of a series do not agree.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping(BTreeMap<String, BTreeMap<String, Option<Kind>>>);

impl Mapping {
    /// Reads the table, and what rows cannot be used.
    pub(super) fn read(file: &SourceFile) -> Result<(Self, Vec<Finding>), DatasetsError> {
        let (mut header, mut rejects) = (Header::new(&NAMES), Rejects::of(file));
        let mut mapping = Self::default();
        let mut last = [String::new(), String::new(), String::new()];
        each_row(&file.path, None, |number, cells| {
            if !header.is_above(cells) {
                return;
            }
            // Of a series only the first slice says something new.
            let folders = [0, 1, 2].map(|nth| folder_of(header.cell(cells, nth)));
            if folders.iter().zip(&last).all(|(folder, last)| folder == last) {
                return;
            }
            last = folders.map(str::to_owned);
            let parts: Vec<&str> = folders[0].split('/').filter(|part| !part.is_empty()).collect();
            let [_, patient, word, ..] = parts.as_slice() else {
                if folders.iter().any(|folder| !folder.is_empty()) {
                    rejects.add("", format!("row {number} has no patient and phase"));
                }
                return;
            };
            let Some(kind) = Kind::of(word) else {
                rejects.add(patient, format!("row {number} has no phase that is known"));
                return;
            };
            let series = mapping.0.entry(plain(patient)).or_default();
            for folder in folders[1..].iter().filter(|folder| !folder.is_empty()) {
                let known = series.entry(plain(folder)).or_insert(Some(kind));
                *known = known.filter(|known| *known == kind);
            }
        })?;
        header.check(&file.path, 1)?;
        if header.check(&file.path, 2).is_err() {
            header.check(&file.path, NAMES.len())?;
        }
        Ok((mapping, rejects.finish()))
    }

    /// What the series in a folder of a patient shows.
    pub(super) fn find(&self, patient: &str, folder: &str) -> Named {
        let Some(series) = self.0.get(&plain(patient)) else { return Named::NoPatient };
        let folder = plain(folder);
        let mut found =
            series.iter().filter(|(path, _)| path.ends_with(&folder)).map(|(_, kind)| kind);
        match found.next() {
            None => Named::NoSeries,
            Some(first) if found.any(|other| other != first) => Named::Several,
            Some(Some(kind)) => Named::Kind(*kind),
            Some(None) => Named::Several,
        }
    }
}

/// A path without the name of its file.
fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
