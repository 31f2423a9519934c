//! Batches made ahead: a thread of its own assembles and moves the next cases while the network works on the last.
//!
//! Two batches go round, so the memory of one batch more than a step needs is all it takes. What is in a batch is a
//! function of its place in the training alone, so it does not matter when it is made.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::Scope,
    time::{Duration, Instant},
};

use crate::Batch;

/// Batches that go round: one is worked on while the next is filled.
const N_BATCHES: usize = 2;

/// The end of the line where the steps take their batches.
#[derive(Debug)]
pub(crate) struct Feed {
    ready: Receiver<Batch>,
    used: Sender<Batch>,
    waited: Duration,
}

impl Feed {
    /// Starts the thread; it ends when `fill` says that there are no more batches, or when the feed is dropped.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut fill: impl FnMut(&mut Batch) -> bool + Send + 'scope,
    ) -> Self {
        let (filled, ready) = channel();
        let (used, empty) = channel::<Batch>();
        scope.spawn(move || {
            let mut fresh = vec![Batch::default(); N_BATCHES];
            while let Some(mut batch) = fresh.pop().or_else(|| empty.recv().ok()) {
                if !fill(&mut batch) || filled.send(batch).is_err() {
                    break;
                }
            }
        });
        Self { ready, used, waited: Duration::ZERO }
    }

    /// The next batch; none after the last.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let start = Instant::now();
        let batch = self.ready.recv().ok();
        self.waited += start.elapsed();
        batch
    }

    /// Gives a batch back, to be filled again.
    pub(crate) fn give_back(&self, batch: Batch) {
        // Nobody fills it after the last one.
        let _ = self.used.send(batch);
    }

    /// Time that was spent in [`Feed::take`].
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills batches with the numbers up to `end`.
    fn count(end: usize) -> impl FnMut(&mut Batch) -> bool + Send {
        let mut numbers = 0..end;
        move |batch| numbers.next().map(|number| batch.n_cases = number).is_some()
    }

    #[test]
    fn batches_come_in_order_and_end() {
        std::thread::scope(|scope| {
            let mut feed = Feed::start(scope, count(7));
            let mut seen = Vec::new();
            while let Some(batch) = feed.take() {
                seen.push(batch.n_cases);
                feed.give_back(batch);
            }
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        });
    }

    #[test]
    fn a_feed_that_is_dropped_stops_its_thread() {
        std::thread::scope(|scope| {
            let mut feed = Feed::start(scope, count(usize::MAX));
            assert!(feed.take().is_some_and(|batch| batch.n_cases == 0));
        });
    }
}
