//! Published data that tests read where a machine has it.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A folder of the test data; `None`, said aloud, when it is not there.
#[allow(clippy::print_stderr, reason = "a test that had nothing to check says so")]
pub(crate) fn published(name: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = env::var_os("PIPELINE_TEST_DATA").map_or(default, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no {}; set PIPELINE_TEST_DATA", folder.display());
    None
}
