//! JPEG Lossless of one sample: Huffman-coded differences to a prediction.
//!
//! Source: ITU-T T.81, annex H (lossless mode), F.2.2.3 (decoding), C.2 (Huffman tables).
//! Numbers come out as stored; nothing is converted, and no more is made than the header of the file asked for.

/// Bytes of a stream from its start of image on, with the markers taken apart.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.at).ok_or(ENDS)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next marker.
    fn marker(&mut self) -> Result<u8, &'static str> {
        if self.byte()? != 0xff {
            return Err("a marker is missing");
        }
        loop {
            match self.byte()? {
                0xff => {}
                0 => return Err("a marker is missing"),
                marker => return Ok(marker),
            }
        }
    }

    /// What a marker segment holds.
    fn segment(&mut self) -> Result<&'a [u8], &'static str> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let end = self.at + length.checked_sub(2).ok_or("a segment is too short")?;
        let segment = self.bytes.get(self.at..end).ok_or(ENDS)?;
        self.at = end;
        Ok(segment)
    }
}

const ENDS: &str = "it ends too early";
const FOREIGN: &str = "its header is not that of one sample in lossless mode";

/// A Huffman table: for every length of code the first code, and where its values begin.
#[derive(Clone)]
struct Table {
    /// By length of code from 1: the smallest code, the number of codes, and the place of the first value.
    lengths: [(u32, u32, usize); 16],
    values: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8; 16], values: &[u8]) -> Result<Self, &'static str> {
        let (mut code, mut place) = (0_u32, 0);
        let mut lengths = [(0, 0, 0); 16];
        for (n, (&count, length)) in counts.iter().zip(&mut lengths).enumerate() {
            *length = (code, u32::from(count), place);
            code += u32::from(count);
            place += usize::from(count);
            if code > 1 << (n + 1) {
                return Err("a Huffman table has too many codes");
            }
            code <<= 1;
        }
        if values.iter().any(|&value| value > 16) {
            return Err("a Huffman table has differences of more than 16 bits");
        }
        Ok(Self { lengths, values: values.to_vec() })
    }
}

/// Bits of entropy-coded data, without stuffed zeros.
struct Bits<'a, 'b> {
    reader: &'b mut Reader<'a>,
    held: u32,
    n_held: u32,
}

impl Bits<'_, '_> {
    fn bit(&mut self) -> Result<u32, &'static str> {
        if self.n_held == 0 {
            let byte = self.reader.byte()?;
            if byte == 0xff {
                match self.reader.byte()? {
                    0 => {}
                    _ => return Err("a marker interrupts it"),
                }
            }
            (self.held, self.n_held) = (byte.into(), 8);
        }
        self.n_held -= 1;
        Ok(self.held >> self.n_held & 1)
    }

    fn bits(&mut self, n: u8) -> Result<i32, &'static str> {
        (0..n).try_fold(0, |bits, _| Ok(bits << 1 | self.bit()?.cast_signed()))
    }

    fn symbol(&mut self, table: &Table) -> Result<u8, &'static str> {
        let mut code = 0;
        for &(first, count, place) in &table.lengths {
            code = code << 1 | self.bit()?;
            if code >= first && code - first < count {
                let value = table.values.get(place + (code - first) as usize);
                return value.copied().ok_or("a Huffman code means nothing");
            }
        }
        Err("a Huffman code means nothing")
    }

    /// A difference (T.81, F.2.2.1 and H.1.2.2).
    fn difference(&mut self, table: &Table) -> Result<i32, &'static str> {
        match self.symbol(table)? {
            0 => Ok(0),
            16 => Ok(1 << 15),
            n => {
                let bits = self.bits(n)?;
                Ok(if bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits })
            }
        }
    }
}

/// What the markers before the data say.
#[derive(Default)]
struct Header {
    precision: u8,
    tables: [Option<Table>; 4],
    restart_interval: usize,
}

/// Decodes an image of `[rows, columns]`.
///
/// # Errors
/// What is wrong with the stream.
pub(super) fn decode(stored: &[u8], shape: [usize; 2]) -> Result<Vec<u16>, &'static str> {
    // A pixel takes at least a bit.
    if shape[0] * shape[1] > stored.len().saturating_mul(8) {
        return Err(ENDS);
    }
    let mut reader = Reader { bytes: stored, at: 0 };
    if reader.marker()? != 0xd8 {
        return Err("it does not begin as JPEG does");
    }
    let mut header = Header::default();
    loop {
        match reader.marker()? {
            0xc3 => header.precision = frame(reader.segment()?, shape)?,
            0xc4 => tables(reader.segment()?, &mut header.tables)?,
            0xdd => {
                let interval = reader.segment()?.first_chunk::<2>().ok_or(FOREIGN)?;
                header.restart_interval = u16::from_be_bytes(*interval).into();
            }
            0xda => {
                let scan = *reader.segment()?.first_chunk::<6>().ok_or(FOREIGN)?;
                return scan_of(&mut reader, &header, scan, shape);
            }
            0xe0..=0xef | 0xfe => drop(reader.segment()?),
            _ => return Err(FOREIGN),
        }
    }
}

/// Bits of a sample.
fn frame(segment: &[u8], [rows, columns]: [usize; 2]) -> Result<u8, &'static str> {
    let &[precision, y1, y0, x1, x0, 1, _, 0x11, _] = segment else { return Err(FOREIGN) };
    let found = [u16::from_be_bytes([y1, y0]), u16::from_be_bytes([x1, x0])].map(usize::from);
    match (found == [rows, columns], precision) {
        (true, 2..=16) => Ok(precision),
        (true, _) => Err(FOREIGN),
        (false, _) => Err("its size is not that of the header"),
    }
}

fn tables(mut segment: &[u8], tables: &mut [Option<Table>; 4]) -> Result<(), &'static str> {
    while let Some((&place, rest)) = segment.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>().ok_or(ENDS)?;
        let n_values = counts.iter().map(|&count| usize::from(count)).sum();
        let (values, rest) = rest.split_at_checked(n_values).ok_or(ENDS)?;
        let table = tables.get_mut(usize::from(place)).ok_or(FOREIGN)?;
        *table = Some(Table::new(counts, values)?);
        segment = rest;
    }
    Ok(())
}

fn scan_of(
    reader: &mut Reader<'_>,
    header: &Header,
    scan: [u8; 6],
    [rows, columns]: [usize; 2],
) -> Result<Vec<u16>, &'static str> {
    let [1, _, tables, predictor @ 1..=7, 0, shift] = scan else { return Err(FOREIGN) };
    let table = header.tables.get(usize::from(tables >> 4)).and_then(Option::as_ref);
    let table = table.ok_or("a Huffman table is missing")?;
    let start = header.precision.checked_sub(shift & 15).filter(|&bits| bits > 0).ok_or(FOREIGN)?;
    let start = 1_i32 << (start - 1);
    let mut found: Vec<u16> = Vec::with_capacity(rows * columns);
    let mut bits = Bits { reader, held: 0, n_held: 0 };
    let mut first_row = 0;
    for row in 0..rows {
        for column in 0..columns {
            let place = row * columns + column;
            let interval = header.restart_interval;
            if interval > 0 && place > 0 && place % interval == 0 {
                if column > 0 {
                    return Err("it restarts within a row");
                }
                (bits.held, bits.n_held) = (0, 0);
                if !matches!(bits.reader.marker()?, 0xd0..=0xd7) {
                    return Err("a restart is missing");
                }
                first_row = row;
            }
            let left = |back: usize| i32::from(found[place - back]);
            let prediction = match (row - first_row, column) {
                (0, 0) => start,
                (0, _) => left(1),
                (_, 0) => left(columns),
                _ => {
                    let (a, b, c) = (left(1), left(columns), left(columns + 1));
                    match predictor {
                        1 => a,
                        2 => b,
                        3 => c,
                        4 => a + b - c,
                        5 => a + ((b - c) >> 1),
                        6 => b + ((a - c) >> 1),
                        _ => (a + b) >> 1,
                    }
                }
            };
            // Modulo 2^16 (H.1.2.1).
            found.push((prediction + bits.difference(table)?) as u16);
        }
    }
    found.iter_mut().for_each(|number| *number <<= shift & 15);
    Ok(found)
}
