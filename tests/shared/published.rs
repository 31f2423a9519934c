//! Published data that tests of all crates read where a machine has it.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A folder of the test data; `None`, said aloud, when it is not there. The harness keeps what passing tests print to itself,
/// but not this.
pub(crate) fn published(name: &str) -> Option<PathBuf> {
    let default = || {
        let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let repository = above.find(|folder| folder.join("Cargo.lock").is_file());
        repository.unwrap_or(Path::new(".")).join("../shared/data")
    };
    let folder = env::var_os("PIPELINE_TEST_DATA").map_or_else(default, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let _ = writeln!(io::stderr(), "NOT RUN: no {}; set PIPELINE_TEST_DATA", folder.display());
    None
}
