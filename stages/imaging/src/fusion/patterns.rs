//! Voxels grouped by what the sources say together: the work of an iteration is per group, not per voxel.
//!
//! Randomness: none. Cost: one pass over the voxels of all sources; groups are numbered as they are met.

use std::collections::BTreeMap;

use datasets::Grid;

/// The distinct combinations of decisions of a case.
#[derive(Clone, Debug)]
pub(super) struct Patterns<T> {
    /// Decision of each source, one list a combination.
    pub(super) keys: Vec<Vec<T>>,
    /// Number of voxels of each combination.
    pub(super) counts: Vec<f64>,
    /// Combination of every voxel.
    index: Grid<u32>,
}

impl<T: Copy + Ord> Patterns<T> {
    /// Groups the voxels of `maps`, which are at least one and have one shape.
    pub(super) fn collect(maps: &[&Grid<T>]) -> Self {
        let mut found: BTreeMap<Vec<T>, u32> = BTreeMap::new();
        let mut keys: Vec<Vec<T>> = Vec::new();
        let mut counts = Vec::new();
        let mut last: (Vec<T>, u32) = (Vec::new(), 0);
        let n_voxels = maps[0].values().len();
        let mut index = Vec::with_capacity(n_voxels);
        for voxel in 0..n_voxels {
            let key = || maps.iter().map(|map| map.values()[voxel]);
            if !key().eq(last.0.iter().copied()) {
                last.0.clear();
                last.0.extend(key());
                last.1 = *found.entry(last.0.clone()).or_insert_with(|| {
                    keys.push(last.0.clone());
                    counts.push(0.0);
                    u32::try_from(keys.len() - 1).expect("fewer combinations than 2^32")
                });
            }
            counts[last.1 as usize] += 1.0;
            index.push(last.1);
        }
        let index = Grid::new(maps[0].shape(), index).expect("as many values as the maps");
        Self { keys, counts, index }
    }

    /// Gives every voxel the value of its combination.
    pub(super) fn spread<U>(&self, value: impl Fn(usize) -> U) -> Grid<U> {
        self.index.map(|&pattern| value(pattern as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::mask;

    #[test]
    fn combinations_are_numbered_as_they_are_met() {
        let (a, b) = (mask!["# # . . #"], mask!["# . . . #"]);
        let patterns = Patterns::collect(&[&a, &b]);
        assert_eq!(patterns.keys, [[true, true], [true, false], [false, false]]);
        assert_eq!(patterns.counts, [2.0, 1.0, 2.0]);
        assert_eq!(patterns.spread(|pattern| pattern).values(), [0, 1, 2, 2, 0]);
    }
}
