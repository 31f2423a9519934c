//! STAPLE: the hidden mask and the quality of each source, estimated together.
//!
//! Source: Warfield, Zou and Wells, IEEE TMI 23 (2004), in the conventions of ITK; see [`imaging::fusion::staple`].
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `staple` with probabilities, and the
//! sensitivity and specificity of each source in `params`.
//! Randomness: none. Cost: a pass over each mask, then little for each iteration.
//! Deviation: the paper that brought several noisy sources to chest X-rays votes; STAPLE is offered beside it.

use datasets::CaseLabel;
use engine::{Ctx, Many, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::fusion::{StapleOptions, staple};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{by_source, explained, fused, named, within};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// Settings of [`Staple`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StapleConfig {
    /// Limits and prior of the estimation.
    pub options: StapleOptions,
    /// Probability that a voxel must exceed to be foreground, in [0, 1]. Default 0.5.
    pub threshold: f64,
}

impl Default for StapleConfig {
    fn default() -> Self {
        Self { options: StapleOptions::default(), threshold: 0.5 }
    }
}

inputs! {
    /// What [`Staple`] reads.
    pub struct StapleInputs {
        /// Labels of the sources.
        annotations: Many<Labels>,
    }
}

outputs! {
    /// What [`Staple`] makes.
    pub struct StapleOutputs {
        /// The fused label of each case.
        labels: Out<Labels>,
    }
}

/// STAPLE: the hidden mask and the quality of each source, estimated together.
pub struct Staple;

impl Stage for Staple {
    const NAME: &'static str = "fuse.staple";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Fuses the labels of several sources by STAPLE, which estimates how good each source is.";
    const PER_SHARD: bool = true;
    type Config = StapleConfig;
    type Inputs = StapleInputs;
    type Outputs = StapleOutputs;

    fn check(config: &Self::Config) -> Result<(), Refusal> {
        within("threshold", config.threshold, 0.0, 1.0)?;
        within("options.max_iterations", f64::from(config.options.max_iterations), 1.0, f64::MAX)?;
        within("options.tolerance", config.options.tolerance, 0.0, 1.0)?;
        within("options.prior", config.options.prior.unwrap_or(0.5), 0.0, 1.0)
    }

    fn run(
        config: &StapleConfig,
        inputs: StapleInputs,
        outputs: &StapleOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = aligned_labels(&inputs.annotations, ctx.shard())?;
        let labels = cases.iter().map(|labels| fuse(labels, config));
        write_label_shard(&outputs.labels, ctx, &labels.collect::<Result<Vec<_>, _>>()?)
    }
}

fn fuse(labels: &[CaseLabel], config: &StapleConfig) -> Result<CaseLabel, StageError> {
    let estimate = staple(&named(labels), &config.options).map_err(StageError::new)?;
    let params = json!({
        "sensitivity": by_source(labels, &estimate.sensitivity),
        "specificity": by_source(labels, &estimate.specificity),
        "prior": estimate.prior,
        "iterations": estimate.iterations,
        "has_converged": estimate.has_converged,
    });
    let label = fused(labels, "staple", estimate.mask(config.threshold));
    Ok(explained(label, Some(estimate.probability()), &params))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn a_source_that_draws_nothing_loses_its_say() {
        let drawn = [
            label("a", "x", mask!["# # . ."]),
            label("a", "y", mask!["# # . ."]),
            label("a", "z", mask![". . . ."]),
        ];
        let found = fuse(&drawn, &StapleConfig::default()).unwrap();
        assert_eq!(found.mask, mask!["# # . ."]);
        let params: serde_json::Value = serde_json::from_str(&found.params.unwrap()).unwrap();
        assert!(params["sensitivity"]["z"].as_f64().unwrap() < 1e-6, "{params}");
        assert_eq!(params["specificity"]["z"], 1.0);
    }

    #[test]
    fn settings_without_meaning_are_refused_by_name() {
        let mut config = StapleConfig::default();
        config.options.max_iterations = 0;
        assert!(Staple::check(&config).is_err());
        config.options = StapleOptions { prior: Some(-1.0), ..StapleOptions::default() };
        assert!(Staple::check(&config).is_err());
    }
}
