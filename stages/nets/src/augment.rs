//! Random flips and rotations of a case, the same for its image and all its labels, and for all slices of a volume.
//!
//! Source: the set used by the released code of MR-Net (Ji et al., CVPR 2021); UMA-Net's paper names none.
//! Deviation: pixels from outside the image repeat its border, in the image and in the masks alike, and rows
//! (up and down) are not flipped by default.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NetsError, Region};

/// Which movements are drawn for each case in each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentationConfig {
    /// Whether cases are moved at all. Default true.
    pub enabled: bool,
    /// Whether rows are reversed in half of the draws. Default false.
    pub flip_rows: bool,
    /// Whether columns are reversed in half of the draws. Default true.
    pub flip_columns: bool,
    /// Largest rotation to either side in degrees, in [0, 180]. Default 15.
    pub rotation_deg: f64,
}

impl Default for AugmentationConfig {
    fn default() -> Self {
        Self { enabled: true, flip_rows: false, flip_columns: true, rotation_deg: 15.0 }
    }
}

impl AugmentationConfig {
    /// Checks the range of the rotation.
    ///
    /// # Errors
    /// [`NetsError::Config`] if it is not in [0, 180].
    pub fn validate(&self) -> Result<(), NetsError> {
        let good = (0.0..=180.0).contains(&self.rotation_deg);
        NetsError::check(
            "augmentation.rotation_deg",
            "degrees in [0, 180]",
            self.rotation_deg,
            good,
        )
    }

    /// Draws one movement; always three numbers, so that one switch does not change the other draws.
    ///
    /// # Examples
    /// ```
    /// let mut numbers = [0.7, 0.2, 0.5].into_iter().cycle();
    /// let placement = nets::AugmentationConfig::default().draw(&mut || numbers.next().unwrap_or(0.0));
    /// assert!(placement.flip_columns && !placement.flip_rows && placement.angle_deg == 0.0);
    /// ```
    pub fn draw(&self, uniform: &mut dyn FnMut() -> f64) -> Placement {
        let (rows, columns, turn) = (uniform(), uniform(), uniform());
        if !self.enabled {
            return Placement::default();
        }
        Placement {
            flip_rows: self.flip_rows && rows < 0.5,
            flip_columns: self.flip_columns && columns < 0.5,
            angle_deg: self.rotation_deg * (2.0 * turn - 1.0),
        }
    }
}

/// A movement of a case; the default leaves it where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Placement {
    /// Whether rows are reversed, after the rotation.
    pub flip_rows: bool,
    /// Whether columns are reversed, after the rotation.
    pub flip_columns: bool,
    /// Rotation about the image's centre, from rows towards columns.
    pub angle_deg: f64,
}

impl Placement {
    /// Moves the slices of an image `[slice, row, column, channel]` with bilinear interpolation.
    ///
    /// `target` receives the pixels of `region`, moved about its centre; they come from the whole image.
    pub fn move_image(&self, source: &[f32], region: Region, target: &mut [f32]) {
        let n_channels = source.len() / region.whole.iter().product::<usize>().max(1);
        if *self == Self::default() {
            let targets = target.chunks_exact_mut((region.size[2] * n_channels).max(1));
            for ((place, len), target) in region.rows().zip(targets) {
                target.copy_from_slice(&source[place * n_channels..][..len * n_channels]);
            }
            return;
        }
        let [_, rows, columns] = region.whole;
        for (source, target) in slices(source, region, target) {
            self.for_each(region, |pixel, row, column| {
                let (top, left) = (row.floor(), column.floor());
                let (down, right) = (row - top, column - left);
                let (top, left) = (top as usize, left as usize);
                let (bottom, far) = ((top + 1).min(rows - 1), (left + 1).min(columns - 1));
                for channel in 0..n_channels {
                    let at = |row: usize, column: usize| {
                        f64::from(source[(row * columns + column) * n_channels + channel])
                    };
                    let upper = at(top, left) * (1.0 - right) + at(top, far) * right;
                    let lower = at(bottom, left) * (1.0 - right) + at(bottom, far) * right;
                    target[pixel * n_channels + channel] =
                        (upper * (1.0 - down) + lower * down) as f32;
                }
            });
        }
    }

    /// Moves the slices of masks `[slice, row, column, structure]` by nearest neighbour, as [`Placement::move_image`].
    pub fn move_mask(&self, source: &[u8], region: Region, target: &mut [f32]) {
        let n_structures = source.len() / region.whole.iter().product::<usize>().max(1);
        if *self == Self::default() {
            let targets = target.chunks_exact_mut((region.size[2] * n_structures).max(1));
            for ((place, len), target) in region.rows().zip(targets) {
                let source = &source[place * n_structures..][..len * n_structures];
                target.iter_mut().zip(source).for_each(|(to, &value)| *to = f32::from(value));
            }
            return;
        }
        let columns = region.whole[2];
        for (source, target) in slices(source, region, target) {
            self.for_each(region, |pixel, row, column| {
                let from =
                    (row.round() as usize * columns + column.round() as usize) * n_structures;
                for structure in 0..n_structures {
                    target[pixel * n_structures + structure] = f32::from(source[from + structure]);
                }
            });
        }
    }

    /// Calls `visit(target pixel, source row, source column)` with coordinates inside the image.
    fn for_each(&self, region: Region, mut visit: impl FnMut(usize, f64, f64)) {
        let (sin, cos) = self.angle_deg.to_radians().sin_cos();
        let [_, rows, columns] = region.size;
        let [_, last_row, last_column] = region.whole.map(|side| side as f64 - 1.0);
        let (half_row, half_column) = ((rows as f64 - 1.0) / 2.0, (columns as f64 - 1.0) / 2.0);
        let [_, first_row, first_column] = region.corner.map(|first| first as f64);
        let (middle_row, middle_column) = (first_row + half_row, first_column + half_column);
        for row in 0..rows {
            let row_at = if self.flip_rows { rows - 1 - row } else { row };
            let down = row_at as f64 - half_row;
            for column in 0..columns {
                let column_at = if self.flip_columns { columns - 1 - column } else { column };
                let right = column_at as f64 - half_column;
                let source_row = middle_row + cos * down - sin * right;
                let source_column = middle_column + sin * down + cos * right;
                visit(
                    row * columns + column,
                    source_row.clamp(0.0, last_row),
                    source_column.clamp(0.0, last_column),
                );
            }
        }
    }
}

/// The slices of a region: each whole slice of the source with its part of the target.
fn slices<'a, S, T>(
    source: &'a [S],
    region: Region,
    target: &'a mut [T],
) -> impl Iterator<Item = (&'a [S], &'a mut [T])> {
    let [source_len, target_len] =
        [(source.len(), region.whole[0]), (target.len(), region.size[0])]
            .map(|(len, n_slices)| (len / n_slices.max(1)).max(1));
    source.chunks_exact(source_len).skip(region.corner[0]).zip(target.chunks_exact_mut(target_len))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    const STILL: Placement = Placement { flip_rows: false, flip_columns: false, angle_deg: 0.0 };

    fn moved(placement: Placement, source: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let mut image = vec![f32::NAN; source.len()];
        let region = Region::whole([1, rows, columns]);
        placement.move_image(source, region, &mut image);
        let mask: Vec<u8> = source.iter().map(|&value| value as u8).collect();
        let mut moved_mask = vec![f32::NAN; source.len()];
        placement.move_mask(&mask, region, &mut moved_mask);
        for (image, mask) in image.iter().zip(&moved_mask) {
            assert!((image - mask).abs() < 1e-5, "{placement:?}: {image} and {mask}");
        }
        moved_mask
    }

    #[test]
    fn flips_and_right_angles_move_pixels_exactly() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let cases = [
            (STILL, image),
            (Placement { flip_rows: true, ..STILL }, [7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0]),
            (
                Placement { flip_columns: true, ..STILL },
                [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0],
            ),
            (Placement { angle_deg: 90.0, ..STILL }, [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0]),
            (
                Placement { angle_deg: 180.0, ..STILL },
                [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
            ),
        ];
        for (placement, expected) in cases {
            assert_eq!(moved(placement, &image, 3, 3), expected, "{placement:?}");
        }
    }

    #[test]
    fn channels_stay_together_and_borders_repeat() {
        let both = [1.0, 5.0, 2.0, 6.0];
        assert_eq!(
            moved(Placement { flip_columns: true, ..STILL }, &both, 1, 2),
            [2.0, 6.0, 1.0, 5.0]
        );
        let full = moved(Placement { angle_deg: 37.0, ..STILL }, &[1.0; 20], 4, 5);
        assert_eq!(full, [1.0; 20]);
    }

    #[test]
    fn slices_move_alike() {
        let flip = Placement { flip_columns: true, ..STILL };
        let mut moved = [0.0; 4];
        let region = Region::whole([2, 1, 2]);
        flip.move_image(&[1.0, 2.0, 3.0, 4.0], region, &mut moved);
        assert_eq!(moved, [2.0, 1.0, 4.0, 3.0]);
        flip.move_mask(&[1, 0, 0, 1], region, &mut moved);
        assert_eq!(moved, [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_region_turns_about_its_own_centre_and_sees_the_image_around_it() {
        let image: Vec<f32> = (0..60).map(|pixel| pixel as f32).collect();
        let region = Region { whole: [3, 4, 5], corner: [1, 1, 1], size: [2, 2, 3] };
        let mut moved = vec![0.0; 12];
        STILL.move_image(&image, region, &mut moved);
        assert_eq!(moved, [26., 27., 28., 31., 32., 33., 46., 47., 48., 51., 52., 53.]);
        let turn = Placement { angle_deg: 180.0, ..STILL };
        turn.move_image(&image, region, &mut moved);
        assert_eq!(moved[..6], [33., 32., 31., 28., 27., 26.]);
        // A quarter turn of a wide region reaches into the rows above and below it.
        let region = Region { whole: [1, 4, 5], corner: [0, 1, 1], size: [1, 1, 3] };
        let mask: Vec<u8> = (0..20).collect();
        Placement { angle_deg: 90.0, ..STILL }.move_mask(&mask, region, &mut moved[..3]);
        assert_eq!(moved[..3], [12., 7., 2.]);
    }

    #[test]
    fn draws_stay_in_range_and_take_three_numbers() {
        let config = AugmentationConfig { flip_rows: true, ..AugmentationConfig::default() };
        let mut numbers = [0.4, 0.6, 0.999, 0.6, 0.4, 0.0].into_iter();
        let mut uniform = || numbers.next().unwrap();
        let first = config.draw(&mut uniform);
        assert!(first.flip_rows && !first.flip_columns && (first.angle_deg - 14.97).abs() < 1e-9);
        let second = config.draw(&mut uniform);
        assert!(!second.flip_rows && second.flip_columns && second.angle_deg == -15.0);
        let off = AugmentationConfig { enabled: false, ..config };
        assert_eq!(off.draw(&mut || 0.1), STILL);
        assert!(AugmentationConfig { rotation_deg: -1.0, ..config }.validate().is_err());
    }
}
