//! RIGA: photographs of the optic disc, and for each of six raters a copy with the lines of disc and cup drawn into it.
//!
//! Source: Almazroa et al., Proc. SPIE 10579 (2018), the data set; names of files and defects as published converters
//! describe them. The patients of the photographs are not told, so every photograph is a patient of its own. The release
//! holds no settled truth.

use std::collections::BTreeMap;

use crate::{
    Grid, Image, Mask,
    folder::{Finding, FindingCode, SourceFile},
    raster::{ENDINGS, Raster},
};

/// Readers of every photograph.
pub const N_RATERS: usize = 6;

/// Folders of photographs; the missing letter of the sixth is that of the release.
const FOLDERS: [&str; 7] = [
    "MESSIDOR",
    "BinRushed1-Corrected",
    "BinRushed2",
    "BinRushed3",
    "BinRushed4",
    "MagrabiFemale",
    "MagrabiaMale",
];

/// The folder that `BinRushed1-Corrected` replaces.
const SUPERSEDED: &str = "BinRushed1";

/// Folders of the clinic whose photographs the paper tests on.
const TEST_FOLDERS: [&str; 2] = ["MagrabiFemale", "MagrabiaMale"];

/// A photograph of the release that is known not to be usable.
struct Defect {
    case: &'static str,
    /// The rater whose lines are at fault; `None` where files are.
    rater: Option<usize>,
    what: &'static str,
}

const DEFECTS: [Defect; 4] = [
    Defect {
        case: "MagrabiFemale_image48",
        rater: None,
        what: "rater 1 is there twice and the photograph without lines is not",
    },
    Defect {
        case: "BinRushed1-Corrected_image44",
        rater: Some(4),
        what: "the lines of disc and cup touch",
    },
    Defect { case: "BinRushed2_image20", rater: Some(3), what: "the lines of disc and cup touch" },
    Defect { case: "MagrabiFemale_image26", rater: Some(3), what: "the lines are too faint" },
];

/// What is known to be wrong with the lines of `rater`, counted from 1, or for `None` with the files of a case.
pub fn known_defect(case: &str, rater: Option<usize>) -> Option<&'static str> {
    let found = DEFECTS.iter().find(|defect| defect.case == case && defect.rater == rater);
    found.map(|defect| defect.what)
}

/// The files of a photograph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigaEntry {
    /// Folder and number, as `BinRushed2_image7`.
    pub id: String,
    /// Whether it belongs to the clinic that the paper tests on (Magrabia).
    pub is_test: bool,
    /// The photograph without lines.
    pub clean: SourceFile,
    /// The photograph with the lines of each rater.
    pub marked: [SourceFile; N_RATERS],
}

/// The photographs of a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RigaListing {
    /// Complete photographs in the order of their names.
    pub entries: Vec<RigaEntry>,
    /// What is wrong with the others.
    pub findings: Vec<Finding>,
    /// Every file that is read or told of.
    pub files: Vec<SourceFile>,
}

/// Files of a photograph by what they hold: `None` without lines, or the rater, counted from 0.
type Draft = BTreeMap<Option<usize>, Vec<SourceFile>>;

/// Finds the photographs among files, at any depth.
///
/// Files are `image<N>prime` and `image<N>-<rater>`, in letters of either case, in a folder of the release. What is not
/// named so is left alone; `BinRushed1`, which the release corrected, is left out with a finding.
pub fn list(files: &[SourceFile]) -> RigaListing {
    let mut listing = RigaListing::default();
    let mut drafts: BTreeMap<(usize, usize), Draft> = BTreeMap::new();
    let mut superseded: Vec<&SourceFile> = Vec::new();
    for file in files {
        let Some((folder, number, content)) = parse(&file.name) else { continue };
        listing.files.push(file.clone());
        match FOLDERS.iter().position(|&known| known == folder) {
            Some(folder) => {
                let draft = drafts.entry((folder, number)).or_default();
                draft.entry(content).or_default().push(file.clone());
            }
            None => superseded.push(file),
        }
    }
    if let Some(first) = superseded.first() {
        let detail =
            format!("{} files, of which this is the first, were corrected", superseded.len());
        let finding = Finding::new(SUPERSEDED, "", FindingCode::Superseded, first, detail);
        listing.findings.push(finding);
    }
    for ((folder, number), draft) in drafts {
        let folder = FOLDERS[folder];
        let id = format!("{folder}_image{number}");
        match entry(&id, TEST_FOLDERS.contains(&folder), &draft) {
            Ok(entry) => listing.entries.push(entry),
            Err(findings) => listing.findings.extend(findings),
        }
    }
    listing.entries.sort_by(|a, b| a.id.cmp(&b.id));
    listing
}

/// Folder, number and content of a file of the release.
fn parse(name: &str) -> Option<(&str, usize, Option<usize>)> {
    let (way, name) = name.rsplit_once('/')?;
    let folder = way.rsplit('/').next()?;
    if folder != SUPERSEDED && !FOLDERS.contains(&folder) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    let rest = stem.strip_prefix("image")?;
    let (number, content) = match rest.strip_suffix("prime") {
        Some(number) => (number, None),
        None => {
            let (number, rater) = rest.split_once('-')?;
            let rater: usize = rater.parse().ok()?;
            (number, Some(rater.checked_sub(1).filter(|&rater| rater < N_RATERS)?))
        }
    };
    Some((folder, number.parse().ok()?, content))
}

/// The photograph, or all that is wrong with its files.
fn entry(id: &str, is_test: bool, draft: &Draft) -> Result<RigaEntry, Vec<Finding>> {
    let Some(first) = draft.values().flatten().next() else { return Err(Vec::new()) };
    let finding = |code, rater: Option<usize>, file: &SourceFile, detail: String| {
        Finding::new(id, &rater.map_or(String::new(), rater_name), code, file, detail)
    };
    let mut findings = Vec::new();
    for (&content, files) in draft {
        for file in files.iter().skip(1) {
            let detail = format!("`{}` is there for the same", files[0].name);
            findings.push(finding(FindingCode::DuplicateFile, content, file, detail));
        }
    }
    let of = |content: Option<usize>| draft.get(&content).and_then(|files| files.first());
    let clean = of(None);
    if clean.is_none() {
        let detail = "no photograph without lines".to_owned();
        findings.push(finding(FindingCode::UnpairedLabel, None, first, detail));
    }
    let marked = std::array::from_fn::<_, N_RATERS, _>(|rater| of(Some(rater)));
    for (rater, _) in marked.iter().enumerate().filter(|(_, file)| file.is_none()) {
        let detail = "the case has no picture with lines of this rater".to_owned();
        findings.push(finding(FindingCode::MissingRater, Some(rater), first, detail));
    }
    if let Some(what) = known_defect(id, None).filter(|_| !findings.is_empty()) {
        return Err(vec![finding(FindingCode::KnownDefect, None, first, what.to_owned())]);
    }
    let whole = marked.iter().copied().collect::<Option<Vec<_>>>();
    match (clean, whole.map(<[&SourceFile; N_RATERS]>::try_from)) {
        (Some(clean), Some(Ok(marked))) if findings.is_empty() => {
            let (id, clean) = (id.to_owned(), clean.clone());
            Ok(RigaEntry { id, is_test, clean, marked: marked.map(SourceFile::clone) })
        }
        _ => Err(findings),
    }
}

/// Name of a rater, counted from 0, as a source.
pub fn rater_name(rater: usize) -> String {
    format!("rater{}", rater + 1)
}

/// Whether the pixels of a file were compressed with loss, by its name.
pub fn is_lossy(file: &SourceFile) -> bool {
    let name = file.name.to_ascii_lowercase();
    name.ends_with(".jpg") || name.ends_with(".jpeg")
}

/// Red, green and blue of a photograph in `[0, 1]`; `None` for pictures that are not one page of colour.
pub fn colours(raster: Raster) -> Option<[Image; 3]> {
    let raster = raster.coloured().ok()?;
    let white = raster.white?;
    let is_flat = raster.channels.iter().all(|channel| channel.n_slices() == 1);
    let mut colours = raster.channels.into_iter();
    match (colours.next(), colours.next(), colours.next()) {
        (Some(red), Some(green), Some(blue)) if is_flat => {
            Some([red, green, blue].map(|colour| colour.map(|&level| level / white)))
        }
        _ => None,
    }
}

/// How much a pixel must have changed to be part of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// At all, in any colour: pictures without loss.
    Any,
    /// By more than this part of white in grey: pictures with loss.
    Grey(f32),
}

/// Red, green and blue of grey (ITU-R BT.601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// The pixels that differ between a photograph and its copy with lines; both of one shape.
pub fn drawn_on(clean: &[Image; 3], marked: &[Image; 3], change: Change) -> Mask {
    Grid::from_fn(clean[0].shape(), |place| {
        let differences = [0, 1, 2].map(|colour: usize| {
            let (clean, marked) = (&clean[colour], &marked[colour]);
            marked.get(place) - clean.get(place)
        });
        match change {
            Change::Any => differences.iter().any(|&difference| difference != 0.0),
            Change::Grey(least) => {
                let weighted = differences.iter().zip(GREY).map(|(value, weight)| value * weight);
                weighted.sum::<f32>().abs() > least
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{mask, raster::Model};

    fn files(names: &[&str]) -> Vec<SourceFile> {
        let file = |name: &&str| SourceFile { name: (*name).to_owned(), path: name.into() };
        names.iter().map(file).collect()
    }

    fn photograph(folder: &str, number: usize, ending: &str) -> Vec<String> {
        let marked = (1..=6).map(|rater| format!("{folder}/image{number}-{rater}.{ending}"));
        marked.chain([format!("{folder}/image{number}prime.{ending}")]).collect()
    }

    fn listed(names: &[String]) -> RigaListing {
        list(&files(&names.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn told(listing: &RigaListing) -> Vec<(&str, &str, &str)> {
        let row = |found: &Finding| found.code.name();
        let findings = listing.findings.iter();
        findings.map(|found| (found.case.as_str(), found.source.as_str(), row(found))).collect()
    }

    #[test]
    fn photographs_are_found_in_the_folders_of_the_release() {
        let mut names = photograph("RIGA/MESSIDOR", 12, "tif");
        names.extend(photograph("BinRushed/BinRushed2", 3, "jpg"));
        names.extend(photograph("Magrabia/MagrabiaMale", 4, "tif"));
        // The first rater's files of this folder have a capital.
        let capital = names.iter().position(|name| name.ends_with("Male/image4-1.tif")).unwrap();
        names[capital] = "Magrabia/MagrabiaMale/Image4-1.tif".to_owned();
        names.extend(photograph("Elsewhere", 4, "tif"));
        names.push("MESSIDOR/image12-7.tif".to_owned());
        names.push("MESSIDOR/Thumbs.db".to_owned());
        let listing = listed(&names);
        let ids: Vec<_> = listing.entries.iter().map(|e| (e.id.as_str(), e.is_test)).collect();
        let expected = [
            ("BinRushed2_image3", false),
            ("MESSIDOR_image12", false),
            ("MagrabiaMale_image4", true),
        ];
        assert_eq!(ids, expected);
        assert_eq!(listing.entries[2].marked[0].name, "Magrabia/MagrabiaMale/Image4-1.tif");
        assert_eq!(listing.entries[1].clean.name, "RIGA/MESSIDOR/image12prime.tif");
        assert_eq!((listing.files.len(), told(&listing)), (21, Vec::new()));
    }

    #[test]
    fn defects_of_the_release_are_known_and_others_are_errors() {
        let female = "Magrabia/MagrabiFemale";
        let mut names = photograph(female, 48, "tif");
        names.retain(|name| !name.contains("prime"));
        names.push(format!("{female}/Image48-1.tif"));
        names.extend(photograph("BinRushed/BinRushed1", 1, "jpg"));
        let mut lacking = photograph("MESSIDOR", 1, "tif");
        lacking.remove(2);
        lacking.push("MESSIDOR/image1-5.jpg".to_owned());
        names.extend(lacking);
        names.push("MESSIDOR/image2-1.tif".to_owned());
        let listing = listed(&names);
        assert_eq!(listing.entries, []);
        let found = told(&listing);
        let expected = [
            ("BinRushed1", "", "superseded"),
            ("MESSIDOR_image1", "rater5", "duplicate_file"),
            ("MESSIDOR_image1", "rater3", "missing_rater"),
            ("MESSIDOR_image2", "", "unpaired_label"),
        ];
        assert_eq!(found[..4], expected);
        assert_eq!(*found.last().unwrap(), ("MagrabiFemale_image48", "", "known_defect"));
        assert!(known_defect("BinRushed2_image20", Some(3)).is_some());
        assert!(known_defect("BinRushed2_image20", Some(2)).is_none());
        // The file that is missing in this copy would make a case of it.
        assert_eq!(listed(&photograph(female, 48, "tif")).entries.len(), 1);
    }

    #[test]
    fn lines_are_what_differs() {
        let level = |values: &[f32]| Grid::new([1, 1, 4], values.to_vec()).unwrap();
        let picture = |red: &[f32]| {
            let rest = || level(&[9.0; 4]);
            let channels = vec![level(red), rest(), rest()];
            let raster = Raster { channels, model: Model::Rgb, white: Some(255.0), palette: None };
            colours(raster).unwrap()
        };
        let (clean, marked) = (picture(&[9.0; 4]), picture(&[9.0, 10.0, 0.0, 250.0]));
        assert_eq!(drawn_on(&clean, &marked, Change::Any), mask![". # # #"]);
        // A difference of 241 in red is one of 72 in grey.
        assert_eq!(drawn_on(&clean, &marked, Change::Grey(20.0 / 255.0)), mask![". . . #"]);
        assert_eq!(drawn_on(&clean, &clean, Change::Any), mask![". . . ."]);
        let channels = vec![level(&[0.0; 4])];
        let grey = Raster { channels, model: Model::Grey, white: Some(255.0), palette: None };
        assert_eq!(colours(grey), None);
    }
}
