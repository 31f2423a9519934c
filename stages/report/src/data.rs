//! What a report is made of: plain values, without files, cells or tensors.

use serde::{Deserialize, Serialize};

/// Everything that the page shows, in the order in which it shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportData {
    /// Title, one-sentence result, settings and warnings.
    pub head: Head,
    /// Tables of scores, one for each structure and test set.
    pub results: Vec<ResultTable>,
    /// Curves over the epochs of training.
    pub curves: Vec<CurveFigure>,
    /// How near the simulated annotations came to their target Dice.
    pub noise: Vec<NoiseTable>,
    /// Pictures of cases, as Fig. 7 of arXiv 2304.00466v2.
    pub galleries: Vec<Gallery>,
    /// All cells of the run, for the appendix; footnotes link into this list.
    pub cells: Vec<CellRecord>,
    /// The experiment after composition and overrides, as TOML.
    pub resolved_toml: Option<String>,
}

/// Head of the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// The experiment's title.
    pub title: String,
    /// The scale, such as `quick` or `paper`.
    pub scale: Option<String>,
    /// The data set, in words.
    pub dataset: Option<String>,
    /// Further short facts: number of cases, splits, seeds, run.
    pub facts: Vec<Fact>,
    /// The result in one sentence.
    pub sentence: Option<String>,
    /// Choices that the paper leaves open and how this run made them.
    pub settings: Vec<Setting>,
    /// What a reader has to know before trusting a number; shown loudly.
    pub warnings: Vec<Warning>,
}

/// A named value in the head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The name.
    pub name: String,
    /// The value, as shown.
    pub value: String,
}

/// A resolved setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// The setting's name or key.
    pub name: String,
    /// The value that the run used.
    pub value: String,
    /// What the paper says of it, or the reason for the choice.
    pub note: Option<String>,
}

/// A warning at the top of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warning {
    /// What is wrong, in one line.
    pub title: String,
    /// What it means for the numbers.
    pub detail: Option<String>,
}

/// Where a number or picture comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trace {
    /// Name of the cell that made the artifact.
    pub cell: String,
    /// Full digest of the artifact.
    pub artifact: String,
}

/// Which of two scores is the better one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The larger, as with Dice.
    #[default]
    Higher,
    /// The smaller, as with surface distances.
    Lower,
}

/// A column of a table of scores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metric {
    /// The name, such as `Dice` or `Jaccard per case`.
    pub name: String,
    /// The unit of the values as they are given, such as `%`, `px` or `mm`; empty for none.
    pub unit: String,
    /// The good direction.
    pub better: Better,
    /// Decimals to show.
    pub decimals: usize,
}

/// Scores of methods or subsets of sources, with the paper's values beside them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResultTable {
    /// Title, such as `lung, high noise`.
    pub title: String,
    /// What is shown: test set, number of cases, empty-mask policy.
    pub caption: String,
    /// Where the paper's values are printed, such as `arXiv 2304.00466v2, Table I`.
    pub paper: Option<String>,
    /// Annotation sources that a row can use; one ticked column each.
    pub sources: Vec<String>,
    /// The columns of scores.
    pub metrics: Vec<Metric>,
    /// The rows, in the order in which they are shown.
    pub rows: Vec<ResultRow>,
    /// Remarks by the caller; remarks on the order against the paper's are added to them.
    pub remarks: Vec<String>,
    /// Where the numbers come from.
    pub traces: Vec<Trace>,
}

/// A method or a subset of sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResultRow {
    /// The method or subset.
    pub label: String,
    /// Whether each of [`ResultTable::sources`] is used; empty when the row uses no annotation source.
    pub uses: Vec<bool>,
    /// A row that is no competitor, such as training on clean labels: it is shown and takes no rank.
    pub reference: bool,
    /// A short note shown under the label.
    pub note: Option<String>,
    /// The paper's value for each of [`ResultTable::metrics`]; empty for none at all.
    pub paper: Vec<Option<f64>>,
    /// One entry for each seed.
    pub runs: Vec<SeedRun>,
}

/// The scores of one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedRun {
    /// The seed.
    pub seed: u64,
    /// Cases that were scored.
    pub n_cases: Option<usize>,
    /// The value for each of [`ResultTable::metrics`], in the metric's unit.
    pub values: Vec<Option<f64>>,
    /// Where the values come from.
    pub trace: Option<Trace>,
}

/// A figure of one or more panels that share their series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CurveFigure {
    /// Title.
    pub title: String,
    /// What is shown.
    pub caption: String,
    /// Label of the horizontal axis, such as `epoch`.
    pub x_label: String,
    /// The panels, each with axes of its own.
    pub panels: Vec<Panel>,
    /// Where the curves come from.
    pub traces: Vec<Trace>,
}

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AxisScale {
    /// Equal steps.
    #[default]
    Linear,
    /// Equal factors; values that are not positive are left out.
    Log,
}

/// One set of axes with its lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Panel {
    /// Title of the panel.
    pub title: String,
    /// Label of the vertical axis.
    pub y_label: String,
    /// What the vertical axis covers at least.
    pub y_range: Option<[f64; 2]>,
    /// Scale of the vertical axis.
    pub y_scale: AxisScale,
    /// The lines, one series for each run or source.
    pub series: Vec<Series>,
    /// Horizontal lines such as thresholds.
    pub rules: Vec<Rule>,
}

/// Lines of one run or source: one for each seed, and their mean where there are several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Label; equal labels look the same in all panels of a figure.
    pub label: String,
    /// One line for each seed.
    pub lines: Vec<Line>,
}

/// The line of one seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The seed, if there is one.
    pub seed: Option<u64>,
    /// Points `[x, y]` by rising x; a `y` that is not finite breaks the line.
    pub points: Vec<[f64; 2]>,
}

/// A horizontal line across a panel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Label.
    pub label: String,
    /// Height, in the unit of the vertical axis.
    pub y: f64,
}

/// Target and achieved Dice of simulated annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoiseTable {
    /// Title, such as `high noise, training split`.
    pub title: String,
    /// What is shown.
    pub caption: String,
    /// One row for each source.
    pub rows: Vec<NoiseRow>,
    /// The vote of the sources against the truth.
    pub vote: Option<Spread>,
    /// Where the numbers come from.
    pub traces: Vec<Trace>,
}

/// One simulated source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoiseRow {
    /// The source.
    pub source: String,
    /// Dice that was asked for, 0 to 1.
    pub target: Option<f64>,
    /// Dice of the masks against the truth, 0 to 1.
    pub achieved: Spread,
    /// Strength that was found.
    pub strength: Option<f64>,
    /// What the strength is, with its unit, such as `radius, px`.
    pub strength_name: String,
    /// Evaluations that the search needed.
    pub evaluations: Option<u32>,
}

/// A distribution over cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// Mean.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub sd: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Number of cases.
    pub n: usize,
    /// The values themselves where they are at hand; the plot then shows dots and a box.
    pub values: Vec<f64>,
}

impl Spread {
    /// Takes mean, sample standard deviation and range of `values`; values that are not finite are left out.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Self {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let summary = crate::stats::summarize(&values);
        Self {
            mean: summary.mean,
            sd: summary.sd,
            min: summary.min,
            max: summary.max,
            n: summary.n,
            values,
        }
    }
}

/// Values over `[row, column]`, column fastest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plane<T> {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Rows times columns values.
    pub values: Vec<T>,
}

/// A grey picture or a map.
pub type Picture = Plane<f32>;

/// A mask; `true` is the structure.
pub type MaskPicture = Plane<bool>;

/// Pictures of some cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gallery {
    /// Title.
    pub title: String,
    /// What is shown.
    pub caption: String,
    /// Values of uncertainty at the two ends of the colour map.
    pub uncertainty_range: [f32; 2],
    /// Thresholds of u_a and u_b below which a case is of high quality.
    pub thresholds: Option<[f64; 2]>,
    /// The cases; the page groups them by quality and keeps the order within a group.
    pub cases: Vec<GalleryCase>,
    /// Where the pictures come from.
    pub traces: Vec<Trace>,
}

impl Default for Gallery {
    fn default() -> Self {
        Self {
            title: String::new(),
            caption: String::new(),
            uncertainty_range: [0.0, 1.0],
            thresholds: None,
            cases: Vec::new(),
            traces: Vec::new(),
        }
    }
}

/// Verdict of the quality assessment on the annotations of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Both uncertainties are below their thresholds.
    High,
    /// At least one is not.
    Low,
}

/// One case of a gallery; all its pictures have the shape of `image`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GalleryCase {
    /// The case id.
    pub id: String,
    /// Where in the case the pictures lie, such as `slice 41`.
    pub place: Option<String>,
    /// High or low quality; absent where it was not assessed.
    pub quality: Option<Quality>,
    /// Image-level uncertainty u_a (arXiv 2304.00466v2, Eq. 6).
    pub u_a: Option<f64>,
    /// Image-level uncertainty u_b (arXiv 2304.00466v2, Eq. 7).
    pub u_b: Option<f64>,
    /// The image; shown grey between its 1st and 99th percentile.
    pub image: Picture,
    /// The truth.
    pub truth: Option<MaskPicture>,
    /// The annotation of each source.
    pub annotations: Vec<CaseMask>,
    /// The uncertainty map of each source.
    pub uncertainty: Vec<CaseMap>,
    /// The calibration map of each source, 0 to 1.
    pub calibration: Vec<CaseMap>,
    /// The consensus of the calibration maps, 0 to 1.
    pub consensus: Option<Picture>,
    /// The prediction.
    pub prediction: Option<MaskPicture>,
    /// Dice of the prediction against the truth, 0 to 1.
    pub dice: Option<f64>,
}

/// A mask of a named source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaseMask {
    /// The source.
    pub source: String,
    /// The mask.
    pub mask: MaskPicture,
    /// Dice against the truth, 0 to 1.
    pub dice: Option<f64>,
}

/// A map of a named source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaseMap {
    /// The source.
    pub source: String,
    /// The map.
    pub map: Picture,
}

/// One cell of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CellRecord {
    /// Name of the cell.
    pub name: String,
    /// Its stage, with the version.
    pub stage: String,
    /// Its key.
    pub key: Option<String>,
    /// Its artifacts.
    pub outputs: Vec<CellOutput>,
}

/// An artifact that a cell made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellOutput {
    /// The output port.
    pub port: String,
    /// Full digest of the artifact.
    pub artifact: String,
}
