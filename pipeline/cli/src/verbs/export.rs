//! `pipeline export`: an experiment as the rules of another workflow system.

use std::fmt::Write;

use engine::{Cell, Digest, Experiment};

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
///
/// Rules and files are named for their cells, so that an experiment with a cell more or less leaves those of the others.
fn snakefile(
    experiment: &Experiment,
    selected: &[bool],
    folder: &str,
    call: impl Fn(&Cell) -> Vec<String>,
) -> String {
    let names: Vec<String> = experiment.cells.iter().map(|cell| rule_name(&cell.name)).collect();
    let done = |index: usize| format!("done/{}", names[index]);
    let list = |indices: &mut dyn Iterator<Item = usize>| {
        let mut files: Vec<String> = indices.map(|index| python(&done(index))).collect();
        files.dedup();
        files.join(", ")
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
        // Snakemake puts values in place of what stands in braces: the threads that it has given are the one that is meant.
        let command = command.replace('{', "{{").replace('}', "}}") + " --jobs {threads}";
        let takes = cell.takes();
        let gpus = if takes.gpus > 0 { format!(", gpu={}", takes.gpus) } else { String::new() };
        let _ = write!(
            text,
            "\n# {}\nrule {}:\n    input: {needs}\n    output: touch({})\n    threads: {}\n    \
             resources: mem_mb={}{gpus}\n    shell: {}\n",
            cell.name.replace('\n', " "),
            names[index],
            python(&done(index)),
            takes.cpus,
            takes.memory.div_ceil(1 << 20),
            python(&command),
        );
    }
    text
}

/// A cell's name as Python and file systems take it, with the beginning of a digest that tells it from its likes.
fn rule_name(cell: &str) -> String {
    const LONGEST: usize = 100;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = cell.chars().map(plain).take(LONGEST).collect();
    format!("cell_{name}_{}", &Digest::of(cell.as_bytes()).short()[..8])
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
    fn a_rule_is_named_for_its_cell_alone() {
        assert!(rule_name("train[seed=0]").starts_with("cell_train_seed_0__"));
        assert_ne!(rule_name("a[b=c]"), rule_name("a_b_c_"));
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        assert!(plain(&rule_name("größe=1/2")) && rule_name(&"x".repeat(300)).len() < 120);
    }

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
