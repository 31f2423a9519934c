//! Settings of the optimizer of a training.
//!
//! Source: Adam with PyTorch's numbers, as in arXiv 2304.00466v2, IV-B. Deviation: decay and SGD (nnU-Net trains with
//! momentum 0.99, Nesterov's look ahead and decay 3e-5; Isensee et al., Nature Methods 2021) are not in the paper.

use kernels::{AdamConfig, Optimizer, SgdConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NetsError;

/// Which rule changes the weights, and its numbers; the learning rate is that of the training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam, or AdamW with a decay.
    Adam {
        /// Decay of the first moment, in [0, 1). Default 0.9.
        #[serde(default = "beta1")]
        beta1: f64,
        /// Decay of the second moment, in [0, 1). Default 0.999.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Added to the root of the second moment, in (0, 1]. Default 1e-8.
        #[serde(default = "epsilon")]
        epsilon: f64,
        /// Share of each weight that a step takes away, per unit of learning rate, in [0, 1). Default 0.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the velocity that is kept, in [0, 1). Default 0.
        #[serde(default)]
        momentum: f64,
        /// Whether a step looks ahead along the velocity; needs a momentum. Default no.
        #[serde(default)]
        nesterov: bool,
        /// Share of each weight that is added to its gradient, in [0, 1). Default 0.
        #[serde(default)]
        weight_decay: f64,
    },
}

fn beta1() -> f64 {
    AdamConfig::default().beta1
}

fn beta2() -> f64 {
    AdamConfig::default().beta2
}

fn epsilon() -> f64 {
    AdamConfig::default().epsilon
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adam { beta1: beta1(), beta2: beta2(), epsilon: epsilon(), weight_decay: 0.0 }
    }
}

impl OptimizerConfig {
    /// Whether these are the settings that are left out: absent means Adam with PyTorch's numbers.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the ranges stated at the fields.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first field outside its range.
    pub fn validate(&self) -> Result<(), NetsError> {
        let share = |field, value: f64| {
            NetsError::check(field, "a share in [0, 1)", value, (0.0..1.0).contains(&value))
        };
        match *self {
            Self::Adam { beta1, beta2, epsilon, weight_decay } => {
                share("optimizer.beta1", beta1)?;
                share("optimizer.beta2", beta2)?;
                let good = epsilon > 0.0 && epsilon <= 1.0;
                NetsError::check("optimizer.epsilon", "a number in (0, 1]", epsilon, good)?;
                share("optimizer.weight_decay", weight_decay)
            }
            Self::Sgd { momentum, nesterov, weight_decay } => {
                share("optimizer.momentum", momentum)?;
                let good = !nesterov || momentum > 0.0;
                NetsError::check("optimizer.nesterov", "false without momentum", nesterov, good)?;
                share("optimizer.weight_decay", weight_decay)
            }
        }
    }

    /// The optimizer with this step size; limits on the gradient are the training's.
    pub fn with_learning_rate(&self, learning_rate: f64) -> Optimizer {
        match *self {
            Self::Adam { beta1, beta2, epsilon, weight_decay } => Optimizer::Adam(AdamConfig {
                learning_rate,
                beta1,
                beta2,
                epsilon,
                weight_decay,
                max_gradient_norm: None,
            }),
            Self::Sgd { momentum, nesterov, weight_decay } => {
                Optimizer::Sgd(SgdConfig { learning_rate, momentum, nesterov, weight_decay })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    #[test]
    fn missing_numbers_are_the_defaults_and_unknown_ones_are_refused() {
        let read = |text: &str| serde_json::from_str::<OptimizerConfig>(text);
        assert!(read(r#"{"kind":"adam"}"#).unwrap().is_default());
        let sgd = read(r#"{"kind":"sgd","momentum":0.99,"nesterov":true}"#).unwrap();
        let expected = OptimizerConfig::Sgd { momentum: 0.99, nesterov: true, weight_decay: 0.0 };
        assert_eq!(sgd, expected);
        let default = OptimizerConfig::default().with_learning_rate(1e-3);
        assert_eq!(default, Optimizer::Adam(AdamConfig::default()));
        for bad in [r#"{"kind":"lion"}"#, r#"{"kind":"adam","momentum":0.9}"#, "{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        let adam = |beta1, beta2, epsilon, weight_decay| OptimizerConfig::Adam {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        };
        let sgd = |momentum, nesterov, weight_decay| OptimizerConfig::Sgd {
            momentum,
            nesterov,
            weight_decay,
        };
        for good in [OptimizerConfig::default(), sgd(0.0, false, 0.0), sgd(0.99, true, 3e-5)] {
            assert!(good.validate().is_ok(), "{good:?}");
        }
        for bad in [
            adam(1.0, 0.999, 1e-8, 0.0),
            adam(0.9, f64::NAN, 1e-8, 0.0),
            adam(0.9, 0.999, 0.0, 0.0),
            adam(0.9, 0.999, 1e-8, -0.1),
            sgd(1.0, false, 0.0),
            sgd(0.0, true, 0.0),
            sgd(0.9, true, 1.0),
        ] {
            assert!(matches!(bad.validate(), Err(NetsError::Config { .. })), "{bad:?}");
        }
    }
}
