//! Annotation sources that grow a region in breast scans: four algorithms, each a stage.
//!
//! Source: arXiv 2304.00466v2, IV-A.2; rules at [`imaging::sources`].
//! Ports: in `enhancement`, `uptake`, `vesselness: Images`, `breast: Labels`; out `labels: Labels` of kind `algorithm`,
//! structure `tumour`, with seed, thresholds and flags in `params`.
//! Randomness: none. Cost: a second a case of 320 x 224 x 160 voxels. A case in which nothing enhances gets an empty mask
//! and the flag `no_seed`.

mod compare;
mod table;

use std::marker::PhantomData;

use datasets::{CaseLabel, SourceKind};
use engine::{Ctx, One, Out, Refusal, Registry, Resources, Stage, StageError, inputs, outputs};
use imaging::sources::{Edge, Fuzzy, Grower, Maps, Smooth, Statistic, outline};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    enhance::{ImageShard, MaskShard, volumes},
    kinds::{Images, Labels},
    shards::write_label_shard,
};

pub use compare::{Compare, CompareConfig, CompareInputs, CompareOutputs};
pub use table::{SourceTable, SourceTableConfig, SourceTableInputs, SourceTableOutputs};

/// An algorithm that has a stage of its own.
pub trait NamedGrower:
    Grower + Clone + Default + Serialize + DeserializeOwned + JsonSchema + 'static
{
    /// Name of the stage.
    const STAGE: &'static str;
    /// Version of the stage.
    const STAGE_VERSION: u32;
    /// One sentence about the stage.
    const STAGE_ABOUT: &'static str;
}

/// Declares the algorithms: a line makes a stage.
macro_rules! growers {
    ($($name:ident = $stage:literal, version $version:literal, $about:literal;)*) => {
        $(
            impl NamedGrower for $name {
                const STAGE: &'static str = $stage;
                const STAGE_VERSION: u32 = $version;
                const STAGE_ABOUT: &'static str = $about;
            }
        )*

        /// Adds the algorithms' stages and those that compare them.
        pub(crate) fn register(registry: &mut Registry) {
            $(registry.add::<Grow<$name>>();)*
            registry.add::<Compare>();
            registry.add::<SourceTable>();
        }
    };
}

growers! {
    Edge = "grow.rg1", version 1,
        "Outlines tumours by a connected threshold: follows boundaries, breaks under noise.";
    Smooth = "grow.rg2", version 1,
        "Outlines tumours by whole neighbourhoods on a smooth map: robust, without detail.";
    Statistic = "grow.rg3", version 1,
        "Outlines tumours by an interval around the region's own mean.";
    Fuzzy = "grow.rg4", version 1,
        "Outlines tumours by fuzzy classes of the uptake.";
}

/// Settings of [`Grow`].
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(bound = "G: JsonSchema + Default + Serialize")]
#[serde(bound = "G: Serialize + DeserializeOwned + Default")]
pub struct GrowConfig<G> {
    /// Name of the source. Default: the algorithm's.
    pub source: Option<String>,
    /// Options of the algorithm.
    pub options: G,
}

inputs! {
    /// What [`Grow`] reads.
    pub struct GrowInputs {
        /// Where a tumour may be.
        enhancement: One<Images>,
        /// Early uptake.
        uptake: One<Images>,
        /// Vesselness that counts.
        vesselness: One<Images>,
        /// The breast without its skin.
        breast: One<Labels>,
    }
}

outputs! {
    /// What [`Grow`] makes.
    pub struct GrowOutputs {
        /// The labels of the source.
        labels: Out<Labels>,
    }
}

/// Labels by the algorithm `G`.
pub struct Grow<G>(PhantomData<fn() -> G>);

impl<G: NamedGrower> Stage for Grow<G> {
    const NAME: &'static str = G::STAGE;
    const VERSION: u32 = G::STAGE_VERSION;
    const ABOUT: &'static str = G::STAGE_ABOUT;
    const PER_SHARD: bool = true;
    type Config = GrowConfig<G>;
    type Inputs = GrowInputs;
    type Outputs = GrowOutputs;

    fn check(config: &GrowConfig<G>) -> Result<(), Refusal> {
        config.options.check().map_err(|error| Refusal::new("options", error.to_string()))
    }

    fn resources(_: &GrowConfig<G>) -> Resources {
        volumes()
    }

    fn run(
        config: &GrowConfig<G>,
        inputs: GrowInputs,
        outputs: &GrowOutputs,
        ctx: &Ctx<'_>,
    ) -> Result<(), StageError> {
        let mut uptake = ImageShard::read(&inputs.uptake, ctx.shard())?;
        let mut vesselness = ImageShard::read(&inputs.vesselness, ctx.shard())?;
        let mut breast = MaskShard::read(&inputs.breast, ctx.shard(), Some("breast"))?;
        let source = config.source.as_deref().unwrap_or(config.options.name());
        let mut labels = Vec::new();
        for case in ImageShard::read(&inputs.enhancement, ctx.shard())?.into_cases() {
            let maps = Maps {
                enhancement: &case.image,
                uptake: &uptake.take(&case)?,
                vesselness: &vesselness.take(&case)?,
                breast: &breast.take(&case)?.mask,
                spacing: case.spacing.millimetres(),
            };
            let grown = outline(&config.options, maps).map_err(StageError::new)?;
            let params = serde_json::to_string(&grown.record).map_err(StageError::new)?;
            labels.push(CaseLabel {
                id: case.id,
                source: source.to_owned(),
                kind: SourceKind::Algorithm,
                structure: "tumour".to_owned(),
                split: case.split,
                mask: grown.mask,
                probability: None,
                spacing: case.spacing,
                affine: case.affine,
                params: Some(params),
            });
        }
        write_label_shard(&outputs.labels, ctx, &labels)
    }
}
