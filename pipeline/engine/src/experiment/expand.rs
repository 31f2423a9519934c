//! From a composed document to checked cells.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Cell, Experiment, RESERVED_TABLES, Wire,
    matrix::{Axis, Scope, mentioned},
    reference::{Reference, Selector},
    resolved,
};
use crate::{
    config::{Node, Origin, Roots, Value},
    error::ConfigError,
    policy::{self, Policy},
    registry::{RESERVED, Registry},
    schema,
    stage::{DynStage, Refusal},
};

pub(super) fn expand(
    document: &Node,
    name: &str,
    roots: &Roots,
    registry: &Registry,
) -> Result<Experiment, ConfigError> {
    let resolved = resolved::to_toml(document);
    let header = header(document, name, &resolved)?;
    let axes = Axis::all(document)?;
    let nodes = document
        .table()
        .unwrap_or_default()
        .iter()
        .filter(|(name, _)| !RESERVED_TABLES.contains(&name.as_str()))
        .filter_map(|(name, table)| Spec::read(name, table, &axes, registry).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    let mut expansion = Expansion {
        axes: &axes,
        header: &header,
        roots,
        place: nodes.iter().enumerate().map(|(i, node)| (node.name.clone(), i)).collect(),
        nodes: &nodes,
        done: vec![None; nodes.len()],
        open: Vec::new(),
        cells: Vec::new(),
    };
    for node in 0..nodes.len() {
        expansion.node(node)?;
    }
    let cells = expansion.cells;
    let name = header.get("name").and_then(Node::text).unwrap_or(name).to_owned();
    Ok(Experiment { name, resolved, cells, source: None })
}

/// The `experiment` table with its name filled in and the resolved text of all other tables.
fn header(document: &Node, fallback: &str, resolved: &str) -> Result<Node, ConfigError> {
    const KEYS: [&str; 3] = ["name", "title", "scale"];
    let mut header = document.get("experiment").cloned().unwrap_or_else(Node::empty);
    for (key, node) in header.table().unwrap_or_default() {
        if !KEYS.contains(&key.as_str()) {
            return Err(ConfigError::unknown(
                node.origin.clone(),
                "key",
                key,
                "`experiment`",
                KEYS,
            ));
        }
        if node.text().is_none() {
            return Err(ConfigError::WrongType {
                origin: node.origin.clone(),
                key: format!("experiment.{key}"),
                expected: "a string",
                found: node.kind(),
            });
        }
    }
    let own = |text: String| Node { value: Value::Text(text), origin: Origin::Program };
    if let Value::Table(entries) = &mut header.value {
        for (key, text) in [("name", fallback), ("title", fallback), ("scale", "")] {
            if !entries.iter().any(|(known, _)| known == key) {
                entries.push((key.to_owned(), own(text.to_owned())));
            }
        }
        entries.push(("resolved".to_owned(), own(resolved.to_owned())));
    }
    Ok(header)
}

/// A node as it is written.
struct Spec<'d> {
    name: String,
    stage: Arc<dyn DynStage>,
    table: &'d Node,
    /// Which axes its own text mentions.
    mentions: Vec<bool>,
}

impl<'d> Spec<'d> {
    fn read(
        name: &str,
        table: &'d Node,
        axes: &[Axis],
        registry: &Registry,
    ) -> Result<Option<Self>, ConfigError> {
        let wrong = |node: &Node, key: String, expected| ConfigError::WrongType {
            origin: node.origin.clone(),
            key,
            expected,
            found: node.kind(),
        };
        if table.table().is_none() {
            return Err(wrong(table, name.to_owned(), "a table with `use`"));
        }
        match table.get("enabled").map(|node| (node, &node.value)) {
            Some((_, Value::Bool(false))) => return Ok(None),
            None | Some((_, Value::Bool(true))) => {}
            Some((node, _)) => return Err(wrong(node, format!("{name}.enabled"), "a boolean")),
        }
        let missing = || ConfigError::Missing {
            origin: table.origin.clone(),
            table: name.to_owned(),
            key: "use",
        };
        let used = table.get("use").ok_or_else(missing)?;
        let stage_name =
            used.text().ok_or_else(|| wrong(used, format!("{name}.use"), "a string"))?;
        let stage = registry.get(stage_name).ok_or_else(|| {
            ConfigError::unknown(
                used.origin.clone(),
                "stage",
                stage_name,
                "the registry",
                registry.names(),
            )
        })?;
        let mut mentions = vec![false; axes.len()];
        mentioned(table, axes, &mut mentions);
        let refused = |refusal| refused(table, name, stage.name(), refusal);
        let own = stage.with_ports(&table.to_json(), registry).map_err(refused)?;
        Ok(Some(Self {
            name: name.to_owned(),
            stage: own.unwrap_or_else(|| stage.clone()),
            table,
            mentions,
        }))
    }
}

/// Axes and cells of a node that has been expanded.
#[derive(Clone)]
struct Done {
    axes: Vec<bool>,
    /// Cell index by the labels on the node's axes.
    cells: BTreeMap<Vec<String>, usize>,
}

struct Expansion<'a> {
    axes: &'a [Axis],
    header: &'a Node,
    roots: &'a Roots,
    nodes: &'a [Spec<'a>],
    place: BTreeMap<String, usize>,
    done: Vec<Option<Done>>,
    /// Nodes being expanded, outermost first.
    open: Vec<usize>,
    cells: Vec<Cell>,
}

/// A choice of one value on each axis; `None` on axes that do not matter.
type Choice = Vec<Option<usize>>;

impl Expansion<'_> {
    /// Expands a node after those that it refers to; gives the axes that it varies over.
    fn node(&mut self, index: usize) -> Result<Vec<bool>, ConfigError> {
        if let Some(done) = &self.done[index] {
            return Ok(done.axes.clone());
        }
        let spec = &self.nodes[index];
        self.open.push(index);
        let mut axes = spec.mentions.clone();
        for choice in self.choices(&spec.mentions) {
            for reference in self.references(spec, &choice)?.iter().flat_map(|(_, list)| list) {
                let target = self.target(reference)?;
                self.refuse_circle(target, reference)?;
                let below = self.node(target)?;
                for (axis, varies) in below.iter().enumerate() {
                    axes[axis] |= *varies && self.follows(reference, axis);
                }
            }
        }
        let mut cells = BTreeMap::new();
        for choice in self.choices(&axes) {
            let cell = self.cell(spec, &choice)?;
            cells.insert(self.labels(&axes, &choice), self.cells.len());
            self.cells.push(cell);
        }
        self.open.pop();
        self.done[index] = Some(Done { axes: axes.clone(), cells });
        Ok(axes)
    }

    /// Refuses a reference to a node that is being expanded, which would wait for itself.
    fn refuse_circle(&self, target: usize, reference: &Reference) -> Result<(), ConfigError> {
        let Some(start) = self.open.iter().position(|&open| open == target) else {
            return Ok(());
        };
        let circle = self.open[start..].iter().chain([&target]);
        Err(ConfigError::Cycle {
            origin: reference.origin.clone(),
            cells: circle.map(|&i| self.nodes[i].name.clone()).collect(),
        })
    }

    /// Whether the referring cell's own value on `axis` decides which cell is meant.
    fn follows(&self, reference: &Reference, axis: usize) -> bool {
        match &reference.selector {
            Selector::All => false,
            Selector::Pinned(pins) => pins.iter().all(|(name, _)| *name != self.axes[axis].name),
        }
    }

    /// Every combination of values on the flagged axes, the last axis fastest.
    fn choices(&self, flags: &[bool]) -> Vec<Choice> {
        let mut choices = vec![vec![None; flags.len()]];
        for (axis, _) in flags.iter().enumerate().filter(|(_, flag)| **flag) {
            let extend = |choice: Choice| {
                (0..self.axes[axis].values.len()).map(move |value| {
                    let mut choice = choice.clone();
                    choice[axis] = Some(value);
                    choice
                })
            };
            choices = choices.into_iter().flat_map(extend).collect();
        }
        choices
    }

    fn labels(&self, flags: &[bool], choice: &Choice) -> Vec<String> {
        let label = |axis: usize| {
            choice[axis].map_or_else(String::new, |value| self.axes[axis].values[value].0.clone())
        };
        (0..flags.len()).filter(|&axis| flags[axis]).map(label).collect()
    }

    fn scope(&self, choice: &Choice) -> Scope<'_> {
        let bound = self.axes.iter().zip(choice).filter_map(|(axis, value)| {
            let (label, node) = &axis.values[(*value)?];
            Some((axis.name.as_str(), label.as_str(), node))
        });
        let axes = self.axes.iter().map(|axis| axis.name.as_str()).collect();
        Scope { names: bound.chain([("experiment", "", self.header)]).collect(), axes }
    }

    /// What is wired to each port of a node under a choice.
    fn references(
        &self,
        spec: &Spec<'_>,
        choice: &Choice,
    ) -> Result<Vec<(usize, Vec<Reference>)>, ConfigError> {
        let Some(wiring) = spec.table.get("in") else {
            return Ok(Vec::new());
        };
        let wiring = self.scope(choice).fill(wiring)?;
        let entries = wiring.table().ok_or_else(|| ConfigError::WrongType {
            origin: wiring.origin.clone(),
            key: format!("{}.in", spec.name),
            expected: "a table of ports",
            found: wiring.kind(),
        })?;
        let ports = spec.stage.inputs();
        let read = |(name, node): &(String, Node)| {
            let port = ports.iter().position(|port| port.name == name).ok_or_else(|| {
                let place = format!("stage `{}`", spec.stage.name());
                let known = ports.iter().map(|port| port.name);
                ConfigError::unknown(node.origin.clone(), "port", name, place, known)
            })?;
            Ok((port, Reference::list(node, &format!("{}.in.{name}", spec.name))?))
        };
        entries.iter().map(read).collect()
    }

    fn target(&self, reference: &Reference) -> Result<usize, ConfigError> {
        self.place.get(&reference.node).copied().ok_or_else(|| {
            let known = self.nodes.iter().map(|node| node.name.as_str());
            let place = "the experiment";
            ConfigError::unknown(reference.origin.clone(), "cell", &reference.node, place, known)
        })
    }

    fn cell(&self, spec: &Spec<'_>, choice: &Choice) -> Result<Cell, ConfigError> {
        let binding: Vec<(String, String)> = self
            .axes
            .iter()
            .zip(choice)
            .filter_map(|(axis, value)| Some((axis.name.clone(), axis.values[(*value)?].0.clone())))
            .collect();
        let name = cell_name(&spec.name, &binding);
        let mut inputs: Vec<_> =
            spec.stage.inputs().iter().map(|port| (*port, Vec::new())).collect();
        for (port, references) in self.references(spec, choice)? {
            for reference in references {
                let wires = self.wires(&reference, choice, &name, &inputs[port].0)?;
                inputs[port].1.extend(wires);
            }
        }
        for (port, wires) in &inputs {
            if !port.arity.takes(wires.len()) {
                return Err(ConfigError::PortCount {
                    origin: spec.table.origin_of(["in", port.name]).clone(),
                    port: port.name,
                    cell: name,
                    expected: port.arity.words(),
                    found: wires.len(),
                });
            }
        }
        let config = self.config(spec, choice, &name)?;
        let policy = self.policy(spec, choice, &name)?;
        let externals = spec.stage.externals(&config, &self.roots.project).map_err(|source| {
            ConfigError::CellRefused {
                cell: name.clone(),
                stage: spec.stage.name(),
                origin: spec.table.origin.clone(),
                source,
            }
        })?;
        let (node, stage, origin) =
            (spec.name.clone(), spec.stage.clone(), spec.table.origin.clone());
        Ok(Cell { name, node, binding, stage, config, inputs, policy, externals, origin })
    }

    /// The outputs that a reference means for a cell under `choice`, checked against its port.
    fn wires(
        &self,
        reference: &Reference,
        choice: &Choice,
        cell: &str,
        port: &crate::ports::InputPort,
    ) -> Result<Vec<Wire>, ConfigError> {
        let target = self.target(reference)?;
        let spec = &self.nodes[target];
        let outputs = spec.stage.outputs();
        let output = match &reference.port {
            None if outputs.len() == 1 => &outputs[0],
            None => {
                return Err(ConfigError::OutputNotNamed {
                    origin: reference.origin.clone(),
                    reference: reference.text.clone(),
                    outputs: outputs.iter().map(|output| output.name).collect(),
                });
            }
            Some(name) => outputs.iter().find(|output| output.name == *name).ok_or_else(|| {
                let place = format!("cell `{}`", spec.name);
                let known = outputs.iter().map(|output| output.name);
                ConfigError::unknown(reference.origin.clone(), "output", name, place, known)
            })?,
        };
        if output.kind != port.kind {
            return Err(ConfigError::PortMismatch {
                origin: reference.origin.clone(),
                port: port.name,
                cell: cell.to_owned(),
                expected: port.kind,
                reference: reference.text.clone(),
                found: output.kind,
            });
        }
        let done = self.done[target]
            .as_ref()
            .expect("the nodes that a node refers to are expanded before its cells");
        let meant = self.meant(reference, &done.axes, choice)?;
        let chosen = done.cells.iter().filter(|(labels, _)| {
            labels
                .iter()
                .zip(&meant)
                .all(|(label, meant)| meant.as_ref().is_none_or(|m| m == label))
        });
        let mut cells: Vec<usize> = chosen.map(|(_, &cell)| cell).collect();
        cells.sort_unstable();
        Ok(cells.into_iter().map(|cell| Wire { cell, port: output.name }).collect())
    }

    /// The label on each axis of the target that a reference asks for; `None` takes every label.
    fn meant(
        &self,
        reference: &Reference,
        axes: &[bool],
        choice: &Choice,
    ) -> Result<Vec<Option<String>>, ConfigError> {
        let Selector::Pinned(pins) = &reference.selector else {
            return Ok(vec![None; axes.iter().filter(|flag| **flag).count()]);
        };
        let varies = || self.axes.iter().zip(axes).filter(|(_, flag)| **flag).map(|(axis, _)| axis);
        for (name, value) in pins {
            let place = format!("`{}`", reference.text);
            let axis = varies().find(|axis| axis.name == *name).ok_or_else(|| {
                let known = varies().map(|axis| axis.name.as_str());
                ConfigError::unknown(reference.origin.clone(), "axis", name, place.clone(), known)
            })?;
            if !axis.values.iter().any(|(label, _)| label == value) {
                let known = axis.values.iter().map(|(label, _)| label.as_str());
                return Err(ConfigError::unknown(
                    reference.origin.clone(),
                    "value",
                    value,
                    place,
                    known,
                ));
            }
        }
        let label = |(i, axis): (usize, &Axis)| {
            let pinned =
                pins.iter().find(|(name, _)| *name == axis.name).map(|(_, value)| value.clone());
            pinned.or_else(|| choice[i].map(|value| axis.values[value].0.clone()))
        };
        Ok(self.axes.iter().enumerate().filter(|(i, _)| axes[*i]).map(label).collect())
    }

    fn config(
        &self,
        spec: &Spec<'_>,
        choice: &Choice,
        cell: &str,
    ) -> Result<crate::stage::Resolved, ConfigError> {
        let mut table = self.scope(choice).fill(spec.table)?;
        RESERVED.iter().for_each(|key| {
            table.remove(key);
        });
        let json = table.to_json();
        if let Some(found) = schema::unknown_key(spec.stage.schema(), &json) {
            let path = found.path.iter().map(String::as_str).chain([found.name.as_str()]);
            let origin = table.origin_of(path).clone();
            let place = format!("stage `{}`", spec.stage.name());
            let known = found.known.iter().map(String::as_str);
            return Err(ConfigError::unknown(origin, "key", &found.name, place, known));
        }
        spec.stage
            .resolve(&json)
            .map_err(|refusal| refused(&table, cell, spec.stage.name(), refusal))
    }
}

impl Expansion<'_> {
    /// What the node says of its cells beside the configuration of their stage.
    fn policy(&self, spec: &Spec<'_>, choice: &Choice, cell: &str) -> Result<Policy, ConfigError> {
        let entries = spec.table.table().unwrap_or_default().iter();
        let own: Vec<_> =
            entries.filter(|(key, _)| policy::KEYS.contains(&key.as_str())).cloned().collect();
        if own.is_empty() {
            return Ok(Policy::default());
        }
        let keys = Node { value: Value::Table(own), origin: spec.table.origin.clone() };
        let keys = self.scope(choice).fill(&keys)?;
        let json = keys.to_json();
        let known_keys = |found: schema::UnknownKey| {
            let path = found.path.iter().map(String::as_str).chain([found.name.as_str()]);
            let origin = keys.origin_of(path).clone();
            let place = format!("`{}` of cell `{cell}`", found.path.join("."));
            let known = found.known.iter().map(String::as_str);
            ConfigError::unknown(origin, "key", &found.name, place, known)
        };
        if let Some(found) = schema::unknown_key(&Policy::schema(), &json) {
            return Err(known_keys(found));
        }
        Policy::read(&json).map_err(|error| {
            let key = error.path().to_string();
            ConfigError::Refused {
                origin: keys.origin_of(key.split('.')).clone(),
                key,
                cell: cell.to_owned(),
                stage: spec.stage.name(),
                message: error.inner().to_string(),
            }
        })
    }
}

/// A value of a cell's table that its stage refuses, with its place.
fn refused(table: &Node, cell: &str, stage: &'static str, refusal: Refusal) -> ConfigError {
    let path: Vec<&str> = refusal.key.split(['.', '[', ']']).filter(|s| !s.is_empty()).collect();
    ConfigError::Refused {
        origin: table.origin_of(path.iter().copied()).clone(),
        cell: cell.to_owned(),
        stage,
        message: refusal.message,
        key: refusal.key,
    }
}

fn cell_name(node: &str, binding: &[(String, String)]) -> String {
    if binding.is_empty() {
        return node.to_owned();
    }
    let pairs: Vec<String> =
        binding.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    format!("{node}[{}]", pairs.join(","))
}
