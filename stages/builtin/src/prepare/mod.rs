//! What brings cases of different scanners to one grid and one scale, between reading and everything else.

pub mod normalise;
pub mod pad;
pub mod resample;

use engine::Registry;

/// Adds the stages.
pub(crate) fn register(registry: &mut Registry) {
    registry.add::<resample::ResampleCases>();
    registry.add::<pad::PadCases>();
    registry.add::<normalise::NormaliseImages>();
}
