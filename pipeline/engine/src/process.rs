//! Which process holds something in the store, and whether it is still there.

use std::{fs, path::Path, sync::OnceLock};

use serde::{Deserialize, Serialize};

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
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.is_alive(), Some(false));
    }
}
