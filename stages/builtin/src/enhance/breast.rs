//! Step 1: the breast without its skin, found in the scan or taken from a mask.
//!
//! Source: arXiv 2304.00466v2, IV-A.2, which takes the chest away before anything else; see [`imaging::dce::breast`].
//! Ports: in `pre`, `early: Images`, optional `mask: Labels` (a breast from elsewhere, with its skin); out `breast: Labels`.
//! Randomness: none. Cost: smoothings, two distance transforms and the search for the chest wall a case.

use datasets::{CaseImage, CaseLabel, Mask, SourceKind};
use engine::{Ctx, One, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::dce::{
    Phases,
    breast::{Breast, find, inner},
};

use super::{ImageShard, MaskShard, volumes};
use crate::{
    kinds::{Images, Labels},
    shards::write_label_shard,
};

inputs! {
    /// What [`FindBreast`] reads.
    pub struct FindBreastInputs {
        /// Before the injection.
        pre: One<Images>,
        /// First phase after it.
        early: One<Images>,
        /// Breasts from elsewhere, with their skin.
        mask: Optional<Labels>,
    }
}

outputs! {
    /// What [`FindBreast`] makes.
    pub struct FindBreastOutputs {
        /// The breast without its skin, structure `breast`.
        breast: Out<Labels>,
    }
}

/// Breast region.
pub struct FindBreast;

impl Stage for FindBreast {
    const NAME: &'static str = "enhance.breast";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Finds the breast between skin and chest wall.";
    const PER_SHARD: bool = true;
    type Config = Breast;
    type Inputs = FindBreastInputs;
    type Outputs = FindBreastOutputs;

    fn check(config: &Breast) -> Result<(), Refusal> {
        config.check().map_err(|error| Refusal::new("", error.to_string()))
    }

    fn resources(_: &Breast) -> Resources {
        volumes()
    }

    fn run(
        config: &Breast,
        inputs: FindBreastInputs,
        outputs: &FindBreastOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut early = ImageShard::read(&inputs.early, ctx.shard())?;
        let mut masks = match inputs.mask.get() {
            Some(mask) => Some(MaskShard::read(mask, ctx.shard(), None)?),
            None => None,
        };
        let mut labels = Vec::new();
        for case in ImageShard::read(&inputs.pre, ctx.shard())?.into_cases() {
            let early = early.take(&case)?;
            let spacing = case.spacing.millimetres();
            let whole = match &mut masks {
                Some(masks) => masks.take(&case)?.mask,
                None => {
                    let phases = Phases { pre: &case.image, early: &early, late: &early, spacing };
                    find(phases, config).map_err(StageError::new)?
                }
            };
            let inner = inner(&whole, spacing, config).map_err(StageError::new)?;
            if inner.area() == 0 {
                let id = &case.id;
                ctx.log(&format!(
                    "case `{id}`: no breast was found, so no source says anything there"
                ));
            }
            labels.push(label(&case, inner));
        }
        write_label_shard(&outputs.breast, ctx, &labels)
    }
}

fn label(case: &CaseImage, mask: Mask) -> CaseLabel {
    CaseLabel {
        id: case.id.clone(),
        source: "breast".to_owned(),
        kind: SourceKind::Algorithm,
        structure: "breast".to_owned(),
        split: case.split,
        mask,
        probability: None,
        spacing: case.spacing,
        affine: case.affine,
        params: None,
    }
}
