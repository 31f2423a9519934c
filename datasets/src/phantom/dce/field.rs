//! Smooth Gaussian random fields over a volume, evaluated row by row.
//!
//! White noise on a lattice is spread by a Gaussian along each axis; weights are scaled so that every voxel has
//! variance 1. Only the first two axes are spread beforehand, so a field costs little memory.

use crate::{Grid, Stream};

/// Lattice nodes of a standard deviation of the Gaussian.
const NODES: f64 = 1.5;
/// Standard deviations at which the Gaussian is cut off.
const REACH: f64 = 3.0;

/// A field of mean 0, variance 1 and correlation `exp(-d^2 / (4 l^2))` at distance `d`, for a length `l`.
pub(super) struct Field {
    spread: Grid<f32>,
    columns: Vec<(usize, Vec<f32>)>,
}

impl Field {
    pub(super) fn new(
        shape: [usize; 3],
        spacing: [f64; 3],
        length_mm: f64,
        mut stream: Stream,
    ) -> Self {
        let step = length_mm / NODES;
        let [slices, rows, columns] =
            [0, 1, 2].map(|axis| weights(shape[axis], spacing[axis], step));
        let nodes = [&slices, &rows, &columns]
            .map(|axis| axis.last().map_or(1, |(first, weights)| first + weights.len()));
        let noise = Grid::from_fn(nodes, |_| stream.normal() as f32);
        let along_rows = Grid::from_fn([nodes[0], shape[1], nodes[2]], |[slice, row, column]| {
            let (first, weights) = &rows[row];
            let near = weights.iter().enumerate();
            near.map(|(n, weight)| weight * noise.get([slice, first + n, column])).sum::<f32>()
        });
        let spread = Grid::from_fn([shape[0], shape[1], nodes[2]], |[slice, row, column]| {
            let (first, weights) = &slices[slice];
            let near = weights.iter().enumerate();
            near.map(|(n, weight)| weight * along_rows.get([first + n, row, column])).sum::<f32>()
        });
        Self { spread, columns }
    }

    /// The field at one voxel.
    pub(super) fn at(&self, [slice, row, column]: [usize; 3]) -> f32 {
        let (first, weights) = &self.columns[column];
        let line = &self.spread.row(slice, row)[*first..];
        weights.iter().zip(line).map(|(weight, value)| weight * value).sum()
    }
}

/// For each voxel of an axis the first lattice node that reaches it and the weights from there on.
fn weights(length: usize, spacing: f64, step: f64) -> Vec<(usize, Vec<f32>)> {
    let reach = REACH * NODES;
    let voxel = |place: usize| {
        let place = place as f64 * spacing / step + reach;
        let first = (place - reach).ceil();
        let last = (place + reach).floor();
        let nodes = (0..=(last - first) as usize).map(|n| first + n as f64);
        let raw: Vec<f64> =
            nodes.map(|node| (-0.5 * ((node - place) / NODES).powi(2)).exp()).collect();
        let norm = raw.iter().map(|weight| weight * weight).sum::<f64>().sqrt();
        (first as usize, raw.iter().map(|weight| (weight / norm) as f32).collect())
    };
    (0..length).map(voxel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variance_and_correlation_are_as_asked_for() {
        let (shape, spacing, length) = ([60, 60, 60], [1.4, 0.7, 0.7], 4.0);
        let (mut squares, mut products, mut n) = (0.0, 0.0, 0.0);
        for seed in 0..6 {
            let field = Field::new(shape, spacing, length, Stream::new(seed, "test.field", &[]));
            for slice in 0..60 {
                for row in 0..60 {
                    for column in 0..50 {
                        let here = f64::from(field.at([slice, row, column]));
                        let there = f64::from(field.at([slice, row, column + 8]));
                        squares += here * here;
                        products += here * there;
                        n += 1.0;
                    }
                }
            }
        }
        assert!((squares / n - 1.0).abs() < 0.1, "{}", squares / n);
        let expected = (-(5.6_f64.powi(2)) / (4.0 * length * length)).exp();
        assert!((products / squares - expected).abs() < 0.06, "{} {expected}", products / squares);
    }
}
