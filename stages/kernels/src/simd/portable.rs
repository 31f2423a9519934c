//! Four lanes in plain Rust, for machines without wider ones and as the measure of the others.

use crate::{
    element::rounded,
    simd::{Lanes, ROOT_HALF},
};

/// Four lanes in plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, op: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| op(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Portable {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn splat_group<const GROUP: usize>(from: *const f32) -> Self {
        // SAFETY: the caller promises `GROUP` readable floats.
        Self(std::array::from_fn(|lane| unsafe { *from.add(lane % GROUP) }))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises four readable floats.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (lane, value) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller promises `count` readable floats.
            *value = unsafe { *from.add(lane) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises four writable floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (lane, value) in self.0.into_iter().enumerate().take(count) {
            // SAFETY: the caller promises `count` writable floats.
            unsafe { *to.add(lane) = value }
        }
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> Self {
        // SAFETY: the caller promises four readable halves.
        unsafe { Self::load_upper_first(from, 4) }
    }
    #[inline(always)]
    unsafe fn load_upper_first(from: *const u16, count: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (lane, value) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller promises `count` readable halves.
            *value = f32::from_bits(u32::from(unsafe { *from.add(lane) }) << 16);
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store_upper(self, to: *mut u16) {
        // SAFETY: the caller promises four writable halves.
        unsafe { self.store_upper_first(to, 4) }
    }
    #[inline(always)]
    unsafe fn store_upper_first(self, to: *mut u16, count: usize) {
        for (lane, value) in self.0.into_iter().enumerate().take(count) {
            // SAFETY: the caller promises `count` writable halves.
            unsafe { *to.add(lane) = rounded(value) }
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * factor.0[lane] + term.0[lane]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(|a| if a < 0.0 { 0.0 } else { a }))
    }
    #[inline(always)]
    unsafe fn where_positive(self, gate: Self) -> Self {
        self.zip(gate, |a, gate| if gate > 0.0 { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn where_equal(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| if a.0[lane] == b.0[lane] { self.0[lane] } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fold_pairs(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([a + b, c + d, 0.0, 0.0])
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    unsafe fn choose(self, gate: Self, other: Self) -> Self {
        Self(std::array::from_fn(
            |lane| {
                if gate.0[lane] > 0.0 { self.0[lane] } else { other.0[lane] }
            },
        ))
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(self.0.map(|exponent| f32::from_bits(((exponent as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    unsafe fn split_exponent(self) -> (Self, Self) {
        let exponents = self.0.map(|value| (value.to_bits() as i32 - ROOT_HALF) >> 23);
        let mantissa = |lane: usize| {
            f32::from_bits(self.0[lane].to_bits().wrapping_sub((exponents[lane] as u32) << 23))
        };
        (Self(std::array::from_fn(mantissa)), Self(exponents.map(|exponent| exponent as f32)))
    }
}
