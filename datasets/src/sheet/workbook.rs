//! Sheets of a workbook.

use std::collections::BTreeMap;

use super::{
    MAX_CELL_BYTES, MAX_COLUMNS, MAX_ROW_BYTES, MAX_ROWS, SheetError, Visit,
    archive::Archive,
    markup::{Piece, each_piece},
};

/// Largest size of all texts that cells share, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 29;

/// Most texts that cells share.
const MAX_TEXTS: usize = 1 << 23;

/// Gives the rows of a sheet.
pub(super) fn each_row(
    bytes: &[u8],
    sheet: Option<&str>,
    visit: &mut Visit<'_>,
) -> Result<(), SheetError> {
    let archive = Archive::open(bytes)?;
    let relations = relations(&archive)?;
    let sheets = sheets(&archive)?;
    let chosen = sheets.iter().find(|(name, _)| sheet.is_none_or(|sheet| sheet == name));
    let Some((_, relation)) = chosen else {
        let found = sheets.into_iter().map(|(name, _)| name).collect();
        return Err(SheetError::MissingSheet { name: sheet.unwrap_or("1").to_owned(), found });
    };
    let part = relations.targets.get(relation).ok_or_else(|| SheetError::MissingPart {
        part: format!("relation `{relation}` of a sheet"),
    })?;
    let texts = match relations.texts.as_ref().filter(|part| archive.has(part)) {
        Some(part) => Texts::read(&archive, part)?,
        None => Texts::default(),
    };
    rows(&archive, part, &texts, visit)
}

/// Names of parts by the relations of the workbook.
#[derive(Default)]
struct Relations {
    targets: BTreeMap<String, String>,
    /// The part with the texts that cells share.
    texts: Option<String>,
}

fn relations(archive: &Archive<'_>) -> Result<Relations, SheetError> {
    const PART: &str = "xl/_rels/workbook.xml.rels";
    let mut relations = Relations::default();
    each_piece(PART, archive.part(PART)?, |piece| {
        if piece.name() == "Relationship"
            && let (Some(id), Some(target)) = (piece.attribute("Id"), piece.attribute("Target"))
        {
            let part = match target.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None => format!("xl/{target}"),
            };
            if piece.attribute("Type").is_some_and(|kind| kind.ends_with("/sharedStrings")) {
                relations.texts = Some(part.clone());
            }
            relations.targets.insert(id.into_owned(), part);
        }
        Ok(())
    })?;
    Ok(relations)
}

/// Names of the sheets with their relations, in the order of the workbook.
fn sheets(archive: &Archive<'_>) -> Result<Vec<(String, String)>, SheetError> {
    const PART: &str = "xl/workbook.xml";
    let mut sheets = Vec::new();
    each_piece(PART, archive.part(PART)?, |piece| {
        if piece.name() == "sheet"
            && let (Some(name), Some(id)) = (piece.attribute("name"), piece.attribute("id"))
        {
            sheets.push((name.into_owned(), id.into_owned()));
        }
        Ok(())
    })?;
    Ok(sheets)
}

/// The texts that cells share, one behind another.
#[derive(Default)]
struct Texts {
    all: String,
    ends: Vec<u32>,
}

impl Texts {
    fn read(archive: &Archive<'_>, part: &str) -> Result<Self, SheetError> {
        let mut texts = Self::default();
        // Text of a pronunciation is not that of the cell.
        let (mut is_text, mut is_spoken) = (false, false);
        each_piece(part, archive.part(part)?, |piece| {
            match (piece, piece.name()) {
                (Piece::Text(text), _) if is_text && !is_spoken => texts.all.push_str(text),
                (Piece::Start(_), "t") => is_text = true,
                (Piece::End(_), "t") => is_text = false,
                (Piece::Start(_), "rPh") => is_spoken = true,
                (Piece::End(_), "rPh") => is_spoken = false,
                (Piece::End(_), "si") => {
                    let end = u32::try_from(texts.all.len()).unwrap_or(u32::MAX);
                    texts.ends.push(end);
                }
                _ => {}
            }
            if texts.all.len() > MAX_TEXT_BYTES || texts.ends.len() > MAX_TEXTS {
                let what = format!("`{part}` with {} texts", texts.ends.len());
                let [found, limit] = [texts.all.len() as u64, MAX_TEXT_BYTES as u64];
                return Err(SheetError::Size { what, found, limit });
            }
            Ok(())
        })?;
        Ok(texts)
    }

    fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.all.get(start..end)
    }
}

/// What is known of a row before it ends.
#[derive(Default)]
struct Row {
    number: usize,
    cells: Vec<String>,
    n_bytes: usize,
    /// Column of the cell that is read, and what its value stands for.
    column: usize,
    is_shared: bool,
    value: String,
}

fn rows(
    archive: &Archive<'_>,
    part: &str,
    texts: &Texts,
    visit: &mut Visit<'_>,
) -> Result<(), SheetError> {
    let mut row = Row::default();
    let (mut is_value, mut is_spoken) = (false, false);
    each_piece(part, archive.part(part)?, |piece| {
        let attribute = |name| piece.attribute(name);
        match (piece, piece.name()) {
            (Piece::Text(text), _) if is_value && !is_spoken => row.extend(text)?,
            (Piece::Start(_), "row") => row.begin(attribute("r").as_deref())?,
            (Piece::Start(_), "c") => {
                row.cell(attribute("r").as_deref(), attribute("t").as_deref())?;
            }
            (Piece::Start(_), "v" | "t") => is_value = true,
            (Piece::End(_), "v" | "t") => is_value = false,
            (Piece::Start(_), "rPh") => is_spoken = true,
            (Piece::End(_), "rPh") => is_spoken = false,
            (Piece::End(_), "c") => row.finish_cell(texts)?,
            (Piece::End(_), "row") => visit(row.number, &row.cells),
            _ => {}
        }
        Ok(())
    })
}

impl Row {
    fn wrong(&self, found: &'static str) -> SheetError {
        SheetError::Row { row: self.number, found }
    }

    /// Begins the row of a number, by default the next one.
    fn begin(&mut self, number: Option<&str>) -> Result<(), SheetError> {
        let before = self.number;
        let number = number.map_or(Some(before + 1), |number| number.parse().ok());
        let number = number.filter(|&number| number > before && number <= MAX_ROWS);
        self.number = number
            .ok_or_else(|| self.wrong("is followed by one whose number is none of a sheet"))?;
        self.cells.clear();
        self.n_bytes = 0;
        Ok(())
    }

    /// Begins the cell of a reference such as `AB12`, by default the next one.
    fn cell(&mut self, reference: Option<&str>, kind: Option<&str>) -> Result<(), SheetError> {
        let next = self.cells.len();
        let column = reference.map_or(Some(next), column_of);
        let column = column.filter(|column| (next..MAX_COLUMNS).contains(column));
        self.column = column.ok_or_else(|| self.wrong("has a cell that is none of a sheet"))?;
        self.is_shared = kind == Some("s");
        self.value.clear();
        Ok(())
    }

    fn extend(&mut self, text: &str) -> Result<(), SheetError> {
        if self.value.len() + text.len() > MAX_CELL_BYTES {
            return Err(self.wrong("has a cell that is longer than what is read"));
        }
        self.value.push_str(text);
        Ok(())
    }

    fn finish_cell(&mut self, texts: &Texts) -> Result<(), SheetError> {
        let text = if self.is_shared && !self.value.is_empty() {
            let index = self.value.trim().parse().ok();
            let shared = index.and_then(|index| texts.get(index));
            shared.ok_or_else(|| self.wrong("has a cell with a text that the workbook lacks"))?
        } else {
            self.value.as_str()
        };
        if self.n_bytes + text.len() > MAX_ROW_BYTES {
            return Err(self.wrong("is longer than what is read"));
        }
        let text = text.to_owned();
        self.n_bytes += text.len();
        self.cells.resize(self.column, String::new());
        self.cells.push(text);
        Ok(())
    }
}

/// The column of a reference, from 0.
fn column_of(reference: &str) -> Option<usize> {
    let letters = reference.bytes().take_while(u8::is_ascii_uppercase);
    let column =
        letters.take(4).fold(0, |column, letter| 26 * column + usize::from(letter - b'A' + 1));
    column.checked_sub(1)
}
