//! The main job: an ablation over annotation subsets, built once, and again only where something changed.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::world::{SMALL, TINY, World, cells, set, with};

const ABLATION: &[&str] = &["run", "experiments/ablation.toml", "--json", "--quiet"];
const SUBSETS: [&str; 7] = ["1-2", "1-2-3", "1-2-3-4", "1-2-3-4-5", "1-3", "1-4", "1-5"];

/// Names of the cells that a plan does not call fresh.
fn not_fresh(plan: &[Value]) -> BTreeSet<String> {
    let stale = plan.iter().filter(|line| line["state"] != "fresh");
    stale.map(|line| line["cell"].as_str().unwrap().to_owned()).collect()
}

fn names<'a>(list: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    list.into_iter().map(str::to_owned).collect()
}

/// What depends on source 2: its calibration and labels, the vote and every subset with source 2, all to the report.
fn of_source_2() -> BTreeSet<String> {
    let mut expected = names(["shift", "source2", "vote", "assess", "report"]);
    for node in ["train", "predict", "score"] {
        expected.insert(format!("{node}_vote[seed=0]"));
        let subsets = SUBSETS.iter().filter(|subset| subset.contains('2'));
        expected.extend(subsets.map(|subset| format!("{node}[seed=0,subset={subset}]")));
    }
    expected
}

#[test]
fn an_ablation_is_built_once_and_again_where_something_changed() {
    let world = World::new();
    let run = |more: &[&str]| world.json(0, &set(&set(ABLATION, TINY), more));
    let plan = |more: &[&str]| {
        let arguments = set(&set(&["plan", "experiments/ablation.toml", "--json"], TINY), more);
        world.json_lines(&arguments)
    };
    let check = |more: &[&str]| {
        let arguments = set(&set(&["plan", "experiments/ablation.toml", "--check"], TINY), more);
        world.call(&arguments).code
    };

    // Nothing is stored: 1 data set, 5 calibrations, 5 sources, 1 vote, 8 x (train, predict, score), 1 assessment, 1 report.
    let first = run(&[]);
    assert_eq!((&first["built"], &first["fresh"]), (&json!(38), &json!(0)), "{first:#}");
    check_report(&world, &first);

    // Everything is stored: nothing is built, and the same report comes out.
    let second = run(&[]);
    assert_eq!((&second["built"], &second["fresh"]), (&json!(0), &json!(38)));
    let outputs = |report: &Value| -> Vec<Value> {
        report["cells"].as_array().unwrap().iter().map(|cell| cell["outputs"].clone()).collect()
    };
    assert_eq!(outputs(&first), outputs(&second));
    assert_eq!(check(&[]), Some(0));
    assert_eq!(plan(&[]).len(), 38);
    assert!(not_fresh(&plan(&[])).is_empty());

    // Another strength of source 2: the plan names all that depends on it and nothing else.
    assert_eq!(check(&["shift.strength=5"]), Some(3));
    assert_eq!(not_fresh(&plan(&["shift.strength=5"])), of_source_2());
    let report = run(&["shift.strength=5"]);
    assert_eq!(names(cells(&report, "built").iter().map(String::as_str)), of_source_2());
    check_reasons(&world);

    // The strength that the calibration had found: other numbers of the calibration, but the same labels.
    let shift = world.json(0, &["show", &format!("{}:shift", run_id(&first)), "--json"]);
    let found = &shift["outputs"]["simulator"]["parts"][1]["json"]["strength"];
    let fixed = format!("shift.strength={found}");
    assert_eq!(not_fresh(&plan(&[&fixed])), of_source_2());
    assert_eq!(cells(&run(&[&fixed]), "built"), ["shift", "report"]);

    a_case_joins(&world);
}

fn run_id(report: &Value) -> &str {
    report["run"].as_str().unwrap()
}

/// One page that holds all, and the scores as rows.
fn check_report(world: &World, run: &Value) {
    let page = run["reports"][0].as_str().unwrap();
    assert_eq!(run["reports"].as_array().unwrap().len(), 1);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.to_lowercase().starts_with("<!doctype html>"));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page fetches something: {outside}");
    }
    let report = world.json(0, &["show", "report", "--json"]);
    let parts = report["outputs"]["report"]["parts"].as_array().unwrap();
    let parts: Vec<&Value> = parts.iter().map(|part| &part["name"]).collect();
    assert_eq!(parts, ["index.html", "table.json"]);
    let rows = world.json(0, &["show", run_id(run), "--json"]);
    let rows = rows.as_array().unwrap();
    let keys = names(["method", "subset", "seed", "structure", "metric", "mean", "sd", "n"]);
    for row in rows {
        assert_eq!(names(row.as_object().unwrap().keys().map(String::as_str)), keys, "{row}");
        assert_eq!(row["structure"], "lung");
        assert!(row["mean"].as_f64().is_some_and(f64::is_finite), "{row}");
    }
    let of_seed = rows.iter().filter(|row| row["seed"] == 0 && row["metric"] == "dice");
    let of_seed: Vec<&Value> = of_seed.collect();
    assert!(of_seed.iter().all(|row| row["n"] == 8), "24 cases less 12 and 4: {of_seed:#?}");
    assert!(of_seed.iter().all(|row| (0.0..=1.0).contains(&row["mean"].as_f64().unwrap())));
    let subsets = of_seed.iter().filter(|row| row["method"] == "UMA-Net");
    assert_eq!(names(subsets.map(|row| row["subset"].as_str().unwrap())), names(SUBSETS));
    assert_eq!(of_seed.iter().filter(|row| row["method"] == "UNet (MV)").count(), 1);
    let metrics = names(rows.iter().map(|row| row["metric"].as_str().unwrap()));
    assert!(metrics.is_superset(&names(["dice", "jaccard", "assd", "hd95"])), "{metrics:?}");
}

/// After the run, `explain` tells what changed, from what and to what.
fn check_reasons(world: &World) {
    let overrides = with(TINY, &["shift.strength=5"]);
    let explain = |cell: &str| {
        let arguments = ["explain", "experiments/ablation.toml", cell, "--json"];
        world.json_lines(&set(&arguments, &overrides)).remove(0)
    };
    let shift = explain("shift");
    let reason = json!([{ "reason": "config", "key": "strength", "from": null, "to": 5.0 }]);
    assert_eq!((&shift["last"]["reasons"], &shift["now"]["state"]), (&reason, &json!("fresh")));
    let train = explain("train[seed=0,subset=1-2]");
    let reasons = train["last"]["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{reasons:#?}");
    assert_eq!(
        (&reasons[0]["reason"], &reasons[0]["port"], &reasons[0]["cell"]),
        (&json!("input"), &json!("annotations"), &json!("source2"))
    );
    let parts = reasons[0]["parts"].as_array().unwrap();
    let prefixes = ["train-", "val-"];
    assert!(!parts.is_empty());
    assert!(
        parts.iter().all(|part| prefixes.iter().any(|p| part.as_str().unwrap().starts_with(p)))
    );
    let text = world.call(&set(&["explain", "experiments/ablation.toml", "shift"], &overrides));
    assert!(text.data.contains("`strength` changed from absent to 5.0"), "{}", text.data);
}

/// One test case more: each stage that runs per shard runs one shard, and no network is trained again.
fn a_case_joins(world: &World) {
    let overrides = with(TINY, &["cases.count=25"]);
    let report = world.json(0, &set(ABLATION, &overrides));
    let built = cells(&report, "built");
    let expected = |name: &&String| {
        ["cases", "source", "vote", "predict", "score", "report"]
            .iter()
            .any(|node| name.starts_with(node))
    };
    assert_eq!(built.iter().filter(expected).count(), built.len(), "{built:?}");
    let explained = world
        .json_lines(&set(&["explain", "experiments/ablation.toml", "*", "--json"], &overrides));
    let run = report["run"].as_str().unwrap();
    let mut n_cells = 0;
    for line in explained.iter().filter(|line| line["last"]["run"] == run) {
        if let Some(shards) = line["last"]["shards"].as_array() {
            let total = if line["cell"].as_str().unwrap().starts_with("predict") { 4 } else { 10 };
            assert_eq!(*shards, [json!(1), json!(total - 1)], "{}", line["cell"]);
            n_cells += 1;
        }
    }
    assert_eq!(n_cells, 5 + 1 + 8, "five sources, the vote, eight predictions");
}

#[test]
fn the_other_experiments_run_too() {
    for (name, n_cells, more) in [
        ("experiments/lung_hn.toml", 1 + 11 + 3 * 3 + 2, &["train_truth"][..]),
        ("experiments/components.toml", 1 + 11 + 5 * 3 + 1, &[]),
    ] {
        let world = World::new();
        let network = more.iter().map(|node| format!("{node}.network={{levels=2, base_width=4}}"));
        let epochs = more.iter().map(|node| format!("{node}.training.epochs=1"));
        let more: Vec<String> = network.chain(epochs).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let arguments = set(&set(&["run", name, "--json", "--quiet"], TINY), &more);
        let report = world.json(0, &arguments);
        assert_eq!(report["built"], n_cells, "{report:#}");
        assert_eq!(world.json(0, &arguments)["fresh"], n_cells);
    }
}

#[test]
fn cores_threads_and_places_do_not_change_a_byte() {
    let outputs = |world: &World, arguments: &[&str]| -> Vec<(Value, Value)> {
        let report = world.json(0, arguments);
        let cells = report["cells"].as_array().unwrap().iter();
        cells.map(|cell| (cell["cell"].clone(), cell["outputs"].clone())).collect()
    };
    let world = World::small(SMALL);
    let one = ["run", "small.toml", "--json", "--quiet", "--jobs", "1"];
    let four = ["--jobs", "4", "--store", "other", "--set", "train.threads=3"];
    let first = outputs(&world, &one);
    assert_eq!(first, outputs(&world, &with(&["run", "small.toml", "--json", "--quiet"], &four)));
    // From another folder, by another name, with the store named by the environment: all is stored already.
    fs::create_dir_all(world.path("below/it")).unwrap();
    let mut command = world.command(&["run", "../../small.toml", "--json", "--quiet"]);
    command.current_dir(world.path("below/it")).env("PIPELINE_STORE", world.store());
    let report: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(report["built"], 0, "{report:#}");
    // What was run is kept whole, and gives the same again.
    let resolved = format!(".pipeline/runs/{}/experiment.toml", run_id(&report));
    let again = world.json(0, &["run", &resolved, "--json", "--quiet"]);
    assert_eq!(again["built"], 0, "{again:#}");
}
