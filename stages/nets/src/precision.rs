//! How passes are computed: the number format of activations, and what is kept for the way back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of activations and of their gradients in training.
///
/// Parameters, their gradients, statistics, sums, logits, losses and the optimizer are f32 or wider in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of mantissa.
    #[default]
    F32,
    /// 8 bits of mantissa and half the memory; weights are rounded to it where they meet activations.
    Bf16,
}

impl Precision {
    /// Whether this is the format that settings leave out: absent means f32.
    pub(crate) fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Name as in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How the passes of a network are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// Number format of activations.
    pub precision: Precision,
    /// Whether training passes keep only the inputs of blocks and compute the rest again on the way back: a third
    /// more time, less memory, the same bytes.
    pub recompute: bool,
}
