//! Fusing label maps with several classes: the vote and STAPLE with a confusion matrix for each source.
//!
//! Source: Rohlfing, Russakoff and Maurer, IEEE TMI 23 (2004), in the conventions of ITK's `LabelVotingImageFilter`
//! and `MultiLabelSTAPLEImageFilter`: the matrices start from the vote, ties left out and rows scaled to 1; priors
//! are the frequencies of the labels over all sources; the M step scales columns to 1; it ends when no entry changes
//! by the tolerance. A voxel without a single best label gets the *undecided* label, by default the largest label
//! plus one.
//! Deviation: numbers are `f64` where ITK has `f32`; iterations are limited to 1000 unless told otherwise.
//! Randomness: none. Cost: as binary STAPLE, times the number of labels.

use datasets::Grid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns::Patterns;
use crate::{ImagingError, error::check_option};

/// Map of class numbers; 0 is background by habit, not by rule.
pub type LabelMap = Grid<u8>;

/// A label map and the source that drew it.
#[derive(Clone, Copy, Debug)]
pub struct NamedLabels<'a> {
    /// Name of the source, for errors.
    pub source: &'a str,
    /// Its label map.
    pub labels: &'a LabelMap,
}

/// Settings of [`multi_label_staple`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultiLabelOptions {
    /// Iterations after which the estimate is taken as it is; 0 leaves the matrices of the vote. Default 1000.
    pub max_iterations: u32,
    /// An iteration that changes every entry by less than this is the last. Default 1e-5, as in ITK.
    pub tolerance: f64,
    /// Label of voxels without a single best label. Default: the largest label plus one.
    pub undecided: Option<u8>,
}

impl Default for MultiLabelOptions {
    fn default() -> Self {
        Self { max_iterations: 1000, tolerance: 1e-5, undecided: None }
    }
}

/// What [`multi_label_staple`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiLabelEstimate {
    /// The fused label map.
    pub labels: LabelMap,
    /// The label of voxels without a single best label.
    pub undecided: u8,
    /// Prior probability of each label.
    pub priors: Vec<f64>,
    /// For each source, `[drawn label][true label]`: how often it draws the one where the other is true.
    pub confusion: Vec<Vec<Vec<f64>>>,
    /// Iterations as ITK counts them: the number of the last one from 0, or the limit.
    pub iterations: u32,
    /// Whether it ended before the limit.
    pub has_converged: bool,
}

/// Gives every voxel the label that most sources give it; ties are undecided.
///
/// # Errors
/// [`ImagingError::NoMasks`], [`ImagingError::ShapesDiffer`], and [`ImagingError::NoUndecidedLabel`] when label 255
/// occurs and `undecided` is not given.
///
/// # Examples
/// ```
/// # use datasets::Grid; use imaging::fusion::{NamedLabels, vote_labels};
/// let (a, b) = (Grid::new([1, 1, 3], vec![0, 1, 2])?, Grid::new([1, 1, 3], vec![0, 1, 1])?);
/// let maps = [NamedLabels { source: "a", labels: &a }, NamedLabels { source: "b", labels: &b }];
/// assert_eq!(vote_labels(&maps, None)?.values(), [0, 1, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn vote_labels(
    maps: &[NamedLabels<'_>],
    undecided: Option<u8>,
) -> Result<LabelMap, ImagingError> {
    let patterns = collect(maps)?;
    let n_labels = count_labels(&patterns);
    let undecided = undecided_label(n_labels, undecided)?;
    Ok(patterns.spread(|pattern| {
        let votes = votes_for(&patterns.keys[pattern], n_labels);
        winner(&votes).unwrap_or(undecided)
    }))
}

/// Estimates the hidden label map behind `maps` together with the confusion matrix of each source.
///
/// # Errors
/// Those of [`vote_labels`], and [`ImagingError::OptionOutOfRange`] for a tolerance outside `[0, 1]`.
pub fn multi_label_staple(
    maps: &[NamedLabels<'_>],
    options: &MultiLabelOptions,
) -> Result<MultiLabelEstimate, ImagingError> {
    check_option("multi_label_staple", "tolerance", options.tolerance, [0.0, 1.0])?;
    let patterns = collect(maps)?;
    let n_labels = count_labels(&patterns);
    let undecided = undecided_label(n_labels, options.undecided)?;
    let priors = priors(&patterns, n_labels);
    let mut confusion = confusion_of_vote(&patterns, n_labels, maps.len());
    let mut has_converged = false;
    let mut iterations = 0;
    while iterations < options.max_iterations {
        let updated = update(&patterns, &priors, &confusion);
        let change = largest_change(&confusion, &updated);
        confusion = updated;
        if change < options.tolerance {
            has_converged = true;
            break;
        }
        iterations += 1;
    }
    let labels = patterns.spread(|pattern| {
        let likelihoods = likelihoods(&patterns.keys[pattern], &priors, &confusion);
        winner(&likelihoods).unwrap_or(undecided)
    });
    Ok(MultiLabelEstimate { labels, undecided, priors, confusion, iterations, has_converged })
}

/// Checks the shapes and groups the voxels.
fn collect(maps: &[NamedLabels<'_>]) -> Result<Patterns<u8>, ImagingError> {
    let first = maps.first().ok_or(ImagingError::NoMasks)?;
    for other in maps {
        if other.labels.shape() != first.labels.shape() {
            return Err(ImagingError::ShapesDiffer {
                left: first.source.to_owned(),
                left_shape: first.labels.shape(),
                right: other.source.to_owned(),
                right_shape: other.labels.shape(),
            });
        }
    }
    Ok(Patterns::collect(&maps.iter().map(|named| named.labels).collect::<Vec<_>>()))
}

/// One more than the largest label.
fn count_labels(patterns: &Patterns<u8>) -> usize {
    patterns.keys.iter().flatten().max().map_or(1, |&label| usize::from(label) + 1)
}

fn undecided_label(n_labels: usize, chosen: Option<u8>) -> Result<u8, ImagingError> {
    match chosen {
        Some(label) => Ok(label),
        None => u8::try_from(n_labels)
            .map_err(|_| ImagingError::NoUndecidedLabel { largest: n_labels - 1 }),
    }
}

fn votes_for(key: &[u8], n_labels: usize) -> Vec<f64> {
    let mut votes = vec![0.0; n_labels];
    for &label in key {
        votes[usize::from(label)] += 1.0;
    }
    votes
}

/// The label with the single largest positive score.
fn winner(scores: &[f64]) -> Option<u8> {
    let mut best = (0.0, None);
    for (label, &score) in scores.iter().enumerate() {
        if score > best.0 {
            best = (score, u8::try_from(label).ok());
        } else if score == best.0 {
            best.1 = None;
        }
    }
    best.1
}

/// Frequencies of the labels over all sources.
fn priors(patterns: &Patterns<u8>, n_labels: usize) -> Vec<f64> {
    let mut priors = vec![0.0; n_labels];
    for (key, count) in patterns.keys.iter().zip(&patterns.counts) {
        for &label in key {
            priors[usize::from(label)] += count;
        }
    }
    let total: f64 = priors.iter().sum();
    if total > 0.0 {
        priors.iter_mut().for_each(|prior| *prior /= total);
    }
    priors
}

/// Matrices of the sources against the vote, without its ties; rows sum to 1 or are empty.
fn confusion_of_vote(
    patterns: &Patterns<u8>,
    n_labels: usize,
    n_sources: usize,
) -> Vec<Vec<Vec<f64>>> {
    let mut confusion = vec![vec![vec![0.0; n_labels]; n_labels]; n_sources];
    for (key, count) in patterns.keys.iter().zip(&patterns.counts) {
        let Some(voted) = winner(&votes_for(key, n_labels)) else { continue };
        for (matrix, &drawn) in confusion.iter_mut().zip(key) {
            matrix[usize::from(drawn)][usize::from(voted)] += count;
        }
    }
    for row in confusion.iter_mut().flatten() {
        let sum: f64 = row.iter().sum();
        if sum > 0.0 {
            row.iter_mut().for_each(|entry| *entry /= sum);
        }
    }
    confusion
}

/// Prior times likelihood of every label for one combination of decisions.
fn likelihoods(key: &[u8], priors: &[f64], confusion: &[Vec<Vec<f64>>]) -> Vec<f64> {
    let mut products = priors.to_vec();
    for (matrix, &drawn) in confusion.iter().zip(key) {
        for (product, entry) in products.iter_mut().zip(&matrix[usize::from(drawn)]) {
            *product *= entry;
        }
    }
    products
}

/// One iteration: posterior of every combination, and the matrices that follow from it, columns scaled to 1.
fn update(
    patterns: &Patterns<u8>,
    priors: &[f64],
    confusion: &[Vec<Vec<f64>>],
) -> Vec<Vec<Vec<f64>>> {
    let n_labels = priors.len();
    let mut updated = vec![vec![vec![0.0; n_labels]; n_labels]; confusion.len()];
    for (key, count) in patterns.keys.iter().zip(&patterns.counts) {
        let weights = likelihoods(key, priors, confusion);
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 {
            continue;
        }
        for (matrix, &drawn) in updated.iter_mut().zip(key) {
            for (entry, weight) in matrix[usize::from(drawn)].iter_mut().zip(&weights) {
                *entry += count * weight / sum;
            }
        }
    }
    for matrix in &mut updated {
        for label in 0..n_labels {
            let sum: f64 = matrix.iter().map(|row| row[label]).sum();
            if sum > 0.0 {
                matrix.iter_mut().for_each(|row| row[label] /= sum);
            }
        }
    }
    updated
}

fn largest_change(old: &[Vec<Vec<f64>>], new: &[Vec<Vec<f64>>]) -> f64 {
    let entries = old.iter().flatten().flatten().zip(new.iter().flatten().flatten());
    entries.map(|(old, new)| (old - new).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;

    fn map(labels: &[u8]) -> LabelMap {
        Grid::new([1, 1, labels.len()], labels.to_vec()).unwrap()
    }

    fn named(maps: &[LabelMap]) -> Vec<NamedLabels<'_>> {
        maps.iter().map(|labels| NamedLabels { source: "rater", labels }).collect()
    }

    /// Inputs and outputs of ITK's own tests of voting and of multi-label STAPLE.
    fn itk() -> [LabelMap; 3] {
        [
            map(&[0, 1, 3, 3, 4, 6, 6, 0]),
            map(&[1, 1, 2, 4, 4, 5, 7, 1]),
            map(&[0, 2, 2, 3, 5, 5, 6, 8]),
        ]
    }

    #[test]
    fn golden_votes_of_itk() {
        let maps = itk();
        let two = vote_labels(&named(&maps[..2]), None).unwrap();
        assert_eq!(two.values(), [8, 1, 8, 8, 4, 8, 8, 8]);
        let chosen = vote_labels(&named(&maps[..2]), Some(255)).unwrap();
        assert_eq!(chosen.values(), [255, 1, 255, 255, 4, 255, 255, 255]);
        let three = vote_labels(&named(&maps), None).unwrap();
        assert_eq!(three.values(), [0, 1, 2, 3, 4, 5, 6, 9]);
    }

    #[test]
    fn golden_multi_label_staple_of_itk() {
        let maps = itk();
        let options = MultiLabelOptions::default();
        let two = multi_label_staple(&named(&maps[..2]), &options).unwrap();
        assert_eq!(two.labels.values(), [8, 1, 8, 8, 4, 8, 8, 8]);
        let three = multi_label_staple(&named(&maps), &options).unwrap();
        assert_eq!(three.labels.values(), [0, 1, 2, 3, 4, 5, 6, 9]);
        assert_eq!((three.undecided, three.has_converged), (9, true));
        let eighth = 1.0 / 8.0;
        let expected =
            [eighth, 1.0 / 6.0, eighth, eighth, eighth, eighth, eighth, 1.0 / 24.0, 1.0 / 24.0];
        for (found, expected) in three.priors.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{:?}", three.priors);
        }
        for matrix in &three.confusion {
            for label in 0..9 {
                let sum: f64 = matrix.iter().map(|row| row[label]).sum();
                assert!((sum - 1.0).abs() < 1e-12 || sum == 0.0, "{sum}");
            }
        }
    }

    /// ITK: `VotingUndecidedPixelsDoNotCorruptSeededConfusionMatrix`.
    #[test]
    fn golden_ties_are_left_out_of_the_first_matrices() {
        let maps = [map(&[0, 1, 0, 1]), map(&[0, 1, 1, 0])];
        let options = MultiLabelOptions { max_iterations: 0, ..MultiLabelOptions::default() };
        let estimate = multi_label_staple(&named(&maps), &options).unwrap();
        assert_eq!(estimate.confusion, vec![vec![vec![1.0, 0.0], vec![0.0, 1.0]]; 2]);
        assert_eq!(estimate.labels.values(), [0, 1, 2, 2]);
        assert_eq!((estimate.iterations, estimate.has_converged), (0, false));
    }

    /// Two sources tie wherever they differ, and since ties are left out of the first matrices nothing decides them.
    ///
    /// SimpleITK 2.5.7 gives 52 voxels of background here and none undecided: it counts ties in the matrix's next row,
    /// which ITK has repaired since.
    #[test]
    fn two_sources_leave_undecided_what_they_differ_in() {
        let square = |first: usize| {
            LabelMap::from_fn([1, 8, 8], |[_, row, column]| {
                u8::from((2..6).contains(&row) && (first..first + 4).contains(&column))
            })
        };
        let maps = [square(2), square(3)];
        let count = |undecided| {
            let options = MultiLabelOptions { undecided, ..MultiLabelOptions::default() };
            let fused = multi_label_staple(&named(&maps), &options).unwrap().labels;
            [0, 1, 2].map(|label| fused.values().iter().filter(|&&found| found == label).count())
        };
        assert_eq!(count(None), [44, 12, 8]);
        assert_eq!(count(Some(0)), [52, 12, 0]);
    }

    #[test]
    fn one_label_only_and_no_room_for_the_undecided() {
        let same = [map(&[0, 0]), map(&[0, 0])];
        let estimate = multi_label_staple(&named(&same), &MultiLabelOptions::default()).unwrap();
        assert_eq!((estimate.labels, estimate.undecided), (same[0].clone(), 1));
        let full = [map(&[0, 255])];
        let error = vote_labels(&named(&full), None).unwrap_err();
        assert_eq!(error, ImagingError::NoUndecidedLabel { largest: 255 });
        assert_eq!(vote_labels(&named(&full), Some(7)).unwrap(), full[0]);
        assert_eq!(vote_labels(&[], None), Err(ImagingError::NoMasks));
        let differing = [map(&[0]), map(&[0, 0])];
        let error = vote_labels(&named(&differing), None).unwrap_err();
        assert!(matches!(error, ImagingError::ShapesDiffer { .. }));
    }
}
