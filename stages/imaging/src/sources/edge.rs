//! Algorithm 1: everything bright that hangs together with the seed. Follows every spicule, runs along vessels, and breaks
//! under noise, which moves its threshold and cuts its paths.

use datasets::Grid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Grower, Grown, Guard, Maps, Record, SeedRule};
use crate::{
    ImagingError,
    components::Connectivity,
    error::check_option,
    region::{Bounds, connected_threshold},
};

/// Connected threshold on the enhancement as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edge {
    /// Where the region starts. Default the brightest voxel.
    pub seed: SeedRule,
    /// Threshold as a share of the mean around the seed, above 0 and at most 1. Default 0.35.
    pub share: f64,
    /// What holds a leaking region back. Default nothing.
    pub guard: Option<Guard>,
}

impl Default for Edge {
    fn default() -> Self {
        Self { seed: SeedRule::Brightest, share: 0.35, guard: None }
    }
}

impl Grower for Edge {
    fn name(&self) -> &'static str {
        "edge"
    }

    fn check(&self) -> Result<(), ImagingError> {
        self.guard.map_or(Ok(()), |guard| guard.check())?;
        check_option(self.name(), "share", self.share, [f64::MIN_POSITIVE, 1.0])
    }

    fn seed(&self, maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError> {
        self.seed.pick(maps)
    }

    fn grow(&self, maps: Maps<'_>, seed: [usize; 3]) -> Result<Grown, ImagingError> {
        let image = maps.enhancement;
        let peak = image.get(seed);
        let mean = mean_around(maps, seed);
        // The enhancement is 0 outside the breast: a threshold above 0 keeps the region inside.
        let lower = ((self.share * mean) as f32).min(peak).max(f32::MIN_POSITIVE);
        let (region, lower, leak_capped) =
            Guard::grow(self.guard, [lower, peak], maps.voxel_mm3(), |lower| {
                connected_threshold(image, &[seed], Bounds::at_least(lower), Connectivity::Vertex)
            })?;
        let numbers = vec![("threshold", f64::from(lower)), ("mean_at_seed", mean)];
        let record = Record { numbers, leak_capped, ..Record::default() };
        Ok(Grown { mask: region.into_mask(), record })
    }
}

/// Mean of the enhancement over the 27 voxels at the seed; what lies beyond the edge repeats the outermost voxels.
fn mean_around(maps: Maps<'_>, seed: [usize; 3]) -> f64 {
    let shape = maps.enhancement.shape();
    let around = Grid::from_fn([3, 3, 3], |step| {
        let place =
            [0, 1, 2].map(|axis| (seed[axis] + step[axis]).saturating_sub(1).min(shape[axis] - 1));
        f64::from(maps.enhancement.get(place))
    });
    around.values().iter().sum::<f64>() / 27.0
}
