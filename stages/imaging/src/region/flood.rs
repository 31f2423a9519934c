//! Flooding by runs: whole stretches of a row are taken at once, and a row is looked at when the flood first reaches it.
//!
//! Source: the scan-line fill of Heckbert, "A seed fill algorithm" (Graphics Gems, 1990), in three dimensions.

use std::sync::OnceLock;

use datasets::{Grid, Image, Mask};

use crate::{
    bits::{clear, first_set, run_around},
    components::Connectivity,
};

/// Says which voxels of a row may belong to a region.
pub(super) trait Rule {
    /// Fills one row, a bit a voxel; bits behind the row are 0 before and after.
    fn mark(&mut self, slice: usize, row: usize, inside: &mut [u64]);
}

/// A connected set of voxels.
#[derive(Clone, Debug)]
pub struct Region {
    shape: [usize; 3],
    runs: Vec<Run>,
    n_voxels: usize,
    mask: OnceLock<Mask>,
}

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from these.
        (self.shape, &self.runs) == (other.shape, &other.runs)
    }
}

/// Voxels that follow each other in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    line: usize,
    start: usize,
    end: usize,
}

impl Region {
    /// The region as a mask of the volume's shape, drawn when it is first asked for.
    pub fn mask(&self) -> &Mask {
        self.mask.get_or_init(|| self.draw())
    }

    /// Gives the mask up.
    pub fn into_mask(mut self) -> Mask {
        self.mask.take().unwrap_or_else(|| self.draw())
    }

    fn draw(&self) -> Mask {
        let mut mask = Grid::filled(self.shape, false);
        let n_columns = self.shape[2];
        for run in &self.runs {
            let start = run.line * n_columns;
            mask.values_mut()[start + run.start..start + run.end].fill(true);
        }
        mask
    }

    /// Number of voxels.
    pub fn n_voxels(&self) -> usize {
        self.n_voxels
    }

    /// Whether a voxel belongs; none outside the volume does.
    pub fn contains(&self, [slice, row, column]: [usize; 3]) -> bool {
        if (0..3).any(|axis| [slice, row, column][axis] >= self.shape[axis]) {
            return false;
        }
        let line = slice * self.shape[1] + row;
        let after = self.runs.partition_point(|run| (run.line, run.start) <= (line, column));
        let before = after.checked_sub(1).map(|index| self.runs[index]);
        before.is_some_and(|run| run.line == line && column < run.end)
    }

    /// The values of `image` in the region, run by run in raster order; `image` has the shape of the region.
    pub fn runs<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = &'a [f32]> + 'a {
        let n_columns = self.shape[2];
        self.runs.iter().map(move |run| {
            &image.values()[run.line * n_columns + run.start..run.line * n_columns + run.end]
        })
    }
}

/// What is known of a row: which voxels may still be taken.
struct Lines<'a, R> {
    rule: &'a mut R,
    open: Vec<u64>,
    is_known: Vec<bool>,
    shape: [usize; 3],
    words_a_row: usize,
}

impl<R: Rule> Lines<'_, R> {
    /// The open voxels of a row, marked by the rule on first sight.
    fn open(&mut self, line: usize) -> &mut [u64] {
        let n_rows = self.shape[1];
        let open = &mut self.open[line * self.words_a_row..(line + 1) * self.words_a_row];
        if !self.is_known[line] {
            self.is_known[line] = true;
            self.rule.mark(line / n_rows, line % n_rows, open);
        }
        open
    }

    /// Takes all runs of a row that meet `start..end`, and adds them to `runs`.
    fn take(&mut self, line: usize, start: usize, end: usize, runs: &mut Vec<Run>) {
        let open = self.open(line);
        let mut from = start;
        while let Some(place) = first_set(open, from, end) {
            let [start, end] = run_around(open, place);
            clear(open, start, end);
            runs.push(Run { line, start, end });
            from = end;
        }
    }
}

/// The voxels that `rule` allows and that are connected to a seed through such voxels.
pub(super) fn flood(
    shape: [usize; 3],
    seeds: &[[usize; 3]],
    connectivity: Connectivity,
    rule: &mut impl Rule,
) -> Region {
    let [n_slices, n_rows, n_columns] = shape;
    let (n_lines, words_a_row) = (n_slices * n_rows, n_columns.div_ceil(64));
    let mut lines = Lines {
        rule,
        open: vec![0; n_lines * words_a_row],
        is_known: vec![false; n_lines],
        shape,
        words_a_row,
    };
    let mut runs: Vec<Run> = Vec::new();
    for &[slice, row, column] in seeds {
        lines.take(slice * n_rows + row, column, column + 1, &mut runs);
    }
    // Runs are both the queue and the result.
    let mut done = 0;
    while let Some(&run) = runs.get(done) {
        done += 1;
        let (slice, row) = (run.line / n_rows, run.line % n_rows);
        for (other_slice, other_row, n_axes) in neighbours(slice, row, n_slices, n_rows) {
            if let Some(reach) = reach(connectivity, n_axes) {
                let start = run.start.saturating_sub(reach);
                let end = (run.end + reach).min(n_columns);
                lines.take(other_slice * n_rows + other_row, start, end, &mut runs);
            }
        }
    }
    runs.sort_unstable();
    let n_voxels = runs.iter().map(|run| run.end - run.start).sum();
    Region { shape, runs, n_voxels, mask: OnceLock::new() }
}

/// How far to the side a run may meet one of another row, of which `n_axes` indices differ.
fn reach(connectivity: Connectivity, n_axes: usize) -> Option<usize> {
    match (connectivity, n_axes) {
        (Connectivity::Face, 1) | (Connectivity::Edge, 2) => Some(0),
        (Connectivity::Face, _) => None,
        (Connectivity::Edge | Connectivity::Vertex, _) => Some(1),
    }
}

/// The up to eight rows around a row, and along how many axes they lie apart.
fn neighbours(
    slice: usize,
    row: usize,
    n_slices: usize,
    n_rows: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    const AROUND: [[usize; 2]; 8] =
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1], [2, 2]];
    AROUND.into_iter().filter_map(move |[up, along]| {
        let other_slice = (slice + up).checked_sub(1).filter(|&slice| slice < n_slices)?;
        let other_row = (row + along).checked_sub(1).filter(|&row| row < n_rows)?;
        Some((other_slice, other_row, usize::from(up != 1) + usize::from(along != 1)))
    })
}

#[cfg(test)]
mod tests {
    use datasets::Stream;

    use super::*;
    use crate::{bits::pack, components::Components};

    struct Given<'a>(&'a Mask);

    impl Rule for Given<'_> {
        fn mark(&mut self, slice: usize, row: usize, inside: &mut [u64]) {
            pack(self.0.row(slice, row), inside);
        }
    }

    #[test]
    fn equals_the_component_of_the_seed() {
        let mut stream = Stream::new(11, "test.flood", &[]);
        for _ in 0..300 {
            let longest = if stream.below(2) == 0 { 8 } else { 200 };
            let shape = [1 + stream.below(5), 1 + stream.below(8), 1 + stream.below(longest)];
            let density = if longest == 8 { 0.9 } else { 0.995 };
            let density = stream.between(0.2, density);
            let mask = Grid::from_fn(shape, |_| stream.uniform() < density);
            let seed = shape.map(|length| stream.below(length));
            for connectivity in [Connectivity::Face, Connectivity::Edge, Connectivity::Vertex] {
                let region = flood(shape, &[seed], connectivity, &mut Given(&mask));
                let components = Components::find(&mask, connectivity);
                let expected = match components.labels().get(seed) {
                    0 => Mask::filled(shape, false),
                    label => components.mask_of(label as usize - 1),
                };
                assert_eq!(region.mask(), &expected, "{connectivity:?} {seed:?}");
                assert_eq!(region.n_voxels(), expected.area());
                let place = shape.map(|length| stream.below(length));
                assert_eq!(region.contains(place), expected.get(place));
            }
        }
    }
}
