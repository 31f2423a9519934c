//! Looks into a trained network: what it thinks of its annotations.

pub mod uma;

use serde::{Deserialize, Serialize};

/// What `cases.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AssessedCases {
    /// Names of the sources, in order.
    pub sources: Vec<String>,
    /// Thresholds of `u_a` and `u_b`.
    pub thresholds: [f64; 2],
    /// All cases of the split, by rising `u_a`.
    pub cases: Vec<AssessedCase>,
    /// Ids of the cases whose maps are kept: those of the first in the parts `maps-0.parquet` and `labels-0.parquet`.
    pub shown: Vec<String>,
}

/// Part with the maps of the case at `place` of those that are shown.
pub(crate) fn maps_part(place: usize) -> String {
    format!("maps-{place}.parquet")
}

/// Part with the labels of the case at `place` of those that are shown.
pub(crate) fn labels_part(place: usize) -> String {
    format!("labels-{place}.parquet")
}

/// Quality of the annotations of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AssessedCase {
    /// The case.
    pub id: String,
    /// Eq. 6.
    pub u_a: f64,
    /// Eq. 7.
    pub u_b: f64,
    /// Whether both are under their thresholds.
    pub is_high: bool,
}
