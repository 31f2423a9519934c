//! Blurring by three box averages, which come close to a Gaussian at a cost that does not depend on its width.

use crate::Grid;

/// Blurs a grid with one slice by about a Gaussian of standard deviation `sigma_px`; edges are repeated.
///
pub(super) fn blur(grid: &mut Grid<f64>, sigma_px: f64) {
    let [_, n_rows, n_columns] = grid.shape();
    let half = half_width(sigma_px);
    let mut line = vec![0.0; n_rows.max(n_columns)];
    let mut sums = Vec::new();
    for values in grid.values_mut().chunks_exact_mut(n_columns) {
        for _ in 0..3 {
            line[..n_columns].copy_from_slice(values);
            average(&line[..n_columns], half, &mut sums, |place, value| values[place] = value);
        }
    }
    for column in 0..n_columns {
        for _ in 0..3 {
            let values = grid.values_mut();
            for row in 0..n_rows {
                line[row] = values[row * n_columns + column];
            }
            let put = |row: usize, value| values[row * n_columns + column] = value;
            average(&line[..n_rows], half, &mut sums, put);
        }
    }
}

/// Half width of a box with a third of the variance: whole pixels, and the weight of one more at each end.
fn half_width(sigma_px: f64) -> f64 {
    let variance = sigma_px * sigma_px / 3.0;
    // A box of `whole` pixels to each side has variance whole * (whole + 1) / 3.
    let whole = (((1.0 + 12.0 * variance).sqrt() - 1.0) / 2.0).floor();
    let inner = (2.0 * whole + 1.0) * (variance - whole * (whole + 1.0) / 3.0);
    whole + inner / (2.0 * ((whole + 1.0).powi(2) - variance))
}

/// One box average along a line, whose ends count by a fraction.
fn average(line: &[f64], half: f64, sums: &mut Vec<f64>, mut put: impl FnMut(usize, f64)) {
    let whole = half.floor() as usize;
    let rest = half - half.floor();
    let at = |place: isize| line[place.clamp(0, line.len() as isize - 1) as usize];
    let [reach, n] = [whole as isize, line.len() as isize];
    sums.clear();
    sums.push(0.0);
    let mut sum = 0.0;
    for place in -reach..n + reach {
        sum += at(place);
        sums.push(sum);
    }
    for place in 0..n {
        let inner = sums[(place + 2 * reach + 1) as usize] - sums[place as usize];
        let outer = at(place - reach - 1) + at(place + reach + 1);
        put(place as usize, (inner + rest * outer) / (2.0 * half + 1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_spreads_with_the_variance_asked_for() {
        for sigma in [0.4, 1.0, 2.5, 6.0] {
            let mut grid = Grid::filled([1, 81, 81], 0.0);
            grid.set([0, 40, 40], 1.0);
            blur(&mut grid, sigma);
            let sum: f64 = grid.values().iter().sum();
            let variance: f64 = (0..81)
                .map(|row| grid.row(0, row).iter().sum::<f64>() * (row as f64 - 40.0).powi(2))
                .sum();
            assert!((sum - 1.0).abs() < 1e-9);
            assert!((variance.sqrt() / sigma - 1.0).abs() < 1e-6, "{sigma}: {}", variance.sqrt());
        }
    }

    #[test]
    fn a_constant_stays_constant_at_the_edges() {
        let mut grid = Grid::filled([1, 5, 3], 2.0);
        blur(&mut grid, 7.0);
        assert!(grid.values().iter().all(|value| (value - 2.0).abs() < 1e-12));
    }
}
