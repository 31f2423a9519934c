//! Step 5: one map that is high where a tumour may be.

use datasets::{Image, Mask};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_map;
use crate::{ImagingError, error::check_option};

/// Settings of [`enhancement`]; half of a factor's weight is reached at its centre.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Enhancement {
    /// Enhancement of a tumour in percent. Default 60.
    pub percent_centre: f64,
    /// Width of its rise, above 0. Default 10.
    pub percent_width: f64,
    /// Ratio of early to late uptake of a tumour. Default 0.85.
    pub ratio_centre: f64,
    /// Width of its rise, above 0. Default 0.08.
    pub ratio_width: f64,
}

impl Default for Enhancement {
    fn default() -> Self {
        Self { percent_centre: 60.0, percent_width: 10.0, ratio_centre: 0.85, ratio_width: 0.08 }
    }
}

impl Enhancement {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`ImagingError::OptionOutOfRange`].
    pub fn check(&self) -> Result<(), ImagingError> {
        const POSITIVE: [f64; 2] = [f64::MIN_POSITIVE, f64::MAX];
        const FINITE: [f64; 2] = [f64::MIN, f64::MAX];
        check_option("enhancement", "percent_centre", self.percent_centre, FINITE)?;
        check_option("enhancement", "percent_width", self.percent_width, POSITIVE)?;
        check_option("enhancement", "ratio_centre", self.ratio_centre, FINITE)?;
        check_option("enhancement", "ratio_width", self.ratio_width, POSITIVE)
    }
}

/// Suppressed uptake times how much it enhances and how fast it washes out, in `[0, 1]`; 0 outside `breast`.
///
/// # Errors
/// [`ImagingError::MapShapeDiffers`], and those of [`Enhancement::check`].
pub fn enhancement(
    suppressed: &Image,
    percent: &Image,
    ratio: &Image,
    breast: &Mask,
    settings: &Enhancement,
) -> Result<Image, ImagingError> {
    settings.check()?;
    for map in [suppressed, percent, ratio] {
        check_map(map, breast)?;
    }
    let mut found = suppressed.clone();
    let maps = percent.values().par_iter().zip(ratio.values()).zip(breast.values());
    let voxels = found.values_mut().par_iter_mut().zip(maps);
    voxels.for_each(|(value, ((&percent, &ratio), &inside))| {
        if !inside || *value <= 0.0 {
            *value = 0.0;
            return;
        }
        let strong = rise((f64::from(percent) - settings.percent_centre) / settings.percent_width);
        let fast = rise((f64::from(ratio) - settings.ratio_centre) / settings.ratio_width);
        *value = (f64::from(*value) * strong * (0.5 + 0.5 * fast)) as f32;
    });
    Ok(found)
}

/// The logistic function.
fn rise(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Grid, mask};

    use super::*;

    #[test]
    fn weak_and_slow_uptake_counts_less() {
        let row = |values: [f32; 4]| Grid::new([1, 1, 4], values.to_vec()).unwrap();
        let found = enhancement(
            &row([0.8; 4]),
            &row([60.0, 200.0, 200.0, 200.0]),
            &row([3.0, 0.85, 0.0, 3.0]),
            &mask!["# # # ."],
            &Enhancement::default(),
        );
        for (found, expected) in found.unwrap().values().iter().zip([0.4, 0.6, 0.4, 0.0]) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}
