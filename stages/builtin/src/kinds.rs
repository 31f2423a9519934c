//! Kinds of artifacts and the views by which stages see parts of them.
//!
//! Shards are named `train-….parquet`, `val-….parquet` and `test-….parquet`: a view by split needs no copy, and a changed
//! test case leaves training alone.

use engine::Artifact;

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $kind:literal $(, sharded $sharded:literal)? $(, view $view:expr)?;)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl Artifact for $name {
                const KIND: &'static str = $kind;
                $(const SHARDED: bool = $sharded;)?
                $(const VIEW: &'static [&'static str] = $view;)?
            }
        )*
    };
}

/// Beginnings of the names of shards that training may see.
const FITTED: &[&str] = &["train-", "val-"];

kinds! {
    /// Image shards of all splits.
    Images = "images", sharded true;
    /// Image shards for training and validation.
    FittedImages = "images", sharded true, view FITTED;
    /// Image shards of the test split.
    TestImages = "images", sharded true, view &["test-"];
    /// Label shards of one source, all splits.
    Labels = "labels", sharded true;
    /// Label shards of several sources in one; `ingest.rater` gives each of them on its own.
    Annotations = "annotations", sharded true;
    /// Image shards with a row for every channel of a case; `ingest.channel` gives each of them on its own.
    ChannelImages = "channels", sharded true;
    /// What was wrong with the files of a data set, one row a finding.
    IngestReport = "ingest_report";
    /// Label shards for training and validation.
    FittedLabels = "labels", sharded true, view FITTED;
    /// Label shards of the training split.
    TrainLabels = "labels", sharded true, view &["train-"];
    /// Label shards of the validation split.
    ValLabels = "labels", sharded true, view &["val-"];
    /// Label shards of the test split.
    TestLabels = "labels", sharded true, view &["test-"];
    /// One row a case: patient, split and where it came from.
    CaseTable = "cases";
    /// A simulator with its strength (`simulator.json`) and how it was calibrated (`calibration.json`).
    Simulator = "simulator";
    /// The simulator without the numbers that its calibration reached.
    SimulatorSettings = "simulator", view &["simulator."];
    /// The numbers that a calibration reached.
    SimulatorCalibration = "simulator", view &["calibration."];
    /// A trained network with its metrics per epoch.
    Model = "model";
    /// The weights of a trained network.
    Weights = "model", view &["weights."];
    /// The metrics of a training.
    TrainingLog = "model", view &["metrics.", "summary."];
    /// NIfTI files, one or more a case.
    NiftiFiles = "nifti";
    /// Uncertainty and calibration maps of chosen cases.
    Assessment = "assessment";
    /// Sources measured against the truth, one row a case and source.
    Comparison = "comparison";
    /// Scores per case.
    Scores = "scores";
    /// How predictions agree with raters, per case.
    RaterScores = "rater_scores";
    /// One HTML page and its numbers.
    Report = "report";
}
