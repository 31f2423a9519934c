//! Step 4: the uptake without vessels.
//!
//! Source: arXiv 2304.00466v2, IV-A.2 names the step; rules at [`imaging::dce::suppress`].
//! Ports: in `uptake`, `vesselness: Images`; out `suppressed` and `vesselness: Images` (the latter without the rims of
//! thick structures where `gate` is set), `vessels: Labels` (vessels for sure).
//! Randomness: none. Cost: a labelling; with `gate` a grey opening too.

use datasets::{CaseLabel, SourceKind};
use engine::{Ctx, One, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::dce::{Suppression, suppress};

use super::{ImageShard, volumes, with_image};
use crate::{
    kinds::{Images, Labels},
    shards::{write_images_as, write_label_shard},
};

inputs! {
    /// What [`SuppressVessels`] reads.
    pub struct SuppressVesselsInputs {
        /// Early uptake.
        uptake: One<Images>,
        /// Vesselness.
        vesselness: One<Images>,
    }
}

outputs! {
    /// What [`SuppressVessels`] makes.
    pub struct SuppressVesselsOutputs {
        /// Uptake that is left.
        suppressed: Out<Images>,
        /// Vesselness that counts.
        vesselness: Out<Images>,
        /// Vessels for sure, structure `vessel`.
        vessels: Out<Labels>,
    }
}

/// Vessel suppression.
pub struct SuppressVessels;

impl Stage for SuppressVessels {
    const NAME: &'static str = "enhance.suppress";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Takes vessels out of the uptake of breast scans.";
    const PER_SHARD: bool = true;
    type Config = Suppression;
    type Inputs = SuppressVesselsInputs;
    type Outputs = SuppressVesselsOutputs;

    fn check(config: &Suppression) -> Result<(), Refusal> {
        config.check().map_err(|error| Refusal::new("", error.to_string()))
    }

    fn resources(_: &Suppression) -> Resources {
        volumes()
    }

    fn run(
        config: &Suppression,
        inputs: SuppressVesselsInputs,
        outputs: &SuppressVesselsOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut maps = ImageShard::read(&inputs.vesselness, ctx.shard())?;
        let [mut suppressed, mut left] = [Vec::new(), Vec::new()];
        let mut labels = Vec::new();
        for case in ImageShard::read(&inputs.uptake, ctx.shard())?.into_cases() {
            let map = maps.take(&case)?;
            let found = suppress(&case.image, &map, case.spacing.millimetres(), config)
                .map_err(StageError::new)?;
            suppressed.push(with_image(&case, found.suppressed));
            left.push(with_image(&case, found.vesselness));
            labels.push(CaseLabel {
                id: case.id,
                source: "vessels".to_owned(),
                kind: SourceKind::Algorithm,
                structure: "vessel".to_owned(),
                split: case.split,
                mask: found.mask,
                probability: None,
                spacing: case.spacing,
                affine: case.affine,
                params: None,
            });
        }
        write_images_as(&outputs.suppressed, ctx.shard(), &suppressed)?;
        write_images_as(&outputs.vesselness, ctx.shard(), &left)?;
        write_label_shard(&outputs.vessels, ctx, &labels)
    }
}
