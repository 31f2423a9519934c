//! Defects of a data set: each is refused with the file, what was expected and what was found; when it is mended,
//! everything that was finished before is fresh.

use std::fs;

use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage};
use serde_json::json;

use super::{
    miniature::{self, SIDE, film_path, lungs, mask_path, palette_png, save},
    world::{World, cells},
};

const FILMS: &str = "\
[cases]
use = 'ingest.jsrt'
root = 'films'
size = 32
split = { train = 3, val = 1 }
shard_cases = 2

[shift]
use = 'noise.shift'
in = { truth = 'cases.truth' }

[source1]
use = 'noise.apply'
in = { truth = 'cases.truth', simulator = 'shift' }
";

const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

/// The miniature, run once.
fn films() -> World {
    let world = World::small(FILMS);
    miniature::reduced(&world);
    assert_eq!(cells(&world.json(0, RUN), "built"), ["cases", "shift", "source1"]);
    world
}

/// Damages the file at `path`, checks how the run ends and what it says, mends the file, and checks that nothing is lost.
fn refused(world: &World, path: &str, damage: impl FnOnce(), code: i32, talk: &str) {
    let path = world.path(path);
    let before = fs::read(&path).ok();
    damage();
    world.refused(code, RUN, talk);
    match before {
        Some(bytes) => fs::write(&path, bytes).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    let _ = fs::remove_file(world.path(&mask_path("test", "JPCLN001")));
    assert_eq!(world.json(0, RUN)["built"], json!(0), "what was finished is fresh");
}

#[test]
fn a_folder_that_is_not_there_or_another() {
    let world = films();
    let hint = "hint: set the data set's folder with `--set CELL.root=FOLDER`\n";
    for root in ["nowhere", "configs"] {
        world.refused(
            2,
            &["run", "small.toml", "--set", &format!("cases.root={root}")],
            &format!(
                "\
error: cell `cases` (stage `ingest.jsrt`, small.toml:1) cannot run
caused by: DIR/{root} is not a JSRT release: looked for `*.IMG`, `All247images/*.IMG`, `images_train/*.png`, \
                 `Datasets/JSRT/images_train/*.png`
{hint}"
            ),
        );
    }
    fs::rename(world.path("films"), world.path("moved")).unwrap();
    let moved = ["run", "small.toml", "--json", "--set", "cases.root=moved"];
    assert_eq!(world.json(0, &moved)["built"], 0, "where the data lie is not part of the result");
}

#[test]
fn masks_that_do_not_pair_with_films() {
    let world = films();
    let mask = mask_path("train", "JPCLN002");
    let said = |text: &str| {
        format!(
            "\
error: cell `cases` (stage `ingest.jsrt`, small.toml:1) cannot run
caused by: images and masks under DIR/films do not pair: {text}
hint: set the data set's folder with `--set CELL.root=FOLDER`
"
        )
    };
    refused(
        &world,
        &mask,
        || fs::remove_file(world.path(&mask)).unwrap(),
        2,
        &said("1 masks missing (`lung_gts_train/JPCLN002.png`), 0 masks without an image (none)"),
    );
    let extra = mask_path("val", "JPCLN099");
    refused(
        &world,
        &extra,
        || save(&world.path(&extra), lungs(SIDE)),
        2,
        &said("0 masks missing (none), 1 masks without an image (`lung_gts_val/JPCLN099.png`)"),
    );
}

#[test]
fn a_film_that_is_in_two_splits() {
    let world = films();
    let twice = film_path("test", "JPCLN001");
    refused(
        &world,
        &twice,
        || {
            save(&world.path(&twice), lungs(SIDE));
            save(&world.path(&mask_path("test", "JPCLN001")), lungs(SIDE));
        },
        2,
        "\
error: cell `cases` (stage `ingest.jsrt`, small.toml:1) cannot run
caused by: case `JPCLN001` occurs more than once
hint: set the data set's folder with `--set CELL.root=FOLDER`
",
    );
}

/// What a run says when the stage refuses a file.
fn by_stage(text: &str) -> String {
    format!("error: cell `cases` failed (stage `ingest.jsrt`)\ncaused by: {text}")
}

#[test]
fn masks_that_are_none() {
    let world = films();
    let path = mask_path("val", "JPCNN002");
    let at = world.path(&path);
    let check = |damage: &dyn Fn(), talk: &str| {
        refused(&world, &path, damage, 1, &by_stage(&format!("{talk}\n")));
    };
    check(
        &|| save(&at, lungs(SIDE / 2)),
        "DIR/films/lung_gts_val/JPCNN002.png must have [rows, columns] = [32, 32]: found [16, 16]",
    );
    check(
        &|| save(&at, GrayImage::new(SIDE, SIDE)),
        "mask DIR/films/lung_gts_val/JPCNN002.png of case `JPCNN002` is empty",
    );
    let values = "\
DIR/films/lung_gts_val/JPCNN002.png must hold two values, 0 and 255 or 0 and 1: found also";
    let hint = "\
hint: masks blurred by resampling must be thresholded first, label maps split into one mask a structure";
    let level = |column: u32| [0, 255, 7, 255][column as usize % 4];
    check(
        &|| save(&at, GrayImage::from_fn(SIDE, SIDE, |column, _| Luma([level(column)]))),
        &format!("{values} 7 (256 pixels)\n{hint}"),
    );
    // 16 bits are no defect as such: white is 65535 then, and the values of 8 bits are none.
    let deep = |white: u16| {
        let grey = lungs(SIDE);
        let pixel = |column, row| Luma([u16::from(grey.get_pixel(column, row)[0] / 255) * white]);
        ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(SIDE, SIDE, pixel)
    };
    check(&|| save(&at, deep(255)), &format!("{values} 255 (288 pixels)\n{hint}"));
    save(&at, deep(u16::MAX));
    let report = world.json(0, RUN);
    assert_eq!(cells(&report, "built"), ["cases"], "the same mask in another file");
}

#[test]
fn films_that_are_none() {
    let world = films();
    let path = film_path("train", "JPCLN001");
    let at = world.path(&path);
    let check = |damage: &dyn Fn(), talk: &str| {
        refused(&world, &path, damage, 1, &by_stage(&format!("{talk}\n")));
    };
    let film = "DIR/films/images_train/JPCLN001.png";
    let grey = "hint: convert the picture to one grey channel; a palette must be grey";
    let coloured = RgbImage::from_fn(SIDE, SIDE, |column, row| {
        Rgb([if (column, row) == (3, 1) { 200 } else { 9 }, 9, 9])
    });
    check(
        &|| save(&at, coloured.clone()),
        &format!(
            "{film} must be grey: pixel [row, column] = [1, 3] is (red, green, blue) = [200, 9, 9], 1 pixels differ\n\
             {grey}"
        ),
    );
    check(
        &|| fs::write(&at, palette_png(SIDE, [[0, 0, 0], [255, 0, 0]])).unwrap(),
        &format!(
            "{film} must be grey: pixel [row, column] = [0, 4] is (red, green, blue) = [255, 0, 0], 512 pixels differ\n\
             {grey}"
        ),
    );
    check(
        &|| save(&at, GrayImage::from_pixel(SIDE, SIDE / 2, Luma([5]))),
        &format!("{film} must have [rows, columns] = [16, 16]: found [16, 32]"),
    );
    check(
        &|| save(&at, GrayImage::from_pixel(SIDE / 2, SIDE / 2, Luma([5]))),
        "`size` must lie in [16, 16]: got 32",
    );
    let whole = fs::read(&at).unwrap();
    check(
        &|| fs::write(&at, &whole[..whole.len() / 2]).unwrap(),
        &format!(
            "cannot decode {film} as a picture\ncaused by: the PNG stream is damaged\ncaused by: unexpected end of file\n\
             hint: the file may be truncated or damaged: fetch it again"
        ),
    );
    fs::write(&at, palette_png(SIDE, [[0, 0, 0], [99, 99, 99]])).unwrap();
    assert_eq!(world.json(0, RUN)["failed"], 0, "a grey palette is grey");
}

#[test]
fn raw_films_that_are_none() {
    let world = World::small(
        &FILMS
            .replace("'films'", "'release'")
            .replace("split = { train = 3, val = 1 }", "split = { train = 1, val = 1 }"),
    );
    miniature::official(&world);
    assert_eq!(world.json(0, RUN)["built"], 3);
    let film = "release/All247images/JPCLN001.IMG";
    let at = world.path(film);
    let whole = fs::read(&at).unwrap();
    refused(
        &world,
        film,
        || fs::write(&at, &whole[..5000]).unwrap(),
        1,
        &by_stage(&format!(
            "DIR/{film} must be 8388608 bytes (2048 x 2048 pixels of 2 bytes): found 5000\n\
             hint: the file may be truncated or still compressed: fetch it again\n"
        )),
    );
    let swapped: Vec<u8> = whole.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect();
    refused(
        &world,
        film,
        || fs::write(&at, &swapped).unwrap(),
        1,
        &by_stage(&format!(
            "DIR/{film} has value 4096 at [row, column] = [0, 16]: 12-bit films end at 4095\n\
             hint: JSRT films are big-endian; this file may have been byte-swapped\n"
        )),
    );
    let mask = "release/scratch/fold1/masks/left lung/JPCLN001.gif";
    fs::remove_file(world.path(mask)).unwrap();
    let said = world.call(RUN);
    assert_eq!(said.code, Some(2));
    assert!(said.has(&["1 masks missing (`scratch/fold1|fold2/masks/left lung/JPCLN001.gif`)"]));
}
