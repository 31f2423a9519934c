//! Parquet files as we write them, and as we dare to read them.
//!
//! Written: plain columns without Arrow extension types, zstd level 1, one row group for a few cases, no statistics
//! on voxels and pictures, a fixed `created_by`; the same content gives the same bytes. Read: no embedded Arrow
//! schema is trusted, the directory is checked before a page is decoded, and a decoder that panics is an error.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowWriterOptions,
    },
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, PageIndexPolicy, ParquetMetaData},
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use crate::DatasetsError;

/// Names the writer in every file; the versions of the libraries below do not show in the bytes by this.
const CREATED_BY: &str = "pipeline shards version 1.0.0 (build 0)";

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8;

/// Columns that older files lack: read wherever they are.
const NEWER: [&str; 2] = ["affine", "space"];

/// Largest number of rows of a file that is read.
const MAX_ROWS: u64 = 1 << 24;

/// Largest number of values in one column of one row group that is read.
const MAX_VALUES: u64 = 1 << 31;

/// Largest number of bytes, decompressed, in one column of one row group that is read.
const MAX_BYTES: u64 = 1 << 33;

/// How the values of a column are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Storage {
    /// Floating-point voxels: split into byte streams, which compress better; no statistics.
    Voxels,
    /// Compressed pictures: stored as they are; no statistics.
    Picture,
    /// Voxels of masks: compressed; no statistics.
    Bits,
}

/// What a kind of file looks like.
pub(crate) struct Layout {
    /// The columns.
    pub(crate) schema: SchemaRef,
    /// Leaf columns that are no small scalars, by their dotted path.
    pub(crate) blobs: Vec<(&'static str, Storage)>,
    /// Name and version of the layout, stored under `pipeline.schema`.
    pub(crate) tag: &'static str,
    /// Picture columns, declared under `huggingface` so that Hugging Face `datasets` decodes them.
    pub(crate) pictures: &'static [&'static str],
}

impl Layout {
    fn properties(&self) -> WriterProperties {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("zstd has a level 1"));
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(zstd)
            .set_max_row_group_row_count(None)
            .set_key_value_metadata(Some(self.metadata()));
        for &(path, storage) in &self.blobs {
            let path = ColumnPath::new(path.split('.').map(str::to_owned).collect());
            properties = properties
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                .set_column_dictionary_enabled(path.clone(), false);
            properties = match storage {
                Storage::Voxels => {
                    properties.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT)
                }
                Storage::Picture => {
                    properties.set_column_compression(path, Compression::UNCOMPRESSED)
                }
                Storage::Bits => properties,
            };
        }
        properties.build()
    }

    fn metadata(&self) -> Vec<KeyValue> {
        let mut pairs = vec![KeyValue::new("pipeline.schema".to_owned(), self.tag.to_owned())];
        if !self.pictures.is_empty() {
            let features: Vec<String> = self
                .pictures
                .iter()
                .map(|name| format!(r#""{name}":{{"_type":"Image"}}"#))
                .collect();
            let info = format!(r#"{{"info":{{"features":{{{}}}}}}}"#, features.join(","));
            pairs.push(KeyValue::new("huggingface".to_owned(), info));
        }
        pairs
    }
}

/// Writes one row group for each batch.
///
/// # Errors
/// [`DatasetsError::Write`] and [`DatasetsError::Encode`].
pub(crate) fn write_batches(
    path: &Path,
    layout: &Layout,
    batches: impl Iterator<Item = Result<RecordBatch, DatasetsError>>,
) -> Result<(), DatasetsError> {
    let file = File::create(path)
        .map_err(|source| DatasetsError::Write { path: path.to_owned(), source })?;
    let failed = |source| DatasetsError::Encode { path: path.to_owned(), source };
    let options = ArrowWriterOptions::new()
        .with_properties(layout.properties())
        .with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(file, layout.schema.clone(), options).map_err(failed)?;
    for batch in batches {
        writer.write(&batch?).and_then(|()| writer.flush()).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    Ok(())
}

/// An opened file whose directory was found acceptable.
pub(crate) struct Source<'a> {
    path: &'a Path,
    builder: ParquetRecordBatchReaderBuilder<File>,
}

impl<'a> Source<'a> {
    /// Opens a file and checks what its directory announces.
    ///
    /// # Errors
    /// [`DatasetsError::Read`], [`DatasetsError::Decode`] and [`DatasetsError::TooLarge`].
    pub(crate) fn open(path: &'a Path) -> Result<Self, DatasetsError> {
        let failed = |source| DatasetsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let n_bytes = file.metadata().map_err(failed)?.len();
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_page_index_policy(PageIndexPolicy::Skip);
        let opened =
            guarded(path, || ParquetRecordBatchReaderBuilder::try_new_with_options(file, options))?;
        let builder =
            opened.map_err(|source| DatasetsError::Decode { path: path.to_owned(), source })?;
        check_directory(path, builder.metadata(), n_bytes)?;
        Ok(Self { path, builder })
    }

    /// The same file with nothing but the row `nth`; rows before it in other row groups are not decoded.
    pub(crate) fn only(mut self, nth: usize) -> Self {
        self.builder = self.builder.with_offset(nth).with_limit(1);
        self
    }

    /// The columns of the file.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.builder.schema()
    }

    /// The directory of the file.
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.builder.metadata()
    }

    /// Calls `take` with batches of the named columns, or of all when none is named, and their first row, until it
    /// answers `false`.
    ///
    /// # Errors
    /// [`DatasetsError::MissingColumn`], [`DatasetsError::Decode`], [`DatasetsError::DecoderBroke`], and those of
    /// `take`.
    pub(crate) fn each_batch(
        self,
        columns: &[&str],
        mut take: impl FnMut(&RecordBatch, usize) -> Result<bool, DatasetsError>,
    ) -> Result<(), DatasetsError> {
        let projection = self.projection(columns)?;
        let Self { path, builder } = self;
        let failed = |source: ParquetError| DatasetsError::Decode { path: path.to_owned(), source };
        let builder = builder.with_batch_size(BATCH_ROWS).with_projection(projection);
        let mut reader = guarded(path, || builder.build())?.map_err(failed)?;
        let mut n_rows = 0;
        while let Some(batch) = guarded(path, || reader.next())? {
            let batch = batch.map_err(|source| failed(source.into()))?;
            if !take(&batch, n_rows)? {
                break;
            }
            n_rows += batch.num_rows();
        }
        Ok(())
    }

    fn projection(&self, columns: &[&str]) -> Result<ProjectionMask, DatasetsError> {
        if columns.is_empty() {
            return Ok(ProjectionMask::all());
        }
        let schema = self.schema();
        let newer = NEWER.iter().filter(|column| schema.index_of(column).is_ok());
        let roots: Result<Vec<usize>, DatasetsError> = columns
            .iter()
            .chain(newer)
            .map(|&column| {
                schema.index_of(column).map_err(|_| DatasetsError::MissingColumn {
                    path: self.path.to_owned(),
                    column: column.to_owned(),
                    found: schema.fields().iter().map(|field| field.name().clone()).collect(),
                })
            })
            .collect();
        Ok(ProjectionMask::roots(self.builder.parquet_schema(), roots?))
    }
}

/// Turns a panic of the decoder into an error: the file is not to be trusted, and the decoder is not ours.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> T) -> Result<T, DatasetsError> {
    catch_unwind(AssertUnwindSafe(decode))
        .map_err(|_| DatasetsError::DecoderBroke { path: path.to_owned() })
}

/// Refuses directories that announce absurd sizes, before anything is decoded or reserved.
fn check_directory(
    path: &Path,
    metadata: &ParquetMetaData,
    n_bytes: u64,
) -> Result<(), DatasetsError> {
    let check = |column: &str, what, limit, found: i64| {
        let found = found as u64; // a negative count becomes a huge one
        if found <= limit {
            return Ok(());
        }
        Err(DatasetsError::TooLarge {
            path: path.to_owned(),
            column: column.to_owned(),
            what,
            limit,
            found,
        })
    };
    check("*", "rows", MAX_ROWS, metadata.file_metadata().num_rows())?;
    for group in metadata.row_groups() {
        check("*", "rows", MAX_ROWS, group.num_rows())?;
        for column in group.columns() {
            let name = column.column_path().string();
            let begin = column.dictionary_page_offset().unwrap_or(0);
            for offset in [begin, column.data_page_offset(), column.compressed_size()] {
                check(&name, "bytes", n_bytes, offset)?;
            }
            check(&name, "values", MAX_VALUES, column.num_values())?;
            check(&name, "bytes", MAX_BYTES, column.uncompressed_size())?;
        }
    }
    Ok(())
}
