//! SVG plots as text: axes with round ticks, lines and dots that are told apart without colour.
//!
//! Colours: Okabe and Ito, "Color Universal Design" (2008), each with a dash pattern of its own. Every colour is given
//! twice, as an attribute for the SVG alone and as a class that the page's style sheet adapts to dark paper.
//! All text is escaped; coordinates are rounded to a tenth, so equal data give equal bytes.

mod dots;
mod lines;

use std::fmt::Write;

pub use dots::{DotRow, dot_plot};
pub use lines::{line_chart, swatch};

use crate::data::AxisScale;

/// Colours of Okabe and Ito without yellow, which is too faint on white; black comes last.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Dash patterns, one for each colour.
const DASHES: [&str; 7] = ["", "7 3", "2 2.5", "8 3 2 3", "12 4", "4 2 1.5 2", "1 3"];

/// Width of a character of the plots' text in units of the drawing, on average.
const CHARACTER: f64 = 6.2;

/// How series number `index` is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    /// Class number, 0 to 6.
    class: usize,
    /// Colour on light paper.
    colour: &'static str,
    /// Dash pattern; empty for a solid line.
    dash: &'static str,
}

impl Style {
    /// Style of series number `index`; after seven the colours come again with other dashes.
    fn of(index: usize) -> Self {
        let class = index % COLOURS.len();
        Self {
            class,
            colour: COLOURS[class],
            dash: DASHES[(index + index / COLOURS.len()) % DASHES.len()],
        }
    }

    /// The attribute for the dash pattern, with a leading blank; empty for a solid line.
    fn dash_attribute(self) -> String {
        if self.dash.is_empty() {
            String::new()
        } else {
            format!(" stroke-dasharray=\"{}\"", self.dash)
        }
    }
}

/// Escapes text for element content and quoted attributes, as the page template does; control characters become blanks.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '/' => escaped.push_str("&#x2f;"),
            other if other.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Writes a coordinate with at most one decimal.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// One axis: the values that it covers and the places to which it maps them.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    scale: AxisScale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Covers the finite ones of `values` (the positive ones on a log axis), widened where they are all equal.
    fn around(values: impl Iterator<Item = f64>, scale: AxisScale) -> Self {
        let usable =
            |value: &f64| value.is_finite() && (scale == AxisScale::Linear || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(usable) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = if scale == AxisScale::Linear { (0.0, 1.0) } else { (0.1, 1.0) };
        } else if low == high {
            let margin = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - margin, high + margin);
        }
        Self { scale, low, high, from: 0.0, to: 1.0 }
    }

    /// Widens the axis to the next ticks on both sides.
    fn rounded(mut self, wanted: usize) -> Self {
        match self.scale {
            AxisScale::Linear => {
                let step = nice_step(self.high - self.low, wanted);
                self.low = (self.low / step + 1e-9).floor() * step;
                self.high = (self.high / step - 1e-9).ceil() * step;
            }
            AxisScale::Log => {
                self.low = round_log(self.low, false);
                self.high = round_log(self.high, true);
            }
        }
        self
    }

    /// Maps `low` to `from` and `high` to `to`.
    fn onto(mut self, from: f64, to: f64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// Place of `value`; absent where the axis has none for it.
    fn place(&self, value: f64) -> Option<f64> {
        let share = match self.scale {
            AxisScale::Linear => (value - self.low) / (self.high - self.low),
            AxisScale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        share.is_finite().then_some(self.from + share * (self.to - self.from))
    }

    /// About `wanted` round values on the axis with their labels.
    fn ticks(&self, wanted: usize, whole: bool) -> Vec<(f64, String)> {
        match self.scale {
            AxisScale::Linear => self.linear_ticks(wanted, whole),
            AxisScale::Log => self.log_ticks(wanted),
        }
    }

    fn linear_ticks(&self, wanted: usize, whole: bool) -> Vec<(f64, String)> {
        let step = nice_step(self.high - self.low, wanted);
        let step = if whole { step.max(1.0) } else { step };
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|index| {
                let value = index as f64 * step;
                let label = if value.abs() >= 1e6 || decimals > 6 {
                    crate::text::compact(Some(value))
                } else {
                    crate::text::number(Some(value), decimals)
                };
                (value, label)
            })
            .collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = (last - first).max(1) as usize;
        let (factors, every): (&[f64], usize) = if decades * 2 <= wanted {
            (&[1.0, 2.0, 5.0], 1)
        } else {
            (&[1.0], decades.div_ceil(wanted).max(1))
        };
        let within =
            |value: &f64| *value >= self.low * (1.0 - 1e-9) && *value <= self.high * (1.0 + 1e-9);
        (first..=last)
            .step_by(every)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(within)
            .map(|value| (value, crate::text::compact(Some(value))))
            .collect()
    }
}

/// The next of 1, 2, 5 times a power of ten on the given side of `value`.
fn round_log(value: f64, up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let share = value / power;
    let steps = [1.0, 2.0, 5.0, 10.0];
    let found = if up {
        steps.into_iter().find(|step| *step >= share - 1e-9)
    } else {
        steps.into_iter().rev().find(|step| *step <= share + 1e-9)
    };
    found.unwrap_or(1.0) * power
}

/// The step of 1, 2 or 5 times a power of ten that cuts `span` into about `wanted` parts.
fn nice_step(span: f64, wanted: usize) -> f64 {
    let raw = span / wanted.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    let share = raw / power;
    let step = match share {
        small if small < 1.5 => 1.0,
        small if small < 3.5 => 2.0,
        small if small < 7.5 => 5.0,
        _ => 10.0,
    };
    step * power
}

/// Appends a text element; `class` and `anchor` as in SVG.
fn write_text(svg: &mut String, [x, y]: [f64; 2], class: &str, anchor: &str, text: &str) {
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>",
        coordinate(x),
        coordinate(y),
        escape(text)
    );
}

/// Appends a straight line of a class.
fn write_line(svg: &mut String, from: [f64; 2], to: [f64; 2], class: &str) {
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{class}\"/>",
        coordinate(from[0]),
        coordinate(from[1]),
        coordinate(to[0]),
        coordinate(to[1])
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, wanted: usize, whole: bool) -> Vec<String> {
        axis.ticks(wanted, whole).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::around([0.613, 0.871].into_iter(), AxisScale::Linear).rounded(5);
        assert_eq!(
            labels(&axis, 5, false),
            ["0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90"]
        );
        let epochs = Axis::around([0.0, 3.0].into_iter(), AxisScale::Linear);
        assert_eq!(labels(&epochs, 6, true), ["0", "1", "2", "3"]);
        let below = Axis::around([-2.0, 2.0].into_iter(), AxisScale::Linear).rounded(4);
        assert_eq!(labels(&below, 4, false), ["−2", "−1", "0", "1", "2"]);
    }

    #[test]
    fn log_ticks_are_powers_or_finer() {
        let wide = Axis::around([0.002, 3.0].into_iter(), AxisScale::Log).rounded(4);
        assert_eq!(labels(&wide, 4, false), ["0.01", "0.1", "1"].map(str::to_owned));
        let narrow = Axis::around([0.2, 0.9].into_iter(), AxisScale::Log).rounded(5);
        assert_eq!(labels(&narrow, 5, false), ["0.2", "0.5", "1"]);
    }

    #[test]
    fn axes_survive_no_values_equal_values_and_nan() {
        for values in [vec![], vec![f64::NAN], vec![2.0, 2.0], vec![0.0]] {
            let axis =
                Axis::around(values.into_iter(), AxisScale::Linear).rounded(4).onto(100.0, 0.0);
            assert!(axis.place(1.0).is_some());
            assert!(axis.place(f64::NAN).is_none());
            assert!(axis.ticks(4, false).len() >= 2);
        }
        let log = Axis::around([-1.0, 0.0].into_iter(), AxisScale::Log).rounded(4);
        assert!(log.place(0.0).is_none() && log.place(-1.0).is_none());
    }

    #[test]
    fn styles_stay_apart_beyond_seven() {
        let styles: Vec<Style> = (0..21).map(Style::of).collect();
        for (index, style) in styles.iter().enumerate() {
            assert!(!styles[index + 1..].contains(style));
        }
    }

    #[test]
    fn text_is_escaped_and_coordinates_short() {
        assert_eq!(escape("</a b=\"c\">&'\n"), "&lt;&#x2f;a b=&quot;c&quot;&gt;&amp;&#39; ");
        assert_eq!(coordinate(-0.01), "0");
        assert_eq!(coordinate(12.34), "12.3");
    }
}
