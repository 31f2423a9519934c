//! Cells in other languages, through the command: Python over our shards, edits, failures, devices.

use std::{fs, process::Command};

use super::world::{REPOSITORY, World, cells, not_run, with};

/// Reads shards as bytes, of which Parquet's begin and end with a word: plain Python can see that.
const SIZES: &str = r#"
import json, os, sys
request = json.load(sys.stdin)
shards = request["inputs"]["labels"][0]
lines = []
for name in shards["files"]:
    bytes = open(os.path.join(shards["folder"], name), "rb").read()
    assert bytes[:4] == bytes[-4:] == b"PAR1", name
    lines.append(f"{name} {len(bytes) > 0}\n")
print("devices", os.environ["CUDA_VISIBLE_DEVICES"])
print(request["config"]["word"], file=sys.stderr)
open(os.path.join(request["outputs"]["sizes"]["folder"], "sizes.txt"), "w").writelines(lines)
"#;

const EXPERIMENT: &str = "\
[cases]
use = 'ingest.phantom_cxr'
count = 16
phantom = { size = 32 }
split = { train = 8, val = 3 }
shard_cases = 4

[sizes]
use = 'exec'
argv = ['python3', 'scripts/sizes.py']
files = ['scripts/sizes.py']
in = { labels = 'cases.truth' }
inputs = { labels = 'labels' }
outputs.sizes = { kind = 'sizes', files = ['sizes.txt'] }
config = { word = 'hello' }
resources = { gpus = 1 }

[copy]
use = 'exec'
argv = ['cp', 'inputs/sizes/0/sizes.txt', 'outputs/copy/copy.txt']
in = { sizes = 'sizes' }
inputs = { sizes = 'sizes' }
outputs.copy = { kind = 'copy', files = ['copy.txt'] }
";

fn has_python(module: &str) -> bool {
    let call = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    call.is_ok_and(|output| output.status.success())
}

fn world() -> World {
    let world = World::small(EXPERIMENT);
    world.write("scripts/sizes.py", SIZES);
    world
}

#[test]
fn a_script_is_a_cell() {
    if !has_python("json") {
        return not_run("cells in Python: there is no `python3`");
    }
    let world = world();
    assert_eq!(world.built(&[]), ["cases", "sizes", "copy"]);
    assert_eq!(world.built(&[]), Vec::<String>::new());

    // A comment: the script runs again, its table is the same, and the wave stops.
    world.write("scripts/sizes.py", &format!("# sizes\n{SIZES}"));
    let plan = world.call(&["plan", "small.toml"]);
    assert!(plan.data.contains("scripts/sizes.py"), "the plan names the file: {plan:?}");
    assert_eq!(world.built(&["--gpus", "3,5"]), ["sizes"]);
    let log = world.call(&["logs", "sizes"]).data;
    assert!(log.contains("hello") && log.contains("devices 3\n"), "{log}");

    // Without a device it is told, in the talk and in the log, and the program sees none.
    let said = world.call(&["run", "small.toml", "--set", "sizes.version=2"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.has(&["warning", "sizes asks for 1 graphics processor", "--gpus"]), "{said:?}");
    let log = world.call(&["logs", "sizes"]).data;
    assert!(log.contains("] devices\n") && log.contains("the run may use 0"), "{log}");
    assert_eq!(world.call(&["verify", "--all"]).code, Some(0));
}

#[test]
fn a_script_that_fails_or_hangs_says_so() {
    if !has_python("json") {
        return not_run("cells in Python: there is no `python3`");
    }
    let world = world();
    world.write("scripts/sizes.py", "import sys\nsys.exit('no such table')\n");
    world.refused(
        1,
        &["run", "small.toml", "--quiet", "--gpus", "0"],
        "\
error: cell `sizes` failed (stage `exec`)
caused by: the program ended with 1: no such table
hint: `pipeline logs CELL` shows all that it said
",
    );
    let hangs = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                 time.sleep(600)\n";
    world.write("scripts/sizes.py", hangs);
    let patience = ["--set", "sizes.timeout=1.5", "--set", "sizes.grace_seconds=0.2"];
    let report = world.json(1, &with(&["run", "small.toml", "--json", "--quiet"], &patience));
    assert_eq!(cells(&report, "failed"), ["sizes"]);
    let failed = report["cells"].as_array().unwrap().iter().find(|cell| cell["cell"] == "sizes");
    assert_eq!(failed.unwrap()["failure"]["class"], "timeout", "{report:#}");

    // What it was to make lies elsewhere: a frequent slip, and the error says where.
    world.write("scripts/sizes.py", "open('sizes.txt', 'w').write('x')\n");
    let said = world.call(&["run", "small.toml", "--quiet", "--gpus", "0"]);
    assert!(
        said.has(&["output `sizes` should have the files [\"sizes.txt\"]: found []"]),
        "{said:?}"
    );
    assert!(
        said.has(&["hint:", "`sizes.txt` lies in the working folder", "outputs/sizes"]),
        "{said:?}"
    );
}

#[test]
fn the_example_in_python() {
    if !has_python("pyarrow.parquet") {
        return not_run("examples/exec/areas.toml: there is no pyarrow");
    }
    let world = World::new();
    for name in ["areas.toml", "areas.py"] {
        let path = format!("examples/exec/{name}");
        world.write(&path, &fs::read_to_string(format!("{REPOSITORY}/{path}")).unwrap());
    }
    let said = world.call(&["run", "examples/exec/areas.toml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let shown = world.call(&["show", "areas"]).data;
    assert!(shown.contains("areas.csv"), "{shown}");
    assert!(world.call(&["logs", "areas"]).data.contains("16 masks"));
}
