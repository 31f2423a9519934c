//! Convolutions of bf16 on the tile matrix unit of x86-64 (AMX).
//!
//! Products of bf16 are summed in f32. The unit counts subnormal numbers as zero, in operands and in results.

mod layers;
mod panel;
mod shuffle;
mod slab;
mod spread;
mod tiles;
mod weights;

pub(crate) use tiles::is_available;
