//! Annotation source with a scan line for a pen: every row begins and ends at another place than it should.
//!
//! Source: Heller et al., LABELS 2018 (neheller/labels18), "choppy" errors: both ends of every run of a row move by a normal
//! number of their own; standard deviations 5, 10.5 and 15.5 px for livers.
//! Deviation: all runs of a row move, not only the first five.
//! Randomness: two normal numbers a run from a stream of the case; the strength scales them.
//! Cost: one pass over the mask.

use datasets::{Mask, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Noisy, Simulator, StrengthScale, StrengthSteps, length_scale};

/// Moves both ends of every run of foreground along columns; the strength is the standard deviation in the unit of the
/// spacing.
///
/// Strength 0 leaves the mask as it is, an empty mask stays empty, and a run whose ends pass each other is gone. What
/// leaves the image is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choppy {}

impl Simulator for Choppy {
    fn name(&self) -> &'static str {
        "choppy"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scale(&self) -> StrengthScale {
        length_scale(StrengthSteps::Continuous(0.01))
    }

    fn bracket(&self, shape: [usize; 3], spacing: [f64; 3]) -> [f64; 2] {
        [0.0, 0.5 * shape[2] as f64 * spacing[2]]
    }

    fn apply(&self, mask: &Mask, spacing: [f64; 3], strength: f64, draw: &Draw) -> Noisy {
        let sd_px = strength / spacing[2];
        let mut stream = Stream::new(draw.seed, "noise.choppy", &[]);
        let mut noisy = Mask::filled(mask.shape(), false);
        let n_columns = mask.n_columns().max(1);
        let rows = mask.values().chunks_exact(n_columns);
        for (row, target) in rows.zip(noisy.values_mut().chunks_exact_mut(n_columns)) {
            for [begin, end] in runs(row) {
                let begin = begin as f64 + sd_px * stream.normal();
                let end = end as f64 + sd_px * stream.normal();
                for (column, value) in target.iter_mut().enumerate() {
                    *value |= (begin..end).contains(&(column as f64));
                }
            }
        }
        Noisy { mask: noisy, params: vec![("sd_px", sd_px)], clamped: false }
    }
}

/// First column of each run of foreground, and the one behind its last.
fn runs(row: &[bool]) -> Vec<[usize; 2]> {
    let mut runs = Vec::new();
    let mut begin = None;
    for (column, &inside) in row.iter().chain([&false]).enumerate() {
        match (begin, inside) {
            (None, true) => begin = Some(column),
            (Some(first), false) => {
                runs.push([first, column]);
                begin = None;
            }
            _ => {}
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::test_masks::{dice, draw, lungs};
    use datasets::mask;

    fn noisy(mask: &Mask, sd: f64, seed: u64) -> Mask {
        Choppy {}.apply(mask, [1.0; 3], sd, &draw(seed)).mask
    }

    #[test]
    fn runs_are_found_and_moved_by_their_own_numbers() {
        assert_eq!(runs(&[true, false, true, true, false, true]), [[0, 1], [2, 4], [5, 6]]);
        assert!(runs(&[false; 3]).is_empty());
        let clean = mask![". . . # # # # . . .", ". . . # # # # . . ."];
        let mut stream = Stream::new(4, "noise.choppy", &[]);
        let found = noisy(&clean, 1.3, 4);
        for row in 0..2 {
            let [begin, end] = [3.0, 7.0].map(|end: f64| end + 1.3 * stream.normal());
            for column in 0..10 {
                let is_inside = column as f64 >= begin && (column as f64) < end;
                assert_eq!(found.get([0, row, column]), is_inside, "{row} {column}");
            }
        }
    }

    /// A long row loses and gains `sd / sqrt(2 pi)` on average at each end: the mean of the positive part of a normal.
    #[test]
    fn dice_of_a_bar_follows_the_normal_distribution() {
        let bar = Mask::from_fn([1, 4000, 200], |[.., column]| (50..150).contains(&column));
        let sd = 8.0;
        let half = sd / (2.0 * std::f64::consts::PI).sqrt();
        let expected = 2.0 * (100.0 - 2.0 * half) / 200.0;
        assert!((dice(&bar, &noisy(&bar, sd, 1)) - expected).abs() < 0.003);
    }

    #[test]
    fn nothing_changes_nothing_and_more_is_worse() {
        assert_eq!(noisy(&lungs(1), 0.0, 1), lungs(1));
        let empty = Mask::filled([2, 3, 4], false);
        assert_eq!(noisy(&empty, 3.0, 1), empty);
        let means = [0.5, 2.0, 5.0].map(|sd| dice(&lungs(0), &noisy(&lungs(0), sd, 3)));
        assert!(means.windows(2).all(|pair| pair[0] > pair[1]), "{means:?}");
        assert!(Choppy {}.check(-1.0, [1, 9, 9], [1.0; 3]).is_err());
    }
}
