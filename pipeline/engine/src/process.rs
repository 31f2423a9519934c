//! Which process holds something in the store, and whether it is still there.

use std::{
    fs,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A process, so that no other one is taken for it after a restart, in another container or on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of the machine.
    pub host: String,
    /// Its number.
    pub pid: u32,
    /// The machine's run from start to shutdown.
    boot: String,
    /// The space in which the number is unique.
    space: String,
    /// When it began, in ticks of its machine.
    ticks: u64,
}

impl Process {
    /// This process.
    pub(crate) fn this() -> &'static Self {
        static THIS: OnceLock<Process> = OnceLock::new();
        THIS.get_or_init(|| {
            let line = |path: &str| {
                fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
            };
            let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
            let pid = std::process::id();
            Self {
                host: line("/proc/sys/kernel/hostname"),
                pid,
                boot: line("/proc/sys/kernel/random/boot_id"),
                space: space.display().to_string(),
                ticks: ticks_of(pid).unwrap_or_default(),
            }
        })
    }

    /// Whether it still runs; `None` where that cannot be seen from here.
    pub(crate) fn is_alive(&self) -> Option<bool> {
        let this = Self::this();
        let visible = !self.boot.is_empty() && self.boot == this.boot && self.space == this.space;
        visible.then(|| ticks_of(self.pid) == Some(self.ticks))
    }

    /// The part of a file's name that says whose it is: number, beginning, and where both are unique.
    fn token(&self) -> String {
        let place = Digest::of(format!("{}\n{}", self.boot, self.space).as_bytes());
        format!("{}.{}.{}", self.pid, self.ticks, place.short())
    }
}

/// The end of a file's name that no other thread or process has: whose it is, and a number.
pub(crate) fn unique() -> String {
    static BEGINNING: OnceLock<String> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let beginning = BEGINNING.get_or_init(|| {
        // The time too: where there is no `/proc`, the number is all that a process is known by.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}-{:x}", Process::this().token(), time.as_nanos())
    });
    format!("{beginning}.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the process that gave a file its [unique](unique) name is there still; `None` where that cannot be seen from here.
pub(crate) fn owner_is_alive(name: &str) -> Option<bool> {
    let token = name.split('-').nth(1)?;
    let mut fields = token.splitn(3, '.');
    let pid = fields.next()?.parse().ok()?;
    let ticks = fields.next()?.parse().ok()?;
    let owner = Process { pid, ticks, ..Process::this().clone() };
    if owner.token() == token { owner.is_alive() } else { None }
}

/// When a process began; `None` when there is none with this number or it has ended and was not waited for.
fn ticks_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name of the program stands in brackets and may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22 of the whole line, and the state is field 3.
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn a_process_is_told_from_its_successors() {
        let this = Process::this().clone();
        assert_eq!(this.is_alive(), Some(true));
        assert_eq!(Process { ticks: this.ticks + 1, ..this.clone() }.is_alive(), Some(false));
        assert_eq!(Process { boot: "another".into(), ..this.clone() }.is_alive(), None);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ticks = ticks_of(child.id()).unwrap();
        let other = Process { pid: child.id(), ticks, ..this };
        assert_eq!(other.is_alive(), Some(true));
        let alive = |process: &Process| owner_is_alive(&format!("work-{}-1.2", process.token()));
        assert_eq!(alive(&other), Some(true));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.is_alive(), Some(false));
        assert_eq!(alive(&other), Some(false));
        assert_eq!(alive(&Process { boot: "another".into(), ..other }), None);
        for name in ["work-1.2.3-4", "work-1-2-3", "work", ""] {
            assert_eq!(owner_is_alive(name), None, "{name}");
        }
        let name = format!("work-{}", unique());
        assert_eq!(owner_is_alive(&name), Some(true), "{name}");
        assert_ne!(unique(), unique());
    }
}
