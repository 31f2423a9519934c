//! Columns of lists of plain values, taken from their pages as our writer stores them.
//!
//! Arrow's reader makes two numbers for every value, its levels, which for voxels takes longer than all the rest. In the
//! file levels are runs: here a list of a million voxels costs two of them. What is stored in another way (dictionaries,
//! other encodings, pages of the second version, values that may be missing) is left to Arrow's reader.

use std::{fs::File, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, BooleanBufferBuilder, Float32Array, ListArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field},
};
use parquet::{
    basic::{Encoding, Repetition, Type},
    column::page::{Page, PageReader},
    errors::ParquetError,
    file::{metadata::RowGroupMetaData, serialized_reader::SerializedPageReader},
};

/// Rows of a row group above which its lists would be too much at once.
const MOST_ROWS: i64 = 64;

/// Some rows of the list column `field` of a row group, whose values are in the leaf column `leaf`; `None` where that is
/// not stored as our writer does.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read(
    file: &Arc<File>,
    group: &RowGroupMetaData,
    leaf: usize,
    field: &Field,
    rows: Range<usize>,
) -> Result<Option<ArrayRef>, ParquetError> {
    let DataType::List(element) = field.data_type() else { return Ok(None) };
    let chunk = group.column(leaf);
    let column = chunk.column_descr();
    let plain = matches!(
        (element.data_type(), column.physical_type()),
        (DataType::Float32, Type::FLOAT) | (DataType::Boolean, Type::BOOLEAN)
    );
    let required = column.self_type().get_basic_info().repetition() == Repetition::REQUIRED;
    let depth = (column.max_rep_level(), column.max_def_level());
    if !plain
        || !required
        || element.is_nullable()
        || !matches!(depth, (1, 1 | 2))
        || chunk.dictionary_page_offset().is_some()
        || chunk.num_values() > i64::from(i32::MAX)
        || group.num_rows() > MOST_ROWS
    {
        return Ok(None);
    }
    let n_rows = usize::try_from(group.num_rows())?;
    let mut pages = SerializedPageReader::new(file.clone(), chunk, n_rows, None)?;
    let mut values = match element.data_type() {
        DataType::Boolean => Values::Bits(BooleanBufferBuilder::new(0)),
        _ => Values::Numbers(Vec::new()),
    };
    let mut lists = Lists { rows, lengths: Vec::new(), n_begun: 0, deepest: depth.1 as u8 };
    while lists.n_begun <= lists.rows.end
        && let Some(page) = pages.get_next_page()?
    {
        let Page::DataPage {
            buf,
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            ..
        } = page
        else {
            return Ok(None);
        };
        let mut rest = &buf[..];
        let n_levels = num_values as usize;
        let beginnings = Runs::of(levels(&mut rest)?, 1, n_levels);
        let depths = Runs::of(levels(&mut rest)?, lists.deepest.ilog2() + 1, n_levels);
        let (wanted, n_values) = lists.add(beginnings, depths)?;
        if !values.add(rest, encoding, wanted, n_values)? {
            return Ok(None);
        }
    }
    if lists.n_begun < lists.rows.end {
        return Err(broken("fewer lists than rows"));
    }
    Ok(Some(lists.array(values, element.clone())))
}

fn broken(what: &str) -> ParquetError {
    ParquetError::General(format!("broken page of lists: {what}"))
}

/// Takes the levels off a page: their length and then as many bytes.
fn levels<'p>(page: &mut &'p [u8]) -> Result<&'p [u8], ParquetError> {
    let taken = page.split_first_chunk().and_then(|(length, rest)| {
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
    });
    let (levels, rest) = taken.ok_or_else(|| broken("it ends within its levels"))?;
    *page = rest;
    Ok(levels)
}

/// Numbers in the hybrid of runs and packed bits that Parquet stores levels in, as runs.
struct Runs<'p> {
    bytes: &'p [u8],
    /// Bits of a number, 1 or 2.
    width: u32,
    /// How many numbers are still to come.
    left: usize,
    /// Packed numbers that are still to come before the next head: the first in the lowest bits, and how many.
    packed: (u64, u32),
    /// How many whole bytes of packed numbers follow those.
    n_packed: usize,
    /// The run at hand.
    run: (u8, usize),
}

impl<'p> Runs<'p> {
    fn of(bytes: &'p [u8], width: u32, n: usize) -> Self {
        Self { bytes, width, left: n, packed: (0, 0), n_packed: 0, run: (0, 0) }
    }

    /// The number at hand and how often it follows; `None` at the end.
    fn peek(&mut self) -> Result<Option<(u8, usize)>, ParquetError> {
        while self.run.1 == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let (number, n) = self.next().ok_or_else(|| broken("it has too few levels"))?;
            let n = n.min(self.left);
            self.left -= n;
            self.run = (number, n);
        }
        Ok(Some(self.run))
    }

    fn take(&mut self, n: usize) {
        self.run.1 -= n;
    }

    fn next(&mut self) -> Option<(u8, usize)> {
        let mask = (1 << self.width) - 1;
        loop {
            let (bits, n_bits) = self.packed;
            if n_bits > 0 {
                self.packed = (bits >> self.width, n_bits - self.width);
                return Some(((bits & mask) as u8, 1));
            }
            if self.n_packed > 0 {
                let (&byte, rest) = self.bytes.split_first()?;
                self.bytes = rest;
                self.n_packed -= 1;
                self.packed = (u64::from(byte), 8);
                continue;
            }
            let head = self.head()?;
            let n = usize::try_from(head >> 1).ok()?;
            if head & 1 == 1 {
                // Groups of eight numbers are as many bytes as a number has bits.
                self.n_packed = n.checked_mul(self.width as usize)?;
            } else if n > 0 {
                let (&number, rest) = self.bytes.split_first()?;
                self.bytes = rest;
                return Some((number, n));
            }
        }
    }

    /// A number in groups of seven bits, the lowest first.
    fn head(&mut self) -> Option<u64> {
        let mut head = 0;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            head |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(head);
            }
        }
        None
    }
}

/// The lists of some rows.
struct Lists {
    rows: Range<usize>,
    /// Number of values of each row so far; `None` where there is no list.
    lengths: Vec<Option<usize>>,
    /// Number of rows that have begun, wanted or not.
    n_begun: usize,
    /// Level of a value that is there.
    deepest: u8,
}

impl Lists {
    /// Adds the lists of a page; which of its values belong to rows that are wanted, and how many it has.
    fn add(
        &mut self,
        mut beginnings: Runs<'_>,
        mut depths: Runs<'_>,
    ) -> Result<(Range<usize>, usize), ParquetError> {
        let (mut wanted, mut n_values) = (None::<Range<usize>>, 0);
        while let (Some((level, n_same)), Some((depth, n))) = (beginnings.peek()?, depths.peek()?) {
            // Rows begin one by one, values of the row at hand come all together.
            let n = if level == 0 { 1 } else { n.min(n_same) };
            beginnings.take(n);
            depths.take(n);
            let is_value = depth == self.deepest;
            if depth > self.deepest {
                return Err(broken("a level is too deep"));
            }
            if level == 0 {
                self.n_begun += 1;
            } else if level > 1 || !is_value || self.n_begun == 0 {
                return Err(broken("its levels contradict each other"));
            }
            let row = self.n_begun - 1;
            let is_wanted = self.rows.contains(&row);
            if is_wanted && level == 0 {
                self.lengths.push((depth + 1 >= self.deepest).then_some(0));
            }
            if !is_value {
                continue;
            }
            if is_wanted {
                let length = self.lengths.last_mut().and_then(Option::as_mut);
                *length.ok_or_else(|| broken("a missing list has values"))? += n;
                let start = wanted.map_or(n_values, |wanted| wanted.start);
                wanted = Some(start..n_values + n);
            }
            n_values += n;
        }
        Ok((wanted.unwrap_or(0..0), n_values))
    }

    fn array(self, values: Values, element: Arc<Field>) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(self.lengths.iter().map(|n| n.unwrap_or(0)));
        let nulls: NullBuffer = self.lengths.iter().map(Option::is_some).collect();
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        Arc::new(ListArray::new(element, offsets, values.array(), nulls))
    }
}

/// Values of one kind.
enum Values {
    Numbers(Vec<f32>),
    Bits(BooleanBufferBuilder),
}

impl Values {
    /// Adds some of the `n` values of a page; `false` where they are encoded in a way that is not ours.
    fn add(
        &mut self,
        page: &[u8],
        encoding: Encoding,
        wanted: Range<usize>,
        n: usize,
    ) -> Result<bool, ParquetError> {
        let few = || broken("it has too few values");
        match (self, encoding) {
            (Self::Numbers(values), Encoding::BYTE_STREAM_SPLIT) => {
                if page.len() != n.saturating_mul(4) {
                    return Err(few());
                }
                let stream = |number: usize| &page[number * n..][wanted.clone()];
                let [first, second, third, fourth] = [0, 1, 2, 3].map(stream);
                let bytes = first.iter().zip(second).zip(third).zip(fourth);
                values.extend(bytes.map(|(((&a, &b), &c), &d)| f32::from_le_bytes([a, b, c, d])));
            }
            (Self::Numbers(values), Encoding::PLAIN) => {
                let (numbers, _) = page.as_chunks();
                let numbers = numbers.get(..n).ok_or_else(few)?;
                values.extend(numbers[wanted].iter().map(|&bytes| f32::from_le_bytes(bytes)));
            }
            (Self::Bits(bits), Encoding::PLAIN) => {
                if page.len() < n.div_ceil(8) {
                    return Err(few());
                }
                bits.append_packed_range(wanted, page);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn array(self) -> ArrayRef {
        match self {
            Self::Numbers(values) => Arc::new(Float32Array::from(values)),
            Self::Bits(mut bits) => Arc::new(BooleanArray::new(bits.finish(), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use arrow::{
        array::{Array, RecordBatch},
        datatypes::Schema,
    };
    use parquet::{
        arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
        basic::Compression,
        file::properties::{WriterProperties, WriterVersion},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::shard::columns::list_type;

    fn field(name: &str, element: DataType) -> Field {
        Field::new(name, list_type(element), true)
    }

    /// Lists of numbers and lists of bits of these lengths, all values different where they can be.
    fn columns(lengths: &[Option<usize>]) -> RecordBatch {
        let n: usize = lengths.iter().flatten().sum();
        let offsets = || OffsetBuffer::from_lengths(lengths.iter().map(|n| n.unwrap_or(0)));
        let nulls = || Some(lengths.iter().map(Option::is_some).collect());
        let numbers = Float32Array::from_iter_values((0..n).map(|i| 0.3 * i as f32 - 7.0));
        let bits: BooleanArray = (0..n).map(|i| Some(i * i % 7 < 3)).collect();
        let list = |values: ArrayRef| -> ArrayRef {
            let element = Arc::new(Field::new("element", values.data_type().clone(), false));
            Arc::new(ListArray::new(element, offsets(), values, nulls()))
        };
        let fields = vec![field("numbers", DataType::Float32), field("bits", DataType::Boolean)];
        let arrays = vec![list(Arc::new(numbers)), list(Arc::new(bits))];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    fn stored(batch: &RecordBatch, properties: WriterProperties) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        file
    }

    /// The lists of both columns in some rows as they are read here.
    fn lists(file: &File, rows: Range<usize>) -> Result<Vec<Option<ArrayRef>>, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.try_clone().unwrap()).unwrap();
        let (file, group) = (Arc::new(file.try_clone().unwrap()), builder.metadata().row_group(0));
        let fields = [field("numbers", DataType::Float32), field("bits", DataType::Boolean)];
        let read = |leaf: usize| read(&file, group, leaf, &fields[leaf], rows.clone());
        (0..2).map(read).collect()
    }

    fn properties() -> parquet::file::properties::WriterPropertiesBuilder {
        WriterProperties::builder().set_dictionary_enabled(false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Lists come out as they went in, whatever is missing or empty, in however many pages and encodings.
        #[test]
        fn lists_are_read_as_they_were_written(
            lengths in prop::collection::vec(prop::option::weighted(0.8, 0_usize..40), 1..40),
            page in 1_usize..200,
            split in any::<bool>(),
            zstd in any::<bool>(),
            (first, n) in (0_usize..40, 0_usize..40),
        ) {
            let batch = columns(&lengths);
            let mut properties = properties()
                .set_data_page_row_count_limit(1 + page / 10)
                .set_data_page_size_limit(page)
                .set_write_batch_size(1 + page / 5);
            if split {
                properties = properties.set_column_encoding("numbers.list.element".into(), Encoding::BYTE_STREAM_SPLIT);
            }
            if zstd {
                properties = properties.set_compression(Compression::ZSTD(Default::default()));
            }
            let file = stored(&batch, properties.build());
            let first = first.min(lengths.len());
            let rows = first..(first + n).min(lengths.len());
            for (column, list) in lists(&file, rows.clone()).unwrap().into_iter().enumerate() {
                let expected = batch.column(column).slice(rows.start, rows.len());
                let list = list.expect("it is stored as ours are");
                prop_assert_eq!(list.as_ref(), expected.as_ref());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever a page holds, it is understood or refused, and no list is longer than its values are many.
        #[test]
        fn pages_of_any_bytes_are_lists_or_errors(
            [beginnings, depths, rest] in prop::array::uniform3(
                prop::collection::vec(prop_oneof![3 => 0_u8..5, 1 => any::<u8>()], 0..20),
            ),
            n in 0_usize..200,
            deepest in 1_u8..3,
        ) {
            let mut lists = Lists { rows: 1..9, lengths: Vec::new(), n_begun: 0, deepest };
            let runs = (Runs::of(&beginnings, 1, n), Runs::of(&depths, deepest.ilog2() + 1, n));
            let Ok((wanted, n_values)) = lists.add(runs.0, runs.1) else { return Ok(()) };
            prop_assert!(wanted.end <= n_values && n_values <= n);
            prop_assert_eq!(wanted.len(), lists.lengths.iter().flatten().sum::<usize>());
            for (mut values, encoding) in [
                (Values::Numbers(Vec::new()), Encoding::PLAIN),
                (Values::Numbers(Vec::new()), Encoding::BYTE_STREAM_SPLIT),
                (Values::Bits(BooleanBufferBuilder::new(0)), Encoding::PLAIN),
            ] {
                if values.add(&rest, encoding, wanted.clone(), n_values).is_ok() {
                    prop_assert_eq!(values.array().len(), wanted.len());
                }
            }
        }
    }

    #[test]
    fn other_ways_of_storing_are_left_to_arrow() {
        let batch = columns(&[Some(3), None, Some(0), Some(9)]);
        let is_read = |properties: WriterProperties| {
            lists(&stored(&batch, properties), 0..4)
                .unwrap()
                .iter()
                .map(Option::is_some)
                .collect::<Vec<_>>()
        };
        assert_eq!(is_read(properties().build()), [true, true]);
        // Bits have no dictionaries.
        assert_eq!(is_read(WriterProperties::builder().build()), [false, true]);
        let second = properties().set_writer_version(WriterVersion::PARQUET_2_0);
        assert_eq!(is_read(second.build()), [false, false]);
        let many = columns(&vec![Some(1); 100]);
        assert!(lists(&stored(&many, properties().build()), 0..1).unwrap()[0].is_none());
    }

    /// Levels that say what cannot be.
    #[test]
    fn levels_that_contradict_each_other_are_refused() {
        let lists = |beginnings: &[u8], depths: &[u8], n| {
            let mut lists = Lists { rows: 0..9, lengths: Vec::new(), n_begun: 0, deepest: 2 };
            let added = lists.add(Runs::of(beginnings, 1, n), Runs::of(depths, 2, n));
            added.map(|found| (found, lists.lengths)).map_err(|error| error.to_string())
        };
        // One list of three values, and then one of one.
        let found = lists(&[2, 0, 4, 1, 2, 0], &[8, 2], 4);
        assert_eq!(found.unwrap(), ((0..4, 4), vec![Some(3), Some(1)]));
        // The same levels packed, lowest bits first.
        let packed = lists(&[3, 0b0110], &[3, 0b1010_1010, 0], 4);
        assert_eq!(packed.unwrap(), ((0..4, 4), vec![Some(3), Some(1)]));
        for (beginnings, depths) in [
            (&[2, 1][..], &[2, 2][..]),     // no row has begun
            (&[2, 0, 2, 1], &[2, 2, 2, 1]), // a missing value within a list
            (&[2, 0, 2, 1], &[2, 0, 2, 2]), // a value in a missing list
            (&[4, 0], &[4, 3]),             // deeper than values are
            (&[4, 5], &[4, 2]),             // deeper than lists are
            (&[2, 0], &[4, 2]),             // too few
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 1], &[4, 2]),
            (&[], &[4, 2]),
        ] {
            assert!(lists(beginnings, depths, 2).is_err(), "{beginnings:?} {depths:?}");
        }
    }
}
