//! A device for the tests: the kernels' own sources compiled as C++, convolutions and products on the CPU.

use std::{collections::BTreeSet, ffi::CString, path::PathBuf, process::Command, sync::OnceLock};

use kernels::{Conv, Write};

use crate::{
    Address, ConvPass, ConvShape, CudaError, Device, Launch, Number, Product,
    buffers::{bf16_bits, bf16_value},
    device::Recording,
};

type Emulate = unsafe extern "C" fn(
    *const std::ffi::c_char,
    *const u32,
    *const u32,
    *mut *mut std::ffi::c_void,
    u32,
    i32,
) -> i32;

/// Memory of this process, and kernels that run on it.
#[derive(Debug, Default)]
pub(crate) struct Emulator {
    chunks: Vec<Vec<u128>>,
    kernels: Option<Emulate>,
    /// Whether the threads of a block run from the last to the first.
    pub(crate) reverse: bool,
    prepared: BTreeSet<[usize; 10]>,
    /// Names of the kernels that were launched.
    pub(crate) launched: BTreeSet<String>,
}

/// The compiled kernels, or why there are none.
fn library() -> &'static Result<(libloading::Library, Emulate), String> {
    static LIBRARY: OnceLock<Result<(libloading::Library, Emulate), String>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cuda");
        let output = tempfile::Builder::new()
            .prefix("kernels")
            .tempdir()
            .map_err(|fault| fault.to_string())?;
        let output = output.path().join("kernels.so");
        let arguments = [
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unknown-pragmas",
            // Checked jumps refuse to change stacks.
            "-U_FORTIFY_SOURCE",
        ];
        let done = Command::new(&compiler)
            .args(arguments)
            .arg(folder.join("emulation.cpp"))
            .arg("-o")
            .arg(&output)
            .output()
            .map_err(|fault| format!("no C++ compiler `{compiler}`: {fault}"))?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        // SAFETY: the library was compiled from our own sources just now and runs nothing when it is opened.
        unsafe {
            let library = libloading::Library::new(&output).map_err(|fault| fault.to_string())?;
            let emulate =
                *library.get::<Emulate>(b"emulate\0").map_err(|fault| fault.to_string())?;
            Ok((library, emulate))
        }
    })
}

impl Emulator {
    /// Memory only.
    pub(crate) fn without_kernels() -> Self {
        Self::default()
    }

    /// With kernels; none, and a note, where there is no C++ compiler.
    pub(crate) fn new() -> Option<Self> {
        match library() {
            Ok((_, emulate)) => Some(Self { kernels: Some(*emulate), ..Self::default() }),
            Err(why) => {
                #[allow(clippy::print_stderr, reason = "a skipped test says so")]
                {
                    eprintln!("not emulated: {why}");
                }
                None
            }
        }
    }

    fn read(&self, at: Address, number: Number, count: usize) -> Vec<f32> {
        // SAFETY: the addresses of a step are of this device's chunks and have room for its buffers.
        unsafe {
            match number {
                Number::F32 => std::slice::from_raw_parts(at.0 as *const f32, count).to_vec(),
                Number::Bf16 => {
                    let bits = std::slice::from_raw_parts(at.0 as *const u16, count);
                    bits.iter().map(|&bits| bf16_value(bits)).collect()
                }
            }
        }
    }

    fn store(&mut self, at: Address, number: Number, values: &[f32]) {
        // SAFETY: as in `read`.
        unsafe {
            match number {
                Number::F32 => {
                    std::slice::from_raw_parts_mut(at.0 as *mut f32, values.len())
                        .copy_from_slice(values);
                }
                Number::Bf16 => {
                    let bits = std::slice::from_raw_parts_mut(at.0 as *mut u16, values.len());
                    for (target, &value) in bits.iter_mut().zip(values) {
                        *target = bf16_bits(value);
                    }
                }
            }
        }
    }
}

/// Weights `[out, tap, in]` as `[tap, in, out]`, or back.
fn reorder(shape: &ConvShape, weights: &[f32], back: bool) -> Vec<f32> {
    let taps: usize = shape.kernel.iter().product();
    let (n_in, n_out) = (shape.n_inputs, shape.n_outputs);
    let mut ordered = vec![0.0; weights.len()];
    for output in 0..n_out {
        for tap in 0..taps {
            for input in 0..n_in {
                let (device, host) =
                    ((output * taps + tap) * n_in + input, (tap * n_in + input) * n_out + output);
                if back {
                    ordered[device] = weights[host];
                } else {
                    ordered[host] = weights[device];
                }
            }
        }
    }
    ordered
}

impl Device for Emulator {
    fn allocate(&mut self, n_bytes: usize) -> Result<Address, CudaError> {
        let chunk = vec![0_u128; n_bytes.div_ceil(16) + 16];
        let start = chunk.as_ptr() as u64;
        self.chunks.push(chunk);
        Ok(Address(start.next_multiple_of(256)))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), CudaError> {
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.0 as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), CudaError> {
        // SAFETY: as in `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(from.0 as *const u8, bytes.as_mut_ptr(), bytes.len())
        };
        Ok(())
    }

    fn zero(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError> {
        // SAFETY: as in `read`.
        unsafe { std::ptr::write_bytes(at.0 as *mut u8, 0, n_bytes) };
        Ok(())
    }

    fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError> {
        let refused = |what: &str| CudaError::Launch {
            kernel: launch.kernel.to_owned(),
            what: what.to_owned(),
        };
        let emulate = self.kernels.ok_or_else(|| refused("there is no emulator"))?;
        let name = CString::new(launch.kernel).map_err(|_| refused("its name"))?;
        let mut values: Vec<u64> =
            launch.arguments.iter().map(|argument| argument.bits()).collect();
        let mut places: Vec<*mut std::ffi::c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        self.launched.insert(launch.kernel.to_owned());
        // Kernels share static memory, so tests take turns.
        static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: the emulator checks name and count, the kernels' bounds are those of the launch.
        let status = unsafe {
            let count = places.len() as u32;
            let reverse = i32::from(self.reverse);
            emulate(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.block.as_ptr(),
                places.as_mut_ptr(),
                count,
                reverse,
            )
        };
        drop(turn);
        match status {
            0 => Ok(()),
            1 => Err(refused("there is no such kernel")),
            2 => Err(refused("wrong number of arguments")),
            _ => Err(refused("threads met at different barriers")),
        }
    }

    fn prepare_conv(&mut self, shape: &ConvShape) -> Result<usize, CudaError> {
        self.prepared.insert(shape.key());
        Ok(shape.n_weights())
    }

    fn set_workspace(&mut self, _at: Address, _n_bytes: usize) -> Result<(), CudaError> {
        Ok(())
    }

    fn conv(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        from: [Address; 2],
        to: Address,
    ) -> Result<(), CudaError> {
        assert!(self.prepared.contains(&shape.key()), "{shape} was not prepared");
        let ConvShape { volume, kernel, n_inputs, n_outputs, number } = *shape;
        let conv = Conv { kernel, in_channels: [n_inputs, 0], out_channels: n_outputs };
        let n_pixels = volume.n_pixels();
        let (n_input, n_output) = (n_pixels * n_inputs, n_pixels * n_outputs);
        let none: &[f32] = &[];
        match pass {
            ConvPass::Forward => {
                let (input, weights) = (
                    self.read(from[0], number, n_input),
                    self.read(from[1], number, shape.n_weights()),
                );
                let mut output = vec![0.0_f32; n_output];
                conv.forward(
                    volume,
                    [&input, none],
                    &reorder(shape, &weights, false),
                    None,
                    &mut output,
                );
                self.store(to, number, &output);
            }
            ConvPass::Input => {
                let gradient = self.read(from[0], number, n_output);
                let weights = reorder(shape, &self.read(from[1], number, shape.n_weights()), false);
                let mut input = vec![0.0_f32; n_input];
                let targets = [Some((input.as_mut_slice(), Write::Replace)), None];
                conv.input_gradient(volume, &gradient, &weights, targets);
                self.store(to, number, &input);
            }
            ConvPass::Weights => {
                let (input, gradient) =
                    (self.read(from[0], number, n_input), self.read(from[1], number, n_output));
                let mut weights = vec![0.0_f32; shape.n_weights()];
                conv.weight_gradient(volume, [&input, none], &gradient, &mut weights, None);
                self.store(to, number, &reorder(shape, &weights, true));
            }
        }
        Ok(())
    }

    fn multiply(&mut self, product: &Product) -> Result<(), CudaError> {
        let Product { rows, columns, depth, number, c_number, .. } = *product;
        let (a, b) = (
            self.read(product.a.0, number, rows * depth),
            self.read(product.b.0, number, depth * columns),
        );
        let mut c = match product.add {
            true => self.read(product.c, c_number, rows * columns),
            false => vec![0.0; rows * columns],
        };
        for row in 0..rows {
            for column in 0..columns {
                let terms = (0..depth).map(|k| {
                    let a = if product.a.1 { a[k * rows + row] } else { a[row * depth + k] };
                    let b =
                        if product.b.1 { b[column * depth + k] } else { b[k * columns + column] };
                    f64::from(a) * f64::from(b)
                });
                c[row * columns + column] += terms.sum::<f64>() as f32;
            }
        }
        self.store(product.c, c_number, &c);
        Ok(())
    }

    fn begin_recording(&mut self) -> Result<bool, CudaError> {
        Ok(false)
    }

    fn end_recording(&mut self) -> Result<Recording, CudaError> {
        Ok(Recording(0))
    }

    fn replay(&mut self, _recording: Recording) -> Result<(), CudaError> {
        Ok(())
    }

    fn wait(&mut self) -> Result<(), CudaError> {
        Ok(())
    }
}
