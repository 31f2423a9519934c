//! Where regions start.

use datasets::Image;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Maps, brightest};
use crate::{
    ImagingError,
    components::{Components, Connectivity},
    dce,
    distance::{Border, squared_distance_to_background},
    recursive::smooth,
};

/// Smallest part that may hold a seed, in cubic millimetres.
const SMALLEST_MM3: f64 = 60.0;
/// Thickness in millimetres beyond which more counts no further.
const THICK_MM: f64 = 6.0;

/// A rule that picks a seed from the enhancement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SeedRule {
    /// The brightest voxel.
    Brightest,
    /// The brightest voxel after smoothing by this many millimetres, above 0.
    BrightestSmoothed(f64),
    /// The innermost voxel of the thickest, roundest and brightest part; the brightest voxel when there is none.
    Component,
}

impl SeedRule {
    /// Picks the seed; `None` when the breast is empty.
    pub(super) fn pick(self, maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError> {
        match self {
            Self::Brightest => Ok(brightest(maps.enhancement, maps.breast)),
            Self::BrightestSmoothed(sigma_mm) => {
                Ok(brightest(&smoothed(maps, sigma_mm)?, maps.breast))
            }
            Self::Component => match component(maps)? {
                Some(seed) => Ok(Some(seed)),
                None => Self::BrightestSmoothed(2.0).pick(maps),
            },
        }
    }
}

fn smoothed(maps: Maps<'_>, sigma_mm: f64) -> Result<Image, ImagingError> {
    let mut image = maps.enhancement.clone();
    smooth(&mut image, sigma_mm, maps.spacing)?;
    Ok(image)
}

/// The innermost voxel of the best part of the brightest of three classes.
fn component(maps: Maps<'_>) -> Result<Option<[usize; 3]>, ImagingError> {
    let image = smoothed(maps, 1.0)?;
    let Some(threshold) = upper_otsu(image.values().iter().copied().filter(|&v| v > 1e-3)) else {
        return Ok(None);
    };
    let bright = image.map(|&value| f64::from(value) > threshold);
    let parts = Components::find(&bright, Connectivity::Vertex);
    let moments = dce::principal_moments(&parts, maps.spacing);
    let depth = squared_distance_to_background(&bright, maps.spacing, Border::Unknown);
    let mut sums = vec![(0.0_f64, -1.0_f64, 0_usize); parts.len()];
    for (index, &label) in parts.labels().values().iter().enumerate() {
        let Some(part) = (label as usize).checked_sub(1) else { continue };
        let (sum, deepest, place) = &mut sums[part];
        *sum += f64::from(image.values()[index]);
        let depth = depth.values()[index];
        if depth > *deepest {
            (*deepest, *place) = (depth, index);
        }
    }
    let mut best: Option<(f64, usize)> = None;
    for (part, &(sum, deepest, place)) in sums.iter().enumerate() {
        let size = parts.sizes()[part] as f64;
        if size * maps.voxel_mm3() < SMALLEST_MM3 {
            continue;
        }
        let [short, middle, long] = moments[part];
        let round = (middle * short).max(0.0).sqrt() / long.max(1e-9);
        let score = sum / size * deepest.min(THICK_MM * THICK_MM) * round;
        if best.is_none_or(|(largest, _)| score > largest) {
            best = Some((score, place));
        }
    }
    let [_, n_rows, n_columns] = image.shape();
    let place = |index: usize| {
        [index / (n_rows * n_columns), index / n_columns % n_rows, index % n_columns]
    };
    Ok(best.map(|(_, index)| place(index)).filter(|&place| maps.breast.get(place)))
}

/// The upper of the two thresholds that part values best into three classes (Otsu 1979), over 256 bins.
///
/// As scikit-image's `threshold_multiotsu`: the centre of the last bin below it. `None` with fewer than two values.
fn upper_otsu(values: impl Iterator<Item = f32> + Clone) -> Option<f64> {
    const BINS: usize = 256;
    let ends = values.clone().fold(None, |ends: Option<[f32; 2]>, v| {
        Some(ends.map_or([v, v], |[low, high]| [low.min(v), high.max(v)]))
    });
    let [low, high] = ends?.map(f64::from);
    if high <= low {
        return None;
    }
    let width = (high - low) / BINS as f64;
    let mut counts = [0.0_f64; BINS];
    for value in values {
        let bin = ((f64::from(value) - low) / width) as usize;
        counts[bin.min(BINS - 1)] += 1.0;
    }
    let (mut weights, mut sums) = ([0.0; BINS + 1], [0.0; BINS + 1]);
    for (bin, &count) in counts.iter().enumerate() {
        weights[bin + 1] = weights[bin] + count;
        sums[bin + 1] = sums[bin] + count * bin as f64;
    }
    let spread = |from: usize, to: usize| {
        let weight = weights[to] - weights[from];
        let sum: f64 = sums[to] - sums[from];
        if weight > 0.0 { sum * sum / weight } else { 0.0 }
    };
    let mut best = (f64::NEG_INFINITY, 0);
    for first in 1..BINS - 1 {
        for second in first + 1..BINS {
            let between = spread(0, first) + spread(first, second) + spread(second, BINS);
            if between > best.0 {
                best = (between, second - 1);
            }
        }
    }
    Some(low + (best.1 as f64 + 0.5) * width)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Grid, Mask};

    use super::*;

    #[test]
    fn thresholds_part_three_heaps() {
        // `skimage.filters.threshold_multiotsu(np.repeat([0.1, 0.5, 0.9], [60, 30, 10]) + ramp)` lies between the heaps.
        let heaps = [(0.1, 60), (0.5, 30), (0.9, 10)];
        let values: Vec<f32> = heaps
            .iter()
            .flat_map(|&(centre, n)| (0..n).map(move |i| centre + 0.001 * i as f32))
            .collect();
        let found = upper_otsu(values.iter().copied()).unwrap();
        assert!((0.52..0.9).contains(&found), "{found}");
        assert_eq!(upper_otsu([1.0, 1.0].into_iter()), None);
    }

    #[test]
    fn a_thick_part_wins_over_a_bright_thin_one() {
        let shape = [12, 16, 24];
        let enhancement = Grid::from_fn(shape, |[slice, row, column]| {
            let is_ball = [slice as i64 - 6, row as i64 - 8, column as i64 - 8]
                .iter()
                .map(|offset| offset * offset)
                .sum::<i64>()
                <= 16;
            let is_rod = slice == 2 && row == 2;
            if is_ball {
                0.7
            } else if is_rod {
                0.9
            } else {
                0.0
            }
        });
        let breast = Mask::filled(shape, true);
        let maps = Maps {
            enhancement: &enhancement,
            uptake: &enhancement,
            vesselness: &enhancement,
            breast: &breast,
            spacing: [1.0; 3],
        };
        assert_eq!(SeedRule::Brightest.pick(maps).unwrap(), Some([2, 2, 0]));
        let seed = SeedRule::Component.pick(maps).unwrap().unwrap();
        assert!(
            seed.iter().zip([6, 8, 8]).all(|(&at, centre)| at.abs_diff(centre) <= 1),
            "{seed:?}"
        );
    }
}
