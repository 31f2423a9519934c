//! Six readers of fundus photographs, each with a hand of their own, and the senior who settles what is right.
//!
//! A reader draws `rho(angle) * exp(bias + wander * F(angle))` around the true outline `rho`, with `F` of unit variance
//! and few frequencies. What is hard to see moves them more: bias, wander and jitter of the cup grow with the blur of
//! its edge. Sizes of the biases follow published agreement between readers: mean Dice of two of them about 0.95 for
//! the disc and 0.81 for the cup.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    FundusStructure,
    outline::{Outline, Waves},
};
use crate::Stream;

/// Number of readers.
pub const N_RATERS: usize = 6;

/// How the readers' mistakes hang together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RaterSet {
    /// As many draw too little as draw too much, so that a vote of theirs is good.
    #[default]
    Independent,
    /// Nearly all draw too large a cup, so that a vote is worse than the best of them.
    Shared,
}

/// The hand of a reader.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hand {
    /// Mean logarithm of the size that is drawn over the true one, of the disc.
    disc_bias: f64,
    /// The same of the cup.
    cup_bias: f64,
    /// Factor on how far the line swings about the true one.
    unsteady: f64,
    /// Frequencies of the swing: a smooth hand has few.
    n_frequencies: usize,
    /// Standard deviation over cases of the logarithm of the size, of the cup; a third of it for the disc.
    jitter: f64,
    /// Where the whole drawing lies, `[row, column]` in units of the frame.
    shift: [f64; 2],
    /// Share of the bumps of the true outline that are followed: 0 draws an ellipse.
    detail: f64,
}

/// Swing of a steady hand about the outline of the disc and of the cup, as logarithms of the radius.
const WANDER: [f64; 2] = [0.03, 0.08];

/// The senior sees the photograph and all six drawings: no bias, little swing.
const SENIOR: Hand = Hand {
    disc_bias: 0.0,
    cup_bias: 0.0,
    unsteady: 0.25,
    n_frequencies: 5,
    jitter: 0.0,
    shift: [0.0, 0.0],
    detail: 1.0,
};

/// What the readers have whatever the set.
const HANDS: [Hand; N_RATERS] = [
    // Small and careful.
    Hand { disc_bias: -0.03, unsteady: 0.8, jitter: 0.02, ..SENIOR },
    // Ellipses, quickly.
    Hand {
        disc_bias: -0.015,
        unsteady: 0.7,
        n_frequencies: 2,
        detail: 0.0,
        jitter: 0.03,
        ..SENIOR
    },
    // The middle of the field, with a tremor.
    Hand { unsteady: 1.1, n_frequencies: 12, jitter: 0.02, ..SENIOR },
    // Always a little too far up and to the left.
    Hand { disc_bias: 0.015, unsteady: 0.8, shift: [-1.5, -1.5], jitter: 0.02, ..SENIOR },
    // Another size from day to day.
    Hand { disc_bias: 0.03, unsteady: 1.0, jitter: 0.06, ..SENIOR },
    // Large and generous.
    Hand { disc_bias: 0.05, unsteady: 1.2, n_frequencies: 4, detail: 0.5, jitter: 0.03, ..SENIOR },
];

impl RaterSet {
    /// Mean logarithms of the size of the cup.
    fn cup_biases(self) -> [f64; N_RATERS] {
        match self {
            Self::Independent => [-0.18, -0.10, -0.03, 0.05, 0.12, 0.20],
            Self::Shared => [-0.05, 0.10, 0.15, 0.20, 0.25, 0.40],
        }
    }

    fn hand(self, rater: usize) -> Hand {
        Hand { cup_bias: self.cup_biases()[rater], ..HANDS[rater] }
    }

    /// The outline of a structure as a reader draws it, and how much larger than the true one.
    ///
    /// `blur` is 1 where the edge is as hard to see as in the mean.
    pub(super) fn drawing(
        self,
        rater: usize,
        structure: FundusStructure,
        outline: &Outline,
        blur: f64,
        stream: &mut Stream,
    ) -> Drawing {
        self.hand(rater).draw(structure, outline, blur, stream)
    }
}

/// The outline of a structure as the senior settles it.
pub(super) fn settled(
    structure: FundusStructure,
    outline: &Outline,
    blur: f64,
    stream: &mut Stream,
) -> Drawing {
    SENIOR.draw(structure, outline, blur, stream)
}

/// What a hand drew.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawing {
    pub(super) outline: Outline,
    /// Logarithm of its size over the true one, without the swing.
    pub(super) size: f64,
}

impl Hand {
    fn draw(
        &self,
        structure: FundusStructure,
        outline: &Outline,
        blur: f64,
        stream: &mut Stream,
    ) -> Drawing {
        let (bias, jitter, wander) = match structure {
            FundusStructure::Disc => (self.disc_bias, self.jitter / 3.0, WANDER[0]),
            FundusStructure::Cup => (self.cup_bias, self.jitter, WANDER[1]),
        };
        let size = blur * (bias + jitter * stream.normal());
        let swing = Waves::draw(self.n_frequencies, blur * self.unsteady * wander, stream);
        let [down, right] = self.shift;
        let [row, column] = outline.centre;
        Drawing {
            outline: Outline {
                centre: [row + down, column + right],
                radius: outline.radius * size.exp(),
                waves: outline.waves.scaled(self.detail).plus(&swing),
                ..outline.clone()
            },
            size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round() -> Outline {
        let (centre, waves) = ([0.0, 0.0], Waves(vec![[0.0, 0.0], [0.2, 0.0]]));
        Outline { centre, radius: 30.0, ratio: 1.0, turn: 0.0, waves }
    }

    fn stream(n: usize) -> Stream {
        Stream::new(5, "test.raters", &[&n.to_string()])
    }

    #[test]
    fn readers_draw_in_their_order_of_size_and_blur_moves_them_further() {
        let mean = |set: RaterSet, rater, blur| {
            let size =
                |n| set.drawing(rater, FundusStructure::Cup, &round(), blur, &mut stream(n)).size;
            (0..400).map(size).sum::<f64>() / 400.0
        };
        for set in [RaterSet::Independent, RaterSet::Shared] {
            let sizes: Vec<f64> = (0..N_RATERS).map(|rater| mean(set, rater, 1.0)).collect();
            assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
        }
        assert!((mean(RaterSet::Shared, 5, 1.5) - 0.6).abs() < 0.02);
    }

    #[test]
    fn an_ellipse_has_no_bumps_and_a_shifted_hand_stays_shifted() {
        let set = RaterSet::Independent;
        let draw = |rater, blur| {
            set.drawing(rater, FundusStructure::Disc, &round(), blur, &mut stream(1)).outline
        };
        assert!(draw(1, 0.0).waves.0.iter().flatten().all(|part| part.abs() < 1e-12));
        let mut steady = round();
        steady.waves.0.resize(SENIOR.n_frequencies, [0.0; 2]);
        assert_eq!(draw(0, 0.0), steady);
        assert_eq!(draw(3, 1.0).centre, [-1.5, -1.5]);
        let senior = settled(FundusStructure::Cup, &round(), 1.0, &mut stream(1));
        assert!(senior.size.abs() < 1e-12);
    }
}
