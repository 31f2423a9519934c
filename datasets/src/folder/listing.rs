//! Pairs the files of a folder into cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    Bounds, DukeTables, Finding, FindingCode, LabelValues, Layout, PatternError, Placeholder,
    layout::Patterns,
    pattern::{Captured, Pattern},
    series::{BareSeries, folder_of},
};
use crate::dicom::is_file_name;

/// A file of a data set, or a folder of DICOM slices that is read as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFile {
    /// Name relative to the root, with `/`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A label of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFile {
    /// The one structure of the file; `None` for a map of all.
    pub structure: Option<String>,
    /// The file.
    pub file: SourceFile,
    /// The box that the file, a table, has for the case; `None` for a file with voxels.
    pub bounds: Option<Bounds>,
}

/// The files of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the case, as the image spells it.
    pub id: String,
    /// Name of the patient.
    pub patient: String,
    /// One file a channel, in the order of the channels' names; a single file may hold several channels.
    pub images: Vec<(String, SourceFile)>,
    /// Reference labels.
    pub truth: Vec<LabelFile>,
    /// Labels by source.
    pub raters: BTreeMap<String, Vec<LabelFile>>,
}

impl Entry {
    /// All files of the case.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        let labels = self.truth.iter().chain(self.raters.values().flatten());
        self.images.iter().map(|(_, file)| file).chain(labels.map(|label| &label.file))
    }
}

/// The cases of a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Complete cases in the order of their names.
    pub entries: Vec<Entry>,
    /// The sources that every case has, besides the reference.
    pub raters: Vec<String>,
    /// Whether every case has a reference label.
    pub has_truth: bool,
    /// What does not pair; those cases are not among the entries.
    pub findings: Vec<Finding>,
    /// Every file that a pattern knows, paired or not.
    pub files: Vec<SourceFile>,
}

/// What is known of a case before it is complete.
#[derive(Default)]
struct Draft {
    id: Option<String>,
    images: BTreeMap<String, SourceFile>,
    /// Labels by source (`None` for the reference) and structure.
    labels: BTreeMap<(Option<String>, Option<String>), LabelFile>,
}

/// Source of the labels that are boxes of a table.
const BOX: &str = "box";

/// Name of a source: a rater's word, or `rater3` where it is only a number.
fn source_name(rater: &str) -> String {
    let is_number = rater.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("rater{rater}") } else { rater.to_owned() }
}

/// What images and labels of a case share: its name in lower case without words as `seg_` and `_mask`.
fn pairing_key(case: &str) -> String {
    const WORDS: [&str; 4] = ["seg", "segmentation", "mask", "label"];
    let lower = case.to_lowercase();
    let mut key = lower.as_str();
    for word in WORDS {
        let without_start = key.strip_prefix(word).and_then(|rest| rest.strip_prefix(['_', '-']));
        key = without_start.filter(|rest| !rest.is_empty()).unwrap_or(key);
        let without_end = key.strip_suffix(word).and_then(|rest| rest.strip_suffix(['_', '-']));
        key = without_end.filter(|rest| !rest.is_empty()).unwrap_or(key);
    }
    key.to_owned()
}

/// Who and what is read of a data set; everything where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Raters, by the names that their labels get.
    pub raters: Option<&'a [String]>,
    /// Channels, as the names of files tell them; a case that lacks one is left out.
    pub channels: Option<&'a [String]>,
    /// The tables that lie beside the files of a data set.
    pub tables: Option<&'a DukeTables>,
}

/// Pairs files into cases.
///
/// Of labels with a structure in their names only those of `structures` count; of raters and channels only those that
/// are `wanted`. A layout without any label gives cases without labels.
///
/// # Errors
/// [`PatternError`] for a layout that is none.
pub fn list(
    files: &[SourceFile],
    layout: &Layout,
    structures: &BTreeMap<String, LabelValues>,
    wanted: Wanted<'_>,
) -> Result<Listing, PatternError> {
    let patterns = layout.patterns()?;
    let mut listing = Listing::default();
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut channels = Channels { layout, tables: wanted.tables, known: BTreeMap::new() };
    let mut bare = BareSeries::among(files);
    for file in files {
        let Some((mut captured, kind, whole)) = recognized(&patterns, file, &mut bare) else {
            continue;
        };
        if let Some(found) = captured.remove(&Placeholder::Channel) {
            let findings = &mut listing.findings;
            let Some(channel) = channels.of(&captured, &found, &whole, findings) else { continue };
            captured.insert(Placeholder::Channel, channel);
        }
        if !counts(&captured, kind, structures, wanted) {
            continue;
        }
        listing.files.push(file.clone());
        // Of the slices of a series only the first brings it.
        if seen.insert(whole.name.clone()) {
            add(&mut drafts, &captured, kind, &whole, &mut listing.findings);
        }
    }
    if let Some(tables) = wanted.tables {
        add_boxes(&mut drafts, tables, wanted, &mut listing.findings);
        listing.findings.extend(tables.findings.iter().cloned());
    }
    let sources: BTreeSet<&(Option<String>, Option<String>)> =
        drafts.values().flat_map(|draft| draft.labels.keys()).collect();
    let sources: Vec<_> = sources.into_iter().cloned().collect();
    let named = sources.iter().filter_map(|(source, _)| source.clone());
    listing.raters = named.collect::<BTreeSet<_>>().into_iter().collect();
    listing.raters.sort_by_cached_key(|name| natural(name));
    listing.has_truth = sources.iter().any(|(source, _)| source.is_none());
    let twice = listing.findings.iter().filter(|found| found.code == FindingCode::DuplicateFile);
    let twice: BTreeSet<String> = twice.map(|found| found.case.clone()).collect();
    for (key, draft) in drafts {
        let findings = incomplete(&key, &draft, &sources, wanted);
        if let (true, Some(id)) = (findings.is_empty(), draft.id.clone())
            && !twice.contains(&id)
        {
            listing.entries.push(entry(id, draft, patterns.patient.as_ref()));
        }
        listing.findings.extend(findings);
    }
    Ok(listing)
}

/// Channels of the images of a data set, asked once a file or series.
struct Channels<'a> {
    layout: &'a Layout,
    tables: Option<&'a DukeTables>,
    known: BTreeMap<String, Option<String>>,
}

impl Channels<'_> {
    /// The channel that the name of an image stands for, or that a table gives it; `None` for one that does not count.
    fn of(
        &mut self,
        captured: &Captured,
        name: &str,
        file: &SourceFile,
        findings: &mut Vec<Finding>,
    ) -> Option<String> {
        let Some(tables) = self.tables else { return self.layout.channel(name) };
        if let Some(known) = self.known.get(&file.name) {
            return known.clone();
        }
        let case = captured.get(&Placeholder::Case).cloned().unwrap_or_default();
        let (channel, detail) = tables.channel(&case, name);
        findings.extend(
            detail.map(|detail| Finding::new(&case, "", FindingCode::PhaseMismatch, file, detail)),
        );
        self.known.insert(file.name.clone(), channel.clone());
        channel
    }
}

/// Adds the boxes of a table as labels of a rater.
fn add_boxes(
    drafts: &mut BTreeMap<String, Draft>,
    tables: &DukeTables,
    wanted: Wanted<'_>,
    findings: &mut Vec<Finding>,
) {
    let is_wanted = wanted.raters.is_none_or(|raters| raters.iter().any(|rater| rater == BOX));
    let Some((file, boxes)) = tables.boxes.as_ref().filter(|_| is_wanted) else { return };
    for (patient, bounds) in boxes {
        let draft = drafts.entry(pairing_key(patient)).or_default();
        let label = LabelFile { structure: None, file: file.clone(), bounds: Some(*bounds) };
        if draft.labels.insert((Some(BOX.to_owned()), None), label).is_some() {
            let case = draft.id.as_ref().unwrap_or(patient);
            findings.push(duplicate(case, BOX, file, &file.name));
        }
    }
}

/// What is wrong with two files, or rows of a table, for one channel or label.
fn duplicate(case: &str, source: &str, file: &SourceFile, before: &str) -> Finding {
    let detail = format!("`{before}` is there for the same");
    Finding::new(case, source, FindingCode::DuplicateFile, file, detail)
}

/// Sorts `rater2` before `rater10`.
fn natural(name: &str) -> (String, u64) {
    let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    (name[..digits].to_owned(), name[digits..].parse().unwrap_or(0))
}

#[derive(Clone, Copy, PartialEq)]
enum FileKind {
    Image,
    Truth,
    Rater,
}

/// What a file is, or the series that it is a slice of.
fn recognized<'a>(
    patterns: &Patterns,
    file: &'a SourceFile,
    bare: &mut BareSeries<'a>,
) -> Option<(Captured, FileKind, SourceFile)> {
    if let Some((captured, kind)) = recognized_name(patterns, &file.name) {
        return Some((captured, kind, file.clone()));
    }
    let (name, folder) = folder_of(file)?;
    let (captured, kind) = recognized_name(patterns, &name)?;
    // Names are asked before contents.
    let is_slice = is_file_name(&file.path) || bare.has(file);
    is_slice.then_some((captured, kind, folder))
}

/// What a name means; labels are asked first, because patterns of images are often wider.
fn recognized_name(patterns: &Patterns, name: &str) -> Option<(Captured, FileKind)> {
    let of = |patterns: &[Pattern]| patterns.iter().find_map(|pattern| pattern.captures(name));
    let label = of(&patterns.label).map(|captured| (captured, FileKind::Rater));
    let truth = || of(&patterns.truth).map(|captured| (captured, FileKind::Truth));
    let image = || of(&patterns.image).map(|captured| (captured, FileKind::Image));
    label.or_else(truth).or_else(image)
}

fn counts(
    captured: &Captured,
    kind: FileKind,
    structures: &BTreeMap<String, LabelValues>,
    wanted: Wanted<'_>,
) -> bool {
    let is_structure = captured
        .get(&Placeholder::Structure)
        .is_none_or(|structure| structures.contains_key(structure));
    let is_rater = match (kind, captured.get(&Placeholder::Rater), wanted.raters) {
        (FileKind::Rater, Some(rater), Some(wanted)) => wanted.contains(&source_name(rater)),
        _ => true,
    };
    let is_channel = match (captured.get(&Placeholder::Channel), wanted.channels) {
        (Some(channel), Some(wanted)) => wanted.contains(channel),
        _ => true,
    };
    is_structure && is_rater && is_channel
}

fn add(
    drafts: &mut BTreeMap<String, Draft>,
    captured: &Captured,
    kind: FileKind,
    file: &SourceFile,
    findings: &mut Vec<Finding>,
) {
    let text = |placeholder| captured.get(&placeholder).cloned();
    let case = text(Placeholder::Case).unwrap_or_default();
    let draft = drafts.entry(pairing_key(&case)).or_default();
    let source = match kind {
        FileKind::Rater => text(Placeholder::Rater).map(|rater| source_name(&rater)),
        _ => None,
    };
    let before = if kind == FileKind::Image {
        draft.id.get_or_insert_with(|| case.clone());
        draft.images.insert(text(Placeholder::Channel).unwrap_or_default(), file.clone())
    } else {
        let structure = text(Placeholder::Structure);
        let label = LabelFile { structure: structure.clone(), file: file.clone(), bounds: None };
        draft.labels.insert((source.clone(), structure), label).map(|label| label.file)
    };
    if let Some(before) = before {
        let case = draft.id.clone().unwrap_or(case);
        findings.push(duplicate(&case, &source.unwrap_or_default(), file, &before.name));
    }
}

/// Why a draft is no case.
fn incomplete(
    key: &str,
    draft: &Draft,
    sources: &[(Option<String>, Option<String>)],
    wanted: Wanted<'_>,
) -> Vec<Finding> {
    let case = draft.id.as_deref().unwrap_or(key);
    let finding = |code, source: &Option<String>, file: &SourceFile, detail: &str| {
        Finding::new(case, source.as_deref().unwrap_or_default(), code, file, detail)
    };
    let Some(image) = draft.images.values().next() else {
        let unpaired = |((source, _), label): (&(Option<String>, _), &LabelFile)| {
            finding(FindingCode::UnpairedLabel, source, &label.file, "no image of this name")
        };
        return draft.labels.iter().map(unpaired).collect();
    };
    let lacking = wanted.channels.unwrap_or_default().iter();
    let lacking = lacking.filter(|&channel| !draft.images.contains_key(channel));
    let missing = |channel: &String| {
        let detail = format!("the case has no channel `{channel}`");
        finding(FindingCode::MissingChannel, &None, image, &detail)
    };
    let mut findings: Vec<Finding> = lacking.map(missing).collect();
    let wants_label = !sources.is_empty() || wanted.raters.is_some_and(|raters| !raters.is_empty());
    if draft.labels.is_empty() {
        let unpaired = finding(FindingCode::UnpairedImage, &None, image, "no label of this name");
        findings.extend(wants_label.then_some(unpaired));
        return findings;
    }
    let unheard = wanted
        .raters
        .unwrap_or_default()
        .iter()
        .filter(|&name| !sources.iter().any(|(source, _)| source.as_ref() == Some(name)));
    let unheard: Vec<_> = unheard.map(|name| (Some(name.clone()), None)).collect();
    let lacking = sources.iter().chain(&unheard).filter(|slot| !draft.labels.contains_key(*slot));
    let missing = |(source, structure): &(Option<String>, Option<String>)| {
        let code = match source {
            Some(_) => FindingCode::MissingRater,
            None => FindingCode::MissingTruth,
        };
        let of = structure.as_ref().map_or(String::new(), |name| format!(" of structure `{name}`"));
        finding(code, source, image, &format!("the case has no label{of} by this source"))
    };
    findings.extend(lacking.map(missing));
    findings
}

fn entry(id: String, draft: Draft, patient: Option<&Pattern>) -> Entry {
    let named = patient.and_then(|pattern| pattern.captures_exactly(&id));
    let patient = named.and_then(|mut found| found.remove(&Placeholder::Patient));
    let mut truth = Vec::new();
    let mut raters: BTreeMap<String, Vec<LabelFile>> = BTreeMap::new();
    for ((source, _), label) in draft.labels {
        match source {
            Some(source) => raters.entry(source).or_default().push(label),
            None => truth.push(label),
        }
    }
    let patient = patient.unwrap_or_else(|| id.clone());
    Entry { id, patient, images: draft.images.into_iter().collect(), truth, raters }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::folder::{LayoutPatterns, ValueRule};

    fn files(names: &[&str]) -> Vec<SourceFile> {
        let file = |name: &&str| SourceFile { name: (*name).to_owned(), path: name.into() };
        names.iter().map(file).collect()
    }

    fn listed(names: &[&str], layout: &Layout, wanted: Option<&[&str]>) -> Listing {
        let wanted: Option<Vec<String>> =
            wanted.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let rule = LabelValues::Rule(ValueRule::Foreground);
        let structures = BTreeMap::from([("task01".to_owned(), rule)]);
        let wanted = Wanted { raters: wanted.as_deref(), ..Wanted::default() };
        list(&files(names), layout, &structures, wanted).unwrap()
    }

    fn codes(listing: &Listing) -> Vec<(&str, &str, &str)> {
        let findings = listing.findings.iter();
        findings.map(|f| (f.code.name(), f.case.as_str(), f.source.as_str())).collect()
    }

    #[test]
    fn nnunet_has_channels_a_reference_and_raters() {
        let listing = listed(
            &[
                "dataset.json",
                "imagesTr/A_1_0000.nii.gz",
                "imagesTr/A_1_0001.nii.gz",
                "imagesTr/B_0000.nii.gz",
                "labelsTr/A_1.nii.gz",
                "labelsTr/C.nii.gz",
                "labelsTr_rater10/A_1.nii.gz",
                "labelsTr_rater2/A_1.nii.gz",
            ],
            &Layout::Nnunet,
            None,
        );
        let [entry] = listing.entries.as_slice() else { panic!("{:?}", listing.entries) };
        assert_eq!((entry.id.as_str(), entry.images.len()), ("A_1", 2));
        assert_eq!(entry.images[1].0, "0001");
        assert_eq!(listing.raters, ["rater2", "rater10"]);
        assert!(listing.has_truth);
        let expected = [("unpaired_image", "B", ""), ("unpaired_label", "c", "")];
        assert_eq!(codes(&listing), expected);
        assert_eq!(listing.files.len(), 7, "the files of reports too");
    }

    #[test]
    fn a_rater_that_a_case_lacks_is_an_error_unless_nobody_asked_for_it() {
        let names = [
            "test/images/01_test.tif",
            "test/1st_manual/01_manual1.gif",
            "test/2nd_manual/01_manual2.gif",
            "training/images/21_training.tif",
            "training/1st_manual/21_manual1.gif",
        ];
        let listing = listed(&names, &Layout::Drive, None);
        assert_eq!((listing.entries.len(), listing.raters.len()), (1, 2));
        assert_eq!(codes(&listing), [("missing_rater", "21", "2nd")]);
        let listing = listed(&names, &Layout::Drive, Some(&["1st"]));
        assert_eq!((listing.entries.len(), listing.raters.len()), (2, 1));
        assert_eq!(codes(&listing), []);
        let listing = listed(&names, &Layout::Drive, Some(&["1st", "3rd"]));
        assert_eq!(
            codes(&listing),
            [("missing_rater", "01", "3rd"), ("missing_rater", "21", "3rd")]
        );
    }

    #[test]
    fn tasks_of_qubiq_are_structures() {
        let names = [
            "case1/image.nii.gz",
            "case1/task01_seg01.nii.gz",
            "case1/task01_seg02.nii.gz",
            "case1/task02_seg01.nii.gz",
        ];
        let listing = listed(&names, &Layout::Qubiq, None);
        assert_eq!(listing.raters, ["rater01", "rater02"]);
        let label = &listing.entries[0].raters["rater01"][0];
        assert_eq!(label.structure.as_deref(), Some("task01"));
    }

    #[test]
    fn names_pair_whatever_their_case_and_words() {
        let layout = Layout::Patterns(LayoutPatterns {
            image: "raw/{case}.png".into(),
            truth: Some("gold/{case}.png".into()),
            ..LayoutPatterns::default()
        });
        let listing = listed(&["raw/TPre01.png", "gold/Seg_tpre01.png"], &layout, None);
        assert_eq!(listing.entries[0].id, "TPre01");
        let listing = listed(
            &["raw/a.png", "raw/A.png", "gold/a_mask.png", "gold/b.png", "raw/b.png"],
            &layout,
            None,
        );
        assert_eq!(codes(&listing), [("duplicate_file", "a", "")]);
        assert_eq!(listing.entries.len(), 1);
        assert_eq!(pairing_key("mask"), "mask");
    }

    #[test]
    fn a_folder_of_slices_is_one_file() {
        let layout = Layout::Patterns(LayoutPatterns {
            image: "{case}/{*}/{channel}".into(),
            ..LayoutPatterns::default()
        });
        let names =
            ["p1/study/pre/1-1.dcm", "p1/study/pre/1-2.DCM", "p1/study/post/1-1.dcm", "p1/a.dcm"];
        let listing = listed(&names, &layout, None);
        let [entry] = listing.entries.as_slice() else { panic!("{:?}", listing.entries) };
        let images: Vec<_> =
            entry.images.iter().map(|(c, file)| (c.as_str(), file.name.as_str())).collect();
        assert_eq!(images, [("post", "p1/study/post"), ("pre", "p1/study/pre")]);
        assert_eq!((listing.files.len(), listing.findings.len()), (3, 0));
        let single = Layout::Patterns(LayoutPatterns {
            image: "{case}".into(),
            ..LayoutPatterns::default()
        });
        let listing = listed(&["a.dcm", "b.dcm", "c/1.dcm", "c/2.dcm"], &single, None);
        let names: Vec<_> = listing.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"], "files of several frames beside a folder of slices");
    }

    #[test]
    fn phases_of_duke_are_channels() {
        let folder = "manifest-1/Duke-Breast-Cancer-MRI/Breast_MRI_001/01-01-1990-NA-MRI-00000";
        let names = [
            "3.000000-ax t1-00001/1-001.dcm",
            "5.000000-ax dyn pre-00002/1-001.dcm",
            "5.000000-ax dyn pre-00002/1-002.dcm",
            "6.000000-ax dyn 1st pass-00003/1-001.dcm",
            "900.000000-Segmentation-00004/1-1.dcm",
        ];
        let names = names.map(|name| format!("{folder}/{name}"));
        let names: Vec<&str> =
            names.iter().map(String::as_str).chain(["manifest-1/metadata.csv"]).collect();
        let listing = listed(&names, &Layout::Duke, None);
        let [entry] = listing.entries.as_slice() else { panic!("{listing:?}") };
        let channels: Vec<&str> =
            entry.images.iter().map(|(channel, _)| channel.as_str()).collect();
        assert_eq!((entry.id.as_str(), channels), ("Breast_MRI_001", vec!["phase_0", "phase_1"]));
        assert_eq!(listing.files.len(), 3, "of the others nothing is read");
        let wanted = ["phase_0".to_owned(), "phase_2".to_owned()];
        let wanted = Wanted { channels: Some(&wanted), ..Wanted::default() };
        let listing = list(&files(&names), &Layout::Duke, &BTreeMap::new(), wanted).unwrap();
        assert_eq!((listing.entries.len(), listing.files.len()), (0, 2));
        assert_eq!(codes(&listing), [("missing_channel", "Breast_MRI_001", "")]);
        // A second series before contrast: nothing says which is meant.
        let twice = format!("{folder}/4.000000-ax dyn-00009/1-001.dcm");
        let listing = listed(&[names.as_slice(), &[twice.as_str()]].concat(), &Layout::Duke, None);
        assert_eq!(codes(&listing), [("duplicate_file", "Breast_MRI_001", "")]);
    }

    #[test]
    fn both_eyes_are_one_patient() {
        let names =
            ["Image_01L.jpg", "Image_01L_1stHO.png", "b/Image_01R.jpg", "c/Image_01R_1stHO.png"];
        let listing = listed(&names, &Layout::ChaseDb1, None);
        let patients: Vec<_> =
            listing.entries.iter().map(|e| (e.id.as_str(), e.patient.as_str())).collect();
        assert_eq!(patients, [("01L", "01"), ("01R", "01")]);
    }

    #[test]
    fn images_alone_are_cases_without_labels() {
        let listing = listed(&["imagesTr/a.mha"], &Layout::Msd, None);
        assert_eq!((listing.entries.len(), listing.findings.len()), (1, 0));
        assert!(!listing.has_truth && listing.raters.is_empty());
    }
}
