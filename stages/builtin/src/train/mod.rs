//! Training stages: one file a method, one loop for all.

mod data;
mod fit;
mod settings;
pub mod uma;
pub mod unet;

pub(crate) use data::{check_structures, samples_of_split};
pub use fit::TrainingSummary;
