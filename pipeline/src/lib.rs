//! Typed data pipelines with a content-addressed cache, and UMA-Net (arXiv 2304.00466v2) on top of them.
//!
//! This package is the `pipeline` command and the library behind it: all of `engine`, the built-in stages as a
//! [`standard`] registry, and [`main_with`], which gives a registry the verbs of the command.
//!
//! # A command with stages of your own
//!
//! Implement [`Stage`], register it, and the whole command knows it:
//!
//! ```no_run
//! fn register(registry: &mut pipeline::Registry) {
//!     // registry.add::<MyStage>();
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     pipeline::main_with(pipeline::standard().with(register))
//! }
//! ```

use std::process::ExitCode;

#[doc(inline)]
pub use engine::*;

/// Gives a registry of all built-in stages.
///
/// # Examples
/// ```
/// let registry = pipeline::standard();
/// assert!(registry.get("train.uma").is_some());
/// ```
pub fn standard() -> Registry {
    Registry::new().with(Exec::register).with(stages::register)
}

/// Runs the command with the stages of `registry` on this process's arguments, folder and streams.
pub fn main_with(registry: Registry) -> ExitCode {
    cli::main_with(registry)
}
