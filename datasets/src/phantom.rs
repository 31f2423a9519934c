//! Drawn cases whose truth is known: what experiments run on where no data set is at hand.

pub mod chest;
pub mod dce;
pub mod fundus;

mod anatomy;
mod blur;
mod film;

pub use anatomy::ChestAnatomy;
pub use chest::{ChestPhantom, ChestStructure, PhantomCase};
pub use dce::{DceCase, DcePhantom, DceRegime, DceStructure};
pub use fundus::{FundusCase, FundusPhantom, FundusStructure, N_RATERS, RaterSet};

/// Names of a case and of its patient: `phantom-0001` and `P0001` for the first, with index 0.
pub fn names(index: usize) -> (String, String) {
    (format!("phantom-{:04}", index + 1), format!("P{:04}", index + 1))
}
