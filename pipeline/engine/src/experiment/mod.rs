//! An experiment: cells spanned by a matrix and wired to each other, checked whole before anything runs.
//!
//! Every table of the file but `experiment`, `matrix`, `scale` and `extends` is a *node*: a stage (`use`), its inputs
//! (`in`) and its configuration. A node stands for one cell, or, where it mentions axes of the matrix (`${seed}`) or
//! takes its input from a node that does, for one cell a combination of their values.

mod dag;
mod expand;
mod matrix;
mod reference;
mod resolved;
mod source;

pub use dag::Dag;
pub(crate) use source::Source;

use std::sync::Arc;

use crate::{
    config::{Node, Origin, Override, Roots, load},
    error::ConfigError,
    names,
    policy::{Need, Policy},
    ports::InputPort,
    registry::Registry,
    stage::{DynStage, External, Resolved},
};

/// Keys of an experiment file that are not nodes.
const RESERVED_TABLES: [&str; 4] = ["experiment", "matrix", "scale", "extends"];

/// An output of a cell, as another cell reads it.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Index of the cell that makes it.
    pub cell: usize,
    /// Port of that cell.
    pub port: &'static str,
}

/// One stage with concrete parameters and inputs.
#[derive(Clone)]
pub struct Cell {
    /// Name with the matrix values, for example `train[subset=1-2,seed=0]`.
    pub name: String,
    /// The node that it comes from.
    pub node: String,
    /// Its value on each axis that it varies over, in the order of the matrix.
    pub binding: Vec<(String, String)>,
    /// Its stage.
    pub stage: Arc<dyn DynStage>,
    /// Its configuration.
    pub config: Resolved,
    /// What is wired to each input port, in the order of the ports.
    pub inputs: Vec<(InputPort, Vec<Wire>)>,
    /// What is done with it beside running its stage.
    pub policy: Policy,
    /// Outside files that it reads; `None` where it looks for none.
    pub externals: Option<Vec<External>>,
    /// Where its node is written.
    pub origin: Origin,
}

impl Cell {
    /// What each of its units takes of the machine at its first try.
    pub fn takes(&self) -> Need {
        self.policy.resources(self.config.resources, self.config.gpus, 0)
    }
}

/// All cells of an experiment, each after the cells that it needs.
#[derive(Clone)]
pub struct Experiment {
    /// Name of the experiment.
    pub name: String,
    /// The whole configuration after composition, as TOML.
    pub resolved: String,
    /// The cells.
    pub cells: Vec<Cell>,
    /// What it was read from, if from a file.
    pub(crate) source: Option<Source>,
}

impl Experiment {
    /// Reads, composes, spans and checks an experiment file.
    ///
    /// # Errors
    /// Any [`ConfigError`]; nothing has run when it appears.
    pub fn load(
        file: &str,
        overrides: &[Override],
        roots: &Roots,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        let (document, texts) = load(file, overrides, roots)?;
        let fallback =
            std::path::Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let source = Some(Source::new(file, overrides, roots, registry, texts));
        let fallback = fallback.unwrap_or_default();
        let experiment = Self::from_document(&document, &fallback, roots, registry)?;
        Ok(Self { source, ..experiment })
    }

    /// Spans and checks a composed document; `name` is used where it does not name itself.
    ///
    /// # Errors
    /// Any [`ConfigError`]; nothing has run when it appears.
    pub fn from_document(
        document: &Node,
        name: &str,
        roots: &Roots,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        expand::expand(document, name, roots, registry)
    }

    /// The cells that match `patterns` (all where there are none) and every cell that they need; as flags by index.
    ///
    /// A pattern is a cell's or a node's name in which `*` stands for anything.
    ///
    /// # Errors
    /// [`ConfigError::NoCell`] for a pattern that matches nothing.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<bool>, ConfigError> {
        let mut selected = vec![patterns.is_empty(); self.cells.len()];
        for pattern in patterns {
            self.matching(pattern)?.into_iter().for_each(|cell| selected[cell] = true);
        }
        for i in (0..self.cells.len()).rev() {
            if selected[i] {
                self.needs(i).for_each(|needed| selected[needed] = true);
            }
        }
        Ok(selected)
    }

    /// Indices of the cells whose own name or node's name fits `pattern`, at least one.
    ///
    /// # Errors
    /// [`ConfigError::NoCell`] when there is none.
    pub fn matching(&self, pattern: &str) -> Result<Vec<usize>, ConfigError> {
        let fits = |cell: &Cell| matches(pattern, &cell.name) || matches(pattern, &cell.node);
        let found: Vec<usize> = (0..self.cells.len()).filter(|&i| fits(&self.cells[i])).collect();
        if found.is_empty() {
            let known = self.cells.iter().flat_map(|cell| [cell.node.as_str(), cell.name.as_str()]);
            let nearest = names::nearest(pattern, known).map(str::to_owned);
            return Err(ConfigError::NoCell { pattern: pattern.to_owned(), nearest });
        }
        Ok(found)
    }

    /// Indices of the cells that a cell reads from.
    pub fn needs(&self, cell: usize) -> impl Iterator<Item = usize> + '_ {
        self.cells[cell].inputs.iter().flat_map(|(_, wires)| wires).map(|wire| wire.cell)
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|&i| tail.is_char_boundary(i))
                .any(|i| matches(rest, &tail[i..]))
        }),
    }
}

#[cfg(test)]
mod tests;
