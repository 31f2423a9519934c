//! What normalization does with each vector, and the loops over buffers that feed it.
//!
//! A loop takes four vectors of the same place of the period at a time, so that the numbers of their channels stay
//! in registers while it goes through the pixels.

use std::ops::Range;

use super::activation::Act;
use crate::{
    Element,
    parallel::SharedMut,
    simd::{LaneTask, Lanes, load, store},
};

/// Vectors that a loop handles together.
const BLOCK: usize = 4;

/// A pass that computes one output from inputs at the same place.
///
/// `COUNT` numbers of the channel come with each vector, in the order of the pass's [`Table`](super::groups::Table).
pub(super) trait Map<const INPUTS: usize, const COUNT: usize>: Copy + Send + Sync {
    /// # Safety
    /// The machine has the instructions of `L`.
    unsafe fn value<L: Lanes>(self, inputs: [L; INPUTS], numbers: [L; COUNT]) -> L;
}

/// A pass that adds two terms a value to sums of the channel.
pub(super) trait Sum<const INPUTS: usize, const COUNT: usize>: Copy + Send + Sync {
    /// # Safety
    /// The machine has the instructions of `L`.
    unsafe fn add<L: Lanes>(self, inputs: [L; INPUTS], numbers: [L; COUNT], sums: [L; 2])
    -> [L; 2];
}

/// Activation of the normalized value; numbers are mean, scale and shift.
#[derive(Clone, Copy)]
pub(super) struct Forward<A>(pub(super) A);

impl<A: Act> Map<1, 3> for Forward<A> {
    #[inline(always)]
    unsafe fn value<L: Lanes>(self, [value]: [L; 1], [mean, scale, shift]: [L; 3]) -> L {
        // SAFETY: the caller's promise, here and below.
        unsafe { self.0.apply(value.sub(mean).mul_add(scale, shift)) }
    }
}

/// Gradient of the value; inputs are gradient and value, numbers mean, scale, shift, `to_value` and offset.
///
/// It is `scale * passed gradient + to_value * (value - mean) + offset`.
#[derive(Clone, Copy)]
pub(super) struct Backward<A>(pub(super) A);

impl<A: Act> Map<2, 5> for Backward<A> {
    #[inline(always)]
    unsafe fn value<L: Lanes>(self, [gradient, value]: [L; 2], numbers: [L; 5]) -> L {
        let [mean, scale, shift, to_value, offset] = numbers;
        // SAFETY: as above.
        unsafe {
            let distance = value.sub(mean);
            let passed = self.0.pass(gradient, distance.mul_add(scale, shift));
            passed.mul_add(scale, distance.mul_add(to_value, offset))
        }
    }
}

/// Sums of (value - base) and of its square.
#[derive(Clone, Copy)]
pub(super) struct Moments;

impl Sum<1, 1> for Moments {
    #[inline(always)]
    unsafe fn add<L: Lanes>(
        self,
        [value]: [L; 1],
        [base]: [L; 1],
        [plain, squares]: [L; 2],
    ) -> [L; 2] {
        // SAFETY: as above.
        unsafe {
            let distance = value.sub(base);
            [plain.add(distance), distance.mul_add(distance, squares)]
        }
    }
}

/// Sums of the gradient that passes the activation, and of that times (value - mean); numbers as in [`Forward`].
#[derive(Clone, Copy)]
pub(super) struct BackwardSums<A>(pub(super) A);

impl<A: Act> Sum<2, 3> for BackwardSums<A> {
    #[inline(always)]
    unsafe fn add<L: Lanes>(
        self,
        [gradient, value]: [L; 2],
        [mean, scale, shift]: [L; 3],
        [plain, weighted]: [L; 2],
    ) -> [L; 2] {
        // SAFETY: as above.
        unsafe {
            let distance = value.sub(mean);
            let passed = self.0.pass(gradient, distance.mul_add(scale, shift));
            [plain.add(passed), passed.mul_add(distance, weighted)]
        }
    }
}

/// A buffer that a pass reads; it may also be the one that the pass writes.
pub(super) struct Source<E>(*const E);

impl<E> Clone for Source<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Source<E> {}

// SAFETY: only an address; whoever reads through it says why nobody writes there meanwhile.
unsafe impl<E: Sync> Send for Source<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Source<E> {}

impl<E> From<&[E]> for Source<E> {
    fn from(values: &[E]) -> Self {
        Self(values.as_ptr())
    }
}

impl<E> From<SharedMut<E>> for Source<E> {
    fn from(values: SharedMut<E>) -> Self {
        Self(values.pointer())
    }
}

impl<E> Source<E> {
    /// Address of value `at`.
    ///
    /// # Safety
    /// It lies in the buffer, or at its end.
    #[inline(always)]
    pub(super) unsafe fn at(self, at: usize) -> *const E {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at) }
    }
}

/// Vectors at `at` of all inputs.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn gather<L: Lanes, E: Element, const INPUTS: usize>(
    inputs: [Source<E>; INPUTS],
    at: usize,
    count: usize,
) -> [L; INPUTS] {
    // SAFETY: as above. A closure here would keep the caller's instructions from it.
    unsafe {
        let mut vectors = [L::zero(); INPUTS];
        for (vector, input) in vectors.iter_mut().zip(inputs) {
            *vector = load(input.at(at), count);
        }
        vectors
    }
}

/// The vectors at `at` of `COUNT` rows of one period each.
///
/// # Safety
/// The rows are readable and `at` leaves a vector in the period; the machine has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn numbers<L: Lanes, const COUNT: usize>(rows: &[f32], at: usize) -> [L; COUNT] {
    let period = rows.len() / COUNT;
    // SAFETY: the caller's promises.
    unsafe {
        let mut vectors = [L::zero(); COUNT];
        for (row, vector) in vectors.iter_mut().enumerate() {
            *vector = L::load(rows.as_ptr().add(row * period + at));
        }
        vectors
    }
}

/// Places of a range in units of blocks: whole periods first, and what is left of the last one.
#[derive(Clone)]
struct Places {
    start: usize,
    n_periods: usize,
    period: usize,
    rest: usize,
}

impl Places {
    fn new(range: &Range<usize>, period: usize) -> Self {
        let (start, len) = (range.start, range.len());
        Self { start, n_periods: len / period, period, rest: len % period }
    }

    /// Start of period `index`.
    #[inline(always)]
    fn period(&self, index: usize) -> usize {
        self.start + index * self.period
    }

    /// Values of the last, cut period in the vector at `in_period`.
    #[inline(always)]
    fn rest(&self, in_period: usize, width: usize) -> usize {
        self.rest.saturating_sub(in_period).min(width)
    }
}

/// A [`Map`] over `range`, which begins a period; `rows` hold the numbers.
pub(super) struct MapTask<'a, E, M, const INPUTS: usize, const COUNT: usize> {
    pub(super) map: M,
    pub(super) inputs: [Source<E>; INPUTS],
    pub(super) output: SharedMut<E>,
    pub(super) range: Range<usize>,
    pub(super) rows: &'a [f32],
}

impl<E: Element, M: Map<INPUTS, COUNT>, const INPUTS: usize, const COUNT: usize> LaneTask
    for MapTask<'_, E, M, INPUTS, COUNT>
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { map, inputs, output, range, rows } = self;
        let places = Places::new(&range, rows.len() / COUNT);
        for block in (0..places.period).step_by(BLOCK * L::WIDTH) {
            // SAFETY: a period holds whole blocks and whole vectors of every set; whole periods from the range's
            // start on, and `rest` values after them, lie in all buffers.
            unsafe {
                let mut all = [numbers::<L, COUNT>(rows, block); BLOCK];
                for (vector, numbers_here) in all.iter_mut().enumerate() {
                    *numbers_here = numbers(rows, block + vector * L::WIDTH);
                }
                for index in 0..places.n_periods {
                    let at = places.period(index) + block;
                    for pair in 0..BLOCK / 2 {
                        let at = at + 2 * pair * L::WIDTH;
                        let first = gather(inputs, at, L::WIDTH);
                        let second = gather(inputs, at + L::WIDTH, L::WIDTH);
                        let first = map.value(first, all[2 * pair]);
                        let second = map.value(second, all[2 * pair + 1]);
                        E::store_pair(first, second, output.pointer().add(at));
                    }
                }
                for (vector, numbers_here) in all.into_iter().enumerate() {
                    let in_period = block + vector * L::WIDTH;
                    let count = places.rest(in_period, L::WIDTH);
                    if count > 0 {
                        let at = places.period(places.n_periods) + in_period;
                        let value = map.value(gather(inputs, at, count), numbers_here);
                        store(value, output.pointer().add(at), count);
                    }
                }
            }
        }
    }
}

/// A [`Sum`] over `range`, which begins a period; `sums` takes both sums of a period, one after the other.
pub(super) struct SumTask<'a, E, S, const INPUTS: usize, const COUNT: usize> {
    pub(super) sum: S,
    pub(super) inputs: [Source<E>; INPUTS],
    pub(super) range: Range<usize>,
    pub(super) rows: &'a [f32],
    pub(super) sums: &'a mut [f32],
}

impl<E: Element, S: Sum<INPUTS, COUNT>, const INPUTS: usize, const COUNT: usize> LaneTask
    for SumTask<'_, E, S, INPUTS, COUNT>
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { sum, inputs, range, rows, sums } = self;
        let places = Places::new(&range, rows.len() / COUNT);
        let to = sums.as_mut_ptr();
        for block in (0..places.period).step_by(BLOCK * L::WIDTH) {
            // SAFETY: as in `MapTask`; `sums` holds two periods.
            unsafe {
                let mut all = [numbers::<L, COUNT>(rows, block); BLOCK];
                for (vector, numbers_here) in all.iter_mut().enumerate() {
                    *numbers_here = numbers(rows, block + vector * L::WIDTH);
                }
                let mut totals = [[L::zero(); 2]; BLOCK];
                for index in 0..places.n_periods {
                    for vector in 0..BLOCK {
                        let at = places.period(index) + block + vector * L::WIDTH;
                        let inputs = gather(inputs, at, L::WIDTH);
                        totals[vector] = sum.add(inputs, all[vector], totals[vector]);
                    }
                }
                for vector in 0..BLOCK {
                    let in_period = block + vector * L::WIDTH;
                    let count = places.rest(in_period, L::WIDTH);
                    if count > 0 {
                        // Lanes past the end hold zeros: their sums are not the channel's and must not count.
                        let at = places.period(places.n_periods) + in_period;
                        let inputs = gather(inputs, at, count);
                        let found = sum.add(inputs, all[vector], [L::zero(); 2]);
                        for (total, found) in totals[vector].iter_mut().zip(found) {
                            let mut lanes = [0.0; 16];
                            found.store(lanes.as_mut_ptr());
                            *total = total.add(L::load_first(lanes.as_ptr(), count));
                        }
                    }
                    totals[vector][0].store(to.add(in_period));
                    totals[vector][1].store(to.add(places.period + in_period));
                }
            }
        }
    }
}
