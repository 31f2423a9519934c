//! What there is for training on a GPU: asked of `pipeline-cuda`, the program that would do it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::programs;

/// What was found.
pub(super) enum Gpu {
    /// No program; where it was looked for.
    NoProgram { tried: Vec<PathBuf> },
    /// The program does not run or says nothing that can be read.
    Silent { program: PathBuf, why: String },
    /// The program lacks a library.
    NoLibrary { library: String, tried: Vec<String> },
    /// The libraries are there and no GPU is.
    NoDevice { why: String },
    /// A GPU that can be used.
    Ready { name: String },
}

impl Gpu {
    /// Looks for the program where runs do, and asks it.
    pub(super) fn find() -> Self {
        match programs::find(programs::CUDA) {
            Ok(program) => Self::ask(&program),
            Err(tried) => Self::NoProgram { tried },
        }
    }

    fn ask(program: &Path) -> Self {
        let program = program.to_owned();
        match Command::new(&program).args(["doctor", "--json"]).output() {
            Err(why) => Self::Silent { program, why: why.to_string() },
            Ok(said) => {
                let talk = String::from_utf8_lossy(&said.stderr).into_owned();
                Self::read(&String::from_utf8_lossy(&said.stdout), &talk)
                    .unwrap_or(Self::Silent { program, why: talk.trim().to_owned() })
            }
        }
    }

    /// Reads one JSON object a line: `{library, found, tried}` of each library, then `{gpu}` where there is one.
    fn read(data: &str, talk: &str) -> Option<Self> {
        let lines: Vec<Value> =
            data.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
        let missing = lines.iter().find(|line| {
            line["found"].is_null()
                && line["tried"].as_array().is_some_and(|tried| !tried.is_empty())
        });
        if let Some(name) = lines.iter().find_map(|line| line["gpu"].as_str()) {
            return Some(Self::Ready { name: name.to_owned() });
        }
        if let Some(line) = missing {
            let tried = line["tried"].as_array()?.iter().filter_map(Value::as_str);
            let tried = tried.map(str::to_owned).collect();
            return Some(Self::NoLibrary { library: line["library"].as_str()?.to_owned(), tried });
        }
        let why = talk.lines().next().unwrap_or("no GPU").trim_start_matches("error: ").to_owned();
        (!lines.is_empty()).then_some(Self::NoDevice { why })
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        match self {
            Self::NoProgram { .. } => format!(
                "not used: no `{}` beside this command or in PATH (cargo build --release --features cuda)",
                programs::CUDA
            ),
            Self::Silent { program, why } => {
                format!("not used: {} failed: {why}", program.display())
            }
            Self::NoLibrary { library, tried } => {
                format!("not used: {library} was not found: looked for {}", tried.join(", "))
            }
            Self::NoDevice { why } => format!("not used: {why}"),
            Self::Ready { name } => name.clone(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::NoProgram { tried } => json!({ "usable": false, "program_tried": tried }),
            Self::Silent { program, why } => {
                json!({ "usable": false, "program": program, "why": why })
            }
            Self::NoLibrary { library, tried } => {
                json!({ "usable": false, "library": library, "tried": tried })
            }
            Self::NoDevice { why } => json!({ "usable": false, "why": why }),
            Self::Ready { name } => json!({ "usable": true, "name": name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let driver = r#"{"library":"the NVIDIA driver","found":"libcuda.so.1","tried":[]}"#;
        let missing = r#"{"library":"cuDNN","found":null,"tried":["libcudnn.so.9"]}"#;
        let line = |data: &str, talk: &str| Gpu::read(data, talk).map(|gpu| gpu.line());
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(
            line(&format!("{driver}\n{missing}"), ""),
            found("not used: cuDNN was not found: looked for libcudnn.so.9")
        );
        assert_eq!(line(&format!("{driver}\n{{\"gpu\":\"H200\"}}"), ""), found("H200"));
        let talk = "error: the NVIDIA driver sees no GPU\nhint: …";
        assert_eq!(line(driver, talk), found("not used: the NVIDIA driver sees no GPU"));
        assert_eq!(line("", ""), None);
        assert_eq!(line("nonsense", ""), None);
    }
}
