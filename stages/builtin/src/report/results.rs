//! Scores per method, subset and seed, beside the paper's.

use datasets::table::{Cell, Table};
use engine::{Input, StageError};
use imaging::scores::{Summary, jaccard_from_mean_dice};
use report::{Better, Metric, ResultRow, ResultTable, SeedRun, Trace, Warning};
use serde::Serialize;

use super::{PaperRow, ReportConfig, trace};

/// Scores of one structure by one method on one subset with one seed.
pub(super) struct Scored {
    pub(super) method: String,
    pub(super) subset: String,
    /// Who drew the reference, where it is not the truth.
    pub(super) against: String,
    pub(super) structure: String,
    unit: String,
    /// Tolerance of the surface Dice.
    tolerance: Option<f64>,
    pub(super) seed: u64,
    pub(super) trained: bool,
    pub(super) trace: Trace,
    /// By metric, in the order of [`METRICS`].
    pub(super) values: Vec<Summary>,
}

/// Metrics of the table: column of the scores, title, factor, decimals, direction.
const METRICS: [(&str, &str, f64, usize, Better); 8] = [
    ("dice", "Dice", 100.0, 2, Better::Higher),
    ("jaccard", "Jaccard per case", 100.0, 2, Better::Higher),
    ("assd", "ASD", 1.0, 2, Better::Lower),
    ("hd95", "95HD", 1.0, 2, Better::Lower),
    ("surface_dice", "Surface Dice", 100.0, 2, Better::Higher),
    ("hd95_pooled", "95HD pooled", 1.0, 2, Better::Lower),
    ("volume_similarity", "Volume similarity", 100.0, 2, Better::Higher),
    ("volume_difference", "Volume difference", 100.0, 2, Better::Lower),
];

/// Metrics that the page shows; `table.json` has them all.
const N_SHOWN: usize = 5;

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

pub(super) fn texts(table: &Table, column: &str) -> Vec<String> {
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
    Scored {
        method: first("method"),
        subset: first("subset"),
        against: first("against"),
        unit: first("unit"),
        tolerance: table.numbers("tolerance").and_then(|all| all.into_iter().flatten().next()),
        seed: seed(table),
        trained: is_trained(table),
        trace: trace(input),
        values: METRICS.iter().map(|(column, ..)| summary(column)).collect(),
        structure,
    }
}

/// Seed of the training whose predictions a table of scores is about.
pub(super) fn seed(table: &Table) -> u64 {
    let seed = table.column("rng_seed").and_then(|mut cells| match cells.next() {
        Some(Cell::Integer(seed)) => u64::try_from(*seed).ok(),
        _ => None,
    });
    seed.unwrap_or(0)
}

/// Whether the network was trained at all.
pub(super) fn is_trained(table: &Table) -> bool {
    let flags = table.column("primary_trained");
    !flags.is_some_and(|mut cells| cells.any(|cell| *cell == Cell::Flag(false)))
}

/// One table a structure, of what was scored against the truth.
pub(super) fn tables(
    config: &ReportConfig,
    scored: &[Scored],
    sources: &[String],
) -> Vec<ResultTable> {
    let names = structures(scored.iter().filter(|row| row.against.is_empty()));
    names.into_iter().map(|structure| table(config, scored, structure, sources)).collect()
}

/// Names of the structures, each once, in the order in which they first come.
pub(super) fn structures<'a>(scored: impl Iterator<Item = &'a Scored>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for row in scored {
        if !names.contains(&row.structure.as_str()) {
            names.push(&row.structure);
        }
    }
    names
}

fn table(
    config: &ReportConfig,
    scored: &[Scored],
    structure: &str,
    sources: &[String],
) -> ResultTable {
    let is_own = |row: &&Scored| row.structure == structure && row.against.is_empty();
    let own: Vec<&Scored> = scored.iter().filter(is_own).collect();
    let mut rows: Vec<ResultRow> = Vec::new();
    for (method, subset) in rows_in_order(&own) {
        let runs: Vec<&&Scored> =
            own.iter().filter(|row| row.method == method && row.subset == subset).collect();
        let paper = config.paper.iter().find(|row| {
            let of_structure = row.structure.is_empty() || row.structure == structure;
            row.method == method && row.subset == subset && of_structure
        });
        rows.push(ResultRow {
            label: row_label(method, subset),
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
        metrics: metrics(own.first().copied()),
        rows,
        remarks: Vec::new(),
        traces: own.iter().map(|row| row.trace.clone()).collect(),
    }
}

/// What a row of a table is called.
pub(super) fn row_label(method: &str, subset: &str) -> String {
    if subset.is_empty() { method.to_owned() } else { format!("{method} · {subset}") }
}

/// Methods and subsets, each pair once, in the order in which they first come.
pub(super) fn rows_in_order<'a>(own: &[&'a Scored]) -> Vec<(&'a str, &'a str)> {
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

fn metrics(scored: Option<&Scored>) -> Vec<Metric> {
    let unit = scored.map_or("", |row| row.unit.as_str());
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
    if let (Some(tolerance), Some(last)) =
        (scored.and_then(|row| row.tolerance), metrics.last_mut())
    {
        last.name = format!("{} at {tolerance} {unit}", last.name);
    }
    metrics
}

/// The paper's Jaccard index equals D / (2 − D) of its mean Dice in Tables I, II and V: it stands in that column.
fn paper_values(row: &PaperRow) -> Vec<Option<f64>> {
    vec![row.dice, None, row.jaccard, row.assd, row.hd95, None]
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

/// Means of Dice over seeds of one structure, by method and subset, in the order of the cells.
fn mean_dice(scored: &[Scored], structure: &str) -> Vec<(String, Summary)> {
    let is_own =
        |row: &&Scored| row.trained && row.against.is_empty() && row.structure == structure;
    let all: Vec<&Scored> = scored.iter().filter(is_own).collect();
    let rows = rows_in_order(&all);
    let summary = |(method, subset): (&str, &str)| {
        let own = all.iter().filter(|row| row.method == method && row.subset == subset);
        let name =
            if subset.is_empty() { method.to_owned() } else { format!("{method} on {subset}") };
        (name, Summary::of(own.map(|row| row.values[0].mean)))
    };
    rows.into_iter().map(summary).collect()
}

/// The best and the worst method in one sentence, for each structure where there are several.
pub(super) fn sentence(scored: &[Scored]) -> Option<String> {
    let names = structures(scored.iter().filter(|row| row.against.is_empty()));
    let said = names.iter().filter_map(|structure| {
        let said = sentence_of(mean_dice(scored, structure))?;
        Some(if names.len() == 1 { said } else { format!("{structure}: {said}") })
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| said.join(" "))
}

fn sentence_of(mut rows: Vec<(String, Summary)>) -> Option<String> {
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
    let untrained = scored.iter().filter(|row| !row.trained && row.against.is_empty());
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
    pub(super) method: String,
    pub(super) subset: String,
    /// The seed; absent for a mean over seeds.
    pub(super) seed: Option<u64>,
    pub(super) structure: String,
    pub(super) metric: String,
    pub(super) mean: Option<f64>,
    /// Sample standard deviation: over cases with a seed, over seeds without.
    pub(super) sd: Option<f64>,
    pub(super) n: usize,
}

/// Rows of `table.json`: each seed over its cases, then each method and subset over its seeds.
///
/// What was scored against somebody else than the truth says so in `metric`: `dice against rater1`.
pub(super) fn rows(scored: &[Scored]) -> Vec<TableRow> {
    let mut rows = Vec::new();
    let trained: Vec<&Scored> = scored.iter().filter(|row| row.trained).collect();
    for run in &trained {
        for ((metric, ..), summary) in METRICS.iter().zip(&run.values) {
            rows.push(table_row(run, Some(run.seed), metric, summary));
        }
    }
    let mut done: Vec<[&str; 4]> = Vec::new();
    for run in &trained {
        if done.contains(&run.key()) {
            continue;
        }
        done.push(run.key());
        let same = |row: &&&Scored| row.key() == run.key();
        for (i, (metric, ..)) in METRICS.iter().enumerate() {
            let over_seeds = Summary::of(trained.iter().filter(same).map(|row| row.values[i].mean));
            rows.push(table_row(run, None, metric, &over_seeds));
        }
    }
    rows
}

impl Scored {
    /// What the runs of all seeds share.
    fn key(&self) -> [&str; 4] {
        [&self.method, &self.subset, &self.structure, &self.against].map(String::as_str)
    }
}

fn table_row(run: &Scored, seed: Option<u64>, metric: &str, summary: &Summary) -> TableRow {
    let metric = match run.against.as_str() {
        "" => metric.to_owned(),
        against => format!("{metric} against {against}"),
    };
    TableRow {
        method: run.method.clone(),
        subset: run.subset.clone(),
        seed,
        structure: run.structure.clone(),
        metric,
        mean: summary.mean,
        sd: summary.sample_sd,
        n: summary.n,
    }
}
