//! Weight gradients on tiles.
//!
//! A weight's gradient is a sum over pixels. A task takes some input channels and some image rows: it turns the
//! inputs into one row of positions for each channel, puts neighbouring pixels of the output gradient side by
//! side, and multiplies the two for every tap, which only shifts the positions. Sums stay in the order of tiles
//! until all tasks are done and are then added in order. How work is split depends on the shapes alone.

use std::ops::Range;

use half::bf16;

use super::{
    panel::{n_parts, split, terms},
    shuffle,
    slab::Feed,
    tiles::{Product, SIDE, STEP, SUMS, TILE, Tiles},
};
use crate::{
    Element,
    parallel::{Scratch, SharedMut, for_each_task, part},
    volume::Source,
};

/// Tasks that a large pass is split into at least.
const MIN_TASKS: usize = 16;
/// Multiplications worth a task of their own.
const TASK_PRODUCTS: usize = 1 << 22;
/// Positions of a band, at most, and numbers of its output gradient.
const BAND_POSITIONS: usize = 4096;
const BAND_NUMBERS: usize = 256 * 1024;
/// Steps of one product, about: its panel stays in the first-level cache for all taps.
const BLOCK_STEPS: usize = 16;
/// Channels of a group.
const GROUP: usize = 2 * SIDE;

/// Operands of one pass.
pub(crate) struct WeightPass<'a, E> {
    /// Inputs and their neighbourhoods.
    pub(crate) feed: Feed<'a, E>,
    /// Output gradients with their numbers of channels.
    pub(crate) gradients: Vec<(Source<'a, E>, usize)>,
    /// Output channels for which weights lie together: `[tap or block of lanes][in channel][out channel]`.
    pub(crate) out_channels: usize,
}

/// Input channels of a task.
struct Group {
    source: usize,
    channels: Range<usize>,
    /// Among the channels of all inputs.
    first: usize,
}

/// Output channels that one product takes.
struct Panel {
    source: usize,
    channels: Range<usize>,
    /// Among the channels of all gradients.
    first: usize,
    /// Tiles before it.
    tiles_before: usize,
}

impl Panel {
    fn n_tiles(&self) -> usize {
        self.channels.len().div_ceil(SIDE)
    }

    /// Left tiles of a product.
    fn n_lefts(&self) -> usize {
        4 / self.n_tiles()
    }
}

/// How positions of a band lie.
struct Layout {
    pitch: usize,
    /// Steps of one slice.
    n_steps: usize,
    /// Positions of a channel's row.
    row: usize,
    /// Numbers of a slice's rows.
    slab: usize,
}

/// The split of a pass.
struct Plan {
    groups: Vec<Group>,
    panels: Vec<Panel>,
    /// Slices of a volume, or of the batch if the kernel has one slice.
    volumes: usize,
    slices: usize,
    rows: usize,
    /// Slices of a band that are multiplied together.
    together: usize,
    n_chunks: usize,
}

impl Plan {
    fn n_bands(&self) -> usize {
        self.volumes * self.slices * self.rows
    }

    /// Tiles of all panels for one step.
    fn n_tiles(&self) -> usize {
        self.panels.iter().map(Panel::n_tiles).sum()
    }
}

impl<E: Element> WeightPass<'_, E> {
    fn plan(&self) -> Plan {
        let Feed { volume, kernel, .. } = self.feed;
        let (mut groups, mut first) = (Vec::new(), 0);
        for (source, &(_, n_channels)) in self.feed.sources.iter().enumerate() {
            for channels in split(0..n_channels) {
                groups.push(Group { source, first: first + channels.start, channels });
            }
            first += n_channels;
        }
        let (mut panels, mut first, mut tiles_before) = (Vec::new(), 0, 0);
        for (source, &(_, n_channels)) in self.gradients.iter().enumerate() {
            for channels in split(0..n_channels) {
                let panel = Panel { source, first: first + channels.start, channels, tiles_before };
                tiles_before += panel.n_tiles();
                panels.push(panel);
            }
            first += n_channels;
        }
        let products = volume.n_pixels() * self.n_taps() * self.feed.n_channels() * first;
        let wanted = (products / TASK_PRODUCTS).clamp(1, MIN_TASKS).div_ceil(groups.len());
        let most = BAND_POSITIONS.min(BAND_NUMBERS / first.max(1)).max(1);
        let (volumes, depth) = match kernel[0] {
            1 => (1, volume.batch * volume.slices),
            _ => (volume.batch, volume.slices),
        };
        let rows = (volume.rows * self.pitch()).div_ceil(most).min(volume.rows);
        let together = match kernel[0] {
            1 => (most / (volume.rows.div_ceil(rows) * self.pitch())).clamp(1, depth),
            _ => 1,
        };
        let slices = match kernel[0] {
            1 => depth.div_ceil(together),
            _ => wanted.div_ceil(volumes * rows).min(depth.div_ceil(8)),
        };
        let n_chunks = wanted.min(volumes * slices * rows);
        Plan { groups, panels, volumes, slices, rows, together, n_chunks }
    }

    fn n_taps(&self) -> usize {
        self.feed.kernel.iter().product()
    }

    /// Positions from one line to the next; even, so that pairs never lie in two lines.
    fn pitch(&self) -> usize {
        self.feed.pitch().next_multiple_of(2)
    }

    /// Adds the sums to `weight_gradient`.
    pub(crate) fn run(&self, weight_gradient: &mut [f32]) {
        let plan = self.plan();
        let starts = self.starts(&plan);
        let len = starts[starts.len() - 1];
        let mut partial = Scratch::<f32>::take(plan.n_chunks * plan.groups.len() * len);
        let shared = SharedMut::new(&mut partial);
        for_each_task(plan.n_chunks * plan.groups.len(), |task| {
            // SAFETY: each task has sums of its own, and `partial` outlives the tasks.
            let sums = unsafe { shared.slice(task * len, len) };
            let (chunk, group) = (task / plan.groups.len(), &plan.groups[task % plan.groups.len()]);
            self.sum_chunk(Task { plan: &plan, starts: &starts, group, sums }, chunk);
        });
        let shared = SharedMut::new(weight_gradient);
        for_each_task(plan.groups.len(), |group| {
            for panel in 0..plan.panels.len() {
                self.scatter(&plan, &starts, (group, panel), &partial, shared);
            }
        });
    }

    /// First sum of each panel in a task's sums, and their number.
    fn starts(&self, plan: &Plan) -> Vec<usize> {
        let mut starts = vec![0];
        for panel in &plan.panels {
            // Two tiles of channels for each tap, whether the group fills them or not.
            let n_products = (2 * self.n_taps()).div_ceil(panel.n_lefts());
            starts.push(starts[starts.len() - 1] + n_products * SUMS);
        }
        starts
    }

    /// What chunk `chunk` walks through.
    fn turns(&self, plan: &Plan, chunk: usize) -> Vec<Turn> {
        let volume = self.feed.volume;
        let depth = volume.batch * volume.slices / plan.volumes;
        let mut turns = Vec::new();
        for band in part(plan.n_bands(), plan.n_chunks, chunk) {
            let (rest, rows) = (band / plan.rows, band % plan.rows);
            let slices = part(depth, plan.slices, rest % plan.slices);
            let first = rest / plan.slices * depth;
            for (index, slice) in slices.clone().step_by(plan.together).enumerate() {
                let end = (slice + plan.together).min(slices.end);
                turns.push(Turn {
                    images: first + slice..first + end,
                    rows: part(volume.rows, plan.rows, rows),
                    index,
                });
            }
        }
        turns
    }

    fn layout(&self, n_rows: usize) -> Layout {
        let pitch = self.pitch();
        let n_steps = (n_rows * pitch).div_ceil(STEP);
        let reach = (self.feed.kernel[1] - 1) * pitch + self.feed.kernel[2];
        let lines = (n_rows + self.feed.kernel[1] - 1) * pitch + self.feed.kernel[2] + 2 * STEP;
        // An odd number of cache lines: rows of a tile then lie in different sets of the cache.
        let row = (n_steps * STEP + reach).max(lines).div_ceil(STEP) / 2 * 2 + 1;
        Layout { pitch, n_steps, row: row * STEP, slab: GROUP * row * STEP }
    }

    /// Sums the weights of a task over the turns of a chunk.
    fn sum_chunk(&self, mut task: Task<'_>, chunk: usize) {
        let (plan, group) = (task.plan, task.group);
        let kernel_slices = self.feed.kernel[0];
        let widest = self.layout(self.feed.volume.rows.div_ceil(plan.rows));
        let slabs_len = plan.together.max(kernel_slices) * widest.slab;
        let gradient_len = plan.together * widest.n_steps * plan.n_tiles() * TILE;
        let mut slabs = Scratch::<bf16>::take(n_parts::<E>() * slabs_len);
        let mut gradient = Scratch::<bf16>::take(n_parts::<E>() * gradient_len);
        let turns = self.turns(plan, chunk);
        // SAFETY: this module runs where the unit is, and no other task runs on this thread before the end.
        let tiles = unsafe { Tiles::configure() };
        for (index, turn) in turns.iter().enumerate() {
            let layout = self.layout(turn.rows.len());
            for (part, slabs) in slabs.chunks_exact_mut(slabs_len).enumerate() {
                self.fill_all(&layout, group, turn, (slabs, part == 1));
            }
            for (part, gradient) in gradient.chunks_exact_mut(gradient_len).enumerate() {
                self.pair_all(&layout, plan, turn, (gradient, part == 1));
            }
            for (term, &(left, right)) in terms::<E>().iter().enumerate() {
                let operands = Operands {
                    layout: &layout,
                    slabs: &slabs[left * slabs_len..][..slabs_len],
                    gradient: &gradient[right * gradient_len..][..gradient_len],
                    turn,
                    fresh: index == 0 && term == 0,
                };
                self.multiply(&mut task, &operands, &tiles);
            }
        }
    }

    /// Fills the slabs of all slices of a turn, but for those that the turn before it left.
    fn fill_all(
        &self,
        layout: &Layout,
        group: &Group,
        turn: &Turn,
        (slabs, low): (&mut [bf16], bool),
    ) {
        let kernel_slices = self.feed.kernel[0];
        let known = if turn.index == 0 { 0 } else { kernel_slices - 1 };
        for (place, image) in turn.images.clone().enumerate() {
            for tap in known..kernel_slices {
                let slot =
                    if kernel_slices == 1 { place } else { (turn.index + tap) % kernel_slices };
                let slab = &mut slabs[slot * layout.slab..][..layout.slab];
                let from = self.feed.source_image(image, tap);
                self.fill(layout, group, from, &turn.rows, (slab, low));
            }
        }
    }

    /// Puts the output gradients of all slices and panels of a turn side by side.
    fn pair_all(
        &self,
        layout: &Layout,
        plan: &Plan,
        turn: &Turn,
        (gradient, low): (&mut [bf16], bool),
    ) {
        for (place, image) in turn.images.clone().enumerate() {
            for panel in &plan.panels {
                let first = plan.together * panel.tiles_before + place * panel.n_tiles();
                let len = layout.n_steps * panel.n_tiles() * TILE;
                let target = &mut gradient[first * layout.n_steps * TILE..][..len];
                self.pair(layout, panel, image, &turn.rows, (target, low));
            }
        }
    }

    /// Turns `rows` of slice `image` and the border around them into a row of positions for each channel.
    fn fill(
        &self,
        layout: &Layout,
        group: &Group,
        image: Option<usize>,
        rows: &Range<usize>,
        (slab, low): (&mut [bf16], bool),
    ) {
        let Feed { volume, kernel, .. } = self.feed;
        let (source, n_channels) = self.feed.sources[group.source];
        let (lead, margin) = (kernel[2] / 2, kernel[1] / 2);
        let n_lines = rows.len() + 2 * margin;
        for row in slab.chunks_exact_mut(layout.row) {
            row[..lead].fill(bf16::ZERO);
            row[lead + n_lines * layout.pitch..].fill(bf16::ZERO);
        }
        for line in 0..n_lines {
            let row = (rows.start + line).checked_sub(margin).filter(|&row| row < volume.rows);
            let pixels = image.zip(row).map(|(image, row)| {
                source.row(image * volume.rows + row, volume.columns * n_channels)
            });
            for column in (0..layout.pitch).step_by(STEP) {
                let n_pixels = match pixels {
                    Some(_) => volume.columns.saturating_sub(column).min(STEP),
                    None => 0,
                };
                for lane in (0..group.channels.len()).step_by(SIDE) {
                    let n_lanes = (group.channels.len() - lane).min(SIDE);
                    let from = match pixels {
                        Some(pixels) if n_pixels > 0 => {
                            pixels[column * n_channels + group.channels.start + lane..].as_ptr()
                        }
                        _ => std::ptr::null(),
                    };
                    let to = &mut slab[lane * layout.row..][..SIDE * layout.row];
                    let to = to[lead + line * layout.pitch + column..].as_mut_ptr();
                    // SAFETY: the vectors come with the tile unit; `n_pixels` pixels of the row follow, and rows of
                    // the slab hold a step past the last line. What is written past a line is zero and is
                    // overwritten by the next.
                    unsafe {
                        shuffle::transpose(
                            (from, low),
                            n_channels,
                            n_pixels,
                            n_lanes,
                            to,
                            layout.row,
                        );
                    }
                }
            }
        }
        // What the last line wrote past its end was zero as well.
    }

    /// Puts neighbouring pixels of the output gradient side by side, with zeros between lines.
    fn pair(
        &self,
        layout: &Layout,
        panel: &Panel,
        image: usize,
        rows: &Range<usize>,
        (target, low): (&mut [bf16], bool),
    ) {
        let volume = self.feed.volume;
        let (source, n_channels) = self.gradients[panel.source];
        let n_tiles = panel.n_tiles();
        let zero = |pairs: Range<usize>, target: &mut [bf16]| {
            for pair in pairs {
                for tile in 0..n_tiles {
                    let start = (pair / SIDE * n_tiles + tile) * TILE + pair % SIDE * STEP;
                    target[start..start + STEP].fill(bf16::ZERO);
                }
            }
        };
        for (line, row) in rows.clone().enumerate() {
            let pixels = source.row(image * volume.rows + row, volume.columns * n_channels);
            let first = line * layout.pitch / 2;
            for tile in 0..n_tiles {
                let lane = panel.channels.start + tile * SIDE;
                let n_lanes = panel.channels.end - lane;
                let to = (target[tile * TILE..].as_mut_ptr(), n_tiles * TILE, first);
                // SAFETY: the vectors come with the tile unit; the row holds `columns` pixels, and the target all
                // pairs of the layout.
                unsafe {
                    shuffle::interleave(
                        (pixels[lane..].as_ptr(), low),
                        n_channels,
                        volume.columns,
                        n_lanes,
                        to,
                    );
                }
            }
            zero(first + volume.columns.div_ceil(2)..first + layout.pitch / 2, target);
        }
        zero(rows.len() * layout.pitch / 2..layout.n_steps * SIDE, target);
    }

    /// Multiplies a turn's slabs and gradient for all taps.
    fn multiply(&self, task: &mut Task<'_>, operands: &Operands<'_>, tiles: &Tiles) {
        let (plan, layout, n_images) = (task.plan, operands.layout, operands.turn.images.len());
        let lefts = self.lefts(task.group, operands);
        let (images_each, steps_each) = if layout.n_steps >= BLOCK_STEPS {
            (1, layout.n_steps.div_ceil(layout.n_steps.div_ceil(BLOCK_STEPS)))
        } else {
            (BLOCK_STEPS / layout.n_steps, layout.n_steps)
        };
        let mut segments = Vec::new();
        for image in (0..n_images).step_by(images_each) {
            for step in (0..layout.n_steps).step_by(steps_each) {
                let n_steps = steps_each.min(layout.n_steps - step);
                let images = image..(image + images_each).min(n_images);
                for (panel, &start) in plan.panels.iter().zip(task.starts) {
                    let first = plan.together * panel.tiles_before + image * panel.n_tiles();
                    let first = first * layout.n_steps + step * panel.n_tiles();
                    for (index, lefts) in lefts.chunks(panel.n_lefts()).enumerate() {
                        let at = |n: usize| lefts[n.min(lefts.len() - 1)];
                        let gap = |n: usize| at(n).wrapping_sub(at(0));
                        segments.clear();
                        segments.extend(images.clone().map(|image| {
                            operands.slabs[image * layout.slab + at(0) + step * STEP..].as_ptr()
                        }));
                        let product = Product {
                            lefts: &segments,
                            left_row: layout.row,
                            gaps: [gap(1), gap(2), gap(3)],
                            n_steps,
                            panel: operands.gradient[first * TILE..].as_ptr(),
                            sums: task.sums[start + index * SUMS..][..SUMS].as_mut_ptr(),
                            add: !(operands.fresh && image == 0 && step == 0),
                        };
                        // SAFETY: rows hold all steps of the shifted positions, the gradient all its tiles.
                        unsafe {
                            if panel.n_tiles() == 1 {
                                tiles.tall(&product);
                            } else {
                                tiles.wide(&product);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Where the left tiles of all taps begin in the slabs; two for each tap if the group has so many channels.
    fn lefts(&self, group: &Group, operands: &Operands<'_>) -> Vec<usize> {
        let (layout, turn) = (operands.layout, operands.turn);
        let [kernel_slices, kernel_rows, kernel_columns] = self.feed.kernel;
        let mut lefts = Vec::new();
        for tap in 0..self.n_taps() {
            let slice = tap / kernel_columns / kernel_rows;
            let slot = if kernel_slices == 1 { 0 } else { (turn.index + slice) % kernel_slices };
            let shift = tap / kernel_columns % kernel_rows * layout.pitch + tap % kernel_columns;
            for half in 0..group.channels.len().div_ceil(SIDE) {
                lefts.push(slot * layout.slab + half * SIDE * layout.row + shift);
            }
        }
        lefts
    }

    /// Adds the sums of a group and panel, in the order of the chunks.
    fn scatter(
        &self,
        plan: &Plan,
        starts: &[usize],
        (group, panel): (usize, usize),
        partial: &[f32],
        target: SharedMut,
    ) {
        let len = starts[starts.len() - 1];
        let (start, n_groups) = (starts[panel], plan.groups.len());
        let (place, group, panel) = (group, &plan.groups[group], &plan.panels[panel]);
        let n_halves = group.channels.len().div_ceil(SIDE);
        let n_lanes = panel.n_tiles() * SIDE;
        for tap in 0..self.n_taps() {
            for channel in 0..group.channels.len() {
                let left = tap * n_halves + channel / SIDE;
                let row = left * SIDE + channel % SIDE;
                let mut sums = [0.0_f32; 2 * SIDE];
                for chunk in 0..plan.n_chunks {
                    let from = (chunk * n_groups + place) * len + start + row * n_lanes;
                    let from = &partial[from..from + n_lanes];
                    sums.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
                }
                for (lane, sum) in sums.into_iter().enumerate().take(panel.channels.len()) {
                    let lane = panel.first + lane;
                    let block = tap + lane / self.out_channels;
                    let row = block * self.feed.n_channels() + group.first + channel;
                    let place = row * self.out_channels + lane % self.out_channels;
                    // SAFETY: the place is a weight of this group and panel, which only this task writes.
                    unsafe { *target.pointer().add(place) += sum };
                }
            }
        }
    }
}

/// Rows of some slices that are multiplied together.
struct Turn {
    images: Range<usize>,
    rows: Range<usize>,
    /// Turns before this one whose slabs are the kernel's slices in turn.
    index: usize,
}

/// Slabs and gradient of a turn.
struct Operands<'a> {
    layout: &'a Layout,
    slabs: &'a [bf16],
    gradient: &'a [bf16],
    turn: &'a Turn,
    /// Whether sums are to be replaced.
    fresh: bool,
}

/// Weights that one task sums.
struct Task<'a> {
    plan: &'a Plan,
    starts: &'a [usize],
    group: &'a Group,
    sums: &'a mut [f32],
}
