//! Cuts or pads cases to one size without touching a voxel, so that cases of different sizes can be trained together.
//!
//! Ports: in `images: Images`, `labels: Labels` and `around: Labels`, each optional; out `images: Images` and
//! `labels: Labels`, with the same cases, empty where nothing is wired. With `around`, the middle of the box around all its
//! structures of a case becomes the middle of the result, else the middle of the case does; wire there what is known before
//! a prediction, as a mask of the breast, never the truth. Images and labels of one grid
//! stay aligned, wired to one cell or to several. `export.nifti` leads back to the grid before; what was cut off is
//! background there.
//! Randomness: none. Cost: one pass over the output.

use std::collections::BTreeMap;

use datasets::{
    Affine, CaseImage, CaseLabel, Spacing,
    affine::{of_spacing, regridded},
    shard::{MAX_VOXELS, read_images, read_labels},
};
use engine::{Ctx, Input, Optional, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::{morphology::BoundingBox, resample::cut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    enhance::{check_shape, missing},
    kinds::{Images, Labels},
    shards::{refused, write_images_as, write_label_shard},
};

/// Settings of [`PadCases`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PadConfig {
    /// Voxels of the result, `[slice, row, column]`.
    pub size: [usize; 3],
    /// Value of voxels that are added around an image, a finite number. Default the least of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<f32>,
}

inputs! {
    /// What [`PadCases`] reads.
    pub struct PadCasesInputs {
        /// Images to cut or pad.
        images: Optional<Images>,
        /// Labels to cut or pad.
        labels: Optional<Labels>,
        /// What is to lie in the middle.
        around: Optional<Labels>,
    }
}

outputs! {
    /// What [`PadCases`] makes.
    pub struct PadCasesOutputs {
        /// The images of the new size.
        images: Out<Images>,
        /// The labels of the new size.
        labels: Out<Labels>,
    }
}

/// Cases of one size.
pub struct PadCases;

impl Stage for PadCases {
    const NAME: &'static str = "prepare.pad";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Cuts or pads images and labels to one size, voxel by voxel.";
    const PER_SHARD: bool = true;
    type Config = PadConfig;
    type Inputs = PadCasesInputs;
    type Outputs = PadCasesOutputs;

    fn check(config: &PadConfig) -> Result<(), Refusal> {
        let n_voxels = config.size.into_iter().fold(1, usize::saturating_mul);
        if !(1..=MAX_VOXELS).contains(&n_voxels) {
            let message = format!("expected 1 to {MAX_VOXELS} voxels: got {:?}", config.size);
            return Err(Refusal::new("size", message));
        }
        match config.fill.filter(|fill| !fill.is_finite()) {
            Some(fill) => {
                Err(Refusal::new("fill", format!("expected a finite number: got {fill}")))
            }
            None => Ok(()),
        }
    }

    fn resources(_: &PadConfig) -> Resources {
        // A scan of 512 x 512 x 200 voxels before and after.
        Resources { memory: 1 << 30, ..Resources::default() }
    }

    fn run(
        config: &PadConfig,
        inputs: PadCasesInputs,
        outputs: &PadCasesOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let middles = match inputs.around.get() {
            Some(input) => Some(Middles::read(input, ctx.shard())?),
            None => None,
        };
        let window = |case: &str, shape: [usize; 3]| match &middles {
            Some(middles) => middles.window(config, case, shape),
            None => Ok(Window::around(whole(shape), config.size)),
        };
        let mut images = Vec::new();
        if let Some(input) = inputs.images.get() {
            for case in read_images(input.file(ctx.shard())?).map_err(refused)? {
                images.push(window(&case.id, case.image.shape())?.image(config, case));
            }
        }
        let mut labels = Vec::new();
        if let Some(input) = inputs.labels.get() {
            for label in read_labels(input.file(ctx.shard())?).map_err(refused)? {
                labels.push(window(&label.id, label.mask.shape())?.label(label));
            }
        }
        write_images_as(&outputs.images, ctx.shard(), &images)?;
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}

fn whole(shape: [usize; 3]) -> BoundingBox {
    BoundingBox { start: [0; 3], end: shape }
}

/// The boxes around which cases are cut.
struct Middles {
    cell: String,
    /// By case: the shape of the masks and the box around them; the whole case where they are empty.
    cases: BTreeMap<String, ([usize; 3], BoundingBox)>,
}

impl Middles {
    fn read(input: &Input, shard: &str) -> Result<Self, StageError> {
        let mut found: BTreeMap<String, ([usize; 3], Option<BoundingBox>)> = BTreeMap::new();
        for label in read_labels(input.file(shard)?).map_err(refused)? {
            let own = BoundingBox::of(&label.mask);
            let entry = found.entry(label.id).or_insert((label.mask.shape(), None));
            entry.1 = match (entry.1, own) {
                (Some(all), Some(own)) => Some(all.union(&own)),
                (all, own) => all.or(own),
            };
        }
        let cases = found
            .into_iter()
            .map(|(case, (shape, bounds))| (case, (shape, bounds.unwrap_or_else(|| whole(shape)))));
        Ok(Self { cell: input.cell.clone(), cases: cases.collect() })
    }

    fn window(
        &self,
        config: &PadConfig,
        case: &str,
        shape: [usize; 3],
    ) -> Result<Window, StageError> {
        let (own, bounds) = self.cases.get(case).ok_or_else(|| missing(case, &self.cell))?;
        check_shape(case, &self.cell, shape, *own)?;
        Ok(Window::around(*bounds, config.size))
    }
}

/// The part of a case that is kept.
struct Window {
    /// Its first voxel; negative where voxels are added before.
    first: [isize; 3],
    size: [usize; 3],
}

impl Window {
    /// The window of `size` about the middle of a box; of an odd rest the larger half lies after the box.
    fn around(bounds: BoundingBox, size: [usize; 3]) -> Self {
        let first = [0, 1, 2].map(|axis| {
            let [start, end] = [bounds.start, bounds.end].map(|place| place[axis].cast_signed());
            start + (end - start - size[axis].cast_signed()).div_euclid(2)
        });
        Self { first, size }
    }

    /// The place of the result; of a case whose own is not known relative to its first voxel.
    fn place(&self, spacing: Spacing, affine: Option<Affine>) -> Affine {
        let from = affine.unwrap_or_else(|| of_spacing(spacing));
        regridded(&from, self.first.map(|voxel| voxel as f64), [1.0; 3])
    }

    fn image(&self, config: &PadConfig, case: CaseImage) -> CaseImage {
        let least = || case.image.values().iter().copied().fold(f32::INFINITY, f32::min);
        let image = cut(&case.image, self.first, self.size, config.fill.unwrap_or_else(least));
        CaseImage { image, affine: Some(self.place(case.spacing, case.affine)), ..case }
    }

    fn label(&self, label: CaseLabel) -> CaseLabel {
        CaseLabel {
            mask: cut(&label.mask, self.first, self.size, false),
            probability: label.probability.map(|map| cut(&map, self.first, self.size, 0.0)),
            affine: Some(self.place(label.spacing, label.affine)),
            ..label
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{affine::place, mask};

    use super::*;
    use crate::shards::tests::label;

    #[test]
    fn the_middle_stays_and_the_place_follows() {
        let place_of = [[0.0, -2.0, 0.0, 5.0], [0.5, 0.0, 0.0, -1.0], [0.0, 0.0, 3.0, 9.0]].into();
        let given =
            CaseLabel { affine: Some(place_of), ..label("a", "x", mask!["# . .", "# # ."]) };
        let found = Window::around(whole([1, 2, 3]), [1, 3, 2]).label(given.clone());
        assert_eq!(found.mask, mask![". .", "# .", "# #"]);
        let there = place(&found.affine.unwrap(), [0.0, 1.0, 0.0]);
        assert_eq!(there, place(&place_of, [0.0, 0.0, 0.0]));
        let same = Window::around(whole([1, 2, 3]), [1, 2, 3]).label(given.clone());
        assert_eq!(same, given);
    }

    #[test]
    fn the_middle_of_all_foreground_becomes_that_of_the_result() {
        let mask = mask![". . . .", ". # . .", ". . # ."];
        let bounds = BoundingBox::of(&mask).unwrap();
        assert_eq!((bounds.start, bounds.end), ([0, 1, 1], [1, 3, 3]));
        assert_eq!(BoundingBox::of(&mask![". .", ". ."]), None);
        let window = Window::around(bounds, [1, 4, 1]);
        assert_eq!((window.first, window.size), ([0, 0, 1], [1, 4, 1]));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refused = |size, fill| PadCases::check(&PadConfig { size, fill }).unwrap_err().message;
        assert!(refused([1, 0, 3], None).ends_with("got [1, 0, 3]"));
        assert!(refused([1 << 20, 1 << 20, 1 << 20], None).contains("voxels"));
        assert_eq!(refused([1, 2, 3], Some(f32::NAN)), "expected a finite number: got NaN");
    }
}
