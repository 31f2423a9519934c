//! What an experiment says of a cell beside its stage's configuration: what it takes of the machine, how long it may
//! take, and what happens when it fails. None of it is part of a key.
//!
//! ```toml
//! [train]
//! use = "train.uma"
//! resources = { cpus = 2, memory = "8G", gpus = 1 }
//! timeout = "2h"
//! retry = { infrastructure = 3, memory = 1 }
//! ```

use std::{fmt, io, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{RunError, StageError, StoreError};

/// Keys of a cell's table that make its policy.
pub(crate) const KEYS: [&str; 3] = ["resources", "timeout", "retry"];

/// Memory is asked for this much more after each time that it was not enough.
const MORE_MEMORY: f64 = 1.5;

/// Why a cell failed, as far as that decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// The stage refused or panicked: it would do so again.
    Stage,
    /// It took longer than its `timeout`.
    Timeout,
    /// There was not enough memory.
    Memory,
    /// The run was told to stop.
    Cancelled,
    /// The disk, the store or a device failed: it may be better next time.
    Infrastructure,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stage => "stage error",
            Self::Timeout => "timeout",
            Self::Memory => "out of memory",
            Self::Cancelled => "cancelled",
            Self::Infrastructure => "infrastructure",
        })
    }
}

/// How often a unit is tried again after a failure of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// After an error of the stage; by default never, as it would only come again.
    pub stage: u32,
    /// After a timeout; a stage with checkpoints goes on from the last.
    pub timeout: u32,
    /// After memory ran out; each time half as much again is asked for.
    pub memory: u32,
    /// After the disk, the store or a device failed, unless the disk is full or may not be written.
    pub infrastructure: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { stage: 0, timeout: 0, memory: 0, infrastructure: 1 }
    }
}

impl Retry {
    /// How often a unit is tried again after failures of this class.
    pub fn of(&self, class: FailureClass) -> u32 {
        match class {
            FailureClass::Stage => self.stage,
            FailureClass::Timeout => self.timeout,
            FailureClass::Memory => self.memory,
            FailureClass::Cancelled => 0,
            FailureClass::Infrastructure => self.infrastructure,
        }
    }
}

/// What an experiment says that a cell takes, in place of what its stage says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Asked {
    /// Processor cores.
    cpus: Option<usize>,
    /// Memory, for example `"8G"` or a number of bytes.
    memory: Option<Quantity<Bytes>>,
    /// Graphics processors.
    gpus: Option<usize>,
}

/// The keys of a cell's table that are not its stage's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Written {
    resources: Asked,
    /// Time after which the cell is stopped, for example `"90s"`, `"30m"`, `"2h"` or a number of seconds.
    timeout: Option<Quantity<Seconds>>,
    retry: Retry,
}

/// What is done with a cell beside running its stage.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(crate) asked: Asked,
    /// Time that each unit may take.
    pub timeout: Option<Duration>,
    /// How often a unit is tried again.
    pub retry: Retry,
}

impl Policy {
    /// Reads the keys of a cell's table.
    pub(crate) fn read(
        keys: &Value,
    ) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        let Written { resources: asked, timeout, retry } = serde_path_to_error::deserialize(keys)?;
        let timeout = timeout.map(|Quantity(seconds, _)| Duration::from_secs_f64(seconds));
        Ok(Self { asked, timeout, retry })
    }

    /// JSON Schema of the keys.
    pub(crate) fn schema() -> Value {
        let mut schema = schemars::schema_for!(Written).to_value();
        if let Some(object) = schema.as_object_mut() {
            object.remove("$schema");
        }
        schema
    }

    /// What a unit takes at its n-th try after failures for want of memory, from what its stage says.
    pub(crate) fn resources(&self, own: crate::Resources, own_gpus: usize, grown: u32) -> Need {
        let memory = self.asked.memory.map_or(own.memory, |Quantity(bytes, _)| bytes as u64);
        Need {
            cpus: self.asked.cpus.unwrap_or(own.cpus),
            memory: (memory as f64 * MORE_MEMORY.powi(grown as i32)) as u64,
            gpus: self.asked.gpus.unwrap_or(own_gpus),
        }
    }
}

/// What a unit takes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Processor cores.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Graphics processors for itself alone.
    pub gpus: usize,
}

/// A number with a unit behind it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value", bound(deserialize = "U: Unit"))]
struct Quantity<U>(f64, std::marker::PhantomData<U>);

/// What a [`Quantity`] counts.
trait Unit {
    const EXAMPLE: &'static str;
    const FACTORS: &'static [(&'static str, f64)];
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Bytes;
impl Unit for Bytes {
    const EXAMPLE: &'static str = "a size such as \"8G\"";
    const FACTORS: &'static [(&'static str, f64)] = &[
        ("", 1.0),
        ("K", 1024.0),
        ("M", 1_048_576.0),
        ("G", 1_073_741_824.0),
        ("T", 1_099_511_627_776.0),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds;
impl Unit for Seconds {
    const EXAMPLE: &'static str = "a time such as \"30m\"";
    const FACTORS: &'static [(&'static str, f64)] =
        &[("", 1.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
}

impl<U: Unit> FromStr for Quantity<U> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}: got \"{text}\"", U::EXAMPLE);
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let factor = U::FACTORS.iter().find(|(name, _)| *name == unit.trim());
        let quantity = number * factor.ok_or_else(wrong)?.1;
        if quantity > 0.0 && quantity < 1e15 {
            Ok(Self(quantity, std::marker::PhantomData))
        } else {
            Err(wrong())
        }
    }
}

impl<U: Unit> TryFrom<Value> for Quantity<U> {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

impl<U> JsonSchema for Quantity<U> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "number"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl RunError {
    /// What kind of failure this is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Store(_) => FailureClass::Infrastructure,
            Self::Timeout { .. } => FailureClass::Timeout,
            Self::Cancelled { .. } => FailureClass::Cancelled,
            Self::Stage { source, .. } => of_stage(source),
            _ => FailureClass::Stage,
        }
    }

    /// Whether the same would happen again: a full disk does not become empty by waiting.
    pub(crate) fn is_permanent(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let kinds = [PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
        io_kind(self).is_some_and(|kind| kinds.contains(&kind))
    }
}

/// What the stage says, or what the system said to it.
pub(crate) fn of_stage(error: &StageError) -> FailureClass {
    let of_system = || match io_kind(error)? {
        io::ErrorKind::OutOfMemory => Some(FailureClass::Memory),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(FailureClass::Infrastructure)
        }
        _ => is_failing_device(error).then_some(FailureClass::Infrastructure),
    };
    error.class().or_else(of_system).unwrap_or(FailureClass::Stage)
}

/// The first error of the system in a chain.
fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    chain.find_map(|error| error.downcast_ref::<io::Error>())
}

/// The system's number of the first error of the system in a chain.
pub(crate) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    io_error(error).and_then(io::Error::raw_os_error)
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    io_error(error).map(io::Error::kind)
}

fn is_failing_device(error: &(dyn std::error::Error + 'static)) -> bool {
    /// `EIO` and `ESTALE` of Linux.
    const CODES: [i32; 2] = [5, 116];
    let store = error.source().is_some_and(|source| source.is::<StoreError>());
    store || os_error(error).is_some_and(|code| CODES.contains(&code))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_read_in_the_units_of_people() {
        let keys = json!({
            "resources": { "memory": "1.5G", "gpus": 1 },
            "timeout": "2h",
            "retry": { "memory": 2 },
        });
        let policy = Policy::read(&keys).unwrap();
        assert_eq!(policy.timeout, Some(Duration::from_secs(7200)));
        assert_eq!(policy.retry, Retry { memory: 2, ..Retry::default() });
        let own = crate::Resources { cpus: 3, memory: 7 };
        let need = policy.resources(own, 0, 1);
        assert_eq!(need, Need { cpus: 3, memory: 9 << 28, gpus: 1 });
        assert_eq!(Policy::default().resources(own, 0, 0), Need { cpus: 3, memory: 7, gpus: 0 });
    }

    #[test]
    fn what_is_no_time_or_size_is_refused_with_an_example() {
        for (keys, expected) in [
            (
                json!({ "timeout": "soon" }),
                "timeout: expected a time such as \"30m\": got \"soon\"",
            ),
            (json!({ "timeout": -1 }), "timeout: expected a time such as \"30m\": got \"-1\""),
            (
                json!({ "resources": { "memory": "8X" } }),
                "resources.memory: expected a size such as \"8G\": got \"8X\"",
            ),
        ] {
            assert_eq!(Policy::read(&keys).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn failures_have_the_class_of_their_cause() {
        let stage = |source| RunError::Stage { cell: "c".into(), stage: "s", shard: None, source };
        let io = |kind: io::ErrorKind| stage(StageError::new(io::Error::from(kind)));
        assert_eq!(stage(StageError::new("no")).class(), FailureClass::Stage);
        assert_eq!(io(io::ErrorKind::NotFound).class(), FailureClass::Stage);
        assert_eq!(io(io::ErrorKind::OutOfMemory).class(), FailureClass::Memory);
        let full = io(io::ErrorKind::StorageFull);
        assert_eq!((full.class(), full.is_permanent()), (FailureClass::Infrastructure, true));
        let device = stage(StageError::new(io::Error::from_raw_os_error(5)));
        assert_eq!((device.class(), device.is_permanent()), (FailureClass::Infrastructure, false));
        let killed = stage(StageError::new("killed").of_class(FailureClass::Memory));
        assert_eq!(killed.class(), FailureClass::Memory);
    }
}
