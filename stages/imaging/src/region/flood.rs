//! Flooding by runs: whole stretches of a row are taken at once, and a row is looked at when the flood first reaches it.
//!
//! Source: the scan-line fill of Heckbert, "A seed fill algorithm" (Graphics Gems, 1990), in three dimensions.

use datasets::{Grid, Image, Mask};

use crate::components::Connectivity;

/// Says which voxels of a row may belong to a region.
pub(super) trait Rule {
    /// Fills `inside` for one row.
    fn mark(&self, slice: usize, row: usize, inside: &mut [bool]);
}

/// A connected set of voxels.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    mask: Mask,
    runs: Vec<Run>,
    n_voxels: usize,
}

/// Voxels that follow each other in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    line: usize,
    start: usize,
    end: usize,
}

impl Region {
    /// The region as a mask of the volume's shape.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Gives the mask up.
    pub fn into_mask(self) -> Mask {
        self.mask
    }

    /// Number of voxels.
    pub fn n_voxels(&self) -> usize {
        self.n_voxels
    }

    /// Whether a voxel belongs.
    ///
    /// # Panics
    /// When the place lies outside the volume.
    pub fn contains(&self, place: [usize; 3]) -> bool {
        self.mask.get(place)
    }

    /// The values of `image` in the region, run by run in raster order; `image` has the shape of the region.
    pub fn runs<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = &'a [f32]> + 'a {
        let n_columns = self.mask.n_columns();
        self.runs.iter().map(move |run| {
            &image.values()[run.line * n_columns + run.start..run.line * n_columns + run.end]
        })
    }
}

/// What is known of a row: which voxels may still be taken.
struct Lines<'a, R> {
    rule: &'a R,
    open: Vec<bool>,
    is_known: Vec<bool>,
    shape: [usize; 3],
}

impl<R: Rule> Lines<'_, R> {
    /// The open voxels of a row, marked by the rule on first sight.
    fn open(&mut self, line: usize) -> &mut [bool] {
        let [_, n_rows, n_columns] = self.shape;
        let open = &mut self.open[line * n_columns..(line + 1) * n_columns];
        if !self.is_known[line] {
            self.is_known[line] = true;
            self.rule.mark(line / n_rows, line % n_rows, open);
        }
        open
    }

    /// Takes all runs of a row that meet `start..end`, and hands them to `found`.
    fn take(&mut self, line: usize, start: usize, end: usize, mut found: impl FnMut(Run)) {
        let open = self.open(line);
        let mut from = start;
        while let Some(gap) = open[from..end].iter().position(|&is_open| is_open) {
            let first = from + gap;
            let before = open[..first].iter().rposition(|&is_open| !is_open);
            let after = open[first..].iter().position(|&is_open| !is_open);
            let run = Run {
                line,
                start: before.map_or(0, |place| place + 1),
                end: after.map_or(open.len(), |length| first + length),
            };
            open[run.start..run.end].fill(false);
            found(run);
            from = run.end.min(end);
        }
    }
}

/// The voxels that `rule` allows and that are connected to a seed through such voxels.
pub(super) fn flood(
    shape: [usize; 3],
    seeds: &[[usize; 3]],
    connectivity: Connectivity,
    rule: &impl Rule,
) -> Region {
    let [n_slices, n_rows, n_columns] = shape;
    let n_lines = n_slices * n_rows;
    let mut lines = Lines {
        rule,
        open: vec![false; n_lines * n_columns],
        is_known: vec![false; n_lines],
        shape,
    };
    let mut mask = vec![false; n_lines * n_columns];
    let mut runs: Vec<Run> = Vec::new();
    for &[slice, row, column] in seeds {
        lines.take(slice * n_rows + row, column, column + 1, |run| runs.push(run));
    }
    // Runs are both the queue and the result.
    let mut done = 0;
    while let Some(&run) = runs.get(done) {
        done += 1;
        mask[run.line * n_columns + run.start..run.line * n_columns + run.end].fill(true);
        let (slice, row) = (run.line / n_rows, run.line % n_rows);
        for (other_slice, other_row, n_axes) in neighbours(slice, row, n_slices, n_rows) {
            if let Some(reach) = reach(connectivity, n_axes) {
                let start = run.start.saturating_sub(reach);
                let end = (run.end + reach).min(n_columns);
                lines.take(other_slice * n_rows + other_row, start, end, |run| runs.push(run));
            }
        }
    }
    runs.sort_unstable();
    let n_voxels = runs.iter().map(|run| run.end - run.start).sum();
    let mask = Grid::new(shape, mask).expect("a value a voxel");
    Region { mask, runs, n_voxels }
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
    use crate::components::Components;

    struct Given<'a>(&'a Mask);

    impl Rule for Given<'_> {
        fn mark(&self, slice: usize, row: usize, inside: &mut [bool]) {
            inside.copy_from_slice(self.0.row(slice, row));
        }
    }

    #[test]
    fn equals_the_component_of_the_seed() {
        let mut stream = Stream::new(11, "test.flood", &[]);
        for _ in 0..300 {
            let shape = [1 + stream.below(5), 1 + stream.below(8), 1 + stream.below(8)];
            let density = stream.between(0.2, 0.9);
            let mask = Grid::from_fn(shape, |_| stream.uniform() < density);
            let seed = shape.map(|length| stream.below(length));
            for connectivity in [Connectivity::Face, Connectivity::Edge, Connectivity::Vertex] {
                let region = flood(shape, &[seed], connectivity, &Given(&mask));
                let components = Components::find(&mask, connectivity);
                let expected = match components.labels().get(seed) {
                    0 => Mask::filled(shape, false),
                    label => components.mask_of(label as usize - 1),
                };
                assert_eq!(region.mask(), &expected, "{connectivity:?} {seed:?}");
                assert_eq!(region.n_voxels(), expected.area());
            }
        }
    }
}
