//! Parquet files as we write them, and as we dare to read them.
//!
//! Written: plain columns without Arrow extension types, zstd level 1, one row group for a few cases, no statistics
//! on voxels and pictures, a fixed `created_by`; the same content gives the same bytes. Read: no embedded Arrow
//! schema is trusted, the directory is checked before a page is decoded, and a decoder that panics is an error.

use std::{
    collections::BTreeMap,
    fs::File,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    datatypes::{FieldRef, Schema, SchemaRef},
    error::ArrowError,
};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
            ParquetRecordBatchReaderBuilder,
        },
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

use super::lists;
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
    file: Arc<File>,
    directory: ArrowReaderMetadata,
    /// The only row that is wanted, if one is.
    only: Option<usize>,
}

/// Columns that were read as lists, by their place.
type Lists = BTreeMap<usize, ArrayRef>;

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
        let directory = guarded(path, || ArrowReaderMetadata::load(&file, options))?
            .map_err(|source| DatasetsError::Decode { path: path.to_owned(), source })?;
        check_directory(path, directory.metadata(), n_bytes)?;
        Ok(Self { path, file: Arc::new(file), directory, only: None })
    }

    /// The same file with nothing but the row `nth`; rows before it in other row groups are not decoded.
    pub(crate) fn only(mut self, nth: usize) -> Self {
        self.only = Some(nth);
        self
    }

    /// The columns of the file.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.directory.schema()
    }

    /// The directory of the file.
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.directory.metadata()
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
        let columns = self.columns(columns)?;
        let failed =
            |source: ParquetError| DatasetsError::Decode { path: self.path.to_owned(), source };
        let mut n_rows = 0;
        for group in 0..self.metadata().num_row_groups() {
            let n_own = usize::try_from(self.metadata().row_group(group).num_rows());
            let n_own = n_own.map_err(|error| failed(error.into()))?;
            let rows = match self.only {
                None => 0..n_own,
                Some(nth) if (n_rows..n_rows + n_own).contains(&nth) => {
                    nth - n_rows..nth - n_rows + 1
                }
                Some(_) => {
                    n_rows += n_own;
                    continue;
                }
            };
            let mut lists = Lists::new();
            for &root in &columns {
                let read = guarded(self.path, || self.lists(group, root, rows.clone()))?;
                lists.extend(read.map_err(failed)?.map(|array| (root, array)));
            }
            let mut reader = guarded(self.path, || self.reader(group, &columns, &lists, rows))?
                .map_err(failed)?;
            let mut n_read = 0;
            while let Some(batch) = guarded(self.path, || reader.next())? {
                let batch = batch.map_err(|source| failed(source.into()))?;
                let whole = self
                    .with_lists(&batch, &columns, &lists, n_read)
                    .map_err(|source| failed(source.into()))?;
                if !take(&whole, n_rows + n_read)? {
                    return Ok(());
                }
                n_read += whole.num_rows();
            }
            n_rows += n_own;
        }
        Ok(())
    }

    /// The lists of a column that are stored as ours are.
    fn lists(
        &self,
        group: usize,
        root: usize,
        rows: Range<usize>,
    ) -> Result<Option<ArrayRef>, ParquetError> {
        let schema = self.directory.parquet_schema();
        let mut leaves =
            (0..schema.num_columns()).filter(|&leaf| schema.get_column_root_idx(leaf) == root);
        let (Some(leaf), None) = (leaves.next(), leaves.next()) else { return Ok(None) };
        lists::read(
            &self.file,
            self.metadata().row_group(group),
            leaf,
            self.schema().field(root),
            rows,
        )
    }

    /// What reads the other columns of a row group.
    fn reader(
        &self,
        group: usize,
        columns: &[usize],
        lists: &Lists,
        rows: Range<usize>,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let others = columns.iter().copied().filter(|root| !lists.contains_key(root));
        let projection = ProjectionMask::roots(self.directory.parquet_schema(), others);
        let file = self.file.try_clone()?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.directory.clone())
            .with_batch_size(BATCH_ROWS)
            .with_projection(projection)
            .with_row_groups(vec![group])
            .with_offset(rows.start)
            .with_limit(rows.len())
            .build()
    }

    /// A batch with the lists of its rows, which begin at `first`, its columns in the order of the file.
    fn with_lists(
        &self,
        batch: &RecordBatch,
        columns: &[usize],
        lists: &Lists,
        first: usize,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = batch.schema();
        let mut others = schema.fields().iter().cloned().zip(batch.columns().iter().cloned());
        let all = columns.iter().filter_map(|root| match lists.get(root) {
            Some(array) => {
                let field = self.schema().fields()[*root].clone();
                Some((field, array.slice(first, batch.num_rows())))
            }
            None => others.next(),
        });
        let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = all.unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
    }

    /// Places of the named columns, or of all, in the order of the file.
    fn columns(&self, columns: &[&str]) -> Result<Vec<usize>, DatasetsError> {
        let schema = self.schema();
        if columns.is_empty() {
            return Ok((0..schema.fields().len()).collect());
        }
        let newer = NEWER.iter().filter(|column| schema.index_of(column).is_ok());
        let place = |&column: &&str| {
            schema.index_of(column).map_err(|_| DatasetsError::MissingColumn {
                path: self.path.to_owned(),
                column: column.to_owned(),
                found: schema.fields().iter().map(|field| field.name().clone()).collect(),
            })
        };
        let mut places =
            columns.iter().chain(newer).map(place).collect::<Result<Vec<usize>, _>>()?;
        places.sort_unstable();
        Ok(places)
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
