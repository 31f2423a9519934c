//! Units of work that another program does: the one that a stage names, because this one lacks what they need.
//!
//! The run stays the run's: it holds the lease, binds the inputs, hears progress and log, and publishes. The program gets
//! `exec-unit REQUEST`, a file that says what to run on what, and runs the stage alone. It tells progress and log as one
//! JSON object a line on stdout, and leaves `reply.json` beside the request: what it made, or why not. It sees the cell's
//! own devices in `CUDA_VISIBLE_DEVICES`. When the run is told to stop or its time is over it gets a `SIGTERM` and time to
//! return; when the run is gone, which it sees by the end of its stdin, it stops by itself, and nothing is published.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{
    child::{Stream, supervise},
    digest::Digest,
    error::StageError,
    exec::{ExecError, LAST_WORDS},
    experiment::Cell,
    policy::{FailureClass, of_stage, os_error},
    ports::{Bound, Input, MadeOutput},
    registry::Registry,
    stage::{Ctx, External, Refusal, Resolved},
};

/// Format of request and reply; a program of another one refuses.
const FORMAT: u32 = 1;
/// Time in which a program that was told to end, or whose run is gone, may return.
const GRACE: Duration = Duration::from_secs(60);
/// Characters of a line of a log that are passed on, well below what is heard as one.
const LONGEST_LINE: usize = 8 << 10;

/// What to run on what.
#[derive(Serialize, Deserialize)]
struct Request {
    format: u32,
    stage: String,
    version: u32,
    config: Value,
    environment: BTreeMap<String, String>,
    shard: Option<String>,
    externals: Vec<External>,
    inputs: BTreeMap<String, Vec<Input>>,
    out: PathBuf,
    scratch: PathBuf,
    checkpoints: PathBuf,
    threads: usize,
    gpus: Vec<String>,
}

/// A line of the program.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Progress(f64, String),
    Log(String),
}

/// How the program ended.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// Stated contents of the parts of each output.
    Made(BTreeMap<String, BTreeMap<String, Digest>>),
    Failed(Failure),
    Panicked(String),
}

/// An error of a stage on its way between programs.
#[derive(Serialize, Deserialize)]
struct Failure {
    /// The error and its causes, outermost first.
    messages: Vec<String>,
    hint: Option<String>,
    class: FailureClass,
    /// The system's number of the innermost cause, if it is the system's.
    os_error: Option<i32>,
}

/// An error that another program told.
#[derive(Debug, Error)]
#[error("{message}")]
struct Told {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A program that would do other work than its run asks for.
#[derive(Debug, Error)]
#[error("the program is of another version than the run: {what} is {found}, expected {expected}")]
struct OtherProgram {
    what: &'static str,
    expected: String,
    found: String,
}

impl Failure {
    fn of(error: &StageError, hint: Option<String>) -> Self {
        let mut messages = Vec::new();
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // A wrapper that shows its cause in its place says nothing of its own.
            if messages.last() != Some(&text) {
                messages.push(text);
            }
            next = cause.source();
        }
        Self { messages, hint, class: of_stage(error), os_error: os_error(error) }
    }
}

impl From<Failure> for StageError {
    fn from(failure: Failure) -> Self {
        let Failure { messages, hint, class, os_error } = failure;
        let of_system = os_error.map(std::io::Error::from_raw_os_error);
        let innermost: Option<Box<dyn std::error::Error + Send + Sync>> = of_system.map(Into::into);
        let told = messages.into_iter().rev().fold(innermost, |source, message| match source {
            // The system's own words are in its error.
            Some(source) if source.to_string() == message => Some(source),
            source => Some(Box::new(Told { message, source })),
        });
        let error = Self::new(told.unwrap_or_else(|| "no message".into())).of_class(class);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Has `program` run the stage of a cell, its outputs in folders in `out`; a panic over there is one here.
///
/// # Errors
/// What the stage reports, or why the program cannot be run or has ended without a word.
pub(crate) fn run_elsewhere(
    program: &Path,
    cell: &Cell,
    bound: Bound,
    out: &Path,
    ctx: &Ctx<'_>,
) -> Result<Vec<(&'static str, MadeOutput)>, StageError> {
    let room = out.parent().unwrap_or(out);
    let (request, reply) = (room.join("request.json"), room.join("reply.json"));
    write_json(
        &request,
        &Request {
            format: FORMAT,
            stage: cell.stage.name().to_owned(),
            version: cell.stage.version(),
            config: cell.config.full.clone(),
            environment: cell.config.environment.clone().unwrap_or_default(),
            shard: ctx.shard.clone(),
            externals: ctx.externals.clone(),
            inputs: bound.into_iter().map(|(port, inputs)| (port.to_owned(), inputs)).collect(),
            out: out.to_owned(),
            scratch: ctx.scratch.clone(),
            checkpoints: ctx.checkpoints.clone(),
            threads: ctx.threads,
            gpus: ctx.gpus.clone(),
        },
    )?;
    let ended = call(program, &request, ctx)?;
    match read_json(&reply) {
        Ok(Reply::Made(mut contents)) => {
            let ports = cell.stage.outputs().iter();
            let made = ports.map(|port| {
                let contents = contents.remove(port.name).unwrap_or_default();
                (port.name, MadeOutput { folder: out.join(port.name), contents })
            });
            Ok(made.collect())
        }
        Ok(Reply::Failed(failure)) => Err(failure.into()),
        Ok(Reply::Panicked(message)) => std::panic::resume_unwind(Box::new(message)),
        Err(_) => Err(ended.into()),
    }
}

/// Runs the program and hears it; what its end means where it leaves no reply.
fn call(program: &Path, request: &Path, ctx: &Ctx<'_>) -> Result<ExecError, ExecError> {
    let mut command = Command::new(program);
    // Nothing is said on stdin: its end says that this process is gone.
    command.arg("exec-unit").arg(request).stdin(Stdio::piped());
    command.env("CUDA_VISIBLE_DEVICES", ctx.gpus.join(","));
    let mut last: VecDeque<String> = VecDeque::new();
    let ended = supervise(&mut command, GRACE, &|| ctx.is_cancelled(), &mut |stream, line| {
        match serde_json::from_str(line) {
            Ok(Word::Progress(fraction, doing)) if stream == Stream::Out => {
                ctx.progress(fraction, &doing);
            }
            Ok(Word::Log(text)) if stream == Stream::Out => ctx.log(&text),
            _ => {
                ctx.log(line);
                last.push_back(line.to_owned());
                if last.len() > LAST_WORDS {
                    last.pop_front();
                }
            }
        }
    });
    let ended = ended.map_err(ExecError::io("run", program))?;
    if ended.told {
        return Ok(ExecError::Stopped);
    }
    Ok(ExecError::Failed { status: ended.status, last: last.into() })
}

/// Does the unit that a run has asked for in the file `request`, and says in a reply beside it what came of it.
///
/// `advise` finds what can be done about an error of the stage. `cancelled` becomes true when the run is gone.
///
/// # Errors
/// Whether it went well is in the reply; an error is one of reading the request or of writing the reply.
pub fn exec_unit(
    registry: &Registry,
    request: &Path,
    cancelled: Arc<AtomicBool>,
    advise: &dyn Fn(&StageError) -> Option<String>,
) -> Result<(), StageError> {
    let asked: Request = read_json(request)?;
    stop_with_parent(cancelled.clone()).map_err(StageError::new)?;
    let reply = match catch_unwind(AssertUnwindSafe(|| do_unit(registry, asked, &cancelled))) {
        Ok(Ok(made)) => Reply::Made(
            made.into_iter().map(|(port, made)| (port.to_owned(), made.contents)).collect(),
        ),
        Ok(Err(error)) => Reply::Failed(Failure::of(&error, advise(&error))),
        Err(panic) => Reply::Panicked(panic_message(&*panic)),
    };
    Ok(write_json(&request.with_file_name("reply.json"), &reply)?)
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    text.unwrap_or_else(|| "no message".to_owned())
}

fn do_unit(
    registry: &Registry,
    request: Request,
    cancelled: &AtomicBool,
) -> Result<Vec<(&'static str, MadeOutput)>, StageError> {
    let differs = |what, expected: String, found: String| {
        let hint = "build both programs from the same sources";
        Err(StageError::new(OtherProgram { what, expected, found }).hint(hint))
    };
    let Request { stage: name, version, config, environment, mut inputs, .. } = request;
    if request.format != FORMAT {
        return differs("the format", request.format.to_string(), FORMAT.to_string());
    }
    let Some(stage) = registry.get(&name) else {
        return differs("a stage", format!("`{name}`"), "none of that name".to_owned());
    };
    if stage.version() != version {
        return differs(
            "the version of the stage",
            version.to_string(),
            stage.version().to_string(),
        );
    }
    let refused =
        |Refusal { key, message }: Refusal| StageError::new(format!("`{key}`: {message}"));
    let resolved: Resolved = stage.resolve(&config).map_err(refused)?;
    if resolved.full != config {
        return differs("the configuration", config.to_string(), resolved.full.to_string());
    }
    let own = resolved.environment.clone().unwrap_or_default();
    if own != environment {
        let [expected, found] = [&environment, &own].map(|e| format!("{e:?}"));
        return differs("what the key says of the machine", expected, found);
    }
    let ports = stage.inputs().iter();
    let bound: Bound =
        ports.filter_map(|port| Some((port.name, inputs.remove(port.name)?))).collect();
    let ctx = Ctx {
        shard: request.shard,
        externals: request.externals,
        scratch: request.scratch,
        checkpoints: request.checkpoints,
        threads: request.threads,
        gpus: request.gpus,
        progress: &|fraction, doing| say(&Word::Progress(fraction, doing.to_owned())),
        log: &|text| text.lines().for_each(say_line),
        cancelled,
        launcher: None,
        deadline: None,
    };
    stage.run(&resolved, bound, &request.out, &ctx)
}

fn say_line(line: &str) {
    say(&Word::Log(line.chars().take(LONGEST_LINE).collect()));
}

/// Tells the run something, whole; a run that does not hear is gone.
fn say(word: &Word) {
    let line = serde_json::to_string(word).expect("words are plain data") + "\n";
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Cancels the work when the run is gone, and ends this process when that does not help.
fn stop_with_parent(cancelled: Arc<AtomicBool>) -> io::Result<()> {
    let wait = move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        cancelled.store(true, Ordering::Relaxed);
        std::thread::sleep(GRACE);
        std::process::exit(1);
    };
    std::thread::Builder::new().spawn(wait).map(|_| ())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ExecError> {
    let text = serde_json::to_vec(value).expect("requests and replies are plain data");
    fs::write(path, text).map_err(ExecError::io("write", path))
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, StageError> {
    let bytes = fs::read(path).map_err(ExecError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(StageError::new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::io;

    use super::*;
    use crate::error::RunError;

    /// An error through a reply and back, as a run would have it.
    fn told(error: StageError, hint: Option<&str>) -> RunError {
        let text = serde_json::to_string(&Failure::of(&error, hint.map(str::to_owned))).unwrap();
        let source = serde_json::from_str::<Failure>(&text).unwrap().into();
        RunError::Stage { cell: "c".into(), stage: "s", shard: None, source }
    }

    fn messages(error: &RunError) -> Vec<String> {
        let first = std::error::Error::source(error);
        let chain = std::iter::successors(first, |error| error.source());
        let mut messages: Vec<String> = chain.map(ToString::to_string).collect();
        messages.dedup();
        messages
    }

    #[test]
    fn errors_keep_their_words_their_class_and_their_advice() {
        #[derive(Debug, Error)]
        #[error("cannot write")]
        struct Outer(#[source] io::Error);
        let full = StageError::new(Outer(io::Error::from_raw_os_error(28)));
        let found = told(full, None);
        let RunError::Stage { source, .. } = &found else { unreachable!() };
        assert_eq!(
            messages(&found),
            ["cannot write".to_owned(), io::Error::from_raw_os_error(28).to_string()]
        );
        assert_eq!((found.class(), found.is_permanent()), (FailureClass::Infrastructure, true));
        assert_eq!(source.advice(), None);
        let memory = StageError::new("no room").of_class(FailureClass::Memory);
        let found = told(memory, Some("take less"));
        let RunError::Stage { source, .. } = &found else { unreachable!() };
        assert_eq!((found.class(), source.advice()), (FailureClass::Memory, Some("take less")));
        assert_eq!(messages(&found), ["no room"]);
        assert_eq!(told(StageError::new("no"), None).class(), FailureClass::Stage);
    }
}
