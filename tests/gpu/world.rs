//! A project in a folder of its own, and calls of this program in it.

use std::{
    env, fs,
    ops::Deref,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::project::{Project, Said, files};

/// How long something is waited for, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World(Project);

impl Deref for World {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.0
    }
}

impl World {
    /// A project with an experiment `small.toml`.
    pub(crate) fn new(experiment: &str) -> Self {
        let project = Project::new();
        fs::create_dir(project.path("configs")).unwrap();
        project.write("small.toml", experiment);
        Self(project)
    }

    /// One cell that does `how` on a device; `more` are further keys of its table.
    pub(crate) fn told(how: &str, more: &str) -> Self {
        let world = Self::new("");
        let place = world.place().display().to_string();
        let table =
            format!("[cell]\nuse = 'on_device'\nhow = '{how}'\nplace = '{place}'\n{more}\n");
        world.write("small.toml", &table);
        world
    }

    /// Where a cell that waits leaves the number of its process.
    pub(crate) fn place(&self) -> PathBuf {
        self.path("pid")
    }

    /// This program as the command, and as the program that it calls.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let this = env::current_exe().unwrap();
        let mut command = Command::new(&this);
        command.current_dir(self.root()).args(arguments).env("PIPELINE_CUDA", &this);
        command.env_remove("PIPELINE_STORE").env_remove("CUDA_VISIBLE_DEVICES");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Said {
        self.said(self.command(arguments).output().unwrap())
    }

    /// The result of `run --json` with one device, which must end with `code`.
    pub(crate) fn run(&self, code: i32, more: &[&str]) -> Value {
        let arguments = ["run", "small.toml", "--json", "--quiet", "--gpus", "0"];
        let said = self.call(&[&arguments, more].concat());
        assert_eq!(said.code, Some(code), "{said:?}");
        serde_json::from_str(&said.data).unwrap()
    }

    /// Begins a run and waits until its cell waits; gives the run and the process of the cell.
    pub(crate) fn begin(&self) -> (Child, u32) {
        let run = ["run", "small.toml", "--gpus", "0"];
        let mut child =
            self.command(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the cell begins", || {
            assert!(child.try_wait().unwrap().is_none(), "the run has ended by itself");
            self.place().exists()
        });
        let pid = fs::read_to_string(self.place()).unwrap().parse().unwrap();
        (child, pid)
    }

    /// Files of the store below `name`.
    pub(crate) fn stored(&self, name: &str) -> Vec<PathBuf> {
        files(&self.store().join(name))
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| !state.starts_with(" Z"))
}
