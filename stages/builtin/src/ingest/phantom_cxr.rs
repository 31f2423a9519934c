//! Drawn chest X-rays with their truth: the default data set, which needs no download.
//!
//! Source: [`datasets::phantom::ChestPhantom`], measured on JSRT films.
//! Ports: no inputs; out `images`, `truth`, `cases` (with the share of the lungs that each film shows as `quality`).
//! Randomness: streams keyed by (seed, case); the split by (seed, patient). Cost: milliseconds a film.

use std::{collections::BTreeMap, num::NonZeroUsize};

use datasets::{
    CasePatient, Split, SplitSizes,
    phantom::{ChestPhantom, ChestStructure, names},
    split_cases,
    table::{Cell, Kind},
};
use engine::{Ctx, Refusal, Stage, StageError, inputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shards::refused;

use super::{IngestOutputs, sixteen, write_cases};

/// Settings of [`PhantomCxr`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhantomCxrConfig {
    /// Number of films. Default 247, as many as JSRT has.
    #[serde(default = "as_jsrt")]
    pub count: usize,
    /// Seed of all films.
    #[serde(default)]
    pub rng_seed: u64,
    /// How films are drawn.
    #[serde(default)]
    pub phantom: ChestPhantom,
    /// Structures of the truth. Default the lungs.
    #[serde(default = "lungs")]
    pub structures: Vec<ChestStructure>,
    /// Sizes of the splits. Default the paper's 165, 12 and the rest.
    #[serde(default)]
    pub split: SplitSizes,
    /// Cases of a shard in the mean. Default 16.
    #[serde(default = "sixteen")]
    pub shard_cases: NonZeroUsize,
}

fn as_jsrt() -> usize {
    247
}

fn lungs() -> Vec<ChestStructure> {
    vec![ChestStructure::Lung]
}

inputs! {
    /// [`PhantomCxr`] reads nothing.
    pub struct PhantomCxrInputs {}
}

/// Drawn chest X-rays.
pub struct PhantomCxr;

impl Stage for PhantomCxr {
    const NAME: &'static str = "ingest.phantom_cxr";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Draws chest X-rays with their truth.";
    type Config = PhantomCxrConfig;
    type Inputs = PhantomCxrInputs;
    type Outputs = IngestOutputs;

    fn check(config: &PhantomCxrConfig) -> Result<(), Refusal> {
        config.phantom.check().map_err(|error| Refusal::new("phantom", error.to_string()))?;
        if config.structures.is_empty() {
            return Err(Refusal::new("structures", "expected at least one structure: got none"));
        }
        Ok(())
    }

    fn run(
        config: &PhantomCxrConfig,
        _: PhantomCxrInputs,
        outputs: &IngestOutputs,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let ids: BTreeMap<String, String> = (0..config.count).map(names).collect();
        let patients: Vec<CasePatient<'_>> =
            ids.iter().map(|(case, patient)| CasePatient { case, patient }).collect();
        let splits = split_cases(&patients, config.split).map_err(refused)?;
        let wanted: Vec<(String, String, Split)> = ids
            .iter()
            .filter_map(|(case, patient)| Some((case.clone(), patient.clone(), *splits.get(case)?)))
            .collect();
        let drawn = config.phantom.draw_all(config.rng_seed, &wanted).map_err(refused)?;
        let cases: Vec<_> = drawn
            .into_iter()
            .map(|case| {
                let mut labels = case.labels();
                labels.retain(|label| {
                    config.structures.iter().any(|structure| structure.name() == label.structure)
                });
                let quality = Cell::from(case.quality);
                (case.image, labels, vec![quality])
            })
            .collect();
        write_cases(outputs, &cases, &[("quality", Kind::Number)], config.shard_cases)
    }
}
