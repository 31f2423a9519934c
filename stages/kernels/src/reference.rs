//! Slow and obvious versions of the operations in f64, for tests.

use crate::{Conv, Element, Volume};

/// Largest error of a f32 sum of a few thousand products, relative to the norm of the result.
pub(crate) const TOLERANCE: f64 = 1e-5;

/// Numbers in `[-0.5, 0.5)`, the same for the same seed.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// Distance of `found` from `expected` relative to the norm of `expected`.
pub(crate) fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "number of values");
    let distance: f64 = found.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| b * b).sum();
    (distance / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// Fails when `found` is further from `expected` than [`TOLERANCE`].
pub(crate) fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    let error = relative_error(found, expected);
    assert!(error <= TOLERANCE, "{what}: relative error {error:.2e}");
}

/// Fails when `found` is further from `expected` than [`TOLERANCE`] and one rounding to the format.
pub(crate) fn assert_rounded<E: Element>(found: &[E], expected: &[f64], what: &str) {
    /// Half a unit in the last of the 8 binary digits of bf16, relative to a power of two.
    const ROUNDING: f64 = 1.0 / 256.0;
    let error = relative_error(&wide(found), expected);
    let tolerance = if E::as_f32(&[]).is_some() { TOLERANCE } else { TOLERANCE + ROUNDING };
    assert!(error <= tolerance, "{what} in {}: relative error {error:.2e}", E::NAME);
}

/// The same numbers as f32.
pub(crate) fn wide<E: Element>(values: &[E]) -> Vec<f32> {
    values.iter().map(|value| value.widen()).collect()
}

/// [`numbers`] rounded to the format.
pub(crate) fn rounded_numbers<E: Element>(len: usize, seed: u64) -> Vec<E> {
    numbers(len, seed).into_iter().map(E::narrow).collect()
}

/// Dot product in f64.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Calls `visit` with (output pixel, input pixel, tap) for all neighbours inside the volume.
pub(crate) fn neighbours(conv: &Conv, volume: Volume, mut visit: impl FnMut(usize, usize, usize)) {
    let [kd, kh, kw] = conv.kernel;
    let Volume { batch, slices, rows, columns } = volume;
    let inside = |at: usize, tap: usize, kernel: usize, len: usize| {
        (at + tap).checked_sub(kernel / 2).filter(|&source| source < len)
    };
    for pixel in 0..batch * slices * rows * columns {
        let (x, y) = (pixel % columns, pixel / columns % rows);
        let (z, b) = (pixel / columns / rows % slices, pixel / columns / rows / slices);
        for tap in 0..kd * kh * kw {
            let sources = (
                inside(z, tap / kw / kh, kd, slices),
                inside(y, tap / kw % kh, kh, rows),
                inside(x, tap % kw, kw, columns),
            );
            if let (Some(z), Some(y), Some(x)) = sources {
                visit(pixel, ((b * slices + z) * rows + y) * columns + x, tap);
            }
        }
    }
}

/// Both inputs side by side, `[pixel, channel]`.
pub(crate) fn joined(conv: &Conv, inputs: [&[f32]; 2]) -> Vec<f32> {
    let [a, b] = conv.in_channels;
    let n_pixels = inputs[0].len() / a;
    (0..n_pixels)
        .flat_map(|pixel| {
            [&inputs[0][pixel * a..(pixel + 1) * a], &inputs[1][pixel * b..(pixel + 1) * b]]
                .concat()
        })
        .collect()
}

/// Forward convolution without bias.
pub(crate) fn forward(conv: &Conv, volume: Volume, joined: &[f32], weights: &[f32]) -> Vec<f64> {
    let (n_in, n_out) = (conv.n_inputs(), conv.out_channels);
    let mut output = vec![0.0; volume.n_pixels() * n_out];
    neighbours(conv, volume, |to, from, tap| {
        for channel in 0..n_in {
            let value = f64::from(joined[from * n_in + channel]);
            let row = &weights[(tap * n_in + channel) * n_out..][..n_out];
            for (sum, &weight) in output[to * n_out..].iter_mut().zip(row) {
                *sum += value * f64::from(weight);
            }
        }
    });
    output
}

/// Gradient of the joined input.
pub(crate) fn input_gradient(
    conv: &Conv,
    volume: Volume,
    gradient: &[f32],
    weights: &[f32],
) -> Vec<f64> {
    let (n_in, n_out) = (conv.n_inputs(), conv.out_channels);
    let mut input = vec![0.0; volume.n_pixels() * n_in];
    neighbours(conv, volume, |to, from, tap| {
        for channel in 0..n_in {
            let row = &weights[(tap * n_in + channel) * n_out..][..n_out];
            input[from * n_in + channel] += dot(row, &gradient[to * n_out..][..n_out]);
        }
    });
    input
}

/// Gradient of the weights.
pub(crate) fn weight_gradient(
    conv: &Conv,
    volume: Volume,
    joined: &[f32],
    gradient: &[f32],
) -> Vec<f64> {
    let (n_in, n_out) = (conv.n_inputs(), conv.out_channels);
    let mut weights = vec![0.0; conv.n_weights()];
    neighbours(conv, volume, |to, from, tap| {
        for channel in 0..n_in {
            let value = f64::from(joined[from * n_in + channel]);
            let row = &mut weights[(tap * n_in + channel) * n_out..][..n_out];
            for (sum, &gradient) in row.iter_mut().zip(&gradient[to * n_out..]) {
                *sum += value * f64::from(gradient);
            }
        }
    });
    weights
}

/// Runs `body` with every instruction set of the machine on pools of 1, 2, 3 and 16 threads; returns the
/// result of each set after checking that it does not depend on the number of threads.
pub(crate) fn on_all_sets<T: PartialEq + std::fmt::Debug + Send>(
    body: impl Fn() -> T + Sync,
) -> Vec<T> {
    let run = |isa, n_threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
        let pool = pool.expect("a pool of a few threads can be built");
        pool.install(|| crate::with_isa(isa, &body)).expect("the set is available")
    };
    let sets = crate::Isa::available().into_iter();
    sets.map(|isa| {
        let alone = run(isa, 1);
        assert!(
            [2, 3, 16].into_iter().all(|n_threads| run(isa, n_threads) == alone),
            "{isa:?}: threads change bytes"
        );
        alone
    })
    .collect()
}
