//! Looks into a trained network: what it thinks of its annotations.

pub mod uma;
