//! `pipeline pin` and `pipeline unpin`: runs whose results are kept under a name.

use engine::nearest;

use super::show::find::named_run;
use crate::{
    arguments::{PinArguments, UnpinArguments},
    console::Console,
    error::{CliError, Exit},
    world::World,
};

pub(super) fn pin(
    arguments: &PinArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let run = named_run(&arguments.run, world, &world.read_store())?.run;
    world.open_store()?.pin(&run, &arguments.name)?;
    console.line(format!("run {run} is kept as `{}`", arguments.name))?;
    Ok(Exit::Done)
}

pub(super) fn unpin(
    arguments: &UnpinArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let (store, name) = (world.read_store(), &arguments.name);
    if !store.unpin(name)? {
        let pins = store.pins()?;
        let nearest = nearest(name, pins.keys().map(String::as_str)).map(str::to_owned);
        return Err(CliError::NoPin { name: name.clone(), nearest });
    }
    console.line(format!("`{name}` is taken away"))?;
    Ok(Exit::Done)
}
