//! Prediction of large cases by overlapping windows with Gaussian weights.
//!
//! Source: MONAI's `sliding_window_inference` with `mode="gaussian"`: windows every `size · (1 − overlap)` pixels, the
//! last of an axis moved back inside; weights `exp(−x² / 2(size/8)²)` along each axis, multiplied, at least 1e-3; a
//! case smaller than a window is framed with zeros, the smaller half before it. 2-D and 3-D are one code path.
//! Deviation: probabilities are averaged, and sums are in f64.
//!
//! Memory beyond that of the network on one window: 12 bytes a pixel and structure, and 8 a pixel, of the case.

use kernels::Volume;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NetsError, Predictor, Region};

/// σ of the weights as a share of a window's side.
const SIGMA: f64 = 0.125;
/// Smallest weight.
const FLOOR: f64 = 1e-3;

/// Windows that a case is predicted by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Axes of a window, `[slice, row, column]`, which the network must be able to pool; 2-D has one slice.
    pub size: [usize; 3],
    /// Overlap of neighbours as a share of the window, in [0, 0.95]. Default a quarter (MONAI's; nnU-Net takes half).
    #[serde(default = "quarter")]
    pub overlap: f64,
}

fn quarter() -> f64 {
    0.25
}

impl WindowConfig {
    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        let Self { size, overlap } = *self;
        let good = size.iter().all(|&side| side > 0);
        NetsError::check("window.size", "three sides of at least 1", size, good)?;
        let good = (0.0..=0.95).contains(&overlap);
        NetsError::check("window.overlap", "a share in [0, 0.95]", overlap, good)
    }

    /// All windows over a case of axes `size`, the last axis fastest. Along an axis on which the case is shorter than a
    /// window there is one, and the smaller half of what is missing lies before the case.
    fn over(&self, size: [usize; 3]) -> impl Iterator<Item = Window> {
        let along = |axis: usize| {
            let missing = self.size[axis].saturating_sub(size[axis]);
            let starts = self.starts(axis, size[axis] + missing);
            let len = size[axis].min(self.size[axis]);
            starts.into_iter().map(move |start| (start, missing / 2, len)).collect::<Vec<_>>()
        };
        let (slices, rows, columns) = (along(0), along(1), along(2));
        let n_windows = slices.len() * rows.len() * columns.len();
        let whole = self.size;
        (0..n_windows).map(move |nth| {
            let slice = slices[nth / (rows.len() * columns.len())];
            let axes =
                [slice, rows[nth / columns.len() % rows.len()], columns[nth % columns.len()]];
            let part = axes.map(|(.., len)| len);
            Window {
                seen: Region { whole: size, corner: axes.map(|(start, ..)| start), size: part },
                inside: Region { whole, corner: axes.map(|(_, before, _)| before), size: part },
            }
        })
    }

    /// First positions of the windows along an axis of `len` pixels, at least one window long.
    fn starts(&self, axis: usize, len: usize) -> Vec<usize> {
        let size = self.size[axis];
        let interval =
            if len == size { size } else { ((size as f64 * (1.0 - self.overlap)) as usize).max(1) };
        let last = len - size;
        let n_windows = last.div_ceil(interval) + 1;
        (0..n_windows).map(|window| (window * interval).min(last)).collect()
    }

    /// Weights of the pixels of a window, `[slice, row, column]`.
    fn weights(&self) -> Vec<f64> {
        let along = self.size.map(|side| {
            let sigma = side as f64 * SIGMA;
            let weight = move |position: usize| {
                let x = position as f64 - (side as f64 - 1.0) / 2.0;
                (-x * x / (2.0 * sigma * sigma)).exp()
            };
            (0..side).map(weight).collect::<Vec<f64>>()
        });
        let [slices, rows, columns] = &along;
        let mut weights = Vec::with_capacity(self.size.iter().product());
        for slice in slices {
            for row in rows {
                weights.extend(columns.iter().map(|column| (slice * row * column).max(FLOOR)));
            }
        }
        weights
    }
}

/// Probabilities `[slice, row, column, structure]` of an image `[slice, row, column, channel]` of axes `size`.
///
/// Without `windows` the image goes through the network as a whole.
///
/// # Errors
/// Those of [`Predictor::predict`], and [`NetsError::Shape`] for an image of another length than `size` says.
pub fn predict_image(
    model: &mut dyn Predictor,
    image: &[f32],
    size: [usize; 3],
    windows: Option<&WindowConfig>,
) -> Result<Vec<f32>, NetsError> {
    let n_channels = model.shape().n_channels;
    let axes = "[slice, row, column, channel]";
    NetsError::check_len("image", axes, &[size[0], size[1], size[2], n_channels], image.len())?;
    let Some(windows) = windows else {
        let [slices, rows, columns] = size;
        return model.predict(image, Volume { batch: 1, slices, rows, columns });
    };
    windows.validate()?;
    let [slices, rows, columns] = windows.size;
    let volume = Volume { batch: 1, slices, rows, columns };
    let mut patch = Vec::new();
    let n_structures = model.shape().n_structures;
    blend(windows, size, n_structures, |window| {
        window.cut(image, n_channels, &mut patch);
        model.predict(&patch, volume)
    })
}

/// A window over a case: the part of the case in it, and where in the window that part lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    seen: Region,
    inside: Region,
}

impl Window {
    /// Pixels of each row that the window shares with the case: first in the case, first in the window, number.
    fn rows(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let rows = self.seen.rows().zip(self.inside.rows());
        rows.map(|((place, len), (at, _))| (place, at, len))
    }

    /// Replaces `patch` by the window's part of `values` `[slice, row, column, depth]`; 0 beyond the case.
    pub(crate) fn cut<T: Copy + Into<f32>>(self, values: &[T], depth: usize, patch: &mut Vec<f32>) {
        patch.clear();
        patch.resize(self.inside.whole.iter().product::<usize>() * depth, 0.0);
        for (place, at, len) in self.rows() {
            let source = &values[place * depth..][..len * depth];
            let target = &mut patch[at * depth..][..len * depth];
            target.iter_mut().zip(source).for_each(|(target, &value)| *target = value.into());
        }
    }
}

/// Weighted mean `[slice, row, column, depth]` of what `pass` finds in all windows over a case of axes `size`.
///
/// # Errors
/// Those of `pass`.
pub(crate) fn blend(
    windows: &WindowConfig,
    size: [usize; 3],
    depth: usize,
    mut pass: impl FnMut(Window) -> Result<Vec<f32>, NetsError>,
) -> Result<Vec<f32>, NetsError> {
    let (weights, n_pixels) = (windows.weights(), size.iter().product::<usize>());
    let (mut sums, mut total) = (vec![0.0; n_pixels * depth], vec![0.0; n_pixels]);
    for window in windows.over(size) {
        let found = pass(window)?;
        for (place, at, len) in window.rows() {
            let found = found[at * depth..].chunks_exact(depth);
            for (step, (found, weight)) in found.zip(&weights[at..at + len]).enumerate() {
                total[place + step] += weight;
                let sums = &mut sums[(place + step) * depth..][..depth];
                sums.iter_mut().zip(found).for_each(|(sum, &p)| *sum += weight * f64::from(p));
            }
        }
    }
    let mean = |(place, sum): (usize, &f64)| (sum / total[place / depth]) as f32;
    Ok(sums.iter().enumerate().map(mean).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::testing::PixelNet;

    fn windows(size: [usize; 3], overlap: f64) -> WindowConfig {
        WindowConfig { size, overlap }
    }

    #[test]
    fn starts_are_those_of_monai() {
        // monai.data.utils.dense_patch_slices((len,), (size,), (max(1, int(size * (1 - overlap))),)), version 1.5.
        for (len, size, overlap, expected) in [
            (10, 4, 0.25, vec![0, 3, 6]),
            (11, 4, 0.25, vec![0, 3, 6, 7]),
            (4, 4, 0.25, vec![0]),
            (5, 4, 0.5, vec![0, 1]),
            (9, 4, 0.0, vec![0, 4, 5]),
            (3, 1, 0.9, vec![0, 1, 2]),
        ] {
            assert_eq!(windows([1, 1, size], overlap).starts(2, len), expected, "{len} {size}");
        }
    }

    #[test]
    fn weights_are_those_of_monai() {
        // monai.data.utils.compute_importance_map((4, 4), mode="gaussian", sigma_scale=0.125), version 1.5, by hand:
        // exp(-0.5² / 2·0.5²) = 0.6065307 and exp(-1.5² / 2·0.5²) = 0.0111090 along each axis.
        let weights = windows([1, 4, 4], 0.25).weights();
        let expected = [1e-3, 0.006_737_947, 0.006_737_947, 1e-3];
        assert!(weights[..4].iter().zip(expected).all(|(found, e)| (found - e).abs() < 1e-8));
        assert!((weights[5] - 0.367_879_4).abs() < 1e-7);
    }

    #[test]
    fn windows_are_cut_with_zeros_around_a_small_case() {
        let image: Vec<f32> = (1..=6_u8).map(f32::from).collect();
        let cut = |window: [usize; 3]| {
            let windows = windows(window, 0.0);
            let mut patch = Vec::new();
            let patches = windows.over([1, 2, 3]).map(|window| {
                window.cut(&image, 1, &mut patch);
                patch.clone()
            });
            patches.collect::<Vec<_>>()
        };
        assert_eq!(cut([1, 2, 2]), [[1.0, 2.0, 4.0, 5.0], [2.0, 3.0, 5.0, 6.0]]);
        assert_eq!(cut([1, 3, 4])[0][..4], [1.0, 2.0, 3.0, 0.0]);
        let rows = [[0.0; 5], [0.0, 1.0, 2.0, 3.0, 0.0], [0.0, 4.0, 5.0, 6.0, 0.0], [0.0; 5]];
        assert_eq!(cut([1, 4, 5]), [rows.concat()]);
    }

    #[test]
    fn a_net_of_pixels_gives_the_same_by_windows() {
        let mut model = PixelNet::new(1);
        model.parameters.values = vec![0.7, -0.2];
        let size = [3, 5, 7];
        let image: Vec<f32> = (0..105).map(|place| (place as f32 * 0.37).sin()).collect();
        let whole = predict_image(&mut model, &image, size, None).unwrap();
        for (window, overlap) in [([1, 2, 4], 0.5), ([2, 2, 2], 0.25), ([4, 8, 3], 0.0)] {
            let windows = windows(window, overlap);
            let found = predict_image(&mut model, &image, size, Some(&windows)).unwrap();
            let close = found.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(close && found.len() == whole.len(), "{window:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut model = PixelNet::new(1);
        let empty = windows([1, 0, 2], 0.25);
        let refused = predict_image(&mut model, &[0.0; 4], [1, 2, 2], Some(&empty)).unwrap_err();
        assert!(matches!(refused, NetsError::Config { field: "window.size", .. }));
        let refused = predict_image(&mut model, &[0.0; 3], [1, 2, 2], None).unwrap_err();
        assert!(matches!(refused, NetsError::Shape { expected: 4, found: 3, .. }));
        assert!(windows([1, 2, 2], 1.0).validate().is_err());
    }
}
