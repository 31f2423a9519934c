//! An error as people read it: the chain of causes and what can be done about it.

use std::{error::Error, io};

use datasets::DatasetsError;
use engine::{ConfigError, RunError, StageError, StoreError};

use crate::{error::CliError, programs};

/// What is said about one error.
pub(crate) struct Chain {
    /// The error and its causes, outermost first.
    pub(crate) messages: Vec<String>,
    /// The advice of the outermost error that has one.
    pub(crate) hint: Option<String>,
}

/// Follows an error to its root.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Chain {
    let mut found = Chain { messages: Vec::new(), hint: None };
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // A wrapper that shows its cause in its place says nothing of its own.
        if found.messages.last() != Some(&text) {
            found.messages.push(text);
        }
        found.hint = found.hint.or_else(|| advice(error));
        next = error.source();
    }
    found
}

fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<CliError>() {
        return of_command(error);
    }
    if let Some(error) = error.downcast_ref::<RunError>() {
        return of_run(error);
    }
    if let Some(error) = error.downcast_ref::<StageError>() {
        return error.advice().map(str::to_owned).or_else(|| of_full_disk(error));
    }
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return of_config(error);
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return of_store(error);
    }
    error.downcast_ref::<DatasetsError>()?.hint().map(str::to_owned)
}

fn of_command(error: &CliError) -> Option<String> {
    let text = match error {
        // These show the error that they wrap in their place, which the chain therefore skips.
        CliError::Config(error) => return of_config(error),
        CliError::Store(error) => return of_store(error),
        CliError::Run(error) => return of_run(error),
        CliError::NoStage { .. } => "`pipeline stages` lists all stages",
        CliError::NoRun { .. } => {
            "`pipeline run FILE` makes one; another store is named by --store"
        }
        CliError::UnknownRun { .. } => "`pipeline history` lists the runs",
        CliError::NoThing { .. } | CliError::NoCell { .. } => {
            "`pipeline show` lists the cells of the latest run"
        }
        CliError::Ambiguous { .. } => "give more of the name",
        CliError::StoreNotWritable { .. } => UNWRITABLE,
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_run(error: &RunError) -> Option<String> {
    match error {
        RunError::Config(error) => of_config(error),
        RunError::Store(error) => of_store(error),
        RunError::Panic { stage, .. } => Some(format!(
            "this is a bug of stage `{stage}`; what was finished is stored, and the next run goes on from there"
        )),
        RunError::NotTheSame { .. } => Some(
            "run again: what reads from it is built from what it gave now".to_owned(),
        ),
        RunError::Cancelled { .. } => Some(
            "run the same command again: what was finished is stored, and the rest goes on from there"
                .to_owned(),
        ),
        RunError::NoGpu { .. } => {
            Some("name those that the run may use, for example `--gpus 0`".to_owned())
        }
        RunError::NoProgram { program: programs::CUDA, .. } => Some(
            "build it with `cargo build --release --features cuda`, or name it in PIPELINE_CUDA"
                .to_owned(),
        ),
        RunError::ShardMissing { .. } => Some(
            "the inputs of a stage that runs per shard must come from the same cases".to_owned(),
        ),
        _ => None,
    }
}

fn of_config(error: &ConfigError) -> Option<String> {
    let text = match error {
        ConfigError::NoFile { .. } => {
            "name a file from the working folder or from `configs/` in the project root"
        }
        ConfigError::Unknown { what: "stage", .. } => "`pipeline stages` lists all stages",
        ConfigError::Unknown { what: "key" | "port" | "output", .. }
        | ConfigError::PortMismatch { .. }
        | ConfigError::PortCount { .. } => {
            "`pipeline stages NAME` lists the keys and ports of a stage"
        }
        ConfigError::Missing { key: "use", .. } => {
            "every table but `experiment`, `matrix` and `scale` is a cell: `use` names its stage"
        }
        ConfigError::Refused { stage, .. } => {
            return Some(format!("`pipeline stages {stage}` says what its keys take"));
        }
        ConfigError::NoCell { .. } => "`pipeline plan FILE` lists the cells",
        ConfigError::BadOverride { .. } => "for example: --set train.epochs=3",
        ConfigError::CellRefused { source, .. } => return source.advice().map(str::to_owned),
        ConfigError::At { source, .. } => return of_config(source),
        _ => return None,
    };
    Some(text.to_owned())
}

const FULL: &str = "free space in the store's file system or move the store with --store DIR";

/// Advice for a stage that could not write because the disk is full, wherever in the chain that is said.
fn of_full_disk(error: &(dyn Error + 'static)) -> Option<String> {
    let full = |error: &(dyn Error + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::StorageFull)
    };
    std::iter::successors(Some(error), |&error| error.source()).any(full).then(|| FULL.to_owned())
}

const UNWRITABLE: &str = "name a folder that you may write with --store DIR or PIPELINE_STORE";

fn of_store(error: &StoreError) -> Option<String> {
    let text = match error {
        error if error.is_full() => FULL,
        StoreError::Unusable { .. } => UNWRITABLE,
        StoreError::Io { source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            UNWRITABLE
        }
        StoreError::UnreadablePin { .. } => {
            "`pipeline verify` says what is damaged; `pipeline unpin NAME` gives the run up, or `pipeline verify --repair` all that cannot be read"
        }
        StoreError::Damaged { .. } | StoreError::BadManifest { .. } => {
            "run again: what is damaged is built again"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: CliError, expected: &[&str], hint: Option<&str>) {
        let failures = error.failures();
        let found = chain(failures[0]);
        assert_eq!(found.messages, expected);
        assert_eq!(found.hint.as_deref(), hint);
    }

    fn io_error(kind: io::ErrorKind) -> StoreError {
        StoreError::Io { action: "write", path: "/store/tmp/x".into(), source: kind.into() }
    }

    #[test]
    fn a_stage_error_is_said_once_with_its_advice() {
        let source = StageError::new(DatasetsError::EmptySplit {
            split: datasets::Split::Test,
            n_cases: 3,
            n_patients: 2,
        });
        check(
            CliError::Run(RunError::Stage {
                cell: "cases".into(),
                stage: "ingest",
                shard: None,
                source: source.hint("add cases"),
            }),
            &[
                "cell `cases` failed (stage `ingest`)",
                "split `test` has no case: 3 cases of 2 patients were given",
            ],
            Some("add cases"),
        );
    }

    #[test]
    fn a_full_disk_and_a_forbidden_one_have_different_remedies() {
        check(
            io_error(io::ErrorKind::StorageFull).into(),
            &["cannot write `/store/tmp/x`", "no storage space"],
            Some(FULL),
        );
        check(
            io_error(io::ErrorKind::PermissionDenied).into(),
            &["cannot write `/store/tmp/x`", "permission denied"],
            Some(UNWRITABLE),
        );
    }

    #[test]
    fn every_failure_of_a_run_is_reported() {
        let panic = |cell: &str| RunError::Panic {
            cell: cell.into(),
            stage: "s",
            message: "index out of bounds".into(),
        };
        let error = CliError::Run(RunError::Several { failures: vec![panic("a"), panic("b")] });
        assert_eq!(error.failures().len(), 2);
        assert_eq!(error.exit(), crate::error::Exit::Failed);
    }
}
