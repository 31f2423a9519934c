//! Annotation source that leaves gaps: thin cuts go across the mask at random places of its medial axis.
//!
//! Source: Castro et al., JMLR 2019 (Morpho-MNIST), fracture: three cuts 1.5 px thick, upright on the medial axis at random
//! pixels of it that are no less than 2 px from its ends and forks, half a pixel longer on either side than the mask is deep
//! there; the direction of the axis is that of its pixels within 2 px.
//! Deviation: a cut is all that lies nearer to its line than half its thickness, not what a round brush on a fourfold grid
//! meets. In 3-D a cut is a round plate, as far along slices as within one.
//! Randomness: one place a cut from a stream of the case; more cuts keep the places of the fewer.
//! Cost: the medial axis, and the voxels around the cuts.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, NoiseOption, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale,
    medial_axis::{MedialAxis, neighbours, places},
    redraw::plane_of,
    shorter_side, voxels_near, within_slices,
};
use crate::{morphology::dilate, zip::zip};

/// How thick the published cuts are, in pixels.
pub(super) const THICKNESS_PX: f64 = 1.5;

/// How far around a place the axis is looked at for its direction, in pixels.
const WINDOW_PX: usize = 2;

/// By how much a cut is longer on either side than the mask is deep, in pixels.
const EXTENSION_PX: f64 = 0.5;

/// Cuts the mask across; the strength is the thickness of the cuts in the unit of the spacing, 1.5 px as published.
///
/// Thickness 0 leaves the mask as it is, and an empty mask stays empty; thick cuts may leave nothing. Where all of the axis
/// is near its ends and forks, cuts go anywhere on it. In 3-D places are drawn among the axes of all slices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fracture {
    /// Number of cuts; 3 by default.
    pub n_cuts: usize,
    /// Pixels around ends and forks of the medial axis in which no cut begins; 2 by default.
    pub prune_px: f64,
}

impl Default for Fracture {
    fn default() -> Self {
        Self { n_cuts: 3, prune_px: 2.0 }
    }
}

impl Simulator for Fracture {
    fn name(&self) -> &'static str {
        "fracture"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Continuous(0.05))
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, shorter_side(shape, spacing)]
    }

    fn options(&self, _shape: [usize; 3], _spacing: [f64; 3]) -> Vec<NoiseOption> {
        vec![
            ("n_cuts", self.n_cuts as f64, [1.0, 1000.0]),
            ("prune_px", self.prune_px, [0.0, 1000.0]),
        ]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        if strength <= 0.0 {
            return Noisy::unchanged(mask);
        }
        let axis = MedialAxis::of(mask, spacing);
        let pruned = places(&self.pruned(&axis.pixels));
        let places = if pruned.is_empty() { places(&axis.pixels) } else { pruned };
        let mut stream = Stream::new(draw.seed, "noise.fracture", &[]);
        let mut noisy = mask.clone();
        for _ in 0..self.n_cuts {
            if let Some(&centre) = places.get(stream.below(places.len())) {
                Cut::across(&axis, spacing, centre).apply(&mut noisy, spacing, strength);
            }
        }
        Noisy { mask: noisy, params: vec![("thickness", strength)], clamped: false }
    }
}

impl Fracture {
    /// The axis without what is near its ends, and of that without what is near its forks.
    fn pruned(&self, axis: &Mask) -> Mask {
        let without = |axis: &Mask, drops: fn(usize) -> bool| {
            let shape = axis.shape();
            let planes: Vec<Mask> = (0..shape[0]).map(|slice| plane_of(axis, slice)).collect();
            let dropped = Mask::from_fn(shape, |place @ [slice, row, column]| {
                let around = neighbours(&planes[slice], [row, column]);
                axis.get(place) && drops(around.iter().filter(|inside| **inside).count())
            });
            let near = dilate(&dropped, self.prune_px, within_slices([1.0; 3], self.prune_px));
            zip(axis, &near, |&on_axis, &near| on_axis && !near)
        };
        without(&without(axis, |n_around| n_around == 1), |n_around| n_around >= 3)
    }
}

/// A plane plate through a place on the axis, upright on it.
struct Cut {
    centre: [usize; 3],
    /// Direction of the axis within the slice as `[row, column]`, of length 1.
    along: [f64; 2],
    /// Radius of the plate.
    reach: f64,
}

impl Cut {
    fn across(axis: &MedialAxis, spacing: [f64; 3], centre: [usize; 3]) -> Self {
        let reach = axis.distance.get(centre) + EXTENSION_PX * spacing[1].max(spacing[2]);
        Self { centre, along: direction(&axis.pixels, spacing, centre), reach }
    }

    /// Clears what lies nearer to the plate than half the thickness.
    fn apply(&self, mask: &mut Mask, spacing: [f64; 3], thickness: f64) {
        let half = thickness / 2.0;
        for voxel in voxels_near(mask.shape(), spacing, self.centre, self.reach + half) {
            let [up, down, right] = [0, 1, 2]
                .map(|axis| (voxel[axis] as f64 - self.centre[axis] as f64) * spacing[axis]);
            let [by_row, by_column] = self.along;
            let along = down * by_row + right * by_column;
            let across = (down * by_column - right * by_row).hypot(up);
            if along.hypot((across - self.reach).max(0.0)) < half {
                mask.set(voxel, false);
            }
        }
    }
}

/// Principal direction of the pixels of the axis around one of them; along columns where they have none.
fn direction(axis: &Mask, spacing: [f64; 3], [slice, row, column]: [usize; 3]) -> [f64; 2] {
    let mut points = Vec::new();
    for near_row in row.saturating_sub(WINDOW_PX)..(row + WINDOW_PX + 1).min(axis.n_rows()) {
        let end = (column + WINDOW_PX + 1).min(axis.n_columns());
        for near_column in column.saturating_sub(WINDOW_PX)..end {
            if axis.get([slice, near_row, near_column]) {
                points.push([near_row as f64 * spacing[1], near_column as f64 * spacing[2]]);
            }
        }
    }
    let n_points = points.len() as f64;
    let mean = [0, 1].map(|axis: usize| points.iter().map(|p| p[axis]).sum::<f64>() / n_points);
    let moment = |a: usize, b: usize| -> f64 {
        points.iter().map(|p| (p[a] - mean[a]) * (p[b] - mean[b])).sum()
    };
    let angle = 0.5 * (2.0 * moment(0, 1)).atan2(moment(1, 1) - moment(0, 0));
    [angle.sin(), angle.cos()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        components::{Components, Connectivity},
        noise::test_masks::{dice, draw, lungs},
    };
    use datasets::mask;

    fn noisy(simulator: Fracture, mask: &Mask, thickness: f64, seed: u64) -> Mask {
        simulator.apply(mask, [1.0; 3], thickness, &draw(seed)).mask
    }

    /// A cut in the middle of a bar that lies along columns, along rows, and askew.
    #[test]
    fn hand_drawn_cuts() {
        let bar = mask![
            ". . . . . . . . .",
            ". # # # # # # # .",
            ". # # # # # # # .",
            ". # # # # # # # .",
            ". . . . . . . . ."
        ];
        let cut = |mask: &Mask, centre: [usize; 3]| {
            let mut found = mask.clone();
            let axis = MedialAxis::of(mask, [1.0; 3]);
            Cut::across(&axis, [1.0; 3], centre).apply(&mut found, [1.0; 3], THICKNESS_PX);
            found
        };
        assert_eq!(
            cut(&bar, [0, 2, 4]),
            mask![
                ". . . . . . . . .",
                ". # # # . # # # .",
                ". # # # . # # # .",
                ". # # # . # # # .",
                ". . . . . . . . ."
            ]
        );
        let upright = Mask::from_fn([1, 9, 5], |[_, row, column]| bar.get([0, column, row]));
        let found = cut(&upright, [0, 4, 2]);
        assert!((1..4).all(|column| !found.get([0, 4, column])) && found.area() == 18);
        let askew = mask![
            "# # . . . . .",
            "# # # . . . .",
            ". # # # . . .",
            ". . # # # . .",
            ". . . # # # .",
            ". . . . # # #",
            ". . . . . # #"
        ];
        assert_eq!(
            cut(&askew, [0, 3, 3]),
            mask![
                "# # . . . . .",
                "# # # . . . .",
                ". # # . . . .",
                ". . . . . . .",
                ". . . . # # .",
                ". . . . # # #",
                ". . . . . # #"
            ]
        );
    }

    #[test]
    fn a_bar_falls_into_pieces() {
        let bar = Mask::from_fn([1, 15, 80], |[_, row, column]| {
            (5..10).contains(&row) && (4..76).contains(&column)
        });
        let mut most = 0;
        for seed in 0..30 {
            let found = noisy(Fracture::default(), &bar, THICKNESS_PX, seed);
            let n_pieces = Components::find(&found, Connectivity::Vertex).len();
            let n_cut = bar.area() - found.area();
            // A cut takes one or two columns of five pixels; cuts may meet.
            assert!((2..=4).contains(&n_pieces) && (5..=30).contains(&n_cut), "{n_pieces} {n_cut}");
            most = most.max(n_pieces);
            let one =
                noisy(Fracture { n_cuts: 1, ..Fracture::default() }, &bar, THICKNESS_PX, seed);
            assert_eq!(Components::find(&one, Connectivity::Vertex).len(), 2);
        }
        assert_eq!(most, 4);
    }

    #[test]
    fn a_rod_falls_into_pieces_in_three_dimensions() {
        let rod = Mask::from_fn([9, 9, 50], |[slice, row, column]| {
            let away = (slice as f64 - 4.0).hypot(row as f64 - 4.0);
            away <= 3.0 && (2..48).contains(&column)
        });
        let axis = MedialAxis::of(&rod, [1.0; 3]);
        let mut found = rod.clone();
        Cut::across(&axis, [1.0; 3], [4, 4, 20]).apply(&mut found, [1.0; 3], THICKNESS_PX);
        assert_eq!(Components::find(&found, Connectivity::Vertex).len(), 2);
        assert_eq!(rod.area() - found.area(), rod.area() / 46);
        let thin = noisy(Fracture::default(), &rod, THICKNESS_PX, 1);
        assert!(thin.area() < rod.area() && thin.area() * 2 > rod.area());
    }

    #[test]
    fn ends_and_forks_are_left_alone() {
        let tee = mask![
            "# # # # # # # # # # #",
            ". . . . . # . . . . .",
            ". . . . . # . . . . .",
            ". . . . . # . . . . .",
            ". . . . . # . . . . .",
            ". . . . . # . . . . .",
            ". . . . . # . . . . ."
        ];
        let kept = Fracture { prune_px: 1.0, ..Fracture::default() }.pruned(&tee);
        assert!(!kept.get([0, 0, 0]) && !kept.get([0, 0, 1]) && kept.get([0, 0, 2]));
        assert!(!kept.get([0, 0, 5]) && !kept.get([0, 1, 5]) && kept.get([0, 4, 5]));
        assert!(!kept.get([0, 6, 5]) && !kept.get([0, 5, 5]));
        // All of a short line is near its ends; it is cut all the same.
        let short = mask![". . . .", ". # # .", ". . . ."];
        assert!(noisy(Fracture::default(), &short, THICKNESS_PX, 0).area() < 2);
    }

    #[test]
    fn thicker_cuts_are_worse_and_nothing_changes_nothing() {
        let mean = |thickness| {
            let score = |seed: u64| {
                let clean = lungs(seed as usize);
                dice(&clean, &noisy(Fracture::default(), &clean, thickness, seed))
            };
            (0..20).map(score).sum::<f64>() / 20.0
        };
        let means = [0.0, 1.5, 6.0, 12.0].map(mean);
        assert_eq!(means[0], 1.0);
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
        let empty = mask![". . ."];
        assert_eq!(noisy(Fracture::default(), &empty, 1.5, 0), empty);
        assert!(noisy(Fracture::default(), &mask!["# #", "# #"], f64::MAX, 0).is_empty());
        let wrong = Fracture { n_cuts: 0, ..Fracture::default() };
        assert!(wrong.check(1.0, [1, 9, 9], [1.0; 3]).is_err());
        assert!(Fracture::default().check(-1.0, [1, 9, 9], [1.0; 3]).is_err());
    }
}
