//! Makes the labels of a simulated source.
//!
//! Source: arXiv 2304.00466v2, IV-A.1.
//! Ports: in `truth: Labels` and `simulator: Simulator` (its settings); out `labels: Labels` of kind `simulated`, with what was
//! drawn for each case in `params`.
//! Randomness: streams keyed by (seed, case, source); not by order, shard or subset. Cost: that of the simulator.

use datasets::{CaseLabel, SourceKind, shard::read_labels};
use engine::{Ctx, One, Out, Stage, StageError, inputs, outputs};
use imaging::noise::{NoiseCase, NoiseSource, simulate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PIXELS, SimulatedSource};
use crate::{
    kinds::{Labels, SimulatorSettings},
    shards::{read_json, refused, write_label_shard},
};

/// Settings of [`Apply`]: none, the simulator brings its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyConfig {}

inputs! {
    /// What [`Apply`] reads.
    pub struct ApplyInputs {
        /// Clean masks.
        truth: One<Labels>,
        /// The simulator with its strength.
        simulator: One<SimulatorSettings>,
    }
}

outputs! {
    /// What [`Apply`] makes.
    pub struct ApplyOutputs {
        /// The labels of the source.
        labels: Out<Labels>,
    }
}

/// Labels of a simulated source.
pub struct Apply;

impl Stage for Apply {
    const NAME: &'static str = "noise.apply";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Makes the labels of a simulated source with a calibrated simulator.";
    const PER_SHARD: bool = true;
    type Config = ApplyConfig;
    type Inputs = ApplyInputs;
    type Outputs = ApplyOutputs;

    fn run(
        _: &ApplyConfig,
        inputs: ApplyInputs,
        outputs: &ApplyOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let settings: SimulatedSource = read_json(inputs.simulator.file("simulator.json")?)?;
        let truth = read_labels(inputs.truth.file(ctx.shard())?).map_err(refused)?;
        let labels: Vec<CaseLabel> =
            truth.into_iter().map(|label| annotate(&settings, label)).collect::<Result<_, _>>()?;
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}

fn annotate(settings: &SimulatedSource, label: CaseLabel) -> Result<CaseLabel, StageError> {
    let source = NoiseSource {
        simulator: settings.simulator.as_simulator(),
        correlation: settings.correlation,
        seed: settings.rng_seed,
        name: &settings.source,
    };
    let case = NoiseCase { id: &label.id, mask: &label.mask, spacing: PIXELS };
    let noisy = simulate(&source, settings.strength, &case).map_err(StageError::new)?;
    let mut params: serde_json::Map<String, serde_json::Value> =
        noisy.params.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
    params.insert("clamped".to_owned(), noisy.clamped.into());
    Ok(CaseLabel {
        source: settings.source.clone(),
        kind: SourceKind::Simulated,
        mask: noisy.mask,
        probability: None,
        params: Some(serde_json::Value::Object(params).to_string()),
        ..label
    })
}
