//! Annotation source with a habit: one that is right, draws too much, too little, with gaps, or nothing at all.
//!
//! Source: the five raters of Zhang et al., NeurIPS 2020 (Learn_Noisy_Labels_Medical_Images): the label itself; dilation and
//! erosion by a square of 3 pixels in every slice; small fractures with over-segmentation; blank. Of several classes the rater
//! that is wrong takes one for another instead; `noise.apply` does that with any simulator.
//! Deviation: the square acts as many times as the strength says; where an erosion would leave less than 5 %, as many times as
//! leaves so much. Fractures are cut after the dilation, which would close them.
//! Randomness: that of the cuts, see [`Fracture`]. Cost: two sliding sums over the mask, and the cuts.

use datasets::Mask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Draw, Fracture, NoiseGrows, Noisy, Simulator, StrengthScale, StrengthSteps, StrengthUnit,
    cube::boxed, fracture::THICKNESS_PX, shorter_side, to_voxels,
};

/// Erosion never leaves less than this share of the area.
const SMALLEST_SHARE: f64 = 0.05;

/// What a rater does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RaterHabit {
    /// Draws what is there.
    Good,
    /// Draws too much.
    #[default]
    Over,
    /// Draws too little.
    Under,
    /// Draws too much and leaves gaps.
    Wrong,
    /// Draws nothing.
    Blank,
}

/// Dilates, erodes, cuts or empties the mask; the strength is how many times the square acts, 1 as published.
///
/// Strength 0 leaves the mask as it is, except that a blank rater draws nothing at any strength; a good one changes nothing
/// at any. So for these two no strength can be found and one is to be given. An empty mask stays empty. Pixels count,
/// whatever the spacing; in 3-D slices are drawn each by itself, and cuts are those of [`Fracture`]. Beyond the image nothing
/// is known, so an erosion does not begin there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MorphRater {
    /// What the rater does; `over` by default.
    pub habit: RaterHabit,
}

impl Simulator for MorphRater {
    fn name(&self) -> &'static str {
        "morph_rater"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        StrengthScale {
            unit: StrengthUnit::Steps,
            steps: StrengthSteps::Whole,
            noise_grows: NoiseGrows::WithStrength,
        }
    }

    fn bracket(&self, shape: [usize; 3], _spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 0.25 * shorter_side(shape, [1.0; 3])]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let n_steps = to_voxels(strength, 1.0).min(mask.n_rows().max(mask.n_columns()));
        let (noisy, used) = match self.habit {
            RaterHabit::Good => (mask.clone(), n_steps),
            RaterHabit::Over => (over(mask, n_steps), n_steps),
            RaterHabit::Under => under_at_most(mask, n_steps),
            RaterHabit::Wrong if n_steps == 0 => (mask.clone(), n_steps),
            RaterHabit::Wrong => {
                let thickness = THICKNESS_PX * spacing[1].max(spacing[2]);
                let over = over(mask, n_steps);
                (Fracture::default().apply(&over, spacing, thickness, draw).mask, n_steps)
            }
            RaterHabit::Blank => (Mask::filled(mask.shape(), false), n_steps),
        };
        Noisy { mask: noisy, params: vec![("steps", used as f64)], clamped: used < n_steps }
    }
}

/// Dilation of every slice by a square of 3 pixels, several times.
fn over(mask: &Mask, n_steps: usize) -> Mask {
    let side = 2 * n_steps + 1;
    boxed(mask, [1, side, side], true)
}

/// Erosion likewise, at most as many times as leaves enough, and how many times that is.
fn under_at_most(mask: &Mask, n_steps: usize) -> (Mask, usize) {
    let background = mask.map(|&inside| !inside);
    let under = |n_steps| over(&background, n_steps).map(|&outside| !outside);
    let smallest = (mask.area() as f64 * SMALLEST_SHARE).ceil() as usize;
    let (mut most, mut too_many) = (0, n_steps + 1);
    while too_many - most > 1 {
        // The wanted number is tried first: mostly it leaves enough.
        let tried = if too_many > n_steps { n_steps } else { (most + too_many) / 2 };
        if under(tried).area() >= smallest {
            most = tried;
        } else {
            too_many = tried;
        }
    }
    (under(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        components::{Components, Connectivity},
        noise::{
            redraw::plane_of,
            test_masks::{draw, lungs},
        },
    };
    use datasets::mask;

    const HABITS: [RaterHabit; 5] = [
        RaterHabit::Good,
        RaterHabit::Over,
        RaterHabit::Under,
        RaterHabit::Wrong,
        RaterHabit::Blank,
    ];

    fn noisy(habit: RaterHabit, mask: &Mask, strength: f64) -> Noisy {
        MorphRater { habit }.apply(mask, [1.0; 3], strength, &draw(3))
    }

    #[test]
    fn a_square_acts_once() {
        let clean = mask![
            ". . . . . . .",
            ". . # # # . .",
            ". . # # # . .",
            ". . # # # # #",
            ". . . . . . ."
        ];
        let over = mask![
            ". # # # # # .",
            ". # # # # # .",
            ". # # # # # #",
            ". # # # # # #",
            ". # # # # # #"
        ];
        let under = mask![
            ". . . . . . .",
            ". . . . . . .",
            ". . . # . . .",
            ". . . . . . .",
            ". . . . . . ."
        ];
        assert_eq!(noisy(RaterHabit::Over, &clean, 1.0).mask, over);
        assert_eq!(noisy(RaterHabit::Under, &clean, 1.0).mask, under);
        assert_eq!(noisy(RaterHabit::Good, &clean, 1.0).mask, clean);
        assert!(noisy(RaterHabit::Blank, &clean, 1.0).mask.is_empty());
        let edge = mask!["# # . .", "# # . .", "# # . ."];
        assert_eq!(
            noisy(RaterHabit::Under, &edge, 1.0).mask,
            mask!["# . . .", "# . . .", "# . . ."]
        );
    }

    #[test]
    fn over_holds_the_mask_and_the_mask_holds_under() {
        let is_within = |inner: &Mask, outer: &Mask| {
            inner.values().iter().zip(outer.values()).all(|(&inner, &outer)| outer || !inner)
        };
        for case in 0..6 {
            let clean = lungs(case);
            let mut before = [clean.clone(), clean.clone()];
            for strength in [1.0, 2.0, 4.0] {
                let [over, under] = [RaterHabit::Over, RaterHabit::Under]
                    .map(|habit| noisy(habit, &clean, strength).mask);
                assert!(is_within(&before[0], &over) && is_within(&under, &before[1]));
                assert!(over.area() > before[0].area() && under.area() < before[1].area());
                before = [over, under];
            }
        }
    }

    #[test]
    fn the_wrong_rater_draws_too_much_in_pieces() {
        let bar = Mask::from_fn([1, 15, 80], |[_, row, column]| {
            (6..9).contains(&row) && (4..76).contains(&column)
        });
        let found = noisy(RaterHabit::Wrong, &bar, 1.0).mask;
        assert!(Components::find(&found, Connectivity::Vertex).len() >= 2);
        assert!(found.area() > bar.area());
    }

    #[test]
    fn slices_are_drawn_each_by_itself_and_something_stays() {
        let flat = lungs(0);
        let volume = Mask::from_fn([3, 64, 64], |[slice, row, column]| {
            slice == 1 && flat.get([0, row, column])
        });
        for habit in [RaterHabit::Over, RaterHabit::Under] {
            let found = noisy(habit, &volume, 2.0).mask;
            assert_eq!(plane_of(&found, 1), noisy(habit, &flat, 2.0).mask);
            assert!(plane_of(&found, 0).is_empty() && plane_of(&found, 2).is_empty());
        }
        let all = noisy(RaterHabit::Under, &flat, f64::MAX);
        assert!(all.clamped && all.mask.area() * 20 >= flat.area());
        let [steps] = all.params[..] else { unreachable!("one parameter") };
        assert_eq!(noisy(RaterHabit::Under, &flat, steps.1).mask, all.mask);
    }

    #[test]
    fn empty_full_and_strength_nought() {
        for habit in HABITS {
            let empty = mask![". . .", ". . ."];
            assert_eq!(noisy(habit, &empty, 2.0).mask, empty);
            let full = noisy(habit, &mask!["# #", "# #"], 2.0);
            assert!(!full.clamped, "{habit:?}");
            if habit != RaterHabit::Blank {
                assert_eq!(noisy(habit, &lungs(1), 0.0).mask, lungs(1));
            }
        }
        assert!(MorphRater::default().check(-1.0, [1, 9, 9], [1.0; 3]).is_err());
    }
}
