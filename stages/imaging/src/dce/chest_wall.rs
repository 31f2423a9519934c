//! The chest wall: the front of the plate of muscle that lies between the breasts and the lungs.
//!
//! Source: a depth for each column that follows a plate, as in Wei et al. (2018). Deviation: their template of fat, a dark line
//! and muscle is one of scans without fat suppression; here the muscle is a bright plate between suppressed fat and the
//! lungs, brighter than what lies before and behind it, and the depth is found by dynamic programming in each slice instead
//! of a descent. Rows go from the front of the patient to the back.
//! Cost: a smoothing and five passes over the volume; two volumes of memory.

use datasets::{Image, Mask};
use rayon::prelude::*;

use crate::{
    ImagingError,
    recursive::{Order, derive, smooth},
};

/// Scale of the plate: about half of its thickness.
const PLATE_MM: f64 = 4.0;

/// Scale at which its front is looked at.
const FRONT_MM: f64 = 2.0;

/// From the middle of the plate to what lies before and behind it.
const APART_MM: f64 = 8.0;

/// How many times as bright as those the plate is at least.
const CONTRAST: f32 = 1.1;

/// Steepest wall in a slice, millimetres of depth for each millimetre to the side.
const STEEPEST: f64 = 1.5;

/// What a millimetre between the depths of neighbouring slices costs, where the best plate of a column is worth 1.
const BEND: f32 = 0.03;

/// Millimetres from which on more cost no more.
const BEND_MM: f32 = 10.0;

/// How often each slice is brought into line with its neighbours.
const ROUNDS: usize = 3;

/// Share of all columns that must show a plate.
const SEEN: f64 = 0.6;

/// First row of the chest wall of each `[slice, column]`; `None` where too few columns show a plate or `body` is empty.
///
/// # Errors
/// [`ImagingError::SpacingNotPositive`].
pub(super) fn chest_wall(
    pre: &Image,
    body: &Mask,
    spacing: [f64; 3],
) -> Result<Option<Vec<usize>>, ImagingError> {
    let n_columns = body.n_columns();
    let Some(from) = search_from(body) else { return Ok(None) };
    let mut smoothed = pre.clone();
    smooth(&mut smoothed, FRONT_MM, spacing)?;
    let mut plates = pre.clone();
    for (axis, order) in [(0, Order::Zero), (2, Order::Zero), (1, Order::Second)] {
        derive(&mut plates, axis, order, PLATE_MM, spacing)?;
    }
    let apart = (APART_MM / spacing[1]).round().max(1.0) as usize;
    keep_plates(&mut plates, &smoothed, apart);
    let strongest = strongest(&plates, from);
    let mut sorted: Vec<f32> = strongest.iter().copied().filter(|best| *best > 0.0).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let n_seen = strongest.iter().filter(|best| **best > 0.2 * usual && **best > 0.0).count();
    if (n_seen as f64) < SEEN * strongest.len() as f64 {
        return Ok(None);
    }
    let search = Search { plates: &plates, strongest: &strongest, from, spacing };
    let front = |(place, middle): (usize, usize)| {
        let value = |row: usize| smoothed.get([place / n_columns, row, place % n_columns]);
        // Half of the way to the darkness before it.
        let first = middle.saturating_sub(apart);
        let limit = 0.5 * (value(middle) + value(first));
        (first..=middle).rev().take_while(|&row| value(row) > limit).last().unwrap_or(middle)
    };
    Ok(Some(search.paths().into_iter().flatten().enumerate().map(front).collect()))
}

/// First row of the search: behind two thirds of the way from the foremost point of the body to where its front lies
/// furthest back, so that skin and most of the gland are out of the way.
fn search_from(body: &Mask) -> Option<usize> {
    let [n_slices, n_rows, n_columns] = body.shape();
    let columns = (0..n_slices).flat_map(|slice| (0..n_columns).map(move |column| (slice, column)));
    let mut fronts: Vec<usize> = columns
        .filter_map(|(slice, column)| (0..n_rows).find(|&row| body.get([slice, row, column])))
        .collect();
    fronts.sort_unstable();
    let (tip, far) = (*fronts.first()?, fronts[(fronts.len() - 1) * 9 / 10]);
    Some(tip + 2 * (far - tip) / 3)
}

/// Turns curvatures into strengths of plates: 0 unless a voxel is clearly brighter than those `apart` rows before and behind
/// it, as no single edge is; what lies behind the volume is taken for dark.
fn keep_plates(curvature: &mut Image, smoothed: &Image, apart: usize) {
    let [_, n_rows, n_columns] = smoothed.shape();
    let planes = curvature.values_mut().par_chunks_exact_mut(n_rows * n_columns);
    planes.zip(smoothed.values().par_chunks_exact(n_rows * n_columns)).for_each(|(to, from)| {
        for (place, curvature) in to.iter_mut().enumerate() {
            let value = |row: usize| from[row * n_columns + place % n_columns];
            let row = place / n_columns;
            let is_brighter = |other: usize| value(row) > CONTRAST * value(other);
            let is_plate = row >= apart
                && is_brighter(row - apart)
                && (row + apart >= n_rows || is_brighter(row + apart));
            *curvature = if is_plate { (-*curvature).max(0.0) } else { 0.0 };
        }
    });
}

/// The strongest plate of each `[slice, column]` from a row on.
fn strongest(plates: &Image, from: usize) -> Vec<f32> {
    let [n_slices, n_rows, n_columns] = plates.shape();
    let mut strongest = vec![0.0_f32; n_slices * n_columns];
    let slices = strongest.par_chunks_exact_mut(n_columns).enumerate();
    slices.for_each(|(slice, strongest)| {
        for row in from..n_rows {
            for (column, best) in strongest.iter_mut().enumerate() {
                *best = best.max(plates.get([slice, row, column]));
            }
        }
    });
    strongest
}

/// What the depths of a slice are sought in.
struct Search<'a> {
    plates: &'a Image,
    strongest: &'a [f32],
    from: usize,
    spacing: [f64; 3],
}

impl Search<'_> {
    /// The paths of all slices, each in line with its neighbours.
    fn paths(&self) -> Vec<Vec<usize>> {
        let n_slices = self.plates.n_slices();
        let mut paths: Vec<Vec<usize>> =
            (0..n_slices).into_par_iter().map(|slice| self.path(slice, &[])).collect();
        // Every other slice at a time, so that the order of the work has no say.
        for parity in (0..2 * ROUNDS).map(|round| round % 2) {
            let of = |slice: usize| {
                let near = [slice.checked_sub(1), Some(slice + 1)].into_iter().flatten();
                let near: Vec<&[usize]> =
                    near.filter_map(|near| paths.get(near).map(Vec::as_slice)).collect();
                self.path(slice, &near)
            };
            let slices = (parity..n_slices).into_par_iter().step_by(2);
            let renewed: Vec<(usize, Vec<usize>)> =
                slices.map(|slice| (slice, of(slice))).collect();
            renewed.into_iter().for_each(|(slice, path)| paths[slice] = path);
        }
        paths
    }

    /// The connected path through all columns of a slice on which the plates are strongest; paths in the slices `near` draw
    /// it to themselves.
    fn path(&self, slice: usize, near: &[&[usize]]) -> Vec<usize> {
        let [_, n_rows, n_columns] = self.plates.shape();
        let n = n_rows - self.from;
        let reach = (STEEPEST * self.spacing[2] / self.spacing[1]).ceil().max(1.0) as usize;
        let mm = self.spacing[1] as f32;
        let worth = |column: usize, depth: usize| {
            let row = self.from + depth;
            let strongest = self.strongest[slice * n_columns + column].max(f32::MIN_POSITIVE);
            let plate = self.plates.get([slice, row, column]) / strongest;
            let bend =
                near.iter().map(|path| (path[column].abs_diff(row) as f32 * mm).min(BEND_MM));
            plate - BEND * bend.sum::<f32>()
        };
        let mut sums: Vec<f32> = (0..n).map(|depth| worth(0, depth)).collect();
        // Where the best path to each place comes from.
        let mut before = vec![0_u32; n * n_columns];
        for column in 1..n_columns {
            let best = |depth: usize| {
                let places = depth.saturating_sub(reach)..(depth + reach + 1).min(n);
                // The nearest of equals, then the foremost.
                let order = |a: &usize, b: &usize| {
                    let nearer = b.abs_diff(depth).cmp(&a.abs_diff(depth));
                    sums[*a].total_cmp(&sums[*b]).then(nearer).then(b.cmp(a))
                };
                places.max_by(order).unwrap_or(depth)
            };
            let from: Vec<usize> = (0..n).map(best).collect();
            let next = (0..n).map(|depth| sums[from[depth]] + worth(column, depth)).collect();
            let links = &mut before[column * n..][..n];
            links.iter_mut().zip(&from).for_each(|(link, &from)| *link = from as u32);
            sums = next;
        }
        let mut depth =
            (0..n).max_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(b.cmp(&a))).unwrap_or(0);
        let mut path = vec![0; n_columns];
        for column in (0..n_columns).rev() {
            path[column] = self.from + depth;
            depth = before[column * n + depth] as usize;
        }
        path
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{
        Split,
        phantom::{DcePhantom, DceRegime, DceStructure},
    };

    use super::*;
    use crate::dce::{
        Phases,
        breast::{Breast, find},
    };

    /// Mean distance in millimetres between the backs of the breasts that were found and drawn, where there are both, and
    /// which shares of breast and tumour were found.
    fn found(phantom: &DcePhantom) -> [f64; 3] {
        let case = phantom.draw(0, "case", "case", Split::Train).unwrap();
        let spacing = case.phases[0].spacing.millimetres();
        let [pre, early, late] = [0, 1, 2].map(|phase| &case.phases[phase].image);
        let found = find(Phases { pre, early, late, spacing }, &Breast::default()).unwrap();
        let [n_slices, n_rows, n_columns] = found.shape();
        let drawn = &case.masks[&DceStructure::Breast];
        let mut distances = Vec::new();
        for (slice, column) in (0..n_slices).flat_map(|s| (0..n_columns).map(move |c| (s, c))) {
            let back = |mask: &Mask| (0..n_rows).rev().find(|&row| mask.get([slice, row, column]));
            if let (Some(drawn), Some(found)) = (back(drawn), back(&found)) {
                distances.push(drawn.abs_diff(found) as f64 * spacing[1]);
            }
        }
        let share = |structure: DceStructure| {
            let mask = &case.masks[&structure];
            let hits = mask.values().iter().zip(found.values()).filter(|&(&a, &b)| a && b).count();
            hits as f64 / mask.area() as f64
        };
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        [mean, share(DceStructure::Breast), share(DceStructure::Tumour)]
    }

    #[test]
    fn the_wall_is_where_it_was_drawn() {
        let one = ([80, 112, 112], [1.4, 1.0, 1.0]);
        let two = ([54, 98, 140], [2.6, 1.6, 1.6]);
        for (shape, spacing_mm) in [one, two] {
            for regime in [DceRegime::Base, DceRegime::Noisy, DceRegime::Motion] {
                let what = format!("{shape:?} {}", regime.name());
                let found = found(&DcePhantom { shape, spacing_mm, regime });
                let [distance, breast, tumour] = found;
                assert!(distance < 2.0 && breast > 0.95 && tumour > 0.99, "{what}: {found:?}");
            }
        }
    }

    #[test]
    fn a_body_without_a_plate_has_no_wall() {
        let body = Mask::from_fn([6, 40, 30], |[_, row, _]| row >= 10);
        let image = body.map(|&inside| if inside { 100.0 } else { 1.0 });
        assert_eq!(chest_wall(&image, &body, [1.0; 3]).unwrap(), None);
        let nothing = Mask::filled([6, 40, 30], false);
        assert_eq!(chest_wall(&image, &nothing, [1.0; 3]).unwrap(), None);
    }
}
