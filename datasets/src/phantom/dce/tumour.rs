//! The tumour: a lumpy ellipsoid with spicules, perhaps with a second focus, whose truth is what it covers by half.

use serde::Serialize;

use crate::{Grid, Mask, Stream};

use super::{anatomy::Anatomy, field::Field};

/// How lumpy the surface is, and over which distance.
const LUMPS: f64 = 0.18;
const LUMP_MM: f64 = 4.0;
/// Radius of a spicule at its root and at its tip.
const SPICULE_MM: [f64; 2] = [1.4, 0.6];

/// What is drawn.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tumour {
    /// Centre, `[slice, row, column]` in millimetres.
    pub(super) centre: [f64; 3],
    /// Half axes in millimetres.
    pub(super) half_axes: [f64; 3],
    /// Tips of the spicules as offsets from the centre, in millimetres.
    spicules: Vec<[f64; 3]>,
    /// Centre and radius of the second focus.
    second: Option<([f64; 3], f64)>,
}

impl Tumour {
    pub(super) fn draw(
        anatomy: &Anatomy,
        radius: f64,
        n_spicules: usize,
        has_second: bool,
        stream: &mut Stream,
    ) -> Self {
        let centre = place(anatomy, radius, stream);
        let half_axes = [0; 3].map(|_| radius * stream.between(0.8, 1.2));
        let spicules = (0..n_spicules)
            .map(|_| {
                let length = radius * stream.between(1.2, 1.8);
                direction(stream).map(|part| part * length)
            })
            .collect();
        let toward = direction(stream);
        // The foci touch, so that the lesion is one.
        let second = has_second.then(|| {
            let apart = 1.25 * radius;
            ([0, 1, 2].map(|axis| centre[axis] + apart * toward[axis]), 0.6 * radius)
        });
        Self { centre, half_axes, spicules, second }
    }

    /// Share of every voxel that the tumour covers, and how deep it lies in the main focus (0 at the centre).
    pub(super) fn coverage(
        &self,
        shape: [usize; 3],
        spacing: [f64; 3],
        stream: Stream,
    ) -> (Grid<f32>, Grid<f32>) {
        let field = Field::new(shape, spacing, LUMP_MM, stream);
        let mut covered = Grid::filled(shape, 0.0_f32);
        let mut deep = Grid::filled(shape, f32::INFINITY);
        let size = spacing.iter().sum::<f64>() / 3.0;
        let reach = 2.2 * self.half_axes.iter().copied().fold(0.0, f64::max) + 3.0;
        let range = [0, 1, 2].map(|axis| {
            let first = ((self.centre[axis] - reach) / spacing[axis]).max(0.0) as usize;
            let last = ((self.centre[axis] + reach) / spacing[axis]).max(0.0) as usize + 1;
            first.min(shape[axis])..last.min(shape[axis])
        });
        for slice in range[0].clone() {
            for row in range[1].clone() {
                for column in range[2].clone() {
                    let place = [slice, row, column];
                    let at = [0, 1, 2].map(|axis| (place[axis] as f64 + 0.5) * spacing[axis]);
                    let lump = 1.0 + LUMPS * f64::from(field.at(place)).clamp(-2.5, 2.5);
                    let (inside, radius) = self.inside(at, lump);
                    covered.set(place, (0.5 + inside / size).clamp(0.0, 1.0) as f32);
                    deep.set(place, radius as f32);
                }
            }
        }
        (covered, deep)
    }

    /// Millimetres inside the surface, and distance from the centre as a share of the half axes.
    fn inside(&self, at: [f64; 3], lump: f64) -> (f64, f64) {
        let offset = [0, 1, 2].map(|axis| at[axis] - self.centre[axis]);
        let radius = norm([0, 1, 2].map(|axis| offset[axis] / self.half_axes[axis]));
        let mean = self.half_axes.iter().sum::<f64>() / 3.0;
        let mut inside = (lump - radius) * mean;
        if let Some((centre, size)) = self.second {
            let distance = norm([0, 1, 2].map(|axis| at[axis] - centre[axis]));
            inside = inside.max(size * lump - distance);
        }
        for &tip in &self.spicules {
            let along = dot(offset, tip) / dot(tip, tip);
            let foot = along.clamp(0.0, 1.0);
            let distance = norm([0, 1, 2].map(|axis| offset[axis] - foot * tip[axis]));
            let thick = SPICULE_MM[0] + foot * (SPICULE_MM[1] - SPICULE_MM[0]);
            inside = inside.max(thick - distance);
        }
        (inside, radius)
    }
}

/// What the tumour covers by half and what is connected with its centre.
pub(super) fn truth(covered: &Grid<f32>, spacing: [f64; 3], centre: [f64; 3]) -> Mask {
    let shape = covered.shape();
    let mut found = Mask::filled(shape, false);
    let seed = [0, 1, 2].map(|axis| ((centre[axis] / spacing[axis]) as usize).min(shape[axis] - 1));
    let mut waiting = vec![seed];
    while let Some(place) = waiting.pop() {
        if found.get(place) || covered.get(place) < 0.5 {
            continue;
        }
        found.set(place, true);
        for code in (0..27_usize).filter(|&code| code != 13) {
            let step = [code / 9, code / 3 % 3, code % 3];
            let to = [0, 1, 2].map(|axis| (place[axis] + step[axis]).wrapping_sub(1));
            if (0..3).all(|axis| to[axis] < shape[axis]) {
                waiting.push(to);
            }
        }
    }
    found
}

/// A centre deep enough in a breast; the deepest of those tried when none is.
fn place(anatomy: &Anatomy, radius: f64, stream: &mut Stream) -> [f64; 3] {
    let breast = stream.below(anatomy.breasts.len());
    let mut best = (f64::NEG_INFINITY, [0.0; 3]);
    for _ in 0..100 {
        let shares =
            [stream.between(-0.5, 0.5), stream.between(0.3, 0.65), stream.between(-0.5, 0.5)];
        let at = anatomy.place_in(breast, shares);
        let room = anatomy.breast_depth(at).min(anatomy.wall_at(at[2]) - at[1]) - 1.5 * radius;
        if room > best.0 {
            best = (room, at);
        }
        if room > 5.0 {
            break;
        }
    }
    best.1
}

/// A direction, all equally likely.
pub(super) fn direction(stream: &mut Stream) -> [f64; 3] {
    let drawn = [stream.normal(), stream.normal(), stream.normal()];
    let length = norm(drawn).max(1e-9);
    drawn.map(|part| part / length)
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}
