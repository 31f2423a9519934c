//! The `pipeline` command from outside: arguments, configuration files and folders in; exit codes, text, JSON and stored
//! results out.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod crowd;
mod damaged;
mod data;
mod dicom;
mod disk;
mod duke;
mod exec;
mod geometry;
mod golden;
mod interrupted;
mod job;
mod library;
mod lidc;
mod miniature;
#[path = "../shared/project.rs"]
mod project;
#[path = "../shared/published.rs"]
mod published;
mod raters;
mod refused;
mod riga;
mod show;
mod verbs;
mod world;
