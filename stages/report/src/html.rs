//! The page: values are brought into the words and numbers that the template shows.
//!
//! The template escapes every value. Only what this crate wrote itself (SVG, PNG data URIs, path data) is passed as
//! it is, and SVG text has been escaped by its writer.

mod figures;
mod gallery;
mod results;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::data::{CellRecord, Head, ReportData, Trace};
use crate::error::ReportError;
use crate::text::short_digest;
use figures::{CurveView, NoiseView};
use gallery::GalleryView;
use results::ResultView;

/// Renders the page.
///
/// # Errors
/// [`ReportError::RowLength`] when a row does not fit the columns of its table; [`ReportError::PictureShape`] and
/// [`ReportError::ShapeMismatch`] for pictures that do not fit; [`ReportError::Png`] when one cannot be encoded;
/// [`ReportError::Template`] only by a fault of this crate.
pub fn render(data: &ReportData) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|name| match name {
        "page.css" => AutoEscape::None,
        _ => AutoEscape::Html,
    });
    environment.add_template("page.css", include_str!("page.css"))?;
    environment.add_template("page.html", include_str!("page.html"))?;
    let page = PageView::new(data)?;
    Ok(environment.get_template("page.html")?.render(Serde(page))?)
}

/// Everything that the template reads.
#[derive(Serialize)]
struct PageView<'a> {
    head: &'a Head,
    results: Vec<ResultView<'a>>,
    curves: Vec<CurveView<'a>>,
    noise: Vec<NoiseView<'a>>,
    galleries: Vec<GalleryView<'a>>,
    cells: Vec<CellView<'a>>,
    resolved_toml: Option<&'a str>,
}

impl<'a> PageView<'a> {
    fn new(data: &'a ReportData) -> Result<Self, ReportError> {
        let mut numbering = Numbering::default();
        let links = Links::new(&data.cells);
        let results = data
            .results
            .iter()
            .map(|table| ResultView::new(table, &mut numbering, &links))
            .collect::<Result<_, _>>()?;
        let curves = data
            .curves
            .iter()
            .map(|figure| CurveView::new(figure, &mut numbering, &links))
            .collect();
        let noise =
            data.noise.iter().map(|table| NoiseView::new(table, &mut numbering, &links)).collect();
        let galleries = data
            .galleries
            .iter()
            .map(|gallery| GalleryView::new(gallery, &mut numbering, &links))
            .collect::<Result<_, _>>()?;
        let cells = data.cells.iter().enumerate().map(CellView::new).collect();
        let resolved_toml = data.resolved_toml.as_deref();
        Ok(Self { head: &data.head, results, curves, noise, galleries, cells, resolved_toml })
    }
}

/// Counts tables and figures through the page.
#[derive(Default)]
struct Numbering {
    tables: usize,
    figures: usize,
}

impl Numbering {
    fn table(&mut self) -> usize {
        self.tables += 1;
        self.tables
    }

    fn figure(&mut self) -> usize {
        self.figures += 1;
        self.figures
    }
}

/// Where in the appendix an artifact of a cell stands.
struct Links<'a>(BTreeMap<(&'a str, &'a str), usize>);

impl<'a> Links<'a> {
    fn new(cells: &'a [CellRecord]) -> Self {
        let entries = cells.iter().enumerate().flat_map(|(index, cell)| {
            cell.outputs
                .iter()
                .map(move |output| ((cell.name.as_str(), output.artifact.as_str()), index))
        });
        Self(entries.collect())
    }

    fn trace<'t>(&self, trace: &'t Trace) -> TraceView<'t> {
        let place = self.0.get(&(trace.cell.as_str(), trace.artifact.as_str()));
        TraceView {
            cell: &trace.cell,
            short: short_digest(&trace.artifact),
            artifact: &trace.artifact,
            link: place.map(|index| cell_anchor(*index)),
        }
    }

    /// Views of all `traces`, each once, in order of their first appearance.
    fn traces<'t>(&self, traces: impl Iterator<Item = &'t Trace>) -> Vec<TraceView<'t>> {
        let mut seen = std::collections::BTreeSet::new();
        traces.filter(|trace| seen.insert(*trace)).map(|trace| self.trace(trace)).collect()
    }
}

/// A footnote to the artifact that something comes from.
#[derive(Serialize)]
struct TraceView<'a> {
    cell: &'a str,
    short: String,
    artifact: &'a str,
    link: Option<String>,
}

/// A row of the appendix.
#[derive(Serialize)]
struct CellView<'a> {
    anchor: String,
    record: &'a CellRecord,
}

impl<'a> CellView<'a> {
    fn new((index, record): (usize, &'a CellRecord)) -> Self {
        Self { anchor: cell_anchor(index), record }
    }
}

/// Anchor of a cell in the appendix.
fn cell_anchor(index: usize) -> String {
    format!("cell-{}", index + 1)
}
