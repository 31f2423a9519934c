//! Annotation source with a coarse brush: too large, too small, or with bites and bulges along the outline.
//!
//! Source: the noisy JSRT labels of the PyMIC examples (HiLab-git/PyMIC_examples): 35 % dilation, 35 % erosion, and for the
//! rest discs stamped on a tenth of the edge pixels and then cut out at a tenth of the new edge; radii from 6 to 12.
//! Deviation: the radius is that of a Euclidean ball; one strength stands for the range, from 2/3 to 4/3 of it.
//! Randomness: `u1` chooses among the three, `u2` the radius; two streams give every voxel its numbers.
//! Cost: at most three distance transforms.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, erode_dilate::erode_at_most,
    length_scale, shorter_side,
};
use crate::{
    distance::Border,
    morphology::{dilate, surface},
    zip::zip,
};

/// Dilates, erodes, or stamps and cuts discs; the strength is the mean radius in the unit of the spacing.
///
/// Radius 0 leaves the mask as it is and an empty mask stays empty. An erosion leaves at least 5 % of the area, and
/// cutting that would leave nothing is left out; both are flagged as clamped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeDistort {
    /// Probability of a dilation. Default 0.35.
    pub dilate_probability: f64,
    /// Probability of an erosion; with the other at most 1. Default 0.35.
    pub erode_probability: f64,
    /// Share of the edge voxels at which a disc is stamped or cut. Default 0.1.
    pub edge_share: f64,
}

impl Default for EdgeDistort {
    fn default() -> Self {
        Self { dilate_probability: 0.35, erode_probability: 0.35, edge_share: 0.1 }
    }
}

impl Simulator for EdgeDistort {
    fn name(&self) -> &'static str {
        "edge_distort"
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
        vec![
            ("dilate_probability", self.dilate_probability, [0.0, 1.0]),
            ("erode_probability", self.erode_probability, [0.0, 1.0 - self.dilate_probability]),
            ("edge_share", self.edge_share, [0.0, 1.0]),
        ]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let [which, size, ..] = draw.uniforms;
        let radius = strength * (2.0 + 2.0 * size) / 3.0;
        let (kind, noisy, clamped) = if which < self.dilate_probability {
            (0.0, dilate(mask, radius, spacing), false)
        } else if which < self.dilate_probability + self.erode_probability {
            let (eroded, used) = erode_at_most(mask, radius, spacing, Border::Unknown);
            (1.0, eroded, used < radius)
        } else {
            let (distorted, clamped) = self.distort(mask, radius, spacing, draw.seed);
            (2.0, distorted, clamped)
        };
        Noisy { mask: noisy, params: vec![("kind", kind), ("radius", radius)], clamped }
    }
}

impl EdgeDistort {
    /// Stamps discs on the edge, then cuts discs out of the new edge.
    fn distort(&self, mask: &Mask, radius: f64, spacing: [f64; 3], seed: u64) -> (Mask, bool) {
        if radius <= 0.0 {
            return (mask.clone(), false);
        }
        let stamps = self.discs(mask, radius, spacing, seed, "stamp");
        let stamped = zip(mask, &stamps, |&inside, &stamp| inside | stamp);
        let cuts = self.discs(&stamped, radius, spacing, seed, "cut");
        let cut = zip(&stamped, &cuts, |&inside, &cut| inside & !cut);
        let is_lost = cut.is_empty() && !stamped.is_empty();
        (if is_lost { stamped } else { cut }, is_lost)
    }

    /// Discs around some voxels of the edge; a voxel keeps its number whatever the edge is.
    fn discs(&self, mask: &Mask, radius: f64, spacing: [f64; 3], seed: u64, part: &str) -> Mask {
        let mut stream = Stream::new(seed, "noise.edge_distort", &[part]);
        let centres = surface(mask).map(|&edge| edge & (stream.uniform() < self.edge_share));
        dilate(&centres, radius, spacing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{dice, disc, lungs};

    fn apply(mask: &Mask, radius: f64, which: f64) -> Noisy {
        // The middle of the range is the strength itself.
        let draw = Draw { uniforms: [which, 0.5, 0.0, 0.0], seed: 4 };
        EdgeDistort::default().apply(mask, [1.0; 3], radius, &draw)
    }

    #[test]
    fn the_first_number_chooses_the_kind() {
        let clean = disc(48, [24.0, 24.0], 12.0);
        let larger = apply(&clean, 3.0, 0.1);
        assert_eq!(larger.mask, dilate(&clean, 3.0, [1.0; 3]));
        let smaller = apply(&clean, 3.0, 0.5);
        assert!(smaller.mask.area() < clean.area() && smaller.params[0] == ("kind", 1.0));
        let distorted = apply(&clean, 3.0, 0.9).mask;
        let added = distorted.values().iter().zip(clean.values()).filter(|(a, b)| **a && !**b);
        let removed = distorted.values().iter().zip(clean.values()).filter(|(a, b)| !**a && **b);
        assert!(added.count() > 10 && removed.count() > 10);
    }

    #[test]
    fn larger_discs_are_a_worse_mask() {
        let mean = |radius| {
            let draw = |seed| Draw { uniforms: [0.9, 0.5, 0.0, 0.0], seed };
            let score = |seed| {
                let clean = lungs(seed as usize);
                let simulator = EdgeDistort::default();
                dice(&clean, &simulator.apply(&clean, [1.0; 3], radius, &draw(seed)).mask)
            };
            (0..20).map(score).sum::<f64>() / 20.0
        };
        let means = [0.0, 2.0, 4.0, 6.0].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
    }

    #[test]
    fn nothing_disappears_and_bad_options_are_refused() {
        let small = disc(32, [16.0, 16.0], 3.0);
        for which in [0.1, 0.5, 0.9] {
            assert!(!apply(&small, 50.0, which).mask.is_empty());
            let empty = Mask::filled([1, 6, 6], false);
            let noisy = apply(&empty, 4.0, which);
            assert_eq!((noisy.mask, noisy.clamped), (empty, false));
            assert_eq!(apply(&small, 0.0, which).mask, small);
        }
        let wrong =
            EdgeDistort { dilate_probability: 0.8, erode_probability: 0.3, edge_share: 0.1 };
        assert!(wrong.check(1.0, [1, 6, 6], [1.0; 3]).is_err());
    }
}
