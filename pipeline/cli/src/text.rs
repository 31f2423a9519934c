//! Numbers, tables and names as people read them.

use std::borrow::Cow;

/// The text without characters that would move a terminal's cursor or hide what follows.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\t';
    if text.contains(bad) { text.replace(bad, "\u{fffd}").into() } else { text.into() }
}

/// A time such as `0.42 s`, `12.3 s`, `3 min 05 s` or `2 h 07 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match seconds {
        s if s < 1.0 => format!("{:.2} s", s.max(0.0)),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A size such as `512 B`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Reads a size such as `8G`, `512 MiB`, `2GB` or a number of bytes: `K`, `KiB` are 1024 and `KB` is 1000 bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size such as `8G` or `512MiB`: got `{text}`");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor: f64 = match unit.as_str() {
        "" | "b" => 1.0,
        other => {
            let base: f64 = if other.len() == 2 { 1000.0 } else { 1024.0 };
            let letter = other.strip_suffix("ib").or_else(|| other.strip_suffix('b'));
            let exponent = ["k", "m", "g", "t"].iter().position(|&l| l == letter.unwrap_or(other));
            base.powi(exponent.ok_or_else(wrong)? as i32 + 1)
        }
    };
    let bytes = number * factor;
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Reads a share such as `0.1` or `10%`.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    let share = number.trim().parse::<f64>().ok().map(|number| number * scale);
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("expected a share such as `0.1` or `10%`: got `{text}`"))
}

/// `1 cell`, `3 cells`.
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The first reasons, joined, and the number of the others.
pub(crate) fn reasons(reasons: &[engine::Reason]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = reasons.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = reasons.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join("; "))
}

/// The text, shortened to `limit` characters.
pub(crate) fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A name that is one file name on every system, whatever it was made from.
pub(crate) fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_=.,".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).take(120).collect();
    match name.trim_matches(['.', '_']) {
        "" => "unnamed".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

/// Lines whose columns stand below each other; numbers, which the caller names, to the right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// A table with a first line of titles.
    pub(crate) fn titled(titles: &[&str]) -> Self {
        Self {
            rows: vec![titles.iter().map(|&title| title.to_owned()).collect()],
            right: Vec::new(),
        }
    }

    /// Columns, counted from 0, that end below each other instead of beginning so.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a line.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, without space at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                if self.right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        let times = [0.0, 0.417, 12.34, 185.0, 7620.0].map(duration);
        assert_eq!(times, ["0.00 s", "0.42 s", "12.3 s", "3 min 05 s", "2 h 07 min"]);
        let sizes = [0, 1023, 1536, 1 << 20, 5 << 40].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "1.0 MiB", "5.0 TiB"]);
    }

    #[test]
    fn sizes_are_read() {
        let cases =
            [("4096", 4096), ("8G", 8 << 30), ("1.5 KiB", 1536), ("2kb", 2000), ("3 T", 3 << 40)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "8X", "-1", "0", "1e30", "8 GiBs"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_read() {
        assert_eq!(
            ["0", "1", "0.5", "100%"].map(|t| parse_share(t).ok()),
            [0.0, 1.0, 0.5, 1.0].map(Some)
        );
        for text in ["", "%", "-1", "1.5", "101%", "NaN", "half"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn file_names_stay_where_they_are_put() {
        assert_eq!(file_name("report[seed=0,subset=1-2]"), "report_seed=0,subset=1-2");
        assert_eq!(file_name("../../etc/passwd"), "etc_passwd");
        assert_eq!(file_name(".."), "unnamed");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::titled(&["name", "n"]).right(&[1]);
        table.row(["é", "10"]);
        table.row(["long name", "2"]);
        assert_eq!(table.lines(), ["name        n", "é          10", "long name   2"]);
    }
}
