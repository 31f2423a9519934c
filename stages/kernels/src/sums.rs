//! Sums over the pixels of a channels-last buffer, one a channel, in a fixed order.

use crate::parallel::{Scratch, SharedMut, for_each_task, part};

/// Pixels of one partial sum, at least.
const CHUNK_PIXELS: usize = 2048;
/// Partial sums, at most.
const MAX_CHUNKS: usize = 64;

/// Adds to each of `sums` the sum of its channel over all pixels of `values`, `[pixel, channel]`.
pub(crate) fn add_channel_sums(values: &[f32], sums: &mut [f32]) {
    let n_channels = sums.len();
    let n_pixels = values.len() / n_channels;
    let n_chunks = n_pixels.div_ceil(CHUNK_PIXELS).clamp(1, MAX_CHUNKS);
    let mut partial = Scratch::zeroed(n_chunks * n_channels);
    let shared = SharedMut::new(&mut partial);
    for_each_task(n_chunks, |chunk| {
        let pixels = part(n_pixels, n_chunks, chunk);
        // SAFETY: chunks have places of their own in `partial`, which outlives the tasks.
        let target = unsafe { shared.slice(chunk * n_channels, n_channels) };
        for pixel in
            values[pixels.start * n_channels..pixels.end * n_channels].chunks_exact(n_channels)
        {
            target.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
        }
    });
    for chunk in partial.chunks_exact(n_channels) {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
}
