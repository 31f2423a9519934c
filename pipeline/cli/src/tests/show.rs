//! Plans, graphs, runs, cells and files as they are shown.

use super::*;

#[test]
fn plan_before_and_after_a_run() {
    let toy = Toy::new();
    let said = toy.call(&["plan", "toy.toml", "--check"]);
    check(
        &said,
        Exit::WorkFound,
        "\
stale    words          never built
unknown  cut[length=1]  `words` is built first
unknown  cut[length=2]  `words` is built first
unknown  tell           2 cells are built first, among them `cut[length=1]`
",
        "4 cells: 0 fresh, 1 stale, 3 unknown until what they need is built\n",
    );
    assert!(!toy.path().join(".pipeline").exists(), "a plan makes nothing");
    let said = toy.call(&["run", "toy.toml", "--jobs", "1"]);
    check(
        &said,
        Exit::Done,
        "\
run RUN0: 4 built, 0 fresh in T s
report: .pipeline/runs/RUN0/report.html
",
        "\
run    RUN0 of 4 cells
start  words: never built
built  words in T s (1/4)
start  cut[length=1]: never built
built  cut[length=1] in T s, 2 of 2 shards (2/4)
start  cut[length=2]: never built
built  cut[length=2] in T s, 2 of 2 shards (3/4)
start  tell: never built
built  tell in T s (4/4)
",
    );
    let id = Store::for_reading(&toy.path().join(".pipeline")).runs().unwrap().pop().unwrap();
    let page = toy.path().join(".pipeline/runs").join(id).join("report.html");
    assert_eq!(fs::read_to_string(page).unwrap(), "<!doctype html><p>told");
    let said = toy.call(&["plan", "toy.toml", "--check", "--only", "cut*"]);
    check(
        &said,
        Exit::Done,
        "fresh  words\nfresh  cut[length=1]\nfresh  cut[length=2]\n",
        "3 cells, all fresh\n",
    );
    let set = "words.words=['apple', 'cherry', 'date']";
    assert_eq!(toy.call(&["run", "toy.toml", "--quiet"]).talk, "");
    toy.call(&["run", "toy.toml", "-q", "--set", set, "--only", "words"]);
    let said = toy.call(&["plan", "toy.toml", "--set", set]);
    assert_eq!(
        said.data.lines().nth(1).unwrap(),
        "stale    cut[length=1]  2 of 3 shards: `words` on port `words` changed from DIGEST to DIGEST (3 parts, first `banana`)"
    );
}

#[test]
fn json_for_programs() {
    let toy = Toy::new();
    let (_, data, _) = toy.raw(&["plan", "toy.toml", "--json"]);
    let first: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        json!({
            "cell": "words", "stage": "list", "state": "stale", "reason": "never built",
            "reasons": [{ "reason": "never_built" }], "shards": null,
        })
    );
    let ended = toy.json(&["run", "toy.toml", "--json"]);
    assert_eq!(
        (&ended["built"], &ended["fresh"], &ended["failed"]),
        (&json!(4), &json!(0), &json!(0))
    );
    assert_eq!(ended["cells"].as_array().unwrap().len(), 4);
    assert!(Path::new(ended["reports"][0].as_str().unwrap()).is_file());
    let again = toy.json(&["run", "toy.toml", "--json"]);
    assert_eq!((&again["built"], &again["fresh"]), (&json!(0), &json!(4)));
    assert_ne!(ended["run"], again["run"]);
    let scores = toy.json(&["show", "toy", "--json"]);
    assert_eq!(
        scores[1],
        json!({
            "method": "tell", "subset": "1-2", "seed": 1, "structure": "lung",
            "metric": "dice", "mean": 0.54, "sd": null, "n": 4,
        })
    );
    toy.raw(&["run", "toy.toml", "-q", "--only", "words"]);
    let cells = toy.json(&["show", "--json"]);
    assert_eq!(cells["cells"][0]["cell"], "words");
}

#[test]
fn explain_says_why() {
    let toy = Toy::new();
    let explain = ["explain", "toy.toml", "cut[length=1]"];
    check(
        &toy.call(&explain),
        Exit::Done,
        "\
cut[length=1] (stage `cut`)
  never built by a run of experiment `toy`
  now unknown, because `words` is built first
",
        "",
    );
    toy.call(&["run", "toy.toml"]);
    toy.call(&["run", "toy.toml", "--set", "matrix.length=[1, 4]"]);
    let said = toy.call(&["explain", "toy.toml", "cut*", "--set", "matrix.length=[1, 2, 4]"]);
    check(
        &said,
        Exit::Done,
        "\
cut[length=1] (stage `cut`)
  built by run RUN0 in T s, 2 of 2 shards, because
    never built
  output `words` had content DIGEST
  now fresh
cut[length=2] (stage `cut`)
  built by run RUN0 in T s, 2 of 2 shards, because
    never built
  output `words` had content DIGEST
  now fresh
cut[length=4] (stage `cut`)
  built by run RUN1 in T s, 2 of 2 shards, because
    never built
  output `words` had content DIGEST
  now fresh
",
        "",
    );
    let (_, data, _) = toy.raw(&["explain", "toy.toml", "tell", "--json"]);
    let told: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(told["last"]["reasons"][0]["reason"], "wiring");
    assert_eq!(told["now"]["state"], "fresh");
    // It was built twice: the run that had the other value is named.
    let said = toy.call(&["explain", "toy.toml", "tell", "--set", "matrix.length=[1, 4]"]);
    assert!(
        said.data.contains("built by run RUN1 in T s, because since run RUN0\n"),
        "{}",
        said.data
    );
}

#[test]
fn graphs() {
    let toy = Toy::new();
    check(
        &toy.call(&["graph", "toy.toml"]),
        Exit::Done,
        "\
flowchart LR
  n0[\"words<br/>list\"]
  n1[\"cut[length=1]<br/>cut\"]
  n2[\"cut[length=2]<br/>cut\"]
  n3[\"tell<br/>tell\"]
  n0 -->|\"words\"| n1
  n0 -->|\"words\"| n2
  n1 -->|\"words\"| n3
  n2 -->|\"words\"| n3
",
        "",
    );
    check(
        &toy.call(&["graph", "toy.toml", "--nodes", "--format", "dot"]),
        Exit::Done,
        r#"digraph "toy" {
  rankdir=LR;
  node [shape=box];
  n0 [label="words\nlist"];
  n1 [label="cut\ncut"];
  n2 [label="tell\ntell"];
  n0 -> n1 [label="words"];
  n1 -> n2 [label="words"];
}
"#,
        "",
    );
}

#[test]
fn runs_cells_and_artifacts_are_shown() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml"]);
    let said = toy.call(&["show"]);
    let lines: Vec<&str> = said.data.lines().collect();
    assert_eq!(lines[0], "run RUN0 of experiment `toy`: 4 built, 0 fresh in T s");
    assert_eq!(lines[1], "outcome    time  cell           outputs");
    assert_eq!(lines[2], "built    T s  words          words DIGEST");
    assert_eq!(lines[7], "method  subset  seed  structure  metric    mean  sd  n");
    assert_eq!(lines[8], "tell    1-2     0     lung       dice    0.5400   -  4");
    assert_eq!(lines[10], "report: .pipeline/runs/RUN0/report.html");

    let cell = toy.json(&["show", "latest:words", "--json"]);
    let artifact = &cell["outputs"]["words"];
    assert_eq!(artifact["parts"][0]["name"], "apple");
    assert_eq!(artifact["parts"][0]["bytes"], 5);
    let digest = artifact["digest"].as_str().unwrap();
    let said = toy.call(&["show", &digest[..8]]);
    let lines: Vec<&str> = said.data.lines().collect();
    assert_eq!(
        lines[..4],
        ["kind     words", "digest   DIGEST", "size     11 B in 2 parts", "part    size  file",]
    );
    let said = toy.call(&["show", "tell", "--rows", "1"]);
    assert!(said.data.contains("table.json:\n  [\n    {\n"), "{}", said.data);
    assert!(said.data.contains("  … 14 more lines\n"), "{}", said.data);
}

#[test]
fn names_that_show_nothing() {
    let toy = Toy::new();
    let refused = |thing: &str, talk: &str| {
        check(&toy.call(&["show", thing]), Exit::BadInput, "", talk);
    };
    refused(
        "latest",
        "\
error: no run has ended in the store `.pipeline`
hint: `pipeline run FILE` makes one; another store is named by --store
",
    );
    toy.call(&["run", "toy.toml"]);
    refused(
        "wrods",
        "\
error: nothing is called `wrods`: no run, no cell of run `RUN0`, no artifact, no file; did you mean `words`?
hint: `pipeline show` lists the cells of the latest run
",
    );
    refused(
        "cut",
        "\
error: `cut` is not one cell: it fits `cut[length=1]`, `cut[length=2]`
hint: give more of the name
",
    );
    refused(
        "toy:wrods",
        "\
error: run `RUN0` has no cell `wrods`; did you mean `words`?
hint: `pipeline show` lists the cells of the latest run
",
    );
}

#[test]
fn stages_and_schemas() {
    let toy = Toy::new();
    check(
        &toy.call(&["stages"]),
        Exit::Done,
        "\
stage  version  runs       in      out
cut          3  per shard  words   words
list         1  once               words
tell         1  once       words+  report
",
        "",
    );
    check(
        &toy.call(&["stages", "cut"]),
        Exit::Done,
        "\
cut, version 3, runs once a shard
Cuts words.

in
    words  words  exactly one artifact  sharded

out
    words  words  sharded

config
    length  integer  default 2  Letters that stay.
",
        "",
    );
    let stage = toy.json(&["stages", "list", "--json"]);
    assert_eq!(stage["config"][0]["type"], "[string, ...]");
    assert_eq!(stage["config"][0]["required"], true);
    assert!(toy.json(&["schema", "cut"])["properties"]["length"].is_object());
    assert!(toy.json(&["schema"])["$defs"]["cut"].is_object());
}

#[test]
fn doctor_help_and_completions() {
    let toy = Toy::new();
    let found = toy.json(&["doctor", "--json"]);
    assert_eq!(found["store_exists"], json!(false));
    assert!(found["gpu"]["usable"].is_boolean(), "{}", found["gpu"]);
    assert_eq!(found["store_writable"], true);
    let said = toy.call(&["doctor"]);
    assert!(said.data.contains("\ngpu           "), "{}", said.data);
    assert!(!toy.path().join(".pipeline").exists());
    let help = toy.call(&["--help"]);
    assert!(help.data.contains("explain"), "{}", help.data);
    assert_eq!((help.exit, help.talk.as_str()), (Exit::Done, ""));
    assert!(toy.call(&["completions", "bash"]).data.contains("complete -F"));
}

#[test]
fn parquet_files_and_pictures() {
    use datasets::{CaseImage, Image, Spacing, Split, shard::write_images};
    let toy = Toy::new();
    let image = Image::from_fn([1, 2, 3], |[_, row, column]| (row + column) as f32);
    let case = CaseImage {
        id: "../case".into(),
        patient: "p".into(),
        dataset: "toy".into(),
        split: Split::Train,
        spacing: Spacing::unit(),
        affine: None,
        image,
    };
    write_images(&toy.path().join("s.parquet"), &[case]).unwrap();
    let pictures = toy.path().join("pictures");
    let said = toy.call(&["show", "s.parquet", "--pictures", pictures.to_str().unwrap()]);
    assert_eq!((said.exit, said.talk.as_str()), (Exit::Done, "1 picture in DIR/pictures\n"));
    assert!(
        said.data.starts_with("s.parquet:\n  1 row in 1 row group, written by pipeline"),
        "{}",
        said.data
    );
    let names: Vec<_> =
        fs::read_dir(&pictures).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1);
    let name = names[0].to_str().unwrap();
    assert!(name.starts_with("s-") && name.ends_with("case.png"), "{name}");
    let json = toy.json(&["show", "./s.parquet", "--json"]);
    assert_eq!(json["n_rows"], 1);
    assert_eq!(json["rows"][0]["case_id"], "../case");
    fs::write(toy.path().join("bad.parquet"), "PAR1").unwrap();
    let said = toy.call(&["show", "bad.parquet"]);
    assert_eq!(said.exit, Exit::Failed);
    assert!(
        said.talk.starts_with("error: cannot show `bad.parquet`\ncaused by: "),
        "{}",
        said.talk
    );
}
