//! `pipeline export`: an experiment as the rules of another workflow system.

use std::fmt::Write;

use engine::{Cell, Experiment};

use crate::{
    arguments::{ExperimentArguments, ExportArguments, ExportFormat},
    console::Console,
    error::{CliError, Exit},
    world::World,
};

pub(super) fn run(
    arguments: &ExportArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let experiment = world.experiment(&arguments.experiment)?;
    let selected = experiment.select(&arguments.selection.only)?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(CliError::file("find", "pipeline"))?,
    };
    let program = [program.display().to_string(), "exec-cell".to_owned()];
    let store = ["--store".to_owned(), world.store.display().to_string()];
    let call = |cell: &Cell| -> Vec<String> {
        let ExperimentArguments { file, set, scale } = &arguments.experiment;
        let set = set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
        let scale = scale.iter().flat_map(|scale| ["--scale".to_owned(), scale.clone()]);
        let named = [file.clone(), cell.name.clone()].into_iter();
        program.iter().cloned().chain(named).chain(set).chain(scale).chain(store.clone()).collect()
    };
    let text = match arguments.format {
        ExportFormat::Snakemake => {
            let folder = world.roots.working.display().to_string();
            snakefile(&experiment, &selected, &folder, call)
        }
    };
    console.lines(&text)?;
    Ok(Exit::Done)
}

/// One rule a cell; a file in `done/` says that its result is stored.
fn snakefile(
    experiment: &Experiment,
    selected: &[bool],
    folder: &str,
    call: impl Fn(&Cell) -> Vec<String>,
) -> String {
    let done = |index: usize| format!("done/{index}");
    let list = |indices: &mut dyn Iterator<Item = usize>| {
        let mut names: Vec<String> = indices.map(|index| python(&done(index))).collect();
        names.dedup();
        names.join(", ")
    };
    let chosen = || (0..experiment.cells.len()).filter(|&index| selected[index]);
    let mut text = format!("# The cells of experiment `{}`.\n\nrule all:\n", experiment.name);
    let _ = writeln!(text, "    input: {}", list(&mut chosen()));
    for index in chosen() {
        let cell = &experiment.cells[index];
        let needs = list(&mut experiment.needs(index));
        let command: Vec<String> = call(cell).iter().map(|word| shell(word)).collect();
        // Names in an experiment are relative to where it was exported, wherever Snakemake runs.
        let command = format!("cd {} && {}", shell(folder), command.join(" "));
        // Snakemake puts values in place of what stands in braces.
        let command = command.replace('{', "{{").replace('}', "}}");
        let resources = cell.config.resources;
        let _ = write!(
            text,
            "\n# {}\nrule cell_{index}:\n    input: {needs}\n    output: touch({})\n    threads: {}\n    \
             resources: mem_mb={}\n    shell: {}\n",
            cell.name.replace('\n', " "),
            python(&done(index)),
            resources.cpus,
            resources.memory.div_ceil(1 << 20),
            python(&command),
        );
    }
    text
}

/// A text as Python writes it: as JSON does.
fn python(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A word that no shell takes apart.
fn shell(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn no_shell_takes_a_word_apart() {
        for word in [
            "plain",
            "",
            "a b",
            "it's",
            "$(rm -rf x)",
            "a;b",
            "`c`",
            "\\",
            "two\nlines",
            "train[seed=0]",
        ] {
            let script = format!("printf %s {}", shell(word));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
        }
    }
}
