//! Where lungs, heart and clavicles lie in one drawn chest.
//!
//! All lengths are in a frame of 256 x 256 units, rows downward, whatever the size of the picture. Means and
//! standard deviations are those measured on the 247 JSRT films with SCR masks at 256 x 256.

use serde::Serialize;

use crate::Stream;

/// A place `[row, column]` in the frame.
type Place = [f64; 2];

/// What was drawn for one chest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChestAnatomy {
    /// Turn of the whole chest in degrees, clockwise.
    pub rotation_deg: f64,
    /// `[row, column]` shift of the whole chest.
    pub shift: [f64; 2],
    /// Column of the spine before the turn.
    pub midline: f64,
    /// Row of the tips of the lungs.
    pub apex: f64,
    /// Rows of the lowest corners of the lungs, image-left and image-right.
    pub base: [f64; 2],
    /// Columns of the outer walls, image-left and image-right.
    pub wall: [f64; 2],
    /// Columns of the inner borders, image-left and image-right.
    pub inner: [f64; 2],
    /// Heights of the domes of the diaphragm.
    pub dome: [f64; 2],
    /// `[row, column]` of the centre of the heart.
    pub heart: [f64; 2],
    /// Half axes of the heart: along its length, across it.
    pub heart_axes: [f64; 2],
    /// Turn of the heart in radians.
    pub heart_turn: f64,
    /// Row of the inner ends of the clavicles, and rise to their outer ends.
    pub clavicle: [f64; 2],
    /// Half width of the trunk below the arms.
    pub trunk: f64,
    /// Shadow of the breasts, in units of attenuation.
    pub breast: f64,
    /// Distance between ribs, and row of the first.
    pub ribs: [f64; 2],
    /// Whether air in the stomach shows.
    pub has_bubble: bool,
}

/// Half axis of the round shadow of the aortic arch.
const ARCH_RADIUS: f64 = 11.5;

/// Half width of a clavicle.
const CLAVICLE_HALF_WIDTH: f64 = 4.0;

/// A normal number cut at two standard deviations.
pub(super) fn around(stream: &mut Stream, mean: f64, sd: f64) -> f64 {
    mean + sd * stream.normal().clamp(-2.0, 2.0)
}

impl ChestAnatomy {
    /// Draws a chest; always takes as many numbers from the stream.
    pub(super) fn draw(stream: &mut Stream, rotation_deg: f64) -> Self {
        let rotation_deg = stream.between(-rotation_deg, rotation_deg);
        let shift = [around(stream, 0.0, 3.0), around(stream, 0.0, 4.0)];
        let midline = around(stream, 129.0, 2.5);
        let apex = around(stream, 20.5, 6.0);
        // Breath moves both halves of the diaphragm together.
        let breath = around(stream, 0.0, 21.0);
        let base = [around(stream, 213.0, 7.0), around(stream, 214.0, 7.0)].map(|row| row + breath);
        let wall = [around(stream, 27.5, 9.0), around(stream, 231.0, 6.0)];
        let inner = [around(stream, 115.0, 3.0), around(stream, 142.0, 3.0)];
        let dome = [around(stream, 35.0, 7.0), around(stream, 34.0, 7.0)];
        let heart = [around(stream, 153.0, 5.0) + 0.45 * breath, around(stream, 144.0, 4.0)];
        let heart_axes = [around(stream, 48.0, 4.0), around(stream, 37.0, 3.0)];
        let heart_turn = around(stream, 0.55, 0.12);
        let clavicle = [around(stream, 51.0, 4.0), around(stream, 20.0, 5.0)];
        let trunk = around(stream, 116.0, 7.0);
        let (is_female, size) = (stream.uniform() < 0.5, stream.between(0.1, 0.35));
        let breast = if is_female { size } else { 0.0 };
        let ribs = [around(stream, 18.5, 1.0), around(stream, 34.0, 4.0)];
        let has_bubble = stream.uniform() < 0.35;
        Self {
            rotation_deg,
            shift,
            midline,
            apex,
            base,
            wall,
            inner,
            dome,
            heart,
            heart_axes,
            heart_turn,
            clavicle,
            trunk,
            breast,
            ribs,
            has_bubble,
        }
    }

    /// Takes a place of the picture into the frame of the upright chest.
    pub(super) fn upright(&self, [row, column]: Place) -> Place {
        let (sine, cosine) = self.rotation_deg.to_radians().sin_cos();
        let [down, right] = [row - 128.0 - self.shift[0], column - 128.0 - self.shift[1]];
        [128.0 + cosine * down - sine * right, 128.0 + sine * down + cosine * right]
    }

    /// Takes a place of the upright chest into the picture.
    pub(super) fn turned(&self, [row, column]: Place) -> Place {
        let (sine, cosine) = self.rotation_deg.to_radians().sin_cos();
        let [down, right] = [row - 128.0, column - 128.0];
        [
            128.0 + self.shift[0] + cosine * down + sine * right,
            128.0 + self.shift[1] - sine * down + cosine * right,
        ]
    }

    /// Whether a place of the upright chest lies in a lung.
    pub(super) fn is_lung(&self, place: Place) -> bool {
        (0..2).any(|side| self.is_in_cage(place, side))
            && self.heart_shadow(place) > 1.0
            && self.arch_level(place) > 1.0
    }

    /// Whether a place lies in the half of the chest cavity that holds a lung: 0 is image-left, 1 image-right.
    fn is_in_cage(&self, [row, column]: Place, side: usize) -> bool {
        let [wall, inner, base] = [self.wall[side], self.inner[side], self.base[side]];
        let depth = (row - self.apex) / (base - self.apex);
        if !(0.0..=1.0).contains(&depth) {
            return false;
        }
        // From the tip outward to the wall and inward to the mediastinum, both as flattened ellipses.
        let tip = inner + 0.34 * (wall - inner);
        let outward = (1.0 - (1.0 - depth).powf(2.2)).sqrt();
        let inward = (1.0 - (1.0 - depth).powi(7)).powf(0.7)
            - 0.22 * (-((depth - 0.46) / 0.16).powi(2)).exp();
        let [outer, inmost] = [tip + (wall - tip) * outward, tip + (inner - tip) * inward];
        if (column - outer) * (column - inmost) > 0.0 {
            return false;
        }
        // The dome hangs between the outer and the inner corner, its top nearer to the heart.
        let across = (column - wall) / (inner - wall);
        let arc = 1.0 - ((across - 0.56) / 0.56).powi(2);
        row <= base - self.dome[side] * arc.max(0.0)
    }

    /// Whether a place lies in the heart.
    pub(super) fn is_heart(&self, place: Place) -> bool {
        self.heart_level(place) <= 1.0
    }

    /// 0 in the centre of the heart, 1 on its border.
    pub(super) fn heart_level(&self, place: Place) -> f64 {
        let (sine, cosine) = self.heart_turn.sin_cos();
        let [down, right] = [place[0] - self.heart[0], place[1] - self.heart[1]];
        let [along, across] = [cosine * right + sine * down, cosine * down - sine * right];
        ((along / self.heart_axes[0]).powi(2) + (across / self.heart_axes[1]).powi(2)).sqrt()
    }

    /// As [`Self::heart_level`], with the heart resting on the diaphragm: below its middle it goes straight down, and
    /// above it tapers into the great vessels.
    pub(super) fn heart_shadow(&self, [row, column]: Place) -> f64 {
        let down = row - self.heart[0];
        let squeezed = if down > 0.0 { 0.35 * down } else { 0.8 * down };
        self.heart_level([self.heart[0] + squeezed, column])
    }

    /// 0 in the centre of the aortic arch, 1 on its border.
    pub(super) fn arch_level(&self, [row, column]: Place) -> f64 {
        let [down, right] = [row - self.apex - 58.0, column - self.midline - 10.0];
        (down * down + right * right).sqrt() / ARCH_RADIUS
    }

    /// Whether a place lies in a clavicle.
    pub(super) fn is_clavicle(&self, place: Place) -> bool {
        self.clavicle_level(place) <= 1.0
    }

    /// 0 on the axis of a clavicle, 1 on its border; above 1 beyond its ends.
    pub(super) fn clavicle_level(&self, [row, column]: Place) -> f64 {
        let aside = (column - self.midline).abs();
        let along = (aside - 10.0) / 78.0;
        if !(0.0..=1.0).contains(&along) {
            return f64::INFINITY;
        }
        let [inner, rise] = self.clavicle;
        let wave = 3.0 * (along * std::f64::consts::TAU).sin();
        let axis = inner - rise * along.sqrt() + wave;
        let end = (1.0 - (2.0 * along - 1.0).powi(8)).max(0.01).sqrt();
        (row - axis).abs() / (CLAVICLE_HALF_WIDTH * end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_from_the_turned_frame() {
        let anatomy = ChestAnatomy::draw(&mut Stream::new(3, "anatomy", &[]), 5.0);
        let [row, column] = anatomy.upright(anatomy.turned([30.0, 200.0]));
        assert!((row - 30.0).abs() < 1e-9 && (column - 200.0).abs() < 1e-9);
    }

    #[test]
    fn lungs_leave_heart_and_spine_free() {
        for n in 0..20 {
            let anatomy = ChestAnatomy::draw(&mut Stream::new(n, "anatomy", &[]), 5.0);
            assert!(!anatomy.is_lung(anatomy.heart));
            assert!(anatomy.is_heart(anatomy.heart));
            assert!(!anatomy.is_lung([100.0, anatomy.midline]));
            assert!(anatomy.is_lung([100.0, 70.0]) && anatomy.is_lung([100.0, 195.0]));
        }
    }
}
