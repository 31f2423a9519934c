//! The stages that an experiment may name.
//!
//! Registration is by explicit functions: a list that the linker gathers loses the stages of crates that nothing refers to.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    error::StageError,
    stage::{DynStage, Erased, Stage},
};

/// Keys of a cell's table that are not the stage's own.
pub(crate) const RESERVED: [&str; 6] = ["use", "in", "enabled", "resources", "timeout", "retry"];

/// Stages by name.
#[derive(Clone, Default)]
pub struct Registry {
    stages: BTreeMap<&'static str, Arc<dyn DynStage>>,
    requirements: Vec<Requirement>,
}

/// What a set of stages asks of the machine and the environment, see [`Registry::require`].
pub type Requirement = fn() -> Result<(), StageError>;

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage.
    ///
    /// # Panics
    /// When another stage has the name, or a key of its configuration is reserved: bugs of the program that registers.
    pub fn add<S: Stage>(&mut self) {
        self.add_dyn(Arc::new(Erased::<S>::new()));
    }

    /// Adds a stage that is not a type of its own.
    ///
    /// # Panics
    /// As [`add`](Self::add) does.
    pub fn add_dyn(&mut self, stage: Arc<dyn DynStage>) {
        let name = stage.name();
        let keys = stage.schema().get("properties").and_then(|p| p.as_object());
        let reserved =
            keys.and_then(|keys| RESERVED.into_iter().find(|key| keys.contains_key(*key)));
        assert!(reserved.is_none(), "stage `{name}` has a reserved key {reserved:?}");
        let before = self.stages.insert(name, stage);
        assert!(before.is_none(), "two stages have the name `{name}`");
    }

    /// Adds what must hold before any of the stages can be used.
    pub fn require(&mut self, requirement: Requirement) {
        self.requirements.push(requirement);
    }

    /// Asks whether all that the stages require holds.
    ///
    /// # Errors
    /// The first requirement that does not.
    pub fn check(&self) -> Result<(), StageError> {
        self.requirements.iter().try_for_each(|requirement| requirement())
    }

    /// Calls a crate's registering function; for chains in a `main`.
    #[must_use]
    pub fn with(mut self, register: impl FnOnce(&mut Self)) -> Self {
        register(&mut self);
        self
    }

    /// The stage with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn DynStage>> {
        self.stages.get(name)
    }

    /// All stages, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn DynStage>> {
        self.stages.values()
    }

    /// Whether a kind of artifact comes in shards, as far as a stage says so.
    pub(crate) fn is_sharded(&self, kind: &str) -> bool {
        let made = |stage: &Arc<dyn DynStage>| {
            let (inputs, outputs) = (stage.inputs().iter(), stage.outputs().iter());
            let ports = inputs.map(|port| (port.kind, port.sharded));
            ports.chain(outputs.map(|port| (port.kind, port.sharded))).any(|p| p == (kind, true))
        };
        self.stages.values().any(made)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.stages.keys().copied()
    }
}
