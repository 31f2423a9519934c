//! Scores per method, subset and seed, beside the paper's.

use datasets::table::{Cell, Table};
use engine::{Input, StageError};
use imaging::scores::{Summary, jaccard_from_mean_dice};
use report::{Better, Metric, ResultRow, ResultTable, SeedRun, Trace, Warning};
use serde::Serialize;

use super::{PaperRow, ReportConfig, trace};

/// Scores of one structure by one method on one subset with one seed.
pub(super) struct Scored {
    method: String,
    subset: String,
    structure: String,
    unit: String,
    seed: u64,
    trained: bool,
    trace: Trace,
    /// By metric, in the order of [`METRICS`].
    values: Vec<Summary>,
}

/// Metrics of the table: column of the scores, title, factor, decimals, direction.
const METRICS: [(&str, &str, f64, usize, Better); 5] = [
    ("dice", "Dice", 100.0, 2, Better::Higher),
    ("jaccard", "Jaccard per case", 100.0, 2, Better::Higher),
    ("assd", "ASD", 1.0, 2, Better::Lower),
    ("hd95", "95HD", 1.0, 2, Better::Lower),
    ("hd95_pooled", "95HD pooled", 1.0, 2, Better::Lower),
];

/// Metrics that the page shows; `table.json` has them all.
const N_SHOWN: usize = 4;

/// Reads all scores; the order of the cells is kept.
pub(super) fn read(inputs: &[Input]) -> Result<Vec<Scored>, StageError> {
    let mut scored = Vec::new();
    for input in inputs {
        let table = Table::read_parquet(input.file("scores.parquet")?).map_err(StageError::new)?;
        let mut structures: Vec<String> = texts(&table, "structure");
        structures.sort();
        structures.dedup();
        for structure in structures {
            scored.push(read_structure(input, &table, structure));
        }
    }
    Ok(scored)
}

fn texts(table: &Table, column: &str) -> Vec<String> {
    let cells = table.texts(column).unwrap_or_default();
    cells.into_iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

fn read_structure(input: &Input, table: &Table, structure: String) -> Scored {
    let own: Vec<bool> = texts(table, "structure").iter().map(|name| *name == structure).collect();
    let summary = |column: &str| {
        let values = table.numbers(column).unwrap_or_default();
        Summary::of(values.into_iter().zip(&own).filter(|(_, own)| **own).map(|(value, _)| value))
    };
    let first = |column: &str| texts(table, column).into_iter().next().unwrap_or_default();
    let seed = table.column("rng_seed").and_then(|mut cells| match cells.next() {
        Some(Cell::Integer(seed)) => u64::try_from(*seed).ok(),
        _ => None,
    });
    let untrained = table
        .column("primary_trained")
        .is_some_and(|mut cells| cells.any(|cell| *cell == Cell::Flag(false)));
    Scored {
        method: first("method"),
        subset: first("subset"),
        unit: first("unit"),
        seed: seed.unwrap_or(0),
        trained: !untrained,
        trace: trace(input),
        values: METRICS.iter().map(|(column, ..)| summary(column)).collect(),
        structure,
    }
}

/// One table a structure.
pub(super) fn tables(
    config: &ReportConfig,
    scored: &[Scored],
    sources: &[String],
) -> Vec<ResultTable> {
    let mut structures: Vec<&str> = Vec::new();
    scored.iter().for_each(|row| {
        if !structures.contains(&row.structure.as_str()) {
            structures.push(&row.structure);
        }
    });
    structures.into_iter().map(|structure| table(config, scored, structure, sources)).collect()
}

fn table(
    config: &ReportConfig,
    scored: &[Scored],
    structure: &str,
    sources: &[String],
) -> ResultTable {
    let own: Vec<&Scored> = scored.iter().filter(|row| row.structure == structure).collect();
    let unit = own.first().map(|row| row.unit.clone()).unwrap_or_default();
    let mut rows: Vec<ResultRow> = Vec::new();
    for (method, subset) in rows_in_order(&own) {
        let runs: Vec<&&Scored> =
            own.iter().filter(|row| row.method == method && row.subset == subset).collect();
        let paper = config.paper.iter().find(|row| row.method == method && row.subset == subset);
        rows.push(ResultRow {
            label: if subset.is_empty() {
                method.to_owned()
            } else {
                format!("{method} · {subset}")
            },
            uses: uses(subset, sources.len()),
            reference: config.upper_bounds.iter().any(|name| name == method),
            note: None,
            paper: paper.map(paper_values).unwrap_or_default(),
            runs: runs.into_iter().map(|run| seed_run(run)).collect(),
        });
    }
    ResultTable {
        title: structure.to_owned(),
        caption: "Test cases; mean ± sample standard deviation over seeds of the mean over cases. Two empty masks are \
                  perfect, one empty mask scores 0 and the image diagonal."
            .to_owned(),
        paper: (!config.table.is_empty()).then(|| format!("arXiv 2304.00466v2, {}", config.table)),
        sources: sources.to_vec(),
        metrics: metrics(&unit),
        rows,
        remarks: Vec::new(),
        traces: own.iter().map(|row| row.trace.clone()).collect(),
    }
}

fn rows_in_order<'a>(own: &[&'a Scored]) -> Vec<(&'a str, &'a str)> {
    let mut rows = Vec::new();
    for row in own {
        let key = (row.method.as_str(), row.subset.as_str());
        if !rows.contains(&key) {
            rows.push(key);
        }
    }
    rows
}

/// Which of `n` sources a subset such as `1-2-5` names; empty where it names none.
fn uses(subset: &str, n: usize) -> Vec<bool> {
    let numbers: Option<Vec<usize>> = subset.split('-').map(|number| number.parse().ok()).collect();
    match numbers {
        Some(numbers) => (1..=n).map(|source| numbers.contains(&source)).collect(),
        None => Vec::new(),
    }
}

fn metrics(unit: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = METRICS[..N_SHOWN]
        .iter()
        .map(|&(_, name, factor, decimals, better)| Metric {
            name: name.to_owned(),
            unit: if factor > 1.0 { "%".to_owned() } else { unit.to_owned() },
            better,
            decimals,
        })
        .collect();
    let derived = Metric { name: "Jaccard of mean Dice".to_owned(), ..metrics[1].clone() };
    metrics.insert(2, derived);
    metrics
}

/// The paper's Jaccard index equals D / (2 − D) of its mean Dice in Tables I, II and V: it stands in that column.
fn paper_values(row: &PaperRow) -> Vec<Option<f64>> {
    vec![row.dice, None, row.jaccard, row.assd, row.hd95]
}

fn seed_run(run: &Scored) -> SeedRun {
    let shown = run.values.iter().zip(METRICS).take(N_SHOWN);
    let mut values: Vec<Option<f64>> =
        shown.map(|(summary, (_, _, factor, ..))| Some(summary.mean? * factor)).collect();
    values.insert(2, run.values[0].mean.map(|dice| jaccard_from_mean_dice(dice) * 100.0));
    if !run.trained {
        values.fill(None);
    }
    SeedRun {
        seed: run.seed,
        n_cases: Some(run.values[0].n),
        values,
        trace: Some(run.trace.clone()),
    }
}

/// Means of Dice over seeds, by method and subset, in the order of the cells.
fn mean_dice(scored: &[Scored]) -> Vec<(String, Summary)> {
    let all: Vec<&Scored> = scored.iter().filter(|row| row.trained).collect();
    let rows = rows_in_order(&all);
    let summary = |(method, subset): (&str, &str)| {
        let own = all.iter().filter(|row| row.method == method && row.subset == subset);
        let name =
            if subset.is_empty() { method.to_owned() } else { format!("{method} on {subset}") };
        (name, Summary::of(own.map(|row| row.values[0].mean)))
    };
    rows.into_iter().map(summary).collect()
}

/// The best and the worst method in one sentence.
pub(super) fn sentence(scored: &[Scored]) -> Option<String> {
    let mut rows: Vec<(String, Summary)> = mean_dice(scored);
    rows.retain(|(_, dice)| dice.mean.is_some());
    rows.sort_by(|a, b| b.1.mean.unwrap_or(0.0).total_cmp(&a.1.mean.unwrap_or(0.0)));
    let shown = |(name, dice): &(String, Summary)| {
        let sd = dice.sample_sd.map(|sd| format!(" ± {:.2}", 100.0 * sd)).unwrap_or_default();
        format!("{name} ({:.2}{sd} %)", 100.0 * dice.mean.unwrap_or(0.0))
    };
    let (best, worst) = (rows.first()?, rows.last()?);
    Some(match rows.len() {
        1 => format!("Mean Dice of {}.", shown(best)),
        _ => format!("Highest mean Dice: {}; lowest: {}.", shown(best), shown(worst)),
    })
}

/// Warnings about scores that mean nothing.
pub(super) fn warnings(scored: &[Scored]) -> Vec<Warning> {
    let untrained = scored.iter().filter(|row| !row.trained);
    untrained
        .map(|row| Warning {
            title: format!("no score is shown for {} with seed {}", row.trace.cell, row.seed),
            detail: Some("Its network was never trained; see above.".to_owned()),
        })
        .collect()
}

/// A row of `table.json`.
#[derive(Serialize)]
pub(super) struct TableRow {
    method: String,
    subset: String,
    /// The seed; absent for a mean over seeds.
    seed: Option<u64>,
    structure: String,
    metric: String,
    mean: Option<f64>,
    /// Sample standard deviation: over cases with a seed, over seeds without.
    sd: Option<f64>,
    n: usize,
}

/// Rows of `table.json`: each seed over its cases, then each method and subset over its seeds.
pub(super) fn rows(scored: &[Scored]) -> Vec<TableRow> {
    let mut rows = Vec::new();
    let trained: Vec<&Scored> = scored.iter().filter(|row| row.trained).collect();
    for run in &trained {
        for ((metric, ..), summary) in METRICS.iter().zip(&run.values) {
            rows.push(table_row(run, Some(run.seed), metric, summary));
        }
    }
    let mut done: Vec<(&str, &str, &str)> = Vec::new();
    for run in &trained {
        let key = (run.method.as_str(), run.subset.as_str(), run.structure.as_str());
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let same = |row: &&&Scored| {
            (row.method.as_str(), row.subset.as_str(), row.structure.as_str()) == key
        };
        for (i, (metric, ..)) in METRICS.iter().enumerate() {
            let over_seeds = Summary::of(trained.iter().filter(same).map(|row| row.values[i].mean));
            rows.push(table_row(run, None, metric, &over_seeds));
        }
    }
    rows
}

fn table_row(run: &Scored, seed: Option<u64>, metric: &str, summary: &Summary) -> TableRow {
    TableRow {
        method: run.method.clone(),
        subset: run.subset.clone(),
        seed,
        structure: run.structure.clone(),
        metric: metric.to_owned(),
        mean: summary.mean,
        sd: summary.sample_sd,
        n: summary.n,
    }
}
