//! The `pipeline` command with two stages of one's own: a reader of a text format, and an annotator.

mod drawings;
mod thicken;

use pipeline::Registry;

fn register(registry: &mut Registry) {
    registry.add::<drawings::Drawings>();
    registry.add::<thicken::Thicken>();
}

fn main() -> std::process::ExitCode {
    pipeline::main_with(pipeline::standard().with(register))
}
