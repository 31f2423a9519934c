//! Miniatures of JSRT on disk: the reduced layout in PNG, and the official one with raw films.

use std::{fs, io::Write, path::Path};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage};

use super::world::World;

/// Sides of the films of the reduced layout.
pub(crate) const SIDE: u32 = 32;

/// Five films in PNG with lungs, in the folders of the reduced layout below `films/`.
pub(crate) fn reduced(world: &World) {
    for (split, cases) in [
        ("train", &["JPCLN001", "JPCLN002", "JPCNN001"][..]),
        ("val", &["JPCNN002"]),
        ("test", &["JPCNN003"]),
    ] {
        for (n, case) in cases.iter().enumerate() {
            let film = |column: u32, row: u32| Luma([(row * 5 + column * 2 + n as u32) as u8]);
            save(&world.path(&film_path(split, case)), GrayImage::from_fn(SIDE, SIDE, film));
            save(&world.path(&mask_path(split, case)), lungs(SIDE));
        }
    }
}

/// Five pictures of two channels with a reference and two raters, in the layout of nnU-Net below `folder/`.
pub(crate) fn raters(world: &World) {
    let labels = r#"{"labels": {"background": 0, "whole": [1, 2], "core": 2}}"#;
    world.write("folder/dataset.json", labels);
    for n in 0..5_u32 {
        for channel in 0..2 {
            let level =
                |column: u32, row: u32| Luma([(row * 5 + column * (2 + channel) + n) as u8]);
            let name = format!("folder/imagesTr/case_{n}_000{channel}.png");
            save(&world.path(&name), GrayImage::from_fn(SIDE, SIDE, level));
        }
        for (source, grown) in [("labelsTr", 0), ("labelsTr_rater1", 1), ("labelsTr_rater2", 2)] {
            save(&world.path(&rater_path(source, n)), rings(SIDE, 6 + grown + n % 2));
        }
    }
}

/// Two cases of seven raters where `datasets/qubiq.toml` looks for them.
pub(crate) fn brain_growth(world: &World) {
    for case in ["case01", "case02"] {
        let path = |name: &str| world.path(&format!("data/qubiq_brain_growth/{case}/{name}.png"));
        save(&path("image"), GrayImage::from_fn(SIDE, SIDE, |column, _| Luma([column as u8])));
        (1..=7).for_each(|rater| save(&path(&format!("rater{rater}")), rings(SIDE, 6)));
    }
}

/// Path of a label of a source in the layout of nnU-Net in the project.
pub(crate) fn rater_path(source: &str, case: u32) -> String {
    format!("folder/{source}/case_{case}.png")
}

/// A label map of 2 within 1 within 0.
pub(crate) fn rings(side: u32, radius: u32) -> GrayImage {
    let label = |column: u32, row: u32| {
        let distance = column.abs_diff(side / 2).max(row.abs_diff(side / 2));
        Luma([u8::from(distance < radius) + u8::from(distance < radius / 2)])
    };
    GrayImage::from_fn(side, side, label)
}

/// Path of a film of the reduced layout in the project.
pub(crate) fn film_path(split: &str, case: &str) -> String {
    format!("films/images_{split}/{case}.png")
}

/// Path of a lung mask of the reduced layout in the project.
pub(crate) fn mask_path(split: &str, case: &str) -> String {
    format!("films/lung_gts_{split}/{case}.png")
}

/// Two boxes, the size of lungs.
pub(crate) fn lungs(side: u32) -> GrayImage {
    let inside = |column: u32, row: u32| {
        let [row, column] = [row * 16 / side, column * 16 / side];
        (4..12).contains(&row) && ((2..6).contains(&column) || (9..14).contains(&column))
    };
    GrayImage::from_fn(side, side, |column, row| Luma([if inside(column, row) { 255 } else { 0 }]))
}

/// Writes a picture in the format that its name says.
pub(crate) fn save(path: &Path, picture: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.into().save(path).unwrap();
}

/// A PNG with a palette of two colours, of which no encoder at hand makes one: stored blocks, one bit a pixel.
pub(crate) fn palette_png(side: u32, colours: [[u8; 3]; 2]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], body: &[u8]| {
        let named = [&kind[..], body].concat();
        png.extend((body.len() as u32).to_be_bytes());
        png.extend(&named);
        png.extend(crc32(&named).to_be_bytes());
    };
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[1, 3, 0, 0, 0]].concat();
    chunk(b"IHDR", &header);
    chunk(b"PLTE", &colours.concat());
    let row = [&[0][..], &vec![0x0f; side.div_ceil(8) as usize]].concat();
    let pixels = row.repeat(side as usize);
    let n = pixels.len() as u16;
    let mut zlib = vec![0x78, 0x01, 0x01];
    zlib.write_all(&[n.to_le_bytes(), (!n).to_le_bytes()].concat()).unwrap();
    zlib.extend(&pixels);
    zlib.extend(adler32(&pixels).to_be_bytes());
    chunk(b"IDAT", &zlib);
    chunk(b"IEND", &[]);
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1u32, 0u32), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    (high << 16) | low
}

/// Three films of the official release below `release/`; two files of 8 MB, the third film a second name of the second.
pub(crate) fn official(world: &World) {
    let films = world.path("release/All247images");
    fs::create_dir_all(&films).unwrap();
    for (n, case) in ["JPCLN001", "JPCLN002"].iter().enumerate() {
        let row =
            |row: u16| (0..2048).flat_map(move |column| ((row + column) % 4096).to_be_bytes());
        let bytes: Vec<u8> = (n as u16..2048 + n as u16).flat_map(row).collect();
        fs::write(films.join(format!("{case}.IMG")), bytes).unwrap();
    }
    fs::hard_link(films.join("JPCLN002.IMG"), films.join("JPCLN003.IMG")).unwrap();
    let mask = world.path("release/mask.gif");
    let grey = lungs(1024);
    let pixels = RgbaImage::from_fn(1024, 1024, |column, row| {
        let level = grey.get_pixel(column, row)[0];
        Rgba([level, level, level, 255])
    });
    DynamicImage::from(pixels).save_with_format(&mask, ImageFormat::Gif).unwrap();
    for lung in ["left lung", "right lung"] {
        let folder = world.path(&format!("release/scratch/fold1/masks/{lung}"));
        fs::create_dir_all(&folder).unwrap();
        for case in ["JPCLN001", "JPCLN002", "JPCLN003"] {
            fs::hard_link(&mask, folder.join(format!("{case}.gif"))).unwrap();
        }
    }
}
