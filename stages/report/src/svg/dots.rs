//! Dot and box plots: how the values of each row are spread over one common axis.

use std::fmt::Write;

use super::{Axis, CHARACTER, Style, coordinate, escape, write_line, write_text};
use crate::data::{AxisScale, Spread};
use crate::stats::quantile;
use crate::text::{cut, number};

const WIDTH: f64 = 640.0;
const ROW: f64 = 38.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 40.0;

/// Longest label of a row in characters.
const LONGEST_LABEL: usize = 22;

/// Values of one row beyond which dots would only be a blot.
const MOST_DOTS: usize = 400;

/// One row of a dot plot.
#[derive(Clone, Debug, PartialEq)]
pub struct DotRow<'a> {
    /// The label.
    pub label: &'a str,
    /// The target, drawn as an upright mark.
    pub target: Option<f64>,
    /// The values.
    pub spread: &'a Spread,
}

/// Draws rows of dots with boxes (middle half, median), means and targets over one axis named `x_label`.
///
/// A row without values of its own shows its range as a line and its mean; a row without a mean stays empty.
#[must_use]
pub fn dot_plot(rows: &[DotRow<'_>], x_label: &str) -> String {
    let longest =
        rows.iter().map(|row| row.label.chars().count().min(LONGEST_LABEL)).max().unwrap_or(0);
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let left = 16.0 + CHARACTER * longest as f64;
    let axis = Axis::around(covered(rows), AxisScale::Linear).rounded(8).onto(left, WIDTH - 14.0);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
        coordinate(height),
        escape(&describe(rows, x_label))
    );
    let base = height - BOTTOM;
    for (value, label) in axis.ticks(8, false) {
        if let Some(x) = axis.place(value) {
            write_line(&mut svg, [x, TOP], [x, base], "grid");
            write_text(&mut svg, [x, base + 16.0], "tick", "middle", &label);
        }
    }
    write_line(&mut svg, [left, base], [axis.to, base], "axis");
    write_text(&mut svg, [(left + axis.to) / 2.0, height - 4.0], "name", "middle", x_label);
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        write_text(
            &mut svg,
            [left - 10.0, y + 3.5],
            "row-label",
            "end",
            &cut(row.label, LONGEST_LABEL),
        );
        write_row(&mut svg, row, &axis, y, Style::of(index));
    }
    svg.push_str("</svg>");
    svg
}

/// All values that the axis has to cover.
fn covered<'a>(rows: &'a [DotRow<'_>]) -> impl Iterator<Item = f64> + 'a {
    rows.iter().flat_map(|row| {
        let spread = row.spread;
        let marks = [row.target, spread.mean, spread.min, spread.max].into_iter().flatten();
        marks.chain(spread.values.iter().copied())
    })
}

/// Writes dots, box, mean and target of one row around height `y`.
fn write_row(svg: &mut String, row: &DotRow<'_>, axis: &Axis, y: f64, style: Style) {
    let spread = row.spread;
    let place = |value: Option<f64>| axis.place(value?);
    if let (Some(low), Some(high)) = (place(spread.min), place(spread.max)) {
        write_line(svg, [low, y], [high, y], "whisker");
    }
    if spread.values.len() <= MOST_DOTS {
        write_dots(svg, &spread.values, axis, y, style);
    }
    let quartiles = [0.25, 0.5, 0.75].map(|share| place(quantile(&spread.values, share)));
    // Writing into a string cannot fail.
    if let [Some(first), Some(median), Some(third)] = quartiles {
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"12\" class=\"box\" fill=\"none\"/>",
            coordinate(first),
            coordinate(y - 6.0),
            coordinate((third - first).max(0.5))
        );
        write_line(svg, [median, y - 6.0], [median, y + 6.0], "median");
    }
    if let Some(mean) = place(spread.mean) {
        let _ = write!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" class=\"mean-dot f{}\" fill=\"{}\"/>",
            coordinate(mean),
            coordinate(y),
            style.class,
            style.colour
        );
    }
    if let Some(target) = place(row.target) {
        let _ = write!(
            svg,
            "<path d=\"M{x} {}v24M{} {}h8l-4 5z\" class=\"target\"/>",
            coordinate(y - 12.0),
            coordinate(target - 4.0),
            coordinate(y - 17.0),
            x = coordinate(target)
        );
    }
}

/// Writes one dot for each value, moved up and down by a fixed rule so that equal values stay visible.
fn write_dots(svg: &mut String, values: &[f64], axis: &Axis, y: f64, style: Style) {
    let mut path = String::new();
    for (index, value) in values.iter().enumerate() {
        if let Some(x) = axis.place(*value) {
            // Multiples of the golden ratio fill the height evenly and are the same in every run.
            let share = (index as f64 * 0.618_033_988_75).fract();
            // Writing into a string cannot fail.
            let _ = write!(path, "M{} {}h0", coordinate(x), coordinate(y + (share - 0.5) * 20.0));
        }
    }
    if !path.is_empty() {
        let _ = write!(
            svg,
            "<path d=\"{path}\" class=\"dots c{}\" fill=\"none\" stroke=\"{}\"/>",
            style.class, style.colour
        );
    }
}

/// Says in words what the plot shows, for those who cannot see it.
fn describe(rows: &[DotRow<'_>], x_label: &str) -> String {
    let mut text = format!("Dot plot: {x_label}");
    for row in rows {
        // Writing into a string cannot fail.
        let _ = write!(text, "; {} mean {}", row.label, number(row.spread.mean, 3));
        if row.target.is_some() {
            let _ = write!(text, ", target {}", number(row.target, 3));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_without_values_is_golden() {
        let spread =
            Spread { mean: Some(0.5), min: Some(0.0), max: Some(1.0), n: 3, ..Spread::default() };
        let rows = [DotRow { label: "a<b", target: Some(0.5), spread: &spread }];
        let svg = dot_plot(&rows, "Dice");
        assert!(svg.starts_with(
            "<svg class=\"chart\" viewBox=\"0 0 640 86\" role=\"img\" \
             aria-label=\"Dot plot: Dice; a&lt;b mean 0.500, target 0.500\">"
        ));
        assert!(svg.ends_with(
            "<text x=\"24.6\" y=\"30.5\" class=\"row-label\" text-anchor=\"end\">a&lt;b</text>\
             <line x1=\"34.6\" y1=\"27\" x2=\"626\" y2=\"27\" class=\"whisker\"/>\
             <circle cx=\"330.3\" cy=\"27\" r=\"4\" class=\"mean-dot f0\" fill=\"#0072b2\"/>\
             <path d=\"M330.3 15v24M326.3 10h8l-4 5z\" class=\"target\"/></svg>"
        ));
    }

    #[test]
    fn values_make_dots_and_a_box() {
        let spread = Spread::of(vec![0.1, 0.2, 0.3, f64::NAN, 0.4]);
        let svg = dot_plot(&[DotRow { label: "a", target: None, spread: &spread }], "Dice");
        assert_eq!(svg.matches("h0").count(), 4);
        assert!(svg.contains("class=\"box\"") && !svg.contains("class=\"target\""));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn no_rows_and_empty_rows_are_drawn() {
        assert!(dot_plot(&[], "Dice").ends_with("</svg>"));
        let nothing = Spread { mean: Some(f64::NAN), ..Spread::default() };
        let svg = dot_plot(&[DotRow { label: "a", target: None, spread: &nothing }], "Dice");
        assert!(svg.contains("mean –") && !svg.contains("circle"));
    }
}
