//! Connected components of a mask, numbered in raster order.
//!
//! Source: union-find over runs (He, Chao and Suzuki, 2008). Randomness: none. Cost: one pass over the voxels and
//! one over the runs. Components with equal sizes keep raster order everywhere.

use std::{ops::Range, sync::OnceLock};

use datasets::{Grid, Mask};

use crate::bits::{each_run, pack};

/// Which voxels touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// Across faces: 4 neighbours in 2-D, 6 in 3-D.
    Face,
    /// Across faces and edges: 8 neighbours in 2-D, 18 in 3-D.
    Edge,
    /// Across faces, edges and vertices: 8 neighbours in 2-D, 26 in 3-D.
    Vertex,
}

impl Connectivity {
    /// How far two runs may lie apart in columns when their lines differ along `n_axes` axes; `None` never touches.
    fn reach(self, n_axes: usize) -> Option<usize> {
        match (self, n_axes) {
            (Self::Face, 1) | (Self::Edge, 2) => Some(0),
            (Self::Face, _) => None,
            (Self::Edge | Self::Vertex, _) => Some(1),
        }
    }
}

/// The components of a mask.
#[derive(Clone, Debug)]
pub struct Components {
    shape: [usize; 3],
    runs: Vec<Run>,
    starts: Vec<usize>,
    sizes: Vec<usize>,
    labels: OnceLock<Grid<u32>>,
}

impl PartialEq for Components {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from these.
        (self.shape, &self.runs) == (other.shape, &other.runs)
    }
}

impl Components {
    /// Finds the components of `mask`; an empty mask has none.
    ///
    /// # Examples
    /// ```
    /// # use datasets::mask; use imaging::components::{Components, Connectivity};
    /// let mask = mask!["# . #", ". # ."];
    /// assert_eq!(Components::find(&mask, Connectivity::Face).sizes(), [1, 1, 1]);
    /// assert_eq!(Components::find(&mask, Connectivity::Vertex).sizes(), [3]);
    /// ```
    pub fn find(mask: &Mask, connectivity: Connectivity) -> Self {
        let mut runs = Runs::of(mask);
        runs.join_lines(mask.shape(), connectivity);
        runs.label(mask.shape())
    }

    /// Number of components.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether the mask had no foreground.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Voxels of each component, in raster order of their first voxels; component `i` has label `i + 1`.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Label of every voxel: 0 is background. Drawn when they are first asked for.
    ///
    /// # Panics
    /// With more components than a `u32` counts, which no memory holds.
    pub fn labels(&self) -> &Grid<u32> {
        self.labels.get_or_init(|| {
            let mut labels = Grid::filled(self.shape, 0_u32);
            for run in &self.runs {
                labels.values_mut()[run.voxels(self.shape)].fill(label(run.set));
            }
            labels
        })
    }

    /// Indices of the components from the largest to the smallest; equal sizes stay in raster order.
    pub fn by_size(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.sizes.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.sizes[index]));
        order
    }

    /// Mask of one component; all background when `index` is not a component.
    pub fn mask_of(&self, index: usize) -> Mask {
        let mut mask = Grid::filled(self.shape, false);
        for voxels in self.ranges(index) {
            mask.values_mut()[voxels].fill(true);
        }
        mask
    }

    /// Places of the voxels of one component among the values of a grid, run by run.
    pub(crate) fn ranges(&self, index: usize) -> impl Iterator<Item = Range<usize>> {
        self.runs.iter().filter(move |run| run.set == index).map(|run| run.voxels(self.shape))
    }

    /// The component of a voxel; `None` in the background.
    pub(crate) fn at(&self, [slice, row, column]: [usize; 3]) -> Option<usize> {
        let line = slice * self.shape[1] + row;
        let runs = &self.runs[self.starts[line]..self.starts[line + 1]];
        runs.iter().find(|run| (run.start..run.end).contains(&column)).map(|run| run.set)
    }

    /// First voxel of every component in raster order, as `[slice, row, column]`.
    pub(crate) fn first_voxels(&self) -> Vec<[usize; 3]> {
        let mut first = Vec::with_capacity(self.len());
        for run in &self.runs {
            // Components are numbered by their first runs.
            if run.set == first.len() {
                let [slice, row] = [run.line / self.shape[1], run.line % self.shape[1]];
                first.push([slice, row, run.start]);
            }
        }
        first
    }
}

/// Foreground voxels that follow each other in one line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    line: usize,
    start: usize,
    end: usize,
    /// An earlier run of the same component, or itself; in the end the component.
    set: usize,
}

impl Run {
    /// Places of the voxels among the values of a grid.
    fn voxels(&self, shape: [usize; 3]) -> Range<usize> {
        let start = self.line * shape[2];
        start + self.start..start + self.end
    }
}

/// All runs of a mask in raster order, and where those of each line begin.
struct Runs {
    runs: Vec<Run>,
    starts: Vec<usize>,
}

impl Runs {
    fn of(mask: &Mask) -> Self {
        let [n_slices, n_rows, n_columns] = mask.shape();
        let mut runs: Vec<Run> = Vec::new();
        let mut starts = Vec::with_capacity(n_slices * n_rows + 1);
        let mut words = vec![0; n_columns.div_ceil(64)];
        for line in 0..n_slices * n_rows {
            starts.push(runs.len());
            pack(mask.row(line / n_rows, line % n_rows), &mut words);
            each_run(&words, |start, end| runs.push(Run { line, start, end, set: runs.len() }));
        }
        starts.push(runs.len());
        Self { runs, starts }
    }

    /// Joins every line with the lines before it that it may touch.
    fn join_lines(&mut self, [n_slices, n_rows, _]: [usize; 3], connectivity: Connectivity) {
        for slice in 0..n_slices {
            for row in 0..n_rows {
                let line = slice * n_rows + row;
                if row > 0 {
                    self.join(line, line - 1, connectivity.reach(1));
                }
                if slice > 0 {
                    let below = line - n_rows;
                    self.join(line, below, connectivity.reach(1));
                    if row > 0 {
                        self.join(line, below - 1, connectivity.reach(2));
                    }
                    if row + 1 < n_rows {
                        self.join(line, below + 1, connectivity.reach(2));
                    }
                }
            }
        }
    }

    /// Joins the touching runs of two lines by walking along both.
    fn join(&mut self, line: usize, other: usize, reach: Option<usize>) {
        let Some(reach) = reach else { return };
        let (mut left, left_end) = (self.starts[line], self.starts[line + 1]);
        let (mut right, right_end) = (self.starts[other], self.starts[other + 1]);
        while left < left_end && right < right_end {
            let (a, b) = (self.runs[left], self.runs[right]);
            if a.start < b.end + reach && b.start < a.end + reach {
                self.unite(left, right);
            }
            if a.end < b.end {
                left += 1;
            } else {
                right += 1;
            }
        }
    }

    /// The earliest run of the set, so that roots are in raster order.
    fn root(&mut self, mut run: usize) -> usize {
        while self.runs[run].set != run {
            let parent = self.runs[run].set;
            self.runs[run].set = self.runs[parent].set;
            run = parent;
        }
        run
    }

    fn unite(&mut self, left: usize, right: usize) {
        let (left, right) = (self.root(left), self.root(right));
        self.runs[left.max(right)].set = left.min(right);
    }

    fn label(mut self, shape: [usize; 3]) -> Components {
        let mut sizes: Vec<usize> = Vec::new();
        for index in 0..self.runs.len() {
            // Every run points to an earlier one, which has its component's number by now, or to itself.
            let Run { set, start, end, .. } = self.runs[index];
            let component = if set == index { sizes.len() } else { self.runs[set].set };
            if set == index {
                sizes.push(0);
            }
            sizes[component] += end - start;
            self.runs[index].set = component;
        }
        let Self { runs, starts } = self;
        Components { shape, runs, starts, sizes, labels: OnceLock::new() }
    }
}

/// Label of a component.
fn label(component: usize) -> u32 {
    u32::try_from(component + 1).expect("fewer components than 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::{Stream, mask};

    /// Flood fill over all offsets whose number of non-zero axes is at most `order`.
    fn flood_sizes(mask: &Mask, order: usize) -> Vec<usize> {
        let shape = mask.shape();
        let mut open = mask.clone();
        let mut sizes = Vec::new();
        while let Some(first) = open.values().iter().position(|&inside| inside) {
            let mut stack = vec![[
                first / (shape[1] * shape[2]),
                first / shape[2] % shape[1],
                first % shape[2],
            ]];
            open.values_mut()[first] = false;
            let mut size = 0;
            while let Some(place) = stack.pop() {
                size += 1;
                for code in 0..27_usize {
                    let offset = [code / 9, code / 3 % 3, code % 3];
                    if offset.iter().filter(|&&step| step != 1).count() > order {
                        continue;
                    }
                    let to = [0, 1, 2].map(|axis| (place[axis] + offset[axis]).wrapping_sub(1));
                    if (0..3).all(|axis| to[axis] < shape[axis]) && open.get(to) {
                        open.set(to, false);
                        stack.push(to);
                    }
                }
            }
            sizes.push(size);
        }
        sizes
    }

    #[test]
    fn equals_flood_fill_for_every_connectivity() {
        let mut stream = Stream::new(2, "test.components", &[]);
        for _ in 0..200 {
            let shape = [1 + stream.below(4), 1 + stream.below(9), 1 + stream.below(9)];
            let density = stream.uniform();
            let mask = Grid::from_fn(shape, |_| stream.uniform() < density);
            for (order, connectivity) in
                [(1, Connectivity::Face), (2, Connectivity::Edge), (3, Connectivity::Vertex)]
            {
                let found = Components::find(&mask, connectivity);
                assert_eq!(found.sizes(), flood_sizes(&mask, order), "{connectivity:?} {shape:?}");
                assert_eq!(found.labels().map(|&label| label > 0), mask);
            }
        }
    }

    #[test]
    fn equal_sizes_keep_raster_order() {
        let mask = mask!["# . # #", ". . . .", "# # . #"];
        let components = Components::find(&mask, Connectivity::Vertex);
        assert_eq!(components.by_size(), [1, 2, 0, 3]);
        assert_eq!(components.mask_of(2), mask![". . . .", ". . . .", "# # . ."]);
    }

    #[test]
    fn an_empty_mask_has_no_components() {
        let components = Components::find(&mask![". ."], Connectivity::Face);
        assert!(components.is_empty());
        assert_eq!(components.len(), 0);
    }
}
