//! Masks with 64 voxels a word, for simulators that look at the outline again and again.

use datasets::{Grid, Mask};

/// A mask, one bit a voxel; rows begin at a word, the bits behind a row are 0.
#[derive(Clone, Debug)]
pub(super) struct BitMask {
    words: Vec<u64>,
    shape: [usize; 3],
    words_a_row: usize,
}

impl BitMask {
    pub(super) fn of(mask: &Mask) -> Self {
        let shape = mask.shape();
        let words_a_row = shape[2].div_ceil(64);
        let mut words = vec![0_u64; shape[0] * shape[1] * words_a_row];
        if words.is_empty() {
            return Self { words, shape, words_a_row };
        }
        let rows = mask.values().chunks_exact(shape[2]);
        for (row, target) in rows.zip(words.chunks_exact_mut(words_a_row)) {
            for (column, _) in row.iter().enumerate().filter(|(_, inside)| **inside) {
                target[column / 64] |= 1 << (column % 64);
            }
        }
        Self { words, shape, words_a_row }
    }

    pub(super) fn to_mask(&self) -> Mask {
        let [_, n_rows, _] = self.shape;
        Grid::from_fn(self.shape, |[slice, row, column]| {
            let word = (slice * n_rows + row) * self.words_a_row + column / 64;
            self.words[word] >> (column % 64) & 1 == 1
        })
    }

    /// Flips the background voxels (or, for `of_foreground`, the foreground voxels) that have a face neighbour of
    /// the other kind and for which `chosen`, asked in raster order, says so.
    pub(super) fn flip_edge(&mut self, of_foreground: bool, mut chosen: impl FnMut() -> bool) {
        let sources = if of_foreground { self.inverted() } else { self.clone() };
        let flips: Vec<u64> = (0..self.words.len())
            .map(|index| {
                let edge = sources.neighbours(index) & !sources.words[index] & self.valid(index);
                let mut flip = 0;
                let mut rest = edge;
                while rest != 0 {
                    let lowest = rest & rest.wrapping_neg();
                    rest ^= lowest;
                    flip |= if chosen() { lowest } else { 0 };
                }
                flip
            })
            .collect();
        for (word, flip) in self.words.iter_mut().zip(flips) {
            *word ^= flip;
        }
    }

    /// Bits of a word that are voxels.
    fn valid(&self, index: usize) -> u64 {
        let n_left = self.shape[2] - index % self.words_a_row * 64;
        if n_left >= 64 { u64::MAX } else { (1 << n_left) - 1 }
    }

    fn inverted(&self) -> Self {
        let words = (0..self.words.len()).map(|index| !self.words[index] & self.valid(index));
        Self { words: words.collect(), ..*self }
    }

    /// Voxels of a word with a set face neighbour.
    fn neighbours(&self, index: usize) -> u64 {
        let (in_row, row) = (index % self.words_a_row, index / self.words_a_row);
        let (row, slice) = (row % self.shape[1], row / self.shape[1]);
        let here = self.words[index];
        let mut found = here << 1 | here >> 1;
        if in_row > 0 {
            found |= self.words[index - 1] >> 63;
        }
        if in_row + 1 < self.words_a_row {
            found |= self.words[index + 1] << 63;
        }
        for (place, length, step) in [
            (row, self.shape[1], self.words_a_row),
            (slice, self.shape[0], self.words_a_row * self.shape[1]),
        ] {
            if place > 0 {
                found |= self.words[index - step];
            }
            if place + 1 < length {
                found |= self.words[index + step];
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::{Border, squared_distance, squared_distance_to_background};
    use crate::zip::zip;
    use datasets::Stream;

    #[test]
    fn edges_are_the_voxels_at_distance_one() {
        let mut stream = Stream::new(9, "test.bits", &[]);
        for _ in 0..100 {
            let shape = [1 + stream.below(3), 1 + stream.below(6), 1 + stream.below(150)];
            let density = stream.uniform();
            let mask = Grid::from_fn(shape, |_| stream.uniform() < density);
            assert_eq!(BitMask::of(&mask).to_mask(), mask);
            let outside = squared_distance(&mask, [1.0; 3]);
            let inside = squared_distance_to_background(&mask, [1.0; 3], Border::Unknown);
            for (of_foreground, field) in [(false, outside), (true, inside)] {
                let mut bits = BitMask::of(&mask);
                bits.flip_edge(of_foreground, || true);
                let expected =
                    zip(&mask, &field, |&inside, &squared: &f64| inside ^ (squared == 1.0));
                assert_eq!(bits.to_mask(), expected, "{shape:?} {of_foreground}");
                bits = BitMask::of(&mask);
                bits.flip_edge(of_foreground, || false);
                assert_eq!(bits.to_mask(), mask);
            }
        }
    }
}
