//! Tasks on the current rayon pool, and scratch memory that outlives them.
//!
//! How work is split never depends on the number of threads, so neither do results. Scratch buffers are kept by
//! each thread and handed out again: touching fresh memory costs more than most of the arithmetic done in it.

use std::{
    cell::RefCell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use rayon::prelude::*;

use crate::Element;

/// Calls `task` with each of `0..n_tasks`, in any order; on one thread it is a plain loop.
pub(crate) fn for_each_task(n_tasks: usize, task: impl Fn(usize) + Sync) {
    if n_tasks <= 1 || rayon::current_num_threads() == 1 {
        (0..n_tasks).for_each(&task);
    } else {
        (0..n_tasks).into_par_iter().with_max_len(1).for_each(&task);
    }
}

/// Part `index` of `0..len` split into `n_parts` of nearly one length.
pub(crate) fn part(len: usize, n_parts: usize, index: usize) -> std::ops::Range<usize> {
    len * index / n_parts..len * (index + 1) / n_parts
}

/// Pointer to numbers that several tasks write at places of their own.
pub(crate) struct SharedMut<E = f32>(*mut E);

impl<E> Clone for SharedMut<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for SharedMut<E> {}

// SAFETY: only an address; whoever writes through it says why no other task touches the same numbers.
unsafe impl<E: Send> Send for SharedMut<E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for SharedMut<E> {}

impl<E> SharedMut<E> {
    /// Shares `numbers`; the borrow ends here, so callers keep it alive while tasks run.
    pub(crate) fn new(numbers: &mut [E]) -> Self {
        Self(numbers.as_mut_ptr())
    }

    /// The address.
    pub(crate) fn pointer(self) -> *mut E {
        self.0
    }

    /// The address `count` numbers further on.
    ///
    /// # Safety
    /// It lies in the slice that was shared, or at its end.
    pub(crate) unsafe fn offset(self, count: usize) -> Self {
        // SAFETY: the caller's promise is the one that is needed.
        Self(unsafe { self.0.add(count) })
    }

    /// The numbers `start..start + len`.
    ///
    /// # Safety
    /// They lie in the slice that was shared, it is still borrowed, and nobody else uses them meanwhile.
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [E] {
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// A cache line: scratch memory begins at one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of this thread's stock, aligned to 64 bytes; goes back when dropped.
pub(crate) struct Scratch<E: Element = f32> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element> Scratch<E> {
    /// Takes `len` numbers of any value.
    pub(crate) fn take(len: usize) -> Self {
        let n_lines = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        let kept = KEPT.with_borrow_mut(|stock| {
            // The smallest that is large enough, or else the largest, which then grows.
            let best = (0..stock.len()).min_by_key(|&i| {
                let have = stock[i].len();
                if have >= n_lines { (0, have) } else { (1, usize::MAX - have) }
            });
            best.map(|index| stock.swap_remove(index))
        });
        let mut lines = kept.unwrap_or_default();
        if lines.len() < n_lines {
            lines.resize(n_lines, Line([0; 64]));
        }
        Self { lines, len, element: PhantomData }
    }

    /// Takes `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut scratch = Self::take(len);
        scratch.fill(E::default());
        scratch
    }
}

impl<E: Element> Drop for Scratch<E> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is being torn down has no stock any more; the buffer is freed then.
        let _ = KEPT.try_with(|stock| stock.borrow_mut().push(lines));
    }
}

impl<E: Element> Deref for Scratch<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        // SAFETY: the lines hold at least `len` numbers, aligned more than enough; every pattern of bits is a
        // number of a sealed format.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<E: Element> DerefMut for Scratch<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as in `deref`, and the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::bf16;

    #[test]
    fn every_task_runs_once() {
        let calls: Vec<AtomicUsize> = (0..37).map(|_| AtomicUsize::new(0)).collect();
        for_each_task(37, |task| {
            calls[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(calls.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn parts_cover_the_whole() {
        let parts: Vec<_> = (0..3).map(|index| part(10, 3, index)).collect();
        assert_eq!(parts, [0..3, 3..6, 6..10]);
    }

    #[test]
    fn scratch_comes_back() {
        let first = Scratch::<f32>::take(100);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(Scratch::<bf16>::take(60).as_ptr().cast(), place);
        assert_eq!(place.align_offset(64), 0);
        assert!(Scratch::<f32>::zeroed(100).iter().all(|&value| value == 0.0));
    }
}
