//! Arrow columns made from and taken apart into plain values, with typed errors that name file, column and row.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array,
        ListArray, RecordBatch, StringArray, StructArray,
    },
    buffer::{BooleanBuffer, NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields},
};

use super::MAX_VOXELS;
use crate::{Affine, DatasetsError, Space, Spacing};

/// A list column without missing lists or elements.
pub(super) fn list_type(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, false)))
}

/// The `struct<bytes, path>` in which Hugging Face `datasets` looks for pictures.
pub(super) fn picture_type() -> DataType {
    DataType::Struct(picture_fields())
}

fn picture_fields() -> Fields {
    Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ])
}

/// A text column.
pub(super) fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// A column of one axis of shapes.
pub(super) fn axis(shapes: &[[usize; 3]], axis: usize) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(shapes.iter().map(|shape| shape[axis] as i32)))
}

/// A list column of shapes.
pub(super) fn shape_lists(shapes: &[[usize; 3]]) -> ArrayRef {
    let values = Int32Array::from_iter_values(shapes.iter().flatten().map(|&n| n as i32));
    lists(Arc::new(values), shapes.iter().map(|_| 3), None)
}

/// A list column of spacings.
pub(super) fn spacing_lists(spacings: &[Spacing]) -> ArrayRef {
    let values =
        Float64Array::from_iter_values(spacings.iter().flat_map(|spacing| spacing.millimetres()));
    lists(Arc::new(values), spacings.iter().map(|_| 3), None)
}

/// A list column of affines, row by row; `None` is a missing list.
pub(super) fn affine_lists(affines: &[Option<Affine>]) -> ArrayRef {
    let values = affines.iter().flatten().flat_map(|affine| affine.rows).flatten();
    let lengths = affines.iter().map(|affine| affine.map_or(0, |_| 12));
    let nulls: NullBuffer = affines.iter().map(Option::is_some).collect();
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    lists(Arc::new(Float64Array::from_iter_values(values)), lengths, nulls)
}

/// A text column of the spaces of affines; `None` is a missing text.
pub(super) fn spaces(affines: &[Option<Affine>]) -> ArrayRef {
    let names = affines.iter().map(|affine| affine.map(|affine| affine.space.name()));
    Arc::new(StringArray::from_iter(names))
}

/// A list column of voxels; `None` is a missing list.
pub(super) fn voxel_lists(voxels: &[Option<&[f32]>]) -> ArrayRef {
    let values = Float32Array::from_iter_values(
        voxels.iter().flatten().flat_map(|part| part.iter().copied()),
    );
    let lengths = voxels.iter().map(|part| part.map_or(0, <[f32]>::len));
    let nulls =
        voxels.iter().any(Option::is_none).then(|| voxels.iter().map(Option::is_some).collect());
    lists(Arc::new(values), lengths, nulls)
}

/// A list column of voxels of masks.
pub(super) fn bit_lists(voxels: &[&[bool]]) -> ArrayRef {
    let bits: BooleanBuffer = voxels.iter().flat_map(|part| part.iter().copied()).collect();
    lists(Arc::new(BooleanArray::new(bits, None)), voxels.iter().map(|part| part.len()), None)
}

fn lists(
    values: ArrayRef,
    lengths: impl Iterator<Item = usize>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let element = Arc::new(Field::new("element", values.data_type().clone(), false));
    Arc::new(ListArray::new(element, OffsetBuffer::from_lengths(lengths), values, nulls))
}

/// A column of pictures with the names that they had as files.
pub(super) fn picture_column(pictures: Vec<(String, Option<Vec<u8>>)>) -> ArrayRef {
    let bytes = BinaryArray::from_iter(pictures.iter().map(|(_, bytes)| bytes.as_deref()));
    let paths = StringArray::from_iter(
        pictures.iter().map(|(path, bytes)| bytes.as_ref().map(|_| path.as_str())),
    );
    let nulls: NullBuffer = pictures.iter().map(|(_, bytes)| bytes.is_some()).collect();
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    Arc::new(StructArray::new(picture_fields(), vec![Arc::new(bytes), Arc::new(paths)], nulls))
}

/// A batch of rows of a file that is not to be trusted.
pub(super) struct Rows<'a> {
    /// The file.
    pub(super) path: &'a Path,
    /// The rows.
    pub(super) batch: &'a RecordBatch,
    /// Place in the file of the first of them.
    pub(super) first: usize,
}

impl<'a> Rows<'a> {
    /// The column as an array of one type.
    fn typed<A: Array + 'static>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<&'a A, DatasetsError> {
        let array =
            self.batch.column_by_name(column).ok_or_else(|| DatasetsError::MissingColumn {
                path: self.path.to_owned(),
                column: column.to_owned(),
                found: self
                    .batch
                    .schema()
                    .fields()
                    .iter()
                    .map(|field| field.name().clone())
                    .collect(),
            })?;
        array
            .as_any()
            .downcast_ref()
            .ok_or_else(|| self.wrong_type(column, expected, array.data_type()))
    }

    fn wrong_type(&self, column: &str, expected: &'static str, found: &DataType) -> DatasetsError {
        DatasetsError::ColumnType {
            path: self.path.to_owned(),
            column: column.to_owned(),
            expected,
            found: found.to_string(),
        }
    }

    fn no_value(&self, column: &str, row: usize) -> DatasetsError {
        DatasetsError::NullValue {
            path: self.path.to_owned(),
            column: column.to_owned(),
            row: self.first + row,
        }
    }

    /// A text that must be there.
    pub(super) fn text(&self, column: &'static str, row: usize) -> Result<&'a str, DatasetsError> {
        self.text_or_none(column, row)?.ok_or_else(|| self.no_value(column, row))
    }

    /// A text that may be missing.
    pub(super) fn text_or_none(
        &self,
        column: &'static str,
        row: usize,
    ) -> Result<Option<&'a str>, DatasetsError> {
        let array: &StringArray = self.typed(column, "text")?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// A whole number that must be there.
    pub(super) fn integer(&self, column: &'static str, row: usize) -> Result<i64, DatasetsError> {
        let array: &arrow::array::Int64Array = self.typed(column, "int64")?;
        if array.is_valid(row) { Ok(array.value(row)) } else { Err(self.no_value(column, row)) }
    }

    /// The list of a row, `None` when it is missing.
    fn list<A: Array + Clone + 'static>(
        &self,
        column: &'static str,
        row: usize,
        expected: &'static str,
    ) -> Result<Option<A>, DatasetsError> {
        let lists: &ListArray = self.typed(column, expected)?;
        if !lists.is_valid(row) {
            return Ok(None);
        }
        let values = lists.value(row);
        if values.null_count() > 0 {
            return Err(self.no_value(column, row));
        }
        match values.as_any().downcast_ref::<A>() {
            Some(values) => Ok(Some(values.clone())),
            None => Err(self.wrong_type(column, expected, lists.data_type())),
        }
    }

    /// The shape of a case, checked to be small enough for [`MAX_VOXELS`].
    pub(super) fn shape(&self, case: &str, row: usize) -> Result<[usize; 3], DatasetsError> {
        let list: Int32Array = self
            .list("shape", row, "a list of int32")?
            .ok_or_else(|| self.no_value("shape", row))?;
        let found: Vec<i64> = list.values().iter().take(8).map(|&n| i64::from(n)).collect();
        let axes: Option<Vec<usize>> = found.iter().map(|&n| usize::try_from(n).ok()).collect();
        let shape: Option<[usize; 3]> = axes.and_then(|axes| axes.try_into().ok());
        shape
            .filter(|shape| {
                let product = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
                product.is_some_and(|n| (1..=MAX_VOXELS).contains(&n))
            })
            .ok_or_else(|| DatasetsError::CaseShape {
                path: self.path.to_owned(),
                case: case.to_owned(),
                found,
                limit: MAX_VOXELS,
            })
    }

    /// The spacing of a case.
    pub(super) fn spacing(&self, case: &str, row: usize) -> Result<Spacing, DatasetsError> {
        let list: Float64Array = self
            .list("spacing_mm", row, "a list of float64")?
            .ok_or_else(|| self.no_value("spacing_mm", row))?;
        let found = list.values();
        <[f64; 3]>::try_from(&found[..]).ok().and_then(|mm| Spacing::new(mm).ok()).ok_or_else(
            || DatasetsError::CaseSpacing {
                path: self.path.to_owned(),
                case: case.to_owned(),
                found: found.iter().take(8).copied().collect(),
            },
        )
    }

    /// The affine of a case; none where it is missing, as in all rows of a file that was written before there were any.
    pub(super) fn affine(&self, case: &str, row: usize) -> Result<Option<Affine>, DatasetsError> {
        const COLUMN: &str = "affine";
        if self.batch.column_by_name(COLUMN).is_none() {
            return Ok(None);
        }
        let Some(list) = self.list::<Float64Array>(COLUMN, row, "a list of float64")? else {
            return Ok(None);
        };
        let space = self.space(case, row)?;
        let found = list.values();
        match <[f64; 12]>::try_from(&found[..]) {
            Ok(numbers) if numbers.iter().all(|number| number.is_finite()) => {
                let rows =
                    [0, 1, 2].map(|row| [0, 1, 2, 3].map(|column| numbers[4 * row + column]));
                Ok(Some(Affine { rows, space }))
            }
            _ => Err(DatasetsError::CaseAffine {
                path: self.path.to_owned(),
                case: case.to_owned(),
                found: found.iter().take(16).copied().collect(),
            }),
        }
    }

    /// The space of the affine of a case; the usual one where it is missing, as in files that were written before there were
    /// others.
    fn space(&self, case: &str, row: usize) -> Result<Space, DatasetsError> {
        const COLUMN: &str = "space";
        let is_there = self.batch.column_by_name(COLUMN).is_some();
        if !is_there || self.text_or_none(COLUMN, row)?.is_none() {
            return Ok(Space::default());
        }
        self.word(COLUMN, case, row, &Space::ALL.map(|space| (space.name(), space)))
    }

    /// Floating-point voxels, as many as the shape needs; `None` when the list is missing.
    pub(super) fn voxels(
        &self,
        column: &'static str,
        case: &str,
        shape: [usize; 3],
        row: usize,
    ) -> Result<Option<Vec<f32>>, DatasetsError> {
        let Some(list) = self.list::<Float32Array>(column, row, "a list of float32")? else {
            return Ok(None);
        };
        self.check_count(column, case, shape, list.len())?;
        Ok(Some(list.values().to_vec()))
    }

    /// Voxels of a mask, as many as the shape needs.
    pub(super) fn bits(
        &self,
        column: &'static str,
        case: &str,
        shape: [usize; 3],
        row: usize,
    ) -> Result<Vec<bool>, DatasetsError> {
        let list: BooleanArray = self
            .list(column, row, "a list of boolean")?
            .ok_or_else(|| self.no_value(column, row))?;
        self.check_count(column, case, shape, list.len())?;
        Ok(unpacked(list.values()))
    }

    fn check_count(
        &self,
        column: &'static str,
        case: &str,
        shape: [usize; 3],
        found: usize,
    ) -> Result<(), DatasetsError> {
        let expected = shape.iter().product();
        if found == expected {
            return Ok(());
        }
        Err(DatasetsError::VoxelCount {
            path: self.path.to_owned(),
            case: case.to_owned(),
            column,
            shape,
            expected,
            found,
        })
    }

    /// One of a few known words.
    pub(super) fn word<W: Copy>(
        &self,
        column: &'static str,
        case: &str,
        row: usize,
        known: &[(&str, W)],
    ) -> Result<W, DatasetsError> {
        let found = self.text(column, row)?;
        known.iter().find(|(name, _)| *name == found).map(|&(_, word)| word).ok_or_else(|| {
            DatasetsError::UnknownWord {
                path: self.path.to_owned(),
                column,
                case: case.to_owned(),
                known: known.iter().map(|(name, _)| (*name).to_owned()).collect(),
                found: found.to_owned(),
            }
        })
    }
}

/// The bits of a mask as voxels.
fn unpacked(bits: &BooleanBuffer) -> Vec<bool> {
    /// Every byte as eight voxels, lowest bit first.
    const VOXELS: [[bool; 8]; 256] = {
        let mut table = [[false; 8]; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut bit = 0;
            while bit < 8 {
                table[byte][bit] = byte >> bit & 1 == 1;
                bit += 1;
            }
            byte += 1;
        }
        table
    };
    if !bits.offset().is_multiple_of(8) {
        return bits.iter().collect();
    }
    let bytes = &bits.values()[bits.offset() / 8..][..bits.len().div_ceil(8)];
    let mut voxels = Vec::with_capacity(8 * bytes.len());
    bytes.iter().for_each(|&byte| voxels.extend_from_slice(&VOXELS[usize::from(byte)]));
    voxels.truncate(bits.len());
    voxels
}

/// Refuses the first voxel that is not allowed.
pub(super) fn check_voxels(
    path: &Path,
    case: &str,
    column: &'static str,
    shape: [usize; 3],
    values: &[f32],
    is_allowed: impl Fn(f32) -> bool,
) -> Result<(), DatasetsError> {
    // Whole blocks are looked at together; the voxel itself is sought only when there is one.
    let is_clean = |block: &[f32]| block.iter().fold(true, |all, &value| all & is_allowed(value));
    if values.chunks(256).all(is_clean) {
        return Ok(());
    }
    let Some(index) = values.iter().position(|&value| !is_allowed(value)) else { return Ok(()) };
    let [_, n_rows, n_columns] = shape;
    Err(DatasetsError::VoxelValue {
        path: path.to_owned(),
        case: case.to_owned(),
        column,
        place: [index / (n_rows * n_columns), index / n_columns % n_rows, index % n_columns],
        value: values[index],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_voxels_at_any_offset() {
        let voxels: Vec<bool> = (0..77).map(|place| place * place % 7 < 3).collect();
        let bits = BooleanBuffer::from(voxels.clone());
        for (start, length) in [(0, 77), (8, 64), (16, 61), (3, 70), (77, 0)] {
            let found = unpacked(&bits.slice(start, length));
            assert_eq!(found, voxels[start..start + length], "{start} {length}");
        }
    }
}
