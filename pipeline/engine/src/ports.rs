//! Typed ports: what a stage takes and gives, checked before anything runs.
//!
//! A stage declares its ports as structs by [`inputs!`](crate::inputs) and [`outputs!`](crate::outputs); the field types say
//! how many artifacts of which kind a port holds.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde::{Deserialize, Serialize};

use crate::{artifact::Artifact, digest::Digest, error::StageError};

/// How many artifacts an input port holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// One or more, in order; their names mean nothing.
    Many,
    /// Any number, each with the name of the cell that made it, which is part of the key.
    Named,
}

impl Arity {
    /// The number in words, for messages.
    pub fn words(self) -> &'static str {
        match self {
            Self::One => "exactly one artifact",
            Self::Optional => "at most one artifact",
            Self::Many => "at least one artifact",
            Self::Named => "any number of artifacts",
        }
    }

    /// Whether `n` artifacts fit.
    pub fn takes(self, n: usize) -> bool {
        match self {
            Self::One => n == 1,
            Self::Optional => n <= 1,
            Self::Many => n >= 1,
            Self::Named => true,
        }
    }
}

/// What an input port takes.
#[derive(Clone, Copy, Debug)]
pub struct InputPort {
    /// Name of the port.
    pub name: &'static str,
    /// Kind of artifact.
    pub kind: &'static str,
    /// Whether the kind is sharded.
    pub sharded: bool,
    /// The parts that the port sees, see [`Artifact::VIEW`].
    pub view: &'static [&'static str],
    /// How many artifacts it holds.
    pub arity: Arity,
}

/// What an output port gives.
#[derive(Clone, Copy, Debug)]
pub struct OutputPort {
    /// Name of the port.
    pub name: &'static str,
    /// Kind of artifact.
    pub kind: &'static str,
    /// Whether the kind is sharded.
    pub sharded: bool,
}

/// A part of an input, ready to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InputPart {
    /// Name of the part.
    pub name: String,
    /// Its file in the store; never to be written.
    pub path: PathBuf,
    /// Digest of its content.
    pub content: Digest,
}

/// One artifact on an input port: the parts that the port's view shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// The cell that made it, for messages and, on a named port, as a label.
    pub cell: String,
    /// Digest of the parts that are shown.
    pub digest: Digest,
    /// The parts, sorted by name.
    pub parts: Vec<InputPart>,
}

impl Input {
    /// The file of the part with this name.
    ///
    /// # Errors
    /// A [`StageError`] that names the parts that there are.
    pub fn file(&self, name: &str) -> Result<&Path, StageError> {
        self.parts.iter().find(|part| part.name == name).map(|part| part.path.as_path()).ok_or_else(
            || {
                let names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
                StageError::new(format!(
                    "artifact of cell `{}` has no part `{name}`: it has {names:?}",
                    self.cell
                ))
            },
        )
    }
}

/// Exactly one artifact of kind `K`.
#[derive(Clone, Debug)]
pub struct One<K>(Input, PhantomData<K>);

impl<K> Deref for One<K> {
    type Target = Input;

    fn deref(&self) -> &Input {
        &self.0
    }
}

/// One artifact of kind `K` or none.
#[derive(Clone, Debug)]
pub struct Optional<K>(Option<Input>, PhantomData<K>);

impl<K> Optional<K> {
    /// The artifact, if one is wired.
    pub fn get(&self) -> Option<&Input> {
        self.0.as_ref()
    }
}

/// One or more artifacts of kind `K` in the order of the experiment.
#[derive(Clone, Debug)]
pub struct Many<K>(Vec<Input>, PhantomData<K>);

impl<K> Deref for Many<K> {
    type Target = [Input];

    fn deref(&self) -> &[Input] {
        &self.0
    }
}

/// Any number of artifacts of kind `K`, labelled by the cells that made them.
#[derive(Clone, Debug)]
pub struct Named<K>(Vec<Input>, PhantomData<K>);

impl<K> Deref for Named<K> {
    type Target = [Input];

    fn deref(&self) -> &[Input] {
        &self.0
    }
}

/// The artifacts of a cell by port, as [`InputPorts::bind`] takes them.
pub type Bound = BTreeMap<&'static str, Vec<Input>>;

/// A field of an inputs struct.
pub trait InputField: Sized {
    /// The port of this field.
    fn port(name: &'static str) -> InputPort;
    /// Takes the field's artifacts.
    fn take(bound: &mut Bound, name: &'static str) -> Self;
}

fn port_of<K: Artifact>(name: &'static str, arity: Arity) -> InputPort {
    InputPort { name, kind: K::KIND, sharded: K::SHARDED, view: K::VIEW, arity }
}

impl<K: Artifact> InputField for One<K> {
    fn port(name: &'static str) -> InputPort {
        port_of::<K>(name, Arity::One)
    }

    fn take(bound: &mut Bound, name: &'static str) -> Self {
        let input = bound.remove(name).and_then(|mut inputs| inputs.pop());
        Self(
            input.expect("the number of artifacts on a port is checked before a stage runs"),
            PhantomData,
        )
    }
}

impl<K: Artifact> InputField for Optional<K> {
    fn port(name: &'static str) -> InputPort {
        port_of::<K>(name, Arity::Optional)
    }

    fn take(bound: &mut Bound, name: &'static str) -> Self {
        Self(bound.remove(name).and_then(|mut inputs| inputs.pop()), PhantomData)
    }
}

impl<K: Artifact> InputField for Many<K> {
    fn port(name: &'static str) -> InputPort {
        port_of::<K>(name, Arity::Many)
    }

    fn take(bound: &mut Bound, name: &'static str) -> Self {
        Self(bound.remove(name).unwrap_or_default(), PhantomData)
    }
}

impl<K: Artifact> InputField for Named<K> {
    fn port(name: &'static str) -> InputPort {
        port_of::<K>(name, Arity::Named)
    }

    fn take(bound: &mut Bound, name: &'static str) -> Self {
        Self(bound.remove(name).unwrap_or_default(), PhantomData)
    }
}

/// All input ports of a stage.
pub trait InputPorts: Sized {
    /// The ports in the order of their declaration.
    fn ports() -> Vec<InputPort>;
    /// Takes the artifacts of every port.
    fn bind(bound: &mut Bound) -> Self;
}

/// The artifact that a stage is making on one output port.
#[derive(Debug)]
pub struct Out<K> {
    folder: PathBuf,
    contents: Mutex<BTreeMap<String, Digest>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Out<K> {
    /// An output that is made in `folder`.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder, contents: Mutex::default(), kind: PhantomData }
    }

    /// The file to write for a part; it becomes visible when the stage has returned without an error.
    pub fn path(&self, part: &str) -> PathBuf {
        self.folder.join(part)
    }

    /// Writes a part whole.
    ///
    /// # Errors
    /// A [`StageError`] with the file and why it could not be written.
    pub fn write(&self, part: &str, bytes: &[u8]) -> Result<(), StageError> {
        let path = self.path(part);
        std::fs::write(&path, bytes)
            .map_err(crate::error::StoreError::io("write", path))
            .map_err(StageError::new)
    }

    /// States what a part means, where its container adds bytes of its own.
    pub fn content(&self, part: &str, digest: impl Into<Digest>) {
        let mut contents = self.contents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        contents.insert(part.to_owned(), digest.into());
    }
}

/// What the engine needs of an output after the stage has run.
#[derive(Debug)]
pub struct MadeOutput {
    /// Where the parts lie.
    pub folder: PathBuf,
    /// Contents that the stage stated.
    pub contents: BTreeMap<String, Digest>,
}

/// A field of an outputs struct.
pub trait OutputField {
    /// The port of this field.
    fn port(name: &'static str) -> OutputPort;
    /// Opens the output in a folder of its own.
    fn open(folder: PathBuf) -> Self;
    /// What was made.
    fn made(&self) -> MadeOutput;
}

impl<K: Artifact> OutputField for Out<K> {
    fn port(name: &'static str) -> OutputPort {
        OutputPort { name, kind: K::KIND, sharded: K::SHARDED }
    }

    fn open(folder: PathBuf) -> Self {
        Self::in_folder(folder)
    }

    fn made(&self) -> MadeOutput {
        let contents = self.contents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        MadeOutput { folder: self.folder.clone(), contents: contents.clone() }
    }
}

/// All output ports of a stage.
pub trait OutputPorts: Sized {
    /// The ports in the order of their declaration.
    fn ports() -> Vec<OutputPort>;
    /// Opens every output in a folder named for its port.
    fn open(folder: &Path) -> Self;
    /// What was made, by port.
    fn made(&self) -> Vec<(&'static str, MadeOutput)>;
}

/// Declares the input ports of a stage as a struct.
///
/// # Examples
/// ```
/// use engine::{Artifact, InputPorts, One, Optional, inputs};
///
/// struct Masks;
/// impl Artifact for Masks {
///     const KIND: &'static str = "masks";
/// }
///
/// inputs! {
///     /// What the stage reads.
///     pub struct ShiftInputs {
///         /// Masks to move.
///         clean: One<Masks>,
///         /// Masks to compare with.
///         reference: Optional<Masks>,
///     }
/// }
///
/// assert_eq!(ShiftInputs::ports()[1].name, "reference");
/// ```
#[macro_export]
macro_rules! inputs {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* pub $field: $type),* }

        impl $crate::InputPorts for $name {
            fn ports() -> Vec<$crate::InputPort> {
                vec![$(<$type as $crate::InputField>::port(stringify!($field))),*]
            }

            #[allow(unused_variables, reason = "a stage may have no inputs")]
            fn bind(bound: &mut $crate::Bound) -> Self {
                Self { $($field: <$type as $crate::InputField>::take(bound, stringify!($field))),* }
            }
        }
    };
}

/// Declares the output ports of a stage as a struct of [`Out`] fields.
#[macro_export]
macro_rules! outputs {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* pub $field: $type),* }

        impl $crate::OutputPorts for $name {
            fn ports() -> Vec<$crate::OutputPort> {
                vec![$(<$type as $crate::OutputField>::port(stringify!($field))),*]
            }

            fn open(folder: &std::path::Path) -> Self {
                Self { $($field: <$type as $crate::OutputField>::open(folder.join(stringify!($field)))),* }
            }

            fn made(&self) -> Vec<(&'static str, $crate::MadeOutput)> {
                vec![$((stringify!($field), $crate::OutputField::made(&self.$field))),*]
            }
        }
    };
}
