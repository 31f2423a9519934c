//! Folders of DICOM series: read into shards, refused by name, and nothing of the patient in what is written or said.

use std::{fs, path::PathBuf};

use datasets::shard::read_images;

use super::world::{World, files};

#[path = "../../datasets/src/dicom/drawn.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
pub(crate) mod drawn;

use drawn::{DrawnFile, NAME};

const SERIES: &str = "\
[cases]
use = 'ingest.folder'
root = 'series'
layout = { patterns = { image = '{case}/{*}/{channel}' } }
structures = { tumour = 'foreground' }
split = { train = 3, val = 1 }

[post]
use = 'ingest.channel'
in = { channels = 'cases.channels' }
channel = 'post'
";

pub(crate) const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

fn slice_path(case: u16, phase: &str, slice: u16) -> String {
    format!("series/case_{case}/study/{phase}/1-{slice:03}.dcm")
}

/// Five cases of two phases of three slices; the numbers of files go against the direction of slices.
fn series() -> World {
    let world = World::small(SERIES);
    for case in 0..5 {
        for (phase, level) in [("post", 2000), ("pre", 1000)] {
            for slice in 0..3 {
                let pixels: Vec<u16> =
                    (0..12).map(|pixel| level + 100 * slice + 20 * case + pixel).collect();
                let file = DrawnFile::slice([3, 4], [0.0, 0.0, -2.0 * f64::from(slice)], &pixels);
                let path = world.path(&slice_path(case, phase, slice));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file.bytes()).unwrap();
            }
        }
    }
    world
}

/// Files of the project but the series themselves, which hold the name.
pub(crate) fn has_name(world: &World) -> Vec<PathBuf> {
    let tells = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(NAME.len()).any(|window| window == NAME.as_bytes())
    };
    let all = files(world.root()).into_iter();
    all.filter(|path| {
        !path.starts_with(world.path("series")) && !path.starts_with(world.path("manifest-1"))
    })
    .filter(tells)
    .collect()
}

#[test]
fn phases_become_channels_and_nobody_is_named() {
    let world = series();
    let report = world.json(0, RUN);
    assert!(!report.to_string().contains(NAME));
    let mut firsts = Vec::new();
    for path in files(&world.store()) {
        // Columns are compressed: they are read, not searched.
        let Ok(images) = read_images(&path) else { continue };
        assert!(!format!("{images:?}").contains(NAME));
        for image in images {
            assert_eq!(image.image.shape(), [3, 3, 4]);
            assert_eq!(image.spacing.millimetres(), [2.0, 0.75, 0.5]);
            firsts.push((image.id, image.image.get([0, 0, 0])));
        }
    }
    // The lowest slice has the highest number.
    for case in 0..5_u16 {
        for (row, first) in [("", 2200), ("/post", 2200), ("/pre", 1200)] {
            let expected = (format!("case_{case}{row}"), f32::from(first + 20 * case));
            assert!(firsts.contains(&expected), "{expected:?} of {firsts:?}");
        }
    }
    assert_eq!(has_name(&world), Vec::<PathBuf>::new());
}

#[test]
fn a_gap_stops_the_run_without_telling_whose_it_is() {
    let world = series();
    fs::remove_file(world.path(&slice_path(2, "pre", 1))).unwrap();
    let more = DrawnFile::slice([3, 4], [0.0, 0.0, -7.0], &[5; 12]);
    fs::write(world.path(&slice_path(2, "pre", 3)), more.bytes()).unwrap();
    let said = world.call(RUN);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.talk.contains("`slice_gap` case `case_2` file `case_2/study/pre`"), "{said:#?}");
    assert!(!said.talk.contains(NAME) && !said.data.contains(NAME));
    assert_eq!(has_name(&world), Vec::<PathBuf>::new());
}
