//! Annotation source that draws everything too thick: a dilation by a share of half the thickness of the mask.
//!
//! Source: Castro et al., JMLR 2019 (Morpho-MNIST), thickening by 1.0: dilation by a disc whose radius is that share of half
//! the mean thickness, twice the mean distance of the medial axis from the background.
//! Deviation: the radius is not cut to a whole number of pixels of a fourfold grid.
//! Randomness: none. Cost: the medial axis, and one dilation.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, Noisy, Simulator, StrengthScale, medial_axis::MedialAxis, share_scale, within_slices,
};
use crate::morphology::dilate;

/// Dilates within slices; the strength is the radius as a share of half the mean thickness, 1 as published.
///
/// Share 0 leaves the mask as it is, and an empty mask stays empty. In 3-D the thickness is that of all slices together, and
/// slices are dilated each by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thickening {}

impl Simulator for Thickening {
    fn name(&self) -> &'static str {
        "thickening"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        share_scale()
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 2.0]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 100.0]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, _draw: &Draw) -> Noisy {
        let thickness = MedialAxis::of(mask, spacing).mean_thickness();
        let radius = strength * thickness / 2.0;
        let noisy = dilate(mask, radius, within_slices(spacing, radius));
        let params = vec![("thickness", thickness), ("radius", radius)];
        Noisy { mask: noisy, params, clamped: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{
        redraw::plane_of,
        test_masks::{disc, draw, vectors},
    };
    use datasets::mask;

    fn noisy(mask: &Mask, share: f64) -> Noisy {
        Thickening {}.apply(mask, [1.0; 3], share, &draw(0))
    }

    #[test]
    fn golden_dilations_of_scikit_image() {
        let (_, masks) = vectors();
        let clean = &masks["clean"];
        let thickness = MedialAxis::of(clean, [1.0; 3]).mean_thickness();
        for radius in [1.0, 2.0, 3.0] {
            // A little more than the whole number, so that rounding does not matter.
            let found = noisy(clean, 2.0 * (radius + 0.1) / thickness);
            assert_eq!(found.mask, masks[&format!("thick {radius}")]);
        }
    }

    /// A line of one pixel is 2 thick, so a share of 1 adds one pixel all around.
    #[test]
    fn a_line_becomes_three_pixels_wide() {
        let line = mask![". . . . .", ". # # # .", ". . . . ."];
        let thick = mask![". # # # .", "# # # # #", ". # # # ."];
        assert_eq!(noisy(&line, 1.0).mask, thick);
        assert_eq!(noisy(&line, 0.9).mask, line);
    }

    /// A long bar, of which the ends hardly count. Distances are whole pixels apart on both sides.
    #[test]
    fn what_comes_out_is_thicker_by_the_share() {
        let bar = Mask::from_fn([1, 61, 660], |[_, row, column]| {
            (20..41).contains(&row) && (30..630).contains(&column)
        });
        let thickness = |mask: &Mask| MedialAxis::of(mask, [1.0; 3]).mean_thickness();
        for share in [0.3, 0.5, 0.8] {
            let expected = (1.0 + share) * thickness(&bar);
            let found = thickness(&noisy(&bar, share).mask);
            assert!((found - expected).abs() < 2.5, "{share}: {found}, expected {expected}");
        }
    }

    #[test]
    fn slices_of_one_shape_stay_alike_and_empty_and_full_masks_stay() {
        let flat = disc(32, [16.0, 16.0], 6.0);
        let cylinder = Mask::from_fn([4, 32, 32], |[slice, row, column]| {
            slice < 3 && flat.get([0, row, column])
        });
        let found = noisy(&cylinder, 0.7).mask;
        assert!((0..3).all(|slice| plane_of(&found, slice) == noisy(&flat, 0.7).mask));
        assert!(plane_of(&found, 3).is_empty());
        assert_eq!(noisy(&flat, 0.0).mask, flat);
        for clean in [mask![". . ."], mask!["# #", "# #"], mask!["#"]] {
            let found = noisy(&clean, 1.0);
            assert!(found.params[1].1.is_finite() && found.mask == clean);
        }
        assert!(Thickening {}.check(-1.0, [1, 9, 9], [1.0; 3]).is_err());
    }
}
