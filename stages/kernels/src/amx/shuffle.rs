//! Orders of numbers that tiles need: pairs side by side, and rows turned into columns.

use std::arch::x86_64::*;

use half::bf16;

use super::panel::n_parts;
use crate::Element;

/// Two rows of sixteen numbers as sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pairs(first: __m256i, second: __m256i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut n = 0;
        while n < 32 {
            order[n] = (n / 2 + n % 2 * 16) as u16;
            n += 1;
        }
        order
    };
    // SAFETY: the table holds 32 numbers.
    let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
    _mm512_permutexvar_epi16(order, _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1))
}

/// Rows of sixteen words turned into columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    let [mut twos, mut fours, mut columns] = [[zero; 16]; 3];
    for i in 0..8 {
        twos[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        twos[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(twos[i], twos[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(twos[i], twos[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(twos[i + 1], twos[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(twos[i + 1], twos[i + 3]);
    }
    for j in 0..4 {
        let even = _mm512_shuffle_i32x4::<0x88>(fours[j], fours[4 + j]);
        let odd = _mm512_shuffle_i32x4::<0xdd>(fours[j], fours[4 + j]);
        let even_after = _mm512_shuffle_i32x4::<0x88>(fours[8 + j], fours[12 + j]);
        let odd_after = _mm512_shuffle_i32x4::<0xdd>(fours[8 + j], fours[12 + j]);
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even, even_after);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd_after);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even_after);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_after);
    }
    columns
}

/// Sixteen bf16 as f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn widen(values: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(values)))
}

/// What rounding to bf16 leaves.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn remainder(values: __m512) -> __m512 {
    // SAFETY: both are 256 bits.
    let rounded = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) };
    _mm512_sub_ps(values, widen(rounded))
}

/// The upper (or else lower) parts of up to sixteen numbers; those outside of the mask are zero and not read.
///
/// # Safety
/// Numbers of the mask are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn load<E: Element>(lanes: __mmask16, from: *const E, low: bool) -> __m256i {
    // SAFETY: the caller's promise; formats are f32 and bf16, which the number of parts tells apart.
    unsafe {
        if n_parts::<E>() == 1 {
            return _mm256_maskz_loadu_epi16(lanes, from.cast());
        }
        let values = _mm512_maskz_loadu_ps(lanes, from.cast());
        let part = if low { remainder(values) } else { values };
        std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(part))
    }
}

/// Bits below `count` set; all of them from `N` on.
#[inline(always)]
pub(super) fn mask(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// Packs (the lower parts of) `n_steps <= 32` rows of at most sixteen f32 as one tile of a panel, `[pair][lane][2]`; the rest is zero.
///
/// # Safety
/// AVX-512 F, BW, VL and BF16; from `from` on, rows of `n_lanes` readable floats that are `row` floats apart; `to` is
/// a writable tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_rows(
    (from, low): (*const f32, bool),
    row: usize,
    n_steps: usize,
    n_lanes: usize,
    to: *mut bf16,
) {
    let lanes = mask(n_lanes.min(16)) as __mmask16;
    // SAFETY: only rows below `n_steps` and lanes of the mask are read; sixteen vectors are written.
    unsafe {
        let load = |step: usize| {
            let present = if step < n_steps { lanes } else { 0 };
            let values = _mm512_maskz_loadu_ps(present, from.wrapping_add(step * row));
            if low { remainder(values) } else { values }
        };
        for pair in 0..16 {
            let both = _mm512_cvtne2ps_pbh(load(2 * pair + 1), load(2 * pair));
            let both: __m512i = std::mem::transmute(both);
            let (first, second) =
                (_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
            _mm512_storeu_si512(to.add(pair * 32).cast(), pairs(first, second));
        }
    }
}

/// Packs (the lower parts of) rows of 32 floats as columns of one tile of a panel: row `n` becomes lane `n`; lanes from `n_lanes` on are
/// zero.
///
/// # Safety
/// As for [`pack_rows`], with `n_lanes` rows of 32 floats.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_columns(
    (from, low): (*const f32, bool),
    row: usize,
    n_lanes: usize,
    to: *mut bf16,
) {
    let mut rows = [_mm512_setzero_si512(); 16];
    // SAFETY: only rows below `n_lanes` are read; sixteen vectors are written.
    unsafe {
        for (lane, words) in rows.iter_mut().enumerate().take(n_lanes) {
            let from = from.add(lane * row);
            let halves = (_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
            let halves = if low { (remainder(halves.0), remainder(halves.1)) } else { halves };
            let both = _mm512_cvtne2ps_pbh(halves.0, halves.1);
            *words = std::mem::transmute::<__m512bh, __m512i>(both);
        }
        for (pair, words) in transposed(rows).into_iter().enumerate() {
            _mm512_storeu_si512(to.add(pair * 32).cast(), words);
        }
    }
}

/// Puts `n_rows` rows of `n_lanes <= 16` numbers side by side in pairs, as tiles `[pair 16][lane 16][2]` that are
/// `tile` numbers apart, from pair `first` on; a missing last row and missing lanes are zero.
///
/// # Safety
/// AVX-512 F, BW and VL; rows `row` numbers apart; `to` has room for all pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn interleave<E: Element>(
    (from, low): (*const E, bool),
    row: usize,
    n_rows: usize,
    n_lanes: usize,
    (to, tile, first_pair): (*mut bf16, usize, usize),
) {
    let lanes = mask(n_lanes.min(16)) as __mmask16;
    // SAFETY: only rows below `n_rows` and lanes of the mask are read.
    unsafe {
        for pair in 0..n_rows.div_ceil(2) {
            let first = load(lanes, from.add(2 * pair * row), low);
            let present = if 2 * pair + 1 < n_rows { lanes } else { 0 };
            let second = from.wrapping_add((2 * pair + 1) * row);
            let second = load(present, second, low);
            let place = first_pair + pair;
            let to = to.add(place / 16 * tile + place % 16 * 32);
            _mm512_storeu_si512(to.cast(), pairs(first, second));
        }
    }
}

/// Turns `n_rows <= 32` rows of `n_lanes <= 16` numbers into sixteen rows of 32, `to_row` numbers apart; what is
/// missing is zero.
///
/// # Safety
/// As for [`interleave`]; `to` has room for sixteen such rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn transpose<E: Element>(
    (from, low): (*const E, bool),
    row: usize,
    n_rows: usize,
    n_lanes: usize,
    to: *mut bf16,
    to_row: usize,
) {
    let lanes = mask(n_lanes.min(16)) as __mmask16;
    let mut rows = [_mm512_setzero_si512(); 16];
    // SAFETY: only rows below `n_rows` and lanes of the mask are read; sixteen vectors are written.
    unsafe {
        if n_rows == 0 {
            (0..16).for_each(|lane| _mm512_storeu_si512(to.add(lane * to_row).cast(), rows[0]));
            return;
        }
        let load = |step: usize| {
            let present = if step < n_rows { lanes } else { 0 };
            load(present, from.wrapping_add(step * row), low)
        };
        for (pair, words) in rows.iter_mut().enumerate() {
            *words = pairs(load(2 * pair), load(2 * pair + 1));
        }
        for (lane, words) in transposed(rows).into_iter().enumerate() {
            _mm512_storeu_si512(to.add(lane * to_row).cast(), words);
        }
    }
}

/// Splits `len` numbers into upper and lower parts.
///
/// # Safety
/// AVX-512 F, BW, VL and BF16; as many numbers are readable and writable.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn split<E: Element>(from: *const E, to: [*mut bf16; 2], len: usize) {
    // SAFETY: numbers from `len` on are masked.
    unsafe {
        for start in (0..len).step_by(16) {
            let lanes = mask((len - start).min(16)) as __mmask16;
            for (to, low) in to.into_iter().zip([false, true]) {
                let part = load(lanes, from.add(start), low);
                _mm256_mask_storeu_epi16(to.add(start).cast(), lanes, part);
            }
        }
    }
}

/// Copies pixels of `n_channels` numbers between buffers whose pixels are `from_pixel` and `to_pixel` apart.
///
/// # Safety
/// AVX-512 F and BW; `n_pixels` such pixels are readable and writable.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn copy_pixels(
    from: (*const bf16, usize),
    to: (*mut bf16, usize),
    n_channels: usize,
    n_pixels: usize,
) {
    let (blocks, rest) = (n_channels / 32, mask(n_channels % 32) as __mmask32);
    // SAFETY: whole vectors lie inside the pixel, and the last one is masked.
    unsafe {
        for pixel in 0..n_pixels {
            let (from, to) = (from.0.add(pixel * from.1), to.0.add(pixel * to.1));
            for block in 0..blocks {
                let values = _mm512_loadu_si512(from.add(block * 32).cast());
                _mm512_storeu_si512(to.add(block * 32).cast(), values);
            }
            if rest != 0 {
                let values = _mm512_maskz_loadu_epi16(rest, from.add(blocks * 32).cast());
                _mm512_mask_storeu_epi16(to.add(blocks * 32).cast(), rest, values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amx::is_available;

    fn numbers(len: usize) -> Vec<bf16> {
        (0..len).map(|n| bf16::from_bits(n as u16)).collect()
    }

    #[test]
    fn rows_become_columns() {
        if !is_available() {
            return;
        }
        let (from, mut to) = (numbers(32 * 20), vec![bf16::ONE; 16 * 40]);
        // SAFETY: the machine has the instructions, and the buffers hold 32 rows of 20 and 16 of 40.
        unsafe { transpose((from.as_ptr(), false), 20, 29, 13, to.as_mut_ptr(), 40) };
        for lane in 0..16 {
            for row in 0..32 {
                let inside = lane < 13 && row < 29;
                let expected = if inside { (row * 20 + lane) as u16 } else { 0 };
                assert_eq!(to[lane * 40 + row].to_bits(), expected, "{lane} {row}");
            }
        }
    }

    #[test]
    fn rows_come_in_pairs() {
        if !is_available() {
            return;
        }
        let (from, mut to) = (numbers(5 * 20), vec![bf16::ONE; 3 * 32]);
        // SAFETY: as above, with five rows.
        unsafe { interleave((from.as_ptr(), false), 20, 5, 11, (to.as_mut_ptr(), 0, 0)) };
        for (n, found) in to.iter().enumerate() {
            let (row, lane) = (n / 32 * 2 + n % 2, n % 32 / 2);
            let expected = if lane < 11 && row < 5 { (row * 20 + lane) as u16 } else { 0 };
            assert_eq!(found.to_bits(), expected, "{row} {lane}");
        }
    }
}
