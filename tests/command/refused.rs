//! Configurations that cannot be run: refused with file and line before anything runs, or by the stage that finds out,
//! with nothing lost that was finished.

use serde_json::{Value, json};

use super::world::{SMALL, World, cells, set};

/// `SMALL` with one line in place of another.
fn edited(old: &str, new: &str) -> String {
    assert_eq!(SMALL.matches(old).count(), 1, "{old}");
    SMALL.replace(old, new)
}

/// Checks that `small.toml` is refused before anything runs when `new` stands for `old`; `talk` is what is said.
fn refused(old: &str, new: &str, talk: &str) {
    let world = World::small(&edited(old, new));
    for verb in ["run", "plan", "graph"] {
        world.refused(2, &[verb, "small.toml"], talk);
    }
    assert!(!world.store().exists(), "refused before the store is opened");
}

#[test]
fn unknown_names() {
    refused(
        "training = { epochs = 2",
        "training = { epcohs = 2",
        "\
error: small.toml:28: unknown key `epcohs` in stage `train.uma`; did you mean `epochs`?
hint: `pipeline stages NAME` lists the keys and ports of a stage
",
    );
    refused(
        "use = 'noise.shift'",
        "use = 'noise.shfit'",
        "\
error: small.toml:9: unknown stage `noise.shfit` in the registry; did you mean `noise.shift`?
hint: `pipeline stages` lists all stages
",
    );
    refused(
        "annotations = ['source1', 'source2']",
        "annotations = ['source1', 'source7']",
        "error: small.toml:26: unknown cell `source7` in the experiment; did you mean `source1`?\n",
    );
    refused(
        "weights = 'train'",
        "weight = 'train'",
        "\
error: small.toml:32: unknown port `weight` in stage `predict`; did you mean `weights`?
hint: `pipeline stages NAME` lists the keys and ports of a stage
",
    );
    refused(
        "reference = 'cases.truth'",
        "reference = 'cases.thruth'",
        "\
error: small.toml:36: unknown output `thruth` in cell `cases`; did you mean `truth`?
hint: `pipeline stages NAME` lists the keys and ports of a stage
",
    );
    refused(
        "reference = 'cases.truth'",
        "reference = 'cases'",
        "\
error: small.toml:36: `cases` has several outputs; expected one of `cases.images`, `cases.truth`, `cases.cases`
",
    );
    refused(
        "use = 'score'",
        "",
        "\
error: small.toml:34: `score` has no `use`
hint: every table but `experiment`, `matrix` and `scale` is a cell: `use` names its stage
",
    );
}

#[test]
fn a_subset_of_the_ablation_that_names_a_sixth_source() {
    let world = World::new();
    let more = "matrix.subset.1-7={ sources = ['source1', 'source7'] }";
    world.refused(
        2,
        &["run", "experiments/ablation.toml", "--set", more],
        &format!(
            "error: --set {more}: unknown cell `source7` in the experiment; did you mean `source1`?\n"
        ),
    );
}

#[test]
fn values_of_another_type() {
    refused(
        "count = 16",
        "count = 'many'",
        "\
error: small.toml:3: `count` of cell `cases` (stage `ingest.phantom_cxr`): expected a whole number from 0: got \"many\"
hint: `pipeline stages ingest.phantom_cxr` says what its keys take
",
    );
    refused(
        "count = 16",
        "count = -16",
        "\
error: small.toml:3: `count` of cell `cases` (stage `ingest.phantom_cxr`): expected a whole number from 0: got -16
hint: `pipeline stages ingest.phantom_cxr` says what its keys take
",
    );
    refused(
        "in = { predictions = 'predict', reference = 'cases.truth' }",
        "in = ['predict', 'cases.truth']",
        "error: small.toml:36: `score.in` must be a table of ports: got a list\n",
    );
    refused(
        "[cases]",
        "cases = 3\n[caes]",
        "error: small.toml:1: `cases` must be a table with `use`: got an integer\n",
    );
    refused(
        "method = 'UMA-Net'",
        "",
        "\
error: small.toml:34: `method` of cell `score` (stage `score`): expected a text: got nothing
hint: `pipeline stages score` says what its keys take
",
    );
    refused(
        "training = { epochs = 2, batch_size = 4, augmentation = { enabled = false } }",
        "training = { selection = 'best' }",
        "\
error: small.toml:28: `training.selection` of cell `train` (stage `train.uma`): expected \"vote\", \"truth\" or \"last\": got \"best\"
hint: `pipeline stages train.uma` says what its keys take
",
    );
    refused(
        "network = { levels = 2, base_width = 4 }",
        "network = 3",
        "\
error: small.toml:27: `network` of cell `train` (stage `train.uma`): expected a table: got 3
hint: `pipeline stages train.uma` says what its keys take
",
    );
    refused(
        "count = 16",
        "count = ",
        "error: small.toml:3: string values must be quoted, expected literal string\n",
    );
}

#[test]
fn overrides_that_are_no_values() {
    let world = World::small(SMALL);
    for (more, talk) in [
        (
            "train.training",
            "error: expected `--set key=value`: got `--set train.training`\nhint: for example: --set train.epochs=3\n",
        ),
        ("matrix.seed=[0,a]", "error: --set matrix.seed=[0,a]: "),
    ] {
        let said = world.call(&["run", "small.toml", "--set", more]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.talk.starts_with(talk), "{said:?}");
    }
}

#[test]
fn values_out_of_range() {
    refused(
        "weights = 'train' }",
        "weights = 'train' }\nthreshold = 1.5",
        "\
error: small.toml:33: `threshold` of cell `predict` (stage `predict`): expected a probability between 0 and 1: got 1.5
hint: `pipeline stages predict` says what its keys take
",
    );
    refused(
        "network = { levels = 2, base_width = 4 }",
        "network = { levels = 2, base_width = 4, quality = { tau_a = -1.0 } }",
        "\
error: small.toml:27: `network.quality.tau_a` of cell `train` (stage `train.uma`): expected a threshold in (0, 10]: got -1.0
hint: `pipeline stages train.uma` says what its keys take
",
    );
    refused(
        "phantom = { size = 32 }",
        "phantom = { size = 8 }",
        "\
error: small.toml:4: `phantom` of cell `cases` (stage `ingest.phantom_cxr`): `size` must lie in [16, 2048]: got 8
hint: `pipeline stages ingest.phantom_cxr` says what its keys take
",
    );
}

#[test]
fn wires_that_do_not_fit() {
    refused(
        "weights = 'train'",
        "weights = 'source1'",
        "\
error: small.toml:32: port `weights` of cell `predict` takes `model`: `source1` is `labels`
hint: `pipeline stages NAME` lists the keys and ports of a stage
",
    );
    refused(
        "annotations = ['source1', 'source2']",
        "annotations = []",
        "\
error: small.toml:26: port `annotations` of cell `train` takes at least one artifact: got 0
hint: `pipeline stages NAME` lists the keys and ports of a stage
",
    );
    refused(
        "[source1]\nuse = 'noise.apply'\nin = { truth = 'cases.truth'",
        "[source1]\nuse = 'noise.apply'\nin = { truth = 'predict'",
        "\
error: small.toml:26: cells wait for each other in a circle: source1 needs predict needs train needs source1
",
    );
}

#[test]
fn files_that_are_not_there() {
    let world = World::new();
    world.refused(
        2,
        &["run", "experiments/ablatoin.toml"],
        "\
error: no file `experiments/ablatoin.toml`: looked for `DIR/experiments/ablatoin.toml`, \
         `DIR/configs/experiments/ablatoin.toml`; did you mean `experiments/ablation.toml`?
hint: name a file from the working folder or from `configs/` in the project root
",
    );
    world.write("small.toml", "extends = 'methods/umma.toml'\n");
    let said = world.call(&["run", "small.toml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.has(&["error: no file `methods/umma.toml`", "did you mean `methods/uma.toml`?"]));
    world.write("small.toml", "extends = 'base.toml'\n");
    world.write("base.toml", "extends = ['small.toml']\n");
    let talk = "error: a file extends itself: small.toml extends base.toml extends small.toml\n";
    world.refused(2, &["run", "small.toml"], talk);
    world.write("small.toml", "[cases]\nuse = 'datasets/phantom.toml'\n");
    let said = world.call(&["run", "small.toml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.talk.starts_with("error: small.toml:2: in the file named here\n"), "{said:?}");
    assert!(
        said.has(&["caused by: no file `datasets/phantom.toml`", "`datasets/phantom_cxr.toml`?"])
    );
    world.refused(
        2,
        &["run", "experiments/ablation.toml", "--scale", "papr"],
        "error: --set experiment.scale=papr: unknown scale `papr` in the experiment; did you mean `paper`?\n",
    );
}

/// Runs `SMALL` with an override that one stage refuses: the run ends with 1 and says `talk`, `finished` is built before,
/// and is fresh in the next run, without the override.
fn refused_by_stage(more: &str, finished: &[&str], talk: &str) {
    let world = World::small(SMALL);
    let run = ["run", "small.toml", "--quiet", "--json", "--jobs", "1"];
    let said = world.call(&set(&run, &[more]));
    assert_eq!((said.code, said.talk.as_str()), (Some(1), talk), "{}", said.data);
    let report: Value = serde_json::from_str(&said.data).unwrap();
    assert_eq!(cells(&report, "built"), finished);
    assert_eq!((&report["failed"], report["errors"].as_array().unwrap().len()), (&json!(1), 1));
    let report = world.json(0, &run);
    assert_eq!(cells(&report, "fresh"), finished, "what was finished is not built again");
}

#[test]
fn a_noise_level_that_a_simulator_cannot_reach() {
    refused_by_stage(
        "erase.target_dice=0.05",
        &["cases", "shift"],
        "\
error: cell `erase` failed (stage `noise.erase`)
caused by: `erase` cannot reach a mean Dice of 0.05: strengths 0 to 1 give 0.6701 to 1.0000
",
    );
}

#[test]
fn images_that_do_not_fit_the_network() {
    refused_by_stage(
        "train.network.levels=7",
        &["cases", "shift", "erase", "source1", "source2"],
        "\
error: cell `train` failed (stage `train.uma`)
caused by: image sides must be multiples of [1, 64, 64] as [slice, row, column]: got [1, 32, 32]
",
    );
}

#[test]
fn structures_that_no_label_has() {
    refused_by_stage(
        "train.structures=['heart']",
        &["cases", "shift", "erase", "source1", "source2"],
        "\
error: cell `train` failed (stage `train.uma`)
caused by: no label of structure `heart` in cell `source1`: it has [\"lung\"]
",
    );
}

#[test]
fn splits_that_stay_empty_or_ask_for_too_much() {
    for (more, talk) in [
        ("cases.split.train=0", "split `train` has no case: 16 cases of 16 patients were given\n"),
        ("cases.split.test=0", "split `test` has no case: 16 cases of 16 patients were given\n"),
        (
            "cases.split.train=99",
            "splits ask for 103 cases: there are 16\nhint: leave `test` out to take all the rest\n",
        ),
    ] {
        let said = "error: cell `cases` failed (stage `ingest.phantom_cxr`)\ncaused by: ";
        refused_by_stage(more, &[], &format!("{said}{talk}"));
    }
}

#[test]
fn instructions_that_the_machine_lacks() {
    let world = World::small(SMALL);
    let output = world
        .command(&["plan", "small.toml"])
        .env("PIPELINE_INSTRUCTIONS", "sse9")
        .output()
        .unwrap();
    let said = world.said(output);
    assert_eq!((said.code, said.data.as_str()), (Some(2), ""));
    assert!(
        said.has(&["caused by:", "PIPELINE_INSTRUCTIONS", "(portable", "got `sse9`"]),
        "{said:?}"
    );
}

#[test]
fn the_instructions_that_are_asked_for_are_in_the_key_of_what_depends_on_them() {
    let world = World::small(SMALL);
    let output = world
        .command(&["run", "small.toml", "--json"])
        .env("PIPELINE_INSTRUCTIONS", "portable")
        .output()
        .unwrap();
    assert!(output.status.success());
    let explained = world.json_lines(&["explain", "small.toml", "*", "--json"]);
    for line in explained {
        let asked = &line["last"]["action"]["environment"]["instructions"];
        let depends = ["train", "predict"].contains(&line["cell"].as_str().unwrap());
        let expected = if depends { json!("portable") } else { Value::Null };
        assert_eq!(asked, &expected, "{line}");
    }
}
