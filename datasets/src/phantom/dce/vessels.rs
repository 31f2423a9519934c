//! Vessels: random walks from the chest wall to the nipple, and one that feeds the tumour.

use crate::{Grid, Stream};

use super::{
    anatomy::Anatomy,
    tumour::{Tumour, direction, norm},
};

const STEP_MM: f64 = 0.7;
/// Share of the direction that is kept from step to step.
const PERSISTENCE: f64 = 0.9;
/// Distance from the target at which a vessel ends.
const ARRIVED_MM: f64 = 2.0;

/// Share of every voxel that vessels cover.
pub(super) fn coverage(
    shape: [usize; 3],
    spacing: [f64; 3],
    anatomy: &Anatomy,
    feeds: Option<&Tumour>,
    stream: &mut Stream,
) -> Grid<f32> {
    let mut covered = Grid::filled(shape, 0.0_f32);
    for breast in 0..anatomy.breasts.len() {
        let n_vessels = 4 + stream.below(5);
        for _ in 0..n_vessels {
            let (from, _) = root(anatomy, breast, stream);
            let spread =
                [stream.between(-0.3, 0.3), stream.between(0.6, 0.85), stream.between(-0.3, 0.3)];
            let to = anatomy.place_in(breast, spread);
            let radii = [stream.between(1.5, 2.2), 0.8];
            walk(&mut covered, spacing, [from, to], radii, stream);
        }
    }
    if let Some(tumour) = feeds {
        let nearest = |a: &usize, b: &usize| {
            let apart = |n: &usize| (anatomy.breasts[*n] - tumour.centre[2]).abs();
            apart(a).total_cmp(&apart(b))
        };
        let breast = (0..anatomy.breasts.len()).min_by(nearest).unwrap_or(0);
        let (from, _) = root(anatomy, breast, stream);
        walk(&mut covered, spacing, [from, tumour.centre], [2.0, 1.3], stream);
    }
    covered
}

/// A place at the lateral or medial end of the chest wall.
fn root(anatomy: &Anatomy, breast: usize, stream: &mut Stream) -> ([f64; 3], f64) {
    let side = if stream.uniform() < 0.5 { -1.0 } else { 1.0 };
    let shares = [stream.between(-0.5, 0.5), 0.08, side * stream.between(0.6, 0.85)];
    (anatomy.place_in(breast, shares), side)
}

/// Draws one vessel, whose radius goes from the first to the second of `radii`.
fn walk(
    covered: &mut Grid<f32>,
    spacing: [f64; 3],
    [from, to]: [[f64; 3]; 2],
    radii: [f64; 2],
    stream: &mut Stream,
) {
    let gap = |at: [f64; 3]| [0, 1, 2].map(|axis| to[axis] - at[axis]);
    let length = norm(gap(from)).max(1.0);
    let mut at = from;
    let mut toward = gap(at).map(|part| part / length);
    let n_steps = (2.5 * length / STEP_MM) as usize;
    for _ in 0..n_steps {
        let left = norm(gap(at));
        if left < ARRIVED_MM {
            break;
        }
        let share = (1.0 - left / length).clamp(0.0, 1.0);
        stamp(covered, spacing, at, radii[0] + share * (radii[1] - radii[0]));
        let (pull, stray) = (gap(at).map(|part| part / left), direction(stream));
        let mixed = [0, 1, 2].map(|axis| {
            PERSISTENCE * toward[axis] + (1.0 - PERSISTENCE) * (pull[axis] + 1.5 * stray[axis])
        });
        let size = norm(mixed).max(1e-9);
        toward = mixed.map(|part| part / size);
        at = [0, 1, 2].map(|axis| at[axis] + STEP_MM * toward[axis]);
    }
}

/// Covers a ball; voxels at its surface by a part.
fn stamp(covered: &mut Grid<f32>, spacing: [f64; 3], centre: [f64; 3], radius: f64) {
    let shape = covered.shape();
    let size = spacing.iter().sum::<f64>() / 3.0;
    let reach = radius + size;
    let range = [0, 1, 2].map(|axis| {
        let first = ((centre[axis] - reach) / spacing[axis]).max(0.0) as usize;
        let last = ((centre[axis] + reach) / spacing[axis]).max(0.0) as usize + 1;
        first.min(shape[axis])..last.min(shape[axis])
    });
    for slice in range[0].clone() {
        for row in range[1].clone() {
            for column in range[2].clone() {
                let place = [slice, row, column];
                let offset =
                    [0, 1, 2].map(|axis| (place[axis] as f64 + 0.5) * spacing[axis] - centre[axis]);
                let share = (0.5 + (radius - norm(offset)) / size).clamp(0.0, 1.0) as f32;
                covered.set(place, covered.get(place).max(share));
            }
        }
    }
}
