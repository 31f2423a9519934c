//! A miniature of the official release made byte for byte, its defects, and the real repack where it is at hand.

#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::fs;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage};
use rayon::prelude::*;

use super::*;
use crate::published::published;

/// Mean share of the film that both lungs take in the 247 masks of SCR, and how far off a copy may be.
const LUNG_SHARE: f64 = 0.304;
const LUNG_SHARE_TOLERANCE: f64 = 0.01;

fn write_film(path: &Path, value: impl Fn(usize, usize) -> u16) {
    let rows = (0..FILM_SIDE).flat_map(|row| (0..FILM_SIDE).map(move |column| (row, column)));
    let bytes: Vec<u8> = rows.flat_map(|(row, column)| value(row, column).to_be_bytes()).collect();
    fs::write(path, bytes).unwrap();
}

/// A box `[top, left, height, width]` as the grey GIF of SCR.
fn write_gif(path: &Path, side: usize, [top, left, height, width]: [usize; 4]) {
    let picture = RgbaImage::from_fn(side as u32, side as u32, |column, row| {
        let [row, column] = [row as usize, column as usize];
        let inside = (top..top + height).contains(&row) && (left..left + width).contains(&column);
        let level = if inside { 255 } else { 0 };
        Rgba([level, level, level, 255])
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    DynamicImage::from(picture).save_with_format(path, ImageFormat::Gif).unwrap();
}

/// One film with both lungs and a clinical record, all of the official release.
fn miniature() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("All247images")).unwrap();
    write_film(&root.join("All247images/JPCLN001.IMG"), |row, column| {
        ((row / 64 + column / 64) * 60) as u16
    });
    write_gif(
        &root.join("scratch/fold1/masks/left lung/JPCLN001.gif"),
        MASK_SIDE,
        [256, 640, 512, 256],
    );
    write_gif(
        &root.join("scratch/fold1/masks/right lung/JPCLN001.gif"),
        MASK_SIDE,
        [256, 128, 512, 256],
    );
    let record =
        "JPCLN001.IMG\t5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper\tlobe\tlung cancer\t";
    fs::write(root.join("CLNDAT_EN.txt"), record).unwrap();
    folder
}

#[test]
fn the_official_release_is_read() {
    let folder = miniature();
    let listing = list(folder.path(), &[JsrtStructure::Lung]).unwrap();
    assert_eq!(
        (listing.layout, listing.entries.len(), listing.files().len()),
        (JsrtLayout::Official, 1, 4)
    );
    let entry = &listing.entries[0];
    assert_eq!(entry.clinical.as_ref().unwrap().age, Some(53));
    let case = read_case(entry, Split::Train, 32).unwrap();
    assert_eq!(case.image.spacing.millimetres(), [1.0, 11.2, 11.2]);
    let expected =
        Grid::from_fn([1, 32, 32], |[_, row, column]| ((row + column) * 60) as f32 / 4095.0);
    let worst = case.image.image.values().iter().zip(expected.values()).map(|(a, b)| (a - b).abs());
    assert!(worst.fold(0.0, f32::max) < 1e-6);
    let lungs = Grid::from_fn([1, 32, 32], |[_, row, column]| {
        (8..24).contains(&row) && ((4..12).contains(&column) || (20..28).contains(&column))
    });
    assert_eq!(case.masks[&JsrtStructure::Lung], lungs);
    assert_eq!(case.labels()[0].structure, "lung");
    let error = read_case(entry, Split::Train, 8).unwrap_err();
    assert!(matches!(error, DatasetsError::Setting { setting: "size", .. }));
}

#[test]
fn films_and_masks_that_do_not_pair_are_all_named() {
    let folder = miniature();
    let masks = folder.path().join("scratch/fold2/masks");
    write_gif(&masks.join("left lung/JPCNN002.gif"), 8, [0, 0, 1, 1]);
    fs::remove_file(folder.path().join("scratch/fold1/masks/right lung/JPCLN001.gif")).unwrap();
    let error = list(folder.path(), &[JsrtStructure::Lung, JsrtStructure::Heart]).unwrap_err();
    let DatasetsError::Unpaired { missing, extra, .. } = error else { unreachable!("{error}") };
    assert_eq!(
        missing,
        [
            "scratch/fold1|fold2/masks/right lung/JPCLN001.gif",
            "scratch/fold1|fold2/masks/heart/JPCLN001.gif"
        ]
    );
    assert_eq!(extra, ["scratch/fold2/masks/left lung/JPCNN002.gif"]);
}

#[test]
fn damaged_films_and_masks_are_refused() {
    let folder = miniature();
    let root = folder.path();
    let read = || {
        let listing = list(root, &[JsrtStructure::Lung]).unwrap();
        read_case(&listing.entries[0], Split::Train, 64).unwrap_err()
    };
    let mask = root.join("scratch/fold1/masks/left lung/JPCLN001.gif");
    write_gif(&mask, MASK_SIDE, [0, 0, 0, 0]);
    assert!(matches!(read(), DatasetsError::EmptyMask { case, .. } if case == "JPCLN001"));
    write_gif(&mask, 512, [0, 0, 9, 9]);
    assert!(matches!(
        read(),
        DatasetsError::PictureSize { expected: [1024, 1024], found: [512, 512], .. }
    ));
    let film = root.join("All247images/JPCLN001.IMG");
    let whole = fs::read(&film).unwrap();
    let swapped: Vec<u8> = whole.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect();
    fs::write(&film, swapped).unwrap();
    assert!(matches!(read(), DatasetsError::ByteOrder { place: [0, 64], value: 15360, .. }));
    fs::write(&film, &whole[1..]).unwrap();
    assert!(matches!(read(), DatasetsError::RawSize { expected: 8_388_608, found: 8_388_607, .. }));
}

#[test]
fn clinical_tables_that_cannot_be_understood_are_refused() {
    let folder = miniature();
    let table = folder.path().join("CLNDAT_EN.txt");
    fs::write(&table, "JPCLN001.IMG\t9").unwrap();
    let error = list(folder.path(), &[JsrtStructure::Lung]).unwrap_err();
    assert!(matches!(&error, DatasetsError::ClinicalRecord { record: 1, .. }), "{error}");
    fs::write(&table, vec![b'\r'; 2 << 20]).unwrap();
    let error = list(folder.path(), &[JsrtStructure::Lung]).unwrap_err();
    assert!(matches!(&error, DatasetsError::TooLarge { what: "bytes", .. }), "{error}");
}

#[test]
fn folders_of_another_kind_are_refused_with_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = list(folder.path(), &[JsrtStructure::Lung]).unwrap_err();
    assert!(
        matches!(&error, DatasetsError::UnknownLayout { looked_for, .. } if looked_for.len() == 4),
        "{error}"
    );
    fs::write(folder.path().join("JPCLN001.IMG"), "").unwrap();
    let error = list(folder.path(), &[JsrtStructure::Lung]).unwrap_err();
    assert!(error.to_string().contains("`scratch/fold1/masks`"), "{error}");
}

#[test]
fn the_repack_is_read_and_its_defects_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |path: &str, side: u32, level: fn(u32, u32) -> u8| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_fn(side, side, |column, row| Luma([level(row, column)]))
            .save(path)
            .unwrap();
    };
    write("images_train/JPCLN001.png", 32, |row, _| row as u8);
    write("lung_gts_train/JPCLN001.png", 32, |row, _| if row < 16 { 255 } else { 0 });
    write("images_test/JPCNN001.png", 32, |_, column| column as u8);
    write("lung_gts_test/JPCNN001.png", 32, |_, column| if column < 8 { 255 } else { 0 });
    let listing = list(root, &[JsrtStructure::Lung]).unwrap();
    let splits: Vec<Option<Split>> =
        listing.entries.iter().map(|entry| entry.published_split).collect();
    assert_eq!(splits, [Some(Split::Train), Some(Split::Test)]);
    let case = read_case(&listing.entries[1], Split::Test, 16).unwrap();
    assert_eq!(case.masks[&JsrtStructure::Lung].area(), 64);
    assert!((case.image.image.get([0, 3, 1]) - 2.5 / 255.0).abs() < 1e-6);
    write("lung_gts_test/JPCNN001.png", 32, |_, column| column as u8);
    let error = read_case(&listing.entries[1], Split::Test, 16).unwrap_err();
    assert!(
        matches!(&error, DatasetsError::MaskValues { found, .. } if found.len() == 31),
        "{error}"
    );
    write("images_val/JPCLN001.png", 32, |_, _| 0);
    write("lung_gts_val/JPCLN001.png", 32, |_, _| 255);
    let error = list(root, &[JsrtStructure::Lung]).unwrap_err();
    assert!(matches!(error, DatasetsError::DuplicateCase { case } if case == "JPCLN001"));
}

#[test]
fn the_real_repack_has_247_films_with_the_known_lungs() {
    let Some(root) = published("jsrt_scr_256") else { return };
    let listing = list(&root, &JsrtStructure::ALL).unwrap();
    let count =
        |split| listing.entries.iter().filter(|entry| entry.published_split == Some(split)).count();
    assert_eq!(Split::ALL.map(count), [148, 24, 75]);
    assert_eq!(listing.files().len(), 247 * 4 + 2);
    assert!(listing.entries.iter().all(|entry| entry.clinical.is_some()));
    let shares: Vec<f64> = listing
        .entries
        .par_iter()
        .map(|entry| {
            let case = read_case(entry, Split::Train, 256).unwrap();
            assert_eq!(case.image.image.shape(), [1, 256, 256]);
            case.masks[&JsrtStructure::Lung].area() as f64 / 65536.0
        })
        .collect();
    let mean = shares.iter().sum::<f64>() / 247.0;
    assert!((mean - LUNG_SHARE).abs() < LUNG_SHARE_TOLERANCE, "{mean}");
}
