//! Algorithm 3: everything within some standard deviations of the region's own mean. Adapts to the tumour, and floods the
//! breast when the interval is a little too wide, so that it is narrowed until the region is believed.

use datasets::Image;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Grower, Grown, Maps, Record, SeedRule, touches_edge};
use crate::{
    ImagingError,
    dce::damped,
    error::check_option,
    holes::fill_holes,
    rank::percentile,
    recursive::smooth,
    region::{Confidence, ConfidenceRegion, confidence_connected},
};

/// Value of voxels that may not belong: far below every interval.
const INVALID: f32 = -1000.0;
/// The region at the seed alone counts as at least this many cubic millimetres.
const SMALLEST_MM3: f64 = 50.0;
/// Step by which the interval narrows.
const STEP: f64 = 0.25;
/// Standard deviation of normal numbers over their median deviation.
const NORMAL: f64 = 1.4826;

/// Confidence-connected region on the uptake without vessels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Statistic {
    /// Where the region starts. Default the best component.
    pub seed: SeedRule,
    /// Radius around the seed in which it may grow, in millimetres, above 0. Default 30.
    pub radius_mm: f64,
    /// Half width of the first interval in standard deviations, 1 to 10. Default 2.5.
    pub widest: f64,
    /// Largest volume in cubic centimetres that is believed, above 0. Default 30.
    pub max_volume_cm3: f64,
    /// Largest growth from the region at the seed alone that is believed, at least 1. Default 4.
    pub max_growth: f64,
}

impl Default for Statistic {
    fn default() -> Self {
        Self {
            seed: SeedRule::Component,
            radius_mm: 30.0,
            widest: 2.5,
            max_volume_cm3: 30.0,
            max_growth: 4.0,
        }
    }
}

impl Grower for Statistic {
    fn name(&self) -> &'static str {
        "statistic"
    }

    fn check(&self) -> Result<(), ImagingError> {
        const POSITIVE: [f64; 2] = [f64::MIN_POSITIVE, f64::MAX];
        check_option(self.name(), "radius_mm", self.radius_mm, POSITIVE)?;
        check_option(self.name(), "widest", self.widest, [1.0, 10.0])?;
        check_option(self.name(), "max_volume_cm3", self.max_volume_cm3, POSITIVE)?;
        check_option(self.name(), "max_growth", self.max_growth, [1.0, f64::MAX])
    }

    fn seed(&self, maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError> {
        self.seed.pick(maps)
    }

    fn grow(&self, maps: Maps<'_>, seed: [usize; 3]) -> Result<Grown, ImagingError> {
        let ball = maps.ball(seed, self.radius_mm);
        let (mut image, floor) = self.uptake(maps)?;
        let voxels = image.values_mut().iter_mut().zip(ball.values());
        voxels.for_each(|(value, &inside)| {
            if !inside || *value < floor {
                *value = INVALID;
            }
        });
        let (found, multiplier, leak_capped) = self.narrow(&image, maps, seed)?;
        let numbers = vec![
            ("multiplier", multiplier),
            ("mean", found.mean),
            ("sd", found.sd),
            ("floor", f64::from(floor)),
        ];
        let touches_roi = touches_edge(found.region.mask(), &ball);
        let record = Record { numbers, leak_capped, touches_roi, ..Record::default() };
        Ok(Grown { mask: fill_holes(found.region.mask()), record })
    }
}

impl Statistic {
    /// The smoothed uptake without vessels, and three deviations above its median.
    fn uptake(&self, maps: Maps<'_>) -> Result<(Image, f32), ImagingError> {
        let mut image = damped(maps.uptake, maps.vesselness);
        smooth(&mut image, 0.7, maps.spacing)?;
        let median = percentile(&image, maps.breast, 50.0)?;
        let deviations = image.map(|&value| (value - median).abs());
        let deviation = percentile(&deviations, maps.breast, 50.0)?;
        Ok((image, median + (3.0 * NORMAL) as f32 * deviation))
    }

    /// The widest interval whose region is believed, its width, and whether none was.
    fn narrow(
        &self,
        image: &Image,
        maps: Maps<'_>,
        seed: [usize; 3],
    ) -> Result<(ConfidenceRegion, f64, bool), ImagingError> {
        let mut multiplier = self.widest;
        loop {
            let grow = |n_iterations| {
                let settings = Confidence { multiplier, n_iterations, seed_radius: 2 };
                confidence_connected(image, &[seed], settings)
            };
            let volume =
                |found: &ConfidenceRegion| found.region.n_voxels() as f64 * maps.voxel_mm3();
            let (start, found) = (grow(0)?, grow(4)?);
            let largest = (self.max_growth * volume(&start).max(SMALLEST_MM3))
                .min(1000.0 * self.max_volume_cm3);
            let is_believed = volume(&found) <= largest;
            if is_believed || multiplier - STEP < 1.0 {
                return Ok((found, multiplier, !is_believed));
            }
            multiplier -= STEP;
        }
    }
}
