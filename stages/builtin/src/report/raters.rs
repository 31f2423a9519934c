//! How methods agree with each rater, and with all of them at once.

use datasets::table::Table;
use engine::{Input, StageError};
use imaging::scores::Summary;
use report::{Better, Metric, ResultRow, ResultTable, SeedRun, Trace};

use super::{
    ReportConfig,
    results::{Scored, TableRow, is_trained, row_label, rows_in_order, seed, structures, texts},
    trace,
};

/// Agreement of one structure by one method with one seed: with a rater, or with all of them.
pub(super) struct Rated {
    method: String,
    subset: String,
    structure: String,
    /// The rater; empty for all together.
    rater: String,
    seed: u64,
    trained: bool,
    trace: Trace,
    /// By metric, in the order of [`METRICS`].
    values: Vec<Summary>,
}

/// Metrics of the table: column of the scores, title, factor, decimals, direction.
const METRICS: [(&str, &str, f64, usize, Better); 5] = [
    ("soft_dice", "Soft Dice", 100.0, 2, Better::Higher),
    ("energy", "Energy distance", 1.0, 3, Better::Lower),
    ("energy_distinct", "Energy distance, distinct pairs", 1.0, 3, Better::Lower),
    ("ece", "Calibration error", 100.0, 2, Better::Lower),
    ("brier", "Brier score", 1.0, 4, Better::Lower),
];

/// Reads all scores of raters; the order of the cells is kept.
pub(super) fn read(inputs: &[Input]) -> Result<Vec<Rated>, StageError> {
    let mut rated = Vec::new();
    for input in inputs {
        let table = Table::read_parquet(input.file("raters.parquet")?).map_err(StageError::new)?;
        let keys: Vec<(String, String)> =
            texts(&table, "structure").into_iter().zip(texts(&table, "rater")).collect();
        let mut groups: Vec<&(String, String)> = keys.iter().collect();
        groups.sort();
        groups.dedup();
        for group in groups {
            let own: Vec<bool> = keys.iter().map(|key| key == group).collect();
            rated.push(read_group(input, &table, group, &own));
        }
    }
    Ok(rated)
}

fn read_group(
    input: &Input,
    table: &Table,
    (structure, rater): &(String, String),
    own: &[bool],
) -> Rated {
    let first = |column: &str| texts(table, column).into_iter().next().unwrap_or_default();
    let summary = |column: &str| {
        let values = table.numbers(column).unwrap_or_default();
        Summary::of(values.into_iter().zip(own).filter(|(_, own)| **own).map(|(value, _)| value))
    };
    Rated {
        method: first("method"),
        subset: first("subset"),
        structure: structure.clone(),
        rater: rater.clone(),
        seed: seed(table),
        trained: is_trained(table),
        trace: trace(input),
        values: METRICS.iter().map(|(column, ..)| summary(column)).collect(),
    }
}

/// For each structure the Dice against each rater, and the agreement with all of them.
pub(super) fn tables(
    config: &ReportConfig,
    scored: &[Scored],
    rated: &[Rated],
) -> Vec<ResultTable> {
    let single = structures(scored.iter().filter(|row| !row.against.is_empty()));
    let mut tables: Vec<ResultTable> =
        single.into_iter().map(|structure| against_each(config, scored, structure)).collect();
    let mut together: Vec<&str> = Vec::new();
    for row in rated {
        if !together.contains(&row.structure.as_str()) {
            together.push(&row.structure);
        }
    }
    tables.extend(together.into_iter().map(|structure| against_all(config, rated, structure)));
    tables
}

fn against_each(config: &ReportConfig, scored: &[Scored], structure: &str) -> ResultTable {
    let is_own = |row: &&Scored| row.structure == structure && !row.against.is_empty();
    let own: Vec<&Scored> = scored.iter().filter(is_own).collect();
    let mut raters: Vec<&str> = own.iter().map(|row| row.against.as_str()).collect();
    raters.sort_unstable();
    raters.dedup();
    let rows = rows_in_order(&own).into_iter().map(|(method, subset)| {
        let own: Vec<&Scored> = own
            .iter()
            .copied()
            .filter(|row| row.method == method && row.subset == subset)
            .collect();
        let mut seeds: Vec<u64> = own.iter().map(|row| row.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let run = |seed: u64| {
            let of =
                |rater: &&str| own.iter().find(|row| row.seed == seed && row.against == **rater);
            let dice = |row: &&Scored| Some(100.0 * row.values[0].mean?).filter(|_| row.trained);
            SeedRun {
                seed,
                n_cases: own.first().map(|row| row.values[0].n),
                values: raters.iter().map(|rater| of(rater).and_then(dice)).collect(),
                trace: None,
            }
        };
        row(config, method, subset, seeds.into_iter().map(run).collect())
    });
    let metric = |rater: &&str| Metric {
        name: (*rater).to_owned(),
        unit: "%".to_owned(),
        better: Better::Higher,
        decimals: 2,
    };
    ResultTable {
        title: format!("{structure}, Dice against each rater"),
        caption: "Test cases; the predicted masks against what each rater drew.".to_owned(),
        metrics: raters.iter().map(metric).collect(),
        rows: rows.collect(),
        traces: own.iter().map(|row| row.trace.clone()).collect(),
        ..ResultTable::default()
    }
}

fn against_all(config: &ReportConfig, rated: &[Rated], structure: &str) -> ResultTable {
    let own: Vec<&Rated> =
        rated.iter().filter(|row| row.structure == structure && row.rater.is_empty()).collect();
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for row in &own {
        if !keys.contains(&(&row.method, &row.subset)) {
            keys.push((&row.method, &row.subset));
        }
    }
    // A method that makes one mask a case has no distinct pairs.
    let has_values = |&metric: &usize| own.iter().any(|row| row.values[metric].mean.is_some());
    let shown: Vec<usize> = (0..METRICS.len()).filter(has_values).collect();
    let value = |row: &Rated, metric: usize| {
        let (_, _, factor, ..) = METRICS[metric];
        Some(row.values[metric].mean? * factor).filter(|_| row.trained)
    };
    let run = |row: &&Rated| SeedRun {
        seed: row.seed,
        n_cases: Some(row.values[0].n),
        values: shown.iter().map(|&metric| value(row, metric)).collect(),
        trace: Some(row.trace.clone()),
    };
    let rows = keys.into_iter().map(|(method, subset)| {
        let runs = own.iter().filter(|row| row.method == method && row.subset == subset).map(run);
        row(config, method, subset, runs.collect())
    });
    let metric = |&metric: &usize| {
        let (_, name, factor, decimals, better) = METRICS[metric];
        let unit = if factor > 1.0 { "%".to_owned() } else { String::new() };
        Metric { name: name.to_owned(), unit, better, decimals }
    };
    ResultTable {
        title: format!("{structure}, against all raters"),
        caption: "Test cases. Soft Dice: probabilities and mean of the raters cut at the same thresholds. Energy \
                  distance: of 1 − IoU, pairs of a mask with itself included. Calibration error and Brier score: \
                  over all pixels and raters."
            .to_owned(),
        metrics: shown.iter().map(metric).collect(),
        rows: rows.collect(),
        traces: own.iter().map(|row| row.trace.clone()).collect(),
        ..ResultTable::default()
    }
}

fn row(config: &ReportConfig, method: &str, subset: &str, runs: Vec<SeedRun>) -> ResultRow {
    ResultRow {
        label: row_label(method, subset),
        reference: config.upper_bounds.iter().any(|name| name == method),
        runs,
        ..ResultRow::default()
    }
}

/// Rows of `table.json`: each seed over its cases, then the means over seeds; those of a single rater say so in `metric`:
/// `ece against rater1`.
pub(super) fn rows(rated: &[Rated]) -> Vec<TableRow> {
    let trained: Vec<&Rated> = rated.iter().filter(|row| row.trained).collect();
    let mut rows = Vec::new();
    let mut done: Vec<[&str; 4]> = Vec::new();
    for run in &trained {
        rows.extend(run.table_rows(Some(run.seed), &run.values));
    }
    for run in &trained {
        if done.contains(&run.key()) {
            continue;
        }
        done.push(run.key());
        let same = |row: &&&Rated| row.key() == run.key();
        let mean = |metric: usize| {
            Summary::of(trained.iter().filter(same).map(|row| row.values[metric].mean))
        };
        rows.extend(run.table_rows(None, &[0, 1, 2, 3, 4].map(mean)));
    }
    rows
}

impl Rated {
    /// What the runs of all seeds share.
    fn key(&self) -> [&str; 4] {
        [&self.method, &self.subset, &self.structure, &self.rater].map(String::as_str)
    }

    /// A row a metric that has a value.
    fn table_rows(&self, seed: Option<u64>, values: &[Summary]) -> Vec<TableRow> {
        let valued = METRICS.iter().zip(values).filter(|(_, summary)| summary.mean.is_some());
        let row =
            |((metric, ..), summary): (&(&str, &str, f64, usize, Better), &Summary)| TableRow {
                method: self.method.clone(),
                subset: self.subset.clone(),
                seed,
                structure: self.structure.clone(),
                metric: match self.rater.as_str() {
                    "" => (*metric).to_owned(),
                    rater => format!("{metric} against {rater}"),
                },
                mean: summary.mean,
                sd: summary.sample_sd,
                n: summary.n,
            };
        valued.map(row).collect()
    }
}
