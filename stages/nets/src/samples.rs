//! Cases for training as plain buffers, batches of them, their majority vote and their Dice.

use kernels::Volume;

use crate::{NetsError, Placement, Region, TaskShape};

/// A set of cases of one size, held in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// One id per case; a key of the augmentation's randomness.
    pub ids: Vec<String>,
    /// Axes of every case, `[slice, row, column]`; 2-D has one slice.
    pub size: [usize; 3],
    /// Channels of every image.
    pub n_channels: usize,
    /// Structures of every label.
    pub n_structures: usize,
    /// Images `[case, slice, row, column, channel]`, finite, normalized by the caller.
    pub images: Vec<f32>,
    /// Per source, labels `[case, slice, row, column, structure]` of 0 and 1.
    pub labels: Vec<Vec<u8>>,
    /// Clean masks shaped as a label, for validation only; never seen by a network.
    pub truth: Option<Vec<u8>>,
}

impl Samples {
    /// Number of cases.
    pub fn n_cases(&self) -> usize {
        self.ids.len()
    }

    /// Numbers that a network for these cases is built with.
    pub fn shape(&self) -> TaskShape {
        TaskShape {
            n_channels: self.n_channels,
            n_structures: self.n_structures,
            n_sources: self.labels.len(),
        }
    }

    /// Values of one mask.
    pub(crate) fn mask_len(&self) -> usize {
        self.size.iter().product::<usize>() * self.n_structures
    }

    /// Values of one image.
    pub(crate) fn image_len(&self) -> usize {
        self.size.iter().product::<usize>() * self.n_channels
    }

    /// Checks lengths, that images are finite and that masks hold 0 and 1 only.
    ///
    /// # Errors
    /// [`NetsError::Shape`], [`NetsError::ImageNotFinite`] or [`NetsError::LabelValue`] for the first fault
    /// (the clean masks count as the source after the last).
    pub fn validate(&self) -> Result<(), NetsError> {
        self.shape().validate()?;
        let [slices, rows, columns] = self.size;
        for (field, value) in [("slices", slices), ("rows", rows), ("columns", columns)] {
            NetsError::check(field, "at least 1", value, value > 0)?;
        }
        let n_cases = self.n_cases();
        let image = [n_cases, slices, rows, columns, self.n_channels];
        let axes = "[case, slice, row, column, channel]";
        NetsError::check_len("images", axes, &image, self.images.len())?;
        self.check_finite()?;
        let mask = [n_cases, slices, rows, columns, self.n_structures];
        let axes = "[case, slice, row, column, structure]";
        for (source_idx, label) in self.labels.iter().chain(&self.truth).enumerate() {
            NetsError::check_len(
                &format!("labels of source {source_idx}"),
                axes,
                &mask,
                label.len(),
            )?;
            if let Some(place) = label.iter().position(|&value| value > 1) {
                let case = self.ids[place / self.mask_len()].clone();
                return Err(NetsError::LabelValue { case, source_idx, found: label[place] });
            }
        }
        Ok(())
    }

    fn check_finite(&self) -> Result<(), NetsError> {
        let Some(place) = self.images.iter().position(|value| !value.is_finite()) else {
            return Ok(());
        };
        let (case, pixel) = (place / self.image_len(), place % self.image_len() / self.n_channels);
        let [_, rows, columns] = self.size;
        Err(NetsError::ImageNotFinite {
            case: self.ids[case].clone(),
            slice: pixel / (rows * columns),
            row: pixel / columns % rows,
            column: pixel % columns,
            channel: place % self.n_channels,
        })
    }

    /// Pixels that more than half of the sources mark, shaped as a label; a tie is background.
    pub fn majority_vote(&self) -> Vec<u8> {
        let len = self.n_cases() * self.mask_len();
        (0..len).map(|place| u8::from(self.is_voted(place))).collect()
    }

    /// Whether more than half of the sources mark the place `place` of their labels.
    pub(crate) fn is_voted(&self, place: usize) -> bool {
        2 * self.labels.iter().filter(|label| label[place] > 0).count() > self.labels.len()
    }
}

/// A case of a batch: which one, how it is moved, and where the part that is seen begins.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Draw {
    pub(crate) case: usize,
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

    /// Replaces the content by parts of axes `size` of `samples`, as `draws` say; memory is reused.
    pub(crate) fn fill(&mut self, samples: &Samples, size: [usize; 3], draws: &[Draw]) {
        (self.n_cases, self.size) = (draws.len(), size);
        let region = |draw: &Draw| Region { whole: samples.size, corner: draw.corner, size };
        let n_pixels = self.n_pixels();
        let [image_len, mask_len] =
            [samples.n_channels, samples.n_structures].map(|depth| n_pixels * depth);
        let (whole_image, whole_mask) = (samples.image_len(), samples.mask_len());
        self.images.resize(draws.len() * image_len, 0.0);
        self.labels.resize_with(samples.labels.len(), Vec::new);
        for (draw, target) in draws.iter().zip(self.images.chunks_exact_mut(image_len.max(1))) {
            let source = &samples.images[draw.case * whole_image..][..whole_image];
            draw.placement.move_image(source, region(draw), target);
        }
        for (label, target) in samples.labels.iter().zip(&mut self.labels) {
            target.resize(draws.len() * mask_len, 0.0);
            for (draw, target) in draws.iter().zip(target.chunks_exact_mut(mask_len.max(1))) {
                let source = &label[draw.case * whole_mask..][..whole_mask];
                draw.placement.move_mask(source, region(draw), target);
            }
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

/// Mean Dice over cases and structures of `probabilities > ½` against `reference`, both `[case, pixel, structure]`.
///
/// Two empty masks score 1; no case scores 0.
///
/// # Examples
/// ```
/// // One case of three pixels: two found, one expected, one in common.
/// let dice = nets::mean_dice(&[0.9, 0.8, 0.1], &[1, 0, 0], 1, 1);
/// assert_eq!(dice, 2.0 / 3.0);
/// ```
pub fn mean_dice(
    probabilities: &[f32],
    reference: &[u8],
    n_cases: usize,
    n_structures: usize,
) -> f64 {
    let len = reference.len() / n_cases.max(1);
    let (mut sum, mut n_scores) = (0.0, 0usize);
    for (found, expected) in
        probabilities.chunks_exact(len.max(1)).zip(reference.chunks_exact(len.max(1)))
    {
        for structure in 0..n_structures {
            let (mut both, mut each) = (0usize, 0usize);
            for place in (structure..len).step_by(n_structures) {
                let (found, expected) = (found[place] > 0.5, expected[place] > 0);
                both += usize::from(found && expected);
                each += usize::from(found) + usize::from(expected);
            }
            sum += if each == 0 { 1.0 } else { 2.0 * both as f64 / each as f64 };
            n_scores += 1;
        }
    }
    sum / n_scores.max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    fn two_cases() -> Samples {
        Samples {
            ids: vec!["a".into(), "b".into()],
            size: [1, 1, 2],
            n_channels: 1,
            n_structures: 1,
            images: vec![0.0, 1.0, 2.0, 3.0],
            labels: vec![vec![1, 1, 0, 0], vec![1, 0, 1, 0]],
            truth: None,
        }
    }

    #[test]
    fn votes_are_strict() {
        let mut samples = two_cases();
        assert_eq!(samples.majority_vote(), [1, 0, 0, 0]);
        samples.labels.push(vec![1, 1, 1, 0]);
        assert_eq!(samples.majority_vote(), [1, 1, 1, 0]);
    }

    #[test]
    fn faults_are_named() {
        assert!(two_cases().validate().is_ok());
        let mut samples = two_cases();
        samples.labels[1].pop();
        assert!(matches!(samples.validate(), Err(NetsError::Shape { expected: 4, found: 3, .. })));
        let mut samples = two_cases();
        samples.labels[1][2] = 255;
        let fault = samples.validate().unwrap_err();
        assert!(
            matches!(fault, NetsError::LabelValue { ref case, source_idx: 1, found: 255 } if case == "b")
        );
        let mut samples = two_cases();
        samples.images[3] = f32::NAN;
        let fault = samples.validate().unwrap_err();
        assert_eq!(
            fault.to_string(),
            "image of case `b` is not finite at slice 0, row 0, column 1, channel 0"
        );
    }

    #[test]
    fn batches_take_cases_in_the_order_asked_for() {
        let mut batch = Batch::default();
        let case = |case| Draw { case, ..Draw::default() };
        batch.fill(&two_cases(), [1, 1, 2], &[case(1), case(0)]);
        assert_eq!(batch.images, [2.0, 3.0, 0.0, 1.0]);
        assert_eq!(batch.labels, [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]]);
        assert_eq!(batch.count_empty(), (4, 1));
        let right = |case| Draw { corner: [0, 0, 1], ..Draw { case, ..Draw::default() } };
        batch.fill(&two_cases(), [1, 1, 1], &[right(1), right(0), right(1)]);
        assert_eq!((batch.n_cases, batch.size), (3, [1, 1, 1]));
        assert_eq!(batch.images, [3.0, 1.0, 3.0]);
        assert_eq!(batch.labels, [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn dice_is_a_mean_over_cases_and_structures() {
        let found = [0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1];
        let expected = [1, 0, 0, 0, 0, 0, 0, 0];
        let dice = mean_dice(&found, &expected, 2, 2);
        assert!((dice - (2.0 / 3.0 + 1.0 + 1.0 + 1.0) / 4.0).abs() < 1e-12);
        assert_eq!(mean_dice(&[], &[], 0, 1), 0.0);
    }
}
