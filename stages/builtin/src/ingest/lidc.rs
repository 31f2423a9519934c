//! CT scans of the chest with the nodules that four readers outlined, as LIDC-IDRI was released.
//!
//! Source: [`datasets::lidc`] (files, readings and known defects), [`imaging::polygon`] (outlines to masks). The pixels of an
//! outline are the first ones outside: what lies strictly inside belongs to the nodule, and not to it inside an outline that
//! is a hole. Nodules of less than 3 mm and what is no nodule have no outline and are in no mask.
//! Ports: no inputs; out `images` (image shards, the numbers of the files: Hounsfield units), `slot1` to `slot4` (label shards
//! of one structure), `cases`, `report` (with `nodules.parquet`, one row a case, slot and nodule).
//!
//! **A slot is not a reader.** Readers are anonymous, and sessions come in no order that holds from one case to another:
//! slot 1 of one case and slot 1 of the next are not the same person. Sources are exchangeable, so a fusion that treats them
//! alike means something, and a reliability, bias or score of one slot over several cases means nothing.
//!
//! Randomness: the split, by (seed, patient). Cost: reading every file once; memory for the cases of one shard a thread.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use datasets::{
    CaseImage, CaseLabel, CasePatient, Mask, SourceKind, Split, SplitSizes,
    dicom::{Series, read_series},
    folder::{
        Action, Finding, FindingCode, FolderCase, SourceFile, check_image, code_of_note, digest,
        refusal,
    },
    lidc::{
        CHARACTERISTICS, LidcEntry, LidcListing, N_SESSIONS, Nodule, Outline, Reading, SlicePlaces,
        list, read_reading,
    },
    shard::ShardPart,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, External, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::{
    polygon::fill_within,
    runs::{Runs, groups},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    files::{declared, each_part, external, files_of, some_of},
    findings::{Written, conclude, divided, judge},
    folder::{FolderFault, write_cases},
};
use crate::{
    kinds::{CaseTable, Images, IngestReport, Labels},
    shards::{refused, write_images_as, write_labels_as, write_table},
};

/// Name of the data set in shards and reports.
const DATASET: &str = "lidc_idri";

/// Settings of [`Lidc`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LidcConfig {
    /// Folder of the data set, with `LIDC-IDRI-0001` and so on at any depth; relative paths start at the project root.
    pub root: PathBuf,
    /// Name of the structure. Default `nodule`.
    #[serde(default = "nodule")]
    pub structure: String,
    /// Slots in which a nodule must be outlined to be in any mask, from 1 to 4. Default 1.
    #[serde(default = "one")]
    pub min_readers: usize,
    /// Codes of the ingest report that are errors and let the run go on all the same. Default none.
    #[serde(default)]
    pub allow: Vec<FindingCode>,
    /// Sizes of the splits; all scans of a patient share one.
    pub split: SplitSizes,
    /// Cases of a shard in the mean. Default 1.
    #[serde(default = "alone")]
    pub shard_cases: NonZeroUsize,
}

fn nodule() -> String {
    "nodule".to_owned()
}

fn one() -> usize {
    1
}

fn alone() -> NonZeroUsize {
    NonZeroUsize::MIN
}

inputs! {
    /// [`Lidc`] reads files only.
    pub struct LidcInputs {}
}

outputs! {
    /// What [`Lidc`] makes.
    pub struct LidcOutputs {
        /// Image shards.
        images: Out<Images>,
        /// The first session of every case, whoever that was.
        slot1: Out<Labels>,
        /// The second session of every case, whoever that was.
        slot2: Out<Labels>,
        /// The third session of every case, whoever that was.
        slot3: Out<Labels>,
        /// The fourth session of every case, whoever that was.
        slot4: Out<Labels>,
        /// One row a case.
        cases: Out<CaseTable>,
        /// What was wrong with the files, and the nodules that were marked: `nodules.parquet`.
        report: Out<IngestReport>,
    }
}

impl LidcOutputs {
    fn slots(&self) -> [&Out<Labels>; N_SESSIONS] {
        [&self.slot1, &self.slot2, &self.slot3, &self.slot4]
    }
}

/// The data set LIDC-IDRI.
pub struct Lidc;

impl Stage for Lidc {
    const NAME: &'static str = "ingest.lidc";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reads CT scans with the nodules that four anonymous readers outlined, as LIDC-IDRI was released.";
    const NONSEMANTIC: &'static [&'static str] = &["root"];
    type Config = LidcConfig;
    type Inputs = LidcInputs;
    type Outputs = LidcOutputs;

    fn check(config: &LidcConfig) -> Result<(), Refusal> {
        if (1..=N_SESSIONS).contains(&config.min_readers) {
            return Ok(());
        }
        let message = format!("expected a number from 1 to 4: got {}", config.min_readers);
        Err(Refusal::new("min_readers", message))
    }

    fn externals(config: &LidcConfig, project: &Path) -> Result<Option<Vec<External>>, StageError> {
        let files = files_of(&project.join(&config.root))?;
        let found = list(&files).files;
        some_of(&files, &found)?;
        Ok(Some(found.into_iter().map(external).collect()))
    }

    fn resources(_: &LidcConfig) -> Resources {
        // A scan of 500 slices of 512 x 512 as it is sorted, and its four masks.
        Resources { memory: 2 << 30, ..Resources::default() }
    }

    fn run(
        config: &LidcConfig,
        _: LidcInputs,
        outputs: &LidcOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let listing = list(&declared(ctx));
        let work = Work { config, listing: &listing, outputs };
        let (rows, findings) = work.read(ctx)?;
        let written: Vec<Written> = rows.iter().map(|(written, _)| written.clone()).collect();
        let found = [listing.findings, findings];
        conclude(found, &written, &config.allow, &outputs.report, ctx)?;
        write_cases(&outputs.cases, DATASET, &written)?;
        write_nodules(&outputs.report, &rows)
    }
}

/// What is kept of a case: who it is, and what was marked in it.
type Row = (Written, Vec<Mark>);

/// A nodule of one slot; slots and nodules are counted from 0.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    slot: usize,
    nodule: usize,
    n_voxels: usize,
    /// The nodules of the case that share voxels with it, directly or through others, by a number that all of them have.
    group: Option<usize>,
    /// Slots with a nodule of the group.
    n_readers: usize,
    characteristics: [Option<u8>; CHARACTERISTICS.len()],
}

struct Work<'a> {
    config: &'a LidcConfig,
    listing: &'a LidcListing,
    outputs: &'a LidcOutputs,
}

impl Work<'_> {
    /// Reads and writes all cases, shard by shard.
    fn read(&self, ctx: &Ctx<'_>) -> Result<(Vec<Row>, Vec<Finding>), StageError> {
        let Self { config, listing, .. } = self;
        if listing.entries.is_empty() {
            judge(&listing.findings, &config.allow)?;
            return Err(StageError::new(FolderFault::NoCase { n_files: listing.files.len() }));
        }
        let entries = listing.entries.iter();
        let patients: Vec<CasePatient<'_>> =
            entries.map(|entry| CasePatient { case: &entry.id, patient: &entry.patient }).collect();
        let told = (listing.findings.as_slice(), config.allow.as_slice());
        let parts = divided(&patients, config.split, config.shard_cases, told)?;
        let (rows, mut findings) = each_part(&parts, ctx, |part| self.part(part))?;
        findings.sort_by(|a, b| (&a.case, a.code, &a.source).cmp(&(&b.case, b.code, &b.source)));
        Ok((rows, findings))
    }

    /// Reads the cases of a shard and writes what is usable of them.
    fn part(&self, part: &ShardPart) -> Result<(Vec<Row>, Vec<Finding>), StageError> {
        let (mut rows, mut findings) = (Vec::new(), Vec::new());
        let mut images: Vec<CaseImage> = Vec::new();
        let mut slots: [Vec<CaseLabel>; N_SESSIONS] = Default::default();
        let own = |entry: &&LidcEntry| part.cases.binary_search(&entry.id).is_ok();
        for entry in self.listing.entries.iter().filter(own) {
            let (case, marks) = Reader::new(self.config, entry, part.split).read();
            findings.extend(case.findings.iter().cloned());
            let Some(written) = Written::of(&case, &entry.folder.name) else { continue };
            rows.push((written, marks));
            images.extend(case.channels.into_iter().map(|(_, image)| image));
            slots.iter_mut().zip(case.raters).for_each(|(slot, label)| slot.push(label));
        }
        if !images.is_empty() {
            let name = part.file_name();
            write_images_as(&self.outputs.images, &name, &images)?;
            for (out, labels) in self.outputs.slots().into_iter().zip(&slots) {
                write_labels_as(out, &name, labels)?;
            }
        }
        Ok((rows, findings))
    }
}

/// Name of a slot, counted from 0, as a source.
fn slot_name(slot: usize) -> String {
    format!("slot{}", slot + 1)
}

/// Reads the files of one case.
struct Reader<'a> {
    config: &'a LidcConfig,
    entry: &'a LidcEntry,
    split: Split,
    findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    fn new(config: &'a LidcConfig, entry: &'a LidcEntry, split: Split) -> Self {
        Self { config, entry, split, findings: Vec::new() }
    }

    /// The case with what was marked in it; without images and labels where a finding drops it.
    fn read(mut self) -> (FolderCase, Vec<Mark>) {
        let parts = self.parts();
        let is_dropped = self.findings.iter().any(|found| found.code.action() == Action::Dropped);
        let (image, raters, marks) = match parts.filter(|_| !is_dropped) {
            Some((image, labels, marks)) => (Some(image), labels, marks),
            None => (None, Vec::new(), Vec::new()),
        };
        let digest = digest(image.iter().map(|case| &case.image));
        let channels = image.into_iter().map(|image| ("ct".to_owned(), image)).collect();
        let findings = self.findings;
        (FolderCase { channels, truth: Vec::new(), raters, findings, digest }, marks)
    }

    fn parts(&mut self) -> Option<(CaseImage, Vec<CaseLabel>, Vec<Mark>)> {
        let entry = self.entry;
        let (file, reading) = self.reading()?;
        let mut series = self.series()?;
        if reading.series.as_ref().zip(series.uid.as_ref()).is_some_and(|(a, b)| a != b) {
            let detail = "the reading names another series than the slices".to_owned();
            self.note("", FindingCode::OtherSeries, file, detail);
            return None;
        }
        let places = SlicePlaces::of(&series);
        let volume = series.channels.pop()?;
        if let Some((code, detail)) = check_image(&volume.image) {
            self.note("", code, &entry.folder, detail);
        }
        let shape = volume.image.shape();
        let mut things = Vec::new();
        for (slot, nodule, found) in nodules(&reading) {
            things.push(self.voxels(file, (slot, nodule), found, &places, shape));
        }
        let marks = marks(&reading, &things);
        let mut masks = vec![Mask::filled(shape, false); N_SESSIONS];
        for (mark, thing) in marks.iter().zip(&things) {
            if mark.n_readers >= self.config.min_readers {
                thing.draw(&mut masks[mark.slot]);
            }
        }
        if masks.iter().all(Mask::is_empty) {
            let detail = format!("no slot has a voxel of `{}`", self.config.structure);
            self.note("", FindingCode::EmptyMask, file, detail);
        }
        let id = &entry.id;
        let image = CaseImage {
            id: id.clone(),
            patient: entry.patient.clone(),
            dataset: DATASET.to_owned(),
            split: self.split,
            image: volume.image,
            spacing: volume.spacing,
            affine: volume.affine,
        };
        let label = |(slot, mask)| CaseLabel {
            id: id.clone(),
            source: slot_name(slot),
            kind: SourceKind::Human,
            structure: self.config.structure.clone(),
            split: self.split,
            mask,
            probability: None,
            spacing: volume.spacing,
            affine: volume.affine,
            params: None,
        };
        Some((image, masks.into_iter().enumerate().map(label).collect(), marks))
    }

    fn note(&mut self, source: &str, code: FindingCode, file: &SourceFile, detail: String) {
        self.findings.push(Finding::new(&self.entry.id, source, code, file, detail));
    }

    /// The reading beside the series; a second one may only say the same.
    fn reading(&mut self) -> Option<(&'a SourceFile, Reading)> {
        let entry = self.entry;
        let mut first: Option<(&SourceFile, Reading)> = None;
        for file in &entry.readings {
            let found = match read_reading(&file.path) {
                Ok(found) => found,
                Err(error) => {
                    self.findings.push(refusal(&entry.id, "", file, &error));
                    continue;
                }
            };
            let Some((other, reading)) = &first else {
                first = Some((file, found));
                continue;
            };
            let (code, what) = match reading.sessions == found.sessions {
                true => (FindingCode::SameReading, "are"),
                false => (FindingCode::DuplicateFile, "are not"),
            };
            let detail = format!("its sessions {what} those of `{}`", other.name);
            self.note("", code, file, detail);
        }
        let (file, reading) = first?;
        if reading.sessions.len() != N_SESSIONS {
            let detail = format!("{} sessions: expected {N_SESSIONS}", reading.sessions.len());
            self.note("", FindingCode::SessionCount, file, detail);
            return None;
        }
        Some((file, reading))
    }

    fn series(&mut self) -> Option<Series> {
        let entry = self.entry;
        let paths: Vec<PathBuf> = entry.slices.iter().map(|file| file.path.clone()).collect();
        let series = match read_series(&paths) {
            Ok(series) => series,
            Err(error) => {
                self.findings.push(refusal(&entry.id, "", &entry.folder, &error));
                return None;
            }
        };
        for &note in &series.notes {
            self.note("", code_of_note(note), &entry.folder, note.to_string());
        }
        if series.channels.len() != 1 {
            let detail = format!("expected one image: found {}", series.channels.len());
            self.note("", FindingCode::Unreadable, &entry.folder, detail);
            return None;
        }
        Some(series)
    }

    /// The voxels of a nodule; what of it lies outside of the image is told.
    fn voxels(
        &mut self,
        file: &SourceFile,
        (slot, number): (usize, usize),
        nodule: &Nodule,
        places: &SlicePlaces,
        shape: [usize; 3],
    ) -> Runs {
        let mut found = Runs::default();
        if !nodule.is_outlined() {
            return found;
        }
        let (mut n_lost, mut n_cut) = (0, 0);
        let mut slices: BTreeMap<usize, Vec<&Outline>> = BTreeMap::new();
        for outline in &nodule.outlines {
            match places.find(outline) {
                Some(slice) => slices.entry(slice).or_default().push(outline),
                None => n_lost += 1,
            }
            // The pixel beyond the edge of an image may be the first outside of a nodule.
            let is_beyond = |&[row, column]: &[usize; 2]| row > shape[1] || column > shape[2];
            n_cut += usize::from(outline.edge.iter().any(is_beyond));
        }
        for (slice, outlines) in slices {
            if let Some((inside, first)) = inside_of(&outlines, [shape[1], shape[2]]) {
                found.add(&inside, slice, first);
            }
        }
        let n_outlines = nodule.outlines.len();
        let (source, name) = (slot_name(slot), format!("nodule {}", number + 1));
        if n_lost + n_cut > 0 {
            let detail = format!(
                "{name}: of {n_outlines} outlines {n_lost} lie on no slice of the series and {n_cut} reach beyond their slice"
            );
            self.note(&source, FindingCode::OutlineOffImage, file, detail);
        } else if found.area() == 0 {
            let detail = format!("{name}: no pixel lies within its {n_outlines} outlines");
            self.note(&source, FindingCode::EmptyMask, file, detail);
        }
        found
    }
}

/// A nodule with its slot and its number in it.
type Found<'a> = (usize, usize, &'a Nodule);

/// All nodules in the order of the file.
fn nodules(reading: &Reading) -> impl Iterator<Item = Found<'_>> {
    let sessions = reading.sessions.iter().enumerate();
    sessions.flat_map(|(slot, session)| {
        session.nodules.iter().enumerate().map(move |(number, nodule)| (slot, number, nodule))
    })
}

/// What was marked, each with the nodules of other slots that it is matched with.
fn marks(reading: &Reading, things: &[Runs]) -> Vec<Mark> {
    let groups = groups(things);
    let mut readers: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for ((slot, _, _), group) in nodules(reading).zip(&groups) {
        if let Some(group) = *group {
            readers.entry(group).or_default().insert(slot);
        }
    }
    let marked = nodules(reading).zip(things.iter().zip(groups));
    let mark =
        |((slot, nodule, found), (thing, group)): (Found<'_>, (&Runs, Option<usize>))| Mark {
            slot,
            nodule,
            n_voxels: thing.area(),
            group,
            n_readers: group.map_or(0, |group| readers[&group].len()),
            characteristics: found.characteristics,
        };
    marked.map(mark).collect()
}

/// The pixels inside of the outlines of one slice but for those inside of holes, in a mask whose first pixel lies at the
/// place `[row, column]` beside it; `None` where all lie outside of the slice.
fn inside_of(outlines: &[&Outline], shape: [usize; 2]) -> Option<(Mask, [usize; 2])> {
    let along =
        |axis: usize| outlines.iter().flat_map(move |o| o.edge.iter().map(move |at| at[axis]));
    let first = [along(0).min()?, along(1).min()?];
    let end = [along(0).max()? + 1, along(1).max()? + 1];
    let size = [0, 1].map(|axis: usize| end[axis].min(shape[axis]).saturating_sub(first[axis]));
    let mut inside = Mask::filled([1, size[0], size[1]], false);
    for is_inclusion in [true, false] {
        for outline in outlines.iter().filter(|outline| outline.is_inclusion == is_inclusion) {
            let edge = outline.edge.iter().map(|[row, column]| [row - first[0], column - first[1]]);
            let filled = fill_within(size, &edge.collect::<Vec<_>>());
            let pairs = inside.values_mut().iter_mut().zip(filled.values());
            pairs.filter(|(_, filled)| **filled).for_each(|(inside, _)| *inside = is_inclusion);
        }
    }
    Some((inside, first))
}

/// Writes the table of nodules; `group` is counted from 1 within a case, and missing where a nodule has no voxel.
fn write_nodules(out: &Out<IngestReport>, rows: &[Row]) -> Result<(), StageError> {
    let fixed = [
        ("case_id", Kind::Text),
        ("slot", Kind::Text),
        ("nodule", Kind::Integer),
        ("group", Kind::Integer),
        ("readers", Kind::Integer),
        ("voxels", Kind::Integer),
    ];
    let said = CHARACTERISTICS.map(|[_, name]| (name, Kind::Integer));
    let mut table = Table::new(&[&fixed[..], &said[..]].concat());
    for (Written { case, .. }, marks) in rows {
        for Mark { slot, nodule, n_voxels, group, n_readers, characteristics } in marks {
            let fixed = [
                Cell::from(case.as_str()),
                Cell::from(slot_name(*slot)),
                Cell::from(nodule + 1),
                Cell::from(group.map(|group| group + 1)),
                Cell::from(*n_readers),
                Cell::from(*n_voxels),
            ];
            let said = characteristics.map(|said| Cell::from(said.map(i64::from)));
            table.push(fixed.into_iter().chain(said).collect()).map_err(refused)?;
        }
    }
    write_table(out, "nodules.parquet", &table)
}
