//! Annotation source that is wrong by a given share of the area: too large, too small, or turned and moved.
//!
//! Source: Li et al., MICCAI 2021 ("superpixel-guided iterative learning from noisy labels"): a share `alpha` of the
//! labels is dilated or eroded until the area has changed by `beta`, or rotated and moved until the area that differs is
//! `beta` of the mask; `alpha` from 0.3 to 1, `beta` 0.5 or 0.7, rotations up to 15 degrees.
//! Deviation: dilation and erosion are Euclidean; the three kinds are equally likely.
//! Randomness: `u1` decides whether the case is noisy, `u2` the kind, `u3` the angle, `u4` the direction.
//! Cost: one distance transform, or 24 rotations of the mask.

use datasets::{Grid, Mask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, NoiseOption, Noisy, Simulator, StrengthScale, share_scale};
use crate::{
    distance::{Border, squared_distance, squared_distance_to_background},
    zip::zip,
};

/// Halvings of a bracket; the last step is far below a voxel.
const N_HALVINGS: usize = 24;

/// An erosion leaves at least this share of the area.
const SMALLEST_SHARE: f64 = 0.05;

/// Changes a mask by a share of its area; the strength is that share (`beta`).
///
/// Share 0 leaves the mask as it is, and an empty mask stays empty. Voxels at the same distance change together, so
/// a small mask may change by a little more. A change that the mask or the image does not allow (eroding more than 95 %,
/// dilating beyond the image) is made as far as possible and flagged as clamped. Rotation is within slices, about the
/// centroid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AreaRatio {
    /// Share of the cases that are noisy (`alpha`). Default 1.
    pub noisy_probability: f64,
    /// Largest rotation in degrees; 15 for lungs and hearts, 2 for clavicles as published. Default 15.
    pub largest_rotation: f64,
}

impl Default for AreaRatio {
    fn default() -> Self {
        Self { noisy_probability: 1.0, largest_rotation: 15.0 }
    }
}

impl Simulator for AreaRatio {
    fn name(&self) -> &'static str {
        "area_ratio"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        share_scale()
    }

    fn bracket(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![
            ("noisy_probability", self.noisy_probability, [0.0, 1.0]),
            ("largest_rotation", self.largest_rotation, [0.0, 180.0]),
        ]
    }

    fn limits(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 1.0]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let [whether, kind, angle, direction] = draw.uniforms;
        let share = strength.clamp(0.0, 1.0);
        if whether >= self.noisy_probability || share <= 0.0 || mask.is_empty() {
            return Noisy::unchanged(mask);
        }
        let kind = (kind * 3.0).floor();
        let (noisy, reached) = if kind < 1.0 {
            dilated(mask, spacing, share)
        } else if kind < 2.0 {
            eroded(mask, spacing, share)
        } else {
            let angle = (2.0 * angle - 1.0) * self.largest_rotation.to_radians();
            moved(mask, spacing, share, angle, direction * std::f64::consts::TAU)
        };
        let changed = difference(mask, &noisy);
        Noisy {
            mask: noisy,
            params: vec![("kind", kind), ("changed_share", changed)],
            clamped: !reached || share < strength,
        }
    }
}

/// Voxels in which two masks differ, as a share of the first one's area.
fn difference(clean: &Mask, noisy: &Mask) -> f64 {
    let differing = clean.values().iter().zip(noisy.values()).filter(|(a, b)| a != b).count();
    differing as f64 / clean.area() as f64
}

/// Adds the nearest voxels until the area has grown by `share`; false when the image has too few.
fn dilated(mask: &Mask, spacing: [f64; 3], share: f64) -> (Mask, bool) {
    let field = squared_distance(mask, spacing);
    let wanted = (share * mask.area() as f64).round() as usize;
    let outside: Vec<f64> =
        field.values().iter().copied().filter(|&squared| squared > 0.0).collect();
    match kth_smallest(outside, wanted) {
        Ok(None) => (mask.clone(), true),
        Ok(Some(reach)) => (field.map(|&squared| squared <= reach), true),
        Err(()) => (Mask::filled(mask.shape(), true), false),
    }
}

/// Removes the outermost voxels until the area has shrunk by `share`; false when too little would be left.
fn eroded(mask: &Mask, spacing: [f64; 3], share: f64) -> (Mask, bool) {
    let field = squared_distance_to_background(mask, spacing, Border::Unknown);
    let area = mask.area();
    let wanted = (share * area as f64).round() as usize;
    let most = area - ((SMALLEST_SHARE * area as f64).ceil() as usize).clamp(1, area);
    let mut inside: Vec<f64> =
        field.values().iter().copied().filter(|&squared| squared > 0.0).collect();
    inside.sort_unstable_by(f64::total_cmp);
    // Voxels of one depth go together: as many whole depths as may go.
    let n_removed = wanted.min(most);
    let Some(last) = n_removed.checked_sub(1).map(|last| inside[last]) else {
        return (mask.clone(), wanted == 0);
    };
    let up_to = |depth: f64| inside.partition_point(|&squared| squared <= depth);
    let depth = if up_to(last) <= most {
        last
    } else {
        let n_below = inside.partition_point(|&squared| squared < last);
        n_below.checked_sub(1).map_or(0.0, |below| inside[below])
    };
    let shrunk = zip(&field, mask, |&squared: &f64, &inside| inside && squared > depth);
    let is_reached = area - shrunk.area() >= wanted;
    (shrunk, is_reached)
}

/// The `k`-th smallest value, `None` for `k = 0`; an error when there are fewer.
fn kth_smallest(mut values: Vec<f64>, k: usize) -> Result<Option<f64>, ()> {
    match k.checked_sub(1) {
        None => Ok(None),
        Some(index) if index < values.len() => {
            Ok(Some(*values.select_nth_unstable_by(index, f64::total_cmp).1))
        }
        Some(_) => Err(()),
    }
}

/// Rotates by at most `angle` and moves along `direction` until the masks differ by `share`.
fn moved(mask: &Mask, spacing: [f64; 3], share: f64, angle: f64, direction: f64) -> (Mask, bool) {
    let warp = Warp { mask, spacing, centre: centroid(mask, spacing) };
    let turned = |part: f64| warp.apply(part * angle, [0.0; 2]);
    if difference(mask, &turned(1.0)) >= share {
        return (bisect(mask, share, 1.0, turned), true);
    }
    let longest = (mask.n_rows() as f64 * spacing[1]).hypot(mask.n_columns() as f64 * spacing[2]);
    let shifted =
        |distance: f64| warp.apply(angle, [distance * direction.sin(), distance * direction.cos()]);
    let noisy = bisect(mask, share, longest, shifted);
    let is_reached = difference(mask, &noisy) >= share;
    (noisy, is_reached)
}

/// The smallest change of a family that differs by `share`, or the largest change when none does.
fn bisect(mask: &Mask, share: f64, largest: f64, change: impl Fn(f64) -> Mask) -> Mask {
    let (mut low, mut high) = (0.0, largest);
    for _ in 0..N_HALVINGS {
        let middle = 0.5 * (low + high);
        if difference(mask, &change(middle)) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    change(high)
}

/// Mean place of the foreground within slices, `[row, column]` in the unit of the spacing.
fn centroid(mask: &Mask, spacing: [f64; 3]) -> [f64; 2] {
    let [_, n_rows, n_columns] = mask.shape();
    let mut sum = [0.0; 2];
    let foreground = mask.values().iter().enumerate().filter(|(_, inside)| **inside);
    for (index, _) in foreground {
        sum[0] += (index / n_columns % n_rows) as f64 * spacing[1];
        sum[1] += (index % n_columns) as f64 * spacing[2];
    }
    sum.map(|sum| sum / mask.area() as f64)
}

/// A mask to be turned about its centroid and moved, slice by slice.
struct Warp<'a> {
    mask: &'a Mask,
    spacing: [f64; 3],
    centre: [f64; 2],
}

impl Warp<'_> {
    /// Nearest voxel of the inverse map; from beyond the image comes background.
    fn apply(&self, angle: f64, shift: [f64; 2]) -> Mask {
        let (sine, cosine) = angle.sin_cos();
        let shape = self.mask.shape();
        Grid::from_fn(shape, |[slice, row, column]| {
            let down = row as f64 * self.spacing[1] - self.centre[0] - shift[0];
            let right = column as f64 * self.spacing[2] - self.centre[1] - shift[1];
            let source = [
                (self.centre[0] + cosine * down - sine * right) / self.spacing[1],
                (self.centre[1] + sine * down + cosine * right) / self.spacing[2],
            ]
            .map(f64::round);
            let is_inside = (0.0..shape[1] as f64).contains(&source[0])
                && (0.0..shape[2] as f64).contains(&source[1]);
            is_inside && self.mask.get([slice, source[0] as usize, source[1] as usize])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{disc, lungs};
    use datasets::mask;

    fn apply(mask: &Mask, share: f64, kind: f64) -> Noisy {
        let draw = Draw { uniforms: [0.5, kind, 0.9, 0.3], seed: 0 };
        AreaRatio::default().apply(mask, [1.0; 3], share, &draw)
    }

    #[test]
    fn every_kind_changes_by_the_share() {
        for case in 0..7 {
            let clean = lungs(case);
            for share in [0.1, 0.3, 0.5, 0.7] {
                for kind in [0.1, 0.5, 0.9] {
                    let noisy = apply(&clean, share, kind);
                    let surplus = difference(&clean, &noisy.mask) - share;
                    // A ring of voxels at one distance is a tenth of so small a mask; a step of a move is less.
                    let accepted = if kind < 0.7 { 0.11 } else { 0.05 };
                    assert!(!noisy.clamped, "{kind}");
                    assert!(
                        (-0.005..accepted).contains(&surplus),
                        "{kind}: {surplus} over {share}"
                    );
                }
                assert!(apply(&clean, share, 0.1).mask.area() > clean.area());
                assert!(apply(&clean, share, 0.5).mask.area() < clean.area());
            }
        }
    }

    #[test]
    fn a_square_turns_about_its_middle() {
        let square = mask![". . . . .", ". # # # .", ". # # # .", ". # # # .", ". . . . ."];
        let warp = Warp { mask: &square, spacing: [1.0; 3], centre: centroid(&square, [1.0; 3]) };
        assert_eq!(warp.centre, [2.0, 2.0]);
        assert_eq!(warp.apply(std::f64::consts::FRAC_PI_2, [0.0; 2]), square);
        let moved = warp.apply(0.0, [1.0, -1.0]);
        assert_eq!(moved, mask![". . . . .", ". . . . .", "# # # . .", "# # # . .", "# # # . ."]);
    }

    #[test]
    fn what_the_image_does_not_allow_is_flagged() {
        let small = disc(16, [8.0, 8.0], 4.0);
        let shrunk = apply(&small, 1.0, 0.5);
        assert!(shrunk.clamped && !shrunk.mask.is_empty());
        let large = mask!["# # #", "# # .", "# # #"];
        let grown = apply(&large, 0.9, 0.1);
        assert!(grown.clamped && grown.mask.area() == 9);
        let pixel = mask![". . .", ". # .", ". . ."];
        assert_eq!(apply(&pixel, 0.7, 0.5).mask, pixel);
    }

    #[test]
    fn some_cases_stay_clean_and_options_are_checked() {
        let clean = lungs(3);
        let seldom = AreaRatio { noisy_probability: 0.3, ..AreaRatio::default() };
        let draw = Draw { uniforms: [0.31, 0.1, 0.5, 0.5], seed: 0 };
        assert_eq!(seldom.apply(&clean, [1.0; 3], 0.5, &draw).mask, clean);
        assert_eq!(apply(&clean, 0.0, 0.9).mask, clean);
        let empty = Mask::filled([1, 5, 5], false);
        assert_eq!(apply(&empty, 0.5, 0.1).mask, empty);
        let wrong = AreaRatio { largest_rotation: 200.0, ..AreaRatio::default() };
        assert!(wrong.check(0.5, [1, 9, 9], [1.0; 3]).is_err());
        assert!(seldom.check(1.5, [1, 9, 9], [1.0; 3]).is_err());
    }
}
