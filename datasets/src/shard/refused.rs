//! Shards that others made, and shards that were damaged: each is refused by a typed error.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
        RecordBatch, StringArray,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field},
};
use parquet::arrow::ArrowWriter;

use super::{
    read_images, read_labels, rows_as_json,
    tests_support::{image_case, label, scratch},
    write_images, write_labels,
};
use crate::{DatasetsError, Stream};

type Columns = Vec<(&'static str, ArrayRef)>;

fn texts(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn list(values: ArrayRef) -> ArrayRef {
    let element = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Arc::new(ListArray::new(element, offsets, values, None))
}

fn image_columns() -> Columns {
    vec![
        ("case_id", texts("a")),
        ("patient", texts("p")),
        ("dataset", texts("d")),
        ("split", texts("train")),
        ("shape", list(Arc::new(Int32Array::from(vec![1, 1, 2])))),
        ("spacing_mm", list(Arc::new(Float64Array::from(vec![1.0, 1.0, 1.0])))),
        ("data", list(Arc::new(Float32Array::from(vec![0.0, 0.5])))),
    ]
}

fn label_columns() -> Columns {
    vec![
        ("case_id", texts("a")),
        ("source", texts("s")),
        ("source_kind", texts("human")),
        ("structure", texts("lung")),
        ("split", texts("train")),
        ("shape", list(Arc::new(Int32Array::from(vec![1, 1, 2])))),
        ("spacing_mm", list(Arc::new(Float64Array::from(vec![1.0, 1.0, 1.0])))),
        ("voxels", Arc::new(Int64Array::from(vec![1]))),
        ("params", Arc::new(StringArray::from(vec![None::<&str>]))),
        ("data", list(Arc::new(BooleanArray::from(vec![true, false])))),
        ("probability", list(Arc::new(Float32Array::from(vec![0.9, 0.1])))),
    ]
}

fn with(mut columns: Columns, name: &str, array: ArrayRef) -> Columns {
    columns.iter_mut().find(|(own, _)| *own == name).unwrap().1 = array;
    columns
}

fn stored(path: &Path, columns: Columns) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn image_error(columns: Columns) -> DatasetsError {
    let folder = scratch();
    let path = folder.path().join("foreign.parquet");
    stored(&path, columns);
    read_images(&path).unwrap_err()
}

fn label_error(columns: Columns) -> DatasetsError {
    let folder = scratch();
    let path = folder.path().join("foreign.parquet");
    stored(&path, columns);
    read_labels(&path).unwrap_err()
}

#[test]
fn files_of_other_writers_are_read() {
    let folder = scratch();
    let path = folder.path().join("foreign.parquet");
    stored(&path, image_columns());
    assert_eq!(read_images(&path).unwrap()[0].image.values(), [0.0, 0.5]);
    stored(&path, label_columns());
    assert_eq!(read_labels(&path).unwrap()[0].mask.values(), [true, false]);
}

#[test]
fn images_that_contradict_themselves_are_refused() {
    let ints = |values: Vec<i32>| list(Arc::new(Int32Array::from(values)));
    let floats = |values: Vec<Option<f32>>| list(Arc::new(Float32Array::from(values)));
    let case = |name: &str, array| image_error(with(image_columns(), name, array));
    let mut fewer = image_columns();
    fewer.retain(|(name, _)| *name != "spacing_mm");
    assert!(
        matches!(image_error(fewer), DatasetsError::MissingColumn { column, .. } if column == "spacing_mm")
    );
    let error = case("data", list(Arc::new(Float64Array::from(vec![0.0, 0.5]))));
    assert!(
        matches!(error, DatasetsError::ColumnType { expected: "a list of float32", .. }),
        "{error}"
    );
    assert!(matches!(
        case("case_id", Arc::new(Int32Array::from(vec![1]))),
        DatasetsError::ColumnType { .. }
    ));
    let error = case("patient", Arc::new(StringArray::from(vec![None::<&str>])));
    assert!(matches!(error, DatasetsError::NullValue { row: 0, .. }), "{error}");
    assert!(
        matches!(case("split", texts("trian")), DatasetsError::UnknownWord { found, .. } if found == "trian")
    );
    for shape in
        [vec![], vec![1, 2], vec![1, 1, 1, 2], vec![-1, -1, 2], vec![0, 1, 2], vec![i32::MAX; 3]]
    {
        assert!(matches!(case("shape", ints(shape)), DatasetsError::CaseShape { .. }));
    }
    let error = case("shape", ints(vec![1, 2, 2]));
    assert!(matches!(error, DatasetsError::VoxelCount { expected: 4, found: 2, .. }), "{error}");
    let error = case("data", floats(vec![Some(0.0), Some(f32::NAN)]));
    assert!(matches!(error, DatasetsError::VoxelValue { place: [0, 0, 1], .. }), "{error}");
    assert!(matches!(case("data", floats(vec![Some(0.0), None])), DatasetsError::NullValue { .. }));
    for spacing in [vec![1.0, 1.0], vec![1.0, 0.0, 1.0], vec![1.0, f64::NAN, 1.0]] {
        let error = case("spacing_mm", list(Arc::new(Float64Array::from(spacing))));
        assert!(matches!(error, DatasetsError::CaseSpacing { .. }), "{error}");
    }
}

#[test]
fn labels_that_contradict_themselves_are_refused() {
    let case = |name: &str, array| label_error(with(label_columns(), name, array));
    let error = case("voxels", Arc::new(Int64Array::from(vec![2])));
    assert!(matches!(error, DatasetsError::Contradiction { column: "voxels", .. }), "{error}");
    let error = case("probability", list(Arc::new(Float32Array::from(vec![0.9, 1.1]))));
    assert!(matches!(error, DatasetsError::VoxelValue { column: "probability", .. }), "{error}");
    assert!(matches!(case("source_kind", texts("oracle")), DatasetsError::UnknownWord { .. }));
    assert!(matches!(case("params", texts("{")), DatasetsError::Params { .. }));
    let error = case("data", list(Arc::new(BooleanArray::from(vec![true]))));
    assert!(matches!(error, DatasetsError::VoxelCount { found: 1, .. }), "{error}");
    let error = case("data", Arc::new(arrow::array::new_null_array(&DataType::Int32, 1)));
    assert!(matches!(error, DatasetsError::ColumnType { .. }), "{error}");
}

#[test]
fn files_that_are_not_there_or_cannot_be_made_are_named() {
    let folder = scratch();
    let path = folder.path().join("none/x.parquet");
    assert!(
        matches!(read_images(&path), Err(DatasetsError::Read { path: named, .. }) if named == path)
    );
    let written = write_images(&path, &[image_case("a", [1, 1, 1])]);
    assert!(matches!(written, Err(DatasetsError::Write { path: named, .. }) if named == path));
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let folder = scratch();
    let [whole, damaged] = ["whole", "damaged"].map(|name| folder.path().join(name));
    write_images(&whole, &[image_case("a", [1, 9, 9]), image_case("b", [2, 3, 3])]).unwrap();
    let images = std::fs::read(&whole).unwrap();
    write_labels(&whole, &[label("a", "shift"), label("b", "shift")]).unwrap();
    let labels = std::fs::read(&whole).unwrap();
    for bytes in [images, labels] {
        for length in (0..bytes.len()).step_by(37) {
            std::fs::write(&damaged, &bytes[..length]).unwrap();
            assert!(read_images(&damaged).is_err());
            assert!(read_labels(&damaged).is_err());
        }
        let mut stream = Stream::new(1, "damage", &[]);
        for _ in 0..600 {
            let mut broken = bytes.clone();
            for _ in 0..=stream.below(3) {
                broken[stream.below(bytes.len())] = stream.below(256) as u8;
            }
            std::fs::write(&damaged, broken).unwrap();
            let _ = (read_images(&damaged), read_labels(&damaged), rows_as_json(&damaged, 9));
        }
    }
}
