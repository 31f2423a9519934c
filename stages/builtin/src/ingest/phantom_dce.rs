//! Drawn breast scans before and after contrast agent, with the truth of the tumour: no download.
//!
//! Source: [`datasets::phantom::DcePhantom`].
//! Ports: no inputs; out `pre`, `early`, `late` (image shards of the three phases), `truth` (structure `tumour`),
//! `breast`, `tissues` (structures `gland` and `vessel`), `cases` (with the regime of each case).
//! Randomness: streams keyed by (seed, case, layer); the split by (seed, patient). Cost: a second a case at the default
//! size, seven at 320 x 224 x 160; one case in memory at a time.

use std::{collections::BTreeMap, num::NonZeroUsize};

use datasets::{
    CaseImage, CaseLabel, CasePatient, Split, SplitSizes,
    phantom::{DceCase, DcePhantom, DceStructure, names},
    shard::{ShardPart, shard_parts},
    split_cases,
    table::{Kind, Table},
};
use engine::{Ctx, Out, Refusal, Resources, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{CaseTable, Images, Labels},
    shards::{refused, write_images_as, write_labels_as, write_table},
};

/// Settings of [`PhantomDce`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhantomDceConfig {
    /// Number of scans. Default 175, as many as the paper labels.
    #[serde(default = "as_paper")]
    pub count: usize,
    /// Seed of all scans.
    #[serde(default)]
    pub rng_seed: u64,
    /// How scans are drawn.
    #[serde(default)]
    pub phantom: DcePhantom,
    /// Sizes of the splits. Default the paper's 90, 10 and the rest.
    #[serde(default = "paper_split")]
    pub split: SplitSizes,
    /// Cases of a shard in the mean. Default 1.
    #[serde(default = "one")]
    pub shard_cases: NonZeroUsize,
}

fn as_paper() -> usize {
    175
}

fn paper_split() -> SplitSizes {
    SplitSizes { train: 90, val: 10, ..SplitSizes::default() }
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

inputs! {
    /// [`PhantomDce`] reads nothing.
    pub struct PhantomDceInputs {}
}

outputs! {
    /// What [`PhantomDce`] makes.
    pub struct PhantomDceOutputs {
        /// Before the injection.
        pre: Out<Images>,
        /// First phase after it.
        early: Out<Images>,
        /// Second phase after it.
        late: Out<Images>,
        /// The tumour, source `truth`.
        truth: Out<Labels>,
        /// Both breasts, source `truth`.
        breast: Out<Labels>,
        /// Gland and vessels, source `truth`.
        tissues: Out<Labels>,
        /// One row a case.
        cases: Out<CaseTable>,
    }
}

/// Drawn breast scans.
pub struct PhantomDce;

impl Stage for PhantomDce {
    const NAME: &'static str = "ingest.phantom_dce";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Draws breast scans before and after contrast agent with their truth.";
    type Config = PhantomDceConfig;
    type Inputs = PhantomDceInputs;
    type Outputs = PhantomDceOutputs;

    fn check(config: &PhantomDceConfig) -> Result<(), Refusal> {
        config.phantom.check().map_err(|error| Refusal::new("phantom", error.to_string()))
    }

    fn resources(config: &PhantomDceConfig) -> Resources {
        // Three phases, three copies of them under way, and the layers that they are painted from.
        let voxels: usize = config.phantom.shape.iter().product();
        Resources { memory: (64 << 20) + 48 * voxels as u64, ..Resources::default() }
    }

    fn run(
        config: &PhantomDceConfig,
        _: PhantomDceInputs,
        outputs: &PhantomDceOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let ids: BTreeMap<String, String> = (0..config.count).map(names).collect();
        let patients: Vec<CasePatient<'_>> =
            ids.iter().map(|(case, patient)| CasePatient { case, patient }).collect();
        let splits = split_cases(&patients, config.split).map_err(refused)?;
        let marked = splits.iter().map(|(case, split)| (case.as_str(), *split));
        let parts = shard_parts(marked, config.shard_cases).map_err(refused)?;
        let columns = ["case_id", "patient", "dataset", "split", "regime"];
        let mut table = Table::new(&columns.map(|name| (name, Kind::Text)));
        let n_parts = parts.len() as f64;
        for (n, part) in parts.iter().enumerate() {
            ctx.progress(n as f64 / n_parts, &part.name);
            for case in draw_part(config, part, &ids, outputs)? {
                table.push(case.map(|text| text.as_str().into()).into()).map_err(refused)?;
            }
        }
        write_table(&outputs.cases, "cases.parquet", &table)
    }
}

/// Draws and writes the cases of a shard; gives their rows of the table.
fn draw_part(
    config: &PhantomDceConfig,
    part: &ShardPart,
    ids: &BTreeMap<String, String>,
    outputs: &PhantomDceOutputs,
) -> Result<Vec<[String; 5]>, StageError> {
    let draw = |case: &String| -> Result<DceCase, StageError> {
        let patient = ids.get(case).map_or("", String::as_str);
        config.phantom.draw(config.rng_seed, case, patient, part.split).map_err(refused)
    };
    let cases = part.cases.iter().map(draw).collect::<Result<Vec<_>, _>>()?;
    let name = part.file_name();
    let labels = |structures: &[DceStructure]| -> Vec<CaseLabel> {
        cases.iter().flat_map(|case| structures.iter().map(|&one| case.label(one))).collect()
    };
    write_labels_as(&outputs.truth, &name, &labels(&[DceStructure::Tumour]))?;
    write_labels_as(&outputs.breast, &name, &labels(&[DceStructure::Breast]))?;
    write_labels_as(
        &outputs.tissues,
        &name,
        &labels(&[DceStructure::Gland, DceStructure::Vessel]),
    )?;
    let phase = |phase: usize| -> Vec<CaseImage> {
        cases.iter().map(|case| case.phases[phase].clone()).collect()
    };
    write_images_as(&outputs.pre, &name, &phase(0))?;
    write_images_as(&outputs.early, &name, &phase(1))?;
    write_images_as(&outputs.late, &name, &phase(2))?;
    let row = |case: &DceCase| {
        let image = &case.phases[0];
        let regime = case.regime.name().to_owned();
        let split: Split = image.split;
        [
            image.id.clone(),
            image.patient.clone(),
            image.dataset.clone(),
            split.name().to_owned(),
            regime,
        ]
    };
    Ok(cases.iter().map(row).collect())
}
