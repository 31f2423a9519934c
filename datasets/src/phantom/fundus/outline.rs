//! Closed outlines around a centre: an ellipse whose radius swings with the angle.

use serde::Serialize;

use crate::Stream;

/// A closed line `[row, column]` around a centre, in units of the frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Outline {
    /// `[row, column]` of the centre.
    pub(super) centre: [f64; 2],
    /// Geometric mean of both half axes of the ellipse.
    pub(super) radius: f64,
    /// Half axis along rows over the one along columns, before the turn.
    pub(super) ratio: f64,
    /// Turn of the ellipse in radians.
    pub(super) turn: f64,
    /// What is added to the logarithm of the radius.
    pub(super) waves: Waves,
}

impl Outline {
    /// Radius in the direction of `angle`, 0 towards larger columns and a quarter turn towards larger rows.
    pub(super) fn radius_at(&self, angle: f64) -> f64 {
        let (sine, cosine) = (angle - self.turn).sin_cos();
        let (down, right) = (self.radius * self.ratio.sqrt(), self.radius / self.ratio.sqrt());
        let ellipse = ((sine / down).powi(2) + (cosine / right).powi(2)).sqrt().recip();
        ellipse * self.waves.at(angle).exp()
    }

    /// Distance from the outline along the ray from the centre: positive inside.
    pub(super) fn depth(&self, [row, column]: [f64; 2]) -> f64 {
        let (down, right) = (row - self.centre[0], column - self.centre[1]);
        self.radius_at(down.atan2(right)) - down.hypot(right)
    }

    /// The place on the ray of `angle` that lies at `share` of the way to the outline.
    pub(super) fn place(&self, angle: f64, share: f64) -> [f64; 2] {
        let radius = share * self.radius_at(angle);
        [self.centre[0] + radius * angle.sin(), self.centre[1] + radius * angle.cos()]
    }
}

/// A smooth function of the angle, as cosine and sine of the frequencies from 1 on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Waves(pub(super) Vec<[f64; 2]>);

impl Waves {
    /// Random waves of `n_frequencies` frequencies, at every angle with standard deviation `sd` over draws.
    ///
    /// The amplitude falls as 1 over the frequency.
    pub(super) fn draw(n_frequencies: usize, sd: f64, stream: &mut Stream) -> Self {
        let power: f64 = (1..=n_frequencies).map(|k| (k as f64).powi(-2)).sum();
        let scale = sd / power.sqrt().max(f64::MIN_POSITIVE);
        let wave = |k: usize| [stream.normal(), stream.normal()].map(|x| scale * x / k as f64);
        Self((1..=n_frequencies).map(wave).collect())
    }

    /// The same waves, each times `factor`.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|wave| wave.map(|part| factor * part)).collect())
    }

    /// Both waves together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let n = self.0.len().max(other.0.len());
        let part = |waves: &Self, k: usize| waves.0.get(k).copied().unwrap_or_default();
        let sum = |k| [0, 1].map(|side: usize| part(self, k)[side] + part(other, k)[side]);
        Self((0..n).map(sum).collect())
    }

    fn at(&self, angle: f64) -> f64 {
        let waves = self.0.iter().zip(1..);
        let wave = |([cosine, sine], k): (&[f64; 2], i32)| {
            let (s, c) = (f64::from(k) * angle).sin_cos();
            cosine * c + sine * s
        };
        waves.map(wave).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ellipse() -> Outline {
        let (centre, waves) = ([10.0, 20.0], Waves::default());
        Outline { centre, radius: 6.0, ratio: 1.44, turn: 0.0, waves }
    }

    #[test]
    fn an_ellipse_has_its_axes_and_turns() {
        let upright = ellipse();
        for (place, depth) in [([17.2, 20.0], 0.0), ([10.0, 25.0], 0.0), ([10.0, 20.0], 5.0)] {
            assert!((upright.depth(place) - depth).abs() < 1e-12, "{place:?}");
        }
        let lying = Outline { turn: std::f64::consts::FRAC_PI_2, ..ellipse() };
        assert!(lying.depth([15.0, 20.0]).abs() < 1e-9 && lying.depth([10.0, 27.2]).abs() < 1e-9);
        let [row, column] = upright.place(std::f64::consts::FRAC_PI_2, 0.5);
        assert!((row - 13.6).abs() < 1e-12 && (column - 20.0).abs() < 1e-12);
    }

    #[test]
    fn waves_have_the_spread_that_they_were_asked_for() {
        const N: usize = 4000;
        let mut stream = Stream::new(3, "test.waves", &[]);
        let power: f64 = (0..N).map(|_| Waves::draw(5, 0.3, &mut stream).at(0.7).powi(2)).sum();
        assert!(((power / N as f64).sqrt() - 0.3).abs() < 0.012, "{}", (power / N as f64).sqrt());
        let (one, two) = (Waves(vec![[0.1, 0.0]]), Waves(vec![[0.2, 0.0], [0.0, 0.5]]));
        let sum = one.plus(&two.scaled(2.0));
        let expected = Waves(vec![[0.5, 0.0], [0.0, 1.0]]);
        assert!(
            sum.0
                .iter()
                .flatten()
                .zip(expected.0.iter().flatten())
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
        assert_eq!(sum.0.len(), 2);
    }
}
