//! Inputs and results as NumPy files, so that other programs work on the same numbers and compare theirs with ours.

use std::{fs, io, path::Path};

use datasets::Grid;

/// Values that a NumPy file can hold.
pub(crate) trait Value: Copy {
    /// NumPy's name of the type.
    const KIND: &'static str;

    /// Adds the bytes, lowest first.
    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! values {
    ($($kind:literal $type:ty;)*) => {
        $(impl Value for $type {
            const KIND: &'static str = $kind;

            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        })*
    };
}

values! {
    "<u2" u16;
    "<f4" f32;
    "<f8" f64;
}

impl Value for bool {
    const KIND: &'static str = "|u1";

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
}

/// Writes a grid as `NAME.npy`.
pub(crate) fn write<T: Value>(folder: &Path, name: &str, grid: &Grid<T>) -> io::Result<()> {
    let [slices, rows, columns] = grid.shape();
    let header = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({slices}, {rows}, {columns}), }}",
        T::KIND
    );
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // Ten bytes come before the text, and together they fill lines of 64.
    let length = (header.len() + 11).next_multiple_of(64) - 10;
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.reserve(std::mem::size_of_val(grid.values()));
    grid.values().iter().for_each(|value| value.put(&mut bytes));
    fs::write(folder.join(format!("{name}.npy")), bytes)
}

/// Writes some numbers as `NAME.npy`.
pub(crate) fn write_numbers(folder: &Path, name: &str, numbers: &[f64]) -> io::Result<()> {
    let grid = Grid::from_fn([1, 1, numbers.len()], |[.., place]| numbers[place]);
    write(folder, name, &grid)
}
