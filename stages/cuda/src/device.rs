//! What a step needs of a device: memory, kernels, convolutions and products, in the order in which they are asked for.

use std::fmt;

use kernels::Volume;

use crate::CudaError;

/// A place in the memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub(crate) u64);

impl Address {
    /// No memory.
    pub const NULL: Self = Self(0);

    /// The place `n_bytes` further on.
    pub fn plus(self, n_bytes: usize) -> Self {
        Self(self.0 + n_bytes as u64)
    }
}

/// Number format of activations and of the weights that convolutions read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    /// 32-bit floats, without TF32.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
}

impl Number {
    /// Bytes of one.
    pub fn n_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Numbers of 16 bytes, which kernels load at once.
    pub fn lanes(self) -> usize {
        16 / self.n_bytes()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A pointer.
    Address(Address),
    /// An `int`.
    Int(i32),
    /// A `long long`.
    Long(i64),
    /// A `double`.
    Double(f64),
}

impl Argument {
    /// The bytes that the kernel reads, at the start of eight.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Address(address) => address.0,
            Self::Int(value) => u64::from(value.cast_unsigned()),
            Self::Long(value) => value.cast_unsigned(),
            Self::Double(value) => value.to_bits(),
        }
    }
}

/// One launch of a kernel.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Name of the kernel.
    pub kernel: &'a str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Its arguments, in order.
    pub arguments: &'a [Argument],
}

/// A convolution with stride one and zero padding to the same size, as cuDNN sees it.
///
/// Weights and their gradient are `[out channel, kernel slice, kernel row, kernel column, in channel]` in `number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Axes of input and output.
    pub volume: Volume,
    /// Odd sizes as `[slice, row, column]`.
    pub kernel: [usize; 3],
    /// Channels of the input.
    pub n_inputs: usize,
    /// Channels of the output.
    pub n_outputs: usize,
    /// Format of all operands; sums are f32.
    pub number: Number,
}

impl ConvShape {
    /// Number of weights.
    pub fn n_weights(&self) -> usize {
        self.kernel.iter().product::<usize>() * self.n_inputs * self.n_outputs
    }

    /// Axes, channels, kernel and number, as a sortable key.
    pub(crate) fn key(&self) -> [usize; 10] {
        let Volume { batch, slices, rows, columns } = self.volume;
        let [depth, height, width] = self.kernel;
        let number = self.number.n_bytes();
        [batch, slices, rows, columns, depth, height, width, self.n_inputs, self.n_outputs, number]
    }
}

impl fmt::Display for ConvShape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Volume { batch, slices, rows, columns } = self.volume;
        let [depth, height, width] = self.kernel;
        let Self { n_inputs, n_outputs, number, .. } = self;
        write!(
            formatter,
            "{batch}x{slices}x{rows}x{columns}, {n_inputs}->{n_outputs}, {depth}x{height}x{width}, {number}"
        )
    }
}

/// One of the three passes of a convolution, with its two operands in the order (from, from, to).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConvPass {
    /// Input and weights to output.
    Forward,
    /// Output gradient and weights to input gradient.
    Input,
    /// Input and output gradient to weight gradient.
    Weights,
}

/// A matrix product `c = a b` of row-major matrices, where `c` is `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of `c`.
    pub rows: usize,
    /// Columns of `c`.
    pub columns: usize,
    /// Length of the sums.
    pub depth: usize,
    /// `[rows, depth]`, or `[depth, rows]` if transposed.
    pub a: (Address, bool),
    /// `[depth, columns]`, or `[columns, depth]` if transposed.
    pub b: (Address, bool),
    /// Where the product goes.
    pub c: Address,
    /// Format of `a` and `b`.
    pub number: Number,
    /// Format of `c`.
    pub c_number: Number,
    /// Whether the product is added to `c`.
    pub add: bool,
}

/// A step that was recorded and can be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording(pub(crate) usize);

/// A device with one queue: whatever is asked for happens in order, and only `download` and `wait` wait for it.
///
/// Addresses come from `allocate` of the same device.
pub trait Device {
    /// Takes memory of any content, aligned to 256 bytes; it lives as long as the device.
    ///
    /// # Errors
    /// [`CudaError::Call`] when there is not enough.
    fn allocate(&mut self, n_bytes: usize) -> Result<Address, CudaError>;

    /// Copies `bytes` to the device.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), CudaError>;

    /// Copies from the device when all that was asked for before is done.
    ///
    /// # Errors
    /// [`CudaError::Call`]; a fault of an earlier launch may come out here.
    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), CudaError>;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn zero(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError>;

    /// Launches a kernel.
    ///
    /// # Errors
    /// [`CudaError::Launch`].
    fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError>;

    /// Chooses algorithms for all passes of a convolution; returns the bytes of workspace that they need.
    ///
    /// # Errors
    /// [`CudaError::NoAlgorithm`].
    fn prepare_conv(&mut self, shape: &ConvShape) -> Result<usize, CudaError>;

    /// Gives convolutions and products their workspace, at least what `prepare_conv` asked for.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn set_workspace(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError>;

    /// Runs one pass of a prepared convolution.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn conv(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        from: [Address; 2],
        to: Address,
    ) -> Result<(), CudaError>;

    /// Runs a matrix product.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn multiply(&mut self, product: &Product) -> Result<(), CudaError>;

    /// Begins to record what is asked for instead of doing it; false if the device cannot.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn begin_recording(&mut self) -> Result<bool, CudaError>;

    /// Ends the recording.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn end_recording(&mut self) -> Result<Recording, CudaError>;

    /// Runs a recording.
    ///
    /// # Errors
    /// [`CudaError::Call`].
    fn replay(&mut self, recording: Recording) -> Result<(), CudaError>;

    /// Waits for all that was asked for.
    ///
    /// # Errors
    /// [`CudaError::Call`]; a fault of an earlier launch may come out here.
    fn wait(&mut self) -> Result<(), CudaError>;
}

impl<D: Device + ?Sized> Device for &mut D {
    fn allocate(&mut self, n_bytes: usize) -> Result<Address, CudaError> {
        (**self).allocate(n_bytes)
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), CudaError> {
        (**self).upload(to, bytes)
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), CudaError> {
        (**self).download(from, bytes)
    }

    fn zero(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError> {
        (**self).zero(at, n_bytes)
    }

    fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError> {
        (**self).launch(launch)
    }

    fn prepare_conv(&mut self, shape: &ConvShape) -> Result<usize, CudaError> {
        (**self).prepare_conv(shape)
    }

    fn set_workspace(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError> {
        (**self).set_workspace(at, n_bytes)
    }

    fn conv(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        from: [Address; 2],
        to: Address,
    ) -> Result<(), CudaError> {
        (**self).conv(pass, shape, from, to)
    }

    fn multiply(&mut self, product: &Product) -> Result<(), CudaError> {
        (**self).multiply(product)
    }

    fn begin_recording(&mut self) -> Result<bool, CudaError> {
        (**self).begin_recording()
    }

    fn end_recording(&mut self) -> Result<Recording, CudaError> {
        (**self).end_recording()
    }

    fn replay(&mut self, recording: Recording) -> Result<(), CudaError> {
        (**self).replay(recording)
    }

    fn wait(&mut self) -> Result<(), CudaError> {
        (**self).wait()
    }
}
