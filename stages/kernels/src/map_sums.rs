//! Sums over full-resolution maps in a fixed order, several maps at a time.
//!
//! Structures lie interleaved in the maps, so each lane of a vector belongs to one, and after as many vectors as
//! there are structures the pattern begins again: every phase of the pattern has sums of its own, whose lanes are
//! told apart at the end. Sums are f32 over 64 vectors of a phase and f64 beyond; parts of maps are tasks, split by
//! shape alone.

use std::ops::Range;

use crate::{
    parallel::{Scratch, SharedMut, for_each_task},
    simd::Lanes,
};

/// Floats of one task, about.
const TASK_FLOATS: usize = 8 * 1024;
/// Vectors of each phase that are summed in f32.
const VECTORS_IN_F32: usize = 64;
/// Widest vector of any set.
pub(crate) const MAX_WIDTH: usize = 16;

/// A part of the maps of a case.
pub(crate) struct Part {
    pub(crate) case: usize,
    pub(crate) range: Range<usize>,
}

/// Parts of cases of `lens` floats a map; every one begins where the pattern of structures begins.
pub(crate) fn parts(lens: impl Iterator<Item = usize>, n_structures: usize) -> Vec<Part> {
    let unit = n_structures * MAX_WIDTH;
    let step = TASK_FLOATS.div_ceil(unit) * unit;
    let of_case = |(case, len): (usize, usize)| {
        let starts = (0..len).step_by(step);
        starts.map(move |start| Part { case, range: start..len.min(start + step) })
    };
    lens.enumerate().flat_map(of_case).collect()
}

/// Calls `sum` for each part with room for `n_sums` zeros; returns the sums of each of `n_cases`.
pub(crate) fn sum_parts(
    parts: &[Part],
    n_cases: usize,
    n_sums: usize,
    sum: impl Fn(&Part, &mut [f64]) + Sync,
) -> Vec<Vec<f64>> {
    let mut rows = vec![0.0; parts.len() * n_sums];
    let shared = SharedMut::new(&mut rows);
    for_each_task(parts.len(), |task| {
        // SAFETY: tasks have rows of their own, and `rows` outlives them.
        sum(&parts[task], unsafe { shared.slice(task * n_sums, n_sums) });
    });
    let mut sums = vec![vec![0.0; n_sums]; n_cases];
    for (part, row) in parts.iter().zip(rows.chunks_exact(n_sums.max(1))) {
        sums[part.case].iter_mut().zip(row).for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// What is added up for a vector of pixels.
pub(crate) trait VectorSums {
    /// Numbers that are summed for each structure.
    fn n_sums(&self) -> usize;

    /// Adds the `count` pixels from `at` on to `n_sums` vectors at `sums`; `FULL` when they fill a vector.
    ///
    /// # Safety
    /// The maps have these pixels, and the machine the instructions of `L`.
    unsafe fn add<L: Lanes, const FULL: bool>(&self, at: usize, count: usize, sums: *mut f32);
}

/// Adds the sums over `range` to `sums`, `[structure, sum]`.
///
/// # Safety
/// The maps have these pixels, and the machine the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn sum_vectors<L: Lanes>(
    of: &impl VectorSums,
    n_structures: usize,
    range: Range<usize>,
    sums: &mut [f64],
) {
    let n_sums = of.n_sums();
    let mut lanes = Scratch::<f32>::take(n_structures * n_sums * L::WIDTH);
    let mut at = range.start;
    while at < range.end {
        lanes.fill(0.0);
        let end = range.end.min(at + VECTORS_IN_F32 * n_structures * L::WIDTH);
        let mut phase = 0;
        while at < end {
            let count = L::WIDTH.min(end - at);
            // SAFETY: `count` pixels follow `at`; a phase has `n_sums` vectors.
            unsafe {
                let sums = lanes.as_mut_ptr().add(phase * n_sums * L::WIDTH);
                if count == L::WIDTH {
                    of.add::<L, true>(at, count, sums);
                } else {
                    of.add::<L, false>(at, count, sums);
                }
            }
            at += count;
            phase = if phase + 1 == n_structures { 0 } else { phase + 1 };
        }
        for (row, lanes) in lanes.chunks_exact(L::WIDTH).enumerate() {
            let (phase, sum) = (row / n_sums, row % n_sums);
            for (lane, value) in lanes.iter().enumerate() {
                let structure = (phase * L::WIDTH + lane) % n_structures;
                sums[structure * n_sums + sum] += f64::from(*value);
            }
        }
    }
}

/// `count` floats of `map` from `at` on; the other lanes are zero.
///
/// # Safety
/// They lie in the map, and the machine has the instructions of `L`; so for the functions below.
#[inline(always)]
pub(crate) unsafe fn load<L: Lanes, const FULL: bool>(map: &[f32], at: usize, count: usize) -> L {
    debug_assert!(at + count <= map.len());
    // SAFETY: the caller's promise.
    unsafe {
        let from = map.as_ptr().add(at);
        if FULL { L::load(from) } else { L::load_first(from, count) }
    }
}

/// Writes the first `count` lanes.
#[inline(always)]
pub(crate) unsafe fn store<L: Lanes, const FULL: bool>(lanes: L, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if FULL { lanes.store(to) } else { lanes.store_first(to, count) } }
}

/// Ones in the first `count` lanes.
#[inline(always)]
pub(crate) unsafe fn inside<L: Lanes>(count: usize) -> L {
    // SAFETY: no vector is wider.
    unsafe { L::load_first([1.0_f32; MAX_WIDTH].as_ptr(), count) }
}

/// Adds `a * b` to the vector at `sum`; unless all lanes are meant, those whose `inside` is above zero.
#[inline(always)]
pub(crate) unsafe fn add_product<L: Lanes, const FULL: bool>(sum: *mut f32, a: L, b: L, inside: L) {
    // SAFETY: the caller promises a vector's floats at `sum`.
    unsafe {
        let a = if FULL { a } else { a.where_positive(inside) };
        let b = if FULL { b } else { b.where_positive(inside) };
        a.mul_add(b, L::load(sum)).store(sum);
    }
}
