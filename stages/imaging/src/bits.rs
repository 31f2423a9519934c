//! Masks with 64 voxels a word: what looks at whole neighbourhoods works on 64 of them at once.
//!
//! Randomness: none. Cost: packing and unpacking are one pass each, at about the speed of a copy.

mod ball;

use datasets::{Grid, Mask};

pub(crate) use ball::{Ball, widen_row};

/// Every byte of 0 to 255 as eight voxels, lowest bit first.
const UNPACKED: [[bool; 8]; 256] = {
    let mut table = [[false; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = byte >> bit & 1 == 1;
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// Packs a row of voxels into words, the first into the lowest bit; bits behind the row are 0.
pub(crate) fn pack(voxels: &[bool], words: &mut [u64]) {
    let mut whole = voxels.chunks_exact(64);
    for (word, voxels) in words.iter_mut().zip(&mut whole) {
        let mut packed = 0;
        for (byte, eight) in voxels.as_chunks::<8>().0.iter().enumerate() {
            packed |= pack_eight(*eight) << (8 * byte);
        }
        *word = packed;
    }
    if let (rest @ [_, ..], Some(word)) = (whole.remainder(), words.get_mut(voxels.len() / 64)) {
        *word = rest.iter().rev().fold(0, |word, &inside| word << 1 | u64::from(inside));
    }
}

/// Packs eight voxels into the lowest byte.
#[inline(always)]
fn pack_eight(voxels: [bool; 8]) -> u64 {
    // Moves bit 8 i to bit 56 + i for every i at once: the partial products share no bit.
    u64::from_le_bytes(voxels.map(u8::from)).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Unpacks what [`pack`] has packed.
pub(crate) fn unpack(words: &[u64], voxels: &mut [bool]) {
    let mut whole = voxels.chunks_exact_mut(64);
    for (voxels, word) in (&mut whole).zip(words) {
        for (eight, byte) in voxels.as_chunks_mut::<8>().0.iter_mut().zip(word.to_le_bytes()) {
            *eight = UNPACKED[usize::from(byte)];
        }
    }
    let rest = whole.into_remainder();
    if let Some(word) = words.last().filter(|_| !rest.is_empty()) {
        for (bit, voxel) in rest.iter_mut().enumerate() {
            *voxel = word >> bit & 1 == 1;
        }
    }
}

/// Calls `found` with the half-open range of every run of set bits of a row.
pub(crate) fn each_run(words: &[u64], mut found: impl FnMut(usize, usize)) {
    let (mut start, mut before) = (None, 0);
    for (place, &word) in words.iter().enumerate() {
        // Bits at which the value changes, the first against the last of the word before.
        let mut changes = word ^ (word << 1 | before);
        before = word >> 63;
        while changes != 0 {
            let at = 64 * place + changes.trailing_zeros() as usize;
            changes &= changes - 1;
            match start.take() {
                Some(begin) => found(begin, at),
                None => start = Some(at),
            }
        }
    }
    if let Some(begin) = start {
        found(begin, 64 * words.len());
    }
}

/// Packs what `is_inside` says of each value of a row.
pub(crate) fn pack_where<T: Copy>(values: &[T], words: &mut [u64], is_inside: impl Fn(T) -> bool) {
    let (whole, rest) = values.as_chunks::<64>();
    for (word, values) in words.iter_mut().zip(whole) {
        let voxels = values.map(&is_inside);
        pack(&voxels, std::slice::from_mut(word));
    }
    if let Some(word) = words.get_mut(whole.len()) {
        *word = rest.iter().rev().fold(0, |word, &value| word << 1 | u64::from(is_inside(value)));
    }
}

/// Turns a row of `length` voxels into its background.
pub(crate) fn invert(words: &mut [u64], length: usize) {
    for (place, word) in words.iter_mut().enumerate() {
        *word = !*word & valid(length - 64 * place);
    }
}

/// The bits of a word that are voxels, when `n_left` voxels begin at it.
fn valid(n_left: usize) -> u64 {
    if n_left >= 64 { u64::MAX } else { (1 << n_left) - 1 }
}

/// Place of the first set bit in `from..end`.
pub(crate) fn first_set(words: &[u64], from: usize, end: usize) -> Option<usize> {
    let mut place = from;
    while place < end {
        let rest = words[place / 64] >> (place % 64);
        if rest != 0 {
            return Some(place + rest.trailing_zeros() as usize).filter(|&found| found < end);
        }
        place = (place / 64 + 1) * 64;
    }
    None
}

/// The run of set bits around a set bit.
pub(crate) fn run_around(words: &[u64], place: usize) -> [usize; 2] {
    let (word, bit) = (place / 64, place % 64);
    let mut start = place + 1 - (words[word] << (63 - bit)).leading_ones() as usize;
    for before in words[..word].iter().rev() {
        // Only a run that reaches the lowest bit goes on in the word before.
        if !start.is_multiple_of(64) {
            break;
        }
        start -= before.leading_ones() as usize;
        if *before != u64::MAX {
            break;
        }
    }
    let mut end = place + (words[word] >> bit).trailing_ones() as usize;
    for after in &words[word + 1..] {
        if !end.is_multiple_of(64) {
            break;
        }
        end += after.trailing_ones() as usize;
        if *after != u64::MAX {
            break;
        }
    }
    [start, end]
}

/// Clears the bits in `start..end`.
pub(crate) fn clear(words: &mut [u64], start: usize, end: usize) {
    let below = |place: usize| (1_u64 << (place % 64)) - 1;
    let [first, last] = [start / 64, end / 64];
    if first == last {
        words[first] &= below(start) | !below(end);
        return;
    }
    words[first] &= below(start);
    words[first + 1..last].fill(0);
    if let Some(word) = words.get_mut(last) {
        *word &= !below(end);
    }
}

/// A mask, one bit a voxel; rows begin at a word, the bits behind a row are 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BitMask {
    words: Vec<u64>,
    shape: [usize; 3],
    words_a_row: usize,
}

impl BitMask {
    pub(crate) fn of(mask: &Mask) -> Self {
        let shape = mask.shape();
        let words_a_row = shape[2].div_ceil(64);
        let mut words = vec![0_u64; shape[0] * shape[1] * words_a_row];
        if !words.is_empty() {
            let rows = mask.values().chunks_exact(shape[2]);
            rows.zip(words.chunks_exact_mut(words_a_row)).for_each(|(row, words)| pack(row, words));
        }
        Self { words, shape, words_a_row }
    }

    pub(crate) fn to_mask(&self) -> Mask {
        let mut mask = Grid::filled(self.shape, false);
        if !self.words.is_empty() {
            let rows = mask.values_mut().chunks_exact_mut(self.shape[2]);
            rows.zip(self.words.chunks_exact(self.words_a_row))
                .for_each(|(row, words)| unpack(words, row));
        }
        mask
    }

    /// Flips the background voxels (or, for `of_foreground`, the foreground voxels) that have a face neighbour of
    /// the other kind and for which `chosen`, asked in raster order, says so.
    pub(crate) fn flip_edge(&mut self, of_foreground: bool, mut chosen: impl FnMut() -> bool) {
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
        valid(self.shape[2] - index % self.words_a_row * 64)
    }

    /// Background becomes foreground and the other way round.
    pub(crate) fn inverted(&self) -> Self {
        let mut found = self.clone();
        let rows = found.words.chunks_exact_mut(self.words_a_row.max(1));
        rows.for_each(|row| invert(row, self.shape[2]));
        found
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
