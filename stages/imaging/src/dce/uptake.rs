//! Step 2: how much contrast agent a voxel takes up, and how fast it gives it back.

use datasets::{Grid, Image, Mask};
use rayon::prelude::*;

use super::{Phases, check_map};
use crate::{ImagingError, rank::percentile};

/// Below this share of the brightest tissue before contrast a signal counts as noise.
const FLOOR: f32 = 0.1;

/// Largest ratio of early to late uptake that is told apart.
const LARGEST_RATIO: f32 = 3.0;

/// What subtraction gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Uptake {
    /// Early uptake as a share of its percentile 99.9 in the breast, in `[0, 1]`; 0 outside the breast.
    pub uptake: Image,
    /// Early enhancement in percent of the signal before contrast.
    pub percent: Image,
    /// Early over late uptake, in `[0, 3]`: above 1 where the agent washes out. 0 without late uptake.
    pub ratio: Image,
}

/// Subtracts the phases of a scan inside `breast`.
///
/// Signals below a tenth of the percentile 95 before contrast are raised to it before they divide. A breast without
/// uptake gives 0 everywhere.
///
/// # Errors
/// [`ImagingError::NoVoxels`] for an empty breast; [`ImagingError::ShapesDiffer`], [`ImagingError::MapShapeDiffers`]
/// and [`ImagingError::SpacingNotPositive`] for what does not fit.
pub fn uptake(phases: Phases<'_>, breast: &Mask) -> Result<Uptake, ImagingError> {
    phases.check()?;
    check_map(phases.pre, breast)?;
    let floor = (FLOOR * percentile(phases.pre, breast, 95.0)?).max(f32::MIN_POSITIVE);
    let mut uptake = difference(phases.early, phases.pre);
    let top = percentile(&uptake, breast, 99.9)?;
    let mut percent = uptake.clone();
    let pairs = percent.values_mut().par_iter_mut().zip(phases.pre.values());
    pairs.for_each(|(value, &pre)| *value = 100.0 * *value / pre.max(floor));
    let mut ratio = difference(phases.late, phases.pre);
    let pairs = ratio.values_mut().par_iter_mut().zip(uptake.values());
    pairs.for_each(|(late, &early)| {
        *late = if *late > 0.0 { (early / *late).clamp(0.0, LARGEST_RATIO) } else { 0.0 };
    });
    let scale = if top > 0.0 { 1.0 / top } else { 0.0 };
    let pairs = uptake.values_mut().par_iter_mut().zip(breast.values());
    pairs.for_each(|(value, &inside)| {
        *value = if inside { (*value * scale).clamp(0.0, 1.0) } else { 0.0 };
    });
    Ok(Uptake { uptake, percent, ratio })
}

fn difference(after: &Image, before: &Image) -> Image {
    let mut found = Grid::filled(after.shape(), 0.0);
    let pairs = after.values().par_iter().zip(before.values());
    let pairs = found.values_mut().par_iter_mut().zip(pairs);
    pairs.for_each(|(target, (&after, &before))| *target = after - before);
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::mask;

    use super::*;

    fn row(values: [f32; 4]) -> Image {
        Grid::new([1, 1, 4], values.to_vec()).unwrap()
    }

    #[test]
    fn uptake_percent_and_ratio_follow_their_formulas() {
        let (pre, early) = (row([100.0, 100.0, 2.0, 50.0]), row([150.0, 200.0, 12.0, 500.0]));
        let late = row([200.0, 150.0, 1.0, 60.0]);
        let phases = Phases { pre: &pre, early: &early, late: &late, spacing: [1.0; 3] };
        let found = uptake(phases, &mask!["# # # ."]).unwrap();
        // Percentile 99.9 of 10, 50 and 100 is 99.9; percentile 95 of 2, 100 and 100 is 100.
        for (found, expected) in
            found.uptake.values().iter().zip([50.0 / 99.9, 1.0, 10.0 / 99.9, 0.0])
        {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        for (found, expected) in found.percent.values().iter().zip([50.0, 100.0, 100.0, 900.0]) {
            assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        }
        assert_eq!(found.ratio.values(), [0.5, 2.0, 0.0, 3.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let image = row([1.0; 4]);
        let phases = Phases { pre: &image, early: &image, late: &image, spacing: [1.0; 3] };
        assert_eq!(uptake(phases, &mask![". . . ."]).unwrap_err(), ImagingError::NoVoxels);
        let wrong = Phases { spacing: [0.0; 3], ..phases };
        assert!(matches!(
            uptake(wrong, &mask!["# # # #"]),
            Err(ImagingError::SpacingNotPositive { .. })
        ));
        assert!(matches!(uptake(phases, &mask!["# #"]), Err(ImagingError::MapShapeDiffers { .. })));
        assert_eq!(uptake(phases, &mask!["# # # #"]).unwrap().uptake, row([0.0; 4]));
    }
}
