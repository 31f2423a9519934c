//! The passes of a UNet: which layer reads and writes which buffer.

use kernels::{Element, MaxPool, Volume, Write};
use rayon::prelude::*;

use crate::{
    Parameters, UnetConfig,
    layers::{Block, BlockBuffers, BlockGradient, Head, Pass, Uniform, Up, fit},
    parameters::{Mark, Part},
};

/// The layers of a UNet: one encoder and its decoders.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// By level, full resolution first.
    encoder: Vec<Block>,
    /// By level: what leads from it to the next.
    pools: Vec<MaxPool>,
    decoders: Vec<Decoder>,
}

/// One decoder: up-convolutions and blocks by the level that they lead to, and heads at full resolution.
#[derive(Clone, Debug)]
struct Decoder {
    /// Where its parameters begin.
    mark: Mark,
    ups: Vec<Up>,
    blocks: Vec<Block>,
    heads: Vec<Head>,
}

/// What a training pass saves and what all passes write on the way; kept between steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory<E> {
    input: Vec<E>,
    encoder: Vec<EncoderLevel<E>>,
    decoders: Vec<DecoderMemory<E>>,
    work: Work<E>,
}

#[derive(Clone, Debug, Default)]
struct DecoderMemory<E> {
    levels: Vec<DecoderLevel<E>>,
    /// Logits and their gradients.
    logits: Vec<E>,
}

#[derive(Clone, Debug, Default)]
struct EncoderLevel<E> {
    /// Input of the block below full resolution.
    pooled: Vec<E>,
    block: BlockBuffers<E>,
    output: Vec<E>,
    /// Gradient of `output`.
    gradient: Vec<E>,
}

#[derive(Clone, Debug, Default)]
struct DecoderLevel<E> {
    up: Vec<E>,
    block: BlockBuffers<E>,
    output: Vec<E>,
}

/// Room for what only the next operation needs.
#[derive(Clone, Debug, Default)]
struct Work<E> {
    block: BlockBuffers<E>,
    output: Vec<E>,
    up: Vec<E>,
    to_between: Vec<E>,
    /// Gradients of a block's output and of its up-convolution's input; or activations above and below.
    above: Vec<E>,
    below: Vec<E>,
}

/// What one decoder works with: its parameters, its layers, its buffers and its logits by head.
type DecoderTask<'a, E> =
    (((Part<'a>, &'a Decoder), &'a mut DecoderMemory<E>), &'a mut Vec<Vec<f32>>);

/// A pass: its axes at every level, what it is for, and whether blocks are computed again for the way back.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) volumes: Vec<Volume>,
    pub(super) pass: Pass,
    pub(super) recompute: bool,
}

impl Plan {
    /// Whether blocks keep what their backward pass reads.
    fn keeps(&self) -> bool {
        self.pass == Pass::Training && !self.recompute
    }
}

impl Network {
    /// Adds all parameters, drawn in the order encoder, decoders.
    pub(super) fn new(
        config: &UnetConfig,
        parameters: &mut Parameters,
        uniform: Uniform<'_>,
    ) -> Self {
        let axes = config.axes;
        let encoder = (0..config.levels).map(|level| {
            let (prefix, in_channels) = match level {
                0 => ("inc".to_owned(), config.in_channels),
                _ => (format!("down{level}.maxpool_conv.1"), config.width(level - 1)),
            };
            let channels = ([in_channels, 0], config.width(level));
            Block::new(parameters, &prefix, (axes, level), channels, uniform)
        });
        let encoder = encoder.collect();
        let decoders = (0..config.n_decoders)
            .map(|index| Decoder::new(parameters, config, index, uniform))
            .collect();
        let pools =
            (1..config.levels).map(|level| MaxPool { window: axes.pooling(level - 1) }).collect();
        Self { encoder, pools, decoders }
    }

    /// The head `head` of decoder `decoder`.
    pub(super) fn head(&self, decoder: usize, head: usize) -> Option<&Head> {
        self.decoders.get(decoder).and_then(|decoder| decoder.heads.get(head))
    }

    /// Runs the net on `input` and writes the logits by decoder and head.
    pub(super) fn forward<E: Element>(
        &self,
        plan: &Plan,
        part: Part<'_>,
        input: &[f32],
        memory: &mut Memory<E>,
        logits: &mut [Vec<Vec<f32>>],
    ) {
        let n_levels = self.encoder.len();
        memory.encoder.resize_with(n_levels, EncoderLevel::default);
        memory.decoders.resize_with(self.decoders.len(), DecoderMemory::default);
        let Memory { input: kept, encoder, decoders, work } = memory;
        kept.clear();
        kept.extend(input.iter().map(|&value| E::narrow(value)));
        let (mut part, parts) = self.parts(part);
        self.encode(plan, &mut part, kept, encoder, work);
        let encoder = &*encoder;
        let tasks = parts.into_iter().zip(&self.decoders).zip(decoders).zip(logits);
        let decode =
            |work: &mut Work<E>, (((mut part, decoder), memory), logits): DecoderTask<'_, E>| {
                memory.levels.resize_with(n_levels - 1, DecoderLevel::default);
                self.decode(decoder, plan, &mut part, (encoder, memory, work), logits);
            };
        if plan.keeps() {
            // Decoders write buffers of their own and need no room to work in, so they run side by side.
            let tasks: Vec<_> = tasks.collect();
            tasks.into_par_iter().for_each(|task| decode(&mut Work::default(), task));
        } else {
            tasks.for_each(|task| decode(work, task));
        }
    }

    /// The parameters of the encoder and of each decoder.
    fn parts<'a>(&self, part: Part<'a>) -> (Part<'a>, Vec<Part<'a>>) {
        let mut rest = part;
        let mut decoders = Vec::with_capacity(self.decoders.len());
        for decoder in self.decoders.iter().rev() {
            let (before, own) = rest.split(decoder.mark);
            decoders.push(own);
            rest = before;
        }
        decoders.reverse();
        (rest, decoders)
    }

    fn encode<E: Element>(
        &self,
        plan: &Plan,
        part: &mut Part<'_>,
        input: &[E],
        levels: &mut [EncoderLevel<E>],
        work: &mut Work<E>,
    ) {
        let Work { block: work_block, up: work_pooled, .. } = work;
        for (level, block) in self.encoder.iter().enumerate() {
            let (here, below) = levels.split_at_mut(level + 1);
            let EncoderLevel { pooled, block: own, output, .. } = &mut here[level];
            let (at, pool) = ((plan.volumes[level], plan.pass), self.pools.get(level).copied());
            let len = self.pooled_len(plan, level);
            if plan.pass == Pass::Inference {
                let input = if level == 0 { input } else { &work_pooled[..len] };
                block.forward(part, at, [input, &[]], work_block, (&mut *output, None));
                if let Some(pool) = pool {
                    let pooled = fit(work_pooled, self.pooled_len(plan, level + 1));
                    let output = &output[..block.output_len(at.0)];
                    pool.forward(at.0, block.out_channels(), output, pooled);
                }
                continue;
            }
            let input = if level == 0 { input } else { &pooled[..len] };
            let to_pooled = below.first_mut().map(|below| &mut below.pooled);
            let target = (&mut *output, pool.zip(to_pooled));
            if plan.keeps() {
                block.forward(part, at, [input, &[]], own, target);
            } else {
                block.forward(part, at, [input, &[]], work_block, target);
                own.take_statistics(work_block);
            }
        }
    }

    /// Numbers of the pooled output that the encoder's block at `level` reads; none at full resolution.
    fn pooled_len(&self, plan: &Plan, level: usize) -> usize {
        let above = level.checked_sub(1).map(|above| &self.encoder[above]);
        above.map_or(0, |block| plan.volumes[level].n_pixels() * block.out_channels())
    }

    /// Output of the encoder's block at `level`.
    fn encoded<'a, E: Element>(
        &self,
        plan: &Plan,
        level: usize,
        saved: &'a EncoderLevel<E>,
    ) -> &'a [E] {
        &saved.output[..self.encoder[level].output_len(plan.volumes[level])]
    }

    fn decode<E: Element>(
        &self,
        decoder: &Decoder,
        plan: &Plan,
        part: &mut Part<'_>,
        (encoder, memory, work): (&[EncoderLevel<E>], &mut DecoderMemory<E>, &mut Work<E>),
        logits: &mut [Vec<f32>],
    ) {
        let DecoderMemory { levels, logits: narrow } = memory;
        let bottom = encoder.len() - 1;
        for level in (0..bottom).rev() {
            let (here, below) = levels.split_at_mut(level + 1);
            let DecoderLevel { up, block: own, output: own_output } = &mut here[level];
            let [small, volume] = [plan.volumes[level + 1], plan.volumes[level]];
            let input = match below.first() {
                None => self.encoded(plan, bottom, &encoder[bottom]),
                Some(below) => {
                    let output = if plan.keeps() { &below.output } else { &work.output };
                    &output[..decoder.blocks[level + 1].output_len(small)]
                }
            };
            let up = if plan.pass == Pass::Inference { &mut work.up } else { up };
            decoder.ups[level].forward(part, small, input, up);
            let skip = self.encoded(plan, level, &encoder[level]);
            let (inputs, block) = ([skip, &up[..skip.len()]], &decoder.blocks[level]);
            if plan.keeps() {
                block.forward(part, (volume, plan.pass), inputs, own, (own_output, None));
            } else {
                let output = (&mut work.output, None);
                block.forward(part, (volume, plan.pass), inputs, &mut work.block, output);
                own.take_statistics(&work.block);
            }
        }
        let top = match levels.first() {
            None => self.encoded(plan, 0, &encoder[0]),
            Some(level) => {
                let output = if plan.keeps() { &level.output } else { &work.output };
                &output[..decoder.blocks[0].output_len(plan.volumes[0])]
            }
        };
        for (head, logits) in decoder.heads.iter().zip(logits) {
            head.forward(part, plan.volumes[0], top, narrow, logits);
        }
    }

    /// Adds the gradients of the parameters, given those of the logits by decoder and head; an empty one is zero.
    pub(super) fn backward<E: Element>(
        &self,
        plan: &Plan,
        part: &mut Part<'_>,
        gradients: &[Vec<Vec<f32>>],
        memory: &mut Memory<E>,
    ) {
        let Memory { input, encoder, decoders, work } = memory;
        // The first decoder replaces the encoder's gradients, the others add to them.
        let mut write = Write::Replace;
        for ((decoder, memory), heads) in self.decoders.iter().zip(decoders).zip(gradients) {
            if heads.iter().any(|gradient| !gradient.is_empty()) {
                DecoderBackward { net: self, decoder, plan, part, encoder, memory, work, write }
                    .run(heads);
                write = Write::Add;
            }
        }
        if write == Write::Add {
            self.encode_backward(plan, part, (input, encoder, work));
        }
    }

    /// Gradients of the encoder's parameters, given those of its outputs.
    fn encode_backward<E: Element>(
        &self,
        plan: &Plan,
        part: &mut Part<'_>,
        (input, levels, work): (&[E], &mut [EncoderLevel<E>], &mut Work<E>),
    ) {
        let Work { block: work_block, to_between, above, below, .. } = work;
        for (level, block) in self.encoder.iter().enumerate().rev() {
            let volume = plan.volumes[level];
            let EncoderLevel { pooled, block: own, output, gradient } = &mut levels[level];
            let len = self.pooled_len(plan, level);
            let input = if level == 0 { input } else { &pooled[..len] };
            let saved = if plan.recompute {
                work_block.take_statistics(own);
                let at = (volume, Pass::Again);
                block.forward(part, at, [input, &[]], work_block, (output, None));
                &mut *work_block
            } else {
                own
            };
            let from_below = |pool: &MaxPool| (*pool, &below[..self.pooled_len(plan, level + 1)]);
            let of_pooled = self.pools.get(level).map(from_below);
            let gradient = (&gradient[..block.output_len(volume)], of_pooled);
            let pass = BlockGradient { saved, gradient, to_between };
            let to_input = (level > 0).then(|| (fit(above, len), Write::Replace));
            block.backward(part, volume, [input, &[]], pass, [to_input, None]);
            std::mem::swap(above, below);
        }
    }
}

/// The way back through one decoder: gradients of its parameters, and its part of those of all encoder outputs.
struct DecoderBackward<'a, 'p, E> {
    net: &'a Network,
    decoder: &'a Decoder,
    plan: &'a Plan,
    part: &'a mut Part<'p>,
    encoder: &'a mut [EncoderLevel<E>],
    memory: &'a mut DecoderMemory<E>,
    work: &'a mut Work<E>,
    /// What it does to the gradients of the encoder's outputs.
    write: Write,
}

impl<E: Element> DecoderBackward<'_, '_, E> {
    fn run(mut self, heads: &[Vec<f32>]) {
        self.recompute(0);
        self.heads(heads);
        for level in 0..self.memory.levels.len() {
            self.block(level);
            self.recompute(level + 1);
            self.up(level);
            std::mem::swap(&mut self.work.above, &mut self.work.below);
        }
    }

    /// Has the buffers of a block back, if they were not kept.
    fn recompute(&mut self, level: usize) {
        if let (true, Some(block)) = (self.plan.recompute, self.decoder.blocks.get(level)) {
            let skip = self.net.encoded(self.plan, level, &self.encoder[level]);
            let inputs = [skip, &self.memory.levels[level].up[..skip.len()]];
            let at = (self.plan.volumes[level], Pass::Again);
            let Work { block: saved, output, .. } = &mut *self.work;
            saved.take_statistics(&self.memory.levels[level].block);
            block.forward(self.part, at, inputs, saved, (output, None));
        }
    }

    /// The gradient of the uppermost block's output, in `work.above`, or of the encoder's where there is one level.
    fn heads(&mut self, heads: &[Vec<f32>]) {
        let volume = self.plan.volumes[0];
        let len = self.net.encoder[0].output_len(volume);
        let EncoderLevel { output, gradient, .. } = &mut self.encoder[0];
        let Work { output: again, above, .. } = &mut *self.work;
        let DecoderMemory { levels, logits } = &mut *self.memory;
        let (top, gradient, mut write) = match levels.first() {
            None => (&*output, gradient, self.write),
            Some(_) if self.plan.recompute => (&*again, above, Write::Replace),
            Some(level) => (&level.output, above, Write::Replace),
        };
        let (top, gradient) = (&top[..len], fit(gradient, len));
        for (head, to_logits) in self.decoder.heads.iter().zip(heads) {
            if !to_logits.is_empty() {
                let from = (to_logits.as_slice(), &mut *logits);
                head.backward(self.part, volume, top, from, (&mut *gradient, write));
                write = Write::Add;
            }
        }
    }

    /// From the gradient of a block's output, in `work.above`, to those of the skip and of the up-convolution's output.
    fn block(&mut self, level: usize) {
        let EncoderLevel { output, gradient, .. } = &mut self.encoder[level];
        let DecoderLevel { up, block: own, .. } = &mut self.memory.levels[level];
        let Work { block: again, up: to_up, to_between, above, .. } = &mut *self.work;
        let (volume, block) = (self.plan.volumes[level], &self.decoder.blocks[level]);
        let len = block.output_len(volume);
        let to_skip = Some((fit(gradient, len), self.write));
        let to_inputs = [to_skip, Some((fit(to_up, len), Write::Replace))];
        let saved = if self.plan.recompute { again } else { own };
        let pass = BlockGradient { saved, gradient: (&above[..len], None), to_between };
        block.backward(self.part, volume, [&output[..len], &up[..len]], pass, to_inputs);
    }

    /// From the gradient of the up-convolution's output to that of the block's output below it, in `work.below`, or of
    /// the deepest encoder output.
    fn up(&mut self, level: usize) {
        let (small, bottom) = (self.plan.volumes[level + 1], self.memory.levels.len());
        let len = self.net.encoder[level + 1].output_len(small);
        let Work { output: again, up: to_up, below, .. } = &mut *self.work;
        let to_up = &to_up[..self.decoder.blocks[level].output_len(self.plan.volumes[level])];
        let (input, target, write) = if level + 1 == bottom {
            let EncoderLevel { output, gradient, .. } = &mut self.encoder[bottom];
            (&*output, gradient, self.write)
        } else if self.plan.recompute {
            (&*again, below, Write::Replace)
        } else {
            (&self.memory.levels[level + 1].output, below, Write::Replace)
        };
        let target = (fit(target, len), write);
        self.decoder.ups[level].backward(self.part, small, &input[..len], to_up, target);
    }
}

impl Decoder {
    fn new(
        parameters: &mut Parameters,
        config: &UnetConfig,
        index: usize,
        uniform: Uniform<'_>,
    ) -> Self {
        let mark = parameters.mark();
        let prefix =
            if config.n_decoders == 1 { String::new() } else { format!("decoders.{index}.") };
        let (bottom, axes) = (config.levels - 1, config.axes);
        let mut layers: Vec<(Up, Block)> = (0..bottom)
            .rev()
            .map(|level| {
                let (name, width) = (format!("{prefix}up{}", bottom - level), config.width(level));
                let (up_name, block_name) = (format!("{name}.up"), format!("{name}.conv"));
                let channels = (config.width(level + 1), width);
                let up = Up::new(parameters, &up_name, (axes, level), channels, uniform);
                let channels = ([width, width], width);
                (up, Block::new(parameters, &block_name, (axes, level), channels, uniform))
            })
            .collect();
        layers.reverse();
        let heads = (0..config.n_heads)
            .map(|head| {
                let head = if config.n_heads == 1 { String::new() } else { format!(".{head}") };
                let name = format!("{prefix}outc{head}.conv");
                let channels = (config.base_width, config.out_channels);
                Head::new(parameters, &name, axes, channels, uniform)
            })
            .collect();
        let (ups, blocks) = layers.into_iter().unzip();
        Self { mark, ups, blocks, heads }
    }
}
