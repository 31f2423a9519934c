//! Sums over the pixels of a channels-last buffer, one a channel, in a fixed order.

use crate::{Element, norm::channel_sums};

/// Adds to each of `sums` the sum of its channel over all pixels of `values`, `[pixel, channel]`.
pub(crate) fn add_channel_sums<E: Element>(values: &[E], sums: &mut [f32]) {
    let found = channel_sums(values, sums.len());
    sums.iter_mut().zip(found).for_each(|(sum, value)| *sum += value as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bf16,
        reference::{assert_close, numbers, on_all_sets},
    };

    fn check<E: Element>(n_channels: usize, n_pixels: usize) {
        let values: Vec<E> =
            numbers(n_channels * n_pixels, 5).into_iter().map(|v| E::narrow(v + 0.1)).collect();
        let mut expected = vec![1.0; n_channels];
        for (at, value) in values.iter().enumerate() {
            expected[at % n_channels] += f64::from(value.widen());
        }
        let run = || {
            let mut sums = vec![1.0; n_channels];
            add_channel_sums(&values, &mut sums);
            sums
        };
        for found in on_all_sets(run) {
            assert_close(&found, &expected, &format!("{} {n_channels} x {n_pixels}", E::NAME));
        }
    }

    #[test]
    fn sums_are_those_of_f64() {
        for (n_channels, n_pixels) in [(1, 1), (1, 70_001), (3, 50), (24, 4003), (64, 2500)] {
            check::<f32>(n_channels, n_pixels);
            check::<bf16>(n_channels, n_pixels);
        }
    }
}
