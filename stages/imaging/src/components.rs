//! Connected components of a mask, numbered in raster order.
//!
//! Source: union-find over runs (He, Chao and Suzuki, 2008). Randomness: none. Cost: one pass over the voxels and
//! one over the runs. Components with equal sizes keep raster order everywhere.

use datasets::{Grid, Mask};

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
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    labels: Grid<u32>,
    sizes: Vec<usize>,
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

    /// Label of every voxel: 0 is background.
    pub fn labels(&self) -> &Grid<u32> {
        &self.labels
    }

    /// Indices of the components from the largest to the smallest; equal sizes stay in raster order.
    pub fn by_size(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.sizes.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.sizes[index]));
        order
    }

    /// Mask of one component; all background when `index` is not a component.
    pub fn mask_of(&self, index: usize) -> Mask {
        self.labels.map(|&label| label as usize == index + 1)
    }
}

/// Foreground voxels that follow each other in one line.
#[derive(Clone, Copy, Debug)]
struct Run {
    line: usize,
    start: usize,
    end: usize,
    parent: usize,
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
        for line in 0..n_slices * n_rows {
            starts.push(runs.len());
            let values = &mask.values()[line * n_columns..][..n_columns];
            let mut from = 0;
            while let Some(gap) = values[from..].iter().position(|&inside| inside) {
                let start = from + gap;
                let length =
                    values[start..].iter().position(|&inside| !inside).unwrap_or(n_columns - start);
                from = start + length;
                runs.push(Run { line, start, end: from, parent: runs.len() });
            }
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
        while self.runs[run].parent != run {
            let parent = self.runs[run].parent;
            self.runs[run].parent = self.runs[parent].parent;
            run = parent;
        }
        run
    }

    fn unite(&mut self, left: usize, right: usize) {
        let (left, right) = (self.root(left), self.root(right));
        self.runs[left.max(right)].parent = left.min(right);
    }

    fn label(mut self, shape: [usize; 3]) -> Components {
        let mut labels = Grid::filled(shape, 0_u32);
        let mut sizes: Vec<usize> = Vec::new();
        let mut label_of_root = vec![0_u32; self.runs.len()];
        for index in 0..self.runs.len() {
            let root = self.root(index);
            if root == index {
                sizes.push(0);
                label_of_root[root] =
                    u32::try_from(sizes.len()).expect("fewer components than 2^32");
            }
            let label = label_of_root[root];
            let Run { line, start, end, .. } = self.runs[index];
            sizes[label as usize - 1] += end - start;
            labels.values_mut()[line * shape[2] + start..line * shape[2] + end].fill(label);
        }
        Components { labels, sizes }
    }
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
