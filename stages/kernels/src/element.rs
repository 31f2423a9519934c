//! Number formats of activations: f32, and bf16 with the same lanes of f32 in registers.

use std::fmt::Debug;

use half::bf16;

use crate::simd::Lanes;

/// Number format of activations and their gradients in memory; all arithmetic is in f32.
///
/// Weights, statistics and sums are f32 whatever the format. Sealed: the formats are [`f32`] and [`bf16`].
pub trait Element: InLanes + Copy + Debug + Default + PartialEq + Send + Sync + 'static {
    /// Name in settings and reports: `f32` or `bf16`.
    const NAME: &'static str;

    /// The value as f32; exact.
    fn widen(self) -> f32;

    /// The nearest value of the format, ties to even.
    fn narrow(value: f32) -> Self;
}

/// Address of values of either format.
#[derive(Clone, Copy)]
pub enum Numbers {
    /// Of f32.
    F32(*mut f32),
    /// Of bf16.
    Bf16(*mut bf16),
}

// SAFETY: only an address; whoever writes through it says why no other task touches the same numbers.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

impl Numbers {
    /// The address `count` numbers further on.
    ///
    /// # Safety
    /// It lies in the buffer that this address points into, or at its end.
    #[inline(always)]
    pub(crate) unsafe fn add(self, count: usize) -> Self {
        // SAFETY: the caller's promise is the one that is needed.
        unsafe {
            match self {
                Numbers::F32(to) => Numbers::F32(to.add(count)),
                Numbers::Bf16(to) => Numbers::Bf16(to.add(count)),
            }
        }
    }
}

/// How values of a format come into lanes of f32 and go back; rounded to nearest, ties to even.
///
/// # Safety
/// All functions need the instructions of `L` and as many readable or writable values as they say.
pub trait InLanes: Sized {
    /// The address of `values`; the borrow ends here.
    fn numbers(values: &mut [Self]) -> Numbers;
    /// The same values if the format is f32.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;
    /// The same values if the format is f32.
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]>;
    /// `L::WIDTH` values.
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
    /// The first `count <= L::WIDTH` values; the other lanes are zero and their memory is not touched.
    unsafe fn load_first<L: Lanes>(from: *const Self, count: usize) -> L;
    /// Writes `L::WIDTH` values.
    unsafe fn store<L: Lanes>(lanes: L, to: *mut Self);
    /// Writes the first `count <= L::WIDTH` values.
    unsafe fn store_first<L: Lanes>(lanes: L, to: *mut Self, count: usize);
    /// Writes `2 * L::WIDTH` values, those of `first` before those of `second`.
    #[inline(always)]
    unsafe fn store_pair<L: Lanes>(first: L, second: L, to: *mut Self) {
        // SAFETY: the caller's promises; `L::WIDTH` more values follow the first ones.
        unsafe {
            Self::store(first, to);
            Self::store(second, to.add(L::WIDTH));
        }
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

impl InLanes for f32 {
    fn numbers(values: &mut [Self]) -> Numbers {
        Numbers::F32(values.as_mut_ptr())
    }
    fn as_f32(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's promises, here and below.
        unsafe { L::load(from) }
    }
    #[inline(always)]
    unsafe fn load_first<L: Lanes>(from: *const Self, count: usize) -> L {
        // SAFETY: as in `load`.
        unsafe { L::load_first(from, count) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(lanes: L, to: *mut Self) {
        // SAFETY: as in `load`.
        unsafe { lanes.store(to) }
    }
    #[inline(always)]
    unsafe fn store_first<L: Lanes>(lanes: L, to: *mut Self, count: usize) {
        // SAFETY: as in `load`.
        unsafe { lanes.store_first(to, count) }
    }
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        bf16::from_bits(rounded(value))
    }
}

impl InLanes for bf16 {
    fn numbers(values: &mut [Self]) -> Numbers {
        Numbers::Bf16(values.as_mut_ptr())
    }
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller's promises, here and below; `bf16` is a transparent `u16`.
        unsafe { L::load_upper(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first<L: Lanes>(from: *const Self, count: usize) -> L {
        // SAFETY: as in `load`.
        unsafe { L::load_upper_first(from.cast(), count) }
    }
    #[inline(always)]
    unsafe fn store<L: Lanes>(lanes: L, to: *mut Self) {
        // SAFETY: as in `load`.
        unsafe { lanes.store_upper(to.cast()) }
    }
    #[inline(always)]
    unsafe fn store_first<L: Lanes>(lanes: L, to: *mut Self, count: usize) {
        // SAFETY: as in `load`.
        unsafe { lanes.store_upper_first(to.cast(), count) }
    }
    #[inline(always)]
    unsafe fn store_pair<L: Lanes>(first: L, second: L, to: *mut Self) {
        // SAFETY: as in `load`.
        unsafe { first.store_upper_pair(second, to.cast()) }
    }
}

/// Upper half of a float rounded to nearest, ties to even; NaN becomes a quiet NaN.
#[inline(always)]
pub(crate) fn rounded(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return 0x7fc0;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, LaneTask};

    /// Values to bf16 and back through lanes, whole vectors and then the rest.
    struct ThroughLanes<'a>(&'a [f32]);

    impl LaneTask for ThroughLanes<'_> {
        type Output = (Vec<u16>, Vec<f32>);

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> Self::Output {
            let mut narrow = vec![bf16::ZERO; self.0.len()];
            let mut wide = vec![f32::INFINITY; self.0.len()];
            let mut at = 0;
            while at < self.0.len() {
                let count = (self.0.len() - at).min(L::WIDTH);
                // SAFETY: `count` values follow `at` in all three buffers; the set is the caller's.
                unsafe {
                    let (from, to) = (self.0.as_ptr().add(at), narrow.as_mut_ptr().add(at));
                    let back = wide.as_mut_ptr().add(at);
                    if count == L::WIDTH {
                        bf16::store(L::load(from), to);
                        bf16::load::<L>(to).store(back);
                    } else {
                        bf16::store_first(L::load_first(from, count), to, count);
                        bf16::load_first::<L>(to, count).store_first(back, count);
                    }
                }
                at += count;
            }
            (narrow.iter().map(|value| value.to_bits()).collect(), wide)
        }
    }

    #[test]
    fn lanes_round_as_the_library_does() {
        let mut values = vec![0.0, -0.0, 1.0, 1.003_906_2, 1.011_718_8, f32::MAX, f32::MIN];
        values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-40, -1e-45, 0.1]);
        values.extend((0..1000_u32).map(|n| f32::from_bits(n.wrapping_mul(0x9e37_79b9))));
        values.retain(|value| !value.is_nan());
        let expected: Vec<u16> = values.iter().map(|&v| bf16::from_f32(v).to_bits()).collect();
        for isa in Isa::available() {
            let (found, wide) = isa.run(ThroughLanes(&values));
            // The instructions of AVX-512 BF16 make denormal numbers zero.
            let flushes = [Isa::Amx, Isa::AmxSplit].contains(&isa);
            let expected = values.iter().zip(&expected).map(|(value, &bits)| {
                if flushes && value.is_subnormal() { bits & 0x8000 } else { bits }
            });
            assert_eq!(found, expected.collect::<Vec<u16>>(), "{isa:?}");
            let back: Vec<f32> = found.iter().map(|&bits| bf16::from_bits(bits).widen()).collect();
            assert_eq!(wide, back, "{isa:?}");
        }
        let scalar: Vec<u16> = values.iter().map(|&v| bf16::narrow(v).to_bits()).collect();
        assert_eq!(scalar, expected);
    }

    #[test]
    fn nan_stays_nan() {
        let values =
            vec![f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(u32::MAX)];
        let values: Vec<f32> = values.into_iter().cycle().take(37).collect();
        for isa in Isa::available() {
            let (_, wide) = isa.run(ThroughLanes(&values));
            assert!(wide.iter().all(|value| value.is_nan()), "{isa:?}");
        }
    }
}
