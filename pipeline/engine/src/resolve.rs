//! From a cell whose inputs are known to its action, its key and what the store holds of it.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, InputState},
    artifact::{Manifest, Part, content_digest},
    digest::Digest,
    error::{RunError, StoreError},
    experiment::{Cell, Experiment, Wire},
    ports::{Bound, Input, InputPart, InputPort},
    reason::{self, Reason},
    store::{Lookup, Outputs, Store, Stored},
};

/// What a cell did when it was built last: kept to explain what has changed since.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastBuild {
    /// The cell.
    pub cell: String,
    /// What it did.
    pub action: Action,
    /// Why it was built.
    pub reasons: Vec<Reason>,
    /// The run that built it.
    pub run: String,
    /// Shards built and shards found, for a stage that runs per shard.
    pub shards: Option<(usize, usize)>,
    /// Seconds that it took.
    pub seconds: f64,
    /// Digest of each output.
    pub outputs: BTreeMap<String, Digest>,
}

/// A part of a cell's work: the whole of it, or one shard.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) shard: Option<String>,
    pub(crate) action: Action,
    pub(crate) key: Digest,
}

/// What is to be done for a cell whose inputs are known.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one value at a time, taken apart where it is made")]
pub(crate) enum Step {
    /// The store holds the result.
    Fresh {
        /// Key of the cell.
        key: Digest,
        /// What it gave.
        outputs: Outputs,
    },
    /// Units have to be run.
    Stale {
        /// The whole cell.
        whole: Unit,
        /// Units without a result.
        missing: Vec<Unit>,
        /// Results of the other units.
        found: Vec<Outputs>,
        /// Keys of all shards, missing or not.
        units: Vec<Digest>,
        /// Why.
        reasons: Vec<Reason>,
    },
}

/// Known outputs by cell index.
pub(crate) type Known = Vec<Option<Arc<Outputs>>>;

pub(crate) struct Resolver<'a> {
    pub(crate) experiment: &'a Experiment,
    pub(crate) store: &'a Store,
}

impl Resolver<'_> {
    /// Decides what to do for a cell all of whose inputs are in `known`.
    pub(crate) fn step(&self, index: usize, known: &Known) -> Result<Step, RunError> {
        let cell = &self.experiment.cells[index];
        let whole = self.unit(cell, known, None)?;
        let note = match self.store.look_up(&whole.key) {
            Lookup::Hit(outputs) => return Ok(Step::Fresh { key: whole.key, outputs }),
            Lookup::Miss(note) => note,
        };
        let before: Option<LastBuild> = self.store.last(&self.experiment.name, &cell.name);
        let before = before.map(|last| last.action);
        let reasons = reason::compare(before.as_ref(), &whole.action, note.as_deref());
        if !cell.stage.per_shard() {
            return Ok(Step::Stale {
                missing: vec![whole.clone()],
                whole,
                found: Vec::new(),
                units: Vec::new(),
                reasons,
            });
        }
        let (mut missing, mut found, mut units) = (Vec::new(), Vec::new(), Vec::new());
        for shard in self.shards(cell, known)? {
            let unit = self.unit(cell, known, Some(&shard))?;
            units.push(unit.key);
            match self.store.look_up(&unit.key) {
                Lookup::Hit(outputs) => found.push(outputs),
                Lookup::Miss(_) => missing.push(unit),
            }
        }
        Ok(Step::Stale { whole, missing, found, units, reasons })
    }

    /// The parts that a port shows of a wired artifact; one of them where a shard is asked for.
    fn parts(
        &self,
        port: &InputPort,
        wire: &Wire,
        known: &Known,
        shard: Option<&str>,
    ) -> Vec<Part> {
        let outputs = known[wire.cell]
            .as_ref()
            .expect("a cell is resolved after the cells that it reads from");
        let manifest: &Manifest = &outputs[wire.port].manifest;
        let mut parts = manifest.view(port.view);
        if let Some(shard) = shard.filter(|_| port.sharded) {
            parts.retain(|part| part.name == shard);
        }
        parts
    }

    pub(crate) fn unit(
        &self,
        cell: &Cell,
        known: &Known,
        shard: Option<&str>,
    ) -> Result<Unit, StoreError> {
        let mut inputs = BTreeMap::new();
        for (port, wires) in &cell.inputs {
            let states = wires.iter().map(|wire| {
                let parts = self.parts(port, wire, known, shard);
                InputState {
                    cell: self.experiment.cells[wire.cell].name.clone(),
                    named: port.arity == crate::ports::Arity::Named,
                    content: content_digest(port.kind, &parts),
                    parts: parts.into_iter().map(|part| (part.name, part.content)).collect(),
                }
            });
            inputs.insert(port.name.to_owned(), states.collect());
        }
        let externals = cell.externals.iter().map(|external| {
            let digest = self.store.memo().digest(&external.path);
            let (digest, _) = digest.map_err(StoreError::io("read", &external.path))?;
            Ok((external.name.clone(), digest))
        });
        let action = Action {
            stage: cell.stage.name().to_owned(),
            version: cell.stage.version(),
            config: cell.config.semantic.clone(),
            shard: shard.map(str::to_owned),
            inputs,
            externals: externals.collect::<Result<_, StoreError>>()?,
            environment: cell.config.environment.clone(),
        };
        Ok(Unit { shard: shard.map(str::to_owned), key: action.key(), action })
    }

    /// The shards of a cell: those of its first sharded input, which every other sharded input must have too.
    pub(crate) fn shards(&self, cell: &Cell, known: &Known) -> Result<Vec<String>, RunError> {
        let mut first: Option<(&'static str, Vec<String>)> = None;
        for (port, wires) in cell.inputs.iter().filter(|(port, _)| port.sharded) {
            for wire in wires {
                let names: Vec<String> =
                    self.parts(port, wire, known, None).into_iter().map(|part| part.name).collect();
                let Some((first_port, shards)) = &first else {
                    first = Some((port.name, names));
                    continue;
                };
                let pairs = [
                    (first_port, shards, port.name, &names),
                    (&port.name, &names, *first_port, shards),
                ];
                for (has, from, lacks, within) in pairs {
                    if let Some(shard) = from.iter().find(|shard| !within.contains(shard)) {
                        return Err(RunError::ShardMissing {
                            cell: cell.name.clone(),
                            shard: shard.clone(),
                            first: has,
                            port: lacks,
                        });
                    }
                }
            }
        }
        Ok(first.map(|(_, shards)| shards).unwrap_or_default())
    }

    /// The artifacts of a unit with their files, verified.
    pub(crate) fn bind(
        &self,
        cell: &Cell,
        known: &Known,
        shard: Option<&str>,
    ) -> Result<Bound, StoreError> {
        let mut bound = Bound::new();
        for (port, wires) in &cell.inputs {
            let mut artifacts = Vec::new();
            for wire in wires {
                let parts = self.parts(port, wire, known, shard);
                let digest = content_digest(port.kind, &parts);
                let parts = parts.iter().map(|part| {
                    let path = self.store.verify(part)?;
                    Ok(InputPart { name: part.name.clone(), path, content: part.content })
                });
                artifacts.push(Input {
                    cell: self.experiment.cells[wire.cell].name.clone(),
                    digest,
                    parts: parts.collect::<Result<_, StoreError>>()?,
                });
            }
            bound.insert(port.name, artifacts);
        }
        Ok(bound)
    }

    /// The artifact of a cell from those of its shards.
    pub(crate) fn assemble(&self, cell: &Cell, shards: &[Outputs]) -> Outputs {
        let ports = cell.stage.outputs().iter().map(|port| {
            let parts = shards.iter().flat_map(|outputs| outputs[port.name].manifest.parts.clone());
            let manifest = Manifest::new(port.kind, parts.collect());
            (port.name.to_owned(), Stored { digest: manifest.digest(), manifest })
        });
        ports.collect()
    }
}
