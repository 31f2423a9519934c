//! Label sampling: one of the sources speaks for the case.
//!
//! Source: Jensen et al., MICCAI 2019 (label sampling for the calibration of networks).
//! Deviation: they draw anew in every iteration of training; here a case keeps its draw, so that a label shard can be
//! stored, and several seeds stand for several draws.
//! Randomness: a stream for each (seed, case, source); the source with the largest number is chosen. So neither order
//! nor the other cases matter, and a source that is added takes only the cases that it wins. Cost: none.

use datasets::Stream;

/// Index of the source that speaks for `case`; `None` without sources.
///
/// Structures of a case share its draw. Of two sources of one name the first is chosen.
///
/// # Examples
/// ```
/// # use imaging::fusion::sample_source;
/// let chosen = sample_source(&["a", "b", "c"], "case-1", 7);
/// assert_eq!(chosen, sample_source(&["a", "b", "c"], "case-1", 7));
/// assert_eq!(sample_source(&[], "case-1", 7), None);
/// ```
pub fn sample_source(sources: &[&str], case: &str, seed: u64) -> Option<usize> {
    let number = |source: &str| Stream::new(seed, "fuse.sample", &[case, source]).bits();
    let numbered = sources.iter().enumerate().map(|(index, source)| (number(source), index));
    numbered
        .max_by_key(|&(number, index)| (number, std::cmp::Reverse(index)))
        .map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_gets_its_share() {
        let mut counts = [0; 3];
        for case in 0..3000 {
            let chosen = sample_source(&["a", "b", "c"], &format!("case-{case}"), 1);
            counts[chosen.unwrap_or_default()] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn an_added_source_only_takes_cases_away() {
        let mut n_taken = 0;
        for case in 0..400 {
            let case = format!("case-{case}");
            let before = sample_source(&["a", "b"], &case, 3);
            let after = sample_source(&["a", "b", "c"], &case, 3);
            n_taken += usize::from(after == Some(2));
            assert!(after == before || after == Some(2));
            let reversed = sample_source(&["b", "a"], &case, 3);
            assert_eq!(reversed.map(|index| 1 - index), before);
        }
        assert!((90..180).contains(&n_taken), "{n_taken}");
    }

    #[test]
    fn seeds_differ_and_equal_names_give_the_first() {
        let draws =
            |seed| (0..50).map(move |case| sample_source(&["a", "b"], &case.to_string(), seed));
        assert!(draws(1).ne(draws(2)));
        assert_eq!(sample_source(&["a", "a"], "case", 0), Some(0));
    }
}
