//! Annotation source that draws too small or too large: erosion or dilation by a Euclidean radius.
//!
//! Source: arXiv 2304.00466v2, IV-A.1, noise 1; the form is the erosion and dilation noise of Yao et al. (2023).
//! Deviation: the radius is one real number for all cases, found by calibration.
//! Randomness: `u1` decides between dilation and erosion. Cost: one dilation or erosion, and a distance transform where
//! an erosion would take too much.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale, shorter_side,
};
use crate::{
    distance::{Border, squared_distance_to_background},
    morphology::{dilate, erode},
    zip::zip,
};

/// Erosion never leaves less than this share of the area.
const SMALLEST_SHARE: f64 = 0.05;

/// Dilates or erodes by a radius; the strength is the radius in the unit of the spacing.
///
/// Radius 0 leaves the mask as it is. An erosion that would leave less than 5 % of the area, and at least one voxel,
/// uses the largest radius that leaves so much, and is flagged as clamped. Holes are kept; an empty mask stays empty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErodeDilate {
    /// Probability of dilation, else erosion; 0.5 is an unbiased annotator.
    pub dilate_probability: f64,
    /// What lies beyond the image when a mask is eroded; `unknown` by default, as in SciPy.
    pub border: Border,
}

impl Default for ErodeDilate {
    fn default() -> Self {
        Self { dilate_probability: 0.5, border: Border::Unknown }
    }
}

impl Simulator for ErodeDilate {
    fn name(&self) -> &'static str {
        "erode_dilate"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Continuous(0.01))
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 0.25 * shorter_side(shape, spacing)]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![("dilate_probability", self.dilate_probability, [0.0, 1.0])]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let is_dilation = draw.uniforms[0] < self.dilate_probability;
        let (noisy, radius) = if is_dilation {
            (dilate(mask, strength, spacing), strength)
        } else {
            erode_at_most(mask, strength, spacing, self.border)
        };
        let params = vec![("dilate", f64::from(u8::from(is_dilation))), ("radius", radius)];
        Noisy { mask: noisy, params, clamped: radius < strength }
    }
}

/// Erodes by `radius`, or by the largest smaller one that leaves enough; returns the radius that was used.
pub(super) fn erode_at_most(
    mask: &Mask,
    radius: f64,
    spacing: [f64; 3],
    border: Border,
) -> (Mask, f64) {
    let eroded = erode(mask, radius, spacing, border);
    let area = mask.area();
    let smallest = ((area as f64 * SMALLEST_SHARE).ceil() as usize).max(1);
    if eroded.area() >= smallest || area == 0 {
        return (eroded, radius);
    }
    let field = squared_distance_to_background(mask, spacing, border);
    let mut depths: Vec<f64> = field
        .values()
        .iter()
        .zip(mask.values())
        .filter(|(_, inside)| **inside)
        .map(|(&squared, _)| squared)
        .collect();
    let (_, &mut threshold, shallower) =
        depths.select_nth_unstable_by(smallest - 1, |a, b| b.total_cmp(a));
    let used = shallower.iter().copied().filter(|&depth| depth < threshold).fold(0.0, f64::max);
    (zip(&field, mask, |&squared, &inside| inside && squared >= threshold), used.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ImagingError,
        noise::test_masks::{dice, disc},
    };
    use datasets::mask;

    const DILATE: Draw = Draw { uniforms: [0.0; 4], seed: 0 };
    const ERODE: Draw = Draw { uniforms: [0.9; 4], seed: 0 };

    #[test]
    fn one_pixel_more_or_less() {
        let square = mask![". . . . .", ". # # # .", ". # # # .", ". # # # .", ". . . . ."];
        let larger = ErodeDilate::default().apply(&square, [1.0; 3], 1.0, &DILATE);
        assert_eq!(
            larger.mask,
            mask![". # # # .", "# # # # #", "# # # # #", "# # # # #", ". # # # ."]
        );
        let smaller = ErodeDilate::default().apply(&square, [1.0; 3], 1.0, &ERODE);
        assert_eq!(
            smaller.mask,
            mask![". . . . .", ". . . . .", ". . # . .", ". . . . .", ". . . . ."]
        );
        assert_eq!(smaller.params, [("dilate", 0.0), ("radius", 1.0)]);
        assert!(!larger.clamped && !smaller.clamped);
    }

    #[test]
    fn discs_follow_the_areas_of_their_radii() {
        let radius = 30.0;
        let clean = disc(128, [64.0, 64.0], radius);
        for strength in [2.0_f64, 5.0, 10.0] {
            let larger = (radius + strength).powi(2);
            let found = dice(
                &clean,
                &ErodeDilate::default().apply(&clean, [1.0; 3], strength, &DILATE).mask,
            );
            assert!(
                (found - 2.0 * radius.powi(2) / (radius.powi(2) + larger)).abs() < 0.01,
                "{strength}: {found}"
            );
            let smaller = (radius - strength).powi(2);
            let found = dice(
                &clean,
                &ErodeDilate::default().apply(&clean, [1.0; 3], strength, &ERODE).mask,
            );
            assert!(
                (found - 2.0 * smaller / (radius.powi(2) + smaller)).abs() < 0.015,
                "{strength}: {found}"
            );
        }
    }

    #[test]
    fn erosion_leaves_a_twentieth() {
        let clean = disc(64, [32.0, 32.0], 12.0);
        for strength in [11.9, 12.0, 500.0] {
            let noisy = ErodeDilate::default().apply(&clean, [1.0; 3], strength, &ERODE);
            assert!(noisy.clamped);
            assert!(
                noisy.mask.area() * 20 >= clean.area() && noisy.mask.area() * 10 < clean.area()
            );
            let radius = noisy.params[1].1;
            let again = ErodeDilate::default().apply(&clean, [1.0; 3], radius, &ERODE);
            assert_eq!(again.mask, noisy.mask);
        }
        let pixel =
            ErodeDilate::default().apply(&mask![". . .", ". # .", ". . ."], [1.0; 3], 5.0, &ERODE);
        assert_eq!((pixel.mask.area(), pixel.clamped), (1, true));
    }

    #[test]
    fn border_empty_and_bad_options() {
        let touching = mask!["# # .", "# # .", "# # ."];
        let unknown = ErodeDilate::default().apply(&touching, [1.0; 3], 1.0, &ERODE);
        assert_eq!(unknown.mask, mask!["# . .", "# . .", "# . ."]);
        let counted = ErodeDilate { border: Border::Background, ..ErodeDilate::default() };
        assert!(counted.apply(&touching, [1.0; 3], 1.0, &ERODE).clamped);
        let empty = mask![". ."];
        for draw in [DILATE, ERODE] {
            let noisy = ErodeDilate::default().apply(&empty, [1.0; 3], 3.0, &draw);
            assert_eq!((noisy.mask, noisy.clamped), (empty.clone(), false));
        }
        let biased = ErodeDilate { dilate_probability: 1.5, ..ErodeDilate::default() };
        assert!(matches!(
            biased.check(1.0, [1, 4, 4], [1.0; 3]),
            Err(ImagingError::OptionOutOfRange { .. })
        ));
        let negative = ErodeDilate::default().check(-1.0, [1, 4, 4], [1.0; 3]);
        assert!(matches!(negative, Err(ImagingError::StrengthOutOfRange { .. })));
    }
}
