//! Plays random timelines of edits against a reckoning without a cache: `timelines [COUNT] [FIRST SEED]`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    reason = "shared with a test; prints its result"
)]

#[path = "../tests/timelines/check.rs"]
mod check;
#[path = "../tests/timelines/model.rs"]
mod model;
#[path = "../tests/timelines/stages.rs"]
mod stages;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(10_000), |text| text.parse::<u64>())?;
    let first = arguments.next().map_or(Ok(0), |text| text.parse::<u64>())?;
    let folder = check::scratch()?;
    let started = std::time::Instant::now();
    let played = check::timelines(first..first + count, folder.path())?;
    println!(
        "{count} timelines from seed {first}: {played:?} in {:.1?}, none differs",
        started.elapsed()
    );
    Ok(())
}
