//! Looks for two values that share an encoding, and for one that does not come back from its own: `keys [COUNT] [FIRST
//! SEED]`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    reason = "shared with a test; prints its result"
)]

#[path = "../tests/faults/random.rs"]
mod random;
#[path = "../tests/keys/values.rs"]
mod values;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let first = arguments.next().map_or(Ok(0), |text| text.parse::<u64>())?;
    let started = std::time::Instant::now();
    let looked = values::check(first..first + count)?;
    println!(
        "{count} values from seed {first}, {} neighbours: {:?} in {:.1?}, none shares an encoding",
        looked.mutations,
        looked.types,
        started.elapsed()
    );
    Ok(())
}
