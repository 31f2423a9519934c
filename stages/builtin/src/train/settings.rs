//! Settings that every training stage has, and what follows from them.

use engine::{Refusal, Resources};
use nets::{Axes, NetsError, Precision, TrainingConfig};

use super::{FeedConfig, TrainingDevice};

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

/// Pixels of a case where there are no patches: the films and fundus pictures of arXiv 2304.00466v2 as they are trained
/// on. The size of the cases is not known before they are read.
const WHOLE_CASE: usize = 256 * 256;

/// Program, threads and what is small.
const BASE: u64 = 128 << 20;

/// Bytes a weight: value, gradient and two moments; the best ones so far; and a checkpoint that is being written, twice.
const BYTES_OF_WEIGHT: u64 = 52;

/// Values a pixel of a batch that waits for its step: channels and labels.
const VALUES_OF_BATCH: usize = 16;

/// Sources that an uncertainty module is expected to have: six raters are the most in arXiv 2304.00466v2.
pub(super) const SOURCES: usize = 6;

/// What decides on the size of a network: several of them are trained together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Width at full resolution.
    pub(super) width: usize,
    /// Resolutions.
    pub(super) levels: usize,
    /// Complete decoders.
    pub(super) decoders: usize,
    /// Axes that are convolved.
    pub(super) axes: Axes,
}

impl Size {
    /// Upper bound of the number of weights.
    fn weights(self) -> u64 {
        let taps: u64 = if self.axes == Axes::Two { 9 } else { 27 };
        let square = |level: usize| (self.width as u64).saturating_mul(1 << level.min(32)).pow(2);
        let encoder: u64 = (0..self.levels).map(|level| 2 * taps * square(level)).sum();
        let decoder: u64 =
            (0..self.levels.saturating_sub(1)).map(|level| (3 * taps + 16) * square(level)).sum();
        encoder + decoder * self.decoders as u64
    }

    /// Values a pixel of the batch that a step keeps, as [`nets::Unet`] states them for two axes, which is an upper
    /// bound for three.
    fn values(self, recompute: bool) -> usize {
        let Self { width, decoders, .. } = self;
        if recompute { width * (12 + 2 * decoders) } else { width * (14 + 10 * decoders) }
    }
}

/// What a training takes of the machine: its cases, batches, weights and one step, unless that is done on a GPU.
pub(super) fn training_resources(
    (threads, device): (usize, TrainingDevice),
    training: &TrainingConfig,
    recompute: bool,
    feed: FeedConfig,
    networks: &[Size],
) -> Resources {
    let of_case = training.patch.map_or(WHOLE_CASE, |patch| {
        patch.size.iter().fold(1, |pixels: usize, side| pixels.saturating_mul(*side))
    });
    let pixels = (of_case as u64).saturating_mul(training.batch_size as u64);
    let bytes = if training.precision == Precision::F32 { 4 } else { 2 };
    let values = networks.iter().map(|network| network.values(recompute)).sum::<usize>();
    let step = match device {
        TrainingDevice::Cpu => pixels.saturating_mul(bytes * values as u64),
        TrainingDevice::Cuda => 0,
    };
    let batches = pixels.saturating_mul((4 * VALUES_OF_BATCH * (feed.readers + 1)) as u64);
    let weights = networks.iter().map(|network| network.weights()).sum::<u64>();
    let parts = [BASE, feed.bytes(), step, batches, weights.saturating_mul(BYTES_OF_WEIGHT)];
    let memory = parts.into_iter().fold(0, u64::saturating_add);
    Resources { cpus: threads.max(1), memory }
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
        let size = |decoders| Size { width: 8, levels: 3, decoders, axes: Axes::Three };
        let feed = FeedConfig { memory_mib: 100, readers: 1 };
        let memory = |training: &TrainingConfig, recompute| {
            let on = (1, TrainingDevice::Cpu);
            training_resources(on, training, recompute, feed, &[size(1), size(6)]).memory
        };
        // Beside the step: program, cases, two batches, and the weights.
        let encoder = 2 * 27 * (64 + 256 + 1024);
        let weights = 2 * encoder + 7 * (3 * 27 + 16) * (64 + 256);
        let pixels = 2 * 16 * 32 * 32;
        let rest = (228 << 20) + pixels * 2 * 64 + weights * 52;
        assert_eq!(memory(&patched, false), rest + pixels * 4 * 8 * (24 + 74));
        assert_eq!(memory(&halved, false), rest + pixels * 2 * 8 * (24 + 74));
        assert_eq!(memory(&patched, true), rest + pixels * 4 * 8 * (14 + 24));
        let on_gpu = (1, TrainingDevice::Cuda);
        let found = training_resources(on_gpu, &patched, false, feed, &[size(1), size(6)]);
        assert_eq!(found.memory, rest);
        let more = (2 * 256 * 256 - pixels) * (4 * 8 * (24 + 74) + 2 * 64);
        assert_eq!(memory(&whole, false), memory(&patched, false) + more);
    }
}
