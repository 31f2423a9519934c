//! Curves over epochs, and the calibration of the simulated annotations.

use serde::Serialize;

use super::{Links, Numbering, TraceView};
use crate::data::{CurveFigure, NoiseTable, Panel, Spread};
use crate::svg::{DotRow, dot_plot, line_chart, swatch};
use crate::text::{compact, number, signed};

/// A figure of curves as the template reads it.
#[derive(Serialize)]
pub(super) struct CurveView<'a> {
    number: usize,
    title: &'a str,
    caption: &'a str,
    legend: Vec<LegendEntry>,
    several_seeds: bool,
    panels: Vec<PanelView<'a>>,
    traces: Vec<TraceView<'a>>,
}

#[derive(Serialize)]
struct LegendEntry {
    label: String,
    swatch: String,
}

#[derive(Serialize)]
struct PanelView<'a> {
    title: &'a str,
    svg: String,
}

impl<'a> CurveView<'a> {
    pub(super) fn new(
        figure: &'a CurveFigure,
        numbering: &mut Numbering,
        links: &Links<'_>,
    ) -> Self {
        let order = labels(&figure.panels);
        let panels = figure
            .panels
            .iter()
            .map(|panel| PanelView {
                title: &panel.title,
                svg: line_chart(panel, &figure.x_label, &order),
            })
            .collect();
        let mut series = figure.panels.iter().flat_map(|panel| &panel.series);
        Self {
            number: numbering.figure(),
            title: &figure.title,
            caption: &figure.caption,
            several_seeds: series.any(|series| series.lines.len() > 1),
            panels,
            legend: order
                .into_iter()
                .enumerate()
                .map(|(index, label)| LegendEntry { label, swatch: swatch(index) })
                .collect(),
            traces: links.traces(figure.traces.iter()),
        }
    }
}

/// Labels of all series in order of their first appearance.
fn labels(panels: &[Panel]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series) {
        if !order.contains(&series.label) {
            order.push(series.label.clone());
        }
    }
    order
}

/// Target and achieved Dice as the template reads them.
#[derive(Serialize)]
pub(super) struct NoiseView<'a> {
    number: usize,
    figure: usize,
    title: &'a str,
    caption: &'a str,
    rows: Vec<NoiseRowView<'a>>,
    any_values: bool,
    svg: String,
    traces: Vec<TraceView<'a>>,
}

#[derive(Serialize)]
struct NoiseRowView<'a> {
    source: &'a str,
    vote: bool,
    target: String,
    gap: Option<String>,
    mean: String,
    sd: String,
    min: String,
    max: String,
    n: usize,
    strength: String,
    strength_name: &'a str,
    evaluations: String,
}

/// Label of the vote's row.
const VOTE: &str = "Vote of the sources";

impl<'a> NoiseView<'a> {
    pub(super) fn new(table: &'a NoiseTable, numbering: &mut Numbering, links: &Links<'_>) -> Self {
        let mut rows: Vec<NoiseRowView<'a>> = table
            .rows
            .iter()
            .map(|row| NoiseRowView {
                target: number(row.target, 3),
                gap: row
                    .achieved
                    .mean
                    .zip(row.target)
                    .map(|(mean, target)| signed(Some(mean - target), 3)),
                strength: compact(row.strength),
                strength_name: &row.strength_name,
                evaluations: row.evaluations.map_or(number(None, 0), |count| count.to_string()),
                ..spread_view(&row.source, &row.achieved)
            })
            .collect();
        let mut dots: Vec<DotRow<'_>> = table
            .rows
            .iter()
            .map(|row| DotRow { label: &row.source, target: row.target, spread: &row.achieved })
            .collect();
        if let Some(vote) = &table.vote {
            rows.push(NoiseRowView { vote: true, ..spread_view(VOTE, vote) });
            dots.push(DotRow { label: VOTE, target: None, spread: vote });
        }
        Self {
            number: numbering.table(),
            figure: numbering.figure(),
            title: &table.title,
            caption: &table.caption,
            rows,
            any_values: dots.iter().any(|row| !row.spread.values.is_empty()),
            svg: dot_plot(&dots, "Dice against the truth"),
            traces: links.traces(table.traces.iter()),
        }
    }
}

/// A row with the distribution filled in and everything else absent.
fn spread_view<'a>(source: &'a str, spread: &Spread) -> NoiseRowView<'a> {
    let absent = || number(None, 0);
    let sd = match (spread.mean, spread.sd) {
        (Some(_), None) => "n/a".to_owned(),
        (_, sd) => number(sd, 3),
    };
    NoiseRowView {
        source,
        vote: false,
        target: absent(),
        gap: None,
        mean: number(spread.mean, 3),
        sd,
        min: number(spread.min, 3),
        max: number(spread.max, 3),
        n: spread.n,
        strength: absent(),
        strength_name: "",
        evaluations: absent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{NoiseRow, Series};

    #[test]
    fn equal_labels_share_one_style() {
        let series = |label: &str| Series { label: label.to_owned(), lines: Vec::new() };
        let panels = [
            Panel { series: vec![series("a"), series("b")], ..Panel::default() },
            Panel { series: vec![series("b"), series("c")], ..Panel::default() },
        ];
        assert_eq!(labels(&panels), ["a", "b", "c"]);
    }

    #[test]
    fn noise_rows_show_gap_vote_and_absent_parts() {
        let table = NoiseTable {
            rows: vec![
                NoiseRow {
                    source: "shift".into(),
                    target: Some(0.7),
                    achieved: Spread::of(vec![0.69, 0.70]),
                    strength: Some(16.0),
                    ..NoiseRow::default()
                },
                NoiseRow { source: "erase".into(), ..NoiseRow::default() },
            ],
            vote: Some(Spread::of(vec![0.9])),
            ..NoiseTable::default()
        };
        let view = NoiseView::new(&table, &mut Numbering::default(), &Links::new(&[]));
        assert_eq!(view.rows[0].gap.as_deref(), Some("−0.005"));
        assert_eq!(
            (view.rows[0].strength.as_str(), view.rows[0].evaluations.as_str()),
            ("16", "–")
        );
        assert_eq!((view.rows[1].mean.as_str(), view.rows[1].sd.as_str()), ("–", "–"));
        assert!(view.rows[2].vote && view.rows[2].sd == "n/a");
    }
}
