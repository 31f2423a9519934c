//! Voxels grouped by what the sources say together: the work of an iteration is per group, not per voxel.
//!
//! Randomness: none. Cost: one pass over the voxels of all sources; groups are numbered as they are met.

use std::collections::BTreeMap;

use datasets::{Grid, Mask};

/// The distinct combinations of decisions of a case.
#[derive(Clone, Debug)]
pub(super) struct Patterns<T> {
    /// Decision of each source, one list a combination.
    pub(super) keys: Vec<Vec<T>>,
    /// Number of voxels of each combination.
    pub(super) counts: Vec<f64>,
    index: Index,
}

/// Combination of every voxel.
#[derive(Clone, Debug)]
enum Index {
    /// By its number.
    Numbers(Grid<u32>),
    /// By the decisions of up to eight sources as the bits of a byte, and the number that goes with each byte.
    Codes(Grid<u8>, Box<[u8; 256]>),
}

/// Voxels that are looked at together: neighbours mostly have the same combination.
const BLOCK: usize = 16;

/// Whether all bytes of a block are the first one.
fn is_even(block: &[u8; BLOCK]) -> bool {
    u128::from_le_bytes(*block) == u128::from_le_bytes([block[0]; BLOCK])
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
        Self { keys, counts, index: Index::Numbers(index) }
    }

    /// Gives every voxel the value of its combination.
    pub(super) fn spread<U: Copy>(&self, value: impl Fn(usize) -> U) -> Grid<U> {
        let values: Vec<U> = (0..self.keys.len()).map(value).collect();
        let (codes, numbers) = match &self.index {
            Index::Numbers(index) => return index.map(|&pattern| values[pattern as usize]),
            Index::Codes(codes, numbers) => (codes, numbers),
        };
        let Some(&first) = values.first() else {
            return Grid::new(codes.shape(), values).expect("no voxel has no combination");
        };
        // Bytes that no voxel has stand for anything.
        let table =
            (**numbers).map(|number| values.get(usize::from(number)).copied().unwrap_or(first));
        let mut values = Vec::with_capacity(codes.values().len());
        let (blocks, rest) = codes.values().as_chunks::<BLOCK>();
        for block in blocks {
            if is_even(block) {
                values.extend_from_slice(&[table[usize::from(block[0])]; BLOCK]);
            } else {
                values.extend_from_slice(&block.map(|code| table[usize::from(code)]));
            }
        }
        values.extend(rest.iter().map(|&code| table[usize::from(code)]));
        Grid::new(codes.shape(), values).expect("a value a voxel")
    }
}

impl Patterns<bool> {
    /// As [`Patterns::collect`]: the decisions of up to eight sources are the bits of a byte.
    pub(super) fn of_masks(masks: &[&Mask]) -> Self {
        if masks.len() > 8 {
            return Self::collect(masks);
        }
        let codes = codes(masks);
        let mut order = Order::default();
        let (blocks, rest) = codes.values().as_chunks::<BLOCK>();
        for block in blocks {
            if is_even(block) {
                order.add(block[0], BLOCK);
            } else {
                block.iter().for_each(|&code| order.add(code, 1));
            }
        }
        rest.iter().for_each(|&code| order.add(code, 1));
        let key = |code: &u8| (0..masks.len()).map(|bit| code >> bit & 1 == 1).collect();
        let keys = order.met.iter().map(key).collect();
        let counts = order.met.iter().map(|&code| order.counts[usize::from(code)] as f64).collect();
        let mut numbers = [0; 256];
        for (number, &code) in (0..=u8::MAX).zip(&order.met) {
            numbers[usize::from(code)] = number;
        }
        Self { keys, counts, index: Index::Codes(codes, Box::new(numbers)) }
    }
}

/// Voxels of each byte, and the bytes in the order in which they are met.
struct Order {
    counts: [usize; 256],
    met: Vec<u8>,
}

impl Default for Order {
    fn default() -> Self {
        Self { counts: [0; 256], met: Vec::new() }
    }
}

impl Order {
    fn add(&mut self, code: u8, n_voxels: usize) {
        let count = &mut self.counts[usize::from(code)];
        if *count == 0 {
            self.met.push(code);
        }
        *count += n_voxels;
    }
}

/// Up to eight masks as the bits of bytes.
fn codes(masks: &[&Mask]) -> Grid<u8> {
    /// Voxels that stay in the nearest cache while all masks pass.
    const STRETCH: usize = 4096;
    let mut codes = Grid::filled(masks[0].shape(), 0_u8);
    for (number, codes) in codes.values_mut().chunks_mut(STRETCH).enumerate() {
        for (bit, mask) in masks.iter().enumerate() {
            let voxels = &mask.values()[number * STRETCH..][..codes.len()];
            let weight = 1 << bit;
            for (code, &inside) in codes.iter_mut().zip(voxels) {
                *code |= u8::from(inside) * weight;
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::{Stream, mask};

    #[test]
    fn combinations_are_numbered_as_they_are_met() {
        let (a, b) = (mask!["# # . . #"], mask!["# . . . #"]);
        let patterns = Patterns::collect(&[&a, &b]);
        assert_eq!(patterns.keys, [[true, true], [true, false], [false, false]]);
        assert_eq!(patterns.counts, [2.0, 1.0, 2.0]);
        assert_eq!(patterns.spread(|pattern| pattern).values(), [0, 1, 2, 2, 0]);
    }

    #[test]
    fn bytes_group_as_lists_do() {
        let mut stream = Stream::new(6, "test.patterns", &[]);
        for n_masks in 1..=9 {
            let shape = [2, 5, 1 + stream.below(40)];
            let density = stream.uniform();
            let masks: Vec<Mask> = (0..n_masks)
                .map(|_| Grid::from_fn(shape, |[_, row, _]| row > 1 && stream.uniform() < density))
                .collect();
            let masks: Vec<&Mask> = masks.iter().collect();
            let (slow, fast) = (Patterns::collect(&masks), Patterns::of_masks(&masks));
            assert_eq!((&slow.keys, &slow.counts), (&fast.keys, &fast.counts));
            assert_eq!(slow.spread(|pattern| pattern), fast.spread(|pattern| pattern));
        }
    }
}
