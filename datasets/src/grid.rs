//! Dense arrays over `[slice, row, column]`: images, masks and maps share one type.
//!
//! A 2-D image is a grid with one slice, so every algorithm that allows it has one code path for 2-D and 3-D.

use thiserror::Error;

/// Dense array over `[slice, row, column]`, column fastest; 2-D has one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid<T> {
    shape: [usize; 3],
    values: Vec<T>,
}

/// Scalar image; the unit of its values is stated where it is made.
pub type Image = Grid<f32>;

/// Binary mask: `true` is the structure, `false` the background.
pub type Mask = Grid<bool>;

/// A number of values that does not fill the shape.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("shape {shape:?} as [slice, row, column] holds {expected} values: got {found}")]
pub struct ShapeError {
    /// The shape that was asked for.
    pub shape: [usize; 3],
    /// The number of values that the shape holds.
    pub expected: usize,
    /// The number of values that were given.
    pub found: usize,
}

impl<T> Grid<T> {
    /// Wraps `values`, which lie in `[slice, row, column]` order.
    ///
    /// # Errors
    /// [`ShapeError`] when the number of values differs from the product of the axes.
    pub fn new(shape: [usize; 3], values: Vec<T>) -> Result<Self, ShapeError> {
        let expected = shape.into_iter().fold(1, usize::saturating_mul);
        if values.len() == expected {
            Ok(Self { shape, values })
        } else {
            Err(ShapeError { shape, expected, found: values.len() })
        }
    }

    /// Builds a grid by calling `value` with each `[slice, row, column]`.
    pub fn from_fn(shape: [usize; 3], mut value: impl FnMut([usize; 3]) -> T) -> Self {
        let mut values = Vec::with_capacity(shape.iter().product());
        for slice in 0..shape[0] {
            for row in 0..shape[1] {
                for column in 0..shape[2] {
                    values.push(value([slice, row, column]));
                }
            }
        }
        Self { shape, values }
    }

    /// Axes as `[slice, row, column]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of slices; 1 in 2-D.
    pub fn n_slices(&self) -> usize {
        self.shape[0]
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.shape[1]
    }

    /// Number of columns.
    pub fn n_columns(&self) -> usize {
        self.shape[2]
    }

    /// All values in `[slice, row, column]` order.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// All values, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// Gives the values up.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    /// One row of a slice.
    ///
    /// # Panics
    /// When the place lies outside the grid.
    pub fn row(&self, slice: usize, row: usize) -> &[T] {
        let start = (slice * self.shape[1] + row) * self.shape[2];
        &self.values[start..start + self.shape[2]]
    }

    /// Position of a voxel in [`Grid::values`].
    pub fn index(&self, [slice, row, column]: [usize; 3]) -> usize {
        (slice * self.shape[1] + row) * self.shape[2] + column
    }

    /// Applies `change` to every value.
    pub fn map<U>(&self, change: impl FnMut(&T) -> U) -> Grid<U> {
        Grid { shape: self.shape, values: self.values.iter().map(change).collect() }
    }
}

impl<T: Copy> Grid<T> {
    /// A grid with the same value everywhere.
    pub fn filled(shape: [usize; 3], value: T) -> Self {
        Self { shape, values: vec![value; shape.iter().product()] }
    }

    /// Value at `[slice, row, column]`.
    ///
    /// # Panics
    /// When the place lies outside the grid.
    pub fn get(&self, place: [usize; 3]) -> T {
        self.values[self.index(place)]
    }

    /// Replaces the value at `[slice, row, column]`.
    ///
    /// # Panics
    /// When the place lies outside the grid.
    pub fn set(&mut self, place: [usize; 3], value: T) {
        let index = self.index(place);
        self.values[index] = value;
    }
}

impl Mask {
    /// Number of foreground voxels.
    pub fn area(&self) -> usize {
        // A byte counts a block of so many: several voxels are added at once.
        const BLOCK: usize = u8::MAX as usize;
        let count = |block: &[bool]| block.iter().map(|&inside| u8::from(inside)).sum::<u8>();
        self.values.chunks(BLOCK).map(|block| usize::from(count(block))).sum()
    }

    /// Whether no voxel is foreground.
    pub fn is_empty(&self) -> bool {
        let any = |block: &[bool]| block.iter().fold(false, |any, &inside| any | inside);
        !self.values.chunks(256).any(any)
    }
}

/// Draws a 2-D [`Mask`] as text, one string a row: `#` is foreground, `.` background, blanks are ignored.
///
/// # Examples
/// ```
/// let mask = datasets::mask!["# # .", ". # ."];
/// assert_eq!(mask.shape(), [1, 2, 3]);
/// assert_eq!(mask.area(), 3);
/// ```
#[macro_export]
macro_rules! mask {
    ($($row:literal),+ $(,)?) => {
        $crate::Mask::from_drawing(&[$($row),+])
    };
}

impl Mask {
    /// Reads the drawing of [`mask!`](crate::mask).
    ///
    /// # Panics
    /// When the rows differ in length: drawings are literals in tests and examples.
    pub fn from_drawing(rows: &[&str]) -> Self {
        let cells: Vec<Vec<bool>> = rows
            .iter()
            .map(|row| row.chars().filter(|c| !c.is_whitespace()).map(|c| c == '#').collect())
            .collect();
        let n_columns = cells.first().map_or(0, Vec::len);
        assert!(
            cells.iter().all(|row| row.len() == n_columns),
            "rows of a drawn mask have one length"
        );
        Self { shape: [1, cells.len(), n_columns], values: cells.concat() }
    }

    /// Draws the first slice as [`mask!`](crate::mask) reads it, one line a row.
    pub fn to_drawing(&self) -> String {
        (0..self.shape[1])
            .map(|row| {
                let cells: Vec<&str> =
                    self.row(0, row).iter().map(|&v| if v { "#" } else { "." }).collect();
                cells.join(" ")
            })
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn voxels_lie_column_first_then_row_then_slice() {
        let grid = Grid::from_fn([2, 3, 4], |[slice, row, column]| slice * 100 + row * 10 + column);
        assert_eq!(grid.get([1, 2, 3]), 123);
        assert_eq!(grid.values()[grid.index([1, 0, 2])], 102);
        assert_eq!(grid.row(1, 2), [120, 121, 122, 123]);
        assert_eq!(grid.map(|value| value % 10).row(0, 1), [0, 1, 2, 3]);
    }

    #[test]
    fn shapes_that_values_do_not_fill_are_refused() {
        let error = Image::new([1, 2, 3], vec![0.0; 5]).unwrap_err();
        assert_eq!(error, ShapeError { shape: [1, 2, 3], expected: 6, found: 5 });
        let error = Image::new([usize::MAX, 2, 3], Vec::new()).unwrap_err();
        assert_eq!(error.expected, usize::MAX);
    }

    #[test]
    fn drawings_come_back() {
        let drawn = mask!["# . #", ". # ."];
        assert_eq!(Mask::from_drawing(&drawn.to_drawing().lines().collect::<Vec<_>>()), drawn);
        assert_eq!((drawn.area(), drawn.is_empty()), (3, false));
        assert!(Mask::filled([1, 2, 2], false).is_empty());
    }
}
