//! One training step of UMA-Net, or of a single network, on the device.
//!
//! The step is [`nets::UmaNet`]'s: both networks forward, quality and routes, loss and its gradients, both backward,
//! one step of Adam for each. Decisions stay on the device: routes choose the head in the loss's kernels, and Adam does
//! nothing where no case trained or the loss is not finite. Without AUEM and with one source it is
//! [`nets::SingleNet`]'s.

use kernels::{AdamConfig, AdamState, Volume};
use nets::{
    EntropyDomain, EntropyForm, LossConfig, LossTerms, Parameters, QualityConfig, UncertaintyRange,
    VarianceForm,
};

use crate::{
    Address, Arena, CudaError, Device, LossNumbers, Net, NetWeights, Number, QualityNumbers,
    buffers::{get, put},
    device::Recording,
    launches::{Cases, Kernels, LossPlaces, MAX_SOURCES, Maps, PARTIAL_BYTES},
    layout::check_len,
};

/// What a step is built for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UmaPlan {
    /// Format of activations.
    pub number: Number,
    /// Axes of the first batch.
    pub volume: Volume,
    /// Structures of a label.
    pub n_structures: usize,
    /// Labels of a case, at most 16.
    pub n_sources: usize,
    /// Terms of the loss.
    pub loss: LossConfig,
    /// Quality assessment; whether its gate acts is said in each step.
    pub quality: QualityConfig,
    /// Settings of Adam; the learning rate is said in each step, and a limit is on the gradients of both networks together.
    pub adam: AdamConfig,
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Step size of Adam.
    pub learning_rate: f64,
    /// α of Eq. 8.
    pub alpha: f64,
    /// Whether the quality gate acts.
    pub gate: bool,
}

/// What the gate saw; means over the cases of the batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateReport {
    /// Cases under both thresholds, whether the gate acts or not.
    pub n_passing: usize,
    /// Mean of `u_a`.
    pub u_a: f64,
    /// Mean of `u_a` over the whole image.
    pub u_a_all: f64,
    /// Mean of `u_b`.
    pub u_b: f64,
    /// Mean σ per source, in [0, 1]; empty without AUEM.
    pub uncertainty: Vec<f64>,
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepNumbers {
    /// Mean of the loss over the cases that trained something.
    pub terms: LossTerms,
    /// Cases that trained the primary head.
    pub n_primary: usize,
    /// Cases that trained the auxiliary head.
    pub n_auxiliary: usize,
    /// Whether the parameters moved: some case trained, and the loss was finite.
    pub moved: bool,
    /// The quality assessment.
    pub gate: GateReport,
}

/// Both networks with room for batches of one size or several, which share the weights.
#[derive(Debug)]
pub struct UmaStep<D: Device> {
    device: D,
    plan: UmaPlan,
    fixed: Arena,
    /// Memory of the rooms: only one is used at a time, so all of them lie in the same.
    shared: Arena,
    workspace: usize,
    backbone: NetWeights,
    auem: Option<NetWeights>,
    partial: Address,
    rooms: Vec<Room>,
    /// The room of the present size.
    now: usize,
}

/// The buffers of batches of one size, and a recording of their step.
#[derive(Debug)]
struct Room {
    volume: Volume,
    backbone: Net,
    auem: Option<Net>,
    cases: Cases,
    maps: Maps,
    places: LossPlaces,
    images: Address,
    recording: Option<Recording>,
    n_eager: usize,
}

impl<D: Device> UmaStep<D> {
    /// Plans the step, takes all its memory, and uploads the networks.
    ///
    /// # Errors
    /// Those of [`NetWeights::new`] and [`UmaStep::resize`]; [`CudaError::Length`] for networks that do not fit the plan.
    pub fn new(
        device: D,
        plan: &UmaPlan,
        backbone: &Parameters,
        auem: Option<&Parameters>,
    ) -> Result<Self, CudaError> {
        let mut step = Self::bare(device, plan, backbone, auem)?;
        step.resize(plan.volume)?;
        Ok(step)
    }

    /// As [`UmaStep::new`], but for the first batch: it must be [resized](UmaStep::resize) before anything is done.
    pub(crate) fn bare(
        mut device: D,
        plan: &UmaPlan,
        backbone: &Parameters,
        auem: Option<&Parameters>,
    ) -> Result<Self, CudaError> {
        let mut fixed = Arena::default();
        let backbone = NetWeights::new(&mut device, &mut fixed, plan.number, backbone)?;
        let auem = auem.map(|auem| NetWeights::new(&mut device, &mut fixed, plan.number, auem));
        let auem = auem.transpose()?;
        check_networks(plan, &backbone, auem.as_ref())?;
        let partial = fixed.take(&mut device, PARTIAL_BYTES)?;
        let (shared, rooms) = (Arena::default(), Vec::new());
        let (plan, workspace, now) = (*plan, 0, 0);
        Ok(Self { device, plan, fixed, shared, workspace, backbone, auem, partial, rooms, now })
    }

    /// Makes the next steps and predictions those of batches of axes `volume`; sizes that were met before cost nothing.
    ///
    /// # Errors
    /// Those of [`Net::new`]; [`CudaError::Range`] for a batch that is too large for the kernels, and for more sources
    /// than they are written for.
    pub fn resize(&mut self, volume: Volume) -> Result<(), CudaError> {
        let place = match self.rooms.iter().position(|room| room.volume == volume) {
            Some(place) => place,
            None => {
                self.shared.rewind();
                let room = self.room(UmaPlan { volume, ..self.plan })?;
                self.rooms.push(room);
                self.rooms.len() - 1
            }
        };
        self.now = place;
        self.plan.volume = volume;
        Ok(())
    }

    fn room(&mut self, plan: UmaPlan) -> Result<Room, CudaError> {
        let (cases, volume) = (cases(&plan)?, plan.volume);
        let (device, shared) = (&mut self.device, &mut self.shared);
        let backbone = Net::new(device, shared, &self.backbone, volume)?;
        let auem = self.auem.as_ref().map(|auem| Net::new(device, shared, auem, volume));
        let auem = auem.transpose()?;
        let workspace = auem.iter().map(Net::workspace).max().unwrap_or(0);
        // cuBLAS asks for 32 MiB on this class of GPU.
        let workspace = workspace.max(backbone.workspace()).max(32 << 20);
        if workspace > self.workspace {
            let at = self.fixed.take(device, workspace)?;
            device.set_workspace(at, workspace)?;
            self.workspace = workspace;
        }
        let mut take = |count: usize, width: usize| shared.take(device, count * width);
        let n_values = volume.n_pixels() * plan.n_structures;
        let images = take(volume.n_pixels() * self.backbone.in_channels()[0], 4)?;
        let has_auxiliary = self.backbone.n_heads()[0] > 1;
        let (maps, places) = maps(&cases, n_values, [has_auxiliary, auem.is_some()], &mut take)?;
        let (recording, n_eager) = (None, 0);
        Ok(Room { volume, backbone, auem, cases, maps, places, images, recording, n_eager })
    }

    /// The device, for what is not part of a step.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Bytes that the step holds on the device.
    pub fn n_bytes(&self) -> usize {
        self.fixed.n_bytes() + self.shared.n_bytes()
    }

    /// Runs one step on `images`, `[case, pixel, channel]`, and one label per source, `[case, pixel, structure]` in
    /// [0, 1]; does not wait for it. The first step runs as it is, the second is recorded, and the others replay it.
    ///
    /// # Errors
    /// [`CudaError::Length`] for buffers that do not fit the plan, and those of the device.
    pub fn step(
        &mut self,
        images: &[f32],
        labels: &[Vec<f32>],
        moment: Moment,
    ) -> Result<(), CudaError> {
        self.upload(images, labels, moment)?;
        if let Some(recording) = self.rooms[self.now].recording {
            return self.device.replay(recording);
        }
        if self.rooms[self.now].n_eager > 0 && self.device.begin_recording()? {
            let done = self.enqueue();
            let recording = self.device.end_recording();
            done?;
            let recording = recording?;
            self.rooms[self.now].recording = Some(recording);
            return self.device.replay(recording);
        }
        self.rooms[self.now].n_eager += 1;
        self.enqueue()
    }

    /// What the last step did; waits for it.
    ///
    /// # Errors
    /// Those of the device, among them faults of the step.
    pub fn numbers(&mut self) -> Result<StepNumbers, CudaError> {
        let Room { cases, places, .. } = &self.rooms[self.now];
        let report: Vec<f64> = get(&mut self.device, places.report, 5)?;
        let n_gate = 6 + cases.n_sources;
        let gate: Vec<f64> = get(&mut self.device, places.gate, n_gate)?;
        let uncertainty = if self.auem.is_some() { gate[6..].to_vec() } else { Vec::new() };
        Ok(StepNumbers {
            terms: LossTerms {
                cross_entropy: report[0],
                dice: report[1],
                consistency: report[2],
                total: report[3],
            },
            n_primary: gate[4] as usize,
            n_auxiliary: gate[5] as usize,
            moved: report[4] > 0.0,
            gate: GateReport {
                n_passing: gate[0] as usize,
                u_a: gate[1],
                u_a_all: gate[2],
                u_b: gate[3],
                uncertainty,
            },
        })
    }

    /// Logits of the last step, `[case, pixel, structure]`: of the heads, and of the uncertainty of each source; waits for
    /// them.
    ///
    /// # Errors
    /// Those of the device.
    pub fn logits(&mut self) -> Result<[Vec<Vec<f32>>; 2], CudaError> {
        let (maps, count) = (self.rooms[self.now].maps, self.n_values());
        let heads = [maps.primary, maps.auxiliary].into_iter();
        let sources = (0..self.plan.n_sources).map(|nth| maps.uncertainty.plus(4 * count * nth));
        let mut all = |places: Vec<Address>| {
            places.into_iter().map(|at| get(&mut self.device, at, count)).collect::<Result<_, _>>()
        };
        let heads = all(heads.filter(|at| *at != Address::NULL).collect())?;
        Ok([heads, if self.auem.is_some() { all(sources.collect())? } else { Vec::new() }])
    }

    /// Probabilities `[case, pixel, structure]` of the primary head, with running statistics; waits for them.
    ///
    /// # Errors
    /// [`CudaError::Length`] for images that do not fit the plan, and those of the device.
    pub fn predict(&mut self, images: &[f32]) -> Result<Vec<f32>, CudaError> {
        self.upload_images(images)?;
        let count = self.n_values();
        let Room { backbone, cases, maps, places, images, .. } = &self.rooms[self.now];
        let cases = Cases { n_sources: 0, ..*cases };
        let mut kernels =
            Kernels { device: &mut self.device, number: self.plan.number, partial: self.partial };
        let [n_channels, width] = self.backbone.in_channels();
        kernels.prepare(&cases, n_channels, [*images, Address::NULL, backbone.input()], width)?;
        let heads = |_: usize, head: usize| if head == 0 { maps.primary } else { maps.auxiliary };
        backbone.forward(&mut kernels, false, &heads)?;
        // The gradient's place is free between steps.
        kernels.sigmoid(maps.primary, places.to_primary, count)?;
        get(&mut self.device, places.to_primary, count)
    }

    /// Copies weights and running statistics back, and Adam's state of each network; waits for the step.
    ///
    /// # Errors
    /// [`CudaError::Length`] for parameters of other networks.
    pub fn read(
        &mut self,
        backbone: &mut Parameters,
        auem: Option<&mut Parameters>,
    ) -> Result<Vec<AdamState>, CudaError> {
        self.backbone.read(&mut self.device, backbone)?;
        let mut states = vec![self.backbone.read_adam(&mut self.device)?];
        if let (Some(net), Some(parameters)) = (&self.auem, auem) {
            net.read(&mut self.device, parameters)?;
            states.push(net.read_adam(&mut self.device)?);
        }
        Ok(states)
    }

    /// Copies the gradients of the last step back; waits for it.
    ///
    /// # Errors
    /// [`CudaError::Length`] for parameters of other networks.
    pub fn read_gradients(
        &mut self,
        backbone: &mut Parameters,
        auem: Option<&mut Parameters>,
    ) -> Result<(), CudaError> {
        self.backbone.read_gradients(&mut self.device, backbone)?;
        if let (Some(net), Some(parameters)) = (&self.auem, auem) {
            net.read_gradients(&mut self.device, parameters)?;
        }
        Ok(())
    }

    /// Goes on from weights and states that were read before.
    ///
    /// # Errors
    /// [`CudaError::Length`] for parameters or states of other networks.
    pub fn write(
        &mut self,
        backbone: (&Parameters, &AdamState),
        auem: Option<(&Parameters, &AdamState)>,
    ) -> Result<(), CudaError> {
        self.backbone.write(&mut self.device, backbone.0)?;
        self.backbone.write_adam(&mut self.device, backbone.1)?;
        if let (Some(net), Some((parameters, state))) = (&mut self.auem, auem) {
            net.write(&mut self.device, parameters)?;
            net.write_adam(&mut self.device, state)?;
        }
        Ok(())
    }

    /// Values of a map of the present batch.
    fn n_values(&self) -> usize {
        self.plan.volume.n_pixels() * self.plan.n_structures
    }

    fn upload_images(&mut self, images: &[f32]) -> Result<(), CudaError> {
        let expected = self.plan.volume.n_pixels() * self.backbone.in_channels()[0];
        check_len("the images", expected, images.len())?;
        put(&mut self.device, self.rooms[self.now].images, images)
    }

    fn upload(
        &mut self,
        images: &[f32],
        labels: &[Vec<f32>],
        moment: Moment,
    ) -> Result<(), CudaError> {
        check_len("the labels (sources)", self.plan.n_sources, labels.len())?;
        self.upload_images(images)?;
        let (maps, places) = (self.rooms[self.now].maps, self.rooms[self.now].places);
        let n_values = self.n_values();
        for (source, label) in labels.iter().enumerate() {
            check_len("a label", n_values, label.len())?;
            put(&mut self.device, maps.labels.plus(4 * n_values * source), label)?;
        }
        if let EntropyDomain::Union { radius_px } = self.plan.quality.domain {
            let mask = near_union(labels, self.plan.volume, self.plan.n_structures, radius_px);
            put(&mut self.device, maps.mask, &mask)?;
        }
        let gate = f64::from(u8::from(moment.gate));
        put(&mut self.device, places.moment, &[moment.learning_rate, moment.alpha, gate])
    }

    /// All launches of a step, in order.
    fn enqueue(&mut self) -> Result<(), CudaError> {
        let (plan, n_values) = (&self.plan, self.n_values());
        let Room { backbone, auem, cases, maps, places, images, .. } = &self.rooms[self.now];
        let mut kernels =
            Kernels { device: &mut self.device, number: plan.number, partial: self.partial };
        let [n_channels, width] = self.backbone.in_channels();
        let no_labels = Cases { n_sources: 0, ..*cases };
        let inputs = [*images, Address::NULL, backbone.input()];
        kernels.prepare(&no_labels, n_channels, inputs, width)?;
        let heads = |_: usize, head: usize| if head == 0 { maps.primary } else { maps.auxiliary };
        backbone.forward(&mut kernels, true, &heads)?;
        let of_source = |base: Address, source: usize| base.plus(4 * n_values * source);
        if let (Some(net), Some(weights)) = (auem, &self.auem) {
            let inputs = [*images, maps.labels, net.input()];
            kernels.prepare(cases, n_channels, inputs, weights.in_channels()[1])?;
            net.forward(&mut kernels, true, &|source, _| of_source(maps.uncertainty, source))?;
        }
        kernels.quality(cases, &quality_numbers(&plan.quality), maps, places)?;
        kernels.loss(cases, &loss_numbers(&plan.loss), maps, places)?;
        let heads =
            |_: usize, head: usize| if head == 0 { places.to_primary } else { places.to_auxiliary };
        backbone.backward(&mut kernels, &heads)?;
        if let Some(net) = auem {
            net.backward(&mut kernels, &|source, _| of_source(places.to_uncertainty, source))?;
        }
        let networks = [Some(&self.backbone), self.auem.as_ref()].into_iter().flatten();
        let networks: Vec<_> = networks.map(NetWeights::flat).collect();
        kernels.adam(&plan.adam, &networks, [places.report, places.moment])
    }
}

/// The settings of the loss as the kernels take them.
pub(crate) fn loss_numbers(config: &LossConfig) -> LossNumbers {
    LossNumbers {
        lambda: config.lambda,
        temperature: config.weight_temperature,
        tau: match config.uncertainty_range {
            UncertaintyRange::Sigmoid => 0.0,
            UncertaintyRange::Symmetric { tau } => tau,
        },
        dice_epsilon: config.dice_epsilon,
    }
}

/// The settings of the quality assessment as the kernels take them.
pub(crate) fn quality_numbers(config: &QualityConfig) -> QualityNumbers {
    let (domain, threshold) = match config.domain {
        EntropyDomain::All => (0, 0.0),
        EntropyDomain::Union { .. } => (1, 0.0),
        EntropyDomain::Consensus { epsilon } => (2, epsilon),
    };
    QualityNumbers {
        form: match config.entropy {
            EntropyForm::Foreground => 0,
            EntropyForm::ForegroundLog2 => 1,
            EntropyForm::Binary => 2,
            EntropyForm::MeanBinaryBits => 3,
        },
        domain,
        threshold,
        sample_variance: config.variance == VarianceForm::Sample,
        tau_a: config.tau_a,
        tau_b: config.tau_b,
    }
}

fn cases(plan: &UmaPlan) -> Result<Cases, CudaError> {
    let Volume { batch, slices, rows, columns } = plan.volume;
    let (n_structures, n_sources) = (plan.n_structures, plan.n_sources);
    let range = |what, allowed: String, found| Err(CudaError::Range { what, allowed, found });
    if !(1..=MAX_SOURCES).contains(&n_sources) {
        return range("the number of sources", format!("1 to {MAX_SOURCES}"), n_sources);
    }
    if n_structures == 0 || plan.volume.n_pixels() == 0 {
        return range("pixels and structures", "at least 1".into(), 0);
    }
    let cases =
        Cases { n_cases: batch, n_pixels: slices * rows * columns, n_structures, n_sources };
    // Pixels are counted in 32 bits, and batch and structures are axes of a grid.
    let largest = plan.volume.n_pixels().max(cases.n_pixels * n_structures);
    if i32::try_from(largest).is_err() || batch.max(n_structures) > 65_535 {
        return range("the pixels of a batch", format!("at most {}", i32::MAX), largest);
    }
    if cases.partial_bytes() > PARTIAL_BYTES {
        let allowed = format!("sums of at most {PARTIAL_BYTES} bytes");
        return range("cases, structures and sources", allowed, cases.partial_bytes());
    }
    Ok(cases)
}

/// Whether heads, decoders and channels of the networks are those of the plan.
fn check_networks(
    plan: &UmaPlan,
    backbone: &NetWeights,
    auem: Option<&NetWeights>,
) -> Result<(), CudaError> {
    check_len("the backbone's decoders", 1, backbone.n_heads().len())?;
    check_len("the backbone's structures", plan.n_structures, backbone.n_outputs())?;
    if let Some(auem) = auem {
        check_len("the AUEM's decoders", plan.n_sources, auem.n_heads().len())?;
        check_len("the AUEM's structures", plan.n_structures, auem.n_outputs())?;
        let width = backbone.in_channels()[0] + plan.n_sources * plan.n_structures;
        check_len("the AUEM's input channels", width, auem.in_channels()[0])?;
    }
    Ok(())
}

/// Memory of the maps and of all that loss and quality leave; the flags are those of auxiliary head and AUEM.
fn maps(
    cases: &Cases,
    n_values: usize,
    [has_auxiliary, has_auem]: [bool; 2],
    take: &mut dyn FnMut(usize, usize) -> Result<Address, CudaError>,
) -> Result<(Maps, LossPlaces), CudaError> {
    let Cases { n_cases, n_structures, n_sources, .. } = *cases;
    let mut some =
        |count: usize, wanted: bool| if wanted { take(count, 4) } else { Ok(Address::NULL) };
    let maps = Maps {
        primary: some(n_values, true)?,
        auxiliary: some(n_values, has_auxiliary)?,
        uncertainty: some(n_values * n_sources, has_auem)?,
        labels: some(n_values * n_sources, true)?,
        mask: some(n_values.div_ceil(4), true)?,
    };
    let (to_primary, to_auxiliary) = (some(n_values, true)?, some(n_values, has_auxiliary)?);
    let to_uncertainty = some(n_values * n_sources, has_auem)?;
    let places = LossPlaces {
        moment: take(3, 8)?,
        scores: take(3 * n_cases, 8)?,
        routes: take(n_cases, 4)?,
        gate: take(6 + n_sources, 8)?,
        terms: take(4 * n_cases * n_structures, 8)?,
        dice: take((1 + n_sources) * n_cases * n_structures, 8)?,
        report: take(5, 8)?,
        to_primary,
        to_auxiliary,
        to_uncertainty,
    };
    Ok((maps, places))
}

/// `[case, pixel, structure]`: 1 where some label has foreground within `radius` slices, rows and columns.
fn near_union(labels: &[Vec<f32>], volume: Volume, n_structures: usize, radius: usize) -> Vec<u8> {
    let Volume { slices, rows, columns, .. } = volume;
    let len = volume.n_pixels() * n_structures;
    let mut mask: Vec<u8> =
        (0..len).map(|place| u8::from(labels.iter().any(|label| label[place] >= 0.5))).collect();
    let strides = [n_structures, columns * n_structures, rows * columns * n_structures];
    for (side, stride) in [columns, rows, slices].into_iter().zip(strides) {
        for start in (0..len).filter(|place| place / stride % side == 0) {
            widen(&mut mask, start, (side, stride), radius);
        }
    }
    mask
}

/// Widens the ones of a line of `side` values by `radius`.
fn widen(mask: &mut [u8], start: usize, (side, stride): (usize, usize), radius: usize) {
    let line: Vec<bool> = (0..side).map(|at| mask[start + at * stride] != 0).collect();
    let mut filled = 0;
    for (at, _) in line.iter().enumerate().filter(|(_, is_one)| **is_one) {
        let end = (at + radius + 1).min(side);
        for target in at.saturating_sub(radius).max(filled)..end {
            mask[start + target * stride] = 1;
        }
        filled = filled.max(end);
    }
}
