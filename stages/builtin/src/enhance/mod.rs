//! The steps that region-growing sources on breast scans share: each a stage, so that its artifact is made once for all.

pub mod breast;
pub mod subtract;
pub mod suppress;
pub mod tumour;
pub mod vessels;

use std::collections::BTreeMap;

use datasets::{
    CaseImage, CaseLabel, Image,
    shard::{read_images, read_labels},
};
use engine::{Input, Registry, Resources, StageError};
use thiserror::Error;

use crate::shards::{check_place, refused};

/// Adds the stages.
pub(crate) fn register(registry: &mut Registry) {
    registry.add::<breast::FindBreast>();
    registry.add::<subtract::Subtract>();
    registry.add::<vessels::FindVessels>();
    registry.add::<suppress::SuppressVessels>();
    registry.add::<tumour::EnhanceTumour>();
}

/// Maps and masks that do not fit together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnhanceError {
    /// A case that one artifact lacks.
    #[error("case `{case}` is missing in the artifact of cell `{cell}`")]
    CaseMissing {
        /// The case.
        case: String,
        /// The cell that made the artifact.
        cell: String,
    },
    /// Two artifacts that differ in the shape of a case.
    #[error(
        "case `{case}` has shape {found:?} as [slice, row, column] in the artifact of cell `{cell}`: expected {expected:?}"
    )]
    ShapeDiffers {
        /// The case.
        case: String,
        /// The cell that made the artifact.
        cell: String,
        /// The shape of the case's first artifact.
        expected: [usize; 3],
        /// The shape that was found.
        found: [usize; 3],
    },
}

/// Images of one shard by case.
pub(crate) struct ImageShard {
    cell: String,
    cases: BTreeMap<String, CaseImage>,
}

impl ImageShard {
    pub(crate) fn read(input: &Input, shard: &str) -> Result<Self, StageError> {
        let cases = read_images(input.file(shard)?).map_err(refused)?;
        let cases = cases.into_iter().map(|case| (case.id.clone(), case)).collect();
        Ok(Self { cell: input.cell.clone(), cases })
    }

    /// All cases in the order of their ids.
    pub(crate) fn into_cases(self) -> impl Iterator<Item = CaseImage> {
        self.cases.into_values()
    }

    /// Takes the image of a case, which must have the shape and the place of `like`.
    pub(crate) fn take(&mut self, like: &CaseImage) -> Result<Image, StageError> {
        let Some(case) = self.cases.remove(&like.id) else {
            return Err(missing(&like.id, &self.cell));
        };
        let shape = like.image.shape();
        check_shape(&like.id, &self.cell, shape, case.image.shape())?;
        check_place(&like.id, &self.cell, shape, like.affine, case.affine)?;
        Ok(case.image)
    }
}

/// Labels of one structure of one shard by case.
pub(crate) struct MaskShard {
    cell: String,
    cases: BTreeMap<String, CaseLabel>,
}

impl MaskShard {
    /// Reads the labels of `structure`, or of any when it is `None`.
    pub(crate) fn read(
        input: &Input,
        shard: &str,
        structure: Option<&str>,
    ) -> Result<Self, StageError> {
        let labels = read_labels(input.file(shard)?).map_err(refused)?;
        let wanted = labels
            .into_iter()
            .filter(|label| structure.is_none_or(|structure| label.structure == structure));
        let cases = wanted.map(|label| (label.id.clone(), label)).collect();
        Ok(Self { cell: input.cell.clone(), cases })
    }

    /// Takes the label of a case, which must have the shape and the place of `like`.
    pub(crate) fn take(&mut self, like: &CaseImage) -> Result<CaseLabel, StageError> {
        let (id, shape) = (&like.id, like.image.shape());
        let Some(label) = self.cases.remove(id) else { return Err(missing(id, &self.cell)) };
        check_shape(id, &self.cell, shape, label.mask.shape())?;
        check_place(id, &self.cell, shape, like.affine, label.affine)?;
        Ok(label)
    }
}

/// A case that the artifact of a cell lacks.
pub(crate) fn missing(case: &str, cell: &str) -> StageError {
    StageError::new(EnhanceError::CaseMissing { case: case.to_owned(), cell: cell.to_owned() })
}

/// Refuses what a cell has of a case when its shape differs.
pub(crate) fn check_shape(
    case: &str,
    cell: &str,
    expected: [usize; 3],
    found: [usize; 3],
) -> Result<(), StageError> {
    if expected == found {
        return Ok(());
    }
    let (case, cell) = (case.to_owned(), cell.to_owned());
    Err(StageError::new(EnhanceError::ShapeDiffers { case, cell, expected, found }))
}

/// A map of a case.
pub(crate) fn with_image(case: &CaseImage, image: Image) -> CaseImage {
    CaseImage {
        id: case.id.clone(),
        patient: case.patient.clone(),
        dataset: case.dataset.clone(),
        split: case.split,
        image,
        spacing: case.spacing,
        affine: case.affine,
    }
}

/// What the steps take of the machine: some twelve volumes of 320 x 224 x 160 voxels.
pub(crate) fn volumes() -> Resources {
    Resources { memory: 768 << 20, ..Resources::default() }
}
