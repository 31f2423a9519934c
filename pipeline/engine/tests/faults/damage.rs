//! Stored bytes that change by themselves: all of it is found, and the next run makes it good.

use std::{fs, path::PathBuf};

use super::{
    project::walk,
    random::Random,
    trials::{Ground, Work, audit, same, words},
};

/// What becomes of a stored file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Damage {
    /// One bit is another one.
    Flip,
    /// The end is missing.
    Truncate,
    /// Some bytes are zero.
    Zero,
    /// It is gone.
    Delete,
    /// It has changed places with another file of its kind.
    Swap,
}

/// All kinds of damage.
pub const DAMAGES: [Damage; 5] =
    [Damage::Flip, Damage::Truncate, Damage::Zero, Damage::Delete, Damage::Swap];

impl Ground {
    /// Damages a stored file, which must be found, or must heal in the next run that needs it.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn damage(&self, damage: Damage, random: &mut Random) -> Result<(), String> {
        self.reset(Work::Second)?;
        let harmed = self.harm(damage, random).map_err(|error| error.to_string())?;
        let store = self.project.store();
        let found = audit(&store, false)?;
        let is_found = |path: &PathBuf| {
            let name = path.strip_prefix(&store).unwrap_or(path).display().to_string();
            found.problems.iter().any(|problem| problem.path == name)
        };
        if let Some(missed) = harmed.iter().find(|path| !is_found(path)) {
            return Err(format!("{damage:?} of `{}` was not found", missed.display()));
        }
        if random.below(2) == 0 {
            return self.heals_by_repair(damage);
        }
        self.heals_by_use(damage)
    }

    /// `verify --repair` and a run make it good.
    fn heals_by_repair(&self, damage: Damage) -> Result<(), String> {
        audit(&self.project.store(), true)?;
        let ran = self.project.run(&self.plain, None).map_err(|error| words(&error))?;
        same(&ran, &self.expected)?;
        self.is_sound(damage)
    }

    /// A run that reads what was damaged gives the right result, or says so and the next one does.
    fn heals_by_use(&self, damage: Damage) -> Result<(), String> {
        for _ in 0..20 {
            match self.project.run(&self.changed, None) {
                // What the run did not read may be damaged still.
                Ok(ran) => {
                    same(&ran, &self.expected_changed)?;
                    return self.heals_by_repair(damage);
                }
                Err(error) if words(&error).contains("damaged") => {}
                Err(error) => return Err(words(&error)),
            }
        }
        Err(format!("{damage:?}: no run came to an end"))
    }

    fn is_sound(&self, damage: Damage) -> Result<(), String> {
        let found = audit(&self.project.store(), false)?;
        match found.problems.first() {
            None => Ok(()),
            Some(problem) => Err(format!("{damage:?} is there after the repair: {problem:?}")),
        }
    }

    /// Does the damage to a file of an artifact, a record or an explanation; the paths that are wrong now.
    fn harm(&self, damage: Damage, random: &mut Random) -> std::io::Result<Vec<PathBuf>> {
        let folders: &[&str] = match damage {
            Damage::Swap => &["cas", "ac", "pins"],
            // Nothing says that an explanation should be there.
            Damage::Delete => &["cas", "ac", "pins", "runs"],
            _ => &["cas", "ac", "cells", "pins", "runs"],
        };
        let mut files = walk(&self.project.store().join(random.one(folders)));
        // What else lies in the folder of a run is for people.
        files.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            !path.starts_with(self.project.store().join("runs"))
                || ["run.json", "experiment.toml", "paper"].iter().any(|known| name == *known)
        });
        let path = files[random.below(files.len())].clone();
        let mut bytes = fs::read(&path)?;
        let at = random.below(bytes.len());
        match damage {
            Damage::Flip => bytes[at] ^= 1 << random.below(8),
            Damage::Truncate => bytes.truncate(at),
            Damage::Zero => {
                let end = at + 1 + random.below(bytes.len() - at);
                bytes[at..end].fill(0);
            }
            Damage::Delete => {
                fs::remove_file(&path)?;
                return Ok(vec![path]);
            }
            Damage::Swap => {
                let other = files[random.below(files.len())].clone();
                let others = fs::read(&other)?;
                if others == bytes {
                    return Ok(Vec::new());
                }
                for (place, bytes) in [(&path, &others), (&other, &bytes)] {
                    fs::remove_file(place)?;
                    fs::write(place, bytes)?;
                }
                return Ok(vec![path, other]);
            }
        }
        fs::remove_file(&path)?;
        fs::write(&path, bytes)?;
        Ok(vec![path])
    }
}
