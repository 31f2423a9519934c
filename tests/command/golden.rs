//! Version and output digest of every stage on a small experiment: a stage whose output moved must say so.
//!
//! Networks run on plain instructions here, whose numbers are the same on every machine.
//! `UPDATE_GOLDEN=1 cargo test --test command golden` writes `tests/golden/stages.toml` anew; the diff is to be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
};

use pipeline::{Digest, config::Node};
use serde_json::{Value, json};

use super::{
    lidc, miniature, riga,
    world::{REPOSITORY, World, not_run},
};

/// The stages that are wired in a way of their own; the scores and the report are of sources, so that no training moves
/// them. Simulators and fusions are added, see [`experiment`].
const EXPERIMENT: &str = "\
[cases]
use = 'ingest.phantom_cxr'
count = 16
phantom = { size = 32 }
split = { train = 8, val = 3 }
shard_cases = 4

[films]
use = 'ingest.jsrt'
root = 'films'
size = 16
split = { train = 3, val = 1 }

[folder]
use = 'ingest.folder'
root = 'folder'
layout = 'nnunet'
split = { train = 3, val = 1 }

[riga]
use = 'ingest.riga'
root = 'riga'
size = 16
val = 1
rng_seed = 2
allow = ['unclear_lines']

[lidc]
use = 'ingest.lidc'
root = 'lidc'
min_readers = 2
split = { train = 3, val = 1 }
allow = ['session_count', 'outline_off_image']

[rater]
use = 'ingest.rater'
in = { raters = 'folder.raters' }
rater = 'rater2'

[channel]
use = 'ingest.channel'
in = { channels = 'folder.channels' }
channel = '0001'

[scans]
use = 'ingest.phantom_dce'
count = 3
phantom = { shape = [32, 40, 40], spacing_mm = [3.0, 2.5, 2.5] }
split = { train = 1, val = 1 }

[eyes]
use = 'ingest.phantom_fundus'
count = 8
phantom = { size = 32 }
split = { train = 4, val = 2 }
shard_cases = 2

[finer]
use = 'prepare.resample'
in = { images = 'scans.early', labels = 'scans.breast' }
spacing_mm = [2.5, 2.0, 3.0]
size = [36, 40, 48]
interpolation = 'cubic'
antialias = true

[normalised]
use = 'prepare.normalise'
in = { images = 'finer.images', inside = 'finer.labels' }
clip_percent = [0.5, 99.5]

[padded]
use = 'prepare.pad'
in = { images = 'normalised.images', labels = 'finer.labels', around = 'finer.labels' }
size = [30, 44, 50]

[nifti]
use = 'export.nifti'
in = { labels = 'padded.labels', source = 'scans.early' }
structures = { breast = [1] }

[breast]
use = 'enhance.breast'
in = { pre = 'scans.pre', early = 'scans.early', mask = 'scans.breast' }

[subtract]
use = 'enhance.subtract'
in = { pre = 'scans.pre', early = 'scans.early', late = 'scans.late', breast = 'breast' }

[vessels]
use = 'enhance.vessels'
in = { uptake = 'subtract.uptake', breast = 'breast' }
sigmas_mm = [2.5]

[suppress]
use = 'enhance.suppress'
in = { uptake = 'subtract.uptake', vesselness = 'vessels' }

[tumour]
use = 'enhance.tumour'
in = { suppressed = 'suppress.suppressed', percent = 'subtract.percent', ratio = 'subtract.ratio', breast = 'breast' }

[compare]
use = 'grow.compare'
in = { truth = 'scans.truth', annotations = ['rg1', 'rg2', 'rg3', 'rg4'], tissues = 'scans.tissues' }

[table]
use = 'grow.table'
in = { comparisons = 'compare' }

[train_vote]
use = 'train.unet'
in = { images = 'cases.images', target = 'vote', reference = 'cases.truth' }
network = { levels = 2, base_width = 4 }
training = { epochs = 2, batch_size = 4 }

[train]
use = 'train.uma'
in = { images = 'cases.images', annotations = ['by_erode_dilate', 'by_shift'], reference = 'cases.truth' }
network = { levels = 2, base_width = 4 }
training = { epochs = 2, batch_size = 4 }

[predict]
use = 'predict'
in = { images = 'cases.images', weights = 'train' }

[assess]
use = 'assess.uma'
in = { images = 'cases.images', annotations = ['by_erode_dilate', 'by_shift'], reference = 'cases.truth', weights = 'train' }

[score]
use = 'score'
in = { predictions = 'vote', reference = 'cases.truth' }
method = 'vote'

[exec]
use = 'exec'
argv = ['cp', '-RL', 'inputs/scores/0/.', 'outputs/copies']
in = { scores = 'score' }
inputs = { scores = 'scores' }
outputs.copies = { kind = 'copies' }

[rated]
use = 'score.raters'
in = { predictions = 'eyes.rater1', raters = ['eyes.rater2', 'eyes.rater3', 'eyes.rater4'] }
method = 'rater1'

[report]
use = 'report'
title = 'golden'
in = { cases = 'cases.cases', scores = 'score', raters = 'rated', calibrations = ['erode_dilate', 'shift'], vote = 'vote', truth = 'cases.truth' }
";

/// The experiment with a cell for every simulator, one that applies it, and one for every fusion of three sources.
fn experiment() -> String {
    let mut text = EXPERIMENT.to_owned();
    let mut cell = |name: &str, stage: &str, wiring: &str| {
        writeln!(text, "\n[{name}]\nuse = '{stage}'\nin = {{ {wiring} }}").unwrap();
    };
    for stage in pipeline::standard().names() {
        match stage.split_once('.') {
            Some(("noise", "apply")) => {}
            Some(("noise", name)) => {
                cell(name, stage, "truth = 'cases.truth'");
                let wiring = format!("truth = 'cases.truth', simulator = '{name}'");
                cell(&format!("by_{name}"), "noise.apply", &wiring);
            }
            Some(("grow", name)) if name.starts_with("rg") => {
                let maps = "enhancement = 'tumour', uptake = 'subtract.uptake'";
                let rest = "vesselness = 'suppress.vesselness', breast = 'breast'";
                cell(name, stage, &format!("{maps}, {rest}"));
            }
            Some(("fuse", name)) => {
                let sources = "annotations = ['by_erode_dilate', 'by_shift', 'by_flip_square']";
                cell(name, stage, sources);
            }
            _ => {}
        }
    }
    text
}

const HEAD: &str = "\
# Version and output digests of every stage on the experiment of tests/command/golden.rs, which also says how to renew them.
# `reads` stands for configuration and inputs: outputs that differ while it is the same need a higher VERSION.
";

/// What a cell did: stage, version, what it read, and the digests that came out.
#[derive(Clone, Debug, PartialEq)]
struct Golden {
    stage: String,
    version: u64,
    reads: String,
    outputs: BTreeMap<String, String>,
}

impl Golden {
    fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let outputs = value["outputs"].as_object()?.iter();
        Some(Self {
            stage: text(&value["stage"])?,
            version: value["version"].as_u64()?,
            reads: text(&value["reads"])?,
            outputs: outputs
                .map(|(port, digest)| Some((port.clone(), text(digest)?)))
                .collect::<Option<_>>()?,
        })
    }
}

type Cells = BTreeMap<String, Golden>;

fn file() -> PathBuf {
    PathBuf::from(REPOSITORY).join("tests/golden/stages.toml")
}

fn stored() -> Cells {
    let Ok(text) = fs::read_to_string(file()) else {
        return Cells::new();
    };
    let json = Node::parse(&text, "stages.toml").unwrap().to_json();
    let cells = json.as_object().unwrap().iter();
    cells.map(|(cell, value)| (cell.clone(), Golden::from_json(value).unwrap())).collect()
}

fn store(cells: &Cells) {
    let mut text = HEAD.to_owned();
    for (cell, Golden { stage, version, reads, outputs }) in cells {
        writeln!(text, "\n[{cell}]\nstage = \"{stage}\"\nversion = {version}").unwrap();
        writeln!(text, "reads = \"{reads}\"\n[{cell}.outputs]").unwrap();
        outputs.iter().for_each(|(port, digest)| writeln!(text, "{port} = \"{digest}\"").unwrap());
    }
    fs::create_dir_all(file().parent().unwrap()).unwrap();
    fs::write(file(), text).unwrap();
}

/// Runs the experiment and gives what each cell did.
fn made() -> Cells {
    let world = World::small(&experiment());
    miniature::reduced(&world);
    miniature::raters(&world);
    riga::release(&world);
    lidc::release(&world);
    let portable = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        let done = command.env("PIPELINE_INSTRUCTIONS", "portable").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    portable(&["run", "small.toml", "--quiet"]);
    let made = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let last = &line["last"];
        let action = &last["action"];
        let reads = json!([action["config"], action["inputs"], action["externals"]]).to_string();
        let golden = Golden::from_json(&json!({
            "stage": action["stage"],
            "version": action["version"],
            "reads": Digest::of(reads.as_bytes()).short(),
            "outputs": last["outputs"],
        }));
        (line["cell"].as_str().unwrap().to_owned(), golden.unwrap())
    };
    portable(&["explain", "small.toml", "*", "--json"]).lines().map(made).collect()
}

#[test]
fn golden_outputs_of_every_stage() {
    let made = made();
    let stages: BTreeSet<&str> = made.values().map(|golden| golden.stage.as_str()).collect();
    assert_eq!(stages, pipeline::standard().names().collect(), "every stage has a cell here");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        return store(&made);
    }
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        return not_run(
            "golden digests: the mathematical functions of this machine may round otherwise",
        );
    }
    let stored = stored();
    let Comparison { to_raise, differ } = Comparison::of(&stored, &made);
    assert!(
        to_raise.is_empty(),
        "the same configuration and inputs give another output: raise VERSION of {to_raise:?}, or results that users have \
         stored are taken for new ones; then UPDATE_GOLDEN=1 (cells that differ: {differ:?})"
    );
    assert!(
        differ.is_empty(),
        "versions, configurations or inputs have moved: run with UPDATE_GOLDEN=1 and read the diff of \
         tests/golden/stages.toml (cells that differ: {differ:?})"
    );
    assert_eq!(stored.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
}

/// What the stored digests say of those that were made.
#[derive(Debug, Default, PartialEq)]
struct Comparison<'a> {
    /// Stages that do the same work with another result under the same version.
    to_raise: BTreeSet<&'a str>,
    /// Cells that are not as they are stored.
    differ: Vec<&'a str>,
}

impl<'a> Comparison<'a> {
    fn of(stored: &Cells, made: &'a Cells) -> Self {
        let mut found = Self::default();
        for (cell, golden) in made {
            let before = stored.get(cell);
            if before == Some(golden) {
                continue;
            }
            found.differ.push(cell);
            let Golden { stage, version, reads, outputs: _ } = golden;
            let is_same =
                |old: &Golden| (&old.stage, &old.version, &old.reads) == (stage, version, reads);
            if before.is_some_and(is_same) {
                found.to_raise.insert(stage);
            }
        }
        found
    }
}

#[test]
fn a_moved_output_asks_for_a_version_and_a_moved_input_does_not() {
    let golden = |version: u64, reads: &str, digest: &str| {
        let golden = Golden {
            stage: "noise.shift".to_owned(),
            version,
            reads: reads.to_owned(),
            outputs: BTreeMap::from([("simulator".to_owned(), digest.to_owned())]),
        };
        Cells::from([("shift".to_owned(), golden)])
    };
    let before = golden(1, "a", "x");
    let check = |now: Cells, to_raise: &[&str], differ: &[&str]| {
        let expected =
            Comparison { to_raise: to_raise.iter().copied().collect(), differ: differ.to_vec() };
        assert_eq!(Comparison::of(&before, &now), expected);
    };
    check(golden(1, "a", "x"), &[], &[]);
    check(golden(1, "a", "y"), &["noise.shift"], &["shift"]);
    check(golden(2, "a", "y"), &[], &["shift"]);
    check(golden(1, "b", "y"), &[], &["shift"]);
}
