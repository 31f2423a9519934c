//! Folders made here, and data sets that others made.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{collections::BTreeMap, fs};

use super::*;
use crate::{
    Grid, Image, Mask, Spacing, Split,
    dicom::drawn::{DrawnFile, NAME},
    mask,
    picture::{image_png, mask_png},
    published::published,
    volume::{NiftiVersion, NiftiVoxel, Volume, write_nifti},
};

fn patterns(image: &str, label: Option<&str>, truth: Option<&str>) -> Layout {
    Layout::Patterns(LayoutPatterns {
        image: image.to_owned(),
        label: label.map(str::to_owned),
        truth: truth.map(str::to_owned),
        patient: None,
    })
}

fn structures(named: &[(&str, LabelValues)]) -> BTreeMap<String, LabelValues> {
    named.iter().map(|(name, values)| ((*name).to_owned(), values.clone())).collect()
}

fn foreground(name: &str) -> BTreeMap<String, LabelValues> {
    structures(&[(name, LabelValues::Rule(ValueRule::Foreground))])
}

struct Read {
    listing: Listing,
    cases: Vec<FolderCase>,
}

impl Read {
    /// The findings of the listing and of every case.
    fn findings(&self) -> Vec<Finding> {
        let of_cases = self.cases.iter().flat_map(|case| case.findings.clone());
        self.listing.findings.iter().cloned().chain(of_cases).collect()
    }

    /// Number of findings by code.
    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        self.findings().iter().for_each(|f| *counts.entry(f.code.name()).or_default() += 1);
        counts
    }
}

fn read(
    root: &Path,
    layout: &Layout,
    structures: &BTreeMap<String, LabelValues>,
    nested: &[[String; 2]],
) -> Read {
    let listing = list(&files_under(root).unwrap(), layout, structures, Wanted::default()).unwrap();
    let options = ReadOptions { dataset: "test", structures, nested, spacing: None };
    let cases =
        listing.entries.iter().map(|entry| read_case(entry, Split::Train, &options)).collect();
    Read { listing, cases }
}

/// Mean Dice over cases and pairs of raters.
fn mean_dice(cases: &[FolderCase]) -> (f64, usize) {
    let (mut sum, mut n_pairs) = (0.0, 0);
    for case in cases {
        for (n, a) in case.raters.iter().enumerate() {
            for b in &case.raters[n + 1..] {
                let both = a.mask.values().iter().zip(b.mask.values()).filter(|&(&a, &b)| a && b);
                sum += 2.0 * both.count() as f64 / (a.mask.area() + b.mask.area()) as f64;
                n_pairs += 1;
            }
        }
    }
    (sum / f64::from(n_pairs), cases.len())
}

/// Facts of the data set: 39 slices of 128 x 128, seven raters, areas of case 1, mean Dice of all pairs 0.856.
#[test]
fn seven_raters_of_brain_growth() {
    let Some(root) = published("qubiq_brain_growth") else { return };
    let layout = patterns("{case}/image.png", Some("{case}/rater{rater}.png"), None);
    let found = read(&root, &layout, &foreground("growth"), &[]);
    assert_eq!(found.listing.raters, [1, 2, 3, 4, 5, 6, 7].map(|n| format!("rater{n}")));
    assert_eq!((found.cases.len(), found.counts()), (39, BTreeMap::new()));
    let first = &found.cases[0];
    let areas: Vec<usize> = first.raters.iter().map(|label| label.mask.area()).collect();
    assert_eq!(areas, [2593, 2527, 2440, 2188, 2517, 2622, 2608]);
    assert_eq!(first.channels[0].1.image.shape(), [1, 128, 128]);
    let (dice, _) = mean_dice(&found.cases);
    assert!((dice - 0.856).abs() < 5e-4, "{dice}");
}

/// Facts of the data set: 28 films of 999 x 960 in colour, two observers, Dice 0.777; areas of the first film.
#[test]
fn two_observers_of_chase_db1() {
    let Some(root) = published("chase_db1_28") else { return };
    let files = files_under(&root).unwrap();
    let structures = foreground("vessel");
    let listing = list(&files, &Layout::ChaseDb1, &structures, Wanted::default()).unwrap();
    assert_eq!((listing.entries.len(), listing.findings.len()), (28, 0));
    assert_eq!(listing.raters, ["1st", "2nd"]);
    let patients: std::collections::BTreeSet<&str> =
        listing.entries.iter().map(|entry| entry.patient.as_str()).collect();
    assert_eq!(patients.len(), 14);
    let options =
        ReadOptions { dataset: "chase", structures: &structures, nested: &[], spacing: None };
    let read = |entry: &Entry| read_case(entry, Split::Train, &options);
    let cases: Vec<FolderCase> = listing.entries.iter().map(read).collect();
    let areas: Vec<usize> = cases[0].raters.iter().map(|label| label.mask.area()).collect();
    assert_eq!(areas, [66885, 63058]);
    assert_eq!(cases[0].channels.len(), 3);
    assert_eq!(cases[0].channels[1].1.image.shape(), [1, 960, 999]);
    let (dice, _) = mean_dice(&cases);
    assert!((dice - 0.777).abs() < 5e-4, "{dice}");
    let findings: Vec<&Finding> = cases.iter().flat_map(|case| &case.findings).collect();
    assert_eq!(findings, Vec::<&Finding>::new());
}

/// Facts of the data set: image 118 has no label, labels 10 and 281 no image, labels 0, 1 and 2, equal geometry.
#[test]
fn the_traps_of_hippocampus_are_reported_and_nothing_else() {
    let Some(root) = published("msd_hippocampus") else { return };
    let layout = patterns("images/{case}", None, Some("labels/{case}"));
    let structures = structures(&[
        ("anterior", LabelValues::Listed(vec![1])),
        ("posterior", LabelValues::Listed(vec![2])),
    ]);
    let found = read(&root, &layout, &structures, &[]);
    let rows: Vec<_> = found.findings().into_iter().map(|f| (f.code.name(), f.case)).collect();
    let expected = [
        ("unpaired_label", "hippocampus_010"),
        ("unpaired_image", "hippocampus_118"),
        ("unpaired_label", "hippocampus_281"),
    ];
    assert_eq!(rows, expected.map(|(code, case)| (code, case.to_owned())));
    assert_eq!(found.cases.len(), 260);
    assert!(found.cases.iter().all(|case| case.truth.len() == 2 && case.raters.is_empty()));
    assert!(has_slices(&found.listing.entries[0]));
}

/// Facts of the data set: 49 pairs of equal geometry, and two masks whose image is absent; a subset may be at hand.
#[test]
fn tumours_of_ibsi_pair_with_their_images() {
    let Some(root) = published("ibsi_sts_mr") else { return };
    let layout =
        patterns("nifti/{case}/MR_T1_image.nii.gz", None, Some("nifti/{case}/MR_T1_mask.nii.gz"));
    let found = read(&root, &layout, &foreground("tumour"), &[]);
    assert!(found.cases.len() >= 3, "{}", found.cases.len());
    for finding in found.findings() {
        assert_eq!(finding.code, FindingCode::UnpairedLabel, "{finding}");
        assert!(["sts_009", "sts_020"].contains(&finding.case.as_str()), "{finding}");
    }
    for case in &found.cases {
        let share = case.truth[0].mask.area() as f64 / case.truth[0].mask.values().len() as f64;
        assert!((0.006..0.23).contains(&share), "{share}");
    }
}

/// Two algorithms as raters of one case; both hold the labels 0, 1, 2 and 4 of BraTS.
///
/// Facts of the data set: the labels of `unet` sum to 262349, those of `resunet` to 262120.
#[test]
fn two_algorithms_of_brats_are_raters() {
    let Some(root) = published("labelfusion_brats") else { return };
    let layout = patterns("baseline_{case}.nii.gz", Some("{rater}.nii.gz"), None);
    let files = files_under(&root).unwrap();
    let structures = structures(&[
        ("core", LabelValues::Listed(vec![1, 4])),
        ("edema", LabelValues::Listed(vec![2])),
    ]);
    // No image lies beside the labels: the vote stands for one, which every case has in this pattern.
    let Err(error) = list(&files, &layout, &structures, Wanted::default()) else {
        panic!("no case in `label`")
    };
    assert!(matches!(error, PatternError::Missing { needed: Placeholder::Case, .. }));
    let target = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("baseline_majorityvoting.nii.gz", "a/image.nii.gz"),
        ("unet.nii.gz", "a/seg_unet.nii.gz"),
        ("resunet.nii.gz", "a/seg_resunet.nii.gz"),
    ] {
        fs::create_dir_all(target.path().join("a")).unwrap();
        fs::copy(root.join(from), target.path().join(to)).unwrap();
    }
    let layout = patterns("{case}/image", Some("{case}/seg_{rater}"), None);
    let found = read(target.path(), &layout, &structures, &[]);
    assert_eq!(found.listing.raters, ["resunet", "unet"]);
    assert_eq!(found.counts(), BTreeMap::new(), "{:?}", found.findings());
    let volume = crate::volume::read_volume(&root.join("unet.nii.gz")).unwrap();
    let n = |wanted: f32| volume.image.values().iter().filter(|&&v| v == wanted).count();
    let unet = &found.cases[0].raters[2..];
    assert_eq!(unet[0].mask.area(), n(1.0) + n(4.0));
    assert_eq!(unet[1].mask.area(), n(2.0));
    assert_eq!(n(1.0) + 2 * n(2.0) + 4 * n(4.0), 262_349);
    let only = BTreeMap::from([("core".to_owned(), LabelValues::Listed(vec![1]))]);
    let counts = read(target.path(), &layout, &only, &[]).counts();
    assert_eq!(counts, BTreeMap::from([("unexpected_values", 2)]));
}

/// A data set of volumes with one fault a case.
struct Drawn {
    folder: tempfile::TempDir,
}

const SHAPE: [usize; 3] = [2, 3, 4];

impl Drawn {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn volume(&self, name: &str, image: Image, origin: f64) {
        let affine = [[-1.0, 0.0, 0.0, origin], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]];
        let spacing = Spacing::new([2.0, 1.0, 1.0]).unwrap();
        let volume = Volume { image, spacing, affine: Some(affine.into()) };
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_nifti(&path, &volume, NiftiVoxel::F32, NiftiVersion::One).unwrap();
    }

    fn read(&self, nested: bool) -> Read {
        let structures = structures(&[
            ("disc", LabelValues::Listed(vec![1, 2])),
            ("cup", LabelValues::Listed(vec![2, 3])),
        ]);
        let pairs = [["cup".to_owned(), "disc".to_owned()]];
        let nested = if nested { &pairs[..] } else { &[] };
        let layout = patterns(
            "{case}/image.nii.gz",
            Some("{case}/by_{rater}.nii.gz"),
            Some("{case}/truth.nii.gz"),
        );
        read(self.folder.path(), &layout, &structures, nested)
    }
}

fn ramp() -> Image {
    Grid::from_fn(SHAPE, |[slice, row, column]| (slice * 100 + row * 10 + column) as f32)
}

/// A label map with the values of a list at the first voxels.
fn map(values: &[f32]) -> Image {
    let mut map = Grid::filled(SHAPE, 0.0);
    map.values_mut()[..values.len()].copy_from_slice(values);
    map
}

#[test]
fn every_fault_of_a_case_has_its_code() {
    let drawn = Drawn::new();
    let good = || map(&[1.0, 1.0, 2.0]);
    let mut broken = ramp();
    broken.values_mut()[5] = f32::NAN;
    let cases: [(&str, Image, Image, f64, &[&str]); 9] = [
        ("a_good", ramp(), good(), 0.0005, &[]),
        ("b_moved", ramp(), good(), 0.01, &["geometry_mismatch"]),
        (
            "c_shape",
            ramp(),
            Grid::filled([2, 3, 5], 1.0),
            0.0,
            &["shape_mismatch", "full_mask", "empty_mask"],
        ),
        ("d_value", ramp(), map(&[1.0, 2.0, 7.0, 0.5]), 0.0, &["unexpected_values"]),
        ("e_nan", broken, good(), 0.0, &["not_finite"]),
        ("f_flat", Grid::filled(SHAPE, 3.0), good(), 0.0, &["constant_image"]),
        ("g_half", ramp(), Grid::filled(SHAPE, 2.0), 0.0, &["full_mask", "full_mask"]),
        ("h_most", ramp(), map(&[1.0; 20]), 0.0, &["empty_mask", "inverted_polarity_suspect"]),
        ("i_out", ramp(), map(&[1.0, 3.0]), 0.0, &["topology_violation"]),
    ];
    for (case, image, label, origin, _) in &cases {
        drawn.volume(&format!("{case}/image.nii.gz"), image.clone(), 0.0);
        drawn.volume(&format!("{case}/by_a.nii.gz"), label.clone(), *origin);
        drawn.volume(&format!("{case}/truth.nii.gz"), map(&[0.0, 2.0]), 0.0);
    }
    let found = drawn.read(true);
    for ((case, _, _, _, expected), read) in cases.iter().zip(&found.cases) {
        let mut codes: Vec<&str> = read.findings.iter().map(|f| f.code.name()).collect();
        let mut expected = expected.to_vec();
        codes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(codes, expected, "{case}: {:?}", read.findings);
        let is_dropped = read.findings.iter().any(|f| f.code.action() == Action::Dropped);
        assert_eq!(read.channels.is_empty(), is_dropped, "{case}");
    }
    let detail = |case: usize| found.cases[case].findings[0].detail.as_str();
    assert_eq!(detail(3), "0.5 (1 voxels), 7 (1 voxels)");
    assert_eq!(detail(4), "1 of 24 voxels are NaN or infinite");
    assert_eq!(detail(8), "1 voxels of `cup` lie outside `disc`");
    assert_eq!(detail(2), "shape [slice, row, column] = [2, 3, 5]: expected [2, 3, 4]");
    assert_eq!(drawn.read(false).counts().get("topology_violation"), None);
}

#[test]
fn raters_that_say_the_same_are_noted() {
    let drawn = Drawn::new();
    drawn.volume("x/image.nii.gz", ramp(), 0.0);
    drawn.volume("x/truth.nii.gz", map(&[1.0, 2.0]), 0.0);
    drawn.volume("x/by_a.nii.gz", map(&[1.0, 2.0]), 0.0);
    drawn.volume("x/by_b.nii.gz", map(&[2.0, 2.0]), 0.0);
    drawn.volume("x/by_c.nii.gz", map(&[2.0, 2.0]), 0.0);
    let rows: Vec<_> = drawn.read(false).findings();
    let rows: Vec<_> = rows.iter().map(|f| (f.code.name(), f.source.as_str())).collect();
    assert_eq!(rows, [("rater_equals_reference", "a"), ("raters_identical", "c")]);
}

#[test]
fn damaged_files_are_findings_without_their_folder() {
    let drawn = Drawn::new();
    drawn.volume("x/image.nii.gz", ramp(), 0.0);
    drawn.volume("x/truth.nii.gz", map(&[1.0, 2.0]), 0.0);
    drawn.volume("x/by_a.nii.gz", map(&[1.0, 2.0]), 0.0);
    let path = drawn.folder.path().join("x/by_a.nii.gz");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let findings = drawn.read(false).findings();
    assert_eq!((findings.len(), findings[0].code), (1, FindingCode::Unreadable));
    assert!(!findings[0].detail.contains(drawn.folder.path().to_str().unwrap()));
    assert!(findings[0].detail.starts_with("the gzip stream is damaged"), "{}", findings[0].detail);
}

/// Text of headers, where names of patients lie, is in no finding, image or label.
#[test]
fn free_text_of_headers_stays_where_it_is() {
    const NAME: &str = "DOE^JANE";
    let folder = tempfile::tempdir().unwrap();
    let meta = |shape: &str, comment: &str| {
        format!(
            "ObjectType = Image\nComment = {NAME}\nNDims = 2\nDimSize = {shape}\nElementType = MET_UCHAR\n\
             {comment}ElementDataFile = LOCAL\n"
        )
    };
    let nrrd = |line: &str| {
        format!(
            "NRRD0004\n# {NAME}\n{NAME}\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\n{line}\n"
        )
    };
    let write = |name: &str, header: String| {
        fs::write(folder.path().join(name), [header.as_bytes(), &[0, 1, 1, 0, 0, 1]].concat())
            .unwrap();
    };
    write("a_image.mha", meta("3 2", ""));
    write("a_by_1.mha", meta("3 2", ""));
    write("a_by_2.mha", meta("3 9", ""));
    write("a_by_3.nrrd", nrrd(""));
    write("a_by_4.mha", meta("3 2", &format!("{NAME}\n")));
    let layout = patterns("{case}_image", Some("{case}_by_{rater}"), None);
    let found = read(folder.path(), &layout, &foreground("x"), &[]);
    assert_eq!(found.counts(), BTreeMap::from([("unreadable", 3)]), "{:?}", found.findings());
    assert!(!format!("{:?}", found.cases).contains("DOE"));
}

#[test]
fn pictures_of_all_kinds_are_masks() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    let drawn: Mask = mask!["# . .", ". . #"];
    let image = Grid::from_fn([1, 2, 3], |[_, row, column]| (row + column) as f32 / 4.0);
    write("a.png", image_png(&image, 0).unwrap());
    write("a_x.png", mask_png(&drawn, 0).unwrap());
    let colours = image::RgbaImage::from_fn(3, 2, |column, row| {
        let is_in = drawn.get([0, row as usize, column as usize]);
        image::Rgba([if is_in { 200 } else { 0 }, 0, 0, 255])
    });
    colours.save(folder.path().join("a_y.png")).unwrap();
    let layout = patterns("{case}.png", Some("{case}_{rater}.png"), None);
    let found = read(folder.path(), &layout, &foreground("x"), &[]);
    let case = &found.cases[0];
    assert!(case.raters.iter().all(|label| label.mask == drawn));
    let found_image = case.channels[0].1.image.values();
    let far = found_image.iter().zip(image.values()).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0.0, f32::max) < 1.0 / 65_535.0, "{found_image:?}");
    let counts = BTreeMap::from([("mask_not_single_channel", 1), ("raters_identical", 1)]);
    assert_eq!(found.counts(), counts);
    assert_eq!(case.findings[0].detail, "colour with opacity: the largest of red, green and blue");
}

#[test]
fn voxels_beside_a_header_are_files_of_the_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let header = "NDims = 2\nDimSize = 1 1\nElementType = MET_UCHAR\nElementDataFile = v.raw\n";
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/x.mhd"), header).unwrap();
    fs::write(folder.path().join("a/._x.mhd"), "left by an archive").unwrap();
    fs::write(folder.path().join("a/y.mhd"), "no header").unwrap();
    let files = files_under(folder.path()).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["a/x.mhd", "a/y.mhd"]);
    let names = |file| with_voxels(file).into_iter().map(|file| file.name).collect::<Vec<_>>();
    assert_eq!(names(&files[0]), ["a/x.mhd", "a/v.raw"]);
    assert_eq!(names(&files[1]), ["a/y.mhd"]);
}

/// Three cases of two phases as folders of slices with a label in NIfTI, one folder of each kind of defect.
#[test]
fn dicom_series_are_images_of_cases_and_their_defects_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let phase = |case: &str, phase: u16, heights: &[f64], change: &dyn Fn(&mut DrawnFile)| {
        let own = root.join(case).join("study").join(format!("post_{phase}"));
        fs::create_dir_all(&own).unwrap();
        for (n, &height) in heights.iter().enumerate() {
            let pixels = [0, 1, 2, 3, 4, 5].map(|pixel| 100 * phase + 10 * n as u16 + pixel);
            let mut slice = DrawnFile::slice([2, 3], [5.0, 6.0, height], &pixels);
            change(&mut slice);
            fs::write(own.join(format!("1-{n}.dcm")), slice.bytes()).unwrap();
        }
    };
    let heights = [9.0, 3.0, 6.0];
    for case in ["a", "b", "c"] {
        phase(case, 1, &heights, &|_| {});
    }
    phase("a", 2, &heights, &|_| {});
    phase("b", 2, &[9.0, 3.0, 5.0], &|_| {});
    phase("c", 2, &heights, &|slice| {
        slice.text(0x0028, 0x0301, "CS", "YES");
    });
    let affine = [[-0.5, 0.0, 0.0, -5.0], [0.0, -0.75, 0.0, -6.0], [0.0, 0.0, 3.0, 3.0]];
    let spacing = Spacing::new([3.0, 0.75, 0.5]).unwrap();
    let mut image = Image::filled([3, 2, 3], 0.0);
    image.set([1, 1, 1], 1.0);
    let label = Volume { image, spacing, affine: Some(affine.into()) };
    for case in ["a", "b", "c"] {
        let path = root.join(case).join("tumour.nii.gz");
        write_nifti(&path, &label, NiftiVoxel::U8, NiftiVersion::One).unwrap();
    }
    let layout = patterns("{case}/{*}/{channel}", None, Some("{case}/tumour.nii.gz"));
    let found = read(root, &layout, &foreground("tumour"), &[]);
    let codes: Vec<_> = found.findings().iter().map(|f| (f.case.clone(), f.code.name())).collect();
    let expected =
        [("b", "slice_gap"), ("c", "burned_in")].map(|(case, code)| (case.to_owned(), code));
    assert_eq!(codes, expected);
    let [a, b, c] = found.cases.as_slice() else { panic!() };
    assert!(b.channels.is_empty(), "a case without one of its phases is dropped");
    for case in [a, c] {
        let firsts: Vec<_> = case
            .channels
            .iter()
            .map(|(name, image)| (name.as_str(), image.image.get([0, 0, 0])))
            .collect();
        // The lowest slice was the second file.
        assert_eq!(firsts, [("post_1", 110.0), ("post_2", 210.0)]);
        assert_eq!(case.channels[0].1.spacing.millimetres(), [3.0, 0.75, 0.5]);
        assert_eq!(case.truth[0].mask.area(), 1);
    }
    assert!(!format!("{:?} {:?}", found.listing, found.cases).contains(NAME));
}

/// Archives and exports of clinics whose files have no ending: the content says what they are, in a folder of their own.
#[test]
fn slices_without_an_ending_are_told_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let slice = |n: u16, height: f64| {
        DrawnFile::slice([2, 3], [0.0, 0.0, height], &[n, 1, 2, 3, 4, 5]).bytes()
    };
    let heights = [(1, 0.0), (2, 2.0), (3, 4.0)];
    for (n, height) in heights {
        write(&format!("a/ct/IM00000{n}"), &slice(n, height));
        write(&format!("b/ct/1.2.840.113619.2.55.3.{n}"), &slice(n, height));
        write(&format!("c/ct/{n}.dcm"), &slice(n, height));
        write(&format!("d/ct/IM{n}.IMA"), &slice(n, height));
        write(&format!("e/ct/{n}"), b"no image, though there are many of them");
    }
    // The directory of the medium begins as DICOM does, and a copy of one slice is none of the folder with endings.
    write("a/ct/DICOMDIR", &slice(9, 9.0));
    write("a/ct/.hidden", &slice(9, 9.0));
    write("a/DICOMDIR", &slice(9, 9.0));
    write("a/ct/preview.png", b"no picture");
    write("c/ct/IM000009", &slice(9, 9.0));
    write("c/ct/069.xml", b"<a/>");
    write("d/ct/VERSION", b"2.1");
    let layout = patterns("{case}/{channel}", None, None);
    let found = read(root, &layout, &BTreeMap::new(), &[]);
    let cases: Vec<_> = found.listing.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(cases, ["a", "b", "c", "d"]);
    let names: Vec<_> = found.listing.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names[..3], ["a/ct/IM000001", "a/ct/IM000002", "a/ct/IM000003"]);
    assert_eq!(names.len(), 3 + 3 + 3 + 4, "neither what has another ending nor directories");
    // What is declared of a folder gives the same cases.
    let again = list(&found.listing.files, &layout, &BTreeMap::new(), Wanted::default()).unwrap();
    assert_eq!(again.entries, found.listing.entries);
    for case in &found.cases[..3] {
        let [(channel, image)] = case.channels.as_slice() else { panic!("{:?}", case.findings) };
        assert_eq!((channel.as_str(), image.image.shape()), ("ct", [3, 2, 3]));
        assert_eq!([0, 1, 2].map(|slice| image.image.get([slice, 0, 0])), [1.0, 2.0, 3.0]);
    }
    let told: Vec<_> =
        found.findings().into_iter().map(|f| (f.case, f.code.name(), f.file)).collect();
    assert_eq!(told, [("d".to_owned(), "unreadable", "d/ct/VERSION".to_owned())]);
}
