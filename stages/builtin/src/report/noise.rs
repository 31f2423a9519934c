//! How near the simulated sources came to their target, and how good their vote is.

use engine::{Input, StageError};
use imaging::{
    calibrate::Calibration,
    scores::{EmptyPolicy, Overlap},
};
use report::{NoiseRow, NoiseTable, Spread};

use super::trace;
use crate::{
    noise::SimulatedSource,
    shards::{labels, read_json},
};

/// Names of the simulated sources.
pub(super) fn source_names(inputs: &[Input]) -> Result<Vec<String>, StageError> {
    let name =
        |input: &Input| Ok(read_json::<SimulatedSource>(input.file("simulator.json")?)?.source);
    inputs.iter().map(name).collect()
}

/// The table of all simulators; none without one.
pub(super) fn tables(
    inputs: &[Input],
    vote: Option<&Input>,
    truth: Option<&Input>,
) -> Result<Vec<NoiseTable>, StageError> {
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let rows = inputs.iter().map(rows).collect::<Result<Vec<_>, StageError>>()?.concat();
    let vote_dice = match (vote, truth) {
        (Some(vote), Some(truth)) => Some(spread_of_vote(vote, truth)?),
        _ => None,
    };
    Ok(vec![NoiseTable {
        title: "Simulated sources, training split".to_owned(),
        caption: "Dice of the sources' masks against the truth at the strength that the calibration found.".to_owned(),
        rows,
        vote: vote_dice,
        traces: inputs.iter().chain(vote).map(trace).collect(),
    }])
}

/// A row, or one a structure that has a strength of its own.
fn rows(input: &Input) -> Result<Vec<NoiseRow>, StageError> {
    let source: SimulatedSource = read_json(input.file("simulator.json")?)?;
    if source.strengths.is_empty() {
        let found = read_json(input.file("calibration.json")?)?;
        return Ok(vec![row(&source, source.source.clone(), found)]);
    }
    let structures = source.strengths.keys().map(|structure| {
        let found = read_json(input.file(&format!("calibration.{structure}.json"))?)?;
        Ok(row(&source, format!("{}, {structure}", source.source), found))
    });
    structures.collect()
}

fn row(source: &SimulatedSource, name: String, found: Calibration) -> NoiseRow {
    NoiseRow {
        source: name,
        target: Some(found.target),
        achieved: Spread {
            mean: Some(found.mean_dice),
            sd: Some(found.sd_dice),
            min: Some(found.min_dice),
            max: Some(found.max_dice),
            n: found.n_cases,
            values: Vec::new(),
        },
        strength: Some(found.strength),
        strength_name: match found.unit {
            imaging::noise::StrengthUnit::Length => format!("length, {}", source.unit.name()),
            imaging::noise::StrengthUnit::Points => "points".to_owned(),
            imaging::noise::StrengthUnit::Probability => "probability".to_owned(),
            imaging::noise::StrengthUnit::Steps => "steps".to_owned(),
            imaging::noise::StrengthUnit::Share => "share".to_owned(),
        },
        evaluations: u32::try_from(found.evaluations).ok(),
    }
}

fn spread_of_vote(vote: &Input, truth: &Input) -> Result<Spread, StageError> {
    let truth = labels(truth)?;
    let mut values = Vec::new();
    for (key, label) in labels(vote)? {
        if let Some(reference) = truth.get(&key) {
            let overlap = Overlap::count(&reference.mask, &label.mask).map_err(StageError::new)?;
            values.extend(overlap.dice(EmptyPolicy::default()));
        }
    }
    Ok(Spread::of(values))
}
