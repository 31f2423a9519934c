//! The logistic function of single values and of whole maps.

use crate::{
    Isa,
    map_sums::{load, parts, store},
    math::Logistic,
    parallel::{SharedMut, for_each_task},
    simd::{LaneTask, Lanes},
};

/// Logistic function `1 / (1 + exp(-x))`, without overflow for any `x`.
///
/// # Examples
/// ```
/// assert_eq!(kernels::sigmoid(0.0), 0.5);
/// assert_eq!(kernels::sigmoid(-200.0), 0.0);
/// assert_eq!(kernels::sigmoid(200.0), 1.0);
/// ```
pub fn sigmoid(x: f32) -> f32 {
    let small = (-x.abs()).exp();
    let above = 1.0 / (1.0 + small);
    if x >= 0.0 { above } else { small * above }
}

/// Writes the logistic function of all `logits`, within 2.5 units in the last place; 0 under 1.2e-38.
///
/// # Panics
/// When the lengths differ.
///
/// # Examples
/// ```
/// let mut probabilities = [f32::NAN; 3];
/// kernels::sigmoids(&[0.0, -1e4, 1e4], &mut probabilities);
/// assert_eq!(probabilities, [0.5, 0.0, 1.0]);
/// ```
pub fn sigmoids(logits: &[f32], probabilities: &mut [f32]) {
    assert_eq!(logits.len(), probabilities.len(), "one probability a logit");
    let parts = parts([logits.len()].into_iter(), 1);
    let (isa, shared) = (Isa::current(), SharedMut::new(probabilities));
    for_each_task(parts.len(), |task| {
        let range = parts[task].range.clone();
        // SAFETY: parts do not overlap, and the buffer outlives them.
        let probabilities = unsafe { shared.slice(range.start, range.len()) };
        isa.run(Sigmoids { logits: &logits[range], probabilities });
    });
}

struct Sigmoids<'a> {
    logits: &'a [f32],
    probabilities: &'a mut [f32],
}

impl LaneTask for Sigmoids<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let len = self.logits.len();
        let whole = len - len % L::WIDTH;
        // SAFETY: `count` floats follow each place in both slices, which have one length.
        unsafe {
            for at in (0..whole).step_by(L::WIDTH) {
                let value = Logistic::of(load::<L, true>(self.logits, at, L::WIDTH)).value;
                store::<L, true>(value, self.probabilities.as_mut_ptr().add(at), L::WIDTH);
            }
            let count = len - whole;
            let value = Logistic::of(load::<L, false>(self.logits, whole, count)).value;
            store::<L, false>(value, self.probabilities.as_mut_ptr().add(whole), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::on_all_sets;

    #[test]
    fn both_halves_add_up_to_one() {
        for x in [0.0_f32, 0.3, 2.0, 10.0, 30.0, 90.0] {
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() <= f32::EPSILON, "{x}");
        }
    }

    #[test]
    fn small_values_keep_their_digits() {
        assert!((sigmoid(-50.0) / (-50.0_f32).exp() - 1.0).abs() < 1e-6);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn maps_agree_with_single_values() {
        for len in [0, 1, 15, 16, 37, 20_001] {
            let logits: Vec<f32> = (0..len).map(|at| (at as f32 * 0.37).sin() * 40.0).collect();
            let run = || {
                let mut found = vec![f32::NAN; len];
                sigmoids(&logits, &mut found);
                found
            };
            for found in on_all_sets(run) {
                for (found, &x) in found.iter().zip(&logits) {
                    assert!((found / sigmoid(x) - 1.0).abs() < 6e-7, "{x}: {found}");
                }
            }
        }
    }
}
