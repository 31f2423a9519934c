//! What a shard or table holds, for people: columns, rows as JSON, pictures.

use std::path::Path;

use arrow::{
    array::{
        Array, AsArray, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array,
        Int64Array, StringArray,
    },
    datatypes::DataType,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{file::Source, read_images, read_labels};
use crate::{DatasetsError, picture};

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnDescription {
    /// Name of the column.
    pub name: String,
    /// Its Arrow type.
    pub kind: String,
    /// Number of rows without a value.
    pub n_nulls: usize,
    /// Bytes that it takes in the file, compressed.
    pub bytes: u64,
}

/// What a Parquet file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardDescription {
    /// The columns in their order.
    pub columns: Vec<ColumnDescription>,
    /// Number of rows.
    pub n_rows: usize,
    /// Rows of each row group.
    pub row_groups: Vec<usize>,
    /// Name of the program that wrote it.
    pub created_by: Option<String>,
    /// Keys and values stored beside the data, in their order.
    pub metadata: Vec<(String, String)>,
}

/// Describes any Parquet file; reads it whole to count missing values.
///
/// # Errors
/// [`DatasetsError::Read`], [`DatasetsError::Decode`], [`DatasetsError::DecoderBroke`], [`DatasetsError::TooLarge`].
pub fn describe(path: &Path) -> Result<ShardDescription, DatasetsError> {
    let source = Source::open(path)?;
    let mut columns: Vec<ColumnDescription> = source
        .schema()
        .fields()
        .iter()
        .map(|field| ColumnDescription {
            name: field.name().clone(),
            kind: field.data_type().to_string(),
            n_nulls: 0,
            bytes: 0,
        })
        .collect();
    let directory = source.metadata();
    for part in directory.row_groups().iter().flat_map(|group| group.columns()) {
        let root = part.column_path().parts().first();
        if let Some(column) = columns.iter_mut().find(|column| Some(&column.name) == root) {
            column.bytes += part.compressed_size().max(0) as u64;
        }
    }
    let row_groups = directory.row_groups().iter().map(|group| group.num_rows() as usize).collect();
    let about = directory.file_metadata();
    let created_by = about.created_by().map(str::to_owned);
    let metadata = about
        .key_value_metadata()
        .into_iter()
        .flatten()
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    let mut n_rows = 0;
    source.each_batch(&[], |batch, _| {
        n_rows += batch.num_rows();
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            column.n_nulls += array.null_count();
        }
        Ok(true)
    })?;
    Ok(ShardDescription { columns, n_rows, row_groups, created_by, metadata })
}

/// The first `limit` rows of any Parquet file as JSON objects; lists of more than eight values and binary values are
/// replaced by a note of their size, numbers that are not finite by `null`.
///
/// # Errors
/// Those of [`describe`].
pub fn rows_as_json(path: &Path, limit: usize) -> Result<Vec<Map<String, Value>>, DatasetsError> {
    let mut rows = Vec::new();
    Source::open(path)?.each_batch(&[], |batch, _| {
        for row in 0..batch.num_rows().min(limit - rows.len()) {
            let schema = batch.schema();
            let cells = schema.fields().iter().zip(batch.columns());
            rows.push(
                cells.map(|(field, array)| (field.name().clone(), cell(array, row))).collect(),
            );
        }
        Ok(rows.len() < limit)
    })?;
    Ok(rows)
}

/// PNG pictures of a shard, with names that are safe as file names: the middle slice of every image, or of every
/// mask.
///
/// # Errors
/// Those of [`read_images`] or, for files with a column `source`, of [`read_labels`].
pub fn pictures(path: &Path) -> Result<Vec<(String, Vec<u8>)>, DatasetsError> {
    let has_labels = Source::open(path)?.schema().index_of("source").is_ok();
    let named: Vec<(String, Option<Vec<u8>>)> = if has_labels {
        let labels = read_labels(path)?;
        labels
            .iter()
            .map(|label| {
                let name = format!("{}.{}.{}", label.id, label.structure, label.source);
                (name, picture::mask_png(&label.mask, label.mask.n_slices() / 2))
            })
            .collect()
    } else {
        let cases = read_images(path)?;
        cases
            .iter()
            .map(|case| {
                (case.id.clone(), picture::image_png(&case.image, case.image.n_slices() / 2))
            })
            .collect()
    };
    let safe = |name: String| format!("{}.png", safe_name(&name));
    Ok(named.into_iter().filter_map(|(name, png)| png.map(|png| (safe(name), png))).collect())
}

/// A name that is safe as the beginning of a file name: what has a meaning in paths is replaced.
pub fn safe_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

/// One value of a column.
fn cell(array: &dyn Array, row: usize) -> Value {
    const SHOWN: usize = 8;
    if array.is_null(row) {
        return Value::Null;
    }
    let any = array.as_any();
    match array.data_type() {
        DataType::Struct(fields) => {
            let parts = fields.iter().zip(array.as_struct().columns());
            Value::Object(
                parts.map(|(field, part)| (field.name().clone(), cell(part, row))).collect(),
            )
        }
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            if values.len() > SHOWN {
                return json!(format!("<{} values>", values.len()));
            }
            (0..values.len()).map(|index| cell(&values, index)).collect()
        }
        kind => {
            let text = any.downcast_ref::<StringArray>().map(|a| json!(a.value(row)));
            let blob = || {
                any.downcast_ref::<BinaryArray>()
                    .map(|a| json!(format!("<{} bytes>", a.value(row).len())))
            };
            let flag = || any.downcast_ref::<BooleanArray>().map(|a| json!(a.value(row)));
            let small = || any.downcast_ref::<Int32Array>().map(|a| json!(a.value(row)));
            let whole = || any.downcast_ref::<Int64Array>().map(|a| json!(a.value(row)));
            let single = || any.downcast_ref::<Float32Array>().map(|a| json!(a.value(row)));
            let double = || any.downcast_ref::<Float64Array>().map(|a| json!(a.value(row)));
            text.or_else(blob)
                .or_else(flag)
                .or_else(small)
                .or_else(whole)
                .or_else(single)
                .or_else(double)
                .unwrap_or_else(|| json!(format!("<{kind}>")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::shard::{
        tests_support::{image_case, label, scratch},
        write_images, write_labels,
    };

    #[test]
    fn a_shard_tells_its_columns_rows_and_metadata() {
        let folder = scratch();
        let path = folder.path().join("s.parquet");
        let cases: Vec<_> =
            (0..20).map(|n| image_case(&format!("c{n:02}"), [1 + n / 19, 3, 4])).collect();
        write_images(&path, &cases).unwrap();
        let found = describe(&path).unwrap();
        assert_eq!((found.n_rows, found.row_groups.as_slice()), (20, [16, 4].as_slice()));
        assert_eq!(found.created_by.as_deref(), Some("pipeline shards version 1.0.0 (build 0)"));
        let column = |name: &str| found.columns.iter().find(|column| column.name == name).unwrap();
        assert_eq!(column("image").n_nulls, 1, "the one case with two slices has no picture");
        assert_eq!(column("data").n_nulls, 0);
        assert!(column("data").bytes > 0);
        assert_eq!(
            found.metadata,
            [
                ("pipeline.schema".to_owned(), "image-shard/3".to_owned()),
                (
                    "huggingface".to_owned(),
                    r#"{"info":{"features":{"image":{"_type":"Image"}}}}"#.to_owned()
                ),
            ]
        );
    }

    #[test]
    fn rows_are_shortened_for_people() {
        let folder = scratch();
        let path = folder.path().join("s.parquet");
        write_images(&path, &[image_case("a", [1, 3, 4]), image_case("b", [1, 3, 4])]).unwrap();
        let rows = rows_as_json(&path, 1).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["case_id"], "a");
        assert_eq!(rows[0]["shape"], json!([1, 3, 4]));
        assert_eq!(rows[0]["data"], "<12 values>");
        assert_eq!(rows[0]["image"]["path"], "a.png");
        assert_eq!(rows_as_json(&path, 0).unwrap().len(), 0);
    }

    #[test]
    fn pictures_have_names_that_cannot_leave_a_folder() {
        let folder = scratch();
        let path = folder.path().join("s.parquet");
        write_labels(&path, &[label("../../etc/x", "shift")]).unwrap();
        let found = pictures(&path).unwrap();
        assert_eq!(found[0].0, "_.._.._etc_x.lung.shift.png");
        assert_eq!(found[0].1[..4], *b"\x89PNG");
    }
}
