//! Brings the intensities of images to one scale.
//!
//! Source: [`imaging::normalise`].
//! Ports: in `images: Images`, optional `inside: Labels` (all structures of a case together: statistics are of their voxels
//! only); out `images: Images`. Randomness: none. Cost: some passes over the images.

use std::collections::BTreeMap;

use datasets::{Mask, shard::read_labels};
use engine::{Ctx, Input, One, Optional, Out, Refusal, Stage, StageError, inputs, outputs};
use imaging::normalise::{Normalisation, normalise};

use crate::{
    enhance::{ImageShard, missing, with_image},
    kinds::{Images, Labels},
    shards::{refused, write_images_as},
};

inputs! {
    /// What [`NormaliseImages`] reads.
    pub struct NormaliseImagesInputs {
        /// Images on any scale.
        images: One<Images>,
        /// What counts for statistics.
        inside: Optional<Labels>,
    }
}

outputs! {
    /// What [`NormaliseImages`] makes.
    pub struct NormaliseImagesOutputs {
        /// The images on the new scale.
        images: Out<Images>,
    }
}

/// Images on one scale.
pub struct NormaliseImages;

impl Stage for NormaliseImages {
    const NAME: &'static str = "prepare.normalise";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Brings the intensities of images to one scale.";
    const PER_SHARD: bool = true;
    type Config = Normalisation;
    type Inputs = NormaliseImagesInputs;
    type Outputs = NormaliseImagesOutputs;

    fn check(config: &Normalisation) -> Result<(), Refusal> {
        config.check().map_err(|error| Refusal::new("", error.to_string()))
    }

    fn run(
        config: &Normalisation,
        inputs: NormaliseImagesInputs,
        outputs: &NormaliseImagesOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let masks = match inputs.inside.get() {
            Some(input) => Some((input, unions(input, ctx.shard())?)),
            None => None,
        };
        let mut found = Vec::new();
        for case in ImageShard::read(&inputs.images, ctx.shard())?.into_cases() {
            let inside = match &masks {
                Some((input, masks)) => {
                    let mask = masks.get(&case.id).ok_or_else(|| missing(&case.id, &input.cell));
                    Some(mask?)
                }
                None => None,
            };
            let image = normalise(&case.image, inside, config).map_err(StageError::new)?;
            found.push(with_image(&case, image));
        }
        write_images_as(&outputs.images, ctx.shard(), &found)
    }
}

/// The voxels of any structure, by case.
fn unions(input: &Input, shard: &str) -> Result<BTreeMap<String, Mask>, StageError> {
    let mut found: BTreeMap<String, Mask> = BTreeMap::new();
    for label in read_labels(input.file(shard)?).map_err(refused)? {
        match found.get_mut(&label.id) {
            // Structures of a case have one shape, or the image differs from one of them and is refused.
            Some(union) if union.shape() == label.mask.shape() => {
                let pairs = union.values_mut().iter_mut().zip(label.mask.values());
                pairs.for_each(|(union, &inside)| *union |= inside);
            }
            _ => {
                found.insert(label.id, label.mask);
            }
        }
    }
    Ok(found)
}
