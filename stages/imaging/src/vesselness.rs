//! How much a voxel looks like the inside of a bright vessel, over several scales.
//!
//! Source: Frangi et al., "Multiscale vessel enhancement filtering" (1998); smoothing and second differences as in ITK's
//! `SmoothingRecursiveGaussian` followed by `ObjectnessMeasure` of dimension 1, with `gamma` per squared scale.
//! Randomness: none. Cost: a recursive smoothing, a norm and the eigenvalues of the Hessian a voxel and scale, two
//! volumes of memory besides the result; rows without a voxel of the mask cost nothing but the smoothing.

mod eigen;
mod hessian;

use datasets::{Grid, Image, Mask};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    eigen::{eigenvalues, exp_minus, larger, smaller},
    hessian::{BLOCK, Hessian, Rows},
};
use crate::{
    ImagingError,
    error::{check_option, check_spacing},
    rank,
    recursive::smooth,
};

/// The norm of second derivatives that counts as structure, Frangi's `c`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Structureness {
    /// A fixed number in the unit of the image, the same at every scale.
    Fixed(f64),
    /// Half of a percentile, in `[0, 100]`, of the norm inside the mask, scale by scale.
    HalfOfPercentile(f64),
}

/// Settings of [`vesselness`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Vesselness {
    /// Scales in millimetres, each above 0. Default 0.7, 1, 1.4 and 2: vessels of 1 to 3 mm radius.
    pub sigmas_mm: Vec<f64>,
    /// Tolerance for plates, above 0. Default 0.5.
    pub alpha: f64,
    /// Tolerance for blobs, above 0. Default 0.5.
    pub beta: f64,
    /// What counts as structure. Default half of the percentile 99.9.
    pub structureness: Structureness,
}

impl Default for Vesselness {
    fn default() -> Self {
        Self {
            sigmas_mm: vec![0.7, 1.0, 1.4, 2.0],
            alpha: 0.5,
            beta: 0.5,
            structureness: Structureness::HalfOfPercentile(99.9),
        }
    }
}

impl Vesselness {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`ImagingError::OptionOutOfRange`].
    pub fn check(&self) -> Result<(), ImagingError> {
        const OWNER: &str = "vesselness";
        const POSITIVE: [f64; 2] = [f64::MIN_POSITIVE, f64::MAX];
        check_option(OWNER, "sigmas_mm", self.sigmas_mm.len() as f64, [1.0, 64.0])?;
        for &sigma in &self.sigmas_mm {
            check_option(OWNER, "sigmas_mm", sigma, POSITIVE)?;
        }
        check_option(OWNER, "alpha", self.alpha, POSITIVE)?;
        check_option(OWNER, "beta", self.beta, POSITIVE)?;
        match self.structureness {
            Structureness::Fixed(c) => check_option(OWNER, "structureness", c, POSITIVE),
            Structureness::HalfOfPercentile(percent) => {
                check_option(OWNER, "structureness", percent, [0.0, 100.0])
            }
        }
    }
}

/// Vesselness in `[0, 1]` inside `inside` and 0 elsewhere: the largest over the scales.
///
/// `image` is bright where vessels are, `spacing` is `[slice, row, column]` in millimetres. An empty mask, and an image
/// without structure, give 0 everywhere.
///
/// # Errors
/// [`ImagingError::SpacingNotPositive`], [`ImagingError::MapShapeDiffers`] and those of [`Vesselness::check`].
pub fn vesselness(
    image: &Image,
    inside: &Mask,
    spacing: [f64; 3],
    settings: &Vesselness,
) -> Result<Image, ImagingError> {
    settings.check()?;
    check_spacing(spacing)?;
    if image.shape() != inside.shape() {
        return Err(ImagingError::MapShapeDiffers {
            mask_shape: inside.shape(),
            map_shape: image.shape(),
        });
    }
    let mut best = Grid::filled(image.shape(), 0.0_f32);
    if inside.is_empty() {
        return Ok(best);
    }
    let mut norms = Vec::new();
    for &sigma in &settings.sigmas_mm {
        let mut smoothed = image.clone();
        smooth(&mut smoothed, sigma, spacing)?;
        let scale = Scale { smoothed: &smoothed, inside, weights: weights(sigma, spacing) };
        let c = match settings.structureness {
            Structureness::Fixed(c) => c,
            Structureness::HalfOfPercentile(percent) => {
                norms.resize(image.values().len(), 0.0);
                scale.norms(&mut norms);
                half_of_percentile(&norms, inside, percent)
            }
        };
        if c > 0.0 {
            scale.raise(&mut best, &Rates::new(settings, c));
        }
    }
    Ok(best)
}

/// What second differences are multiplied with: squared scale by product of the spacings.
fn weights(sigma: f64, spacing: [f64; 3]) -> [[f32; 3]; 3] {
    spacing.map(|a| spacing.map(|b| (sigma * sigma / (a * b)) as f32))
}

/// Half of a percentile of the roots of `squares`.
fn half_of_percentile(squares: &[f32], inside: &Mask, percent: f64) -> f64 {
    rank::neighbours(squares, inside.values(), percent).map_or(0.0, |[low, high, share]| {
        let (low, high) = (low.sqrt(), high.sqrt());
        0.5 * (low + share * (high - low))
    })
}

/// Factors of the three exponents.
struct Rates {
    plate: f32,
    blob: f32,
    structure: f32,
}

impl Rates {
    fn new(settings: &Vesselness, c: f64) -> Self {
        let rate = |width: f64| (0.5 / (width * width)) as f32;
        Self { plate: rate(settings.alpha), blob: rate(settings.beta), structure: rate(c) }
    }
}

/// A smoothed image whose second derivatives are wanted inside a mask.
struct Scale<'a> {
    smoothed: &'a Image,
    inside: &'a Mask,
    weights: [[f32; 3]; 3],
}

impl Scale<'_> {
    /// Squared norms of the second derivatives inside the mask; other places keep what they have.
    fn norms(&self, norms: &mut [f32]) {
        self.each_block(norms, |hessian, target, _| {
            target.copy_from_slice(&hessian.squared_norms()[..target.len()]);
        });
    }

    /// Raises `best` to the vesselness at this scale where that is larger.
    fn raise(&self, best: &mut Image, rates: &Rates) {
        self.each_block(best.values_mut(), |hessian, target, inside| {
            let [zz, yy, xx] = &hessian.diagonal;
            let is_dark = (0..target.len()).all(|i| zz[i] + yy[i] + xx[i] >= 0.0);
            if is_dark {
                return;
            }
            let measure = measure(&eigenvalues(hessian), rates);
            for ((target, &measure), &inside) in target.iter_mut().zip(&measure).zip(inside) {
                *target = larger(*target, if inside { measure } else { 0.0 });
            }
        });
    }

    /// Calls `visit` with the derivatives of every block that has a voxel of the mask, and the block of `values`.
    fn each_block(&self, values: &mut [f32], visit: impl Fn(&Hessian, &mut [f32], &[bool]) + Sync) {
        let [_, n_rows, n_columns] = self.smoothed.shape();
        values.par_chunks_mut(n_columns).enumerate().for_each_init(
            Hessian::zero,
            |hessian, (line, values)| {
                let (slice, row) = (line / n_rows, line % n_rows);
                let inside = self.inside.row(slice, row);
                if !inside.contains(&true) {
                    return;
                }
                let rows = Rows::of(self.smoothed, slice, row);
                let blocks = values.chunks_mut(BLOCK).zip(inside.chunks(BLOCK));
                for (block, (values, inside)) in blocks.enumerate() {
                    if inside.contains(&true) {
                        rows.differences(block * BLOCK, &self.weights, hessian);
                        visit(hessian, values, inside);
                    }
                }
            },
        );
    }
}

/// Frangi's measure from eigenvalues in ascending order; 0 where the two largest are not both negative.
fn measure([low, middle, high]: &[[f32; BLOCK]; 3], rates: &Rates) -> [f32; BLOCK] {
    let mut measure = [0.0; BLOCK];
    for i in 0..BLOCK {
        let (low, middle, high) = (low[i], middle[i], high[i]);
        // The one nearest to zero is one of the three; a tube needs the other two below zero, so it is the highest
        // or, when that lies farther from zero than the middle one, the tube is none.
        let is_tube = middle < 0.0 && high <= -middle;
        let (l1, l2, l3) = (high.abs(), -middle, -low);
        let product = larger(l2 * l3, f32::MIN_POSITIVE);
        let plate = l2 / larger(l3, f32::MIN_POSITIVE);
        let squares = l1 * l1 + l2 * l2 + l3 * l3;
        let plate = 1.0 - exp_minus(rates.plate * plate * plate);
        let blob = exp_minus(smaller(rates.blob * (l1 * l1 / product), 87.0));
        let structure = 1.0 - exp_minus(rates.structure * squares);
        measure[i] = if is_tube { plate * blob * structure } else { 0.0 };
    }
    measure
}
