//! Files that other programs wrote, and series drawn here with everything that is wrong with real ones.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::fs;

use super::{
    drawn::{DrawnFile, NAME},
    *,
};
use crate::{Affine, Space, error::messages, published::published};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dicom/vectors")
}

fn checksum(values: impl Iterator<Item = f32>) -> String {
    let mut checksum = flate2::Crc::new();
    values.for_each(|value| checksum.update(&value.to_le_bytes()));
    format!("{:08x}", checksum.sum())
}

/// Files of pydicom that are refused, and a part of the reason.
const REFUSED: [(&str, &str); 60] = [
    ("693_J2KI.dcm", "`JPEG 2000` is not read"),
    ("ExplVR_BigEndNoMeta.dcm", "not `DICM`"),
    ("ExplVR_LitEndNoMeta.dcm", "not `DICM`"),
    ("GDCMJ2K_TextGBR.dcm", "`JPEG 2000` is not read"),
    ("J2K_pixelrep_mismatch.dcm", "`JPEG 2000` is not read"),
    ("JPEG-lossy.dcm", "`JPEG Extended` is not read"),
    ("JPEG2000-embedded-sequence-delimiter.dcm", "`JPEG 2000` is not read"),
    ("JPEG2000.dcm", "`JPEG 2000` is not read"),
    ("JPEGLSNearLossless_08.dcm", "`JPEG-LS` is not read"),
    ("JPEGLSNearLossless_16.dcm", "`JPEG-LS` is not read"),
    ("JPGExtended.dcm", "`JPEG Extended` is not read"),
    ("MR_small_jp2klossless.dcm", "`JPEG 2000` is not read"),
    ("MR_small_jpeg_ls_lossless.dcm", "`JPEG-LS` is not read"),
    ("MR_small_padded.dcm", "need 8192 bytes: found 8320"),
    ("MR_truncated.dcm", "(7fe0,0010) ends at byte 9358: the file or its item has 9296"),
    ("SC_jpeg_no_color_transform.dcm", "`SamplesPerPixel` must be 1 in JPEG"),
    ("SC_jpeg_no_color_transform_2.dcm", "`SamplesPerPixel` must be 1 in JPEG"),
    ("SC_rgb_dcmtk_+eb+cr.dcm", "`SamplesPerPixel` must be 1 in JPEG"),
    ("SC_rgb_dcmtk_+eb+cy+n1.dcm", "must be RGB: found YBR"),
    ("SC_rgb_dcmtk_+eb+cy+n2.dcm", "must be RGB: found YBR"),
    ("SC_rgb_dcmtk_+eb+cy+np.dcm", "must be RGB: found YBR"),
    ("SC_rgb_dcmtk_+eb+cy+s2.dcm", "must be RGB: found YBR"),
    ("SC_rgb_dcmtk_+eb+cy+s4.dcm", "must be RGB: found YBR"),
    ("SC_rgb_gdcm_KY.dcm", "`JPEG 2000` is not read"),
    ("SC_rgb_jls_lossy_line.dcm", "`JPEG-LS` is not read"),
    ("SC_rgb_jls_lossy_sample.dcm", "`JPEG-LS` is not read"),
    // Its elements are implicit although its transfer syntax is not.
    ("SC_rgb_jpeg.dcm", "the file or its item has 4108"),
    ("SC_rgb_jpeg_app14_dcmd.dcm", "`SamplesPerPixel` must be 1 in JPEG"),
    ("SC_rgb_jpeg_dcmtk.dcm", "must be RGB: found YBR"),
    ("SC_rgb_jpeg_gdcm.dcm", "`SamplesPerPixel` must be 1 in JPEG"),
    ("SC_rgb_jpeg_lossy_gdcm.dcm", "must be RGB: found YBR"),
    ("SC_rgb_rle_16bit_2frame.dcm", "2 of 2 slices do not tell"),
    ("SC_rgb_rle_2frame.dcm", "2 of 2 slices do not tell"),
    ("SC_rgb_rle_32bit_2frame.dcm", "2 of 2 slices do not tell"),
    ("SC_rgb_small_odd_jpeg.dcm", "must be RGB: found YBR"),
    ("SC_ybr_full_422_uncompressed.dcm", "must be RGB: found YBR"),
    ("UN_sequence.dcm", "`PixelData` is missing"),
    ("badVR.dcm", "`NumberOfFrames` must be finite numbers"),
    ("DICOMDIR-empty.dcm", "`PixelData` is missing"),
    ("empty_charset_LEI.dcm", "`PixelData` is missing"),
    ("examples_jpeg2k.dcm", "`JPEG 2000` is not read"),
    ("examples_palette.dcm", "found PALETTE COLOR"),
    ("examples_ybr_color.dcm", "must be RGB: found YBR"),
    ("liver_1frame.dcm", "`BitsAllocated` must be 8, 16 or 32: found 1"),
    ("liver_expb_1frame.dcm", "`BitsAllocated` must be 8, 16 or 32: found 1"),
    ("meta_missing_tsyntax.dcm", "`TransferSyntaxUID` is missing"),
    ("nested_priv_SQ.dcm", "`SamplesPerPixel` is missing"),
    ("no_meta.dcm", "not `DICM`"),
    ("no_meta_group_length.dcm", "`PixelData` is missing"),
    ("priv_SQ.dcm", "`PixelData` is missing"),
    ("reportsi.dcm", "`PixelData` is missing"),
    ("reportsi_with_empty_number_tags.dcm", "`PixelData` is missing"),
    ("rtdose.dcm", "15 of 15 slices do not tell"),
    ("rtdose_expb.dcm", "15 of 15 slices do not tell"),
    ("rtdose_rle.dcm", "15 of 15 slices do not tell"),
    ("rtplan.dcm", "`PixelData` is missing"),
    ("rtplan_truncated.dcm", "the file or its item has"),
    ("rtstruct.dcm", "not `DICM`"),
    ("test-SR.dcm", "`PixelData` is missing"),
    ("waveform_ecg.dcm", "`PixelData` is missing"),
];

/// Number for number what pydicom reads, or a refusal that says why; expected values by `tests/python/dicom_vectors.py`.
#[test]
fn numbers_are_those_of_pydicom() {
    let theirs = published("dicom_conformance");
    let (mut n_read, mut n_refused) = (0, 0);
    let mut wrong = Vec::new();
    for line in include_str!("vectors/files.txt").lines() {
        let (name, theirs_of_it) = line.split_once(' ').unwrap();
        let places = [
            Some(vectors().join(name)),
            theirs.as_ref().map(|folder| folder.join(name)),
            theirs.as_ref().map(|folder| folder.join("dicomdirtests").join(name)),
        ];
        let Some(path) = places.into_iter().flatten().find(|path| path.is_file()) else {
            assert!(theirs.is_none(), "{name} is missing");
            continue;
        };
        let reason = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| reason);
        match (read_series(&[path]), reason) {
            (Err(error), Some(reason)) if messages(&error).contains(reason) => n_refused += 1,
            (Err(error), _) => wrong.push(format!("{name}: {}", messages(&error))),
            (Ok(_), Some(_)) => wrong.push(format!("{name} was read")),
            (Ok(series), None) => {
                let [_, rows, columns] = series.channels[0].image.shape();
                let n_channels = series.channels.len();
                let values = series.channels.iter().flat_map(|volume| volume.image.values());
                let ours =
                    format!("1 {n_channels} {rows} {columns} {} ", checksum(values.copied()));
                if theirs_of_it.starts_with(&ours) {
                    n_read += 1;
                } else {
                    wrong.push(format!("{name}: {ours}, pydicom {theirs_of_it}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let expected = if theirs.is_some() { (21, 60) } else { (2, 0) };
    assert_eq!((n_read, n_refused), expected);
}

/// Decoders of lossy JPEG may differ by 1 in the last step (ITU-T T.83).
#[test]
fn lossy_pixels_are_those_of_libjpeg_but_for_rounding() {
    let series = read_series(&[vectors().join("baseline.dcm")]).unwrap();
    let expected = include_str!("vectors/baseline.txt").split_whitespace();
    let expected: Vec<f32> = expected.map(|word| word.parse().unwrap()).collect();
    let found = series.channels[0].image.values();
    assert_eq!((found.len(), series.notes.as_slice()), (expected.len(), &[SeriesNote::Lossy][..]));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1.0, "{worst}");
}

fn slices_of(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| is_file_name(path)).collect();
    paths.sort();
    paths
}

fn check_series(name: &str, series: &Series) {
    let lines = include_str!("vectors/series.txt").lines();
    let line = lines.map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[0] == name);
    let words = line.unwrap();
    let [volume] = series.channels.as_slice() else { panic!("{name} has one phase") };
    let shape = volume.image.shape().map(|axis| axis.to_string()).join(" ");
    assert_eq!(words[1..4].join(" "), shape, "{name}");
    assert_eq!(words[4], checksum(volume.image.values().iter().copied()), "{name}");
    let affine = volume.affine.unwrap();
    let found = volume.spacing.millimetres().into_iter().chain(affine.rows.into_iter().flatten());
    for (word, found) in words[5..].iter().zip(found) {
        let expected: f64 = word.parse().unwrap();
        assert!((expected - found).abs() < 1e-5, "{name}: {found}, expected {expected}");
    }
}

/// Voxels, spacing and affine of three series by SimpleITK, whatever the order of their files.
#[test]
fn series_lie_where_simpleitk_sees_them() {
    let Some(root) = published("ibsi_sts_mr") else { return };
    for name in ["STS_002", "STS_008", "STS_025"] {
        let mut paths = slices_of(&root.join("dicom").join(name).join("MR_T1/image"));
        let series = read_series(&paths).unwrap();
        check_series(name, &series);
        assert_eq!((series.notes.as_slice(), series.seconds.as_ref()), (&[][..], None));
        paths.reverse();
        assert_eq!(read_series(&paths).unwrap(), series);
    }
}

/// The same image as NIfTI by the authors of the set, voxel for voxel.
#[test]
fn a_series_is_the_nifti_that_its_authors_made_of_it() {
    let Some(root) = published("ibsi_sts_mr") else { return };
    let nifti = root.join("nifti/STS_025/MR_T1_image.nii.gz");
    let theirs = crate::volume::read_volume(&nifti).unwrap();
    let series = read_series(&slices_of(&root.join("dicom/STS_025/MR_T1/image"))).unwrap();
    let ours = &series.channels[0];
    assert_eq!(ours.image, theirs.image);
    let numbers = |volume: &Volume| volume.affine.unwrap().rows.into_iter().flatten();
    // NIfTI rounds to 4 bytes.
    let worst = numbers(ours).zip(numbers(&theirs)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn an_enhanced_file_is_sorted_and_placed_by_its_functional_groups() {
    let series = read_series(&[vectors().join("enhanced.dcm")]).unwrap();
    check_series("enhanced.dcm", &series);
    let phases = read_series(&[vectors().join("phases.dcm")]).unwrap();
    assert_eq!(phases.channels.len(), 2);
    assert_eq!(phases.seconds.as_deref(), Some(&[0.0, 62.5][..]));
    assert_eq!(phases.channels[0].affine, phases.channels[1].affine);
    assert_eq!(phases.channels[0].spacing.millimetres(), [2.5, 0.75, 0.5]);
}

/// Numbers of a slice of 2 x 2 pixels.
const PIXELS: [u16; 4] = [0, 1, 2000, 4095];

struct Folder {
    place: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

impl Folder {
    fn of(files: &[DrawnFile]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let write = |(n, file): (usize, &DrawnFile)| {
            let path = place.path().join(format!("{n}.dcm"));
            fs::write(&path, file.bytes()).unwrap();
            path
        };
        let paths = files.iter().enumerate().map(write).collect();
        Self { place, paths }
    }

    fn read(&self) -> Result<Series, DatasetsError> {
        assert!(self.place.path().is_dir());
        read_series(&self.paths)
    }
}

/// Slices of 2 x 2 at these heights.
fn stack(heights: &[f64]) -> Vec<DrawnFile> {
    let slice = |(n, &z): (usize, &f64)| {
        DrawnFile::slice([2, 2], [10.0, 20.0, z], &PIXELS.map(|pixel| pixel / 2 + n as u16))
    };
    heights.iter().enumerate().map(slice).collect()
}

fn refused(files: &[DrawnFile]) -> String {
    messages(&Folder::of(files).read().unwrap_err())
}

#[test]
fn slices_are_sorted_by_place_and_not_by_name() {
    let series = Folder::of(&stack(&[5.0, 0.0, 2.5])).read().unwrap();
    let [volume] = series.channels.as_slice() else { panic!() };
    assert_eq!(volume.image.shape(), [3, 2, 2]);
    assert_eq!([0, 1, 2].map(|slice| volume.image.get([slice, 0, 0])), [1.0, 2.0, 0.0]);
    assert_eq!(volume.spacing.millimetres(), [2.5, 0.75, 0.5]);
    let rows = [[-0.5, 0.0, 0.0, -10.0], [0.0, -0.75, 0.0, -20.0], [0.0, 0.0, 2.5, 0.0]];
    assert_eq!(volume.affine, Some(Affine { rows, space: Space::Scanner }));
}

#[test]
fn numbers_of_files_run_up_down_or_in_no_order() {
    let numbering = |numbers: [&str; 3]| {
        let mut files = stack(&[5.0, 0.0, 2.5]);
        for (file, number) in files.iter_mut().zip(numbers) {
            file.text(0x0020, 0x0013, "IS", number);
        }
        Folder::of(&files).read().unwrap().numbering
    };
    assert_eq!(numbering(["12", "3", "7"]), Numbering::Up);
    assert_eq!(numbering(["-1", "11", "2"]), Numbering::Down);
    for numbers in [["1", "2", "3"], ["3", "2", "2"], ["3", "1", ""], ["3", "1", "two"]] {
        assert_eq!(numbering(numbers), Numbering::Unclear, "{numbers:?}");
    }
    let plain = Folder::of(&stack(&[0.0, 2.5])).read().unwrap();
    assert_eq!(plain.numbering, Numbering::Unclear);
}

/// Names of series and slices are there to be compared; nothing shows them.
#[test]
fn slices_tell_which_objects_they_are() {
    let mut files = stack(&[5.0, 0.0]);
    files[0].text(0x0008, 0x0018, "UI", "1.2.840.7");
    let series = Folder::of(&files).read().unwrap();
    assert_eq!(series.uid, Uid::new(" 1.2.3\0"));
    assert_eq!(series.objects, ["1.2.3.4", "1.2.840.7"].map(Uid::new));
    assert_eq!(Uid::new(" \0"), None);
    let shown = format!("{series:?}");
    assert!(shown.contains("Uid(..)") && !shown.contains("1.2."), "{shown}");
    files[1].without(0x0008, 0x0018);
    assert_eq!(Folder::of(&files).read().unwrap().objects, [None, Uid::new("1.2.840.7")]);
    let enhanced = read_series(&[vectors().join("enhanced.dcm")]).unwrap();
    assert!(enhanced.objects.len() > 1 && enhanced.objects.iter().all(Option::is_none));
}

#[test]
fn what_is_no_stack_is_named() {
    let mut files = stack(&[0.0, 2.0, 4.0, 6.0]);
    assert!(
        refused(&stack(&[0.0, 2.0, 4.0, 4.0, 6.0])).contains("2 slices lie at slice 2, 4.000 mm")
    );
    let text = refused(&stack(&[0.0, 2.0, 6.0, 8.0]));
    assert!(text.contains("slices 1 and 2 are 4.000 mm apart: expected 2.000"), "{text}");
    files[2].text(0x0020, 0x0037, "DS", "0\\1\\0\\1\\0\\0");
    assert!(refused(&files).contains("slices differ in orientation"));
    files[2] = DrawnFile::slice([1, 4], [10.0, 20.0, 4.0], &PIXELS);
    assert!(refused(&files).contains("slices differ in rows x columns: 2 x 2 and 1 x 4"));
    files[2] = files[1].clone();
    files[2].text(0x0028, 0x0030, "DS", "0.75\\0.6");
    assert!(refused(&files).contains("slices differ in mm between rows and columns"));
    files[2].without(0x0028, 0x0030);
    assert!(refused(&files).contains("`PixelSpacing` is missing in images"));
    files[2].without(0x0020, 0x0032);
    assert!(refused(&files).contains("1 of 4 slices do not tell their `ImagePositionPatient`"));
    files[2].text(0x0020, 0x000e, "UI", "1.2.9");
    assert!(refused(&files).contains("the files are of 2 series"));
    files[2] = stack(&[0.0]).remove(0);
    files[2].text(0x0020, 0x0032, "DS", "10\\26\\4");
    let text = refused(&files);
    assert!(text.contains("slice 2 lies 6.000 mm beside the line"), "{text}");
}

#[test]
fn a_tilted_or_upright_stack_is_read_and_noted() {
    let mut files = stack(&[0.0, 2.0]);
    files[1].text(0x0020, 0x0032, "DS", "10\\20.5\\2");
    let series = Folder::of(&files).read().unwrap();
    let [SeriesNote::Tilted { degrees }] = series.notes.as_slice() else { panic!("{series:?}") };
    assert!((degrees - (0.25_f64).atan().to_degrees()).abs() < 1e-9, "{degrees}");
    assert_eq!(series.channels[0].affine.unwrap().rows[1], [0.0, -0.75, -0.5, -20.0]);
    let mut upright = stack(&[0.0]);
    upright[0].text(0x0020, 0x0037, "DS", "0\\1\\0\\0\\0\\-1");
    upright[0].text(0x0028, 0x0301, "CS", "YES").text(0x0028, 0x2110, "CS", "01");
    upright[0].text(0x0018, 0x0050, "DS", "4");
    let series = Folder::of(&upright).read().unwrap();
    let normal = [-1.0, 0.0, 0.0];
    let expected = [SeriesNote::Lossy, SeriesNote::BurnedIn, SeriesNote::NotAxial { normal }];
    assert_eq!(series.notes, expected);
    assert_eq!(series.channels[0].spacing.millimetres(), [4.0, 0.75, 0.5]);
}

/// Two slices at each of three times; the files come phase by phase or slice by slice.
fn phases(mark: impl Fn(&mut DrawnFile, usize, usize)) -> Vec<DrawnFile> {
    let mut files = Vec::new();
    for slice in 0..2 {
        for phase in [2, 0, 1] {
            let pixels = PIXELS.map(|pixel| pixel / 2 + (10 * phase + slice) as u16);
            let mut file = DrawnFile::slice([2, 2], [0.0, 0.0, 3.0 * slice as f64], &pixels);
            mark(&mut file, phase, slice);
            files.push(file);
        }
    }
    files
}

#[test]
fn phases_are_told_apart_by_the_first_attribute_that_does() {
    let firsts = |files: &[DrawnFile]| {
        let series = Folder::of(files).read().unwrap();
        let first = |volume: &Volume| [0, 1].map(|slice| volume.image.get([slice, 0, 0]));
        (series.channels.iter().map(first).collect::<Vec<_>>(), series.seconds)
    };
    let expected = vec![[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]];
    // The same number of an acquisition everywhere tells nothing; times of slices differ within a phase.
    let by_time = phases(|file, phase, slice| {
        let time = format!("1015{:02}.5", 10 + 15 * phase + slice);
        file.text(0x0008, 0x0032, "TM", &time).text(0x0020, 0x0012, "IS", "4");
    });
    assert_eq!(firsts(&by_time), (expected.clone(), Some(vec![0.0, 15.0, 30.0])));
    let by_trigger = phases(|file, phase, _| {
        file.text(0x0018, 0x1060, "DS", &(phase * 61_500).to_string());
    });
    assert_eq!(firsts(&by_trigger), (expected.clone(), Some(vec![0.0, 61.5, 123.0])));
    let by_position = phases(|file, phase, _| {
        file.text(0x0020, 0x0100, "IS", &(phase + 1).to_string());
    });
    assert_eq!(firsts(&by_position), (expected, None));
    let unmarked = refused(&phases(|_, _, _| {}));
    assert!(unmarked.contains("3 slices lie at slice 0"), "{unmarked}");
    let mut contradicted = by_position;
    for (n, file) in contradicted.iter_mut().enumerate() {
        file.text(0x0008, 0x0032, "TM", ["101500", "101700", "101600"][n % 3]);
    }
    let text = refused(&contradicted);
    let expected =
        "in the order of `TemporalPositionIdentifier` go back in `AcquisitionTime` at phase 1";
    assert!(text.contains(expected), "{text}");
    let lacking = refused(&by_trigger[1..]);
    assert!(lacking.contains("slice 0 was taken 2 times: expected 3"), "{lacking}");
}

#[test]
fn stored_bits_become_numbers() {
    let values = |change: &dyn Fn(&mut DrawnFile)| {
        let mut file = stack(&[0.0]).remove(0);
        let bytes = PIXELS.map(u16::to_le_bytes).concat();
        file.set(0x7fe0, 0x0010, "OW", bytes);
        change(&mut file);
        Folder::of(&[file]).read().map(|series| series.channels[0].image.values().to_vec())
    };
    assert_eq!(values(&|_| {}).unwrap(), [0.0, 1.0, 2000.0, 4095.0]);
    let signed = values(&|file| {
        file.number(0x0028, 0x0103, 1);
    });
    assert_eq!(signed.unwrap(), [0.0, 1.0, 2000.0, -1.0]);
    let scaled = values(&|file| {
        file.text(0x0028, 0x1053, "DS", "0.5 ").text(0x0028, 0x1052, "DS", "-1024");
    });
    assert_eq!(scaled.unwrap(), [-1024.0, -1023.5, -24.0, 1023.5]);
    let overlay = values(&|file| {
        let bytes = PIXELS.map(|pixel| (pixel | 0xf000).to_le_bytes()).concat();
        file.set(0x7fe0, 0x0010, "OW", bytes);
    });
    assert_eq!(overlay.unwrap(), [0.0, 1.0, 2000.0, 4095.0]);
    let inverted = values(&|file| {
        file.text(0x0028, 0x0004, "CS", "MONOCHROME1");
    });
    assert_eq!(inverted.unwrap(), [4095.0, 4094.0, 2095.0, 0.0]);
    for (change, expected) in [
        ((0x1053, "0"), "`RescaleSlope` must be not 0"),
        ((0x1053, "1e999"), "`RescaleSlope` must be finite numbers: found infinity or NaN"),
        ((0x1053, NAME), "`RescaleSlope` must be finite numbers: found another text"),
        ((0x0030, "0\\1"), "`PixelSpacing` must be two positive numbers"),
        ((0x0030, "1"), "`PixelSpacing` must be two numbers: found 1"),
        ((0x0004, NAME), "MONOCHROME1 or MONOCHROME2: found another"),
        ((0x0008, "2000000"), "at most 268435456 are read"),
        ((0x0008, "3"), "need 24 bytes: found 8"),
    ] {
        let found = values(&|file| {
            file.number(0x0028, 0x0010, if change.1 == "2000000" { 60_000 } else { 2 });
            file.text(0x0028, change.0, "DS", change.1);
        });
        let text = messages(&found.unwrap_err());
        assert!(text.contains(expected) && !text.contains(NAME), "{change:?}: {text}");
    }
    for (element, number, expected) in [
        (0x0102, 15, "`HighBit` must be `BitsStored` - 1: found 15"),
        (0x0101, 17, "`BitsStored` must be from 1"),
        (0x0010, 0, "`Rows` must be at least 1"),
        (0x0002, 4, "`SamplesPerPixel` must be 1 or 3: found 4"),
    ] {
        let found = values(&|file| {
            file.number(0x0028, element, number);
        });
        let text = messages(&found.unwrap_err());
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_largest_numbers_of_a_header_do_not_overflow() {
    let mut file = stack(&[0.0]).remove(0);
    file.number(0x0028, 0x0010, u16::MAX).number(0x0028, 0x0011, u16::MAX);
    file.number(0x0028, 0x0002, 3).text(0x0028, 0x0004, "CS", "RGB").number(0x0028, 0x0006, 0);
    file.text(0x0028, 0x0008, "IS", "4294967295");
    let text = refused(&[file]);
    assert!(text.contains("18446744073709551615 pixels in all"), "{text}");
}

#[test]
fn both_orders_of_colour_give_red_green_and_blue() {
    for (planar, bytes) in [(0, [1, 2, 3, 4, 5, 6]), (1, [1, 4, 2, 5, 3, 6])] {
        let mut file = DrawnFile::slice([1, 2], [0.0; 3], &[]);
        file.number(0x0028, 0x0002, 3)
            .text(0x0028, 0x0004, "CS", "RGB")
            .number(0x0028, 0x0006, planar);
        file.number(0x0028, 0x0100, 8).number(0x0028, 0x0101, 8).number(0x0028, 0x0102, 7);
        file.set(0x7fe0, 0x0010, "OB", bytes.to_vec());
        let series = Folder::of(&[file]).read().unwrap();
        let colours: Vec<&[f32]> = series.channels.iter().map(|c| c.image.values()).collect();
        assert_eq!(colours, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    }
}

#[test]
fn monochrome_1_is_inverted_over_its_range() {
    let series = read_series(&[vectors().join("deflated.dcm")]).unwrap();
    assert_eq!(series.notes, [SeriesNote::Inverted]);
    let plain = read_series(&[vectors().join("run_length.dcm")]).unwrap();
    // The same numbers, taken for signed ones of 12 bits.
    let expected = plain.channels[0]
        .image
        .map(|&value| -1.0 - if value > 2047.0 { value - 4096.0 } else { value });
    assert_eq!(series.channels[0].image, expected);
}

/// Nesting, lengths and cuts that a hostile file may have.
#[test]
fn hostile_structure_is_refused_without_harm() {
    let good = stack(&[0.0]).remove(0).bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dcm");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        read_series(std::slice::from_ref(&path))
    };
    assert!(read(&good).is_ok());
    for length in 0..good.len() {
        assert!(read(&good[..length]).is_err(), "{length}");
    }
    let start = [&[0; 128][..], b"DICM\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"].concat();
    let open = b"\x00\x52\x29\x92SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
    let unknown = b"\x09\0\x01\0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
    for nested in [&open[..], unknown] {
        let text = messages(&read(&[&start[..], &nested.repeat(100_000)].concat()).unwrap_err());
        assert!(text.contains("nested more than 32 deep"), "{text}");
    }
    let long = [&start[..], b"\x10\0\x10\0OB\0\0\xf0\xff\xff\xff"].concat();
    let text = messages(&read(&long).unwrap_err());
    assert!(text.contains("data element (0010,0010) ends at byte"), "{text}");
    let twice = [good.clone(), good[good.len() - 20..].to_vec()].concat();
    let text = messages(&read(&twice).unwrap_err());
    assert!(text.contains("`PixelData` must be one: found two"), "{text}");
}

/// No message about any damage names the patient, whom every text of the file names.
#[test]
fn messages_never_tell_who_it_is() {
    let good = stack(&[0.0]).remove(0).bytes();
    assert!(good.windows(NAME.len()).any(|window| window == NAME.as_bytes()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.dcm");
    let mut stream = crate::Stream::new(3, "test.dicom.damage", &[]);
    let mut n_refused = 0;
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..1 + stream.below(3) {
            let place = 132 + stream.below(bytes.len() - 132);
            bytes[place] = stream.below(256) as u8;
        }
        fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_series(std::slice::from_ref(&path)) {
            let text = format!("{} {error:?}", messages(&error));
            assert!(!text.contains(NAME), "{text}");
            n_refused += 1;
        } else {
            let series = read_series(std::slice::from_ref(&path)).unwrap();
            assert!(!format!("{series:?}").contains(NAME));
        }
    }
    assert!(n_refused > 500, "{n_refused}");
}
