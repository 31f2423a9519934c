//! Settings of a training.
//!
//! Source: arXiv 2304.00466v2, IV-B: Adam, 1e-3, × 0.96 per epoch. Deviation: epochs, batch size, augmentation and
//! the choice of the epoch are not in the paper.

use kernels::Optimizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AugmentationConfig, NetsError, OptimizerConfig, PatchConfig, Precision, learning_rate,
};

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
    /// Number format of activations: `f32` (default) or `bf16`.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Patches that steps see, one of every case in an epoch. Default none: whole cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchConfig>,
    /// Rule that changes the weights. Default Adam (the paper's).
    #[serde(skip_serializing_if = "OptimizerConfig::is_default")]
    pub optimizer: OptimizerConfig,
    /// Greatest Euclidean norm of the gradient of all networks together, above 0; a longer one is scaled down to it.
    /// Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
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
            precision: Precision::F32,
            patch: None,
            optimizer: OptimizerConfig::default(),
            clip_norm: None,
        }
    }
}

impl TrainingConfig {
    /// Learning rate of `epoch`, from 0.
    pub fn learning_rate_at(&self, epoch: usize) -> f64 {
        learning_rate(self.learning_rate, self.learning_rate_decay, epoch)
    }

    /// The optimizer with the learning rate of `epoch`.
    pub fn optimizer_at(&self, epoch: usize) -> Optimizer {
        self.optimizer.with_learning_rate(self.learning_rate_at(epoch))
    }

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
            precision: _,
            patch,
            optimizer,
            clip_norm,
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
        patch.iter().try_for_each(PatchConfig::validate)?;
        optimizer.validate()?;
        let good = clip_norm.is_none_or(|limit| limit > 0.0 && limit.is_finite());
        NetsError::check("clip_norm", "a number above 0", clip_norm, good)?;
        augmentation.validate()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn the_format_is_written_unless_it_is_f32() {
        let text = |precision| {
            serde_json::to_string(&TrainingConfig { precision, ..Default::default() }).unwrap()
        };
        assert!(!text(Precision::F32).contains("precision"));
        assert!(text(Precision::Bf16).contains(r#""precision":"bf16""#));
        let read: TrainingConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(read.precision, Precision::F32);
    }

    #[test]
    fn optimizer_and_limit_are_written_unless_they_are_the_default() {
        let text = |config: &TrainingConfig| serde_json::to_string(config).unwrap();
        let plain = text(&TrainingConfig::default());
        assert!(!plain.contains("optimizer") && !plain.contains("clip_norm"), "{plain}");
        let optimizer = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 };
        let config = TrainingConfig { optimizer, clip_norm: Some(12.0), ..Default::default() };
        let read: TrainingConfig = serde_json::from_str(&text(&config)).unwrap();
        assert_eq!(read, config);
    }

    #[test]
    fn ranges_are_checked() {
        let good = TrainingConfig::default();
        assert!(good.validate().is_ok());
        for bad in [
            TrainingConfig { epochs: 0, ..good },
            TrainingConfig { batch_size: 0, ..good },
            TrainingConfig { learning_rate: f64::NAN, ..good },
            TrainingConfig { learning_rate_decay: 1.1, ..good },
            TrainingConfig { clip_norm: Some(0.0), ..good },
            TrainingConfig {
                optimizer: OptimizerConfig::Sgd {
                    momentum: 1.0,
                    nesterov: false,
                    weight_decay: 0.0,
                },
                ..good
            },
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
    }
}
