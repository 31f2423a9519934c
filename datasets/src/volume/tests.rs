//! Readers on files that other programs wrote.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::published::published;

fn volume_error(error: DatasetsError) -> VolumeError {
    match error {
        DatasetsError::Volume { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn names_choose_the_reader() {
    let error = volume_error(read_volume(Path::new("a.png")).unwrap_err());
    assert!(matches!(error, VolumeError::UnknownEnding { .. }));
    for name in ["no/such.nii", "no/such.NII.GZ", "no/such.mha", "no/such.nrrd"] {
        assert!(matches!(read_volume(Path::new(name)), Err(DatasetsError::Read { .. })), "{name}");
    }
}

/// Random bytes in headers: an error or a volume of the right size, never a panic.
#[test]
fn random_damage_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let nrrd = "NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: 3 2 2\n\
        space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n\n";
    let meta = "NDims = 3\nDimSize = 3 2 2\nElementSpacing = 1 1 2\nOffset = 0 0 0\n\
        ElementType = MET_SHORT\nElementDataFile = LOCAL\n";
    let volume = Volume {
        image: Grid::filled([2, 2, 3], 7.0),
        spacing: Spacing::unit(),
        affine: Some(crate::affine::of_spacing(Spacing::unit())),
    };
    let nifti = |version| encode_nifti(&volume, NiftiVoxel::F32, version).unwrap();
    let mut stream = crate::Stream::new(5, "test.volume.damage", &[]);
    let mut n_read = 0;
    for (name, good) in [
        ("a.nii", nifti(NiftiVersion::One)),
        ("b.nii", nifti(NiftiVersion::Two)),
        ("c.nrrd", [nrrd.as_bytes(), &[7; 24]].concat()),
        ("d.mha", [meta.as_bytes(), &[7; 24]].concat()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &good).unwrap();
        assert_eq!(read_volume(&path).unwrap().image.shape(), [2, 2, 3]);
        for _ in 0..1500 {
            let mut bytes = good.clone();
            for _ in 0..1 + stream.below(3) {
                let place = stream.below(bytes.len());
                bytes[place] = stream.below(256) as u8;
            }
            fs::write(&path, &bytes).unwrap();
            if let Ok(volume) = read_volume(&path) {
                let [slice, row, column] = volume.spacing.millimetres();
                assert!(slice > 0.0 && row > 0.0 && column > 0.0);
                n_read += 1;
            }
        }
    }
    assert!(n_read > 500, "harmless damage is most of it in headers of 348 bytes: {n_read}");
}

#[test]
fn files_of_nibabel_are_read_or_refused_for_a_reason() {
    let Some(folder) = published("nifti_conformance") else { return };
    let shape_of = |name: &str| {
        let volume = read_nifti(&folder.join(name)).unwrap();
        (volume.image.shape(), volume.spacing.millimetres())
    };
    assert_eq!(shape_of("anatomical.nii"), ([25, 41, 33], [2.0; 3]));
    assert_eq!(shape_of("standard.nii.gz"), ([7, 5, 4], [2.0, 3.0, 1.0]));
    assert_eq!(shape_of("reoriented_anat_moved.nii"), ([22, 26, 21], [4.0; 3]));
    assert_eq!(shape_of("resampled_anat_moved.nii"), ([3, 21, 17], [8.0, 4.0, 4.0]));
    for (name, n_frames, shape) in [
        ("functional.nii", 20, [3, 21, 17]),
        ("example4d.nii.gz", 2, [24, 96, 128]),
        ("example_nifti2.nii.gz", 2, [12, 20, 32]),
    ] {
        let error = volume_error(read_nifti(&folder.join(name)).unwrap_err());
        assert!(matches!(error, VolumeError::Frames { found } if found == n_frames), "{error}");
        let frames = read_nifti_frames(&folder.join(name)).unwrap();
        assert_eq!((frames.len(), frames[0].image.shape()), (n_frames, shape));
        assert!(frames.iter().all(|frame| frame.affine == frames[0].affine));
    }
    for (name, expected) in [
        ("analyze.hdr", "not NIfTI"),
        ("row_major.dconn.nii", "`dim`"),
        ("test.mgz", "not NIfTI"),
        ("scaled+tlrc.BRIK", "not NIfTI"),
    ] {
        let error = volume_error(read_nifti(&folder.join(name)).unwrap_err());
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    for pair in ["nifti1.hdr", "nifti2.hdr"] {
        let error = read_nifti(&folder.join(pair)).unwrap_err();
        assert!(
            matches!(error, DatasetsError::Read { path, .. } if path.extension().unwrap() == "img")
        );
    }
}

/// Axes in one plane are no place; axes that are only oblique are one, and an absent axis of one slice is allowed.
#[test]
fn singular_affines_are_refused() {
    let flat = |z: [f64; 3], n_slices: usize| {
        let affine = [[0.5, 0.0, z[0], 1.0], [0.0, 0.5, z[1], 2.0], [0.0, 0.0, z[2], 3.0]];
        Volume::assemble([2, 3, n_slices], vec![0.0; 6 * n_slices], [1.0; 3], Some(affine.into()))
    };
    assert!(flat([0.0, 0.0, 2.0], 2).is_ok());
    assert!(flat([1.0, 1.0, 0.5], 2).is_ok());
    assert!(flat([0.0, 0.0, 0.0], 1).is_ok());
    for plane in [[1.0, 0.0, 0.0], [3.0, 4.0, 0.0], [3.0, 4.0, 1e-4]] {
        let error = flat(plane, 2).unwrap_err();
        assert!(matches!(error, VolumeError::Singular { determinant } if determinant.abs() < 1e-3));
    }
    let nrrd = "NRRD0004\ntype: uchar\ndimension: 3\nspace: LPS\nsizes: 1 1 2\n\
        space directions: (1,0,0) (0,1,0) (1,1,0)\nspace origin: (0,0,0)\nencoding: raw\n\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nrrd");
    fs::write(&path, [nrrd.as_bytes(), &[0, 1]].concat()).unwrap();
    let error = volume_error(read_volume(&path).unwrap_err());
    assert!(matches!(error, VolumeError::Singular { .. }), "{error}");
}

/// Facts of `functional.nii`: stored `i16`, slope 0.07540696859359741, intercept 3100.76171875.
#[test]
fn scaling_is_applied_and_missing_values_stay() {
    let Some(folder) = published("nifti_conformance") else { return };
    let frames = read_nifti_frames(&folder.join("functional.nii")).unwrap();
    let bytes = fs::read(folder.join("functional.nii")).unwrap();
    let first = f64::from(i16::from_le_bytes([bytes[352], bytes[353]]));
    let expected = (0.07540696859359741 * first + 3100.76171875) as f32;
    assert_eq!(frames[0].image.values()[0], expected);
    let moved = read_nifti(&folder.join("resampled_anat_moved.nii")).unwrap();
    assert!(moved.image.values().iter().any(|value| value.is_nan()));
    assert!(moved.labels().is_err());
}

/// Facts of the data set: 45 x 120 x 21 voxels, a lesion of 143 voxels with mean 131 inside and 63 outside.
#[test]
fn volumes_of_pyradiomics_have_their_known_facts() {
    let Some(folder) = published("pyradiomics_volumes") else { return };
    let image = read_volume(&folder.join("breast1_image.nrrd")).unwrap();
    let label = read_volume(&folder.join("breast1_label.nrrd")).unwrap();
    assert_eq!(image.image.shape(), [21, 120, 45]);
    assert_eq!((image.affine, image.spacing), (label.affine, label.spacing));
    assert_eq!(image.spacing.millimetres(), [2.1, 0.664062, 0.664062]);
    let lesion = label.mask_of(1).unwrap();
    assert_eq!(lesion.area(), 143);
    let mean = |inside: bool| {
        let pairs = image.image.values().iter().zip(lesion.values());
        let values: Vec<f64> =
            pairs.filter(|pair| *pair.1 == inside).map(|(&value, _)| f64::from(value)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    assert!((mean(true) - 131.0).abs() < 0.5 && (mean(false) - 63.0).abs() < 0.5);
    let mut n_read = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "nrrd") {
            let volume = read_volume(&path).unwrap();
            assert!(volume.affine.is_some());
            n_read += 1;
        }
    }
    assert_eq!(n_read, 10);
    let prostate = read_volume(&folder.join("prostate_phantom_subvolume-label.nrrd")).unwrap();
    assert_eq!(prostate.labels().unwrap().values().iter().max(), Some(&9));
    assert_eq!(prostate.affine.unwrap().rows[0], [0.5, 0.0, 0.0, -15.683382511138916]);
}

#[test]
fn real_volumes_survive_writing() {
    let Some(folder) = published("msd_hippocampus") else { return };
    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("copy.nii.gz");
    let mut n_read = 0;
    for kind in ["images", "labels"] {
        let mut names: Vec<PathBuf> =
            fs::read_dir(folder.join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for name in names.iter().step_by(10) {
            let volume = read_volume(name).unwrap();
            let voxel = if kind == "labels" { NiftiVoxel::U8 } else { NiftiVoxel::F32 };
            write_nifti(&path, &volume, voxel, NiftiVersion::One).unwrap();
            assert_eq!(read_volume(&path).unwrap(), volume, "{}", name.display());
            n_read += 1;
        }
    }
    assert_eq!(n_read, 54);
}

#[test]
fn a_damaged_byte_of_a_real_file_is_found() {
    let Some(folder) = published("nifti_conformance") else { return };
    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("damaged.nii.gz");
    let good = fs::read(folder.join("standard.nii.gz")).unwrap();
    let volume = read_nifti(&folder.join("standard.nii.gz")).unwrap();
    let mut n_harmless = 0;
    for place in 0..good.len() {
        let mut bytes = good.clone();
        bytes[place] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        if let Ok(found) = read_nifti(&path) {
            assert_eq!(found, volume, "{place}");
            n_harmless += 1;
        }
    }
    assert!(
        n_harmless < 30,
        "only time, system and name may differ: {n_harmless} of {}",
        good.len()
    );
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(read_nifti(&path).is_err(), "{length}");
    }
}

/// Voxel for voxel what nibabel reads, or a refusal; expected values by `tests/python/nibabel_voxels.py`.
#[test]
fn voxels_are_those_of_nibabel() {
    let Some(folder) = published("nifti_conformance") else { return };
    let (mut read, mut refused) = (Vec::new(), Vec::new());
    for line in include_str!("nibabel.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (name, kind) = (words[0], words[1]);
        let found = read_nifti_frames(&folder.join(name));
        if !kind.starts_with("Nifti") {
            assert!(found.is_err(), "{name} is {kind} to nibabel");
            refused.push(name);
            continue;
        }
        let frames = found.unwrap();
        let voxels = || frames.iter().flat_map(|frame| frame.image.values()).copied();
        let mut checksum = flate2::Crc::new();
        let plain = |value: f32| if value.is_nan() { f32::from_bits(0x7fc0_0000) } else { value };
        voxels().for_each(|value| checksum.update(&plain(value).to_le_bytes()));
        let [slices, rows, columns] = frames[0].image.shape();
        let n_missing = voxels().filter(|value| value.is_nan()).count();
        let start = format!("{} {slices} {rows} {columns} {:08x}", frames.len(), checksum.sum());
        assert_eq!(
            words[2..].join(" ").rsplit_once(' ').unwrap().0,
            format!("{start} {n_missing}")
        );
        let sum: f64 = voxels().filter(|value| !value.is_nan()).map(f64::from).sum();
        let expected: f64 = words[8].parse().unwrap();
        assert!((sum - expected).abs() <= 1e-6 * expected.abs(), "{name}: {sum}");
        read.push(name);
    }
    assert_eq!((read.len(), refused.len()), (7, 10));
}
