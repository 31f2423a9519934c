//! Line charts: one line for each seed, the mean of the seeds above them, labels at the lines' ends.

use std::fmt::Write;

use super::{Axis, CHARACTER, Style, coordinate, escape, write_line, write_text};
use crate::data::{AxisScale, Line, Panel, Series};
use crate::text::{compact, cut};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 280.0;
const BOTTOM: f64 = 42.0;
const LEFT: f64 = 50.0;

/// Longest label at a line's end, in characters; the legend has the whole.
const LONGEST_LABEL: usize = 20;

/// Height that a label at a line's end takes.
const LABEL_HEIGHT: f64 = 13.0;

/// Draws a panel as a line chart; `order` gives each series its style by the place of its label.
///
/// With several seeds the seeds are thin lines and their mean, over the places that all seeds have, is the thick one.
/// Values that are not finite (or not positive on a log axis) break a line; a point between two breaks is a dot.
///
/// # Examples
/// ```
/// use report::{Line, Panel, Series};
/// let line = Line { seed: Some(0), points: vec![[0.0, 0.5], [1.0, 0.8]] };
/// let series = Series { label: "UMA-Net".into(), lines: vec![line] };
/// let panel = Panel { title: "Dice".into(), series: vec![series], ..Panel::default() };
/// let svg = report::svg::line_chart(&panel, "epoch", &["UMA-Net".into()]);
/// assert!(svg.contains("UMA-Net"));
/// ```
#[must_use]
pub fn line_chart(panel: &Panel, x_label: &str, order: &[String]) -> String {
    let drawn: Vec<Drawn> = panel.series.iter().map(|series| Drawn::new(series, order)).collect();
    let longest = drawn.iter().map(|drawn| drawn.label.chars().count()).max().unwrap_or(0);
    let right = 18.0 + CHARACTER * longest as f64;
    let [x_axis, y_axis] = axes(panel, right);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(&describe(panel, x_label))
    );
    write_axes(&mut svg, panel, x_label, &x_axis, &y_axis);
    for drawn in &drawn {
        drawn.write(&mut svg, &x_axis, &y_axis);
    }
    write_rules(&mut svg, panel, &drawn, &x_axis, &y_axis);
    write_labels(&mut svg, &drawn, &x_axis, &y_axis);
    svg.push_str("</svg>");
    svg
}

/// Draws a short line in the style of series number `index`, for a legend.
#[must_use]
pub fn swatch(index: usize) -> String {
    let style = Style::of(index);
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 34 10\" aria-hidden=\"true\">\
         <path d=\"M1 5H33\" class=\"mean c{}\" fill=\"none\" stroke=\"{}\"{}/></svg>",
        style.class,
        style.colour,
        style.dash_attribute()
    )
}

/// A series as it is drawn.
struct Drawn<'a> {
    label: String,
    style: Style,
    lines: &'a [Line],
    mean: Vec<[f64; 2]>,
}

impl<'a> Drawn<'a> {
    fn new(series: &'a Series, order: &[String]) -> Self {
        let place = order.iter().position(|label| *label == series.label).unwrap_or(order.len());
        Self {
            label: cut(&series.label, LONGEST_LABEL),
            style: Style::of(place),
            lines: &series.lines,
            mean: mean_line(&series.lines),
        }
    }

    fn write(&self, svg: &mut String, x_axis: &Axis, y_axis: &Axis) {
        if self.lines.len() > 1 {
            for line in self.lines {
                self.write_path(svg, &line.points, "seed", x_axis, y_axis);
            }
        }
        self.write_path(svg, &self.mean, "mean", x_axis, y_axis);
    }

    fn write_path(
        &self,
        svg: &mut String,
        points: &[[f64; 2]],
        class: &str,
        x_axis: &Axis,
        y_axis: &Axis,
    ) {
        let path = path_data(points, x_axis, y_axis);
        if !path.is_empty() {
            let dash = if class == "mean" { self.style.dash_attribute() } else { String::new() };
            // Writing into a string cannot fail.
            let _ = write!(
                svg,
                "<path d=\"{path}\" class=\"{class} c{}\" fill=\"none\" stroke=\"{}\"{dash}/>",
                self.style.class, self.style.colour
            );
        }
    }

    /// The last place of the mean line that can be drawn.
    fn end(&self, x_axis: &Axis, y_axis: &Axis) -> Option<[f64; 2]> {
        self.mean.iter().rev().find_map(|&[x, y]| Some([x_axis.place(x)?, y_axis.place(y)?]))
    }
}

/// Mean over the lines at the places that all of them have; NaN where one has no finite value.
fn mean_line(lines: &[Line]) -> Vec<[f64; 2]> {
    let Some((first, others)) = lines.split_first() else {
        return Vec::new();
    };
    let at =
        |line: &Line, x: f64| line.points.iter().find(|point| point[0] == x).map(|point| point[1]);
    first
        .points
        .iter()
        .filter_map(|&[x, y]| {
            let sum = others.iter().try_fold(y, |sum, line| Some(sum + at(line, x)?))?;
            Some([x, sum / lines.len() as f64])
        })
        .collect()
}

/// Axes that cover all lines, rules and the asked range.
fn axes(panel: &Panel, right: f64) -> [Axis; 2] {
    let points =
        || panel.series.iter().flat_map(|series| &series.lines).flat_map(|line| &line.points);
    let top = if panel.y_label.is_empty() { 10.0 } else { 30.0 };
    let asked = panel.y_range.into_iter().flatten();
    let values =
        points().map(|point| point[1]).chain(panel.rules.iter().map(|rule| rule.y)).chain(asked);
    let x_axis = Axis::around(points().map(|point| point[0]), AxisScale::Linear);
    let y_axis = Axis::around(values, panel.y_scale).rounded(5);
    [x_axis.onto(LEFT + 6.0, WIDTH - right), y_axis.onto(HEIGHT - BOTTOM, top)]
}

fn write_axes(svg: &mut String, panel: &Panel, x_label: &str, x_axis: &Axis, y_axis: &Axis) {
    let (left, right) = (LEFT, x_axis.to);
    let whole = panel.series.iter().flat_map(|series| &series.lines).flat_map(|line| &line.points);
    let whole = whole.into_iter().all(|point| point[0].fract() == 0.0);
    for (value, label) in y_axis.ticks(5, false) {
        if let Some(y) = y_axis.place(value) {
            write_line(svg, [left, y], [right, y], "grid");
            write_text(svg, [left - 6.0, y + 3.5], "tick", "end", &label);
        }
    }
    let base = y_axis.from + 6.0;
    write_line(svg, [x_axis.from, base], [right, base], "axis");
    for (value, label) in x_axis.ticks(7, whole) {
        if let Some(x) = x_axis.place(value) {
            write_line(svg, [x, base], [x, base + 4.0], "axis");
            write_text(svg, [x, base + 16.0], "tick", "middle", &label);
        }
    }
    write_text(svg, [(x_axis.from + right) / 2.0, HEIGHT - 4.0], "name", "middle", x_label);
    write_text(svg, [2.0, 12.0], "name", "start", &panel.y_label);
}

/// Writes the horizontal lines, each labelled at the side where the curves are farther away.
fn write_rules(svg: &mut String, panel: &Panel, drawn: &[Drawn<'_>], x_axis: &Axis, y_axis: &Axis) {
    for rule in &panel.rules {
        let Some(y) = y_axis.place(rule.y) else {
            continue;
        };
        write_line(svg, [LEFT, y], [x_axis.to, y], "rule");
        let distance = |end: fn(&[[f64; 2]]) -> Option<&[f64; 2]>| {
            let ends = drawn.iter().filter_map(|drawn| y_axis.place(end(&drawn.mean)?[1]));
            ends.map(|end| (end - y).abs()).fold(f64::INFINITY, f64::min)
        };
        if distance(<[_]>::first) > distance(<[_]>::last) {
            write_text(svg, [x_axis.from + 4.0, y - 4.0], "rule-label", "start", &rule.label);
        } else {
            write_text(svg, [x_axis.to - 4.0, y - 4.0], "rule-label", "end", &rule.label);
        }
    }
}

/// Writes the labels at the lines' ends, moved apart where they would touch.
fn write_labels(svg: &mut String, drawn: &[Drawn<'_>], x_axis: &Axis, y_axis: &Axis) {
    let mut ends: Vec<([f64; 2], &Drawn<'_>)> =
        drawn.iter().filter_map(|drawn| Some((drawn.end(x_axis, y_axis)?, drawn))).collect();
    ends.sort_by(|first, second| first.0[1].total_cmp(&second.0[1]));
    let wanted: Vec<f64> = ends.iter().map(|(end, _)| end[1]).collect();
    for ((end, drawn), y) in ends.iter().zip(spread(&wanted, LABEL_HEIGHT, y_axis.to, y_axis.from))
    {
        let x = x_axis.to + 10.0;
        // Writing into a string cannot fail.
        let _ = write!(
            svg,
            "<path d=\"M{} {}L{} {}\" class=\"lead c{}\" fill=\"none\" stroke=\"{}\"/>",
            coordinate(end[0] + 1.0),
            coordinate(end[1]),
            coordinate(x - 2.0),
            coordinate(y),
            drawn.style.class,
            drawn.style.colour
        );
        let class = format!("direct t{}", drawn.style.class);
        write_text(svg, [x, y + 3.5], &class, "start", &drawn.label);
    }
}

/// Moves rising places apart to at least `gap`, keeping them between `low` and `high` where they fit.
fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut places: Vec<f64> = wanted.to_vec();
    let mut floor = low;
    for place in &mut places {
        *place = place.max(floor);
        floor = *place + gap;
    }
    let mut ceiling = high;
    for place in places.iter_mut().rev() {
        *place = place.min(ceiling);
        ceiling = *place - gap;
    }
    places
}

/// Path data of a line, broken where a point has no place; a lone point becomes a dot by a round cap.
fn path_data(points: &[[f64; 2]], x_axis: &Axis, y_axis: &Axis) -> String {
    let places: Vec<Option<[f64; 2]>> =
        points.iter().map(|&[x, y]| Some([x_axis.place(x)?, y_axis.place(y)?])).collect();
    let mut path = String::new();
    for run in places.split(Option::is_none) {
        for (index, [x, y]) in run.iter().flatten().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            // Writing into a string cannot fail.
            let _ = write!(path, "{command}{} {}", coordinate(*x), coordinate(*y));
        }
        if run.len() == 1 {
            path.push_str("h0");
        }
    }
    path
}

/// Says in words what the chart shows, for those who cannot see it.
fn describe(panel: &Panel, x_label: &str) -> String {
    let mut text = format!("Line chart: {} over {x_label}", panel.title);
    for series in &panel.series {
        let last = mean_line(&series.lines).into_iter().rev().find(|point| point[1].is_finite());
        // Writing into a string cannot fail.
        let _ = match last {
            Some([x, y]) => {
                write!(
                    text,
                    "; {} ends at {} ({x_label} {})",
                    series.label,
                    compact(Some(y)),
                    compact(Some(x))
                )
            }
            None => write!(text, "; {} has no values", series.label),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, lines: &[&[[f64; 2]]]) -> Series {
        let line = |(seed, points): (usize, &&[[f64; 2]])| Line {
            seed: Some(seed as u64),
            points: points.to_vec(),
        };
        Series { label: label.to_owned(), lines: lines.iter().enumerate().map(line).collect() }
    }

    #[test]
    fn swatch_is_golden() {
        assert_eq!(
            swatch(1),
            "<svg class=\"swatch\" viewBox=\"0 0 34 10\" aria-hidden=\"true\"><path d=\"M1 5H33\" \
             class=\"mean c1\" fill=\"none\" stroke=\"#d55e00\" stroke-dasharray=\"7 3\"/></svg>"
        );
    }

    #[test]
    fn small_chart_is_golden() {
        let panel = Panel {
            title: "Dice".into(),
            y_label: "Dice".into(),
            series: vec![series("A & B", &[&[[0.0, 0.0], [1.0, 1.0]]])],
            ..Panel::default()
        };
        let svg = line_chart(&panel, "epoch", &["A & B".into()]);
        assert!(svg.starts_with(
            "<svg class=\"chart\" viewBox=\"0 0 560 280\" role=\"img\" \
             aria-label=\"Line chart: Dice over epoch; A &amp; B ends at 1 (epoch 1)\">\
             <line x1=\"50\" y1=\"238\" x2=\"511\" y2=\"238\" class=\"grid\"/>\
             <text x=\"44\" y=\"241.5\" class=\"tick\" text-anchor=\"end\">0.0</text>"
        ));
        assert!(svg.ends_with(
            "<path d=\"M56 238L511 30\" class=\"mean c0\" fill=\"none\" stroke=\"#0072b2\"/>\
             <path d=\"M512 30L519 30\" class=\"lead c0\" fill=\"none\" stroke=\"#0072b2\"/>\
             <text x=\"521\" y=\"33.5\" class=\"direct t0\" text-anchor=\"start\">A &amp; B</text></svg>"
        ));
    }

    #[test]
    fn broken_values_break_the_line() {
        let axis = Axis::around([0.0, 4.0].into_iter(), AxisScale::Linear).onto(0.0, 4.0);
        let points = [[0.0, 0.0], [1.0, 1.0], [2.0, f64::NAN], [3.0, 1.0], [4.0, f64::INFINITY]];
        assert_eq!(path_data(&points, &axis, &axis), "M0 0L1 1M3 1h0");
    }

    #[test]
    fn mean_is_taken_where_all_seeds_are() {
        let two =
            series("a", &[&[[0.0, 1.0], [1.0, 2.0], [2.0, 9.0]], &[[0.0, 3.0], [1.0, f64::NAN]]]);
        let mean = mean_line(&two.lines);
        assert_eq!(mean[0], [0.0, 2.0]);
        assert!(mean.len() == 2 && mean[1][1].is_nan());
        assert!(mean_line(&[]).is_empty());
    }

    #[test]
    fn labels_move_apart_and_stay_inside() {
        assert_eq!(spread(&[10.0, 11.0, 50.0], 5.0, 0.0, 100.0), [10.0, 15.0, 50.0]);
        assert_eq!(spread(&[98.0, 99.0, 100.0], 5.0, 0.0, 100.0), [90.0, 95.0, 100.0]);
    }

    #[test]
    fn empty_panels_still_have_axes() {
        let panel = Panel {
            series: vec![series("a", &[&[[0.0, f64::NAN]]]), series("b", &[])],
            ..Panel::default()
        };
        let svg = line_chart(&panel, "epoch", &[]);
        assert!(svg.contains("b has no values") && !svg.contains("<path"));
    }
}
