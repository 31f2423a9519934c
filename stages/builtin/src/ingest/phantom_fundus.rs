//! Drawn colour photographs of the optic disc with the drawings of six readers: no download.
//!
//! Source: [`datasets::phantom::FundusPhantom`], in the shape of RIGA (six readers and an arbitrated truth).
//! Ports: no inputs; out `red`, `green`, `blue` (image shards of the channels), `truth` (what the senior settled, source
//! `arbitrated`), `anatomy` (the eye as it was drawn), `rater1` to `rater6`, each with the structures `disc` and `cup`;
//! `cases` (with the cup-to-disc ratio and how hard the edge of the cup is to see).
//! Randomness: streams keyed by (seed, case, layer) and (seed, case, reader, structure); the split by (seed, patient).
//! Cost: 0.2 seconds a photograph of 256 x 256.

use std::{collections::BTreeMap, num::NonZeroUsize};

use datasets::{
    CaseLabel, CasePatient, Split, SplitSizes,
    phantom::{FundusCase, FundusPhantom, N_RATERS, fundus::FundusLabels, names},
    shard::{ShardPart, shard_parts},
    split_cases,
    table::{Cell, Kind, Table},
};
use engine::{Ctx, Out, Refusal, Stage, StageError, inputs, outputs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{CaseTable, Images, Labels},
    shards::{refused, write_images_as, write_labels_as, write_table},
};

use super::sixteen;

/// Settings of [`PhantomFundus`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhantomFundusConfig {
    /// Number of photographs. Default 750, as many as RIGA has.
    #[serde(default = "as_riga")]
    pub count: usize,
    /// Seed of all photographs and readers.
    #[serde(default)]
    pub rng_seed: u64,
    /// How photographs and readers are drawn.
    #[serde(default)]
    pub phantom: FundusPhantom,
    /// Sizes of the splits. Default the paper's 655, of which 65 are for validation, and 95.
    #[serde(default = "paper_split")]
    pub split: SplitSizes,
    /// Cases of a shard in the mean. Default 16.
    #[serde(default = "sixteen")]
    pub shard_cases: NonZeroUsize,
}

fn as_riga() -> usize {
    750
}

fn paper_split() -> SplitSizes {
    SplitSizes { train: 590, val: 65, ..SplitSizes::default() }
}

inputs! {
    /// [`PhantomFundus`] reads nothing.
    pub struct PhantomFundusInputs {}
}

outputs! {
    /// What [`PhantomFundus`] makes.
    pub struct PhantomFundusOutputs {
        /// The red channel.
        red: Out<Images>,
        /// The green channel.
        green: Out<Images>,
        /// The blue channel.
        blue: Out<Images>,
        /// What the senior settled, source `arbitrated`.
        truth: Out<Labels>,
        /// The eye as it was drawn, source `anatomy`.
        anatomy: Out<Labels>,
        /// Small and careful.
        rater1: Out<Labels>,
        /// Draws ellipses.
        rater2: Out<Labels>,
        /// In the middle, with a tremor.
        rater3: Out<Labels>,
        /// Always a little too far up and to the left.
        rater4: Out<Labels>,
        /// Another size from day to day.
        rater5: Out<Labels>,
        /// Large and generous.
        rater6: Out<Labels>,
        /// One row a case.
        cases: Out<CaseTable>,
    }
}

impl PhantomFundusOutputs {
    fn raters(&self) -> [&Out<Labels>; N_RATERS] {
        [&self.rater1, &self.rater2, &self.rater3, &self.rater4, &self.rater5, &self.rater6]
    }
}

/// Drawn photographs of the optic disc.
pub struct PhantomFundus;

impl Stage for PhantomFundus {
    const NAME: &'static str = "ingest.phantom_fundus";
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "Draws colour photographs of the optic disc with six readers and an arbitrated truth.";
    type Config = PhantomFundusConfig;
    type Inputs = PhantomFundusInputs;
    type Outputs = PhantomFundusOutputs;

    fn check(config: &PhantomFundusConfig) -> Result<(), Refusal> {
        config.phantom.check().map_err(|error| Refusal::new("phantom", error.to_string()))
    }

    fn run(
        config: &PhantomFundusConfig,
        _: PhantomFundusInputs,
        outputs: &PhantomFundusOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let ids: BTreeMap<String, String> = (0..config.count).map(names).collect();
        let patients: Vec<CasePatient<'_>> =
            ids.iter().map(|(case, patient)| CasePatient { case, patient }).collect();
        let splits = split_cases(&patients, config.split).map_err(refused)?;
        let marked = splits.iter().map(|(case, split)| (case.as_str(), *split));
        let parts = shard_parts(marked, config.shard_cases).map_err(refused)?;
        let texts = ["case_id", "patient", "dataset", "split"].map(|name| (name, Kind::Text));
        let numbers = ["cup_to_disc", "cup_blur"].map(|name| (name, Kind::Number));
        let mut table = Table::new(&[&texts[..], &numbers[..]].concat());
        let n_parts = parts.len() as f64;
        for (n, part) in parts.iter().enumerate() {
            ctx.progress(n as f64 / n_parts, &part.name);
            for row in draw_part(config, part, &ids, outputs)? {
                table.push(row).map_err(refused)?;
            }
        }
        write_table(&outputs.cases, "cases.parquet", &table)
    }
}

/// Draws and writes the cases of a shard; gives their rows of the table.
fn draw_part(
    config: &PhantomFundusConfig,
    part: &ShardPart,
    ids: &BTreeMap<String, String>,
    outputs: &PhantomFundusOutputs,
) -> Result<Vec<Vec<Cell>>, StageError> {
    let patient = |case: &String| ids.get(case).cloned().unwrap_or_default();
    let wanted: Vec<(String, String, Split)> =
        part.cases.iter().map(|case| (case.clone(), patient(case), part.split)).collect();
    let cases = config.phantom.draw_all(config.rng_seed, &wanted).map_err(refused)?;
    let name = part.file_name();
    for (channel, out) in [&outputs.red, &outputs.green, &outputs.blue].into_iter().enumerate() {
        let images: Vec<_> = cases.iter().map(|case| case.channels[channel].clone()).collect();
        write_images_as(out, &name, &images)?;
    }
    let labels = |of: &dyn Fn(&FundusCase) -> FundusLabels| -> Vec<CaseLabel> {
        cases.iter().flat_map(of).collect()
    };
    write_labels_as(&outputs.truth, &name, &labels(&|case| case.arbitrated.clone()))?;
    write_labels_as(&outputs.anatomy, &name, &labels(&|case| case.anatomy.clone()))?;
    for (rater, out) in outputs.raters().into_iter().enumerate() {
        write_labels_as(out, &name, &labels(&|case| case.raters[rater].clone()))?;
    }
    Ok(cases.iter().map(row).collect())
}

fn row(case: &FundusCase) -> Vec<Cell> {
    let image = &case.channels[0];
    let texts = [&image.id, &image.patient, &image.dataset].map(|text| Cell::from(text.as_str()));
    let numbers = [case.cup_to_disc, case.cup_blur].map(Cell::from);
    texts.into_iter().chain([image.split.name().into()]).chain(numbers).collect()
}
