//! A miniature of LIDC-IDRI with the names, the XML and the defects of the release: outlines of four sessions become sources
//! that are fused, and nothing that is written or said names a study or a reader.

use std::fs;

use datasets::shard::read_labels;

use super::{
    dicom::drawn::{DrawnFile, NAME},
    world::{World, files, set},
};

#[path = "../../datasets/src/lidc/drawn.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod drawn;

use drawn::{READER, SLICE, UIDS, height, object_uid, series_uid};

fn slice(patient: usize, slice: usize) -> Vec<u8> {
    let first = 500 * patient + 100 * slice;
    let pixels: Vec<u16> =
        (0..usize::from(SLICE[0] * SLICE[1])).map(|n| (first + n) as u16).collect();
    let mut file = DrawnFile::slice(SLICE, [0.0, 0.0, height(slice)], &pixels);
    file.text(0x0008, 0x0018, "UI", &object_uid(patient, slice));
    file.text(0x0020, 0x000e, "UI", &series_uid(patient)).bytes()
}

/// The release in small below `lidc/`.
pub(crate) fn release(world: &World) {
    for (name, bytes) in drawn::release(slice) {
        let path = world.path(&format!("lidc/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

const LIDC: &str = "\
[cases]
use = 'datasets/lidc.toml'
root = 'lidc'
split = { train = 3, val = 1 }

[vote]
use = 'fuse.vote'
in = { annotations = ['cases.slot1', 'cases.slot2', 'cases.slot3', 'cases.slot4'] }
";

const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

#[test]
fn four_sessions_are_fused_and_nobody_is_named() {
    let world = World::small(LIDC);
    release(&world);
    // An outline of each scan lies on no slice, which nobody has allowed yet.
    let said = world.call(RUN);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.has(&["5 `outline_off_image`", "slot2", "nodule 1"]), "{said:#?}");
    let allow = "cases.allow=['session_count', 'outline_off_image']";
    let report = world.json(0, &set(RUN, &[allow]));
    let mut areas = Vec::new();
    for path in files(&world.store()) {
        let labels = read_labels(&path).unwrap_or_default();
        let fused = labels.iter().filter(|label| !label.source.starts_with("slot"));
        areas.extend(fused.map(|label| (label.id.clone(), label.mask.area())));
    }
    areas.sort();
    // One voxel was outlined by three of four, and ties are background.
    let expected = [1, 2, 3, 4, 5].map(|patient| (format!("LIDC-IDRI-{patient:04}"), 1));
    assert_eq!(areas, expected);
    let logs = world.call(&["logs", "cases"]);
    for told in ["xray_reading", "session_count", "same_reading"] {
        assert!(logs.data.contains(told), "{logs:#?}");
    }
    for secret in [UIDS, READER, NAME] {
        assert!(![&said.talk, &logs.data, &report.to_string()].iter().any(|t| t.contains(secret)));
        let tells = |path: &&std::path::PathBuf| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        };
        assert_eq!(files(&world.store()).iter().find(tells), None, "{secret}");
    }
}
