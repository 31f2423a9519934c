//! What a case is: an image with its place in the world, and the labels that sources gave it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Affine, DatasetsError, Image, Mask};

/// Distance between the centres of neighbouring voxels, `[slice, row, column]` in millimetres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f64; 3]", into = "[f64; 3]")]
pub struct Spacing([f64; 3]);

impl Spacing {
    /// Checks and wraps `[slice, row, column]` in millimetres.
    ///
    /// # Errors
    /// [`DatasetsError::Spacing`] when a number is not positive and finite.
    pub fn new(millimetres: [f64; 3]) -> Result<Self, DatasetsError> {
        if millimetres.iter().all(|&mm| mm.is_finite() && mm > 0.0) {
            Ok(Self(millimetres))
        } else {
            Err(DatasetsError::Spacing { found: millimetres })
        }
    }

    /// One millimetre along every axis: for pictures whose true spacing is not known.
    pub fn unit() -> Self {
        Self([1.0; 3])
    }

    /// `[slice, row, column]` in millimetres.
    pub fn millimetres(self) -> [f64; 3] {
        self.0
    }
}

impl TryFrom<[f64; 3]> for Spacing {
    type Error = DatasetsError;

    fn try_from(millimetres: [f64; 3]) -> Result<Self, Self::Error> {
        Self::new(millimetres)
    }
}

impl From<Spacing> for [f64; 3] {
    fn from(spacing: Spacing) -> Self {
        spacing.0
    }
}

/// Part of a data set that a case belongs to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Cases that weights are fitted to.
    Train,
    /// Cases that choose among weights.
    Val,
    /// Cases that are scored.
    Test,
}

impl Split {
    /// All splits in the order in which they are filled.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The word that shards and file names use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// The split of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name() == name)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// How a label came to be.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// The reference that scores are taken against.
    Truth,
    /// A person drew it.
    Human,
    /// A simulator of annotation noise made it from another label.
    Simulated,
    /// A conventional segmentation algorithm made it from the image.
    Algorithm,
    /// Several labels were fused into it.
    Fused,
    /// A trained network predicted it.
    Predicted,
}

impl SourceKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Truth, Self::Human, Self::Simulated, Self::Algorithm, Self::Fused, Self::Predicted];

    /// The word that shards use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truth => "truth",
            Self::Human => "human",
            Self::Simulated => "simulated",
            Self::Algorithm => "algorithm",
            Self::Fused => "fused",
            Self::Predicted => "predicted",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An image of a patient.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseImage {
    /// Name of the case, unique in its data set.
    pub id: String,
    /// Name of the patient; all cases of a patient share a split.
    pub patient: String,
    /// Name of the data set that the case comes from.
    pub dataset: String,
    /// The split that the case belongs to.
    pub split: Split,
    /// The voxels `[slice, row, column]`; finite. The reader that made it states their unit.
    pub image: Image,
    /// Distance between voxels.
    pub spacing: Spacing,
    /// Where the voxels are; `None` where the file did not say and the grid is still that of the file.
    pub affine: Option<Affine>,
}

/// What one source says about one structure of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseLabel {
    /// Name of the case.
    pub id: String,
    /// Name of the source.
    pub source: String,
    /// How the source works.
    pub kind: SourceKind,
    /// Name of the structure, for example `lung`.
    pub structure: String,
    /// The split that the case belongs to.
    pub split: Split,
    /// The structure, `[slice, row, column]`, of the shape of the case's image.
    pub mask: Mask,
    /// Probability in `[0, 1]` of every voxel, where the source gives one; of the shape of the mask.
    pub probability: Option<Image>,
    /// Distance between voxels.
    pub spacing: Spacing,
    /// Where the voxels are, as for the case's image.
    pub affine: Option<Affine>,
    /// What was drawn or chosen to make the label, as a JSON text.
    pub params: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn spacing_is_positive_and_finite() {
        assert_eq!(Spacing::new([1.4, 0.7, 0.7]).unwrap().millimetres(), [1.4, 0.7, 0.7]);
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Spacing::new([1.4, 0.7, wrong]).unwrap_err();
            assert!(matches!(error, DatasetsError::Spacing { found } if found[0] == 1.4));
        }
        let error = Spacing::new([1.4, 0.7, 0.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spacing must be positive and finite: got [1.4, 0.7, 0.0] mm as [slice, row, column]"
        );
    }

    #[test]
    fn words_survive_serde_and_names() {
        for split in Split::ALL {
            assert_eq!(Split::from_name(split.name()), Some(split));
            assert_eq!(serde_json::to_string(&split).unwrap(), format!("\"{split}\""));
        }
        for kind in SourceKind::ALL {
            assert_eq!(SourceKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
        let spacing: Spacing = serde_json::from_str("[1.0, 2.0, 3.0]").unwrap();
        assert_eq!(spacing.millimetres(), [1.0, 2.0, 3.0]);
        assert!(serde_json::from_str::<Spacing>("[1.0, 2.0, -3.0]").is_err());
    }
}
