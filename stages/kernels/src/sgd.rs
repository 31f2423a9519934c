//! Stochastic gradient descent with momentum over one flat buffer, in one pass.
//!
//! Source: the rule of PyTorch's `torch.optim.SGD`: `g += decay · w`, `v = momentum · v + g` (at the first step `v = g`),
//! `w -= rate · v`, or with Nesterov's momentum `w -= rate · (g + momentum · v)`. nnU-Net (Isensee et al., Nature
//! Methods 2021) trains with momentum 0.99, Nesterov and decay 3e-5.

use crate::{
    Isa,
    map_sums::{load, store},
    optimizer::TASK_FLOATS,
    parallel::{SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// Settings of SGD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Share of the velocity that is kept; 0 for none.
    pub momentum: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// Share of each value that is added to its gradient; 0 for none.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    /// PyTorch's defaults, with its usual step size of 1e-3.
    fn default() -> Self {
        Self { learning_rate: 1e-3, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

/// Velocity and step count.
#[derive(Clone, Debug, PartialEq)]
pub struct SgdState {
    /// Velocity of each parameter; empty without momentum.
    pub velocity: Vec<f32>,
    /// Steps taken.
    pub step: u64,
}

impl SgdState {
    /// The state before the first step of `n_parameters`.
    pub fn new(config: &SgdConfig, n_parameters: usize) -> Self {
        let len = if config.momentum > 0.0 { n_parameters } else { 0 };
        Self { velocity: vec![0.0; len], step: 0 }
    }

    /// Takes one step: changes `values` against `factor` times the `gradients`.
    ///
    /// # Panics
    /// When buffers differ in length.
    pub fn update(
        &mut self,
        config: &SgdConfig,
        factor: f64,
        values: &mut [f32],
        gradients: &[f32],
    ) {
        let len = values.len();
        assert_eq!(gradients.len(), len, "one gradient a parameter");
        let has_velocity = config.momentum > 0.0;
        assert_eq!(self.velocity.len(), if has_velocity { len } else { 0 }, "one velocity each");
        self.step += 1;
        let numbers = Numbers {
            factor: factor as f32,
            decay: config.weight_decay as f32,
            // A velocity of zeros makes the first step PyTorch's.
            momentum: config.momentum as f32,
            size: -config.learning_rate as f32,
        };
        let isa = Isa::current();
        let [values, velocity] = [values, &mut self.velocity].map(SharedMut::new);
        for_each_task(len.div_ceil(TASK_FLOATS), |task| {
            let start = task * TASK_FLOATS;
            let count = TASK_FLOATS.min(len - start);
            let velocities = if has_velocity { start..start + count } else { 0..0 };
            // SAFETY: tasks have ranges of their own, and the buffers outlive them.
            let (values, velocity) = unsafe {
                (values.slice(start, count), velocity.slice(velocities.start, velocities.len()))
            };
            let gradients = &gradients[start..start + count];
            isa.run(Update { numbers, nesterov: config.nesterov, gradients, values, velocity });
        });
    }
}

/// Numbers of one step.
#[derive(Clone, Copy)]
struct Numbers {
    factor: f32,
    decay: f32,
    momentum: f32,
    size: f32,
}

struct Update<'a> {
    numbers: Numbers,
    nesterov: bool,
    gradients: &'a [f32],
    values: &'a mut [f32],
    /// Of the same length, or empty without momentum.
    velocity: &'a mut [f32],
}

impl LaneTask for Update<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let len = self.values.len();
        let whole = len - len % L::WIDTH;
        // SAFETY: `count` floats from each place lie in the slices.
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
        let Numbers { factor, decay, momentum, size } = self.numbers;
        // SAFETY: the caller promises `count` floats from `at` in the slices, and the instructions.
        unsafe {
            let value = load::<L, FULL>(self.values, at, count);
            let gradient = load::<L, FULL>(self.gradients, at, count).mul(L::splat(factor));
            let gradient = value.mul_add(L::splat(decay), gradient);
            let mut change = gradient;
            if !self.velocity.is_empty() {
                let velocity = load::<L, FULL>(self.velocity, at, count);
                let velocity = velocity.mul_add(L::splat(momentum), gradient);
                store::<L, FULL>(velocity, self.velocity.as_mut_ptr().add(at), count);
                change = velocity;
                if self.nesterov {
                    change = velocity.mul_add(L::splat(momentum), gradient);
                }
            }
            let moved = change.mul_add(L::splat(size), value);
            store::<L, FULL>(moved, self.values.as_mut_ptr().add(at), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{assert_close, numbers, on_all_sets};

    /// PyTorch's rule in f64.
    fn expected(config: &SgdConfig, factor: f64, values: &[f32], all: &[Vec<f32>]) -> Vec<f64> {
        let mut values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let mut velocity: Option<Vec<f64>> = None;
        for gradients in all {
            let gradients: Vec<f64> = gradients
                .iter()
                .zip(&values)
                .map(|(&g, value)| factor * f64::from(g) + config.weight_decay * value)
                .collect();
            let kept = velocity.take().unwrap_or_else(|| vec![0.0; values.len()]);
            let next: Vec<f64> =
                kept.iter().zip(&gradients).map(|(v, g)| config.momentum * v + g).collect();
            for (at, value) in values.iter_mut().enumerate() {
                let ahead = gradients[at] + config.momentum * next[at];
                *value -= config.learning_rate * if config.nesterov { ahead } else { next[at] };
            }
            velocity = Some(next);
        }
        values
    }

    #[test]
    fn steps_follow_the_rule() {
        let plain = SgdConfig { learning_rate: 0.1, ..SgdConfig::default() };
        let heavy = SgdConfig { momentum: 0.9, ..plain };
        let nnunet = SgdConfig { momentum: 0.99, nesterov: true, weight_decay: 3e-2, ..plain };
        for config in [plain, heavy, nnunet] {
            for len in [1, 37, 70_000] {
                let values = numbers(len, 1);
                let gradients: Vec<Vec<f32>> = (2..6).map(|seed| numbers(len, seed)).collect();
                let run = || {
                    let (mut found, mut state) = (values.clone(), SgdState::new(&config, len));
                    let each = gradients.iter();
                    each.for_each(|gradients| state.update(&config, 0.5, &mut found, gradients));
                    (found, state)
                };
                for (found, state) in on_all_sets(run) {
                    let expected = expected(&config, 0.5, &values, &gradients);
                    assert_close(&found, &expected, &format!("{config:?}, {len}"));
                    assert_eq!(state.step, 4);
                }
            }
        }
    }

    #[test]
    fn the_worked_step_of_pytorch_comes_out() {
        // w = 1, g = 1 twice, rate 0.1, momentum 0.9: without Nesterov 0.9 and 0.71, with it 0.81 and 0.539.
        for (nesterov, expected) in [(false, [0.9, 0.71]), (true, [0.81, 0.539])] {
            let config =
                SgdConfig { learning_rate: 0.1, momentum: 0.9, nesterov, weight_decay: 0.0 };
            let (mut state, mut value) = (SgdState::new(&config, 1), [1.0_f32]);
            for expected in expected {
                state.update(&config, 1.0, &mut value, &[1.0]);
                assert!((value[0] - expected).abs() < 1e-6, "{value:?}");
            }
        }
    }
}
