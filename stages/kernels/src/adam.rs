//! Adam over one flat buffer, in one pass.
//!
//! Source: Kingma and Ba, arXiv 1412.6980, in the form of PyTorch's `torch.optim.Adam` (epsilon is added after the
//! bias-corrected root), with the decoupled decay of `AdamW` (Loshchilov and Hutter, arXiv 1711.05101).

use crate::{
    Isa,
    map_sums::{load, store},
    optimizer::{TASK_FLOATS, clip_factor, gradient_norm},
    parallel::{SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

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
    /// Share of each value that is taken away in a step, per unit of step size (AdamW); 0 for none.
    pub weight_decay: f64,
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
            weight_decay: 0.0,
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

    /// Takes one step: changes `values` against `gradients`. Returns the norm of the gradient before the limit, NaN
    /// without a limit, as it is not needed then.
    ///
    /// # Panics
    /// When buffers differ in length.
    pub fn update(&mut self, config: &AdamConfig, values: &mut [f32], gradients: &[f32]) -> f64 {
        let Some(limit) = config.max_gradient_norm else {
            self.step(config, 1.0, values, gradients);
            return f64::NAN;
        };
        let norm = gradient_norm(&[gradients]);
        self.step(config, clip_factor(norm, limit), values, gradients);
        norm
    }

    /// Takes one step against `factor` times the `gradients`, whatever the limit of `config`.
    pub(crate) fn step(
        &mut self,
        config: &AdamConfig,
        factor: f64,
        values: &mut [f32],
        gradients: &[f32],
    ) {
        let len = values.len();
        assert!(
            [gradients.len(), self.first.len(), self.second.len()] == [len; 3],
            "one moment a parameter"
        );
        self.step += 1;
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let correction = [config.beta1, config.beta2].map(|beta| 1.0 - beta.powi(exponent));
        let step = Step {
            gradient_factor: factor as f32,
            kept: (1.0 - config.learning_rate * config.weight_decay) as f32,
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
    }
}

/// Numbers of one step.
#[derive(Clone, Copy)]
struct Step {
    gradient_factor: f32,
    kept: f32,
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
    unsafe fn run<L: Lanes>(mut self) {
        let len = self.values.len();
        let whole = len - len % L::WIDTH;
        // SAFETY: `count` floats from each place lie in all four slices, which have one length.
        unsafe {
            for at in (0..whole).step_by(L::WIDTH) {
                self.vector::<L, true>(at, L::WIDTH);
            }
            self.vector::<L, false>(whole, len - whole);
        }
    }
}

impl Update<'_> {
    #[inline(always)]
    unsafe fn vector<L: Lanes, const FULL: bool>(&mut self, at: usize, count: usize) {
        let step = self.step;
        // SAFETY: the caller promises `count` floats from `at` in all four slices, and the instructions.
        unsafe {
            let (value, first, second) = (
                self.values.as_mut_ptr().add(at),
                self.first.as_mut_ptr().add(at),
                self.second.as_mut_ptr().add(at),
            );
            let gradient = load::<L, FULL>(self.gradients, at, count);
            let gradient = gradient.mul(L::splat(step.gradient_factor));
            let m = load::<L, FULL>(self.first, at, count)
                .mul(L::splat(step.decay[0]))
                .add(gradient.mul(L::splat(step.gain[0])));
            let v = load::<L, FULL>(self.second, at, count)
                .mul(L::splat(step.decay[1]))
                .add(gradient.mul(gradient).mul(L::splat(step.gain[1])));
            let root = v.sqrt().mul_add(L::splat(step.inv_root), L::splat(step.epsilon));
            let change = m.div(root).mul(L::splat(step.size));
            let kept = load::<L, FULL>(self.values, at, count).mul(L::splat(step.kept));
            store::<L, FULL>(kept.add(change), value, count);
            store::<L, FULL>(m, first, count);
            store::<L, FULL>(v, second, count);
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
                values[at] *= 1.0 - config.learning_rate * config.weight_decay;
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
    fn decay_is_decoupled_from_the_gradient() {
        let config = AdamConfig { weight_decay: 0.3, learning_rate: 0.1, ..Default::default() };
        let (values, gradients) = (numbers(37, 1), vec![numbers(37, 2), numbers(37, 3)]);
        let expected = expected(&config, &values, &gradients);
        let run = || {
            let (mut found, mut state) = (values.clone(), AdamState::new(37));
            for gradients in &gradients {
                state.step(&config, 1.0, &mut found, gradients);
            }
            found
        };
        for found in on_all_sets(run) {
            assert_close(&found, &expected, "decay");
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
