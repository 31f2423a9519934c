//! Flat tables: scores, metrics by epoch, the list of cases. Written as Parquet and as JSON Lines.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    },
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema},
};
use serde_json::Value;

use crate::{
    DatasetsError,
    shard::{Content, Layout, Source, write_batches},
};

/// Kind of a column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Floating-point number; may be infinite or NaN.
    Number,
    /// Whole number.
    Integer,
    /// True or false.
    Flag,
}

/// One value of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value; fits every column.
    Missing,
    /// Text.
    Text(String),
    /// Floating-point number.
    Number(f64),
    /// Whole number.
    Integer(i64),
    /// True or false.
    Flag(bool),
}

impl Cell {
    /// Kind of columns that it fits; `None` when it fits all.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Missing => None,
            Self::Text(_) => Some(Kind::Text),
            Self::Number(_) => Some(Kind::Number),
            Self::Integer(_) => Some(Kind::Integer),
            Self::Flag(_) => Some(Kind::Flag),
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As JSON; numbers that are not finite become `null`, because JSON has none.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Missing => Value::Null,
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(number) => Value::from(*number),
            Self::Integer(number) => Value::from(*number),
            Self::Flag(flag) => Value::from(*flag),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<usize> for Cell {
    /// Counts above `i64::MAX`, which no table holds, become `i64::MAX`.
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

/// Named columns of one kind each, and rows of cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<(String, Kind)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&str, Kind)]) -> Self {
        Self {
            columns: columns.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`DatasetsError::TableRow`] when a cell does not fit its column, or their numbers differ.
    pub fn push(&mut self, row: Vec<Cell>) -> Result<(), DatasetsError> {
        let fits = |(cell, (_, kind)): (&Cell, &(String, Kind))| {
            cell.kind().is_none_or(|own| own == *kind)
        };
        if row.len() == self.columns.len() && row.iter().zip(&self.columns).all(fits) {
            self.rows.push(row);
            return Ok(());
        }
        let expected: Vec<Kind> = self.columns.iter().map(|&(_, kind)| kind).collect();
        Err(DatasetsError::TableRow {
            row: self.rows.len(),
            expected: format!("{expected:?}"),
            found: format!("{row:?}"),
        })
    }

    /// Names and kinds of the columns.
    pub fn columns(&self) -> &[(String, Kind)] {
        &self.columns
    }

    /// All rows, cells in the order of the columns.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// The cells of one column; `None` when there is no such column.
    pub fn column(&self, name: &str) -> Option<impl Iterator<Item = &Cell>> {
        let place = self.columns.iter().position(|(own, _)| own == name)?;
        Some(self.rows.iter().map(move |row| &row[place]))
    }

    /// The numbers of one column; whole numbers count, everything else is `None`.
    pub fn numbers(&self, name: &str) -> Option<Vec<Option<f64>>> {
        let number = |cell: &Cell| match cell {
            Cell::Number(number) => Some(*number),
            Cell::Integer(number) => Some(*number as f64),
            _ => None,
        };
        Some(self.column(name)?.map(number).collect())
    }

    /// The texts of one column; everything else is `None`.
    pub fn texts(&self, name: &str) -> Option<Vec<Option<&str>>> {
        Some(self.column(name)?.map(Cell::as_text).collect())
    }

    /// Digest of names, kinds and cells, in their order; free of the file format.
    pub fn digest(&self) -> [u8; 32] {
        let mut content = Content::new("table", self.rows.len());
        content.count(self.columns.len());
        for (name, kind) in &self.columns {
            content.text(name);
            content.text(&format!("{kind:?}"));
        }
        for cell in self.rows.iter().flatten() {
            content.presence(*cell != Cell::Missing);
            match cell {
                Cell::Missing => {}
                Cell::Text(text) => content.text(text),
                Cell::Number(number) => content.doubles(&[*number]),
                Cell::Integer(number) => content.text(&number.to_string()),
                Cell::Flag(flag) => content.presence(*flag),
            }
        }
        content.finish()
    }

    /// Writes Parquet and returns [`Table::digest`]; the same table gives the same bytes.
    ///
    /// # Errors
    /// [`DatasetsError::Write`] and [`DatasetsError::Encode`].
    pub fn write_parquet(&self, path: &Path) -> Result<[u8; 32], DatasetsError> {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|(name, kind)| Field::new(name, arrow_type(*kind), true))
            .collect();
        let layout = Layout {
            schema: Arc::new(Schema::new(fields)),
            blobs: Vec::new(),
            tag: "table/1",
            pictures: &[],
        };
        let columns = (0..self.columns.len()).map(|place| self.array(place)).collect();
        let batch = RecordBatch::try_new(layout.schema.clone(), columns).map_err(|source| {
            DatasetsError::Encode { path: path.to_owned(), source: source.into() }
        })?;
        write_batches(path, &layout, std::iter::once(Ok(batch)))?;
        Ok(self.digest())
    }

    /// Reads Parquet whose columns are text, float64, int64 or boolean.
    ///
    /// # Errors
    /// [`DatasetsError::ColumnType`] for columns of other types, and those of any damaged Parquet.
    pub fn read_parquet(path: &Path) -> Result<Self, DatasetsError> {
        let source = Source::open(path)?;
        let mut columns = Vec::new();
        for field in source.schema().fields() {
            columns.push((field.name().clone(), kind_of(path, field)?));
        }
        let mut table = Self { columns, rows: Vec::new() };
        source.each_batch(&[], |batch, _| {
            table.rows.extend((0..batch.num_rows()).map(|row| {
                let arrays = batch.columns().iter().zip(&table.columns);
                arrays.map(|(array, &(_, kind))| cell(array, kind, row)).collect()
            }));
            Ok(true)
        })?;
        Ok(table)
    }

    /// Writes one JSON object a row. Numbers that are not finite become `null`: only Parquet keeps them.
    ///
    /// # Errors
    /// [`DatasetsError::Write`].
    pub fn write_json_lines(&self, path: &Path) -> Result<(), DatasetsError> {
        let failed = |source| DatasetsError::Write { path: path.to_owned(), source };
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        for row in &self.rows {
            writeln!(out, "{}", self.json_row(row)).map_err(failed)?;
        }
        out.flush().map_err(failed)
    }

    /// A row as a JSON text, keys in the order of the columns.
    fn json_row(&self, row: &[Cell]) -> String {
        let pairs = self.columns.iter().zip(row);
        let pairs: Vec<String> = pairs
            .map(|((name, _), cell)| format!("{}:{}", Value::from(name.as_str()), cell.to_json()))
            .collect();
        format!("{{{}}}", pairs.join(","))
    }

    fn array(&self, place: usize) -> ArrayRef {
        let cells = self.rows.iter().map(|row| &row[place]);
        match self.columns[place].1 {
            Kind::Text => Arc::new(StringArray::from_iter(cells.map(|cell| cell.as_text()))),
            Kind::Number => Arc::new(Float64Array::from_iter(cells.map(|cell| match cell {
                Cell::Number(number) => Some(*number),
                _ => None,
            }))),
            Kind::Integer => Arc::new(Int64Array::from_iter(cells.map(|cell| match cell {
                Cell::Integer(number) => Some(*number),
                _ => None,
            }))),
            Kind::Flag => Arc::new(BooleanArray::from_iter(cells.map(|cell| match cell {
                Cell::Flag(flag) => Some(*flag),
                _ => None,
            }))),
        }
    }
}

fn arrow_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Utf8,
        Kind::Number => DataType::Float64,
        Kind::Integer => DataType::Int64,
        Kind::Flag => DataType::Boolean,
    }
}

fn kind_of(path: &Path, field: &Field) -> Result<Kind, DatasetsError> {
    match field.data_type() {
        DataType::Utf8 => Ok(Kind::Text),
        DataType::Float64 => Ok(Kind::Number),
        DataType::Int64 => Ok(Kind::Integer),
        DataType::Boolean => Ok(Kind::Flag),
        other => Err(DatasetsError::ColumnType {
            path: path.to_owned(),
            column: field.name().clone(),
            expected: "text, float64, int64 or boolean",
            found: other.to_string(),
        }),
    }
}

fn cell(array: &ArrayRef, kind: Kind, row: usize) -> Cell {
    match kind {
        _ if array.is_null(row) => Cell::Missing,
        Kind::Text => Cell::from(array.as_string::<i32>().value(row)),
        Kind::Number => Cell::Number(array.as_primitive::<Float64Type>().value(row)),
        Kind::Integer => Cell::Integer(array.as_primitive::<Int64Type>().value(row)),
        Kind::Flag => Cell::Flag(array.as_boolean().value(row)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    const COLUMNS: [(&str, Kind); 4] = [
        ("case", Kind::Text),
        ("dice", Kind::Number),
        ("voxels", Kind::Integer),
        ("is_empty", Kind::Flag),
    ];

    fn scores() -> Table {
        let mut table = Table::new(&COLUMNS);
        table.push(vec!["a \"b\"".into(), 0.1.into(), 12usize.into(), false.into()]).unwrap();
        table
            .push(vec![None::<&str>.into(), f64::INFINITY.into(), Cell::Missing, Some(true).into()])
            .unwrap();
        table
    }

    #[test]
    fn tables_survive_parquet_and_json_lines() {
        let folder = tempfile::tempdir().unwrap();
        let [parquet, lines] = ["t.parquet", "t.jsonl"].map(|name| folder.path().join(name));
        let digest = scores().write_parquet(&parquet).unwrap();
        let read = Table::read_parquet(&parquet).unwrap();
        assert_eq!(read, scores());
        assert_eq!(read.digest(), digest);
        let bytes = std::fs::read(&parquet).unwrap();
        read.write_parquet(&parquet).unwrap();
        assert_eq!(std::fs::read(&parquet).unwrap(), bytes);
        read.write_json_lines(&lines).unwrap();
        assert_eq!(
            std::fs::read_to_string(&lines).unwrap(),
            "{\"case\":\"a \\\"b\\\"\",\"dice\":0.1,\"voxels\":12,\"is_empty\":false}\n\
             {\"case\":null,\"dice\":null,\"voxels\":null,\"is_empty\":true}\n"
        );
        assert_eq!(read.numbers("dice").unwrap(), [Some(0.1), Some(f64::INFINITY)]);
        assert_eq!(read.numbers("voxels").unwrap(), [Some(12.0), None]);
        assert_eq!(read.texts("case").unwrap(), [Some("a \"b\""), None]);
        assert!(read.column("none").is_none());
    }

    #[test]
    fn cells_of_another_kind_are_refused() {
        let mut table = scores();
        let error =
            table.push(vec!["a".into(), 1usize.into(), 1usize.into(), true.into()]).unwrap_err();
        assert!(matches!(error, DatasetsError::TableRow { row: 2, .. }), "{error}");
        assert!(matches!(table.push(vec!["a".into()]), Err(DatasetsError::TableRow { .. })));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, "PAR1").unwrap();
        assert!(matches!(Table::read_parquet(&path), Err(DatasetsError::Decode { .. })));
    }

    #[test]
    fn empty_tables_and_not_a_number_keep_their_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let empty = Table::new(&COLUMNS);
        empty.write_parquet(&path).unwrap();
        assert_eq!(Table::read_parquet(&path).unwrap(), empty);
        let mut table = Table::new(&[("dice", Kind::Number)]);
        table.push(vec![f64::NAN.into()]).unwrap();
        let digest = table.write_parquet(&path).unwrap();
        assert_eq!(Table::read_parquet(&path).unwrap().digest(), digest);
        assert_ne!(digest, Table::new(&[("dice", Kind::Number)]).digest());
    }
}
