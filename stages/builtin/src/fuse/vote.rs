//! Majority vote: one label a case from those of several sources.
//!
//! Source: arXiv 2304.00466v2, IV: baselines of a single annotation are trained on the majority vote.
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `vote`.
//! Randomness: none, but for ties that a coin decides: a stream keyed by (seed, case), one number a voxel, the same for
//! all structures of the case, so that nested structures stay nested. Cost: one pass over each mask.
//! Deviation: the paper states no rule for ties; [`VoteConfig::tie`] is background unless said otherwise.

use datasets::{CaseLabel, Grid, Stream};
use engine::{Ctx, Many, Out, Stage, StageError, inputs, outputs};
use imaging::fusion::{TieRule, majority_vote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{fused, named};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// What becomes of a voxel on which as many sources say yes as say no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VoteTie {
    /// Background: more than half must agree.
    #[default]
    Background,
    /// Foreground: half is enough.
    Foreground,
    /// What the first source says.
    First,
    /// Background in the mask, and one half in the label's probability, which elsewhere is 0 or 1.
    Undecided,
    /// What a coin says, of streams with this seed.
    Random(u64),
}

/// Settings of [`Vote`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VoteConfig {
    /// What a voxel becomes on which as many sources say yes as say no. Default background.
    pub tie: VoteTie,
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

fn fuse(labels: &[CaseLabel], tie: VoteTie) -> Result<CaseLabel, StageError> {
    let voted = |rule| majority_vote(&named(labels), rule).map_err(StageError::new);
    let rule = match tie {
        VoteTie::Background | VoteTie::Undecided | VoteTie::Random(_) => TieRule::Background,
        VoteTie::Foreground => TieRule::Foreground,
        VoteTie::First => TieRule::First,
    };
    let mut label = fused(labels, "vote", voted(rule)?);
    match tie {
        VoteTie::Background | VoteTie::Foreground | VoteTie::First => {}
        VoteTie::Undecided => {
            let half = voted(TieRule::Foreground)?;
            let share = label.mask.values().iter().zip(half.values());
            let share = share
                .map(|(&most, &half)| if half && !most { 0.5 } else { f32::from(u8::from(most)) });
            let share = Grid::new(label.mask.shape(), share.collect()).map_err(StageError::new)?;
            label.probability = Some(share);
        }
        VoteTie::Random(seed) => {
            let half = voted(TieRule::Foreground)?;
            let mut stream = Stream::new(seed, "fuse.vote", &[&label.id]);
            for (most, &half) in label.mask.values_mut().iter_mut().zip(half.values()) {
                let is_head = stream.uniform() < 0.5;
                *most |= half && is_head;
            }
        }
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Mask, mask};

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn undecided_voxels_are_background_and_one_half() {
        let drawn = [label("a", "x", mask!["# # ."]), label("a", "y", mask!["# . ."])];
        let found = fuse(&drawn, VoteTie::Undecided).unwrap();
        assert_eq!(found.mask, mask!["# . ."]);
        assert_eq!(found.probability.unwrap().values(), [1.0, 0.5, 0.0]);
        assert_eq!(fuse(&drawn, VoteTie::Background).unwrap().probability, None);
        assert_eq!(fuse(&drawn, VoteTie::Foreground).unwrap().mask, mask!["# # ."]);
    }

    #[test]
    fn coins_are_fair_differ_by_case_and_keep_nesting() {
        let side = |case: &str, from: usize, source: &str| {
            label(case, source, Mask::from_fn([1, 60, 60], |[_, row, _]| row >= from))
        };
        let voted = |case: &str, seed| {
            let drawn = [side(case, 10, "x"), side(case, 50, "y")];
            fuse(&drawn, VoteTie::Random(seed)).unwrap().mask
        };
        let mask = voted("a", 1);
        assert_eq!(mask, voted("a", 1));
        assert!(mask != voted("b", 1) && mask != voted("a", 2));
        let n_heads = mask.area() - 600;
        assert!((1100..1300).contains(&n_heads), "{n_heads} of 2400 ties");
        assert!(mask.row(0, 9).iter().all(|&inside| !inside));
        // An inner structure that is tied where the outer one is tied falls with it.
        let inner = fuse(&[side("a", 20, "x"), side("a", 55, "y")], VoteTie::Random(1)).unwrap();
        let pairs = inner.mask.values().iter().zip(mask.values());
        assert!(pairs.into_iter().all(|(&inner, &outer)| outer || !inner));
    }

    #[test]
    fn rules_are_words_and_a_seed() {
        let read = |text: &str| serde_json::from_str::<VoteConfig>(text).map(|config| config.tie);
        assert_eq!(read(r#"{ "tie": { "random": 7 } }"#).unwrap(), VoteTie::Random(7));
        assert_eq!(read(r#"{ "tie": "undecided" }"#).unwrap(), VoteTie::Undecided);
        assert!(read(r#"{ "tie": "coin" }"#).is_err());
    }
}
