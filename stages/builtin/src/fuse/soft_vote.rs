//! Mean of the masks of several sources, and the mask where it exceeds a threshold.
//!
//! Source: the mean label of learning from several annotators; thresholds as in the QUBIQ challenge.
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `soft_vote` with the mean as
//! probability.
//! Randomness: none. Cost: two passes over each mask.

use datasets::CaseLabel;
use engine::{Ctx, Many, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::fusion::{mean_mask, soft_vote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{explained, fused, named, within};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// Settings of [`SoftVote`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SoftVoteConfig {
    /// Share of the sources that a voxel must exceed to be foreground, in [0, 1]. Default 0.5, the majority.
    pub threshold: f64,
}

impl Default for SoftVoteConfig {
    fn default() -> Self {
        Self { threshold: 0.5 }
    }
}

inputs! {
    /// What [`SoftVote`] reads.
    pub struct SoftVoteInputs {
        /// Labels of the sources.
        annotations: Many<Labels>,
    }
}

outputs! {
    /// What [`SoftVote`] makes.
    pub struct SoftVoteOutputs {
        /// The fused label of each case.
        labels: Out<Labels>,
    }
}

/// Mean of the masks of several sources, and the mask where it exceeds a threshold.
pub struct SoftVote;

impl Stage for SoftVote {
    const NAME: &'static str = "fuse.soft_vote";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Fuses the labels of several sources into their mean, with a mask at a threshold.";
    const PER_SHARD: bool = true;
    type Config = SoftVoteConfig;
    type Inputs = SoftVoteInputs;
    type Outputs = SoftVoteOutputs;

    fn check(config: &Self::Config) -> Result<(), Refusal> {
        within("threshold", config.threshold, 0.0, 1.0)
    }

    fn run(
        config: &SoftVoteConfig,
        inputs: SoftVoteInputs,
        outputs: &SoftVoteOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = aligned_labels(&inputs.annotations, ctx.shard())?;
        let labels = cases.iter().map(|labels| fuse(labels, config));
        write_label_shard(&outputs.labels, ctx, &labels.collect::<Result<Vec<_>, _>>()?)
    }
}

fn fuse(labels: &[CaseLabel], config: &SoftVoteConfig) -> Result<CaseLabel, StageError> {
    let masks = named(labels);
    let mask = soft_vote(&masks, config.threshold).map_err(StageError::new)?;
    let mean = mean_mask(&masks).map_err(StageError::new)?;
    let params = json!({ "n_sources": labels.len(), "threshold": config.threshold });
    Ok(explained(fused(labels, "soft_vote", mask), Some(mean), &params))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn the_mean_is_the_probability() {
        let drawn = [label("a", "x", mask!["# # ."]), label("a", "y", mask!["# . ."])];
        let found = fuse(&drawn, &SoftVoteConfig { threshold: 0.2 }).unwrap();
        assert_eq!(found.mask, mask!["# # ."]);
        assert_eq!(found.probability.unwrap().values(), [1.0, 0.5, 0.0]);
        let refusal = SoftVote::check(&SoftVoteConfig { threshold: 1.5 });
        assert!(refusal.is_err() && SoftVote::check(&SoftVoteConfig::default()).is_ok());
    }
}
