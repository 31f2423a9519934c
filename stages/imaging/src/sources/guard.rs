//! Holding back a region that leaks.
//!
//! A tumour is rarely larger than 30 cubic centimetres. When a threshold lets more in, the region has run along a vessel
//! or into the gland: the threshold is raised to the lowest one that keeps it small.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ImagingError, error::check_option, region::Region};

/// Rounds of halving: a threshold to a ten-thousandth of its range.
const ROUNDS: usize = 14;

/// The largest region that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Largest volume in cubic centimetres, above 0. Default 30.
    pub max_volume_cm3: f64,
}

impl Default for Guard {
    fn default() -> Self {
        Self { max_volume_cm3: 30.0 }
    }
}

impl Guard {
    /// Refuses volumes that are not positive.
    ///
    /// # Errors
    /// [`ImagingError::OptionOutOfRange`].
    pub fn check(&self) -> Result<(), ImagingError> {
        check_option("guard", "max_volume_cm3", self.max_volume_cm3, [f64::MIN_POSITIVE, f64::MAX])
    }

    /// Grows at `low`, or at the lowest threshold up to `high` whose region is believed; the flag tells which.
    ///
    /// The region at `high` is taken when even that is too large.
    pub(super) fn grow(
        guard: Option<Self>,
        [low, high]: [f32; 2],
        voxel_mm3: f64,
        mut grow: impl FnMut(f32) -> Result<Region, ImagingError>,
    ) -> Result<(Region, f32, bool), ImagingError> {
        let found = grow(low)?;
        let Some(guard) = guard else { return Ok((found, low, false)) };
        let is_believed =
            |region: &Region| region.n_voxels() as f64 * voxel_mm3 <= 1000.0 * guard.max_volume_cm3;
        if is_believed(&found) || high <= low {
            return Ok((found, low, false));
        }
        let (mut leaks, mut holds, mut kept) = (low, high, grow(high)?);
        for _ in 0..ROUNDS {
            let middle = 0.5 * (leaks + holds);
            let region = grow(middle)?;
            if is_believed(&region) {
                (holds, kept) = (middle, region);
            } else {
                leaks = middle;
            }
        }
        Ok((kept, holds, true))
    }
}
