//! A miniature of the release: six patients in three slices of 4 x 5 pixels, and the tables of
//! `tests/python/sheet_vectors.py` beside them.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::{
    DatasetsError, Mask, Split,
    dicom::drawn::DrawnFile,
    folder::{
        Entry, FolderCase, LabelValues, Layout, Listing, ReadOptions, SourceFile, ValueRule,
        Wanted, files_under, list, read_case,
    },
    mask,
    sheet::each_row,
    table::Cell,
};

const TABLES: [(&str, &str); 3] = [
    ("Annotation_Boxes", "boxes"),
    ("Breast-Cancer-MRI-filepath_filename-mapping", "mapping"),
    ("Clinical_and_Other_Features", "clinical"),
];

/// The tables of the miniature as workbooks.
fn workbooks() -> Vec<SourceFile> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sheet/vectors"));
    let file = |(name, own): (&str, &str)| SourceFile {
        name: format!("{name}.xlsx"),
        path: folder.join(format!("{own}.xlsx")),
    };
    TABLES.map(file).into()
}

/// The same tables as text.
fn texts(folder: &Path) -> Vec<SourceFile> {
    let text = |workbook: &SourceFile| {
        let mut lines = Vec::new();
        let sheet = workbook.name.starts_with("Clinical").then_some("Data");
        each_row(&workbook.path, sheet, |number, cells| {
            lines.resize(number - 1, String::new());
            let quoted = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\"")));
            lines.push(quoted.collect::<Vec<_>>().join(","));
        })
        .unwrap();
        let name = workbook.name.replace(".xlsx", ".csv");
        let path = folder.join(&name);
        fs::write(&path, lines.join("\r\n")).unwrap();
        SourceFile { name, path }
    };
    workbooks().iter().map(text).collect()
}

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// How the slices of a patient are stored.
#[derive(Clone, Copy, PartialEq)]
enum Stored {
    /// Numbers go upwards, columns to the left.
    Up,
    /// Numbers go downwards, columns to the right and rows to the front: `ImageOrientationPatient` begins with -1.
    DownTurned,
    /// Slices have no numbers.
    Unnumbered,
}

/// A series of three slices, 2 mm apart; the middle column lies in the middle of the body.
fn write_series(root: &Path, patient: u16, series: &str, stored: Stored) {
    let folder = root.join("Duke-Breast-Cancer-MRI").join(format!("Breast_MRI_{patient:03}"));
    let folder = folder.join("study").join(series);
    fs::create_dir_all(&folder).unwrap();
    for number in 1..=3_u16 {
        let pixels: Vec<u16> = (0..20).map(|n| 100 * patient + 20 * number + n).collect();
        let is_down = stored == Stored::DownTurned;
        let height = f64::from(if is_down { 3 - number } else { number });
        let [x, y] = if is_down { [1.0, 3.0] } else { [-1.0, 0.75] };
        let mut slice = DrawnFile::slice([4, 5], [x, y, 2.0 * height], &pixels);
        if is_down {
            slice.text(0x0020, 0x0037, "DS", "-1\\0\\0\\0\\-1\\0");
        }
        if stored != Stored::Unnumbered {
            slice.text(0x0020, 0x0013, "IS", &number.to_string());
        }
        fs::write(folder.join(format!("1-{number:03}.dcm")), slice.bytes()).unwrap();
    }
}

fn write_patients(root: &Path) {
    let uid = "1.3.6.1.4.1.14519.5.2.1.0001";
    for digit in 0..3 {
        write_series(root, 1, &format!("{uid}{digit}"), Stored::Up);
    }
    let described = [
        (2, "4.000000-ax dyn pre-00021", Stored::DownTurned),
        (2, "5.000000-ax dyn 1st pas-00022", Stored::DownTurned),
        (2, "7.000000-ax dyn-00029", Stored::DownTurned),
        (3, "4.000000-ax 3d dyn-00031", Stored::Up),
        (3, "5.000000-Ph1ax 3d dyn-00032", Stored::Up),
        (4, "4.000000-ax 3d dyn-00041", Stored::Up),
        (4, "5.000000-Ph1ax 3d dyn-00042", Stored::Up),
        (5, "4.000000-ax 3d dyn-00051", Stored::Unnumbered),
        (5, "5.000000-Ph1ax 3d dyn-00052", Stored::Unnumbered),
        (6, "4.000000-ax 3d dyn-00061", Stored::Up),
        (6, "5.000000-Ph1ax 3d dyn-00062", Stored::Up),
    ];
    for (patient, series, stored) in described {
        write_series(root, patient, series, stored);
    }
}

fn read(root: &Path, tables: Option<&DukeTables>) -> (Listing, Vec<FolderCase>) {
    let channels = columns(&["phase_0", "phase_1"]);
    let rule = LabelValues::Rule(ValueRule::Foreground);
    let structures = BTreeMap::from([("tumour".to_owned(), rule)]);
    let wanted = Wanted { channels: Some(&channels), tables, raters: None };
    let files = files_under(root).unwrap();
    let listing = list(&files, &Layout::Duke, &structures, wanted).unwrap();
    let options =
        ReadOptions { dataset: "duke", structures: &structures, nested: &[], spacing: None };
    let read = |entry: &Entry| read_case(entry, Split::Train, &options);
    let cases = listing.entries.iter().map(read).collect();
    (listing, cases)
}

#[test]
fn boxes_and_phases_of_the_tables_meet_their_series() {
    let folder = tempfile::tempdir().unwrap();
    write_patients(folder.path());
    let tables = DukeTables::read(&workbooks(), &[]).unwrap();
    let (listing, cases) = read(folder.path(), Some(&tables));
    let findings: Vec<String> = listing
        .findings
        .iter()
        .chain(cases.iter().flat_map(|case| &case.findings))
        .map(ToString::to_string)
        .collect();
    let [boxes, mapping, _] = TABLES.map(|(name, _)| format!("{name}.xlsx"));
    let series = |patient: u8, series: &str| {
        format!("Duke-Breast-Cancer-MRI/Breast_MRI_{patient:03}/study/{series}")
    };
    let expected = [
        format!(
            "warning `phase_mismatch` case `Breast_MRI_002` file `{}`: the name says `phase_0`: the table does not name \
             the series (kept)",
            series(2, "7.000000-ax dyn-00029")
        ),
        format!(
            "warning `phase_mismatch` case `Breast_MRI_006` file `{}`: the name says `phase_0`: the table says `post_1` \
             (kept)",
            series(6, "4.000000-ax 3d dyn-00061")
        ),
        format!(
            "warning `phase_mismatch` case `Breast_MRI_006` file `{}`: the name says `phase_1`: the table says `pre` (kept)",
            series(6, "5.000000-Ph1ax 3d dyn-00062")
        ),
        format!(
            "error `invalid_row` case `Breast_MRI_008` file `{boxes}`: row 8 is no box: `Start Row` must be a whole number \
             from 1 on (dropped)"
        ),
        format!(
            "error `invalid_row` case `Breast_MRI_009` file `{boxes}`: row 9 is no box: `Start Column` is 2 and `End \
             Column` is 1 (dropped)"
        ),
        format!("error `invalid_row` case `` file `{boxes}`: row 11 names no patient (dropped)"),
        format!(
            "error `invalid_row` case `Breast_MRI_010` file `{mapping}`: row 23 has no phase that is known (dropped)"
        ),
        format!(
            "error `invalid_row` case `` file `{mapping}`: row 26 has no patient and phase (dropped)"
        ),
        format!(
            "error `invalid_row` case `` file `{mapping}`: row 27 has no patient and phase (dropped)"
        ),
        format!(
            "warning `unpaired_image` case `Breast_MRI_004` file `{}`: no label of this name (dropped)",
            series(4, "4.000000-ax 3d dyn-00041")
        ),
        format!(
            "warning `unpaired_label` case `breast_mri_007` source `box` file `{boxes}`: no image of this name (dropped)"
        ),
        format!(
            "error `box_outside` case `Breast_MRI_003` source `box` file `{boxes}`: the box has rows 1 to 9, columns 1 to 2, \
             slices 1 to 1: shape [slice, row, column] = [3, 4, 5] (dropped)"
        ),
        format!(
            "error `slice_numbers` case `Breast_MRI_005` source `box` file `{boxes}`: the files of the image do not number \
             its slices in order (dropped)"
        ),
        format!(
            "warning `side_mismatch` case `Breast_MRI_006` source `box` file `{boxes}`: the middle of the box lies 0.8 mm \
             to the right: the table says left (kept)"
        ),
    ];
    assert_eq!(findings, expected);

    assert_eq!(listing.raters, ["box"]);
    let none = mask![". . . . .", ". . . . .", ". . . . .", ". . . . ."];
    let slices = |slices: [&Mask; 3]| {
        Mask::new([3, 4, 5], slices.map(|slice| slice.values().to_vec()).concat()).unwrap()
    };
    let first = mask![". . . . .", ". . . # #", ". . . # #", ". . . . ."];
    let second = mask![". . . # #", ". . . . .", ". . . . .", ". . . . ."];
    let sixth = mask![". . . . .", ". . . . .", ". . . . .", "# # . . ."];
    let expected = [
        ("Breast_MRI_001", slices([&first, &first, &none])),
        // The first file is the highest slice.
        ("Breast_MRI_002", slices([&none, &none, &second])),
        ("Breast_MRI_006", slices([&none, &none, &sixth])),
    ];
    let found: Vec<_> = cases
        .iter()
        .filter_map(|case| case.raters.first())
        .map(|label| (label.id.as_str(), label.mask.clone()))
        .collect();
    assert_eq!(found, expected);
    let label = &cases[0].raters[0];
    assert_eq!((label.source.as_str(), label.structure.as_str()), ("box", "tumour"));
}

/// Series that the table of paths names are the channels that it says, whatever their folders are called.
#[test]
fn the_table_of_paths_wins_over_names() {
    let folder = tempfile::tempdir().unwrap();
    write_patients(folder.path());
    let channels = |tables: Option<&DukeTables>| {
        let (listing, _) = read(folder.path(), tables);
        let image = |entry: &Entry| {
            let names = entry.images.iter().map(|(_, file)| file.path.file_name().unwrap());
            let names = names.map(|name| name.to_str().unwrap().to_owned());
            (entry.id.clone(), names.collect::<Vec<_>>())
        };
        listing.entries.iter().map(image).collect::<BTreeMap<_, _>>()
    };
    let tables = DukeTables::read(&workbooks()[1..2], &[]).unwrap();
    let by_table = channels(Some(&tables));
    let uid = "1.3.6.1.4.1.14519.5.2.1.0001";
    assert_eq!(by_table["Breast_MRI_001"], [format!("{uid}1"), format!("{uid}2")]);
    let named = &by_table["Breast_MRI_002"];
    assert_eq!(*named, ["4.000000-ax dyn pre-00021", "5.000000-ax dyn 1st pas-00022"]);
    let turned = &by_table["Breast_MRI_006"];
    assert_eq!(*turned, ["5.000000-Ph1ax 3d dyn-00062", "4.000000-ax 3d dyn-00061"]);
    assert_eq!(by_table.len(), 6, "patients whom the table does not know");
    let by_name = channels(None);
    assert!(!by_name.contains_key("Breast_MRI_001") && !by_name.contains_key("Breast_MRI_002"));
    let straight = &by_name["Breast_MRI_006"];
    assert_eq!(*straight, ["4.000000-ax 3d dyn-00061", "5.000000-Ph1ax 3d dyn-00062"]);
}

#[test]
fn chosen_columns_are_those_of_the_cases() {
    let names = columns(&["Tumor Characteristics:Staging(Tumor Size)# [T]", "Mammography:Shape"]);
    let tables = DukeTables::read(&workbooks()[2..], &names).unwrap();
    let cases = ["Breast_MRI_006", "Breast_MRI_001", "Breast_MRI_004"];
    let table = tables.clinical(cases.into_iter()).unwrap().unwrap();
    let known: Vec<&str> = table.columns().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(known, ["case_id", &names[0], &names[1]]);
    let row = |cells: [Option<&str>; 3]| cells.map(Cell::from).to_vec();
    let expected = [
        row([Some("Breast_MRI_006"), None, Some("2.5")]),
        row([Some("Breast_MRI_001"), Some("2"), Some("NC")]),
        row([Some("Breast_MRI_004"), None, None]),
    ];
    assert_eq!(table.rows(), expected);
    assert!(!format!("{tables:?}").contains("15209"), "what nobody asked for is not kept");
    assert_eq!(DukeTables::default().clinical(cases.into_iter()).unwrap(), None);
    for (column, expected) in [
        ("Mammography:Margin", columns(&["Mammography:Shape"])),
        ("Shape", columns(&["Patient Information", "Tumor Characteristics", "Mammography"])),
    ] {
        let error = DukeTables::read(&workbooks()[2..], &columns(&[column])).unwrap_err();
        let DatasetsError::MissingColumn { found, .. } = error else { panic!("{error}") };
        assert_eq!(found, expected);
    }
}

#[test]
fn tables_as_text_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let names = columns(&["Tumor Characteristics:ER"]);
    let by_text = DukeTables::read(&texts(folder.path()), &names).unwrap();
    let by_workbook = DukeTables::read(&workbooks(), &names).unwrap();
    let debug = |tables: &DukeTables| {
        let mut tables = tables.clone();
        tables.boxes = tables.boxes.map(|(_, boxes)| (workbooks()[0].clone(), boxes));
        format!("{tables:?}").replace(".csv", ".xlsx")
    };
    assert_eq!(debug(&by_text), debug(&by_workbook));
    let wrong = folder.path().join("wrong.csv");
    fs::write(&wrong, "Patient ID,Start Row\nBreast_MRI_001,1\n").unwrap();
    let wrong = SourceFile { name: "Annotation_Boxes.csv".to_owned(), path: wrong };
    let error = DukeTables::read(&[wrong], &[]).unwrap_err();
    assert!(matches!(error, DatasetsError::MissingColumn { column, .. } if column == "End Row"));
}

#[test]
fn tables_lie_under_their_names_or_where_somebody_says() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("manifest-1");
    fs::create_dir(&root).unwrap();
    let write = |name: &str| fs::write(folder.path().join(name), "").unwrap();
    write("Annotation_Boxes.xlsx");
    write("Clinical_and_Other_Features.xlsx");
    write("manifest-1/Clinical_and_Other_Features.csv");
    write("paths.CSV");
    let files = TableFiles { mapping: Some("paths.CSV".into()), ..TableFiles::default() };
    let found = files.find(&root, folder.path());
    let found: Vec<(&str, PathBuf)> = found
        .iter()
        .map(|file| (file.name.as_str(), file.path.strip_prefix(folder.path()).unwrap().to_owned()))
        .collect();
    let [boxes, mapping, clinical] = [
        ("Annotation_Boxes.xlsx", "Annotation_Boxes.xlsx"),
        ("Breast-Cancer-MRI-filepath_filename-mapping.csv", "paths.CSV"),
        ("Clinical_and_Other_Features.csv", "manifest-1/Clinical_and_Other_Features.csv"),
    ]
    .map(|(name, path)| (name, PathBuf::from(path)));
    assert_eq!(found, [boxes, mapping, clinical]);
}
