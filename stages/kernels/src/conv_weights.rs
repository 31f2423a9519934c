//! Weight gradient of a convolution.
//!
//! Each weight is a sum over all pixels. Work is split into chunks of image rows, whose partial sums are added in
//! order, and, where weights are many, into parts of the weights. One side of the product are the floats
//! (kernel column, in channel) that a pixel sees in one kernel row, which lie together; the other its out
//! channels. Whichever side fills the lanes better is the panel.

use std::ops::Range;

use crate::{
    Conv, Element, Isa,
    element::Numbers,
    parallel::{Scratch, SharedMut, for_each_task, part},
    spread::{MIN_TASKS, TASK_PRODUCTS},
    tile::{Finish, Segment, Tile, Tiles, channel_tiles, panels},
    volume::{Band, Halo, Source, Volume, widen},
    winograd,
};

/// Floats past the end of a buffer that a tile may read: lanes of a panel or rows of a tile.
const OVERRUN: usize = 32;
/// Weights up to which every chunk sums all of them.
const FEW_WEIGHTS: usize = 32 * 1024;
/// Floats of all partial sums together, at most (unless one copy is larger).
const PARTIAL_FLOATS: usize = 512 * 1024;
/// Floats of a band's copies that a task aims at: 192 KiB.
const BAND_FLOATS: usize = 48 * 1024;
/// Pixels summed in registers at once, so that their panel stays in the first-level cache.
const BLOCK_PIXELS: usize = 256;

impl Conv {
    /// Adds the gradient of the weights, and that of the bias if asked for, given that of the output.
    ///
    /// # Panics
    /// When a buffer does not have the length that `volume` and the channels ask for, or a kernel side is even.
    pub fn weight_gradient<E: Element>(
        &self,
        volume: Volume,
        inputs: [&[E]; 2],
        output_gradient: &[E],
        weight_gradient: &mut [f32],
        bias_gradient: Option<&mut [f32]>,
    ) {
        self.check(volume, inputs.map(<[E]>::len), weight_gradient.len(), output_gradient.len());
        if let Some(bias_gradient) = bias_gradient {
            assert_eq!(bias_gradient.len(), self.out_channels, "one bias an out channel");
            crate::sums::add_channel_sums(output_gradient, bias_gradient);
        }
        if volume.n_pixels() * weight_gradient.len() == 0 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if Isa::current().has_tiles_for::<E>() {
            self.weight_gradient_on_tiles(volume, inputs, output_gradient, weight_gradient);
            return;
        }
        if winograd::suits(self, volume)
            && let ([Some(first), Some(second)], Some(gradient)) =
                (inputs.map(E::as_f32), E::as_f32(output_gradient))
        {
            let inputs = [first, second];
            return winograd::weight_gradient(self, volume, inputs, gradient, weight_gradient);
        }
        let inputs = inputs.map(|numbers| Source::new(volume, numbers));
        let gradient = Source::new(volume, output_gradient);
        WeightPass::new(self, volume, inputs, gradient).run(weight_gradient);
    }
}

/// Operands and split of one pass.
pub(crate) struct WeightPass<'a, E> {
    halo: Halo,
    inputs: [Source<'a, E>; 2],
    gradient: Source<'a, E>,
    out_channels: usize,
    /// Floats of one kernel row that a pixel sees.
    depth: usize,
    /// Lanes hold what a pixel sees, rows out channels; sums are then `[kernel row, out channel, depth]`.
    swapped: bool,
    panels: Vec<(Range<usize>, Tiles)>,
}

/// Weights of a task: panels and kernel rows.
struct Part {
    panels: Range<usize>,
    tap_rows: Range<usize>,
}

/// Cost of a product in units that compare the two orientations: lanes in use or idle, and waiting for sums.
fn cost(isa: Isa, n_rows: usize, n_lanes: usize) -> usize {
    /// Sums in flight that hide the latency of a multiply-add.
    const IN_FLIGHT: usize = 8;
    let least = IN_FLIGHT * channel_tiles(isa, 1).lanes;
    let panel_cost = |tiles: Tiles| {
        let rows = tiles.balanced(n_rows);
        n_rows.div_ceil(rows) * (rows * tiles.lanes).max(least)
    };
    panels(n_lanes, |n| channel_tiles(isa, n)).into_iter().map(|(_, tiles)| panel_cost(tiles)).sum()
}

impl<'a, E: Element> WeightPass<'a, E> {
    /// A pass over `inputs` and the gradient of the output.
    pub(crate) fn new(
        conv: &Conv,
        volume: Volume,
        inputs: [Source<'a, E>; 2],
        gradient: Source<'a, E>,
    ) -> Self {
        let isa = Isa::current();
        let (depth, out_channels) = (conv.kernel[2] * conv.n_inputs(), conv.out_channels);
        let swapped = cost(isa, out_channels, depth) < cost(isa, depth, out_channels);
        let n_lanes = if swapped { depth } else { out_channels };
        let panels = panels(n_lanes, |n| channel_tiles(isa, n));
        let halo = Halo { volume, kernel: conv.kernel, channels: conv.in_channels };
        Self { halo, inputs, gradient, out_channels, depth, swapped, panels }
    }

    fn tap_rows(&self) -> usize {
        self.halo.kernel[0] * self.halo.kernel[1]
    }

    /// Numbers of chunks, of panel groups, and of kernel row groups.
    fn plan(&self, n_weights: usize) -> [usize; 3] {
        let wanted = (self.halo.volume.n_pixels() * n_weights / TASK_PRODUCTS).clamp(1, MIN_TASKS);
        let [n_panels, n_taps] = match n_weights {
            0..FEW_WEIGHTS => [1, 1],
            _ => {
                let n_panels = self.panels.len().min(wanted);
                [n_panels, if n_panels < wanted { self.tap_rows() } else { 1 }]
            }
        };
        let room = (PARTIAL_FLOATS / n_weights).max(1);
        let n_chunks =
            wanted.div_ceil(n_panels * n_taps).min(room).min(self.halo.volume.image_rows());
        [n_chunks, n_panels, n_taps]
    }

    /// Adds the sums to `weight_gradient`.
    pub(crate) fn run(&self, weight_gradient: &mut [f32]) {
        let n_weights = weight_gradient.len();
        let [n_chunks, n_panels, n_taps] = self.plan(n_weights);
        let task = |index: usize| {
            let (rest, tap_group) = (index / n_taps, index % n_taps);
            let (chunk, panel_group) = (rest / n_panels, rest % n_panels);
            let part = Part {
                panels: part(self.panels.len(), n_panels, panel_group),
                tap_rows: part(self.tap_rows(), n_taps, tap_group),
            };
            (chunk, part)
        };
        let n_tasks = n_chunks * n_panels * n_taps;
        if n_chunks == 1 && !self.swapped {
            let sums = SharedMut::new(weight_gradient);
            for_each_task(n_tasks, |index| self.sum_chunk(0, 1, &task(index).1, sums, Finish::Add));
            return;
        }
        let mut partial = Scratch::take(n_chunks * n_weights);
        let shared = SharedMut::new(&mut partial);
        for_each_task(n_tasks, |index| {
            let (chunk, part) = task(index);
            // SAFETY: chunk `chunk` of the partial sums begins there.
            let sums = unsafe { shared.offset(chunk * n_weights) };
            self.sum_chunk(chunk, n_chunks, &part, sums, Finish::Replace);
        });
        self.add_partial(&partial, weight_gradient);
    }

    /// Sums the weights of `part` over the rows of a chunk; `first` is what happens to sums that are there.
    fn sum_chunk(
        &self,
        chunk: usize,
        n_chunks: usize,
        weights: &Part,
        sums: SharedMut,
        first: Finish,
    ) {
        let rows = part(self.halo.volume.image_rows(), n_chunks, chunk);
        let line = self.halo.line() * self.halo.kernel[0];
        let n_bands = rows.len().div_ceil((BAND_FLOATS / line).max(1));
        for index in 0..n_bands {
            let band = part(rows.len(), n_bands, index);
            let band = rows.start + band.start..rows.start + band.end;
            let seen = self.halo.view(self.inputs, &band);
            let gradient = self.gradient_rows(&band);
            let rows_per_block = (BLOCK_PIXELS / self.halo.volume.columns).clamp(1, band.len());
            for start in band.clone().step_by(rows_per_block) {
                let finish = if start == rows.start { first } else { Finish::Add };
                let rows = start..(start + rows_per_block).min(band.end);
                let block = Block { band: &band, rows, seen: &seen, gradient: &gradient };
                self.sum_block(&block, weights, sums, finish);
            }
        }
    }

    /// The output gradient of the band: where it lies if it is f32 and [`OVERRUN`] floats follow it, or a copy.
    fn gradient_rows(&self, band: &Range<usize>) -> GradientRows<'a> {
        let row_len = self.halo.volume.columns * self.out_channels;
        let end = (self.gradient.rows.row(band.end - 1) + 1) * row_len;
        let floats = E::as_f32(self.gradient.numbers);
        if let Some(floats) = floats.filter(|floats| end + OVERRUN <= floats.len()) {
            let starts = band.clone().map(|row| self.gradient.rows.row(row) * row_len).collect();
            return GradientRows { floats: Band::Direct(floats), starts };
        }
        let mut copy = Scratch::take(band.len() * row_len + OVERRUN);
        for (target, row) in copy.chunks_exact_mut(row_len).zip(band.clone()) {
            widen(self.gradient.row(row, row_len), target);
        }
        let starts = (0..band.len()).map(|row| row * row_len).collect();
        GradientRows { floats: Band::Copied(copy), starts }
    }

    /// Sums the weights of `part` over the rows of a block.
    fn sum_block(&self, block: &Block<'_>, weights: &Part, sums: SharedMut, finish: Finish) {
        let (n_seen, n_out) = (self.halo.n_channels(), self.out_channels);
        let (n_rows, n_lanes) =
            if self.swapped { (n_out, self.depth) } else { (self.depth, n_out) };
        let columns = self.halo.volume.columns;
        let mut segments = Vec::with_capacity(block.rows.len());
        let (left_step, panel_step) = if self.swapped { (n_out, n_seen) } else { (n_seen, n_out) };
        for (lanes, tiles) in &self.panels[weights.panels.clone()] {
            let step = tiles.balanced(n_rows);
            // Lanes of neighbouring pixels that lie far apart share few sets of the cache: they are packed then.
            let is_packed = panel_step >= 2 * tiles.lanes && n_rows > step;
            let mut packed =
                Scratch::take(if is_packed { block.rows.len() * columns * tiles.lanes } else { 0 });
            for tap in weights.tap_rows.clone() {
                if is_packed && (self.swapped || tap == weights.tap_rows.start) {
                    self.segments(block, tap, 0, lanes.start, &mut segments);
                    for (segment, to) in
                        segments.iter().zip(packed.chunks_exact_mut(columns * tiles.lanes))
                    {
                        for (pixel, to) in to.chunks_exact_mut(tiles.lanes).enumerate() {
                            // SAFETY: lanes of every pixel are readable, as the tile below asks for.
                            unsafe {
                                let from = segment.panel.add(pixel * panel_step);
                                to.copy_from_slice(std::slice::from_raw_parts(from, tiles.lanes));
                            }
                        }
                    }
                }
                for row in (0..n_rows).step_by(step) {
                    self.segments(block, tap, row, lanes.start, &mut segments);
                    if is_packed {
                        let rows = packed.chunks_exact(columns * tiles.lanes);
                        for (segment, panel) in segments.iter_mut().zip(rows) {
                            segment.panel = panel.as_ptr();
                        }
                    }
                    let tile = Tile {
                        segments: &segments,
                        n_steps: columns,
                        left_step,
                        left_row: 1,
                        panel_step: if is_packed { tiles.lanes } else { panel_step },
                        places: &FIRST_PLACES[..step.min(n_rows - row)],
                        output_row: n_lanes,
                        // SAFETY: the place lies in the weights, whose number the sums have.
                        output: Numbers::F32(unsafe {
                            sums.pointer().add((tap * n_rows + row) * n_lanes + lanes.start)
                        }),
                        n_lanes: lanes.len(),
                        finish,
                    };
                    // SAFETY: copies and gradient rows have slack for all rows and lanes of a tile past their
                    // last pixel. Sums of this chunk and part are written by this task alone.
                    unsafe { tiles.run(&tile) };
                }
            }
        }
    }

    /// Where the rows of a block begin, for one kernel row and the tile at `row` and `lane`.
    fn segments(
        &self,
        block: &Block<'_>,
        tap: usize,
        row: usize,
        lane: usize,
        segments: &mut Vec<Segment>,
    ) {
        let tap_rows = self.halo.kernel[1];
        let tap_start =
            tap / tap_rows * self.halo.copy_len(block.band) + tap % tap_rows * self.halo.line();
        let (seen_lane, out_lane) = if self.swapped { (lane, row) } else { (row, lane) };
        segments.clear();
        for image_row in block.rows.clone() {
            let position = self.halo.position(block.band, image_row) * self.halo.n_channels();
            let seen = block.seen[tap_start + position + seen_lane..].as_ptr();
            let start = block.gradient.starts[image_row - block.band.start];
            let out = block.gradient.floats[start + out_lane..].as_ptr();
            let (left, panel) = if self.swapped { (out, seen) } else { (seen, out) };
            segments.push(Segment { left, panel });
        }
    }

    /// Adds the chunks in their order.
    fn add_partial(&self, partial: &[f32], weight_gradient: &mut [f32]) {
        const FLOATS: usize = 4096;
        let n_weights = weight_gradient.len();
        if !self.swapped {
            let shared = SharedMut::new(weight_gradient);
            for_each_task(n_weights.div_ceil(FLOATS), |task| {
                let range = task * FLOATS..(task * FLOATS + FLOATS).min(n_weights);
                // SAFETY: tasks have ranges of their own, and the gradient outlives them.
                let target = unsafe { shared.slice(range.start, range.len()) };
                for chunk in partial.chunks_exact(n_weights) {
                    target
                        .iter_mut()
                        .zip(&chunk[range.clone()])
                        .for_each(|(sum, value)| *sum += value);
                }
            });
            return;
        }
        let plane = self.depth * self.out_channels;
        for chunk in partial.chunks_exact(n_weights) {
            for (target, sums) in
                weight_gradient.chunks_exact_mut(plane).zip(chunk.chunks_exact(plane))
            {
                for (place, value) in target.iter_mut().enumerate() {
                    *value +=
                        sums[place % self.out_channels * self.depth + place / self.out_channels];
                }
            }
        }
    }
}

/// Rows of a tile that lie one after the other.
const FIRST_PLACES: [usize; crate::tile::MAX_ROWS] = {
    let mut places = [0; crate::tile::MAX_ROWS];
    let mut place = 0;
    while place < places.len() {
        places[place] = place;
        place += 1;
    }
    places
};

/// Image rows whose products are summed in registers.
struct Block<'a> {
    band: &'a Range<usize>,
    rows: Range<usize>,
    /// The band's inputs.
    seen: &'a [f32],
    /// The band's output gradient.
    gradient: &'a GradientRows<'a>,
}

/// Output gradient of a band.
struct GradientRows<'a> {
    floats: Band<'a>,
    /// First float of each row.
    starts: Vec<usize>,
}
