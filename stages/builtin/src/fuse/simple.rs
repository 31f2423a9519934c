//! SIMPLE: a weighted vote that drops the sources which disagree with it.
//!
//! Source: Langerak et al., IEEE TMI 29 (2010), in the form of the BraTS Toolkit; see [`imaging::fusion::simple`].
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `simple` with the weight of
//! each source in `params`, null when it was dropped.
//! Randomness: none. Cost: two passes over each mask for each round.

use datasets::CaseLabel;
use engine::{Ctx, Many, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::fusion::{SimpleOptions, simple};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{by_source, explained, fused, named, within};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// Settings of [`Simple`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimpleConfig {
    /// Rounds, thresholds and the rule for ties.
    pub options: SimpleOptions,
}

inputs! {
    /// What [`Simple`] reads.
    pub struct SimpleInputs {
        /// Labels of the sources.
        annotations: Many<Labels>,
    }
}

outputs! {
    /// What [`Simple`] makes.
    pub struct SimpleOutputs {
        /// The fused label of each case.
        labels: Out<Labels>,
    }
}

/// SIMPLE: a weighted vote that drops the sources which disagree with it.
pub struct Simple;

impl Stage for Simple {
    const NAME: &'static str = "fuse.simple";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Fuses the labels of several sources by SIMPLE, which drops the sources that disagree most.";
    const PER_SHARD: bool = true;
    type Config = SimpleConfig;
    type Inputs = SimpleInputs;
    type Outputs = SimpleOutputs;

    fn check(config: &Self::Config) -> Result<(), Refusal> {
        within("options.max_rounds", f64::from(config.options.max_rounds), 1.0, f64::MAX)?;
        within("options.threshold", config.options.threshold, 0.0, 1.0)?;
        within("options.threshold_growth", config.options.threshold_growth, 0.0, 1.0)
    }

    fn run(
        config: &SimpleConfig,
        inputs: SimpleInputs,
        outputs: &SimpleOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = aligned_labels(&inputs.annotations, ctx.shard())?;
        let labels = cases.iter().map(|labels| fuse(labels, config));
        write_label_shard(&outputs.labels, ctx, &labels.collect::<Result<Vec<_>, _>>()?)
    }
}

fn fuse(labels: &[CaseLabel], config: &SimpleConfig) -> Result<CaseLabel, StageError> {
    let estimate = simple(&named(labels), &config.options).map_err(StageError::new)?;
    let params = json!({
        "weights": by_source(labels, &estimate.weights),
        "rounds": estimate.rounds,
        "has_converged": estimate.has_converged,
    });
    Ok(explained(fused(labels, "simple", estimate.mask), None, &params))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn a_dropped_source_has_no_weight() {
        let drawn = [
            label("a", "x", mask!["# # . ."]),
            label("a", "y", mask!["# # . ."]),
            label("a", "z", mask![". . . #"]),
        ];
        let options = SimpleOptions { threshold: 0.5, ..SimpleOptions::default() };
        let found = fuse(&drawn, &SimpleConfig { options }).unwrap();
        assert_eq!(found.mask, mask!["# # . ."]);
        let params: serde_json::Value = serde_json::from_str(&found.params.unwrap()).unwrap();
        assert_eq!(params["weights"]["x"], 4.0);
        assert!(params["weights"]["z"].is_null(), "{params}");
        let options = SimpleOptions { threshold: 2.0, ..SimpleOptions::default() };
        assert!(Simple::check(&SimpleConfig { options }).is_err());
    }
}
