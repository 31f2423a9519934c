//! Resampling of a volume to another spacing, with its middle cut out or padded to a size.
//!
//! Source: linear interpolation as in ITK and SciPy; cubic is the interpolating B-spline of order 3 (Unser, 1999) with
//! mirrored edges, ITK's `sitkBSpline` and SciPy's `order=3, mode="mirror"`; the smoothing before a reduction is
//! scikit-image's, a Gaussian of half the reduction less one half, in voxels.
//! Randomness: none. Cost: two products a voxel and axis for linear; the resampled slices that the output slices share
//! are made once, and what is cut off is never made.

use datasets::{Affine, Grid, Image, Mask, affine::regridded};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::axis::{Places, Taps, mirrored};
use crate::{ImagingError, error::check_spacing};

/// Most voxels that are made.
const MOST_VOXELS: usize = 1 << 31;

/// How values between voxels are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The value of the nearest voxel; of two that are equally near, the later.
    Nearest,
    /// Straight lines from voxel to voxel; beyond the outermost voxels their values go on.
    #[default]
    Linear,
    /// The cubic B-spline through the voxels, mirrored at the outermost ones. Overshoots at steps.
    Cubic,
}

/// Which part of input and output lies at the same place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// The outer edge of the first voxel: the image covers the same space as before.
    #[default]
    Outline,
    /// The centre of the first voxel, as when ITK keeps the origin.
    FirstVoxel,
}

/// What a volume is resampled to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resampling {
    /// New distance of voxels, `[slice, row, column]` in millimetres, above 0. Default that of the input.
    pub spacing_mm: Option<[f64; 3]>,
    /// Voxels of the result, `[slice, row, column]`: the middle is cut out, or padded. Default as many as the input fills.
    pub size: Option<[usize; 3]>,
    /// How values between voxels are found; masks are always taken from the nearest voxel. Default linear.
    pub interpolation: Interpolation,
    /// Whether values are smoothed along axes that lose voxels. Default false.
    pub antialias: bool,
    /// Which part of input and output lies at the same place. Default the outline.
    pub alignment: Alignment,
    /// Value of voxels that are added around the image, a finite number. Default 0.
    pub fill: f32,
}

impl Resampling {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`ImagingError::SpacingNotPositive`], [`ImagingError::BadResampling`] and [`ImagingError::OptionOutOfRange`].
    pub fn check(&self) -> Result<(), ImagingError> {
        self.spacing_mm.map_or(Ok(()), check_spacing)?;
        let [low, high] = [f32::MIN, f32::MAX].map(f64::from);
        crate::error::check_option("resample", "fill", f64::from(self.fill), [low, high])?;
        self.size.map_or(Ok(()), |size| check_shape([1; 3], size))
    }

    /// Spacing of the result; along an axis of length 1 the input keeps its own.
    pub fn spacing(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 3] {
        let wanted = self.spacing_mm.unwrap_or(spacing);
        [0, 1, 2].map(|axis| if shape[axis] > 1 { wanted[axis] } else { spacing[axis] })
    }

    /// Shape of the result, `[slice, row, column]`.
    ///
    /// # Errors
    /// [`ImagingError::SpacingNotPositive`] and [`ImagingError::BadResampling`].
    pub fn shape(&self, shape: [usize; 3], spacing: [f64; 3]) -> Result<[usize; 3], ImagingError> {
        Ok(self.places(shape, spacing)?.map(|places| places.n_output))
    }

    /// The affine of the result, of an input of `shape` with `affine`.
    ///
    /// # Errors
    /// As [`Resampling::shape`].
    pub fn affine(
        &self,
        shape: [usize; 3],
        spacing: [f64; 3],
        affine: &Affine,
    ) -> Result<Affine, ImagingError> {
        let places = self.places(shape, spacing)?;
        let first = places.map(|places| places.first(self.alignment));
        Ok(regridded(affine, first, places.map(|places| places.step)))
    }

    fn places(&self, shape: [usize; 3], spacing: [f64; 3]) -> Result<[Places; 3], ImagingError> {
        self.check()?;
        check_spacing(spacing)?;
        if shape.contains(&0) {
            let rule = "every axis needs at least one voxel";
            return Err(ImagingError::BadResampling { from: shape, to: shape, rule });
        }
        let wanted = self.spacing(shape, spacing);
        let places = [0, 1, 2].map(|axis| {
            let step = wanted[axis] / spacing[axis];
            // The cast saturates, and what is too large is refused.
            let n_resampled = ((shape[axis] as f64 / step).round() as usize).max(1);
            let n_output = self.size.map_or(n_resampled, |size| size[axis]);
            Places { n_input: shape[axis], n_resampled, n_output, step }
        });
        check_shape(shape, places.map(|places| places.n_resampled))?;
        check_shape(shape, places.map(|places| places.n_output))?;
        Ok(places)
    }
}

fn check_shape(from: [usize; 3], to: [usize; 3]) -> Result<(), ImagingError> {
    let n_voxels = to.into_iter().fold(1_usize, usize::saturating_mul);
    if (1..=MOST_VOXELS).contains(&n_voxels) {
        return Ok(());
    }
    let rule = "the result needs at least one voxel and at most 2^31";
    Err(ImagingError::BadResampling { from, to, rule })
}

/// Resamples `image`, whose voxels lie `spacing` millimetres apart as `[slice, row, column]`.
///
/// Values are computed in `f32` with weights from `f64` places, the same for any number of threads.
///
/// # Errors
/// [`ImagingError::SpacingNotPositive`], [`ImagingError::BadResampling`] for a result without voxels or with too many, and
/// those of [`Resampling::check`].
///
/// # Examples
/// ```
/// # use datasets::Grid; use imaging::resample::{Resampling, resample};
/// let image = Grid::new([1, 1, 3], vec![0.0_f32, 2.0, 4.0])?;
/// let finer = Resampling { spacing_mm: Some([1.0, 1.0, 0.5]), ..Resampling::default() };
/// let found = resample(&image, [1.0; 3], &finer)?;
/// assert_eq!(found.values(), [0.0, 0.5, 1.5, 2.5, 3.5, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn resample<T: Copy + Into<f32> + Sync>(
    image: &Grid<T>,
    spacing: [f64; 3],
    to: &Resampling,
) -> Result<Image, ImagingError> {
    let places = to.places(image.shape(), spacing)?;
    let taps =
        places.map(|places| Taps::new(&places, to.interpolation, to.alignment, to.antialias));
    let mut found = Grid::filled(places.map(|places| places.n_output), to.fill);
    if taps.iter().any(|taps| taps.len() == 0) {
        return Ok(found);
    }
    if to.interpolation == Interpolation::Cubic {
        let mut coefficients = image.map(|&value| value.into());
        (0..3).for_each(|axis| to_coefficients(&mut coefficients, axis));
        draw(&coefficients, &taps, &mut found);
    } else {
        draw(image, &taps, &mut found);
    }
    Ok(found)
}

/// Fills the part of `found` that is no padding.
fn draw<T: Copy + Into<f32> + Sync>(image: &Grid<T>, taps: &[Taps; 3], found: &mut Image) {
    let [_, n_rows, n_columns] = found.shape();
    let [slices, rows, columns] = taps;
    let plane = n_rows * n_columns;
    let inside = &mut found.values_mut()[slices.start * plane..][..slices.len() * plane];
    // Each thread takes slices that follow each other, so that few input slices are resampled twice.
    let share = slices.len().div_ceil(rayon::current_num_threads()).max(1);
    inside.par_chunks_mut(share * plane).enumerate().for_each(|(chunk, targets)| {
        let mut resampler = Resampler::new(image, rows, columns);
        for (offset, target) in targets.chunks_exact_mut(plane).enumerate() {
            let planes = resampler.planes(slices.of(chunk * share + offset));
            for row in 0..rows.len() {
                let start = (rows.start + row) * n_columns + columns.start;
                let span = row * columns.len()..(row + 1) * columns.len();
                weigh(&planes, span, &mut target[start..start + columns.len()]);
            }
        }
    });
}

/// The sum of weighted planes over a span of their values.
fn weigh(planes: &[(&[f32], f32)], span: std::ops::Range<usize>, target: &mut [f32]) {
    match planes {
        [(near, a), (far, b)] => {
            let pairs = near[span.clone()].iter().zip(&far[span]);
            for (target, (near, far)) in target.iter_mut().zip(pairs) {
                *target = a * near + b * far;
            }
        }
        planes => {
            target.fill(0.0);
            for (plane, weight) in planes {
                for (target, value) in target.iter_mut().zip(&plane[span.clone()]) {
                    *target += weight * value;
                }
            }
        }
    }
}

/// Input slices at the output's rows and columns, kept as long as neighbouring output slices need them.
struct Resampler<'a, T> {
    image: &'a Grid<T>,
    rows: &'a Taps,
    columns: &'a Taps,
    /// Input slice and its resampled values; the oldest are replaced.
    kept: Vec<(usize, Vec<f32>)>,
    /// One row of input columns at an output row.
    row: Vec<f32>,
}

impl<'a, T: Copy + Into<f32>> Resampler<'a, T> {
    fn new(image: &'a Grid<T>, rows: &'a Taps, columns: &'a Taps) -> Self {
        Self { image, rows, columns, kept: Vec::new(), row: vec![0.0; columns.needed().len()] }
    }

    /// The planes of input slices, with their weights; those of weight 0 are left out unless all are.
    fn planes(&mut self, taps: impl Iterator<Item = (usize, f32)>) -> Vec<(&[f32], f32)> {
        let mut wanted: Vec<(usize, f32)> = taps.collect();
        let heaviest = wanted.iter().copied().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        wanted.retain(|(_, weight)| *weight != 0.0);
        if wanted.is_empty() {
            wanted.extend(heaviest);
        }
        for &(slice, _) in &wanted {
            if self.kept.iter().any(|(kept, _)| *kept == slice) {
                continue;
            }
            let is_wanted = |kept: usize| wanted.iter().any(|(slice, _)| *slice == kept);
            let free = self.kept.iter().position(|(kept, _)| !is_wanted(*kept));
            let mut values = match free {
                Some(place) => self.kept.swap_remove(place).1,
                None => vec![0.0; self.rows.len() * self.columns.len()],
            };
            self.fill(slice, &mut values);
            self.kept.push((slice, values));
        }
        let find = |slice: usize| {
            let kept = self.kept.iter().find(|(kept, _)| *kept == slice);
            kept.expect("every wanted slice was made").1.as_slice()
        };
        wanted.iter().map(|&(slice, weight)| (find(slice), weight)).collect()
    }

    /// Resamples one input slice along rows and columns.
    fn fill(&mut self, slice: usize, values: &mut [f32]) {
        let (columns, n_taps) = (self.columns.needed(), self.rows.n_taps());
        for (row, target) in values.chunks_exact_mut(self.columns.len()).enumerate() {
            let image = self.image;
            let mut inputs = self
                .rows
                .of(row)
                .map(|(input, weight)| (&image.row(slice, input)[columns.clone()], weight));
            if let (Some((near, a)), Some((far, b)), 2) = (inputs.next(), inputs.next(), n_taps) {
                let pairs = near.iter().zip(far);
                for (value, (&near, &far)) in self.row.iter_mut().zip(pairs) {
                    *value = a * near.into() + b * far.into();
                }
            } else {
                self.row.fill(0.0);
                for (input, weight) in self.rows.of(row) {
                    let input = &image.row(slice, input)[columns.clone()];
                    for (value, &input) in self.row.iter_mut().zip(input) {
                        *value += weight * input.into();
                    }
                }
            }
            self.columns.along(&self.row, columns.start, target);
        }
    }
}

/// Turns values into the coefficients of the B-spline through them, along one axis.
fn to_coefficients(image: &mut Image, axis: usize) {
    let [n_slices, n_rows, n_columns] = image.shape();
    let length = image.shape()[axis];
    if length < 2 {
        return;
    }
    match axis {
        0 => {
            let mut lines: Vec<&mut [f32]> =
                image.values_mut().chunks_exact_mut(n_rows * n_columns).collect();
            filter(&mut lines);
        }
        1 => image.values_mut().par_chunks_exact_mut(n_rows * n_columns).for_each(|plane| {
            let mut lines: Vec<&mut [f32]> = plane.chunks_exact_mut(n_columns).collect();
            filter(&mut lines);
        }),
        _ => image.values_mut().par_chunks_exact_mut(n_columns).for_each(|row| {
            let mut lines: Vec<&mut [f32]> = row.chunks_exact_mut(1).collect();
            filter(&mut lines);
        }),
    }
    debug_assert!(n_slices > 0, "images with an empty axis are refused");
}

/// Runs the recursion from each line to the next and back; lines are filtered side by side.
fn filter(lines: &mut [&mut [f32]]) {
    /// The pole of the cubic B-spline.
    const POLE: f64 = -0.267_949_192_431_122_7;
    /// Terms of the sum over the mirrored line after which the rest rounds to nothing.
    const TERMS: usize = 32;
    let n = lines.len();
    let mut sum = vec![0.0_f64; lines[0].len()];
    for term in 0..TERMS {
        let weight = POLE.powi(term as i32);
        let line = &lines[mirrored(term.cast_signed(), n)];
        sum.iter_mut().zip(line.iter()).for_each(|(sum, &value)| *sum += weight * f64::from(value));
    }
    lines[0].iter_mut().zip(&sum).for_each(|(value, &sum)| *value = (6.0 * sum) as f32);
    let pole = POLE as f32;
    for index in 1..n {
        let (before, here) = lines.split_at_mut(index);
        for (value, before) in here[0].iter_mut().zip(before[index - 1].iter()) {
            *value = 6.0 * *value + pole * before;
        }
    }
    let end = (POLE / (POLE * POLE - 1.0)) as f32;
    let (before, last) = lines.split_at_mut(n - 1);
    for (value, before) in last[0].iter_mut().zip(before[n - 2].iter()) {
        *value = end * (*value + pole * before);
    }
    for index in (0..n - 1).rev() {
        let (here, after) = lines.split_at_mut(index + 1);
        for (value, after) in here[index].iter_mut().zip(after[0].iter()) {
            *value = pole * (after - *value);
        }
    }
}

/// Resamples a mask as [`resample`] does an image, always from the nearest voxel; padding is background.
///
/// # Errors
/// As [`resample`].
pub fn resample_mask(
    mask: &Mask,
    spacing: [f64; 3],
    to: &Resampling,
) -> Result<Mask, ImagingError> {
    let places = to.places(mask.shape(), spacing)?;
    let mut found = Grid::filled(places.map(|places| places.n_output), false);
    let [slices, rows, columns] = places.map(|places| places.nearest(to.alignment));
    for (slice, &from_slice) in slices.1.iter().enumerate() {
        for (row, &from_row) in rows.1.iter().enumerate() {
            let source = mask.row(from_slice, from_row);
            let start = found.index([slices.0 + slice, rows.0 + row, columns.0]);
            let target = &mut found.values_mut()[start..start + columns.1.len()];
            for (target, &column) in target.iter_mut().zip(&columns.1) {
                *target = source[column];
            }
        }
    }
    Ok(found)
}
