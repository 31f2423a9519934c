//! The kernels of quality assessment, loss and optimizer.

use kernels::AdamConfig;

use super::{Kernels, MAX_GROUPS, THREADS, axis, flag, int, long};
use crate::{
    Address,
    Argument::{self, Address as At, Double, Int},
    CudaError,
};

/// Blocks along the pixels of one case and structure, at most.
const CASE_GROUPS: usize = 64;

/// Settings of the loss, as the kernels take them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossNumbers {
    /// λ of Eq. 8.
    pub lambda: f64,
    /// k in `w = e^(−kσ)`.
    pub temperature: f64,
    /// Half the width of a symmetric range of σ; 0 for the sigmoid.
    pub tau: f64,
    /// ε of Eq. 3.
    pub dice_epsilon: f64,
}

/// Settings of the quality assessment, as the kernels take them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualityNumbers {
    /// Form of Eq. 6: 0 foreground, 1 in bits, 2 binary, 3 mean binary in bits.
    pub form: i32,
    /// Domain of Eq. 6: 0 the whole image, 1 the mask of the batch, 2 a consensus over `threshold`.
    pub domain: i32,
    /// Threshold of the third domain.
    pub threshold: f64,
    /// Whether the variance of Eq. 7 is that of a sample.
    pub sample_variance: bool,
    /// τ_a.
    pub tau_a: f64,
    /// τ_b.
    pub tau_b: f64,
}

/// Cases, and what each of their pixels holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cases {
    pub(crate) n_cases: usize,
    /// Pixels of one case.
    pub(crate) n_pixels: usize,
    pub(crate) n_structures: usize,
    pub(crate) n_sources: usize,
}

/// Maps of a batch; logits of the auxiliary head and of the AUEM may be null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps {
    pub(crate) primary: Address,
    pub(crate) auxiliary: Address,
    pub(crate) uncertainty: Address,
    pub(crate) labels: Address,
    /// Bytes, for the second domain only.
    pub(crate) mask: Address,
}

/// Where loss and quality leave their numbers; gradients may be null as their logits may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossPlaces {
    pub(crate) moment: Address,
    pub(crate) scores: Address,
    pub(crate) routes: Address,
    pub(crate) gate: Address,
    pub(crate) terms: Address,
    pub(crate) dice: Address,
    pub(crate) report: Address,
    pub(crate) to_primary: Address,
    pub(crate) to_auxiliary: Address,
    pub(crate) to_uncertainty: Address,
}

/// Flat buffers of one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamAt {
    pub(crate) values: Address,
    /// The values as bf16; may be null.
    pub(crate) copy: Address,
    pub(crate) gradients: Address,
    pub(crate) first: Address,
    pub(crate) second: Address,
    /// Steps taken and the last norm, f64.
    pub(crate) state: Address,
    pub(crate) numbers: Address,
    pub(crate) count: usize,
}

impl Cases {
    /// Grid and block of the kernels that go over the pixels of every case and structure.
    fn shape(&self) -> ([u32; 3], [u32; 3]) {
        let groups = self.n_pixels.div_ceil(4 * THREADS).clamp(1, CASE_GROUPS);
        ([groups, self.n_structures, self.n_cases].map(axis), [axis(THREADS), 1, 1])
    }

    /// Bytes of [`Kernels::partial`] that quality and loss need.
    pub(crate) fn partial_bytes(&self) -> usize {
        let sums = (6 + self.n_sources).max(4 + 2 * self.n_sources);
        8 * sums * self.n_cases * self.n_structures * CASE_GROUPS
    }
}

impl Kernels<'_> {
    fn one_block(&mut self, kernel: &str, arguments: &[Argument]) -> Result<(), CudaError> {
        self.launch(kernel, ([1, 1, 1], [axis(THREADS), 1, 1]), arguments)
    }

    /// Scores of all cases and their routes.
    pub(crate) fn quality(
        &mut self,
        cases: &Cases,
        settings: &QualityNumbers,
        maps: &Maps,
        places: &LossPlaces,
    ) -> Result<(), CudaError> {
        let QualityNumbers { form, domain, threshold, sample_variance, tau_a, tau_b } = *settings;
        let shape = cases.shape();
        let (pixels, sources) = (long(cases.n_pixels), int(cases.n_sources));
        let arguments = [
            At(maps.uncertainty),
            At(maps.labels),
            At(maps.mask),
            pixels,
            sources,
            Int(form),
            Int(domain),
            Double(threshold),
            At(self.partial),
        ];
        self.launch("quality_sums", shape, &arguments)?;
        let arguments = [
            At(self.partial),
            Int(shape.0[0].cast_signed()),
            int(cases.n_cases),
            int(cases.n_structures),
            sources,
            pixels,
            Int(form),
            Int(domain),
            flag(sample_variance),
            Double(tau_a),
            Double(tau_b),
            flag(maps.auxiliary != Address::NULL),
            flag(maps.uncertainty != Address::NULL),
            At(places.moment),
            At(places.scores),
            At(places.routes),
            At(places.gate),
        ];
        self.one_block("quality_finish", &arguments)
    }

    /// The loss of the routed cases, its terms and its gradients.
    pub(crate) fn loss(
        &mut self,
        cases: &Cases,
        settings: &LossNumbers,
        maps: &Maps,
        places: &LossPlaces,
    ) -> Result<(), CudaError> {
        let LossNumbers { lambda, temperature, tau, dice_epsilon } = *settings;
        let shape = cases.shape();
        let (pixels, sources) = (long(cases.n_pixels), int(cases.n_sources));
        let logits =
            [maps.primary, maps.auxiliary, maps.uncertainty, maps.labels, places.routes].map(At);
        let settings = [Double(temperature), Double(tau)];
        let tail = [pixels, sources, settings[0], settings[1], At(self.partial)];
        self.launch("loss_sums", shape, &[logits.as_slice(), &tail].concat())?;
        let arguments = [
            At(self.partial),
            Int(shape.0[0].cast_signed()),
            int(cases.n_cases),
            int(cases.n_structures),
            sources,
            pixels,
            Double(lambda),
            Double(dice_epsilon),
            flag(maps.uncertainty != Address::NULL),
            At(places.routes),
            At(places.moment),
            At(places.terms),
            At(places.dice),
            At(places.report),
        ];
        self.one_block("loss_finish", &arguments)?;
        let tail = [
            At(places.dice),
            At(places.moment),
            pixels,
            sources,
            Double(lambda),
            settings[0],
            settings[1],
            At(places.to_primary),
            At(places.to_auxiliary),
            At(places.to_uncertainty),
        ];
        self.launch("loss_gradient", shape, &[logits.as_slice(), &tail].concat())
    }

    /// One step of Adam for all networks, if the report is active; the learning rate is the moment's, and a limit on the
    /// norm of the gradient is one on that of all of them together.
    pub(crate) fn adam(
        &mut self,
        config: &AdamConfig,
        networks: &[AdamAt],
        report_and_moment: [Address; 2],
    ) -> Result<(), CudaError> {
        let mut n_blocks = 0;
        for at in networks {
            let blocks = at.count.div_ceil(16 * THREADS).clamp(1, MAX_GROUPS);
            let shape = ([axis(blocks), 1, 1], [axis(THREADS), 1, 1]);
            let to = self.partial.plus(8 * n_blocks);
            self.launch("gradient_squares", shape, &[At(at.gradients), long(at.count), At(to)])?;
            n_blocks += blocks;
        }
        networks.iter().try_for_each(|at| self.adam_of(config, at, n_blocks, report_and_moment))
    }

    /// One step of a network, given the squares of all gradients in `n_blocks` sums.
    fn adam_of(
        &mut self,
        config: &AdamConfig,
        at: &AdamAt,
        n_blocks: usize,
        [report, moment]: [Address; 2],
    ) -> Result<(), CudaError> {
        let AdamConfig { learning_rate: _, beta1, beta2, epsilon, weight_decay, max_gradient_norm } =
            *config;
        let arguments = [
            At(self.partial),
            int(n_blocks),
            At(report),
            At(moment),
            Double(beta1),
            Double(beta2),
            Double(epsilon),
            Double(weight_decay),
            Double(max_gradient_norm.unwrap_or(0.0)),
            At(at.state),
            At(at.numbers),
        ];
        self.one_block("adam_begin", &arguments)?;
        let arguments = [
            At(at.gradients),
            At(at.numbers),
            long(at.count),
            At(at.values),
            At(at.first),
            At(at.second),
            At(at.copy),
        ];
        self.flat("adam_update", at.count, &arguments)
    }
}
