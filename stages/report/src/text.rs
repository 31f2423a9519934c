//! Numbers and digests as text.

/// What stands for an absent value.
pub(crate) const ABSENT: &str = "–";

/// Characters of a digest that a footnote shows.
const SHORT_DIGEST: usize = 12;

/// Writes `value` with `decimals` decimals and a true minus sign; an absent value or NaN gives [`ABSENT`].
pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    match value {
        None => ABSENT.to_owned(),
        Some(value) if value.is_nan() => ABSENT.to_owned(),
        Some(value) if value.is_infinite() => if value > 0.0 { "∞" } else { "−∞" }.to_owned(),
        Some(value) => {
            let digits = format!("{:.decimals$}", value.abs());
            if value < 0.0 && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
                format!("−{digits}")
            } else {
                digits
            }
        }
    }
}

/// Writes `value` as [`number`] does, with `+` before what is above zero.
pub(crate) fn signed(value: Option<f64>, decimals: usize) -> String {
    let digits = number(value, decimals);
    let above = value.is_some_and(|value| value > 0.0);
    if above && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        format!("+{digits}")
    } else {
        digits
    }
}

/// Writes `value` with up to four significant digits and no trailing zeros.
pub(crate) fn compact(value: Option<f64>) -> String {
    let Some(finite) = value.filter(|value| value.is_finite()) else {
        return number(value, 0);
    };
    let magnitude = finite.abs();
    let decimals = match magnitude {
        0.0 => 0,
        small if small < 1e-4 => return format!("{finite:.2e}").replace('-', "−"),
        small if small < 0.01 => 5,
        small if small < 1.0 => 4,
        middle if middle < 10.0 => 3,
        middle if middle < 100.0 => 2,
        middle if middle < 1000.0 => 1,
        _ => 0,
    };
    let digits = number(value, decimals);
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        digits
    }
}

/// Shortens a digest to its first characters, without an algorithm prefix such as `blake3:`.
pub(crate) fn short_digest(digest: &str) -> String {
    let bare = digest.rsplit(':').next().unwrap_or(digest);
    bare.chars().take(SHORT_DIGEST).collect()
}

/// Cuts `text` to at most `limit` characters, the last of which is then an ellipsis.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_broken_numbers_are_dashes() {
        assert_eq!(number(None, 2), "–");
        assert_eq!(number(Some(f64::NAN), 2), "–");
        assert_eq!(number(Some(f64::INFINITY), 2), "∞");
        assert_eq!(signed(Some(f64::NAN), 1), "–");
        assert_eq!(compact(None), "–");
    }

    #[test]
    fn signs_follow_the_rounded_value() {
        assert_eq!(number(Some(-1.234), 2), "−1.23");
        assert_eq!(number(Some(-0.001), 2), "0.00");
        assert_eq!(signed(Some(0.456), 1), "+0.5");
        assert_eq!(signed(Some(0.01), 1), "0.0");
    }

    #[test]
    fn compact_numbers_lose_their_zeros() {
        assert_eq!(compact(Some(8.25)), "8.25");
        assert_eq!(compact(Some(100.0)), "100");
        assert_eq!(compact(Some(0.5)), "0.5");
        assert_eq!(compact(Some(2e-6)), "2.00e−6");
    }

    #[test]
    fn digests_and_labels_are_cut() {
        assert_eq!(short_digest("blake3:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_digest("7c1e"), "7c1e");
        assert_eq!(cut("erode", 5), "erode");
        assert_eq!(cut("erosion", 5), "eros…");
    }
}
