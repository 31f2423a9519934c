//! Annotation source that overlooks things: one of the two largest components is missing.
//!
//! Source: arXiv 2304.00466v2, IV-A.1, noise 5. Deviation: the probability is ours, found by calibration.
//! Randomness: `u1` decides whether something is missing, `u2` which. Cost: the components of the mask.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, NoiseGrows, Noisy, Simulator, StrengthScale, StrengthSteps, StrengthUnit};
use crate::{
    components::{Components, Connectivity},
    morphology::BoundingBox,
};

/// What happens to a mask with a single component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SingleComponent {
    /// Nothing.
    #[default]
    Skip,
    /// It is erased: the annotator hands in a blank mask.
    All,
    /// One half is erased, cut through the centroid across the longest axis.
    Half,
}

/// Erases one of the two largest components; the strength is the probability of doing so.
///
/// Components touch across faces, edges and vertices; of equal sizes the first in raster order is the larger.
/// Probability 0 leaves every mask as it is, and an empty mask stays empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Erase {
    /// What happens to a mask with a single component; `skip` by default.
    pub single_component: SingleComponent,
    /// Components with fewer voxels are neither counted nor erased; 1 by default.
    pub smallest_component_voxels: usize,
}

impl Default for Erase {
    fn default() -> Self {
        Self { single_component: SingleComponent::Skip, smallest_component_voxels: 1 }
    }
}

impl Simulator for Erase {
    fn name(&self) -> &'static str {
        "erase"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        StrengthScale {
            unit: StrengthUnit::Probability,
            steps: StrengthSteps::Continuous(1e-4),
            noise_grows: NoiseGrows::WithStrength,
        }
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let [whether, which, ..] = draw.uniforms;
        let clamped = strength > 1.0;
        if whether >= strength {
            return Noisy { clamped, ..Noisy::unchanged(mask) };
        }
        let components = Components::find(mask, Connectivity::Vertex);
        let mut largest = components.by_size();
        largest
            .retain(|&component| components.sizes()[component] >= self.smallest_component_voxels);
        let is_first = which < 0.5;
        let noisy = match (largest.as_slice(), self.single_component) {
            ([first, second, ..], _) => {
                without(mask, &components, if is_first { *first } else { *second })
            }
            ([only], SingleComponent::All) => without(mask, &components, *only),
            ([only], SingleComponent::Half) => {
                without_half(mask, &components, *only, spacing, is_first)
            }
            ([_], SingleComponent::Skip) | ([], _) => {
                return Noisy { clamped, ..Noisy::unchanged(mask) };
            }
        };
        let erased = mask.area() - noisy.area();
        Noisy { mask: noisy, params: vec![("erased_voxels", erased as f64)], clamped }
    }
}

/// The mask without one component.
fn without(mask: &Mask, components: &Components, component: usize) -> Mask {
    let mut rest = mask.clone();
    for voxels in components.ranges(component) {
        rest.values_mut()[voxels].fill(false);
    }
    rest
}

/// The mask without the part of a component before (or from) its centroid on along its longest axis.
fn without_half(
    mask: &Mask,
    components: &Components,
    component: usize,
    spacing: [f64; 3],
    is_first: bool,
) -> Mask {
    let whole = components.mask_of(component);
    let Some(bounds) = BoundingBox::of(&whole) else { return mask.clone() };
    let extents = [0, 1, 2].map(|axis| bounds.shape()[axis] as f64 * spacing[axis]);
    let longest =
        (0..3).fold(0, |best, axis| if extents[axis] > extents[best] { axis } else { best });
    let [_, n_rows, n_columns] = mask.shape();
    let along = |index: usize| match longest {
        0 => index / (n_rows * n_columns),
        1 => index / n_columns % n_rows,
        _ => index % n_columns,
    };
    let places = whole
        .values()
        .iter()
        .enumerate()
        .filter(|(_, inside)| **inside)
        .map(|(index, _)| along(index));
    let centroid = places.sum::<usize>() as f64 / components.sizes()[component] as f64;
    let mut rest = mask.clone();
    for (index, (value, &inside)) in rest.values_mut().iter_mut().zip(whole.values()).enumerate() {
        *value &= !(inside && ((along(index) as f64) < centroid) == is_first);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImagingError, noise::test_masks::dice};
    use datasets::mask;

    fn draw(whether: f64, which: f64) -> Draw {
        Draw { uniforms: [whether, which, 0.0, 0.0], seed: 0 }
    }

    fn erased(simulator: Erase, mask: &Mask, draw: Draw) -> Mask {
        simulator.apply(mask, [1.0; 3], 0.5, &draw).mask
    }

    #[test]
    fn one_of_the_two_largest_goes() {
        let clean = mask!["# # . #", "# # . #", ". . . .", "# . # #"];
        let missing_largest = mask![". . . #", ". . . #", ". . . .", "# . # #"];
        let missing_second = mask!["# # . .", "# # . .", ". . . .", "# . # #"];
        assert_eq!(erased(Erase::default(), &clean, draw(0.49, 0.0)), missing_largest);
        assert_eq!(erased(Erase::default(), &clean, draw(0.49, 0.5)), missing_second);
        assert_eq!(erased(Erase::default(), &clean, draw(0.5, 0.0)), clean);
        let noisy = Erase::default().apply(&clean, [1.0; 3], 0.0, &draw(0.0, 0.0));
        assert_eq!(noisy.mask, clean);
        let (area, part) = (9.0, 4.0);
        assert!(
            (dice(&clean, &missing_largest) - 2.0 * (area - part) / (2.0 * area - part)).abs()
                < 1e-12
        );
    }

    #[test]
    fn a_single_component_follows_the_option() {
        let clean = mask![". . . . .", ". # # # #", ". . . . ."];
        assert_eq!(erased(Erase::default(), &clean, draw(0.0, 0.0)), clean);
        let all = Erase { single_component: SingleComponent::All, ..Erase::default() };
        assert!(erased(all, &clean, draw(0.0, 0.0)).is_empty());
        let half = Erase { single_component: SingleComponent::Half, ..Erase::default() };
        assert_eq!(
            erased(half, &clean, draw(0.0, 0.0)),
            mask![". . . . .", ". . . # #", ". . . . ."]
        );
        assert_eq!(
            erased(half, &clean, draw(0.0, 0.9)),
            mask![". . . . .", ". # # . .", ". . . . ."]
        );
        let empty = mask![". ."];
        assert_eq!(erased(all, &empty, draw(0.0, 0.0)), empty);
    }

    #[test]
    fn specks_do_not_count_when_told_so() {
        let clean = mask!["# # . .", "# # . .", ". . . #"];
        assert_eq!(erased(Erase::default(), &clean, draw(0.0, 0.9)).area(), 4);
        let robust = Erase { smallest_component_voxels: 2, ..Erase::default() };
        assert_eq!(erased(robust, &clean, draw(0.0, 0.9)), clean);
    }

    #[test]
    fn a_probability_is_a_probability() {
        let error = Erase::default().check(1.1, [1, 4, 4], [1.0; 3]);
        assert!(matches!(error, Err(ImagingError::StrengthOutOfRange { high: 1.0, .. })));
    }
}
