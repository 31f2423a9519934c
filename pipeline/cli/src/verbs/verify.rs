//! `pipeline verify`: what is damaged or missing in the store.

use engine::{Audit, Differing, Fault, Share, rerun};

use crate::{
    arguments::{ExperimentArguments, VerifyArguments},
    console::{Console, Label},
    error::{CliError, Exit},
    text::{count, size},
    world::World,
};

pub(super) fn run(
    arguments: &VerifyArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    if let (Some(share), Some(file)) = (arguments.rerun, &arguments.experiment) {
        let (file, set, scale) = (file.clone(), arguments.set.clone(), arguments.scale.clone());
        let experiment = ExperimentArguments { file, set, scale };
        return make_again(&experiment, share, arguments.json, world, console);
    }
    let share = arguments.sample.map_or(Share::All, Share::Of);
    let audit = world.read_store().audit(share, arguments.repair)?;
    if arguments.json {
        console.json_pretty(&audit)?;
    } else {
        tell(&audit, world, console)?;
    }
    let whole = audit.problems.is_empty() || audit.repaired;
    Ok(if whole { Exit::Done } else { Exit::Failed })
}

/// Makes some of the stored results again.
fn make_again(
    experiment: &ExperimentArguments,
    share: f64,
    json: bool,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let experiment = world.experiment(experiment)?;
    let found = rerun(&experiment, &world.open_store()?, Share::Of(share), &(world.stop)())?;
    if json {
        console.json_pretty(&found)?;
    } else {
        for output in &found.differing {
            let Differing { cell, stage, shard, port, stored, made } = output;
            let shard =
                shard.as_ref().map_or_else(String::new, |shard| format!(", shard `{shard}`"));
            console.line(format!(
                "{cell}{shard}, output `{port}`: stored {}, made {}",
                stored.short(),
                made.short()
            ))?;
            console.line(format!("  stage `{stage}` gives something else than before"))?;
        }
        let (made, units) = (count(found.made, "result"), found.units);
        let differ = found.differing.len();
        console.line(format!("{made} of {units} made again: {differ} differ"))?;
        console.flush()?;
        if differ > 0 {
            let hint = "raise the VERSION of a stage whose output has changed, so that its results are built again";
            console.say(Label::Hint, hint);
        }
    }
    Ok(if found.differing.is_empty() { Exit::Done } else { Exit::Failed })
}

fn tell(audit: &Audit, world: &World, console: &mut Console<'_>) -> Result<(), CliError> {
    for problem in &audit.problems {
        let kind = match problem.kind {
            Fault::File => "file",
            Fault::Manifest => "manifest",
            Fault::Record => "record",
            Fault::Explanation => "explanation",
            Fault::Run => "run",
            Fault::Pin => "pin",
        };
        console.line(format!("{kind} {}: found {}", problem.path, problem.found))?;
        for name in &problem.named_by {
            console.line(format!("  {name}"))?;
        }
    }
    let Audit { files, hashed, bytes, records, foreign, problems, repaired } = audit;
    let foreign = match foreign {
        0 => String::new(),
        n => format!(" ({n} of another version, left alone)"),
    };
    let what = match (problems.len(), repaired) {
        (0, _) => "nothing wrong".to_owned(),
        (n, false) => count(n, "problem"),
        (n, true) => format!("{} repaired", count(n, "problem")),
    };
    console.line(format!(
        "store {}: {hashed} of {} hashed ({}), {}{foreign}: {what}",
        world.shown(&world.store),
        count(*files, "file"),
        size(*bytes),
        count(*records, "record"),
    ))?;
    console.flush()?;
    if !problems.is_empty() {
        let hint = if *repaired {
            "the next run builds again what it needs of this; damaged files lie in `quarantine/`"
        } else {
            "`pipeline verify --repair` takes this away, so that the next run builds it again"
        };
        console.say(Label::Hint, hint);
    }
    Ok(())
}
