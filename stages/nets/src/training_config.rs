//! Settings of a training.
//!
//! Source: arXiv 2304.00466v2, IV-B: Adam, 1e-3, × 0.96 per epoch. Deviation: epochs, batch size, augmentation and
//! the choice of the epoch are not in the paper.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AugmentationConfig, NetsError};

/// Which epoch is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The first with the best validation Dice against the vote of the sources: no clean mask is used.
    #[default]
    Vote,
    /// The first with the best validation Dice against the clean masks.
    Truth,
    /// The last.
    Last,
}

/// Settings of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Passes over the training cases, in 1..=100000. Default 150.
    pub epochs: usize,
    /// Cases of a step, in 1..=4096; the last batch of an epoch may be smaller. Default 8.
    pub batch_size: usize,
    /// Learning rate of the first epoch, in (0, 1]. Default 1e-3 (the paper's).
    pub learning_rate: f64,
    /// Its factor from epoch to epoch, in (0, 1]. Default 0.96 (the paper's).
    pub learning_rate_decay: f64,
    /// Random movements of the training cases.
    pub augmentation: AugmentationConfig,
    /// Which epoch is kept. Default the best against the vote.
    pub selection: Selection,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 150,
            batch_size: 8,
            learning_rate: 1e-3,
            learning_rate_decay: 0.96,
            augmentation: AugmentationConfig::default(),
            selection: Selection::Vote,
        }
    }
}

impl TrainingConfig {
    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        let Self {
            epochs,
            batch_size,
            learning_rate,
            learning_rate_decay,
            augmentation,
            selection: _,
        } = *self;
        NetsError::check(
            "epochs",
            "a number in 1..=100000",
            epochs,
            (1..=100_000).contains(&epochs),
        )?;
        NetsError::check(
            "batch_size",
            "a number in 1..=4096",
            batch_size,
            (1..=4096).contains(&batch_size),
        )?;
        let within = |value: f64| value > 0.0 && value <= 1.0;
        NetsError::check(
            "learning_rate",
            "a number in (0, 1]",
            learning_rate,
            within(learning_rate),
        )?;
        let good = within(learning_rate_decay);
        NetsError::check("learning_rate_decay", "a factor in (0, 1]", learning_rate_decay, good)?;
        augmentation.validate()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn ranges_are_checked() {
        let good = TrainingConfig::default();
        assert!(good.validate().is_ok());
        for bad in [
            TrainingConfig { epochs: 0, ..good },
            TrainingConfig { batch_size: 0, ..good },
            TrainingConfig { learning_rate: f64::NAN, ..good },
            TrainingConfig { learning_rate_decay: 1.1, ..good },
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
    }
}
