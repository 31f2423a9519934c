//! Settings that every training stage has, and what follows from them.

use engine::{Refusal, Resources};
use nets::{NetsError, Precision, TrainingConfig};

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

/// Memory of a training on whole cases, whose size is not known before they are read.
const WHOLE_CASES: u64 = 2 << 30;

/// Sources that an uncertainty module is expected to have: six raters are the most in arXiv 2304.00466v2.
pub(super) const SOURCES: usize = 6;

/// Widths at full resolution, and numbers of decoders, of the networks that are trained together.
pub(super) type Widths<'a> = &'a [(usize, usize)];

/// What a training takes of the machine: with patches, the step as [`nets::Unet`] states it for two axes, which is an
/// upper bound for three, and as much again for the cases as without.
pub(super) fn training_resources(
    threads: usize,
    training: &TrainingConfig,
    recompute: bool,
    networks: Widths<'_>,
) -> Resources {
    let numbers = |&(width, decoders): &(usize, usize)| {
        if recompute { width * (12 + 2 * decoders) } else { width * (14 + 10 * decoders) }
    };
    let step = training.patch.map_or(0, |patch| {
        let pixels = patch.size.iter().fold(training.batch_size, |n, side| n.saturating_mul(*side));
        let bytes = if training.precision == Precision::F32 { 4 } else { 2 };
        let numbers = networks.iter().map(numbers).sum::<usize>();
        pixels.saturating_mul(bytes).saturating_mul(numbers) as u64
    });
    Resources { cpus: threads.max(1), memory: WHOLE_CASES.saturating_add(step) }
}

#[cfg(test)]
mod tests {
    use nets::PatchConfig;

    use super::*;

    #[test]
    fn memory_follows_from_patches_format_and_width() {
        let whole = TrainingConfig { batch_size: 2, ..TrainingConfig::default() };
        let patch = PatchConfig { size: [16, 32, 32], foreground_share: 0.5, overlap: 0.25 };
        let patched = TrainingConfig { patch: Some(patch), ..whole };
        let halved = TrainingConfig { precision: Precision::Bf16, ..patched };
        let step = |training, recompute| {
            training_resources(1, training, recompute, &[(8, 1), (8, 6)]).memory - WHOLE_CASES
        };
        assert_eq!(step(&whole, false), 0);
        assert_eq!(step(&patched, false), 2 * 16 * 32 * 32 * 4 * 8 * (24 + 74));
        assert_eq!(step(&halved, false), step(&patched, false) / 2);
        assert_eq!(step(&patched, true), 2 * 16 * 32 * 32 * 4 * 8 * (14 + 24));
    }
}
