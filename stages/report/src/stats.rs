//! Mean, spread and order of few numbers.

/// Mean and spread of the finite values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Number of finite values.
    pub n: usize,
    /// Their mean; absent without values.
    pub mean: Option<f64>,
    /// Their sample standard deviation (divided by n − 1); absent below two values.
    pub sd: Option<f64>,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// Summarizes the finite ones of `values`; NaN and infinities only lower `n`.
pub fn summarize(values: &[f64]) -> Summary {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.is_empty() {
        return Summary::default();
    }
    let count = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / count;
    let squares: f64 = finite.iter().map(|value| (value - mean).powi(2)).sum();
    Summary {
        n: finite.len(),
        mean: Some(mean),
        sd: (finite.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        min: finite.iter().copied().reduce(f64::min),
        max: finite.iter().copied().reduce(f64::max),
    }
}

/// Quantile of the finite ones of `values` by linear interpolation; `share` from 0 to 1.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor()))
}

/// A score with its spread over seeds and the value to which its order is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Label of the row.
    pub label: String,
    /// Mean over seeds.
    pub ours: f64,
    /// Standard deviation over seeds.
    pub sd: Option<f64>,
    /// The paper's value.
    pub paper: Option<f64>,
}

/// A pair of rows whose order is not the paper's.
#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    /// The row that is larger in the paper.
    pub larger_in_paper: String,
    /// The row that is larger here, or as large.
    pub larger_here: String,
    /// Whether the two are equal here.
    pub level: bool,
    /// Whether the difference here is within the joint standard deviation over seeds.
    pub within_spread: bool,
}

/// Number of pairs that can be compared with the paper, and those that are turned round.
///
/// A pair counts when both rows have a paper value and these differ; equal values of ours count as turned round
/// within the spread.
pub fn order_against_paper(rows: &[Ranked]) -> (usize, Vec<Swap>) {
    let mut pairs = 0;
    let mut swaps = Vec::new();
    for (index, first) in rows.iter().enumerate() {
        for second in &rows[index + 1..] {
            let (Some(first_paper), Some(second_paper)) = (first.paper, second.paper) else {
                continue;
            };
            let (larger, smaller) = match first_paper.partial_cmp(&second_paper) {
                Some(std::cmp::Ordering::Greater) => (first, second),
                Some(std::cmp::Ordering::Less) => (second, first),
                _ => continue,
            };
            pairs += 1;
            if larger.ours <= smaller.ours {
                swaps.push(swap(larger, smaller));
            }
        }
    }
    (pairs, swaps)
}

/// Describes a pair that is turned round.
fn swap(larger_in_paper: &Ranked, larger_here: &Ranked) -> Swap {
    let joint = match (larger_in_paper.sd, larger_here.sd) {
        (Some(first), Some(second)) => first.hypot(second),
        _ => 0.0,
    };
    Swap {
        larger_in_paper: larger_in_paper.label.clone(),
        larger_here: larger_here.label.clone(),
        level: larger_here.ours == larger_in_paper.ours,
        within_spread: larger_here.ours - larger_in_paper.ours <= joint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, ours: f64, sd: Option<f64>, paper: Option<f64>) -> Ranked {
        Ranked { label: label.to_owned(), ours, sd, paper }
    }

    #[test]
    fn summary_leaves_broken_values_out() {
        let summary = summarize(&[1.0, f64::NAN, 3.0, f64::INFINITY]);
        assert_eq!(summary.n, 2);
        assert_eq!(summary.mean, Some(2.0));
        assert_eq!(summary.sd, Some(2f64.sqrt()));
        assert_eq!(summarize(&[5.0]).sd, None);
        assert_eq!(summarize(&[f64::NAN]), Summary::default());
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[7.0], 0.9), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn order_finds_swaps_and_their_weight() {
        let rows = [
            row("a", 80.0, Some(1.0), Some(70.0)),
            row("b", 79.5, Some(1.0), Some(75.0)),
            row("c", 60.0, None, Some(90.0)),
            row("d", 99.0, None, None),
        ];
        let (pairs, swaps) = order_against_paper(&rows);
        assert_eq!(pairs, 3);
        let found: Vec<_> = swaps
            .iter()
            .map(|swap| {
                (swap.larger_in_paper.as_str(), swap.larger_here.as_str(), swap.within_spread)
            })
            .collect();
        assert_eq!(found, [("b", "a", true), ("c", "a", false), ("c", "b", false)]);
    }
}
