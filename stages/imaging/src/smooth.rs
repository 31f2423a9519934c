//! Gaussian smoothing along every axis.
//!
//! Source: the separable kernels of OpenCV (`GaussianBlur`) and SciPy (`gaussian_filter`): samples of the Gaussian up
//! to a radius, scaled to sum 1. Randomness: none. Cost: `2 * radius + 1` products a voxel and axis.

use datasets::Grid;

/// What lies beyond the edge of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The image mirrored at the centre of its outermost voxels (OpenCV's `BORDER_REFLECT_101`).
    Mirror,
    /// The outermost voxels, over and over (SciPy's `nearest`).
    Nearest,
}

/// Smooths `image` with standard deviation `sd_px` cut off at `radius_px`, both in voxels; axes of length 1 stay.
///
/// # Examples
/// ```
/// # use datasets::Grid; use imaging::smooth::{Edge, smooth};
/// let flat = smooth(&Grid::filled([1, 3, 4], 2.0), 1.0, 2, Edge::Mirror);
/// assert!(flat.values().iter().all(|value: &f64| (value - 2.0).abs() < 1e-12));
/// ```
pub fn smooth(image: &Grid<f64>, sd_px: f64, radius_px: usize, edge: Edge) -> Grid<f64> {
    let kernel = kernel(sd_px, radius_px);
    let axes = (0..3).filter(|&axis| image.shape()[axis] > 1);
    axes.fold(image.clone(), |image, axis| smooth_axis(&image, axis, &kernel, edge))
}

/// Weights from the centre outwards; with their mirror image they sum to 1.
fn kernel(sd: f64, radius: usize) -> Vec<f64> {
    let weight = |offset: usize| (-0.5 * (offset as f64 / sd).powi(2)).exp();
    let sum = 1.0 + 2.0 * (1..=radius).map(weight).sum::<f64>();
    (0..=radius).map(|offset| weight(offset) / sum).collect()
}

fn smooth_axis(image: &Grid<f64>, axis: usize, kernel: &[f64], edge: Edge) -> Grid<f64> {
    let shape = image.shape();
    let stride: usize = shape[axis + 1..].iter().product();
    let length = shape[axis];
    let mut smoothed = Grid::filled(shape, 0.0);
    let blocks = image.values().chunks_exact(length * stride);
    for (block, target) in blocks.zip(smoothed.values_mut().chunks_exact_mut(length * stride)) {
        for (place, line) in target.chunks_exact_mut(stride).enumerate() {
            for (offset, &weight) in kernel.iter().enumerate() {
                let (before, after) = (
                    source(place, offset, true, length, edge),
                    source(place, offset, false, length, edge),
                );
                let weight = if offset == 0 { 0.5 * weight } else { weight };
                let pairs = block[before * stride..][..stride]
                    .iter()
                    .zip(&block[after * stride..][..stride]);
                for (sum, (before, after)) in line.iter_mut().zip(pairs) {
                    *sum += weight * (before + after);
                }
            }
        }
    }
    smoothed
}

/// The voxel that stands at `place` minus (or plus) `offset`.
fn source(place: usize, offset: usize, is_before: bool, length: usize, edge: Edge) -> usize {
    let period = 2 * (length - 1);
    match (edge, is_before) {
        (Edge::Nearest, true) => place.saturating_sub(offset),
        (Edge::Nearest, false) => (place + offset).min(length - 1),
        (Edge::Mirror, is_before) => {
            let offset = offset % period;
            let along = if is_before { place + period - offset } else { place + offset } % period;
            along.min(period - along)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: `cv2.getGaussianKernel(5, 2)`, as OpenCV documents the formula.
    #[test]
    fn a_single_voxel_becomes_the_kernel() {
        let mut image = Grid::filled([1, 1, 9], 0.0);
        image.set([0, 0, 4], 1.0);
        let found = smooth(&image, 2.0, 2, Edge::Mirror);
        let expected = [0.152_469_14, 0.221_841_3, 0.251_379_12, 0.221_841_3, 0.152_469_14];
        for (found, expected) in found.values()[2..7].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-8, "{found}");
        }
    }

    #[test]
    fn edges_are_mirrored_or_repeated() {
        let image = Grid::from_fn([1, 1, 4], |[_, _, column]| column as f64);
        let near = kernel(1.0, 1)[1];
        let mirrored = smooth(&image, 1.0, 1, Edge::Mirror);
        assert!((mirrored.values()[0] - 2.0 * near).abs() < 1e-12);
        let repeated = smooth(&image, 1.0, 1, Edge::Nearest);
        assert!((repeated.values()[0] - near).abs() < 1e-12);
        let places = |edge| (0..9).map(move |offset| source(1, offset, true, 4, edge));
        assert!(places(Edge::Mirror).eq([1, 0, 1, 2, 3, 2, 1, 0, 1]));
        assert!(places(Edge::Nearest).eq([1, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn slices_are_smoothed_too() {
        let mut image = Grid::filled([3, 3, 3], 0.0);
        image.set([1, 1, 1], 1.0);
        let found = smooth(&image, 1.0, 1, Edge::Nearest);
        let kernel = kernel(1.0, 1);
        assert!((found.get([0, 1, 1]) - kernel[1] * kernel[0] * kernel[0]).abs() < 1e-15);
        assert!((found.values().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
