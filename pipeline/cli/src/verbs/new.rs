//! `pipeline new`: the beginning of a stage or of an experiment, to be filled in.

use std::{fs, io::Write, path::Path};

use crate::{
    arguments::{NewArguments, NewThing},
    console::{Console, Label},
    error::{CliError, Exit},
    world::World,
};

pub(super) fn run(
    arguments: &NewArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let name = &arguments.name;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty()
        || !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || !name.chars().all(fits)
    {
        return Err(CliError::BadName { name: name.clone() });
    }
    let (path, text, hint) = match arguments.thing {
        NewThing::Stage => {
            let module = name.replace(['.', '-'], "_").to_lowercase();
            let path = world.roots.working.join(format!("{module}.rs"));
            let hint = format!(
                "`mod {module};`, and in your list `registry.add::<{module}::{}>();`",
                type_name(name)
            );
            (path, stage(name), format!("add it to your program: {hint}"))
        }
        NewThing::Experiment => {
            let path = world.roots.project.join(format!("configs/experiments/{name}.toml"));
            let hint = format!("`pipeline plan experiments/{name}.toml` says what it would do");
            (path, experiment(name), hint)
        }
    };
    write_new(&path, &text)?;
    console.line(world.shown(&path))?;
    console.flush()?;
    console.say(Label::Hint, &hint);
    Ok(Exit::Done)
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
    };
    write().map_err(CliError::file("create", path))
}

/// The name of a stage as a type: `clean.crop` is `CleanCrop`.
fn type_name(name: &str) -> String {
    let words = name.split(['.', '-', '_']).filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    words.map(capital).collect()
}

/// A stage that copies a text, with everything that a stage has.
fn stage(name: &str) -> String {
    const TEXT: &str = include_str!("new/stage.txt");
    TEXT.replace("STAGE_NAME", name).replace("StageType", &type_name(name))
}

fn experiment(name: &str) -> String {
    const TEXT: &str = include_str!("new/experiment.txt");
    TEXT.replace("EXPERIMENT_NAME", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types() {
        assert_eq!(type_name("clean.crop"), "CleanCrop");
        assert_eq!(type_name("a-b_c."), "ABC");
        assert!(stage("clean.crop").contains("impl Stage for CleanCrop"));
    }
}
