//! Axes of a batch, and bands of image rows copied with the border that a kernel reads.

use std::ops::{Deref, Range};

use crate::{
    Element,
    parallel::Scratch,
    tile::{MAX_ROWS, SKIP},
};

/// Axes of a batch of channels-last volumes `[batch, slice, row, column, channel]`; 2-D has one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Number of volumes.
    pub batch: usize,
    /// Slices of each; 1 in 2-D.
    pub slices: usize,
    /// Rows of each slice.
    pub rows: usize,
    /// Columns of each row.
    pub columns: usize,
}

impl Volume {
    /// A batch of 2-D images.
    pub fn flat(batch: usize, rows: usize, columns: usize) -> Self {
        Self { batch, slices: 1, rows, columns }
    }

    /// Pixels of the whole batch.
    pub fn n_pixels(self) -> usize {
        self.image_rows() * self.columns
    }

    /// Rows of the whole batch, counted through volumes and slices.
    pub(crate) fn image_rows(self) -> usize {
        self.batch * self.slices * self.rows
    }
}

/// Which rows of a buffer stand for the image rows of a volume: all of them, or every other one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowMap {
    volume: Volume,
    /// Slices and rows of the buffer for one of the volume.
    stride: [usize; 2],
    /// Which of them.
    offset: [usize; 2],
}

impl RowMap {
    /// The buffer has the volume's rows.
    pub(crate) fn same(volume: Volume) -> Self {
        Self { volume, stride: [1, 1], offset: [0, 0] }
    }

    /// The buffer has `stride` times the volume's slices and rows; the one at `offset` of each group is meant.
    pub(crate) fn strided(volume: Volume, stride: [usize; 2], offset: [usize; 2]) -> Self {
        Self { volume, stride, offset }
    }

    pub(crate) fn is_same(&self) -> bool {
        self.stride == [1, 1]
    }

    /// Row of the buffer for image row `row`.
    pub(crate) fn row(&self, row: usize) -> usize {
        if self.is_same() {
            return row;
        }
        let [slice_stride, row_stride] = self.stride;
        let image = row / self.volume.rows * slice_stride + self.offset[0];
        image * self.volume.rows * row_stride + row % self.volume.rows * row_stride + self.offset[1]
    }
}

/// Channels-last numbers of which some rows are read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, E> {
    pub(crate) numbers: &'a [E],
    pub(crate) rows: RowMap,
}

impl<'a, E> Source<'a, E> {
    /// A buffer with the volume's rows.
    pub(crate) fn new(volume: Volume, numbers: &'a [E]) -> Self {
        Self { numbers, rows: RowMap::same(volume) }
    }

    /// Image row `row`, of `len` numbers.
    pub(crate) fn row(&self, row: usize, len: usize) -> &'a [E] {
        &self.numbers[self.rows.row(row) * len..][..len]
    }
}

/// How bands of rows lie in scratch memory, with zeros where the kernel reaches outside the image.
///
/// Rows follow each other with one shared border between them, so a position and its neighbours are always the
/// same distance apart and a tile may run over several rows; only the border positions in it are wasted.
/// A kernel of several slices gets one such copy for each of its slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halo {
    pub(crate) volume: Volume,
    pub(crate) kernel: [usize; 3],
    pub(crate) channels: [usize; 2],
}

impl Halo {
    /// Channels of both inputs.
    pub(crate) fn n_channels(&self) -> usize {
        self.channels[0] + self.channels[1]
    }

    /// Positions from one line to the next.
    pub(crate) fn pitch(&self) -> usize {
        self.volume.columns + self.kernel[2] / 2
    }

    /// Floats from one kernel row to the next.
    pub(crate) fn line(&self) -> usize {
        self.pitch() * self.n_channels()
    }

    fn margin(&self) -> usize {
        self.kernel[1] / 2
    }

    /// Positions past the last line that tiles may read.
    fn slack(&self) -> usize {
        MAX_ROWS + self.kernel[2] + 4
    }

    /// Lines of a band: its rows, and a border above, below and between images.
    fn n_lines(&self, band: &Range<usize>) -> usize {
        let n_images = (band.end - 1) / self.volume.rows - band.start / self.volume.rows + 1;
        band.len() + self.margin() * (n_images + 1)
    }

    /// Floats of the copy for one slice of the kernel.
    pub(crate) fn copy_len(&self, band: &Range<usize>) -> usize {
        (self.n_lines(band) * self.pitch() + self.slack()) * self.n_channels()
    }

    /// First position of image row `row`; position 0 is the first pixel of the band.
    pub(crate) fn position(&self, band: &Range<usize>, row: usize) -> usize {
        let images = row / self.volume.rows - band.start / self.volume.rows;
        (row - band.start + images * self.margin()) * self.pitch()
    }

    /// Pixel of the buffer of `rows` at each position, [`SKIP`] on borders; ends with the last pixel.
    pub(crate) fn places(&self, rows: RowMap, band: &Range<usize>) -> Vec<usize> {
        let columns = self.volume.columns;
        let mut places = vec![SKIP; self.position(band, band.end - 1) + columns];
        for row in band.clone() {
            let start = self.position(band, row);
            for (column, place) in places[start..start + columns].iter_mut().enumerate() {
                *place = rows.row(row) * columns + column;
            }
        }
        places
    }

    /// The band as tiles read it: a copy with borders, or the input itself where it is f32 and the kernel needs none.
    pub(crate) fn view<'a, E: Element>(
        &self,
        inputs: [Source<'a, E>; 2],
        band: &Range<usize>,
    ) -> Band<'a> {
        // Tiles read past their last row, so a band at the very end is always copied.
        let pixels_read = band.end * self.volume.columns + self.slack();
        let one_tap = self.kernel == [1, 1, 1] && self.channels[1] == 0 && inputs[0].rows.is_same();
        let direct = one_tap && pixels_read <= self.volume.n_pixels();
        match E::as_f32(inputs[0].numbers).filter(|_| direct) {
            Some(floats) => Band::Direct(&floats[band.start * self.line()..]),
            None => Band::Copied(self.fill(inputs, band)),
        }
    }

    /// Copies a band of `inputs` as f32 with its borders; returns the copies for each slice of the kernel, one after
    /// the other.
    pub(crate) fn fill<E: Element>(
        &self,
        inputs: [Source<'_, E>; 2],
        band: &Range<usize>,
    ) -> Scratch {
        let copy_len = self.copy_len(band);
        let mut copies = Scratch::take(self.kernel[0] * copy_len);
        for (tap, copy) in copies.chunks_exact_mut(copy_len).enumerate() {
            self.fill_slice(inputs, band, tap, copy);
        }
        copies
    }

    fn fill_slice<E: Element>(
        &self,
        inputs: [Source<'_, E>; 2],
        band: &Range<usize>,
        tap: usize,
        copy: &mut [f32],
    ) {
        let (rows, n_channels) = (self.volume.rows, self.n_channels());
        let lead = self.kernel[2] / 2 * n_channels;
        let (head, mut rest) = copy.split_at_mut(lead);
        head.fill(0.0);
        let mut row = band.start;
        while row < band.end {
            let image = row / rows;
            let end = band.end.min((image + 1) * rows);
            let source = self.source_image(image, tap);
            // The border above belongs to every image, the one below to the last.
            let below = if end == band.end { self.margin() } else { 0 };
            for line in 0..self.margin() + (end - row) + below {
                let (target, after) = rest.split_at_mut(self.line());
                let source_row = (row % rows + line).checked_sub(self.margin());
                match (source, source_row.filter(|&source_row| source_row < rows)) {
                    (Some(image), Some(source_row)) => {
                        self.copy_row(inputs, image * rows + source_row, target);
                    }
                    _ => target.fill(0.0),
                }
                rest = after;
            }
            row = end;
        }
        rest.fill(0.0);
    }

    /// Slice that kernel slice `tap` reads for slice `image` of the batch; none outside the volume.
    fn source_image(&self, image: usize, tap: usize) -> Option<usize> {
        let slices = self.volume.slices;
        let slice = (image % slices + tap).checked_sub(self.kernel[0] / 2)?;
        (slice < slices).then(|| image / slices * slices + slice)
    }

    fn copy_row<E: Element>(&self, inputs: [Source<'_, E>; 2], row: usize, target: &mut [f32]) {
        let [first, second] = self.channels;
        let columns = self.volume.columns;
        let (pixels, border) = target.split_at_mut(columns * (first + second));
        let first_row = inputs[0].row(row, columns * first);
        if second == 0 {
            widen(first_row, pixels);
        } else {
            let second_row = inputs[1].row(row, columns * second);
            let sources = first_row.chunks_exact(first).zip(second_row.chunks_exact(second));
            for (pixel, (a, b)) in pixels.chunks_exact_mut(first + second).zip(sources) {
                let (to_a, to_b) = pixel.split_at_mut(first);
                copy_short(a, to_a);
                copy_short(b, to_b);
            }
        }
        border.fill(0.0);
    }
}

/// Floats of a band with borders, at the same places wherever they lie.
pub(crate) enum Band<'a> {
    /// The input, from the band's first pixel to its end.
    Direct(&'a [f32]),
    /// A copy for each slice of the kernel.
    Copied(Scratch),
}

impl Deref for Band<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Band::Direct(floats) => floats,
            Band::Copied(copy) => copy,
        }
    }
}

/// Copies numbers of any format as f32.
pub(crate) fn widen<E: Element>(from: &[E], to: &mut [f32]) {
    match E::as_f32(from) {
        Some(floats) => to.copy_from_slice(floats),
        None => to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen()),
    }
}

/// Copies a few numbers as f32 without a call.
#[inline(always)]
fn copy_short<E: Element>(from: &[E], to: &mut [f32]) {
    let (from_blocks, from_rest) = from.as_chunks::<8>();
    let (to_blocks, to_rest) = to.as_chunks_mut::<8>();
    for (a, b) in from_blocks.iter().zip(to_blocks) {
        *b = a.map(E::widen);
    }
    for (a, b) in from_rest.iter().zip(to_rest) {
        *b = a.widen();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn band_over_two_images_shares_the_border() {
        let volume = Volume::flat(2, 2, 2);
        let halo = Halo { volume, kernel: [1, 3, 3], channels: [1, 0] };
        let input: Vec<f32> = (1..=8).map(|value| value as f32).collect();
        let copy = halo.fill([Source::new(volume, &input), Source::new(volume, &[])], &(1..3));
        // One zero, then lines of two pixels and a border: row 0 (above), row 1, border, row 2, row 3 (below).
        let expected = [0., 1., 2., 0., 3., 4., 0., 0., 0., 0., 5., 6., 0., 7., 8., 0.];
        assert_eq!(copy[..16], expected);
        assert!(copy[16..].iter().all(|&value| value == 0.0));
        assert_eq!(
            halo.places(RowMap::same(volume), &(1..3)),
            [2, 3, SKIP, SKIP, SKIP, SKIP, 4, 5]
        );
    }

    #[test]
    fn strided_rows_skip_slices_and_rows() {
        let volume = Volume { batch: 2, slices: 2, rows: 2, columns: 1 };
        let rows = RowMap::strided(volume, [2, 2], [1, 0]);
        let found: Vec<usize> = (0..8).map(|row| rows.row(row)).collect();
        assert_eq!(found, [4, 6, 12, 14, 20, 22, 28, 30]);
    }

    #[test]
    fn two_inputs_are_interleaved() {
        let volume = Volume::flat(1, 1, 2);
        let halo = Halo { volume, kernel: [1, 1, 1], channels: [1, 2] };
        let inputs: [&[f32]; 2] = [&[1., 4.], &[2., 3., 5., 6.]];
        let copy = halo.fill(inputs.map(|floats| Source::new(volume, floats)), &(0..1));
        assert_eq!(copy[..6], [1., 2., 3., 4., 5., 6.]);
    }

    #[test]
    fn slices_outside_the_volume_are_zero() {
        let volume = Volume { batch: 2, slices: 2, rows: 1, columns: 1 };
        let halo = Halo { volume, kernel: [3, 1, 1], channels: [1, 0] };
        let band = 0..4;
        let copies =
            halo.fill([Source::new(volume, &[1., 2., 3., 4.]), Source::new(volume, &[])], &band);
        let starts: Vec<f32> =
            copies.chunks_exact(halo.copy_len(&band)).flat_map(|copy| copy[..4].to_vec()).collect();
        assert_eq!(starts, [0., 1., 0., 3., 1., 2., 3., 4., 2., 0., 4., 0.]);
    }
}
