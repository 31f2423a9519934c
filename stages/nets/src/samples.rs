//! A set of cases: what is known of them all, and their voxels, which are read when they are needed.
//!
//! The first cases stay in memory, as many as the set was told to keep; the others are read again by whoever asks. Each
//! epoch needs every case once and in an order of its own, so no other choice of cases would be read less often.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
};

use crate::{NetsError, TaskShape};

/// One case in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Case {
    /// Image `[slice, row, column, channel]`, finite, normalized by whoever reads it.
    pub image: Vec<f32>,
    /// Per source, a label `[slice, row, column, structure]` of 0 and 1.
    pub labels: Vec<Vec<u8>>,
    /// Clean mask shaped as a label, for validation only; never seen by a network.
    pub truth: Option<Vec<u8>>,
}

impl Case {
    /// Whether more than half of the sources mark the place `place` of their labels; a tie is background.
    pub(crate) fn is_voted(&self, place: usize) -> bool {
        2 * self.labels.iter().filter(|label| label[place] > 0).count() > self.labels.len()
    }

    /// Pixels that more than half of the sources mark, shaped as a label.
    pub fn majority_vote(&self) -> Vec<u8> {
        let len = self.labels.first().map_or(0, Vec::len);
        (0..len).map(|place| u8::from(self.is_voted(place))).collect()
    }
}

/// What is known of a set of cases of one size before any of them is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// One id per case; a key of the randomness of patches and movements.
    pub ids: Vec<String>,
    /// Axes of every case, `[slice, row, column]`; 2-D has one slice.
    pub size: [usize; 3],
    /// Channels of every image.
    pub n_channels: usize,
    /// Structures of every label.
    pub n_structures: usize,
    /// Labels of every case.
    pub n_sources: usize,
    /// Whether the cases have clean masks.
    pub has_truth: bool,
}

impl Outline {
    /// Numbers that a network for these cases is built with.
    pub fn shape(&self) -> TaskShape {
        TaskShape {
            n_channels: self.n_channels,
            n_structures: self.n_structures,
            n_sources: self.n_sources,
        }
    }

    /// Pixels of one case.
    pub fn n_pixels(&self) -> usize {
        self.size.iter().product()
    }

    /// Values of one mask.
    pub(crate) fn mask_len(&self) -> usize {
        self.n_pixels() * self.n_structures
    }

    /// Values of one image.
    pub(crate) fn image_len(&self) -> usize {
        self.n_pixels() * self.n_channels
    }

    /// Bytes of one case in memory.
    pub fn case_bytes(&self) -> u64 {
        let masks = self.n_sources + usize::from(self.has_truth);
        (size_of::<f32>() * self.image_len() + masks * self.mask_len()) as u64
    }

    /// Checks that there are channels, structures, sources and pixels; a set may have no case.
    ///
    /// # Errors
    /// [`NetsError::Config`] for the first that is missing.
    pub fn validate(&self) -> Result<(), NetsError> {
        self.shape().validate()?;
        for (field, side) in ["slices", "rows", "columns"].into_iter().zip(self.size) {
            NetsError::check(field, "at least 1", side, side > 0)?;
        }
        Ok(())
    }

    /// Checks lengths, that the image is finite and that masks hold 0 and 1 only.
    ///
    /// # Errors
    /// [`NetsError::Count`], [`NetsError::Shape`], [`NetsError::ImageNotFinite`] or [`NetsError::LabelValue`] for the
    /// first fault (the clean mask counts as the source after the last).
    fn check(&self, nth: usize, case: &Case) -> Result<(), NetsError> {
        let [slices, rows, columns] = self.size;
        let image = [slices, rows, columns, self.n_channels];
        NetsError::check_len("image", "[slice, row, column, channel]", &image, case.image.len())?;
        if let Some(place) = case.image.iter().position(|value| !value.is_finite()) {
            let pixel = place / self.n_channels;
            return Err(NetsError::ImageNotFinite {
                case: self.ids[nth].clone(),
                slice: pixel / (rows * columns),
                row: pixel / columns % rows,
                column: pixel % columns,
                channel: place % self.n_channels,
            });
        }
        let (expected, found) = (self.n_sources, case.labels.len());
        if expected != found {
            return Err(NetsError::Count { what: "sources", expected, found });
        }
        if self.has_truth != case.truth.is_some() {
            let (expected, found) = (usize::from(self.has_truth), usize::from(!self.has_truth));
            return Err(NetsError::Count { what: "clean masks of a case", expected, found });
        }
        let mask = [slices, rows, columns, self.n_structures];
        for (source_idx, label) in case.labels.iter().chain(&case.truth).enumerate() {
            let name = format!("label of source {source_idx}");
            NetsError::check_len(&name, "[slice, row, column, structure]", &mask, label.len())?;
            if let Some(&found) = label.iter().find(|&&value| value > 1) {
                let case = self.ids[nth].clone();
                return Err(NetsError::LabelValue { case, source_idx, found });
            }
        }
        Ok(())
    }
}

/// Why a case could not be read.
pub type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// Reads cases from wherever they lie.
pub trait ReadCase: Send + Sync {
    /// The case at `nth` of the outline; the same whenever it is asked for.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn read(&self, nth: usize) -> Result<Arc<Case>, ReadError>;
}

/// Cases that are in memory already.
impl ReadCase for Vec<Arc<Case>> {
    fn read(&self, nth: usize) -> Result<Arc<Case>, ReadError> {
        Ok(Arc::clone(&self[nth]))
    }
}

/// A set of cases of one size, some of them in memory.
pub struct Samples {
    outline: Outline,
    reader: Box<dyn ReadCase>,
    /// The first cases, those that stay once they were read.
    kept: Vec<OnceLock<Arc<Case>>>,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Samples");
        fields.field("outline", &self.outline).field("n_kept", &self.kept.len());
        fields.finish_non_exhaustive()
    }
}

impl Samples {
    /// The cases of `outline`, of which the first `n_kept` stay in memory once they were read.
    pub fn new(outline: Outline, reader: impl ReadCase + 'static, n_kept: usize) -> Self {
        let n_kept = n_kept.min(outline.ids.len());
        let kept = (0..n_kept).map(|_| OnceLock::new()).collect();
        Self { outline, reader: Box::new(reader), kept }
    }

    /// What is known of the cases.
    pub fn outline(&self) -> &Outline {
        &self.outline
    }

    /// Number of cases.
    pub fn n_cases(&self) -> usize {
        self.outline.ids.len()
    }

    /// Whether a case may have to be read again.
    pub fn is_streamed(&self) -> bool {
        self.kept.len() < self.n_cases()
    }

    /// The case at `nth`, from memory or read and checked.
    ///
    /// # Errors
    /// [`NetsError::CaseUnread`], and [`NetsError::Count`], [`NetsError::Shape`], [`NetsError::ImageNotFinite`] and
    /// [`NetsError::LabelValue`] for a case that is not as the outline says.
    pub fn case(&self, nth: usize) -> Result<Arc<Case>, NetsError> {
        let place = self.kept.get(nth);
        if let Some(case) = place.and_then(OnceLock::get) {
            return Ok(Arc::clone(case));
        }
        let case = self.reader.read(nth).map_err(|source| {
            let case = self.outline.ids[nth].clone();
            NetsError::CaseUnread { case, source }
        })?;
        self.outline.check(nth, &case)?;
        Ok(place.map_or_else(
            || Arc::clone(&case),
            |place| Arc::clone(place.get_or_init(|| Arc::clone(&case))),
        ))
    }

    /// Reads and checks what stays in memory by `n_threads` threads, so that faults are found before the first step.
    ///
    /// # Errors
    /// Those of [`Outline::validate`], and those of [`Samples::case`] for the first case with a fault.
    pub fn load(&self, n_threads: usize) -> Result<(), NetsError> {
        self.outline.validate()?;
        let next = AtomicUsize::new(0);
        // Cases are taken in order and a thread stops at nothing but a fault, so the first fault is always met.
        let work = || loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= self.kept.len() {
                return None;
            }
            if let Err(fault) = self.case(nth) {
                return Some((nth, fault));
            }
        };
        std::thread::scope(|scope| {
            let n_threads = n_threads.clamp(1, self.kept.len().max(1));
            let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
            let ends = threads.into_iter().map(|thread| thread.join());
            let faults = ends.filter_map(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
            faults.min_by_key(|(nth, _)| *nth).map_or(Ok(()), |(_, fault)| Err(fault))
        })
    }

    /// Calls `take` with all cases in order; while it works on one, the next is read if it is not in memory.
    ///
    /// # Errors
    /// Those of [`Samples::case`] and of `take`.
    pub fn each(
        &self,
        mut take: impl FnMut(usize, &Case) -> Result<(), NetsError>,
    ) -> Result<(), NetsError> {
        if !self.is_streamed() {
            return (0..self.n_cases()).try_for_each(|nth| take(nth, &*self.case(nth)?));
        }
        std::thread::scope(|scope| {
            // Nothing waits in the channel: besides the case at work one more is in memory.
            let (read, ready) = sync_channel(0);
            scope.spawn(move || {
                for nth in 0..self.n_cases() {
                    let case = self.case(nth);
                    let is_last = case.is_err();
                    if read.send(case).is_err() || is_last {
                        break;
                    }
                }
            });
            ready.into_iter().enumerate().try_for_each(|(nth, case)| take(nth, &*case?))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn outline(n_cases: usize) -> Outline {
        Outline {
            ids: (0..n_cases).map(|nth| format!("case-{nth}")).collect(),
            size: [1, 1, 2],
            n_channels: 1,
            n_structures: 1,
            n_sources: 2,
            has_truth: false,
        }
    }

    fn case(first: f32) -> Case {
        Case { image: vec![first, first + 1.0], labels: vec![vec![1, 1], vec![1, 0]], truth: None }
    }

    #[test]
    fn votes_are_strict() {
        let mut drawn = case(0.0);
        assert_eq!(drawn.majority_vote(), [1, 0]);
        drawn.labels.push(vec![0, 1]);
        assert_eq!(drawn.majority_vote(), [1, 1]);
    }

    #[test]
    fn faults_are_named_when_a_case_is_read() {
        let read = |case: Case| Samples::new(outline(1), vec![Arc::new(case)], 1).load(1);
        assert!(read(case(0.0)).is_ok());
        let mut short = case(0.0);
        short.labels[1].pop();
        assert!(matches!(read(short), Err(NetsError::Shape { expected: 2, found: 1, .. })));
        let fewer = Case { labels: vec![vec![0, 0]], ..case(0.0) };
        assert!(matches!(read(fewer), Err(NetsError::Count { what: "sources", .. })));
        let more = Case { truth: Some(vec![0, 0]), ..case(0.0) };
        assert!(matches!(read(more), Err(NetsError::Count { expected: 0, found: 1, .. })));
        let mut grey = case(0.0);
        grey.labels[1][1] = 255;
        let fault = read(grey).unwrap_err();
        assert!(
            matches!(fault, NetsError::LabelValue { ref case, source_idx: 1, found: 255 } if case == "case-0")
        );
        let fault = read(Case { image: vec![0.0, f32::NAN], ..case(0.0) }).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "image of case `case-0` is not finite at slice 0, row 0, column 1, channel 0"
        );
        let flat = Outline { size: [1, 0, 2], ..outline(0) };
        assert!(matches!(flat.validate(), Err(NetsError::Config { field: "rows", .. })));
    }

    /// Gives every case and counts how often each was asked for; fails at the case `fails_at`.
    struct Counting {
        reads: Arc<Vec<AtomicUsize>>,
        fails_at: usize,
    }

    impl ReadCase for Counting {
        fn read(&self, nth: usize) -> Result<Arc<Case>, ReadError> {
            self.reads[nth].fetch_add(1, Relaxed);
            if nth == self.fails_at { Err("gone".into()) } else { Ok(Arc::new(case(nth as f32))) }
        }
    }

    #[test]
    fn what_is_kept_is_read_once_and_the_rest_whenever_it_is_needed() {
        let reads: Arc<Vec<AtomicUsize>> = Arc::new((0..5).map(|_| AtomicUsize::new(0)).collect());
        let reader = Counting { reads: Arc::clone(&reads), fails_at: usize::MAX };
        let samples = Samples::new(outline(5), reader, 2);
        assert!(samples.is_streamed());
        samples.load(3).unwrap();
        for _ in 0..3 {
            let mut seen = Vec::new();
            let look = |nth: usize, case: &Case| {
                seen.push((nth, case.image[0]));
                Ok(())
            };
            samples.each(look).unwrap();
            assert_eq!(seen, [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        }
        let reads: Vec<usize> = reads.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(reads, [1, 1, 3, 3, 3]);
        assert_eq!(samples.outline().case_bytes(), 2 * 4 + 2 * 2);
    }

    #[test]
    fn a_case_that_cannot_be_read_ends_the_pass_with_its_id() {
        for n_kept in [0, 5] {
            let reads = Arc::new((0..5).map(|_| AtomicUsize::new(0)).collect());
            let samples = Samples::new(outline(5), Counting { reads, fails_at: 3 }, n_kept);
            if n_kept > 0 {
                let fault = samples.load(2).unwrap_err();
                assert!(
                    matches!(fault, NetsError::CaseUnread { ref case, .. } if case == "case-3")
                );
            }
            let mut n_taken = 0;
            let take = |_: usize, _: &Case| {
                n_taken += 1;
                Ok(())
            };
            let fault = samples.each(take).unwrap_err();
            assert!(matches!(fault, NetsError::CaseUnread { ref case, .. } if case == "case-3"));
            assert_eq!(n_taken, 3);
            let refused = samples.each(|_, _| Err(NetsError::Empty { split: "test" }));
            assert!(matches!(refused, Err(NetsError::Empty { .. })));
        }
    }
}
