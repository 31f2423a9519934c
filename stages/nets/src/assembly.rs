//! What the batches of a training are made of: order of the cases, their movements, their patches.
//!
//! Randomness: the order of an epoch is a function of (seed, epoch), the movement and the patch of a case of (seed,
//! epoch, case id); nothing depends on what was drawn before.

use std::{ops::Range, sync::OnceLock};

use crate::{
    Batch, Case, NetsError, Placement, Samples, Streams, TrainingConfig, batch::Draw,
    patches::foreground,
};

/// Settings, cases and randomness of the batches.
#[derive(Debug)]
pub(crate) struct Assembly<'a> {
    config: &'a TrainingConfig,
    cases: &'a Samples,
    streams: Drawn<'a>,
    /// Of each case that has been seen, if there are patches: few numbers, so all of them stay.
    foreground: Vec<OnceLock<Vec<u32>>>,
}

/// Streams, which have no text of their own.
struct Drawn<'a>(Streams<'a>);

impl std::fmt::Debug for Drawn<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("streams")
    }
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(
        config: &'a TrainingConfig,
        cases: &'a Samples,
        streams: Streams<'a>,
    ) -> Self {
        let foreground = (0..cases.n_cases()).map(|_| OnceLock::new()).collect();
        Self { config, cases, streams: Drawn(streams), foreground }
    }

    /// Steps of an epoch.
    pub(crate) fn n_steps(&self) -> usize {
        batches(self.cases.n_cases(), self.config.batch_size).len()
    }

    /// The cases of every step of `epochs`, in order.
    pub(crate) fn steps(&self, epochs: Range<usize>) -> impl Iterator<Item = Filling<'_>> {
        epochs.flat_map(move |epoch| {
            let order = self.order(epoch);
            let ranges = batches(order.len(), self.config.batch_size).into_iter();
            ranges.map(move |range| Filling { of: self, epoch, cases: order[range].to_vec() })
        })
    }

    /// The cases in the order of `epoch`.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut uniform = (self.streams.0)("nets.shuffle", &[&epoch.to_string()]);
        let mut order: Vec<usize> = (0..self.cases.n_cases()).collect();
        for last in (1..order.len()).rev() {
            let other = ((uniform() * (last + 1) as f64) as usize).min(last);
            order.swap(last, other);
        }
        order
    }

    fn draw(&self, epoch: usize, nth: usize, case: &Case) -> Draw {
        let outline = self.cases.outline();
        let corner = self.config.patch.map_or([0; 3], |patch| {
            let pixels = self.foreground[nth].get_or_init(|| foreground(outline, case));
            patch.corner((epoch, nth), outline, pixels, self.streams.0)
        });
        Draw { placement: self.placement(epoch, nth), corner }
    }

    fn placement(&self, epoch: usize, nth: usize) -> Placement {
        if !self.config.augmentation.enabled {
            return Placement::default();
        }
        let parts = [&*epoch.to_string(), &self.cases.outline().ids[nth]];
        self.config.augmentation.draw(&mut *(self.streams.0)("nets.augment", &parts))
    }
}

/// What a batch is filled with.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    of: &'a Assembly<'a>,
    epoch: usize,
    cases: Vec<usize>,
}

impl Filling<'_> {
    /// Replaces the content of `batch`; of the cases that do not stay in memory one is there at a time.
    ///
    /// # Errors
    /// Those of [`Samples::case`].
    pub(crate) fn put(self, batch: &mut Batch) -> Result<(), NetsError> {
        let outline = self.of.cases.outline();
        let size = self.of.config.patch.map_or(outline.size, |patch| patch.size);
        batch.start(self.cases.len(), size, outline);
        for (place, &nth) in self.cases.iter().enumerate() {
            let case = self.of.cases.case(nth)?;
            batch.put(place, &case, outline.size, self.of.draw(self.epoch, nth, &case));
        }
        Ok(())
    }
}

/// Ranges of `n_cases` cut into `batch_size`; a last batch of one case joins the one before it, because
/// normalization by the statistics of a single case is poor.
fn batches(n_cases: usize, batch_size: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<_> = (0..n_cases)
        .step_by(batch_size)
        .map(|start| start..(start + batch_size).min(n_cases))
        .collect();
    if let [.., before, last] = ranges.as_mut_slice()
        && last.len() == 1
        && batch_size > 1
    {
        before.end = last.end;
        ranges.pop();
    }
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::{
        PatchConfig,
        testing::{drawn_discs, kept, streams},
    };

    fn batches_of(config: &TrainingConfig, epochs: Range<usize>, n_kept: usize) -> Vec<Batch> {
        let (cases, streams) = (kept(drawn_discs(5, 16, 1), n_kept), streams(3));
        let assembly = Assembly::new(config, &cases, &streams);
        let filled = |filling: Filling<'_>| {
            let mut batch = Batch::default();
            filling.put(&mut batch).unwrap();
            batch
        };
        assembly.steps(epochs).map(filled).collect()
    }

    #[test]
    fn a_batch_is_a_function_of_its_place() {
        let patch = PatchConfig { size: [1, 8, 8], foreground_share: 0.5, overlap: 0.25 };
        for patch in [None, Some(patch)] {
            let config = TrainingConfig { batch_size: 2, patch, ..TrainingConfig::default() };
            let all = batches_of(&config, 0..3, 5);
            assert_eq!(all.len(), 6);
            assert_eq!(all[2..], batches_of(&config, 1..3, 5));
            assert_eq!(all, batches_of(&config, 0..3, 2));
            assert_ne!(all[0], all[2]);
            assert_eq!(all[0].size, patch.map_or([1, 16, 16], |patch| patch.size));
        }
    }

    #[test]
    fn batches_cover_every_case_once_and_none_is_of_one_case() {
        assert_eq!(batches(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(batches(9, 4), [0..4, 4..9]);
        assert_eq!(batches(1, 4).first(), Some(&(0..1)));
        assert_eq!(batches(3, 1), [0..1, 1..2, 2..3]);
        assert!(batches(0, 4).is_empty());
    }
}
