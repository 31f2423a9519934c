//! Real processes, killed at random moments.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{campaign::Tally, project::walk, random::Random, trials::audit};

/// A command to kill, and an experiment for it.
pub struct Killer {
    /// The command `pipeline`.
    pub program: PathBuf,
    /// The experiment's file.
    pub experiment: PathBuf,
    /// Overrides of the experiment.
    pub set: Vec<String>,
}

impl Killer {
    fn command(&self, store: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("run").arg(&self.experiment).args(["--json", "--quiet", "--store"]).arg(store);
        command.args(self.set.iter().flat_map(|set| ["--set", set]));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Digests of all outputs of a run that nobody disturbs.
    fn digests(&self, store: &Path) -> Result<BTreeMap<String, Value>, String> {
        let output = self.command(store).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let report: Value = serde_json::from_str(last)
            .map_err(|error| format!("{error} ({}): {text}", output.status))?;
        let cells = report["cells"].as_array().cloned().unwrap_or_default();
        if !output.status.success() || cells.is_empty() {
            return Err(format!("the run failed: {}", report["errors"]));
        }
        let name = |cell: &Value| cell["cell"].as_str().unwrap_or_default().to_owned();
        Ok(cells.iter().map(|cell| (name(cell), cell["outputs"].clone())).collect())
    }

    /// Kills runs until `count` have died, starting again on a new store whenever one comes to its end.
    ///
    /// # Errors
    /// What keeps the trials from being made.
    pub fn kill(
        &self,
        count: usize,
        random: &mut Random,
        tally: &mut Tally,
        observe: &mut dyn FnMut(&Tally),
    ) -> Result<(), String> {
        let io = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(io)?;
        let started = Instant::now();
        let expected = self.digests(&folder.path().join("undisturbed"))?;
        let whole = started.elapsed();
        let (mut killed, mut round) = (0, 0);
        while killed < count {
            round += 1;
            let store = folder.path().join(format!("killed-{round}"));
            // Death comes early in the first half of the rounds, so that the beginning has its share.
            let most = if round % 2 == 0 { whole } else { whole / 4 };
            while killed < count {
                let mut child = self.command(&store).stdout(Stdio::null()).spawn().map_err(io)?;
                let wait = random.below(most.as_micros() as usize + 1) as u64;
                std::thread::sleep(Duration::from_micros(wait));
                child.kill().map_err(io)?;
                if child.wait().map_err(io)?.code().is_some() {
                    break; // It was faster.
                }
                killed += 1;
                tally.count("SIGKILL of a run", &(round, wait), is_sound(&store));
                observe(tally);
            }
            let ends = self.digests(&store).and_then(|digests| {
                is_sound(&store)?;
                if digests == expected { Ok(()) } else { Err("other digests".to_owned()) }
            });
            if let Err(problem) = ends {
                tally.violations.push(format!("killed runs, round {round}: {problem}"));
            }
            fs::remove_dir_all(&store).map_err(io)?;
        }
        Ok(())
    }
}

/// Whether everything that has its final name is whole.
fn is_sound(store: &Path) -> Result<(), String> {
    if walk(store).is_empty() {
        return Ok(());
    }
    match audit(store, false)?.problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("{problem:?}")),
    }
}
