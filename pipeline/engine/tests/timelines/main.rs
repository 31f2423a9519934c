//! Incremental equals clean: after any edits, a run executes exactly what a reckoning without a cache says was never
//! executed before, and gives the same contents.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "tests may fail loudly and explain themselves"
)]

mod check;
mod model;
mod stages;

/// Timelines that a test run has the time for; the example `timelines` plays as many as wanted.
const TIMELINES: u64 = 300;

#[test]
fn incremental_equals_clean() {
    let folder = check::scratch().unwrap();
    let played = check::timelines(0..TIMELINES, folder.path());
    let count = played.unwrap_or_else(|problem| panic!("{problem}"));
    assert!(count.runs > 1000 && count.units > 2500 && count.unchanged > 50, "{count:?}");
}
