//! Shape-based averaging: the mean of the signed distances to the outlines.
//!
//! Source: Rohlfing and Maurer, IEEE TIP 16 (2007); see [`imaging::fusion::shape_average`].
//! Ports: in `annotations: Labels` (several); out `labels: Labels`, source `shape_average`.
//! Randomness: none. Cost: two distance transforms a mask.
//! Distances are in millimetres, by the spacing of the case.

use datasets::CaseLabel;
use engine::{Ctx, Many, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::fusion::{ShapeAverageOptions, shape_average};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{fused, named, within};
use crate::{
    kinds::Labels,
    shards::{aligned_labels, write_label_shard},
};

/// Settings of [`ShapeAverage`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShapeAverageConfig {
    /// Limit of the distances in millimetres, and the rule for ties.
    pub options: ShapeAverageOptions,
}

inputs! {
    /// What [`ShapeAverage`] reads.
    pub struct ShapeAverageInputs {
        /// Labels of the sources.
        annotations: Many<Labels>,
    }
}

outputs! {
    /// What [`ShapeAverage`] makes.
    pub struct ShapeAverageOutputs {
        /// The fused label of each case.
        labels: Out<Labels>,
    }
}

/// Shape-based averaging: the mean of the signed distances to the outlines.
pub struct ShapeAverage;

impl Stage for ShapeAverage {
    const NAME: &'static str = "fuse.shape_average";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Fuses the labels of several sources by the mean of their signed distances.";
    const PER_SHARD: bool = true;
    type Config = ShapeAverageConfig;
    type Inputs = ShapeAverageInputs;
    type Outputs = ShapeAverageOutputs;

    fn check(config: &Self::Config) -> Result<(), Refusal> {
        within("options.limit", config.options.limit.unwrap_or(1.0), f64::MIN_POSITIVE, f64::MAX)
    }

    fn run(
        config: &ShapeAverageConfig,
        inputs: ShapeAverageInputs,
        outputs: &ShapeAverageOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let cases = aligned_labels(&inputs.annotations, ctx.shard())?;
        let labels = cases.iter().map(|labels| fuse(labels, config));
        write_label_shard(&outputs.labels, ctx, &labels.collect::<Result<Vec<_>, _>>()?)
    }
}

fn fuse(labels: &[CaseLabel], config: &ShapeAverageConfig) -> Result<CaseLabel, StageError> {
    let spacing = labels[0].spacing.millimetres();
    let mask = shape_average(&named(labels), spacing, &config.options).map_err(StageError::new)?;
    Ok(fused(labels, "shape_average", mask))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn outlines_meet_halfway() {
        let drawn =
            [label("a", "x", mask!["# . . . . . ."]), label("a", "y", mask!["# # # # # . ."])];
        let found = fuse(&drawn, &ShapeAverageConfig::default()).unwrap();
        assert_eq!(found.mask, mask!["# # # . . . ."]);
        let options = ShapeAverageOptions { limit: Some(0.0), ..ShapeAverageOptions::default() };
        assert!(ShapeAverage::check(&ShapeAverageConfig { options }).is_err());
    }
}
