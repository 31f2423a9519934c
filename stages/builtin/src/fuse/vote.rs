//! Majority vote: one label a case from those of several sources.
//!
//! Source: arXiv 2304.00466v2, IV: baselines of a single annotation are trained on the majority vote.
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `vote`.
//! Randomness: none. Cost: one pass over each mask.
//! Deviation: the paper states no rule for ties; [`VoteConfig::tie`] is background unless said otherwise.

use datasets::CaseLabel;
use engine::{Ctx, Many, Out, Stage, StageError, inputs, outputs};
use imaging::fusion::{TieRule, majority_vote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{fused, named};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// Settings of [`Vote`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VoteConfig {
    /// What a pixel becomes on which as many sources say yes as say no.
    pub tie: TieRule,
}

inputs! {
    /// What [`Vote`] reads.
    pub struct VoteInputs {
        /// Labels of the sources, in the order of the tie rule.
        annotations: Many<Labels>,
    }
}

outputs! {
    /// What [`Vote`] makes.
    pub struct VoteOutputs {
        /// The fused label of each case.
        labels: Out<Labels>,
    }
}

/// Majority vote over sources.
pub struct Vote;

impl Stage for Vote {
    const NAME: &'static str = "fuse.vote";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Fuses the labels of several sources by majority vote.";
    const PER_SHARD: bool = true;
    type Config = VoteConfig;
    type Inputs = VoteInputs;
    type Outputs = VoteOutputs;

    fn run(
        config: &VoteConfig,
        inputs: VoteInputs,
        outputs: &VoteOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = aligned_labels(&inputs.annotations, ctx.shard())?;
        let votes = cases.into_iter().map(|labels| fuse(&labels, config.tie));
        write_label_shard(&outputs.labels, ctx, &votes.collect::<Result<Vec<_>, _>>()?)
    }
}

fn fuse(labels: &[CaseLabel], tie: TieRule) -> Result<CaseLabel, StageError> {
    let mask = majority_vote(&named(labels), tie).map_err(StageError::new)?;
    Ok(fused(labels, "vote", mask))
}
