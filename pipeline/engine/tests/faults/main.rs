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
mod orders;
mod project;
mod random;
mod shadow;
mod trap;
mod trials;
mod turns;

/// Faults that a test run has the time for; `tests/faults/run` injects as many as wanted.
const FAULTS: usize = 600;

/// Orders that a test run has the time for; the example `orders` plays as many as wanted.
const ORDERS: u64 = 150;

#[test]
fn no_order_of_steps_gives_a_wrong_result() {
    let ground = trials::Ground::prepare().unwrap();
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..ORDERS {
        let order = ground.order(seed).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        assert!(order.steps > 20, "seed {seed}: {order:?}");
        orders.insert(order.digest);
    }
    assert!(orders.len() as u64 > ORDERS * 9 / 10, "{} orders", orders.len());
    // The seed decides, and nothing else.
    for seed in 0..12 {
        assert_eq!(ground.order(seed), ground.order(seed), "seed {seed}");
    }
}

#[test]
fn no_fault_gives_a_wrong_result() {
    let tally = campaign::campaign(FAULTS, 1, &mut |_| {}).unwrap();
    assert_eq!(tally.violations, [""; 0], "{:?}", tally.injected);
    assert!(tally.total() >= FAULTS && tally.injected.len() >= 8, "{:?}", tally.injected);
}
