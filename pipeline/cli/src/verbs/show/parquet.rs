//! Parquet files: schema, statistics, first rows and pictures.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use datasets::{
    DatasetsError,
    shard::{ColumnDescription, ShardDescription, describe, pictures, rows_as_json},
};
use serde_json::{Map, Value, json};

use super::View;
use crate::{
    console::{Console, Label},
    error::CliError,
    text::{Table, count, file_name, shortened, size},
    world::World,
};

/// Most rows that are searched for the least and the greatest value of a column.
const MOST_ROWS: usize = 20_000;
/// Arrow types whose values have an order that means something.
const ORDERED: [&str; 5] = ["Int32", "Int64", "Float32", "Float64", "Utf8"];
/// Characters of a value.
const VALUE_WIDTH: usize = 24;

/// What is shown of a Parquet file.
pub(super) struct ShardView {
    about: ShardDescription,
    /// Least and greatest value by column.
    ranges: Vec<Option<(Value, Value)>>,
    rows: Vec<Map<String, Value>>,
}

impl ShardView {
    /// Reads a file that is called `name` and keeps `n_rows` rows of it.
    pub(super) fn read(path: &Path, name: &str, n_rows: usize) -> Result<Self, CliError> {
        let wrong = |source| CliError::Shard { path: name.to_owned(), source };
        let about = describe(path).map_err(wrong)?;
        let limit = if about.n_rows <= MOST_ROWS { about.n_rows } else { n_rows };
        let mut rows = rows_as_json(path, limit).map_err(wrong)?;
        let complete = rows.len() == about.n_rows;
        let range_of = |column: &ColumnDescription| {
            let ordered = complete && ORDERED.contains(&column.kind.as_str());
            if ordered { range(&rows, &column.name) } else { None }
        };
        let ranges = about.columns.iter().map(range_of).collect();
        rows.truncate(n_rows);
        Ok(Self { about, ranges, rows })
    }

    /// Prints the view.
    pub(super) fn show(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let ShardDescription { columns, n_rows, row_groups, created_by, metadata } = &self.about;
        let by = created_by.as_ref().map_or_else(String::new, |by| format!(", written by {by}"));
        let groups = count(row_groups.len(), "row group");
        console.line(format!("  {} in {groups}{by}", count(*n_rows, "row")))?;
        for (key, value) in metadata.iter().filter(|(key, _)| key != "ARROW:schema") {
            console.line(format!("  {key} = {}", shortened(value, 100)))?;
        }
        let mut table =
            Table::titled(&["", "column", "type", "size", "missing", "least", "greatest"])
                .right(&[3, 4]);
        for (column, range) in columns.iter().zip(&self.ranges) {
            let (low, high) = range
                .as_ref()
                .map_or_else(Default::default, |(low, high)| (short_value(low), short_value(high)));
            let (bytes, nulls) = (size(column.bytes), column.n_nulls.to_string());
            let kind = shortened(&column.kind, 40);
            table.row(["", &column.name, &kind, &bytes, &nulls, &low, &high]);
        }
        table.lines().iter().try_for_each(|line| console.line(line))?;
        for row in &self.rows {
            let row: Map<String, Value> =
                row.iter().map(|(key, value)| (key.clone(), short_strings(value))).collect();
            console.line(format!("  {}", Value::Object(row)))?;
        }
        Ok(())
    }

    /// The view as a value.
    pub(super) fn to_json(&self) -> Value {
        let columns = self.about.columns.iter().zip(&self.ranges).map(|(column, range)| {
            let mut value = json!(column);
            if let Some((low, high)) = range {
                value["min"] = low.clone();
                value["max"] = high.clone();
            }
            value
        });
        json!({
            "columns": columns.collect::<Vec<_>>(),
            "n_rows": self.about.n_rows,
            "row_groups": self.about.row_groups,
            "created_by": self.about.created_by,
            "metadata": self.about.metadata,
            "rows": self.rows,
        })
    }
}

/// Shows a file of the user.
pub(super) fn show_file(
    path: &Path,
    world: &World,
    view: &View<'_>,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let name = world.shown(path);
    let shard = ShardView::read(path, &name, view.rows)?;
    if let Some(folder) = view.pictures {
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        let n = write_pictures(path, &stem, folder)?;
        tell_pictures(n, folder, console);
    }
    if view.json {
        return console.json_pretty(&shard.to_json());
    }
    console.line(format!("{name}:"))?;
    shard.show(console)
}

/// Writes the pictures of a shard into a folder, under names that begin with the shard's, and counts them; a table that
/// is no shard has none.
pub(super) fn write_pictures(path: &Path, name: &str, folder: &Path) -> Result<usize, CliError> {
    let found = match pictures(path) {
        Ok(found) => found,
        Err(DatasetsError::MissingColumn { .. }) => return Ok(0),
        Err(source) => return Err(CliError::Shard { path: name.to_owned(), source }),
    };
    fs::create_dir_all(folder).map_err(CliError::file("create", folder))?;
    let stem = name.strip_suffix(".parquet").unwrap_or(name);
    let n = found.len();
    for (picture, png) in found {
        let target = folder.join(file_name(&format!("{stem}-{picture}")));
        // A link under this name would lead out of the folder, so whatever is there goes first.
        let _ = fs::remove_file(&target);
        let written = File::create_new(&target).and_then(|mut file| file.write_all(&png));
        written.map_err(CliError::file("write", &target))?;
    }
    Ok(n)
}

/// Says how many pictures lie in a folder now.
pub(super) fn tell_pictures(n: usize, folder: &Path, console: &mut Console<'_>) {
    match n {
        0 => console.say(Label::Warning, "nothing here holds pictures"),
        n => console.remark(&format!("{} in {}", count(n, "picture"), folder.display())),
    }
}

fn range(rows: &[Map<String, Value>], column: &str) -> Option<(Value, Value)> {
    let values = || rows.iter().filter_map(|row| row.get(column)).filter(|value| !value.is_null());
    let order = |a: &&Value, b: &&Value| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.as_str().cmp(&b.as_str()),
    };
    Some((values().min_by(order)?.clone(), values().max_by(order)?.clone()))
}

fn short_value(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    shortened(&text, VALUE_WIDTH).into_owned()
}

/// The value with its texts shortened.
fn short_strings(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(shortened(text, 2 * VALUE_WIDTH)),
        other => other.clone(),
    }
}
