//! Finds the strength at which a simulator's labels have a wanted mean Dice on the training split.
//!
//! Source: arXiv 2304.00466v2, IV-A.1: annotations of mean Dice 0.8 (LN-JSRT) and 0.7 (HN-JSRT).
//! Ports: in `truth: Labels`, its training shards; out `simulator: Simulator` (`simulator.json`, and `calibration.json`, or
//! `calibration.STRUCTURE.json` for each structure that has a strength of its own).
//! Randomness: streams keyed by (seed, case, source); the same draws at every strength.
//! Cost: at most 20 passes over the training masks.
//! Deviation: the paper gives no strengths and does not say whether each source or their mean has the Dice; here each has.

use std::{collections::BTreeMap, marker::PhantomData};

use datasets::CaseLabel;
use engine::{Ctx, One, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::{
    calibrate::{Calibration, CalibrationTarget, calibrate},
    noise::{Correlation, NoiseCase, NoiseSource, Simulator},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{AnySimulator, SimulatedSource};
use crate::{
    kinds::{self, TrainLabels},
    shards::{ShardsError, labels, write_json},
    unit::LengthUnit,
};

/// A simulator that has a stage of its own.
pub trait NamedSimulator:
    Simulator + Clone + Default + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Name of the stage.
    const STAGE: &'static str;
    /// Version of the stage.
    const STAGE_VERSION: u32;
    /// One sentence about the stage.
    const STAGE_ABOUT: &'static str;

    /// The simulator as one of all.
    fn wrap(&self) -> AnySimulator;
}

/// Settings of [`Calibrate`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(bound = "S: JsonSchema + Default + Serialize")]
pub struct CalibrateConfig<S> {
    /// Mean Dice of the labels against the truth, in (0, 1). Default 0.7, the paper's high noise.
    #[serde(default = "high_noise")]
    pub target_dice: f64,
    /// Accepted distance to it. Default 0.005; strengths that are whole numbers take the best one.
    #[serde(default = "half_percent")]
    pub tolerance: f64,
    /// A fixed strength in the simulator's unit, instead of a search.
    #[serde(default)]
    pub strength: Option<f64>,
    /// Whether each structure gets a strength of its own, at which it alone has the mean Dice. Default false: all share one.
    #[serde(default)]
    pub per_structure: bool,
    /// Unit of strengths and options that are lengths. Default pixels; in 3-D millimetres follow the spacing of the case.
    #[serde(default)]
    pub unit: LengthUnit,
    /// Name of the source. Default: the simulator's.
    #[serde(default)]
    pub source: Option<String>,
    /// Seed of the draws.
    #[serde(default)]
    pub rng_seed: u64,
    /// What the noise shares with other sources. Default: nothing.
    #[serde(default)]
    pub correlation: Correlation,
    /// Options of the simulator.
    #[serde(default)]
    pub options: S,
}

fn high_noise() -> f64 {
    0.7
}

fn half_percent() -> f64 {
    0.005
}

inputs! {
    /// What [`Calibrate`] reads.
    pub struct CalibrateInputs {
        /// Clean masks of the training split.
        truth: One<TrainLabels>,
    }
}

outputs! {
    /// What [`Calibrate`] makes.
    pub struct CalibrateOutputs {
        /// The simulator with its strength, and the numbers that it reached.
        simulator: Out<kinds::Simulator>,
    }
}

/// Calibration of the simulator `S`.
pub struct Calibrate<S>(PhantomData<fn() -> S>);

impl<S: NamedSimulator> Stage for Calibrate<S> {
    const NAME: &'static str = S::STAGE;
    const VERSION: u32 = S::STAGE_VERSION;
    const ABOUT: &'static str = S::STAGE_ABOUT;
    type Config = CalibrateConfig<S>;
    type Inputs = CalibrateInputs;
    type Outputs = CalibrateOutputs;

    fn check(config: &Self::Config) -> Result<(), Refusal> {
        let inside = |key: &str, value: f64, low: f64, high: f64| {
            if value > low && value < high {
                Ok(())
            } else {
                Err(Refusal::new(
                    key,
                    format!("expected a number between {low} and {high}: got {value}"),
                ))
            }
        };
        inside("target_dice", config.target_dice, 0.0, 1.0)?;
        inside("tolerance", config.tolerance, 0.0, 0.5)?;
        match config.strength {
            Some(strength) if strength < 0.0 => {
                Err(Refusal::new("strength", format!("expected a number from 0: got {strength}")))
            }
            _ => Ok(()),
        }
    }

    fn run(
        config: &Self::Config,
        inputs: CalibrateInputs,
        outputs: &CalibrateOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let truth = labels(&inputs.truth)?;
        if truth.is_empty() {
            return Err(StageError::new(ShardsError::EmptySplit {
                split: "train",
                purpose: "calibrated",
            }));
        }
        let mut simulated = SimulatedSource {
            source: config.source.clone().unwrap_or_else(|| config.options.name().to_owned()),
            simulator: config.options.wrap(),
            strength: None,
            strengths: BTreeMap::new(),
            unit: config.unit,
            correlation: config.correlation,
            rng_seed: config.rng_seed,
        };
        let mut groups: BTreeMap<&str, Vec<&CaseLabel>> = BTreeMap::new();
        for label in truth.values() {
            let group = if config.per_structure { label.structure.as_str() } else { "" };
            groups.entry(group).or_default().push(label);
        }
        for (structure, labels) in groups {
            let found = calibrate_group(config, &simulated.source, &labels)?;
            let part = if config.per_structure {
                simulated.strengths.insert(structure.to_owned(), found.strength);
                format!("calibration.{structure}.json")
            } else {
                simulated.strength = Some(found.strength);
                "calibration.json".to_owned()
            };
            write_json(&outputs.simulator, &part, &found)?;
        }
        write_json(&outputs.simulator, "simulator.json", &simulated)
    }
}

/// The strength for labels that share one.
fn calibrate_group<'a, S: NamedSimulator>(
    config: &CalibrateConfig<S>,
    name: &str,
    labels: &[&'a CaseLabel],
) -> Result<Calibration, StageError> {
    let case = |label: &&'a CaseLabel| {
        let spacing = config.unit.spacing(label);
        NoiseCase { id: &label.id, mask: &label.mask, spacing }
    };
    let cases: Vec<NoiseCase<'a>> = labels.iter().map(case).collect();
    let source = NoiseSource {
        simulator: &config.options,
        correlation: config.correlation,
        seed: config.rng_seed,
        name,
    };
    calibrate(&source, &cases, &target(config)).map_err(StageError::new)
}

/// A fixed strength is a bracket of one number in which every mean is accepted.
fn target<S>(config: &CalibrateConfig<S>) -> CalibrationTarget {
    let target = CalibrationTarget { dice: config.target_dice, ..CalibrationTarget::default() };
    match config.strength {
        None => CalibrationTarget { tolerance: config.tolerance, ..target },
        Some(strength) => {
            CalibrationTarget { tolerance: 1.0, bracket: Some([strength; 2]), ..target }
        }
    }
}
