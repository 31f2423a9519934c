//! The report of a run: plain data in, one self-contained HTML page out.
//!
//! The page holds everything it shows: style sheet, SVG plots and PNG pictures are inline, there is no script, and
//! a content security policy in the page forbids every request. The same [`ReportData`] gives the same bytes.
//! Absent parts are left out; absent or non-finite numbers are shown as an en dash.
//!
//! # Examples
//! ```
//! use report::{Head, ReportData};
//! let data = ReportData {
//!     head: Head { title: "Ablation of the sources".into(), ..Head::default() },
//!     ..ReportData::default()
//! };
//! let page = report::render(&data)?;
//! assert!(page.starts_with("<!doctype html>"));
//! # Ok::<(), report::ReportError>(())
//! ```

mod data;
mod error;
mod html;
pub mod overlay;
pub mod stats;
pub mod svg;
mod text;

pub use data::{
    AxisScale, Better, CaseMap, CaseMask, CellOutput, CellRecord, CurveFigure, Fact, Gallery,
    GalleryCase, Head, Line, MaskPicture, Metric, NoiseRow, NoiseTable, Panel, Picture, Plane,
    Quality, ReportData, ResultRow, ResultTable, Rule, SeedRun, Series, Setting, Spread, Trace,
    Warning,
};
pub use error::ReportError;
pub use html::render;
