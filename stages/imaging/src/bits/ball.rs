//! Dilation of packed masks by Euclidean balls.
//!
//! A ball is a stack of rows of few different widths. For each width the whole mask is widened along its rows, by shifts
//! that double, and then joined over the rows of that width: some operations on words for 64 voxels at once.

use rayon::prelude::*;

use super::BitMask;

/// The rows of a ball in voxels, by their half width, smallest first: `(half width, steps along slices and rows)`.
#[derive(Clone, Debug)]
pub(crate) struct Ball {
    rows: Vec<(usize, Vec<[isize; 2]>)>,
}

impl Ball {
    /// The voxels of a mask of `shape` within `radius` of a voxel, both in the unit of `spacing`; none when the radius is
    /// negative. `None` when the ball has more than `most` rows.
    ///
    /// Squares are summed as the distance transform sums them, so that both agree to the last bit.
    pub(crate) fn new(
        radius: f64,
        spacing: [f64; 3],
        shape: [usize; 3],
        most: usize,
    ) -> Option<Self> {
        let reach = |axis: usize| Self::reach(radius, spacing[axis], shape[axis]);
        let side = |axis: usize| 2 * reach(axis) + 1;
        if side(0).saturating_mul(side(1)) > most {
            return None;
        }
        let mut rows: Vec<(usize, Vec<[isize; 2]>)> = Vec::new();
        for slice in 0..=reach(0) {
            for row in 0..=reach(1) {
                let [z, y] = [slice as f64, row as f64];
                let lateral = if shape[0] == 1 {
                    (y * spacing[1]).powi(2)
                } else {
                    (z * spacing[0]).powi(2) + spacing[1] * spacing[1] * y * y
                };
                let is_within = |half: usize| {
                    let x = half as f64;
                    (lateral + spacing[2] * spacing[2] * x * x).sqrt() <= radius
                };
                let Some(half) = largest(reach(2), is_within) else { continue };
                let steps = mirrored(slice, row);
                match rows.iter_mut().find(|(width, _)| *width == half) {
                    Some((_, found)) => found.extend(steps),
                    None => rows.push((half, steps.collect())),
                }
            }
        }
        rows.sort_by_key(|(half, _)| *half);
        Some(Self { rows })
    }

    /// Steps along an axis that may lie within the radius.
    fn reach(radius: f64, spacing: f64, length: usize) -> usize {
        // The cast saturates; one more voxel than the quotient says makes up for its rounding.
        ((radius / spacing) as usize).saturating_add(1).min(length.saturating_sub(1))
    }

    /// Steps from the edge of an axis inwards at which what lies beyond is within `radius`; 0 along an axis of length 1.
    pub(super) fn margin(radius: f64, spacing: f64, length: usize) -> usize {
        let is_within = |steps: usize| (steps as f64 * spacing).powi(2).sqrt() <= radius;
        if length < 2 {
            return 0;
        }
        largest(Self::reach(radius, spacing, length + 1), is_within).unwrap_or(0)
    }
}

/// The largest number up to `most` that is within; `None` when 0 is not.
fn largest(most: usize, is_within: impl Fn(usize) -> bool) -> Option<usize> {
    (0..=most).rev().find(|&number| is_within(number))
}

/// A step with both signs of each part that is not 0.
fn mirrored(slice: usize, row: usize) -> impl Iterator<Item = [isize; 2]> {
    let signs = |steps: usize| {
        let steps = steps.cast_signed();
        [steps, -steps].into_iter().take(if steps == 0 { 1 } else { 2 })
    };
    signs(slice).flat_map(move |slice| signs(row).map(move |row| [slice, row]))
}

impl BitMask {
    /// Every voxel of whose ball a voxel is set.
    pub(crate) fn dilated(&self, ball: &Ball) -> Self {
        let mut found = Self { words: vec![0; self.words.len()], ..*self };
        if self.words.is_empty() {
            return found;
        }
        let mut wide = self.words.clone();
        let (mut reached, mut spare) = (0, vec![0; self.words.len()]);
        for (half, steps) in &ball.rows {
            while reached < *half {
                let step = next_step(reached, *half);
                self.each_line(&mut spare, |line, target| {
                    widen(&wide[line * self.words_a_row..][..self.words_a_row], target, step);
                });
                std::mem::swap(&mut wide, &mut spare);
                reached += step;
            }
            self.join(&wide, steps, &mut found.words);
        }
        found.clear_behind_rows();
        found
    }

    /// Adds to each line of `found` the lines of `wide` that lie the given steps away.
    fn join(&self, wide: &[u64], steps: &[[isize; 2]], found: &mut [u64]) {
        let [n_slices, n_rows, _] = self.shape;
        self.each_line(found, |line, target| {
            let (slice, row) = (line / n_rows, line % n_rows);
            for &[slices, rows] in steps {
                let slice = slice.checked_add_signed(slices).filter(|&slice| slice < n_slices);
                let row = row.checked_add_signed(rows).filter(|&row| row < n_rows);
                let (Some(slice), Some(row)) = (slice, row) else { continue };
                let source = &wide[(slice * n_rows + row) * self.words_a_row..];
                for (target, &word) in target.iter_mut().zip(source) {
                    *target |= word;
                }
            }
        });
    }

    /// Calls `change` with every line of `words` and its number; lines are independent of each other.
    fn each_line(&self, words: &mut [u64], change: impl Fn(usize, &mut [u64]) + Sync) {
        if self.shape[0] == 1 {
            let lines = words.chunks_exact_mut(self.words_a_row);
            lines.enumerate().for_each(|(line, words)| change(line, words));
        } else {
            let lines = words.par_chunks_exact_mut(self.words_a_row).enumerate();
            lines.with_min_len(64).for_each(|(line, words)| change(line, words));
        }
    }

    /// The set voxels of whose ball every voxel is set; what lies beyond the edge is not looked at.
    pub(crate) fn eroded(&self, ball: &Ball) -> Self {
        let mut found = self.inverted().dilated(ball);
        for (word, &inside) in found.words.iter_mut().zip(&self.words) {
            *word = inside & !*word;
        }
        found
    }

    /// Clears what lies within `radius` of the outside of the image, along every axis longer than 1.
    pub(crate) fn clear_rim(&mut self, radius: f64, spacing: [f64; 3]) {
        let [n_slices, n_rows, n_columns] = self.shape;
        let margin: [usize; 3] =
            [0, 1, 2].map(|axis| Ball::margin(radius, spacing[axis], self.shape[axis]));
        let is_rim =
            |place: usize, margin: usize, length: usize| place < margin || place + margin >= length;
        let kept: Vec<u64> = {
            let columns: Vec<bool> =
                (0..n_columns).map(|column| !is_rim(column, margin[2], n_columns)).collect();
            let mut words = vec![0; self.words_a_row];
            super::pack(&columns, &mut words);
            words
        };
        for (line, words) in self.words.chunks_exact_mut(self.words_a_row.max(1)).enumerate() {
            let (slice, row) = (line / n_rows, line % n_rows);
            if is_rim(slice, margin[0], n_slices) || is_rim(row, margin[1], n_rows) {
                words.fill(0);
            } else {
                words.iter_mut().zip(&kept).for_each(|(word, kept)| *word &= kept);
            }
        }
    }

    fn clear_behind_rows(&mut self) {
        let last = self.words_a_row - 1;
        let valid = self.valid(last);
        for words in self.words.chunks_exact_mut(self.words_a_row) {
            words[last] &= valid;
        }
    }
}

/// How far rows that reach `reached` places may jump at once on their way to `half`.
fn next_step(reached: usize, half: usize) -> usize {
    // The place from which a bit is reached lies between it and the one that it comes from, and so within the row.
    (half - reached).min(reached + 1).min(63)
}

/// Sets every bit of a row that has a set bit within `half` places; `spare` is scratch of the same length.
pub(crate) fn widen_row(words: &mut [u64], spare: &mut [u64], half: usize) {
    let mut reached = 0;
    while reached < half {
        let step = next_step(reached, half);
        widen(words, spare, step);
        words.copy_from_slice(spare);
        reached += step;
    }
}

/// Sets every bit of `target` that is set in `source` at the place or `step` places to either side; `step` is 1 to 63.
fn widen(source: &[u64], target: &mut [u64], step: usize) {
    let (up, down) = (step as u32, 64 - step as u32);
    let wide = |before: u64, here: u64, after: u64| {
        here | here << up | before >> down | here >> up | after << down
    };
    let n = source.len();
    if n == 1 {
        target[0] = wide(0, source[0], 0);
        return;
    }
    target[0] = wide(0, source[0], source[1]);
    target[n - 1] = wide(source[n - 2], source[n - 1], 0);
    for (target, near) in target[1..n - 1].iter_mut().zip(source.windows(3)) {
        *target = wide(near[0], near[1], near[2]);
    }
}

#[cfg(test)]
mod tests {
    use datasets::{Grid, Stream};

    use super::*;
    use crate::{
        distance::{Border, squared_distance, squared_distance_to_background},
        zip::zip,
    };

    #[test]
    fn balls_equal_the_thresholded_distance() {
        let mut stream = Stream::new(12, "test.ball", &[]);
        for round in 0..400 {
            let shape = if round % 2 == 0 {
                [1, 1 + stream.below(30), 1 + stream.below(200)]
            } else {
                [1 + stream.below(6), 1 + stream.below(9), 1 + stream.below(140)]
            };
            let density = stream.uniform().powi(3);
            let mask = Grid::from_fn(shape, |_| stream.uniform() < density);
            let spacing = match round % 3 {
                0 => [1.0; 3],
                1 => [1.4, 0.7, 0.7],
                _ => [stream.between(0.4, 2.0), stream.between(0.4, 2.0), stream.between(0.4, 2.0)],
            };
            // Whole radii meet distances exactly.
            let radius =
                if round % 3 == 2 { stream.between(0.0, 90.0) } else { stream.below(14) as f64 };
            let ball = Ball::new(radius, spacing, shape, usize::MAX).expect("no limit");
            let bits = BitMask::of(&mask);
            let expected = squared_distance(&mask, spacing).map(|d: &f64| d.sqrt() <= radius);
            assert_eq!(bits.dilated(&ball).to_mask(), expected, "{shape:?} {spacing:?} {radius}");
            for border in [Border::Unknown, Border::Background] {
                let field = squared_distance_to_background(&mask, spacing, border);
                let expected =
                    zip(&field, &mask, |&squared, &inside| inside && squared.sqrt() > radius);
                let mut eroded = bits.eroded(&ball);
                if border == Border::Background {
                    eroded.clear_rim(radius, spacing);
                }
                assert_eq!(eroded.to_mask(), expected, "{shape:?} {spacing:?} {radius} {border:?}");
            }
        }
    }

    #[test]
    fn a_ball_of_too_many_rows_is_none() {
        assert!(Ball::new(5.0, [1.0; 3], [20, 20, 20], 100).is_none());
        assert!(Ball::new(5.0, [1.0; 3], [1, 20, 20], 100).is_some());
    }
}
