//! Optimizers over flat buffers of parameters: Adam or SGD by one name, and clipping by the norm of all gradients.

use crate::{
    AdamConfig, AdamState, Isa, SgdConfig, SgdState,
    map_sums::load,
    parallel::{SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// Floats of one task.
pub(crate) const TASK_FLOATS: usize = 32 * 1024;

/// An optimizer and its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adam, or AdamW with a decay.
    Adam(AdamConfig),
    /// Stochastic gradient descent.
    Sgd(SgdConfig),
}

impl Optimizer {
    /// The same with another step size.
    pub fn with_learning_rate(self, learning_rate: f64) -> Self {
        match self {
            Self::Adam(config) => Self::Adam(AdamConfig { learning_rate, ..config }),
            Self::Sgd(config) => Self::Sgd(SgdConfig { learning_rate, ..config }),
        }
    }

    /// The state before the first step of `n_parameters`.
    pub fn start(&self, n_parameters: usize) -> OptimizerState {
        match self {
            Self::Adam(_) => OptimizerState::Adam(AdamState::new(n_parameters)),
            Self::Sgd(config) => OptimizerState::Sgd(SgdState::new(config, n_parameters)),
        }
    }
}

/// What an optimizer remembers of one buffer: everything that a checkpoint must keep to go on with the same numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum OptimizerState {
    /// Of [`Optimizer::Adam`].
    Adam(AdamState),
    /// Of [`Optimizer::Sgd`].
    Sgd(SgdState),
}

impl OptimizerState {
    /// Takes one step: changes `values` against `factor` times the `gradients`. Limits in the settings of one buffer
    /// are not applied: `factor` is [`clip_factor`] of the norm over all buffers, or 1.
    ///
    /// # Panics
    /// When buffers differ in length, or the state is one of another optimizer.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        factor: f64,
        values: &mut [f32],
        gradients: &[f32],
    ) {
        match (self, optimizer) {
            (Self::Adam(state), Optimizer::Adam(config)) => {
                state.step(config, factor, values, gradients);
            }
            (Self::Sgd(state), Optimizer::Sgd(config)) => {
                state.update(config, factor, values, gradients);
            }
            (state, optimizer) => unreachable!("{optimizer:?} with the state of {}", state.name()),
        }
    }

    /// Steps taken.
    pub fn n_steps(&self) -> u64 {
        match self {
            Self::Adam(state) => state.step,
            Self::Sgd(state) => state.step,
        }
    }

    /// `adam` or `sgd`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adam",
            Self::Sgd(_) => "sgd",
        }
    }

    /// Buffers of the state with their names, in a fixed order.
    pub fn buffers(&self) -> Vec<(&'static str, &[f32])> {
        match self {
            Self::Adam(state) => vec![("first", &state.first), ("second", &state.second)],
            Self::Sgd(state) => vec![("velocity", &state.velocity)],
        }
    }
}

/// Euclidean norm of all `gradients` together; sums are f32 over 32768 numbers and f64 beyond, in a fixed order.
///
/// # Examples
/// ```
/// assert_eq!(kernels::gradient_norm(&[&[3.0], &[], &[0.0, -4.0]]), 5.0);
/// ```
pub fn gradient_norm(gradients: &[&[f32]]) -> f64 {
    let isa = Isa::current();
    let tasks: Vec<&[f32]> = gradients.iter().flat_map(|all| all.chunks(TASK_FLOATS)).collect();
    let mut squares = vec![0.0_f32; tasks.len()];
    let shared = SharedMut::new(&mut squares);
    for_each_task(tasks.len(), |task| {
        // SAFETY: each task writes the float of its own number, and `squares` outlives them.
        let square = unsafe { shared.slice(task, 1) };
        square[0] = isa.run(Squares { values: tasks[task] });
    });
    squares.iter().map(|&sum| f64::from(sum)).sum::<f64>().sqrt()
}

/// Factor on gradients of norm `norm` that limits it to `limit`.
///
/// As in PyTorch's `clip_grad_norm_`, which guards against division by zero in the same way; NaN for a norm of NaN,
/// so that what is wrong stays visible.
///
/// # Examples
/// ```
/// assert_eq!(kernels::clip_factor(0.5, 1.0), 1.0);
/// assert!((kernels::clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
/// ```
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    let factor = limit / (norm + 1e-6);
    if factor > 1.0 { 1.0 } else { factor }
}

/// Sum of squares.
struct Squares<'a> {
    values: &'a [f32],
}

impl LaneTask for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> f32 {
        let len = self.values.len();
        let mut lanes = [0.0_f32; 16];
        // SAFETY: `count` floats from `at` lie in the slice; no set has more than sixteen lanes.
        unsafe {
            // Four sums hide the latency of the additions.
            let mut sums = [L::zero(); 4];
            let mut at = 0;
            while at + 4 * L::WIDTH <= len {
                for (part, sum) in sums.iter_mut().enumerate() {
                    let value = load::<L, true>(self.values, at + part * L::WIDTH, L::WIDTH);
                    *sum = value.mul_add(value, *sum);
                }
                at += 4 * L::WIDTH;
            }
            while at < len {
                let count = (len - at).min(L::WIDTH);
                let value = load::<L, false>(self.values, at, count);
                sums[0] = value.mul_add(value, sums[0]);
                at += count;
            }
            sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(lanes.as_mut_ptr());
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{numbers, on_all_sets};

    #[test]
    fn norm_is_that_of_all_buffers_together() {
        for (first, second) in [(0, 1), (37, 100_001), (64, 65)] {
            let (first, second) = (numbers(first, 1), numbers(second, 2));
            let all = first.iter().chain(&second);
            let expected = all.map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            for found in on_all_sets(|| gradient_norm(&[&first, &second])) {
                assert!((found / expected - 1.0).abs() < 1e-6, "{found} and {expected}");
            }
        }
        assert_eq!(gradient_norm(&[]), 0.0);
        assert!(gradient_norm(&[&[1.0, f32::NAN]]).is_nan());
    }

    #[test]
    fn clipping_shortens_only_what_is_too_long() {
        assert_eq!([0.0, 0.9, 1.0 - 1e-6].map(|norm| clip_factor(norm, 1.0)), [1.0; 3]);
        assert!(
            (clip_factor(12.0, 3.0) - 0.25).abs() < 1e-6 && clip_factor(f64::NAN, 1.0).is_nan()
        );
    }

    #[test]
    fn states_follow_their_optimizer() {
        let adam = Optimizer::Adam(AdamConfig::default());
        let sgd = SgdConfig { momentum: 0.9, ..SgdConfig::default() };
        for optimizer in [adam, Optimizer::Sgd(sgd)] {
            let mut state = optimizer.start(3);
            let mut values = [1.0, 2.0, 3.0];
            let slow = optimizer.with_learning_rate(1e-6);
            state.update(&slow, 0.5, &mut values, &[1.0, 0.0, -1.0]);
            assert!(values[0] < 1.0 && values[0] > 0.999 && values[2] > 3.0, "{values:?}");
            assert_eq!((values[1], state.n_steps()), (2.0, 1));
            assert!(state.buffers().iter().all(|(_, buffer)| buffer.len() == 3));
        }
    }
}
