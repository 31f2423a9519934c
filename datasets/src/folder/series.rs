//! DICOM in a folder: which files are one image, and what is wrong with a series in the words of the ingest report.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{FindingCode, SourceFile};
use crate::{
    DatasetsError,
    dicom::{DicomError, ENDING, Series, SeriesError, SeriesNote, is_file_name, read_series},
};

/// The folder of a slice, which stands for its series as one file with the ending of DICOM would.
pub(super) fn folder_of(slice: &SourceFile) -> Option<(String, SourceFile)> {
    let (folder, _) = slice.name.rsplit_once('/').filter(|_| is_file_name(&slice.path))?;
    let file = SourceFile { name: folder.to_owned(), path: slice.path.parent()?.to_owned() };
    Some((format!("{folder}{ENDING}"), file))
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
    let is_slice = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| !name.starts_with('.')) && is_file_name(path) && !path.is_dir()
    };
    files.retain(is_slice);
    files.sort();
    match files.is_empty() {
        true => Err(failed(std::io::ErrorKind::NotFound.into())),
        false => read_series(&files),
    }
}

/// The code of a file that cannot be used.
pub(super) fn code(error: &DatasetsError) -> FindingCode {
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
pub(super) fn code_of_note(note: SeriesNote) -> FindingCode {
    match note {
        SeriesNote::Tilted { .. } => FindingCode::GantryTilt,
        SeriesNote::NotAxial { .. } => FindingCode::NotAxial,
        SeriesNote::Inverted => FindingCode::InvertedGrey,
        SeriesNote::Lossy => FindingCode::LossyPixels,
        SeriesNote::BurnedIn => FindingCode::BurnedIn,
    }
}
