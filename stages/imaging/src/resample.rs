//! Changing the number of voxels: to a shape by nearest neighbour or area average, to a spacing by interpolation, onto
//! another grid of the same world, and by cutting and padding.
//!
//! To a shape keeps the outline of the image: voxel `i` of `n` covers `[i / n, (i + 1) / n]` of its axis.
//! Randomness: none. Cost: one pass over the input an axis.

mod axis;
mod cut;
mod onto;
mod to_spacing;

use datasets::{Grid, Image, Mask};

pub use cut::cut;
pub use onto::{linear_onto, nearest_onto};
pub use to_spacing::{Alignment, Interpolation, Resampling, resample, resample_mask};

use crate::ImagingError;

/// Takes for every output voxel the input voxel that holds its centre.
///
/// # Errors
/// [`ImagingError::BadResampling`] when an axis is empty.
///
/// # Examples
/// ```
/// # use datasets::mask;
/// let larger = imaging::resample::resize_nearest(&mask!["# ."], [1, 2, 4])?;
/// assert_eq!(larger, mask!["# # . .", "# # . ."]);
/// # Ok::<(), imaging::ImagingError>(())
/// ```
pub fn resize_nearest(mask: &Mask, shape: [usize; 3]) -> Result<Mask, ImagingError> {
    let from = mask.shape();
    if from.contains(&0) || shape.contains(&0) {
        return Err(ImagingError::BadResampling {
            from,
            to: shape,
            rule: "every axis needs at least one voxel",
        });
    }
    let sources = [0, 1, 2].map(|axis| {
        (0..shape[axis])
            .map(|index| (2 * index + 1) * from[axis] / (2 * shape[axis]))
            .collect::<Vec<_>>()
    });
    Ok(Grid::from_fn(shape, |place| {
        mask.get([sources[0][place[0]], sources[1][place[1]], sources[2][place[2]]])
    }))
}

/// Averages the input over the area that every output voxel covers; sums are in `f64`.
///
/// # Errors
/// [`ImagingError::BadResampling`] when an axis is empty or longer than that of the input.
pub fn reduce_area(image: &Image, shape: [usize; 3]) -> Result<Image, ImagingError> {
    let from = image.shape();
    if (0..3).any(|axis| shape[axis] == 0 || shape[axis] > from[axis]) {
        let rule = "every axis needs at least one voxel and no more than the input has";
        return Err(ImagingError::BadResampling { from, to: shape, rule });
    }
    let exact = image.map(|&value| f64::from(value));
    let reduced =
        [2, 1, 0].into_iter().fold(exact, |image, axis| reduce_axis(image, axis, shape[axis]));
    Ok(reduced.map(|&value| value as f32))
}

/// Averages along one axis until it has `to` voxels.
fn reduce_axis(image: Grid<f64>, axis: usize, to: usize) -> Grid<f64> {
    let mut shape = image.shape();
    let from = shape[axis];
    if from == to {
        return image;
    }
    let stride: usize = shape[axis + 1..].iter().product();
    shape[axis] = to;
    let mut reduced = Grid::filled(shape, 0.0);
    let blocks = image.values().chunks_exact(from * stride);
    for (block, target) in blocks.zip(reduced.values_mut().chunks_exact_mut(to * stride)) {
        for (index, line) in target.chunks_exact_mut(stride).enumerate() {
            // In units of 1 / (from * to) of the axis, voxel borders are whole numbers.
            let (start, end) = (index * from, (index + 1) * from);
            for source in start / to..end.div_ceil(to) {
                let overlap = end.min((source + 1) * to) - start.max(source * to);
                let weight = overlap as f64 / from as f64;
                for (sum, &value) in line.iter_mut().zip(&block[source * stride..][..stride]) {
                    *sum += weight * value;
                }
            }
        }
    }
    reduced
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use datasets::mask;

    #[test]
    fn nearest_is_the_identity_at_the_same_shape_and_undoes_itself() {
        let mask = mask!["# . #", ". # ."];
        assert_eq!(resize_nearest(&mask, [1, 2, 3]).unwrap(), mask);
        let larger = resize_nearest(&mask, [1, 6, 9]).unwrap();
        assert_eq!(larger.area(), mask.area() * 9);
        assert_eq!(resize_nearest(&larger, [1, 2, 3]).unwrap(), mask);
    }

    #[test]
    fn area_average_keeps_the_mean() {
        let image = Image::from_fn([1, 4, 5], |[_, row, column]| (row * 5 + column) as f32);
        let reduced = reduce_area(&image, [1, 3, 2]).unwrap();
        let mean = |image: &Image| image.values().iter().sum::<f32>() / image.values().len() as f32;
        assert!((mean(&image) - mean(&reduced)).abs() < 1e-5);
        let halved =
            reduce_area(&Image::new([1, 1, 4], vec![1.0, 3.0, 5.0, 9.0]).unwrap(), [1, 1, 2])
                .unwrap();
        assert_eq!(halved.values(), [2.0, 7.0]);
    }

    #[test]
    fn shapes_without_meaning_are_refused() {
        let image = Image::filled([1, 2, 2], 0.0);
        assert!(matches!(reduce_area(&image, [1, 3, 2]), Err(ImagingError::BadResampling { .. })));
        assert!(matches!(
            resize_nearest(&mask!["#"], [1, 0, 1]),
            Err(ImagingError::BadResampling { .. })
        ));
    }
}
