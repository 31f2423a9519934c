//! Annotation source that draws everything too thin: an erosion by a share of half the thickness of the mask.
//!
//! Source: Castro et al., JMLR 2019 (Morpho-MNIST), thinning by 0.7: erosion by a disc whose radius is that share of half
//! the mean thickness, twice the mean distance of the medial axis from the background.
//! Deviation: the radius is not cut to a whole number of pixels of a fourfold grid; at least 5 % of the area is left.
//! Randomness: none. Cost: the medial axis, and one erosion.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, Noisy, Simulator, StrengthScale, erode_dilate::erode_at_most, medial_axis::MedialAxis,
    share_scale, within_slices,
};
use crate::distance::Border;

/// Erodes within slices; the strength is the radius as a share of half the mean thickness, 0.7 as published.
///
/// Share 0 leaves the mask as it is, and an empty mask stays empty. In 3-D the thickness is that of all slices together, and
/// slices are eroded each by itself. An erosion that would leave less than 5 % of the volume uses the largest radius that
/// leaves so much, and is flagged as clamped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thinning {}

impl Simulator for Thinning {
    fn name(&self) -> &'static str {
        "thinning"
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
        let wanted = strength * thickness / 2.0;
        let flat = within_slices(spacing, wanted);
        let (noisy, radius) = erode_at_most(mask, wanted, flat, Border::Unknown);
        let params = vec![("thickness", thickness), ("radius", radius)];
        Noisy { mask: noisy, params, clamped: radius < wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{check_cylinder, disc, draw, vectors};
    use datasets::mask;

    fn noisy(mask: &Mask, share: f64) -> Noisy {
        Thinning {}.apply(mask, [1.0; 3], share, &draw(0))
    }

    fn thickness(mask: &Mask) -> f64 {
        MedialAxis::of(mask, [1.0; 3]).mean_thickness()
    }

    #[test]
    fn golden_erosions_of_scikit_image() {
        let (_, masks) = vectors();
        for radius in [1.0, 2.0, 3.0] {
            // A little more than the whole number, so that rounding does not matter.
            let found = noisy(&masks["clean"], 2.0 * (radius + 0.1) / thickness(&masks["clean"]));
            assert_eq!(found.mask, masks[&format!("thin {radius}")]);
        }
    }

    /// A bar of 7 rows has an axis of distance 4 but for its ends: 0.7 of half its thickness is between 2 and 3, so that two
    /// rows go on either side, and columns likewise.
    #[test]
    fn a_bar_loses_its_rim() {
        let bar = Mask::from_fn([1, 13, 40], |[_, row, column]| {
            (3..10).contains(&row) && (3..37).contains(&column)
        });
        let found = noisy(&bar, 0.7);
        let rest = Mask::from_fn([1, 13, 40], |[_, row, column]| {
            (5..8).contains(&row) && (5..35).contains(&column)
        });
        assert!((2.0..3.0).contains(&found.params[1].1), "{:?}", found.params);
        assert_eq!((found.mask, found.clamped), (rest, false));
    }

    /// A long bar, of which the ends hardly count. Distances are whole pixels apart on both sides.
    #[test]
    fn what_is_left_is_thinner_by_the_share() {
        let bar = Mask::from_fn([1, 31, 620], |[_, row, column]| {
            (5..26).contains(&row) && (10..610).contains(&column)
        });
        for share in [0.3, 0.5, 0.7] {
            let expected = (1.0 - share) * thickness(&bar);
            let found = thickness(&noisy(&bar, share).mask);
            assert!((found - expected).abs() < 2.0, "{share}: {found}, expected {expected}");
        }
    }

    #[test]
    fn slices_of_one_shape_stay_alike_and_nothing_disappears() {
        check_cylinder(10.0, |clean| noisy(clean, 0.7).mask);
        let flat = disc(32, [16.0, 16.0], 10.0);
        let all = noisy(&flat, 100.0);
        assert!(all.clamped && all.mask.area() * 20 >= flat.area());
        assert_eq!(noisy(&flat, 0.0).mask, flat);
        for clean in [mask![". . ."], mask!["# #", "# #"], mask!["#"]] {
            let found = noisy(&clean, 0.7);
            assert!(found.params[1].1.is_finite() && found.mask.is_empty() == clean.is_empty());
        }
        assert!(Thinning {}.check(f64::NAN, [1, 9, 9], [1.0; 3]).is_err());
    }
}
