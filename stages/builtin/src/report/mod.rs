//! One HTML page of an experiment: table beside the paper's, curves, calibration, gallery, provenance.
//!
//! Source: Tables I to V and Fig. 7 of arXiv 2304.00466v2.
//! Ports: in `cases`, `scores`, `raters`, `logs`, `calibrations`, `vote`, `truth`, `assessments`; out `report: Report`
//! (`index.html`, and `table.json` with one row a method, subset, seed, structure and metric).
//! Randomness: none. Cost: seconds.

mod curves;
mod gallery;
mod noise;
mod raters;
mod results;

use std::collections::BTreeMap;

use datasets::table::Table;
use engine::{Ctx, Input, Named, One, Optional, Out, Stage, StageError, inputs, outputs};
use report::{CellOutput, CellRecord, Fact, Head, ReportData, Setting, Trace, Warning, render};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{self, CaseTable, RaterScores, Scores, TrainLabels, TrainingLog},
    shards::{read_json, write_json},
    train::TrainingSummary,
};

/// Settings of [`MakeReport`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Title of the page.
    pub title: String,
    /// Scale of the experiment.
    pub scale: String,
    /// The whole configuration, as TOML.
    pub resolved: String,
    /// The paper's table that the results stand beside, for example `Table I`.
    pub table: String,
    /// Values that the paper prints.
    pub paper: Vec<PaperRow>,
    /// A method that is no competitor, such as training on clean masks.
    pub upper_bounds: Vec<String>,
}

/// One row that the paper prints; percent for Dice and Jaccard.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PaperRow {
    /// Name of the method, as the scores have it.
    pub method: String,
    /// Name of the subset, as the scores have it.
    pub subset: String,
    /// The structure; empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub structure: String,
    /// Dice.
    pub dice: Option<f64>,
    /// Jaccard index.
    pub jaccard: Option<f64>,
    /// Average surface distance.
    pub assd: Option<f64>,
    /// 95th percentile of the surface distance.
    pub hd95: Option<f64>,
}

inputs! {
    /// What [`MakeReport`] reads.
    pub struct ReportInputs {
        /// The table of cases.
        cases: One<CaseTable>,
        /// Scores, one artifact a method, subset and seed.
        scores: Named<Scores>,
        /// Agreement with raters, one artifact a method, subset and seed.
        raters: Named<RaterScores>,
        /// Metrics per epoch, one artifact a training.
        logs: Named<TrainingLog>,
        /// Simulators, in the order of the sources.
        calibrations: Named<kinds::Simulator>,
        /// Vote of the sources.
        vote: Optional<TrainLabels>,
        /// Clean masks, for the Dice of the vote.
        truth: Optional<TrainLabels>,
        /// Maps for the gallery.
        assessments: Named<kinds::Assessment>,
    }
}

outputs! {
    /// What [`MakeReport`] makes.
    pub struct ReportOutputs {
        /// The page and its numbers.
        report: Out<kinds::Report>,
    }
}

/// The report of an experiment.
pub struct MakeReport;

impl Stage for MakeReport {
    const NAME: &'static str = "report";
    const VERSION: u32 = 5;
    const ABOUT: &'static str =
        "Makes one HTML page of an experiment's scores, curves, calibrations and maps.";
    type Config = ReportConfig;
    type Inputs = ReportInputs;
    type Outputs = ReportOutputs;

    fn run(
        config: &ReportConfig,
        inputs: ReportInputs,
        outputs: &ReportOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let logs = read_logs(&inputs.logs)?;
        let sources = noise::source_names(&inputs.calibrations)?;
        let scored = results::read(&inputs.scores)?;
        let rated = raters::read(&inputs.raters)?;
        let mut results = results::tables(config, &scored, &sources);
        results.extend(raters::tables(config, &scored, &rated));
        let mut head = head(config, &inputs, &logs)?;
        head.sentence = results::sentence(&scored);
        head.warnings.extend(results::warnings(&scored));
        let page = render(&ReportData {
            head,
            results,
            curves: curves::figures(&logs),
            noise: noise::tables(&inputs.calibrations, inputs.vote.get(), inputs.truth.get())?,
            galleries: gallery::galleries(&inputs.assessments)?,
            cells: cells(&inputs),
            resolved_toml: Some(config.resolved.clone()).filter(|text| !text.is_empty()),
        });
        let page = page.map_err(StageError::new)?;
        outputs.report.write("index.html", page.as_bytes())?;
        let mut rows = results::rows(&scored);
        rows.extend(raters::rows(&rated));
        write_json(&outputs.report, "table.json", &rows)
    }
}

/// A training with its metrics per epoch.
struct Log {
    /// Node and values of the cell without its seed.
    label: String,
    trace: Trace,
    summary: TrainingSummary,
    metrics: Table,
}

fn read_logs(inputs: &[Input]) -> Result<Vec<Log>, StageError> {
    let read = |input: &Input| {
        Ok(Log {
            label: without_axis(&input.cell, "seed"),
            trace: trace(input),
            summary: read_json(input.file("summary.json")?)?,
            metrics: Table::read_parquet(input.file("metrics.parquet")?)
                .map_err(StageError::new)?,
        })
    };
    inputs.iter().map(read).collect()
}

/// A cell's node and its values on all axes but one: `train[seed=0,subset=1-2]` gives `train 1-2`.
fn without_axis(cell: &str, axis: &str) -> String {
    let Some((node, binding)) = cell.strip_suffix(']').and_then(|name| name.split_once('[')) else {
        return cell.to_owned();
    };
    let pairs = binding.split(',').filter_map(|pair| pair.split_once('='));
    let kept = pairs.filter(|(name, _)| *name != axis).map(|(_, value)| value);
    [node].into_iter().chain(kept).collect::<Vec<_>>().join(" ")
}

fn trace(input: &Input) -> Trace {
    Trace { cell: input.cell.clone(), artifact: input.digest.to_string() }
}

fn head(config: &ReportConfig, inputs: &ReportInputs, logs: &[Log]) -> Result<Head, StageError> {
    let cases =
        Table::read_parquet(inputs.cases.file("cases.parquet")?).map_err(StageError::new)?;
    let texts = |name: &str| -> Vec<String> {
        let column = cases.texts(name).unwrap_or_default();
        column.into_iter().flatten().map(str::to_owned).collect()
    };
    let mut splits: BTreeMap<String, usize> = BTreeMap::new();
    texts("split").into_iter().for_each(|split| *splits.entry(split).or_default() += 1);
    let count = |split: &str| splits.get(split).copied().unwrap_or(0);
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
    let seeds: std::collections::BTreeSet<u64> =
        logs.iter().map(|log| log.summary.rng_seed).collect();
    Ok(Head {
        title: config.title.clone(),
        scale: Some(config.scale.clone()).filter(|scale| !scale.is_empty()),
        dataset: texts("dataset").into_iter().next(),
        facts: vec![
            fact(
                "cases (train / val / test)",
                format!("{} / {} / {}", count("train"), count("val"), count("test")),
            ),
            fact("seeds", seeds.len().to_string()),
            fact("trainings", logs.len().to_string()),
        ],
        sentence: None,
        settings: settings(logs),
        warnings: logs
            .iter()
            .filter(|log| !log.summary.primary_trained)
            .map(never_trained)
            .collect(),
    })
}

fn never_trained(log: &Log) -> Warning {
    Warning {
        title: format!("the primary predictor never trained in {}", log.trace.cell),
        detail: Some(
            "The quality module sent every case to the auxiliary predictor, so the predictions are those of random \
             weights and no score of them means anything."
                .to_owned(),
        ),
    }
}

/// The settings of one training of each kind of network, which the paper leaves open.
fn settings(logs: &[Log]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut seen = Vec::new();
    for log in logs {
        let node = log.label.split(' ').next().unwrap_or_default().to_owned();
        if seen.contains(&node) {
            continue;
        }
        let value = serde_json::json!({
            "parameters": log.summary.n_parameters,
            "architecture": log.summary.architecture,
            "training": log.summary.training,
        });
        flatten(&node, &value, &mut settings);
        seen.push(node);
    }
    settings
}

fn flatten(name: &str, value: &serde_json::Value, settings: &mut Vec<Setting>) {
    match value.as_object() {
        Some(fields) => fields
            .iter()
            .for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, settings)),
        None => {
            settings.push(Setting { name: name.to_owned(), value: value.to_string(), note: None })
        }
    }
}

/// Every artifact that the page was made from.
fn cells(inputs: &ReportInputs) -> Vec<CellRecord> {
    let single = [Some(&*inputs.cases), inputs.vote.get(), inputs.truth.get()];
    let lists = [
        &*inputs.scores,
        &*inputs.raters,
        &*inputs.logs,
        &*inputs.calibrations,
        &*inputs.assessments,
    ];
    let all = single.into_iter().flatten().chain(lists.into_iter().flatten());
    let record = |input: &Input| CellRecord {
        name: input.cell.clone(),
        outputs: vec![CellOutput {
            port: input.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", "),
            artifact: input.digest.to_string(),
        }],
        ..CellRecord::default()
    };
    all.map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::without_axis;

    #[test]
    fn an_axis_leaves_the_name() {
        assert_eq!(without_axis("train[seed=0,subset=1-2]", "seed"), "train 1-2");
        assert_eq!(without_axis("train[seed=0]", "seed"), "train");
        assert_eq!(without_axis("train", "seed"), "train");
    }
}
