//! Adam over one flat buffer, in one pass.
//!
//! Source: Kingma and Ba, arXiv 1412.6980, in the form of PyTorch's `torch.optim.Adam` (epsilon is added after the
//! bias-corrected root). The squared norm of the gradient is summed in a fixed order.

use crate::{
    Isa,
    parallel::{SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// Floats of one task.
const TASK_FLOATS: usize = 32 * 1024;

/// Adam's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Greatest Euclidean norm of the whole gradient; a longer one is scaled down to it.
    pub max_gradient_norm: Option<f64>,
}

impl Default for AdamConfig {
    /// PyTorch's defaults, without a limit on the gradient.
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_gradient_norm: None,
        }
    }
}

/// Moments and step count: everything that a checkpoint must keep to go on with the same numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamState {
    /// First moment of each parameter.
    pub first: Vec<f32>,
    /// Second moment of each parameter.
    pub second: Vec<f32>,
    /// Steps taken.
    pub step: u64,
}

impl AdamState {
    /// The state before the first step of `n_parameters`.
    pub fn new(n_parameters: usize) -> Self {
        Self { first: vec![0.0; n_parameters], second: vec![0.0; n_parameters], step: 0 }
    }

    /// Takes one step: changes `values` against `gradients`. Returns the norm of the gradient before any limit.
    ///
    /// # Panics
    /// When buffers differ in length.
    pub fn update(&mut self, config: &AdamConfig, values: &mut [f32], gradients: &[f32]) -> f64 {
        let len = values.len();
        assert!(
            [gradients.len(), self.first.len(), self.second.len()] == [len; 3],
            "one moment a parameter"
        );
        let norm = gradient_norm(gradients);
        // As in PyTorch's `clip_grad_norm_`, which guards against division by zero in the same way.
        let limit = config.max_gradient_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        self.step += 1;
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let correction = [config.beta1, config.beta2].map(|beta| 1.0 - beta.powi(exponent));
        let step = Step {
            gradient_factor: limit as f32,
            decay: [config.beta1 as f32, config.beta2 as f32],
            gain: [(1.0 - config.beta1) as f32, (1.0 - config.beta2) as f32],
            size: -(config.learning_rate / correction[0]) as f32,
            inv_root: (1.0 / correction[1].sqrt()) as f32,
            epsilon: config.epsilon as f32,
        };
        let isa = Isa::current();
        let [values, first, second] =
            [values, &mut self.first, &mut self.second].map(SharedMut::new);
        for_each_task(len.div_ceil(TASK_FLOATS), |task| {
            let start = task * TASK_FLOATS;
            let count = TASK_FLOATS.min(len - start);
            // SAFETY: tasks have ranges of their own, and the buffers outlive them.
            let [values, first, second] =
                [values, first, second].map(|all| unsafe { all.slice(start, count) });
            isa.run(Update {
                step,
                gradients: &gradients[start..start + count],
                values,
                first,
                second,
            });
        });
        norm
    }
}

/// Euclidean norm of `gradients`, summed in f64 in a fixed order.
fn gradient_norm(gradients: &[f32]) -> f64 {
    let isa = Isa::current();
    let n_tasks = gradients.len().div_ceil(TASK_FLOATS);
    let mut squares = vec![0.0_f32; n_tasks];
    let shared = SharedMut::new(&mut squares);
    for_each_task(n_tasks, |task| {
        let range = task * TASK_FLOATS..((task + 1) * TASK_FLOATS).min(gradients.len());
        // SAFETY: each task writes the float of its own number, and `squares` outlives them.
        let square = unsafe { shared.slice(task, 1) };
        square[0] = isa.run(Squares { values: &gradients[range] });
    });
    squares.iter().map(|&sum| f64::from(sum)).sum::<f64>().sqrt()
}

/// Sum of squares.
struct Squares<'a> {
    values: &'a [f32],
}

impl LaneTask for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> f32 {
        let mut lanes = [0.0_f32; 16];
        // SAFETY: `count` floats from `at` lie in the slice; no set has more than sixteen lanes.
        unsafe {
            let mut sum = L::zero();
            for at in (0..self.values.len()).step_by(L::WIDTH) {
                let count = (self.values.len() - at).min(L::WIDTH);
                let value = L::load_first(self.values.as_ptr().add(at), count);
                sum = value.mul_add(value, sum);
            }
            sum.store(lanes.as_mut_ptr());
        }
        lanes.iter().sum()
    }
}

/// Numbers of one step.
#[derive(Clone, Copy)]
struct Step {
    gradient_factor: f32,
    decay: [f32; 2],
    gain: [f32; 2],
    size: f32,
    inv_root: f32,
    epsilon: f32,
}

struct Update<'a> {
    step: Step,
    gradients: &'a [f32],
    values: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl LaneTask for Update<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let step = self.step;
        for at in (0..self.values.len()).step_by(L::WIDTH) {
            let count = (self.values.len() - at).min(L::WIDTH);
            // SAFETY: `count` floats from `at` lie in all four slices, which have one length.
            unsafe {
                let (value, first, second) = (
                    self.values.as_mut_ptr().add(at),
                    self.first.as_mut_ptr().add(at),
                    self.second.as_mut_ptr().add(at),
                );
                let gradient = L::load_first(self.gradients.as_ptr().add(at), count)
                    .mul(L::splat(step.gradient_factor));
                let m = L::load_first(first, count)
                    .mul(L::splat(step.decay[0]))
                    .add(gradient.mul(L::splat(step.gain[0])));
                let v = L::load_first(second, count)
                    .mul(L::splat(step.decay[1]))
                    .add(gradient.mul(gradient).mul(L::splat(step.gain[1])));
                let root = v.sqrt().mul_add(L::splat(step.inv_root), L::splat(step.epsilon));
                let change = m.div(root).mul(L::splat(step.size));
                L::load_first(value, count).add(change).store_first(value, count);
                m.store_first(first, count);
                v.store_first(second, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{assert_close, numbers, on_all_sets};

    /// Adam as in the paper, in f64.
    fn expected(config: &AdamConfig, values: &[f32], gradients: &[Vec<f32>]) -> Vec<f64> {
        let mut values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let (mut m, mut v) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        for (step, gradients) in (1..).zip(gradients) {
            let norm = gradients.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let limit =
                config.max_gradient_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
            for (at, &gradient) in gradients.iter().enumerate() {
                let gradient = f64::from(gradient) * limit;
                m[at] = config.beta1 * m[at] + (1.0 - config.beta1) * gradient;
                v[at] = config.beta2 * v[at] + (1.0 - config.beta2) * gradient * gradient;
                let root = (v[at] / (1.0 - config.beta2.powi(step))).sqrt() + config.epsilon;
                values[at] -= config.learning_rate * m[at] / (1.0 - config.beta1.powi(step)) / root;
            }
        }
        values
    }

    #[test]
    fn steps_follow_the_formula() {
        let limited =
            AdamConfig { max_gradient_norm: Some(0.5), learning_rate: 0.1, ..Default::default() };
        for (config, len) in [(AdamConfig::default(), 3), (limited, 1001), (limited, 70_000)] {
            let values = numbers(len, 1);
            let gradients: Vec<Vec<f32>> = (2..6).map(|seed| numbers(len, seed)).collect();
            let expected = expected(&config, &values, &gradients);
            let run = || {
                let (mut found, mut state) = (values.clone(), AdamState::new(len));
                for gradients in &gradients {
                    state.update(&config, &mut found, gradients);
                }
                (found, state)
            };
            for (found, state) in on_all_sets(run) {
                assert_close(&found, &expected, &format!("{len}"));
                assert_eq!(state.step, 4);
            }
        }
    }

    #[test]
    fn norm_is_that_before_the_limit() {
        let config = AdamConfig { max_gradient_norm: Some(1.0), ..Default::default() };
        let norm = AdamState::new(2).update(&config, &mut [0.0, 0.0], &[3.0, -4.0]);
        assert!((norm - 5.0).abs() < 1e-6);
    }

    #[test]
    fn zero_gradient_changes_nothing() {
        let config = AdamConfig { max_gradient_norm: Some(1.0), ..Default::default() };
        let mut values = [1.0, -2.0];
        AdamState::new(2).update(&config, &mut values, &[0.0, 0.0]);
        assert_eq!(values, [1.0, -2.0]);
    }
}
