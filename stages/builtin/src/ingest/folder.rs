//! Users' own data: one file a channel and one label file a rater, in any format that is read.
//!
//! Source: [`datasets::folder`], layouts and checks.
//! Ports: no inputs; out `images` (the first channel), `channels` (all of them, where there are several), `truth` (the
//! reference, where there is one), `raters` (all raters), `cases`, `report`. A stage has a fixed number of ports, so
//! raters and further channels leave in one artifact each, of which `ingest.rater` and `ingest.channel` hand out one:
//! every file is read once, raters are compared with each other, and a changed label of one rater ends at that rater.
//! Randomness: the split, by (seed, patient). Cost: reading every file once; memory for the cases of one shard a thread.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use datasets::{
    CaseImage, CaseLabel, CasePatient, DatasetsError, Spacing, SplitSizes,
    folder::{
        DukeTables, Entry, Finding, FindingCode, LabelValues, Layout, Listing, Metadata,
        ReadOptions, SourceFile, TableFiles, Wanted, has_slices, list, read_case, with_voxels,
    },
    shard::ShardPart,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, External, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    channel::row_id,
    files::{declared, each_part, external, files_of, some_of},
    findings::{Written, conclude, divided, judge},
    sixteen,
};
use crate::{
    kinds::{Annotations, CaseTable, ChannelImages, Images, IngestReport, Labels},
    shards::{refused, write_images_as, write_labels_as, write_table},
};

/// Settings of [`Folder`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Folder of the data set; relative paths start at the project root.
    pub root: PathBuf,
    /// Where the files of a case lie.
    pub layout: Layout,
    /// Name of the data set in shards and reports. Default `folder`.
    #[serde(default = "unnamed")]
    pub dataset: String,
    /// Structures, each with the values of label maps that it is made of, or `"foreground"`. Default those of the
    /// layout's `dataset.json`.
    #[serde(default)]
    pub structures: BTreeMap<String, LabelValues>,
    /// Pairs of structures of which the first must lie within the second, as `["cup", "disc"]`.
    #[serde(default)]
    pub nested: Vec<[String; 2]>,
    /// Raters that are read, by the names that their labels get. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raters: Option<Vec<String>>,
    /// Channels that are read, as their files are named; cases that lack one are left out. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// Tables of layout `duke`. Default those under their published names in the folder or in the one that holds it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tables: TableFiles,
    /// Columns of the clinical table of layout `duke`, as `"Group:Column"`, that `clinical.parquet` of the report has by
    /// case. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clinical: Vec<String>,
    /// Distance between pixels of pictures, `[slice, row, column]` in millimetres. Default 1; volumes tell their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing_mm: Option<[f64; 3]>,
    /// Codes of the ingest report that are errors and let the run go on all the same. Default none.
    #[serde(default)]
    pub allow: Vec<FindingCode>,
    /// Sizes of the splits.
    pub split: SplitSizes,
    /// Cases of a shard in the mean. Default 16 in two dimensions and 1 in three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_cases: Option<NonZeroUsize>,
}

fn is_default(tables: &TableFiles) -> bool {
    *tables == TableFiles::default()
}

fn unnamed() -> String {
    "folder".to_owned()
}

inputs! {
    /// [`Folder`] reads files only.
    pub struct FolderInputs {}
}

outputs! {
    /// What [`Folder`] makes.
    pub struct FolderOutputs {
        /// Image shards of the first channel.
        images: Out<Images>,
        /// Image shards of all channels, when there are several.
        channels: Out<ChannelImages>,
        /// Label shards of source `truth`, when the layout has a reference.
        truth: Out<Labels>,
        /// Label shards of all raters.
        raters: Out<Annotations>,
        /// One row a case.
        cases: Out<CaseTable>,
        /// What was wrong with the files: `report.parquet`, `report.jsonl`, and `summary.json` with counts by code; the
        /// columns of `clinical` in `clinical.parquet`.
        report: Out<IngestReport>,
    }
}

/// A data set that cannot be used as it is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderFault {
    /// No file fits the layout.
    #[error("no case under the root fits the layout: {n_files} files were looked at")]
    NoCase {
        /// Files under the root.
        n_files: usize,
    },
    /// Nothing says what the labels show.
    #[error("`structures` is empty and the layout has no `dataset.json` that names them")]
    NoStructure,
    /// Columns are asked for of a table that is not there.
    #[error(
        "`clinical` asks for columns of the clinical table, which does not lie beside the data set"
    )]
    NoClinicalTable,
}

/// A data set in a folder.
pub struct Folder;

impl Stage for Folder {
    const NAME: &'static str = "ingest.folder";
    const VERSION: u32 = 3;
    const ABOUT: &'static str =
        "Reads images and the labels of several raters from a folder and checks them.";
    const NONSEMANTIC: &'static [&'static str] = &["root", "tables"];
    type Config = FolderConfig;
    type Inputs = FolderInputs;
    type Outputs = FolderOutputs;

    fn check(config: &FolderConfig) -> Result<(), Refusal> {
        config.layout.check().map_err(|error| Refusal::new("layout", error.to_string()))?;
        if let Some(spacing) = config.spacing_mm {
            let wrong = |error: DatasetsError| Refusal::new("spacing_mm", error.to_string());
            Spacing::new(spacing).map_err(wrong)?;
        }
        let asks_nothing = is_default(&config.tables) && config.clinical.is_empty();
        if config.layout != Layout::Duke && !asks_nothing {
            let key = if is_default(&config.tables) { "clinical" } else { "tables" };
            return Err(Refusal::new(key, "only layout `duke` has tables"));
        }
        let unknown =
            config.nested.iter().flatten().find(|name| !config.structures.contains_key(*name));
        match unknown.filter(|_| !config.structures.is_empty()) {
            Some(name) => Err(Refusal::new("nested", format!("`{name}` is none of `structures`"))),
            None => Ok(()),
        }
    }

    fn externals(
        config: &FolderConfig,
        project: &Path,
    ) -> Result<Option<Vec<External>>, StageError> {
        let root = project.join(&config.root);
        let files = files_of(&root)?;
        let tables = match config.layout {
            Layout::Duke => config.tables.find(&root, project),
            _ => Vec::new(),
        };
        let listing = listed(config, &files, &read_tables(config, &tables)?)?;
        some_of(&files, &listing.files)?;
        let described = files.iter().filter(|file| is_metadata(config, file)).cloned();
        let all = described.chain(tables).chain(listing.files.iter().flat_map(with_voxels));
        Ok(Some(all.map(external).collect()))
    }

    fn resources(_: &FolderConfig) -> Resources {
        // A case of 512 x 512 x 512 with its label map and masks, which is not known before it is read.
        Resources { memory: 2 << 30, ..Resources::default() }
    }

    fn run(
        config: &FolderConfig,
        _: FolderInputs,
        outputs: &FolderOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let files = declared(ctx);
        let structures = structures(config, &files)?;
        let tables = read_tables(config, &files)?;
        let listing = listed(config, &files, &tables)?;
        let work = Work { config, structures: &structures, listing: &listing, outputs };
        let (cases, findings) = work.read(ctx)?;
        let found = [listing.findings.clone(), findings];
        conclude(found, &cases, &config.allow, &outputs.report, ctx)?;
        let ids = cases.iter().map(|case| case.case.as_str());
        if let Some(table) = tables.clinical(ids).map_err(refused)? {
            write_table(&outputs.report, "clinical.parquet", &table)?;
        }
        write_cases(&outputs.cases, &config.dataset, &cases)
    }
}

/// The tables among `files`, which only one layout has.
fn read_tables(config: &FolderConfig, files: &[SourceFile]) -> Result<DukeTables, StageError> {
    if config.layout != Layout::Duke {
        return Ok(DukeTables::default());
    }
    let tables = DukeTables::read(files, &config.clinical).map_err(refused)?;
    let has_columns = tables.clinical(std::iter::empty()).map_err(refused)?.is_some();
    match has_columns || config.clinical.is_empty() {
        true => Ok(tables),
        false => Err(StageError::new(FolderFault::NoClinicalTable)),
    }
}

fn is_metadata(config: &FolderConfig, file: &SourceFile) -> bool {
    config.layout.metadata().is_some_and(|name| file.name == name)
}

/// The structures of the configuration, or those that the data set describes.
fn structures(
    config: &FolderConfig,
    files: &[SourceFile],
) -> Result<BTreeMap<String, LabelValues>, StageError> {
    if !config.structures.is_empty() {
        return Ok(config.structures.clone());
    }
    if let Some(structures) = config.layout.structures() {
        return Ok(structures);
    }
    let described = files.iter().find(|file| is_metadata(config, file));
    let Some(SourceFile { path, .. }) = described else {
        return Err(StageError::new(FolderFault::NoStructure));
    };
    let bytes = std::fs::read(path).map_err(StageError::new)?;
    Ok(Metadata::parse(&bytes, path).map_err(refused)?.structures)
}

fn listed(
    config: &FolderConfig,
    files: &[SourceFile],
    tables: &DukeTables,
) -> Result<Listing, StageError> {
    let structures = structures(config, files)?;
    let wanted = Wanted {
        raters: config.raters.as_deref(),
        channels: config.channels.as_deref(),
        tables: (config.layout == Layout::Duke).then_some(tables),
    };
    list(files, &config.layout, &structures, wanted).map_err(StageError::new)
}

struct Work<'a> {
    config: &'a FolderConfig,
    structures: &'a BTreeMap<String, LabelValues>,
    listing: &'a Listing,
    outputs: &'a FolderOutputs,
}

impl Work<'_> {
    /// Reads and writes all cases, shard by shard.
    fn read(&self, ctx: &Ctx<'_>) -> Result<(Vec<Written>, Vec<Finding>), StageError> {
        let entries = &self.listing.entries;
        let Some(first) = entries.first() else {
            judge(&self.listing.findings, &self.config.allow)?;
            return Err(StageError::new(FolderFault::NoCase { n_files: self.listing.files.len() }));
        };
        let patients: Vec<CasePatient<'_>> = entries
            .iter()
            .map(|entry| CasePatient { case: &entry.id, patient: &entry.patient })
            .collect();
        let is_spatial = has_slices(first);
        let default = if is_spatial { NonZeroUsize::MIN } else { sixteen() };
        let target = self.config.shard_cases.unwrap_or(default);
        let told = (self.listing.findings.as_slice(), self.config.allow.as_slice());
        let parts = divided(&patients, self.config.split, target, told)?;
        let (cases, mut findings) = each_part(&parts, ctx, |part| self.part(part))?;
        findings.sort_by(|a, b| (&a.case, a.code, &a.source).cmp(&(&b.case, b.code, &b.source)));
        Ok((cases, findings))
    }

    /// Reads the cases of a shard and writes what is usable of them.
    fn part(&self, part: &ShardPart) -> Result<(Vec<Written>, Vec<Finding>), StageError> {
        let spacing = self.config.spacing_mm.map(Spacing::new).transpose().map_err(refused)?;
        let options = ReadOptions {
            dataset: &self.config.dataset,
            structures: self.structures,
            nested: &self.config.nested,
            spacing,
        };
        let (mut written, mut findings) = (Vec::new(), Vec::new());
        let (mut images, mut channels) = (Vec::new(), Vec::new());
        let (mut truth, mut raters) = (Vec::new(), Vec::new());
        let own = |entry: &&Entry| part.cases.binary_search(&entry.id).is_ok();
        for entry in self.listing.entries.iter().filter(own) {
            let case = read_case(entry, part.split, &options);
            findings.extend(case.findings.iter().cloned());
            let Some(kept) = Written::of(&case, &entry.images[0].1.name) else { continue };
            written.push(kept);
            if case.channels.len() > 1 {
                channels.extend(case.channels.iter().map(|(name, image)| CaseImage {
                    id: row_id(&image.id, name),
                    ..image.clone()
                }));
            }
            images.extend(case.channels.into_iter().next().map(|(_, image)| image));
            truth.extend(case.truth);
            raters.extend(case.raters);
        }
        self.write(&part.file_name(), &images, &channels, &truth, &raters)?;
        Ok((written, findings))
    }

    fn write(
        &self,
        name: &str,
        images: &[CaseImage],
        channels: &[CaseImage],
        truth: &[CaseLabel],
        raters: &[CaseLabel],
    ) -> Result<(), StageError> {
        let outputs = self.outputs;
        if !images.is_empty() {
            write_images_as(&outputs.images, name, images)?;
        }
        if !channels.is_empty() {
            write_images_as(&outputs.channels, name, channels)?;
        }
        if !truth.is_empty() {
            write_labels_as(&outputs.truth, name, truth)?;
        }
        if raters.is_empty() { Ok(()) } else { write_labels_as(&outputs.raters, name, raters) }
    }
}

/// Writes the table of cases.
pub(super) fn write_cases(
    out: &Out<CaseTable>,
    dataset: &str,
    cases: &[Written],
) -> Result<(), StageError> {
    let texts = ["case_id", "patient", "dataset", "split"].map(|name| (name, Kind::Text));
    let axes = ["slices", "rows", "columns"].map(|name| (name, Kind::Integer));
    let columns: Vec<_> = texts.into_iter().chain(axes).collect();
    let mut table = Table::new(&columns);
    for Written { case, patient, split, shape, .. } in cases {
        let texts = [case.as_str(), patient, dataset, split.name()].map(Cell::from);
        table.push(texts.into_iter().chain(shape.map(Cell::from)).collect()).map_err(refused)?;
    }
    write_table(out, "cases.parquet", &table)
}
