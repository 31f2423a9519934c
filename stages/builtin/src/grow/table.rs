//! One page on the characters of sources: a table by what is hard about the cases, and how much noise costs each source.
//!
//! Ports: in `comparisons: Comparison` (several); out `report: Report` (`index.html`, and `table.json` with the means).
//! Randomness: none. Cost: none to speak of.

use std::{collections::BTreeMap, fmt::Write};

use engine::{Ctx, Many, Out, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Comparison, Report},
    shards::write_json,
};

/// Settings of [`SourceTable`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceTableConfig {
    /// Title of the page.
    pub title: String,
    /// Group of easy cases. Default `base`.
    pub easy: String,
    /// Group of the same cases with more noise. Default `noisy`.
    pub noisy: String,
}

impl Default for SourceTableConfig {
    fn default() -> Self {
        let title = "Sources by what is hard about the cases".to_owned();
        Self { title, easy: "base".to_owned(), noisy: "noisy".to_owned() }
    }
}

inputs! {
    /// What [`SourceTable`] reads.
    pub struct SourceTableInputs {
        /// Comparisons, one a group of cases.
        comparisons: Many<Comparison>,
    }
}

outputs! {
    /// What [`SourceTable`] makes.
    pub struct SourceTableOutputs {
        /// The page and its numbers.
        report: Out<Report>,
    }
}

/// A row of a comparison.
#[derive(Debug, Deserialize)]
struct Row {
    group: String,
    source: String,
    dice: f64,
    volume_ratio: f64,
    detail_recall: Option<f64>,
    vessel_share: Option<f64>,
}

/// Means over the cases of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Means {
    group: String,
    source: String,
    n_cases: usize,
    dice: f64,
    volume_ratio: f64,
    detail_recall: Option<f64>,
    vessel_share: Option<f64>,
}

/// Table of sources.
pub struct SourceTable;

impl Stage for SourceTable {
    const NAME: &'static str = "grow.table";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Makes one page of comparisons of sources.";
    type Config = SourceTableConfig;
    type Inputs = SourceTableInputs;
    type Outputs = SourceTableOutputs;

    fn run(
        config: &SourceTableConfig,
        inputs: SourceTableInputs,
        outputs: &SourceTableOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut rows = Vec::new();
        for input in inputs.comparisons.iter() {
            let text = std::fs::read_to_string(input.file("comparison.jsonl")?)
                .map_err(StageError::new)?;
            for line in text.lines() {
                rows.push(serde_json::from_str::<Row>(line).map_err(StageError::new)?);
            }
        }
        let means = means(&rows);
        outputs.report.write("index.html", page(config, &means).as_bytes())?;
        write_json(&outputs.report, "table.json", &means)
    }
}

/// Means by group and source, in the order in which they first come.
fn means(rows: &[Row]) -> Vec<Means> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let key = (row.group.as_str(), row.source.as_str());
        if !cells.contains_key(&key) {
            order.push(key);
        }
        cells.entry(key).or_default().push(row);
    }
    let mean = |values: Vec<f64>| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    order
        .into_iter()
        .map(|key| {
            let own = &cells[&key];
            let all = |pick: fn(&Row) -> Option<f64>| {
                mean(own.iter().filter_map(|row| pick(row)).collect())
            };
            Means {
                group: key.0.to_owned(),
                source: key.1.to_owned(),
                n_cases: own.len(),
                dice: all(|row| Some(row.dice)).unwrap_or_default(),
                volume_ratio: all(|row| Some(row.volume_ratio)).unwrap_or_default(),
                detail_recall: all(|row| row.detail_recall),
                vessel_share: all(|row| row.vessel_share),
            }
        })
        .collect()
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse}th,td{padding:.3rem .7rem;text-align:right;\
border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}}";

/// The page.
fn page(config: &SourceTableConfig, means: &[Means]) -> String {
    let names = |pick: fn(&Means) -> &str| {
        let mut names: Vec<&str> = Vec::new();
        for row in means {
            if !names.contains(&pick(row)) {
                names.push(pick(row));
            }
        }
        names
    };
    let (groups, sources) = (names(|row| &row.group), names(|row| &row.source));
    let cell = |group: &str, source: &str| {
        means.iter().find(|row| row.group == group && row.source == source)
    };
    let title = escaped(&config.title);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p>Means over the cases of a group: Dice / volume over that of the truth / share of the fine \
         detail that is found / share of the false voxels that lie in vessels. Fine detail is where a ball of 2.5 mm \
         has no room; <i>pairs</i> is the Dice between two sources.</p><table><tr><th>cases</th>"
    );
    for source in &sources {
        let _ = write!(html, "<th>{}</th>", escaped(source));
    }
    for group in &groups {
        let _ = write!(html, "</tr><tr><td>{}</td>", escaped(group));
        for source in &sources {
            let _ = write!(html, "<td>{}</td>", cell(group, source).map_or(String::new(), numbers));
        }
    }
    let _ = write!(html, "</tr><tr><th>Dice lost by noise</th>");
    for source in &sources {
        let lost = cell(&config.easy, source).zip(cell(&config.noisy, source));
        let lost =
            lost.map_or(String::new(), |(easy, noisy)| format!("{:.2}", easy.dice - noisy.dice));
        let _ = write!(html, "<td>{lost}</td>");
    }
    html.push_str("</tr></table></html>\n");
    html
}

fn numbers(means: &Means) -> String {
    let share = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
    if means.source == "pairs" {
        return format!("{:.2}", means.dice);
    }
    let (detail, vessel) = (share(means.detail_recall), share(means.vessel_share));
    format!("{:.2} / {:.2} / {detail} / {vessel}", means.dice, means.volume_ratio)
}

/// Text that HTML shows as it is.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, source: &str, dice: f64) -> Row {
        let (group, source) = (group.to_owned(), source.to_owned());
        Row { group, source, dice, volume_ratio: 1.0, detail_recall: None, vessel_share: Some(0.5) }
    }

    #[test]
    fn means_and_the_cost_of_noise_are_on_the_page() {
        let rows = [row("base", "<a>", 0.9), row("base", "<a>", 0.7), row("noisy", "<a>", 0.3)];
        let means = means(&rows);
        assert_eq!(means.len(), 2);
        assert!((means[0].dice - 0.8).abs() < 1e-12 && means[0].n_cases == 2);
        let page = page(&SourceTableConfig::default(), &means);
        assert!(page.contains("<th>&lt;a&gt;</th>") && page.contains("<td>0.50</td>"), "{page}");
        assert!(page.contains("0.80 / 1.00 / – / 0.50"));
    }
}
