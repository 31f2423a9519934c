//! Step 2: how much contrast agent every voxel of the breast takes up, and how fast it gives it back.
//!
//! Source: arXiv 2304.00466v2, IV-A.2 names the step; formulas at [`imaging::dce::uptake`].
//! Ports: in `pre`, `early`, `late: Images`, `breast: Labels`; out `uptake`, `percent`, `ratio: Images`. The uptake lies in
//! `[0, 1]` and may serve networks as their image. Randomness: none. Cost: a few passes over each volume.

use engine::{Ctx, One, Out, Resources, Stage, StageError, inputs, outputs};
use imaging::dce::{Phases, uptake};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImageShard, MaskShard, volumes, with_image};
use crate::{
    kinds::{Images, Labels},
    shards::write_images_as,
};

/// Settings of [`Subtract`]: none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubtractConfig {}

inputs! {
    /// What [`Subtract`] reads.
    pub struct SubtractInputs {
        /// Before the injection.
        pre: One<Images>,
        /// First phase after it.
        early: One<Images>,
        /// Second phase after it.
        late: One<Images>,
        /// The breast without its skin.
        breast: One<Labels>,
    }
}

outputs! {
    /// What [`Subtract`] makes.
    pub struct SubtractOutputs {
        /// Early uptake in `[0, 1]`, 0 outside the breast.
        uptake: Out<Images>,
        /// Early enhancement in percent.
        percent: Out<Images>,
        /// Early over late uptake.
        ratio: Out<Images>,
    }
}

/// Subtraction of the phases.
pub struct Subtract;

impl Stage for Subtract {
    const NAME: &'static str = "enhance.subtract";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Subtracts the phases of breast scans: uptake and wash-out.";
    const PER_SHARD: bool = true;
    type Config = SubtractConfig;
    type Inputs = SubtractInputs;
    type Outputs = SubtractOutputs;

    fn resources(_: &SubtractConfig) -> Resources {
        volumes()
    }

    fn run(
        _: &SubtractConfig,
        inputs: SubtractInputs,
        outputs: &SubtractOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut early = ImageShard::read(&inputs.early, ctx.shard())?;
        let mut late = ImageShard::read(&inputs.late, ctx.shard())?;
        let mut breast = MaskShard::read(&inputs.breast, ctx.shard(), Some("breast"))?;
        let [mut uptakes, mut percents, mut ratios] = [Vec::new(), Vec::new(), Vec::new()];
        for case in ImageShard::read(&inputs.pre, ctx.shard())?.into_cases() {
            let (early, late) = (early.take(&case)?, late.take(&case)?);
            let spacing = case.spacing.millimetres();
            let phases = Phases { pre: &case.image, early: &early, late: &late, spacing };
            let found = uptake(phases, &breast.take(&case)?.mask).map_err(StageError::new)?;
            uptakes.push(with_image(&case, found.uptake));
            percents.push(with_image(&case, found.percent));
            ratios.push(with_image(&case, found.ratio));
        }
        write_images_as(&outputs.uptake, ctx.shard(), &uptakes)?;
        write_images_as(&outputs.percent, ctx.shard(), &percents)?;
        write_images_as(&outputs.ratio, ctx.shard(), &ratios)
    }
}
