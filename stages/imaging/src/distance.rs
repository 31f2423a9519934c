//! Exact squared Euclidean distances to a mask, in linear time and with a spacing per axis.
//!
//! Source: Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions", Theory of Computing 8 (2012);
//! the first axis is a two-way scan as in Meijster et al. (2000), which runs over whole lines at once.
//! Randomness: none. Cost: one scan and at most two lower envelopes, 8 bytes a voxel.
//! Distances are between voxel centres, so with spacing 1 the squares are exact integers.

use datasets::{Grid, Mask};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Columns that are gathered together when a pass runs along rows: one cache line of `f64`.
const TILE: usize = 8;

/// What lies beyond the edge of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Border {
    /// Nothing is known: an object is not eroded from the edge of the image (the rule of SciPy).
    #[default]
    Unknown,
    /// Background: an object that touches the edge of the image is eroded from there too.
    Background,
}

/// Squared distance of every voxel to the nearest foreground voxel of `mask`.
///
/// `spacing` is positive, as `[slice, row, column]`; distances are in its unit, squared. Foreground voxels have 0;
/// an empty mask gives infinity everywhere.
///
/// # Examples
/// ```
/// # use datasets::mask;
/// let squared = imaging::distance::squared_distance(&mask!["# . .", ". . ."], [1.0, 1.0, 1.0]);
/// assert_eq!(squared.values(), [0.0, 1.0, 4.0, 1.0, 2.0, 5.0]);
/// ```
pub fn squared_distance(mask: &Mask, spacing: [f64; 3]) -> Grid<f64> {
    let mut field = leading_axes(mask, spacing);
    let [_, n_rows, n_columns] = mask.shape();
    if n_columns < 2 {
        return field;
    }
    let weight = spacing[2] * spacing[2];
    each_plane(&mut field, n_rows * n_columns, |plane, envelope| {
        for line in plane.chunks_exact_mut(n_columns) {
            envelope.lower(line, weight);
        }
    });
    field
}

/// Squared distance of every voxel to the nearest background voxel of `mask`; background has 0.
///
/// With [`Border::Background`] the voxels just outside the image count as background along every axis longer than
/// 1; with [`Border::Unknown`] a full mask gives infinity everywhere.
pub fn squared_distance_to_background(mask: &Mask, spacing: [f64; 3], border: Border) -> Grid<f64> {
    let mut field = squared_distance(&mask.map(|&inside| !inside), spacing);
    if border == Border::Background {
        let shape = field.shape();
        let mut outside =
            Grid::from_fn(shape, |place| squared_distance_to_edge(place, shape, spacing));
        for (value, edge) in field.values_mut().iter_mut().zip(outside.values_mut()) {
            *value = value.min(*edge);
        }
    }
    field
}

/// Squared distance to the nearest voxel outside the image, infinity when all axes have length 1.
fn squared_distance_to_edge(place: [usize; 3], shape: [usize; 3], spacing: [f64; 3]) -> f64 {
    (0..3)
        .filter(|&axis| shape[axis] > 1)
        .map(|axis| {
            let steps = (place[axis] + 1).min(shape[axis] - place[axis]);
            (steps as f64 * spacing[axis]).powi(2)
        })
        .fold(f64::INFINITY, f64::min)
}

/// Answers distances to a mask at single places, without the last pass of the transform.
///
/// Building costs one scan in 2-D; a query walks along its row until the lateral distance alone exceeds the best.
pub(crate) struct DistanceQuery {
    field: Grid<f64>,
    column_weight: f64,
}

impl DistanceQuery {
    /// Prepares distances to the foreground of `mask`.
    pub(crate) fn new(mask: &Mask, spacing: [f64; 3]) -> Self {
        Self { field: leading_axes(mask, spacing), column_weight: spacing[2] * spacing[2] }
    }

    /// Squared distance from a voxel to the nearest foreground; infinity when the mask is empty.
    pub(crate) fn squared_distance_at(&self, [slice, row, column]: [usize; 3]) -> f64 {
        let line = self.field.row(slice, row);
        let mut best = line[column];
        for steps in 1..line.len() {
            let lateral = self.column_weight * (steps * steps) as f64;
            if lateral >= best {
                break;
            }
            if let Some(left) = column.checked_sub(steps) {
                best = best.min(lateral + line[left]);
            }
            if let Some(&right) = line.get(column + steps) {
                best = best.min(lateral + right);
            }
        }
        best
    }
}

/// Squared distance to the nearest foreground voxel *of the same column index*: all axes but the last.
fn leading_axes(mask: &Mask, spacing: [f64; 3]) -> Grid<f64> {
    let [n_slices, n_rows, n_columns] = mask.shape();
    if n_slices == 1 {
        return scan(mask, n_columns, spacing[1]);
    }
    let mut field = scan(mask, n_rows * n_columns, spacing[0]);
    if n_rows > 1 && n_columns > 0 {
        let weight = spacing[1] * spacing[1];
        each_plane(&mut field, n_rows * n_columns, |plane, envelope| {
            lower_along_rows(plane, n_columns, weight, envelope);
        });
    }
    field
}

/// Two-way scan along the first axis, whose lines hold `line` voxels each and lie `step` apart.
fn scan(mask: &Mask, line: usize, step: f64) -> Grid<f64> {
    let mut field = mask.map(|&inside| if inside { 0.0 } else { f64::INFINITY });
    if line == 0 {
        return field;
    }
    let values = field.values_mut();
    let mut previous = 0;
    for start in (line..values.len()).step_by(line) {
        let (done, rest) = values.split_at_mut(start);
        relax(&mut rest[..line], &done[previous..]);
        previous = start;
    }
    for start in (line..values.len()).step_by(line).rev() {
        let (rest, done) = values.split_at_mut(start);
        relax(&mut rest[start - line..], &done[..line]);
    }
    for value in values {
        *value = (*value * step).powi(2);
    }
    field
}

/// Lowers each count to one more than its neighbour's.
fn relax(counts: &mut [f64], neighbours: &[f64]) {
    for (count, &neighbour) in counts.iter_mut().zip(neighbours) {
        let through = neighbour + 1.0;
        *count = if through < *count { through } else { *count };
    }
}

/// Runs `pass` on every slice; slices are independent, so the result does not depend on the number of threads.
fn each_plane(
    field: &mut Grid<f64>,
    plane: usize,
    pass: impl Fn(&mut [f64], &mut Envelope) + Sync,
) {
    if field.values().is_empty() {
        return;
    }
    if field.n_slices() == 1 {
        pass(field.values_mut(), &mut Envelope::default());
    } else {
        field.values_mut().par_chunks_mut(plane).for_each_init(
            Envelope::default,
            |envelope, values| {
                pass(values, envelope);
            },
        );
    }
}

/// Lower envelope down every column of one slice, a tile of columns at a time.
fn lower_along_rows(plane: &mut [f64], n_columns: usize, weight: f64, envelope: &mut Envelope) {
    let n_rows = plane.len() / n_columns;
    let mut tile = vec![0.0; n_rows * TILE];
    for first in (0..n_columns).step_by(TILE) {
        let width = TILE.min(n_columns - first);
        for (row, line) in plane.chunks_exact(n_columns).enumerate() {
            for (offset, &value) in line[first..first + width].iter().enumerate() {
                tile[offset * n_rows + row] = value;
            }
        }
        for line in tile.chunks_exact_mut(n_rows).take(width) {
            envelope.lower(line, weight);
        }
        for (row, line) in plane.chunks_exact_mut(n_columns).enumerate() {
            for (offset, value) in line[first..first + width].iter_mut().enumerate() {
                *value = tile[offset * n_rows + row];
            }
        }
    }
}

/// One parabola of the envelope and the place from which it is the lowest.
#[derive(Clone, Copy, Debug)]
struct Parabola {
    place: f64,
    height: f64,
    from: f64,
}

/// Scratch of the lower envelope, reused from line to line.
#[derive(Debug, Default)]
struct Envelope {
    parabolas: Vec<Parabola>,
}

impl Envelope {
    /// Replaces `line[i]` by the minimum over `j` of `line[j] + weight * (i - j)^2`.
    fn lower(&mut self, line: &mut [f64], weight: f64) {
        self.build(line, weight);
        let Some((&first, rest)) = self.parabolas.split_first() else {
            return;
        };
        let mut active = first;
        let mut waiting = rest.iter();
        let mut next = waiting.next();
        for (index, value) in line.iter_mut().enumerate() {
            let place = index as f64;
            while let Some(parabola) = next
                && parabola.from < place
            {
                active = *parabola;
                next = waiting.next();
            }
            let offset = place - active.place;
            *value = active.height + weight * offset * offset;
        }
    }

    /// Keeps the parabolas that are lowest somewhere on the line; infinite heights have none.
    fn build(&mut self, line: &[f64], weight: f64) {
        self.parabolas.clear();
        let end = line.len() as f64;
        let half = 0.5 / weight;
        for (index, &height) in line.iter().enumerate() {
            if height == f64::INFINITY {
                continue;
            }
            let place = index as f64;
            let mut from = f64::NEG_INFINITY;
            while let Some(last) = self.parabolas.last() {
                let distance = place - last.place;
                from = (height - last.height) * half / distance + 0.5 * (place + last.place);
                if from > last.from {
                    break;
                }
                self.parabolas.pop();
                from = f64::NEG_INFINITY;
            }
            if from < end {
                self.parabolas.push(Parabola { place, height, from });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::{Stream, mask};

    /// Rounding of a sum of three squared products.
    const RELATIVE_ROUNDING: f64 = 1e-12;

    fn brute_force(mask: &Mask, spacing: [f64; 3]) -> Grid<f64> {
        let shape = mask.shape();
        Grid::from_fn(shape, |from| {
            let mut best = f64::INFINITY;
            let _ = Grid::from_fn(shape, |to| {
                if mask.get(to) {
                    let squared: f64 = (0..3)
                        .map(|axis| ((from[axis] as f64 - to[axis] as f64) * spacing[axis]).powi(2))
                        .sum();
                    best = best.min(squared);
                }
            });
            best
        })
    }

    fn random_mask(stream: &mut Stream) -> Mask {
        let shape = [1 + stream.below(5), 1 + stream.below(12), 1 + stream.below(12)];
        let density = stream.uniform().powi(3);
        Grid::from_fn(shape, |_| stream.uniform() < density)
    }

    #[test]
    fn equals_brute_force_for_random_masks_and_spacings() {
        let mut stream = Stream::new(1, "test.distance", &[]);
        for _ in 0..300 {
            let mask = random_mask(&mut stream);
            let spacing =
                [stream.between(0.3, 3.0), stream.between(0.3, 3.0), stream.between(0.3, 3.0)];
            for spacing in [[1.0; 3], spacing] {
                let expected = brute_force(&mask, spacing);
                let found = squared_distance(&mask, spacing);
                let query = DistanceQuery::new(&mask, spacing);
                let queried = Grid::from_fn(mask.shape(), |place| query.squared_distance_at(place));
                for ((&want, &got), &asked) in
                    expected.values().iter().zip(found.values()).zip(queried.values())
                {
                    assert!(
                        want == got || (want - got).abs() <= want * RELATIVE_ROUNDING,
                        "{want} {got}"
                    );
                    assert!(
                        want == asked || (want - asked).abs() <= want * RELATIVE_ROUNDING,
                        "{want} {asked}"
                    );
                    assert!(spacing != [1.0; 3] || want == got, "unit spacing is exact");
                }
            }
        }
    }

    #[test]
    fn an_empty_mask_is_infinitely_far() {
        let squared = squared_distance(&mask![". .", ". ."], [1.0; 3]);
        assert!(squared.values().iter().all(|&value| value == f64::INFINITY));
        let none = squared_distance(&Mask::filled([0, 4, 4], false), [1.0; 3]);
        assert!(none.values().is_empty());
    }

    #[test]
    fn the_border_counts_only_when_asked() {
        let full = mask!["# # #", "# # #", "# # #"];
        let unknown = squared_distance_to_background(&full, [1.0; 3], Border::Unknown);
        assert!(unknown.values().iter().all(|&value| value == f64::INFINITY));
        let counted = squared_distance_to_background(&full, [1.0; 3], Border::Background);
        assert_eq!(counted.values(), [1.0, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
