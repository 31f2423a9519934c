//! A miniature of RIGA with the names and defects of the release: lines become disc and cup of six raters, and what cannot
//! be used is named.

use std::{fs, path::Path};

use datasets::{
    Split,
    folder::FindingCode,
    shard::{read_images, read_labels},
    table::Table,
};
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder};

use super::world::{World, files, set};

/// Columns and rows of a photograph.
const SIZE: [u32; 2] = [120, 96];

/// Half the width of a line in pixels.
const HALF_LINE: f64 = 1.2;

/// An ellipse: its middle and half axes as `[column, row]`.
type Ellipse = ([f64; 2], [f64; 2]);

/// The disc and the cup that a rater sees; the first is the smallest, and they lie a little apart.
fn drawn_by(rater: u32) -> [Ellipse; 2] {
    let (off, more) = (f64::from(rater % 3), f64::from(rater) * 0.7);
    let middle = [58.0 + off, 47.0 - off];
    [(middle, [27.0 + more, 30.0 + more]), (middle, [11.0 + more, 13.0 + more])]
}

/// Distance from the middle in half axes: 1 on the line.
fn level((middle, axes): Ellipse, [column, row]: [f64; 2]) -> f64 {
    ((column - middle[0]) / axes[0]).hypot((row - middle[1]) / axes[1])
}

fn is_on((middle, axes): Ellipse, place: [f64; 2]) -> bool {
    ((level((middle, axes), place) - 1.0) * axes[0].min(axes[1])).abs() <= HALF_LINE
}

/// A reddish eye; no two numbers give the same.
fn eye(number: u32) -> RgbImage {
    RgbImage::from_fn(SIZE[0], SIZE[1], |column, row| {
        let shade = (column / 8 + row / 6) as u8;
        Rgb([180 + shade, 90 + shade, 40 + 2 * number as u8])
    })
}

/// A copy of the photograph with lines along ellipses, which are left out where `gap` says so.
fn marked(number: u32, ellipses: &[Ellipse], gap: impl Fn([f64; 2]) -> bool) -> RgbImage {
    let mut picture = eye(number);
    for (column, row, pixel) in picture.enumerate_pixels_mut() {
        let place = [f64::from(column), f64::from(row)];
        if !gap(place) && ellipses.iter().any(|&ellipse| is_on(ellipse, place)) {
            *pixel = Rgb([20, 50, 250]);
        }
    }
    picture
}

/// Uncompressed TIFF in one strip.
fn tiff(picture: &RgbImage) -> Vec<u8> {
    const LONG: u16 = 4;
    const SHORT: u16 = 3;
    let [width, height] = [picture.width(), picture.height()];
    let n_bytes = picture.as_raw().len() as u32;
    let entries: [(u16, u16, u32, u32); 9] = [
        (256, SHORT, 1, width),
        (257, SHORT, 1, height),
        (258, SHORT, 3, 8),
        (259, SHORT, 1, 1),
        (262, SHORT, 1, 2),
        (273, LONG, 1, 14),
        (277, SHORT, 1, 3),
        (278, SHORT, 1, height),
        (279, LONG, 1, n_bytes),
    ];
    // Header, bits of the three samples, pixels, directory.
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((14 + n_bytes).to_le_bytes());
    bytes.extend([8, 0, 8, 0, 8, 0]);
    bytes.extend(picture.as_raw());
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 92).encode_image(picture).unwrap();
    bytes
}

fn save(path: &Path, picture: &RgbImage) {
    let is_jpeg = path.extension().is_some_and(|ending| ending == "jpg");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, if is_jpeg { jpeg(picture) } else { tiff(picture) }).unwrap();
}

/// A photograph and the six copies of it.
fn photograph(world: &World, folder: &str, number: u32, ending: &str) {
    let path = |name: &str| world.path(&format!("riga/{folder}/image{number}{name}.{ending}"));
    save(&path("prime"), &eye(number));
    for rater in 1..=6 {
        save(&path(&format!("-{rater}")), &marked(number, &drawn_by(rater), |_| false));
    }
}

/// The release in small below `riga/`: its folders, capitals and defects, and one case whose cup somebody left open.
pub(crate) fn release(world: &World) {
    const FEMALE: &str = "Magrabia/MagrabiFemale";
    for number in [1, 2, 5, 9, 11] {
        photograph(world, "MESSIDOR", number, "tif");
    }
    photograph(world, "BinRushed/BinRushed1", 44, "jpg");
    photograph(world, "BinRushed/BinRushed1-Corrected", 44, "jpg");
    photograph(world, "BinRushed/BinRushed2", 20, "jpg");
    photograph(world, "BinRushed/BinRushed3", 47, "jpg");
    photograph(world, FEMALE, 26, "tif");
    photograph(world, FEMALE, 48, "tif");
    photograph(world, "Magrabia/MagrabiaMale", 3, "tif");
    let path = |name: &str| world.path(&format!("riga/{name}"));
    let male = |name: &str| path(&format!("Magrabia/MagrabiaMale/{name}.tif"));
    fs::rename(male("image3-1"), male("Image3-1")).unwrap();
    let female = |name: &str| path(&format!("{FEMALE}/{name}.tif"));
    fs::rename(female("image48prime"), female("Image48-1")).unwrap();
    // The cup reaches the line of the disc.
    let [disc, _] = drawn_by(4);
    let touching = [disc, ([disc.0[0] - 14.0, disc.0[1]], [disc.1[0] - 14.0, 14.0])];
    for (folder, number, rater) in [("BinRushed1-Corrected", 44, 4), ("BinRushed2", 20, 3)] {
        let name = format!("BinRushed/{folder}/image{number}-{rater}.jpg");
        save(&path(&name), &marked(number, &touching, |_| false));
    }
    // Lines that are fainter than any loss of a JPEG.
    let mut faint = eye(26);
    for (clean, line) in faint.pixels_mut().zip(marked(26, &drawn_by(3), |_| false).pixels()) {
        clean[0] += u8::from(line[2] == 250);
    }
    save(&female("image26-3"), &faint);
    let is_open = |[column, row]: [f64; 2]| column < 54.0 && (30.0..62.0).contains(&row);
    save(&path("MESSIDOR/image9-2.tif"), &marked(9, &drawn_by(2), is_open));
    // A pen that was lifted.
    let is_lifted = |[_, row]: [f64; 2]| (44.0..49.0).contains(&row);
    save(&path("MESSIDOR/image5-6.tif"), &marked(5, &drawn_by(6), is_lifted));
}

const RIGA: &str = "\
[cases]
use = 'datasets/riga.toml'
root = 'riga'
size = 48
val = 1
rng_seed = 2
";

const RUN: &[&str] = &["run", "small.toml", "--json", "--quiet"];

fn release_of(experiment: &str) -> World {
    let world = World::small(experiment);
    release(&world);
    world
}

/// How much of the pixels of a mask, at the size of the experiment, lies in an ellipse of the photograph.
fn dice(mask: &datasets::Mask, ellipse: Ellipse) -> f64 {
    let [_, n_rows, n_columns] = mask.shape();
    let expected = datasets::Mask::from_fn(mask.shape(), |[_, row, column]| {
        let centre = |index: usize, n: usize, size: u32| {
            (index as f64 + 0.5) * f64::from(size) / n as f64 - 0.5
        };
        level(ellipse, [centre(column, n_columns, SIZE[0]), centre(row, n_rows, SIZE[1])]) <= 1.0
    });
    let pairs = mask.values().iter().zip(expected.values());
    let shared = pairs.filter(|&(&found, &expected)| found && expected).count();
    2.0 * shared as f64 / (mask.area() + expected.area()) as f64
}

#[test]
fn lines_become_the_structures_of_six_raters() {
    let world = release_of(RIGA);
    world.json(0, RUN);
    let (mut splits, mut n_labels, mut n_votes) = (Vec::new(), 0, 0);
    for path in files(&world.store()) {
        for image in read_images(&path).unwrap_or_default() {
            assert_eq!(image.image.shape(), [1, 48, 48]);
            splits.push((image.id, image.split));
        }
        for label in read_labels(&path).unwrap_or_default() {
            let Some(rater) = label.source.strip_prefix("rater") else {
                assert_eq!((label.source.as_str(), label.kind.name()), ("vote", "fused"));
                n_votes += 1;
                continue;
            };
            let [disc, cup] = drawn_by(rater.parse().unwrap());
            let found = dice(&label.mask, if label.structure == "disc" { disc } else { cup });
            let least = if label.structure == "disc" { 0.97 } else { 0.93 };
            assert!(found > least, "{} {} {}: {found}", label.id, label.source, label.structure);
            n_labels += 1;
        }
    }
    splits.sort();
    splits.dedup();
    let of = |split: Split| splits.iter().filter(|(_, own)| *own == split).count();
    assert_eq!([of(Split::Train), of(Split::Val), of(Split::Test)], [4, 1, 2], "{splits:?}");
    assert_eq!((n_labels, n_votes), (7 * 6 * 2, 7 * 2));
    let tests = splits.iter().filter(|(_, split)| *split == Split::Test).map(|(id, _)| id.as_str());
    assert!(tests.eq(["MagrabiFemale_image26", "MagrabiaMale_image3"]));
}

#[test]
fn what_cannot_be_used_is_named_with_its_rater() {
    let world = release_of(RIGA);
    world.json(0, RUN);
    let named = |name: &str| {
        let found = files(&world.store()).into_iter().filter_map(|p| Table::read_parquet(&p).ok());
        found.into_iter().find(|table| table.texts(name).is_some()).unwrap()
    };
    let report = named("code");
    let texts = |name: &str| report.texts(name).unwrap();
    let rows = texts("code").into_iter().zip(texts("case")).zip(texts("source"));
    let mut rows: Vec<[&str; 3]> = rows
        .map(|((code, case), source)| [code, case, source].map(Option::unwrap_or_default))
        .collect();
    rows.sort_unstable();
    let known = FindingCode::KnownDefect.name();
    let expected = [
        [known, "BinRushed1-Corrected_image44", "rater4"],
        [known, "BinRushed2_image20", "rater3"],
        [known, "MagrabiFemale_image48", ""],
        ["superseded", "BinRushed1", ""],
        ["unclear_lines", "MESSIDOR_image9", "rater2"],
    ];
    assert_eq!(rows, expected);
    let said = world.call(&["logs", "cases"]);
    assert!(said.data.contains("the lines of disc and cup touch"), "{said:#?}");
    // Without leave the case that is not a known one stops the run.
    let said = world.call(&set(RUN, &["cases.allow=[]"]));
    assert_eq!(said.code, Some(1));
    assert!(said.has(&["unclear_lines", "MESSIDOR_image9", "rater2"]), "{said:#?}");
}

#[test]
fn the_experiment_of_the_drawn_eyes_runs_on_the_release() {
    let world = release_of("");
    let tiny = "={levels=2, base_width=4}";
    let networks =
        ["train", "train_vote", "train_truth"].map(|cell| format!("{cell}.network{tiny}"));
    let mut overrides = vec![
        "cases.use=datasets/riga.toml",
        "cases.root=riga",
        "cases.size=16",
        "cases.val=1",
        "cases.rng_seed=2",
        "matrix.seed=[0]",
        "train.training.epochs=1",
        "train_vote.training.epochs=1",
        "train_truth.training.epochs=1",
    ];
    overrides.extend(networks.iter().map(String::as_str));
    let report =
        world.json(0, &set(&["run", "experiments/fundus.toml", "--json", "--quiet"], &overrides));
    let page = report["reports"][0].as_str().unwrap();
    assert!(fs::read_to_string(page).unwrap().contains("UMA-Net"), "{report:#}");
}
