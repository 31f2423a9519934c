//! One rater out of the labels that a folder gave: a source of an experiment.
//!
//! Ports: in `raters: Annotations`; out `labels: Labels`.
//! Randomness: none. Cost: reading and writing the shard.
//!
//! A matrix makes a source of every rater without naming them one by one: `rater = "rater${rater}"` here, and
//! `annotations = ["rater[*]"]` where they are used.

use datasets::{CaseLabel, shard::read_labels};
use engine::{Ctx, One, Out, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    kinds::{Annotations, Labels},
    shards::{refused, write_label_shard},
};

/// Settings of [`Rater`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RaterConfig {
    /// The rater, as its labels name their source.
    pub rater: String,
}

inputs! {
    /// What [`Rater`] reads.
    pub struct RaterInputs {
        /// Labels of all raters.
        raters: One<Annotations>,
    }
}

outputs! {
    /// What [`Rater`] makes.
    pub struct RaterOutputs {
        /// Labels of one rater.
        labels: Out<Labels>,
    }
}

/// A rater whom nobody knows.
#[derive(Debug, Error)]
#[error("no label by rater `{rater}`: there are {found:?}")]
pub struct UnknownRater {
    /// The rater asked for.
    pub rater: String,
    /// The raters that there are.
    pub found: Vec<String>,
}

/// One rater of several.
pub struct Rater;

impl Stage for Rater {
    const NAME: &'static str = "ingest.rater";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Gives the labels of one rater out of those of all.";
    const PER_SHARD: bool = true;
    type Config = RaterConfig;
    type Inputs = RaterInputs;
    type Outputs = RaterOutputs;

    fn run(
        config: &RaterConfig,
        inputs: RaterInputs,
        outputs: &RaterOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let all = read_labels(inputs.raters.file(ctx.shard())?).map_err(refused)?;
        write_label_shard(&outputs.labels, ctx, &labels_of(all, &config.rater)?)
    }
}

/// The labels of one rater.
fn labels_of(all: Vec<CaseLabel>, rater: &str) -> Result<Vec<CaseLabel>, StageError> {
    let mut found: Vec<String> = all.iter().map(|label| label.source.clone()).collect();
    let own: Vec<CaseLabel> = all.into_iter().filter(|label| label.source == rater).collect();
    if !own.is_empty() {
        return Ok(own);
    }
    found.sort();
    found.dedup();
    Err(StageError::new(UnknownRater { rater: rater.to_owned(), found }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn a_rater_is_told_by_its_source() {
        let all = || {
            vec![
                label("a", "x", mask!["# ."]),
                label("a", "y", mask![". #"]),
                label("b", "x", mask!["# ."]),
            ]
        };
        let own = labels_of(all(), "y").unwrap();
        assert_eq!((own.len(), own[0].mask.clone()), (1, mask![". #"]));
        let error = labels_of(all(), "z").unwrap_err().to_string();
        assert_eq!(error, "no label by rater `z`: there are [\"x\", \"y\"]");
    }
}
