//! One trial: a store in some state, work on it, one fault, and what must be true afterwards.

use std::{fs, sync::Arc, time::Duration};

use engine::{Audit, Experiment, Fault, RunError, Share, Store};

use super::{
    project::{CHANGE, Digests, Project, Ran, copy, walk},
    random::Random,
    shadow::Loss,
    trap::{Kind, Then, Trap},
};

const DAY: Duration = Duration::from_secs(86_400);

/// What is under way when the fault comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// The first run on an empty store.
    First,
    /// A run after a change that leaves half of the results good.
    Second,
    /// `gc`, of the results of another experiment.
    Collect,
    /// `verify --repair` of a store with a damaged file.
    Repair,
}

/// All kinds of work.
pub const WORKS: [Work; 4] = [Work::First, Work::Second, Work::Collect, Work::Repair];

/// The project with what an undisturbed run gives, and stores to start from.
pub struct Ground {
    /// The project.
    pub project: Project,
    /// The experiment.
    pub plain: Experiment,
    /// The experiment with a change.
    pub changed: Experiment,
    /// Digests of the experiment.
    pub expected: Digests,
    /// Digests of the changed experiment.
    pub expected_changed: Digests,
    /// Steps of each kind of work where nothing goes wrong.
    pub steps: Vec<usize>,
}

/// A message for what must not be.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

impl Ground {
    /// Runs everything once, undisturbed.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn prepare() -> Result<Self, String> {
        let io = |error: std::io::Error| error.to_string();
        let project = Project::new().map_err(io)?;
        let (plain, changed) =
            (project.load("words.toml", &[])?, project.load("words.toml", CHANGE)?);
        let run =
            |experiment: &Experiment| project.run(experiment, None).map_err(|error| words(&error));
        let expected = run(&plain)?.digests;
        let pinned = Store::open(&project.store()).and_then(|store| {
            let run = store.runs()?.pop().unwrap_or_default();
            store.pin(&run, "paper")
        });
        pinned.map_err(|error| words(&error))?;
        copy(&project.store(), &project.path("after plain")).map_err(io)?;
        let expected_changed = run(&changed)?.digests;
        let other = project.load("words.toml", &["once.times=9", "experiment.name='other'"])?;
        run(&other)?;
        run(&plain)?;
        // Nobody has used any of it for long.
        project.shift_times(10 * DAY, true).map_err(io)?;
        copy(&project.store(), &project.path("after all")).map_err(io)?;
        let steps = Vec::new();
        let mut ground = Self { project, plain, changed, expected, expected_changed, steps };
        for work in WORKS {
            ground.reset(work)?;
            let trap = Arc::new(Trap::new(0, Then::Nothing));
            ground.act(work, &trap)?.map_err(|error| words(&error))?;
            ground.steps.push(trap.taken());
        }
        Ok(ground)
    }

    /// Puts the store into the state that a kind of work starts from.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn reset(&self, work: Work) -> Result<(), String> {
        let (store, io) = (self.project.store(), |error: std::io::Error| error.to_string());
        if store.exists() {
            fs::remove_dir_all(&store).map_err(io)?;
        }
        match work {
            Work::First => fs::create_dir(&store),
            Work::Second => copy(&self.project.path("after plain"), &store),
            Work::Collect => copy(&self.project.path("after all"), &store),
            Work::Repair => copy(&self.project.path("after plain"), &store).and_then(|()| {
                let file = walk(&store.join("cas")).swap_remove(0);
                let mut bytes = fs::read(&file)?;
                bytes[0] ^= 1;
                fs::remove_file(&file)?;
                fs::write(&file, bytes)
            }),
        }
        .map_err(io)
    }

    /// The experiment that a kind of work ends with, and what it gives.
    fn aim(&self, work: Work) -> (&Experiment, &Digests) {
        match work {
            Work::Second => (&self.changed, &self.expected_changed),
            _ => (&self.plain, &self.expected),
        }
    }

    /// Does the work; the inner result is its own.
    fn act(&self, work: Work, trap: &Arc<Trap>) -> Result<Result<(), RunError>, String> {
        let open = || Store::open_faulty(&self.project.store(), trap.clone());
        let done = match work {
            Work::First | Work::Second => {
                let ran = self.project.run(self.aim(work).0, Some(trap.clone()));
                ran.map(|ran| same(&ran, self.aim(work).1)).map(|same| (Some(same), ()))
            }
            Work::Collect => open()
                .and_then(|store| store.sweep(DAY, false))
                .map(|_| (None, ()))
                .map_err(RunError::from),
            Work::Repair => open()
                .and_then(|store| store.audit(Share::All, true))
                .map(|_| (None, ()))
                .map_err(RunError::from),
        };
        match done {
            Ok((Some(wrong @ Err(_)), ())) => wrong.map(Ok),
            Ok(_) => Ok(Ok(())),
            Err(error @ RunError::Panic { .. }) => Err(words(&error)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The process, or the whole machine, dies after a step.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn death(
        &self,
        work: Work,
        at: usize,
        loss: Option<Loss>,
        random: &mut Random,
    ) -> Result<(), String> {
        self.reset(work)?;
        let store = self.project.store();
        let trap = Arc::new(match loss {
            None => Trap::new(at, Then::Death),
            Some(_) => Trap::with_shadow(at, &store),
        });
        let _ = self.act(work, &trap)?;
        if let Some(loss) = loss {
            trap.lose(loss, random).map_err(|error| error.to_string())?;
        }
        self.bury().map_err(|error| error.to_string())?;
        if work != Work::Repair {
            check(&audit(&store, false)?, loss.is_some())?;
        }
        if random.below(4) == 0 {
            self.collect_remains()?;
        }
        self.recovers(work, loss.is_some())
    }

    /// Makes the dead process look dead: in the trial it is the one that looks.
    fn bury(&self) -> std::io::Result<()> {
        let store = self.project.store();
        for path in walk(&store.join("lease")).into_iter().chain(walk(&store.join("runs"))) {
            let bytes = fs::read(&path)?;
            let text = String::from_utf8_lossy(&bytes).replace("\"ticks\":", "\"ticks\":1");
            if text.as_bytes() != bytes {
                fs::write(&path, text)?;
            }
            // It takes a machine longer than this to come up again, and a lease that is not whole counts while it is young.
            let file = fs::File::open(&path)?;
            file.set_modified(file.metadata()?.modified()? - Duration::from_secs(120))?;
        }
        for entry in fs::read_dir(store.join("tmp")).into_iter().flatten().flatten() {
            // The name says when the process began.
            let name = entry.file_name().to_string_lossy().replacen('.', ".1", 1);
            fs::rename(entry.path(), store.join("tmp").join(name))?;
        }
        Ok(())
    }

    /// `gc` some days later leaves nothing of what was under way.
    fn collect_remains(&self) -> Result<(), String> {
        let root = self.project.store();
        self.project.shift_times(2 * DAY, true).map_err(|error| error.to_string())?;
        let store = Store::open(&root).map_err(|error| words(&error))?;
        // Folders have times of their own, which only a day's wait would age.
        for folder in fs::read_dir(root.join("tmp")).into_iter().flatten().flatten() {
            let _ = fs::File::open(folder.path())
                .and_then(|file| file.set_modified(std::time::SystemTime::now() - 2 * DAY));
            for below in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(below.path());
            }
        }
        store.sweep(40 * DAY, false).map_err(|error| words(&error))?;
        let left = [walk(&root.join("tmp")), walk(&root.join("lease"))].concat();
        if left.is_empty() { Ok(()) } else { Err(format!("`gc` has left {left:?}")) }
    }

    /// A run completes with the digests of an undisturbed one, and does nothing that was recorded.
    fn recovers(&self, work: Work, lossy: bool) -> Result<(), String> {
        let (experiment, expected) = self.aim(work);
        let run = || self.project.run(experiment, None).map_err(|error| words(&error));
        if work == Work::Repair {
            audit(&self.project.store(), true)?;
        }
        let ran = run()?;
        same(&ran, expected)?;
        if let Some(left) =
            fs::read_dir(self.project.store().join("tmp")).into_iter().flatten().next()
        {
            return Err(format!("{left:?} was left by a process that is gone"));
        }
        let found = audit(&self.project.store(), lossy)?;
        check(&found, lossy)?;
        let again = run()?;
        same(&again, expected)?;
        if again.executed > 0 && !lossy {
            return Err(format!("{} units ran again with nothing to do", again.executed));
        }
        check(&audit(&self.project.store(), false)?, false)
    }

    /// A step fails, and perhaps all of its kind after it.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn error(
        &self,
        work: Work,
        at: usize,
        errno: i32,
        of: Kind,
        lasts: bool,
    ) -> Result<(), String> {
        self.reset(work)?;
        let trap = Arc::new(Trap::new(at, Then::Error { errno, of, lasts }));
        let done = self.act(work, &trap)?;
        if let Err(error) = &done {
            let text = words(error);
            let cause = std::io::Error::from_raw_os_error(errno).to_string();
            if !text.contains(&cause) {
                return Err(format!("the message does not say `{cause}`: {text}"));
            }
        } else if matches!(work, Work::First | Work::Second) {
            // What it says it has done is there.
            let ran = self.project.run(self.aim(work).0, None).map_err(|error| words(&error))?;
            if ran.executed > 0 {
                return Err(format!("{} units were not kept", ran.executed));
            }
        }
        let store = self.project.store();
        if of == Kind::Growing {
            let left = walk(&store.join("tmp"));
            if !left.is_empty() {
                return Err(format!("left on the full disk: {left:?}"));
            }
        }
        self.bury().map_err(|error| error.to_string())?;
        if work != Work::Repair {
            check(&audit(&store, false)?, false)?;
        }
        self.recovers(work, false)
    }

    /// The clock jumps between two runs: all times in the store lie in the future or long ago.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn clock(&self, by: Duration, back: bool, random: &mut Random) -> Result<(), String> {
        self.reset(Work::Collect)?;
        self.project.shift_times(by, back).map_err(|error| error.to_string())?;
        let fresh = |what: &str| {
            let ran = self.project.run(&self.plain, None).map_err(|error| words(&error))?;
            same(&ran, &self.expected)?;
            if ran.executed == 0 {
                Ok(())
            } else {
                Err(format!("{what}: not everything was fresh"))
            }
        };
        fresh("after the jump")?;
        if random.below(2) == 0 {
            let store = Store::open(&self.project.store()).map_err(|error| words(&error))?;
            store.sweep(DAY, false).map_err(|error| words(&error))?;
            fresh("after `gc`")?;
        }
        let ran = self.project.run(&self.changed, None).map_err(|error| words(&error))?;
        same(&ran, &self.expected_changed)
    }
}

/// Whether a run gave what it had to.
pub fn same(ran: &Ran, expected: &Digests) -> Result<(), String> {
    let differs = expected.iter().find(|(port, digest)| ran.digests.get(*port) != Some(*digest));
    match differs {
        None if ran.digests.len() == expected.len() => Ok(()),
        None => Err("there are more outputs than there should be".to_owned()),
        Some((port, _)) => Err(format!("output {port:?} is not what it should be")),
    }
}

/// Looks at every byte of a store.
pub fn audit(store: &std::path::Path, repair: bool) -> Result<Audit, String> {
    let store = if repair { Store::open(store) } else { Ok(Store::for_reading(store)) };
    store.and_then(|store| store.audit(Share::All, repair)).map_err(|error| words(&error))
}

/// No file under its final name holds anything else, and a readable record has its files.
///
/// Where power was lost, records of short work, which nobody waited for, may be lost or torn.
fn check(audit: &Audit, lossy: bool) -> Result<(), String> {
    let allowed = |fault| lossy && matches!(fault, Fault::Record | Fault::Explanation);
    match audit.problems.iter().find(|problem| !allowed(problem.kind)) {
        None => Ok(()),
        Some(problem) => Err(format!("{problem:?}")),
    }
}
