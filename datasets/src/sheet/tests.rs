//! Workbooks by openpyxl and XlsxWriter, others packed here with what these do not write, and damaged ones.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{fs, io::Write, path::PathBuf};

use flate2::{Compression, Crc, write::DeflateEncoder};

use super::*;
use crate::{Stream, error::messages};

/// Workbooks that `tests/python/sheet_vectors.py` made.
fn vector(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sheet/vectors")).join(name)
}

type Rows = Vec<(usize, Vec<String>)>;

fn rows_of(path: &Path, sheet: Option<&str>) -> Result<Rows, DatasetsError> {
    let mut rows = Vec::new();
    each_row(path, sheet, |number, cells| rows.push((number, cells.to_vec())))?;
    Ok(rows)
}

fn rows_in(name: &str, bytes: &[u8], sheet: Option<&str>) -> Result<Rows, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    rows_of(&path, sheet).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => messages(source),
        None => error.to_string(),
    })
}

fn row(number: usize, cells: &[&str]) -> (usize, Vec<String>) {
    (number, cells.iter().map(|&cell| cell.to_owned()).collect())
}

/// A part of an archive that is packed here.
struct Part {
    name: &'static str,
    bytes: Vec<u8>,
    method: u16,
    flags: u16,
    /// What the directory says of the size instead of the truth.
    claimed: Option<u32>,
}

fn part(name: &'static str, text: &str) -> Part {
    Part { name, bytes: text.as_bytes().to_vec(), method: 0, flags: 0, claimed: None }
}

fn packed(parts: &[Part]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for part in parts {
        let mut crc = Crc::new();
        crc.update(&part.bytes);
        let stored = match part.method {
            8 => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(&part.bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => part.bytes.clone(),
        };
        let size = part.claimed.unwrap_or(part.bytes.len() as u32);
        let start = bytes.len() as u32;
        let mut head = Vec::new();
        for number in [20, part.flags, part.method, 0, 0] {
            head.extend(number.to_le_bytes());
        }
        for number in [crc.sum(), stored.len() as u32, size] {
            head.extend(number.to_le_bytes());
        }
        head.extend((part.name.len() as u16).to_le_bytes());
        head.extend([0; 2]);
        bytes.extend([&b"PK\x03\x04"[..], head.as_slice(), part.name.as_bytes(), &stored].concat());
        directory.extend([&b"PK\x01\x02"[..], &20_u16.to_le_bytes(), &head, &[0; 10]].concat());
        directory.extend(start.to_le_bytes());
        directory.extend(part.name.as_bytes());
    }
    let n_parts = (parts.len() as u16).to_le_bytes();
    let [size, start] = [directory.len() as u32, bytes.len() as u32].map(u32::to_le_bytes);
    let end = [&b"PK\x05\x06"[..], &[0; 4], &n_parts, &n_parts, &size, &start, &[0; 2]].concat();
    [bytes, directory, end].concat()
}

const BOOK: &str = "<workbook><sheets><sheet name='A' r:id='r1'/></sheets></workbook>";
const RELATIONS: &str = "<Relationships>\
    <Relationship Id=\"r1\" Type=\"x/worksheet\" Target=\"/xl/own/a.xml\"/>\
    <Relationship Id=\"r2\" Type=\"x/sharedStrings\" Target=\"sharedStrings.xml\"/></Relationships>";

/// A workbook with one sheet and shared texts.
fn book(sheet: &str, texts: &str) -> Vec<Part> {
    vec![
        part("xl/workbook.xml", BOOK),
        part("xl/_rels/workbook.xml.rels", RELATIONS),
        part("xl/sharedStrings.xml", texts),
        part("xl/own/a.xml", sheet),
    ]
}

/// The rows of a sheet, or why it cannot be read.
fn rows(sheet: &str, texts: &str) -> Result<Rows, String> {
    rows_in("a.xlsx", &packed(&book(sheet, texts)), None)
}

/// Values that the script wrote; of a formula without a stored result nothing is left.
#[test]
fn cells_of_other_programs_are_read() {
    let expected = [
        row(1, &["text", "12", "1.5", "1", "", "a <b> & \"c\"\nd"]),
        row(3, &["", "", "behind a gap"]),
        row(4, &[vec![""; 27].as_slice(), &["far"]].concat()),
    ];
    assert_eq!(rows_of(&vector("kinds.xlsx"), None).unwrap(), expected);
    assert_eq!(rows_of(&vector("kinds.xlsx"), Some("First & only")).unwrap(), expected);
    assert_eq!(rows_of(&vector("kinds.xlsx"), Some("Second")).unwrap(), [row(1, &["other"])]);
    let error = rows_of(&vector("kinds.xlsx"), Some("Third")).unwrap_err();
    let expected = "there is no sheet `Third`: found [\"First & only\", \"Second\"]";
    assert!(messages(&error).ends_with(expected), "{}", messages(&error));
    let expected = [row(1, &["text", "12", " kept blanks "]), row(3, &["", "", "a <b> & c"])];
    assert_eq!(rows_of(&vector("inline.xlsx"), None).unwrap(), expected);
}

#[test]
fn markup_that_is_allowed_is_understood() {
    let texts = "\u{feff}<?xml version='1.0'?><!-- <si>1 > 0</si> --><sst><si><r><t>ri</t></r><r><t xml:space='preserve'>ch \
        </t></r><rPh><t>spoken</t></rPh></si><si><t><![CDATA[<&>]]></t></si><si/></sst>";
    let sheet = "<x:worksheet xmlns:x=\"a>b\"><x:row><x:c t='s'><x:v>0</x:v></x:c><x:c t=\"s\"><x:v>1</x:v></x:c></x:row>\
        <x:row r='7' ><x:c r='B7' t='inlineStr'><x:is><x:t>&lt;&#65;&#x42;&amp;</x:t></x:is></x:c>\
        <x:c r='D7'><x:f>B1+1</x:f><x:v>3</x:v></x:c><x:c t='s'><x:v>2</x:v></x:c><x:c/></x:row><x:row/></x:worksheet>";
    let expected = [row(1, &["rich ", "<&>"]), row(7, &["", "<AB&", "", "3", "", ""]), row(8, &[])];
    assert_eq!(rows(sheet, texts).unwrap(), expected);
}

#[test]
fn what_no_workbook_has_is_refused_by_its_name() {
    let cell = |inner: &str| format!("<row><c {inner}</c></row>");
    let cases = [
        (cell("t='s'><v>1</v>"), "row 1 has a cell with a text that the workbook lacks"),
        (cell("t='s'><v>-1</v>"), "row 1 has a cell with a text that the workbook lacks"),
        (cell("r='XFE1'><v>1</v>"), "row 1 has a cell that is none of a sheet"),
        (cell("r='ZZZZZZZZ1'>"), "row 1 has a cell that is none of a sheet"),
        (cell("r='1'>"), "row 1 has a cell that is none of a sheet"),
        ("<row><c r='B1'/><c r='A1'/></row>".into(), "row 1 has a cell that is none of a sheet"),
        (
            "<row r='2'/><row r='2'/>".into(),
            "row 2 is followed by one whose number is none of a sheet",
        ),
        ("<row r='1048577'/>".into(), "row 0 is followed by one whose number is none of a sheet"),
    ];
    for (sheet, expected) in cases {
        assert_eq!(rows(&sheet, "<sst><si><t>a</t></si></sst>").unwrap_err(), expected);
    }
    let markup = [
        ("<!DOCTYPE a []><row/>", "it has a document type"),
        ("<row", "syntax error: tag not closed: `>` not found before end of input"),
        (
            "<row a='>",
            "syntax error: attribute value not closed: `'` not found before end of input",
        ),
        ("<row></c>", "ill-formed document: expected `</row>`, but `</c>` was found"),
        ("&what;", "an entity is not known"),
        (&"x".repeat(MAX_CELL_BYTES + 1), "a piece of it is longer than any cell"),
        (&format!("<{}>", "x".repeat(MAX_CELL_BYTES)), "a piece of it is longer than any cell"),
        (&"<a>".repeat(1000), "its elements are nested deeper than those of any workbook"),
    ];
    for (sheet, expected) in markup {
        let part = "part `xl/own/a.xml` of the workbook is no such XML as is read";
        assert_eq!(rows(sheet, "").unwrap_err(), format!("{part}: {expected}"));
    }
    let long = "a".repeat(MAX_CELL_BYTES);
    let texts = format!("<sst><si><t>{long}</t></si></sst>");
    let sheet = format!("<row>{}</row>", "<c t='s'><v>0</v></c>".repeat(17));
    assert_eq!(rows(&sheet, &texts).unwrap_err(), "row 1 is longer than what is read");
    let twice = format!("<row><c><v>{long}<!-- -->{long}</v></c></row>");
    let error = rows(&twice, "").unwrap_err();
    assert_eq!(error, "row 1 has a cell that is longer than what is read");
    let error = rows_in("a.xls", b"", None).unwrap_err();
    assert_eq!(error, "the name must end in .xlsx or .csv");
}

#[test]
fn archives_are_read_only_as_far_as_their_directory_says() {
    let with = |change: &dyn Fn(&mut Part)| {
        let mut parts = book("<row><c><v>1</v></c></row>", "");
        change(&mut parts[3]);
        rows_in("a.xlsx", &packed(&parts), None)
    };
    let part = "part `xl/own/a.xml` of the workbook";
    let expected = [row(1, &["1"])];
    assert_eq!(with(&|part| part.method = 8).unwrap(), expected);
    let error = with(&|part| part.flags = 1).unwrap_err();
    assert_eq!(error, format!("{part} is encrypted"));
    let error = with(&|part| part.method = 12).unwrap_err();
    assert_eq!(error, format!("{part} is compressed in another way than by deflate"));
    let error = with(&|part| part.claimed = Some(u32::MAX)).unwrap_err();
    assert_eq!(error, format!("{part} has sizes of 64 bits, which are not read"));
    let error = with(&|part| part.claimed = Some(1 << 31)).unwrap_err();
    assert_eq!(error, format!("{part} has 2147483648 bytes: at most 1073741824 are read"));
    for method in [0, 8] {
        let error = with(&|part| (part.method, part.claimed) = (method, Some(9))).unwrap_err();
        assert_eq!(error, format!("{part} is damaged: it is longer than its directory says"));
        let error = with(&|part| (part.method, part.claimed) = (method, Some(900))).unwrap_err();
        assert_eq!(error, format!("{part} is damaged: it is shorter than its directory says"));
    }
    // 2^26 bytes of zeros in 65 KB, of which no more than a cell is ever in memory.
    let error = with(&|part| (part.method, part.bytes) = (8, vec![0; 1 << 26])).unwrap_err();
    assert!(error.ends_with("a piece of it is longer than any cell"), "{error}");
    let whole = packed(&book("<row><c><v>1</v></c></row>", ""));
    let place = whole.windows(3).position(|window| window == b"<v>").unwrap();
    let mut flipped = whole.clone();
    flipped[place + 3] = b'2';
    let error = rows_in("a.xlsx", &flipped, None).unwrap_err();
    assert_eq!(error, format!("{part} is damaged: its checksum is wrong"));
    assert_eq!(
        rows_in("a.xlsx", b"PK", None).unwrap_err(),
        "this is no workbook: it has no directory of a zip archive"
    );
    let error = rows_in("a.xlsx", &packed(&[]), None).unwrap_err();
    assert_eq!(error, "the workbook has no part `xl/_rels/workbook.xml.rels`");
}

#[test]
fn text_between_commas_is_read() {
    let text = "\u{feff}\"Patient ID\",b\r\n1,\"a \"\"b\"\", c\nd\"\r\n\r\n,,x\n\"\",é \"q\"";
    let expected = [
        row(1, &["Patient ID", "b"]),
        row(2, &["1", "a \"b\", c\nd"]),
        row(3, &[""]),
        row(4, &["", "", "x"]),
        row(5, &["", "é \"q\""]),
    ];
    assert_eq!(rows_in("a.CSV", text.as_bytes(), None).unwrap(), expected);
    assert_eq!(rows_in("a.csv", b"", None).unwrap(), []);
    assert_eq!(rows_in("a.csv", b"a\n\"b", None).unwrap_err(), "row 2 ends within quotes");
    assert_eq!(rows_in("a.csv", b"\xff,1", None).unwrap(), [row(1, &["\u{fffd}", "1"])]);
    let wide = ",".repeat(MAX_COLUMNS);
    assert_eq!(
        rows_in("a.csv", wide.as_bytes(), None).unwrap_err(),
        "row 1 has more cells than are read"
    );
    let long = "a".repeat(MAX_CELL_BYTES + 1);
    assert_eq!(
        rows_in("a.csv", long.as_bytes(), None).unwrap_err(),
        "row 1 is longer than what is read"
    );
}

/// Whatever is wrong with a file is an error and no panic.
#[test]
fn damaged_workbooks_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.xlsx");
    let mut stream = Stream::new(0, "test.damaged_workbooks", &[]);
    let plain = packed(&book("<row><c t='s'><v>0</v></c></row>", "<sst><si><t>a</t></si></sst>"));
    for whole in [fs::read(vector("kinds.xlsx")).unwrap(), plain] {
        for _ in 0..400 {
            let mut damaged = whole.clone();
            for _ in 0..=stream.below(3) {
                let place = stream.below(damaged.len());
                damaged[place] = stream.below(256) as u8;
            }
            damaged.truncate(damaged.len() - stream.below(2) * stream.below(60));
            fs::write(&path, damaged).unwrap();
            drop(rows_of(&path, None));
        }
    }
}
