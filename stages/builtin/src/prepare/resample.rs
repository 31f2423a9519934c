//! Brings images and labels to one spacing and, when asked, to one size.
//!
//! Source: [`imaging::resample`]. Labels are taken from the nearest voxel, their probabilities as images are.
//! Ports: in `images: Images` and `labels: Labels`, each optional; out `images: Images` and `labels: Labels`, with the same
//! cases, empty where nothing is wired. Images and labels of one geometry stay aligned, wired to one cell or to several.
//! Where the place of a case in the world is not known, its first voxel before resampling is taken for the origin, so that
//! `export.nifti` finds the way back.
//! Randomness: none. Cost: one pass over the output.

use datasets::{
    Affine, CaseImage, CaseLabel, Image, Spacing, affine,
    shard::{read_images, read_labels},
};
use engine::{Ctx, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::resample::{Resampling, resample, resample_mask};

use crate::{
    kinds::{Images, Labels},
    shards::{refused, write_images_as, write_label_shard},
};

inputs! {
    /// What [`ResampleCases`] reads.
    pub struct ResampleCasesInputs {
        /// Images to resample.
        images: Optional<Images>,
        /// Labels to resample.
        labels: Optional<Labels>,
    }
}

outputs! {
    /// What [`ResampleCases`] makes.
    pub struct ResampleCasesOutputs {
        /// The images at the new spacing.
        images: Out<Images>,
        /// The labels at the new spacing.
        labels: Out<Labels>,
    }
}

/// Images and labels at another spacing.
pub struct ResampleCases;

impl Stage for ResampleCases {
    const NAME: &'static str = "prepare.resample";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Brings images and labels to one spacing and size.";
    const PER_SHARD: bool = true;
    type Config = Resampling;
    type Inputs = ResampleCasesInputs;
    type Outputs = ResampleCasesOutputs;

    fn check(config: &Resampling) -> Result<(), Refusal> {
        config.check().map_err(|error| Refusal::new("", error.to_string()))
    }

    fn resources(_: &Resampling) -> Resources {
        // A scan of 512 x 512 x 200 voxels and its finer copy.
        Resources { memory: 1 << 30, ..Resources::default() }
    }

    fn run(
        config: &Resampling,
        inputs: ResampleCasesInputs,
        outputs: &ResampleCasesOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut images = Vec::new();
        if let Some(input) = inputs.images.get() {
            for case in read_images(input.file(ctx.shard())?).map_err(refused)? {
                images.push(resampled_image(config, case)?);
            }
        }
        let mut labels = Vec::new();
        if let Some(input) = inputs.labels.get() {
            for label in read_labels(input.file(ctx.shard())?).map_err(refused)? {
                labels.push(resampled_label(config, label)?);
            }
        }
        write_images_as(&outputs.images, ctx.shard(), &images)?;
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}

/// Spacing and affine of a case of `shape` after resampling.
fn new_place(
    config: &Resampling,
    shape: [usize; 3],
    spacing: Spacing,
    place: Option<Affine>,
) -> Result<(Spacing, Affine), StageError> {
    let from = spacing.millimetres();
    let place = place.unwrap_or_else(|| affine::of_spacing(spacing));
    let place = config.affine(shape, from, &place).map_err(StageError::new)?;
    Ok((Spacing::new(config.spacing(shape, from)).map_err(refused)?, place))
}

fn resampled_image(config: &Resampling, case: CaseImage) -> Result<CaseImage, StageError> {
    let (spacing, place) = new_place(config, case.image.shape(), case.spacing, case.affine)?;
    let image = resample(&case.image, case.spacing.millimetres(), config);
    let image = image.map_err(StageError::new)?;
    Ok(CaseImage { image, spacing, affine: Some(place), ..case })
}

fn resampled_label(config: &Resampling, label: CaseLabel) -> Result<CaseLabel, StageError> {
    let (spacing, place) = new_place(config, label.mask.shape(), label.spacing, label.affine)?;
    let from = label.spacing.millimetres();
    let mask = resample_mask(&label.mask, from, config).map_err(StageError::new)?;
    // Splines overshoot, and padding holds nothing.
    let within = |map: Image| map.map(|&value| value.clamp(0.0, 1.0));
    let probability = match &label.probability {
        Some(map) => {
            let settings = Resampling { fill: 0.0, ..*config };
            Some(within(resample(map, from, &settings).map_err(StageError::new)?))
        }
        None => None,
    };
    Ok(CaseLabel { mask, probability, spacing, affine: Some(place), ..label })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Grid, mask};
    use imaging::resample::Interpolation;

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn labels_keep_their_words_and_get_the_new_grid() {
        let mut given = label("a", "x", mask!["# . .", "# # ."]);
        given.probability = Some(Grid::new([1, 2, 3], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0]).unwrap());
        let config = Resampling {
            spacing_mm: Some([9.0, 1.0, 0.5]),
            size: Some([1, 4, 6]),
            interpolation: Interpolation::Cubic,
            fill: -3.0,
            ..Resampling::default()
        };
        let found = resampled_label(&config, given.clone()).unwrap();
        let expected = mask![". . . . . .", "# # . . . .", "# # # # . .", ". . . . . ."];
        assert_eq!(found.mask, expected);
        assert_eq!(found.spacing.millimetres(), [1.0, 1.0, 0.5]);
        // One row more above; columns of half the width that begin at the same edge.
        let expected = [[0.5, 0.0, 0.0, -0.25], [0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 1.0, 0.0]];
        assert_eq!(found.affine, Some(expected.into()));
        let map = found.probability.as_ref().unwrap();
        assert_eq!(map.shape(), [1, 4, 6]);
        assert!(map.values().iter().all(|value| (0.0..=1.0).contains(value)));
        let same = CaseLabel {
            mask: given.mask.clone(),
            probability: given.probability.clone(),
            spacing: given.spacing,
            affine: given.affine,
            ..found
        };
        assert_eq!(same, given);
    }
}
