//! The GPU: driver, cuDNN and cuBLAS, opened when they are needed.

mod conv;
mod libraries;
mod module;

use std::{
    collections::BTreeMap,
    ffi::{CString, c_int, c_void},
    fmt,
};

use cudarc::{
    cublas::{result as cublas, sys as cublas_sys},
    cudnn::{result as cudnn, sys as cudnn_sys},
    driver::{result as driver, sys},
};

use self::conv::Convs;
pub use self::libraries::{Found, find};
use crate::{
    Address, ConvPass, ConvShape, CudaError, Device, Launch, Number, Product, device::Recording,
};

/// One GPU with one stream.
///
/// Buffers are never given back before the end. Only this stream is used, so no events are needed for order.
pub struct Gpu {
    device: sys::CUdevice,
    stream: sys::CUstream,
    module: sys::CUmodule,
    functions: BTreeMap<String, sys::CUfunction>,
    chunks: Vec<sys::CUdeviceptr>,
    n_bytes: usize,
    convs: Convs,
    cublas: cublas_sys::cublasHandle_t,
    graphs: Vec<sys::CUgraphExec>,
    name: String,
    capability: [i32; 2],
}

impl fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, capability, n_bytes, .. } = self;
        formatter
            .debug_struct("Gpu")
            .field("name", name)
            .field("capability", capability)
            .field("n_bytes", n_bytes)
            .finish_non_exhaustive()
    }
}

/// A fault of the driver as ours.
fn of_driver(call: &'static str) -> impl Fn(driver::DriverError) -> CudaError {
    move |fault| CudaError::Call { library: "CUDA driver", call, status: format!("{:?}", fault.0) }
}

fn of_cublas(call: &'static str) -> impl Fn(cublas::CublasError) -> CudaError {
    move |fault| CudaError::Call { library: "cuBLAS", call, status: format!("{:?}", fault.0) }
}

fn of_cudnn(call: &'static str) -> impl Fn(cudnn::CudnnError) -> CudaError {
    move |fault| CudaError::Call { library: "cuDNN", call, status: format!("{:?}", fault.0) }
}

impl Gpu {
    /// Opens the libraries and GPU `ordinal`, and loads the kernels.
    ///
    /// # Errors
    /// [`CudaError::Library`] for a library that is not found, [`CudaError::NoDevice`], [`CudaError::Ordinal`], and
    /// [`CudaError::Call`] or [`CudaError::Compile`] for what fails on the way.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        libraries::open()?;
        let device = device(ordinal)?;
        // SAFETY: the device exists; its primary context lives until it is released when this is dropped.
        unsafe {
            let context = driver::primary_ctx::retain(device)
                .map_err(of_driver("cuDevicePrimaryCtxRetain"))?;
            driver::ctx::set_current(context).map_err(of_driver("cuCtxSetCurrent"))?;
        }
        let stream = driver::stream::create(driver::stream::StreamKind::NonBlocking)
            .map_err(of_driver("cuStreamCreate"))?;
        let name = driver::device::get_name(device).map_err(of_driver("cuDeviceGetName"))?;
        use sys::CUdevice_attribute as Attribute;
        // SAFETY: the device exists.
        let attribute = |of: Attribute| unsafe {
            driver::device::get_attribute(device, of).map_err(of_driver("cuDeviceGetAttribute"))
        };
        let capability = [
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ];
        let module = module::load(capability)?;
        let handle = cublas::create_handle().map_err(of_cublas("cublasCreate"))?;
        // SAFETY: handle and stream were created just now. The math mode is the default, without TF32.
        unsafe { cublas::set_stream(handle, stream.cast()) }
            .map_err(of_cublas("cublasSetStream"))?;
        Ok(Self {
            device,
            stream,
            module,
            functions: BTreeMap::new(),
            chunks: Vec::new(),
            n_bytes: 0,
            convs: Convs::new(stream)?,
            cublas: handle,
            graphs: Vec::new(),
            name,
            capability,
        })
    }

    /// Name of the GPU.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that are allocated.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    fn function(&mut self, kernel: &str) -> Result<sys::CUfunction, CudaError> {
        if let Some(function) = self.functions.get(kernel) {
            return Ok(*function);
        }
        let fault = |what: String| CudaError::Launch { kernel: kernel.to_owned(), what };
        let name = CString::new(kernel).map_err(|nul| fault(nul.to_string()))?;
        // SAFETY: the module is loaded as long as this lives.
        let function = unsafe { driver::module::get_function(self.module, name) };
        let function = function.map_err(|status| fault(format!("{:?}", status.0)))?;
        self.functions.insert(kernel.to_owned(), function);
        Ok(function)
    }
}

/// GPU `ordinal` of those that the driver sees.
fn device(ordinal: usize) -> Result<sys::CUdevice, CudaError> {
    driver::init().map_err(|fault| CudaError::NoDevice { status: format!("{:?}", fault.0) })?;
    let n_devices = driver::device::get_count().map_err(of_driver("cuDeviceGetCount"))?;
    let n_devices = usize::try_from(n_devices).unwrap_or(0);
    if n_devices == 0 {
        return Err(CudaError::NoDevice { status: "0 devices".into() });
    }
    let wanted = c_int::try_from(ordinal).ok().filter(|_| ordinal < n_devices);
    let wanted = wanted.ok_or(CudaError::Ordinal { ordinal, n_devices })?;
    driver::device::get(wanted).map_err(of_driver("cuDeviceGet"))
}

fn side(value: usize) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

fn data_type(number: Number) -> cublas_sys::cudaDataType {
    match number {
        Number::F32 => cublas_sys::cudaDataType::CUDA_R_32F,
        Number::Bf16 => cublas_sys::cudaDataType::CUDA_R_16BF,
    }
}

fn operation(is_transposed: bool) -> cublas_sys::cublasOperation_t {
    if is_transposed {
        cublas_sys::cublasOperation_t::CUBLAS_OP_T
    } else {
        cublas_sys::cublasOperation_t::CUBLAS_OP_N
    }
}

impl Device for Gpu {
    fn allocate(&mut self, n_bytes: usize) -> Result<Address, CudaError> {
        // SAFETY: the memory is freed when this is dropped, and nothing of it is read before it is written.
        let chunk = unsafe { driver::malloc_sync(n_bytes) }.map_err(|fault| match fault.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => CudaError::Memory { n_bytes },
            _ => of_driver("cuMemAlloc")(fault),
        })?;
        self.chunks.push(chunk);
        self.n_bytes += n_bytes;
        Ok(Address(chunk))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), CudaError> {
        // SAFETY: pageable memory is read before the call returns; the target is a buffer of this device.
        unsafe { driver::memcpy_htod_async(to.0, bytes, self.stream) }
            .map_err(of_driver("cuMemcpyHtoDAsync"))
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), CudaError> {
        // SAFETY: the slice lives until the copy is waited for; the source is a buffer of this device.
        unsafe { driver::memcpy_dtoh_async(bytes, from.0, self.stream) }
            .map_err(of_driver("cuMemcpyDtoHAsync"))?;
        self.wait()
    }

    fn zero(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError> {
        // SAFETY: the bytes are of a buffer of this device.
        unsafe { driver::memset_d8_async(at.0, 0, n_bytes, self.stream) }
            .map_err(of_driver("cuMemsetD8Async"))
    }

    fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError> {
        let function = self.function(launch.kernel)?;
        let mut values: Vec<u64> =
            launch.arguments.iter().map(|argument| argument.bits()).collect();
        let mut places: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        // SAFETY: arguments are copied by the call; number, order and size of them are checked by the emulator's tests,
        // which launch every kernel through the same functions.
        let done = unsafe {
            driver::launch_kernel(function, (gx, gy, gz), (bx, by, bz), 0, self.stream, &mut places)
        };
        done.map_err(|status| CudaError::Launch {
            kernel: launch.kernel.to_owned(),
            what: format!("{:?}", status.0),
        })
    }

    fn prepare_conv(&mut self, shape: &ConvShape) -> Result<usize, CudaError> {
        self.convs.prepare(shape)
    }

    fn set_workspace(&mut self, at: Address, n_bytes: usize) -> Result<(), CudaError> {
        self.convs.workspace = (at, n_bytes);
        // SAFETY: the workspace is a buffer of this device, and lives as long as the handle.
        unsafe { cublas_sys::cublasSetWorkspace_v2(self.cublas, at.0 as *mut c_void, n_bytes) }
            .result()
            .map_err(of_cublas("cublasSetWorkspace"))
    }

    fn conv(
        &mut self,
        pass: ConvPass,
        shape: &ConvShape,
        from: [Address; 2],
        to: Address,
    ) -> Result<(), CudaError> {
        self.convs.run(pass, shape, from, to)
    }

    fn multiply(&mut self, product: &Product) -> Result<(), CudaError> {
        let Product { rows, columns, depth, a, b, c, number, c_number, add } = *product;
        let (alpha, beta) = (1.0_f32, f32::from(u8::from(add)));
        // cuBLAS reads columns first: what is `c = a b` by rows is `c' = b' a'` to it.
        let lead = |is_transposed: bool, plain: usize, turned: usize| {
            side(if is_transposed { turned } else { plain })
        };
        // SAFETY: the operands are buffers of this device that hold these matrices; scalars are read by the call.
        unsafe {
            cublas::gemm_ex(
                self.cublas,
                operation(b.1),
                operation(a.1),
                side(columns),
                side(rows),
                side(depth),
                std::ptr::from_ref(&alpha).cast(),
                b.0.0 as *const c_void,
                data_type(number),
                lead(b.1, columns, depth),
                a.0.0 as *const c_void,
                data_type(number),
                lead(a.1, depth, rows),
                std::ptr::from_ref(&beta).cast(),
                c.0 as *mut c_void,
                data_type(c_number),
                side(columns),
                cublas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(of_cublas("cublasGemmEx"))
    }

    fn begin_recording(&mut self) -> Result<bool, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as this.
        unsafe { driver::stream::begin_capture(self.stream, mode) }
            .map_err(of_driver("cuStreamBeginCapture"))?;
        Ok(true)
    }

    fn end_recording(&mut self) -> Result<Recording, CudaError> {
        // SAFETY: the stream is capturing; the graph is not used after it was made executable.
        unsafe {
            let graph = driver::stream::end_capture(self.stream)
                .map_err(of_driver("cuStreamEndCapture"))?;
            let flags = sys::CUgraphInstantiate_flags(0);
            let executable =
                driver::graph::instantiate(graph, flags).map_err(of_driver("cuGraphInstantiate"));
            driver::graph::destroy(graph).map_err(of_driver("cuGraphDestroy"))?;
            self.graphs.push(executable?);
        }
        Ok(Recording(self.graphs.len() - 1))
    }

    fn replay(&mut self, recording: Recording) -> Result<(), CudaError> {
        // SAFETY: recordings come from `end_recording`, and graphs live as long as this.
        unsafe { driver::graph::launch(self.graphs[recording.0], self.stream) }
            .map_err(of_driver("cuGraphLaunch"))
    }

    fn wait(&mut self) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as this.
        unsafe { driver::stream::synchronize(self.stream) }
            .map_err(of_driver("cuStreamSynchronize"))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Faults have been reported by the last wait; at the end there is nobody to tell.
        let _ = self.wait();
        self.convs.destroy();
        // SAFETY: everything was created by this and is used by nothing after it.
        unsafe {
            for graph in self.graphs.drain(..) {
                let _ = driver::graph::exec_destroy(graph);
            }
            let _ = cublas::destroy_handle(self.cublas);
            for chunk in self.chunks.drain(..) {
                let _ = driver::free_sync(chunk);
            }
            let _ = driver::module::unload(self.module);
            let _ = driver::stream::destroy(self.stream);
            let _ = driver::primary_ctx::release(self.device);
        }
    }
}

/// The stream as cuDNN and cuBLAS take it.
fn for_cudnn(stream: sys::CUstream) -> cudnn_sys::cudaStream_t {
    stream.cast()
}
