//! A run of an experiment of which nothing has changed, which is found without expanding its cells.
//!
//! The key of a cell follows from the configuration files, the overrides, the stages and this program; from what its stage
//! sees outside, where it looks there; and from the artifacts that it reads. When a run finds every cell fresh it keeps
//! all of these, and the keys, in `graphs/`. The next run of that file looks at each: at the files, found again by their
//! names, by the digests of their texts; at what lies outside by asking the stages that look there; at the artifacts by
//! looking every key up, which must give what it gave. Where one of them differs, or one of the look-ups would need more
//! than [what is recalled](crate::recall), nothing of it is used.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use serde_json::Value;

use super::{CellReport, Finished, Outcome, RunReport, claim_run, end};
use crate::{
    action::Action,
    compact::{Reader, Writer},
    config::{Override, Roots},
    digest::Digest,
    error::RunError,
    events::Event,
    experiment::{Cell, Experiment, Source},
    live::Heart,
    recall::Recall,
    registry::Registry,
    stage::{DynStage, External},
    store::{Store, Stored},
    trace::Trace,
};

/// Kind and version of the file.
const KIND: &str = "graph 2";

/// A cell that was fresh, by its name, its stage and its key, with the digests of its outputs' lists.
struct Kept {
    cell: String,
    stage: String,
    key: Digest,
    manifests: Vec<Digest>,
}

/// A cell whose key holds what its stage saw outside.
struct Outside {
    stage: String,
    /// Its whole configuration.
    config: Value,
    /// Digest of what it saw.
    seen: Digest,
}

/// An experiment all of whose cells were fresh.
struct Graph {
    source: Source,
    experiment: String,
    /// The whole configuration, as TOML.
    resolved: String,
    outside: Vec<Outside>,
    cells: Vec<Kept>,
}

/// Runs all of an experiment file if nothing that its cells follow from has changed since they were all fresh; then it is
/// the run that [`run`](super::run) would have been. `None` where that has to be found out by expanding it.
pub fn run_unchanged(
    file: &str,
    overrides: &[Override],
    roots: &Roots,
    registry: &Registry,
    store: &Store,
    observe: &mut dyn FnMut(Event),
) -> Option<Result<RunReport, RunError>> {
    let started = Instant::now();
    let path = path_of(store, &Source::request(file, overrides, roots));
    let graph = Graph::read(&store.disk().read(&path).ok()?)?;
    if !graph.source.holds(roots, registry) || !graph.sees_the_same(roots, registry, store) {
        return None;
    }
    let recall = Recall::open(store, &graph.experiment);
    recall.look_ahead(graph.cells.len());
    let cells = graph.cells.into_iter().map(|kept| fresh(kept, &recall));
    let cells = cells.collect::<Option<Vec<CellReport>>>()?;
    let (experiment, resolved) = (&graph.experiment, &graph.resolved);
    let go = || {
        let run = claim_run(store, experiment)?;
        let heart = Heart::start(store, &run, experiment, cells.len())?;
        let trace = Trace::start(store, &run, experiment);
        observe(Event::Begun { run: run.clone(), cells: cells.len() });
        cells.iter().for_each(|cell| observe(Event::Fresh { cell: cell.cell.clone() }));
        recall.save();
        let report = RunReport::new((run, started), experiment, resolved, cells);
        end(store, resolved, &report, heart, trace).map(|()| report)
    };
    Some(go())
}

/// What a cell would be found to be; `None` where its key does not give what it gave.
fn fresh(kept: Kept, recall: &Recall<'_>) -> Option<CellReport> {
    let Kept { cell, stage, key, manifests } = kept;
    let outputs = recall.recalled(&key)?;
    if !outputs.values().map(Stored::manifest_digest).eq(manifests.iter().copied()) {
        return None;
    }
    let (key, outputs) = (Some(key), Some(outputs));
    let finished = Finished { outcome: Outcome::Fresh, seconds: 0.0, key, outputs, failure: None };
    Some(CellReport::new((cell, stage), finished))
}

/// Keeps an experiment all of whose cells were just found fresh. It costs time alone when it cannot be kept.
pub(super) fn keep(experiment: &Experiment, report: &RunReport, store: &Store) {
    let Some(source) = &experiment.source else { return };
    if report.fresh == experiment.cells.len()
        && let Some(bytes) = written(source, experiment, report, store)
    {
        let _ = store.replace(&path_of(store, &source.asked()), &bytes);
    }
}

fn path_of(store: &Store, request: &Digest) -> PathBuf {
    store.root().join("graphs").join(request.to_string())
}

fn written(
    source: &Source,
    experiment: &Experiment,
    report: &RunReport,
    store: &Store,
) -> Option<Vec<u8>> {
    let mut writer = Writer::new(KIND);
    source.write(&mut writer)?;
    writer.text(&experiment.name);
    writer.text(&experiment.resolved);
    let cells = experiment.cells.iter().zip(&report.cells);
    let looks = |(cell, _): &(&Cell, &CellReport)| {
        cell.externals.is_some() || cell.config.environment.is_some()
    };
    writer.number(cells.clone().filter(looks).count() as u64);
    for (cell, found) in cells.filter(looks) {
        writer.text(cell.stage.name());
        writer.text(&cell.config.full.to_string());
        // A file outside may be another by now: the key was made with what the record of it says.
        let Action { environment, externals, .. } = store.action(found.key.as_ref()?)?;
        writer.digest(&seen(&environment, &externals)?);
    }
    for cell in &report.cells {
        writer.text(&cell.cell);
        writer.text(&cell.stage);
        writer.digest(cell.key.as_ref()?);
        writer.number(cell.manifests.len() as u64);
        cell.manifests.values().for_each(|manifest| writer.digest(manifest));
    }
    Some(writer.finish())
}

/// Digest of what a stage sees outside: facts of the machine, and the names and contents of files.
fn seen(
    environment: &BTreeMap<String, String>,
    externals: &BTreeMap<String, Digest>,
) -> Option<Digest> {
    Some(Digest::of(&serde_json::to_vec(&(environment, externals)).ok()?))
}

impl Graph {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::open(bytes, KIND)?;
        let source = Source::read(&mut reader)?;
        let (experiment, resolved) = (reader.text()?.to_owned(), reader.text()?.to_owned());
        let (mut outside, mut cells) = (Vec::new(), Vec::new());
        for _ in 0..reader.number()? {
            let stage = reader.text()?.to_owned();
            let config = serde_json::from_str(reader.text()?).ok()?;
            outside.push(Outside { stage, config, seen: reader.digest()? });
        }
        while !reader.is_at_end() {
            let (cell, stage) = (reader.text()?.to_owned(), reader.text()?.to_owned());
            let (key, n_outputs) = (reader.digest()?, reader.number()?);
            let manifests = (0..n_outputs).map(|_| reader.digest()).collect::<Option<_>>()?;
            cells.push(Kept { cell, stage, key, manifests });
        }
        Some(Self { source, experiment, resolved, outside, cells })
    }

    /// Whether the stages that look outside see what they saw.
    fn sees_the_same(&self, roots: &Roots, registry: &Registry, store: &Store) -> bool {
        let now = |outside: &Outside| {
            let stage = registry.get(&outside.stage)?;
            let own = stage.with_ports(&outside.config, registry).ok()?;
            let stage: &dyn DynStage = own.as_deref().unwrap_or(&**stage);
            let config = stage.resolve(&outside.config).ok()?;
            let externals = stage.externals(&config, &roots.project).ok()?.unwrap_or_default();
            let content = |External { name, path }| Some((name, store.memo().digest(&path).ok()?));
            let externals = externals.into_iter().map(content).collect::<Option<_>>()?;
            seen(&config.environment.unwrap_or_default(), &externals)
        };
        self.outside.iter().all(|outside| now(outside) == Some(outside.seen))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::{fs, sync::atomic::AtomicBool};

    use proptest::prelude::*;

    use super::*;
    use crate::toy::{TOY, Toy, next_stamp, registry, run_quietly, run_watched, walk};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Change {
        Nothing,
        /// Another value in the experiment's own file, or in the one that it extends.
        Own,
        Base,
        /// Another file of that name in a folder that is searched before, or not any more.
        Shadow,
        /// Other bytes in a file outside, another time, or one more file.
        Script,
        Touch,
        Another,
        /// A stored file that is damaged or gone.
        Cut,
        Remove,
    }

    const CHANGES: [Change; 9] = [
        Change::Nothing,
        Change::Own,
        Change::Base,
        Change::Shadow,
        Change::Script,
        Change::Touch,
        Change::Another,
        Change::Cut,
        Change::Remove,
    ];

    /// A toy that extends another, with a program that reads a folder.
    struct Project {
        toy: Toy,
        store: Store,
    }

    impl Project {
        fn new() -> Self {
            let toy = Toy::new();
            fs::create_dir(toy.path("tools")).unwrap();
            fs::write(toy.path("configs/base.toml"), Self::base(3)).unwrap();
            fs::write(toy.path("configs/toy.toml"), "extends = 'base.toml'\ntwice.times = 2\n")
                .unwrap();
            let script = "ls tools | wc -l > outputs/text/n\n";
            fs::write(toy.path("tools/count.sh"), script).unwrap();
            let store = toy.store().trusting_young_files();
            Self { toy, store }
        }

        fn base(times: usize) -> String {
            let toy = TOY.replace("times = 3", &format!("times = {times}"));
            format!(
                "{toy}\n[count]\nuse = 'exec'\nargv = ['sh', 'tools/count.sh']\nfiles = ['tools']\n\
                 outputs.text = {{ kind = 'text' }}\n"
            )
        }

        fn roots(&self) -> Roots {
            Roots::find(&self.toy.path(""))
        }

        fn fast(&self) -> Option<RunReport> {
            let (roots, registry) = (self.roots(), registry());
            run_unchanged("toy.toml", &[], &roots, &registry, &self.store, &mut |_| {})
                .map(Result::unwrap)
        }

        fn slow(&self) -> RunReport {
            let experiment = Experiment::load("toy.toml", &[], &self.roots(), &registry()).unwrap();
            run_quietly(&experiment, &self.store).unwrap()
        }

        fn change(&self, change: Change, place: usize) {
            let stored = || {
                let root = self.store.root();
                let files = [walk(&root.join("cas")), walk(&root.join("ac"))].concat();
                files[place % files.len()].clone()
            };
            let times = place % 4;
            match change {
                Change::Nothing => {}
                Change::Own => {
                    let text = format!("extends = 'base.toml'\ntwice.times = {times}\n");
                    fs::write(self.toy.path("configs/toy.toml"), text).unwrap();
                }
                Change::Base => {
                    fs::write(self.toy.path("configs/base.toml"), Self::base(times)).unwrap();
                }
                Change::Shadow => {
                    let (own, other) =
                        (self.toy.path("configs/toy.toml"), self.toy.path("toy.toml"));
                    if fs::remove_file(&other).is_err() {
                        let text = fs::read_to_string(own).unwrap();
                        fs::write(other, format!("{text}thrice.times = {times}\n")).unwrap();
                    }
                }
                Change::Script => {
                    let text = format!("ls tools | wc -l > outputs/text/n # {place}\n");
                    fs::write(self.toy.path("tools/count.sh"), text).unwrap();
                }
                Change::Touch => {
                    let path = self.toy.path("tools/count.sh");
                    fs::write(&path, fs::read(&path).unwrap()).unwrap();
                }
                Change::Another => {
                    fs::write(self.toy.path(&format!("tools/{}", place % 3)), "").unwrap();
                }
                Change::Cut => {
                    let path = stored();
                    let bytes = fs::read(&path).unwrap();
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                }
                Change::Remove => fs::remove_file(stored()).unwrap(),
            }
        }
    }

    /// What a report says of its cells.
    fn found(report: &RunReport) -> Value {
        serde_json::to_value(&report.cells).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever changes, a run without expanding finds what the run with it finds, or nothing.
        #[test]
        fn an_unchanged_run_is_the_run(changes in prop::collection::vec(
            (prop::sample::select(&CHANGES[..]), 0_usize..10_000), 1..8,
        )) {
            let project = Project::new();
            project.slow();
            for (change, place) in changes {
                next_stamp(project.store.root());
                prop_assert_eq!(project.slow().built, 0);
                let known = project.fast().expect("nothing has changed");
                project.change(change, place);
                next_stamp(project.store.root());
                let (fast, slow) = (project.fast(), project.slow());
                if let Some(fast) = &fast {
                    prop_assert_eq!((found(fast), fast.fresh), (found(&slow), slow.fresh), "{:?}", change);
                    prop_assert_eq!(fast.configuration, known.configuration);
                }
                if matches!(change, Change::Nothing | Change::Touch) {
                    prop_assert!(fast.is_some(), "{:?} is a change", change);
                }
            }
        }
    }

    #[test]
    fn another_request_or_another_stage_is_another_run() {
        let project = Project::new();
        project.slow();
        next_stamp(project.store.root());
        project.slow();
        let (roots, stages) = (project.roots(), registry());
        let ask = |set: &[&str], roots: &Roots, stages: &Registry| {
            let set: Vec<_> = set.iter().map(|set| Override::parse(set).unwrap()).collect();
            run_unchanged("toy.toml", &set, roots, stages, &project.store, &mut |_| {}).is_some()
        };
        assert!(ask(&[], &roots, &stages));
        assert!(!ask(&["twice.times=2"], &roots, &stages));
        let elsewhere = Roots { working: project.toy.path("tools"), ..roots.clone() };
        assert!(!ask(&[], &elsewhere, &stages));
        assert!(!ask(&[], &roots, &Registry::new()));
        let graphs = walk(&project.store.root().join("graphs"));
        assert_eq!(graphs.len(), 1);
        fs::write(&graphs[0], "damaged").unwrap();
        assert!(!ask(&[], &roots, &stages));
    }

    /// An upper cell that gives something else than it did has the same key, and those below it have not.
    #[test]
    fn a_result_that_was_replaced_is_a_change() {
        let project = Project::new();
        let first = project.slow();
        next_stamp(project.store.root());
        project.slow();
        // Another experiment has built the cell anew, and got other bytes.
        let key = first.cells.iter().find(|cell| cell.cell == "twice").unwrap().key.unwrap();
        let once = first.cells.iter().find(|cell| cell.cell == "once").unwrap();
        let mut outputs = project.store.artifact(&once.manifests["words"]).unwrap();
        outputs.digest = outputs.manifest.digest();
        fs::remove_file(project.store.record_path(&key)).unwrap();
        let action = project.store.action(&once.key.unwrap()).unwrap();
        let outputs = [("words".to_owned(), outputs)].into();
        project.store.publish_record(&key, &action, &outputs, &[]).unwrap();
        next_stamp(project.store.root());
        let recall = Recall::open(&project.store, "toy");
        let crate::store::Lookup::Hit(_) = recall.look_up(&key) else { unreachable!("just made") };
        recall.save();
        assert!(project.fast().is_none());
    }

    /// The key of a cell is made before its run ends: what is kept is what the key was made with.
    #[test]
    fn a_file_that_changes_during_the_run_is_a_change() {
        let project = Project::new();
        project.slow();
        next_stamp(project.store.root());
        let experiment = Experiment::load("toy.toml", &[], &project.roots(), &registry()).unwrap();
        let mut found = false;
        let mut change = |event: Event| {
            if matches!(event, Event::Fresh { cell } if cell == "count") {
                project.change(Change::Script, 1);
                found = true;
            }
        };
        run_watched(&experiment, &project.store, &AtomicBool::new(false), &mut change).unwrap();
        assert!(found);
        next_stamp(project.store.root());
        assert!(project.fast().is_none());
        assert_eq!(project.slow().built, 1);
    }
}
