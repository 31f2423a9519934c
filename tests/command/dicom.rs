//! Folders of DICOM series: read into shards, refused by name, and nothing of the patient in what is written or said; a
//! miniature of Duke-Breast-Cancer-MRI.

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

const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

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
fn has_name(world: &World) -> Vec<PathBuf> {
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

const DUKE: &str = "\
[cases]
use = 'datasets/duke.toml'
root = 'manifest-1'
split = { train = 3, val = 1 }

[second]
use = 'ingest.channel'
in = { channels = 'cases.channels' }
channel = 'phase_2'
";

/// Series of a patient as scanners of the release name them; the last characters of `/` are lost or not.
const NAMES: [[&str; 3]; 3] = [
    ["ax dyn pre", "ax dyn 1st pass", "ax dyn 2nd pass"],
    ["Ax Vibrant MultiPhase", "Ph1Ax Vibrant MultiPhase", "Ph2Ax Vibrant MultiPhase"],
    ["ax 3d dyn", "1st ax dyn", "2nd ax dyn"],
];

/// One series of two slices; in some scanners numbers of files go downwards, in others images are turned in the plane.
fn duke_series(world: &World, patient: u16, number: u16, description: &str) {
    let study =
        format!("Duke-Breast-Cancer-MRI/Breast_MRI_{patient:03}/01-01-1990-NA-MRI BREAST-68415");
    let folder =
        world.path(&format!("manifest-1/{study}/{number}.000000-{description}-0{number}507"));
    fs::create_dir_all(&folder).unwrap();
    for slice in 0..2 {
        let pixels: Vec<u16> =
            (0..6).map(|n| 100 * number + 10 * patient + 6 * slice + n).collect();
        let height = if patient.is_multiple_of(2) { 1 - slice } else { slice };
        let mut file = DrawnFile::slice([2, 3], [30.0, 40.0, 1.4 * f64::from(height)], &pixels);
        if patient.is_multiple_of(3) {
            file.text(0x0020, 0x0037, "DS", "-1\\0\\0\\0\\-1\\0");
        }
        fs::write(folder.join(format!("1-{:03}.dcm", slice + 1)), file.bytes()).unwrap();
    }
}

/// Seven patients with phases, T1 and a segmentation. One lacks the second phase, one has two series before contrast.
fn duke() -> World {
    let world = World::small(DUKE);
    world.write("manifest-1/metadata.csv", "Series UID,Collection\n1.2,Duke-Breast-Cancer-MRI\n");
    for patient in 1..=7 {
        duke_series(&world, patient, 3, "ax t1");
        duke_series(&world, patient, 30, "Segmentation");
        let names = NAMES[usize::from(patient) % 3];
        for (number, name) in (4..).zip(names) {
            if (patient, number) != (6, 6) {
                duke_series(&world, patient, number, name);
            }
        }
    }
    duke_series(&world, 7, 2, "ax 3d pre");
    world
}

#[test]
fn phases_of_duke_are_found_by_their_series() {
    let world = duke();
    world.json(0, RUN);
    let mut firsts = Vec::new();
    for path in files(&world.store()) {
        for image in read_images(&path).unwrap_or_default() {
            firsts.push((image.id, image.image.get([0, 0, 0])));
        }
    }
    for patient in 1..=5_u16 {
        // The lowest slice is the second file where numbers go downwards.
        let first = |number: u16| {
            f32::from(100 * number + 10 * patient + if patient.is_multiple_of(2) { 6 } else { 0 })
        };
        let case = format!("Breast_MRI_{patient:03}");
        for (row, number) in [("", 4), ("/phase_0", 4), ("/phase_1", 5), ("/phase_2", 6), ("", 6)] {
            let expected = (format!("{case}{row}"), first(number));
            assert!(firsts.contains(&expected), "{expected:?} of {firsts:?}");
        }
    }
    assert!(!firsts.iter().any(|(id, _)| id.contains("006") || id.contains("007")));
    let told = world.call(&["logs", "cases"]);
    for words in [["missing_channel", "Breast_MRI_006"], ["duplicate_file", "Breast_MRI_007"]] {
        assert!(words.iter().all(|word| told.data.contains(word)), "{told:#?}");
    }
    assert_eq!(has_name(&world), Vec::<PathBuf>::new());
}
