//! Chest films of JSRT with the SCR masks: the official release, or films reduced to PNG.
//!
//! Source: Shiraishi et al. 2000 (films), van Ginneken et al. 2006 (masks); splits of arXiv 2304.00466v2, IV-A.1.
//! Ports: no inputs; out `images`, `truth`, `cases`.
//! Randomness: the split, by (seed, patient). Cost: reading every file once; memory for all reduced films.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use datasets::{
    CasePatient, SplitSizes,
    jsrt::{JsrtCase, JsrtEntry, JsrtStructure, list, read_case},
    split_cases,
    table::{Cell, Kind},
};
use engine::{Ctx, External, Refusal, Stage, StageError, inputs};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shards::refused;

use super::{IngestOutputs, files::ROOT_HINT, sixteen, write_cases};

/// Settings of [`Jsrt`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsrtConfig {
    /// Folder of the data set; relative paths start at the project root.
    pub root: PathBuf,
    /// Structures to read. Default the lungs.
    #[serde(default = "lungs")]
    pub structures: Vec<JsrtStructure>,
    /// Rows and columns of the images that are made. Default 256.
    #[serde(default = "paper_size")]
    pub size: usize,
    /// Sizes of the splits. Default the paper's 165, 12 and the rest.
    #[serde(default)]
    pub split: SplitSizes,
    /// Cases of a shard in the mean. Default 16.
    #[serde(default = "sixteen")]
    pub shard_cases: NonZeroUsize,
}

fn lungs() -> Vec<JsrtStructure> {
    vec![JsrtStructure::Lung]
}

fn paper_size() -> usize {
    256
}

inputs! {
    /// [`Jsrt`] reads files only.
    pub struct JsrtInputs {}
}

/// Films and masks of JSRT.
pub struct Jsrt;

impl Stage for Jsrt {
    const NAME: &'static str = "ingest.jsrt";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "Reads chest films of JSRT with the masks of SCR.";
    const NONSEMANTIC: &'static [&'static str] = &["root"];
    type Config = JsrtConfig;
    type Inputs = JsrtInputs;
    type Outputs = IngestOutputs;

    fn check(config: &JsrtConfig) -> Result<(), Refusal> {
        if !(16..=2048).contains(&config.size) {
            let message = format!("expected a size from 16 to 2048: got {}", config.size);
            return Err(Refusal::new("size", message));
        }
        if config.structures.is_empty() {
            return Err(Refusal::new("structures", "expected at least one structure: got none"));
        }
        Ok(())
    }

    fn externals(config: &JsrtConfig, project: &Path) -> Result<Option<Vec<External>>, StageError> {
        let root = project.join(&config.root);
        let listing = list(&root, &config.structures)
            .map_err(|error| StageError::new(error).hint(ROOT_HINT))?;
        let name = |path: &Path| {
            let relative = path.strip_prefix(&root).unwrap_or(path);
            relative
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect::<Vec<_>>()
                .join("/")
        };
        let files = listing.files().into_iter();
        Ok(Some(files.map(|path| External { name: name(path), path: path.to_owned() }).collect()))
    }

    fn run(
        config: &JsrtConfig,
        _: JsrtInputs,
        outputs: &IngestOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let listing = list(&root_of(ctx.externals()), &config.structures).map_err(refused)?;
        let patients: Vec<CasePatient<'_>> =
            listing.entries.iter().map(|e| CasePatient { case: &e.id, patient: &e.id }).collect();
        let splits = split_cases(&patients, config.split).map_err(refused)?;
        let chosen: Vec<&JsrtEntry> =
            listing.entries.iter().filter(|entry| splits.contains_key(&entry.id)).collect();
        let read = chosen.into_par_iter().map(|entry| {
            let case = read_case(entry, splits[&entry.id], config.size).map_err(refused)?;
            let labels = case.labels();
            let JsrtCase { image, .. } = case;
            let age = entry.clinical.as_ref().and_then(|clinical| clinical.age).map(i64::from);
            Ok((image, labels, vec![Cell::from(age)]))
        });
        let cases = read.collect::<Result<Vec<_>, StageError>>()?;
        write_cases(outputs, &cases, &[("age", Kind::Integer)], config.shard_cases)
    }
}

/// The folder that the names of outside files are relative to.
fn root_of(externals: &[External]) -> PathBuf {
    let Some(first) = externals.first() else { return PathBuf::new() };
    let depth = first.name.split('/').count();
    first.path.ancestors().nth(depth).map(Path::to_owned).unwrap_or_default()
}
