//! Tables of scores: means over seeds, gaps to the best, the paper's values and remarks on the order.

use serde::Serialize;

use super::{Links, Numbering, TraceView};
use crate::data::{Better, Metric, ResultRow, ResultTable};
use crate::error::ReportError;
use crate::stats::{Ranked, Summary, Swap, order_against_paper, summarize};
use crate::text::{number, signed};

/// Pairs of rows that a remark names at most.
const MOST_SWAPS: usize = 4;

/// A table of scores as the template reads it.
#[derive(Serialize)]
pub(super) struct ResultView<'a> {
    number: usize,
    seeds_number: usize,
    title: &'a str,
    caption: &'a str,
    paper: Option<&'a str>,
    sources: &'a [String],
    metrics: Vec<MetricView<'a>>,
    rows: Vec<RowView<'a>>,
    any_reference: bool,
    remarks: Vec<String>,
    seeds: Vec<SeedView<'a>>,
    traces: Vec<TraceView<'a>>,
}

#[derive(Serialize)]
struct MetricView<'a> {
    name: &'a str,
    unit: &'a str,
    arrow: &'static str,
    better: &'static str,
    has_paper: bool,
}

#[derive(Serialize)]
struct RowView<'a> {
    label: &'a str,
    note: Option<&'a str>,
    reference: bool,
    uses: &'a [bool],
    n: usize,
    cells: Vec<ScoreView>,
}

#[derive(Serialize)]
struct ScoreView {
    mean: String,
    sd: Option<String>,
    /// Seeds with a value, where these are fewer than the row's.
    n: Option<usize>,
    best: bool,
    gap: Option<String>,
    has_paper: bool,
    paper: String,
    paper_gap: Option<String>,
}

#[derive(Serialize)]
struct SeedView<'a> {
    label: &'a str,
    seed: u64,
    n_cases: Option<usize>,
    values: Vec<String>,
    trace: Option<TraceView<'a>>,
}

impl<'a> ResultView<'a> {
    pub(super) fn new(
        table: &'a ResultTable,
        numbering: &mut Numbering,
        links: &Links<'_>,
    ) -> Result<Self, ReportError> {
        table.rows.iter().try_for_each(|row| check_row(table, row))?;
        let columns: Vec<Column<'_>> =
            (0..table.metrics.len()).map(|index| Column::new(table, index)).collect();
        let rows = table
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| row_view(row, index, &columns))
            .collect();
        let run_traces =
            table.rows.iter().flat_map(|row| &row.runs).filter_map(|run| run.trace.as_ref());
        Ok(Self {
            number: numbering.table(),
            seeds_number: numbering.table(),
            title: &table.title,
            caption: &table.caption,
            paper: table.paper.as_deref(),
            sources: &table.sources,
            metrics: columns.iter().map(Column::view).collect(),
            rows,
            any_reference: table.rows.iter().any(|row| row.reference),
            remarks: table.remarks.iter().cloned().chain(order_remarks(table, &columns)).collect(),
            seeds: seed_views(table, links),
            traces: links.traces(table.traces.iter().chain(run_traces)),
        })
    }
}

/// Refuses a row that does not fit the table's columns.
fn check_row(table: &ResultTable, row: &ResultRow) -> Result<(), ReportError> {
    let check = |what, expected: usize, found: usize, may_be_empty: bool| {
        if found == expected || (may_be_empty && found == 0) {
            return Ok(());
        }
        Err(ReportError::RowLength {
            table: table.title.clone(),
            row: row.label.clone(),
            what,
            expected,
            found,
        })
    };
    check("source marks", table.sources.len(), row.uses.len(), true)?;
    check("paper values", table.metrics.len(), row.paper.len(), true)?;
    row.runs
        .iter()
        .try_for_each(|run| check("scores of a seed", table.metrics.len(), run.values.len(), false))
}

/// One metric over all rows.
struct Column<'a> {
    metric: &'a Metric,
    summaries: Vec<Summary>,
    paper: Vec<Option<f64>>,
    /// Mean of the best row that takes a rank.
    best: Option<f64>,
}

impl<'a> Column<'a> {
    fn new(table: &'a ResultTable, index: usize) -> Self {
        let metric = &table.metrics[index];
        let values = |row: &ResultRow| -> Vec<f64> {
            row.runs.iter().filter_map(|run| run.values[index]).collect()
        };
        let summaries: Vec<Summary> =
            table.rows.iter().map(|row| summarize(&values(row))).collect();
        let finite = |value: &f64| value.is_finite();
        let paper = table
            .rows
            .iter()
            .map(|row| row.paper.get(index).copied().flatten().filter(finite))
            .collect();
        let ranked = table.rows.iter().zip(&summaries).filter(|(row, _)| !row.reference);
        let best = ranked.filter_map(|(_, summary)| summary.mean).reduce(match metric.better {
            Better::Higher => f64::max,
            Better::Lower => f64::min,
        });
        Self { metric, summaries, paper, best }
    }

    fn has_paper(&self) -> bool {
        self.paper.iter().any(Option::is_some)
    }

    fn view(&self) -> MetricView<'a> {
        let (arrow, better) = match self.metric.better {
            Better::Higher => ("↑", "higher is better"),
            Better::Lower => ("↓", "lower is better"),
        };
        MetricView {
            name: &self.metric.name,
            unit: &self.metric.unit,
            arrow,
            better,
            has_paper: self.has_paper(),
        }
    }

    fn score(&self, index: usize, row: &ResultRow) -> ScoreView {
        let decimals = self.metric.decimals;
        let summary = self.summaries[index];
        let shown = number(summary.mean, decimals);
        let best = !row.reference && summary.mean.is_some() && shown == number(self.best, decimals);
        let gap = summary.mean.zip(self.best).map(|(mean, best)| mean - best);
        let paper_gap = summary.mean.zip(self.paper[index]).map(|(mean, paper)| mean - paper);
        ScoreView {
            sd: summary
                .mean
                .map(|_| summary.sd.map_or("n/a".to_owned(), |sd| number(Some(sd), decimals))),
            n: (summary.n < row.runs.len()).then_some(summary.n),
            best,
            gap: gap.filter(|_| !best).map(|gap| signed(Some(gap), decimals)),
            has_paper: self.has_paper(),
            paper: number(self.paper[index], decimals),
            paper_gap: paper_gap.map(|gap| signed(Some(gap), decimals)),
            mean: shown,
        }
    }

    /// Says how the order of the rows agrees with the paper's; absent below two rows that can be compared.
    fn order_remark(&self, table: &ResultTable) -> Option<String> {
        let rows = table.rows.iter().zip(&self.summaries).zip(&self.paper);
        let rows: Vec<Ranked> = rows
            .filter_map(|((row, summary), paper)| {
                let (label, sd) = (row.label.clone(), summary.sd);
                Some(Ranked { label, ours: summary.mean?, sd, paper: *paper })
            })
            .collect();
        let (pairs, swaps) = order_against_paper(&rows);
        if pairs == 0 {
            return None;
        }
        let agreeing = pairs - swaps.len();
        let mut remark = format!("{agreeing} of {pairs} pairs of rows stand in the paper’s order");
        if !swaps.is_empty() {
            let mut named: Vec<String> = swaps
                .iter()
                .take(MOST_SWAPS)
                .map(|swap| describe(swap, self.metric.better))
                .collect();
            if swaps.len() > MOST_SWAPS {
                named.push(format!("{} more", swaps.len() - MOST_SWAPS));
            }
            remark.push_str("; turned round: ");
            remark.push_str(&named.join("; "));
        }
        remark.push('.');
        Some(remark)
    }
}

/// Says which row comes before which, unlike in the paper.
fn describe(swap: &Swap, better: Better) -> String {
    let (first, second) = match better {
        Better::Higher => (&swap.larger_here, &swap.larger_in_paper),
        Better::Lower => (&swap.larger_in_paper, &swap.larger_here),
    };
    let relation = if swap.level { "is level with" } else { "comes before" };
    let weight = if swap.within_spread { " (within the spread over seeds)" } else { "" };
    format!("“{first}” {relation} “{second}”{weight}")
}

/// Remarks on the order of all columns; columns of which the same can be said share one.
fn order_remarks(table: &ResultTable, columns: &[Column<'_>]) -> Vec<String> {
    let mut remarks: Vec<(Vec<&str>, String)> = Vec::new();
    for column in columns {
        let Some(remark) = column.order_remark(table) else {
            continue;
        };
        match remarks.iter_mut().find(|(_, known)| *known == remark) {
            Some((names, _)) => names.push(&column.metric.name),
            None => remarks.push((vec![&column.metric.name], remark)),
        }
    }
    remarks.into_iter().map(|(names, remark)| format!("{}: {remark}", names.join(", "))).collect()
}

fn row_view<'a>(row: &'a ResultRow, index: usize, columns: &[Column<'_>]) -> RowView<'a> {
    RowView {
        label: &row.label,
        note: row.note.as_deref(),
        reference: row.reference,
        uses: &row.uses,
        n: row.runs.len(),
        cells: columns.iter().map(|column| column.score(index, row)).collect(),
    }
}

fn seed_views<'a>(table: &'a ResultTable, links: &Links<'_>) -> Vec<SeedView<'a>> {
    let runs = table.rows.iter().flat_map(|row| row.runs.iter().map(move |run| (row, run)));
    runs.map(|(row, run)| SeedView {
        label: &row.label,
        seed: run.seed,
        n_cases: run.n_cases,
        values: run
            .values
            .iter()
            .zip(&table.metrics)
            .map(|(value, metric)| number(*value, metric.decimals))
            .collect(),
        trace: run.trace.as_ref().map(|trace| links.trace(trace)),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::data::SeedRun;

    fn row(label: &str, values: &[Option<f64>], paper: Option<f64>) -> ResultRow {
        let run = |(seed, value): (usize, &Option<f64>)| SeedRun {
            seed: seed as u64,
            values: vec![*value],
            ..SeedRun::default()
        };
        ResultRow {
            label: label.to_owned(),
            paper: vec![paper],
            runs: values.iter().enumerate().map(run).collect(),
            ..ResultRow::default()
        }
    }

    fn table(better: Better, rows: Vec<ResultRow>) -> ResultTable {
        let metric = Metric { name: "Dice".into(), unit: "%".into(), better, decimals: 1 };
        ResultTable { title: "lung".into(), metrics: vec![metric], rows, ..ResultTable::default() }
    }

    fn view(table: &ResultTable) -> ResultView<'_> {
        ResultView::new(table, &mut Numbering::default(), &Links::new(&[])).unwrap()
    }

    #[test]
    fn the_best_is_marked_and_gaps_are_signed() {
        let mut clean = row("clean", &[Some(99.0)], None);
        clean.reference = true;
        let table = table(
            Better::Higher,
            vec![
                row("a", &[Some(80.0), Some(82.0)], Some(85.0)),
                row("b", &[Some(70.0)], None),
                clean,
            ],
        );
        let view = view(&table);
        let first = &view.rows[0].cells[0];
        assert_eq!((first.mean.as_str(), first.sd.as_deref()), ("81.0", Some("1.4")));
        assert!(first.best && first.gap.is_none());
        assert_eq!(first.paper_gap.as_deref(), Some("−4.0"));
        let second = &view.rows[1].cells[0];
        assert_eq!((second.sd.as_deref(), second.gap.as_deref()), (Some("n/a"), Some("−11.0")));
        assert_eq!(second.paper, "–");
        assert!(!view.rows[2].cells[0].best);
    }

    #[test]
    fn lower_is_better_for_distances() {
        let table =
            table(Better::Lower, vec![row("a", &[Some(5.0)], None), row("b", &[Some(3.0)], None)]);
        let view = view(&table);
        assert!(view.rows[1].cells[0].best && !view.rows[0].cells[0].best);
        assert_eq!(view.rows[0].cells[0].gap.as_deref(), Some("+2.0"));
        assert!(!view.metrics[0].has_paper);
    }

    #[test]
    fn absent_values_become_dashes_and_lower_n() {
        let table = table(
            Better::Higher,
            vec![
                row("a", &[Some(f64::NAN), None, Some(50.0)], None),
                row("b", &[None], Some(f64::NAN)),
                row("c", &[], None),
            ],
        );
        let view = view(&table);
        assert_eq!((view.rows[0].n, view.rows[0].cells[0].n), (3, Some(1)));
        assert_eq!(
            (view.rows[1].cells[0].mean.as_str(), view.rows[1].cells[0].sd.as_deref()),
            ("–", None)
        );
        assert_eq!(view.rows[2].n, 0);
        assert_eq!(view.seeds[0].values, ["–"]);
        assert!(view.remarks.is_empty() && !view.metrics[0].has_paper);
    }

    #[test]
    fn order_against_the_paper_is_remarked() {
        let table = table(
            Better::Higher,
            vec![
                row("a", &[Some(80.0)], Some(70.0)),
                row("b", &[Some(75.0)], Some(90.0)),
                row("c", &[Some(60.0)], Some(60.0)),
            ],
        );
        assert_eq!(
            view(&table).remarks,
            [
                "Dice: 2 of 3 pairs of rows stand in the paper’s order; turned round: “a” comes before “b”."
            ]
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let mut table = table(Better::Higher, vec![row("a", &[Some(1.0)], None)]);
        table.rows[0].uses = vec![true];
        let error =
            ResultView::new(&table, &mut Numbering::default(), &Links::new(&[])).err().unwrap();
        assert_eq!(error.to_string(), "row `a` of table `lung`: expected 0 source marks, got 1");
    }
}
