//! A program that works for a cell: in a process group of its own, heard while it works, ended when its time is over.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

/// Time between two looks at whether the program is to be ended.
const TICK: Duration = Duration::from_millis(20);
/// Time in which the last words of a program that has ended are read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest line that is kept whole.
const LONGEST_LINE: usize = 64 << 10;

/// Where a program says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// How a program ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Whether it was told to end.
    pub(crate) told: bool,
}

/// Runs a program to its end.
///
/// When `is_over` becomes true, its process group is asked to end (`SIGTERM`) and after `grace` it is killed. Whatever is
/// left of the group when the program has ended is killed too.
///
/// # Errors
/// When it cannot be started or waited for.
pub(crate) fn supervise(
    command: &mut Command,
    grace: Duration,
    is_over: &dyn Fn() -> bool,
    hear: &mut dyn FnMut(Stream, &str),
) -> io::Result<Ended> {
    use std::os::unix::process::CommandExt;
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let group = Pid::from_child(&child);
    let mut ears = Ears::of(&mut child);
    let mut told: Option<Instant> = None;
    while !has_ended(group)? {
        ears.listen(TICK, hear)?;
        match told {
            None if is_over() => {
                let _ = kill_process_group(group, Signal::TERM);
                told = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= grace => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            _ => {}
        }
    }
    // Before it is waited for, so that its number is not another's yet.
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait()?;
    let ended = Instant::now();
    while ended.elapsed() < LAST_WORDS && ears.listen(Duration::ZERO, hear)? {}
    ears.end(hear);
    Ok(Ended { status, told: told.is_some() })
}

/// Whether a child has ended; it stays to be waited for.
fn has_ended(child: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(child), options) {
        Ok(status) => Ok(status.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The two streams of a child, by lines.
struct Ears {
    open: Vec<Ear>,
}

struct Ear {
    stream: Stream,
    pipe: Box<dyn Pipe>,
    line: Vec<u8>,
}

trait Pipe: Read + AsFd {}
impl<P: Read + AsFd> Pipe for P {}

impl Ears {
    fn of(child: &mut Child) -> Self {
        let out = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Pipe>);
        let err = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Pipe>);
        let pipes = [(Stream::Out, out), (Stream::Err, err)].into_iter();
        let ear =
            |(stream, pipe): (_, Option<_>)| Some(Ear { stream, pipe: pipe?, line: Vec::new() });
        Self { open: pipes.filter_map(ear).collect() }
    }

    /// Waits for words no longer than `timeout`; says whether there were any.
    fn listen(
        &mut self,
        timeout: Duration,
        hear: &mut dyn FnMut(Stream, &str),
    ) -> io::Result<bool> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> =
                self.open.iter().map(|ear| PollFd::new(&ear.pipe, PollFlags::IN)).collect();
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let any = ready.contains(&true);
        let mut ready = ready.into_iter();
        self.open.retain_mut(|ear| !ready.next().unwrap_or(false) || ear.hear(hear));
        Ok(any)
    }

    /// Gives lines that have no end as they are.
    fn end(self, hear: &mut dyn FnMut(Stream, &str)) {
        for ear in self.open {
            ear.say_rest(hear);
        }
    }
}

impl Ear {
    /// Reads what there is; false at the end of the stream.
    fn hear(&mut self, hear: &mut dyn FnMut(Stream, &str)) -> bool {
        let mut bytes = [0; 16 << 10];
        let n = match self.pipe.read(&mut bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => 0,
        };
        if n == 0 {
            self.say_rest(hear);
            return false;
        }
        for &byte in &bytes[..n] {
            if byte == b'\n' || self.line.len() >= LONGEST_LINE {
                self.say_rest(hear);
                self.line.clear();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        true
    }

    fn say_rest(&self, hear: &mut dyn FnMut(Stream, &str)) {
        if !self.line.is_empty() {
            hear(self.stream, String::from_utf8_lossy(&self.line).trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::{cell::Cell, os::unix::process::ExitStatusExt};

    use super::*;

    fn shell(script: &str, grace: Duration, is_over: &dyn Fn() -> bool) -> (Ended, Vec<String>) {
        let mut said = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let ended = supervise(&mut command, grace, is_over, &mut |stream, line| {
            said.push(format!("{stream:?} {line}"));
        });
        (ended.unwrap(), said)
    }

    #[test]
    fn what_a_program_says_is_heard_by_lines() {
        let script = "echo one; echo two >&2; sleep 0.05; printf 'no end'; exit 3";
        let (ended, mut said) = shell(script, TICK, &|| false);
        said.sort();
        assert_eq!((ended.status.code(), ended.told), (Some(3), false));
        assert_eq!(said, ["Err two", "Out no end", "Out one"]);
    }

    #[test]
    fn a_program_that_ends_when_it_is_told_may_say_goodbye() {
        let script = "trap 'echo goodbye; exit 4' TERM; echo up; while :; do sleep 0.01; done";
        // Told when it has said its first word: by then the trap is set.
        let up = Cell::new(false);
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let mut said = Vec::new();
        let grace = Duration::from_secs(60);
        let ended = supervise(&mut command, grace, &|| up.get(), &mut |stream, line| {
            // Some shells speak of the end of their children on the other stream.
            if stream == Stream::Out {
                up.set(true);
                said.push(line.to_owned());
            }
        });
        let ended = ended.unwrap();
        assert_eq!((ended.status.code(), ended.told), (Some(4), true));
        assert_eq!(said, ["up", "goodbye"]);
    }

    #[test]
    fn nothing_of_a_program_that_does_not_listen_is_left() {
        let script = "trap '' TERM; sleep 300 & echo $!; wait; while :; do sleep 0.01; done";
        let (ended, said) = shell(script, Duration::from_millis(50), &|| true);
        assert_eq!((ended.status.signal(), ended.told), (Some(9), true));
        // The child of the child is gone with its group, if it came to be.
        for pid in said.iter().filter_map(|line| line.strip_prefix("Out ")) {
            let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let killed = Instant::now();
            while !stat().is_empty() && !stat().contains(") Z ") {
                assert!(killed.elapsed() < Duration::from_secs(60), "{}", stat());
                std::thread::yield_now();
            }
        }
        // One that outlives its parent holds the streams open no longer than the parent.
        let started = Instant::now();
        let (ended, _) = shell("sleep 300 & exit 0", TICK, &|| false);
        assert!(ended.status.success() && started.elapsed() < Duration::from_secs(60));
    }
}
