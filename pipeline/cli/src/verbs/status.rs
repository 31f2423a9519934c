//! `pipeline status`: the runs that are under way, in this process or another.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::LiveRun;

use crate::{
    arguments::StatusArguments,
    console::Console,
    error::{CliError, Exit},
    text::duration,
    world::World,
};

pub(super) fn run(
    arguments: &StatusArguments,
    world: &World,
    console: &mut Console<'_>,
) -> Result<Exit, CliError> {
    let runs = world.read_store().live_runs()?;
    if arguments.json {
        runs.iter().try_for_each(|run| console.json(run))?;
    } else if runs.is_empty() {
        console.remark("no run is under way");
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        runs.iter().flat_map(|run| lines(run, now)).try_for_each(|line| console.line(line))?;
    }
    Ok(Exit::Done)
}

fn lines(run: &LiveRun, now: u64) -> Vec<String> {
    let LiveRun { run: id, experiment, process, began, cells, done, stopping, running } = run;
    let time = duration(now.saturating_sub(*began) as f64);
    let stopping = if *stopping { ", stopping" } else { "" };
    let head = format!(
        "run {id} of experiment `{experiment}`: {done} of {cells} cells in {time}{stopping} (process {} on {})",
        process.pid, process.host
    );
    let cells = running.iter().map(|cell| {
        let doing = if cell.doing.is_empty() { String::new() } else { format!(", {}", cell.doing) };
        format!("  {} {:.0} %{doing}", cell.cell, cell.fraction * 100.0)
    });
    [head].into_iter().chain(cells).collect()
}
