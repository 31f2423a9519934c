//! What leaves the store as files of other programs.

pub mod nifti;
mod values;

use engine::Registry;

/// Adds the stages.
pub(crate) fn register(registry: &mut Registry) {
    registry.add::<nifti::ExportNifti>();
}
