//! Training stages: one file a method, one loop for all.

mod data;
mod fit;
pub mod uma;
pub mod unet;

pub(crate) use data::{check_structures, normalised, samples_of_split};
pub use fit::TrainingSummary;
pub(crate) use uma::environment;
