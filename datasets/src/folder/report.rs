//! The ingest report: what was found, how grave it is and what was done about it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SourceFile;
use crate::{
    DatasetsError,
    table::{Cell, Kind, Table},
};

/// Declares the codes with their words, gravity and consequence in one place.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $word:literal, $severity:ident, $action:ident;)*) => {
        /// What can be wrong with the files of a data set.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum FindingCode {
            $($(#[$meta])* $name,)*
        }

        impl FindingCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in reports and in `allow`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Whether the finding stops the run unless it is allowed.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What is done about it when the run goes on.
            pub fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)* }
            }
        }
    };
}

codes! {
    /// A file that cannot be decoded.
    Unreadable = "unreadable", Error, Dropped;
    /// DICOM pixels that are compressed in a way that is not read.
    TransferSyntax = "transfer_syntax", Error, Dropped;
    /// A folder with the slices of several DICOM series.
    SeveralSeries = "several_series", Error, Dropped;
    /// Slices of a series of different sizes.
    MixedSlices = "mixed_slices", Error, Dropped;
    /// Slices of a series that are not parallel, or whose pixels have different sizes.
    MixedOrientation = "mixed_orientation", Error, Dropped;
    /// Slices of a series that do not tell where they lie.
    MissingPosition = "missing_position", Error, Dropped;
    /// Slices of a series that do not tell the distances between their pixels.
    MissingSpacing = "missing_spacing", Error, Dropped;
    /// Slices at one place that no time tells apart.
    DuplicateSlice = "duplicate_slice", Error, Dropped;
    /// Slices of a series that are not evenly spread on a line.
    SliceGap = "slice_gap", Error, Dropped;
    /// Phases of a series with different slices.
    PhasesDiffer = "phases_differ", Error, Dropped;
    /// Phases of a series whose order two attributes tell differently.
    TimeOrder = "time_order", Error, Dropped;
    /// Slices that are shifted against each other; spacings are true, right angles are not.
    GantryTilt = "gantry_tilt", Error, Kept;
    /// Text that is drawn into the pixels and may name the patient.
    BurnedIn = "burned_in", Error, Kept;
    /// Slices that are not axial.
    NotAxial = "not_axial", Warning, Kept;
    /// DICOM whose small numbers are bright; it was inverted.
    InvertedGrey = "inverted_grey", Warning, Kept;
    /// DICOM pixels that were compressed with loss.
    LossyPixels = "lossy_pixels", Warning, Kept;
    /// Two files for one channel or label.
    DuplicateFile = "duplicate_file", Error, Dropped;
    /// An image without a label.
    UnpairedImage = "unpaired_image", Warning, Dropped;
    /// A label without an image.
    UnpairedLabel = "unpaired_label", Warning, Dropped;
    /// A case that lacks the label of a rater whom others have.
    MissingRater = "missing_rater", Error, Dropped;
    /// A case that lacks the reference label that others have.
    MissingTruth = "missing_truth", Error, Dropped;
    /// A case that lacks a channel that was asked for.
    MissingChannel = "missing_channel", Error, Dropped;
    /// A case with other channels than the first.
    ChannelsDiffer = "channels_differ", Error, Kept;
    /// Image and label, or two channels, of different shapes.
    ShapeMismatch = "shape_mismatch", Error, Dropped;
    /// Image and label, or two channels, at different places in the world.
    GeometryMismatch = "geometry_mismatch", Error, Kept;
    /// NaN or infinity in an image.
    NotFinite = "not_finite", Error, Dropped;
    /// An image with one value everywhere.
    ConstantImage = "constant_image", Error, Kept;
    /// Values that no structure declares; they count as background.
    UnexpectedValues = "unexpected_values", Error, Kept;
    /// A row of a table that does not say what its table is for.
    InvalidRow = "invalid_row", Error, Dropped;
    /// A box that reaches out of the grid of its image.
    BoxOutside = "box_outside", Error, Dropped;
    /// A box by numbers of slices in a series whose files do not number them in order.
    SliceNumbers = "slice_numbers", Error, Dropped;
    /// A box on the other side of the body than its table names.
    SideMismatch = "side_mismatch", Warning, Kept;
    /// A series whose name says another phase than the table of the data set, which counts.
    PhaseMismatch = "phase_mismatch", Warning, Kept;
    /// Lines of a rater that do not go around the structures that were to be outlined.
    UnclearLines = "unclear_lines", Error, Dropped;
    /// A case that is known not to be usable in the data set as it was published.
    KnownDefect = "known_defect", Warning, Dropped;
    /// Files that the data set holds in a corrected form, too.
    Superseded = "superseded", Warning, Dropped;
    /// A reading of chest X-rays beside one of CT.
    XrayReading = "xray_reading", Warning, Dropped;
    /// A second file with the same reading.
    SameReading = "same_reading", Warning, Kept;
    /// A reading of another number of sessions than a case of the data set has.
    SessionCount = "session_count", Error, Dropped;
    /// A reading that names another series than the one beside it.
    OtherSeries = "other_series", Error, Dropped;
    /// An outline on no slice of its series, or beyond the edge of its slice; what lies within the image counts.
    OutlineOffImage = "outline_off_image", Error, Kept;
    /// The same image for patients of different splits.
    SameImageAcrossSplits = "same_image_across_splits", Error, Kept;
    /// The same image for two cases of one split.
    SameImage = "same_image", Warning, Kept;
    /// A mask stored in several channels; the detail tells by what rule it was read.
    MaskNotSingleChannel = "mask_not_single_channel", Warning, Kept;
    /// A structure that fills more than half of its image.
    InvertedPolaritySuspect = "inverted_polarity_suspect", Warning, Kept;
    /// A structure without a voxel.
    EmptyMask = "empty_mask", Warning, Kept;
    /// A structure that fills its image.
    FullMask = "full_mask", Warning, Kept;
    /// A structure that reaches out of the one that should hold it.
    TopologyViolation = "topology_violation", Warning, Kept;
    /// Two raters with the same mask.
    RatersIdentical = "raters_identical", Warning, Kept;
    /// A rater with the mask of the reference.
    RaterEqualsReference = "rater_equals_reference", Warning, Kept;
}

impl fmt::Display for FindingCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The data can be used; somebody should look.
    Warning,
    /// The data cannot be used as they are, unless somebody says so.
    Error,
}

impl Severity {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What becomes of a case or file with a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is used.
    Kept,
    /// It is left out.
    Dropped,
}

impl Action {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Dropped => "dropped",
        }
    }
}

/// One row of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The case.
    pub case: String,
    /// The source of the label; empty for images.
    pub source: String,
    /// What is wrong.
    pub code: FindingCode,
    /// The file, relative to the root.
    pub file: String,
    /// What was expected and what was found; never text of a header.
    pub detail: String,
}

impl Finding {
    /// What is wrong with a file; `source` is empty for images.
    pub fn new(
        case: &str,
        source: &str,
        code: FindingCode,
        file: &SourceFile,
        detail: impl Into<String>,
    ) -> Self {
        let (case, source) = (case.to_owned(), source.to_owned());
        Self { case, source, code, file: file.name.clone(), detail: detail.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} `{}` case `{}`", self.code.severity().name(), self.code, self.case)?;
        if !self.source.is_empty() {
            write!(out, " source `{}`", self.source)?;
        }
        write!(out, " file `{}`: {} ({})", self.file, self.detail, self.code.action().name())
    }
}

/// The report as a table, one row a finding.
///
/// # Errors
/// None that the columns allow.
pub fn table(findings: &[Finding]) -> Result<Table, DatasetsError> {
    let columns = ["case", "source", "code", "severity", "file", "detail", "action"];
    let mut table = Table::new(&columns.map(|name| (name, Kind::Text)));
    for finding in findings {
        let Finding { case, source, code, file, detail } = finding;
        let texts = [
            case.as_str(),
            source,
            code.name(),
            code.severity().name(),
            file,
            detail,
            code.action().name(),
        ];
        table.push(texts.map(Cell::from).into())?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn the_word_of_a_code_is_that_of_the_configuration() {
        for &code in FindingCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
        assert!(serde_json::from_str::<FindingCode>("\"missing_ratter\"").is_err());
    }

    #[test]
    fn a_finding_reads_as_a_sentence_and_as_a_row() {
        let finding = Finding {
            case: "01L".into(),
            source: "2nd".into(),
            code: FindingCode::MissingRater,
            file: String::new(),
            detail: "raters are 1st, 2nd".into(),
        };
        assert_eq!(
            finding.to_string(),
            "error `missing_rater` case `01L` source `2nd` file ``: raters are 1st, 2nd (dropped)"
        );
        let table = table(&[finding]).unwrap();
        assert_eq!(table.texts("severity").unwrap(), [Some("error")]);
        assert_eq!(table.texts("action").unwrap(), [Some("dropped")]);
    }
}
