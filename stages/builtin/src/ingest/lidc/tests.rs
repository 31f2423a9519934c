#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{fs, sync::atomic::AtomicBool};

use datasets::{
    Image, mask,
    shard::{read_images, read_labels},
};
use engine::{Experiment, Limits, Registry, Roots, Store, run};

use super::*;

#[path = "../../../../../datasets/src/dicom/drawn.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod dicom;
#[path = "../../../../../datasets/src/lidc/drawn.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod drawn;

use dicom::{DrawnFile, NAME};
use drawn::{
    N_SLICES, READER, SLICE, UIDS, folder, height, nodule, object_uid, reading, release, ring, roi,
    series_uid, sessions,
};

fn level(patient: usize, slice: usize, pixel: usize) -> u16 {
    (1000 * patient + 100 * slice + pixel) as u16
}

fn slice(patient: usize, slice: usize) -> Vec<u8> {
    let n_pixels = usize::from(SLICE[0] * SLICE[1]);
    let pixels: Vec<u16> = (0..n_pixels).map(|pixel| level(patient, slice, pixel)).collect();
    let mut file = DrawnFile::slice(SLICE, [0.0, 0.0, height(slice)], &pixels);
    file.text(0x0008, 0x0018, "UI", &object_uid(patient, slice));
    file.text(0x0020, 0x000e, "UI", &series_uid(patient)).number(0x0028, 0x0101, 16);
    file.number(0x0028, 0x0102, 15).text(0x0028, 0x1052, "DS", "-1024").bytes()
}

fn write(root: &Path, files: Vec<(String, Vec<u8>)>) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The first patient alone, after `change` of the folder of the scan.
fn read(min_readers: usize, change: impl Fn(&Path)) -> (FolderCase, Vec<Mark>) {
    let root = tempfile::tempdir().unwrap();
    let own = |(name, _): &(String, Vec<u8>)| name.starts_with(&folder(1));
    write(root.path(), release(slice).into_iter().filter(own).collect());
    change(&root.path().join(folder(1)));
    let config = LidcConfig {
        root: root.path().to_owned(),
        structure: nodule_name(),
        min_readers,
        allow: Vec::new(),
        split: SplitSizes::default(),
        shard_cases: alone(),
    };
    let listing = list(&files_of(root.path()).unwrap());
    let [entry] = listing.entries.as_slice() else { panic!("{listing:?}") };
    Reader::new(&config, entry, Split::Train).read()
}

fn nodule_name() -> String {
    super::nodule()
}

/// The slice of a mask as it is drawn.
fn flat(mask: &Mask, slice: usize) -> Mask {
    let [_, n_rows, n_columns] = mask.shape();
    Mask::from_fn([1, n_rows, n_columns], |[_, row, column]| mask.get([slice, row, column]))
}

fn codes(case: &FolderCase) -> Vec<(&str, &str)> {
    case.findings.iter().map(|found| (found.code.name(), found.source.as_str())).collect()
}

#[test]
fn what_lies_within_the_outlines_is_the_nodule() {
    let (case, _) = read(1, |_| {});
    assert_eq!(codes(&case), [("outline_off_image", "slot2")]);
    let [slot1, slot2, slot3, slot4] = case.raters.as_slice() else { panic!("{:?}", case.raters) };
    let with_hole = mask![
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . # # # # # . .",
        ". . # . . # # . .",
        ". . # . . # # . .",
        ". . # # # # # . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
    ];
    let diamond = mask![
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . # . . . .",
        ". . . # # # . . .",
        ". . . . # . . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
    ];
    let nothing = Mask::filled(diamond.shape(), false);
    let slices = [0, 1, 2, 3].map(|slice| flat(&slot1.mask, slice));
    assert_eq!(slices, [nothing.clone(), with_hole, diamond, nothing.clone()]);
    let pair = mask![
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . # # . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
    ];
    assert_eq!((flat(&slot2.mask, 2), slot2.mask.area()), (pair, 2), "the lost outline is nowhere");
    assert!(slot3.mask.get([0, 1, 1]) && slot3.mask.get([2, 4, 6]));
    assert_eq!((slot3.mask.area(), slot4.mask.area()), (3, 0));
    let (_, image) = &case.channels[0];
    let expected = Image::from_fn([N_SLICES, 8, 9], |[slice, row, column]| {
        f32::from(level(1, slice, 9 * row + column)) - 1024.0
    });
    assert_eq!((&image.image, image.spacing.millimetres()), (&expected, [2.5, 0.75, 0.5]));
    assert_eq!((image.affine, slot1.source.as_str()), (slot1.affine, "slot1"));
    assert!(image.affine.is_some());
}

#[test]
fn nodules_of_several_slots_are_matched_by_their_voxels() {
    let (case, marks) = read(1, |_| {});
    let rows: Vec<_> = marks
        .iter()
        .map(|mark| (mark.slot, mark.nodule, mark.n_voxels, mark.group, mark.n_readers))
        .collect();
    let expected = [
        (0, 0, 21, Some(0), 3),
        (0, 1, 0, None, 0),
        (1, 0, 2, Some(0), 3),
        (2, 0, 2, Some(0), 3),
        (2, 1, 1, Some(1), 1),
    ];
    assert_eq!(rows, expected);
    assert_eq!(marks[0].characteristics[8], Some(5));
    assert_eq!(marks[1].characteristics, [None; 9]);
    let areas = |case: &FolderCase| -> Vec<usize> {
        case.raters.iter().map(|label| label.mask.area()).collect()
    };
    assert_eq!(areas(&case), [21, 2, 3, 0]);
    assert_eq!(areas(&read(3, |_| {}).0), [21, 2, 2, 0], "without what one reader saw");
    let (case, marks) = read(4, |_| {});
    assert_eq!((areas(&case), marks.len()), (vec![0; 4], 5));
    assert_eq!(codes(&case), [("outline_off_image", "slot2"), ("empty_mask", "")]);
}

#[test]
fn defects_have_codes_and_drop_what_they_make_unusable() {
    let xml = |folder: &Path, text: String| fs::write(folder.join("068.xml"), text).unwrap();
    let found = |change: &dyn Fn(&Path)| {
        let (case, marks) = read(1, change);
        assert_eq!(case.channels.is_empty(), case.raters.is_empty());
        assert!(!case.channels.is_empty() || marks.is_empty());
        let told = format!("{:?}", case.findings);
        assert!(!told.contains(UIDS) && !told.contains(READER) && !told.contains(NAME), "{told}");
        let codes: Vec<&str> = case.findings.iter().map(|found| found.code.name()).collect();
        (codes, case.channels.len())
    };
    let own = sessions(1);
    let twice = [own.clone(), own.clone()].concat();
    assert_eq!(found(&|path| xml(path, reading(1, &twice))), (vec!["session_count"], 0));
    assert_eq!(found(&|path| xml(path, reading(1, &own[..3]))), (vec!["session_count"], 0));
    assert_eq!(found(&|path| xml(path, reading(2, &own))), (vec!["other_series"], 0));
    assert_eq!(found(&|path| xml(path, "<LidcReadMessage>".to_owned())), (vec!["unreadable"], 0));
    let second = |text: String| move |path: &Path| fs::write(path.join("069.xml"), &text).unwrap();
    let same = reading(1, &own).replace("2007-11-01", "2008-11-01");
    let expected = (vec!["same_reading", "outline_off_image"], 1);
    assert_eq!(found(&second(same)), expected);
    let mut changed = own.clone();
    changed.swap(0, 1);
    let expected = (vec!["duplicate_file", "outline_off_image"], 0);
    assert_eq!(found(&second(reading(1, &changed))).0, expected.0);
    assert_eq!(found(&|path| fs::remove_file(path.join("1-002.dcm")).unwrap()).0, ["slice_gap"]);
    let blank = vec![String::new(); 4];
    assert_eq!(found(&|path| xml(path, reading(1, &blank))), (vec!["empty_mask"], 1));
}

#[test]
fn outlines_at_and_beyond_the_edge_of_a_slice() {
    let with = |edge: &[[usize; 2]]| {
        let roi = roi(height(0), &object_uid(1, 0), true, edge);
        let mut own = vec![String::new(); 4];
        own[3] = nodule("1", None, &[roi]);
        let text = reading(1, &own);
        let (case, _) = read(1, |path| fs::write(path.join("068.xml"), &text).unwrap());
        let codes = codes(&case).into_iter().map(|(code, _)| code.to_owned()).collect::<Vec<_>>();
        (codes, case.raters[3].mask.area())
    };
    // The last row and column are 7 and 8: the first pixels outside of what touches them are no pixels of the image.
    assert_eq!(with(&ring([5, 6], [8, 9])), (vec![], 4));
    assert_eq!(with(&ring([5, 6], [9, 9])), (vec!["outline_off_image".to_owned()], 4));
    let lost = ["outline_off_image", "empty_mask"].map(str::to_owned).to_vec();
    let far = [[20, 20], [60_000, 20], [60_000, 60_000], [20, 60_000]];
    assert_eq!(with(&far), (lost, 0));
    let line = ["empty_mask", "empty_mask"].map(str::to_owned).to_vec();
    assert_eq!(with(&[[2, 2], [2, 3]]), (line, 0));
    // Two regions in one slice, each with an outline of its own, would be two elements; one that crosses itself is even-odd.
    assert_eq!(with(&[[1, 1], [1, 5], [5, 1], [5, 5]]).1, 2);
}

const EXPERIMENT: &str = "\
[cases]
use = 'ingest.lidc'
root = 'lidc'
split = { train = 3, val = 1 }
";

fn go(root: &Path, text: &str) -> Result<Vec<String>, String> {
    fs::write(root.join("small.toml"), text).unwrap();
    let mut registry = Registry::new();
    registry.add::<Lidc>();
    let experiment = Experiment::load("small.toml", &[], &Roots::find(root), &registry).unwrap();
    let store = Store::open(&root.join(".pipeline")).unwrap();
    let mut said = Vec::new();
    let done = run(
        &experiment,
        &vec![true; experiment.cells.len()],
        &store,
        Limits { cpus: 2, memory: 4 << 30 },
        &AtomicBool::new(false),
        &mut |event| said.push(format!("{event:?}")),
    );
    done.map(|_| said).map_err(|error| {
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            text += &format!(": {cause}");
            next = cause.source();
        }
        text
    })
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    files_of(folder).unwrap().into_iter().map(|file| file.path).collect()
}

#[test]
fn the_release_becomes_shards_that_name_nobody() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("configs")).unwrap();
    write(&root.path().join("lidc"), release(slice));
    let error = go(root.path(), EXPERIMENT).unwrap_err();
    for told in ["errors found in the files: 6 (", "5 `outline_off_image`", "1 `session_count`"] {
        assert!(error.contains(told), "{error}");
    }
    let allowed = format!("{EXPERIMENT}allow = ['session_count', 'outline_off_image']\n");
    let said = go(root.path(), &allowed).unwrap().concat();
    let store = files_below(&root.path().join(".pipeline"));
    let (mut ids, mut sources, mut n_nodules) = (Vec::new(), BTreeMap::new(), 0);
    let mut told = Vec::new();
    for path in &store {
        for image in read_images(path).unwrap_or_default() {
            assert!(!format!("{image:?}").contains(UIDS));
            ids.push(image.id);
        }
        for label in read_labels(path).unwrap_or_default() {
            *sources.entry(label.source).or_insert(0) += label.mask.area();
        }
        let Ok(table) = Table::read_parquet(path) else { continue };
        assert!(!format!("{table:?}").contains(UIDS) && !format!("{table:?}").contains(READER));
        if let Some(codes) = table.texts("code") {
            told.extend(codes.into_iter().flatten().map(str::to_owned));
        }
        n_nodules += table.numbers("malignancy").map_or(0, |column| column.len());
    }
    ids.sort();
    assert_eq!(ids, [1, 2, 3, 4, 5].map(|patient| format!("LIDC-IDRI-{patient:04}")));
    let expected = [("slot1", 5 * 21), ("slot2", 5 * 2), ("slot3", 5 * 3), ("slot4", 0)];
    assert_eq!(sources, BTreeMap::from(expected.map(|(name, area)| (name.to_owned(), area))));
    assert_eq!(n_nodules, 5 * 5);
    told.sort();
    let mut expected = ["outline_off_image"; 5].to_vec();
    expected.extend(["same_reading", "session_count", "xray_reading"]);
    assert_eq!(told, expected);
    for secret in [UIDS, READER, NAME] {
        assert!(!said.contains(secret) && !error.contains(secret));
        let tells = |path: &&PathBuf| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        };
        assert_eq!(store.iter().find(tells), None, "{secret}");
    }
}
