//! Fusion of the labels of several sources into one.

pub mod vote;
