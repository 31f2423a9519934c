//! Labels that go through the store and come back to the grid of the scanner: on real volumes, on drawn ones that lie
//! askew, and on pictures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use datasets::{
    Affine, Grid, Space, Spacing,
    affine::{VoxelMap, of_spacing, place},
    shard::{read_images, read_labels},
    volume::{
        NiftiVersion, NiftiVoxel, Volume, read_nifti, read_nifti_frames, read_volume, write_nifti,
    },
};
use image::GrayImage;

use super::{
    miniature::{SIDE, rings, save},
    published::published,
    world::World,
};

/// Reads volumes and writes their labels again: as they are, after resampling, after cutting and padding, and after both.
/// The label map is one file a case, or one file a structure.
const ROUND: &str = "\
[cases]
use = 'ingest.folder'
root = 'volumes'
layout = { patterns = { image = 'images/{case}', truth = 'labels/{case}' } }
structures = STRUCTURES
split = { train = 1, val = 1 }
allow = ['constant_image', 'channels_differ']

[same]
use = 'export.nifti'
in = { labels = 'cases.truth' }
structures = STRUCTURES

[finer]
use = 'prepare.resample'
in = { images = 'cases.images', labels = 'cases.truth' }
spacing_mm = FINER

[back]
use = 'export.nifti'
in = { labels = 'finer.labels', source = 'cases.images' }
structures = STRUCTURES

[padded]
use = 'prepare.pad'
in = { images = 'finer.images', labels = 'finer.labels' }
size = SIZE

[unpadded]
use = 'export.nifti'
in = { labels = 'padded.labels', source = 'cases.images' }
structures = STRUCTURES

[apart]
use = 'export.nifti'
in = { labels = 'finer.labels', source = 'cases.images' }
";

/// A round over volumes below `volumes/`: structures as they are read and written, another spacing, and a size that holds
/// all of every case.
fn round(structures: [&str; 2], finer: &str, size: &str) -> World {
    let text = ROUND.replace("FINER", finer).replace("SIZE", size);
    let [read, write] = structures;
    World::small(&text.replacen("STRUCTURES", read, 1).replace("STRUCTURES", write))
}

/// The files of the world's `cell`, under their names in a folder.
fn exported(world: &World, cell: &str) -> PathBuf {
    let folder = world.path(&format!("exported/{cell}"));
    let said = world.call(&["show", cell, "--files", folder.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    folder
}

/// The affine as a file of 4-byte numbers has it, and its space.
fn rounded(affine: Option<Affine>) -> Option<([[f32; 4]; 3], Space)> {
    let rounded = |row: [f64; 4]| row.map(|value| value as f32);
    affine.map(|Affine { rows, space }| (rows.map(rounded), space))
}

fn assert_same_grid(found: &Volume, source: &Volume, what: &str) {
    assert_eq!(found.image.shape(), source.image.shape(), "{what}");
    assert_eq!(rounded(found.affine), rounded(source.affine), "{what}");
    let steps = [found, source].map(|volume| volume.spacing.millimetres());
    assert!(steps[0].iter().zip(steps[1]).all(|(a, b)| (a - b).abs() < 1e-6 * b), "{what}");
}

/// Share of the foreground that two masks have in common.
fn dice(a: &Grid<u8>, b: &Grid<u8>, value: u8) -> f64 {
    let of = |grid: &Grid<u8>| grid.values().iter().filter(|own| **own == value).count();
    let pairs = a.values().iter().zip(b.values());
    let both = pairs.filter(|(a, b)| (**a, **b) == (value, value)).count();
    2.0 * both as f64 / (of(a) + of(b)) as f64
}

/// Runs the round and compares every exported case with the label that was read; structures as their labels' values.
fn check_round(world: &World, values: &[(u8, &str)], least_dice: f64) {
    assert_eq!(world.json(0, &["run", "small.toml", "--json", "--quiet"])["failed"], 0);
    let [same, back, unpadded, apart] =
        ["same", "back", "unpadded", "apart"].map(|cell| exported(world, cell));
    let mut n_cases = 0;
    for entry in fs::read_dir(world.path("volumes/labels")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let case = name.split('.').next().unwrap();
        let source = read_volume(&path).unwrap();
        let label = source.labels().unwrap();
        let read = |folder: &Path, end: &str| {
            let found = read_nifti(&folder.join(format!("{case}{end}.nii.gz"))).unwrap();
            assert_same_grid(&found, &source, &format!("{case}{end} in {}", folder.display()));
            found.labels().unwrap()
        };
        assert!(read(&same, "") == label, "{case}: voxels differ");
        let again = read(&back, "");
        assert!(read(&unpadded, "") == again, "{case}: padding has moved something");
        for (value, structure) in values {
            let found = dice(&again, &label, *value);
            assert!(found >= least_dice, "{case}, {structure}: {found}");
            let alone = read(&apart, &format!(".{structure}"));
            let expected = again.map(|found| u8::from(found == value));
            assert!(alone == expected, "{case}, {structure}: voxels differ");
        }
        n_cases += 1;
    }
    assert!(n_cases >= 3, "{n_cases} cases");
    let described = fs::read_to_string(back.join("labels.json")).unwrap();
    assert!(described.contains("\"background\": 0"), "{described}");
}

fn copied(world: &World, from: &Path, to: &str) {
    let to = world.path(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, fs::read(from).unwrap()).unwrap();
}

#[test]
fn hippocampi_come_back_from_the_store_and_from_another_spacing() {
    let Some(folder) = published("msd_hippocampus") else { return };
    let structures = "{ anterior = [1], posterior = [2] }";
    let world = round([structures; 2], "[0.7, 0.8, 0.9]", "[68, 75, 50]");
    for case in ["001", "003", "008", "033", "232", "390"] {
        for kind in ["images", "labels"] {
            let name = format!("{kind}/hippocampus_{case}.nii.gz");
            copied(&world, &folder.join(&name), &format!("volumes/{name}"));
        }
    }
    check_round(&world, &[(1, "anterior"), (2, "posterior")], 0.9);
}

#[test]
fn tumours_in_nrrd_come_back_in_nifti() {
    let Some(folder) = published("pyradiomics_volumes") else { return };
    // A rule for reading, a number for writing; slices are 5 to 7 mm thick.
    let structures = ["{ tumour = 'foreground' }", "{ tumour = [1] }"];
    let world = round(structures, "[2.0, 0.9, 0.9]", "[90, 230, 230]");
    for case in ["brain1", "brain2", "breast1"] {
        for (kind, end) in [("images", "image"), ("labels", "label")] {
            let from = folder.join(format!("{case}_{end}.nrrd"));
            copied(&world, &from, &format!("volumes/{kind}/{case}.nrrd"));
        }
    }
    check_round(&world, &[(1, "tumour")], 0.9);
}

/// Writes an image and a ball within it as a label.
fn drawn(world: &World, case: &str, shape: [usize; 3], spacing: Spacing, affine: Option<Affine>) {
    let image = Grid::from_fn(shape, |[slice, row, column]| {
        (slice * 7 + row * 3 + column * 5 + case.len()) as f32
    });
    let around = affine.unwrap_or_else(|| of_spacing(spacing));
    let middle = place(&around, shape.map(|n| n as f64 / 2.0));
    let ball = Grid::from_fn(shape, |voxel| {
        let at = place(&around, voxel.map(|index| index as f64));
        let away: f64 = at.iter().zip(middle).map(|(a, b)| (a - b).powi(2)).sum();
        f32::from(away.sqrt() < 12.0)
    });
    for (kind, image) in [("images", image), ("labels", ball)] {
        let path = world.path(&format!("volumes/{kind}/{case}.nii.gz"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let volume = Volume { image, spacing, affine };
        write_nifti(&path, &volume, NiftiVoxel::F32, NiftiVersion::One).unwrap();
    }
}

#[test]
fn grids_that_lie_askew_come_back() {
    let world = round(["{ ball = [1] }"; 2], "[1.5, 1.0, 1.0]", "[32, 44, 44]");
    let spacing = |steps| Spacing::new(steps).unwrap();
    // Slices 3 mm, rows 1.2 mm, columns 0.8 mm apart; turned about two axes; then mirrored.
    let (s, c) = (0.4_f64.sin(), 0.4_f64.cos());
    let oblique = [
        [0.8 * c, -1.2 * s * c, 3.0 * s * s, 41.5],
        [0.8 * s, 1.2 * c * c, -3.0 * s * c, -17.25],
        [0.0, 1.2 * s, 3.0 * c, 1003.0],
    ];
    let mirrored = oblique.map(|[column, row, slice, offset]| [column, row, -slice, offset]);
    let place = |rows, space| Some(Affine { rows, space });
    let steps = [3.0, 1.2, 0.8];
    drawn(&world, "oblique", [14, 34, 50], spacing(steps), place(oblique, Space::Scanner));
    drawn(&world, "mirrored", [14, 34, 50], spacing(steps), place(mirrored, Space::Mni));
    drawn(&world, "nowhere", [15, 33, 49], spacing([3.0, 1.2, 0.8]), None);
    check_round(&world, &[(1, "ball")], 0.93);
    let said = world.call(&["run", "small.toml", "--set", "back.structures={ ball = [1, 2] }"]);
    assert!(said.talk.contains("values 1 and 2 stand for the same structures"), "{said:?}");
}

#[test]
fn images_of_the_conformance_files_keep_their_places() {
    let Some(folder) = published("nifti_conformance") else { return };
    // No more than 0.8 mm away from a voxel's centre the nearest is that voxel: the grids have at least 2 mm.
    let world = round(["{ bright = [1] }"; 2], "[1.6, 1.6, 1.6]", "[60, 120, 164]");
    for (case, name) in [
        ("anatomical", "anatomical.nii"),
        ("moved", "reoriented_anat_moved.nii"),
        ("oblique", "example4d.nii.gz"),
    ] {
        let source = folder.join(name);
        copied(
            &world,
            &source,
            &format!("volumes/images/{case}.{}", name.split_once('.').unwrap().1),
        );
        let volume = read_nifti_frames(&source).unwrap().swap_remove(0);
        let n_voxels = volume.image.values().len() as f32;
        let mean = volume.image.values().iter().sum::<f32>() / n_voxels;
        let image = volume.image.map(|&value| f32::from(value > mean));
        let label = Volume { image, ..volume };
        let path = world.path(&format!("volumes/labels/{case}.nii.gz"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_nifti(&path, &label, NiftiVoxel::U8, NiftiVersion::One).unwrap();
    }
    check_round(&world, &[(1, "bright")], 1.0);
}

/// Whatever the grid, a voxel of the resampled image lies where its affine says: a ramp along the world's axis z stays one.
#[test]
fn resampled_images_say_where_they_are() {
    let world = round(["{ ball = [1] }"; 2], "[1.25, 2.0, 0.6]", "[32, 24, 80]");
    let affine = [[0.0, -1.2, 0.0, 5.0], [0.8, 0.0, 0.6, 9.0], [0.3, 0.0, 2.5, -40.0]].into();
    for case in ["a", "b", "c"] {
        let spacing = Spacing::new([6.61_f64.sqrt(), 1.2, 0.73_f64.sqrt()]).unwrap();
        drawn(&world, case, [14, 34, 50], spacing, Some(affine));
        let image = Grid::from_fn([14, 34, 50], |voxel| {
            (place(&affine, voxel.map(|index| index as f64))[2] + case.len() as f64) as f32
        });
        let ramp = Volume { image: image.map(|value| value - 1.0), spacing, affine: Some(affine) };
        let path = world.path(&format!("volumes/images/{case}.nii.gz"));
        write_nifti(&path, &ramp, NiftiVoxel::F32, NiftiVersion::One).unwrap();
    }
    let allow = ["--set", "cases.allow=['same_image_across_splits']"];
    world.json(0, &[&["run", "small.toml", "--json", "--quiet"], &allow[..]].concat());
    for cell in ["finer", "padded"] {
        let folder = exported(&world, cell);
        for entry in fs::read_dir(folder.join("images")).unwrap() {
            for case in read_images(&entry.unwrap().path()).unwrap() {
                let own = case.affine.unwrap();
                let map = VoxelMap::between(&own, &affine).unwrap();
                let shape = case.image.shape();
                let places = (0..shape.iter().product::<usize>()).map(|index| {
                    [index / (shape[1] * shape[2]), index / shape[2] % shape[1], index % shape[2]]
                });
                let mut n_checked = 0;
                for voxel in places {
                    let at = map.at(voxel);
                    if (0..3).any(|axis| !(0.0..=[13.0, 33.0, 49.0][axis]).contains(&at[axis])) {
                        continue;
                    }
                    let expected = place(&own, voxel.map(|index| index as f64))[2];
                    let found = f64::from(case.image.get(voxel));
                    assert!(
                        (found - expected).abs() < 1e-4,
                        "{cell} {voxel:?}: {found} {expected}"
                    );
                    n_checked += 1;
                }
                assert!(n_checked > 10_000, "{n_checked}");
            }
        }
    }
}

#[test]
fn pictures_come_back_without_a_place() {
    let world = round(["{ whole = [1, 2], core = [2] }"; 2], "[1.0, 0.5, 0.5]", "[1, 49, 80]");
    for n in 0..3_u32 {
        let level = |column: u32, row: u32| image::Luma([(row * 5 + column * 2 + n) as u8]);
        save(
            &world.path(&format!("volumes/images/{n}.png")),
            GrayImage::from_fn(SIDE, SIDE, level),
        );
        save(&world.path(&format!("volumes/labels/{n}.png")), rings(SIDE, 6 + n));
    }
    assert_eq!(world.json(0, &["run", "small.toml", "--json", "--quiet"])["failed"], 0);
    let [same, back, unpadded] = ["same", "back", "unpadded"].map(|cell| exported(&world, cell));
    for n in 0..3_u32 {
        let expected: Vec<f32> =
            rings(SIDE, 6 + n).pixels().map(|pixel| f32::from(pixel.0[0])).collect();
        for folder in [&same, &back, &unpadded] {
            let found = read_nifti(&folder.join(format!("{n}.nii.gz"))).unwrap();
            assert_eq!((found.affine, found.spacing), (None, Spacing::unit()));
            assert_eq!(found.image.values(), expected, "{n} in {}", folder.display());
        }
    }
    for entry in fs::read_dir(exported(&world, "cases").join("truth")).unwrap() {
        let labels = read_labels(&entry.unwrap().path()).unwrap();
        assert!(labels.iter().all(|label| label.affine.is_none()));
    }
}

#[test]
fn labels_that_lie_elsewhere_are_refused() {
    let world = round(["{ ball = [1] }"; 2], "[1.5, 1.0, 1.0]", "[40, 40, 40]");
    let affine = |offset: f64| {
        Some([[1.0, 0.0, 0.0, offset], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]].into())
    };
    for case in ["a", "bb", "ccc"] {
        drawn(&world, case, [30, 30, 30], Spacing::unit(), affine(0.0));
    }
    let text = fs::read_to_string(world.path("small.toml")).unwrap();
    let other = "\n[others]\nuse = 'ingest.folder'\nroot = 'others'\nlayout = { patterns = { image = 'images/{case}', truth = \
                 'labels/{case}' } }\nstructures = { ball = [1] }\nsplit = { train = 1, val = 1 }\n\n[score]\nuse = \
                 'score'\nin = { predictions = 'others.truth', reference = 'cases.truth' }\nmethod = 'moved'\n";
    world.write("small.toml", &format!("{text}{other}"));
    fs::rename(world.path("volumes"), world.path("others")).unwrap();
    for case in ["a", "bb", "ccc"] {
        drawn(&world, case, [30, 30, 30], Spacing::unit(), affine(2.0));
    }
    let said = world.call(&["run", "small.toml", "--quiet", "--only", "score"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.has(&["lies elsewhere in cell `others`"]), "{said:?}");
}
