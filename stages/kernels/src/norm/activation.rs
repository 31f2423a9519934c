//! Functions after a normalization and how gradients pass them, in lanes.

use crate::simd::Lanes;

/// Function applied to each normalized value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// None: the value itself.
    Identity,
    /// Zero below zero, else the value; the gradient at zero is zero.
    #[default]
    Relu,
    /// The value above zero, else the value times `slope`; the gradient at zero is `slope`.
    LeakyRelu {
        /// Factor of negative values; 0.01 in PyTorch and in nnU-Net.
        slope: f32,
    },
}

impl Activation {
    /// Factor of negative values.
    pub(super) fn slope(self) -> f32 {
        match self {
            Activation::Identity => 1.0,
            Activation::Relu => 0.0,
            Activation::LeakyRelu { slope } => slope,
        }
    }
}

/// An [`Activation`] that is known when a loop is compiled.
pub(super) trait Act: Copy + Send + Sync {
    /// The activation of `line`.
    ///
    /// # Safety
    /// The machine has the instructions of `L`, here and below.
    unsafe fn apply<L: Lanes>(self, line: L) -> L;

    /// Gradient of the pre-activation `line`, given that of the activation.
    unsafe fn pass<L: Lanes>(self, gradient: L, line: L) -> L;
}

/// [`Activation::Relu`].
#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Act for Relu {
    #[inline(always)]
    unsafe fn apply<L: Lanes>(self, line: L) -> L {
        // SAFETY: the caller's promise, here and below.
        unsafe { line.relu() }
    }
    #[inline(always)]
    unsafe fn pass<L: Lanes>(self, gradient: L, line: L) -> L {
        // SAFETY: as above.
        unsafe { gradient.where_positive(line) }
    }
}

/// [`Activation::LeakyRelu`] and its slope; [`Activation::Identity`] is that of slope 1, exactly.
#[derive(Clone, Copy)]
pub(super) struct LeakyRelu(pub(super) f32);

impl Act for LeakyRelu {
    #[inline(always)]
    unsafe fn apply<L: Lanes>(self, line: L) -> L {
        // SAFETY: the caller's promise, here and below.
        unsafe { line.choose(line, line.mul(L::splat(self.0))) }
    }
    #[inline(always)]
    unsafe fn pass<L: Lanes>(self, gradient: L, line: L) -> L {
        // SAFETY: as above.
        unsafe { gradient.choose(line, gradient.mul(L::splat(self.0))) }
    }
}

/// Evaluates `$body` with `$act` bound to the [`Act`] of an [`Activation`].
macro_rules! with_act {
    ($activation:expr, |$act:ident| $body:expr) => {
        match $activation {
            $crate::norm::Activation::Relu => {
                let $act = $crate::norm::activation::Relu;
                $body
            }
            other => {
                let $act = $crate::norm::activation::LeakyRelu(other.slope());
                $body
            }
        }
    };
}
pub(super) use with_act;
