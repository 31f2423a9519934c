//! Curves of the trainings over their epochs.

use report::{CurveFigure, Line, Panel, Series};

use super::Log;

/// Columns of the metrics with their titles and axes.
const PANELS: [(&str, &str, &str, Option<[f64; 2]>); 5] = [
    ("loss", "Loss", "loss", None),
    ("val_dice_vote", "Validation Dice against the vote", "Dice", None),
    ("val_dice_truth", "Validation Dice against the truth", "Dice", None),
    ("primary_share", "Cases that trained the primary predictor", "share", Some([0.0, 1.0])),
    ("u_a", "Mean u_a (Eq. 6)", "u_a", None),
];

/// The figure of all trainings, and one of the uncertainties of the training with most sources.
pub(super) fn figures(logs: &[Log]) -> Vec<CurveFigure> {
    if logs.is_empty() {
        return Vec::new();
    }
    let mut figures = vec![CurveFigure {
        title: "Training".to_owned(),
        caption: "One line a seed and the mean over seeds.".to_owned(),
        x_label: "epoch".to_owned(),
        panels: PANELS.iter().filter_map(|panel| comparison(logs, *panel)).collect(),
        traces: logs.iter().map(|log| log.trace.clone()).collect(),
    }];
    figures.extend(uncertainty(logs));
    figures
}

fn comparison(
    logs: &[Log],
    (column, title, y_label, y_range): (&str, &str, &str, Option<[f64; 2]>),
) -> Option<Panel> {
    let mut series: Vec<Series> = Vec::new();
    for log in logs {
        let Some(line) = line(log, column) else { continue };
        match series.iter_mut().find(|known| known.label == log.label) {
            Some(known) => known.lines.push(line),
            None => series.push(Series { label: log.label.clone(), lines: vec![line] }),
        }
    }
    (!series.is_empty()).then(|| Panel {
        title: title.to_owned(),
        y_label: y_label.to_owned(),
        y_range,
        series,
        ..Panel::default()
    })
}

/// The values of a column by epoch; none where the column is absent or empty.
fn line(log: &Log, column: &str) -> Option<Line> {
    let values = log.metrics.numbers(column)?;
    let points =
        values.iter().enumerate().filter_map(|(epoch, value)| Some([epoch as f64, (*value)?]));
    let points: Vec<[f64; 2]> = points.collect();
    (!points.is_empty()).then_some(Line { seed: Some(log.summary.rng_seed), points })
}

fn uncertainty(logs: &[Log]) -> Option<CurveFigure> {
    let most = logs.iter().map(|log| log.summary.sources.len()).max().filter(|n| *n > 1)?;
    let widest: Vec<&Log> = logs.iter().filter(|log| log.summary.sources.len() == most).collect();
    let sources = &widest.first()?.summary.sources;
    let series = sources.iter().filter_map(|source| {
        let column = format!("uncertainty_{source}");
        let lines: Vec<Line> = widest.iter().filter_map(|log| line(log, &column)).collect();
        (!lines.is_empty()).then(|| Series { label: source.clone(), lines })
    });
    let series: Vec<Series> = series.collect();
    (!series.is_empty()).then(|| CurveFigure {
        title: "Uncertainty of the sources".to_owned(),
        caption: format!("Mean uncertainty σ per source in {}.", widest[0].label),
        x_label: "epoch".to_owned(),
        panels: vec![Panel {
            title: "Mean uncertainty".to_owned(),
            y_label: "σ".to_owned(),
            series,
            ..Panel::default()
        }],
        traces: widest.iter().map(|log| log.trace.clone()).collect(),
    })
}
