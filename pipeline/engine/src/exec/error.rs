//! What can go wrong around a program that is not ours.

use std::{io, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus};

use thiserror::Error;

use super::class_of;
use crate::policy::FailureClass;

/// A program that did not do what its cell says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecError {
    /// A program that is neither among the files of the cell nor on the path.
    #[error("no program `{name}` {}", if name.contains('/') { "among the `files` of the cell" } else { "in `PATH`" })]
    NoProgram {
        /// Its name, as `argv` has it.
        name: String,
    },
    /// A file of the project that is not there.
    #[error("no file or folder `{}`, which `files` names", path.display())]
    NoFile {
        /// Where it would have to be.
        path: PathBuf,
    },
    /// A file of the project in `argv` that is not one of the files that the key covers.
    #[error("`argv` names `{name}`, a file of the project that `files` does not list")]
    NotListed {
        /// The file.
        name: String,
    },
    /// A program that was told to end.
    #[error("the program was told to end")]
    Stopped,
    /// A program that has failed.
    #[error("the program {}{}", words(*status), lines(last))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it said.
        last: Vec<String>,
    },
    /// A file that the cell promises and the program did not make.
    #[error("output `{port}` should have {}: found {found:?}", wanted(expected))]
    OtherFiles {
        /// The port.
        port: &'static str,
        /// What its table lists; empty where it may have any.
        expected: Vec<String>,
        /// The files that are there.
        found: Vec<String>,
        /// Whether a file that is missing lies in the working folder instead.
        astray: Option<String>,
    },
    /// Something in the folder of the outputs that is no file of an output.
    #[error("`{name}` in the folder of the outputs is {what}")]
    Foreign {
        /// Its path below that folder.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A part whose name is no file name, in a store that somebody has tampered with.
    #[error("input `{port}` has a part with the name `{name}`, which is no name of a file")]
    BadPart {
        /// The port.
        port: &'static str,
        /// The name.
        name: String,
    },
    /// A file operation that failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ExecError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Failed { status, .. } => Some(class_of(*status)),
            _ => None,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram { name } if name.contains('/') => Some(
                "list it in `files`; it is then found under its name in the working folder"
                    .to_owned(),
            ),
            Self::NotListed { name } => Some(format!(
                "add \"{name}\" to `files`, so that an edit of it builds the cell again"
            )),
            Self::Failed { status, .. } if class_of(*status) == FailureClass::Memory => Some(
                "give the cell more `resources.memory`, or `retry = { memory = 1 }`".to_owned(),
            ),
            Self::Failed { .. } => Some("`pipeline logs CELL` shows all that it said".to_owned()),
            Self::OtherFiles { astray: Some(name), port, .. } => Some(format!(
                "`{name}` lies in the working folder: the request on stdin names `outputs/{port}` as its place"
            )),
            _ => None,
        }
    }
}

/// The end of a program in words.
fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(9)) => {
            "was killed (signal 9), as the system does when memory runs out".to_owned()
        }
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

fn wanted(files: &[String]) -> String {
    if files.is_empty() { "at least one file".to_owned() } else { format!("the files {files:?}") }
}

fn lines(last: &[String]) -> String {
    if last.is_empty() { String::new() } else { format!(": {}", last.join(" / ")) }
}
