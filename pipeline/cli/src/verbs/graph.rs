//! `pipeline graph`: cells and what flows between them, for Mermaid or Graphviz.

use std::collections::{BTreeMap, BTreeSet};

use engine::Experiment;

use crate::{
    arguments::{GraphArguments, GraphFormat},
    console::Console,
    error::{CliError, Exit},
    world::World,
};

pub(super) fn run(
    arguments: &GraphArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let experiment = world.experiment(&arguments.experiment)?;
    let selected = experiment.select(&arguments.selection.only)?;
    let graph = Graph::of(&experiment, &selected, arguments.nodes);
    let text = match arguments.format {
        GraphFormat::Mermaid => graph.mermaid(),
        GraphFormat::Dot => graph.dot(&experiment.name),
    };
    console.lines(&text)?;
    Ok(Exit::Done)
}

/// Boxes and arrows.
#[derive(Debug, Default)]
struct Graph {
    /// Name and stage.
    boxes: Vec<(String, String)>,
    /// From, to and what the arrow says.
    arrows: BTreeSet<(usize, usize, String)>,
}

impl Graph {
    /// The selected cells, or their nodes.
    fn of(experiment: &Experiment, selected: &[bool], nodes: bool) -> Self {
        let mut graph = Self::default();
        let mut place: BTreeMap<&str, usize> = BTreeMap::new();
        let mut box_of = vec![None; experiment.cells.len()];
        for (i, cell) in experiment.cells.iter().enumerate().filter(|(i, _)| selected[*i]) {
            let name = if nodes { &cell.node } else { &cell.name };
            let number = *place.entry(name).or_insert_with(|| {
                graph.boxes.push((name.clone(), cell.stage.name().to_owned()));
                graph.boxes.len() - 1
            });
            box_of[i] = Some(number);
            for (port, wires) in &cell.inputs {
                for wire in wires {
                    let one = experiment.cells[wire.cell].stage.outputs().len() == 1;
                    let label = if one || wire.port == port.name {
                        port.name.to_owned()
                    } else {
                        format!("{} → {}", wire.port, port.name)
                    };
                    if let Some(from) = box_of[wire.cell] {
                        graph.arrows.insert((from, number, label));
                    }
                }
            }
        }
        graph
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (i, (name, stage)) in self.boxes.iter().enumerate() {
            text += &format!("  n{i}[\"{}<br/>{}\"]\n", for_mermaid(name), for_mermaid(stage));
        }
        for (from, to, label) in &self.arrows {
            text += &format!("  n{from} -->|\"{}\"| n{to}\n", for_mermaid(label));
        }
        text
    }

    fn dot(&self, title: &str) -> String {
        let mut text =
            format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", for_dot(title));
        for (i, (name, stage)) in self.boxes.iter().enumerate() {
            text += &format!("  n{i} [label={}];\n", for_dot(&format!("{name}\n{stage}")));
        }
        for (from, to, label) in &self.arrows {
            text += &format!("  n{from} -> n{to} [label={}];\n", for_dot(label));
        }
        text + "}\n"
    }
}

/// Text inside a quoted Mermaid label: what has a meaning there goes by its code.
fn for_mermaid(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | ';' | '\\' => {
                escaped += &format!("#{};", u32::from(c));
            }
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A quoted Graphviz string; a line break stays one.
fn for_dot(text: &str) -> String {
    let mut escaped = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped += "\\n",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_leave_their_quotes() {
        assert_eq!(for_mermaid("a\"] --> b#\n<x>"), "a#34;] --#62; b#35; #60;x#62;");
        assert_eq!(for_dot("a\"]; \\ \nb\u{7}"), r#""a\"]; \\ \nb ""#);
    }
}
