//! Algorithm 2: everything whose whole neighbourhood is bright, on a map without detail. Noise does not move it; spicules and
//! tumours below some 4 mm escape it.

use datasets::{Grid, Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Grower, Grown, Guard, Maps, Record, brightest};
use crate::{
    ImagingError,
    error::check_option,
    grey::median,
    holes::fill_holes,
    recursive::smooth,
    region::{Bounds, neighbourhood_connected},
};

/// Neighbourhood-connected region on the smoothed enhancement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Smooth {
    /// Radius of the median as `[slice, row, column]` in voxels, at most 8. Default [1, 2, 2].
    pub median_radius: [usize; 3],
    /// Standard deviation of the smoothing after it in millimetres, above 0. Default 1.4.
    pub sigma_mm: f64,
    /// Threshold as a share of the value at the seed, above 0 and at most 1. Default 0.45.
    pub share: f64,
    /// What holds a leaking region back. Default nothing.
    pub guard: Option<Guard>,
}

impl Default for Smooth {
    fn default() -> Self {
        Self { median_radius: [1, 2, 2], sigma_mm: 1.4, share: 0.45, guard: None }
    }
}

impl Smooth {
    /// The map on which the region grows.
    fn even(&self, maps: Maps<'_>) -> Result<Image, ImagingError> {
        let mut image = median(maps.enhancement, self.median_radius);
        smooth(&mut image, self.sigma_mm, maps.spacing)?;
        Ok(image)
    }
}

impl Grower for Smooth {
    fn name(&self) -> &'static str {
        "smooth"
    }

    fn check(&self) -> Result<(), ImagingError> {
        self.guard.map_or(Ok(()), |guard| guard.check())?;
        for radius in self.median_radius {
            check_option(self.name(), "median_radius", radius as f64, [0.0, 8.0])?;
        }
        check_option(self.name(), "sigma_mm", self.sigma_mm, [f64::MIN_POSITIVE, f64::MAX])?;
        check_option(self.name(), "share", self.share, [f64::MIN_POSITIVE, 1.0])
    }

    fn seed(&self, maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError> {
        Ok(brightest(&self.even(maps)?, maps.breast))
    }

    fn grow(&self, maps: Maps<'_>, seed: [usize; 3]) -> Result<Grown, ImagingError> {
        let image = self.even(maps)?;
        let peak = image.get(seed);
        let lower = ((self.share * f64::from(peak)) as f32).max(f32::MIN_POSITIVE);
        let (region, lower, leak_capped) =
            Guard::grow(self.guard, [lower, peak], maps.voxel_mm3(), |lower| {
                neighbourhood_connected(&image, &[seed], Bounds::at_least(lower), [1; 3])
            })?;
        let numbers = vec![("threshold", f64::from(lower)), ("value_at_seed", f64::from(peak))];
        let record = Record { numbers, leak_capped, ..Record::default() };
        let mut mask = fill_holes(&boxed(region.mask()));
        let pairs = mask.values_mut().iter_mut().zip(maps.breast.values());
        pairs.for_each(|(inside, &breast)| *inside &= breast);
        Ok(Grown { mask, record })
    }
}

/// Every voxel of which one of the 27 around it is set: what asking for a whole neighbourhood took away.
fn boxed(mask: &Mask) -> Mask {
    let shape = mask.shape();
    let strides = [shape[1] * shape[2], shape[2], 1];
    let mut values = mask.values().to_vec();
    for axis in 0..3 {
        let before = values.clone();
        let (stride, length) = (strides[axis], shape[axis]);
        for (index, value) in values.iter_mut().enumerate() {
            let place = index / stride % length;
            *value |= (place > 0 && before[index - stride])
                || (place + 1 < length && before[index + stride]);
        }
    }
    Grid::new(shape, values).expect("as many values as the mask")
}

#[cfg(test)]
mod tests {
    use datasets::mask;

    use super::*;

    #[test]
    fn boxes_reach_across_corners() {
        assert_eq!(boxed(&mask![". . . .", ". . . #"]), mask![". . # #", ". . # #"]);
    }
}
