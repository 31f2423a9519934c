//! Exponential and logarithm of whole vectors, and the logistic function made of them.
//!
//! Source: the polynomials are those of Cephes' single-precision `expf` and `logf` (S. L. Moshier). Errors against
//! f64 are under 2.5 units in the last place on all sets, see the tests. Results under the smallest normal number are
//! zero, so that no denormal number slows a loop down. NaN stays NaN.

use crate::simd::Lanes;

/// Adding it rounds a small number to the nearest whole one.
const ROUNDING: f32 = 1.5 * (1_u32 << 23) as f32;
/// Upper and lower digits of ln 2.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `e^x`; 0 under -87.7 and infinite over 88.4.
///
/// # Safety
/// The machine has the instructions of `L`; so for all functions here.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        // In this order of arguments NaN stays NaN.
        exp_between(L::splat(88.8).min(L::splat(-88.0).max(x)))
    }
}

/// `e^x` for `x` in [-88, 88.8].
#[inline(always)]
unsafe fn exp_between<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let shifted = x.mul_add(L::splat(std::f32::consts::LOG2_E), L::splat(ROUNDING));
        let power = shifted.sub(L::splat(ROUNDING));
        let rest = power.mul_add(L::splat(-LN_2[0]), x);
        let rest = power.mul_add(L::splat(-LN_2[1]), rest);
        let sum = L::splat(1.987_569_1e-4);
        let sum = sum.mul_add(rest, L::splat(1.398_2e-3));
        let sum = sum.mul_add(rest, L::splat(8.333_452e-3));
        let sum = sum.mul_add(rest, L::splat(4.166_579_6e-2));
        let sum = sum.mul_add(rest, L::splat(1.666_666_5e-1));
        let sum = sum.mul_add(rest, L::splat(0.5));
        let small = sum.mul_add(rest.mul(rest), rest);
        small.add(L::splat(1.0)).mul(power.power_of_two())
    }
}

/// `ln(1 + f)` for `f` in [√½ - 1, √2 - 1].
#[inline(always)]
unsafe fn ln_near_one<L: Lanes>(f: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let square = f.mul(f);
        let sum = L::splat(7.037_683_6e-2);
        let sum = sum.mul_add(f, L::splat(-1.151_461e-1));
        let sum = sum.mul_add(f, L::splat(1.167_699_9e-1));
        let sum = sum.mul_add(f, L::splat(-1.242_014_1e-1));
        let sum = sum.mul_add(f, L::splat(1.424_932_3e-1));
        let sum = sum.mul_add(f, L::splat(-1.666_805_8e-1));
        let sum = sum.mul_add(f, L::splat(2.000_071_5e-1));
        let sum = sum.mul_add(f, L::splat(-2.499_999_4e-1));
        let sum = sum.mul_add(f, L::splat(0.333_333_3));
        let sum = sum.mul_add(f, L::splat(-0.5));
        sum.mul_add(square, f)
    }
}

/// `ln(x)` for a positive normal `x`.
#[inline(always)]
pub(crate) unsafe fn ln<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (mantissa, exponent) = x.split_exponent();
        let small = ln_near_one(mantissa.sub(L::splat(1.0)));
        let small = exponent.mul_add(L::splat(LN_2[1]), small);
        // The gate is above zero for every number that is not NaN.
        exponent.mul_add(L::splat(LN_2[0]), small).choose(L::splat(f32::MAX).min(x), x)
    }
}

/// `ln(1 + t)` for `t` in [0, 1].
#[inline(always)]
pub(crate) unsafe fn ln_1p<L: Lanes>(t: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        // Above √2 - 1 half of the argument is taken: (1 + t)/2 = 1 + (t - 1)/2, exactly.
        let gate = t.sub(L::splat(std::f32::consts::SQRT_2 - 1.0));
        let half = t.sub(L::splat(1.0)).mul(L::splat(0.5));
        let small = ln_near_one(half.choose(gate, t));
        small.add(L::splat(std::f32::consts::LN_2).where_positive(gate))
    }
}

/// The logistic function of a logit `x`.
#[derive(Clone, Copy)]
pub(crate) struct Logistic<L> {
    /// `1 / (1 + e^(-x))`.
    pub(crate) value: L,
    /// `e^(-|x|)`, with which `softplus(x) = max(x, 0) + ln(1 + tail)`.
    pub(crate) tail: L,
}

impl<L: Lanes> Logistic<L> {
    #[inline(always)]
    pub(crate) unsafe fn of(x: L) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            // In this order of arguments NaN stays NaN.
            let tail = exp_between(L::splat(-88.0).max(L::zero().sub(x.abs())));
            let larger = L::splat(1.0).div(L::splat(1.0).add(tail));
            Self { value: larger.choose(x, tail.mul(larger)), tail }
        }
    }
}

/// Degree of [`ShortExp`].
const SHORT_DEGREE: usize = 6;

/// `e^(a + bq)` for `q` in [0, 1] and `|b| <= 1` as one polynomial in `q - ½`: a third of the work of [`exp`].
///
/// It is the Chebyshev series cut after degree 6; its relative error is under 3e-8 before rounding.
#[derive(Clone, Copy)]
pub(crate) struct ShortExp([f32; SHORT_DEGREE + 1]);

impl ShortExp {
    /// None when `|b| > 1`.
    pub(crate) fn new(a: f64, b: f64) -> Option<Self> {
        if b.abs() > 1.0 {
            return None;
        }
        // Interpolation at the Chebyshev nodes of [-½, ½] by divided differences (Newton's form), expanded.
        let n = SHORT_DEGREE + 1;
        let angle = |node: usize| std::f64::consts::PI * (2 * node + 1) as f64 / (2 * n) as f64;
        let nodes: Vec<f64> = (0..n).map(|node| 0.5 * angle(node).cos()).collect();
        let mut differences: Vec<f64> = nodes.iter().map(|h| (a + b * (h + 0.5)).exp()).collect();
        for order in 1..n {
            for at in (order..n).rev() {
                let step = nodes[at] - nodes[at - order];
                differences[at] = (differences[at] - differences[at - 1]) / step;
            }
        }
        let mut powers = [0.0; SHORT_DEGREE + 1];
        for (node, difference) in nodes.iter().zip(&differences).rev() {
            for power in (0..n).rev() {
                let lower = if power == 0 { 0.0 } else { powers[power - 1] };
                powers[power] = lower - node * powers[power];
            }
            powers[0] += difference;
        }
        Some(Self(powers.map(|power| power as f32)))
    }

    /// The value at `q`.
    #[inline(always)]
    pub(crate) unsafe fn at<L: Lanes>(&self, q: L) -> L {
        // SAFETY: the caller's promise.
        unsafe {
            let h = q.sub(L::splat(0.5));
            let mut sum = L::splat(self.0[SHORT_DEGREE]);
            sum = sum.mul_add(h, L::splat(self.0[5]));
            sum = sum.mul_add(h, L::splat(self.0[4]));
            sum = sum.mul_add(h, L::splat(self.0[3]));
            sum = sum.mul_add(h, L::splat(self.0[2]));
            sum = sum.mul_add(h, L::splat(self.0[1]));
            sum.mul_add(h, L::splat(self.0[0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, LaneTask};

    /// Largest error in units of the last place.
    const UNITS: f64 = 2.5;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Ln,
        Ln1p,
        Value,
        Short(f64, f64),
    }

    struct Each<'a>(Function, &'a [f32]);

    impl LaneTask for Each<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> Vec<f32> {
            let mut found = vec![0.0; self.1.len()];
            for at in (0..found.len()).step_by(L::WIDTH) {
                let count = (found.len() - at).min(L::WIDTH);
                // SAFETY: `count` floats follow `at` in both buffers; the set is the caller's.
                unsafe {
                    let x = L::load_first(self.1.as_ptr().add(at), count);
                    let y = match self.0 {
                        Function::Exp => exp(x),
                        Function::Ln => ln(x),
                        Function::Ln1p => ln_1p(x),
                        Function::Value => Logistic::of(x).value,
                        Function::Short(a, b) => {
                            ShortExp::new(a, b).expect("slopes of at most 1").at(x)
                        }
                    };
                    y.store_first(found.as_mut_ptr().add(at), count);
                }
            }
            found
        }
    }

    fn check(function: Function, inputs: &[f32], truth: impl Fn(f64) -> f64) {
        for isa in Isa::available() {
            let found = isa.run(Each(function, inputs));
            for (&x, &y) in inputs.iter().zip(&found) {
                let expected = truth(f64::from(x));
                if expected < f64::from(2.0 * f32::MIN_POSITIVE) && expected > 0.0 {
                    assert!((0.0..=3e-38).contains(&y), "{isa:?} {function:?}({x}) = {y}");
                    continue;
                }
                let near = expected as f32;
                let unit = f64::from(f32::from_bits(near.abs().to_bits() + 1) - near.abs());
                let error = (f64::from(y) - expected).abs() / unit;
                assert!(error <= UNITS, "{isa:?} {function:?}({x}) = {y}, {error:.2} units off");
            }
        }
    }

    /// Both signs, from tiny to `limit`, dense near zero and evenly spread.
    fn spread(limit: f32) -> Vec<f32> {
        let even = (0..40_000).map(|n| (n as f32 / 20_000.0 - 1.0) * limit);
        let tiny = (0..2000).map(|n| limit * (-(n as f32) * 0.02).exp());
        even.chain(tiny.clone()).chain(tiny.map(|x| -x)).collect()
    }

    #[test]
    fn exponentials_keep_their_digits() {
        check(Function::Exp, &spread(88.3), f64::exp);
        let extremes = [-1e4, -200.0, -88.0, f32::NEG_INFINITY, 89.0, 1e4, f32::INFINITY, 0.0];
        for isa in Isa::available() {
            let found = isa.run(Each(Function::Exp, &extremes));
            assert_eq!(found[..4], [0.0; 4], "{isa:?}");
            assert_eq!(found[4..], [f32::INFINITY, f32::INFINITY, f32::INFINITY, 1.0], "{isa:?}");
        }
    }

    #[test]
    fn logarithms_keep_their_digits() {
        let positive: Vec<f32> = (0..80_000).map(|n| (n as f32 * 2e-3 - 80.0).exp()).collect();
        check(Function::Ln, &positive, f64::ln);
        let near: Vec<f32> = (0..4000).map(|n| 0.9 + n as f32 * 5e-5).collect();
        check(Function::Ln, &near, f64::ln);
        let unit: Vec<f32> = (0..=20_000).map(|n| n as f32 / 20_000.0).collect();
        check(Function::Ln1p, &unit, f64::ln_1p);
        let tiny: Vec<f32> = (0..2000).map(|n| (-(n as f32) * 0.04).exp()).collect();
        check(Function::Ln1p, &tiny, f64::ln_1p);
    }

    #[test]
    fn logistic_values_keep_their_digits() {
        for limit in [1.0, 30.0, 87.0, 1e4] {
            check(Function::Value, &spread(limit), |x| 1.0 / (1.0 + (-x).exp()));
        }
    }

    #[test]
    fn short_exponentials_keep_their_digits() {
        let unit: Vec<f32> = (0..=20_000).map(|n| n as f32 / 20_000.0).collect();
        for (a, b) in [(0.0, -1.0), (0.0, 1.0), (-3.0, 0.7), (1.5, 0.0)] {
            check(Function::Short(a, b), &unit, |q| (a + b * q).exp());
        }
        assert!(ShortExp::new(0.0, 1.01).is_none());
    }

    #[test]
    fn nan_stays_nan() {
        for isa in Isa::available() {
            for function in [Function::Exp, Function::Ln, Function::Ln1p, Function::Value] {
                let found = isa.run(Each(function, &[f32::NAN; 19]));
                assert!(found.iter().all(|y| y.is_nan()), "{isa:?} {function:?}");
            }
        }
    }
}
