//! Batches of cases as plain buffers, and the Dice of what networks find in them.

use kernels::Volume;

use crate::{Case, NetsError, Outline, Placement, Region, TaskShape};

/// How a case of a batch is moved, and where the part that is seen begins.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Draw {
    pub(crate) placement: Placement,
    /// First slice, row and column.
    pub(crate) corner: [usize; 3],
}

/// Cases on their way through a network, as f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of cases.
    pub n_cases: usize,
    /// Axes of every case, `[slice, row, column]`; 2-D has one slice.
    pub size: [usize; 3],
    /// Images `[case, slice, row, column, channel]`.
    pub images: Vec<f32>,
    /// Per source, labels `[case, slice, row, column, structure]` in [0, 1].
    pub labels: Vec<Vec<f32>>,
}

impl Batch {
    /// Axes of the whole batch.
    pub fn volume(&self) -> Volume {
        let [slices, rows, columns] = self.size;
        Volume { batch: self.n_cases, slices, rows, columns }
    }

    /// Pixels of one case.
    pub(crate) fn n_pixels(&self) -> usize {
        self.size.iter().product()
    }

    /// Checks that there is a pixel, the number of sources, and all lengths.
    ///
    /// # Errors
    /// [`NetsError::Count`] or [`NetsError::Shape`] for the first fault.
    pub fn check(&self, shape: TaskShape) -> Result<(), NetsError> {
        if self.volume().n_pixels() == 0 {
            return Err(NetsError::Empty { split: "batch" });
        }
        let (expected, found) = (shape.n_sources, self.labels.len());
        if expected != found {
            return Err(NetsError::Count { what: "sources of a batch", expected, found });
        }
        let [slices, rows, columns] = self.size;
        let image = [self.n_cases, slices, rows, columns, shape.n_channels];
        let axes = "[case, slice, row, column, channel]";
        NetsError::check_len("images", axes, &image, self.images.len())?;
        let mask = [self.n_cases, slices, rows, columns, shape.n_structures];
        let axes = "[case, slice, row, column, structure]";
        self.labels
            .iter()
            .try_for_each(|label| NetsError::check_len("labels", axes, &mask, label.len()))
    }

    /// Makes room for `n_cases` parts of axes `size` of the cases of `outline`; memory is reused.
    pub(crate) fn start(&mut self, n_cases: usize, size: [usize; 3], outline: &Outline) {
        (self.n_cases, self.size) = (n_cases, size);
        let n_pixels = n_cases * self.n_pixels();
        self.images.resize(n_pixels * outline.n_channels, 0.0);
        self.labels.resize_with(outline.n_sources, Vec::new);
        self.labels.iter_mut().for_each(|label| label.resize(n_pixels * outline.n_structures, 0.0));
    }

    /// Puts a part of a case of axes `whole` at `nth`, as `draw` says.
    pub(crate) fn put(&mut self, nth: usize, case: &Case, whole: [usize; 3], draw: Draw) {
        let region = Region { whole, corner: draw.corner, size: self.size };
        fn part(values: &mut [f32], nth: usize, n_cases: usize) -> &mut [f32] {
            let len = values.len() / n_cases.max(1);
            &mut values[nth * len..][..len]
        }
        let image = part(&mut self.images, nth, self.n_cases);
        draw.placement.move_image(&case.image, region, image);
        for (label, target) in case.labels.iter().zip(&mut self.labels) {
            draw.placement.move_mask(label, region, part(target, nth, self.n_cases));
        }
    }

    /// Number of masks, and how many of them have no foreground.
    pub(crate) fn count_empty(&self) -> (usize, usize) {
        let len = self.labels.first().map_or(0, Vec::len) / self.n_cases.max(1);
        let masks = self.labels.iter().flat_map(|label| label.chunks_exact(len.max(1)));
        let (mut n_masks, mut n_empty) = (0, 0);
        for mask in masks {
            n_masks += 1;
            n_empty += usize::from(mask.iter().all(|&value| value < 0.5));
        }
        (n_masks, n_empty)
    }
}

/// Mean Dice over cases and structures of `probabilities > ½` against clean or voted masks.
///
/// Two empty masks score 1; no case scores 0.
///
/// # Examples
/// ```
/// // One case of three pixels: two found, one expected, one in common.
/// let mut dice = nets::MeanDice::default();
/// dice.add(&[0.9, 0.8, 0.1], &[1, 0, 0], 1);
/// assert_eq!(dice.mean(), 2.0 / 3.0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanDice {
    sum: f64,
    n_scores: usize,
}

impl MeanDice {
    /// Adds a case, both buffers `[pixel, structure]`.
    pub fn add(&mut self, probabilities: &[f32], reference: &[u8], n_structures: usize) {
        for structure in 0..n_structures {
            let (mut both, mut each) = (0usize, 0usize);
            let pairs = probabilities.iter().zip(reference);
            for (&found, &expected) in pairs.skip(structure).step_by(n_structures) {
                let (found, expected) = (found > 0.5, expected > 0);
                both += usize::from(found && expected);
                each += usize::from(found) + usize::from(expected);
            }
            self.sum += if each == 0 { 1.0 } else { 2.0 * both as f64 / each as f64 };
            self.n_scores += 1;
        }
    }

    /// The mean of all that was added.
    pub fn mean(&self) -> f64 {
        self.sum / self.n_scores.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_cases_lie_where_they_were_put() {
        let outline =
            Outline { n_channels: 1, n_structures: 1, n_sources: 2, ..Outline::default() };
        let whole = [1, 1, 2];
        let case = |image: [f32; 2], labels: [[u8; 2]; 2]| Case {
            image: image.to_vec(),
            labels: labels.map(|label| label.to_vec()).to_vec(),
            truth: None,
        };
        let a = case([0.0, 1.0], [[1, 1], [1, 0]]);
        let b = case([2.0, 3.0], [[0, 0], [1, 0]]);
        let mut batch = Batch::default();
        batch.start(2, whole, &outline);
        batch.put(1, &a, whole, Draw::default());
        batch.put(0, &b, whole, Draw::default());
        assert_eq!(batch.images, [2.0, 3.0, 0.0, 1.0]);
        assert_eq!(batch.labels, [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]]);
        assert_eq!(batch.count_empty(), (4, 1));
        batch.start(3, [1, 1, 1], &outline);
        for (nth, case) in [&b, &a, &b].into_iter().enumerate() {
            batch.put(nth, case, whole, Draw { corner: [0, 0, 1], ..Draw::default() });
        }
        assert_eq!((batch.n_cases, batch.size), (3, [1, 1, 1]));
        assert_eq!(batch.images, [3.0, 1.0, 3.0]);
        assert_eq!(batch.labels, [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn dice_is_a_mean_over_cases_and_structures() {
        let mut dice = MeanDice::default();
        assert!(dice.mean() == 0.0);
        dice.add(&[0.9, 0.1, 0.9, 0.1], &[1, 0, 0, 0], 2);
        dice.add(&[0.1; 4], &[0; 4], 2);
        assert!((dice.mean() - (2.0 / 3.0 + 1.0 + 1.0 + 1.0) / 4.0).abs() < 1e-12);
    }
}
