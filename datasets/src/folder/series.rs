//! DICOM in a folder: which files are one image, and what is wrong with a series in the words of the ingest report.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Finding, FindingCode, SourceFile, ending};
use crate::{
    DatasetsError,
    dicom::{
        DicomError, ENDING, Series, SeriesError, SeriesNote, has_preamble, is_file_name,
        read_series,
    },
    error::messages,
};

/// The directory of a medium, which is DICOM and no image.
const DIRECTORY: &str = "DICOMDIR";

/// The folder of a file, which stands for its series as one file with the ending of DICOM would.
pub(super) fn folder_of(slice: &SourceFile) -> Option<(String, SourceFile)> {
    let (folder, _) = slice.name.rsplit_once('/')?;
    let file = SourceFile { name: folder.to_owned(), path: slice.path.parent()?.to_owned() };
    Some((format!("{folder}{ENDING}"), file))
}

/// Whether a name, without its folder, has no ending that is read, and may be that of a slice all the same.
fn is_bare(name: &str) -> bool {
    ending(name).is_none() && !name.eq_ignore_ascii_case(DIRECTORY)
}

/// Folders whose files tell by their content alone that they are slices, as archives without endings have them.
///
/// Such a folder has no file with the ending of DICOM, and one without an ending that is read begins as DICOM does. All
/// its files without an ending are slices then: one that is no DICOM is an error of the series and not passed over.
#[derive(Default)]
pub(super) struct BareSeries<'a> {
    /// Files without an ending by folder; `None` where others have that of DICOM.
    folders: BTreeMap<&'a str, Option<Vec<&'a Path>>>,
    /// Folders that were looked into.
    known: BTreeMap<&'a str, bool>,
}

impl<'a> BareSeries<'a> {
    pub(super) fn among(files: &'a [SourceFile]) -> Self {
        let mut found = Self::default();
        for file in files {
            let Some((folder, name)) = file.name.rsplit_once('/') else { continue };
            let own = found.folders.entry(folder).or_insert_with(|| Some(Vec::new()));
            if is_file_name(&file.path) {
                *own = None;
            } else if let (true, Some(bare)) = (is_bare(name), own) {
                bare.push(&file.path);
            }
        }
        found
    }

    /// Whether a file is a slice of such a folder.
    pub(super) fn has(&mut self, file: &'a SourceFile) -> bool {
        let Some((folder, name)) = file.name.rsplit_once('/') else { return false };
        let bare = self.folders.get(folder).and_then(Option::as_ref);
        let begins = || bare.is_some_and(|bare| bare.iter().any(|path| has_preamble(path)));
        is_bare(name) && *self.known.entry(folder).or_insert_with(begins)
    }
}

/// Whether a path is that of a series: a folder of slices, or one file.
pub(super) fn is_series(path: &Path) -> bool {
    is_file_name(path) || path.is_dir()
}

/// Reads a series: the files of a folder that [`super::files_under`] would list, or one file.
///
/// # Errors
/// Those of [`read_series`].
pub(super) fn load(path: &Path) -> Result<Series, DatasetsError> {
    if !path.is_dir() {
        return read_series(&[path.to_owned()]);
    }
    let failed = |source| DatasetsError::Read { path: path.to_owned(), source };
    let listed = fs::read_dir(path).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = listed.collect::<Result<Vec<PathBuf>, _>>().map_err(failed)?;
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    files.retain(|path| name(path).is_some_and(|name| !name.starts_with('.')) && !path.is_dir());
    match files.iter().any(|path| is_file_name(path)) {
        true => files.retain(|path| is_file_name(path)),
        false => files.retain(|path| name(path).is_some_and(|name| is_bare(&name))),
    }
    files.sort();
    match files.is_empty() {
        true => Err(failed(std::io::ErrorKind::NotFound.into())),
        false => read_series(&files),
    }
}

/// What is told of a file that cannot be used, or of the slice of a series that is at fault; `source` is empty for images.
pub fn refusal(case: &str, source: &str, file: &SourceFile, error: &DatasetsError) -> Finding {
    // The first message names the file with its folder, which the row has and other machines do not.
    let told: Option<&dyn std::error::Error> = match error {
        DatasetsError::Volume { .. }
        | DatasetsError::Picture { .. }
        | DatasetsError::Reading { .. }
        | DatasetsError::Dicom { .. } => std::error::Error::source(error),
        _ => Some(error),
    };
    let within = match error {
        DatasetsError::Dicom { path, .. } => path.strip_prefix(&file.path).ok(),
        _ => None,
    };
    let slice = within.and_then(|within| within.to_str()).filter(|within| !within.is_empty());
    Finding {
        case: case.to_owned(),
        source: source.to_owned(),
        code: code(error),
        file: slice.map_or(file.name.clone(), |slice| format!("{}/{slice}", file.name)),
        detail: told.map(messages).unwrap_or_default(),
    }
}

/// The code of a file that cannot be used.
fn code(error: &DatasetsError) -> FindingCode {
    let DatasetsError::Dicom { source, .. } = error else { return FindingCode::Unreadable };
    match source {
        DicomError::TransferSyntax { .. } => FindingCode::TransferSyntax,
        DicomError::Series(error) => match error {
            SeriesError::SeveralSeries { .. } => FindingCode::SeveralSeries,
            SeriesError::Mixed { .. } => FindingCode::MixedSlices,
            SeriesError::MixedOrientation { .. } => FindingCode::MixedOrientation,
            SeriesError::NoPlace { .. } => FindingCode::MissingPosition,
            SeriesError::NoSpacing => FindingCode::MissingSpacing,
            SeriesError::DuplicateSlice { .. } => FindingCode::DuplicateSlice,
            SeriesError::Gap { .. } | SeriesError::OffLine { .. } => FindingCode::SliceGap,
            SeriesError::PhasesDiffer { .. } => FindingCode::PhasesDiffer,
            SeriesError::TimeOrder { .. } => FindingCode::TimeOrder,
        },
        _ => FindingCode::Unreadable,
    }
}

/// The code of what somebody should know.
pub fn code_of_note(note: SeriesNote) -> FindingCode {
    match note {
        SeriesNote::Tilted { .. } => FindingCode::GantryTilt,
        SeriesNote::NotAxial { .. } => FindingCode::NotAxial,
        SeriesNote::Inverted => FindingCode::InvertedGrey,
        SeriesNote::Lossy => FindingCode::LossyPixels,
        SeriesNote::BurnedIn => FindingCode::BurnedIn,
    }
}
