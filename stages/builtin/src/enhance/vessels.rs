//! Step 3: how much every voxel of the breast looks like the inside of a vessel.
//!
//! Source: Frangi et al. (1998); see [`imaging::vesselness`].
//! Ports: in `uptake: Images`, `breast: Labels`; out `vesselness: Images`, in `[0, 1]`.
//! Randomness: none. Cost: a recursive smoothing and the eigenvalues of the breast's voxels, once a scale.

use engine::{Ctx, One, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::vesselness::{Vesselness, vesselness};

use super::{ImageShard, MaskShard, volumes, with_image};
use crate::{
    kinds::{Images, Labels},
    shards::write_images_as,
};

inputs! {
    /// What [`FindVessels`] reads.
    pub struct FindVesselsInputs {
        /// Early uptake.
        uptake: One<Images>,
        /// The breast without its skin.
        breast: One<Labels>,
    }
}

outputs! {
    /// What [`FindVessels`] makes.
    pub struct FindVesselsOutputs {
        /// Vesselness in `[0, 1]`, 0 outside the breast.
        vesselness: Out<Images>,
    }
}

/// Vessel estimation.
pub struct FindVessels;

impl Stage for FindVessels {
    const NAME: &'static str = "enhance.vessels";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Estimates vessels by the Hessian at several scales.";
    const PER_SHARD: bool = true;
    type Config = Vesselness;
    type Inputs = FindVesselsInputs;
    type Outputs = FindVesselsOutputs;

    fn check(config: &Vesselness) -> Result<(), Refusal> {
        config.check().map_err(|error| Refusal::new("", error.to_string()))
    }

    fn resources(_: &Vesselness) -> Resources {
        volumes()
    }

    fn run(
        config: &Vesselness,
        inputs: FindVesselsInputs,
        outputs: &FindVesselsOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut breast = MaskShard::read(&inputs.breast, ctx.shard(), Some("breast"))?;
        let mut found = Vec::new();
        for case in ImageShard::read(&inputs.uptake, ctx.shard())?.into_cases() {
            let breast = breast.take(&case)?.mask;
            let map = vesselness(&case.image, &breast, case.spacing.millimetres(), config);
            found.push(with_image(&case, map.map_err(StageError::new)?));
        }
        write_images_as(&outputs.vesselness, ctx.shard(), &found)
    }
}
