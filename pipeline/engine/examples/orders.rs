//! Lets runs and sweeps at once take their steps in orders that seeds decide: `orders [COUNT] [FIRST SEED]`.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "shared with a test; prints its result"
)]

#[path = "../tests/faults/orders.rs"]
mod orders;
#[path = "../tests/faults/project.rs"]
mod project;
#[path = "../tests/faults/random.rs"]
mod random;
#[path = "../tests/faults/shadow.rs"]
mod shadow;
#[path = "../tests/faults/trap.rs"]
mod trap;
#[path = "../tests/faults/trials.rs"]
mod trials;
#[path = "../tests/faults/turns.rs"]
mod turns;

use std::{collections::BTreeSet, process::ExitCode, time::Instant};

fn play(count: u64, first: u64) -> Result<usize, String> {
    let (ground, started) = (trials::Ground::prepare()?, Instant::now());
    let (mut orders, mut steps, mut violations) = (BTreeSet::new(), 0, 0);
    for seed in first..first + count {
        match ground.order(seed) {
            Ok(order) => {
                orders.insert(order.digest);
                steps += order.steps;
            }
            Err(problem) => {
                violations += 1;
                eprintln!("violation: seed {seed}: {problem}");
            }
        }
    }
    println!(
        "{count} orders from seed {first}, {} of them different, {steps} steps, {violations} violations in {:.1?}",
        orders.len(),
        started.elapsed()
    );
    Ok(violations)
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let played = match (number(10_000), number(0)) {
        (Ok(count), Ok(first)) => play(count, first),
        _ => Err("expected `orders [COUNT] [FIRST SEED]`".to_owned()),
    };
    match played {
        Ok(violations) => ExitCode::from(u8::from(violations > 0)),
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}
