//! A stage of a user's own crate, beside the built-in ones, and the library without the command.

use std::{collections::BTreeMap, sync::atomic::AtomicBool};

use datasets::{
    CaseLabel, SourceKind,
    shard::{read_labels, write_labels},
};
use pipeline::{
    Artifact, ConfigError, Ctx, Event, Experiment, Limits, One, Out, Outcome, Override, Refusal,
    Registry, Roots, RunError, RunReport, Stage, StageError, State, Store, inputs, outputs, plan,
};

use super::world::{SMALL, World};

/// Label shards, by the name that the built-in stages give them.
struct Labels;
impl Artifact for Labels {
    const KIND: &'static str = "labels";
    const SHARDED: bool = true;
}

inputs! { struct MirrorInputs { labels: One<Labels> } }
outputs! { struct MirrorOutputs { labels: Out<Labels> } }

/// An annotator who reads films from behind, `times` times.
struct Mirror;
impl Stage for Mirror {
    const NAME: &'static str = "mine.mirror";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Mirrors masks.";
    const PER_SHARD: bool = true;
    type Config = BTreeMap<String, u32>;
    type Inputs = MirrorInputs;
    type Outputs = MirrorOutputs;

    fn check(config: &Self::Config) -> Result<(), Refusal> {
        match config.get("times") {
            Some(1..=9) => Ok(()),
            found => {
                Err(Refusal::new("times", format!("expected a number in 1..=9: got {found:?}")))
            }
        }
    }

    fn run(
        config: &Self::Config,
        inputs: MirrorInputs,
        outputs: &MirrorOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let labels = read_labels(inputs.labels.file(ctx.shard())?).map_err(StageError::new)?;
        let mirrored: Vec<CaseLabel> =
            labels.into_iter().map(|label| mirrored(label, config["times"])).collect();
        let content = write_labels(&outputs.labels.path(ctx.shard()), &mirrored);
        outputs.labels.content(ctx.shard(), content.map_err(StageError::new)?);
        Ok(())
    }
}

fn mirrored(mut label: CaseLabel, times: u32) -> CaseLabel {
    label.kind = SourceKind::Simulated;
    label.source = "mirror".to_owned();
    let n_columns = label.mask.n_columns();
    for _ in 0..times {
        label.mask.values_mut().chunks_exact_mut(n_columns).for_each(<[bool]>::reverse);
    }
    label
}

fn register(registry: &mut Registry) {
    registry.add::<Mirror>();
}

const MINE: &str = "
[mirror]
use = 'mine.mirror'
in = { labels = 'cases.truth' }
times = 1

[mirror_score]
use = 'score'
in = { predictions = 'mirror', reference = 'cases.truth' }
method = 'mirror'
";

/// A project whose small experiment has a cell of the user's stage.
struct Mine {
    world: World,
    registry: Registry,
}

impl Mine {
    fn new() -> Self {
        let world = World::small(&format!("{SMALL}{MINE}"));
        Self { world, registry: pipeline::standard().with(register) }
    }

    fn load(&self, overrides: &[&str]) -> Result<Experiment, ConfigError> {
        let overrides: Vec<Override> =
            overrides.iter().map(|text| Override::parse(text).unwrap()).collect();
        Experiment::load("small.toml", &overrides, &Roots::find(self.world.root()), &self.registry)
    }

    /// Runs the mirror and what it needs; `cancelled` is the switch by which a program stops a run.
    fn run(
        &self,
        overrides: &[&str],
        pattern: &str,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<RunReport, RunError> {
        let experiment = self.load(overrides)?;
        let selected = experiment.select(&[pattern.to_owned()])?;
        let store = Store::open(&self.world.store())?;
        pipeline::run(&experiment, &selected, &store, Limits::of_machine(), cancelled, observe)
    }
}

fn built(report: &RunReport) -> Vec<&str> {
    let built = report.cells.iter().filter(|cell| cell.outcome == Outcome::Built);
    built.map(|cell| cell.cell.as_str()).collect()
}

#[test]
fn a_stage_of_a_user_runs_beside_the_built_in_ones() {
    let mine = Mine::new();
    let go = AtomicBool::new(false);
    let mut n_events = 0;
    let report = mine.run(&[], "mirror*", &go, &mut |_| n_events += 1).unwrap();
    assert_eq!(built(&report), ["cases", "mirror", "mirror_score"]);
    assert!(n_events > 6, "begun, and for each cell stale, started, built: {n_events}");
    let again = mine.run(&[], "mirror*", &go, &mut |_| {}).unwrap();
    assert_eq!((built(&again), again.fresh), (vec![], 3));
    // Three times is once: the stage runs, its labels are the same, and the wave stops.
    let thrice = mine.run(&["mirror.times=3"], "mirror*", &go, &mut |_| {}).unwrap();
    assert_eq!(built(&thrice), ["mirror"]);
    let twice = mine.run(&["mirror.times=2"], "mirror*", &go, &mut |_| {}).unwrap();
    assert_eq!(built(&twice), ["mirror", "mirror_score"]);
    let scores = mine.world.json(0, &["show", "mirror_score", "--json", "--rows", "100"]);
    let rows = scores["outputs"]["scores"]["parts"][0]["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["dice"] == 1.0), "twice mirrored is the truth: {rows:?}");
    let refused = mine.load(&["mirror.times=10"]).err().unwrap().to_string();
    assert_eq!(
        refused,
        "--set mirror.times=10: `times` of cell `mirror` (stage `mine.mirror`): expected a number in 1..=9: got Some(10)"
    );
}

#[test]
fn the_command_alone_does_not_know_the_stage() {
    let mine = Mine::new();
    let said = mine.world.call(&["plan", "small.toml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.has(&["unknown stage `mine.mirror` in the registry"]), "{said:?}");
}

#[test]
fn a_run_that_a_program_stops_goes_on_later() {
    let mine = Mine::new();
    let stop = AtomicBool::new(false);
    let epochs = ["train.training.epochs=30"];
    let stopped = mine.run(&epochs, "train", &stop, &mut |event| {
        if matches!(event, Event::Progress { doing, .. } if doing.starts_with("epoch 3 ")) {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(matches!(stopped, Err(RunError::Cancelled { not_reached: 1, .. })), "{stopped:?}");
    let experiment = mine.load(&epochs).unwrap();
    let selected = experiment.select(&["train".to_owned()]).unwrap();
    let planned = plan(&experiment, &selected, &Store::open(&mine.world.store()).unwrap()).unwrap();
    let stale = planned.iter().filter(|line| line.state != State::Fresh);
    assert_eq!(stale.map(|line| line.cell.as_str()).collect::<Vec<_>>(), ["train"]);
    let mut first = None;
    let go = AtomicBool::new(false);
    let report = mine.run(&epochs, "train", &go, &mut |event| {
        if let Event::Progress { doing, .. } = event {
            first.get_or_insert(doing);
        }
    });
    assert_eq!(built(&report.unwrap()), ["train"]);
    assert_ne!(first.unwrap(), "epoch 1 of 30", "the epochs before are not trained again");
}
