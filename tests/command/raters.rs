//! A folder of one's own: raters become sources, a changed label reaches its rater alone, and faults are reported at once.

use std::fs;

use image::GrayImage;
use serde_json::json;

use super::{
    miniature::{self, SIDE, rater_path, rings, save},
    world::{World, cells},
};

const FOLDER: &str = "\
[matrix]
rater = [1, 2]

[cases]
use = 'ingest.folder'
root = 'folder'
layout = 'nnunet'
split = { train = 3, val = 1 }

[source]
use = 'ingest.rater'
in = { raters = 'cases.raters' }
rater = 'rater${rater}'

[second]
use = 'ingest.channel'
in = { channels = 'cases.channels' }
channel = '0001'

[first_only]
use = 'fuse.vote'
in = { annotations = ['source[rater=1]'] }

[vote]
use = 'fuse.vote'
in = { annotations = ['source[*]', 'cases.truth'] }
";

const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

fn folder() -> World {
    let world = World::small(FOLDER);
    miniature::raters(&world);
    world
}

#[test]
fn a_changed_label_reaches_the_cells_of_its_rater() {
    let world = folder();
    let built = ["cases", "source[rater=1]", "first_only", "source[rater=2]", "second", "vote"];
    let report = world.json(0, RUN);
    let mut found = cells(&report, "built");
    let mut expected = built.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(world.json(0, RUN)["built"], 0);
    save(&world.path(&rater_path("labelsTr_rater2", 3)), rings(SIDE, 11));
    let report = world.json(0, RUN);
    let mut found = cells(&report, "built");
    found.sort_unstable();
    // The first rater is handed out again, because it lies in the same shard; what it gives is the same, so that ends there.
    assert_eq!(found, ["cases", "source[rater=1]", "source[rater=2]", "vote"]);
    fs::rename(world.path("folder"), world.path("moved")).unwrap();
    let moved = [RUN, &["--set", "cases.root=moved"]].concat();
    assert_eq!(world.json(0, &moved)["built"], 0, "where the data lie is not part of the result");
}

#[test]
fn all_faults_are_told_at_once_and_may_be_allowed() {
    let world = folder();
    fs::remove_file(world.path(&rater_path("labelsTr_rater1", 0))).unwrap();
    save(&world.path(&rater_path("labelsTr_rater2", 1)), GrayImage::new(SIDE, SIDE / 2));
    save(&world.path(&rater_path("labelsTr_rater2", 2)), GrayImage::new(SIDE, SIDE));
    fs::remove_file(world.path("folder/imagesTr/case_4_0000.png")).unwrap();
    fs::remove_file(world.path("folder/imagesTr/case_4_0001.png")).unwrap();
    let few = ["--set", "cases.split={train=1, val=1}"];
    let said = world.call(&[RUN, &few].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    let told = "errors found in the files: 2 (1 `missing_rater`, 1 `shape_mismatch`); the first: error \
                `missing_rater` case `case_0` source `rater1` file `imagesTr/case_0_0000.png`: the case has no label by \
                this source (dropped)";
    assert!(said.talk.contains(told), "{}", said.talk);
    let allow = ["--set", "cases.allow=['missing_rater', 'shape_mismatch']"];
    let said = world.call(&[RUN, &few, &allow].concat());
    assert!(
        said.talk.contains("has no case: 2 cases of 2 patients"),
        "one of three is dropped: {said:?}"
    );
    save(&world.path(&rater_path("labelsTr_rater2", 1)), rings(SIDE, 9));
    let allow = ["--set", "cases.allow=['missing_rater']"];
    assert_eq!(world.json(0, &[RUN, &few, &allow].concat())["failed"], json!(0));
    let unknown = ["--set", "cases.allow=['missing_ratter']"];
    assert_eq!(world.call(&[RUN, &unknown].concat()).code, Some(2));
}

#[test]
fn warnings_go_into_the_report_and_the_run_goes_on() {
    let world = folder();
    save(&world.path(&rater_path("labelsTr_rater2", 2)), GrayImage::new(SIDE, SIDE));
    assert_eq!(world.json(0, RUN)["failed"], json!(0));
    let shown = world.call(&["show", "cases", "--json", "--rows", "100"]).data;
    assert!(
        shown.contains("empty_mask") && shown.contains("labelsTr_rater2/case_2.png"),
        "{shown}"
    );
}
