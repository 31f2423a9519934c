//! Masks of small things in large volumes, as the runs of voxels that they have in rows.
//!
//! Randomness: none. Cost: memory for the rows that a thing reaches; groups sort all runs once.

use std::collections::BTreeMap;

use datasets::Mask;

/// Neighbouring voxels of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    slice: usize,
    row: usize,
    start: usize,
    end: usize,
}

/// The voxels of a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Adds the foreground of a mask with one slice, whose first pixel lies at `first` in a slice of the volume that the
    /// thing has no voxel of so far.
    ///
    /// # Examples
    /// ```
    /// # use datasets::{Mask, mask}; use imaging::runs::Runs;
    /// let mut thing = Runs::default();
    /// thing.add(&mask!["# . #", "# # #"], 0, [0, 1]);
    /// let mut volume = Mask::filled([1, 3, 4], false);
    /// thing.draw(&mut volume);
    /// assert_eq!((thing.area(), volume), (5, mask![". # . #", ". # # #", ". . . ."]));
    /// ```
    pub fn add(&mut self, mask: &Mask, slice: usize, first: [usize; 2]) {
        for row in 0..mask.n_rows() {
            let values = mask.row(0, row);
            let mut column = 0;
            for part in values.chunk_by(|a, b| a == b) {
                let (start, end) = (first[1] + column, first[1] + column + part.len());
                if part[0] {
                    self.0.push(Run { slice, row: first[0] + row, start, end });
                }
                column += part.len();
            }
        }
    }

    /// Number of voxels.
    pub fn area(&self) -> usize {
        self.0.iter().map(|run| run.end - run.start).sum()
    }

    /// Sets the voxels to foreground in a volume and leaves the rest as it is.
    ///
    /// # Panics
    /// When the thing reaches out of the volume.
    pub fn draw(&self, volume: &mut Mask) {
        for &Run { slice, row, start, end } in &self.0 {
            let first = volume.index([slice, row, 0]);
            volume.values_mut()[first + start..first + end].fill(true);
        }
    }
}

/// Groups of things that share voxels, directly or through others: the number of each one's group, counted from 0 in the
/// order in which they first occur; `None` for a thing without voxels.
///
/// # Examples
/// ```
/// # use datasets::mask; use imaging::runs::{Runs, groups};
/// let thing = |column| {
///     let mut thing = Runs::default();
///     thing.add(&mask!["# #"], 0, [0, column]);
///     thing
/// };
/// let found = groups(&[thing(0), Runs::default(), thing(4), thing(1), thing(2)]);
/// assert_eq!(found, [Some(0), None, Some(1), Some(0), Some(0)]);
/// ```
pub fn groups(things: &[Runs]) -> Vec<Option<usize>> {
    let owned =
        things.iter().enumerate().flat_map(|(n, Runs(runs))| runs.iter().map(move |&r| (r, n)));
    let mut owned: Vec<(Run, usize)> = owned.collect();
    owned.sort_unstable();
    let mut parents: Vec<usize> = (0..things.len()).collect();
    // Of the runs so far in a row the one that reaches furthest; what overlaps another one overlaps it, too.
    let mut furthest: Option<(Run, usize)> = None;
    for (run, thing) in owned {
        match furthest {
            Some((before, other)) if overlap(before, run) => {
                let (a, b) = (root(&mut parents, other), root(&mut parents, thing));
                parents[a.max(b)] = a.min(b);
                if run.end > before.end {
                    furthest = Some((run, thing));
                }
            }
            _ => furthest = Some((run, thing)),
        }
    }
    let mut numbers = BTreeMap::new();
    let mut number = |thing: usize| {
        let n_known = numbers.len();
        *numbers.entry(root(&mut parents, thing)).or_insert(n_known)
    };
    let numbered = things.iter().enumerate();
    numbered.map(|(n, thing)| (thing.area() > 0).then(|| number(n))).collect()
}

/// Whether a run begins within the one before it.
fn overlap(before: Run, run: Run) -> bool {
    (before.slice, before.row) == (run.slice, run.row) && run.start < before.end
}

/// The first of all that a thing was joined with; ways to it are shortened.
fn root(parents: &mut [usize], mut thing: usize) -> usize {
    while parents[thing] != thing {
        parents[thing] = parents[parents[thing]];
        thing = parents[thing];
    }
    thing
}

#[cfg(test)]
mod tests {
    use datasets::{Grid, Stream};

    use super::*;

    fn runs_of(mask: &Mask, slice: usize) -> Runs {
        let mut runs = Runs::default();
        runs.add(mask, slice, [0, 0]);
        runs
    }

    #[test]
    fn a_mask_comes_back() {
        let mut stream = Stream::new(0, "test.runs.back", &[]);
        for _ in 0..50 {
            let mask = Grid::from_fn([1, 5, 9], |_| stream.below(3) > 0);
            let runs = runs_of(&mask, 0);
            let mut drawn = Mask::filled(mask.shape(), false);
            runs.draw(&mut drawn);
            assert_eq!((runs.area(), drawn), (mask.area(), mask));
        }
    }

    /// Groups by comparing every thing with every other, until nothing changes.
    fn compared(masks: &[Mask]) -> Vec<Option<usize>> {
        let share = |a: &Mask, b: &Mask| a.values().iter().zip(b.values()).any(|(&a, &b)| a && b);
        let mut groups: Vec<usize> = (0..masks.len()).collect();
        for _ in 0..masks.len() {
            for (a, b) in (0..masks.len()).flat_map(|a| (0..masks.len()).map(move |b| (a, b))) {
                if share(&masks[a], &masks[b]) {
                    let least = groups[a].min(groups[b]);
                    groups[a] = least;
                    groups[b] = least;
                }
            }
        }
        let is_drawn = |thing: &usize| !masks[*thing].is_empty();
        let mut firsts: Vec<usize> =
            (0..masks.len()).filter(is_drawn).map(|thing| groups[thing]).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let number = |thing: usize| firsts.partition_point(|&first| first < groups[thing]);
        (0..masks.len()).map(|thing| is_drawn(&thing).then(|| number(thing))).collect()
    }

    #[test]
    fn groups_are_those_of_comparing_all_with_all() {
        let mut stream = Stream::new(0, "test.runs.groups", &[]);
        for _ in 0..300 {
            let masks: Vec<Mask> = (0..7)
                .map(|_| {
                    let (row, start) = (stream.below(3), stream.below(12));
                    let end = start + stream.below(6);
                    Grid::from_fn([1, 4, 18], |[_, r, column]| {
                        (row..row + 2).contains(&r) && (start..end).contains(&column)
                    })
                })
                .collect();
            let things: Vec<Runs> = masks.iter().map(|mask| runs_of(mask, 0)).collect();
            assert_eq!(groups(&things), compared(&masks));
        }
        let one = Mask::filled([1, 2, 2], true);
        let found = groups(&[runs_of(&one, 0), runs_of(&one, 1)]);
        assert_eq!(found, [Some(0), Some(1)], "in other slices");
    }
}
