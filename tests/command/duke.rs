//! A miniature of Duke-Breast-Cancer-MRI: phases of contrast, and the tables beside them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use datasets::{
    shard::{read_images, read_labels},
    table::Table,
};

use super::{
    dicom::{RUN, drawn::DrawnFile, has_name},
    world::{REPOSITORY, World, cells, files},
};

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
        file.text(0x0020, 0x0013, "IS", &(slice + 1).to_string());
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

const WITH_TABLES: &str = "\
[cases]
use = 'datasets/duke.toml'
root = 'manifest-1'
clinical = ['Tumor Characteristics:ER', 'Mammography:Shape']
split = { train = 2, val = 1 }

[box]
use = 'ingest.rater'
in = { raters = 'cases.raters' }
rater = 'box'
";

const HEADER: &str = "Patient ID,Start Row,End Row,Start Column,End Column,Start Slice,End Slice";

/// The miniature with a box in the first file of every patient but the fifth, and the clinical table.
fn with_tables() -> World {
    let world = duke();
    world.write("small.toml", WITH_TABLES);
    let boxes = [1, 2, 3, 4, 6, 7].map(|n| format!("Breast_MRI_{n:03},1,1,2,3,1,1\n"));
    world.write("Annotation_Boxes.csv", &format!("{HEADER}\n{}", boxes.concat()));
    let clinical = Path::new(REPOSITORY).join("datasets/src/sheet/vectors/clinical.xlsx");
    let copy = world.path("manifest-1/Clinical_and_Other_Features.xlsx");
    fs::copy(clinical, copy).unwrap();
    world
}

/// The masks of a source in the store, voxel by voxel, by case.
fn drawings(world: &World, source: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for label in files(&world.store()).iter().flat_map(|path| read_labels(path).unwrap_or_default())
    {
        assert_eq!((label.source.as_str(), label.structure.as_str()), (source, "tumour"));
        let voxels = label.mask.values().iter();
        let drawing: String = voxels.map(|&is_in| if is_in { '#' } else { '.' }).collect();
        let drawings = found.entry(label.id).or_default();
        if !drawings.contains(&drawing) {
            drawings.push(drawing);
        }
    }
    found
}

#[test]
fn boxes_of_duke_are_a_rater() {
    let world = with_tables();
    world.json(0, RUN);
    // Numbers go downwards in the second and fourth patient.
    let drawn = drawings(&world, "box");
    assert_eq!(
        drawn.keys().map(|case| &case[11..]).collect::<Vec<_>>(),
        ["001", "002", "003", "004"]
    );
    for (case, drawings) in &drawn {
        let is_down = ["Breast_MRI_002", "Breast_MRI_004"].contains(&case.as_str());
        let expected = if is_down { ".......##..." } else { ".##........." };
        assert_eq!(*drawings, [expected], "{case}");
    }
    let told = world.call(&["logs", "cases"]);
    let has =
        |words: [&str; 2]| told.data.lines().any(|line| words.iter().all(|w| line.contains(w)));
    assert!(has(["unpaired_image", "Breast_MRI_005"]), "{told:#?}");
    assert!(has(["side_mismatch", "Breast_MRI_002"]), "{told:#?}");
    assert!(!told.data.contains("`side_mismatch` case `Breast_MRI_001`"), "{told:#?}");

    let clinical = files(&world.store())
        .iter()
        .filter_map(|path| Table::read_parquet(path).ok())
        .find(|table| table.column("Tumor Characteristics:ER").is_some())
        .unwrap();
    let column = |name: &str| clinical.texts(name).unwrap();
    let mut rows: Vec<_> = column("case_id")
        .into_iter()
        .zip(column("Tumor Characteristics:ER"))
        .zip(column("Mammography:Shape"))
        .map(|((case, er), shape)| (&case.unwrap()[11..], er, shape))
        .collect();
    rows.sort_unstable();
    let expected = [
        ("001", Some("0"), Some("NC")),
        ("002", Some("1"), Some("1")),
        ("003", None, None),
        ("004", None, None),
    ];
    assert_eq!(rows, expected);
    assert_eq!(has_name(&world), Vec::<std::path::PathBuf>::new());

    // The tables are known by their content, wherever they lie; another box is another label.
    fs::rename(world.path("Annotation_Boxes.csv"), world.path("elsewhere.csv")).unwrap();
    let moved = ["--set", "cases.tables.boxes=elsewhere.csv"];
    let report = world.json(0, &[RUN, &moved].concat());
    assert_eq!(cells(&report, "built"), Vec::<String>::new());
    let text = fs::read_to_string(world.path("elsewhere.csv")).unwrap();
    world.write("elsewhere.csv", &text.replace("_001,1,1,2,3", "_001,2,2,1,1"));
    let report = world.json(0, &[RUN, &moved].concat());
    assert_eq!(cells(&report, "built"), ["cases", "box"]);
    assert_eq!(drawings(&world, "box")["Breast_MRI_001"].len(), 2);
}

#[test]
fn tables_of_duke_are_refused_for_other_layouts_and_unknown_columns() {
    let world = with_tables();
    let said = world.call(&["run", "small.toml", "--set", "cases.layout=msd"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.talk.contains("only layout `duke` has tables"), "{said:#?}");
    let said = world.call(&["run", "small.toml", "--set", "cases.clinical=['Mammography:Margin']"]);
    assert!(said.talk.contains("has no column `Mammography:Margin`"), "{said:#?}");
    fs::remove_file(world.path("manifest-1/Clinical_and_Other_Features.xlsx")).unwrap();
    let said = world.call(RUN);
    assert!(said.talk.contains("`clinical` asks for columns"), "{said:#?}");
}
