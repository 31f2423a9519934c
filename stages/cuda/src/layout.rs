//! Where the tensors of a network lie on the device, and the way there and back.
//!
//! The host's order is that of [`nets::Parameters`]: weights `[kernel…, in, out]`, one after the other. The device's is
//! what cuDNN and cuBLAS read: convolutions `[out, kernel…, in]`, up-convolutions `[in, kernel…, out]`, every tensor at
//! a multiple of [`ALIGNMENT`] floats, and the first convolution's input channels filled up with zeros in bf16. Zeros
//! have gradient zero, so they stay. Everything is read off names and shapes, also kernels and strides in 2-D or 3-D.

use nets::Parameters;

use crate::{CudaError, Number};

/// Tensors begin at multiples of this many floats.
const ALIGNMENT: usize = 64;

/// A convolution with normalization; places are floats from the beginning of the flat buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnitLayout {
    pub(crate) weight: usize,
    pub(crate) kernel: [usize; 3],
    pub(crate) n_inputs: usize,
    pub(crate) n_outputs: usize,
    pub(crate) scale: usize,
    pub(crate) shift: usize,
    /// Places of the running statistics.
    pub(crate) mean: usize,
    pub(crate) variance: usize,
}

/// An up-convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpLayout {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) stride: [usize; 3],
    pub(crate) n_inputs: usize,
    pub(crate) n_outputs: usize,
}

/// A 1 × 1 convolution with bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLayout {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) n_inputs: usize,
    pub(crate) n_outputs: usize,
}

/// A decoder, by the level that its layers lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecoderLayout {
    pub(crate) ups: Vec<UpLayout>,
    pub(crate) blocks: Vec<[UnitLayout; 2]>,
    pub(crate) heads: Vec<HeadLayout>,
}

/// Order of a tensor on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As on the host.
    Same,
    /// Host `[tap, in, out]`, device `[out, tap, width]` with `width` at least the input channels.
    Conv { taps: usize, n_inputs: usize, n_outputs: usize, width: usize },
    /// Host `[tap, in, out]`, device `[in, tap, out]`.
    Up { taps: usize, n_inputs: usize, n_outputs: usize },
}

impl Order {
    /// Hands `pair` the places of all `len` values on the host, in order, with those on the device.
    fn each(self, len: usize, mut pair: impl FnMut(usize, usize)) {
        let (taps, n_inputs, n_outputs) = match self {
            Self::Same => return (0..len).for_each(|place| pair(place, place)),
            Self::Conv { taps, n_inputs, n_outputs, .. }
            | Self::Up { taps, n_inputs, n_outputs } => (taps, n_inputs, n_outputs),
        };
        let mut host = 0;
        for tap in 0..taps {
            for input in 0..n_inputs {
                for output in 0..n_outputs {
                    let device = match self {
                        Self::Conv { width, .. } => (output * taps + tap) * width + input,
                        _ => (input * taps + tap) * n_outputs + output,
                    };
                    pair(host, device);
                    host += 1;
                }
            }
        }
    }
}

/// A tensor of the flat buffers: its order and the place where it begins, on the host and on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    order: Order,
    host: std::ops::Range<usize>,
    device: usize,
}

/// A network's tensors on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetLayout {
    pub(crate) encoder: Vec<[UnitLayout; 2]>,
    pub(crate) decoders: Vec<DecoderLayout>,
    /// Channels of the image, and of the input with its zeros.
    pub(crate) in_channels: [usize; 2],
    /// Floats of the flat buffers.
    pub(crate) n_values: usize,
    /// Running statistics: lengths in the host's order.
    running: Vec<usize>,
    pub(crate) n_running: usize,
    pieces: Vec<Piece>,
    n_host: usize,
}

impl NetLayout {
    /// Reads the layout off the names and shapes of `parameters`.
    ///
    /// # Errors
    /// [`CudaError::Tensor`] for a tensor that a UNet has and `parameters` lack.
    pub fn new(parameters: &Parameters, number: Number) -> Result<Self, CudaError> {
        let reader = Reader { parameters, devices: Vec::new(), running: Vec::new(), number };
        reader.read()
    }

    /// Values or gradients of the host in the device's order.
    ///
    /// # Errors
    /// [`CudaError::Length`].
    pub fn to_device(&self, host: &[f32]) -> Result<Vec<f32>, CudaError> {
        check_len("the network's values", self.n_host, host.len())?;
        let mut device = vec![0.0; self.n_values];
        for piece in &self.pieces {
            let own = &host[piece.host.clone()];
            piece.order.each(own.len(), |from, to| device[piece.device + to] = own[from]);
        }
        Ok(device)
    }

    /// Values or gradients of the device in the host's order.
    ///
    /// # Errors
    /// [`CudaError::Length`].
    pub fn to_host(&self, device: &[f32]) -> Result<Vec<f32>, CudaError> {
        check_len("the network's values", self.n_values, device.len())?;
        let mut host = vec![0.0; self.n_host];
        for piece in &self.pieces {
            let own = &mut host[piece.host.clone()];
            piece.order.each(own.len(), |to, from| own[to] = device[piece.device + from]);
        }
        Ok(host)
    }

    /// The running statistics of `parameters`, one after the other.
    pub(crate) fn running(&self, parameters: &Parameters) -> Vec<f32> {
        parameters.buffers.iter().flat_map(|buffer| buffer.values.iter().copied()).collect()
    }

    /// Puts running statistics back.
    pub(crate) fn put_running(&self, running: &[f32], parameters: &mut Parameters) {
        let mut rest = running;
        for (buffer, &len) in parameters.buffers.iter_mut().zip(&self.running) {
            let (own, after) = rest.split_at(len.min(rest.len()));
            buffer.values.copy_from_slice(own);
            rest = after;
        }
    }

    /// Whether `parameters` are of the same network.
    pub(crate) fn check(&self, parameters: &Parameters) -> Result<(), CudaError> {
        check_len("the network's values", self.n_host, parameters.values.len())?;
        let n_running = parameters.buffers.iter().map(|buffer| buffer.values.len()).sum();
        check_len("the network's running statistics", self.n_running, n_running)
    }
}

pub(crate) fn check_len(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), CudaError> {
    if expected == found { Ok(()) } else { Err(CudaError::Length { what, expected, found }) }
}

/// Reads layers off names.
struct Reader<'a> {
    parameters: &'a Parameters,
    /// Where each entry begins on the device.
    devices: Vec<usize>,
    /// Where each buffer of running statistics begins.
    running: Vec<usize>,
    number: Number,
}

impl Reader<'_> {
    fn read(mut self) -> Result<NetLayout, CudaError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut end = 0;
        let image = self.entry("inc.double_conv.0.weight")?;
        let mut in_channels = [0; 2];
        for (index, entry) in self.parameters.entries.iter().enumerate() {
            let mut order = order_of(entry);
            let mut len = entry.range.len();
            if let (Order::Conv { taps, n_inputs, n_outputs, width }, true) =
                (&mut order, index == image)
            {
                *width = match self.number {
                    Number::F32 => *n_inputs,
                    Number::Bf16 => n_inputs.next_multiple_of(self.number.lanes()),
                };
                in_channels = [*n_inputs, *width];
                len = *taps * *n_outputs * *width;
            }
            pieces.push(Piece { order, host: entry.range.clone(), device: end });
            self.devices.push(end);
            end = (end + len).next_multiple_of(ALIGNMENT);
        }
        let lens: Vec<usize> =
            self.parameters.buffers.iter().map(|buffer| buffer.values.len()).collect();
        let mut n_running = 0;
        for len in &lens {
            self.running.push(n_running);
            n_running += len;
        }
        let encoder = self.encoder(in_channels)?;
        let decoders = self.decoders(encoder.len())?;
        let n_host = self.parameters.values.len();
        Ok(NetLayout {
            encoder,
            decoders,
            in_channels,
            n_values: end,
            running: lens,
            n_running,
            pieces,
            n_host,
        })
    }

    fn encoder(&self, in_channels: [usize; 2]) -> Result<Vec<[UnitLayout; 2]>, CudaError> {
        let mut blocks = vec![self.block("inc")?];
        blocks[0][0].n_inputs = in_channels[1];
        for level in 1.. {
            let prefix = format!("down{level}.maxpool_conv.1");
            if self.parameters.find(&format!("{prefix}.double_conv.0.weight")).is_none() {
                break;
            }
            blocks.push(self.block(&prefix)?);
        }
        Ok(blocks)
    }

    fn decoders(&self, n_levels: usize) -> Result<Vec<DecoderLayout>, CudaError> {
        let starts = |prefix: &str| {
            self.parameters.entries.iter().any(|entry| entry.name.starts_with(prefix))
        };
        if !starts("decoders.") {
            return Ok(vec![self.decoder("", n_levels)?]);
        }
        let prefixes =
            (0..).map(|index| format!("decoders.{index}.")).take_while(|prefix| starts(prefix));
        prefixes.map(|prefix| self.decoder(&prefix, n_levels)).collect()
    }

    fn decoder(&self, prefix: &str, n_levels: usize) -> Result<DecoderLayout, CudaError> {
        let bottom = n_levels - 1;
        let (mut ups, mut blocks) = (Vec::new(), Vec::new());
        for level in 0..bottom {
            let name = format!("{prefix}up{}", bottom - level);
            ups.push(self.up(&format!("{name}.up"))?);
            blocks.push(self.block(&format!("{name}.conv"))?);
        }
        let mut heads = Vec::new();
        if self.parameters.find(&format!("{prefix}outc.conv.weight")).is_some() {
            heads.push(self.head(&format!("{prefix}outc.conv"))?);
        } else {
            let names = (0..).map(|head| format!("{prefix}outc.{head}.conv"));
            for name in
                names.take_while(|name| self.parameters.find(&format!("{name}.weight")).is_some())
            {
                heads.push(self.head(&name)?);
            }
        }
        if heads.is_empty() {
            return Err(CudaError::Tensor {
                name: format!("{prefix}outc.conv.weight"),
                shape: Vec::new(),
            });
        }
        Ok(DecoderLayout { ups, blocks, heads })
    }

    fn block(&self, prefix: &str) -> Result<[UnitLayout; 2], CudaError> {
        Ok([
            self.unit(&format!("{prefix}.double_conv"), 0)?,
            self.unit(&format!("{prefix}.double_conv"), 3)?,
        ])
    }

    fn unit(&self, prefix: &str, position: usize) -> Result<UnitLayout, CudaError> {
        let (conv, norm) =
            (format!("{prefix}.{position}.weight"), format!("{prefix}.{}", position + 1));
        let (n_outputs, n_inputs, kernel) = self.weight(&conv)?;
        Ok(UnitLayout {
            weight: self.place(&conv)?,
            kernel,
            n_inputs,
            n_outputs,
            scale: self.place(&format!("{norm}.weight"))?,
            shift: self.place(&format!("{norm}.bias"))?,
            mean: self.buffer(&format!("{norm}.running_mean"))?,
            variance: self.buffer(&format!("{norm}.running_var"))?,
        })
    }

    fn up(&self, prefix: &str) -> Result<UpLayout, CudaError> {
        let name = format!("{prefix}.weight");
        let (n_inputs, n_outputs, stride) = self.weight(&name)?;
        let (weight, bias) = (self.place(&name)?, self.place(&format!("{prefix}.bias"))?);
        Ok(UpLayout { weight, bias, stride, n_inputs, n_outputs })
    }

    fn head(&self, prefix: &str) -> Result<HeadLayout, CudaError> {
        let name = format!("{prefix}.weight");
        let (n_outputs, n_inputs, kernel) = self.weight(&name)?;
        if kernel != [1, 1, 1] {
            return Err(CudaError::Tensor { name, shape: kernel.to_vec() });
        }
        let (weight, bias) = (self.place(&name)?, self.place(&format!("{prefix}.bias"))?);
        Ok(HeadLayout { weight, bias, n_inputs, n_outputs })
    }

    /// The first two axes of a weight in PyTorch's order, and its kernel as `[slice, row, column]`.
    fn weight(&self, name: &str) -> Result<(usize, usize, [usize; 3]), CudaError> {
        let shape = &self.parameters.entries[self.entry(name)?].shape;
        match *shape.as_slice() {
            [first, second, rows, columns] => Ok((first, second, [1, rows, columns])),
            [first, second, slices, rows, columns] => Ok((first, second, [slices, rows, columns])),
            _ => Err(CudaError::Tensor { name: name.to_owned(), shape: shape.clone() }),
        }
    }

    fn entry(&self, name: &str) -> Result<usize, CudaError> {
        let missing = || CudaError::Tensor { name: name.to_owned(), shape: Vec::new() };
        self.parameters.find(name).ok_or_else(missing)
    }

    fn place(&self, name: &str) -> Result<usize, CudaError> {
        Ok(self.devices[self.entry(name)?])
    }

    fn buffer(&self, name: &str) -> Result<usize, CudaError> {
        let missing = || CudaError::Tensor { name: name.to_owned(), shape: Vec::new() };
        let index = self.parameters.buffers.iter().position(|buffer| buffer.name == name);
        Ok(self.running[index.ok_or_else(missing)?])
    }
}

/// Order of an entry on the device, without zeros.
fn order_of(entry: &nets::Entry) -> Order {
    let taps = entry.shape.iter().skip(2).product();
    match (entry.layout, entry.shape.as_slice()) {
        // A head has one tap and is read as the host has it.
        (nets::Layout::Conv, &[n_outputs, n_inputs, ..]) if taps > 1 => {
            Order::Conv { taps, n_inputs, n_outputs, width: n_inputs }
        }
        (nets::Layout::UpConv, &[n_inputs, n_outputs, ..]) => {
            Order::Up { taps, n_inputs, n_outputs }
        }
        _ => Order::Same,
    }
}
