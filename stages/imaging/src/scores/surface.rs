//! Distances between the surfaces of two masks, and what is made of them.
//!
//! Source: medPy 0.5 (`assd`, `hd95`, pooled) and MONAI (`compute_hausdorff_distance`, larger of two directed
//! percentiles); percentiles interpolate linearly between order statistics as NumPy does.
//! Randomness: none. Cost: two scans of the box around both masks (three in 3-D), then a short walk for each
//! surface voxel; sums run in raster order in `f64`.

use datasets::Mask;

use crate::{
    ImagingError,
    distance::DistanceQuery,
    error::check_spacing,
    fusion::check_shapes,
    morphology::{BoundingBox, extended_axes, surface_along},
};

/// Distance of every surface voxel of one mask to the surface of the other, both ways, in the unit of the spacing.
#[derive(Clone, Debug, PartialEq)]
pub struct SurfaceDistances {
    from_reference: Vec<f64>,
    from_prediction: Vec<f64>,
}

impl SurfaceDistances {
    /// Measures two masks; `None` when one of them is empty.
    ///
    /// `spacing` is `[slice, row, column]`.
    ///
    /// # Errors
    /// [`ImagingError::ShapesDiffer`] when the masks have different axes,
    /// [`ImagingError::SpacingNotPositive`] when a spacing is not positive.
    ///
    /// # Examples
    /// ```
    /// # use datasets::mask; use imaging::scores::SurfaceDistances;
    /// let distances = SurfaceDistances::measure(&mask!["# . . ."], &mask![". . # ."], [1.0, 1.0, 0.5])?;
    /// assert_eq!(distances.map(|distances| distances.hausdorff()), Some(1.0));
    /// # Ok::<(), imaging::ImagingError>(())
    /// ```
    pub fn measure(
        reference: &Mask,
        prediction: &Mask,
        spacing: [f64; 3],
    ) -> Result<Option<Self>, ImagingError> {
        check_shapes(["reference", "prediction"], [reference, prediction])?;
        check_spacing(spacing)?;
        let (Some(left), Some(right)) = (BoundingBox::of(reference), BoundingBox::of(prediction))
        else {
            return Ok(None);
        };
        // Beyond the common box both masks are background, as beyond the image: cutting changes no surface.
        let (common, axes) = (left.union(&right), extended_axes(reference.shape()));
        let reference = surface_along(&common.crop(reference), axes);
        let prediction = surface_along(&common.crop(prediction), axes);
        Ok(Some(Self {
            from_reference: directed(&reference, &prediction, spacing),
            from_prediction: directed(&prediction, &reference, spacing),
        }))
    }

    /// Distances of the surface voxels of the reference, in raster order.
    pub fn from_reference(&self) -> &[f64] {
        &self.from_reference
    }

    /// Distances of the surface voxels of the prediction, in raster order.
    pub fn from_prediction(&self) -> &[f64] {
        &self.from_prediction
    }

    /// Mean distance from the surface of the reference to that of the prediction.
    pub fn mean_from_reference(&self) -> f64 {
        mean(&self.from_reference)
    }

    /// Mean distance from the surface of the prediction to that of the reference.
    pub fn mean_from_prediction(&self) -> f64 {
        mean(&self.from_prediction)
    }

    /// Average symmetric surface distance: the mean over both surfaces pooled.
    pub fn assd(&self) -> f64 {
        let sum: f64 =
            self.from_reference.iter().sum::<f64>() + self.from_prediction.iter().sum::<f64>();
        sum / (self.from_reference.len() + self.from_prediction.len()) as f64
    }

    /// Mean average surface distance: the mean of the two directed means.
    pub fn masd(&self) -> f64 {
        0.5 * (self.mean_from_reference() + self.mean_from_prediction())
    }

    /// Hausdorff distance: the largest distance of both surfaces.
    pub fn hausdorff(&self) -> f64 {
        self.from_reference.iter().chain(&self.from_prediction).copied().fold(0.0, f64::max)
    }

    /// Larger of the two directed percentiles (MONAI, Metrics Reloaded); `percent` in `[0, 100]`.
    pub fn percentile_directed(&self, percent: f64) -> f64 {
        let from_reference = percentile(&mut self.from_reference.clone(), percent);
        from_reference.max(percentile(&mut self.from_prediction.clone(), percent))
    }

    /// Percentile of both surfaces pooled (medPy); `percent` in `[0, 100]`.
    pub fn percentile_pooled(&self, percent: f64) -> f64 {
        let mut pooled = [self.from_reference.as_slice(), &self.from_prediction].concat();
        percentile(&mut pooled, percent)
    }
}

/// Distance of every voxel of `from` to the nearest voxel of `to`, in raster order.
fn directed(from: &Mask, to: &Mask, spacing: [f64; 3]) -> Vec<f64> {
    let query = DistanceQuery::new(to, spacing);
    let [n_slices, n_rows, _] = from.shape();
    let mut distances = Vec::new();
    for slice in 0..n_slices {
        for row in 0..n_rows {
            for (column, _) in
                from.row(slice, row).iter().enumerate().filter(|(_, inside)| **inside)
            {
                distances.push(query.squared_distance_at([slice, row, column]).sqrt());
            }
        }
    }
    distances
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Percentile with linear interpolation between order statistics, by selection; reorders `values`, which has some.
fn percentile(values: &mut [f64], percent: f64) -> f64 {
    let place = percent / 100.0 * (values.len() - 1) as f64;
    let below = (place.floor() as usize).min(values.len() - 1);
    let (_, &mut lower, rest) = values.select_nth_unstable_by(below, f64::total_cmp);
    let upper = rest.iter().copied().fold(f64::INFINITY, f64::min);
    let part = place - below as f64;
    if part > 0.0 && upper.is_finite() { lower + part * (upper - lower) } else { lower }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use datasets::{Grid, Stream};

    /// Digits that the references print.
    const PRINTED: f64 = 5e-7;

    fn sphere(radius: f64, centre: [f64; 3], spacing: [f64; 3]) -> Mask {
        Mask::from_fn([99; 3], |place| {
            let squared: f64 = (0..3)
                .map(|axis| (place[axis] as f64 * spacing[axis] - centre[axis]).powi(2))
                .sum();
            squared <= radius * radius
        })
    }

    fn measured(reference: &Mask, prediction: &Mask, spacing: [f64; 3]) -> SurfaceDistances {
        SurfaceDistances::measure(reference, prediction, spacing).unwrap().unwrap()
    }

    /// Directed (prediction to reference) and undirected percentile, in the order of MONAI's test tables.
    fn both_ways(distances: &SurfaceDistances, percent: f64) -> [f64; 2] {
        let directed = percentile(&mut distances.from_prediction.clone(), percent);
        [directed, distances.percentile_directed(percent)]
    }

    fn assert_close(found: &[f64], expected: &[f64], relative: f64) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= relative * expected.abs(),
                "{found} instead of {expected}"
            );
        }
    }

    /// Expected values: MONAI, tests/metrics/test_hausdorff_distance.py (Euclidean, directed then undirected).
    #[test]
    fn spheres_have_the_hausdorff_distances_of_monai() {
        let unit = [1.0; 3];
        let shifted =
            measured(&sphere(20.0, [19.0; 3], unit), &sphere(20.0, [20.0; 3], unit), unit);
        assert_close(&both_ways(&shifted, 100.0), &[3.0_f64.sqrt(), 3.0_f64.sqrt()], 1e-12);
        let centre = [20.0, 33.0, 22.0];
        let nested = measured(&sphere(40.0, centre, unit), &sphere(20.0, centre, unit), unit);
        assert_close(&both_ways(&nested, 100.0), &[20.09975124224178, 20.223748416156685], 1e-12);
        assert_close(&both_ways(&nested, 95.0), &[19.924858845171276, 20.09975124224178], 1e-12);
        assert_close(&[nested.hausdorff()], &[20.223748416156685], 1e-12);
    }

    /// Expected values: MONAI, tests/metrics/test_surface_distance.py (pooled, then prediction to reference).
    #[test]
    fn spheres_have_the_surface_distances_of_monai() {
        let unit = [1.0; 3];
        let prediction = sphere(33.0, [19.0, 33.0, 22.0], unit);
        let moved = measured(&sphere(33.0, [20.0, 33.0, 22.0], unit), &prediction, unit);
        assert_close(&[moved.assd(), moved.mean_from_prediction()], &[0.350217, 0.3483279], 1e-5);
        let centre = [20.0, 33.0, 22.0];
        let nested = measured(&sphere(40.0, centre, unit), &sphere(20.0, centre, unit), unit);
        assert_close(
            &[nested.assd(), nested.mean_from_prediction()],
            &[15.117741, 12.0400335],
            1e-5,
        );
    }

    /// Expected values: the same two tables, cases with a spacing; centres are in the unit of the spacing.
    #[test]
    fn spheres_keep_the_values_of_monai_under_a_spacing() {
        let spacing = [0.85, 1.2, 0.9];
        let ball = |radius, centre| sphere(radius, centre, spacing);
        let shifted = measured(&ball(20.0, [19.0; 3]), &ball(20.0, [20.0; 3]), spacing);
        assert_close(&both_ways(&shifted, 100.0), &[2.0808651447296143, 2.2671568], 1e-6);
        let centre = [20.0, 33.0, 22.0];
        let nested = measured(&ball(30.0, centre), &ball(15.0, centre), spacing);
        assert_close(&both_ways(&nested, 100.0), &[15.439640998840332, 15.62594], 1e-6);
        let prediction = ball(33.0, [42.0, 45.0, 52.0]);
        let moved = measured(&ball(33.0, [43.0, 45.0, 52.0]), &prediction, spacing);
        assert_close(&[moved.assd(), moved.mean_from_prediction()], &[0.4951, 0.4951], 1e-4);
    }

    /// DeepMind weights surface elements between voxels, so its average distances differ from ours by convention;
    /// Hausdorff distances agree where the nearest voxels face each other.
    #[test]
    fn hausdorff_agrees_with_deepmind_where_the_conventions_do() {
        let pixel = |column| Mask::from_fn([1, 100, 100], |place| place == [0, 50, column]);
        let pixels = measured(&pixel(70), &pixel(72), [1.0, 2.0, 1.0]);
        assert_close(&[pixels.hausdorff(), pixels.percentile_directed(95.0)], &[2.0, 2.0], 1e-12);
        // DeepMind: 1.5, from distances 1, 1, 2, 2 of the surface elements.
        assert_close(&[pixels.assd()], &[2.0], 1e-12);
        let half = |n_slices| Mask::from_fn([100; 3], |[slice, ..]| slice < n_slices);
        let cubes = measured(&half(50), &half(51), [2.0, 1.0, 1.0]);
        assert_close(&[cubes.hausdorff()], &[2.0], 1e-12);
    }

    #[test]
    fn the_box_around_both_masks_hides_no_axis() {
        let row = |columns: std::ops::Range<usize>| {
            Mask::from_fn([1, 5, 9], |[_, row, column]| row == 2 && columns.contains(&column))
        };
        let distances = measured(&row(1..6), &row(1..8), [1.0; 3]);
        assert_eq!((distances.from_reference().len(), distances.from_prediction().len()), (5, 7));
        assert_close(&[distances.hausdorff(), distances.assd()], &[2.0, 3.0 / 12.0], 1e-12);
    }

    #[test]
    fn a_shift_by_k_voxels_is_k_times_the_spacing_and_scores_are_symmetric() {
        let mut stream = Stream::new(4, "test.surface", &[]);
        for _ in 0..50 {
            let shape = [1 + stream.below(4), 2 + stream.below(9), 2 + stream.below(9)];
            let spacing =
                [stream.between(0.5, 2.0), stream.between(0.5, 2.0), stream.between(0.5, 2.0)];
            let [left, right] =
                [0.3, 0.6].map(|density| Grid::from_fn(shape, |_| stream.uniform() < density));
            let Some(there) = SurfaceDistances::measure(&left, &right, spacing).unwrap() else {
                continue;
            };
            let back = measured(&right, &left, spacing);
            assert_close(&[there.assd(), there.masd()], &[back.assd(), back.masd()], 1e-12);
            assert_close(&[there.percentile_pooled(95.0)], &[back.percentile_pooled(95.0)], 1e-12);
            assert_eq!(measured(&left, &left, spacing).hausdorff(), 0.0);
        }
        for steps in 1..5 {
            let dot = |column| Mask::from_fn([1, 3, 9], |place| place == [0, 1, column]);
            let distances = measured(&dot(2), &dot(2 + steps), [1.0, 1.0, 0.7]);
            assert_close(&[distances.assd()], &[0.7 * steps as f64], PRINTED);
        }
    }

    #[test]
    fn percentiles_interpolate_as_numpy_does() {
        // numpy.percentile([1, 2, 3, 4, 10], [0, 25, 90, 95, 100])
        for (percent, expected) in
            [(0.0, 1.0), (25.0, 2.0), (90.0, 7.6), (95.0, 8.8), (100.0, 10.0)]
        {
            assert_close(
                &[percentile(&mut [3.0, 10.0, 1.0, 4.0, 2.0], percent)],
                &[expected],
                1e-12,
            );
        }
        assert_eq!(percentile(&mut [7.0], 95.0), 7.0);
    }
}
