//! Cases, images, masks and shards: what every other room exchanges.
//!
//! `datasets` knows files and Parquet; it knows nothing of stages, networks or caches.

pub mod affine;
mod case;
pub mod dicom;
mod error;
pub mod folder;
mod grid;
pub mod jsrt;
pub mod lidc;
pub mod phantom;
pub mod picture;
#[cfg(test)]
#[path = "../../tests/shared/published.rs"]
mod published;
mod random;
pub mod raster;
pub mod riga;
pub mod shard;
pub mod sheet;
mod split;
pub mod table;
pub mod volume;

pub use affine::{Affine, Space};
pub use case::{CaseImage, CaseLabel, SourceKind, Spacing, Split};
pub use error::DatasetsError;
pub use grid::{Grid, Image, Mask, ShapeError};
pub use random::Stream;
pub use split::{CasePatient, SplitSizes, check_leakage, hold_out, split_cases};
