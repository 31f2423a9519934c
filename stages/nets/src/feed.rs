//! Batches made ahead: threads of their own read and assemble the next cases while the network works on the last.
//!
//! A batch more than there are threads goes round, so each thread fills one while the network works on another. What is
//! in a batch is a function of its place in the training alone, so it matters neither when nor by which thread it is made.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use crate::{Batch, NetsError};

/// A batch, or what kept it from being filled; a panic is passed on too, or the steps would wait for ever.
type Filled = thread::Result<Result<Batch, NetsError>>;

/// The end of the line where the steps take their batches.
#[derive(Debug)]
pub(crate) struct Feed {
    ready: Receiver<(usize, Filled)>,
    used: Sender<Batch>,
    /// Batches that came before those that precede them.
    early: BTreeMap<usize, Filled>,
    next: usize,
    waited: Duration,
}

/// Where the threads take what they do next.
struct Work<I> {
    empty: Receiver<Batch>,
    tasks: std::iter::Enumerate<I>,
}

impl Feed {
    /// Starts `n_threads` threads that `fill` batches as `tasks` say; they end after the last task or fault, or when the
    /// feed is dropped.
    pub(crate) fn start<'scope, T: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        n_threads: usize,
        tasks: impl Iterator<Item = T> + Send + 'scope,
        fill: impl Fn(T, &mut Batch) -> Result<(), NetsError> + Send + Sync + 'scope,
    ) -> Self {
        let (filled, ready) = channel();
        let (used, empty) = channel();
        for _ in 0..=n_threads {
            // The other end is held below.
            let _ = used.send(Batch::default());
        }
        let work = Arc::new(Mutex::new(Work { empty, tasks: tasks.enumerate() }));
        let fill = Arc::new(fill);
        for _ in 0..n_threads {
            let (work, fill, filled) = (Arc::clone(&work), Arc::clone(&fill), filled.clone());
            scope.spawn(move || {
                // The batch comes first: every task that was taken can be done, whatever the others wait for.
                let next = || {
                    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
                    let batch = work.empty.recv().ok()?;
                    work.tasks.next().map(|(place, task)| (place, task, batch))
                };
                while let Some((place, task, mut batch)) = next() {
                    let done =
                        catch_unwind(AssertUnwindSafe(|| fill(task, &mut batch).map(|()| batch)));
                    let is_last = !matches!(done, Ok(Ok(_)));
                    if filled.send((place, done)).is_err() || is_last {
                        break;
                    }
                }
            });
        }
        Self { ready, used, early: BTreeMap::new(), next: 0, waited: Duration::ZERO }
    }

    /// The next batch; none after the last.
    ///
    /// # Errors
    /// What kept the batch from being filled.
    pub(crate) fn take(&mut self) -> Result<Option<Batch>, NetsError> {
        let start = Instant::now();
        let batch = loop {
            if let Some(batch) = self.early.remove(&self.next) {
                break Some(batch);
            }
            let Ok((place, batch)) = self.ready.recv() else { break None };
            self.early.insert(place, batch);
        };
        self.waited += start.elapsed();
        self.next += 1;
        batch.map(|batch| batch.unwrap_or_else(|panic| resume_unwind(panic))).transpose()
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

    /// Fills a batch with a number, the later ones of each four first.
    fn number(number: usize, batch: &mut Batch) -> Result<(), NetsError> {
        std::thread::sleep(Duration::from_millis(3 - number as u64 % 4));
        batch.n_cases = number;
        if number == 100 { Err(NetsError::Empty { split: "last" }) } else { Ok(()) }
    }

    /// The numbers in the order in which they come, up to the end or a fault.
    fn seen(n_threads: usize, numbers: std::ops::Range<usize>) -> (Vec<usize>, bool) {
        std::thread::scope(|scope| {
            let mut feed = Feed::start(scope, n_threads, numbers, number);
            let mut seen = Vec::new();
            loop {
                match feed.take() {
                    Ok(Some(batch)) => {
                        seen.push(batch.n_cases);
                        feed.give_back(batch);
                    }
                    Ok(None) => return (seen, true),
                    Err(_) => return (seen, false),
                }
            }
        })
    }

    #[test]
    fn batches_come_in_order_and_end() {
        for n_threads in [1, 2, 5] {
            assert_eq!(seen(n_threads, 0..23), ((0..23).collect(), true));
            assert_eq!(seen(n_threads, 0..0), (vec![], true));
        }
    }

    #[test]
    fn a_fault_comes_at_its_place() {
        for n_threads in [1, 3] {
            assert_eq!(seen(n_threads, 93..usize::MAX), ((93..100).collect(), false));
        }
    }

    #[test]
    fn a_feed_that_is_dropped_stops_its_threads() {
        std::thread::scope(|scope| {
            let mut feed = Feed::start(scope, 3, 0..usize::MAX, number);
            assert!(feed.take().is_ok_and(|batch| batch.is_some_and(|batch| batch.n_cases == 0)));
        });
    }
}
