//! Training stages: one file a method, one loop for all.

mod data;
mod device;
mod feed;
mod fit;
mod settings;
pub mod uma;
pub mod unet;

pub(crate) use data::{cases_of_split, check_structures, fault};
pub use device::TrainingDevice;
pub use feed::FeedConfig;
pub use fit::TrainingSummary;
