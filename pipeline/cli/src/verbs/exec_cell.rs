//! `pipeline exec-cell`: one cell of an experiment, for other systems that decide what runs when.
//!
//! It ends well only when the result is stored, and building it twice does no harm, so a system that has lost track of a
//! job may simply start it again.

use engine::{Limits, RunOptions, run as run_cells};

use crate::{
    arguments::ExecCellArguments,
    console::Console,
    error::{CliError, Exit},
    programs,
    progress::Progress,
    world::World,
};

pub(super) fn run(
    arguments: &ExecCellArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let experiment = world.experiment(&arguments.experiment)?;
    let selected = experiment.select(std::slice::from_ref(&arguments.cell))?;
    let store = world.open_store()?;
    let mut limits = Limits::of_machine();
    limits.cpus = arguments.jobs.map_or(limits.cpus, usize::from);
    // Devices are chosen by the system that calls, as it does for any program.
    let devices = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let gpus = devices.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
    let (launcher, find_program) = (world.launcher(), programs::find);
    let options = RunOptions { gpus, launcher, find_program, ..limits.into() };
    let mut progress = Progress::new(console, false);
    run_cells(&experiment, &selected, &store, options, &(world.stop)(), &mut |event| {
        progress.observe(&event);
    })?;
    progress.end();
    Ok(Exit::Done)
}
