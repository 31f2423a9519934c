//! Faults: whatever happens to the process, the machine, the disk or the bytes on it, no run gives a wrong result, and the
//! next one makes everything good.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "tests may fail loudly and explain themselves"
)]

mod campaign;
mod damage;
mod project;
mod random;
mod shadow;
mod trap;
mod trials;

/// Faults that a test run has the time for; `tests/faults/run` injects as many as wanted.
const FAULTS: usize = 600;

#[test]
fn no_fault_gives_a_wrong_result() {
    let tally = campaign::campaign(FAULTS, 1, &mut |_| {}).unwrap();
    assert_eq!(tally.violations, [""; 0], "{:?}", tally.injected);
    assert!(tally.total() >= FAULTS && tally.injected.len() >= 8, "{:?}", tally.injected);
}
