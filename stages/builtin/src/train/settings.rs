//! Settings that every training stage has, and what follows from them.

use engine::{Refusal, Resources};
use nets::NetsError;

/// Default of `structures`: the lungs.
pub(super) fn lung() -> Vec<String> {
    vec!["lung".to_owned()]
}

/// Default of `threads`: cells side by side use the cores better.
pub(super) fn one() -> usize {
    1
}

/// A refused network setting under the key that the experiment gives it.
pub(super) fn refusal(table: &str, error: &NetsError) -> Refusal {
    match error {
        NetsError::Config { field, expected, found } => {
            Refusal::new(format!("{table}.{field}"), format!("expected {expected}: got {found}"))
        }
        other => Refusal::new(table, other.to_string()),
    }
}

/// What a training takes of the machine.
pub(super) fn training_resources(threads: usize) -> Resources {
    Resources { cpus: threads.max(1), memory: 2 << 30 }
}
