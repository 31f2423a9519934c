//! What a cell is about to do, and the key that follows from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    artifact::{Chunk, Manifest},
    digest::{Digest, Encoder},
};

/// Domain of all keys: another number here disowns every stored result.
const DOMAIN: &str = "pipeline action v1";

/// Parts of an artifact with their contents, to explain what has changed of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The parts, where the artifact is of one chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<(String, Digest)>,
    /// Otherwise the chunks: content, and the stored list with the parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chunks: Vec<(Digest, Digest)>,
}

impl Shown {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        match manifest.chunks() {
            [one] => Self { parts: Self::parts_of(one), chunks: Vec::new() },
            chunks => {
                let lists = manifest.leaves().map(|(list, _)| list.digest);
                let chunks = chunks.iter().map(|chunk| chunk.content()).zip(lists).collect();
                Self { parts: Vec::new(), chunks }
            }
        }
    }

    /// The parts of a chunk.
    pub(crate) fn parts_of(chunk: &Chunk) -> Vec<(String, Digest)> {
        chunk.parts().iter().map(|part| (part.name.clone(), part.content)).collect()
    }
}

/// One artifact on an input port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputState {
    /// The cell that made it: part of the key on a named port only.
    pub cell: String,
    /// Whether the port is named.
    pub named: bool,
    /// Digest of the parts that the port shows.
    pub content: Digest,
    /// Those parts with their contents; not hashed again, they only explain what changed.
    pub parts: Shown,
}

/// Everything on which a cell's output depends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Name of the stage.
    pub stage: String,
    /// Version of the stage.
    pub version: u32,
    /// Resolved configuration without what does not change the output.
    pub config: Value,
    /// The shard, for one part of a stage that runs per shard.
    pub shard: Option<String>,
    /// The artifacts on each port.
    pub inputs: BTreeMap<String, Vec<InputState>>,
    /// Contents of the outside files.
    pub externals: BTreeMap<String, Digest>,
    /// Facts of the machine that change the output.
    pub environment: BTreeMap<String, String>,
}

impl Action {
    /// The key under which the result is stored.
    pub fn key(&self) -> Digest {
        let Self { stage, version, config, shard, inputs, externals, environment } = self;
        let mut encoder = Encoder::new(DOMAIN);
        encoder.text(stage);
        encoder.number(u64::from(*version));
        encoder.value(config);
        encoder.value(&shard.as_deref().map_or(Value::Null, Value::from));
        encoder.list(inputs.len());
        for (port, states) in inputs {
            encoder.text(port);
            encoder.list(states.len());
            states.iter().for_each(|state| encode_input(&mut encoder, state));
        }
        encoder.list(externals.len());
        for (name, digest) in externals {
            encoder.text(name);
            encoder.digest(digest);
        }
        encoder.list(environment.len());
        for (name, fact) in environment {
            encoder.text(name);
            encoder.text(fact);
        }
        encoder.finish()
    }

    /// The same without what only explains which parts of an input changed.
    pub(crate) fn without_parts(&self) -> Self {
        let mut action = self.clone();
        action.inputs.values_mut().flatten().for_each(|state| state.parts = Shown::default());
        action
    }
}

fn encode_input(encoder: &mut Encoder, state: &InputState) {
    // `parts` is what `content` was made from.
    let InputState { cell, named, content, parts: _ } = state;
    if *named {
        encoder.text(cell);
    }
    encoder.digest(content);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn action() -> Action {
        let input = InputState {
            cell: "cases".into(),
            named: false,
            content: Digest::of(b"masks"),
            parts: Shown { parts: vec![("a".into(), Digest::of(b"a"))], chunks: Vec::new() },
        };
        Action {
            stage: "noise.shift".into(),
            version: 1,
            config: json!({"distance": 3}),
            shard: None,
            inputs: BTreeMap::from([("clean".into(), vec![input])]),
            externals: BTreeMap::from([("f".into(), Digest::of(b"f"))]),
            environment: BTreeMap::from([("device".into(), "cpu".into())]),
        }
    }

    /// Flips every field: exactly those that cannot change the output leave the key alone.
    #[test]
    fn every_field_counts() {
        let key = action().key();
        let changed = |change: &dyn Fn(&mut Action)| {
            let mut other = action();
            change(&mut other);
            other.key() != key
        };
        assert!(changed(&|a| a.stage = "noise.erase".into()));
        assert!(changed(&|a| a.version = 2));
        assert!(changed(&|a| a.config = json!({"distance": 4})));
        assert!(changed(&|a| a.shard = Some("s".into())));
        assert!(changed(&|a| a.inputs.clear()));
        assert!(changed(&|a| a.inputs.values_mut().for_each(|v| v[0].content = Digest::of(b"x"))));
        assert!(changed(&|a| a.inputs.values_mut().for_each(|v| v[0].named = true)));
        assert!(changed(&|a| a.externals.clear()));
        assert!(changed(&|a| a.environment.clear()));
        assert!(!changed(&|a| a.inputs.values_mut().for_each(|v| v[0].cell = "other".into())));
        assert!(!changed(&|a| a.inputs.values_mut().for_each(|v| v[0].parts = Shown::default())));
    }

    /// Golden vector: a change here disowns every result that users have stored.
    #[test]
    fn golden_key() {
        assert_eq!(action().key().to_string(), GOLDEN);
    }

    const GOLDEN: &str = "842411a990b22a3a65b00e97cabb5f2df3fba55bd6a1ac1da55803573204ff30";
}
