//! From a cell whose inputs are known to its action, its key and what the store holds of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, InputState, Shown},
    artifact::{Manifest, Part},
    digest::Digest,
    error::{RunError, StoreError},
    experiment::{Cell, Experiment},
    ports::{Arity, Bound, Input, InputPart, InputPort},
    reason::{self, Reason},
    recall::Recall,
    store::{Lookup, Outputs, Store},
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
    /// The run that had built it before, to which the reasons compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Shards built and shards found, for a stage that runs per shard.
    pub shards: Option<(usize, usize)>,
    /// Seconds that it took.
    pub seconds: f64,
    /// Digest of each output.
    pub outputs: BTreeMap<String, Digest>,
}

/// A part of a cell's work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'s> {
    /// All of it.
    Whole,
    /// The shards of one chunk of the sharded inputs: what the whole would be if there were no others.
    Chunk(usize),
    /// One shard.
    Shard(&'s str),
}

/// What is run at once: the whole of a cell, or one shard.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) shard: Option<String>,
    pub(crate) key: Digest,
    /// Index of the group that it belongs to.
    pub(crate) group: usize,
}

impl Unit {
    pub(crate) fn scope(&self) -> Scope<'_> {
        self.shard.as_deref().map_or(Scope::Whole, Scope::Shard)
    }
}

/// Units whose results are recorded together: all of a cell, or of a cell of very many shards those of one chunk, so that
/// the others need not be looked at when one has changed.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Keys of all its shards, missing or not.
    pub(crate) units: Vec<Digest>,
    /// Results of the shards that are stored, or that of the group.
    pub(crate) outputs: Vec<Arc<Outputs>>,
    /// Number of shards whose results these are.
    pub(crate) n_found: usize,
    /// Key under which the group is recorded; none where it is the whole cell, or recorded already.
    pub(crate) key: Option<Digest>,
    /// Units without a result.
    pub(crate) n_missing: usize,
}

/// What is to be done for a cell whose inputs are known.
pub(crate) enum Step<'a> {
    /// The store holds the result.
    Fresh {
        /// Key of the cell.
        key: Digest,
        /// What it gave.
        outputs: Arc<Outputs>,
    },
    /// Units have to be run.
    Stale(Box<Stale<'a>>),
}

/// A cell whose result is not stored as a whole.
pub(crate) struct Stale<'a> {
    pub(crate) prepared: Prepared<'a>,
    /// Key of the whole cell.
    pub(crate) key: Digest,
    pub(crate) groups: Vec<Group>,
    /// Keys of the groups, where there are several.
    pub(crate) group_keys: Vec<Digest>,
    /// Units without a result.
    pub(crate) missing: Vec<Unit>,
    /// Why.
    pub(crate) reasons: Vec<Reason>,
    /// The run that the reasons compare to.
    pub(crate) before: Option<String>,
}

impl Stale<'_> {
    /// Number of shards that are stored.
    pub(crate) fn n_found(&self) -> usize {
        self.groups.iter().map(|group| group.n_found).sum()
    }
}

/// Known outputs by cell index.
pub(crate) type Known = Vec<Option<Arc<Outputs>>>;

pub(crate) struct Resolver<'a> {
    pub(crate) experiment: &'a Experiment,
    pub(crate) store: &'a Store,
    pub(crate) recall: Recall<'a>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(experiment: &'a Experiment, store: &'a Store) -> Self {
        Self { experiment, store, recall: Recall::open(store, &experiment.name) }
    }

    /// Decides what to do for a cell all of whose inputs are in `known`.
    pub(crate) fn step(&self, index: usize, known: &Known) -> Result<Step<'a>, RunError> {
        let prepared = self.prepare(index, known)?;
        let (cell, key) = (prepared.cell, prepared.key(Scope::Whole));
        let note = match self.recall.look_up(&key) {
            Lookup::Hit(outputs) => return Ok(Step::Fresh { key, outputs }),
            Lookup::Miss(note) => note,
        };
        let last: Option<LastBuild> = self.store.last(&self.experiment.name, &cell.name);
        let parts = |list: &Digest| Some(Shown::parts_of(&*self.store.chunk(list)?));
        let (before, now) = (last.as_ref().map(|last| &last.action), prepared.explained());
        let reasons = reason::compare(before, &now, note.as_deref(), &parts);
        let before = last.map(|last| last.run);
        let (mut groups, mut group_keys, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        if cell.stage.per_shard() {
            let chunks = prepared.chunks()?;
            for (number, shards) in chunks.iter().enumerate() {
                let group_key = (chunks.len() > 1).then(|| prepared.key(Scope::Chunk(number)));
                group_keys.extend(group_key);
                let group = self.group(&prepared, number, shards, group_key, &mut missing);
                groups.push(group);
            }
        } else {
            missing.push(Unit { shard: None, key, group: 0 });
            groups.push(Group { n_missing: 1, ..Group::default() });
        }
        let stale = Stale { prepared, key, groups, group_keys, missing, reasons, before };
        Ok(Step::Stale(Box::new(stale)))
    }

    /// Looks some shards up, first all together where they have a key together.
    fn group(
        &self,
        prepared: &Prepared<'_>,
        number: usize,
        shards: &[&str],
        key: Option<Digest>,
        missing: &mut Vec<Unit>,
    ) -> Group {
        if let Some(key) = key
            && let Lookup::Hit(outputs) = self.store.look_up(&key)
        {
            return Group { outputs: vec![outputs], n_found: shards.len(), ..Group::default() };
        }
        let mut group = Group { key, ..Group::default() };
        for shard in shards {
            let key = prepared.key(Scope::Shard(shard));
            group.units.push(key);
            match self.store.look_up(&key) {
                Lookup::Hit(outputs) => {
                    group.n_found += 1;
                    group.outputs.push(outputs);
                }
                Lookup::Miss(_) => {
                    group.n_missing += 1;
                    missing.push(Unit { shard: Some((*shard).to_owned()), key, group: number });
                }
            }
        }
        group
    }

    /// Collects what the units of a cell share.
    pub(crate) fn prepare(&self, index: usize, known: &Known) -> Result<Prepared<'a>, StoreError> {
        let cell = &self.experiment.cells[index];
        let wired = |(port, wires): &'a (InputPort, Vec<crate::experiment::Wire>)| {
            let wires = wires.iter().map(|wire| {
                let outputs = known[wire.cell]
                    .as_ref()
                    .expect("a cell is resolved after the cells that it reads from");
                let shown = outputs[wire.port].manifest.view(port.view);
                let name = &self.experiment.cells[wire.cell].name;
                Wired { producer: wire.cell, name, shown }
            });
            (port, wires.collect())
        };
        let externals = cell.externals.iter().flatten().map(|external| {
            let digest = self.store.memo().digest(&external.path);
            let digest = digest.map_err(StoreError::io("read", &external.path))?;
            Ok((external.name.clone(), digest))
        });
        Ok(Prepared {
            cell,
            ports: cell.inputs.iter().map(wired).collect(),
            externals: externals.collect::<Result<_, StoreError>>()?,
        })
    }
}

/// An artifact on an input port, as far as the port shows it.
struct Wired<'a> {
    /// Index of the cell that made it.
    producer: usize,
    /// The name of that.
    name: &'a str,
    shown: Manifest,
}

/// A cell with what all of its units share.
pub(crate) struct Prepared<'a> {
    cell: &'a Cell,
    ports: Vec<(&'a InputPort, Vec<Wired<'a>>)>,
    externals: BTreeMap<String, Digest>,
}

/// An input that is not there as it was stored.
pub(crate) struct Unbound {
    /// Index of the cell that made it.
    pub(crate) producer: usize,
    /// The file.
    pub(crate) blob: Digest,
    /// What is wrong with it.
    pub(crate) error: StoreError,
}

impl Prepared<'_> {
    /// What is done in a scope.
    pub(crate) fn action(&self, scope: Scope<'_>) -> Action {
        let Self { cell, ports, externals } = self;
        let inputs = ports.iter().map(|(port, wires)| {
            let states = wires.iter().map(|wired| InputState {
                cell: wired.name.to_owned(),
                named: port.arity == Arity::Named,
                content: seen(port, wired, scope).digest(),
                parts: Shown::default(),
            });
            (port.name.to_owned(), states.collect())
        });
        Action {
            stage: cell.stage.name().to_owned(),
            version: cell.stage.version(),
            config: cell.config.semantic.clone(),
            shard: match scope {
                Scope::Shard(shard) => Some(shard.to_owned()),
                Scope::Whole | Scope::Chunk(_) => None,
            },
            inputs: inputs.collect(),
            externals: externals.clone(),
            environment: cell.config.environment.clone().unwrap_or_default(),
        }
    }

    /// The key of a scope.
    pub(crate) fn key(&self, scope: Scope<'_>) -> Digest {
        self.action(scope).key()
    }

    /// What the whole cell does, with the parts of its inputs.
    pub(crate) fn explained(&self) -> Action {
        let mut action = self.action(Scope::Whole);
        for (port, wires) in &self.ports {
            let states = action.inputs.get_mut(port.name).into_iter().flatten();
            states.zip(wires).for_each(|(state, wired)| state.parts = Shown::of(&wired.shown));
        }
        action
    }

    /// The shards of the cell by chunks: those of its first sharded input, which every other sharded input must have too.
    pub(crate) fn chunks(&self) -> Result<Vec<Vec<&str>>, RunError> {
        let mut sharded = self.sharded();
        let Some((first_port, first)) = sharded.next() else { return Ok(Vec::new()) };
        for (port, other) in sharded {
            if names(first).eq(names(other)) {
                continue;
            }
            for (has, from, lacks, within) in
                [(first_port, first, port, other), (port, other, first_port, first)]
            {
                let within: BTreeSet<&str> = names(within).collect();
                if let Some(shard) = names(from).find(|shard| !within.contains(shard)) {
                    let (cell, shard) = (self.cell.name.clone(), shard.to_owned());
                    return Err(RunError::ShardMissing { cell, shard, first: has, port: lacks });
                }
            }
        }
        let chunks = first.chunks().iter();
        Ok(chunks.map(|chunk| chunk.parts().iter().map(name).collect()).collect())
    }

    fn sharded(&self) -> impl Iterator<Item = (&'static str, &Manifest)> {
        let sharded = self.ports.iter().filter(|(port, _)| port.sharded);
        sharded.flat_map(|(port, wires)| wires.iter().map(|wired| (port.name, &wired.shown)))
    }

    /// The artifacts of a unit with their files, verified.
    pub(crate) fn bind(&self, store: &Store, scope: Scope<'_>) -> Result<Bound, Box<Unbound>> {
        let mut bound = Bound::new();
        for (port, wires) in &self.ports {
            let mut artifacts = Vec::new();
            for wired in wires {
                let seen = seen(port, wired, scope);
                let parts = seen.parts().map(|part| {
                    let path = store.verify(part).map_err(|error| {
                        Box::new(Unbound { producer: wired.producer, blob: part.blob, error })
                    })?;
                    Ok(InputPart { name: part.name.clone(), path, content: part.content })
                });
                let parts = parts.collect::<Result<_, Box<Unbound>>>()?;
                let (cell, digest) = (wired.name.to_owned(), seen.digest());
                artifacts.push(Input { cell, digest, parts });
            }
            bound.insert(port.name, artifacts);
        }
        Ok(bound)
    }

    /// The artifact of the cell from those of its shards.
    pub(crate) fn assemble(&self, shards: &[Arc<Outputs>]) -> Outputs {
        let ports = self.cell.stage.outputs().iter().map(|port| {
            let some = shards.iter().map(|outputs| &outputs[port.name].manifest);
            (port.name.to_owned(), Manifest::union(port.kind, some).into())
        });
        ports.collect()
    }
}

/// What a unit sees of an artifact on a port.
fn seen(port: &InputPort, wired: &Wired<'_>, scope: Scope<'_>) -> Manifest {
    let shown = &wired.shown;
    match scope {
        Scope::Chunk(number) if port.sharded => shown.of_chunk(number),
        Scope::Shard(shard) if port.sharded => {
            Manifest::new(port.kind, shown.part(shard).cloned().into_iter().collect())
        }
        _ => shown.clone(),
    }
}

fn names(manifest: &Manifest) -> impl Iterator<Item = &str> + Clone {
    manifest.parts().map(name)
}

fn name(part: &Part) -> &str {
    &part.name
}
