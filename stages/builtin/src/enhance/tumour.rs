//! Step 5: one map that is high where a tumour may be.
//!
//! Source: arXiv 2304.00466v2, IV-A.2 names the step; formula at [`imaging::dce::enhancement`].
//! Ports: in `suppressed`, `percent`, `ratio: Images`, `breast: Labels`; out `enhancement: Images`, in `[0, 1]`.
//! Randomness: none. Cost: two exponentials a voxel.

use engine::{Ctx, One, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::dce::{Enhancement, enhancement};

use super::{ImageShard, MaskShard, volumes, with_image};
use crate::{
    kinds::{Images, Labels},
    shards::write_images_as,
};

inputs! {
    /// What [`EnhanceTumour`] reads.
    pub struct EnhanceTumourInputs {
        /// Uptake without vessels.
        suppressed: One<Images>,
        /// Early enhancement in percent.
        percent: One<Images>,
        /// Early over late uptake.
        ratio: One<Images>,
        /// The breast without its skin.
        breast: One<Labels>,
    }
}

outputs! {
    /// What [`EnhanceTumour`] makes.
    pub struct EnhanceTumourOutputs {
        /// Where a tumour may be, in `[0, 1]`; 0 outside the breast.
        enhancement: Out<Images>,
    }
}

/// Tumour enhancement map.
pub struct EnhanceTumour;

impl Stage for EnhanceTumour {
    const NAME: &'static str = "enhance.tumour";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Weighs the uptake by strength and wash-out: where a tumour may be.";
    const PER_SHARD: bool = true;
    type Config = Enhancement;
    type Inputs = EnhanceTumourInputs;
    type Outputs = EnhanceTumourOutputs;

    fn check(config: &Enhancement) -> Result<(), Refusal> {
        config.check().map_err(|error| Refusal::new("", error.to_string()))
    }

    fn resources(_: &Enhancement) -> Resources {
        volumes()
    }

    fn run(
        config: &Enhancement,
        inputs: EnhanceTumourInputs,
        outputs: &EnhanceTumourOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut percent = ImageShard::read(&inputs.percent, ctx.shard())?;
        let mut ratio = ImageShard::read(&inputs.ratio, ctx.shard())?;
        let mut breast = MaskShard::read(&inputs.breast, ctx.shard(), Some("breast"))?;
        let mut found = Vec::new();
        for case in ImageShard::read(&inputs.suppressed, ctx.shard())?.into_cases() {
            let (percent, ratio) = (percent.take(&case)?, ratio.take(&case)?);
            let breast = breast.take(&case)?.mask;
            let map = enhancement(&case.image, &percent, &ratio, &breast, config);
            found.push(with_image(&case, map.map_err(StageError::new)?));
        }
        write_images_as(&outputs.enhancement, ctx.shard(), &found)
    }
}
