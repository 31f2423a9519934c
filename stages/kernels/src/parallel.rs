//! Tasks on the current rayon pool, and scratch memory that outlives them.
//!
//! How work is split never depends on the number of threads, so neither do results. Scratch buffers are kept by
//! each thread and handed out again: touching fresh memory costs more than most of the arithmetic done in it.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use rayon::prelude::*;

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

/// Pointer to floats that several tasks write at places of their own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(*mut f32);

// SAFETY: only an address; whoever writes through it says why no other task touches the same floats.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Shares `floats`; the borrow ends here, so callers keep it alive while tasks run.
    pub(crate) fn new(floats: &mut [f32]) -> Self {
        Self(floats.as_mut_ptr())
    }

    /// The address.
    pub(crate) fn pointer(self) -> *mut f32 {
        self.0
    }

    /// The address `floats` further on.
    ///
    /// # Safety
    /// It lies in the slice that was shared, or at its end.
    pub(crate) unsafe fn offset(self, floats: usize) -> Self {
        // SAFETY: the caller's promise is the one that is needed.
        Self(unsafe { self.0.add(floats) })
    }

    /// The floats `start..start + len`.
    ///
    /// # Safety
    /// They lie in the slice that was shared, it is still borrowed, and nobody else uses them meanwhile.
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of this thread's stock; goes back when dropped.
pub(crate) struct Scratch {
    floats: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// Takes `len` floats of any value.
    pub(crate) fn take(len: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|stock| {
            // The smallest that is large enough, or else the largest, which then grows.
            let best = (0..stock.len()).min_by_key(|&i| {
                let have = stock[i].len();
                if have >= len { (0, have) } else { (1, usize::MAX - have) }
            });
            best.map(|index| stock.swap_remove(index))
        });
        let mut floats = kept.unwrap_or_default();
        if floats.len() < len {
            floats.resize(len, 0.0);
        }
        Self { floats, len }
    }

    /// Takes `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut scratch = Self::take(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let floats = std::mem::take(&mut self.floats);
        // A thread that is being torn down has no stock any more; the buffer is freed then.
        let _ = KEPT.try_with(|stock| stock.borrow_mut().push(floats));
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

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
        let first = Scratch::take(100);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(Scratch::take(60).as_ptr(), place);
        assert!(Scratch::zeroed(100).iter().all(|&value| value == 0.0));
    }
}
