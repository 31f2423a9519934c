//! Making one grid of two.

use datasets::Grid;

/// Combines two grids of one shape voxel by voxel.
pub(crate) fn zip<A, B, C>(
    left: &Grid<A>,
    right: &Grid<B>,
    mut combine: impl FnMut(&A, &B) -> C,
) -> Grid<C> {
    debug_assert_eq!(left.shape(), right.shape(), "callers check shapes");
    let pairs = left.values().iter().zip(right.values());
    let values = pairs.map(|(left, right)| combine(left, right)).collect();
    Grid::new(left.shape(), values).expect("as many values as both grids")
}
