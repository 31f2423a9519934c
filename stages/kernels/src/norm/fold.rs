//! Batch normalization inside the weights of the convolution before it: inference then needs no pass of its own.

use super::{Affine, groups::inv_std};

/// Weights and bias of a convolution that gives what `weights` and `bias` and then the normalization would.
///
/// `weights` has the output channel as its last axis, as all weights of this crate; `bias` may be missing. `mean` and
/// `variance` are the running ones. An activation has to follow all the same.
///
/// # Panics
/// When the numbers of channels differ.
///
/// # Examples
/// ```
/// use kernels::{Affine, fold_norm};
/// let affine = Affine { scale: &[2.0], shift: &[1.0] };
/// let (weights, bias) = fold_norm(&[3.0, 4.0], None, affine, (&[5.0], &[0.25]));
/// // 2 * (w x - 5) / 0.5 + 1
/// assert!((weights[1] - 16.0).abs() < 1e-3 && (bias[0] + 19.0).abs() < 1e-3);
/// ```
pub fn fold_norm(
    weights: &[f32],
    bias: Option<&[f32]>,
    affine: Affine<'_>,
    (mean, variance): (&[f32], &[f32]),
) -> (Vec<f32>, Vec<f32>) {
    let n = affine.scale.len();
    let lens = [affine.shift.len(), mean.len(), variance.len(), bias.map_or(n, <[f32]>::len)];
    assert_eq!(lens, [n; 4], "one number a channel");
    assert!(n > 0 && weights.len().is_multiple_of(n), "weights of {n} output channels");
    let factor: Vec<f32> = (0..n)
        .map(|channel| affine.scale[channel] * inv_std(f64::from(variance[channel])))
        .collect();
    let folded = (weights.iter().zip(factor.iter().cycle())).map(|(weight, by)| weight * by);
    let offset = |channel: usize| {
        let distance = bias.map_or(0.0, |bias| bias[channel]) - mean[channel];
        distance * factor[channel] + affine.shift[channel]
    };
    (folded.collect(), (0..n).map(offset).collect())
}
