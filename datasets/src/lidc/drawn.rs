//! Readings for tests, written as the release writes them; what names a study or a reader must be found nowhere.

/// Begins every name of an object, a series and a study.
pub(crate) const UIDS: &str = "1.3.6.1.4.1.14519.5.2.1.6279.6001";

/// Occurs in whatever names a reader.
pub(crate) const READER: &str = "540461523";

/// Name of a series.
pub(crate) fn series_uid(series: usize) -> String {
    format!("{UIDS}.{series}")
}

/// Name of a slice of a series.
pub(crate) fn object_uid(series: usize, slice: usize) -> String {
    format!("{UIDS}.{series}.{slice}")
}

/// The closed line of pixels along the border of a box, from one corner `[row, column]` to the other and back to the first.
pub(crate) fn ring([top, left]: [usize; 2], [bottom, right]: [usize; 2]) -> Vec<[usize; 2]> {
    let down = (top..bottom).map(|row| [row, left]);
    let over = (left..right).map(|column| [bottom, column]);
    let up = (top + 1..=bottom).rev().map(|row| [row, right]);
    let back = (left + 1..=right).rev().map(|column| [top, column]);
    down.chain(over).chain(up).chain(back).chain([[top, left]]).collect()
}

/// An outline; the blank behind the height is that of the release.
pub(crate) fn roi(height: f64, object: &str, is_inclusion: bool, edge: &[[usize; 2]]) -> String {
    let inclusion = if is_inclusion { "TRUE" } else { "FALSE" };
    let points: String = edge
        .iter()
        .map(|point| format!("<edgeMap>\n{}</edgeMap>\n", coordinates(*point)))
        .collect();
    format!(
        "<roi>\n<imageZposition>{height:.6} </imageZposition>\n<imageSOP_UID>{object}</imageSOP_UID>\n\
         <inclusion>{inclusion}</inclusion>\n{points}</roi>\n"
    )
}

fn coordinates([row, column]: [usize; 2]) -> String {
    format!("<xCoord>{column}</xCoord>\n<yCoord>{row}</yCoord>\n")
}

/// A nodule; small ones often have an empty element for what is said of it.
pub(crate) fn nodule(name: &str, malignancy: Option<u8>, rois: &[String]) -> String {
    let said = malignancy.map_or("<characteristics/>\n".to_owned(), |malignancy| {
        format!(
            "<characteristics>\n<subtlety>5</subtlety>\n<internalStructure>1</internalStructure>\n\
             <calcification>6</calcification>\n<sphericity>3</sphericity>\n<margin>4</margin>\n<lobulation>2</lobulation>\n\
             <spiculation>1</spiculation>\n<texture>5</texture>\n<malignancy>{malignancy}</malignancy>\n</characteristics>\n"
        )
    });
    let rois = rois.concat();
    format!(
        "<unblindedReadNodule>\n<noduleID>{name}</noduleID>\n{said}{rois}</unblindedReadNodule>\n"
    )
}

/// A mark of what is no nodule.
pub(crate) fn other(height: f64, object: &str, place: [usize; 2]) -> String {
    format!(
        "<nonNodule>\n<nonNoduleID>IL057_127364</nonNoduleID>\n<imageZposition>{height:.6} </imageZposition>\n\
         <imageSOP_UID>{object}</imageSOP_UID>\n<locus>\n{}</locus>\n</nonNodule>\n",
        coordinates(place)
    )
}

/// A reading with one session for each of `sessions`.
pub(crate) fn reading(series: usize, sessions: &[String]) -> String {
    let session = |marks: &String| {
        format!(
            "<readingSession>\n<annotationVersion>3.12</annotationVersion>\n\
             <servicingRadiologistID>{READER}</servicingRadiologistID>\n{marks}</readingSession>\n"
        )
    };
    let sessions: String = sessions.iter().map(session).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LidcReadMessage uid=\"{UIDS}.1307390687803.0\" \
         xmlns=\"http://www.nih.gov\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:schemaLocation=\"http://www.nih.gov http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd\">\n\
         <ResponseHeader>\n<Version>1.8.1</Version>\n<MessageId>-421198203</MessageId>\n<DateRequest>2007-11-01</DateRequest>\n\
         <RequestingSite>removed</RequestingSite>\n<TaskDescription>Second unblinded read</TaskDescription>\n\
         <SeriesInstanceUid>{}</SeriesInstanceUid>\n<ResponseDescription>1 - Reading complete</ResponseDescription>\n\
         <StudyInstanceUID>{UIDS}.7</StudyInstanceUID>\n</ResponseHeader>\n{sessions}</LidcReadMessage>\n",
        series_uid(series)
    )
}

/// A reading of chest X-rays.
pub(crate) fn xray_reading() -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<IdriReadMessage uid=\"{UIDS}.5\" xmlns=\"http://www.nih.gov/idri\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n<ResponseHeader>\n\
         <CXRSeriesInstanceUid>{UIDS}.9</CXRSeriesInstanceUid>\n</ResponseHeader>\n<CXRreadingSession>\n\
         <servicingRadiologistID>{READER}</servicingRadiologistID>\n</CXRreadingSession>\n</IdriReadMessage>\n"
    )
}

/// Rows and columns of a slice.
pub(crate) const SLICE: [u16; 2] = [8, 9];

/// Slices of a scan.
pub(crate) const N_SLICES: usize = 4;

/// Height of a slice in millimetres.
pub(crate) fn height(slice: usize) -> f64 {
    -5.0 + 2.5 * slice as f64
}

/// Four sessions of one scan: a nodule that three saw, with a hole in one slice of the first and an outline of the second
/// on a slice that is not there; one that the third alone saw; a small one, and something else.
pub(crate) fn sessions(series: usize) -> [String; 4] {
    let on = |slice: usize, is_inclusion: bool, edge: &[[usize; 2]]| {
        roi(height(slice), &object_uid(series, slice), is_inclusion, edge)
    };
    let diamond = [[2, 4], [3, 5], [4, 6], [5, 5], [6, 4], [5, 3], [4, 2], [3, 3], [2, 4]];
    let first = [
        on(1, true, &ring([1, 1], [6, 7])),
        on(1, false, &ring([2, 2], [5, 5])),
        on(2, true, &diamond),
    ];
    let small = [on(3, true, &[[5, 5]])];
    let second = [on(2, true, &ring([3, 3], [5, 6])), on(N_SLICES, true, &ring([3, 3], [5, 6]))];
    let third = [on(2, true, &ring([3, 4], [5, 7]))];
    let alone = [on(0, true, &ring([0, 0], [2, 2]))];
    [
        nodule("Nodule 001", Some(5), &first) + &nodule("2", None, &small),
        nodule("IL057_127364", Some(4), &second)
            + &other(height(0), &object_uid(series, 0), [6, 6]),
        nodule("1", Some(3), &third) + &nodule("0", None, &alone),
        String::new(),
    ]
}

/// Folder of the scan of a patient.
pub(crate) fn folder(patient: usize) -> String {
    format!(
        "LIDC-IDRI/LIDC-IDRI-{patient:04}/01-01-2000-3017{patient}/300056{patient}.000000-0319{patient}"
    )
}

/// Six patients as the release has them, by the names of files: X-rays of the first, a copy of the second's reading, one with
/// a byte order mark, and two panels for the last. `slice` draws a slice, whose files are numbered from the head down.
pub(crate) fn release(slice: impl Fn(usize, usize) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for patient in 1..=6 {
        let folder = folder(patient);
        for n in 0..N_SLICES {
            files.push((format!("{folder}/1-{:03}.dcm", N_SLICES - n), slice(patient, n)));
        }
        let sessions = sessions(patient);
        let text = match patient {
            3 => format!("\u{feff}{}", reading(patient, &sessions)),
            6 => reading(patient, &[sessions.clone(), sessions].concat()),
            _ => reading(patient, &sessions),
        };
        if patient == 2 {
            let copy = text.replace("-421198203", "-421198204");
            files.push((format!("{folder}/068b.xml"), copy.into_bytes()));
        }
        files.push((format!("{folder}/068.xml"), text.into_bytes()));
    }
    let xray = "LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-35511/3000923.000000-62357";
    files.push((format!("{xray}/1-1.dcm"), b"never read".to_vec()));
    files.push((format!("{xray}/071.xml"), xray_reading().into_bytes()));
    files
}
