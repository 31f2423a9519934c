//! Exact percentiles, with the linear rule of NumPy.
//!
//! Source: the default rule of `numpy.percentile`: the value at place `q / 100 * (n - 1)` of the sorted values, interpolated
//! between its neighbours. Randomness: none. Cost: two passes and a table of 65,536 counts; nothing is copied.

use datasets::{Image, Mask};

use crate::ImagingError;

/// The percentile `percent`, in `[0, 100]`, of the voxels of `image` inside `inside`.
///
/// # Errors
/// [`ImagingError::NoVoxels`] when no voxel is inside, [`ImagingError::MapShapeDiffers`] when the shapes differ.
///
/// # Examples
/// ```
/// # use datasets::{Grid, mask}; use imaging::rank::percentile;
/// let image = Grid::new([1, 1, 5], vec![9.0, 3.0, 1.0, 2.0, 4.0])?;
/// assert_eq!(percentile(&image, &mask![". # # # #"], 50.0), Ok(2.5));
/// # Ok::<(), datasets::ShapeError>(())
/// ```
pub fn percentile(image: &Image, inside: &Mask, percent: f64) -> Result<f32, ImagingError> {
    if image.shape() != inside.shape() {
        return Err(ImagingError::MapShapeDiffers {
            mask_shape: inside.shape(),
            map_shape: image.shape(),
        });
    }
    let [low, high, share] =
        neighbours(image.values(), inside.values(), percent).ok_or(ImagingError::NoVoxels)?;
    Ok((low + share * (high - low)) as f32)
}

/// The two sorted values around a percentile, and how far it lies from the first to the second; `None` without voxels.
pub(crate) fn neighbours(values: &[f32], inside: &[bool], percent: f64) -> Option<[f64; 3]> {
    let coarse = counts(values, inside, |key| Some(key >> 16));
    let n: usize = coarse.iter().sum();
    let place = percent.clamp(0.0, 100.0) / 100.0 * n.checked_sub(1)? as f64;
    let rank = place.floor() as usize;
    let low = at_rank(&coarse, values, inside, rank);
    let high = if rank + 1 < n { at_rank(&coarse, values, inside, rank + 1) } else { low };
    Some([low, high, place - rank as f64])
}

/// The value of a rank among the sorted values.
fn at_rank(coarse: &[usize], values: &[f32], inside: &[bool], rank: usize) -> f64 {
    let (upper, rest) = bin_of(coarse, rank);
    let fine = counts(values, inside, |key| (key >> 16 == upper).then_some(key & 0xffff));
    let (lower, _) = bin_of(&fine, rest);
    f64::from(from_key(upper << 16 | lower))
}

/// How many voxels inside have each of 65,536 bins.
fn counts(values: &[f32], inside: &[bool], bin: impl Fn(u32) -> Option<u32>) -> Vec<usize> {
    let mut counts = vec![0_usize; 1 << 16];
    for (&value, _) in values.iter().zip(inside).filter(|&(_, &inside)| inside) {
        if let Some(bin) = bin(key(value)) {
            counts[bin as usize] += 1;
        }
    }
    counts
}

/// The bin that holds a rank, and the rank within it.
fn bin_of(counts: &[usize], rank: usize) -> (u32, usize) {
    let mut rest = rank;
    for (bin, &count) in (0_u32..).zip(counts) {
        if rest < count {
            return (bin, rest);
        }
        rest -= count;
    }
    (u32::from(u16::MAX), 0)
}

/// Bits that sort as the numbers do; -0 is 0.
fn key(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn from_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{Grid, Stream};

    use super::*;

    #[test]
    fn equals_sorting() {
        let mut stream = Stream::new(5, "test.rank", &[]);
        for length in [1, 2, 7, 300] {
            let image = Grid::from_fn([1, 1, length], |_| (stream.normal() * 1e3) as f32);
            let inside = Grid::from_fn([1, 1, length], |[.., column]| column % 3 != 1);
            let mut sorted: Vec<f32> = (0..length)
                .filter(|column| column % 3 != 1)
                .map(|column| image.values()[column])
                .collect();
            sorted.sort_by(f32::total_cmp);
            for percent in [0.0, 12.5, 50.0, 95.0, 99.9, 100.0] {
                let place = percent / 100.0 * (sorted.len() - 1) as f64;
                let [low, high] =
                    [place.floor(), place.ceil()].map(|p| f64::from(sorted[p as usize]));
                let expected = (low + (place - place.floor()) * (high - low)) as f32;
                assert_eq!(percentile(&image, &inside, percent).unwrap(), expected);
            }
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        let image = Grid::filled([1, 2, 2], 1.0);
        let none = percentile(&image, &Mask::filled([1, 2, 2], false), 50.0).unwrap_err();
        assert_eq!(none, ImagingError::NoVoxels);
        let other = percentile(&image, &Mask::filled([1, 2, 3], true), 50.0).unwrap_err();
        assert!(matches!(other, ImagingError::MapShapeDiffers { .. }));
    }
}
