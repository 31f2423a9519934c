//! History, damage, garbage and what other systems are given.

use super::*;

#[test]
fn history_diff_and_status() {
    let toy = Toy::new();
    check(&toy.call(&["status"]), Exit::Done, "", "no run is under way\n");
    toy.call(&["run", "toy.toml", "-q"]);
    let more = "words.words=['apple', 'banana', 'cherry']";
    toy.call(&["run", "toy.toml", "-q", "--set", more]);
    fs::create_dir(toy.path().join(".pipeline/runs/20200101-000000-toy-1")).unwrap();
    let said = toy.call(&["history"]);
    let lines: Vec<String> =
        said.data.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "run experiment built fresh time outcome",
            "RUN1 toy 4 0 T s done",
            "RUN0 toy 4 0 T s done",
            "20200101-000000-toy-1 toy - - - killed",
        ]
    );
    let (_, data, _) = toy.raw(&["history", "--json"]);
    let newest: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
    assert_eq!((&newest["outcome"], &newest["built"]), (&json!("done"), &json!(4)));
    let ids = Store::for_reading(&toy.path().join(".pipeline")).runs().unwrap();
    let said = toy.call(&["diff", &ids[0], "latest"]);
    let lines: Vec<&str> = said.data.lines().collect();
    assert_eq!(lines[0], "~ words");
    assert!(
        lines[1].starts_with("    `words` changed from [\"apple\",\"banana\"] to "),
        "{lines:?}"
    );
    assert_eq!(lines[2], "    output `words` changed from DIGEST to DIGEST");
    assert_eq!(said.talk, "RUN0 to RUN1: 4 cells differ, 0 the same\n");
    let told = toy.json(&["diff", &ids[0], &ids[1], "--json"]);
    assert_eq!(told["cells"][1]["reasons"][0]["reason"], "input");
    assert_eq!(
        told["scores"][0],
        json!({
            "method": "tell", "subset": "1-2", "seed": 0, "structure": "lung",
            "metric": "dice", "first": 0.54, "second": 0.56,
        })
    );
    check(
        &toy.call(&["diff", "tyo", "latest"]),
        Exit::BadInput,
        "",
        "\
error: no finished run is called `tyo`; did you mean `toy`?
hint: `pipeline history` lists the runs
",
    );
}

#[test]
fn damage_is_told_and_repaired() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml", "-q"]);
    let said = toy.call(&["verify"]);
    assert_eq!((said.exit, said.talk.as_str()), (Exit::Done, ""));
    assert!(said.data.ends_with(": nothing wrong\n"), "{}", said.data);
    let apple = toy.path().join(".pipeline/cas").join({
        let digest = engine::Digest::of(b"apple").to_string();
        format!("{}/{digest}", &digest[..2])
    });
    fs::remove_file(&apple).unwrap();
    fs::write(&apple, "appel").unwrap();
    let said = toy.call(&["verify", "--all"]);
    assert_eq!(said.exit, Exit::Failed);
    assert!(said.data.contains(": found 5 bytes with digest "), "{}", said.data);
    assert!(said.data.contains("\n  part `apple` of output `words` of stage `list`, record "));
    assert!(said.data.ends_with("1 problem\n"), "{}", said.data);
    assert_eq!(toy.raw(&["verify", "--sample", "0%"]).0, Exit::Done);
    assert_eq!(toy.raw(&["verify", "--sample", "2"]).0, Exit::BadInput);
    let audit = toy.json(&["verify", "--repair", "--json"]);
    assert_eq!((&audit["repaired"], &audit["problems"][0]["kind"]), (&json!(true), &json!("file")));
    assert_eq!(toy.raw(&["verify"]).0, Exit::Done);
    assert_eq!(toy.json(&["run", "toy.toml", "--json"])["built"], 1);
    assert_eq!(fs::read(&apple).unwrap(), b"apple");
}

#[test]
fn garbage_pins_and_space() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml", "-q", "--set", "matrix.length=[3]"]);
    toy.call(&["pin", "latest", "first"]);
    toy.call(&["run", "toy.toml", "-q"]);
    let said = toy.call(&["gc", "--dry-run", "--keep-days", "0"]);
    assert_eq!((said.exit, said.talk.as_str()), (Exit::Done, ""));
    assert!(said.data.contains("run `RUN0`, pinned as `first`"), "{}", said.data);
    assert!(said.data.contains("would be freed"), "{}", said.data);
    // Everything is younger than an hour.
    assert_eq!(toy.json(&["gc", "--keep-days", "0", "--json"])["freed_bytes"], 0);
    let usage = toy.json(&["du", "--json"]);
    assert_eq!(usage["experiments"][0]["runs"], 2);
    assert_eq!(usage["kinds"][1]["kind"], "words");
    assert!(toy.call(&["du"]).data.contains("`pipeline gc` frees"));
    assert_eq!(toy.call(&["unpin", "first"]).exit, Exit::Done);
    check(
        &toy.call(&["unpin", "first"]),
        Exit::BadInput,
        "",
        "error: no run is pinned as `first`\n",
    );
    assert_eq!(toy.call(&["pin", "latest", "a/b"]).exit, Exit::BadInput);
}

#[test]
fn a_share_of_the_results_is_made_again() {
    let toy = Toy::new();
    toy.call(&["run", "toy.toml", "-q"]);
    let said = toy.call(&["verify", "--rerun", "100%", "--experiment", "toy.toml"]);
    check(&said, Exit::Done, "6 results of 6 made again: 0 differ\n", "");
    assert_eq!(toy.call(&["verify", "--rerun", "1%"]).exit, Exit::BadInput);
}

#[test]
fn an_experiment_for_snakemake_calls_the_command_cell_by_cell() {
    let toy = Toy::new();
    let said = toy.raw(&["export", "snakemake", "toy.toml", "--program", "/bin/pipeline"]).1;
    let rules: Vec<&str> = said.lines().filter(|line| line.starts_with("rule ")).collect();
    let [words, one, two, tell] = [
        "cell_words_073acf80",
        "cell_cut_length_1__8212648b",
        "cell_cut_length_2__00b03dcb",
        "cell_tell_6bb92e96",
    ];
    let named = [words, one, two, tell].map(|name| format!("rule {name}:"));
    assert_eq!(rules, [&["rule all:".to_owned()][..], &named].concat());
    let call = " && /bin/pipeline exec-cell toy.toml 'cut[length=1]' --store ";
    assert!(said.contains(call), "{said}");
    let needs =
        format!("input: \"done/{one}\", \"done/{two}\"\n    output: touch(\"done/{tell}\")");
    assert!(said.contains(&needs), "{said}");
    // In this order, as Snakemake would.
    for cell in ["words", "cut[length=1]", "cut[length=2]", "tell"] {
        assert_eq!(toy.call(&["exec-cell", "toy.toml", cell]).exit, Exit::Done);
    }
    assert_eq!(toy.call(&["plan", "toy.toml", "--check"]).exit, Exit::Done);
}

#[test]
fn stages_and_experiments_begin_as_files() {
    let toy = Toy::new();
    let said = toy.call(&["new", "stage", "clean.crop"]);
    assert_eq!((said.exit, said.data.as_str()), (Exit::Done, "clean_crop.rs\n"));
    let text = fs::read_to_string(toy.path().join("clean_crop.rs")).unwrap();
    assert!(text.contains("const NAME: &'static str = \"clean.crop\";"), "{text}");
    assert_eq!(toy.call(&["new", "stage", "clean.crop"]).exit, Exit::Failed, "it is there");
    assert_eq!(toy.call(&["new", "experiment", "../x"]).exit, Exit::BadInput);
    let said = toy.call(&["new", "experiment", "mine"]);
    assert_eq!(said.data, "configs/experiments/mine.toml\n");
}
