//! Toy stages that write down every unit that they execute, with everything that it saw.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, PoisonError},
};

use engine::{
    Artifact, Ctx, Input, Many, Named, One, Out, Registry, Stage, StageError, inputs, outputs,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parts of an artifact by name.
pub type Parts = BTreeMap<String, u64>;

pub struct Data;
impl Artifact for Data {
    const KIND: &'static str = "data";
    const SHARDED: bool = true;
}

/// Only the parts whose names begin with a.
pub struct DataA;
impl Artifact for DataA {
    const KIND: &'static str = "data";
    const SHARDED: bool = true;
    const VIEW: &'static [&'static str] = &["a"];
}

pub struct Number;
impl Artifact for Number {
    const KIND: &'static str = "number";
}

inputs! { pub struct NoneIn {} }
inputs! { pub struct ManyIn { data: Many<Data> } }
inputs! { pub struct ViewIn { data: One<DataA> } }
inputs! { pub struct NamedIn { numbers: Named<Number> } }
outputs! { pub struct DataOut { data: Out<Data> } }
outputs! { pub struct NumberOut { number: Out<Number> } }

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    pub items: Parts,
    #[serde(default)]
    pub world: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberConfig {
    pub add: u64,
    pub modulus: u64,
    #[serde(default)]
    pub world: u64,
}

/// What was executed, by world.
static EXECUTED: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Takes what was executed in a world since it was taken last, sorted.
pub fn take_executed(world: u64) -> Vec<String> {
    let mut all = EXECUTED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut executed = all.remove(&world).unwrap_or_default();
    executed.sort();
    executed
}

fn executed(world: u64, unit: String) {
    let mut all = EXECUTED.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(world).or_default().push(unit);
}

/// A unit in words: all that its output may depend on.
pub fn unit(
    stage: &str,
    version: u32,
    config: &str,
    shard: &str,
    inputs: &[(&str, Parts)],
) -> String {
    format!("{stage} {version} {config} {shard} {inputs:?}")
}

/// Every part of an input as it lies in the store.
fn parts(input: &Input) -> Result<Parts, StageError> {
    let read = |part: &engine::InputPart| {
        let text = fs::read_to_string(&part.path).map_err(StageError::new)?;
        Ok((part.name.clone(), text.parse().map_err(StageError::new)?))
    };
    input.parts.iter().map(read).collect()
}

/// Halves, so that some changes of an item change nothing.
pub fn source(version: u32, items: &Parts) -> Parts {
    items.iter().map(|(name, value)| (name.clone(), value / 2 + u64::from(version))).collect()
}

/// What all stages of numbers compute.
pub fn number(version: u32, add: u64, modulus: u64, inputs: &[&Parts]) -> u64 {
    let weigh = |(i, parts): (usize, &&Parts)| parts.values().sum::<u64>() * (i as u64 + 1);
    (inputs.iter().enumerate().map(weigh).sum::<u64>() + add + u64::from(version)) % modulus
}

/// Makes data of its configuration.
pub struct Source<const V: u32>;
impl<const V: u32> Stage for Source<V> {
    const NAME: &'static str = "source";
    const VERSION: u32 = V;
    const ABOUT: &'static str = "Makes data.";
    const NONSEMANTIC: &'static [&'static str] = &["world"];
    type Config = SourceConfig;
    type Inputs = NoneIn;
    type Outputs = DataOut;

    fn run(config: &SourceConfig, _: NoneIn, out: &DataOut, _: &Ctx<'_>) -> Result<(), StageError> {
        executed(config.world, unit("source", V, &format!("{:?}", config.items), "", &[]));
        let made = source(V, &config.items);
        made.iter().try_for_each(|(name, value)| out.data.write(name, value.to_string().as_bytes()))
    }
}

/// Computes a number of each shard.
pub struct Map<const V: u32>;
impl<const V: u32> Stage for Map<V> {
    const NAME: &'static str = "map";
    const VERSION: u32 = V;
    const ABOUT: &'static str = "Changes data.";
    const PER_SHARD: bool = true;
    const NONSEMANTIC: &'static [&'static str] = &["world"];
    type Config = NumberConfig;
    type Inputs = ManyIn;
    type Outputs = DataOut;

    fn run(
        config: &NumberConfig,
        inputs: ManyIn,
        out: &DataOut,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let seen: Vec<Parts> = inputs.data.iter().map(parts).collect::<Result<_, _>>()?;
        let value = computed("map", V, config, ctx.shard(), seen.iter().map(|parts| ("", parts)));
        out.data.write(ctx.shard(), value.to_string().as_bytes())
    }
}

/// Computes one number of everything.
pub struct Fold<const V: u32>;
impl<const V: u32> Stage for Fold<V> {
    const NAME: &'static str = "fold";
    const VERSION: u32 = V;
    const ABOUT: &'static str = "Sums data.";
    const NONSEMANTIC: &'static [&'static str] = &["world"];
    type Config = NumberConfig;
    type Inputs = ManyIn;
    type Outputs = NumberOut;

    fn run(
        config: &NumberConfig,
        inputs: ManyIn,
        out: &NumberOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let seen: Vec<Parts> = inputs.data.iter().map(parts).collect::<Result<_, _>>()?;
        let value = computed("fold", V, config, "", seen.iter().map(|parts| ("", parts)));
        out.number.write("n", value.to_string().as_bytes())
    }
}

/// Computes one number of some parts.
pub struct Look<const V: u32>;
impl<const V: u32> Stage for Look<V> {
    const NAME: &'static str = "look";
    const VERSION: u32 = V;
    const ABOUT: &'static str = "Sums some data.";
    const NONSEMANTIC: &'static [&'static str] = &["world"];
    type Config = NumberConfig;
    type Inputs = ViewIn;
    type Outputs = NumberOut;

    fn run(
        config: &NumberConfig,
        inputs: ViewIn,
        out: &NumberOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let seen = parts(&inputs.data)?;
        let value = computed("look", V, config, "", [("", &seen)].into_iter());
        out.number.write("n", value.to_string().as_bytes())
    }
}

/// Computes one number of named numbers.
pub struct Tell<const V: u32>;
impl<const V: u32> Stage for Tell<V> {
    const NAME: &'static str = "tell";
    const VERSION: u32 = V;
    const ABOUT: &'static str = "Sums numbers.";
    const NONSEMANTIC: &'static [&'static str] = &["world"];
    type Config = NumberConfig;
    type Inputs = NamedIn;
    type Outputs = NumberOut;

    fn run(
        config: &NumberConfig,
        inputs: NamedIn,
        out: &NumberOut,
        _: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let seen: Vec<Parts> = inputs.numbers.iter().map(parts).collect::<Result<_, _>>()?;
        let names = inputs.numbers.iter().map(|input| input.cell.as_str());
        let value = computed("tell", V, config, "", names.zip(&seen));
        out.number.write("n", value.to_string().as_bytes())
    }
}

/// Writes the unit down and computes its number.
fn computed<'a>(
    stage: &str,
    version: u32,
    config: &NumberConfig,
    shard: &str,
    inputs: impl Iterator<Item = (&'a str, &'a Parts)>,
) -> u64 {
    let inputs: Vec<(&str, Parts)> = inputs.map(|(name, parts)| (name, parts.clone())).collect();
    let NumberConfig { add, modulus, world } = config;
    executed(*world, unit(stage, version, &number_config(*add, *modulus), shard, &inputs));
    let parts: Vec<&Parts> = inputs.iter().map(|(_, parts)| parts).collect();
    number(version, *add, *modulus, &parts)
}

/// A configuration of numbers in words.
pub fn number_config(add: u64, modulus: u64) -> String {
    format!("{add} {modulus}")
}

/// The stages, each in its first or second version.
pub fn registry(second: [bool; 5]) -> Registry {
    let mut registry = Registry::new();
    let [source, map, fold, look, tell] = second;
    if source {
        registry.add::<Source<2>>()
    } else {
        registry.add::<Source<1>>()
    }
    if map {
        registry.add::<Map<2>>()
    } else {
        registry.add::<Map<1>>()
    }
    if fold {
        registry.add::<Fold<2>>()
    } else {
        registry.add::<Fold<1>>()
    }
    if look {
        registry.add::<Look<2>>()
    } else {
        registry.add::<Look<1>>()
    }
    if tell {
        registry.add::<Tell<2>>()
    } else {
        registry.add::<Tell<1>>()
    }
    registry
}
