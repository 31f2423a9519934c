//! Patches of large cases: where a training step looks, and the region of a case that is read.
//!
//! Source: nnU-Net (Isensee et al., Nature Methods 2021): a third of the patches are centred on foreground. Deviation:
//! each case decides by its own draw, and the foreground is that of the majority vote of its sources.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Case, NetsError, Outline, Streams};

/// A box of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Axes of the case, `[slice, row, column]`.
    pub whole: [usize; 3],
    /// First slice, row and column of the box.
    pub corner: [usize; 3],
    /// Axes of the box; it lies in the case.
    pub size: [usize; 3],
}

impl Region {
    /// All of a case of axes `size`.
    pub fn whole(size: [usize; 3]) -> Self {
        Self { whole: size, corner: [0; 3], size }
    }

    /// First pixel in the case, and number of pixels, of each row of the box.
    pub(crate) fn rows(self) -> impl Iterator<Item = (usize, usize)> {
        let Self { whole, corner, size } = self;
        (0..size[0] * size[1]).map(move |row| {
            let [slice, row] = [corner[0] + row / size[1], corner[1] + row % size[1]];
            ((slice * whole[1] + row) * whole[2] + corner[2], size[2])
        })
    }
}

/// Patches that training steps see instead of whole cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// Axes of a patch, `[slice, row, column]`, at least 1 and not larger than the cases; 2-D has one slice.
    pub size: [usize; 3],
    /// Share of the patches whose centre is foreground of the vote, in [0, 1]. Default a third (nnU-Net's).
    #[serde(default = "third")]
    pub foreground_share: f64,
    /// Overlap of the windows of a validation, as a share of the patch, in [0, 0.95]. Default a quarter (MONAI's).
    #[serde(default = "quarter")]
    pub overlap: f64,
}

fn third() -> f64 {
    1.0 / 3.0
}

fn quarter() -> f64 {
    0.25
}

impl PatchConfig {
    /// Checks the ranges stated at the fields; the size of the cases is for the training to check.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        let Self { size, foreground_share, overlap } = *self;
        let good = size.iter().all(|&side| side > 0);
        NetsError::check("patch.size", "three sides of at least 1", size, good)?;
        let good = (0.0..=1.0).contains(&foreground_share);
        NetsError::check("patch.foreground_share", "a share in [0, 1]", foreground_share, good)?;
        let good = (0.0..=0.95).contains(&overlap);
        NetsError::check("patch.overlap", "a share in [0, 0.95]", overlap, good)
    }

    /// Corner of the patch of the case `nth` in `epoch`, from the stream `nets.patch` of both.
    ///
    /// Four numbers: whether the centre is foreground, and the corner's axes or, of the first of them, which pixel.
    pub(crate) fn corner(
        &self,
        (epoch, nth): (usize, usize),
        outline: &Outline,
        pixels: &[u32],
        streams: Streams<'_>,
    ) -> [usize; 3] {
        let mut uniform = streams("nets.patch", &[&epoch.to_string(), &outline.ids[nth]]);
        let (chance, place) = (uniform(), [uniform(), uniform(), uniform()]);
        let below = |number: f64, end: usize| ((number * end as f64) as usize).min(end - 1);
        let room = [0, 1, 2].map(|axis| outline.size[axis].saturating_sub(self.size[axis]));
        if chance >= self.foreground_share || pixels.is_empty() {
            return [0, 1, 2].map(|axis| below(place[axis], room[axis] + 1));
        }
        let pixel = pixels[below(place[0], pixels.len())] as usize;
        let [_, rows, columns] = outline.size;
        let centre = [pixel / (rows * columns), pixel / columns % rows, pixel % columns];
        [0, 1, 2].map(|axis| centre[axis].saturating_sub(self.size[axis] / 2).min(room[axis]))
    }
}

/// Foreground pixels that are kept of a case, evenly spread over their order; nnU-Net keeps as many a class.
const MOST_PIXELS: usize = 10_000;

/// Pixels of a case that the vote marks, whatever the structure, at most [`MOST_PIXELS`] of them.
pub(crate) fn foreground(outline: &Outline, case: &Case) -> Vec<u32> {
    let n_structures = outline.n_structures;
    let is_marked = |pixel: &usize| {
        (pixel * n_structures..(pixel + 1) * n_structures).any(|place| case.is_voted(place))
    };
    let pixels: Vec<u32> =
        (0..outline.n_pixels()).filter(is_marked).map(|pixel| pixel as u32).collect();
    let kept = pixels.len().min(MOST_PIXELS);
    (0..kept).map(|nth| pixels[nth * pixels.len() / kept]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::testing::{drawn_discs, streams};

    const PATCH: PatchConfig =
        PatchConfig { size: [1, 8, 8], foreground_share: 1.0 / 3.0, overlap: 0.25 };

    fn corners(config: PatchConfig) -> Vec<[usize; 3]> {
        let ((outline, cases), streams) = (drawn_discs(3, 32, 1), streams(1));
        let pixels: Vec<Vec<u32>> = cases.iter().map(|case| foreground(&outline, case)).collect();
        let at = |nth: usize| (nth / 3, nth % 3);
        (0..300).map(|nth| config.corner(at(nth), &outline, &pixels[nth % 3], &streams)).collect()
    }

    #[test]
    fn patches_lie_in_the_case_and_a_third_is_centred_on_foreground() {
        let (_, cases) = drawn_discs(3, 32, 1);
        let votes: Vec<Vec<u8>> = cases.iter().map(Case::majority_vote).collect();
        let centred = |nth: usize, corner: &[usize; 3]| {
            votes[nth % 3][(corner[1] + 4) * 32 + corner[2] + 4] > 0
        };
        let corners = corners(PATCH);
        assert!(corners.iter().all(|&[slice, row, column]| slice == 0 && row < 25 && column < 25));
        let share = |corners: &[[usize; 3]]| {
            let centred = corners.iter().enumerate().filter(|(nth, corner)| centred(*nth, corner));
            centred.count() as f64 / corners.len() as f64
        };
        let everywhere = super::tests::corners(PatchConfig { foreground_share: 0.0, ..PATCH });
        let expected = 1.0 / 3.0 + 2.0 / 3.0 * share(&everywhere);
        assert!((share(&corners) - expected).abs() < 0.08, "{} {expected}", share(&corners));
        let all = super::tests::corners(PatchConfig { foreground_share: 1.0, ..PATCH });
        assert!(share(&all) > 0.95);
    }

    #[test]
    fn a_patch_is_a_function_of_seed_epoch_and_case() {
        assert_eq!(corners(PATCH), corners(PATCH));
        let first = corners(PATCH);
        assert!(first.iter().any(|corner| *corner != first[0]));
    }

    #[test]
    fn regions_give_their_rows() {
        let region = Region { whole: [2, 3, 4], corner: [1, 1, 2], size: [1, 2, 2] };
        assert_eq!(region.rows().collect::<Vec<_>>(), [(18, 2), (22, 2)]);
        assert_eq!(Region::whole([1, 2, 3]).rows().collect::<Vec<_>>(), [(0, 3), (3, 3)]);
    }

    #[test]
    fn ranges_are_checked() {
        assert!(PATCH.validate().is_ok());
        for bad in [
            PatchConfig { size: [0, 8, 8], ..PATCH },
            PatchConfig { foreground_share: 1.1, ..PATCH },
            PatchConfig { overlap: f64::NAN, ..PATCH },
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
        let read: PatchConfig = serde_json::from_str(r#"{"size": [1, 8, 8]}"#).unwrap();
        assert_eq!(read, PATCH);
    }
}
