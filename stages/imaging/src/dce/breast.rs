//! Step 1: the breast, from the skin to the chest wall.
//!
//! Source: air and body by the Rayleigh noise of the corners, as in magnitude images; the chest wall where its muscle is seen,
//! else a plane behind the sternum as in Wei et al. (2018). An outside mask is better where there is one. Rows go from the
//! front of the patient to the back.
//! Cost: two smoothings, two distance transforms, a labelling and the search for the chest wall.

use datasets::{Grid, Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Phases, chest_wall::chest_wall};
use crate::{
    ImagingError,
    components::{Components, Connectivity},
    distance::{Border, squared_distance_to_background},
    error::{check_option, check_spacing},
    holes::fill_holes,
    morphology::{dilate, erode},
    recursive::smooth,
};

/// Settings of [`find`] and [`inner`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breast {
    /// Rim that is taken off in millimetres, for the skin. Default 3.
    pub rim_mm: f64,
    /// Depth of the chest wall behind the foremost point of the sternum in millimetres, where no muscle is seen. Default 10.
    pub wall_mm: f64,
}

impl Default for Breast {
    fn default() -> Self {
        Self { rim_mm: 3.0, wall_mm: 10.0 }
    }
}

impl Breast {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`ImagingError::OptionOutOfRange`].
    pub fn check(&self) -> Result<(), ImagingError> {
        check_option("breast", "rim_mm", self.rim_mm, [0.0, 50.0])?;
        check_option("breast", "wall_mm", self.wall_mm, [-500.0, 500.0])
    }
}

/// The breasts with their skin.
///
/// # Errors
/// Those of [`Breast::check`], and [`ImagingError::ShapesDiffer`], [`ImagingError::SpacingNotPositive`] and
/// [`ImagingError::NoVoxels`] for phases that do not fit.
pub fn find(phases: Phases<'_>, settings: &Breast) -> Result<Mask, ImagingError> {
    settings.check()?;
    phases.check()?;
    let mut body = body(phases)?;
    let [n_slices, n_rows, n_columns] = body.shape();
    let wall = chest_wall(phases.pre, &body, phases.spacing)?.unwrap_or_else(|| {
        let sternum = sternum_row(&body).map_or(0.0, |row| row as f64);
        let row = (sternum + settings.wall_mm / phases.spacing[1]).max(0.0) as usize;
        vec![row; n_slices * n_columns]
    });
    let values = body.values_mut();
    for (place, &wall) in wall.iter().enumerate() {
        let (slice, column) = (place / n_columns, place % n_columns);
        for row in wall..n_rows {
            values[(slice * n_rows + row) * n_columns + column] = false;
        }
    }
    Ok(body)
}

/// The part of a breast deeper than the rim.
///
/// # Errors
/// Those of [`Breast::check`] and [`ImagingError::SpacingNotPositive`].
pub fn inner(breast: &Mask, spacing: [f64; 3], settings: &Breast) -> Result<Mask, ImagingError> {
    settings.check()?;
    check_spacing(spacing)?;
    if settings.rim_mm <= 0.0 {
        return Ok(breast.clone());
    }
    let limit = settings.rim_mm * settings.rim_mm;
    let depth = squared_distance_to_background(breast, spacing, Border::Unknown);
    Ok(depth.map(|&squared| squared > limit))
}

/// Everything that is no air.
fn body(phases: Phases<'_>) -> Result<Mask, ImagingError> {
    let mut brightest = phases.pre.clone();
    let pairs = brightest.values_mut().iter_mut().zip(phases.early.values());
    pairs.for_each(|(pre, &early)| *pre = pre.max(early));
    // The mean of Rayleigh noise is 1.2533 times its scale, smoothed or not; smoothed, it keeps closer to its mean.
    let [mean, _] = corners(&brightest);
    smooth(&mut brightest, 1.0, phases.spacing)?;
    let [_, deviation] = corners(&brightest);
    let limit = (mean + 5.0 * deviation).min(5.0 * mean / 1.2533);
    let bright = brightest.map(|&value| f64::from(value) > limit);
    // The closing must not grow towards the edge of the volume, nor take away what touches it.
    let wide = dilate(&bright, 5.0, phases.spacing);
    let mut closed = erode(&wide, 5.0, phases.spacing, Border::Background);
    let pairs = closed.values_mut().iter_mut().zip(bright.values());
    pairs.for_each(|(closed, &bright)| *closed |= bright);
    let parts = Components::find(&closed, Connectivity::Face);
    let largest = parts.by_size().first().map(|&part| parts.mask_of(part));
    Ok(filled_by_slice(&largest.unwrap_or(closed)))
}

/// Mean and standard deviation in the front corners, a tenth of each axis wide.
fn corners(image: &Image) -> [f64; 2] {
    let shape = image.shape();
    let side = shape.map(|length| (length / 10).max(1));
    let [mut sum, mut squares, mut n] = [0.0; 3];
    for slice in (0..side[0]).chain(shape[0] - side[0]..shape[0]) {
        for row in 0..side[1] {
            for column in (0..side[2]).chain(shape[2] - side[2]..shape[2]) {
                let value = f64::from(image.get([slice, row, column]));
                (sum, squares, n) = (sum + value, squares + value * value, n + 1.0);
            }
        }
    }
    let mean = sum / n;
    [mean, (squares / n - mean * mean).max(0.0).sqrt()]
}

/// Holes filled in every slice on its own.
fn filled_by_slice(mask: &Mask) -> Mask {
    let [n_slices, n_rows, n_columns] = mask.shape();
    let mut values = Vec::with_capacity(mask.values().len());
    for plane in mask.values().chunks_exact(n_rows * n_columns) {
        let plane =
            Grid::new([1, n_rows, n_columns], plane.to_vec()).expect("one slice of the mask");
        values.extend(fill_holes(&plane).into_values());
    }
    Grid::new([n_slices, n_rows, n_columns], values).expect("as many values as the mask")
}

/// Row of the sternum: the front of the body at the column that halves it, the median over the slices.
fn sternum_row(body: &Mask) -> Option<usize> {
    let [n_slices, n_rows, n_columns] = body.shape();
    let mut counts = vec![0_usize; n_columns];
    for line in body.values().chunks_exact(n_columns) {
        for (count, &inside) in counts.iter_mut().zip(line) {
            *count += usize::from(inside);
        }
    }
    let half = counts.iter().sum::<usize>() / 2;
    let mut seen = 0;
    let middle = counts.iter().position(|&count| {
        seen += count;
        seen > half
    })?;
    let mut fronts: Vec<usize> = (0..n_slices)
        .filter_map(|slice| (0..n_rows).find(|&row| body.get([slice, row, middle])))
        .collect();
    fronts.sort_unstable();
    fronts.get(fronts.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn the_body_is_cut_behind_the_sternum() {
        // A body from row 8 on, with two breasts before it, and weak noise in front.
        let image = Grid::from_fn([12, 30, 40], |[slice, row, column]| {
            let is_breast =
                (3..12).contains(&row) && ((2..10).contains(&column) || (30..38).contains(&column));
            if row >= 12 || is_breast {
                100.0
            } else {
                1.0 + ((slice + 3 * row + column) % 5) as f32 * 0.1
            }
        });
        let phases = Phases { pre: &image, early: &image, late: &image, spacing: [1.0; 3] };
        let settings = Breast { rim_mm: 1.0, wall_mm: 4.0 };
        let found = find(phases, &settings).unwrap();
        assert!(found.get([6, 6, 6]) && found.get([6, 12, 20]));
        assert!(!found.get([6, 20, 20]) && !found.get([6, 0, 6]));
        let inner = inner(&found, [1.0; 3], &settings).unwrap();
        assert!(inner.get([6, 6, 6]) && !inner.get([6, 15, 20]));
        assert!(inner.area() < found.area());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let wrong = Breast { rim_mm: -1.0, ..Breast::default() };
        let error = inner(&Mask::filled([2, 2, 2], true), [1.0; 3], &wrong).unwrap_err();
        assert!(matches!(error, ImagingError::OptionOutOfRange { option: "rim_mm", .. }));
    }
}
