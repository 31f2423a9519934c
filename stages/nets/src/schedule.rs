//! Learning rate and weight of the consistency loss as functions of time.
//!
//! Source: arXiv 2304.00466v2, III-D (α "sigmoid-shaped monotone", at most 1) and IV-B (Adam, 1e-3, × 0.96 per epoch).
//! Deviation: shape and length of the ramp of α are not in the paper; shape after Laine and Aila 2017, length ours.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NetsError;

/// Learning rate of `epoch` (from 0): `initial · decay^epoch`.
///
/// # Examples
/// ```
/// assert_eq!(nets::learning_rate(1e-3, 0.5, 2), 0.25e-3);
/// ```
pub fn learning_rate(initial: f64, decay: f64, epoch: usize) -> f64 {
    initial * decay.powi(i32::try_from(epoch).unwrap_or(i32::MAX))
}

/// Form of the ramp from 0 to 1 over `x = t / T`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RampShape {
    /// `exp(−5 (1 − x)²)`, 1 from `x = 1` on; 0.0067 at the start.
    #[default]
    Exponential,
    /// `1 / (1 + exp(−10 (x − ½)))`, going on past `x = 1`; 0.0067 at the start, 0.9933 at `x = 1`.
    Logistic,
    /// `x`, 1 from `x = 1` on.
    Linear,
}

/// Growth of the weight α of the consistency loss (Eq. 8) over the steps of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ramp {
    /// Form of the ramp; default exponential.
    pub shape: RampShape,
    /// Length T as a share of all steps, in (0, 1]; default 0.4.
    pub fraction: f64,
}

impl Default for Ramp {
    fn default() -> Self {
        Self { shape: RampShape::default(), fraction: 0.4 }
    }
}

impl Ramp {
    /// α at `step` (from 0) of `n_steps`, in [0, 1]; monotone in `step`.
    pub fn at(&self, step: usize, n_steps: usize) -> f64 {
        let length = self.fraction * n_steps as f64;
        let x = if length > 0.0 { step as f64 / length } else { 1.0 };
        match self.shape {
            RampShape::Exponential => (-5.0 * (1.0 - x.min(1.0)).powi(2)).exp(),
            RampShape::Logistic => 1.0 / (1.0 + (-10.0 * (x - 0.5)).exp()),
            RampShape::Linear => x.min(1.0),
        }
    }

    /// Checks the range of the length.
    ///
    /// # Errors
    /// [`NetsError::Config`] if `fraction` is not in (0, 1].
    pub fn validate(&self) -> Result<(), NetsError> {
        let good = self.fraction > 0.0 && self.fraction <= 1.0;
        NetsError::check("consistency.ramp.fraction", "a share in (0, 1]", self.fraction, good)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    const CLOSE: f64 = 1e-4;

    #[test]
    fn learning_rate_decays_by_the_epoch() {
        assert_eq!(learning_rate(1e-3, 0.96, 0), 1e-3);
        assert!((learning_rate(1e-3, 0.96, 106) / 1e-3 - 0.0132).abs() < CLOSE);
        assert!((learning_rate(1e-3, 0.96, 152) / 1e-3 - 0.0020).abs() < CLOSE);
    }

    #[test]
    fn ramps_start_low_end_at_one_and_never_fall() {
        for (shape, first, end) in [
            (RampShape::Exponential, 0.0067, 1.0),
            (RampShape::Logistic, 0.0067, 0.9933),
            (RampShape::Linear, 0.0, 1.0),
        ] {
            let ramp = Ramp { shape, fraction: 0.4 };
            assert!((ramp.at(0, 100) - first).abs() < CLOSE, "{shape:?}");
            assert!((ramp.at(40, 100) - end).abs() < CLOSE, "{shape:?}");
            let values: Vec<f64> = (0..=100).map(|step| ramp.at(step, 100)).collect();
            assert!(values.is_sorted() && values[100] <= 1.0, "{shape:?}");
        }
    }

    #[test]
    fn a_length_outside_its_range_is_refused() {
        for fraction in [0.0, -0.1, 1.5, f64::NAN] {
            let refused = Ramp { shape: RampShape::Linear, fraction }.validate();
            assert!(matches!(refused, Err(NetsError::Config { .. })), "{fraction}");
        }
    }
}
