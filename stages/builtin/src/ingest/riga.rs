//! Photographs of the optic disc with the lines of six raters, as RIGA was released.
//!
//! Source: [`datasets::riga`] (files and known defects), [`imaging::outline`] (lines to masks); splits and size of arXiv
//! 2304.00466v2, IV-A: MESSIDOR and BinRushed for training and validation, Magrabia for tests.
//! Ports: no inputs; out `red`, `green`, `blue` (image shards of the channels), `rater1` to `rater6` and `truth`, each with
//! the structures `disc` and `cup`; `cases`, `report` (with `contours.parquet`, one row a case and rater).
//! Randomness: which of the training photographs validate, by (seed, case). Cost: reading every file once; memory for one
//! photograph a thread and the reduced photographs of a shard.
//! Deviation: the release lacks the truth that a senior rater settled for the paper, so `truth` is the majority of the six
//! raters, ties background, and its source is named `vote`.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use datasets::{
    CaseImage, CaseLabel, CasePatient, Image, Mask, SourceKind, Spacing, Split,
    folder::{Finding, FindingCode, FolderCase, SourceFile, digest},
    hold_out,
    raster::read_raster,
    riga::{
        Change, N_RATERS, RigaEntry, colours, drawn_on, is_lossy, known_defect, list, rater_name,
    },
    shard::{ShardPart, shard_parts},
    table::{Cell, Kind, Table},
};
use engine::{Ctx, External, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use imaging::{
    fusion::{NamedMask, TieRule, majority_vote},
    outline::{Nested, OutlineOptions, nested_outlines},
    resample::reduce_area,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    files::{declared, each_part, external, files_of, some_of},
    findings::{Written, conclude},
    sixteen,
};
use crate::{
    kinds::{CaseTable, Images, IngestReport, Labels},
    shards::{refused, write_images_as, write_labels_as, write_table},
};

/// Structures of the outer and the inner line.
const STRUCTURES: [&str; 2] = ["disc", "cup"];

/// Source of the reference.
const VOTE: &str = "vote";

/// Settings of [`Riga`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RigaConfig {
    /// Folder of the data set, with `MESSIDOR`, `BinRushed` and `Magrabia`; relative paths start at the project root.
    pub root: PathBuf,
    /// Rows and columns of the images that are made, whatever the shape of the photograph. Default the paper's 256.
    #[serde(default = "paper_size")]
    pub size: usize,
    /// Difference in grey, of 255, above which a pixel of a JPEG is part of a line. Default 20. In TIFF any difference is.
    #[serde(default = "twenty")]
    pub jpeg_tolerance: u8,
    /// How lines become structures; pixels are those of the photographs.
    #[serde(default)]
    pub lines: OutlineOptions,
    /// Photographs of MESSIDOR and BinRushed that validate. Default 65 of 655.
    #[serde(default = "tenth")]
    pub val: usize,
    /// Chooses which of them.
    #[serde(default)]
    pub rng_seed: u64,
    /// Codes of the ingest report that are errors and let the run go on all the same. Default none.
    #[serde(default)]
    pub allow: Vec<FindingCode>,
    /// Cases of a shard in the mean. Default 16.
    #[serde(default = "sixteen")]
    pub shard_cases: NonZeroUsize,
}

fn paper_size() -> usize {
    256
}

fn twenty() -> u8 {
    20
}

fn tenth() -> usize {
    65
}

inputs! {
    /// [`Riga`] reads files only.
    pub struct RigaInputs {}
}

outputs! {
    /// What [`Riga`] makes.
    pub struct RigaOutputs {
        /// The red channel.
        red: Out<Images>,
        /// The green channel.
        green: Out<Images>,
        /// The blue channel.
        blue: Out<Images>,
        /// The majority of the raters, source `vote`.
        truth: Out<Labels>,
        /// The first rater.
        rater1: Out<Labels>,
        /// The second rater.
        rater2: Out<Labels>,
        /// The third rater.
        rater3: Out<Labels>,
        /// The fourth rater.
        rater4: Out<Labels>,
        /// The fifth rater.
        rater5: Out<Labels>,
        /// The sixth rater.
        rater6: Out<Labels>,
        /// One row a case.
        cases: Out<CaseTable>,
        /// What was wrong with the files, and what the lines were like: `contours.parquet`.
        report: Out<IngestReport>,
    }
}

impl RigaOutputs {
    fn raters(&self) -> [&Out<Labels>; N_RATERS] {
        [&self.rater1, &self.rater2, &self.rater3, &self.rater4, &self.rater5, &self.rater6]
    }
}

/// The data set RIGA.
pub struct Riga;

impl Stage for Riga {
    const NAME: &'static str = "ingest.riga";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Reads photographs of the optic disc with the lines of six raters, as RIGA was released.";
    const NONSEMANTIC: &'static [&'static str] = &["root"];
    type Config = RigaConfig;
    type Inputs = RigaInputs;
    type Outputs = RigaOutputs;

    fn check(config: &RigaConfig) -> Result<(), Refusal> {
        if (16..=2048).contains(&config.size) {
            return Ok(());
        }
        let message = format!("expected a size from 16 to 2048: got {}", config.size);
        Err(Refusal::new("size", message))
    }

    fn externals(config: &RigaConfig, project: &Path) -> Result<Option<Vec<External>>, StageError> {
        let files = files_of(&project.join(&config.root))?;
        let found = list(&files).files;
        some_of(&files, &found)?;
        Ok(Some(found.into_iter().map(external).collect()))
    }

    fn resources(_: &RigaConfig) -> Resources {
        // A photograph of 2544 x 1696 without and with lines, and its differences, on some threads.
        Resources { memory: 2 << 30, ..Resources::default() }
    }

    fn run(
        config: &RigaConfig,
        _: RigaInputs,
        outputs: &RigaOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let listing = list(&declared(ctx));
        let work = Work { config, entries: &listing.entries, outputs };
        let (rows, findings) = work.read(ctx)?;
        let written: Vec<Written> = rows.iter().map(|(written, _)| written.clone()).collect();
        let found = [listing.findings, findings];
        conclude(found, &written, &config.allow, &outputs.report, ctx)?;
        write_tables(outputs, &rows)
    }
}

/// What is kept of a case: who it is, and the lines of every rater.
type Row = (Written, Vec<Drawn>);

/// The lines of a rater, in pixels of the photograph.
#[derive(Clone)]
struct Drawn {
    n_drawn: usize,
    closing_px: usize,
    n_disc: usize,
    n_cup: usize,
}

struct Work<'a> {
    config: &'a RigaConfig,
    entries: &'a [RigaEntry],
    outputs: &'a RigaOutputs,
}

impl Work<'_> {
    /// Reads and writes all cases, shard by shard.
    fn read(&self, ctx: &Ctx<'_>) -> Result<(Vec<Row>, Vec<Finding>), StageError> {
        let fitted = self.entries.iter().filter(|entry| !entry.is_test);
        let fitted: Vec<CasePatient<'_>> =
            fitted.map(|entry| CasePatient { case: &entry.id, patient: &entry.id }).collect();
        let val = hold_out(&fitted, self.config.val, self.config.rng_seed).map_err(refused)?;
        let split = |entry: &RigaEntry| match (entry.is_test, val.contains(&entry.id)) {
            (true, _) => Split::Test,
            (false, true) => Split::Val,
            (false, false) => Split::Train,
        };
        let marked = self.entries.iter().map(|entry| (entry.id.as_str(), split(entry)));
        let parts = shard_parts(marked, self.config.shard_cases).map_err(refused)?;
        let (rows, mut findings) = each_part(&parts, ctx, |part| self.part(part))?;
        findings.sort_by(|a, b| (&a.case, &a.source).cmp(&(&b.case, &b.source)));
        Ok((rows, findings))
    }

    /// Reads the cases of a shard and writes what is usable of them.
    fn part(&self, part: &ShardPart) -> Result<(Vec<Row>, Vec<Finding>), StageError> {
        let (mut rows, mut findings) = (Vec::new(), Vec::new());
        let mut cases = Vec::new();
        for entry in self.entries.iter().filter(|entry| part.cases.contains(&entry.id)) {
            let reader = Reader { config: self.config, entry, split: part.split };
            let (case, drawn) = match reader.read() {
                Ok(read) => read?,
                Err(found) => {
                    findings.extend(found);
                    continue;
                }
            };
            rows.extend(Written::of(&case, &entry.clean.name).map(|written| (written, drawn)));
            cases.push(case);
        }
        if !cases.is_empty() {
            self.write(&part.file_name(), &cases)?;
        }
        Ok((rows, findings))
    }

    fn write(&self, name: &str, cases: &[FolderCase]) -> Result<(), StageError> {
        let outputs = self.outputs;
        let channels = [&outputs.red, &outputs.green, &outputs.blue];
        for (channel, out) in channels.into_iter().enumerate() {
            let images: Vec<CaseImage> =
                cases.iter().map(|case| case.channels[channel].1.clone()).collect();
            write_images_as(out, name, &images)?;
        }
        let truth: Vec<CaseLabel> = cases.iter().flat_map(|case| case.truth.clone()).collect();
        write_labels_as(&outputs.truth, name, &truth)?;
        for (rater, out) in outputs.raters().into_iter().enumerate() {
            let source = rater_name(rater);
            let own = cases.iter().flat_map(|case| &case.raters);
            let own: Vec<CaseLabel> = own.filter(|label| label.source == source).cloned().collect();
            write_labels_as(out, name, &own)?;
        }
        Ok(())
    }
}

/// Reads the pictures of one case.
struct Reader<'a> {
    config: &'a RigaConfig,
    entry: &'a RigaEntry,
    split: Split,
}

/// A case in memory, or why the stage fails.
type Read = Result<(FolderCase, Vec<Drawn>), StageError>;

impl Reader<'_> {
    /// The case, or all that is wrong with its pictures.
    fn read(&self) -> Result<Read, Vec<Finding>> {
        let Self { config, entry, .. } = self;
        let clean = self.picture(None, &entry.clean).map_err(|finding| vec![finding])?;
        let (mut outlines, mut drawn, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        for (rater, file) in entry.marked.iter().enumerate() {
            match self.outlines(&clean, rater, file) {
                Ok((found, n_drawn)) => {
                    let [n_disc, n_cup] = [&found.outer, &found.inner].map(Mask::area);
                    drawn.push(Drawn { n_drawn, closing_px: found.closing_px, n_disc, n_cup });
                    outlines.push([found.outer, found.inner]);
                }
                Err(finding) => findings.push(finding),
            }
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let shape = clean[0].shape();
        let size = [1, config.size, config.size];
        if shape[1] < config.size || shape[2] < config.size {
            let detail = format!("shape [slice, row, column] = {shape:?}: `size` is larger");
            return Err(vec![self.finding(None, FindingCode::ShapeMismatch, &entry.clean, detail)]);
        }
        Ok(self.case(&clean, &outlines, size).map(|case| (case, drawn)))
    }

    fn finding(
        &self,
        rater: Option<usize>,
        code: FindingCode,
        file: &SourceFile,
        detail: String,
    ) -> Finding {
        let source = rater.map_or(String::new(), rater_name);
        Finding::new(&self.entry.id, &source, code, file, detail)
    }

    fn picture(&self, rater: Option<usize>, file: &SourceFile) -> Result<[Image; 3], Finding> {
        let unreadable =
            |detail: String| self.finding(rater, FindingCode::Unreadable, file, detail);
        let raster = read_raster(&file.path).map_err(|error| {
            // The first message names the file with its folder, which other machines do not have.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            unreadable(cause.unwrap_or_else(|| error.to_string()))
        })?;
        colours(raster).ok_or_else(|| unreadable("expected one page of colour".to_owned()))
    }

    /// The structures that a rater outlined, and the pixels of the lines.
    fn outlines(
        &self,
        clean: &[Image; 3],
        rater: usize,
        file: &SourceFile,
    ) -> Result<(Nested, usize), Finding> {
        let marked = self.picture(Some(rater), file)?;
        let (expected, found) = (clean[0].shape(), marked[0].shape());
        if expected != found {
            let detail = format!("shape [slice, row, column] = {found:?}: expected {expected:?}");
            return Err(self.finding(Some(rater), FindingCode::ShapeMismatch, file, detail));
        }
        let change = match is_lossy(file) || is_lossy(&self.entry.clean) {
            true => Change::Grey(f32::from(self.config.jpeg_tolerance) / 255.0),
            false => Change::Any,
        };
        let drawn = drawn_on(clean, &marked, change);
        let nested =
            nested_outlines(&drawn, &self.config.lines).map_err(|fault| {
                match known_defect(&self.entry.id, Some(rater + 1)) {
                    Some(what) => {
                        let detail = format!("{what}; {fault}");
                        self.finding(Some(rater), FindingCode::KnownDefect, file, detail)
                    }
                    None => self.finding(
                        Some(rater),
                        FindingCode::UnclearLines,
                        file,
                        fault.to_string(),
                    ),
                }
            })?;
        Ok((nested, drawn.area()))
    }

    /// Images and masks at the size that was asked for.
    fn case(
        &self,
        clean: &[Image; 3],
        outlines: &[[Mask; 2]],
        size: [usize; 3],
    ) -> Result<FolderCase, StageError> {
        let reduce = |image: &Image| reduce_area(image, size).map_err(StageError::new);
        let mut channels = Vec::new();
        for (name, image) in ["red", "green", "blue"].into_iter().zip(clean) {
            channels.push((name.to_owned(), self.image(reduce(image)?)));
        }
        let mut raters = Vec::new();
        for (rater, outlines) in outlines.iter().enumerate() {
            for (structure, mask) in STRUCTURES.into_iter().zip(outlines) {
                let covered = reduce(&mask.map(|&inside| f32::from(u8::from(inside))))?;
                let mask = covered.map(|&part| part >= 0.5);
                raters.push(self.label(&rater_name(rater), SourceKind::Human, structure, mask));
            }
        }
        let mut truth = Vec::new();
        for structure in STRUCTURES {
            let own = raters.iter().filter(|label| label.structure == structure);
            let own: Vec<NamedMask<'_>> =
                own.map(|label| NamedMask { source: &label.source, mask: &label.mask }).collect();
            let mask = majority_vote(&own, TieRule::Background).map_err(StageError::new)?;
            truth.push(self.label(VOTE, SourceKind::Fused, structure, mask));
        }
        let digest = digest(clean.iter());
        Ok(FolderCase { channels, truth, raters, findings: Vec::new(), digest })
    }

    fn image(&self, image: Image) -> CaseImage {
        let id = self.entry.id.clone();
        CaseImage {
            patient: id.clone(),
            id,
            dataset: "riga".to_owned(),
            split: self.split,
            image,
            spacing: Spacing::unit(),
            affine: None,
        }
    }

    fn label(&self, source: &str, kind: SourceKind, structure: &str, mask: Mask) -> CaseLabel {
        CaseLabel {
            id: self.entry.id.clone(),
            source: source.to_owned(),
            kind,
            structure: structure.to_owned(),
            split: self.split,
            mask,
            probability: None,
            spacing: Spacing::unit(),
            affine: None,
            params: None,
        }
    }
}

/// Writes the table of cases and that of their lines.
fn write_tables(outputs: &RigaOutputs, rows: &[Row]) -> Result<(), StageError> {
    let text = |name| (name, Kind::Text);
    let mut cases = Table::new(&["case_id", "patient", "dataset", "split"].map(text));
    let numbers = ["drawn_px", "closing_px", "disc_px", "cup_px"].map(|name| (name, Kind::Integer));
    let mut contours = Table::new(&[&["case_id", "source"].map(text)[..], &numbers[..]].concat());
    for (Written { case, patient, split, .. }, drawn) in rows {
        let texts = [case.as_str(), patient, "riga", split.name()].map(Cell::from);
        cases.push(texts.into()).map_err(refused)?;
        for (rater, Drawn { n_drawn, closing_px, n_disc, n_cup }) in drawn.iter().enumerate() {
            let texts = [case.as_str(), &rater_name(rater)].map(Cell::from);
            let numbers = [*n_drawn, *closing_px, *n_disc, *n_cup].map(Cell::from);
            contours.push(texts.into_iter().chain(numbers).collect()).map_err(refused)?;
        }
    }
    write_table(&outputs.cases, "cases.parquet", &cases)?;
    write_table(&outputs.report, "contours.parquet", &contours)
}
