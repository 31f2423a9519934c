//! UNet over channels-last buffers with one shared encoder and any number of decoders and heads.

use kernels::{MaxPool, Pooled, Volume, Write};
use thiserror::Error;

use crate::{
    Parameters,
    layers::{Block, BlockBuffers, BlockGradient, Head, Uniform, Up, fit},
};

/// Shape of a [`Unet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetConfig {
    /// Channels of the input image.
    pub in_channels: usize,
    /// Channels at full resolution; each lower resolution doubles them.
    pub base_width: usize,
    /// Number of resolutions; 5 is the classic net with four poolings.
    pub levels: usize,
    /// Complete decoders on the one encoder.
    pub n_decoders: usize,
    /// Heads of each decoder.
    pub n_heads: usize,
    /// Channels of each head's logits.
    pub out_channels: usize,
}

/// What is wrong with a request to a [`Unet`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnetError {
    /// A number of the config is zero.
    #[error("`{field}` must be at least 1: got 0")]
    Zero {
        /// Field of [`UnetConfig`].
        field: &'static str,
    },
    /// A side cannot be halved as often as the net pools.
    #[error("image sides must be multiples of {multiple}: got [row, column] = [{rows}, {columns}]")]
    Sides {
        /// Rows of the input.
        rows: usize,
        /// Columns of the input.
        columns: usize,
        /// `2^(levels - 1)`.
        multiple: usize,
    },
    /// A buffer does not hold the values that its axes ask for.
    #[error(
        "{what} of [batch, row, column, channel] = {axes:?} holds {expected} values: got {found}"
    )]
    Length {
        /// The buffer that is meant.
        what: &'static str,
        /// `[batch, row, column, channel]`.
        axes: [usize; 4],
        /// Product of the axes.
        expected: usize,
        /// Values that were given.
        found: usize,
    },
    /// `backward` was called and no `forward` in training mode came before it.
    #[error("backward needs a forward pass in training mode right before it")]
    NoForward,
    /// A decoder or head does not exist.
    #[error(
        "decoder {decoder}, head {head} does not exist: the net has {n_decoders} decoders of {n_heads} heads"
    )]
    NoHead {
        /// Index of the decoder that was asked for.
        decoder: usize,
        /// Index of the head that was asked for.
        head: usize,
        /// Decoders of the net.
        n_decoders: usize,
        /// Heads of each.
        n_heads: usize,
    },
}

impl UnetConfig {
    /// Channels of a level's blocks; level 0 has full resolution.
    fn width(&self, level: usize) -> usize {
        self.base_width << level
    }

    /// Number both sides of an image must be multiples of: `2^(levels - 1)`.
    pub fn side_multiple(&self) -> usize {
        1 << (self.levels - 1)
    }

    fn check(&self) -> Result<(), UnetError> {
        let Self { in_channels, base_width, levels, n_decoders, n_heads, out_channels } = *self;
        let fields = [
            ("in_channels", in_channels),
            ("base_width", base_width),
            ("levels", levels),
            ("n_decoders", n_decoders),
            ("n_heads", n_heads),
            ("out_channels", out_channels),
        ];
        match fields.into_iter().find(|&(_, number)| number == 0) {
            Some((field, _)) => Err(UnetError::Zero { field }),
            None => Ok(()),
        }
    }
}

/// UNet with explicit forward and backward passes.
///
/// Source: Ronneberger et al., arXiv 1505.04597, in the layout of milesial/Pytorch-UNet: blocks of two times
/// (3 × 3 convolution without bias, batch normalization, ReLU), 2 × 2 max pooling, 2 × 2 transposed convolution to
/// half the channels, concatenation as (skip, up), 1 × 1 heads with bias. With one decoder and one head, names
/// are those of that repository; otherwise decoders are `decoders.{d}.…` and heads `outc.{h}.conv`.
///
/// Work runs on the rayon pool that a method is called in; results do not depend on its number of threads.
#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    parameters: Parameters,
    encoder: Vec<Block>,
    decoders: Vec<Decoder>,
    buffers: Buffers,
    logits: Vec<Vec<Vec<f32>>>,
}

/// One decoder: up-convolutions and blocks by the level that they lead to, and heads at full resolution.
#[derive(Clone, Debug)]
struct Decoder {
    ups: Vec<Up>,
    blocks: Vec<Block>,
    heads: Vec<Head>,
}

/// What a training pass saves and what both passes write on the way; kept between steps.
#[derive(Clone, Debug, Default)]
struct Buffers {
    /// Axes at full resolution of a training pass that [`Unet::backward`] may follow.
    pass: Option<Volume>,
    input: Vec<f32>,
    encoder: Vec<EncoderBuffers>,
    /// By decoder and level.
    decoders: Vec<Vec<DecoderBuffers>>,
    /// Gradient of each encoder block's output.
    encoder_gradients: Vec<Vec<f32>>,
    /// Gradients or, in inference, activations on the way.
    between: Vec<f32>,
    up: Vec<f32>,
    above: Vec<f32>,
    below: Vec<f32>,
}

#[derive(Clone, Debug, Default)]
struct EncoderBuffers {
    /// Input of the block below full resolution.
    pooled: Vec<f32>,
    block: BlockBuffers,
}

#[derive(Clone, Debug, Default)]
struct DecoderBuffers {
    up: Vec<f32>,
    block: BlockBuffers,
}

impl Unet {
    /// Builds the net and draws its weights from `uniform`, which gives numbers in `[0, 1)`.
    ///
    /// Weights and biases are uniform in ±1/sqrt(fan-in), PyTorch's default, drawn in the order of the entries;
    /// normalization begins as the identity.
    ///
    /// # Errors
    /// [`UnetError::Zero`] when a number of `config` is zero.
    pub fn new(config: UnetConfig, uniform: &mut dyn FnMut() -> f64) -> Result<Self, UnetError> {
        config.check()?;
        let mut parameters = Parameters::default();
        let encoder: Vec<Block> = (0..config.levels)
            .map(|level| {
                let (prefix, in_channels) = match level {
                    0 => ("inc".to_owned(), config.in_channels),
                    _ => (format!("down{level}.maxpool_conv.1"), config.width(level - 1)),
                };
                Block::new(&mut parameters, &prefix, [in_channels, 0], config.width(level), uniform)
            })
            .collect();
        let decoders: Vec<Decoder> = (0..config.n_decoders)
            .map(|index| Decoder::new(&mut parameters, &config, index, uniform))
            .collect();
        let n_levels = config.levels;
        let buffers = Buffers {
            encoder: vec![EncoderBuffers::default(); n_levels],
            decoders: vec![vec![DecoderBuffers::default(); n_levels - 1]; config.n_decoders],
            encoder_gradients: vec![Vec::new(); n_levels],
            ..Buffers::default()
        };
        let logits = vec![vec![Vec::new(); config.n_heads]; config.n_decoders];
        Ok(Self { config, parameters, encoder, decoders, buffers, logits })
    }

    /// The shape that the net was built with.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Values, gradients and running statistics.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Values, gradients and running statistics, to be changed in place (optimizer, checkpoint).
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Sets the bias of one head, all its channels.
    ///
    /// # Errors
    /// [`UnetError::NoHead`] when there is no such head.
    pub fn set_head_bias(
        &mut self,
        decoder: usize,
        head: usize,
        value: f32,
    ) -> Result<(), UnetError> {
        let found = self.decoders.get(decoder).and_then(|decoder| decoder.heads.get(head));
        let UnetConfig { n_decoders, n_heads, .. } = self.config;
        found
            .ok_or(UnetError::NoHead { decoder, head, n_decoders, n_heads })?
            .set_bias(&mut self.parameters, value);
        Ok(())
    }

    /// Runs the net on `input`, `[batch, 1, row, column, channel]`; read the result with [`Unet::logits`].
    ///
    /// `training` uses batch statistics, updates the running ones and keeps what [`Unet::backward`] needs.
    ///
    /// # Errors
    /// [`UnetError::Zero`] for an empty batch, [`UnetError::Sides`] and [`UnetError::Length`].
    pub fn forward(
        &mut self,
        input: &[f32],
        batch: usize,
        rows: usize,
        columns: usize,
        training: bool,
    ) -> Result<(), UnetError> {
        let multiple = self.config.side_multiple();
        if batch == 0 {
            return Err(UnetError::Zero { field: "batch" });
        }
        if [rows, columns].iter().any(|&side| side == 0 || side % multiple != 0) {
            return Err(UnetError::Sides { rows, columns, multiple });
        }
        check_len("the input", [batch, rows, columns, self.config.in_channels], input.len())?;
        let volume = Volume::flat(batch, rows, columns);
        self.buffers.pass = None;
        if training {
            self.encode_training(input, volume);
            for decoder in 0..self.decoders.len() {
                self.decode_training(decoder, volume);
            }
            self.buffers.pass = Some(volume);
        } else {
            self.encode_inference(input, volume);
            for decoder in 0..self.decoders.len() {
                self.decode_inference(decoder, volume);
            }
        }
        Ok(())
    }

    /// Logits of the last forward pass, `[batch, 1, row, column, channel]`; empty before the first.
    ///
    /// # Panics
    /// When there is no such decoder or head.
    pub fn logits(&self, decoder: usize, head: usize) -> &[f32] {
        &self.logits[decoder][head]
    }

    /// Adds the gradients of the parameters, given those of the logits as `gradients[decoder][head]`.
    ///
    /// An empty vector means a zero gradient, for a head as for a whole decoder. Each training pass can be followed
    /// by one backward pass.
    ///
    /// # Errors
    /// [`UnetError::NoForward`], [`UnetError::NoHead`] when there are more vectors than heads, and
    /// [`UnetError::Length`].
    pub fn backward(&mut self, gradients: &[Vec<Vec<f32>>]) -> Result<(), UnetError> {
        let volume = self.buffers.pass.ok_or(UnetError::NoForward)?;
        self.check_gradients(volume, gradients)?;
        self.buffers.pass = None;
        // The first decoder replaces the encoder's gradients, the others add to them.
        let mut write = Write::Replace;
        for (decoder, heads) in gradients.iter().enumerate() {
            if heads.iter().any(|gradient| !gradient.is_empty()) {
                self.decode_backward(decoder, heads, volume, write);
                write = Write::Add;
            }
        }
        if write == Write::Add {
            self.encode_backward(volume);
        }
        Ok(())
    }

    fn check_gradients(
        &self,
        volume: Volume,
        gradients: &[Vec<Vec<f32>>],
    ) -> Result<(), UnetError> {
        let UnetConfig { n_decoders, n_heads, out_channels, .. } = self.config;
        let axes = [volume.batch, volume.rows, volume.columns, out_channels];
        for (decoder, heads) in gradients.iter().enumerate() {
            for (head, gradient) in heads.iter().enumerate() {
                if decoder >= n_decoders || head >= n_heads {
                    return Err(UnetError::NoHead { decoder, head, n_decoders, n_heads });
                }
                if !gradient.is_empty() {
                    check_len("the gradient of the logits", axes, gradient.len())?;
                }
            }
        }
        Ok(())
    }

    fn encode_training(&mut self, input: &[f32], volume: Volume) {
        let Self { parameters, encoder, buffers, .. } = self;
        buffers.input.clear();
        buffers.input.extend_from_slice(input);
        for (level, block) in encoder.iter().enumerate() {
            let (above, here) = buffers.encoder.split_at_mut(level);
            let EncoderBuffers { pooled, block: saved } = &mut here[0];
            let input = match above.last() {
                None => buffers.input.as_slice(),
                Some(above) => {
                    let (larger, block) = (at_level(volume, level - 1), &encoder[level - 1]);
                    pool(larger, block, block.output(larger, &above.block), pooled)
                }
            };
            block.forward_training(parameters, at_level(volume, level), [input, &[]], saved);
        }
    }

    fn decode_training(&mut self, index: usize, volume: Volume) {
        let Self { parameters, encoder, decoders, buffers, logits, .. } = self;
        let (decoder, saved) = (&decoders[index], &mut buffers.decoders[index]);
        let bottom = encoder.len() - 1;
        for level in (0..bottom).rev() {
            let (here, below) = saved.split_at_mut(level + 1);
            let [small, volume] = [at_level(volume, level + 1), at_level(volume, level)];
            let input = match below.first() {
                None => encoder[bottom].output(small, &buffers.encoder[bottom].block),
                Some(below) => decoder.blocks[level + 1].output(small, &below.block),
            };
            let DecoderBuffers { up, block } = &mut here[level];
            decoder.ups[level].forward(parameters, small, input, up);
            let skip = encoder[level].output(volume, &buffers.encoder[level].block);
            let inputs = [skip, &up[..skip.len()]];
            decoder.blocks[level].forward_training(parameters, volume, inputs, block);
        }
        let top = match saved.first() {
            None => encoder[0].output(volume, &buffers.encoder[0].block),
            Some(saved) => decoder.blocks[0].output(volume, &saved.block),
        };
        for (head, logits) in decoder.heads.iter().zip(&mut logits[index]) {
            head.forward(parameters, volume, top, logits);
        }
    }

    /// Keeps the outputs of the encoder's blocks in `block.second.output` and nothing else.
    fn encode_inference(&mut self, input: &[f32], volume: Volume) {
        let Self { parameters, encoder, buffers, .. } = self;
        for (level, block) in encoder.iter().enumerate() {
            let (above, here) = buffers.encoder.split_at_mut(level);
            let input = match above.last() {
                None => input,
                Some(above) => {
                    let (larger, block) = (at_level(volume, level - 1), &encoder[level - 1]);
                    pool(larger, block, block.output(larger, &above.block), &mut buffers.up)
                }
            };
            let output = &mut here[0].block.second.output;
            let on_the_way = [&mut buffers.between, output];
            block.forward_inference(parameters, at_level(volume, level), [input, &[]], on_the_way);
        }
    }

    fn decode_inference(&mut self, index: usize, volume: Volume) {
        let Self { parameters, encoder, decoders, buffers, logits, .. } = self;
        let Buffers { encoder: saved, between, up, above, below, .. } = buffers;
        let (decoder, bottom) = (&decoders[index], encoder.len() - 1);
        for level in (0..bottom).rev() {
            let [small, volume] = [at_level(volume, level + 1), at_level(volume, level)];
            let input = if level + 1 == bottom {
                encoder[bottom].output(small, &saved[bottom].block)
            } else {
                &below[..decoder.blocks[level + 1].output_len(small)]
            };
            decoder.ups[level].forward(parameters, small, input, up);
            let skip = encoder[level].output(volume, &saved[level].block);
            let inputs = [skip, &up[..skip.len()]];
            decoder.blocks[level].forward_inference(parameters, volume, inputs, [between, above]);
            std::mem::swap(above, below);
        }
        let top = if bottom == 0 {
            encoder[0].output(volume, &saved[0].block)
        } else {
            &below[..decoder.blocks[0].output_len(volume)]
        };
        for (head, logits) in decoder.heads.iter().zip(&mut logits[index]) {
            head.forward(parameters, volume, top, logits);
        }
    }

    /// Gradients of one decoder's parameters, and its part of the gradients of all encoder outputs.
    fn decode_backward(&mut self, index: usize, heads: &[Vec<f32>], volume: Volume, write: Write) {
        let Self { parameters, encoder, decoders, buffers, .. } = self;
        let Buffers {
            encoder: seen,
            decoders: saved,
            encoder_gradients,
            between,
            up,
            above,
            below,
            ..
        } = buffers;
        let (decoder, saved, bottom) = (&decoders[index], &mut saved[index], encoder.len() - 1);
        let (top, gradient, mut head_write) = match saved.first() {
            None => (encoder[0].output(volume, &seen[0].block), &mut encoder_gradients[0], write),
            Some(saved) => {
                (decoder.blocks[0].output(volume, &saved.block), &mut *above, Write::Replace)
            }
        };
        let gradient = fit(gradient, top.len());
        for (head, to_logits) in decoder.heads.iter().zip(heads) {
            if !to_logits.is_empty() {
                head.backward(parameters, volume, top, to_logits, (&mut *gradient, head_write));
                head_write = Write::Add;
            }
        }
        for level in 0..bottom {
            let (here, deeper) = saved.split_at_mut(level + 1);
            let [small, volume] = [at_level(volume, level + 1), at_level(volume, level)];
            let DecoderBuffers { up: upped, block } = &mut here[level];
            let skip = encoder[level].output(volume, &seen[level].block);
            let len = skip.len();
            let to_inputs = [
                Some((fit(&mut encoder_gradients[level], len), write)),
                Some((fit(up, len), Write::Replace)),
            ];
            let pass = BlockGradient { saved: block, gradient: &above[..len], between };
            let inputs = [skip, &upped[..len]];
            decoder.blocks[level].backward(parameters, volume, inputs, pass, to_inputs);
            let (input, target) = match deeper.first() {
                None => {
                    let input = encoder[bottom].output(small, &seen[bottom].block);
                    (input, (fit(&mut encoder_gradients[bottom], input.len()), write))
                }
                Some(deeper) => {
                    let input = decoder.blocks[level + 1].output(small, &deeper.block);
                    (input, (fit(below, input.len()), Write::Replace))
                }
            };
            decoder.ups[level].backward(parameters, small, input, &up[..len], target);
            std::mem::swap(above, below);
        }
    }

    /// Gradients of the encoder's parameters, given those of its outputs.
    fn encode_backward(&mut self, volume: Volume) {
        let Self { parameters, encoder, buffers, .. } = self;
        let Buffers { input, encoder: saved, encoder_gradients, between, above, .. } = buffers;
        for (level, block) in encoder.iter().enumerate().rev() {
            let volume_here = at_level(volume, level);
            let (larger_gradients, gradients) = encoder_gradients.split_at_mut(level);
            let gradient = &gradients[0][..block.output_len(volume_here)];
            let (larger_saved, here) = saved.split_at_mut(level);
            let EncoderBuffers { pooled, block: saved } = &mut here[0];
            let pass = BlockGradient { saved, gradient, between };
            let (Some(larger), Some(target)) = (larger_saved.last(), larger_gradients.last_mut())
            else {
                block.backward(parameters, volume_here, [input, &[]], pass, [None, None]);
                continue;
            };
            let (larger_block, larger_volume) = (&encoder[level - 1], at_level(volume, level - 1));
            let pooled = &pooled[..volume_here.n_pixels() * larger_block.out_channels()];
            let to_pooled = fit(above, pooled.len());
            let to_inputs = [Some((&mut *to_pooled, Write::Replace)), None];
            block.backward(parameters, volume_here, [pooled, &[]], pass, to_inputs);
            let input = larger_block.output(larger_volume, &larger.block);
            let pass = Pooled { input, output: pooled, output_gradient: to_pooled };
            let (n_channels, target) = (larger_block.out_channels(), &mut target[..input.len()]);
            MaxPool::flat().input_gradient(larger_volume, n_channels, pass, target, Write::Add);
        }
    }
}

impl Decoder {
    fn new(
        parameters: &mut Parameters,
        config: &UnetConfig,
        index: usize,
        uniform: Uniform<'_>,
    ) -> Self {
        let prefix =
            if config.n_decoders == 1 { String::new() } else { format!("decoders.{index}.") };
        let bottom = config.levels - 1;
        let mut layers: Vec<(Up, Block)> = (0..bottom)
            .rev()
            .map(|level| {
                let (name, width) = (format!("{prefix}up{}", bottom - level), config.width(level));
                let up_name = format!("{name}.up");
                let up = Up::new(parameters, &up_name, config.width(level + 1), width, uniform);
                let block_name = format!("{name}.conv");
                (up, Block::new(parameters, &block_name, [width, width], width, uniform))
            })
            .collect();
        layers.reverse();
        let heads = (0..config.n_heads)
            .map(|head| {
                let head = if config.n_heads == 1 { String::new() } else { format!(".{head}") };
                let name = format!("{prefix}outc{head}.conv");
                Head::new(parameters, &name, config.base_width, config.out_channels, uniform)
            })
            .collect();
        let (ups, blocks) = layers.into_iter().unzip();
        Self { ups, blocks, heads }
    }
}

/// Axes after `level` poolings.
fn at_level(volume: Volume, level: usize) -> Volume {
    Volume { rows: volume.rows >> level, columns: volume.columns >> level, ..volume }
}

/// Pools the output of `block`, which has axes `volume`.
fn pool<'a>(volume: Volume, block: &Block, input: &[f32], pooled: &'a mut Vec<f32>) -> &'a [f32] {
    let pooled = fit(pooled, input.len() / 4);
    MaxPool::flat().forward(volume, block.out_channels(), input, pooled);
    pooled
}

fn check_len(what: &'static str, axes: [usize; 4], found: usize) -> Result<(), UnetError> {
    match axes.iter().product() {
        expected if expected == found => Ok(()),
        expected => Err(UnetError::Length { what, axes, expected, found }),
    }
}

#[cfg(test)]
mod tests;
