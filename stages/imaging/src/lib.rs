//! Pure numerics on images and masks: distances, shapes, annotation noise, label fusion and scores.
//!
//! Everything works on [`datasets::Grid`] values in memory and knows nothing of files or stages. Axes are always
//! `[slice, row, column]`; 2-D is a grid with one slice, and an axis of length 1 never takes part in a
//! neighbourhood or a distance. Spacings are `[slice, row, column]` in millimetres, or 1 for pixel units.

mod bits;
pub mod calibrate;
pub mod components;
pub mod contour;
pub mod dce;
pub mod distance;
mod error;
pub mod fusion;
pub mod grey;
pub mod holes;
pub mod morphology;
pub mod noise;
pub mod normalise;
pub mod outline;
pub mod polygon;
#[cfg(test)]
#[path = "../../../tests/shared/published.rs"]
mod published;
pub mod rank;
pub mod recursive;
pub mod region;
pub mod resample;
pub mod runs;
pub mod scores;
pub mod smooth;
pub mod sources;
pub mod spline;
pub mod vesselness;
mod zip;

pub use error::ImagingError;
