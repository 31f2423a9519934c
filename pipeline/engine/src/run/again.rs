//! `verify --rerun`: some of what is stored is made again, beside the store, and must come out the same.
//!
//! What differs was made by code that has changed without its VERSION, or by a stage that does not give the same bytes
//! each time.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::AtomicBool};

use serde::Serialize;

use crate::{
    artifact::{Manifest, Part},
    digest::Digest,
    error::{RunError, StoreError},
    experiment::{Cell, Experiment},
    ports::MadeOutput,
    resolve::{Known, Prepared, Resolver, Scope, Step, Unit},
    stage::Ctx,
    store::{Lookup, Outputs, Room, Store, Workplace},
    upkeep::{Draw, Share},
};

/// An output that came out different.
#[derive(Clone, Debug, Serialize)]
pub struct Differing {
    /// The cell.
    pub cell: String,
    /// Its stage.
    pub stage: &'static str,
    /// The shard, for a stage that runs per shard.
    pub shard: Option<String>,
    /// The output port.
    pub port: String,
    /// Digest of the stored content.
    pub stored: Digest,
    /// Digest of what was made now.
    pub made: Digest,
}

/// What was made again.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rerun {
    /// Units of the experiment whose results are stored.
    pub units: usize,
    /// Those that were made again.
    pub made: usize,
    /// Outputs that differ from what is stored.
    pub differing: Vec<Differing>,
}

/// Makes each stored unit of an experiment again with a probability, and compares.
///
/// Cells that are not stored are passed over, and nothing is written but in `tmp/`.
///
/// # Errors
/// The first unit that fails, or what the store says.
pub fn rerun(
    experiment: &Experiment,
    store: &Store,
    share: Share,
    cancelled: &AtomicBool,
) -> Result<Rerun, RunError> {
    let resolver = Resolver::new(experiment, store);
    let mut known: Known = vec![None; experiment.cells.len()];
    let (mut found, draw) = (Rerun::default(), Draw::new(share));
    for (index, cell) in experiment.cells.iter().enumerate() {
        if experiment.needs(index).any(|needed| known[needed].is_none()) {
            continue;
        }
        let Step::Fresh { outputs, .. } = resolver.step(index, &known)? else { continue };
        let prepared = resolver.prepare(index, &known)?;
        for (unit, stored) in stored_units(store, cell, &prepared, &outputs)? {
            found.units += 1;
            // A program elsewhere has devices that this one is not given.
            let here = cell.config.program.is_none();
            if here
                && draw.takes(&unit.key)
                && !cancelled.load(std::sync::atomic::Ordering::Relaxed)
            {
                found.made += 1;
                let made = make(store, cell, &prepared, &unit, cancelled)?;
                found.differing.extend(differing(cell, &unit, &stored, &made));
            }
        }
        known[index] = Some(outputs);
    }
    Ok(found)
}

/// The units of a cell with what is stored of them.
fn stored_units(
    store: &Store,
    cell: &Cell,
    prepared: &Prepared<'_>,
    outputs: &Arc<Outputs>,
) -> Result<Vec<(Unit, Arc<Outputs>)>, RunError> {
    if !cell.stage.per_shard() {
        let unit = Unit { shard: None, key: prepared.key(Scope::Whole), group: 0 };
        return Ok(vec![(unit, outputs.clone())]);
    }
    let mut units = Vec::new();
    for (group, shards) in prepared.chunks()?.into_iter().enumerate() {
        for shard in shards {
            let key = prepared.key(Scope::Shard(shard));
            if let Lookup::Hit(outputs) = store.look_up(&key) {
                units.push((Unit { shard: Some(shard.to_owned()), key, group }, outputs));
            }
        }
    }
    Ok(units)
}

/// Runs the stage of a unit in a folder of its own; the digests of what it made, by port.
fn make(
    store: &Store,
    cell: &Cell,
    prepared: &Prepared<'_>,
    unit: &Unit,
    cancelled: &AtomicBool,
) -> Result<BTreeMap<String, Digest>, RunError> {
    let ports = cell.stage.outputs();
    let mut place = Workplace::new(store);
    let Room { out, scratch } = place.enter(ports.iter().map(|port| port.name))?;
    // Not those of the key: the whole of the work is done again.
    let checkpoints = scratch.with_file_name("checkpoints");
    let ctx = Ctx {
        shard: unit.shard.clone(),
        externals: cell.externals.clone().unwrap_or_default(),
        scratch,
        checkpoints,
        threads: cell.config.resources.cpus,
        gpus: Vec::new(),
        progress: &|_, _| {},
        log: &|_| {},
        cancelled,
        launcher: None,
        deadline: None,
    };
    let bound = prepared.bind(store, unit.scope()).map_err(|unbound| unbound.error)?;
    let made = cell.stage.run(&cell.config, bound, &out, &ctx).map_err(|source| {
        let (cell, stage, shard) = (cell.name.clone(), cell.stage.name(), unit.shard.clone());
        RunError::Stage { cell, stage, shard, source }
    })?;
    let digest = |(port, output): (&str, MadeOutput)| {
        let kind = ports.iter().find(|p| p.name == port).map_or("", |p| p.kind);
        Ok((port.to_owned(), content(kind, &output)?))
    };
    made.into_iter().map(digest).collect()
}

/// Digest of an artifact that is not stored.
fn content(kind: &str, output: &MadeOutput) -> Result<Digest, StoreError> {
    let mut parts = Vec::new();
    for path in crate::upkeep::list(&output.folder)? {
        let (blob, bytes) = Digest::of_file(&path).map_err(StoreError::io("read", &path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = output.contents.get(&name).copied().unwrap_or(blob);
        parts.push(Part { name, content, blob, bytes });
    }
    Ok(Manifest::new(kind, parts).digest())
}

fn differing(
    cell: &Cell,
    unit: &Unit,
    stored: &Outputs,
    made: &BTreeMap<String, Digest>,
) -> Vec<Differing> {
    let outputs = made.iter().filter_map(|(port, made)| {
        let stored = stored.get(port)?.digest;
        let (cell, stage, shard) = (cell.name.clone(), cell.stage.name(), unit.shard.clone());
        let (port, made) = (port.clone(), *made);
        (stored != made).then_some(Differing { cell, stage, shard, port, stored, made })
    });
    outputs.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::fs;

    use super::*;
    use crate::toy::{TOY, Toy};

    #[test]
    fn what_does_not_come_out_the_same_is_found() {
        let toy = Toy::new();
        let chance = toy.path("chance").display().to_string();
        let text = format!("{TOY}\n[luck]\nuse = 'fail'\nhow = '{chance}'\n");
        let experiment = toy.load(&text, &[]);
        let (store, never) = (toy.store(), AtomicBool::new(false));
        assert_eq!(rerun(&experiment, &store, Share::All, &never).unwrap().units, 0);
        toy.try_run(&experiment).unwrap();
        let same = rerun(&experiment, &store, Share::All, &never).unwrap();
        assert_eq!((same.units, same.made, same.differing.len()), (12, 12, 0));
        fs::write(toy.path("chance"), "another").unwrap();
        let found = rerun(&experiment, &store, Share::All, &never).unwrap();
        let cells: Vec<&str> = found.differing.iter().map(|d| d.cell.as_str()).collect();
        assert_eq!(cells, ["luck"]);
        assert_eq!(rerun(&experiment, &store, Share::Of(0.0), &never).unwrap().made, 0);
        assert!(crate::toy::walk(&toy.path("store/tmp")).is_empty());
    }
}
