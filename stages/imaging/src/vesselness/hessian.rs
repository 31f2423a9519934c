//! Second differences along a row, a block of voxels at a time.
//!
//! Source: the three-point differences of ITK's `HessianImageFilter`; edges repeat the outermost voxel.
//! Cost: 24 sums and products a voxel; nothing but a block of 64 voxels is stored.

use datasets::Image;

/// Voxels of a block.
pub(super) const BLOCK: usize = 64;

/// The six second derivatives of a block of voxels of one row.
pub(super) struct Hessian {
    /// Along slices, rows and columns twice.
    pub(super) diagonal: [[f32; BLOCK]; 3],
    /// Slices and rows, slices and columns, rows and columns.
    pub(super) mixed: [[f32; BLOCK]; 3],
}

impl Hessian {
    pub(super) fn zero() -> Self {
        Self { diagonal: [[0.0; BLOCK]; 3], mixed: [[0.0; BLOCK]; 3] }
    }

    /// Squared Frobenius norm of every voxel of the block: the sum of the squared eigenvalues.
    pub(super) fn squared_norms(&self) -> [f32; BLOCK] {
        let mut norms = [0.0; BLOCK];
        for (place, norm) in norms.iter_mut().enumerate() {
            let [zz, yy, xx] = [0, 1, 2].map(|axis| self.diagonal[axis][place]);
            let [zy, zx, yx] = [0, 1, 2].map(|axis| self.mixed[axis][place]);
            *norm = zz * zz + yy * yy + xx * xx + 2.0 * (zy * zy + zx * zx + yx * yx);
        }
        norms
    }
}

/// The row of a voxel and its eight neighbours, `[slice before, same, after][row before, same, after]`.
pub(super) struct Rows<'a>([[&'a [f32]; 3]; 3]);

impl<'a> Rows<'a> {
    pub(super) fn of(image: &'a Image, slice: usize, row: usize) -> Self {
        let [n_slices, n_rows, _] = image.shape();
        let around = |place: usize, length: usize| {
            [place.saturating_sub(1), place, (place + 1).min(length - 1)]
        };
        let rows = around(row, n_rows);
        Self(around(slice, n_slices).map(|slice| rows.map(|row| image.row(slice, row))))
    }

    /// Fills `hessian` for the voxels from `first` on; `scale` is `1 / (spacing_i * spacing_j)` times what is wanted.
    pub(super) fn differences(&self, first: usize, scale: &[[f32; 3]; 3], hessian: &mut Hessian) {
        let length = self.0[1][1].len();
        let width = BLOCK.min(length - first);
        let mut padded = [[[0.0_f32; BLOCK + 2]; 3]; 3];
        for (rows, padded) in self.0.iter().zip(&mut padded) {
            for (row, padded) in rows.iter().zip(padded) {
                padded[1..=width].copy_from_slice(&row[first..first + width]);
                padded[0] = row[first.saturating_sub(1)];
                padded[width + 1] = row[(first + width).min(length - 1)];
            }
        }
        let [before, same, after] = &padded;
        let [zz, yy, xx] = &mut hessian.diagonal;
        let [zy, zx, yx] = &mut hessian.mixed;
        for i in 0..BLOCK {
            let centre = 2.0 * same[1][i + 1];
            zz[i] = (before[1][i + 1] + after[1][i + 1] - centre) * scale[0][0];
            yy[i] = (same[0][i + 1] + same[2][i + 1] - centre) * scale[1][1];
            xx[i] = (same[1][i] + same[1][i + 2] - centre) * scale[2][2];
            let cross = before[0][i + 1] + after[2][i + 1] - before[2][i + 1] - after[0][i + 1];
            zy[i] = 0.25 * cross * scale[0][1];
            let cross = before[1][i] + after[1][i + 2] - before[1][i + 2] - after[1][i];
            zx[i] = 0.25 * cross * scale[0][2];
            let cross = same[0][i] + same[2][i + 2] - same[0][i + 2] - same[2][i];
            yx[i] = 0.25 * cross * scale[1][2];
        }
    }
}
