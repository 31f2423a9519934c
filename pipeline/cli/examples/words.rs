//! The whole command with stages of one's own and no others: `words run words.toml`.
//!
//! ```toml
//! [matrix]
//! times = [1, 2, 3]
//!
//! [words]
//! use = "words.list"
//! words = ["apple", "banana", "cherry"]
//!
//! [said]
//! use = "words.repeat"
//! in = { words = "words" }
//! times = "${times}"
//! ```

use std::{fs, process::ExitCode};

use engine::{Artifact, Ctx, One, Out, Registry, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Words, a shard each.
struct Words;
impl Artifact for Words {
    const KIND: &'static str = "words";
    const SHARDED: bool = true;
}

inputs! { struct NoneIn {} }
inputs! { struct WordsIn { words: One<Words> } }
outputs! { struct WordsOut { words: Out<Words> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListConfig {
    /// The words.
    words: Vec<String>,
}

/// Writes each word as a shard of its own.
struct List;
impl Stage for List {
    const NAME: &'static str = "words.list";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes words.";
    type Config = ListConfig;
    type Inputs = NoneIn;
    type Outputs = WordsOut;

    fn run(config: &ListConfig, _: NoneIn, out: &WordsOut, _: &Ctx<'_>) -> Result<(), StageError> {
        config.words.iter().try_for_each(|word| out.words.write(word, word.as_bytes()))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RepeatConfig {
    /// How often each word is said.
    times: usize,
}

/// Repeats every word, shard by shard.
struct Repeat;
impl Stage for Repeat {
    const NAME: &'static str = "words.repeat";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Repeats words.";
    const PER_SHARD: bool = true;
    type Config = RepeatConfig;
    type Inputs = WordsIn;
    type Outputs = WordsOut;

    fn run(
        config: &RepeatConfig,
        inputs: WordsIn,
        out: &WordsOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let word = fs::read(inputs.words.file(ctx.shard())?).map_err(StageError::new)?;
        ctx.log("saying it");
        out.words.write(ctx.shard(), &word.repeat(config.times))
    }
}

fn main() -> ExitCode {
    cli::main_with(Registry::new().with(|registry| {
        registry.add::<List>();
        registry.add::<Repeat>();
    }))
}
