//! Label sampling: one source, chosen at random, speaks for each case.
//!
//! Source: Jensen et al., MICCAI 2019. Deviation: the draw is stored, not repeated in every iteration; see
//! [`imaging::fusion::sample_source`].
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `sample` with the name of
//! the chosen source in `params`.
//! Randomness: streams keyed by (seed, case, source); not by order, shard or subset. Cost: none.

use datasets::CaseLabel;
use engine::{Ctx, Many, Out, Stage, StageError, inputs, outputs};
use imaging::{ImagingError, fusion::sample_source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{explained, fused};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// Settings of [`Sample`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// Seed of the draws.
    pub rng_seed: u64,
}

inputs! {
    /// What [`Sample`] reads.
    pub struct SampleInputs {
        /// Labels of the sources.
        annotations: Many<Labels>,
    }
}

outputs! {
    /// What [`Sample`] makes.
    pub struct SampleOutputs {
        /// The fused label of each case.
        labels: Out<Labels>,
    }
}

/// Label sampling: one source, chosen at random, speaks for each case.
pub struct Sample;

impl Stage for Sample {
    const NAME: &'static str = "fuse.sample";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Takes for each case the label of one source, chosen at random.";
    const PER_SHARD: bool = true;
    type Config = SampleConfig;
    type Inputs = SampleInputs;
    type Outputs = SampleOutputs;

    fn run(
        config: &SampleConfig,
        inputs: SampleInputs,
        outputs: &SampleOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = aligned_labels(&inputs.annotations, ctx.shard())?;
        let labels = cases.iter().map(|labels| fuse(labels, config));
        write_label_shard(&outputs.labels, ctx, &labels.collect::<Result<Vec<_>, _>>()?)
    }
}

fn fuse(labels: &[CaseLabel], config: &SampleConfig) -> Result<CaseLabel, StageError> {
    let sources: Vec<&str> = labels.iter().map(|label| label.source.as_str()).collect();
    let chosen = sample_source(&sources, &labels[0].id, config.rng_seed);
    let chosen = chosen.ok_or_else(|| StageError::new(ImagingError::NoMasks))?;
    let label = fused(labels, "sample", labels[chosen].mask.clone());
    let probability = labels[chosen].probability.clone();
    Ok(explained(label, probability, &json!({ "source": sources[chosen] })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn the_chosen_source_is_named_and_does_not_depend_on_the_order() {
        let mut drawn = [label("a", "x", mask!["# # ."]), label("a", "y", mask![". # ."])];
        let found = fuse(&drawn, &SampleConfig::default()).unwrap();
        drawn.reverse();
        assert_eq!(fuse(&drawn, &SampleConfig::default()).unwrap(), found);
        let params: serde_json::Value = serde_json::from_str(&found.params.unwrap()).unwrap();
        let name = params["source"].as_str().unwrap();
        let own = drawn.iter().find(|label| label.source == name).unwrap();
        assert_eq!(found.mask, own.mask);
    }
}
