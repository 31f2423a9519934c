#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{fs, path::PathBuf};

use super::{drawn::*, *};
use crate::{
    Grid, Spacing, Stream,
    dicom::{Numbering, Series, Uid},
    error::messages,
    volume::Volume,
};

fn parse(text: &str) -> Reading {
    Reading::parse(text.as_bytes()).unwrap()
}

/// Two slices of an outlined nodule with a hole, a small one, something else, and two sessions without a mark.
fn drawn_reading() -> String {
    let hole = roi(-2.5, &object_uid(1, 1), false, &ring([2, 2], [4, 4]));
    let outlined = [
        roi(-2.5, &object_uid(1, 1), true, &ring([1, 1], [5, 6])),
        hole,
        roi(0.0, &object_uid(1, 2), true, &ring([2, 2], [4, 5])),
    ];
    let small = nodule("0", None, &[roi(0.0, &object_uid(1, 2), true, &[[7, 3]])]);
    let marks = nodule("Nodule 001", Some(4), &outlined) + &other(0.0, &object_uid(1, 2), [6, 6]);
    reading(1, &[marks, small, String::new(), String::new()])
}

#[test]
fn a_reading_is_understood_as_it_is_written() {
    let found = parse(&drawn_reading());
    assert_eq!(found.series, Uid::new(&series_uid(1)));
    let counts: Vec<usize> = found.sessions.iter().map(|session| session.nodules.len()).collect();
    assert_eq!(counts, [1, 1, 0, 0], "marks of what is no nodule do not count");
    let nodule = &found.sessions[0].nodules[0];
    assert_eq!(nodule.characteristics, [5, 1, 6, 3, 4, 2, 1, 5, 4].map(Some));
    let kinds: Vec<bool> = nodule.outlines.iter().map(|outline| outline.is_inclusion).collect();
    assert_eq!(kinds, [true, false, true]);
    let last = &nodule.outlines[2];
    assert_eq!((last.height_mm, &last.object), (Some(0.0), &Uid::new(&object_uid(1, 2))));
    // x is the column.
    let around =
        [[2, 2], [3, 2], [4, 2], [4, 3], [4, 4], [4, 5], [3, 5], [2, 5], [2, 4], [2, 3], [2, 2]];
    assert_eq!(last.edge, around);
    let small = &found.sessions[1].nodules[0];
    assert_eq!((nodule.is_outlined(), small.is_outlined()), (true, false));
    assert_eq!(small.characteristics, [None; 9]);
    let shown = format!("{found:?}");
    assert!(!shown.contains(UIDS) && !shown.contains(READER), "{shown}");
}

#[test]
fn a_byte_order_mark_prefixes_comments_and_both_spellings_change_nothing() {
    let plain = drawn_reading();
    let expected = parse(&plain);
    assert_eq!(parse(&format!("\u{feff}{plain}")), expected);
    let with_prefix = plain
        .replace("</", "</n:")
        .replace('<', "<n:")
        .replace("<n:/", "</")
        .replace("<n:?", "<?")
        .replace("xmlns=", "xmlns:n=");
    assert!(with_prefix.contains("<n:roi>") && with_prefix.contains("</n:roi>"));
    assert_eq!(parse(&with_prefix), expected);
    let upper = plain.replace("SeriesInstanceUid", "SeriesInstanceUID");
    assert_eq!(parse(&upper), expected);
    let talked = plain.replace("<inclusion>", "<!-- </roi> --><new><roi/></new><inclusion>");
    assert_eq!(parse(&talked.replace('\n', "\r\n")), expected);
}

#[test]
fn what_is_no_reading_is_named_with_its_place() {
    let refused = |text: String| messages(&Reading::parse(text.as_bytes()).unwrap_err());
    assert_eq!(refused(String::new()), "the root element must be `LidcReadMessage`: found another");
    assert_eq!(refused("<html></html>".into()), refused(String::new()));
    assert!(refused(xray_reading()).contains("chest X-rays"));
    let plain = drawn_reading();
    let changed = |from: &str, to: &str| refused(plain.replacen(from, to, 1));
    for (from, to, told) in [
        ("<xCoord>1</xCoord>", "<xCoord>1.5</xCoord>", "`xCoord` that ends at byte"),
        ("<xCoord>1</xCoord>", "<xCoord>-1</xCoord>", "must be a whole number up to 65535"),
        ("<xCoord>1</xCoord>", "<xCoord>&#49;</xCoord>", "must be a whole number up to 65535"),
        ("<xCoord>1</xCoord>", "", "`edgeMap` that ends at byte"),
        ("<inclusion>TRUE</inclusion>", "", "has no `inclusion`"),
        ("<inclusion>TRUE</inclusion>", "<inclusion/>", "`inclusion` that ends at byte"),
        (">-2.500000 <", ">inf<", "must be a finite number"),
        ("<margin>4<", "<margin>256<", "`margin` that ends at byte"),
        ("</edgeMap>", "</edgemap>", "the XML is damaged at byte"),
        ("</LidcReadMessage>", "", "the XML is damaged at byte"),
        ("</LidcReadMessage>", "</LidcReadMessage><more/>", "the XML is damaged at byte"),
    ] {
        let text = changed(from, to);
        assert!(text.contains(told), "{to}: {text}");
    }
    let long = reading(1, &[nodule("1", None, &[roi(0.0, "1", true, &vec![[1, 1]; 8193])])]);
    assert!(refused(long).starts_with("`roi` has more than 8192 points"));
    let deep = format!("<LidcReadMessage>{}", "<a>".repeat(1 << 20));
    assert!(refused(deep).starts_with("the XML is damaged"));
    let large = format!("<LidcReadMessage>{}</LidcReadMessage>", " ".repeat(1 << 24));
    assert_eq!(refused(large), "the file has more than 16777216 bytes");
    // Entities are neither expanded nor fetched.
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY c \"&b;&b;\"><!ENTITY d SYSTEM \"file:///etc/passwd\">]>";
    let expected = parse(&plain);
    assert_eq!(parse(&plain.replacen("<Lidc", &format!("{bomb}<Lidc"), 1)), expected);
    assert!(changed("<xCoord>1</xCoord>", "<xCoord>&c;</xCoord>").contains("`xCoord`"));
}

/// No damage makes the reader fail in another way than by an error, or tell whose study it is.
#[test]
fn no_damage_does_harm() {
    const WORDS: [&str; 12] = [
        "<",
        ">",
        "</roi>",
        "<roi>",
        "&",
        "]]>",
        "<!--",
        "<![CDATA[",
        "99999999999999999999",
        "nan",
        "\u{0}",
        "<a/>",
    ];
    let good = drawn_reading().into_bytes();
    let mut stream = Stream::new(0, "test.lidc.damage", &[]);
    let (mut n_read, mut n_refused) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=stream.below(3) {
            let place = stream.below(bytes.len());
            let end = (place + 1 + stream.below(80)).min(bytes.len());
            match stream.below(6) {
                0 => bytes[place] ^= 1 << stream.below(8),
                1 => bytes[place] = stream.below(256) as u8,
                2 => drop(bytes.drain(place..end)),
                3 => {
                    let word = WORDS[stream.below(WORDS.len())];
                    drop(bytes.splice(place..place, word.bytes()));
                }
                4 => {
                    let (twice, to) = (bytes[place..end].to_vec(), stream.below(bytes.len()));
                    drop(bytes.splice(to..to, twice));
                }
                _ => bytes.truncate(place.max(1)),
            }
        }
        match Reading::parse(&bytes) {
            Ok(found) => {
                n_read += 1;
                let n_points = |session: &Session| -> usize {
                    let outlines = session.nodules.iter().flat_map(|nodule| &nodule.outlines);
                    outlines.map(|outline| outline.edge.len()).sum()
                };
                // The shortest point has 52 bytes.
                assert!(found.sessions.iter().map(n_points).sum::<usize>() <= bytes.len() / 52);
                assert!(!format!("{found:?}").contains(UIDS));
            }
            Err(error) => {
                n_refused += 1;
                let text = format!("{} {error:?}", messages(&error));
                assert!(!text.contains(UIDS) && !text.contains(READER), "{text}");
            }
        }
    }
    assert!(n_read > 100 && n_refused > 1000, "{n_read} {n_refused}");
}

/// Four axial slices from -5 mm on, 2.5 mm apart.
fn drawn_series(objects: Vec<Option<Uid>>) -> Series {
    let affine = [[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 2.5, -5.0]];
    let spacing = Spacing::new([2.5, 1.0, 1.0]).unwrap();
    let volume =
        Volume { image: Grid::filled([4, 1, 1], 0.0), spacing, affine: Some(affine.into()) };
    let (channels, has_spacing, notes) = (vec![volume], true, Vec::new());
    let numbering = Numbering::Unclear;
    Series { channels, seconds: None, has_spacing, numbering, uid: None, objects, notes }
}

#[test]
fn slices_are_found_by_their_objects_and_else_by_their_heights() {
    let outline = |height_mm: Option<f64>, object: Option<usize>| {
        let object = object.and_then(|slice| Uid::new(&object_uid(1, slice)));
        Outline { height_mm, object, is_inclusion: true, edge: Vec::new() }
    };
    let named = (0..4).map(|slice| Uid::new(&object_uid(1, slice))).collect();
    let by_object = SlicePlaces::of(&drawn_series(named));
    let find = |height, object| by_object.find(&outline(height, object));
    assert_eq!(find(Some(-5.0), Some(3)), Some(3), "whatever the height");
    assert_eq!(find(Some(-5.0), Some(4)), None, "an image that is not there");
    assert_eq!(find(Some(-2.5), None), Some(1));
    let twice = vec![Uid::new("1"); 4];
    for objects in [vec![None; 4], twice] {
        let by_height = SlicePlaces::of(&drawn_series(objects));
        let find = |height| by_height.find(&outline(height, Some(3)));
        let heights = [-6.3, -6.2, -5.0, -3.8, -3.7, 2.5, 3.7, 3.8];
        let expected = [None, Some(0), Some(0), Some(0), Some(1), Some(3), Some(3), None];
        assert_eq!(heights.map(|height| find(Some(height))), expected);
        assert_eq!(find(None), None);
    }
    let mut flat = drawn_series(vec![None; 4]);
    flat.channels[0].affine =
        Some([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 3.0]].into());
    assert_eq!(SlicePlaces::of(&flat).find(&outline(Some(3.0), None)), None, "upright slices");
}

/// The release in small: names of folders, two scans of one patient, X-rays, and files without their partners.
fn release(root: &Path) -> Vec<SourceFile> {
    let ct = reading(1, &[]);
    let xray = xray_reading();
    let files: [(&str, &str); 15] = [
        ("LICENSE", ""),
        ("LIDC-IDRI/LICENSE.xml", "<a/>"),
        ("LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192/1-002.dcm", ""),
        ("LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192/1-001.dcm", ""),
        ("LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192/069.xml", &ct),
        ("LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-35511/3000923.000000-62357/1-1.dcm", ""),
        ("LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-35511/3000923.000000-62357/068.xml", &xray),
        ("LIDC-IDRI/LIDC-IDRI-0132/a/1/1-1.dcm", ""),
        ("LIDC-IDRI/LIDC-IDRI-0132/a/1/1.xml", &ct),
        ("LIDC-IDRI/LIDC-IDRI-0132/b/1/1-1.DCM", ""),
        ("LIDC-IDRI/LIDC-IDRI-0132/b/1/1.XML", "no XML"),
        ("LIDC-IDRI/LIDC-IDRI-0132/c/1/1-1.dcm", ""),
        ("LIDC-IDRI/LIDC-IDRI-0132/c/1/1-2.dcm", ""),
        ("LIDC-IDRI/LIDC-IDRI-0200/a/1/1.xml", &ct),
        ("LIDC-IDRI/LIDC-IDRI-x/a/1/1.xml", &ct),
    ];
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    crate::folder::files_under(root).unwrap()
}

#[test]
fn scans_are_folders_with_slices_and_a_reading() {
    let folder = tempfile::tempdir().unwrap();
    let listing = list(&release(folder.path()));
    let rows: Vec<_> = listing
        .entries
        .iter()
        .map(|e| (e.id.as_str(), e.patient.as_str(), e.slices.len(), e.readings.len()))
        .collect();
    let expected = [
        ("LIDC-IDRI-0001", "LIDC-IDRI-0001", 2, 1),
        ("LIDC-IDRI-0132", "LIDC-IDRI-0132", 1, 1),
        ("LIDC-IDRI-0132_2", "LIDC-IDRI-0132", 1, 1),
    ];
    assert_eq!(rows, expected);
    let first = &listing.entries[0].folder;
    assert_eq!(first.name, "LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192");
    assert_eq!(first.path, folder.path().join(&first.name));
    let told: Vec<_> = listing.findings.iter().map(|f| (f.code.name(), f.case.as_str())).collect();
    let expected = [
        ("xray_reading", "LIDC-IDRI-0001"),
        ("unpaired_image", "LIDC-IDRI-0132"),
        ("unpaired_label", "LIDC-IDRI-0200"),
    ];
    assert_eq!(told, expected);
    // The files of the listing give the same listing.
    let again = list(&listing.files);
    assert_eq!((&again.entries, &again.findings), (&listing.entries, &listing.findings));
    assert_eq!(listing.files.len(), 3 + 1 + 2 + 2 + 1 + 1);
    let unread: PathBuf = listing.entries[2].readings[0].path.clone();
    assert!(matches!(read_reading(&unread), Err(crate::DatasetsError::Reading { .. })));
}
