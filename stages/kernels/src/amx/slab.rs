//! Image rows copied with the border that a kernel reads, and with all inputs of a pixel side by side.

use std::ops::Range;

use half::bf16;

use super::{panel::n_parts, shuffle, tiles::STEP};
use crate::{
    Element,
    volume::{Source, Volume},
};

/// Left rows past the last position that a product may read; their sums are thrown away.
const ROWS: usize = 64;

/// What a pass reads: the neighbourhoods of all pixels.
///
/// A slab holds some rows of one slice, `[line][position]`, with zeros where the kernel reaches outside. Lines
/// share one border between them, so neighbours of a position are always the same distance away.
pub(crate) struct Feed<'a, E> {
    pub(crate) volume: Volume,
    pub(crate) kernel: [usize; 3],
    /// Inputs with their numbers of channels, in the order in which a pixel has them.
    pub(crate) sources: Vec<(Source<'a, E>, usize)>,
}

impl<E: Element> Feed<'_, E> {
    /// Channels of all inputs.
    pub(crate) fn n_channels(&self) -> usize {
        self.sources.iter().map(|(_, n_channels)| n_channels).sum()
    }

    /// Positions from one line to the next.
    pub(crate) fn pitch(&self) -> usize {
        self.volume.columns + self.kernel[2] / 2
    }

    /// Numbers of a slab for `n_rows` image rows.
    pub(crate) fn slab_len(&self, n_rows: usize) -> usize {
        let positions = (n_rows + self.kernel[1] - 1) * self.pitch() + self.kernel[2] + ROWS;
        (positions * self.n_channels() + STEP).next_multiple_of(STEP)
    }

    /// Positions of `n_rows` image rows, up to the last pixel.
    pub(crate) fn n_positions(&self, n_rows: usize) -> usize {
        n_rows * self.pitch() - self.kernel[2] / 2
    }

    /// Slices of kernel slice `tap` around slice `image` of the batch; none outside the volume.
    pub(crate) fn source_image(&self, image: usize, tap: usize) -> Option<usize> {
        let slices = self.volume.slices;
        let slice = (image % slices + tap).checked_sub(self.kernel[0] / 2)?;
        (slice < slices).then(|| image / slices * slices + slice)
    }

    /// Fills `slab` with `rows` of slice `image` and the border around them; zeros where there is no image. Of f32
    /// the upper parts are followed by a slab of the lower parts.
    pub(crate) fn fill(&self, image: Option<usize>, rows: &Range<usize>, slab: &mut [bf16]) {
        let (high, low) = slab.split_at_mut(slab.len() / n_parts::<E>());
        self.fill_parts(image, rows, [high, low]);
    }

    /// Fills slabs of upper and lower parts; the latter is empty for bf16.
    fn fill_parts(&self, image: Option<usize>, rows: &Range<usize>, mut slabs: [&mut [bf16]; 2]) {
        let (n_channels, margin) = (self.n_channels(), self.kernel[1] / 2);
        let (lead, line_len) = (self.kernel[2] / 2 * n_channels, self.pitch() * n_channels);
        let n_lines = rows.len() + 2 * margin;
        let pixels = self.volume.columns * n_channels;
        for slab in slabs.iter_mut().take(n_parts::<E>()) {
            slab[..lead].fill(bf16::ZERO);
            // The last pixel's sum runs past the last border by less than a step, with zero weights.
            let end = lead + n_lines * line_len;
            slab[end..end + self.kernel[2] * n_channels + STEP].fill(bf16::ZERO);
        }
        for line in 0..n_lines {
            let start = lead + line * line_len;
            let row = (rows.start + line).checked_sub(margin).filter(|&row| row < self.volume.rows);
            let source = image.zip(row).map(|(image, row)| image * self.volume.rows + row);
            let kept = source.map_or(0, |_| pixels);
            for slab in slabs.iter_mut().take(n_parts::<E>()) {
                slab[start + kept..start + line_len].fill(bf16::ZERO);
            }
            if let Some(row) = source {
                let [high, low] = &mut slabs;
                let high = &mut high[start..start + pixels];
                let low = if low.is_empty() { &mut [] } else { &mut low[start..start + pixels] };
                self.copy_row(row, [high, low]);
            }
        }
    }

    /// Copies image row `row` of all inputs.
    fn copy_row(&self, row: usize, mut targets: [&mut [bf16]; 2]) {
        let (columns, n_channels) = (self.volume.columns, self.n_channels());
        let mut first = 0;
        for &(source, count) in &self.sources {
            let from = source.row(row, columns * count);
            let is_alone = count == n_channels;
            // SAFETY: the vectors come with the tile unit; both rows hold `columns` pixels, the input's channels lie
            // inside the pixel, and there is a slab for each part.
            unsafe {
                let to = [0, 1].map(|part: usize| match part < n_parts::<E>() {
                    true => targets[part].as_mut_ptr().add(first),
                    false => std::ptr::null_mut(),
                });
                match n_parts::<E>() {
                    1 if is_alone => {
                        to[0].copy_from_nonoverlapping(from.as_ptr().cast(), from.len())
                    }
                    1 => shuffle::copy_pixels(
                        (from.as_ptr().cast(), count),
                        (to[0], n_channels),
                        count,
                        columns,
                    ),
                    _ if is_alone => shuffle::split(from.as_ptr(), to, from.len()),
                    _ => {
                        for (pixel, from) in from.chunks_exact(count).enumerate() {
                            let to = to.map(|to| to.add(pixel * n_channels));
                            shuffle::split(from.as_ptr(), to, count);
                        }
                    }
                }
            }
            first += count;
        }
    }
}
