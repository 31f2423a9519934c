//! A part of a volume, or a volume with more around it, voxel by voxel.

use datasets::Grid;

/// The part of `grid` that begins at voxel `first`, `[slice, row, column]`, and has `shape`; what lies beyond the edges of
/// the grid is `fill`.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::resample::cut;
/// let mask = mask!["# .", "# #"];
/// assert_eq!(cut(&mask, [0, 1, -1], [1, 2, 4], false), mask![". # # .", ". . . ."]);
/// ```
pub fn cut<T: Copy>(grid: &Grid<T>, first: [isize; 3], shape: [usize; 3], fill: T) -> Grid<T> {
    let mut found = Grid::filled(shape, fill);
    let [slices, rows, columns] =
        [0, 1, 2].map(|axis| shared(grid.shape()[axis], first[axis], shape[axis]));
    for slice in 0..slices.length {
        for row in 0..rows.length {
            let source = grid.row(slices.from + slice, rows.from + row);
            let start = found.index([slices.to + slice, rows.to + row, columns.to]);
            let target = &mut found.values_mut()[start..][..columns.length];
            target.copy_from_slice(&source[columns.from..][..columns.length]);
        }
    }
    found
}

/// The voxels of one axis that old and new have both.
struct Shared {
    /// First of them in the old grid.
    from: usize,
    /// First of them in the new grid.
    to: usize,
    length: usize,
}

fn shared(n_old: usize, first: isize, n_new: usize) -> Shared {
    let from = first.max(0).cast_unsigned().min(n_old);
    let to = first.saturating_neg().max(0).cast_unsigned().min(n_new);
    Shared { from, to, length: (n_old - from).min(n_new - to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_voxel_is_that_of_the_old_grid_or_the_filling() {
        let grid = Grid::from_fn([2, 3, 4], |[slice, row, column]| 100 * slice + 10 * row + column);
        for first in [-7, -3, -1, 0, 1, 2, 9, isize::MIN + 1] {
            for n in [1, 2, 5, 9] {
                let found = cut(&grid, [first, 0, first], [n, 3, n], 999);
                let expected = Grid::from_fn([n, 3, n], |[slice, row, column]| {
                    let [slice, column] = [slice, column].map(|at| first.checked_add_unsigned(at));
                    let inside = |at: Option<isize>, n: usize| {
                        at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < n)
                    };
                    match (inside(slice, 2), inside(column, 4)) {
                        (Some(slice), Some(column)) => 100 * slice + 10 * row + column,
                        _ => 999,
                    }
                });
                assert_eq!(found, expected, "{first} {n}");
            }
        }
    }
}
