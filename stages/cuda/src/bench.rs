//! Time of a training step on the GPU.

use std::time::Instant;

use kernels::{AdamConfig, Volume};
use nets::{AuemConfig, AuxiliaryConfig, Axes, TaskShape, Trainable, UmaConfig, UmaNet};

use crate::{CudaError, Device, Moment, Number, UmaPlan, UmaStep, gpu::Gpu};

/// Steps before the clock runs: one as it is, one recorded, and some replayed.
const N_WARM: usize = 5;
/// Steps of which the median is taken.
const N_TIMED: usize = 21;

/// One training step that is timed.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the row.
    pub name: &'static str,
    /// Axes of the batch.
    pub volume: Volume,
    /// Width and levels.
    pub config: UmaConfig,
    /// Channels, structures and sources.
    pub shape: TaskShape,
}

/// What a case took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Name of the case.
    pub step: &'static str,
    /// Format of activations.
    pub number: Number,
    /// Median time of a step with the upload of its batch, in milliseconds.
    pub milliseconds: f64,
    /// Memory that the step holds, in MiB.
    pub peak_mib: f64,
}

/// The steps that are timed: single networks as their peers are timed, and UMA-Net as the paper has it.
pub fn cases() -> Vec<Case> {
    let case =
        |name, [batch, slices, rows, columns]: [usize; 4], base_width, levels, n_sources: usize| {
            let has_auem = n_sources > 1;
            let axes = if slices > 1 { Axes::Three } else { Axes::Two };
            let config = UmaConfig {
                base_width,
                levels,
                axes,
                auem: AuemConfig { enabled: has_auem, ..AuemConfig::default() },
                auxiliary: AuxiliaryConfig { enabled: has_auem },
                ..UmaConfig::default()
            };
            let volume = Volume { batch, slices, rows, columns };
            Case {
                name,
                volume,
                config,
                shape: TaskShape { n_channels: 1, n_structures: 1, n_sources },
            }
        };
    vec![
        case("unet_2d_b32_l4_4x256x256", [4, 1, 256, 256], 32, 4, 1),
        case("unet_2d_b64_l5_8x256x256", [8, 1, 256, 256], 64, 5, 1),
        case("unet_3d_b16_l4_2x96x96x96", [2, 96, 96, 96], 16, 4, 1),
        case("unet_3d_b32_l4_2x96x96x96", [2, 96, 96, 96], 32, 4, 1),
        case("uma_2d_b32_l5_5_sources_8x256x256", [8, 1, 256, 256], 32, 5, 5),
        case("uma_3d_b16_l4_4_sources_2x96x96x96", [2, 96, 96, 96], 16, 4, 4),
    ]
}

/// Times one case on `gpu`, whose memory the step takes.
///
/// # Errors
/// Those of [`UmaStep`]; [`CudaError::Reference`] if the network cannot be built.
pub fn time(gpu: Gpu, case: &Case, number: Number) -> Result<Timing, CudaError> {
    let Case { name, volume, config, shape } = case;
    let refused = |fault: nets::NetsError| CudaError::Reference { what: fault.to_string() };
    let net = UmaNet::new(config, *shape, &|_, _| halves()).map_err(refused)?;
    let parts = net.parts();
    let plan = UmaPlan {
        number,
        volume: *volume,
        n_structures: shape.n_structures,
        n_sources: shape.n_sources,
        loss: config.loss,
        quality: config.quality,
        adam: AdamConfig::default(),
    };
    let mut step = UmaStep::new(gpu, &plan, parts[0].1, parts.get(1).map(|(_, part)| *part))?;
    let mut uniform = halves();
    let images: Vec<f32> = (0..volume.n_pixels()).map(|_| uniform() as f32).collect();
    let labels: Vec<Vec<f32>> = (0..shape.n_sources)
        .map(|_| images.iter().map(|&value| f32::from(u8::from(value > 0.7))).collect())
        .collect();
    let moment = Moment { learning_rate: 1e-4, alpha: 0.5, gate: false };
    for _ in 0..N_WARM {
        step.step(&images, &labels, moment)?;
    }
    step.device().wait()?;
    let mut times = Vec::with_capacity(N_TIMED);
    for _ in 0..N_TIMED {
        let start = Instant::now();
        step.step(&images, &labels, moment)?;
        step.device().wait()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let peak_mib = step.device().n_bytes() as f64 / f64::from(1 << 20);
    Ok(Timing { step: name, number, milliseconds: times[N_TIMED / 2], peak_mib })
}

/// Numbers in `[0, 1)`, always the same.
fn halves() -> Box<dyn FnMut() -> f64> {
    let mut state = 1_u64;
    Box::new(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    })
}
