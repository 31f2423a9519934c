//! Random experiments, random edits, and what must be executed after each by a reckoning that knows no cache.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    Digest,
    artifact::{Manifest, Part},
};

use super::stages::{Parts, number, number_config, source, unit};

/// Random numbers (SplitMix64, Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// The stages in the order of their versions.
const STAGES: [&str; 5] = ["source", "map", "fold", "look", "tell"];

#[derive(Clone, Debug)]
struct Node {
    name: String,
    stage: usize,
    items: Parts,
    add: u64,
    modulus: u64,
    /// Indices of earlier nodes.
    inputs: Vec<usize>,
    /// The source that decides the shards of its output, where it has any.
    lineage: Option<usize>,
}

/// An experiment that can be edited.
#[derive(Clone, Debug)]
pub struct World {
    nodes: Vec<Node>,
    /// Stages in their second version.
    pub second: [bool; 5],
    /// Cells asked for; all where there is none.
    pub only: Vec<String>,
    names: usize,
}

impl World {
    pub fn random(random: &mut Random) -> Self {
        let mut world = Self { nodes: Vec::new(), second: [false; 5], only: Vec::new(), names: 0 };
        for _ in 0..3 + random.below(6) {
            world.add_node(random);
        }
        world
    }

    fn add_node(&mut self, random: &mut Random) {
        let stage = if self.nodes.is_empty() { 0 } else { random.below(5) };
        self.names += 1;
        let mut node = Node {
            name: format!("n{}", self.names),
            stage,
            items: BTreeMap::new(),
            add: random.below(3) as u64,
            modulus: 2 + random.below(5) as u64,
            inputs: Vec::new(),
            lineage: None,
        };
        for _ in 0..1 + random.below(4) {
            node.items.insert(item(random), random.below(8) as u64);
        }
        self.nodes.push(node);
        self.wire(self.nodes.len() - 1, random);
    }

    /// Gives a node other inputs among the nodes before it.
    fn wire(&mut self, index: usize, random: &mut Random) {
        let stage = self.nodes[index].stage;
        let earlier = |sharded: bool| {
            let fits = |&earlier: &usize| (self.nodes[earlier].stage < 2) == sharded;
            (0..index).filter(fits).collect::<Vec<usize>>()
        };
        let data = earlier(true);
        let numbers = earlier(false);
        let (inputs, lineage) = match stage {
            0 => (Vec::new(), Some(index)),
            1 => {
                let first = data[random.below(data.len())];
                let lineage = self.nodes[first].lineage;
                let same: Vec<usize> =
                    data.into_iter().filter(|&node| self.nodes[node].lineage == lineage).collect();
                let n = 1 + random.below(2);
                ((0..n).map(|_| same[random.below(same.len())]).collect(), lineage)
            }
            2 => {
                let n = 1 + random.below(3);
                ((0..n).map(|_| data[random.below(data.len())]).collect(), None)
            }
            3 => (vec![data[random.below(data.len())]], None),
            _ if numbers.is_empty() => (Vec::new(), None),
            _ => {
                let n = random.below(4);
                ((0..n).map(|_| numbers[random.below(numbers.len())]).collect(), None)
            }
        };
        self.nodes[index].inputs = inputs;
        // Shards of nodes behind this one follow its source: only a map without readers may change it.
        let free = !self.nodes.iter().any(|node| node.inputs.contains(&index));
        if free || self.nodes[index].lineage.is_none() {
            self.nodes[index].lineage = lineage;
        } else if self.nodes[index].lineage != lineage {
            let kept = self.nodes[index].lineage;
            self.nodes[index].inputs = kept.into_iter().filter(|&s| s != index).collect();
        }
    }

    /// Changes something, or sometimes nothing that matters.
    pub fn edit(&mut self, random: &mut Random) {
        let index = random.below(self.nodes.len());
        match random.below(10) {
            0 => self.nodes[index].add = random.below(3) as u64,
            1 => self.nodes[index].modulus = 2 + random.below(5) as u64,
            2 | 3 => {
                let value = random.below(8) as u64;
                self.nodes[index].items.insert(item(random), value);
            }
            4 => {
                let name = item(random);
                if self.nodes[index].items.len() > 1 {
                    self.nodes[index].items.remove(&name);
                }
            }
            5 => {
                let stage = random.below(5);
                self.second[stage] = !self.second[stage];
            }
            6 => self.wire(index, random),
            7 => {
                self.names += 1;
                self.nodes[index].name = format!("n{}", self.names);
            }
            8 => self.add_node(random),
            _ => {
                let chosen = self.nodes[index].name.clone();
                self.only = if self.only.is_empty() { vec![chosen] } else { Vec::new() };
            }
        }
        self.only.retain(|name| self.nodes.iter().any(|node| node.name == *name));
    }

    /// The experiment as TOML; the stages tell what they do to `world`.
    pub fn to_toml(&self, world: u64) -> String {
        let node = |node: &Node| {
            let mut text =
                format!("[{}]\nuse = '{}'\nworld = {world}\n", node.name, STAGES[node.stage]);
            if node.stage == 0 {
                let items: Vec<String> =
                    node.items.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                return format!("{text}items = {{ {} }}\n", items.join(", "));
            }
            let names: Vec<String> =
                node.inputs.iter().map(|&input| format!("'{}'", self.nodes[input].name)).collect();
            let port = if node.stage == 4 { "numbers" } else { "data" };
            text += &format!("in = {{ {port} = [{}] }}\n", names.join(", "));
            format!("{text}add = {}\nmodulus = {}\n", node.add, node.modulus)
        };
        self.nodes.iter().map(node).collect::<Vec<_>>().join("\n")
    }

    /// The nodes asked for and all that they need.
    fn selected(&self) -> Vec<bool> {
        let mut selected: Vec<bool> = self
            .nodes
            .iter()
            .map(|node| self.only.is_empty() || self.only.contains(&node.name))
            .collect();
        for index in (0..self.nodes.len()).rev() {
            if selected[index] {
                self.nodes[index].inputs.iter().for_each(|&input| selected[input] = true);
            }
        }
        selected
    }
}

fn item(random: &mut Random) -> String {
    ["a1", "a2", "b1", "b2", "c"][random.below(5)].to_owned()
}

/// Units that were executed at any time, in words.
#[derive(Default)]
pub struct Oracle {
    executed: BTreeSet<String>,
}

impl Oracle {
    /// What a run of the world must execute, sorted, and the content of each selected cell's output.
    pub fn run(&mut self, world: &World) -> (Vec<String>, BTreeMap<String, Digest>) {
        let selected = world.selected();
        let mut outputs: Vec<Parts> = Vec::new();
        let mut executed = Vec::new();
        let mut digests = BTreeMap::new();
        for (index, node) in world.nodes.iter().enumerate() {
            if !selected[index] {
                outputs.push(Parts::new());
                continue;
            }
            let made = self.node(world, node, &outputs, &mut executed);
            let kind = if node.stage < 2 { "data" } else { "number" };
            digests.insert(node.name.clone(), content(kind, &made));
            outputs.push(made);
        }
        executed.sort();
        (executed, digests)
    }

    fn node(
        &mut self,
        world: &World,
        node: &Node,
        outputs: &[Parts],
        executed: &mut Vec<String>,
    ) -> Parts {
        let stage = STAGES[node.stage];
        let version = 1 + u32::from(world.second[node.stage]);
        if node.stage == 0 {
            self.unit(unit(stage, version, &format!("{:?}", node.items), "", &[]), executed);
            return source(version, &node.items);
        }
        let config = number_config(node.add, node.modulus);
        let visible = |parts: &Parts| match node.stage {
            3 => parts.iter().filter(|(name, _)| name.starts_with('a')).map(own).collect(),
            _ => parts.clone(),
        };
        let named = |input: usize| match node.stage {
            4 => world.nodes[input].name.as_str(),
            _ => "",
        };
        let inputs: Vec<(&str, Parts)> =
            node.inputs.iter().map(|&input| (named(input), visible(&outputs[input]))).collect();
        let compute = |inputs: &[(&str, Parts)]| {
            let parts: Vec<&Parts> = inputs.iter().map(|(_, parts)| parts).collect();
            number(version, node.add, node.modulus, &parts)
        };
        if node.stage != 1 {
            self.unit(unit(stage, version, &config, "", &inputs), executed);
            return [("n".to_owned(), compute(&inputs))].into();
        }
        let shards: Vec<String> = inputs[0].1.keys().cloned().collect();
        let mut made = Parts::new();
        for shard in shards {
            let of_shard: Vec<(&str, Parts)> = inputs
                .iter()
                .map(|(name, parts)| (*name, [(shard.clone(), parts[&shard])].into()))
                .collect();
            self.unit(unit(stage, version, &config, &shard, &of_shard), executed);
            made.insert(shard, compute(&of_shard));
        }
        made
    }

    fn unit(&mut self, unit: String, executed: &mut Vec<String>) {
        if self.executed.insert(unit.clone()) {
            executed.push(unit);
        }
    }
}

fn own((name, value): (&String, &u64)) -> (String, u64) {
    (name.clone(), *value)
}

fn content(kind: &str, parts: &Parts) -> Digest {
    let part = |(name, value): (&String, &u64)| {
        let digest = Digest::of(value.to_string().as_bytes());
        Part { name: name.clone(), content: digest, blob: digest, bytes: 0 }
    };
    Manifest::new(kind, parts.iter().map(part).collect()).digest()
}
