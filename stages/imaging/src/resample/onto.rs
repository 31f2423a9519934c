//! A volume on another grid of the same world, whatever the angle between the two.
//!
//! A grid covers the world up to half a voxel around the centres of its outermost voxels; beyond that nothing is known.
//! Randomness: none. Cost: one pass over the output; one value a voxel for nearest, eight for linear.

use datasets::{Grid, Image, affine::VoxelMap};
use rayon::prelude::*;

/// Voxels by which a place may lie beyond the outline for the rounding of affines.
const TOLERANCE: f64 = 1e-4;

/// Takes for every voxel of the new grid of `shape` the nearest voxel of `grid`, of two that are equally near the later;
/// `outside` where there is none. `map` leads from the new grid to the old.
pub fn nearest_onto<T: Copy + Send + Sync>(
    grid: &Grid<T>,
    map: &VoxelMap,
    shape: [usize; 3],
    outside: T,
) -> Grid<T> {
    drawn(grid.shape(), map, shape, outside, |place| {
        let last = grid.shape().map(|n| n - 1);
        grid.get([0, 1, 2].map(|axis| ((place[axis] + 0.5).max(0.0) as usize).min(last[axis])))
    })
}

/// As [`nearest_onto`], with straight lines from voxel to voxel; beyond the outermost centres their values go on.
pub fn linear_onto(image: &Image, map: &VoxelMap, shape: [usize; 3], outside: f32) -> Image {
    let last = image.shape().map(|n| n - 1);
    drawn(image.shape(), map, shape, outside, |place| {
        let place = [0, 1, 2].map(|axis| place[axis].clamp(0.0, last[axis] as f64));
        let below = place.map(|at| at as usize);
        let share = [0, 1, 2].map(|axis| place[axis] - below[axis] as f64);
        let corners = (0..8).map(|corner: usize| {
            let is_above = [0, 1, 2].map(|axis| corner >> axis & 1);
            let voxel = [0, 1, 2].map(|axis| (below[axis] + is_above[axis]).min(last[axis]));
            let weights = [0, 1, 2].map(|axis| match is_above[axis] {
                0 => 1.0 - share[axis],
                _ => share[axis],
            });
            weights.iter().product::<f64>() * f64::from(image.get(voxel))
        });
        corners.sum::<f64>() as f32
    })
}

/// Asks for the value at every place within the outline of a grid of shape `old`.
fn drawn<T: Copy + Send + Sync>(
    old: [usize; 3],
    map: &VoxelMap,
    shape: [usize; 3],
    outside: T,
    value: impl Fn([f64; 3]) -> T + Sync,
) -> Grid<T> {
    let mut found = Grid::filled(shape, outside);
    let [_, n_rows, n_columns] = shape;
    let is_inside =
        |place: f64, n: usize| (-0.5 - TOLERANCE..=n as f64 - 0.5 + TOLERANCE).contains(&place);
    let rows = found.values_mut().par_chunks_mut(n_columns.max(1)).enumerate();
    rows.for_each(|(index, row)| {
        for (column, target) in row.iter_mut().enumerate() {
            let place = map.at([index / n_rows, index % n_rows, column]);
            if (0..3).all(|axis| is_inside(place[axis], old[axis])) {
                *target = value(place);
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use datasets::{
        Affine, Space,
        affine::{place, regridded},
        mask,
    };

    use super::*;

    /// Turned and left-handed.
    const PLACE: Affine = Affine {
        rows: [[-0.6, 0.48, 0.5, 12.0], [0.8, 0.36, -0.2, -7.5], [0.05, -0.64, 2.4, 30.0]],
        space: Space::Scanner,
    };

    #[test]
    fn a_grid_on_itself_is_the_same_and_beyond_it_is_nothing() {
        let mask = mask!["# . #", ". # #"];
        let same = VoxelMap::between(&PLACE, &PLACE).unwrap();
        assert_eq!(nearest_onto(&mask, &same, [1, 2, 3], false), mask);
        let shifted = regridded(&PLACE, [0.0, -1.0, 1.0], [1.0; 3]);
        let map = VoxelMap::between(&shifted, &PLACE).unwrap();
        let found = nearest_onto(&mask, &map, [2, 3, 3], false);
        let expected = [mask![". . .", ". # .", "# # ."], mask![". . .", ". . .", ". . ."]];
        let expected: Vec<bool> = expected.map(Grid::into_values).concat();
        assert_eq!(found.values(), expected);
    }

    /// A linear function of the world is met by linear interpolation on any grid of it.
    #[test]
    fn a_slope_of_the_world_stays_one() {
        let height = |at: [f64; 3]| 0.3 * at[0] - 0.7 * at[1] + 0.2 * at[2];
        let image = Grid::from_fn([6, 7, 8], |voxel| {
            height(place(&PLACE, voxel.map(|index| index as f64))) as f32
        });
        let turned = [[0.7, 0.1, 0.0, 0.0], [0.0, 0.6, 0.2, 0.0], [0.1, 0.0, 0.9, 0.0]];
        let start = place(&PLACE, [2.0, 2.0, 2.0]);
        let turned = [0, 1, 2]
            .map(|axis| [turned[axis][0], turned[axis][1], turned[axis][2], start[axis]])
            .into();
        let map = VoxelMap::between(&turned, &PLACE).unwrap();
        let found = linear_onto(&image, &map, [4, 4, 4], f32::NAN);
        let mut n_inside = 0;
        for slice in 0..4 {
            for row in 0..4 {
                for column in 0..4 {
                    let voxel = [slice, row, column];
                    let at = map.at(voxel);
                    let is_between = (0..3)
                        .all(|axis| (0.0..=image.shape()[axis] as f64 - 1.0).contains(&at[axis]));
                    if is_between {
                        n_inside += 1;
                        let expected = height(place(&turned, voxel.map(|index| index as f64)));
                        assert!((f64::from(found.get(voxel)) - expected).abs() < 1e-4, "{voxel:?}");
                    }
                }
            }
        }
        assert!(n_inside > 20, "{n_inside}");
    }
}
