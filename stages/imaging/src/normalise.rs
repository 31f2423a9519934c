//! Intensities of an image on a scale that the next step expects.
//!
//! Source: nnU-Net (Isensee et al., 2021) for standard scores with clipped percentiles; windows are those of CT viewers.
//! Randomness: none. Cost: some passes over the image; sums run in raster order in `f64`.

use datasets::{Image, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ImagingError, error::check_option, rank::percentile};

/// Which numbers become which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scale {
    /// Mean 0 and standard deviation 1; a constant image becomes 0.
    #[default]
    StandardScore,
    /// The smallest value becomes 0 and the largest 1; a constant image becomes 0.
    Range,
    /// `low` and what is below becomes 0, `high` and what is above 1.
    Window {
        /// Lower end, in the unit of the image.
        low: f64,
        /// Upper end, above `low`.
        high: f64,
    },
}

/// Settings of [`normalise`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Normalisation {
    /// Percentiles, each in `[0, 100]` and the first below the second, at which values are cut off before anything else.
    /// Default none.
    pub clip_percent: Option<[f64; 2]>,
    /// Which numbers become which. Default standard scores.
    pub scale: Scale,
    /// Whether voxels outside the mask become 0 in the end. Default false.
    pub zero_outside: bool,
}

impl Normalisation {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`ImagingError::OptionOutOfRange`].
    pub fn check(&self) -> Result<(), ImagingError> {
        const OWNER: &str = "normalise";
        if let Some([low, high]) = self.clip_percent {
            check_option(OWNER, "clip_percent", low, [0.0, 100.0])?;
            check_option(OWNER, "clip_percent", high, [low.next_up(), 100.0])?;
        }
        if let Scale::Window { low, high } = self.scale {
            check_option(OWNER, "low", low, [f64::MIN, f64::MAX])?;
            check_option(OWNER, "high", high, [low.next_up(), f64::MAX])?;
        }
        Ok(())
    }
}

/// Brings `image` to a scale; statistics are of the voxels of `inside`, or of all without it.
///
/// # Errors
/// [`ImagingError::NoVoxels`] without a voxel to measure, [`ImagingError::MapShapeDiffers`], and those of
/// [`Normalisation::check`].
///
/// # Examples
/// ```
/// # use datasets::{Grid, mask}; use imaging::normalise::{Normalisation, Scale, normalise};
/// let image = Grid::new([1, 1, 4], vec![1.0_f32, 3.0, 5.0, 90.0])?;
/// let range = Normalisation { scale: Scale::Range, ..Normalisation::default() };
/// let found = normalise(&image, Some(&mask!["# # # ."]), &range)?;
/// assert_eq!(found.values()[..3], [0.0, 0.5, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn normalise(
    image: &Image,
    inside: Option<&Mask>,
    settings: &Normalisation,
) -> Result<Image, ImagingError> {
    settings.check()?;
    let whole;
    let inside = match inside {
        Some(inside) if inside.shape() == image.shape() => inside,
        Some(inside) => {
            return Err(ImagingError::MapShapeDiffers {
                mask_shape: inside.shape(),
                map_shape: image.shape(),
            });
        }
        None => {
            whole = Mask::filled(image.shape(), true);
            &whole
        }
    };
    if inside.is_empty() {
        return Err(ImagingError::NoVoxels);
    }
    let mut found = image.clone();
    if let Some(ends) = settings.clip_percent {
        let [low, high] = ends.map(|percent| percentile(image, inside, percent));
        let (low, high) = (low?, high?);
        found.values_mut().iter_mut().for_each(|value| *value = value.clamp(low, high));
    }
    let [centre, width] = centre_and_width(&found, inside, settings.scale);
    let clamps = matches!(settings.scale, Scale::Window { .. });
    for (value, &inside) in found.values_mut().iter_mut().zip(inside.values()) {
        let scaled = if width > 0.0 { (f64::from(*value) - centre) / width } else { 0.0 };
        let scaled = if clamps { scaled.clamp(0.0, 1.0) } else { scaled };
        *value = if settings.zero_outside && !inside { 0.0 } else { scaled as f32 };
    }
    Ok(found)
}

/// What becomes 0, and the distance from it of what becomes 1; the distance is 0 for constant values.
fn centre_and_width(image: &Image, inside: &Mask, scale: Scale) -> [f64; 2] {
    let values = || {
        let pairs = image.values().iter().zip(inside.values());
        pairs.filter(|&(_, &inside)| inside).map(|(&value, _)| f64::from(value))
    };
    match scale {
        Scale::StandardScore => {
            let n = values().count() as f64;
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
            let sd = variance.sqrt();
            // Below this share of the mean a deviation is rounding.
            [mean, if sd > 1e-7 * mean.abs() { sd } else { 0.0 }]
        }
        Scale::Range => {
            let [low, high] = values()
                .fold([f64::MAX, f64::MIN], |[low, high], value| [low.min(value), high.max(value)]);
            [low, high - low]
        }
        Scale::Window { low, high } => [low, high - low],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Grid, mask};

    use super::*;

    fn row(values: &[f32]) -> Image {
        Grid::new([1, 1, values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn scores_have_mean_0_and_deviation_1_inside() {
        let image = row(&[2.0, 4.0, 6.0, 8.0, 1000.0]);
        let inside = mask!["# # # # ."];
        let settings = Normalisation { zero_outside: true, ..Normalisation::default() };
        let found = normalise(&image, Some(&inside), &settings).unwrap();
        // (numpy.array([2, 4, 6, 8]) - 5) / numpy.std([2, 4, 6, 8])
        let expected = [-1.341_640_8, -0.447_213_6, 0.447_213_6, 1.341_640_8, 0.0];
        for (found, expected) in found.values().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn clipping_comes_first_and_windows_cut() {
        let image = row(&[0.0, 1.0, 2.0, 3.0, 100.0]);
        let clip_percent = Some([25.0, 75.0]);
        let settings = Normalisation { clip_percent, scale: Scale::Range, zero_outside: false };
        assert_eq!(normalise(&image, None, &settings).unwrap(), row(&[0.0, 0.0, 0.5, 1.0, 1.0]));
        let scale = Scale::Window { low: 1.0, high: 3.0 };
        let settings = Normalisation { scale, ..Normalisation::default() };
        assert_eq!(normalise(&image, None, &settings).unwrap(), row(&[0.0, 0.0, 0.5, 1.0, 1.0]));
    }

    #[test]
    fn constant_images_become_0_and_nonsense_is_refused() {
        let image = Grid::filled([1, 2, 2], 7.3_f32);
        for scale in [Scale::StandardScore, Scale::Range] {
            let settings = Normalisation { scale, ..Normalisation::default() };
            let found = normalise(&image, None, &settings).unwrap();
            assert!(found.values().iter().all(|&value| value == 0.0), "{scale:?}");
        }
        let settings = Normalisation::default();
        let none = normalise(&image, Some(&mask![". .", ". ."]), &settings).unwrap_err();
        assert_eq!(none, ImagingError::NoVoxels);
        let other = normalise(&image, Some(&mask!["# #"]), &settings).unwrap_err();
        assert!(matches!(other, ImagingError::MapShapeDiffers { .. }));
        for settings in [
            Normalisation { clip_percent: Some([5.0, 5.0]), ..settings },
            Normalisation { clip_percent: Some([-1.0, 5.0]), ..settings },
            Normalisation { scale: Scale::Window { low: 1.0, high: 1.0 }, ..settings },
        ] {
            assert!(matches!(settings.check(), Err(ImagingError::OptionOutOfRange { .. })));
        }
    }
}
