//! UNet over channels-last buffers with one shared encoder and any number of decoders and heads.

mod network;

use kernels::{Volume, bf16};
use thiserror::Error;

use crate::{
    Axes, Execution, Parameters, Precision,
    layers::{Pass, Uniform},
};
use network::{Memory, Network, Plan};

/// Shape of a [`Unet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetConfig {
    /// Axes that are convolved and pooled.
    pub axes: Axes,
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
    /// A side cannot be pooled as often as the net pools.
    #[error(
        "image sides must be multiples of {multiples:?} as [slice, row, column]: got {found:?}"
    )]
    Sides {
        /// Sides of the input as `[slice, row, column]`.
        found: [usize; 3],
        /// What they must be multiples of, see [`Axes::multiples`].
        multiples: [usize; 3],
    },
    /// Poolings that keep the slices are as many as the net has poolings, or none.
    #[error("`flat_poolings` must be at least 1 and under {levels} levels: got {found}")]
    FlatPoolings {
        /// Levels of the net.
        levels: usize,
        /// What was asked for.
        found: usize,
    },
    /// A buffer does not hold the values that its axes ask for.
    #[error(
        "{what} of [batch, slice, row, column, channel] = {axes:?} holds {expected} values: got {found}"
    )]
    Length {
        /// The buffer that is meant.
        what: &'static str,
        /// `[batch, slice, row, column, channel]`.
        axes: [usize; 5],
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

    fn check(&self) -> Result<(), UnetError> {
        let Self { axes, in_channels, base_width, levels, n_decoders, n_heads, out_channels } =
            *self;
        let fields = [
            ("in_channels", in_channels),
            ("base_width", base_width),
            ("levels", levels),
            ("n_decoders", n_decoders),
            ("n_heads", n_heads),
            ("out_channels", out_channels),
        ];
        if let Some((field, _)) = fields.into_iter().find(|&(_, number)| number == 0) {
            return Err(UnetError::Zero { field });
        }
        axes.check(levels)
    }
}

/// UNet with explicit forward and backward passes.
///
/// Source: Ronneberger et al., arXiv 1505.04597, in the layout of milesial/Pytorch-UNet: blocks of two times
/// (3 × 3 convolution without bias, batch normalization, ReLU), 2 × 2 max pooling, 2 × 2 transposed convolution to
/// half the channels, concatenation as (skip, up), 1 × 1 heads with bias. With one decoder and one head, names
/// are those of that repository; otherwise decoders are `decoders.{d}.…` and heads `outc.{h}.conv`. In 3-D names stay
/// and weights have one kernel axis more, as those of PyTorch's `Conv3d`.
///
/// Work runs on the rayon pool that a method is called in; results do not depend on its number of threads.
///
/// Memory of a training step, in numbers a pixel at full resolution, with W channels there: 5W for the encoder and its
/// gradients and 5W for each decoder, times 1 + 1/2 + 1/4 + … in 2-D or 1 + 1/4 + 1/16 + … in 3-D for the lower levels,
/// and 3.5W on their way. With [`Execution::recompute`] 2W, W for each decoder, and 7.5W. Prediction takes 5W and W for
/// the encoder. A number has four bytes in f32 and two in bf16.
#[derive(Clone, Debug)]
pub struct Unet {
    config: UnetConfig,
    parameters: Parameters,
    network: Network,
    memory: AnyMemory,
    recompute: bool,
    /// The training pass that [`Unet::backward`] may follow.
    plan: Option<Plan>,
    logits: Vec<Vec<Vec<f32>>>,
}

/// Buffers in the number format of the activations.
#[derive(Clone, Debug)]
enum AnyMemory {
    F32(Memory<f32>),
    Bf16(Memory<bf16>),
}

impl AnyMemory {
    fn new(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32(Memory::default()),
            Precision::Bf16 => Self::Bf16(Memory::default()),
        }
    }
}

impl Unet {
    /// Builds the net and draws its weights from `uniform`, which gives numbers in `[0, 1)`.
    ///
    /// Weights and biases are uniform in ±1/sqrt(fan-in), PyTorch's default, drawn in the order of the entries;
    /// normalization begins as the identity.
    ///
    /// # Errors
    /// [`UnetError::Zero`] and [`UnetError::FlatPoolings`] when a number of `config` is out of range.
    pub fn new(config: UnetConfig, uniform: Uniform<'_>) -> Result<Self, UnetError> {
        config.check()?;
        let mut parameters = Parameters::default();
        let network = Network::new(&config, &mut parameters, uniform);
        let logits = vec![vec![Vec::new(); config.n_heads]; config.n_decoders];
        let memory = AnyMemory::new(Precision::F32);
        Ok(Self { config, parameters, network, memory, recompute: false, plan: None, logits })
    }

    /// The shape that the net was built with.
    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Sets how all later passes are computed; at first in f32 with everything kept. Forgets the last pass.
    pub fn set_execution(&mut self, Execution { precision, recompute }: Execution) {
        self.recompute = recompute;
        self.plan = None;
        self.memory = AnyMemory::new(precision);
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
        let UnetConfig { n_decoders, n_heads, .. } = self.config;
        self.network
            .head(decoder, head)
            .ok_or(UnetError::NoHead { decoder, head, n_decoders, n_heads })?
            .set_bias(&mut self.parameters, value);
        Ok(())
    }

    /// Runs the net on `input`, `[batch, slice, row, column, channel]` with the axes `volume`; read the result with
    /// [`Unet::logits`].
    ///
    /// `training` uses batch statistics, updates the running ones and keeps what [`Unet::backward`] needs.
    ///
    /// # Errors
    /// [`UnetError::Zero`] for an empty batch, [`UnetError::Sides`] and [`UnetError::Length`].
    pub fn forward(
        &mut self,
        input: &[f32],
        volume: Volume,
        training: bool,
    ) -> Result<(), UnetError> {
        let Volume { batch, slices, rows, columns } = volume;
        let (found, multiples) =
            ([slices, rows, columns], self.config.axes.multiples(self.config.levels));
        if batch == 0 {
            return Err(UnetError::Zero { field: "batch" });
        }
        let fits = |(side, multiple): (&usize, &usize)| *side > 0 && side.is_multiple_of(*multiple);
        if !found.iter().zip(&multiples).all(fits) {
            return Err(UnetError::Sides { found, multiples });
        }
        check_len("the input", volume, self.config.in_channels, input.len())?;
        let plan = Plan {
            volumes: self.config.axes.volumes(volume, self.config.levels),
            pass: if training { Pass::Training } else { Pass::Inference },
            recompute: self.recompute,
        };
        self.plan = None;
        let Self { network, parameters, memory, logits, .. } = self;
        let part = parameters.part();
        match memory {
            AnyMemory::F32(memory) => network.forward(&plan, part, input, memory, logits),
            AnyMemory::Bf16(memory) => network.forward(&plan, part, input, memory, logits),
        }
        self.plan = training.then_some(plan);
        Ok(())
    }

    /// Logits of the last forward pass, `[batch, slice, row, column, channel]`; empty before the first.
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
        let volume = self.plan.as_ref().ok_or(UnetError::NoForward)?.volumes[0];
        self.check_gradients(volume, gradients)?;
        if let Some(plan) = self.plan.take() {
            let Self { network, parameters, memory, .. } = self;
            let part = &mut parameters.part();
            match memory {
                AnyMemory::F32(memory) => network.backward(&plan, part, gradients, memory),
                AnyMemory::Bf16(memory) => network.backward(&plan, part, gradients, memory),
            }
        }
        Ok(())
    }

    fn check_gradients(
        &self,
        volume: Volume,
        gradients: &[Vec<Vec<f32>>],
    ) -> Result<(), UnetError> {
        let UnetConfig { n_decoders, n_heads, out_channels, .. } = self.config;
        for (decoder, heads) in gradients.iter().enumerate() {
            for (head, gradient) in heads.iter().enumerate() {
                if decoder >= n_decoders || head >= n_heads {
                    return Err(UnetError::NoHead { decoder, head, n_decoders, n_heads });
                }
                if !gradient.is_empty() {
                    let what = "the gradient of the logits";
                    check_len(what, volume, out_channels, gradient.len())?;
                }
            }
        }
        Ok(())
    }
}

fn check_len(
    what: &'static str,
    volume: Volume,
    n_channels: usize,
    found: usize,
) -> Result<(), UnetError> {
    let Volume { batch, slices, rows, columns } = volume;
    let axes = [batch, slices, rows, columns, n_channels];
    match axes.iter().product() {
        expected if expected == found => Ok(()),
        expected => Err(UnetError::Length { what, axes, expected, found }),
    }
}

#[cfg(test)]
mod tests;
