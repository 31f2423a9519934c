//! A project in a folder of its own, and what a program said that was called in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

/// A project: a folder that goes away with the test, and its store in it.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

/// How a call ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) data: String,
    pub(crate) talk: String,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Where results are stored unless a call says otherwise.
    pub(crate) fn store(&self) -> PathBuf {
        self.path(".pipeline")
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What a finished call said; the project's folder is `DIR`.
    pub(crate) fn said(&self, output: Output) -> Said {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let plain = |bytes| text(bytes).replace(self.root().to_str().unwrap(), "DIR");
        Said { code: output.status.code(), data: plain(output.stdout), talk: plain(output.stderr) }
    }
}

/// Every file below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
