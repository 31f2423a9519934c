//! How well a prediction agrees with a reference: overlap, surface distances, and their summary over cases.
//!
//! Conventions: surfaces are the mask without its erosion (connectivity 1, the border of the image is surface);
//! ASSD pools the distances of both surfaces; HD95 is given in both common forms. What an empty mask gives is
//! stated by [`EmptyPolicy`] and never guessed.

mod case;
mod energy;
mod overlap;
mod reliability;
mod soft;
mod summary;
mod surface;
mod surface_dice;

pub use case::{CaseScores, score_case};
pub use energy::EnergyDistance;
pub use overlap::{Overlap, jaccard_from_mean_dice};
pub use reliability::{Binning, Reliability, ReliabilityBin};
pub use soft::{AtThreshold, SOFT_THRESHOLDS, SoftDice, soft_dice};
pub use summary::{EmptyCounts, Summary};
pub use surface::SurfaceDistances;
pub use surface_dice::surface_dice;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a score is when reference and prediction are both empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BothEmpty {
    /// The best there is: overlap 1, distance 0.
    #[default]
    Perfect,
    /// No score; the case is left out of means.
    Skip,
}

/// What a score is when exactly one of reference and prediction is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OneEmpty {
    /// The worst there is: overlap 0, and as distance the diagonal of the image from voxel centre to voxel centre.
    #[default]
    Worst,
    /// No score; the case is left out of means.
    Skip,
    /// Overlap 0, distance infinity.
    Infinite,
}

/// What empty masks give; the default is `perfect` and `worst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmptyPolicy {
    /// When both masks are empty.
    pub both_empty: BothEmpty,
    /// When one mask is empty.
    pub one_empty: OneEmpty,
}

/// Which of the two masks of a case is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Emptiness {
    /// Both masks have foreground.
    Neither,
    /// Only the reference is empty.
    Reference,
    /// Only the prediction is empty.
    Prediction,
    /// Both masks are empty.
    Both,
}

impl EmptyPolicy {
    /// The score that replaces a formula, or `formula()` when neither mask is empty; `None` leaves the case out.
    ///
    /// `best`, `worst` and `infinite` are what the metric calls so.
    fn score(
        self,
        emptiness: Emptiness,
        levels: Levels,
        formula: impl FnOnce() -> f64,
    ) -> Option<f64> {
        match emptiness {
            Emptiness::Neither => Some(formula()),
            Emptiness::Both => match self.both_empty {
                BothEmpty::Perfect => Some(levels.best),
                BothEmpty::Skip => None,
            },
            Emptiness::Reference | Emptiness::Prediction => match self.one_empty {
                OneEmpty::Worst => Some(levels.worst),
                OneEmpty::Skip => None,
                OneEmpty::Infinite => Some(levels.infinite),
            },
        }
    }
}

/// The scores that a metric gives by rule.
#[derive(Clone, Copy, Debug)]
struct Levels {
    best: f64,
    worst: f64,
    infinite: f64,
}

impl Levels {
    /// Of Dice and Jaccard.
    const OVERLAP: Self = Self { best: 1.0, worst: 0.0, infinite: 0.0 };

    /// Of distances, with the diagonal of the image as the worst.
    fn distance(diagonal: f64) -> Self {
        Self { best: 0.0, worst: diagonal, infinite: f64::INFINITY }
    }
}
