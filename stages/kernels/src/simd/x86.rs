//! Lanes of x86-64: AVX2 with fused multiply-add, and AVX-512.

use std::arch::x86_64::*;

use crate::simd::{Lanes, ROOT_HALF};

/// Eight lanes of AVX2 with fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

impl Avx2 {
    /// Lanes below `count` all ones.
    #[inline(always)]
    unsafe fn mask(count: usize) -> __m256i {
        const ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        debug_assert!(count <= 8);
        // SAFETY: `count <= 8`, so the eight integers from `8 - count` on lie inside the table.
        unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add(8 - count).cast()) }
    }

    /// Upper halves rounded to nearest, ties to even; NaN becomes a quiet NaN.
    #[inline(always)]
    unsafe fn upper(self) -> __m128i {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let upper = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let upper = _mm256_blendv_epi8(upper, _mm256_set1_epi32(0x7fc0), nan);
            let packed = _mm256_packus_epi32(upper, upper);
            _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
        }
    }
}

impl Lanes for Avx2 {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller promises AVX2 and FMA, here and below.
        Self(unsafe { _mm256_setzero_ps() })
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn splat_group<const GROUP: usize>(from: *const f32) -> Self {
        // SAFETY: as in `zero`; the caller promises `GROUP` readable floats, of any alignment.
        Self(unsafe {
            match GROUP {
                1 => _mm256_set1_ps(*from),
                2 => _mm256_castpd_ps(_mm256_set1_pd(from.cast::<f64>().read_unaligned())),
                _ => _mm256_broadcast_ps(&from.cast::<__m128>().read_unaligned()),
            }
        })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as in `zero`; the caller promises eight readable floats.
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: as in `zero`; masked lanes are not read.
        Self(unsafe { _mm256_maskload_ps(from, Self::mask(count)) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `zero`; the caller promises eight writable floats.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: as in `zero`; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, Self::mask(count), self.0) }
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> Self {
        // SAFETY: as in `zero`; the caller promises eight readable halves.
        Self(unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        })
    }
    #[inline(always)]
    unsafe fn load_upper_first(from: *const u16, count: usize) -> Self {
        let mut halves = [0; 8];
        // SAFETY: the caller promises `count <= 8` readable halves, and AVX2.
        unsafe {
            halves.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load_upper(halves.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_upper(self, to: *mut u16) {
        // SAFETY: as in `zero`; the caller promises eight writable halves.
        unsafe { _mm_storeu_si128(to.cast(), self.upper()) }
    }
    #[inline(always)]
    unsafe fn store_upper_first(self, to: *mut u16, count: usize) {
        let mut halves = [0; 8];
        // SAFETY: the caller promises `count <= 8` writable halves, and AVX2.
        unsafe {
            self.store_upper(halves.as_mut_ptr());
            to.copy_from_nonoverlapping(halves.as_ptr(), count);
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: as in `zero`; `max` gives its second operand for NaN.
        Self(unsafe { _mm256_max_ps(_mm256_setzero_ps(), self.0) })
    }
    #[inline(always)]
    unsafe fn where_positive(self, gate: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            _mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_GT_OQ>(gate.0, _mm256_setzero_ps()))
        })
    }
    #[inline(always)]
    unsafe fn where_equal(self, a: Self, b: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_EQ_OQ>(a.0, b.0)) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn fold_pairs(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let sums = _mm256_castps_pd(_mm256_hadd_ps(self.0, self.0));
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(sums))
        })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    unsafe fn choose(self, gate: Self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(gate.0, _mm256_setzero_ps());
            _mm256_blendv_ps(other.0, self.0, positive)
        })
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    unsafe fn split_exponent(self) -> (Self, Self) {
        // SAFETY: as in `zero`.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let above = _mm256_sub_epi32(bits, _mm256_set1_epi32(ROOT_HALF));
            let exponent = _mm256_srai_epi32::<23>(above);
            let mantissa = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(exponent));
            (Self(_mm256_castsi256_ps(mantissa)), Self(_mm256_cvtepi32_ps(exponent)))
        }
    }
}

/// Sixteen lanes of AVX-512; with `BF16`, bf16 is rounded by its own instructions.
///
/// Those round as the others do, but for denormal numbers, which become zero.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool = false>(__m512);

impl<const BF16: bool> Avx512<BF16> {
    /// Bits below `count` set.
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        debug_assert!(count <= 16);
        ((1_u32 << count) - 1) as __mmask16
    }

    /// Upper halves in the lower ones, rounded to nearest, ties to even; NaN becomes a quiet NaN.
    #[inline(always)]
    unsafe fn upper(self) -> __m512i {
        // SAFETY: the caller promises AVX-512 F.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let upper = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            _mm512_mask_mov_epi32(upper, nan, _mm512_set1_epi32(0x7fc0))
        }
    }
}

impl<const BF16: bool> Lanes for Avx512<BF16> {
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller promises AVX-512 F, here and below.
        Self(unsafe { _mm512_setzero_ps() })
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn splat_group<const GROUP: usize>(from: *const f32) -> Self {
        // SAFETY: as in `zero`; the caller promises `GROUP` readable floats, of any alignment.
        Self(unsafe {
            match GROUP {
                1 => _mm512_set1_ps(*from),
                2 => _mm512_castpd_ps(_mm512_set1_pd(from.cast::<f64>().read_unaligned())),
                _ => _mm512_broadcast_f32x4(_mm_loadu_ps(from)),
            }
        })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as in `zero`; the caller promises sixteen readable floats.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: as in `zero`; masked lanes are not read.
        Self(unsafe { _mm512_maskz_loadu_ps(Self::mask(count), from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `zero`; the caller promises sixteen writable floats.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: as in `zero`; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, Self::mask(count), self.0) }
    }
    #[inline(always)]
    unsafe fn load_upper(from: *const u16) -> Self {
        // SAFETY: as in `zero`; the caller promises sixteen readable halves.
        Self(unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        })
    }
    #[inline(always)]
    unsafe fn load_upper_first(from: *const u16, count: usize) -> Self {
        let mut halves = [0; 16];
        // SAFETY: the caller promises `count <= 16` readable halves, and AVX-512 F.
        unsafe {
            halves.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load_upper(halves.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_upper(self, to: *mut u16) {
        // SAFETY: as in `zero`; the caller promises sixteen writable halves. `BF16` is for machines that have it.
        unsafe {
            let halves = if BF16 {
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0))
            } else {
                _mm512_cvtepi32_epi16(self.upper())
            };
            _mm256_storeu_si256(to.cast(), halves);
        }
    }
    #[inline(always)]
    unsafe fn store_upper_pair(self, second: Self, to: *mut u16) {
        // SAFETY: as in `store_upper`; the caller promises as many halves again.
        unsafe {
            if BF16 {
                let both = _mm512_cvtne2ps_pbh(second.0, self.0);
                _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(both));
            } else {
                self.store_upper(to);
                second.store_upper(to.add(16));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_upper_first(self, to: *mut u16, count: usize) {
        // SAFETY: as in `store_upper`; masked lanes are not written.
        unsafe {
            if BF16 {
                let mut halves = [0; 16];
                self.store_upper(halves.as_mut_ptr());
                to.copy_from_nonoverlapping(halves.as_ptr(), count);
            } else {
                _mm512_mask_cvtepi32_storeu_epi16(to.cast(), Self::mask(count), self.upper());
            }
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: as in `zero`; `max` gives its second operand for NaN.
        Self(unsafe { _mm512_max_ps(_mm512_setzero_ps(), self.0) })
    }
    #[inline(always)]
    unsafe fn where_positive(self, gate: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate.0, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, self.0)
        })
    }
    #[inline(always)]
    unsafe fn where_equal(self, a: Self, b: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a.0, b.0), self.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn fold_pairs(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let swapped = _mm512_permute_ps::<0b10_11_00_01>(self.0);
            _mm512_maskz_compress_ps(0x5555, _mm512_add_ps(self.0, swapped))
        })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn choose(self, gate: Self, other: Self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate.0, _mm512_setzero_ps());
            _mm512_mask_blend_ps(positive, other.0, self.0)
        })
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        // SAFETY: as in `zero`.
        Self(unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    unsafe fn split_exponent(self) -> (Self, Self) {
        // SAFETY: as in `zero`.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let above = _mm512_sub_epi32(bits, _mm512_set1_epi32(ROOT_HALF));
            let exponent = _mm512_srai_epi32::<23>(above);
            let mantissa = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(exponent));
            (Self(_mm512_castsi512_ps(mantissa)), Self(_mm512_cvtepi32_ps(exponent)))
        }
    }
}
