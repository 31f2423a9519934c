//! Where breast, chest wall, heart and gland lie. Places are `[slice, row, column]` in millimetres, rows from front to back.

use crate::{Grid, Mask, Stream};

use super::field::Field;

/// Half width, half height and depth of a breast.
const HALF_AXES_MM: [f64; 3] = [52.0, 78.0, 50.0];
/// Distance of the centres of two breasts from the midline.
const APART_MM: f64 = 60.0;
/// Fat before the chest wall where there is no breast.
const COVER_MM: f64 = 8.0;
/// Muscle behind the chest wall.
pub(super) const MUSCLE_MM: f64 = 10.0;
/// Skin.
pub(super) const SKIN_MM: f64 = 1.8;

/// The fixed shapes of a case.
#[derive(Clone, Debug)]
pub(super) struct Anatomy {
    /// Column of the centre of each breast.
    pub(super) breasts: Vec<f64>,
    /// Column of the midline.
    midline: f64,
    /// Slice of the nipples.
    pub(super) middle: f64,
    /// Row of the chest wall at the midline.
    wall: f64,
    /// Factor on the size of the breasts.
    size: f64,
}

impl Anatomy {
    /// Two breasts where the volume is wide enough, else one.
    pub(super) fn new(shape: [usize; 3], spacing: [f64; 3], stream: &mut Stream) -> Self {
        let [depth, height, width] = [0, 1, 2].map(|axis| shape[axis] as f64 * spacing[axis]);
        let midline = 0.5 * width;
        let breasts = if width >= 200.0 {
            vec![midline - APART_MM, midline + APART_MM]
        } else {
            vec![midline]
        };
        let room = (0.5 * width / breasts.len() as f64 / HALF_AXES_MM[2])
            .min(0.5 * depth / HALF_AXES_MM[0])
            .min((height - 24.0) / HALF_AXES_MM[1]);
        let size = stream.between(0.9, 1.0) * room.min(1.08);
        let wall = (size * HALF_AXES_MM[1] + 14.0).min(height - 8.0);
        Self { breasts, midline, middle: 0.5 * depth, wall, size }
    }

    /// Row of the chest wall above a column.
    pub(super) fn wall_at(&self, column: f64) -> f64 {
        self.wall + 0.004 * (column - self.midline).powi(2)
    }

    /// How many millimetres a place lies inside the surface of the nearer breast; behind the wall the breast goes on.
    pub(super) fn breast_depth(&self, place: [f64; 3]) -> f64 {
        let depths = self.breasts.iter().map(|&centre| self.depth_in(place, centre));
        depths.fold(f64::NEG_INFINITY, f64::max)
    }

    /// First-order distance to a superellipsoid: what is missing to 1, over the slope.
    fn depth_in(&self, [slice, row, column]: [f64; 3], centre: f64) -> f64 {
        const POWERS: [f64; 3] = [2.3, 2.1, 2.3];
        let ahead = (self.wall_at(column) - row).max(0.0);
        let offsets = [(slice - self.middle).abs(), ahead, (column - centre).abs()];
        let (mut sum, mut slope) = (0.0, 0.0);
        for axis in 0..3 {
            let half = HALF_AXES_MM[axis] * self.size;
            let ratio = offsets[axis] / half;
            sum += ratio.powf(POWERS[axis]);
            slope += (POWERS[axis] * ratio.powf(POWERS[axis] - 1.0) / half).powi(2);
        }
        // The root makes the measure grow about as a distance does.
        let radius = sum.powf(1.0 / 2.2).max(1e-6);
        let slope = slope.sqrt() / 2.2 * radius.powf(1.0 - 2.2);
        (1.0 - radius) / slope.max(1.0 / 60.0)
    }

    /// How many millimetres a place lies inside the body.
    pub(super) fn body_depth(&self, place: [f64; 3]) -> f64 {
        let behind = place[1] - (self.wall_at(place[2]) - COVER_MM);
        self.breast_depth(place).max(behind)
    }

    /// Whether a place lies in the heart.
    pub(super) fn is_heart(&self, [slice, row, column]: [f64; 3]) -> bool {
        let offsets = [
            (slice - self.middle) / 40.0,
            (row - self.wall - 50.0) / 35.0,
            (column - self.midline - 25.0) / 38.0,
        ];
        offsets.iter().map(|offset| offset * offset).sum::<f64>() < 1.0
    }

    /// A place in a breast, as shares of its half axes from the middle of its base: `along` slices, `ahead`, `across`.
    pub(super) fn place_in(&self, breast: usize, [along, ahead, across]: [f64; 3]) -> [f64; 3] {
        let centre = self.breasts[breast % self.breasts.len()];
        let column = centre + across * HALF_AXES_MM[2] * self.size;
        [
            self.middle + along * HALF_AXES_MM[0] * self.size,
            self.wall_at(column) - ahead * HALF_AXES_MM[1] * self.size,
            column,
        ]
    }
}

/// Glandular tissue: clumps of a random field, dense behind the nipple, at least 5 mm below the skin.
pub(super) fn gland(
    shape: [usize; 3],
    spacing: [f64; 3],
    anatomy: &Anatomy,
    share: f64,
    stream: Stream,
) -> Mask {
    let field = Field::new(shape, spacing, 5.0, stream);
    let score = Grid::from_fn(shape, |place| {
        let at = [0, 1, 2].map(|axis| (place[axis] as f64 + 0.5) * spacing[axis]);
        let depth = anatomy.breast_depth(at);
        if depth < 5.0 + SKIN_MM || at[1] > anatomy.wall_at(at[2]) - 4.0 {
            return f32::NEG_INFINITY;
        }
        field.at(place) + (0.05 * depth.min(30.0)) as f32
    });
    let mut inner: Vec<f32> = score.values().iter().copied().filter(|s| s.is_finite()).collect();
    if inner.is_empty() {
        return Mask::filled(shape, false);
    }
    let rank = ((1.0 - share) * (inner.len() - 1) as f64) as usize;
    let limit = *inner.select_nth_unstable_by(rank, f32::total_cmp).1;
    score.map(|&score| score >= limit)
}
