//! A UNet on the device: its buffers, and its passes as lists of launches.
//!
//! The passes are those of [`nets::Unet`]: the first decoder replaces the gradients of the encoder's outputs, the
//! others add to them. Two things differ in form only: skip and up-convolution are joined in one buffer, which cuDNN
//! reads, and every gradient of a parameter is replaced and not added to, because each parameter is met once in a step.

mod build;
mod weights;

use std::rc::Rc;

use kernels::Volume;

use crate::{
    Address, Arena, ConvPass, ConvShape, CudaError, Device, NetLayout, Number, Product,
    launches::{AdamAt, Kernels, NormAt, Plane, Windows},
    layout::{DecoderLayout, HeadLayout, UnitLayout, UpLayout},
};

use build::{Builder, volumes};
pub use weights::NetWeights;

/// A network on a device, for inputs of one size.
#[derive(Debug)]
pub struct Net {
    layout: Rc<NetLayout>,
    number: Number,
    /// Axes of each level.
    volumes: Vec<Volume>,
    flat: AdamAt,
    running: Address,
    input: Address,
    encoder: Vec<LevelBuffers>,
    decoders: Vec<Vec<DecoderBuffers>>,
    /// Gradient of the output of each encoder block.
    encoder_gradients: Vec<Address>,
    scratch: Scratch,
    workspace: usize,
}

/// What a unit's forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug)]
struct UnitBuffers {
    /// Output of the convolution; after the backward pass its gradient.
    convolved: Address,
    output: Address,
    stats: Address,
}

#[derive(Clone, Copy, Debug)]
struct LevelBuffers {
    /// Input of the block: the pooled output above, or the net's input.
    input: Address,
    units: [UnitBuffers; 2],
}

#[derive(Clone, Copy, Debug)]
struct DecoderBuffers {
    /// Product of the up-convolution, `[small pixel, tap, channel]`; later its gradient.
    product: Address,
    joined: Address,
    units: [UnitBuffers; 2],
}

/// Gradients on the way, each as large as the largest that it holds.
#[derive(Clone, Copy, Debug)]
struct Scratch {
    above: Address,
    below: Address,
    between: Address,
    joined: Address,
    slopes: Address,
    /// Weight gradient of a convolution in bf16; null in f32.
    weights: Address,
}

impl UnitLayout {
    /// The convolution as cuDNN sees it: a kernel of one slice makes slices a batch, which is 2-D.
    fn shape(&self, volume: Volume, number: Number) -> ConvShape {
        let volume = match self.kernel[0] {
            1 => Volume { batch: volume.batch * volume.slices, slices: 1, ..volume },
            _ => volume,
        };
        let Self { kernel, n_inputs, n_outputs, .. } = *self;
        ConvShape { volume, kernel, n_inputs, n_outputs, number }
    }

    fn n_weights(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.n_inputs * self.n_outputs
    }
}

impl Net {
    /// Plans the network of `weights` for inputs of axes `volume` and takes the memory of its activations.
    ///
    /// # Errors
    /// [`CudaError::Range`] for a side that cannot be halved as often as the net pools, [`CudaError::NoAlgorithm`], and
    /// those of the device.
    pub fn new(
        device: &mut dyn Device,
        arena: &mut Arena,
        weights: &NetWeights,
        volume: Volume,
    ) -> Result<Self, CudaError> {
        let NetWeights { layout, number, flat, running } = weights.clone();
        let mut builder = Builder { device, arena, number, workspace: 0 };
        let volumes = volumes(&layout, volume)?;
        let levels = layout.encoder.iter().zip(&volumes);
        let encoder: Vec<LevelBuffers> = levels
            .map(|(units, &volume)| builder.level(units, volume))
            .collect::<Result<_, _>>()?;
        let decoders = layout.decoders.iter().map(|decoder| builder.decoder(decoder, &volumes));
        let decoders = decoders.collect::<Result<_, _>>()?;
        let gradients = layout.encoder.iter().zip(&volumes);
        let gradients =
            gradients.map(|(units, volume)| builder.values(volume.n_pixels() * units[1].n_outputs));
        let encoder_gradients = gradients.collect::<Result<_, _>>()?;
        let scratch = builder.scratch(&layout, &volumes)?;
        let (input, workspace) = (encoder[0].input, builder.workspace);
        Ok(Self {
            layout,
            number,
            volumes,
            flat,
            running,
            input,
            encoder,
            decoders,
            encoder_gradients,
            scratch,
            workspace,
        })
    }

    /// Bytes of workspace that the convolutions need.
    pub(crate) fn workspace(&self) -> usize {
        self.workspace
    }

    /// Where the input goes, `[pixel, channel]` with [`NetWeights::in_channels`]' second number of channels.
    pub(crate) fn input(&self) -> Address {
        self.input
    }

    fn value(&self, place: usize) -> Address {
        self.flat.values.plus(4 * place)
    }

    fn gradient(&self, place: usize) -> Address {
        self.flat.gradients.plus(4 * place)
    }

    /// Weights as convolutions and products read them.
    fn weights(&self, place: usize) -> Address {
        match self.number {
            Number::F32 => self.value(place),
            Number::Bf16 => self.flat.copy.plus(2 * place),
        }
    }

    fn norm(&self, unit: &UnitLayout) -> NormAt {
        let running = |place: usize| self.running.plus(4 * place);
        NormAt {
            scale: self.value(unit.scale),
            shift: self.value(unit.shift),
            mean: running(unit.mean),
            variance: running(unit.variance),
        }
    }

    /// Windows that lead from `level` to the level above it.
    fn windows(&self, window: [usize; 3], level: usize) -> Windows {
        Windows { small: self.volumes[level], window, large: self.volumes[level - 1] }
    }

    /// Window of the pooling below `level`: the stride of the up-convolution that leads back.
    fn window(&self, level: usize) -> [usize; 3] {
        self.layout.decoders[0].ups[level].stride
    }

    /// Runs the net on its input; head `head` of decoder `decoder` writes its logits, f32, to `logits(decoder, head)`.
    pub(crate) fn forward(
        &self,
        kernels: &mut Kernels<'_>,
        training: bool,
        logits: &dyn Fn(usize, usize) -> Address,
    ) -> Result<(), CudaError> {
        for (level, (units, buffers)) in self.layout.encoder.iter().zip(&self.encoder).enumerate() {
            if level > 0 {
                let above = self.encoder[level - 1].units[1].output;
                let windows = self.windows(self.window(level - 1), level);
                kernels.pool_forward(&windows, units[0].n_inputs, [above, buffers.input])?;
            }
            self.block_forward(kernels, units, (level, buffers.input), &buffers.units, training)?;
        }
        for (decoder, layout) in self.layout.decoders.iter().enumerate() {
            self.decode(kernels, layout, &self.decoders[decoder], training)?;
            let (top, plane) = self.top(decoder);
            for (head, layout) in layout.heads.iter().enumerate() {
                let (weights, bias) = (self.value(layout.weight), self.value(layout.bias));
                kernels.head_forward(
                    plane,
                    layout.n_outputs,
                    [top, weights, bias, logits(decoder, head)],
                )?;
            }
        }
        Ok(())
    }

    /// Output of a decoder at full resolution.
    fn top(&self, decoder: usize) -> (Address, Plane) {
        let (units, layout) = match self.decoders[decoder].first() {
            Some(level) => (&level.units, &self.layout.decoders[decoder].blocks[0]),
            None => (&self.encoder[0].units, &self.layout.encoder[0]),
        };
        (
            units[1].output,
            Plane { n_pixels: self.volumes[0].n_pixels(), n_channels: layout[1].n_outputs },
        )
    }

    fn decode(
        &self,
        kernels: &mut Kernels<'_>,
        layout: &DecoderLayout,
        buffers: &[DecoderBuffers],
        training: bool,
    ) -> Result<(), CudaError> {
        for level in (0..buffers.len()).rev() {
            let here = &buffers[level];
            let up = &layout.ups[level];
            let input = self.below(buffers, level);
            kernels.device.multiply(&self.up_product(up, level, input, here.product))?;
            let windows = self.windows(up.stride, level + 1);
            let skip = self.encoder[level].units[1].output;
            let parts = self.parts(layout, level);
            kernels.join(
                &windows,
                parts,
                [skip, here.product, self.value(up.bias), here.joined],
            )?;
            self.block_forward(
                kernels,
                &layout.blocks[level],
                (level, here.joined),
                &here.units,
                training,
            )?;
        }
        Ok(())
    }

    /// Input of the up-convolution that leads to `level`.
    fn below(&self, buffers: &[DecoderBuffers], level: usize) -> Address {
        match buffers.get(level + 1) {
            Some(below) => below.units[1].output,
            None => self.encoder[level + 1].units[1].output,
        }
    }

    /// Channels of the skip and of the up-convolution at `level`.
    fn parts(&self, layout: &DecoderLayout, level: usize) -> [usize; 2] {
        [self.layout.encoder[level][1].n_outputs, layout.ups[level].n_outputs]
    }

    fn up_product(&self, up: &UpLayout, level: usize, input: Address, product: Address) -> Product {
        Product {
            rows: self.volumes[level + 1].n_pixels(),
            columns: up.n_columns(),
            depth: up.n_inputs,
            a: (input, false),
            b: (self.weights(up.weight), false),
            c: product,
            number: self.number,
            c_number: self.number,
            add: false,
        }
    }

    fn block_forward(
        &self,
        kernels: &mut Kernels<'_>,
        layout: &[UnitLayout; 2],
        (level, input): (usize, Address),
        buffers: &[UnitBuffers; 2],
        training: bool,
    ) -> Result<(), CudaError> {
        let mut input = input;
        for (unit, here) in layout.iter().zip(buffers) {
            let shape = unit.shape(self.volumes[level], self.number);
            let from = [input, self.weights(unit.weight)];
            kernels.device.conv(ConvPass::Forward, &shape, from, here.convolved)?;
            let plane =
                Plane { n_pixels: self.volumes[level].n_pixels(), n_channels: unit.n_outputs };
            let to = [here.stats, here.output];
            if training {
                kernels.norm_training(plane, here.convolved, self.norm(unit), to)?;
            } else {
                kernels.norm_inference(plane, here.convolved, self.norm(unit), to)?;
            }
            input = here.output;
        }
        Ok(())
    }

    /// Gradients of all parameters, given those of the logits, f32, at `gradients(decoder, head)`.
    pub(crate) fn backward(
        &self,
        kernels: &mut Kernels<'_>,
        gradients: &dyn Fn(usize, usize) -> Address,
    ) -> Result<(), CudaError> {
        for decoder in 0..self.layout.decoders.len() {
            self.decode_backward(kernels, decoder, gradients)?;
        }
        for level in (0..self.encoder.len()).rev() {
            let (units, buffers) = (&self.layout.encoder[level], &self.encoder[level]);
            let gradient = self.encoder_gradients[level];
            let to_input = (level > 0).then_some(self.scratch.above);
            self.block_backward(
                kernels,
                units,
                (level, buffers.input),
                &buffers.units,
                (gradient, to_input),
            )?;
            if level > 0 {
                let windows = self.windows(self.window(level - 1), level);
                let above = self.encoder[level - 1].units[1].output;
                let target = self.encoder_gradients[level - 1];
                let places = [above, buffers.input, self.scratch.above, target];
                kernels.pool_backward(&windows, units[0].n_inputs, places)?;
            }
        }
        Ok(())
    }

    fn decode_backward(
        &self,
        kernels: &mut Kernels<'_>,
        decoder: usize,
        gradients: &dyn Fn(usize, usize) -> Address,
    ) -> Result<(), CudaError> {
        let (layout, buffers) = (&self.layout.decoders[decoder], &self.decoders[decoder]);
        let (add, bottom) = (decoder > 0, buffers.len());
        let [mut above, mut below] = [self.scratch.above, self.scratch.below];
        let (top, top_add) =
            if bottom == 0 { (self.encoder_gradients[0], add) } else { (above, false) };
        for (head, part) in layout.heads.iter().enumerate() {
            self.head_backward(
                kernels,
                decoder,
                part,
                [gradients(decoder, head), top],
                top_add || head > 0,
            )?;
        }
        for level in 0..bottom {
            let here = &buffers[level];
            let (units, up) = (&layout.blocks[level], &layout.ups[level]);
            let ends = (above, Some(self.scratch.joined));
            self.block_backward(kernels, units, (level, here.joined), &here.units, ends)?;
            let windows = self.windows(up.stride, level + 1);
            let places = [self.scratch.joined, self.encoder_gradients[level], here.product];
            kernels.split(&windows, self.parts(layout, level), places, add)?;
            let input = self.below(buffers, level);
            let last = level + 1 == bottom;
            let target = if last { (self.encoder_gradients[bottom], add) } else { (below, false) };
            self.up_backward(kernels, up, (level, input), here.product, target)?;
            std::mem::swap(&mut above, &mut below);
        }
        Ok(())
    }

    fn head_backward(
        &self,
        kernels: &mut Kernels<'_>,
        decoder: usize,
        head: &HeadLayout,
        [gradient, to_input]: [Address; 2],
        add: bool,
    ) -> Result<(), CudaError> {
        let (top, plane) = self.top(decoder);
        let weights = self.value(head.weight);
        kernels.head_backward(plane, head.n_outputs, [gradient, weights, to_input], add)?;
        let targets = [self.gradient(head.weight), self.gradient(head.bias)];
        kernels.head_weights(plane, head.n_outputs, [top, gradient], targets)
    }

    fn up_backward(
        &self,
        kernels: &mut Kernels<'_>,
        up: &UpLayout,
        (level, input): (usize, Address),
        gradient: Address,
        (to_input, add): (Address, bool),
    ) -> Result<(), CudaError> {
        let n_small = self.volumes[level + 1].n_pixels();
        let plane = Plane { n_pixels: self.volumes[level].n_pixels(), n_channels: up.n_outputs };
        kernels.channel_sums(plane, gradient, self.gradient(up.bias))?;
        let forward = self.up_product(up, level, input, gradient);
        kernels.device.multiply(&Product {
            rows: up.n_inputs,
            depth: n_small,
            a: (input, true),
            b: (gradient, false),
            c: self.gradient(up.weight),
            c_number: Number::F32,
            ..forward
        })?;
        kernels.device.multiply(&Product {
            columns: up.n_inputs,
            depth: up.n_columns(),
            a: (gradient, false),
            b: (self.weights(up.weight), true),
            c: to_input,
            add,
            ..forward
        })
    }

    /// Backward pass of a block, given the gradient of its output; that of its input is computed where it is wanted.
    fn block_backward(
        &self,
        kernels: &mut Kernels<'_>,
        layout: &[UnitLayout; 2],
        (level, input): (usize, Address),
        buffers: &[UnitBuffers; 2],
        (gradient, to_input): (Address, Option<Address>),
    ) -> Result<(), CudaError> {
        let between = self.scratch.between;
        let inputs = [input, buffers[0].output];
        self.unit_backward(
            kernels,
            &layout[1],
            (level, inputs[1]),
            &buffers[1],
            (gradient, Some(between)),
        )?;
        self.unit_backward(
            kernels,
            &layout[0],
            (level, inputs[0]),
            &buffers[0],
            (between, to_input),
        )
    }

    fn unit_backward(
        &self,
        kernels: &mut Kernels<'_>,
        unit: &UnitLayout,
        (level, input): (usize, Address),
        buffers: &UnitBuffers,
        (gradient, to_input): (Address, Option<Address>),
    ) -> Result<(), CudaError> {
        let plane = Plane { n_pixels: self.volumes[level].n_pixels(), n_channels: unit.n_outputs };
        let places = [gradient, buffers.convolved, buffers.stats, self.scratch.slopes];
        let targets = [self.gradient(unit.scale), self.gradient(unit.shift)];
        kernels.norm_gradient(plane, places, self.value(unit.scale), targets)?;
        let shape = unit.shape(self.volumes[level], self.number);
        let to_weights = self.gradient(unit.weight);
        let from = [input, buffers.convolved];
        match self.number {
            Number::F32 => kernels.device.conv(ConvPass::Weights, &shape, from, to_weights)?,
            Number::Bf16 => {
                kernels.device.conv(ConvPass::Weights, &shape, from, self.scratch.weights)?;
                kernels.widen(self.scratch.weights, to_weights, unit.n_weights())?;
            }
        }
        match to_input {
            Some(to_input) => {
                let from = [buffers.convolved, self.weights(unit.weight)];
                kernels.device.conv(ConvPass::Input, &shape, from, to_input)
            }
            None => Ok(()),
        }
    }
}

impl UpLayout {
    /// Values that one input pixel makes.
    fn n_columns(&self) -> usize {
        self.stride.iter().product::<usize>() * self.n_outputs
    }
}
